package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
)

// stack is an AWS with one stack, lipdrop, and answers what doctor asks about
// it. The zero stack is healthy, but for its token.
type stack struct {
	token        string // the secret's text; empty: it was never set
	eventsOff    bool
	disabledRule string
	deadLetters  int
	denied       string // operation that the caller may not use
}

func (s stack) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	if operation == "" && r.Method == http.MethodPost {
		action, _, _ := strings.Cut(strings.TrimPrefix(string(body), "Action="), "&")
		operation = action
	}
	refuse := func(code, message string) {
		w.WriteHeader(http.StatusBadRequest)
		if r.Header.Get("X-Amz-Target") != "" {
			fmt.Fprintf(w, `{"__type": %q, "message": %q}`, code, message)
			return
		}
		fmt.Fprintf(w, "<ErrorResponse><Error><Code>%s</Code><Message>%s</Message></Error></ErrorResponse>", code, message)
	}
	if operation == s.denied && operation != "" {
		refuse("AccessDenied", "you are not allowed to "+operation)
		return
	}
	switch operation {
	case "DescribeStacks":
		if !bytes.Contains(body, []byte("StackName=lipdrop&")) {
			refuse("ValidationError", "Stack with id gone does not exist")
			return
		}
		fmt.Fprint(w, "<DescribeStacksResponse><DescribeStacksResult><Stacks><member><Outputs>")
		for key, value := range map[string]string{
			"BucketName": "drops", "StateMachineArn": "arn:machine", "DeadLetterQueueUrl": "http://" + r.Host + "/dead", "TokenSecretArn": "arn:secret",
			"SetToken": "aws set-token --region eu-west-1", "Redrive": "aws redrive --region eu-west-1",
		} {
			fmt.Fprintf(w, "<member><OutputKey>%s</OutputKey><OutputValue>%s</OutputValue></member>", key, value)
		}
		fmt.Fprint(w, "</Outputs></member></Stacks></DescribeStacksResult></DescribeStacksResponse>")
	case "ListStackResources":
		fmt.Fprint(w, "<ListStackResourcesResponse><ListStackResourcesResult><StackResourceSummaries>")
		for id, kind := range map[string]string{"DropRule": "AWS::Events::Rule", "Queue": "AWS::SQS::Queue"} {
			fmt.Fprintf(w, "<member><LogicalResourceId>%s</LogicalResourceId><PhysicalResourceId>lipdrop-%s</PhysicalResourceId><ResourceType>%s</ResourceType></member>", id, id, kind)
		}
		fmt.Fprint(w, "</StackResourceSummaries></ListStackResourcesResult></ListStackResourcesResponse>")
	case "DescribeRule":
		state := "ENABLED"
		if s.disabledRule != "" && bytes.Contains(body, []byte(s.disabledRule)) {
			state = "DISABLED"
		}
		fmt.Fprintf(w, `{"State": %q}`, state)
	case "GetQueueAttributes":
		fmt.Fprintf(w, `{"Attributes": {"ApproximateNumberOfMessages": "%d"}}`, s.deadLetters)
	case "GetSecretValue":
		if s.token == "" {
			refuse("ResourceNotFoundException", "Secrets Manager can't find the specified secret value")
			return
		}
		text, _ := json.Marshal(s.token)
		fmt.Fprintf(w, `{"SecretString": %s}`, text)
	default: // S3, whose only question is about the bucket's notifications
		events := "<EventBridgeConfiguration/>"
		if s.eventsOff {
			events = ""
		}
		fmt.Fprint(w, "<NotificationConfiguration>"+events+"</NotificationConfiguration>")
	}
}

const healthy = `ok     the bucket drops sends its events to EventBridge
ok     the rule DropRule is enabled
ok     the dead-letter queue is empty
ok     RunComfy accepts the token; the balance is 12.50 US dollars
ok     RunComfy has community/live-avatar as the catalogue knows it
ok     RunComfy has happyhorse/happyhorse-1.0/reference-to-video as the catalogue knows it
ok     RunComfy has sync/react-1 as the catalogue knows it
ok     RunComfy has sync/sync/lipsync/v2/pro as the catalogue knows it
`

var fine = regexp.MustCompile(`(?m)^ok     .*\n`)

