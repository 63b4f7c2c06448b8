package secrets_test

import (
	"errors"
	"net/http/httptest"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"github.com/lipdrop/lipdrop/internal/local/secrets"
)

const arn = "arn:aws:secretsmanager:us-east-1:000000000000:secret:runcomfy-token-a1B2c3"

func TestGetSecretValue(t *testing.T) {
	server := httptest.NewServer(secrets.Operations(arn, "the token").Handler())
	defer server.Close()
	client := secretsmanager.NewFromConfig(aws.Config{
		Region: "us-east-1", BaseEndpoint: &server.URL,
		Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""),
	})
	get := func(id string) (*secretsmanager.GetSecretValueOutput, error) {
		return client.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: &id})
	}
	out, err := get(arn)
	if err != nil {
		t.Fatal(err)
	}
	if aws.ToString(out.SecretString) != "the token" || aws.ToString(out.ARN) != arn {
		t.Errorf("GetSecretValue() = %q of %s, want the token of %s", aws.ToString(out.SecretString), aws.ToString(out.ARN), arn)
	}
	if _, err := get(arn + "x"); !isAbsent(err) {
		t.Errorf("GetSecretValue(%sx) = %v, want a ResourceNotFoundException", arn, err)
	}
}

func isAbsent(err error) bool {
	_, ok := errors.AsType[*types.ResourceNotFoundException](err)
	return ok
}
