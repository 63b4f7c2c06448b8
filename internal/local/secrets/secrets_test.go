package secrets_test

import (
	"errors"
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
	var s secrets.Store
	server := httptest.NewServer(s.Operations())
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
			t.Errorf("GetSecretValue() = %q of %s, want %q of %s", aws.ToString(out.SecretString), aws.ToString(out.ARN), value, arn)
		}
	}
	expectAbsent(arn+"x", "specified secret.")
}