// What doctor says about a stack, and its exit status.
func TestDoctor(t *testing.T) {
	models, err := catalog.Default()
	if err != nil {
		t.Fatal(err)
	}
	set := "\n       Run this, paste the token, then press Enter and Ctrl-D: aws set-token --region eu-west-1"
	unasked := "\n-      the models at RunComfy were not looked at: mend the above first"
	newer := "\n       Look for a newer lipdrop. Until then an option that is new is rejected here, and one that is gone is refused by RunComfy, without a charge."
	elsewhere := "\n       Look at the stack's name, at the account and its permissions, and at the region; --stack, --profile and --region name others."
	tests := []struct {
		name      string
		aws       stack
		change    func(schema map[string]any) // of react-1's input, as RunComfy publishes it
		withdrawn string                      // model that RunComfy does not have
		args      string
		noKeys    bool
		want      string // the lines that do not begin with ok; empty: all is well
	}{
		{name: "a healthy stack", aws: stack{token: "right"}},
		{name: "a token in JSON", aws: stack{token: `{"token": "right"}`}},
		{name: "no token", want: "WRONG  the RunComfy token is not set" + set + unasked},
		{name: "a wrong token", aws: stack{token: "wrong"},
			want: "WRONG  RunComfy does not accept the token: GET /prod/v2/balance: HTTP 401, code 400004: the API token is invalid, expired or revoked" + set + unasked},
		{name: "broken JSON in place of the token", aws: stack{token: `{"token": `},
			want: "WRONG  what is set is no RunComfy token: the token's secret begins like JSON and is none" + set + unasked},
		{name: "a secret that may not be read", aws: stack{token: "right", denied: "GetSecretValue"},
			want: "WRONG  cannot read the RunComfy token: AccessDenied: you are not allowed to GetSecretValue" + elsewhere + unasked},
		{name: "a bucket without events", aws: stack{token: "right", eventsOff: true},
			want: "WRONG  the bucket drops does not send its events to EventBridge, so no drop is seen\n" +
				"       Run this, which replaces other notifications of the bucket, and drop again what was dropped meanwhile: aws s3api put-bucket-notification-configuration" +
				` --bucket drops --notification-configuration '{"EventBridgeConfiguration": {}}' --region eu-west-1`},
		{name: "a disabled rule", aws: stack{token: "right", disabledRule: "lipdrop-DropRule"},
			want: "WRONG  the rule DropRule is disabled, so its events are lost\n" +
				"       Run this, and drop or delete again what was dropped or deleted meanwhile: aws events enable-rule --name lipdrop-DropRule --region eu-west-1"},
		{name: "dead letters", aws: stack{token: "right", deadLetters: 3},
			want: "WRONG  events of drops in the dead-letter queue, which are not tried any more: 3\n" +
				"       Mend what the statuses of these drops name, then run: aws redrive --region eu-west-1"},
		{name: "a question that is not allowed", aws: stack{token: "right", denied: "DescribeRule"},
			want: "WRONG  cannot ask whether the rule DropRule is enabled: AccessDenied: you are not allowed to DescribeRule" + elsewhere},
		{name: "a new option", aws: stack{token: "right"}, change: func(schema map[string]any) {
			schema["properties"].(map[string]any)["mood"] = map[string]any{"type": "string"}
		}, want: "WRONG  RunComfy has changed the input of sync/react-1: mood" + newer},
		{name: "an option that takes less, and one that is gone", aws: stack{token: "right"}, change: func(schema map[string]any) {
			properties := schema["properties"].(map[string]any)
			properties["emotion"].(map[string]any)["enum"] = []string{"happy"}
			delete(properties, "temperature")
		}, want: "WRONG  RunComfy has changed the input of sync/react-1: emotion, temperature" + newer},
		{name: "media that need not be there any more", aws: stack{token: "right"}, change: func(schema map[string]any) {
			schema["required"] = []string{"video_url"}
		}, want: "WRONG  RunComfy has changed the input of sync/react-1: audio_url" + newer},
		{name: "other prose and another default", aws: stack{token: "right"}, change: func(schema map[string]any) {
			schema["properties"].(map[string]any)["emotion"] = map[string]any{
				"type": "string", "enum": []string{"happy", "angry", "sad", "neutral", "disgusted", "surprised"}, "default": "happy", "description": "How to look.",
			}
		}},
		{name: "a model that is gone", aws: stack{token: "right"}, withdrawn: "sync/react-1",
			want: "WRONG  RunComfy does not have the model sync/react-1 any more\n       Use another one: its jobs are rejected, without a charge."},
		{name: "another stack", args: "--stack gone", want: "WRONG  cannot look at the stack gone: ValidationError: Stack with id gone does not exist" + elsewhere},
		{name: "no credentials", noKeys: true, want: "WRONG  cannot look at the stack lipdrop: there are no AWS credentials\n" +
			"       Run: aws configure, or aws sso login; or name a profile that has some with --profile."},
		{name: "no such profile", args: "--stack lipdrop --profile nobody", want: "WRONG  cannot look at the stack lipdrop: failed to get shared config profile, nobody\n" +
			"       Look at your profile, region and network; --profile and --region name others."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cloud := httptest.NewServer(tt.aws)
			defer cloud.Close()
			fake := &runcomfytest.Server{Token: "right", Models: map[string]json.RawMessage{}}
			for _, id := range models.IDs() {
				model, _ := models.Model(id)
				if id != tt.withdrawn {
					fake.Models[id] = model.Schema()
				}
			}
			if tt.change != nil {
				var schema map[string]any
				if err := json.Unmarshal(fake.Models["sync/react-1"], &schema); err != nil {
					t.Fatal(err)
				}
				tt.change(schema)
				fake.Models["sync/react-1"], _ = json.Marshal(schema)
			}
			api := httptest.NewServer(fake)
			defer api.Close()
			for name, value := range map[string]string{
				"AWS_ENDPOINT_URL": cloud.URL, "AWS_REGION": "eu-west-1", "AWS_EC2_METADATA_DISABLED": "true", "AWS_PROFILE": "",
				"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "",
				"AWS_CONFIG_FILE": filepath.Join(t.TempDir(), "none"), "AWS_SHARED_CREDENTIALS_FILE": filepath.Join(t.TempDir(), "none"),
			} {
				if tt.noKeys && strings.Contains(name, "KEY") {
					value = ""
				}
				t.Setenv(name, value)
			}
			if tt.args == "" {
				tt.args = "--stack lipdrop"
			}
			var out, errs bytes.Buffer
			code := run(t.Context(), append([]string{"doctor", "--runcomfy-url", api.URL}, strings.Fields(tt.args)...), &out, &errs)
			wantCode, wantErrs := 0, ""
			if tt.want != "" {
				wantCode, wantErrs = 1, "lipdrop: 1 thing to mend\n"
			}
			if code != wantCode || errs.String() != wantErrs {
				t.Errorf("status %d, errors %q; want %d, %q", code, errs.String(), wantCode, wantErrs)
			}
			got := out.String()
			if tt.want == "" {
				tt.want = healthy
			} else {
				got = strings.TrimSuffix(fine.ReplaceAllString(got, ""), "\n")
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("doctor says otherwise (-want +got):\n%s", diff)
			}
		})
	}
}
