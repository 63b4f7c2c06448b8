// Package secrets serves GetSecretValue, the only operation of Secrets Manager that the
// functions call.
package secrets

import "github.com/lipdrop/lipdrop/internal/local/awsjson"

// Operations returns GetSecretValue, which returns value for every secret id. A function's role
// limits which secret the function may read.
// https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html
func Operations(value string) awsjson.Operations {
	return awsjson.Operations{"secretsmanager.GetSecretValue": awsjson.Operation(func(struct{ SecretID string }) (any, error) {
		return map[string]string{"SecretString": value}, nil
	})}
}
