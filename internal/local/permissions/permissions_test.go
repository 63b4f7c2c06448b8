package permissions_test

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/local/awsjson"
	"github.com/lipdrop/lipdrop/internal/local/permissions"
)

// template returns a template whose function has a role with the given statements.
func template(statements string) []byte {
	return []byte(`
Parameters:
  Existing: {Type: String, Default: ''}
  Hours: {Type: Number, Default: 6}
Conditions:
  Elsewhere: !Not [!Equals [!Ref Existing, '']]
  Own: !Equals [!Ref Existing, '']
  Other: !And [!Equals [!Ref Existing, ''], !Equals [!Ref Hours, 6]]
Globals:
  Function:
    Timeout: 3
    Environment: {Variables: {BUCKET: !If [Own, !Ref Bucket, !Ref Existing], BOTH: globals}}
Resources:
  Log: {Type: AWS::Logs::LogGroup}
  F:
    Type: AWS::Serverless::Function
    Properties:
      Role: !GetAtt R.Arn
      MemorySize: 256
      Environment: {Variables: {HOURS: !Ref Hours, BOTH: its own, MACHINE: !Sub '${Machine}:1'}}
      EventInvokeConfig: {MaximumRetryAttempts: 2}
      Events:
        Hourly: {Type: Schedule, Properties: {Schedule: rate(1 hour)}}
        Drops: {Type: SQS, Properties: {Queue: !GetAtt Drops.Arn, BatchSize: 10, ScalingConfig: {MaximumConcurrency: !Ref Hours}}}
  Drops: {Type: AWS::SQS::Queue, Properties: {DelaySeconds: !Ref Hours, VisibilityTimeout: 720, RedrivePolicy: {deadLetterTargetArn: !GetAtt Dead.Arn, maxReceiveCount: 120}}}
  Dead: {Type: AWS::SQS::Queue, Properties: {MessageRetentionPeriod: 1209600}}
  R:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument: {Statement: [{Effect: Allow, Principal: {Service: lambda.amazonaws.com}, Action: sts:AssumeRole}]}
      Policies:
        - PolicyName: f
          PolicyDocument:
            Statement:
              - {Sid: Log, Effect: Allow, Action: logs:PutLogEvents, Resource: !GetAtt Log.Arn}
` + statements)
}

var values = map[string]string{"Bucket": "drops", "Machine": "arn:aws:states:::m", "Machine.Name": "m", "AWS::Partition": "aws", "AWS::AccountId": "000000000000"}

func TestReadsTheFormsOfTheTemplate(t *testing.T) {
	roles, err := permissions.Roles(template(`
              - Sid: Files
                Effect: Allow
                Action: [s3:GetObject, s3:PutObject]
                Resource:
                  - !Sub ['arn:${AWS::Partition}:s3:::${Name}/in/*', {Name: !If [Own, !Ref Bucket, !Ref Existing]}]
                  - !Sub ['arn:${AWS::Partition}:s3:::${Name}/out/*', {Name: !If [Own, !Ref Bucket, !Ref Existing]}]
              - Sid: List
                Effect: Allow
                Action: s3:ListBucket
                Resource: !Sub arn:${AWS::Partition}:s3:::${Bucket}
                Condition:
                  StringLike: {s3:prefix: [in/*, out/*]}
              - {Sid: Own, Effect: Deny, Action: s3:*, Resource: '*', Condition: {StringNotEquals: {s3:ResourceAccount: !Ref AWS::AccountId}}}
              - {Sid: Start, Effect: Allow, Action: states:StartExecution, Resource: !Ref Machine}
              - {Sid: Stop, Effect: Allow, Action: states:StopExecution, Resource: !Sub 'arn:aws:states:::execution:${Machine.Name}:*'}
`), values)
	want := map[string]permissions.Role{"F": {
		{Sid: "Files", Action: []string{"s3:GetObject", "s3:PutObject"}, Resource: []string{"arn:aws:s3:::drops/in/*", "arn:aws:s3:::drops/out/*"}},
		{
			Sid: "List", Action: []string{"s3:ListBucket"}, Resource: []string{"arn:aws:s3:::drops"},
			Condition: map[string]map[string]permissions.OneOrMany{"StringLike": {"s3:prefix": {"in/*", "out/*"}}},
		},
		{Sid: "Start", Action: []string{"states:StartExecution"}, Resource: []string{"arn:aws:states:::m"}},
		{Sid: "Stop", Action: []string{"states:StopExecution"}, Resource: []string{"arn:aws:states:::execution:m:*"}},
	}}
	if diff := cmp.Diff(want, roles); err != nil || diff != "" {
		t.Errorf("Roles: %v (-want +got):\n%s", err, diff)
	}
}

