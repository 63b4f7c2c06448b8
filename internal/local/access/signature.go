package access

import (
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

// authorization matches the header Authorization of a signed request: the access key, the
// date with the region and the service, the signed headers and the signature.
var authorization = regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=([^/,\s]+)/(\d{8}/[^/,\s]+/[^/,\s]+)/aws4_request, ?SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})$`)

// Check is an awsjson.Check. It refuses a request that is not signed with one of the keys.
func (s *Signatures) Check(r *http.Request, body []byte) *awsjson.Error {
	parts := authorization.FindStringSubmatch(r.Header.Get("Authorization"))
	if parts == nil {
		return awsjson.Errorf("MissingAuthenticationTokenException", "the request is not signed; use the keys that lipdrop local prints")
	}
	access, signed := parts[1], strings.Split(parts[3], ";")
	secret, known := s.Keys[access]
	if !known {
		return awsjson.Errorf("UnrecognizedClientException", "the access key is not one of this local stack; use the keys that lipdrop local prints")
	}
	const invalid = "InvalidSignatureException"
	at, err := time.Parse(amzTime, r.Header.Get("X-Amz-Date"))
	if err != nil || at.Sub(s.Now()).Abs() > maxSkew {
		return awsjson.Errorf(invalid, "X-Amz-Date must be the time of the signature, and within %v of now", maxSkew)
	}
	again, err := s.sign(r, body, signed, aws.Credentials{AccessKeyID: access, SecretAccessKey: secret}, at)
	// Clients differ in the spaces after the commas, so the parts are compared.
	same := authorization.FindStringSubmatch(again)
	if err != nil || same == nil || !slices.Equal(same[1:4], parts[1:4]) || subtle.ConstantTimeCompare([]byte(same[4]), []byte(parts[4])) != 1 {
		return awsjson.Errorf(invalid, "the signature does not match; use the keys that lipdrop local prints, and the region %s", s.Region)
	}
	return nil
}

// sign signs a request again and returns the header Authorization. A signature includes the
// host and the date, and here also the operation.
func (s *Signatures) sign(r *http.Request, body []byte, signed []string, keys aws.Credentials, at time.Time) (string, error) {
	address := *r.URL // the signer changes it
	again := &http.Request{Method: r.Method, URL: &address, Host: r.Host, Header: http.Header{}}
	for _, name := range append(signed, "x-amz-target") {
		switch name {
		case "host":
		case "content-length":
			again.ContentLength = int64(len(body))
		default:
			again.Header[http.CanonicalHeaderKey(name)] = r.Header.Values(name)
		}
	}
	sum := sha256.Sum256(body)
	target, _, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	err := v4.NewSigner().SignHTTP(context.Background(), keys, again, hex.EncodeToString(sum[:]), services[target], s.Region, at)
	return again.Header.Get("Authorization"), err
}
