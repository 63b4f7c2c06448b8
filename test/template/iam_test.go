package template

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/lipdrop/lipdrop"
	"github.com/lipdrop/lipdrop/internal/golden"
)

// roles are the functions and the state machine in the order of docs/iam.md.
var roles = []struct{ id, title, what string }{
	{"SubmitFunction", "Submit", "Writes a status for each drop and submits each job at most once."},
	{"PollFunction", "Poll", "Asks RunComfy whether a job has ended. It can read neither drops nor outputs."},
	{"ArchiveFunction", "Archive", "Copies the outputs of an ended job into the bucket. It cannot read drops, and cannot delete anything."},
	{"CancelFunction", "Cancel", "Cancels the jobs of deleted drops and of executions that ended badly, records why these jobs ended, and starts missing executions of paid jobs."},
	{"StateMachine", "The state machine", "Calls poll until a job has ended, then archive. It can use neither the bucket nor the token."},
}

// places has the words of docs/iam.md for each resource that a statement names, except keys of the bucket.
var places = map[string]string{
	"Queue.Arn": "the queue", "DeletionQueue.Arn": "the queue of deletions", "StateMachine": "the state machine", "TokenSecret": "the token's secret",
	"SubmitLog.Arn": "its log group", "PollLog.Arn": "its log group", "ArchiveLog.Arn": "its log group", "CancelLog.Arn": "its log group",
	"PollFunction.Arn": "the poll function", "ArchiveFunction.Arn": "the archive function",
	"arn:aws:states:us-east-1:000000000000:execution:StateMachine.Name:*": "the state machine's executions",
	"arn:aws:s3:::Bucket": "the bucket", "*": "every resource",
	"arn:aws:events:us-east-1:000000000000:event-bus/default": "the account's default event bus",
}

