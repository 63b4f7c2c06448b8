package access_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/local/access"
	"github.com/lipdrop/lipdrop/internal/local/awsjson"
	"github.com/lipdrop/lipdrop/internal/template"
)

func TestHosts(t *testing.T) {
	server := access.Loopback("host.docker.internal").Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for _, tt := range []struct {
		name, host, origin string
		want               int
	}{
		{"an address with a port", "127.0.0.1:4566", "", 200},
		{"an address without a port", "127.0.0.1", "", 200},
		{"the name of this machine", "LocalHost:4566", "", 200},
		{"the name that containers use", "host.docker.internal:4566", "", 200},
		{"a page of this machine", "127.0.0.1:4566", "http://127.0.0.1:8080", 200},
		{"a foreign name that leads to this machine", "evil.example:4566", "", 403},
		{"a foreign name that begins with an address of this machine", "127.0.0.1.evil.example", "", 403},
		{"a foreign name that ends with localhost", "evil-localhost:4566", "", 403},
		{"a loopback address that is not allowed", "127.0.0.2:4566", "", 403},
		{"no host", "", "", 403},
		{"a foreign page", "127.0.0.1:4566", "https://evil.example", 403},
		{"a page whose origin is null", "127.0.0.1:4566", "null", 403},
		{"a foreign page with this machine's address before an @", "127.0.0.1:4566", "https://127.0.0.1@evil.example", 403},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.Host = tt.host
			if tt.origin != "" {
				r.Header.Set("Origin", tt.origin)
			}
			w := httptest.NewRecorder()
			server.ServeHTTP(w, r)
			if w.Code != tt.want {
				t.Errorf("HTTP %d, want %d", w.Code, tt.want)
			}
		})
	}
}

func TestBelow(t *testing.T) {
	seen := ""
	server := access.Below("s3cret", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen = r.URL.Path }))
	for path, want := range map[string]int{
		"/s3cret/next": 200, "/s3cret/": 200, "/next": 404, "/": 404, "/s3cre/next": 404, "/s3crets/next": 404, "/x/../s3cret/next": 307,
	} {
		w := httptest.NewRecorder()
		seen = ""
		server.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, nil))
		if w.Code != want || want != 200 && seen != "" || want == 200 && seen != strings.TrimPrefix(path, "/s3cret") {
			t.Errorf("%s: HTTP %d, path %q for the handler; want HTTP %d and, if 200, the path without /s3cret", path, w.Code, seen, want)
		}
	}
}

// signed starts a server that serves only signed requests. It returns the URL of the server and a
// pointer to the number of requests that the server has served.
func signed(t *testing.T, now func() time.Time) (url string, served *int) {
	t.Helper()
	served = new(int)
	s := &access.Signatures{Keys: map[string]string{"person": "right"}, Region: "us-east-1", Now: now}
	serve := func(body []byte) (any, error) {
		*served++
		if !bytes.HasPrefix(body, []byte("{")) {
			t.Errorf("the operation receives the body %q, want a JSON object", body)
		}
		return struct{}{}, nil
	}
	server := httptest.NewServer(awsjson.Operations{
		"AWSStepFunctions.StartExecution": serve, "AWSStepFunctions.StopExecution": serve, "AmazonSQS.ChangeMessageVisibility": serve,
		"AWSEvents.PutEvents": serve, "secretsmanager.GetSecretValue": serve, "": serve, // "" is a request without X-Amz-Target
	}.Handler(s.Check))
	t.Cleanup(server.Close)
	return server.URL, served
}

