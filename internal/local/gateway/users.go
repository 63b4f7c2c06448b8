package gateway

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/local/access"
)

// writeUsers replaces the file from which versitygw reads its users, and returns the
// folder of the file.
func writeUsers(cfg Config) (dir string, err error) {
	accounts := map[string]map[string]string{}
	for name, secret := range cfg.Users {
		accounts[name] = map[string]string{"access": name, "secret": secret, "role": "user"}
	}
	text := bucket.JSON(map[string]any{"accessAccounts": accounts}, "")
	dir = filepath.Join(cfg.Dir, "iam")
	return dir, errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, "users.json"), text, 0o600))
}

// users changes responses as the package comment says.
type users struct {
	server     *http.Client // connects to versitygw
	signatures access.Signatures
	denied     func(*access.Denial)
}

func newUsers(cfg Config, dial func() (net.Conn, error)) *users {
	return &users{
		server: &http.Client{Transport: &http.Transport{
			DialContext: func(context.Context, string, string) (net.Conn, error) { return dial() },
		}},
		signatures: access.Signatures{Keys: cfg.Users, Region: cfg.Region, Now: time.Now},
		denied:     cfg.Denied,
	}
}

// request is a request to S3 that one of the users signed.
type request struct {
	*http.Request
	user, bucket, key string
}

// correct checks whether a request failed because its user lacks a permission. If so, the
// response becomes a 403 that names the permission. correct also checks the signature of the
// request, because anyone on this machine can send a request in the name of a user.
func (u *users) correct(response *http.Response) error {
	if response.StatusCode != http.StatusForbidden && response.StatusCode != http.StatusNotFound {
		return nil
	}
	user := u.signatures.UserOfS3(response.Request)
	if user == "" {
		return nil
	}
	bucket, key, _ := strings.Cut(strings.TrimPrefix(response.Request.URL.Path, "/"), "/")
	body, err := io.ReadAll(response.Body)
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return err
	}
	if denial := u.denial(&request{response.Request, user, bucket, key}, response.StatusCode, body); denial != nil {
		u.denied(denial)
		body, _ = xml.Marshal(failure{Code: "AccessDenied", Message: denial.Error()}) // strings always encode
		response.StatusCode = http.StatusForbidden
		response.Header.Set("Content-Length", strconv.Itoa(len(body)))
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	return nil
}

// noStatement is the message of versitygw if no statement of the policy allows a
// request. If a presigned URL has expired, versitygw sends another message.
const noStatement = "Access Denied."

// failure is the body of an error response of S3.
type failure struct {
	XMLName xml.Name `xml:"Error"`
	Code    string
	Message string
}

const listBucket = "s3:ListBucket"

// denial returns the permission that the user of a request lacks. It returns nil if the
// response has another reason.
func (u *users) denial(r *request, status int, body []byte) *access.Denial {
	bucket := "arn:aws:s3:::" + r.bucket
	if status == http.StatusNotFound {
		// If a key is missing, S3 responds with 404 only if the user may list the key:
		// https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
		if r.Method != http.MethodGet && r.Method != http.MethodHead || r.key == "" || u.mayList(r) {
			return nil
		}
		return &access.Denial{User: r.user, Action: listBucket, Resource: bucket, Prefix: r.key}
	}
	var got failure
	denied := xml.Unmarshal(body, &got) == nil && got.Message == noStatement
	if r.Method == http.MethodHead {
		// The response to a HEAD has no body that gives the reason. If the HEAD is signed in its
		// header, the reason is a missing permission. If it is presigned, the URL may have expired.
		denied = !r.URL.Query().Has("X-Amz-Signature")
	}
	if !denied {
		return nil
	}
	if r.key == "" {
		return &access.Denial{User: r.user, Action: r.bucketAction(), Resource: bucket, Prefix: r.URL.Query().Get("prefix")}
	}
	return &access.Denial{User: r.user, Action: r.action(), Resource: bucket + "/" + r.key}
}

// bucketAction returns the permission that a request without a key needs.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html
func (r *request) bucketAction() string {
	query := r.URL.Query()
	verb := "Get"
	switch {
	case r.Method == http.MethodDelete && query.Has("policy"):
		verb = "Delete"
	case r.Method == http.MethodPut || r.Method == http.MethodDelete: // PutBucketTagging includes the deletion of tags
		verb = "Put"
	}
	for _, property := range []string{"Acl", "Location", "Policy", "Tagging", "Versioning"} {
		if query.Has(strings.ToLower(property)) {
			return "s3:" + verb + "Bucket" + property
		}
	}
	switch {
	case query.Has("versions"):
		return "s3:ListBucketVersions"
	case query.Has("uploads"):
		return "s3:ListBucketMultipartUploads"
	case r.Method == http.MethodPut:
		return "s3:CreateBucket"
	case r.Method == http.MethodDelete:
		return "s3:DeleteBucket"
	}
	return listBucket
}

// action is bucketAction for a request with a key.
func (r *request) action() string {
	query := r.URL.Query()
	switch {
	case r.Method == http.MethodDelete && query.Has("uploadId"):
		return "s3:AbortMultipartUpload"
	case r.Method == http.MethodDelete && query.Has("versionId"):
		return "s3:DeleteObjectVersion"
	case r.Method == http.MethodDelete:
		return "s3:DeleteObject"
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		return "s3:PutObject"
	case query.Has("versionId"):
		return "s3:GetObjectVersion"
	}
	return "s3:GetObject"
}

// mayList asks versitygw whether the user of a request may list the requested object. S3
// checks this permission if the object is missing, but AWS does not document with which prefix.
// Some reports say the key of the object, others say no prefix. So mayList returns false if
// versitygw refuses a listing with the key as prefix, or a listing without a prefix.
func (u *users) mayList(r *request) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	client := s3.New(s3.Options{
		Region: u.signatures.Region, BaseEndpoint: aws.String("http://localhost"), UsePathStyle: true, HTTPClient: u.server,
		Credentials: credentials.NewStaticCredentialsProvider(r.user, u.signatures.Keys[r.user], ""),
	})
	for _, prefix := range []*string{&r.key, nil} {
		_, err := client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &r.bucket, Prefix: prefix, MaxKeys: aws.Int32(1)})
		if refused, ok := errors.AsType[smithy.APIError](err); ok && refused.ErrorCode() == "AccessDenied" {
			return false
		}
	}
	return true
}
