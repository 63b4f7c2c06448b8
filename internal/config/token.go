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

// SecretsManager is what a Token needs of the client.
type SecretsManager interface {
	GetSecretValue(context.Context, *secretsmanager.GetSecretValueInput, ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error)
}

// rereadAfter is how long a refused token is kept before the secret is read
// again, so that a loop with a bad token does not read it at every turn.
const rereadAfter = time.Minute

// ErrNoToken says that the secret holds no token yet.
var ErrNoToken = errors.New("the secret holds no RunComfy token")

// Token is a runcomfy.TokenSource: the API token in a secret, which is plain
// text or JSON with the member "token". It is read when it is first needed, and
// again after RunComfy refused it.
// A Token is safe for concurrent use.
type Token struct {
	Client SecretsManager
	ARN    string
	Now    func() time.Time

	mu      sync.Mutex
	value   string
	readAt  time.Time
	refused bool
}

// Token returns the token, or ErrNoToken.
func (t *Token) Token(ctx context.Context) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.value != "" && (!t.refused || t.Now().Sub(t.readAt) < rereadAfter) {
		return t.value, nil
	}
	out, err := t.Client.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &t.ARN})
	if _, ok := errors.AsType[*types.ResourceNotFoundException](err); ok {
		return "", ErrNoToken // a secret that was made and never set has no value either
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

// Refused says that RunComfy did not accept the token.
func (t *Token) Refused() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refused = true
}

// tokenIn returns the token in the text of a secret.
func tokenIn(secret string) (string, error) {
	secret = strings.TrimSpace(secret)
	if strings.HasPrefix(secret, "{") {
		var doc struct {
			Token string `json:"token"`
		}
		if json.Unmarshal([]byte(secret), &doc) != nil {
			return "", errors.New("the token's secret begins like JSON and is none") // never the text itself
		}
		secret = strings.TrimSpace(doc.Token)
	}
	if secret == "" {
		return "", ErrNoToken
	}
	return secret, nil
}
