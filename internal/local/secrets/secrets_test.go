package secrets_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"github.com/lipdrop/lipdrop/internal/local/secrets"
)

const arn = "arn:aws:secretsmanager:us-east-1:000000000000:secret:runcomfy-token-a1B2c3"

func TestGetSecretValue(t *testing.T) {
	var s secrets.Server
	server := httptest.NewServer(&s)
	defer server.Close()
	client := secretsmanager.NewFromConfig(aws.Config{
		Region: "us-east-1", BaseEndpoint: &server.URL,
		Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""),
	})
	get := func(id string) (*secretsmanager.GetSecretValueOutput, error) {
		return client.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: &id})
	}
	expectAbsent := func(id, part string) {
		t.Helper()
		_, err := get(id)
		var absent *types.ResourceNotFoundException
		if !errors.As(err, &absent) || !strings.Contains(absent.ErrorMessage(), part) {
			t.Errorf("GetSecretValue(%s) = %v, want a ResourceNotFoundException with %q", id, err, part)
		}
	}
	expectAbsent(arn, "specified secret.")
	s.Set(arn, "")
	expectAbsent(arn, "AWSCURRENT")
	for _, value := range []string{"first", "rotated"} {
		s.Set(arn, value)
		out, err := get(arn)
		if err != nil {
			t.Fatal(err)
		}
		if aws.ToString(out.SecretString) != value || aws.ToString(out.ARN) != arn {
			t.Errorf("GetSecretValue() = %q of %s", aws.ToString(out.SecretString), aws.ToString(out.ARN))
		}
	}
	expectAbsent(arn+"x", "specified secret.")
}

func TestRefusesTheRest(t *testing.T) {
	for name, row := range map[string]struct{ target, body, want string }{
		"another operation": {"secretsmanager.PutSecretValue", "{}", "UnknownOperationException"},
		"another version":   {"secretsmanager.GetSecretValue", `{"SecretId":"a","VersionStage":"AWSPREVIOUS"}`, "SerializationException"},
		"not JSON":          {"secretsmanager.GetSecretValue", "<xml>", "SerializationException"},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(row.body))
			r.Header.Set("X-Amz-Target", row.target)
			w := httptest.NewRecorder()
			new(secrets.Server).ServeHTTP(w, r)
			if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), row.want) {
				t.Errorf("%d %s, want %s", w.Code, w.Body, row.want)
			}
		})
	}
}
