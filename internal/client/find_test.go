package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// stacksXML returns a response in which CloudFormation describes the named lipdrop stacks, and a
// stack of another program.
func stacksXML(names ...string) string {
	text := `<member><StackName>other</StackName><Outputs><member><OutputKey>BucketName</OutputKey><OutputValue>x</OutputValue></member></Outputs></member>`
	for _, name := range names {
		text += "<member><StackName>" + name + "</StackName><Outputs>"
		for _, output := range []string{"BucketName", "StateMachineArn", "TokenSecretArn"} {
			text += fmt.Sprintf("<member><OutputKey>%s</OutputKey><OutputValue>%s-of-%s</OutputValue></member>", output, output, name)
		}
		text += "</Outputs></member>"
	}
	return "<DescribeStacksResponse><DescribeStacksResult><Stacks>" + text + "</Stacks></DescribeStacksResult></DescribeStacksResponse>"
}

func TestFind(t *testing.T) {
	failure := func(code string) string {
		return "<ErrorResponse><Error><Code>" + code + "</Code><Message>Refused.</Message></Error></ErrorResponse>"
	}
	var usage *UsageError
	var none *NoStackError
	var credentials *CredentialsError
	var denied *DeniedError
	var refused *ServiceError
	for _, tt := range []struct {
		name     string
		target   Target
		env      map[string]string
		status   int
		response string
		bucket   string
		err      string
		kind     any
	}{
		{name: "the only stack of the region", response: stacksXML("one"), bucket: "BucketName-of-one"},
		{name: "a stack that LIPDROP_STACK names", env: map[string]string{"LIPDROP_STACK": "two"}, status: 400, response: failure("ValidationError"), err: "there is no stack two in eu-west-1", kind: &none},
		{name: "several stacks", response: stacksXML("one", "two"), err: "there are several lipdrop stacks in eu-west-1: one, two. Name one with --stack", kind: &usage},
		{name: "no stack", response: stacksXML(), err: "there is no lipdrop stack in eu-west-1. Name another region or account with --region or --profile. Or start a local stack with: lipdrop local.", kind: &none},
		{name: "no stack in a region that is named", target: Target{Region: "us-east-1"}, response: stacksXML(), err: "there is no lipdrop stack in us-east-1. Name another region or account with --region or --profile.", kind: &none},
		{name: "the stack of another program", target: Target{Stack: "other"}, response: stacksXML(), err: "the stack other lacks an output", kind: &none},
		{name: "a stack that does not exist", target: Target{Stack: "gone"}, status: 400, response: failure("ValidationError"), err: "there is no stack gone in eu-west-1. Check the stack's name", kind: &none},
		{name: "a region that is named", target: Target{Region: "us-east-1"}, response: stacksXML("one", "two"), err: "there are several lipdrop stacks in us-east-1", kind: &usage},
		{name: "a region with a space", target: Target{Region: "bad region"}, kind: &usage, err: `"bad region" is not an AWS region. Name a region such as eu-west-1 with --region`},
		{name: "no permission", status: 403, response: failure("AccessDenied"), kind: &denied,
			err: "you are not allowed to find the stack: your credentials lack the permission cloudformation:DescribeStacks. Ask the owner of the account for this permission"},
		{name: "expired credentials", status: 403, response: failure("ExpiredToken"), err: "AWS refuses the credentials: ExpiredToken: Refused. Run aws configure", kind: &credentials},
		{name: "a wrong clock", status: 403, response: failure("RequestTimeTooSkewed"), err: "cannot find the stack: AWS responded RequestTimeTooSkewed: Refused.", kind: &refused},
		{name: "no credentials and no local stack", env: map[string]string{"AWS_ACCESS_KEY_ID": ""}, kind: &none,
			err: "there is no local stack in .lipdrop, and there are no AWS credentials. Start the local stack with: lipdrop local. To use a stack on AWS, run aws configure"},
		{name: "no region and no local stack", env: map[string]string{"AWS_REGION": ""}, kind: &none, err: "there is no local stack in .lipdrop, and no AWS region is set"},
		{name: "no credentials for a stack that is named", target: Target{Stack: "one"}, env: map[string]string{"AWS_ACCESS_KEY_ID": ""}, kind: &credentials, err: "there are no AWS credentials. Run aws configure"},
		{name: "a profile that does not exist", target: Target{Stack: "one", Profile: "gone"}, kind: &credentials, err: "failed to get shared config profile, gone. Run aws configure"},
		{name: "a folder without a local stack", target: Target{Dir: "gone"}, response: stacksXML("one"), kind: &none, err: "there is no local stack in gone. Start the local stack with: lipdrop local --dir gone."},
		{name: "a file in place of a folder", target: Target{Dir: os.DevNull}, kind: &none, err: "there is no local stack in /dev/null. Start the local stack with"},
		{name: "a folder and a stack", target: Target{Dir: "gone", Stack: "one"}, kind: &usage, err: "--stack names a stack on AWS and --dir a local one"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if tt.status != 0 {
					w.WriteHeader(tt.status)
				}
				fmt.Fprint(w, tt.response)
			}))
			t.Cleanup(server.Close)
			t.Chdir(t.TempDir())
			missing := filepath.Join(t.TempDir(), "none")
			for name, value := range map[string]string{
				"AWS_ENDPOINT_URL": server.URL, "AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "", "AWS_EC2_METADATA_DISABLED": "true", "AWS_PROFILE": "", "LIPDROP_STACK": "",
				"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "", "AWS_CONFIG_FILE": missing, "AWS_SHARED_CREDENTIALS_FILE": missing,
			} {
				if changed, ok := tt.env[name]; ok {
					value = changed
				}
				t.Setenv(name, value)
			}
			c, err := tt.target.Find(t.Context())
			switch {
			case tt.err == "" && (err != nil || c.Bucket.Name != tt.bucket || c.Local()):
				t.Errorf("got %+v and error %v, want the bucket %s on AWS", c, err, tt.bucket)
			case tt.err != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.err) || !errors.As(err, tt.kind)):
				t.Errorf("got %T %v, want %v with the beginning %q", err, err, reflect.TypeOf(tt.kind).Elem(), tt.err)
			}
		})
	}
}

// If Find is interrupted, its error does not say that the local stack is not running.
func TestFindInterrupted(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ports.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	if _, err := (Target{Dir: dir}).Find(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want context.Canceled", err)
	}
}
