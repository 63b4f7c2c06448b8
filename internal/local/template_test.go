package local_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/local"
	"github.com/lipdrop/lipdrop/internal/local/access"
	"github.com/lipdrop/lipdrop/internal/local/localtest"
)

// The stack fails if a request of a function is denied, even if the function continues.
// Poll, for example, continues if it cannot read the ledger.
func TestDenialFailsTheStack(t *testing.T) {
	t.Run("by S3", func(t *testing.T) {
		s := localtest.Start(t, options(t.TempDir()))
		withoutStatement(t, s, "poll", "Ledger")
		s.DropPair("talk")
		denial := awaitDenial(t, s)
		if denial.User != "poll" || denial.Action != "s3:GetObject" {
			t.Errorf("denied: %v, want s3:GetObject for poll", denial)
		}
	})
	t.Run("by Step Functions", func(t *testing.T) {
		s := localtest.Start(t, options(t.TempDir()))
		v := s.Variables("poll", false) // not in a container
		client := sfn.New(s.StepFunctions().Options(), func(o *sfn.Options) {
			o.Credentials = credentials.NewStaticCredentialsProvider(v["AWS_ACCESS_KEY_ID"], v["AWS_SECRET_ACCESS_KEY"], "")
		})
		_, err := client.ListExecutions(t.Context(), &sfn.ListExecutionsInput{StateMachineArn: aws.String(local.MachineARN)})
		if refused, ok := errors.AsType[smithy.APIError](err); !ok || refused.ErrorCode() != "AccessDeniedException" {
			t.Errorf("poll lists executions: %v, want AccessDeniedException", err)
		}
		want := &access.Denial{User: "poll", Action: "states:ListExecutions", Resource: local.MachineARN}
		if diff := cmp.Diff(want, awaitDenial(t, s)); diff != "" {
			t.Errorf("(-want +denied):\n%s", diff)
		}
	})
}

// awaitDenial waits until the stack has failed, and returns the denial that was the reason.
func awaitDenial(t *testing.T, s *localtest.Stack) *access.Denial {
	t.Helper()
	localtest.Until(t, "the failure", func() bool { return s.Err() != nil })
	denial, ok := errors.AsType[*access.Denial](s.Err())
	if !ok {
		t.Fatalf("the stack failed with %v, want a denial", s.Err())
	}
	return denial
}

// withoutStatement removes a function's statement sid from the policy of the bucket.
func withoutStatement(t *testing.T, s *localtest.Stack, function, sid string) {
	t.Helper()
	out, err := s.S3().GetBucketPolicy(t.Context(), &s3.GetBucketPolicyInput{Bucket: aws.String(local.Bucket)})
	if err != nil {
		t.Fatal(err)
	}
	var policy struct {
		Version   string
		Statement []map[string]any
	}
	if err := json.Unmarshal([]byte(*out.Policy), &policy); err != nil {
		t.Fatal(err)
	}
	before := len(policy.Statement)
	policy.Statement = slices.DeleteFunc(policy.Statement, func(st map[string]any) bool {
		return st["Sid"] == sid && st["Principal"].(map[string]any)["AWS"] == function
	})
	if len(policy.Statement) != before-1 {
		t.Fatalf("the policy has %d statements with the Sid %s for %s, want one: %s", before-len(policy.Statement), sid, function, *out.Policy)
	}
	text, err := json.Marshal(policy)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.S3().PutBucketPolicy(t.Context(), &s3.PutBucketPolicyInput{Bucket: aws.String(local.Bucket), Policy: aws.String(string(text))}); err != nil {
		t.Fatal(err)
	}
}

// With --containers, a function in a container reaches the stack with the function's keys,
// at the host name that containers use for this machine.
func TestContainersReachTheStack(t *testing.T) {
	o := options(t.TempDir())
	o.Containers = true
	s := localtest.Start(t, o)
	for _, function := range []string{"submit", "cancel"} {
		v := s.Variables(function, true)
		config := func(service string) aws.Config {
			address := v["AWS_ENDPOINT_URL_"+service]
			if !strings.HasPrefix(address, "http://"+local.ContainerHost+":") {
				t.Fatalf("%s reaches %s at %s, want http at %s", function, service, address, local.ContainerHost)
			}
			return aws.Config{
				Region: local.Region, BaseEndpoint: &address, RetryMaxAttempts: 1,
				Credentials: credentials.NewStaticCredentialsProvider(v["AWS_ACCESS_KEY_ID"], v["AWS_SECRET_ACCESS_KEY"], ""),
				HTTPClient:  &http.Client{Transport: &http.Transport{DialContext: dialHere}},
			}
		}
		if _, err := s3.NewFromConfig(config("S3"), func(o *s3.Options) { o.UsePathStyle = true }).
			ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String(local.Bucket), Prefix: aws.String("inbox/")}); err != nil {
			t.Errorf("%s lists the inbox: %v, want no error", function, err)
		}
		if _, err := secretsmanager.NewFromConfig(config("SECRETS_MANAGER")).
			GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String(v["RUNCOMFY_TOKEN_SECRET"])}); err != nil {
			t.Errorf("%s reads the token: %v, want no error", function, err)
		}
	}
}

// dialHere connects to this machine, at the port of the given address.
func dialHere(ctx context.Context, network, address string) (net.Conn, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	return new(net.Dialer).DialContext(ctx, network, "127.0.0.1:"+port)
}