// docs/iam.md lists what the template's statements allow, and why.
func TestDocumentOfPermissions(t *testing.T) {
	s := written(t, nil)
	var b strings.Builder
	b.WriteString("# Who may do what\n\n" +
		"Each function and the state machine has its own role. Only Lambda can assume a function's role, and only Step Functions the state machine's role. No role can be assumed by a request whose `aws:SourceAccount` is another account. Without `aws:SourceAccount`, a request of its service can assume any role except the state machine's, because the condition of the others is `StringEqualsIfExists`. A role allows what its table lists and nothing else. No function can use a bucket of another account. " +
		"\"The bucket\" and \"the token's secret\" are those of the stack, or those that `ExistingBucket` and `ExistingTokenSecretArn` name. " +
		"The keys in a row of `s3:ListBucket` limit only a listing that names a prefix (`StringLikeIfExists`). A listing without a prefix, which shows the names of all files, is allowed. The reason: S3 responds to a request for a missing key with 404 only if the role may list the bucket. " +
		"Such a request names no prefix, so with `StringLike` S3 might respond with 403.\n\n" +
		"`UPDATE_GOLDEN=1 go test ./test/template` writes this page. The tables of the roles come from template.yaml; the other text is in test/template/iam_test.go. " +
		"`go test ./test/permissions` removes one permission at a time and checks that something fails without it. The test leaves out the permissions for logs and those that the functions do not use themselves.\n")
	for _, r := range roles {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| may | on | why |\n| --- | --- | --- |\n", r.title, r.what)
		reasons := reasonsOf(t, roleOf(t, s, r.id))
		for _, st := range statements(t, s, r.id) {
			fmt.Fprintf(&b, "| %s | %s | %s |\n", code(st.Action), st.where(t), reasons[st.Sid])
		}
	}
	b.WriteString("\n## From outside\n\n| who | may | on |\n| --- | --- | --- |\n" +
		"| EventBridge, only for the stack's own rule for drops | `sqs:SendMessage` | the queue |\n" +
		"| EventBridge, only for the stack's own rule for deletions | `sqs:SendMessage` | the queue of deletions |\n" +
		"| EventBridge, only for cancel's own rules | `lambda:InvokeFunction` | the cancel function |\n" +
		"| EventBridge, only for rules of the account | `sqs:SendMessage` | the dead-letter queue of notices |\n" +
		"| EventBridge, if `NotifyEmail` is set, by a role that only EventBridge can assume | `sns:Publish` | the topic of notices |\n" +
		"| EventBridge, if `NotifyWebhookUrl` is set, by a role that only EventBridge can assume | `events:InvokeApiDestination` | the webhook's destination |\n" +
		"| nobody | anything without TLS | the stack's bucket, each queue |\n" +
		"| nobody | `s3:PutObject` of a file that the functions could not read: with storage class GLACIER or DEEP_ARCHIVE, with a customer-provided key (SSE-C), " +
		"with a KMS key that the request names, or from another account with `aws:kms` | `inbox/*` of the stack's bucket |\n\n" +
		"## People\n\nThe permissions that people need. `ACCOUNT`, `REGION`, `BUCKET` and `STACK` stand for yours. In AWS's partitions for China and GovCloud, write `arn:aws-cn` or `arn:aws-us-gov`, not `arn:aws`. A `lipdrop` command that uses a stack on AWS " +
		"also needs `cloudformation:DescribeStacks`: on the stack that `--stack` or `LIPDROP_STACK` names, else on all stacks of the region.\n\n| to | needs | on |\n| --- | --- | --- |\n" +
		"| drop files | `s3:PutObject`, and `s3:AbortMultipartUpload` for large ones | `arn:aws:s3:::BUCKET/inbox/*` |\n" +
		"| `lipdrop drop` | `s3:PutObject`, `s3:GetObject` and `s3:ListMultipartUploadParts` on `inbox/*`, `s3:ListBucket` and `s3:ListBucketMultipartUploads`; for the estimate, `secretsmanager:GetSecretValue` on the token's secret; for `--wait`, what `watch` needs; for `--get`, what `get` needs | the bucket; the secret |\n" +
		"| cancel a job by deleting its files | `s3:DeleteObject` | `arn:aws:s3:::BUCKET/inbox/*` |\n" +
		"| read statuses, answer files and outputs | `s3:GetObject` | `arn:aws:s3:::BUCKET/status/*`, `/answers/*`, `/outbox/*` |\n" +
		"| list statuses, answer files and outputs, as `aws s3 cp --recursive` and `lipdrop` do | `s3:ListBucket` | `arn:aws:s3:::BUCKET` |\n" +
		"| `lipdrop watch` | `s3:ListBucket`, and `s3:GetObject` on `status/*`; in a terminal, also on `jobs/*` to show how long jobs have been running | the bucket |\n" +
		"| `lipdrop jobs` | what `watch` needs, and `s3:GetObject` on `answers/*` | the bucket |\n" +
		"| `lipdrop show` | what `jobs` needs, and `s3:GetObject` on `jobs/*` and `review/*` | the bucket |\n" +
		"| `lipdrop get` | `s3:ListBucket`, and `s3:GetObject` on `status/*`, `jobs/*` and `outbox/*` | the bucket |\n" +
		"| `lipdrop review` | what `show` needs, and `s3:PutObject` on `review/*` | the bucket |\n" +
		"| `lipdrop ui`, to look | what `show` needs, and `s3:GetObject` on `inbox/*` and `outbox/*`, with `s3:GetObjectVersion` if the bucket keeps versions, as the stack's own does; for estimates, `secretsmanager:GetSecretValue` on the token's secret. " +
		"[page.md](page.md) lists what each action needs | the bucket; the secret |\n" +
		"| `lipdrop cost` | `s3:ListBucket`, and `s3:GetObject` on `jobs/*` | the bucket |\n" +
		"| `lipdrop models --live`, `lipdrop check --price` | `secretsmanager:GetSecretValue` | the token's secret |\n" +
		"| `lipdrop cancel` | `s3:GetObject` on `jobs/*` and `status/*`, `s3:ListBucket`, `states:StopExecution` and, if it is too late to cancel the job, `states:RedriveExecution` | the bucket; " +
		"`arn:aws:states:REGION:ACCOUNT:execution:STACK:*` |\n" +
		"| `lipdrop redrive` | `s3:GetObject` on `jobs/*` and `status/*`, `s3:ListBucket`, `states:RedriveExecution` | the bucket; the same executions |\n" +
		"| `lipdrop doctor` | `cloudformation:ListStackResources`, `s3:ListBucket`, `s3:GetBucketNotification`, `events:DescribeRule`, `lambda:GetEventSourceMapping`, `sqs:GetQueueAttributes`, " +
		"`secretsmanager:GetSecretValue` | the stack and what is in it |\n" +
		"| `lipdrop doctor --drop` | what `doctor` needs, and `s3:PutObject` and `s3:DeleteObject` on `inbox/lipdrop-doctor.check`, `s3:GetObject` and `s3:DeleteObject` " +
		"on `answers/lipdrop-doctor.check.json` | the bucket |\n" +
		"| set the token | `secretsmanager:PutSecretValue` | the token's secret |\n" +
		"| run the command in the output `Redrive` | `sqs:StartMessageMoveTask`, `sqs:ReceiveMessage`, `sqs:DeleteMessage` and `sqs:GetQueueAttributes` on the dead-letter queue, " +
		"`sqs:SendMessage` on the queue and on the queue of deletions | the three queues |\n" +
		"| read the webhook's key | `secretsmanager:GetSecretValue` | the secret of the output `WebhookKeyArn` |\n" +
		"| `sam deploy`, `sam delete` | the permissions to create, change and delete everything in template.yaml, roles included: usually those of an administrator | the account |\n\n" +
		"Anybody who can write below `jobs/`, `status/` or `outbox/` can forge records, statuses or outputs. Anybody who can write below `inbox/` can spend your balance at RunComfy.\n\n" +
		"## Presigned URLs and existing resources\n\n" +
		"A presigned URL lets RunComfy read one dropped file (only the version that was dropped, if the bucket keeps versions) for PresignHours, unless submit's role loses the permission to read the file. " +
		"Presigned URLs are in no log, record or status.\n\n" +
		"An existing bucket keeps its own policy; [operations.md](operations.md) says what it needs. If an existing secret or bucket is encrypted with a KMS key of your own, " +
		"allow the four functions' roles `kms:Decrypt` in the key's policy, and for a bucket also `kms:GenerateDataKey`, without which the functions can write nothing. " +
		"People who read files of such a bucket need `kms:Decrypt` too, and people who write files need both permissions. " +
		"The stack does not know your keys.\n")
	golden.Compare(t, root+"/docs/iam.md", b.String())
}

