// Package secrets answers the one call of Secrets Manager that the functions
// make, over values kept in memory. It does not check signatures: see package
// access.
package secrets

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/lipdrop/lipdrop/internal/local/uuid"
)

// maxRequest bounds a request, which names a secret of at most 2,048 letters.
const maxRequest = 64 << 10

// Server is the endpoint. Now is required; without Set, it holds no secret.
type Server struct {
	Now func() time.Time

	mu      sync.Mutex
	secrets []*secret
}

// secret is a secret, by its ARN.
type secret struct {
	arn, name string
	value     string // empty: it has none
	version   string
	changed   time.Time
}

// Set gives the secret of an ARN a new value, and makes it where there is none.
// With the empty value it is as the template makes it: without one. Its name is
// the last part of the ARN, but for the hyphen and the six letters that AWS adds.
func (s *Server) Set(arn, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.find(arn)
	if found == nil {
		name := arn[strings.LastIndexByte(arn, ':')+1:]
		name = name[:max(strings.LastIndexByte(name, '-'), 0)]
		found = &secret{arn: arn, name: name}
		s.secrets = append(s.secrets, found)
	}
	found.value, found.version, found.changed = value, uuid.New(), s.Now()
}

// find returns the secret of an ARN or a name, or nil. The caller holds s.mu.
func (s *Server) find(id string) *secret {
	for _, each := range s.secrets {
		if id == each.arn || id == each.name {
			return each
		}
	}
	return nil
}

// ServeHTTP answers the Secrets Manager API in AWS JSON 1.1.
// https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.Header().Set("X-Amzn-RequestId", uuid.New())
	var request struct {
		SecretID string `json:"SecretId"`
	}
	if target := r.Header.Get("X-Amz-Target"); r.Method != http.MethodPost || target != "secretsmanager.GetSecretValue" {
		refuse(w, "UnknownOperationException", "this endpoint knows GetSecretValue alone")
		return
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest)).Decode(&request); err != nil {
		refuse(w, "SerializationException", err.Error())
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.find(request.SecretID)
	switch {
	case found == nil:
		refuse(w, "ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
	case found.value == "":
		refuse(w, "ResourceNotFoundException", "Secrets Manager can't find the specified secret value for staging label: AWSCURRENT")
	default:
		answer(w, http.StatusOK, map[string]any{
			"ARN":           found.arn,
			"Name":          found.name,
			"VersionId":     found.version,
			"VersionStages": []string{"AWSCURRENT"},
			"SecretString":  found.value,
			"CreatedDate":   found.changed.Unix(),
		})
	}
}

func refuse(w http.ResponseWriter, code, message string) {
	answer(w, http.StatusBadRequest, map[string]any{"__type": code, "message": message})
}

func answer(w http.ResponseWriter, status int, members map[string]any) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(members) // a client that is gone needs no answer
}
