package states_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop"
	"github.com/lipdrop/lipdrop/internal/local/states"
)

// known is a definition that Parse accepts. Each row of TestWhatParseRefuses replaces a part of it.
const known = `{
	"Comment":"c","QueryLanguage":"JSONata","StartAt":"Wait","TimeoutSeconds":100,"States":{
	"Wait":{"Type":"Wait","Comment":"c","Seconds":"{% $states.input.waitSeconds %}","Next":"Poll"},
	"Poll":{"Type":"Task","Resource":"arn:aws:states:::lambda:invoke",
		"Arguments":{"FunctionName":"${PollFunctionArn}","Payload":{"job":"{%$states.input%}"}},
		"Output":"{% $states.result.Payload %}","TimeoutSeconds":90,
		"Retry":[{"ErrorEquals":["A"],"IntervalSeconds":2,"MaxAttempts":6,"BackoffRate":2,"MaxDelaySeconds":60,"JitterStrategy":"FULL"},
			{"ErrorEquals":["States.ALL"],"MaxAttempts":0}],
		"Next":"Ended?"},
	"Ended?":{"Type":"Choice","Choices":[{"Condition":"{% $states.input.ended %}","Next":"Last"}],"Default":"Wait"},
	"Last":{"Type":"Task","Resource":"arn:aws:states:::lambda:invoke","Arguments":{"FunctionName":"f","Payload":"{% $states.input %}"},
		"Output":"{% $states.result %}","TimeoutSeconds":9,"End":true}}}`

// Parse refuses what this package does not implement. Otherwise the same definition could run here
// and behave differently on AWS.
func TestWhatParseRefuses(t *testing.T) {
	parse(t, known)
	for _, row := range []struct {
		name      string
		old, with string
		want      string // parts of the error, one a line
	}{
		{"not JSON", known, `{"StartAt":`, `not JSON`},
		{"JSON that is not an object", known, `[]`, `cannot unmarshal`},
		{"JSON with a trailing comma", `"End":true}`, `"End":true,}`, `not JSON`},
		{"a state that is there twice", `"Last":{`, `"Poll":{}, "Last":{`, `"Poll" already defined`},
		{"a state that is empty", `"Last":{`, `"More":null,"Last":{`, `state "More": it is empty`},
		{"a name without a substitution", `${PollFunctionArn}`, `${PolFunctionArn}`, `${PolFunctionArn} has no substitution`},
		{"an unknown field of the definition", `"StartAt"`, `"Version":"1.0","StartAt"`, `field Version not found`},
		{"JSONPath", `"JSONata"`, `"JSONPath"`, `only JSONata is known`},
		{"no timeout of the machine", `"TimeoutSeconds":100,`, ``, `TimeoutSeconds must be at least 1`},
		{"a StartAt that is not a state", `"StartAt":"Wait"`, `"StartAt":"wait"`, `there is no state "wait"`},

		{"an unknown type of state", `"Type":"Wait"`, `"Type":"Pass"`, `state "Wait": the type "Pass" is not known`},
		{"an unknown field", `"Output"`, `"Catch":[],"Output"`, `field Catch not found`},
		{"a field in the wrong case", `"Seconds"`, `"seconds"`, `field seconds not found`},
		{"a field of a Task in a Wait", `"Seconds"`, `"TimeoutSeconds":5,"Seconds"`, `state "Wait": it has a field that the local stack does not know in a Wait`},
		{"a field of a Wait in a Choice", `"Default"`, `"Next":"Wait","Default"`, `state "Ended?": it has a field that the local stack does not know in a Choice`},
		{"a Wait with End", `"Next":"Poll"`, `"End":true`, `state "Wait": it has a field that the local stack does not know in a Wait`},
		{"an unknown argument", `"Payload":{`, `"InvocationType":"Event","Payload":{`, `field InvocationType not found`},
		{"another service", `lambda:invoke`, `sqs:sendMessage`, `state "Poll": the Resource is not lambda:invoke`},
		{"no function", `"FunctionName":"f",`, ``, `state "Last": FunctionName must be an ARN`},
		{"a function that an expression names", `${PollFunctionArn}`, `{% $states.input.f %}`, `FunctionName must be an ARN`},
		{"no payload", `,"Payload":{"job":"{%$states.input%}"}`, ``, `is not known`},
		{"a payload that is a list", `{"job":"{%$states.input%}"}`, `["{%$states.input%}"]`, `is not known`},
		{"a constant in a payload", `"{%$states.input%}"`, `5`, `the expression "5" is not known`},
		{"a timeout that is a string", `"TimeoutSeconds":90`, `"TimeoutSeconds":"90"`, `cannot unmarshal`},
		{"no timeout", `"TimeoutSeconds":90,`, ``, `state "Poll": TimeoutSeconds must be at least 1`},

		{"a number instead of an expression", `"{% $states.input.waitSeconds %}"`, `5`, `the expression "5" is not known`},
		{"a text that is not an expression", `"{% $states.input.waitSeconds %}"`, `"input"`, `the expression "input" is not known`},
		{"an expression that is a call", `$states.input.waitSeconds`, `$max([1,2])`, `$max([1,2])`},
		{"an expression with an operator", `$states.input.ended`, `$states.input.ended = true`, `is not known`},
		{"an index", `$states.input.ended`, `$states.input.e[0]`, `is not known`},
		{"a member of a member", `$states.input.ended`, `$states.input.a.b`, `is not known`},
		{"the result of a Task in the payload of this Task", `{%$states.input%}`, `{% $states.result %}`, `is not known`},
		{"a member of the context that is not known", `{% $states.result.Payload %}`, `{% $states.context.Execution.Id %}`, `is not known`},
		{"an expression that is not closed", `"{%$states.input%}"`, `"{% $states.input"`, `is not known`},

		{"no Next and no End", `,"End":true`, ``, `state "Last": its Next or Default is "", which is not a state`},
		{"Next and End", `,"End":true`, `,"End":true,"Next":"Wait"`, `state "Last": it has both Next and End`},
		{"a Next that is not a state", `"Next":"Ended?"`, `"Next":"Ended"`, `state "Poll": its Next or Default is "Ended", which is not a state`},
		{"no Default", `,"Default":"Wait"`, ``, `state "Ended?": its Next or Default is "", which is not a state`},
		{"a choice whose Next is not a state", `"Next":"Last"`, `"Next":"L"`, `state "Ended?": its Next or Default is "L", which is not a state`},
		{"no choices", `[{"Condition":"{% $states.input.ended %}","Next":"Last"}]`, `[]`, `state "Ended?": it has no Choices`},

		{"no error names", `["A"]`, `[]`, `state "Poll": a retrier has no ErrorEquals`},
		{"an error of the States Language that Parse does not know", `["A"]`, `["States.TaskFailed"]`, `a retrier of States.TaskFailed is not known`},
		{"States.ALL before the last retrier", `["A"]`, `["States.ALL"]`, `States.ALL must be the only error of the last retrier`},
		{"States.ALL beside another error", `["States.ALL"]`, `["B","States.ALL"]`, `States.ALL must be the only error of the last retrier`},
		{"no MaxAttempts", `"MaxAttempts":6,`, ``, `the retrier of A needs a MaxAttempts`},
		{"no interval", `"IntervalSeconds":2,`, ``, `the retrier of A needs an IntervalSeconds`},
		{"a rate below one", `"BackoffRate":2`, `"BackoffRate":0.9`, `the retrier of A needs an IntervalSeconds and a BackoffRate of at least 1`},
		{"a MaxDelaySeconds that equals IntervalSeconds", `"MaxDelaySeconds":60`, `"MaxDelaySeconds":2`, `a MaxDelaySeconds above its IntervalSeconds`},
		{"no jitter", `"FULL"`, `"NONE"`, `the JitterStrategy FULL`},

		{"two mistakes at once", `"End":true`, `"Next":"W1"}, "M":{"Type":"Wait","Next":"W2"`, "\"W1\", which is not a state\n\"W2\", which is not a state"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if !strings.Contains(known, row.old) {
				t.Fatalf("the definition has no %s", row.old)
			}
			_, err := states.Parse([]byte(strings.Replace(known, row.old, row.with, 1)), substitutions)
			for part := range strings.SplitSeq(row.want, "\n") {
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Errorf("Parse() = %v, want an error with %s", err, part)
				}
			}
		})
	}
}

