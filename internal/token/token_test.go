package token_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"github.com/lipdrop/lipdrop/internal/token"
)

// secret is a Secrets Manager with one secret.
type secret struct {
	value *string
	err   error
	reads int
}

func (s *secret) GetSecretValue(context.Context, *secretsmanager.GetSecretValueInput, ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error) {
	s.reads++
	if s.err != nil {
		return nil, s.err
	}
	return &secretsmanager.GetSecretValueOutput{SecretString: s.value}, nil
}

func TestSource(t *testing.T) {
	tests := []struct {
		name, secret, want string
		wantErr            error
	}{
		{name: "plain text", secret: "abc\n", want: "abc"},
		{name: "JSON", secret: ` {"token": "abc"}`, want: "abc"},
		{name: "JSON without a token", secret: `{"key": "abc"}`, wantErr: token.ErrNone},
		{name: "blank", secret: " \n", wantErr: token.ErrNone},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			source := token.Source{Client: &secret{value: &tt.secret}, Now: time.Now}
			got, err := source.Token(t.Context())
			if got != tt.want || !errors.Is(err, tt.wantErr) {
				t.Errorf("%q, %v; want %q, %v", got, err, tt.want, tt.wantErr)
			}
		})
	}
	source := token.Source{Client: &secret{err: &types.ResourceNotFoundException{}}, Now: time.Now}
	if _, err := source.Token(t.Context()); !errors.Is(err, token.ErrNone) {
		t.Errorf("a secret without a value: %v, want ErrNone", err)
	}
	broken := `{~` // the JSON parser's error quotes the ~
	source = token.Source{Client: &secret{value: &broken}, Now: time.Now}
	if _, err := source.Token(t.Context()); err == nil || strings.Contains(err.Error(), "~") {
		t.Errorf("broken JSON: %v, want an error without a character of the secret", err)
	}
}

func TestRefusedTokenIsReadAgainAfterAMinute(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	s := &secret{value: aws.String("old")}
	source := token.Source{Client: s, Now: func() time.Time { return now }}
	get := func(want string, reads int) {
		t.Helper()
		got, err := source.Token(t.Context())
		if got != want || err != nil || s.reads != reads {
			t.Errorf("%q after %d reads and error %v; want %q after %d reads and no error", got, s.reads, err, want, reads)
		}
	}
	get("old", 1)
	get("old", 1)
	s.value = aws.String("new")
	source.Refused()
	get("old", 1) // the secret was read less than a minute ago
	now = now.Add(time.Minute)
	get("new", 2)
	get("new", 2)
}