func TestSignaturesOfTheSDK(t *testing.T) {
	calls := map[string]func(aws.Config) error{
		"Step Functions": func(c aws.Config) error {
			_, err := sfn.NewFromConfig(c).StartExecution(t.Context(), &sfn.StartExecutionInput{
				StateMachineArn: aws.String("arn:aws:states:us-east-1:000000000000:stateMachine:m"), Input: aws.String(`{"name": "ü 1"}`),
			})
			return err
		},
		"SQS": func(c aws.Config) error {
			_, err := sqs.NewFromConfig(c).ChangeMessageVisibility(t.Context(), &sqs.ChangeMessageVisibilityInput{QueueUrl: aws.String("q"), ReceiptHandle: aws.String("r")})
			return err
		},
		"EventBridge": func(c aws.Config) error {
			_, err := eventbridge.NewFromConfig(c).PutEvents(t.Context(), &eventbridge.PutEventsInput{Entries: []types.PutEventsRequestEntry{{Detail: aws.String("{}")}}})
			return err
		},
		"Secrets Manager": func(c aws.Config) error {
			_, err := secretsmanager.NewFromConfig(c).GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String("token")})
			return err
		},
	}
	for service, call := range calls {
		for _, tt := range []struct {
			name, access, secret, region string
			skew                         time.Duration
			code                         string
		}{
			{"the right key", "person", "right", "us-east-1", 0, ""},
			{"a clock that is a little off", "person", "right", "us-east-1", 14 * time.Minute, ""},
			{"a wrong secret", "person", "wrong", "us-east-1", 0, "InvalidSignatureException"},
			{"an unknown access key", "nobody", "right", "us-east-1", 0, "UnrecognizedClientException"},
			{"another region", "person", "right", "eu-west-1", 0, "InvalidSignatureException"},
			{"a signature of yesterday", "person", "right", "us-east-1", 24 * time.Hour, "InvalidSignatureException"},
			{"a signature of tomorrow", "person", "right", "us-east-1", -24 * time.Hour, "InvalidSignatureException"},
		} {
			t.Run(service+": "+tt.name, func(t *testing.T) {
				url, served := signed(t, func() time.Time { return time.Now().Add(tt.skew) })
				err := call(aws.Config{
					Region: tt.region, BaseEndpoint: &url, RetryMaxAttempts: 1,
					Credentials: credentials.NewStaticCredentialsProvider(tt.access, tt.secret, ""),
				})
				if tt.code == "" {
					if err != nil || *served != 1 {
						t.Errorf("error %v, served %d times; want no error, served once", err, *served)
					}
					return
				}
				refused, ok := errors.AsType[smithy.APIError](err)
				if !ok || refused.ErrorCode() != tt.code || *served != 0 {
					t.Errorf("error %v, served %d times; want %s, not served", err, *served, tt.code)
				}
			})
		}
	}
}

// A signed request that somebody changes and sends again is refused.
func TestChangedRequestsAreRefused(t *testing.T) {
	var original *http.Request
	url, served := signed(t, time.Now)
	client := sfn.New(sfn.Options{
		Region: "us-east-1", BaseEndpoint: &url, Credentials: credentials.NewStaticCredentialsProvider("person", "right", ""),
		HTTPClient: doer(func(r *http.Request) (*http.Response, error) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return nil, err
			}
			original = r.Clone(t.Context())
			r.Body = io.NopCloser(bytes.NewReader(body))
			return http.DefaultTransport.RoundTrip(r)
		}),
	})
	if _, err := client.StopExecution(t.Context(), &sfn.StopExecutionInput{ExecutionArn: aws.String("a")}); err != nil {
		t.Fatal(err)
	}
	const body = `{"executionArn":"a"}`
	for _, tt := range []struct {
		name   string
		body   string
		change func(*http.Request)
		want   int
	}{
		{"nothing", body, func(*http.Request) {}, 200},
		{"the body", `{"executionArn":"b"}`, func(*http.Request) {}, 400},
		{"the operation", body, func(r *http.Request) { r.Header.Set("X-Amz-Target", "AWSStepFunctions.StartExecution") }, 400},
		{"the service", body, func(r *http.Request) { r.Header.Set("X-Amz-Target", "secretsmanager.GetSecretValue") }, 400},
		{"no operation", body, func(r *http.Request) { r.Header.Del("X-Amz-Target") }, 400},
		{"the host", body, func(r *http.Request) { r.Host = "localhost" }, 400},
		{"the path", body, func(r *http.Request) { r.URL.Path = "/other" }, 400},
		{"the query", body, func(r *http.Request) { r.URL.RawQuery = "a=b" }, 400},
		{"the time", body, func(r *http.Request) {
			r.Header.Set("X-Amz-Date", time.Now().UTC().Add(time.Minute).Format("20060102T150405Z"))
		}, 400},
		{"no signature", body, func(r *http.Request) { r.Header.Del("Authorization") }, 400},
		{"another kind of authorization", body, func(r *http.Request) { r.Header.Set("Authorization", "Bearer right") }, 400},
		{"fewer signed headers", body, func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), ";x-amz-target", "", 1))
		}, 400},
	} {
		t.Run(tt.name, func(t *testing.T) {
			*served = 0
			r := original.Clone(t.Context())
			tt.change(r)
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(tt.body)), int64(len(tt.body))
			res, err := http.DefaultTransport.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = res.Body.Close() }()
			if res.StatusCode != tt.want || *served != map[int]int{200: 1, 400: 0}[tt.want] {
				t.Errorf("HTTP %d and served %d times; want HTTP %d, and served only with HTTP 200", res.StatusCode, *served, tt.want)
			}
		})
	}
}

