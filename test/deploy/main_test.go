package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
)

// CloudFormation returns a ValidationError if a stack does not exist. No other response proves that
// the stack is deleted.
func TestCheckDeleted(t *testing.T) {
	const described = `<DescribeStacksResponse><DescribeStacksResult><Stacks></Stacks></DescribeStacksResult></DescribeStacksResponse>`
	failure := func(code string) string {
		return fmt.Sprintf(`<ErrorResponse><Error><Code>%s</Code><Message>refused</Message></Error></ErrorResponse>`, code)
	}
	for name, tt := range map[string]struct {
		status  int
		body    string
		deleted bool
	}{
		"the stack does not exist": {status: 400, body: failure("ValidationError"), deleted: true},
		"the stack exists":         {status: 200, body: described},
		"no permission":            {status: 403, body: failure("AccessDenied")},
		"not XML":                  {status: 502, body: "bad gateway"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tt.status)
				fmt.Fprint(w, tt.body)
			}))
			defer server.Close()
			test := &trial{config: aws.Config{
				Region: "us-east-1", BaseEndpoint: &server.URL, RetryMaxAttempts: 1, Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""),
			}}
			if err := test.checkDeleted(t.Context()); (err == nil) != tt.deleted {
				t.Errorf("got %v, want an error: %t", err, !tt.deleted)
			}
		})
	}
}