func TestFunctionsHaveWhatTheTemplateSays(t *testing.T) {
	functions, err := permissions.Functions(template(""), values)
	want := map[string]permissions.Function{"F": {
		Variables: map[string]string{"BUCKET": "drops", "HOURS": "6", "BOTH": "its own", "MACHINE": "arn:aws:states:::m:1"},
		Timeout:   3 * time.Second, MemoryMB: 256, Attempts: 3,
		Queues: map[string]permissions.Mapping{"Drops": {BatchSize: 10, Concurrency: 6}},
	}}
	if diff := cmp.Diff(want, functions); err != nil || diff != "" {
		t.Errorf("Functions: %v (-want +got):\n%s", err, diff)
	}
	queues, err := permissions.Queues(template(""), values)
	wantQueues := map[string]permissions.Queue{"Drops": {Delay: 6 * time.Second, Visibility: 720 * time.Second, MaxReceives: 120}, "Dead": {}}
	if diff := cmp.Diff(wantQueues, queues); err != nil || diff != "" {
		t.Errorf("Queues: %v (-want +got):\n%s", err, diff)
	}
	defaults, err := permissions.Defaults(template(""))
	if diff := cmp.Diff(map[string]string{"Existing": "", "Hours": "6"}, defaults); err != nil || diff != "" {
		t.Errorf("Defaults: %v (-want +got):\n%s", err, diff)
	}
	for name, tt := range map[string]struct{ value, says string }{
		"an unknown reference":                    {"!GetAtt Elsewhere.Arn", "HOURS refers to ${Elsewhere.Arn}"},
		"a negated condition":                     {"!If [Elsewhere, a, !Ref Nothing]", "${Nothing}"},
		"an unknown intrinsic function":           {"!Join ['', [a, b]]", "Fn::Join"},
		"a condition of a form that is not known": {"!If [Other, a, b]", "Other"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(string(template("")), "HOURS: !Ref Hours", "HOURS: "+tt.value, 1)
			if got, err := permissions.Functions([]byte(text), values); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("Functions = %v, %v; want an error about %s", got, err, tt.says)
			}
		})
	}
}

// Roles returns an error for a statement or a role of a form that it does not know. It does not
// skip the statement.
func TestRefusesOtherForms(t *testing.T) {
	const read = "Effect: Allow, Action: s3:GetObject, Resource: "
	for name, tt := range map[string]struct{ before, after, says string }{
		"a denial":                      {after: "              - {Sid: No, Effect: Deny, Action: s3:GetObject, Resource: 'arn:aws:s3:::b/*'}", says: "the statement No "},
		"a denial of another account":   {after: "              - {Sid: No, Effect: Deny, Action: s3:*, Resource: '*', Condition: {StringNotEquals: {s3:ResourceAccount: '1'}}}", says: "the statement No "},
		"a NotAction":                   {after: "              - {Sid: No, Effect: Deny, NotAction: s3:GetObject, Resource: 'arn:aws:s3:::b/*'}", says: "the statement No "},
		"every action":                  {after: "              - {Sid: No, Effect: Allow, Action: '*', Resource: 'arn:aws:s3:::b/*'}", says: "the statement No "},
		"a pattern of queue actions":    {after: "              - {Sid: No, Effect: Allow, Action: 'sqs:Send*', Resource: 'arn:aws:sqs:us-east-1:000000000000:q'}", says: "the statement No "},
		"no resource":                   {after: "              - {Sid: No, Effect: Allow, Action: s3:GetObject}", says: "the statement No "},
		"an unknown reference":          {after: "              - {Sid: No, " + read + "!GetAtt Elsewhere.Arn}", says: "Elsewhere.Arn"},
		"an unknown name in a !Sub":     {after: "              - {Sid: No, " + read + "!Sub 'arn:aws:s3:::${Elsewhere}/*'}", says: "Elsewhere"},
		"an unknown intrinsic function": {after: "              - {" + read + "!Join ['', [a, b]]}", says: "Fn::Join"},
		"a condition of another form":   {after: "              - {" + read + "!If [Other, 'arn:a', 'arn:b']}", says: "Other"},
		"a managed policy":              {after: "      ManagedPolicyArns: ['arn:aws:iam::aws:policy/AmazonS3FullAccess']", says: "AmazonS3FullAccess"},
		"a SAM policy":                  {before: "Role: !GetAtt R.Arn", after: "Role: !GetAtt R.Arn\n      Policies: [S3ReadPolicy: {BucketName: b}]", says: "F: the function has permissions from outside"},
		"a role outside the template":   {before: "Role: !GetAtt R.Arn", after: "Role: arn:aws:iam::000000000000:role/r", says: "F: the function has permissions from outside"},
	} {
		t.Run(name, func(t *testing.T) {
			text := template(tt.after)
			if tt.before != "" {
				text = []byte(strings.Replace(string(template("")), tt.before, tt.after, 1))
			}
			if roles, err := permissions.Roles(text, values); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("Roles = %v, %v; want an error about %s", roles, err, tt.says)
			}
		})
	}
}

