package states_test

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/local/states"
)

// known is a definition that Parse takes; the rows below replace a part of it.
const known = `{
	"Comment":"c","QueryLanguage":"JSONata","StartAt":"Wait","TimeoutSeconds":100,"States":{
	"Wait":{"Type":"Wait","Comment":"c","Seconds":"{% $states.input.waitSeconds %}","Next":"Poll"},
	"Poll":{"Type":"Task","Resource":"arn:aws:states:::lambda:invoke",
		"Arguments":{"FunctionName":"${PollFunctionArn}","Payload":{"job":"{%$states.input%}","n":[1,"{% 2.5 %}","x",null]}},
		"Output":"{% $states.result.Payload %}","TimeoutSeconds":90,
		"Retry":[{"ErrorEquals":["A"],"IntervalSeconds":2,"MaxAttempts":6,"BackoffRate":2,"MaxDelaySeconds":60,"JitterStrategy":"FULL"},{"ErrorEquals":["States.ALL"]}],
		"Next":"Ended?"},
	"Ended?":{"Type":"Choice","Choices":[{"Condition":"{% $states.input.ended %}","Next":"Last"}],"Default":"Wait"},
	"Last":{"Type":"Wait","Seconds":5,"End":true}}}`

func TestWhatParseTakes(t *testing.T) {
	parse(t, known)
	parse(t, strings.Replace(known, `,"Default":"Wait"`, "", 1))
}

