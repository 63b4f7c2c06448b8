package template

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/template"
)

type statement struct {
	Effect    string
	Principal any
	template.Statement
}

type document struct{ Statement []statement }

type role struct {
	AssumeRolePolicyDocument document
	ManagedPolicyArns        []string
	Policies                 []struct{ PolicyDocument document }
}

// Every permission is a statement of a role that docs/iam.md describes, so whoever reviews
// that document sees each change of a permission.
func TestPermissionsAreOnlyInDocumentedRoles(t *testing.T) {
	forBothForms(t, func(t *testing.T, s stack) {
		unseen := ofType(s, "AWS::IAM::Role")
		for _, documented := range roles {
			roleID := roleOf(t, s, documented.id)
			delete(unseen, roleID)
			if managed := properties[role](t, s, roleID).ManagedPolicyArns; len(managed) > 0 {
				t.Errorf("%s has the managed policies %v, want none, because docs/iam.md does not show what they allow", roleID, managed)
			}
		}
		for id := range unseen {
			t.Errorf("docs/iam.md does not describe %s", id)
		}
		if policies := len(ofType(s, "AWS::IAM::Policy")) + len(ofType(s, "AWS::IAM::ManagedPolicy")); policies > 0 {
			t.Errorf("%d policies are outside of the roles, want none", policies)
		}
	})
}

// Another account may take the name of a deleted bucket, so each function is denied what
// other accounts own. The condition is the one of S3's guide:
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/amazon-s3-policy-keys.html
func TestFunctionsUseOnlyBucketsOfTheAccount(t *testing.T) {
	want := []statement{{
		Effect: "Deny", Statement: template.Statement{
			Sid: "OwnAccount", Action: []string{"s3:*"}, Resource: []string{"*"},
			Condition: map[string]map[string]template.OneOrMany{"StringNotEquals": {"s3:ResourceAccount": {"000000000000"}}},
		},
	}}
	s := written(t, nil)
	for _, id := range functions {
		roleID := roleOf(t, s, id)
		var got []statement
		for _, policy := range properties[role](t, s, roleID).Policies {
			for _, st := range policy.PolicyDocument.Statement {
				if st.Effect != "Allow" {
					got = append(got, st)
				}
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +template):\n%s", roleID, diff)
		}
	}
}

// Each role can be assumed only by the service that runs the function or the state machine, or
// that sends notices, and only on behalf of this account. Step Functions documents
// that it sends aws:SourceAccount. Lambda and EventBridge do not document that, so their condition
// also accepts requests without that key. A strict condition might keep Lambda from reading the
// queue, and nothing would report that.
func TestRolesAreAssumedOnlyByTheirService(t *testing.T) {
	s := written(t, withNotices)
	for id := range ofType(s, "AWS::IAM::Role") {
		service, operator := "lambda.amazonaws.com", "StringEqualsIfExists"
		switch id {
		case "StateMachineRole":
			service, operator = "states.amazonaws.com", "StringEquals"
		case "NoticeMailRole", "WebhookRole":
			service = "events.amazonaws.com"
		}
		want := []statement{{
			Effect: "Allow", Principal: map[string]any{"Service": service}, Statement: template.Statement{
				Action:    []string{"sts:AssumeRole"},
				Condition: map[string]map[string]template.OneOrMany{operator: {"aws:SourceAccount": {"000000000000"}}},
			},
		}}
		if diff := cmp.Diff(want, properties[role](t, s, id).AssumeRolePolicyDocument.Statement); diff != "" {
			t.Errorf("%s (-want +template):\n%s", id, diff)
		}
	}
}

// An existing bucket and an existing secret take the place of the stack's own
// in every statement, rule, variable and output.
func TestExistingBucketAndSecret(t *testing.T) {
	secret := "arn:aws:secretsmanager:us-east-1:000000000000:secret:mine-a1B2c3"
	s := written(t, map[string]string{"ExistingBucket": "mine", "ExistingTokenSecretArn": secret})
	for _, id := range []string{"Bucket", "BucketPolicy", "TokenSecret"} {
		if _, ok := s.Resources[id]; ok {
			t.Errorf("%s is created in spite of the existing one", id)
		}
	}
	for id, r := range s.Resources {
		for _, own := range []string{":::Bucket", `"Bucket"`, `"Bucket.Arn`, `"TokenSecret"`} {
			if strings.Contains(string(r.Properties), own) {
				t.Errorf("%s still refers to the stack's own %s", id, own)
			}
		}
	}
	for name, value := range s.Globals.Function.Environment.Variables {
		if value == "Bucket" || value == "TokenSecret" {
			t.Errorf("the variable %s still refers to the stack's own %s", name, value)
		}
	}
	for id, o := range s.Outputs {
		if strings.Contains(o.Value, "//Bucket") || strings.Contains(o.Value, "TokenSecret") {
			t.Errorf("the output %s still refers to the stack's own bucket or secret: %s", id, o.Value)
		}
	}
	if got := s.Outputs["BucketName"].Value + " " + s.Outputs["TokenSecretArn"].Value; got != "mine "+secret {
		t.Errorf("the outputs name %s, want mine %s", got, secret)
	}
}

