package template_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/template"
)

// withRole returns a template with a function and its role. The text is added to the end of the role.
func withRole(text string) []byte {
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
` + text)
}

var values = map[string]string{"Bucket": "drops", "Machine": "arn:aws:states:::m", "Machine.Name": "m", "AWS::Partition": "aws", "AWS::AccountId": "000000000000"}

func TestReadsTheFormsOfTheTemplate(t *testing.T) {
	roles, err := template.Roles(withRole(`
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
	want := map[string]template.Role{"F": { // without Log and Own, which Roles leaves out
		{Sid: "Files", Action: []string{"s3:GetObject", "s3:PutObject"}, Resource: []string{"arn:aws:s3:::drops/in/*", "arn:aws:s3:::drops/out/*"}},
		{
			Sid: "List", Action: []string{"s3:ListBucket"}, Resource: []string{"arn:aws:s3:::drops"},
			Condition: map[string]map[string]template.OneOrMany{"StringLike": {"s3:prefix": {"in/*", "out/*"}}},
		},
		{Sid: "Start", Action: []string{"states:StartExecution"}, Resource: []string{"arn:aws:states:::m"}},
		{Sid: "Stop", Action: []string{"states:StopExecution"}, Resource: []string{"arn:aws:states:::execution:m:*"}},
	}}
	if diff := cmp.Diff(want, roles); err != nil || diff != "" {
		t.Errorf("Roles: %v (-want +got):\n%s", err, diff)
	}
}

func TestFunctionsHaveWhatTheTemplateSays(t *testing.T) {
	functions, err := template.Functions(withRole(""), values)
	want := map[string]template.Function{"F": {
		Variables: map[string]string{"BUCKET": "drops", "HOURS": "6", "BOTH": "its own", "MACHINE": "arn:aws:states:::m:1"},
		Timeout:   3 * time.Second, MemoryMB: 256, Attempts: 3,
		Queues: map[string]template.Mapping{"Drops": {BatchSize: 10, Concurrency: 6}},
	}}
	if diff := cmp.Diff(want, functions); err != nil || diff != "" {
		t.Errorf("Functions: %v (-want +got):\n%s", err, diff)
	}
	queues, err := template.Queues(withRole(""), values)
	wantQueues := map[string]template.Queue{"Drops": {Delay: 6 * time.Second, Visibility: 720 * time.Second, MaxReceives: 120}, "Dead": {}}
	if diff := cmp.Diff(wantQueues, queues); err != nil || diff != "" {
		t.Errorf("Queues: %v (-want +got):\n%s", err, diff)
	}
	defaults, err := template.Defaults(withRole(""))
	if diff := cmp.Diff(map[string]string{"Existing": "", "Hours": "6"}, defaults); err != nil || diff != "" {
		t.Errorf("Defaults: %v (-want +got):\n%s", err, diff)
	}
	for name, tt := range map[string]struct{ value, says string }{
		"an unknown reference":                                  {"!GetAtt Elsewhere.Arn", "HOURS refers to ${Elsewhere.Arn}"},
		"an unknown reference that a negated condition selects": {"!If [Elsewhere, a, !Ref Nothing]", "${Nothing}"},
		"an unknown intrinsic function":                         {"!Join ['', [a, b]]", "Fn::Join"},
		"an unknown form of condition":                          {"!If [Other, a, b]", "Other"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(string(withRole("")), "HOURS: !Ref Hours", "HOURS: "+tt.value, 1)
			if got, err := template.Functions([]byte(text), values); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("Functions = %v, %v; want an error about %s", got, err, tt.says)
			}
		})
	}
}

// Roles returns an error for a statement or a role of a form that it does not know. It does not
// skip the statement.
func TestRolesRefusesUnknownForms(t *testing.T) {
	const read = "Effect: Allow, Action: s3:GetObject, Resource: "
	for name, tt := range map[string]struct{ replaces, text, says string }{
		"a denial":                      {text: "              - {Sid: No, Effect: Deny, Action: s3:GetObject, Resource: 'arn:aws:s3:::b/*'}", says: "the statement No "},
		"a denial of another account":   {text: "              - {Sid: No, Effect: Deny, Action: s3:*, Resource: '*', Condition: {StringNotEquals: {s3:ResourceAccount: '1'}}}", says: "the statement No "},
		"a NotAction":                   {text: "              - {Sid: No, Effect: Deny, NotAction: s3:GetObject, Resource: 'arn:aws:s3:::b/*'}", says: "the statement No "},
		"every action":                  {text: "              - {Sid: No, Effect: Allow, Action: '*', Resource: 'arn:aws:s3:::b/*'}", says: "the statement No "},
		"a pattern of queue actions":    {text: "              - {Sid: No, Effect: Allow, Action: 'sqs:Send*', Resource: 'arn:aws:sqs:us-east-1:000000000000:q'}", says: "the statement No "},
		"no resource":                   {text: "              - {Sid: No, Effect: Allow, Action: s3:GetObject}", says: "the statement No "},
		"an unknown reference":          {text: "              - {Sid: No, " + read + "!GetAtt Elsewhere.Arn}", says: "Elsewhere.Arn"},
		"an unknown name in a !Sub":     {text: "              - {Sid: No, " + read + "!Sub 'arn:aws:s3:::${Elsewhere}/*'}", says: "Elsewhere"},
		"an unknown intrinsic function": {text: "              - {" + read + "!Join ['', [a, b]]}", says: "Fn::Join"},
		"an unknown form of condition":  {text: "              - {" + read + "!If [Other, 'arn:a', 'arn:b']}", says: "Other"},
		"a managed policy":              {text: "      ManagedPolicyArns: ['arn:aws:iam::aws:policy/AmazonS3FullAccess']", says: "AmazonS3FullAccess"},
		"a SAM policy":                  {replaces: "Role: !GetAtt R.Arn", text: "Role: !GetAtt R.Arn\n      Policies: [S3ReadPolicy: {BucketName: b}]", says: "F: the function has permissions from outside"},
		"a role outside the template":   {replaces: "Role: !GetAtt R.Arn", text: "Role: arn:aws:iam::000000000000:role/r", says: "F: the function has permissions from outside"},
	} {
		t.Run(name, func(t *testing.T) {
			text := withRole(tt.text)
			if tt.replaces != "" {
				text = []byte(strings.Replace(string(withRole("")), tt.replaces, tt.text, 1))
			}
			if roles, err := template.Roles(text, values); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("Roles = %v, %v; want an error about %s", roles, err, tt.says)
			}
		})
	}
}
