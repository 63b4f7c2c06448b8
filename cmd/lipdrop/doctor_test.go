package main

import (
	"bytes"
	stdcmp "cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
)

// stack is a fake AWS for doctor. It has one stack, named lipdrop. The zero value is a healthy
// stack, except that its token was never set.
type stack struct {
	token        string // the secret's text; empty: it was never set
	runComfy     string // the parameter RunComfyBaseUrl
	parameters   string // other parameters, as XML
	region       string // of the bucket; the stack's if empty
	eventsOff    bool
	lost         int // how many events of the bucket do not arrive; each later drop gets an answer file at once
	disabledRule string
	deadLetters  int
	mapping      string // state of the event source mapping; Enabled if empty
	processed    string // last result of the event source mapping
	denied       string // operation that the caller may not use

	drops    int      // test files that were put
	dropped  func()   // if set, called for each test file
	answered bool     // answers/lipdrop-doctor.check.json exists
	deleted  []string // keys, in order
}

func (s *stack) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	if operation == "" && r.Method == http.MethodPost {
		operation, _, _ = strings.Cut(strings.TrimPrefix(string(body), "Action="), "&")
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
	if strings.HasSuffix(r.URL.Path, "/event-source-mappings/lipdrop-SubmitFunctionDrops") {
		fmt.Fprintf(w, `{"State": %q, "LastProcessingResult": %q}`, stdcmp.Or(s.mapping, "Enabled"), stdcmp.Or(s.processed, "No records processed"))
		return
	}
	switch operation {
	case "DescribeStacks":
		if !bytes.Contains(body, []byte("StackName=lipdrop&")) {
			refuse("ValidationError", "Stack with id gone does not exist")
			return
		}
		fmt.Fprint(w, "<DescribeStacksResponse><DescribeStacksResult><Stacks><member><StackName>lipdrop</StackName><Outputs>")
		for key, value := range map[string]string{
			"BucketName": "drops", "StateMachineArn": "arn:machine", "DeadLetterQueueUrl": "http://" + r.Host + "/dead", "TokenSecretArn": "arn:secret",
			"SetToken": "aws set-token --region eu-west-1", "Redrive": "aws redrive --region eu-west-1",
		} {
			fmt.Fprintf(w, "<member><OutputKey>%s</OutputKey><OutputValue>%s</OutputValue></member>", key, value)
		}
		fmt.Fprintf(w, "</Outputs><Parameters><member><ParameterKey>RunComfyBaseUrl</ParameterKey><ParameterValue>%s</ParameterValue></member>%s</Parameters>", s.runComfy, s.parameters)
		fmt.Fprint(w, "</member></Stacks></DescribeStacksResult></DescribeStacksResponse>")
	case "ListStackResources":
		fmt.Fprint(w, "<ListStackResourcesResponse><ListStackResourcesResult><StackResourceSummaries>")
		resources := map[string]string{"DropRule": "AWS::Events::Rule", "Queue": "AWS::SQS::Queue", "SubmitFunctionDrops": "AWS::Lambda::EventSourceMapping"}
		for _, id := range sortedKeys(resources) {
			fmt.Fprintf(w, "<member><LogicalResourceId>%s</LogicalResourceId><PhysicalResourceId>lipdrop-%s</PhysicalResourceId><ResourceType>%s</ResourceType></member>", id, id, resources[id])
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
	default:
		s.serveS3(w, r)
	}
}

// serveS3 serves the bucket "drops", the test file and its answer file.
func (s *stack) serveS3(w http.ResponseWriter, r *http.Request) {
	key := strings.TrimPrefix(r.URL.Path, "/drops/")
	switch {
	case r.Method == http.MethodHead && r.URL.Path == "/drops":
		w.Header().Set("X-Amz-Bucket-Region", "eu-west-1")
		if s.region != "" {
			w.Header().Set("X-Amz-Bucket-Region", s.region)
			w.WriteHeader(http.StatusMovedPermanently)
		}
	case r.Method == http.MethodPut && key == "inbox/lipdrop-doctor.check":
		s.drops++
		s.answered = s.drops > s.lost
		if s.dropped != nil {
			s.dropped()
		}
	case r.Method == http.MethodHead && key == "answers/lipdrop-doctor.check.json":
		if !s.answered {
			w.WriteHeader(http.StatusNotFound)
		}
	case r.Method == http.MethodDelete:
		s.deleted = append(s.deleted, key)
		w.WriteHeader(http.StatusNoContent)
	default:
		events := "<EventBridgeConfiguration/>"
		if s.eventsOff {
			events = ""
		}
		fmt.Fprint(w, "<NotificationConfiguration>"+events+"</NotificationConfiguration>")
	}
}

// healthy returns what doctor says about a stack without a fault.
func healthy(models *catalog.Catalog) string {
	text := `ok     the bucket "drops" is in the stack's region, eu-west-1
ok     the bucket "drops" sends its events to EventBridge
ok     the rule DropRule is enabled
ok     the event source mapping SubmitFunctionDrops is enabled
ok     the dead-letter queue is empty
ok     RunComfy accepts the token; the balance is 12.50 US dollars
`
	for _, id := range models.IDs() {
		text += "ok     the input of " + id + " is the same at RunComfy and in the catalogue\n"
	}
	return text
}

var okLines = regexp.MustCompile(`(?m)^ok     .*\n`)

func TestDoctor(t *testing.T) {
	models, err := catalog.Default()
	if err != nil {
		t.Fatal(err)
	}
	setToken := "\n       1. Run this command, which then waits for the token: aws set-token --region eu-west-1" +
		"\n       2. Paste the token, press Enter, then press Ctrl-D."
	modelsUnchecked := "\n-      the models at RunComfy were not checked: fix the above first"
	installNewer := "\n       Install a newer lipdrop. Until then lipdrop rejects jobs with a new option, and RunComfy refuses jobs with a removed option. These jobs are not charged."
	askForPermission := "\n       Ask the owner of the account for this permission, or name other credentials with --profile."
	tests := []struct {
		name        string
		aws         stack
		change      func(schema map[string]any) // of react-1's input, as RunComfy publishes it
		withdrawn   string                      // model that RunComfy does not have
		undescribed string                      // model whose input RunComfy does not describe
		secrets     string                      // if set, another address for Secrets Manager
		args        string
		noKeys      bool
		want        string // the lines that do not begin with ok; empty: all is well
	}{
		{name: "a healthy stack", aws: stack{token: "right"}},
		{name: "a token in JSON", aws: stack{token: `{"token": "right"}`}},
		{name: "no token", want: "WRONG  the RunComfy token is not set" + setToken + modelsUnchecked},
		{name: "a wrong token", aws: stack{token: "wrong"},
			want: "WRONG  RunComfy does not accept the token: GET /prod/v2/balance: HTTP 401, code 400004: the API token is invalid, expired or revoked" + setToken + modelsUnchecked},
		{name: "broken JSON in place of the token", aws: stack{token: `{"token": `},
			want: `WRONG  the secret does not hold a RunComfy token: the token's secret looks like JSON but does not parse as {"token": "…"}` + setToken + modelsUnchecked},
		{name: "a secret that may not be read", aws: stack{token: "right", denied: "GetSecretValue"},
			want: "WRONG  cannot read the RunComfy token: your credentials lack the permission secretsmanager:GetSecretValue" + askForPermission + modelsUnchecked},
		{name: "Secrets Manager cannot be reached", aws: stack{token: "right"}, secrets: "http://127.0.0.1:1",
			want: `WRONG  cannot read the RunComfy token: Post "http://127.0.0.1:1/": dial tcp 127.0.0.1:1: connect: connection refused. Check your network and the region` +
				"\n       Check your profile, region and network. Name others with --profile and --region." + modelsUnchecked},
		{name: "a bucket without events", aws: stack{token: "right", eventsOff: true},
			want: "WRONG  the bucket \"drops\" does not send its events to EventBridge, so the stack sees no drop\n" +
				"       Switch the events on, then drop again the files that got no status. This command switches them on and replaces the bucket's other notifications: aws s3api put-bucket-notification-configuration" +
				` --bucket drops --notification-configuration '{"EventBridgeConfiguration": {}}' --region eu-west-1`},
		{name: "a disabled rule", aws: stack{token: "right", disabledRule: "lipdrop-DropRule"},
			want: "WRONG  the rule DropRule is disabled, so its events are lost\n" +
				"       Enable the rule, then repeat the drops and deletions that were made while it was disabled. This command enables the rule: aws events enable-rule --name lipdrop-DropRule --region eu-west-1"},
		{name: "a disabled event source mapping", aws: stack{token: "right", mapping: "Disabled"},
			want: "WRONG  the event source mapping SubmitFunctionDrops is in the state Disabled, so Lambda does not read its queue\n" +
				"       Run: aws lambda update-event-source-mapping --enabled --uuid lipdrop-SubmitFunctionDrops --region eu-west-1"},
		{name: "an event source mapping that is not enabled yet", aws: stack{token: "right", mapping: "Enabling"},
			want: "-      the event source mapping SubmitFunctionDrops was not checked: its state is Enabling"},
		{name: "an event source mapping whose calls fail", aws: stack{token: "right", processed: "PROBLEM: Function call failed"},
			want: "WRONG  the event source mapping SubmitFunctionDrops reports: PROBLEM: Function call failed\n" +
				"       Fix what this message names, then check again. If it names the function, read the log and the errors of that function."},
		{name: "a bucket in another region", aws: stack{token: "right", region: "us-east-1"},
			want: "WRONG  the bucket \"drops\" is in us-east-1 and the stack is in eu-west-1, so the stack sees no drop\n" +
				"       Deploy the stack in us-east-1; or set the parameter ExistingBucket to a bucket in eu-west-1."},
		{name: "dead letters", aws: stack{token: "right", deadLetters: 3},
			want: "WRONG  the dead-letter queue has messages (3): drops and deletions that are no longer retried\n" +
				"       If jobs are held, fix the causes that their statuses give. If no job is held, read the logs and the errors of the stack's SubmitFunction and CancelFunction. Then run: aws redrive --region eu-west-1"},
		{name: "rules that may not be read", aws: stack{token: "right", denied: "DescribeRule"},
			want: "WRONG  cannot ask whether the rule DropRule is enabled: your credentials lack the permission events:DescribeRule" + askForPermission},
		{name: "a new option", aws: stack{token: "right"}, change: func(schema map[string]any) {
			schema["properties"].(map[string]any)["mood"] = map[string]any{"type": "string"}
		}, want: "WRONG  RunComfy has changed the input of sync/react-1: mood" + installNewer},
		{name: "an option that accepts fewer values, and one that is gone", aws: stack{token: "right"}, change: func(schema map[string]any) {
			properties := schema["properties"].(map[string]any)
			properties["emotion"].(map[string]any)["enum"] = []string{"happy"}
			delete(properties, "temperature")
		}, want: "WRONG  RunComfy has changed the input of sync/react-1: emotion, temperature" + installNewer},
		{name: "media that are no longer required", aws: stack{token: "right"}, change: func(schema map[string]any) {
			schema["required"] = []string{"video_url"}
		}, want: "WRONG  RunComfy has changed the input of sync/react-1: audio_url" + installNewer},
		{name: "another description and another default", aws: stack{token: "right"}, change: func(schema map[string]any) {
			schema["properties"].(map[string]any)["emotion"] = map[string]any{
				"type": "string", "enum": []string{"happy", "angry", "sad", "neutral", "disgusted", "surprised"}, "default": "happy", "description": "How to look.",
			}
		}},
		{name: "the same values in another order", aws: stack{token: "right"}, change: func(schema map[string]any) {
			schema["properties"].(map[string]any)["emotion"].(map[string]any)["enum"] = []string{"surprised", "disgusted", "neutral", "sad", "angry", "happy"}
			schema["required"] = []string{"audio_url", "video_url"}
		}},
		{name: "a model that is gone", aws: stack{token: "right"}, withdrawn: "sync/react-1",
			want: "WRONG  RunComfy no longer has the model sync/react-1\n       Use another model. RunComfy refuses jobs of this model; they are not charged."},
		{name: "a model that RunComfy does not describe", aws: stack{token: "right"}, undescribed: "sync/react-1",
			want: "-      the input of sync/react-1 was not compared: RunComfy's response does not describe it"},
		{name: "a stack that does not exist", args: "--stack gone", want: "WRONG  there is no stack gone in eu-west-1\n       Check the stack's name, or select another region or account with --region or --profile."},
		{name: "no credentials", noKeys: true, want: "WRONG  cannot find the stack: there are no AWS credentials\n" +
			"       Run aws configure or aws sso login, or name another profile or region with --profile or --region."},
		{name: "no such profile", args: "--stack lipdrop --profile nobody", want: "WRONG  cannot find the stack: failed to get shared config profile, nobody\n" +
			"       Run aws configure or aws sso login, or name another profile or region with --profile or --region."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cloud := httptest.NewServer(&tt.aws)
			defer cloud.Close()
			fake := &runcomfytest.Server{Token: "right", Models: map[string]json.RawMessage{}}
			for _, id := range models.IDs() {
				model, _ := models.Model(id)
				fake.Models[id] = model.Schema()
			}
			delete(fake.Models, tt.withdrawn)
			if tt.undescribed != "" {
				fake.Models[tt.undescribed] = json.RawMessage("null")
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
			tt.aws.runComfy = api.URL
			onAWS(t, cloud.URL)
			t.Setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", tt.secrets)
			t.Setenv("AWS_MAX_ATTEMPTS", "1")
			if tt.noKeys {
				t.Setenv("AWS_ACCESS_KEY_ID", "")
			}
			code, wantErrs := 0, ""
			if strings.Contains(tt.want, "WRONG") {
				code, wantErrs = exitFailed, "lipdrop: 1 thing to fix\n"
			}
			if tt.noKeys || strings.Contains(tt.args, "--profile") {
				code = exitCredentials
			}
			got, errs := command(t, code, append([]string{"doctor"}, strings.Fields(stdcmp.Or(tt.args, "--stack lipdrop"))...)...)
			if errs != wantErrs {
				t.Errorf("errors %q, want %q", errs, wantErrs)
			}
			if tt.want == "" {
				tt.want = healthy(models)
			} else {
				got = strings.TrimSuffix(okLines.ReplaceAllString(got, ""), "\n")
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("doctor printed (-want +got):\n%s", diff)
			}
		})
	}
}

// A model that RunComfy no longer has does not hide the prices of the others.
func TestModelsShowsAWithdrawnModel(t *testing.T) {
	cloud := &stack{token: "right"}
	aws, api := httptest.NewServer(cloud), httptest.NewServer(&runcomfytest.Server{Models: map[string]json.RawMessage{"sync/sync/lipsync/v2/pro": nil}})
	defer aws.Close()
	defer api.Close()
	cloud.runComfy = api.URL
	onAWS(t, aws.URL)
	got, _ := command(t, 0, "models", "--live", "--stack", "lipdrop")
	for _, want := range []string{`sync/react-1 +RunComfy no longer has this model`, `sync/sync/lipsync/v2/pro +\$0\.`} {
		if !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("models --live printed:\n%swant %s", got, want)
		}
	}
	got, _ = command(t, 0, "models", "sync/react-1", "--live", "--json", "--stack", "lipdrop")
	if !strings.Contains(got, `"removed":true`) {
		t.Errorf("models --live --json printed:\n%swant removed", got)
	}
}