func TestGuard(t *testing.T) {
	const machine, other = "arn:aws:states:us-east-1:000000000000:stateMachine:m", "arn:aws:states:us-east-1:000000000000:stateMachine:other"
	const execution = "arn:aws:states:us-east-1:000000000000:execution:m:"
	users := map[string]permissions.Role{"f": {
		{Action: []string{"states:StartExecution"}, Resource: []string{machine}},
		{Action: []string{"events:PutEvents"}, Resource: []string{"arn:aws:events:us-east-1:000000000000:event-bus/default"}, Condition: map[string]map[string]permissions.OneOrMany{"StringEquals": {"events:source": {"own"}}}},
		{Action: []string{"sqs:SendMessage"}, Resource: []string{"arn:aws:sqs:us-east-1:000000000000:q"}},
		{Action: []string{"states:DescribeExecution"}, Resource: []string{execution + "*"}},
		{Action: []string{"secretsmanager:GetSecretValue"}, Resource: []string{"secret-*"}, Condition: map[string]map[string]permissions.OneOrMany{"Bool": {"any": {"true"}}}},
	}}
	var denied []string
	served := func([]byte) (any, error) { return struct{}{}, nil }
	server := httptest.NewServer(awsjson.Operations{
		"AWSStepFunctions.StartExecution": served, "AWSStepFunctions.DescribeExecution": served, "AmazonSQS.SendMessage": served,
		"AWSEvents.PutEvents": served, "secretsmanager.GetSecretValue": served,
	}.Handler(permissions.Guard(users, func(d *permissions.Denial) { denied = append(denied, d.Action+" "+d.Resource) })))
	defer server.Close()
	type call = func(aws.Config) error
	notify := func(sources ...string) call {
		return func(c aws.Config) error {
			in := &eventbridge.PutEventsInput{}
			for _, source := range sources {
				in.Entries = append(in.Entries, types.PutEventsRequestEntry{Source: &source, DetailType: aws.String("d"), Detail: aws.String("{}")})
			}
			_, err := eventbridge.NewFromConfig(c).PutEvents(t.Context(), in)
			return err
		}
	}
	send := func(url string) call {
		return func(c aws.Config) error {
			client := sqs.NewFromConfig(c, func(o *sqs.Options) { o.DisableMessageChecksumValidation = true })
			_, err := client.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: &url, MessageBody: aws.String("m")})
			return err
		}
	}
	start := func(arn string) call {
		return func(c aws.Config) error {
			_, err := sfn.NewFromConfig(c).StartExecution(t.Context(), &sfn.StartExecutionInput{StateMachineArn: &arn})
			return err
		}
	}
	describe := func(arn string) call {
		return func(c aws.Config) error {
			_, err := sfn.NewFromConfig(c).DescribeExecution(t.Context(), &sfn.DescribeExecutionInput{ExecutionArn: &arn})
			return err
		}
	}
	secret := func(c aws.Config) error {
		_, err := secretsmanager.NewFromConfig(c).GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String("secret-1")})
		return err
	}
	for _, tt := range []struct {
		name, user string
		call       call
		denied     string
	}{
		{"what its role allows", "f", start(machine), ""},
		{"what a pattern allows", "f", describe(execution + "1"), ""},
		{"another resource", "f", start(other), "states:StartExecution " + other},
		{"an action that the role allows only on other resources", "f", describe(machine), "states:DescribeExecution " + machine},
		{"an action that the role allows only under a condition of an unknown form", "f", secret, "secretsmanager:GetSecretValue secret-1"},
		{"its own queue", "f", send("https://127.0.0.1:1/000000000000/q"), ""},
		{"another queue", "f", send("https://127.0.0.1:1/000000000000/q2"), "sqs:SendMessage arn:aws:sqs:us-east-1:000000000000:q2"},
		{"a queue URL without an account", "f", send("q"), "sqs:SendMessage "},
		{"an event with its own source", "f", notify("own"), ""},
		{"an event with another source", "f", notify("other"), "events:PutEvents arn:aws:events:us-east-1:000000000000:event-bus/default"},
		{"two events, one of them with another source", "f", notify("own", "other"), "events:PutEvents arn:aws:events:us-east-1:000000000000:event-bus/default"},
		{"a person", "root", start(other), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			denied = nil
			err := tt.call(aws.Config{Region: "us-east-1", BaseEndpoint: &server.URL, Credentials: credentials.NewStaticCredentialsProvider(tt.user, "secret", "")})
			if tt.denied == "" {
				if err != nil || denied != nil {
					t.Errorf("error %v, denied %v; want neither", err, denied)
				}
				return
			}
			refused, ok := errors.AsType[smithy.APIError](err)
			if !ok || refused.ErrorCode() != "AccessDeniedException" || !strings.Contains(refused.ErrorMessage(), tt.user+" may not "+strings.Fields(tt.denied)[0]) {
				t.Errorf("error %v, want AccessDeniedException that names %s", err, tt.denied)
			}
			if diff := cmp.Diff([]string{tt.denied}, denied); diff != "" {
				t.Errorf("denied (-want +got):\n%s", diff)
			}
		})
	}
}
