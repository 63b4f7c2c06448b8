package template

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/local/permissions"
)

// What the local stack holds the functions to is what is deployed: it reads the
// template as it is written, and finds the statements that are there after the
// transform.
func TestLocalStackReadsWhatIsDeployed(t *testing.T) {
	const arn = "arn:" // before the ids of resources, which stand for their ARNs here
	local, err := permissions.Read(source(t), map[string]string{
		"AWS::Partition": "aws", "AWS::Region": "us-east-1", "AWS::AccountId": "000000000000", "Bucket": "Bucket",
		"StateMachine": arn + "StateMachine", "StateMachine.Name": "StateMachine.Name", "TokenSecret": arn + "TokenSecret",
	})
	if err != nil {
		t.Fatal(err)
	}
	each(t, func(t *testing.T, s stack) {
		for id := range ofType(s, "AWS::Lambda::Function") {
			if _, ok := local[id]; !ok {
				t.Errorf("the local stack does not know %s", id)
			}
		}
		for id := range local {
			var deployed permissions.Role
			for _, st := range statements(t, s, id) {
				service, _, _ := strings.Cut(st.Action[0], ":")
				if !slices.Contains([]string{"s3", "states", "secretsmanager"}, service) {
					continue
				}
				for i, resource := range st.Resource {
					if !strings.HasPrefix(resource, arn) {
						st.Resource[i] = arn + resource
					}
				}
				var same permissions.Statement
				convert(t, st, &same)
				deployed = append(deployed, same)
			}
			if diff := cmp.Diff(deployed, local[id]); diff != "" {
				t.Errorf("%s (-deployed +local):\n%s", id, diff)
			}
		}
	})
}