// A profile with a space is one word of the printed commands.
func TestDoctorQuotesTheProfile(t *testing.T) {
	d := &doctor{Client: &client.Client{Config: aws.Config{Region: "eu-west-1"}}, profile: "my work"}
	if got, want := d.command("aws redrive"), "aws redrive --region eu-west-1 --profile 'my work'"; got != want {
		t.Errorf("command returned %q, want %q", got, want)
	}
}

// With --drop, doctor drops the test file again and again until it gets an answer file, because
// the first events of a bucket may not arrive.
func TestDoctorDropsATestFile(t *testing.T) {
	const answered = "ok     the test file lipdrop-doctor.check got an answer file, so drops arrive\n"
	const unanswered = "WRONG  the test file lipdrop-doctor.check got no answer file within 0s\n" +
		"       A bucket's events begin about five minutes after EventBridge was switched on; check again then. " +
		"If the answer file is still missing, read the log and the errors of the stack's SubmitFunction.\n"
	both := []string{"answers/lipdrop-doctor.check.json", "inbox/lipdrop-doctor.check"} // doctor first deletes the answer file of an earlier check
	for _, tt := range []struct {
		name      string
		aws       stack
		args      string
		interrupt bool   // after the first drop
		want      string // a part of what doctor says
		drops     int
		deleted   []string
	}{
		{name: "the first event arrives", want: answered, drops: 1, deleted: both},
		{name: "the first two events do not arrive", aws: stack{lost: 2}, want: answered, drops: 3, deleted: both},
		{name: "no event arrives", aws: stack{lost: 1000}, args: "--wait 0s", want: unanswered, drops: 1, deleted: both},
		{name: "interrupted", aws: stack{lost: 1000}, args: "--every 1h", interrupt: true, drops: 1, deleted: both},
		{name: "the bucket sends no events", aws: stack{eventsOff: true}, want: "-      the test file was not dropped: fix the above first\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cloud := httptest.NewServer(&tt.aws)
			defer cloud.Close()
			onAWS(t, cloud.URL)
			ctx, interrupt := context.WithCancel(t.Context())
			defer interrupt()
			if tt.interrupt {
				tt.aws.dropped = interrupt
			}
			var out, errs bytes.Buffer
			code := run(ctx, append([]string{"doctor", "--stack", "lipdrop", "--drop", "--every", "0s"}, strings.Fields(tt.args)...), &out, &errs)
			if !strings.Contains(out.String(), tt.want) || tt.aws.drops != tt.drops {
				t.Errorf("%d test files, want %d; doctor says:\n%swant:\n%s", tt.aws.drops, tt.drops, out.String(), tt.want)
			}
			if diff := cmp.Diff(tt.deleted, tt.aws.deleted); diff != "" {
				t.Errorf("deleted (-want +got):\n%s", diff)
			}
			if tt.interrupt && (code != exitInterrupted || strings.Contains(out.String(), "WRONG") || errs.String() != "lipdrop: interrupted\n") {
				t.Errorf("exit code %d, want %d; want no WRONG, and only the error \"lipdrop: interrupted\"; printed:\n%s%s", code, exitInterrupted, &out, &errs)
			}
		})
	}
}

// onAWS makes the command use a fake AWS, and none of this machine's settings.
func onAWS(t *testing.T, url string) {
	t.Helper()
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": url, "AWS_REGION": "eu-west-1", "AWS_EC2_METADATA_DISABLED": "true", "AWS_PROFILE": "",
		"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "",
		"AWS_CONFIG_FILE": filepath.Join(t.TempDir(), "none"), "AWS_SHARED_CREDENTIALS_FILE": filepath.Join(t.TempDir(), "none"),
	} {
		t.Setenv(name, value)
	}
}