func TestWhatParseRefuses(t *testing.T) {
	for _, row := range []struct {
		name      string
		old, with string
		want      string // the whole error
	}{
		{"no JSON", known, `{"StartAt":`, `definition: not JSON: unexpected EOF`},
		{"no object", known, `[]`, `definition: not a JSON object`},
		{"more than one value", known, known + `{}`, `definition: not JSON: there is something after the value`},
		{"more after the value", known, known + `]`, `definition: not JSON: there is something after the value`},
		{"JSON with a trailing comma", `"End":true}`, `"End":true,}`, `definition: not JSON: invalid character '}' looking for beginning of object key string`},
		{"a state that is there twice", `"Last":{`, `"Poll":{}, "Last":{`, `States.Poll: given twice`},
		{"a substitution that is not given", `${PollFunctionArn}`, `${PolFunctionArn}`,
			`States.Poll.Arguments.FunctionName: ${PolFunctionArn} has no substitution; given: ArchiveFunctionArn, Partition, PollFunctionArn`},
		{"a substitution in a list", `[1,`, `["${N}",`, `States.Poll.Arguments.Payload.n[0]: ${N} has no substitution; given: ArchiveFunctionArn, Partition, PollFunctionArn`},
		{"a substitution in a key", `"job":`, `"${PollFunctionArn}":`,
			`States.Poll.Arguments.Payload.${PollFunctionArn}: a substitution is known in values alone, not in the name of a member`},
		{"an unknown field of the definition", `"StartAt"`, `"Version":"1.0","StartAt"`,
			`definition: field "Version": not known; known in a definition: Comment, QueryLanguage, StartAt, States, TimeoutSeconds`},
		{"JSONPath", `"JSONata"`, `"JSONPath"`, `definition: field "QueryLanguage": "JSONPath" is not known; known: JSONata`},
		{"no query language", `"QueryLanguage":"JSONata",`, ``, `definition: field "QueryLanguage": must be there; known: JSONata`},
		{"no timeout of the machine", `"TimeoutSeconds":100,`, ``, `definition: field "TimeoutSeconds": must be a whole number from 1 to 99999999`},
		{"a start that is no state", `"StartAt":"Wait"`, `"StartAt":"wait"`, strings.Join([]string{
			`definition: field "StartAt": "wait" is no state; the states: Ended?, Last, Poll, Wait`,
			`state "Ended?": no transition leads to it`, `state "Last": no transition leads to it`,
			`state "Poll": no transition leads to it`, `state "Wait": no transition leads to it`}, "\n")},
		{"states that are none", `"States":{`, `"States":7,"Comment2":{`, strings.Join([]string{
			`definition: field "Comment2": not known; known in a definition: Comment, QueryLanguage, StartAt, States, TimeoutSeconds`,
			`definition: field "States": must be an object`}, "\n")},

		{"an unknown type of state", `"Type":"Wait","Seconds":5,"End":true`, `"Type":"Succeed"`,
			`state "Last": field "Type": "Succeed" is not known; known: Choice, Task, Wait`},
		{"an unknown field of a Wait", `"Seconds":5`, `"Seconds":5,"Timestamp":"x"`,
			`state "Last": field "Timestamp": not known; known in a Wait: Comment, End, Next, Seconds, Type`},
		{"a field in the wrong case", `"Seconds":5`, `"Seconds":5,"seconds":5`,
			`state "Last": field "seconds": not known; known in a Wait: Comment, End, Next, Seconds, Type`},
		{"an unknown field of a Task", `"Output"`, `"Catch":[],"Output"`,
			`state "Poll": field "Catch": not known; known in a Task: Arguments, Comment, End, Next, Output, Resource, Retry, TimeoutSeconds, Type`},
		{"an unknown field of a Choice", `"Default"`, `"Output":1,"Default"`,
			`state "Ended?": field "Output": not known; known in a Choice: Choices, Comment, Default, Type`},
		{"an unknown field of a choice", `"Condition":`, `"Variable":"$.x","Condition":`,
			`state "Ended?": Choices[0]: field "Variable": not known; known in a choice: Comment, Condition, Next`},
		{"an unknown field of a retrier", `"MaxAttempts"`, `"MaxRetries":1,"MaxAttempts"`,
			`state "Poll": Retry[0]: field "MaxRetries": not known; known in a retrier: BackoffRate, Comment, ErrorEquals, IntervalSeconds, JitterStrategy, MaxAttempts, MaxDelaySeconds`},
		{"an unknown argument", `"Payload":{`, `"InvocationType":"Event","Payload":{`,
			`state "Poll": Arguments: field "InvocationType": not known; known in the Arguments of lambda:invoke: FunctionName, Payload`},
		{"another service", `:::lambda:invoke"`, `:::sqs:sendMessage"`,
			`state "Poll": field "Resource": "arn:aws:states:::sqs:sendMessage" is not known; known: arn:aws:states:::lambda:invoke`},
		{"no function", `"FunctionName":"${PollFunctionArn}",`, ``, `state "Poll": Arguments: field "FunctionName": must be a text that is not empty`},
		{"a function by expression", `${PollFunctionArn}`, `{% $states.input.f %}`,
			`state "Poll": Arguments: field "FunctionName": an expression is not known here; known: the ARN of a function`},
		{"no payload", `,"Payload":{"job":"{%$states.input%}","n":[1,"{% 2.5 %}","x",null]}`, ``, `state "Poll": Arguments: field "Payload": must be there`},
		{"a timeout in words", `"TimeoutSeconds":90`, `"TimeoutSeconds":"90"`, `state "Poll": field "TimeoutSeconds": must be a whole number from 1 to 99999999`},
		{"no timeout", `"TimeoutSeconds":90,`, ``, `state "Poll": field "TimeoutSeconds": must be a whole number from 1 to 99999999`},

		{"an expression that is a call", `$states.input.waitSeconds`, `$max([1,2])`,
			`state "Wait": field "Seconds": the expression {% $max([1,2]) %} is not known; known: {% and %} around a number or a path of names from $states.input`},
		{"an expression with an operator", `$states.input.ended`, `$states.input.ended = true`,
			`state "Ended?": Choices[0]: field "Condition": the expression {% $states.input.ended = true %} is not known; known: {% and %} around a number or a path of names from $states.input`},
		{"an index", `$states.input.ended`, `$states.input.e[0]`,
			`state "Ended?": Choices[0]: field "Condition": the expression {% $states.input.e[0] %} is not known; known: {% and %} around a number or a path of names from $states.input`},
		{"the result where there is none yet", `{%$states.input%}`, `{% $states.result %}`,
			`state "Poll": Arguments: field "Payload": the expression {% $states.result %} is not known; known: {% and %} around a number or a path of names from $states.input or $states.context.Execution.RedriveCount ? $states.context.Execution.RedriveCount : 0`},
		{"the context", `{% $states.result.Payload %}`, `{% $states.context.Execution.Id %}`,
			`state "Poll": field "Output": the expression {% $states.context.Execution.Id %} is not known; known: {% and %} around a number or a path of names from $states.input or $states.result`},
		{"an expression that is not closed", `{% 2.5 %}`, `{% 2.5`,
			`state "Poll": Arguments: field "Payload": the expression {% 2.5 is not known; known: {% and %} around a number or a path of names from $states.input or $states.context.Execution.RedriveCount ? $states.context.Execution.RedriveCount : 0`},

		{"no Next and no End", `,"End":true`, ``, `state "Last": field "Next": must be there, or End, but not both`},
		{"Next and End", `,"End":true`, `,"End":true,"Next":"Wait"`, `state "Last": field "Next": must be there, or End, but not both`},
		{"an End that is none", `"End":true`, `"End":false`, `state "Last": field "End": must be true`},
		{"a Next that is no state", `"Next":"Ended?"`, `"Next":"Ended"`, strings.Join([]string{
			`state "Poll": field "Next": "Ended" is no state; the states: Ended?, Last, Poll, Wait`,
			`state "Ended?": no transition leads to it`, `state "Last": no transition leads to it`}, "\n")},
		{"a Default that is no state", `"Default":"Wait"`, `"Default":"W"`, `state "Ended?": field "Default": "W" is no state; the states: Ended?, Last, Poll, Wait`},
		{"a choice that leads nowhere", `"Next":"Last"`, `"Next":"L"`, strings.Join([]string{
			`state "Ended?": Choices[0]: field "Next": "L" is no state; the states: Ended?, Last, Poll, Wait`,
			`state "Last": no transition leads to it`}, "\n")},
		{"no choices", `[{"Condition":"{% $states.input.ended %}","Next":"Last"}]`, `[]`, `state "Ended?": field "Choices": must be a list of objects`},
		{"choices that are none", `[{"Condition":"{% $states.input.ended %}","Next":"Last"}]`, `[7]`, strings.Join([]string{
			`state "Ended?": field "Choices": must be a list of objects`,
			`state "Ended?": Choices[0]: field "Condition": must be there`,
			`state "Ended?": Choices[0]: field "Next": must be a text that is not empty`}, "\n")},

		{"no error names", `["A"]`, `[]`, `state "Poll": Retry[0]: field "ErrorEquals": must be a list of error names`},
		{"an error name that is none", `["A"]`, `[7]`, `state "Poll": Retry[0]: field "ErrorEquals": must be a list of error names`},
		{"an unknown error of the language", `["A"]`, `["States.Runtime"]`,
			`state "Poll": Retry[0]: field "ErrorEquals": States.Runtime is not known; known of the States Language: States.ALL, States.TaskFailed, States.Timeout, States.QueryEvaluationError`},
		{"all errors before others", `["A"]`, `["States.ALL"]`, `state "Poll": Retry[0]: field "ErrorEquals": States.ALL must stand alone, in the last retrier`},
		{"all errors among others", `["States.ALL"]`, `["B","States.ALL"]`, `state "Poll": Retry[1]: field "ErrorEquals": States.ALL must stand alone, in the last retrier`},
		{"an interval of nothing", `"IntervalSeconds":2`, `"IntervalSeconds":0`, `state "Poll": Retry[0]: field "IntervalSeconds": must be a whole number from 1 to 99999999`},
		{"part of an attempt", `"MaxAttempts":6`, `"MaxAttempts":0.5`, `state "Poll": Retry[0]: field "MaxAttempts": must be a whole number from 0 to 99999999`},
		{"a rate below one", `"BackoffRate":2`, `"BackoffRate":0.9`, `state "Poll": Retry[0]: field "BackoffRate": must be a number of at least 1`},
		{"a greatest delay that is the first", `"MaxDelaySeconds":60`, `"MaxDelaySeconds":2`, `state "Poll": Retry[0]: field "MaxDelaySeconds": must be greater than IntervalSeconds`},
		{"unknown jitter", `"FULL"`, `"HALF"`, `state "Poll": Retry[0]: field "JitterStrategy": "HALF" is not known; known: FULL, NONE`},

		{"two mistakes at once", `"Seconds":5,"End":true`, `"Seconds":"{% x %}"`, strings.Join([]string{
			`state "Last": field "Seconds": the expression {% x %} is not known; known: {% and %} around a number or a path of names from $states.input`,
			`state "Last": field "Next": must be there, or End, but not both`}, "\n")},
	} {
		t.Run(row.name, func(t *testing.T) {
			if !strings.Contains(known, row.old) {
				t.Fatalf("the definition has no %s", row.old)
			}
			_, err := states.Parse([]byte(strings.Replace(known, row.old, row.with, 1)), functions)
			if err == nil {
				t.Fatal("taken")
			}
			if diff := cmp.Diff(row.want, err.Error()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestTheShippedMachineNeedsItsSubstitutions(t *testing.T) {
	text, err := os.ReadFile("../../../statemachine.asl.json")
	if err != nil {
		t.Fatal(err)
	}
	_, err = states.Parse(text, nil)
	for _, name := range []string{"${Partition}", "${PollFunctionArn}", "${ArchiveFunctionArn}"} {
		if err == nil || !strings.Contains(err.Error(), name+" has no substitution; given: none") {
			t.Errorf("%s is not asked for: %v", name, err)
		}
	}
}

func TestThePayloadOfATask(t *testing.T) {
	for _, row := range []struct{ name, payload, input, want string }{
		{"the whole input, as it was written", `"{% $states.input %}"`, `{"b": 1.50, "a":"<&>"}`, `{"b": 1.50, "a":"<&>"}`},
		{"a member", `"{% $states.input.a %}"`, `{"a":12345678901234567890}`, `12345678901234567890`},
		{"a member of a member", `"{%$states.input.a_1.b%}"`, `{"a_1":{"b":null}}`, `null`},
		{"a number", `"{% -1.5e3 %}"`, `{}`, `-1.5e3`},
		{"an object of texts, numbers and expressions", `{"b":"<b>","a":[1,true,null,"{% $states.input.x %}"],"c":{}}`,
			`{"x":[1]}`, `{"a":[1,true,null,[1]],"b":"<b>","c":{}}`},
		{"a substitution in a text", `"f is ${PollFunctionArn}"`, `{}`, `"f is ` + pollARN + `"`},
	} {
		t.Run(row.name, func(t *testing.T) {
			m := parse(t, oneTask(t, `"Arguments":{"FunctionName":"f","Payload":`+row.payload+`}`))
			x := m.Start(row.input, began)
			call, _ := m.Advance(x, began)
			if call == nil {
				t.Fatalf("no call: %s: %s", x.Error, x.Cause)
			}
			if diff := cmp.Diff(row.want, string(call.Payload)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add(known)
	f.Add(loop)
	f.Fuzz(func(t *testing.T, text string) {
		m, err := states.Parse([]byte(text), functions)
		if (m == nil) == (err == nil) {
			t.Fatalf("machine %v, error %v", m, err)
		}
	})
}
