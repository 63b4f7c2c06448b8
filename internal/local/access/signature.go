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
	// maxSkew is how far the time of a signature may be from now, as in S3.
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

// authorization matches the header Authorization of a signed request: the access key, the
// date with the region and the service, the signed headers and the signature.
var authorization = regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=([^/,\s]+)/(\d{8}/[^/,\s]+/[^/,\s]+)/aws4_request, ?SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})$`)

// Check is an awsjson.Check. It accepts a request only if the request is signed with one of the
// keys, the signature includes the operation, and the time of the signature is within maxSkew of now.
func (s *Signatures) Check(r *http.Request, body []byte) *awsjson.Error {
	sum := sha256.Sum256(body)
	service, _ := awsjson.Target(r)
	_, refused := s.verifyHeader(r, hex.EncodeToString(sum[:]), service, v4.NewSigner(), "x-amz-target")
	return refused
}

// UserOfS3 returns the access key of a request to S3, or "" if the request has no valid
// signature. The signature can be in a header or in the query. UserOfS3 checks neither the body
// nor whether a presigned URL has expired.
func (s *Signatures) UserOfS3(r *http.Request) string {
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping, o.DisableHeaderHoisting = true, true })
	if r.Header.Get("Authorization") != "" {
		user, _ := s.verifyHeader(r, r.Header.Get("X-Amz-Content-Sha256"), "s3", signer)
		return user
	}
	query := r.URL.Query()
	user, _, _ := strings.Cut(query.Get("X-Amz-Credential"), "/")
	secret, known := s.Keys[user]
	at, err := time.Parse(amzTime, query.Get("X-Amz-Date"))
	if !known || err != nil {
		return ""
	}
	signature := query.Get("X-Amz-Signature")
	query.Del("X-Amz-Signature")
	again := unsigned(r, strings.Split(query.Get("X-Amz-SignedHeaders"), ";"))
	again.URL.RawQuery = query.Encode()
	keys := aws.Credentials{AccessKeyID: user, SecretAccessKey: secret}
	address, _, err := signer.PresignHTTP(context.Background(), keys, again, "UNSIGNED-PAYLOAD", "s3", s.Region, at)
	// The signature is the last parameter of the presigned URL.
	if err != nil || !equalSignatures(address[strings.LastIndexByte(address, '=')+1:], signature) {
		return ""
	}
	return user
}

// verifyHeader returns the access key of a request with the header Authorization, or "" and why the
// request is refused. The signature must include Host, X-Amz-Date and the given headers.
func (s *Signatures) verifyHeader(r *http.Request, payloadHash, service string, signer *v4.Signer, headers ...string) (access string, refused *awsjson.Error) {
	parts := authorization.FindStringSubmatch(r.Header.Get("Authorization"))
	if parts == nil {
		return "", awsjson.Errorf("MissingAuthenticationTokenException", "the request is not signed; use the keys that lipdrop local prints")
	}
	access = parts[1]
	secret, known := s.Keys[access]
	if !known {
		return "", awsjson.Errorf("UnrecognizedClientException", "this local stack does not know the access key; use the keys that lipdrop local prints")
	}
	const invalid = "InvalidSignatureException"
	at, err := time.Parse(amzTime, r.Header.Get("X-Amz-Date"))
	if err != nil || at.Sub(s.Now()).Abs() > maxSkew {
		return "", awsjson.Errorf(invalid, "X-Amz-Date must be the time of the signature, and within %v of now", maxSkew)
	}
	again := unsigned(r, append(strings.Split(parts[3], ";"), headers...))
	err = signer.SignHTTP(context.Background(), aws.Credentials{AccessKeyID: access, SecretAccessKey: secret}, again, payloadHash, service, s.Region, at)
	// SignHTTP always signs Host and X-Amz-Date. Clients differ in the spaces after the commas, so
	// verifyHeader compares the parts.
	signed := authorization.FindStringSubmatch(again.Header.Get("Authorization"))
	if err != nil || signed == nil || !slices.Equal(signed[1:4], parts[1:4]) || !equalSignatures(signed[4], parts[4]) {
		return "", awsjson.Errorf(invalid, "the signature does not match; use the keys that lipdrop local prints, and the region %s", s.Region)
	}
	return access, nil
}

// unsigned returns a request as it was before it was signed, with only the given headers.
func unsigned(r *http.Request, headers []string) *http.Request {
	address := *r.URL // the signer changes the URL
	again := &http.Request{Method: r.Method, URL: &address, Host: r.Host, Header: http.Header{}}
	for _, name := range headers {
		switch name {
		case "host": // r.Host, which is no header of r
		case "content-length":
			again.ContentLength = r.ContentLength
		default:
			again.Header[http.CanonicalHeaderKey(name)] = r.Header.Values(name)
		}
	}
	return again
}

func equalSignatures(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
