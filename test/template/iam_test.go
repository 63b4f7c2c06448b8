package template

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"


	"github.com/lipdrop/lipdrop/internal/golden"
)

// roles are whom docs/iam.md is about, in its order, with why each statement is
// there, by its Sid.
var roles = []struct {
	id, title, what string
	reasons         map[string]string
}{
	{"SubmitFunction", "Submit", "Answers each drop and submits each job once.", map[string]string{
		"Log":    "its own log, and no other",
		"Queue":  "Lambda reads the queue in the function's name",
		"Drops":  "to look into the media before a job is paid for; and RunComfy fetches them by URLs that this role has signed, each for one version",
		"Ledger": "records of takes, statuses, and answers to files that can be no job's",
		"Find":   "to find what belongs together; and without it S3 answers 403, not 404, for what is not there",
		"Start":  "to start the execution that waits for the job",
		"Token":  "to submit to RunComfy",
	}},
	{"PollFunction", "Poll", "Asks RunComfy whether a job has ended. It sees neither drops nor outputs.", map[string]string{
		"Log":    "its own log, and no other",
		"Ledger": "records of takes and statuses",
		"Find":   "without it S3 answers 403, not 404, for a status that is not there",
		"Token":  "to ask RunComfy",
	}},
	{"ArchiveFunction", "Archive", "Copies the outputs of an ended job into the bucket. It does not see drops, and can delete nothing.", map[string]string{
		"Log":     "its own log, and no other",
		"Ledger":  "records of takes and statuses",
		"Outputs": "made once, verified by reading; a copy that failed is aborted",
		"Find":    "without it S3 answers 403, not 404, for what is not there",
		"Token":   "to ask RunComfy for the result; it is never sent where outputs lie",
	}},
	{"CancelFunction", "Cancel", "Settles executions that ended badly, and cancels the jobs of deleted drops.", map[string]string{
		"Log":        "its own log, and no other",
		"Queue":      "Lambda takes the deletions from their queue in the function's name",
		"Drops":      "to see whether a deleted file is there again",
		"Ledger":     "records of takes and statuses",
		"Find":       "to find the jobs that use a file; and without it S3 answers 403, not 404, for what is not there",
		"Sweep":      "to find executions whose end no event has told",
		"Recover":    "to start the execution of a paid job that submit could not start",
		"Executions": "to read how one ended, and to stop that of a cancelled job",
		"Token":      "to cancel at RunComfy",
	}},
	{"StateMachine", "The state machine", "Waits for a job's end and has its outputs archived. It touches neither the bucket nor the token.", map[string]string{
		"Call":        "the two functions of its loop",
		"DeliverLogs": "its log of failures; CloudWatch knows no resource for these actions",
		"Trace":       "its traces; X-Ray knows no resource for these actions",
	}},
}

// places are what docs/iam.md calls the resources of statements.
var places = map[string]string{
	"Queue.Arn": "the queue", "DeletionQueue.Arn": "the queue of deletions", "StateMachine": "the state machine", "TokenSecret": "the token's secret",
	"SubmitLog.Arn": "its log group", "PollLog.Arn": "its log group", "ArchiveLog.Arn": "its log group", "CancelLog.Arn": "its log group",
	"PollFunction.Arn": "the poll function", "ArchiveFunction.Arn": "the archive function",
	"arn:aws:states:us-east-1:000000000000:execution:StateMachine.Name:*": "the state machine's executions",
	"arn:aws:s3:::Bucket": "the bucket", "*": "every resource",
}