func TestTheShippedMachineNeedsItsSubstitutions(t *testing.T) {
	_, err := states.Parse(lipdrop.Machine, nil)
	for _, name := range []string{"${Partition}", "${PollFunctionArn}", "${ArchiveFunctionArn}"} {
		if err == nil || !strings.Contains(err.Error(), name+" has no substitution") {
			t.Errorf("Parse() = %v, want an error that says that %s has no substitution", err, name)
		}
	}
}

func TestThePayloadOfATask(t *testing.T) {
	for _, row := range []struct{ name, payload, input, want string }{
		{"the whole input, as it was written", `"{% $states.input %}"`, `{"b": 1.50, "a":"<&>"}`, `{"b": 1.50, "a":"<&>"}`},
		{"a member", `"{% $states.input.a %}"`, `{"a":12345678901234567890}`, `12345678901234567890`},
		{"an object of expressions", `{"b":"{% $states.input.x %}","a":"{%$states.input%}"}`, `{"x":"<b>"}`, `{"a":{"x":"<b>"},"b":"<b>"}`},
	} {
		t.Run(row.name, func(t *testing.T) {
			m := parse(t, oneTask(t, `"Arguments":{"FunctionName":"f","Payload":`+row.payload+`}`))
			x := m.Start(row.input, began)
			var got string
			_, _ = m.Step(t.Context(), x, func() time.Time { return began }, func(_ context.Context, _ string, payload []byte) ([]byte, error) {
				got = string(payload)
				return payload, nil
			})
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Errorf("payload (-want +got):\n%s\nthe execution has the error %q: %s", diff, x.Error, x.Cause)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add(known)
	f.Add(loop)
	f.Fuzz(func(t *testing.T, text string) {
		m, err := states.Parse([]byte(text), substitutions)
		if (m == nil) == (err == nil) {
			t.Fatalf("machine %v, error %v; want exactly one of them", m, err)
		}
	})
}