// The queue and the queue of deletions each accept messages only from their own rule, and the
// dead-letter queue of notices only from rules of the account. Only the stack's rules may call
// cancel. Every other statement in a policy of the bucket and the queues denies something.
func TestResourcePolicies(t *testing.T) {
	forBothForms(t, func(t *testing.T, s stack) {
		allowed := map[string]string{}
		for _, kind := range []string{"AWS::S3::BucketPolicy", "AWS::SQS::QueuePolicy"} {
			for id := range ofType(s, kind) {
				for _, st := range properties[struct{ PolicyDocument document }](t, s, id).PolicyDocument.Statement {
					if st.Effect == "Allow" {
						from := slices.Concat(st.Condition["ArnEquals"]["aws:SourceArn"], st.Condition["ArnLike"]["aws:SourceArn"])
						allowed[strings.Join(st.Resource, " ")] = strings.Join(st.Action, " ") + " from " + strings.Join(from, " ")
					} else if st.Effect != "Deny" || len(st.Condition) == 0 {
						t.Errorf("%s has the statement %v, want Allow, or Deny with a condition", id, st)
					}
				}
			}
		}
		if diff := cmp.Diff(map[string]string{
			"Queue.Arn":         "sqs:SendMessage from DropRule.Arn",
			"DeletionQueue.Arn": "sqs:SendMessage from DeletionRule.Arn",

			"NoticeDeadLetterQueue.Arn": "sqs:SendMessage from arn:aws:events:us-east-1:000000000000:rule/*",
		}, allowed); diff != "" {
			t.Errorf("(-want +template):\n%s", diff)
		}
		rules := ofType(s, "AWS::Events::Rule")
		for id := range ofType(s, "AWS::Lambda::Permission") {
			p := properties[struct{ Principal, SourceArn, FunctionName string }](t, s, id)
			if p.Principal != "events.amazonaws.com" || !rules[strings.TrimSuffix(p.SourceArn, ".Arn")] || p.FunctionName != "CancelFunction" {
				t.Errorf("%s lets %s of %s call %s, want a rule of the stack that calls CancelFunction", id, p.Principal, p.SourceArn, p.FunctionName)
			}
		}
	})
}

// SQS refuses a policy for several queues, and a statement for several resources. Each queue has a
// policy that denies requests without TLS.
func TestQueuePoliciesAreAboutOneQueueEach(t *testing.T) {
	forBothForms(t, func(t *testing.T, s stack) {
		secured := map[string]bool{}
		for id := range ofType(s, "AWS::SQS::QueuePolicy") {
			p := properties[struct {
				Queues         []string
				PolicyDocument document
			}](t, s, id)
			if len(p.Queues) != 1 {
				t.Errorf("%s is about the queues %v; SQS accepts one", id, p.Queues)
				continue
			}
			for _, st := range p.PolicyDocument.Statement {
				if want := []string{p.Queues[0] + ".Arn"}; !slices.Equal(st.Resource, want) {
					t.Errorf("%s has a statement about %v, want %v", id, st.Resource, want)
				}
				if st.Effect == "Deny" && slices.Equal(st.Condition["Bool"]["aws:SecureTransport"], []string{"false"}) {
					secured[p.Queues[0]] = true
				}
			}
		}
		if diff := cmp.Diff(ofType(s, "AWS::SQS::Queue"), secured); diff != "" {
			t.Errorf("queues that ask for TLS (-all +template):\n%s", diff)
		}
	})
}

// A deployment that fails leaves no empty bucket behind. A bucket with drops outlives its
// stack, and so does the bucket's policy.
func TestTheBucketOutlivesTheStack(t *testing.T) {
	for _, id := range []string{"Bucket", "BucketPolicy"} {
		if r := written(t, nil).Resources[id]; r.DeletionPolicy != "RetainExceptOnCreate" || r.UpdateReplacePolicy != "Retain" {
			t.Errorf("%s has the policies %v and %v, want RetainExceptOnCreate and Retain", id, r.DeletionPolicy, r.UpdateReplacePolicy)
		}
	}
}