// docs/iam.md is what the template's statements allow, for people.
func TestDocumentOfPermissions(t *testing.T) {
	s := written(t, nil)
	var b strings.Builder
	b.WriteString("# Who may do what\n\n" +
		"Each function, and the state machine, has a role of its own, which only the service that runs it may assume, and only on behalf of the stack's account. A role may do what its table says and nothing else, and no function may touch a bucket of another account; " +
		"\"the bucket\" is the stack's own or the existing one, and the token's secret likewise. " +
		"Where a listing is limited to some keys, the limit is on the prefix that a listing names (`StringLikeIfExists`): a listing without a prefix, which shows the names of all files, is not refused. " +
		"With a stricter condition S3 might answer 403 instead of 404 for a file that is not there, since that request names no prefix.\n\n" +
		"`UPDATE_GOLDEN=1 go test ./test/template` writes these tables from template.yaml, and the tests of that folder hold both to a third list of what each function may do. " +
		"`go test ./test/permissions` takes each of the functions' permissions for S3, Step Functions and Secrets Manager away in turn, and sees a job, an answer or a cancel fail without it.\n")
	for _, r := range roles {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| may | on | why |\n| --- | --- | --- |\n", r.title, r.what)
		unused := maps.Clone(r.reasons)
		for _, st := range statements(t, s, r.id) {
			if _, ok := unused[st.Sid]; !ok {
				t.Errorf("the statement %s of %s has no reason in the document", st.Sid, r.id)
			}
			delete(unused, st.Sid)
			fmt.Fprintf(&b, "| %s | %s | %s |\n", code(st.Action), st.where(t), r.reasons[st.Sid])
		}
		for sid := range unused {
			t.Errorf("%s has no statement %s, of which the document tells", r.id, sid)
		}
	}
	b.WriteString("\n## From outside\n\n| who | may | on |\n| --- | --- | --- |\n" +
		"| EventBridge, only for the stack's own rule of drops | `sqs:SendMessage` | the queue |\n" +
		"| EventBridge, only for the stack's own rule of deletions | `sqs:SendMessage` | the queue of deletions |\n" +
		"| EventBridge, only for cancel's own rules | `lambda:InvokeFunction` | the cancel function |\n" +
		"| nobody | anything without TLS | the stack's bucket, each queue |\n" +
		"| nobody | `s3:PutObject` of a file that the functions could not read: with storage class GLACIER or DEEP_ARCHIVE, with a key of one's own (SSE-C), " +
		"with a KMS key that the request names, or from another account with `aws:kms` | `inbox/*` of the stack's bucket |\n\n" +
		"## People\n\nWhat the person who runs a command needs. `ACCOUNT`, `REGION`, `BUCKET` and `STACK` stand for yours; everybody who names a stack with `--stack` " +
		"also needs `cloudformation:DescribeStacks` on it.\n\n| to | needs | on |\n| --- | --- | --- |\n" +
		"| drop files | `s3:PutObject`, and `s3:AbortMultipartUpload` for large ones | `arn:aws:s3:::BUCKET/inbox/*` |\n" +
		"| cancel a job by deleting its files | `s3:DeleteObject` | `arn:aws:s3:::BUCKET/inbox/*` |\n" +
		"| read statuses, answers and outputs | `s3:GetObject` | `arn:aws:s3:::BUCKET/status/*`, `/answers/*`, `/outbox/*` |\n" +
		"| list them, as `aws s3 cp --recursive` and `lipdrop` do | `s3:ListBucket` | `arn:aws:s3:::BUCKET` |\n" +
		"| `lipdrop cancel` | `s3:GetObject` on `jobs/*` and `status/*`, `s3:ListBucket`, `states:StopExecution` and `states:RedriveExecution` | the bucket; " +
		"`arn:aws:states:REGION:ACCOUNT:execution:STACK:*` |\n" +
		"| `lipdrop redrive` | `s3:GetObject` on `jobs/*` and `status/*`, `s3:ListBucket`, `states:RedriveExecution` | the bucket; the same executions |\n" +
		"| `lipdrop doctor` | `cloudformation:ListStackResources`, `s3:ListBucket`, `s3:GetBucketNotification`, `events:DescribeRule`, `sqs:GetQueueAttributes`, " +
		"`secretsmanager:GetSecretValue` | the stack and what is in it |\n" +
		"| `lipdrop doctor --drop` | the same, and `s3:PutObject` and `s3:DeleteObject` on `inbox/lipdrop-doctor.check`, `s3:GetObject` and `s3:DeleteObject` " +
		"on `answers/lipdrop-doctor.check.json` | the bucket |\n" +
		"| set the token | `secretsmanager:PutSecretValue` | the token's secret |\n" +
		"| run the output `Redrive` | `sqs:StartMessageMoveTask`, `sqs:ReceiveMessage`, `sqs:DeleteMessage` and `sqs:GetQueueAttributes` on the dead-letter queue, " +
		"`sqs:SendMessage` on the queue and on the queue of deletions | the three queues |\n" +
		"| `sam deploy`, `sam delete` | to create, change and delete what template.yaml has, roles among it: as a rule an administrator's permissions | the account |\n\n" +
		"Whoever may write below `jobs/`, `status/` or `outbox/` can forge records; whoever may put files below `inbox/` spends your balance at RunComfy.\n\n" +
		"## Presigned URLs and existing resources\n\n" +
		"The presigned URLs that RunComfy is given can do what submit's role can at the moment of their use: read one version of one dropped file, for PresignHours. " +
		"They are in no log, record or status.\n\n" +
		"An existing bucket keeps its own policy; [operations.md](operations.md) says what it needs. An existing secret that is encrypted with a key of your own needs " +
		"`kms:Decrypt` on that key for the four functions' roles, in the key's policy, and so does an existing bucket, with `kms:GenerateDataKey` for the writes: " +
		"the stack does not know your keys.\n")
	golden.Compare(t, root+"/docs/iam.md", b.String())
}

type namedStatement struct {
	Sid string
	statement
}

// statements returns the statements by which the role of a function or the state
// machine allows something, in the template's order.
func statements(t *testing.T, s stack, id string) []namedStatement {
	t.Helper()
	owner := properties[struct{ Role string }](t, s, id)
	var all []namedStatement
	for _, policy := range properties[struct {
		Policies []struct {
			PolicyDocument struct{ Statement []namedStatement }
		}
	}](t, s, strings.TrimSuffix(owner.Role, ".Arn")).Policies {
		for _, st := range policy.PolicyDocument.Statement {
			if st.Effect == "Allow" {
				all = append(all, st)
			}
		}
	}
	if len(all) == 0 {
		t.Errorf("%s has no statements", id)
	}
	return all
}

// where says what a statement is about.
func (st namedStatement) where(t *testing.T) string {
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
	if keys := slices.Sorted(slices.Values(st.Condition["StringLikeIfExists"]["s3:prefix"])); len(keys) > 0 {
		where += ", keys " + code(keys)
	}
	return where
}

// code returns words as code, separated by commas.
func code(words []string) string { return "`" + strings.Join(words, "`, `") + "`" }
