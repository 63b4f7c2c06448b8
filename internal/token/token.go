// Package token reads the RunComfy API token from Secrets Manager.
package token

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
)

// SecretsManager is the part of the Secrets Manager client that a Source uses.
type SecretsManager interface {
	GetSecretValue(context.Context, *secretsmanager.GetSecretValueInput, ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error)
}

// rereadAfter is the shortest time between a read that finds a token and the next read of the secret.
const rereadAfter = time.Minute

// ErrNone says that the secret holds no token yet, or does not exist.
var ErrNone = errors.New("the secret holds no RunComfy token, or does not exist")

// Source is a runcomfy.TokenSource that reads the API token from a secret. The
// secret is plain text, or JSON with the member "token". A Source keeps the token that it
// has read until Refused is called, and for at least rereadAfter. It is safe for concurrent use.
type Source struct {
	Client SecretsManager
	ARN    string
	Now    func() time.Time

	mu      sync.Mutex
	value   string
	readAt  time.Time
	refused bool
}

// Token implements runcomfy.TokenSource. It may return ErrNone.
func (s *Source) Token(ctx context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.value != "" && (!s.refused || s.Now().Sub(s.readAt) < rereadAfter) {
		return s.value, nil
	}
	out, err := s.Client.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &s.ARN})
	if _, ok := errors.AsType[*types.ResourceNotFoundException](err); ok {
		return "", ErrNone // AWS returns this error for a secret without a value too
	}
	if err != nil {
		return "", fmt.Errorf("read the token's secret: %w", err)
	}
	value, err := tokenIn(aws.ToString(out.SecretString))
	if err != nil {
		return "", err
	}
	s.value, s.readAt, s.refused = value, s.Now(), false
	return value, nil
}

// Refused implements runcomfy.TokenSource.
func (s *Source) Refused() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused = true
}

func tokenIn(secret string) (string, error) {
	secret = strings.TrimSpace(secret)
	if strings.HasPrefix(secret, "{") {
		var doc struct {
			Token string `json:"token"`
		}
		if json.Unmarshal([]byte(secret), &doc) != nil {
			return "", errors.New(`the token's secret looks like JSON but does not parse as {"token": "…"}`) // without the parser's error, which could repeat a part of the secret
		}
		secret = strings.TrimSpace(doc.Token)
	}
	if secret == "" {
		return "", ErrNone
	}
	return secret, nil
}
