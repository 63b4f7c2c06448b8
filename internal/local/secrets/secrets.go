// Package secrets serves GetSecretValue, the only operation of Secrets Manager that the
// functions call.
package secrets

import "github.com/lipdrop/lipdrop/internal/local/awsjson"

// Operations returns the operation for one secret, which it knows only by its ARN.
// https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html
func Operations(arn, value string) awsjson.Operations {
	return awsjson.Operations{"secretsmanager.GetSecretValue": awsjson.Operation(func(r struct{ SecretID string }) (any, error) {
		if r.SecretID != arn {
			return nil, awsjson.Errorf("ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
		}
		return map[string]any{"ARN": arn, "SecretString": value}, nil
	})}
}
