package template

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop"
	"github.com/lipdrop/lipdrop/internal/local"
	"github.com/lipdrop/lipdrop/internal/template"
)

// The local stack enforces the permissions that are deployed. It reads template.yaml without
// SAM's transform, and must find the statements that the template has after the transform. It
// leaves out statements whose actions it does not check, such as those for logs.
func TestLocalStackReadsWhatIsDeployed(t *testing.T) {
	const arn = "arn:" // before a logical id, because the local stack accepts only ARNs as resources
	here, err := template.Roles(lipdrop.Template, map[string]string{
		"AWS::Partition": "aws", "AWS::Region": "us-east-1", "AWS::AccountId": "000000000000", "Bucket": "Bucket",
		"StateMachine": arn + "StateMachine", "StateMachine.Name": "StateMachine.Name", "TokenSecret": arn + "TokenSecret", "Queue.Arn": arn + "Queue.Arn",
	})
	if err != nil {
		t.Fatal(err)
	}
	forBothForms(t, func(t *testing.T, s stack) {
		for _, id := range functions {
			if _, ok := here[id]; !ok {
				t.Errorf("the local stack does not know %s", id)
			}
		}
		for id := range here {
			var deployed template.Role
			for _, st := range statements(t, s, id) {
				service, _, _ := strings.Cut(st.Action[0], ":")
				if !slices.Contains([]string{"s3", "states", "secretsmanager", "events"}, service) &&
					!slices.Contains([]string{"sqs:SendMessage", "sqs:ChangeMessageVisibility"}, st.Action[0]) {
					continue
				}
				for i, resource := range st.Resource {
					if !strings.HasPrefix(resource, arn) {
						st.Resource[i] = arn + resource
					}
				}
				deployed = append(deployed, st.Statement)
			}
			if diff := cmp.Diff(deployed, here[id]); diff != "" {
				t.Errorf("%s (-deployed +local):\n%s", id, diff)
			}
		}
	})
}

// In the local stack, each function has the timeout, the memory and the names of the variables
// that it has in the template.
func TestLocalStackGivesEachVariable(t *testing.T) {
	here, err := template.Functions(lipdrop.Template, local.TemplateValues("https://127.0.0.1:2", "https://127.0.0.1:1"))
	if err != nil {
		t.Fatal(err)
	}
	forBothForms(t, func(t *testing.T, s stack) {
		for _, id := range functions {
			deployed := properties[struct{ Timeout, MemorySize int }](t, s, id)
			got := here[id]
			if diff := cmp.Diff(slices.Sorted(maps.Keys(variables(t, s, id))), slices.Sorted(maps.Keys(got.Variables))); diff != "" {
				t.Errorf("variables of %s (-deployed +local):\n%s", id, diff)
			}
			if got.Timeout != time.Duration(deployed.Timeout)*time.Second || got.MemoryMB != deployed.MemorySize {
				t.Errorf("%s has %v and %d MB in the local stack, want %d s and %d MB as deployed", id, got.Timeout, got.MemoryMB, deployed.Timeout, deployed.MemorySize)
			}
			if got.Variables["RUNCOMFY_BASE_URL"] != "https://127.0.0.1:1" {
				t.Errorf("%s has RUNCOMFY_BASE_URL=%s, want https://127.0.0.1:1", id, got.Variables["RUNCOMFY_BASE_URL"])
			}
		}
	})
}
