// Package secrets serves GetSecretValue, the only operation of Secrets Manager that the
// functions call, from memory.
package secrets

import (
	"sync"

	"github.com/lipdrop/lipdrop/internal/local/awsjson"
)

// Store holds secrets. The zero value holds none.
type Store struct{ values sync.Map } // by ARN

// Set sets the value of the secret with an ARN. An empty value means that the
// secret has no value, as after its creation by the template.
func (s *Store) Set(arn, value string) { s.values.Store(arn, value) }

// Operations returns the operation. It knows a secret only by its ARN.
// https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html
func (s *Store) Operations() awsjson.Operations {
	return awsjson.Operations{"secretsmanager.GetSecretValue": awsjson.Operation(func(r struct{ SecretID string }) (any, error) {
		value, found := s.values.Load(r.SecretID)
		switch {
		case !found:
			return nil, awsjson.Errorf("ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
		case value == "":
			return nil, awsjson.Errorf("ResourceNotFoundException", "Secrets Manager can't find the specified secret value for staging label: AWSCURRENT")
		}
		return map[string]any{"ARN": r.SecretID, "SecretString": value}, nil
	})}
}
