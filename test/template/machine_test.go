package template

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop"
)

// lambdaErrors are the errors of Lambda and Step Functions that every Task retries.
// https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html
// https://docs.aws.amazon.com/lambda/latest/dg/invocation-retries.html
var lambdaErrors = []string{
	"Lambda.ClientExecutionTimeoutException", "Lambda.ServiceException", "Lambda.AWSLambdaException", "Lambda.SdkClientException",
	"Lambda.TooManyRequestsException", "Lambda.Unknown", "Sandbox.Timedout", "Runtime.ExitError", "States.Timeout", "States.ALL",
}

// Each Task retries the errors of Lambda with jitter, so that many executions that fail
// at the same time are not retried at the same time.
func TestTasksRetryLambdasErrors(t *testing.T) {
	tasks := 0
	for name, state := range shippedMachine(t).States {
		if state.Type != "Task" {
			continue
		}
		tasks++
		var retried []string
		for _, r := range state.Retry {
			if r.MaxAttempts == 0 {
				continue // these errors end the execution
			}
			retried = append(retried, r.ErrorEquals...)
			if r.JitterStrategy != "FULL" || r.MaxDelaySeconds == 0 {
				t.Errorf("%s retries %v without jitter or a maximum delay", name, r.ErrorEquals)
			}
		}
		for _, e := range lambdaErrors {
			if !slices.Contains(retried, e) {
				t.Errorf("%s does not retry %s", name, e)
			}
		}
	}
	if tasks != 2 {
		t.Errorf("the machine has %d tasks, want 2", tasks)
	}
}

func TestTemplateHasEachSubstitutionOfTheMachine(t *testing.T) {
	want := map[string]string{}
	for _, match := range regexp.MustCompile(`\$\{(\w+)\}`).FindAllStringSubmatch(string(lipdrop.Machine), -1) {
		want[match[1]] = strings.TrimSuffix(match[1], "Arn") + ".Arn" // the attribute that !GetAtt names
	}
	want["Partition"] = "aws"
	forBothForms(t, func(t *testing.T, s stack) {
		got := properties[struct{ DefinitionSubstitutions map[string]string }](t, s, "StateMachine").DefinitionSubstitutions
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-statemachine.asl.json +template.yaml):\n%s", diff)
		}
	})
	m := shippedMachine(t)
	for state, function := range map[string]string{"Poll": "${PollFunctionArn}", "Archive": "${ArchiveFunctionArn}"} {
		if got := m.States[state].Arguments.FunctionName; got != function {
			t.Errorf("%s calls %s, want %s", state, got, function)
		}
		// China and GovCloud accept a definition that names another partition, but its executions fail.
		if got := m.States[state].Resource; got != "arn:${Partition}:states:::lambda:invoke" {
			t.Errorf("%s has the resource %s, want arn:${Partition}:states:::lambda:invoke", state, got)
		}
	}
}

// The functions' STATE_MACHINE_ARN, which the template composes, is the machine's ARN.
func TestMachineHasTheNameThatTheFunctionsKnow(t *testing.T) {
	s := transformed(t)
	name := properties[struct{ StateMachineName string }](t, s, "StateMachine").StateMachineName
	for _, id := range functions {
		got := properties[environment](t, s, id).Environment.Variables["STATE_MACHINE_ARN"]
		if want := "arn:aws:states:us-east-1:000000000000:stateMachine:" + name; got != want {
			t.Errorf("%s has STATE_MACHINE_ARN=%v, want %s", id, got, want)
		}
	}
}
