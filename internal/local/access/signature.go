package access

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/lipdrop/lipdrop/internal/local/awsjson"
)

const (
	// maxSkew is how far the time of a signature may be from now, as on AWS.
	maxSkew = 15 * time.Minute

	// amzTime is the layout of X-Amz-Date.
	amzTime = "20060102T150405Z"
)

// Signatures checks requests that are signed with Signature Version 4.
type Signatures struct {
	Keys   map[string]string // secret keys, by access key
	Region string
	Now    func() time.Time
}

// services are the names of the services in signatures, by the first part of
// X-Amz-Target.
var services = map[string]string{
	"AWSStepFunctions": "states",
	"secretsmanager":   "secretsmanager",
	"AmazonSQS":        "sqs",
	"AWSEvents":        "events",
}

// Handler returns a handler that checks the signature of each request. If one of the
// keys signed the request, next handles it. Otherwise the handler refuses it in AWS JSON.
func (s *Signatures) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, ok := awsjson.Body(w, r)
		if !ok {
			return
		}
		if err := s.check(r, body); err != nil {
			awsjson.Refuse(w, http.StatusForbidden, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// authorization matches the header Authorization of a signed request: the access
// key, the date, the region, the service, the signed headers and the signature.
var authorization = regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=([^/,\s]+)/(\d{8})/([^/,\s]+)/([^/,\s]+)/aws4_request, ?SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})$`)

// mustSign are the headers that a signature must include.
var mustSign = []string{"host", "x-amz-date", "x-amz-target"}

// check returns an error if a request is not signed with one of the keys.
func (s *Signatures) check(r *http.Request, body []byte) *awsjson.Error {
	header := r.Header.Get("Authorization")
	if header == "" {
		return awsjson.Errorf("MissingAuthenticationTokenException", "the request is not signed; use the keys that lipdrop local prints")
	}
	parts := authorization.FindStringSubmatch(header)
	if parts == nil {
		return awsjson.Errorf("IncompleteSignatureException", "the header Authorization is not a signature of version 4")
	}
	access, date, region, service, signed := parts[1], parts[2], parts[3], parts[4], strings.Split(parts[5], ";")
	secret, known := s.Keys[access]
	if !known {
		return awsjson.Errorf("UnrecognizedClientException", "the access key is not one of this local stack; use the keys that lipdrop local prints")
	}
	const invalid = "InvalidSignatureException"
	at, err := time.Parse(amzTime, r.Header.Get("X-Amz-Date"))
	if err != nil || at.Format("20060102") != date || at.Sub(s.Now()).Abs() > maxSkew {
		return awsjson.Errorf(invalid, "X-Amz-Date must be the time of the signature, and within %v of now", maxSkew)
	}
	target, _, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	if region != s.Region || service != services[target] {
		return awsjson.Errorf(invalid, "the signature is for the service %s in %s, but the request is for %s in %s", service, region, cmp.Or(services[target], "an unknown service"), s.Region)
	}
	for _, name := range mustSign {
		if !slices.Contains(signed, name) {
			return awsjson.Errorf(invalid, "the signature does not include the header %s", name)
		}
	}
	again, err := sign(r, body, signed, aws.Credentials{AccessKeyID: access, SecretAccessKey: secret}, service, region, at)
	if err != nil {
		return awsjson.Errorf(invalid, "%v", err)
	}
	// Clients differ in the spaces after the commas, so the parts are compared.
	same := authorization.FindStringSubmatch(again)
	if same == nil || same[5] != parts[5] || subtle.ConstantTimeCompare([]byte(same[6]), []byte(parts[6])) != 1 {
		return awsjson.Errorf(invalid, "the signature does not match; use the keys that lipdrop local prints")
	}
	return nil
}

// sign signs a request again and returns the header Authorization.
func sign(r *http.Request, body []byte, signed []string, keys aws.Credentials, service, region string, at time.Time) (string, error) {
	address := *r.URL // the signer changes it
	again := &http.Request{Method: r.Method, URL: &address, Host: r.Host, Header: http.Header{}}
	for _, name := range signed {
		switch name {
		case "host":
		case "content-length":
			again.ContentLength = int64(len(body))
		default:
			again.Header[http.CanonicalHeaderKey(name)] = r.Header.Values(name)
		}
	}
	sum := sha256.Sum256(body)
	err := v4.NewSigner().SignHTTP(context.Background(), keys, again, hex.EncodeToString(sum[:]), service, region, at)
	return again.Header.Get("Authorization"), err
}
