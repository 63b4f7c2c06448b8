package secrets_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"github.com/lipdrop/lipdrop/internal/local/secrets"
)

const arn = "arn:aws:secretsmanager:us-east-1:000000000000:secret:runcomfy-token-a1B2c3"

func start(t *testing.T) (*secrets.Server, *httptest.Server, *secretsmanager.Client) {
	t.Helper()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	s := &secrets.Server{Now: func() time.Time { return now }}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	client := secretsmanager.NewFromConfig(aws.Config{
		Region: "us-east-1", BaseEndpoint: &server.URL,
		Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""),
	})
	return s, server, client
}

func TestGetSecretValue(t *testing.T) {
	s, _, client := start(t)
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

	var versions []string
	for _, value := range []string{"first", "rotated"} {
		s.Set(arn, value)
		for _, id := range []string{arn, "runcomfy-token"} {
			out, err := get(id)
			if err != nil {
				t.Fatal(err)
			}
			if aws.ToString(out.SecretString) != value || aws.ToString(out.ARN) != arn || aws.ToString(out.Name) != "runcomfy-token" {
				t.Errorf("GetSecretValue(%s) = %q of %s, %s", id, aws.ToString(out.SecretString), aws.ToString(out.ARN), aws.ToString(out.Name))
			}
			if want := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC); !aws.ToTime(out.CreatedDate).Equal(want) {
				t.Errorf("created at %s, want %s", out.CreatedDate, want)
			}
			versions = append(versions, aws.ToString(out.VersionId))
		}
	}
	if versions[0] != versions[1] || versions[1] == versions[2] {
		t.Errorf("versions %q: want one a value", versions)
	}
	s.Set(arn, "")
	expectAbsent(arn, "AWSCURRENT")
	expectAbsent(arn+"x", "specified secret.")
}

func TestRefusesTheRest(t *testing.T) {
	_, server, _ := start(t)
	for name, row := range map[string]struct{ target, body, want string }{
		"another operation": {"secretsmanager.PutSecretValue", "{}", "UnknownOperationException"},
		"not JSON":          {"secretsmanager.GetSecretValue", "<xml>", "SerializationException"},
	} {
		t.Run(name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, strings.NewReader(row.body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("X-Amz-Target", row.target)
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = resp.Body.Close() }()
			body := make([]byte, 1024)
			n, _ := resp.Body.Read(body)
			if resp.StatusCode != http.StatusBadRequest || !strings.Contains(string(body[:n]), row.want) {
				t.Errorf("answer %d %s, want %s", resp.StatusCode, body[:n], row.want)
			}
		})
	}
}