// roleOf returns the logical id of the role of a function or the state machine.
func roleOf(t *testing.T, s stack, id string) string {
	t.Helper()
	owner := properties[struct{ Role, RoleArn string }](t, s, id) // a state machine has a RoleArn after the transform
	return strings.TrimSuffix(owner.Role+owner.RoleArn, ".Arn")
}

// reasonsOf returns the comments on the Sids of a role in template.yaml, by Sid. Each
// statement must have one.
func reasonsOf(t *testing.T, role string) map[string]string {
	t.Helper()
	var doc struct {
		Resources map[string]yaml.Node `yaml:"Resources"`
	}
	if err := yaml.Unmarshal(lipdrop.Template, &doc); err != nil {
		t.Fatal(err)
	}
	var withComments struct {
		Properties struct {
			Policies []struct {
				PolicyDocument struct {
					Statement []struct {
						Sid yaml.Node `yaml:"Sid"`
					} `yaml:"Statement"`
				} `yaml:"PolicyDocument"`
			} `yaml:"Policies"`
		} `yaml:"Properties"`
	}
	node := doc.Resources[role]
	if err := node.Decode(&withComments); err != nil {
		t.Fatal(err)
	}
	reasons := map[string]string{}
	for _, policy := range withComments.Properties.Policies {
		for _, st := range policy.PolicyDocument.Statement {
			reason, ok := strings.CutPrefix(st.Sid.LineComment, "# ")
			if !ok {
				t.Errorf("template.yaml, line %d: the statement %q has no comment that says why", st.Sid.Line, st.Sid.Value)
			}
			reasons[st.Sid.Value] = reason
		}
	}
	return reasons
}

// statements returns the statements by which the role of a function or the state
// machine allows something, in the template's order.
func statements(t *testing.T, s stack, id string) []statement {
	t.Helper()
	var all []statement
	for _, policy := range properties[role](t, s, roleOf(t, s, id)).Policies {
		for _, st := range policy.PolicyDocument.Statement {
			if st.Effect == "Allow" {
				all = append(all, st)
			}
		}
	}
	if len(all) == 0 {
		t.Errorf("%s has no statement that allows something", id)
	}
	return all
}

// where returns the resources of a statement, with the limits of its conditions on
// events:source and s3:prefix.
func (st statement) where(t *testing.T) string {
	t.Helper()
	var names []string
	for _, res := range st.Resource {
		name, ok := places[res]
		if prefix, inBucket := strings.CutPrefix(res, "arn:aws:s3:::Bucket/"); inBucket {
			name, ok = "`"+prefix+"`", true
		}
		if !ok {
			t.Errorf("the document has no name for %s", res)
		}
		names = append(names, name)
	}
	where := strings.Join(names, ", ")
	if source := st.Condition["StringEquals"]["events:source"]; len(source) > 0 {
		where += ", source " + code(source)
	}
	if keys := slices.Sorted(slices.Values(st.Condition["StringLikeIfExists"]["s3:prefix"])); len(keys) > 0 {
		where += ", keys " + code(keys)
	}
	return where
}

// code returns words as code, separated by commas.
func code(words []string) string { return "`" + strings.Join(words, "`, `") + "`" }