// The stack's own bucket refuses uploads without TLS, and uploads to inbox/ that the functions
// could not read. It accepts every other upload.
func TestBucketRefusesWhatCannotBeRead(t *testing.T) {
	s := written(t, nil)
	policy := properties[struct{ PolicyDocument document }](t, s, "BucketPolicy").PolicyDocument
	const (
		class, encryption = "s3:x-amz-storage-class", "s3:x-amz-server-side-encryption"
		customer, key     = "s3:x-amz-server-side-encryption-customer-algorithm", "s3:x-amz-server-side-encryption-aws-kms-key-id"
	)
	for _, row := range []struct {
		name    string
		key     string // inbox/talk.mp4 if empty
		request map[string]string
		account string // of the caller; the stack's if empty
		refused bool
	}{
		{name: "a plain upload"},
		{name: "a plain upload from another account", account: "111111111111"},
		{name: "an upload without TLS", request: map[string]string{"aws:SecureTransport": "false"}, refused: true},
		{name: "class GLACIER", request: map[string]string{class: "GLACIER"}, refused: true},
		{name: "class DEEP_ARCHIVE", request: map[string]string{class: "DEEP_ARCHIVE"}, refused: true},
		{name: "class GLACIER_IR, which is read at once", request: map[string]string{class: "GLACIER_IR"}},
		{name: "class INTELLIGENT_TIERING", request: map[string]string{class: "INTELLIGENT_TIERING"}},
		{name: "a key that the customer provides", request: map[string]string{customer: "AES256"}, refused: true},
		{name: "a named KMS key", request: map[string]string{encryption: "aws:kms", key: "arn:aws:kms:us-east-1:111111111111:key/k"}, refused: true},
		{name: "encryption by S3", request: map[string]string{encryption: "AES256"}},
		{name: "the account's own aws/s3", request: map[string]string{encryption: "aws:kms"}},
		{name: "aws/s3 of another account", request: map[string]string{encryption: "aws:kms"}, account: "111111111111", refused: true},
		{name: "aws/s3 of another account, two layers", request: map[string]string{encryption: "aws:kms:dsse"}, account: "111111111111", refused: true},
		{name: "an output in an archive class", key: "outbox/talk.mp4", request: map[string]string{class: "GLACIER"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			request := map[string]string{"aws:SecureTransport": "true", "aws:PrincipalAccount": "000000000000"}
			maps.Copy(request, row.request)
			if row.account != "" {
				request["aws:PrincipalAccount"] = row.account
			}
			if row.key == "" {
				row.key = "inbox/talk.mp4"
			}
			refused := slices.ContainsFunc(policy.Statement, func(st statement) bool {
				return st.Effect == "Deny" && st.Principal == "*" && covers(st.Action, "s3:PutObject") &&
					covers(st.Resource, "Bucket.Arn/"+row.key) && st.holds(t, request)
			})
			if refused != row.refused {
				t.Errorf("refused is %v, want %v", refused, row.refused)
			}
		})
	}
}

// covers reports whether a text matches one of some patterns. A * at the end of a pattern
// matches anything.
func covers(patterns []string, text string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		prefix, star := strings.CutSuffix(pattern, "*")
		return text == pattern || star && strings.HasPrefix(text, prefix)
	})
}

// holds reports whether every condition of a statement is true for a request. If the
// request lacks a condition key, only Null and the negated operators can be true.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
func (st statement) holds(t *testing.T, request map[string]string) bool {
	t.Helper()
	for operator, keys := range st.Condition {
		for key, values := range keys {
			value, present := request[key]
			var holds bool
			switch operator {
			case "Bool", "StringEquals":
				holds = present && slices.Contains(values, value)
			case "StringLike":
				holds = present && covers(values, value)
			case "StringNotEquals":
				holds = !slices.Contains(values, value)
			case "Null":
				holds = slices.Equal(values, []string{fmt.Sprint(!present)})
			default:
				t.Fatalf("this test does not know the operator %s", operator)
			}
			if !holds {
				return false
			}
		}
	}
	return true
}

// DashboardUrl leads to the console of the partition that the stack is in.
func TestDashboardIsInTheConsoleOfThePartition(t *testing.T) {
	for partition, host := range map[string]string{
		"aws": "console.aws.amazon.com", "aws-cn": "console.amazonaws.cn", "aws-us-gov": "console.amazonaws-us-gov.com",
	} {
		got := written(t, map[string]string{"AWS::Partition": partition}).Outputs["DashboardUrl"].Value
		if want := "https://" + host + "/cloudwatch/home?region=us-east-1#dashboards/dashboard/Dashboard"; got != want {
			t.Errorf("in %s the dashboard is at %s, want %s", partition, got, want)
		}
	}
}

// Each name that the template gives to a resource contains the name of the stack, so that
// one account can have two stacks.
func TestNamesContainTheStacksName(t *testing.T) {
	forBothForms(t, func(t *testing.T, s stack) {
		named := map[string]bool{}
		for id, r := range s.Resources {
			var props map[string]any
			if err := json.Unmarshal(r.Properties, &props); len(r.Properties) > 0 && err != nil {
				t.Fatal(err)
			}
			_, kind, _ := strings.Cut(strings.TrimPrefix(r.Type, "AWS::"), "::")
			for _, member := range []string{"Name", kind + "Name", "LogGroupName", "BucketName"} {
				name, ok := props[member].(string)
				if _, refers := s.Resources[name]; !ok || refers {
					continue
				}
				named[id] = true
				if !strings.Contains(name, "STACK") {
					t.Errorf("%s has the name %q in every stack, want a name with the stack's name", id, name)
				}
			}
		}
		if got := slices.Sorted(maps.Keys(named)); !slices.Equal(got, []string{"StateMachine", "StateMachineLog"}) {
			t.Errorf("the resources with names are %v, want StateMachine and StateMachineLog", got)
		}
	})
}
