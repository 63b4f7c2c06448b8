// Package secrets serves GetSecretValue, the only operation of Secrets Manager
// that the functions call, from memory. It does not check signatures: see package
// access.
package secrets

import (
	"encoding/json"
	"net/http"
	"sync"
)

// maxRequest bounds a request, which names a secret of at most 2,048 letters.
const maxRequest = 64 << 10

// Server is the endpoint. The zero value holds no secret.
type Server struct {
	mu     sync.Mutex
	values map[string]string
}

// Set sets the value of the secret with an ARN. An empty value means that the
// secret has no value, as the template makes it.
func (s *Server) Set(arn, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.values == nil {
		s.values = map[string]string{}
	}
	s.values[arn] = value
}

// ServeHTTP serves the Secrets Manager API in AWS JSON 1.1. It knows a secret only
// by its ARN.
// https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	var request struct {
		SecretID string `json:"SecretId"`
	}
	if r.Header.Get("X-Amz-Target") != "secretsmanager.GetSecretValue" {
		refuse(w, "UnknownOperationException", "the local stack serves only GetSecretValue")
		return
	}
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&request); err != nil {
		refuse(w, "SerializationException", err.Error())
		return
	}
	s.mu.Lock()
	value, found := s.values[request.SecretID]
	s.mu.Unlock()
	switch {
	case !found:
		refuse(w, "ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
	case value == "":
		refuse(w, "ResourceNotFoundException", "Secrets Manager can't find the specified secret value for staging label: AWSCURRENT")
	default:
		_ = json.NewEncoder(w).Encode(map[string]string{"ARN": request.SecretID, "SecretString": value})
	}
}

func refuse(w http.ResponseWriter, code, message string) {
	w.WriteHeader(http.StatusBadRequest)
	_ = json.NewEncoder(w).Encode(map[string]string{"__type": code, "message": message})
}