// A signature that does not include the operation would be valid for every operation, so Check
// refuses the request.
func TestSignatureWithoutTheOperation(t *testing.T) {
	url, served := signed(t, time.Now)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("{}"))
	keys := aws.Credentials{AccessKeyID: "person", SecretAccessKey: "right"}
	if err := v4.NewSigner().SignHTTP(t.Context(), keys, r, hex.EncodeToString(sum[:]), "states", "us-east-1", time.Now()); err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Amz-Target", "AWSStepFunctions.StopExecution")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != 400 || *served != 0 {
		t.Errorf("HTTP %d and served %d times; want HTTP 400, not served", res.StatusCode, *served)
	}
}

type doer func(*http.Request) (*http.Response, error)

func (d doer) Do(r *http.Request) (*http.Response, error) { return d(r) }

func TestGuard(t *testing.T) {
	const machine, other = "arn:aws:states:us-east-1:000000000000:stateMachine:m", "arn:aws:states:us-east-1:000000000000:stateMachine:other"
	const execution = "arn:aws:states:us-east-1:000000000000:execution:m:"
	users := map[string]template.Role{"f": {
		{Action: []string{"states:StartExecution"}, Resource: []string{machine}},
		{Action: []string{"events:PutEvents"}, Resource: []string{"arn:aws:events:us-east-1:000000000000:event-bus/default"}, Condition: map[string]map[string]template.OneOrMany{"StringEquals": {"events:source": {"own"}}}},
		{Action: []string{"sqs:SendMessage"}, Resource: []string{"arn:aws:sqs:us-east-1:000000000000:q"}},
		{Action: []string{"states:DescribeExecution"}, Resource: []string{execution + "*"}},
		{Action: []string{"secretsmanager:GetSecretValue"}, Resource: []string{"secret-*"}, Condition: map[string]map[string]template.OneOrMany{"Bool": {"any": {"true"}}}},
	}}
	var denied []string
	served := func([]byte) (any, error) { return struct{}{}, nil }
	server := httptest.NewServer(awsjson.Operations{
		"AWSStepFunctions.StartExecution": served, "AWSStepFunctions.DescribeExecution": served, "AmazonSQS.SendMessage": served,
		"AWSEvents.PutEvents": served, "secretsmanager.GetSecretValue": served,
	}.Handler(access.Guard(users, func(d *access.Denial) { denied = append(denied, d.Error()) })))
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
		denied     string // the action and the resource, as in the text of the denial
	}{
		{"what the role allows", "f", start(machine), ""},
		{"what a pattern allows", "f", describe(execution + "1"), ""},
		{"a resource that the role does not allow", "f", start(other), "states:StartExecution on " + other},
		{"an action that the role allows only on other resources", "f", describe(machine), "states:DescribeExecution on " + machine},
		{"an action that the role allows only under a condition of an unknown form", "f", secret, "secretsmanager:GetSecretValue on secret-1"},
		{"the queue that the role allows", "f", send("https://127.0.0.1:1/000000000000/q"), ""},
		{"a queue that the role does not allow", "f", send("https://127.0.0.1:1/000000000000/q2"), "sqs:SendMessage on arn:aws:sqs:us-east-1:000000000000:q2"},
		{"a queue URL without an account", "f", send("q"), "sqs:SendMessage on an unknown resource"},
		{"an event with the source that the role allows", "f", notify("own"), ""},
		{"an event with another source", "f", notify("other"), "events:PutEvents on arn:aws:events:us-east-1:000000000000:event-bus/default"},
		{"two events, one of them with another source", "f", notify("own", "other"), "events:PutEvents on arn:aws:events:us-east-1:000000000000:event-bus/default"},
		{"a user without a role", "root", start(other), ""},
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
			if !ok || refused.ErrorCode() != "AccessDeniedException" || !strings.HasPrefix(refused.ErrorMessage(), tt.user+" may not "+tt.denied+": ") {
				t.Fatalf("error %v, want AccessDeniedException: %s may not %s", err, tt.user, tt.denied)
			}
			if diff := cmp.Diff([]string{refused.ErrorMessage()}, denied); diff != "" {
				t.Errorf("denied (-want +got):\n%s", diff)
			}
		})
	}
}
