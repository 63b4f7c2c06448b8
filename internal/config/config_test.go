package config_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"github.com/lipdrop/lipdrop/internal/config"
)

func TestEveryMistakeAtOnce(t *testing.T) {
	vars := map[string]string{"HOURS": "13", "GIB": "many", "URL": "http://example.com", "SECRET_URL": "https://user:pw@example.com",
		"COUNT": "6", "PART": "1.5", "FOLDERS": "outbox/,inbox/cast"}
	env := config.Env{Getenv: func(name string) string { return vars[name] }}
	env.Required("BUCKET")
	env.Hours("HOURS", 6, 12)
	env.GiB("GIB", 10, 100)
	env.Count("COUNT", 1, 5)
	env.Count("PART", 1, 5)
	env.Folders("FOLDERS", "inbox/")
	env.BaseURL("URL")
	env.BaseURL("SECRET_URL")
	err := env.Err()
	if err == nil {
		t.Fatal("no mistake reported")
	}
	for _, want := range []string{
		`BUCKET: is not set`, `HOURS: "13" is not a number above 0 and up to 12`, `GIB: "many" is not`,
		`COUNT: "6" is not a number above 0 and up to 5`, `PART: 1.5 is not a whole number`,
		`FOLDERS: "outbox/" is not a folder such as inbox/shared/`, `FOLDERS: "inbox/cast" is not a folder`,
		`URL: must be https: the token would travel in the clear to example.com`, `SECRET_URL: is not the address`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %q", want, err)
		}
	}
	if strings.Contains(err.Error(), "pw") {
		t.Errorf("a password is in %q", err)
	}
}

func TestValues(t *testing.T) {
	vars := map[string]string{"HOURS": "0.5", "GIB": "1.5", "LIST": " a, ,b ", "COUNT": "4", "FOLDERS": "inbox/cast/, inbox/"}
	env := config.Env{Getenv: func(name string) string { return vars[name] }}
	if got := env.Hours("HOURS", 6, 12); got != 30*time.Minute {
		t.Errorf("hours: %v", got)
	}
	if got := env.Hours("NONE", 6, 12); got != 6*time.Hour {
		t.Errorf("default hours: %v", got)
	}
	if got := env.GiB("GIB", 10, 100); got != 3<<29 {
		t.Errorf("GiB: %v", got)
	}
	if got := env.Count("COUNT", 1, 5); got != 4 {
		t.Errorf("count: %d", got)
	}
	if got := env.Count("NONE", 3, 5); got != 3 {
		t.Errorf("default count: %d", got)
	}
	if got := env.Folders("FOLDERS", "inbox/"); len(got) != 2 || got[0] != "inbox/cast/" || got[1] != "inbox/" {
		t.Errorf("folders: %q", got)
	}
	if got := env.List("LIST", "x"); len(got) != 2 || got[0] != "a" || got[1] != "b" {
		t.Errorf("list: %q", got)
	}
	for _, ok := range []string{"https://model-api.runcomfy.net/", "http://127.0.0.1:80", "http://[::1]:80", "http://host.docker.internal:99", "http://localhost"} {
		vars["URL"] = ok
		if got := env.BaseURL("URL"); got != strings.TrimSuffix(ok, "/") {
			t.Errorf("%s: %q", ok, got)
		}
	}
	if err := env.Err(); err != nil {
		t.Error(err)
	}
}

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

func TestToken(t *testing.T) {
	tests := []struct {
		name, secret, want string
		wantErr            error
	}{
		{name: "plain text", secret: "abc\n", want: "abc"},
		{name: "JSON", secret: ` {"token": "abc"}`, want: "abc"},
		{name: "JSON without a token", secret: `{"key": "abc"}`, wantErr: config.ErrNoToken},
		{name: "blank", secret: " \n", wantErr: config.ErrNoToken},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			token := config.Token{Client: &secret{value: &tt.secret}, Now: time.Now}
			got, err := token.Token(t.Context())
			if got != tt.want || !errors.Is(err, tt.wantErr) {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	token := config.Token{Client: &secret{err: &types.ResourceNotFoundException{}}, Now: time.Now}
	if _, err := token.Token(t.Context()); !errors.Is(err, config.ErrNoToken) {
		t.Errorf("a secret without a value: %v", err)
	}
	broken := `{"token": "canary`
	token = config.Token{Client: &secret{value: &broken}, Now: time.Now}
	if _, err := token.Token(t.Context()); err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("broken JSON: %v", err)
	}
}

func TestRefusedTokenIsReadAgainOnceAMinute(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	s := &secret{value: aws.String("old")}
	token := config.Token{Client: s, Now: func() time.Time { return now }}
	get := func(want string, reads int) {
		t.Helper()
		got, err := token.Token(t.Context())
		if got != want || err != nil || s.reads != reads {
			t.Errorf("%q after %d reads, %v; want %q after %d", got, s.reads, err, want, reads)
		}
	}
	get("old", 1)
	get("old", 1)
	s.value = aws.String("new")
	token.Refused()
	get("old", 1) // it was read just now
	now = now.Add(time.Minute)
	get("new", 2)
	get("new", 2)
}
