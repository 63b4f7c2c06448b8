package config

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

// SecretsManager is the part of the Secrets Manager client that a Token uses.
type SecretsManager interface {
	GetSecretValue(context.Context, *secretsmanager.GetSecretValueInput, ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error)
}

// rereadAfter is the shortest time between two successful reads of the secret. Until it has
// passed, Token returns the same token, even if RunComfy refused it.
const rereadAfter = time.Minute

// ErrNoToken is returned if the secret holds no token yet, or does not exist.
var ErrNoToken = errors.New("the secret holds no RunComfy token, or does not exist")

// Token is a runcomfy.TokenSource that reads the API token from a secret. The
// secret is plain text, or JSON with the member "token". It is read when the
// token is first needed, and again after RunComfy refused the token. A Token is
// safe for concurrent use.
type Token struct {
	Client SecretsManager
	ARN    string
	Now    func() time.Time

	mu      sync.Mutex
	value   string
	readAt  time.Time
	refused bool
}

// Token implements runcomfy.TokenSource. It may return ErrNoToken.
func (t *Token) Token(ctx context.Context) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.value != "" && (!t.refused || t.Now().Sub(t.readAt) < rereadAfter) {
		return t.value, nil
	}
	out, err := t.Client.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &t.ARN})
	if _, ok := errors.AsType[*types.ResourceNotFoundException](err); ok {
		return "", ErrNoToken // AWS returns this error for a secret without a value too
	}
	if err != nil {
		return "", fmt.Errorf("read the token's secret: %w", err)
	}
	value, err := tokenIn(aws.ToString(out.SecretString))
	if err != nil {
		return "", err
	}
	t.value, t.readAt, t.refused = value, t.Now(), false
	return value, nil
}

// Refused implements runcomfy.TokenSource.
func (t *Token) Refused() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refused = true
}

// tokenIn returns the token that a secret holds.
func tokenIn(secret string) (string, error) {
	secret = strings.TrimSpace(secret)
	if strings.HasPrefix(secret, "{") {
		var doc struct {
			Token string `json:"token"`
		}
		if json.Unmarshal([]byte(secret), &doc) != nil {
			return "", errors.New("the token's secret looks like JSON but does not parse") // leaves out the text, which is secret
		}
		secret = strings.TrimSpace(doc.Token)
	}
	if secret == "" {
		return "", ErrNoToken
	}
	return secret, nil
}
