package gateway

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"

	"github.com/lipdrop/lipdrop/internal/local/permissions"
)

// writeUsers writes the users into the file in which the server looks for them,
// in place of those of an earlier start, and returns its folder.
func writeUsers(cfg Config) (dir string, err error) {
	type account struct {
		Access string `json:"access"`
		Secret string `json:"secret"`
		Role   string `json:"role"`
	}
	accounts := map[string]account{}
	for access, secret := range cfg.Users {
		accounts[access] = account{access, secret, "user"}
	}
	text, err := json.Marshal(map[string]any{"accessAccounts": accounts})
	if err != nil {
		return "", err
	}
	dir = filepath.Join(cfg.Dir, "iam")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	return dir, os.WriteFile(filepath.Join(dir, "users.json"), text, 0o600)
}

// users are the users besides the root user, and whom to tell what is denied to
// them.
type users struct {
	clients map[string]*s3.Client // by access key
	denied  func(*permissions.Denial)
}

func newUsers(cfg Config, dial func() (net.Conn, error)) *users {
	u := &users{clients: map[string]*s3.Client{}, denied: cfg.Denied}
	server := &http.Client{Transport: &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) { return dial() },
	}}
	for access, secret := range cfg.Users {
		u.clients[access] = s3.New(s3.Options{
			Region: cfg.Region, BaseEndpoint: aws.String("http://localhost"), UsePathStyle: true, HTTPClient: server,
			Credentials: credentials.NewStaticCredentialsProvider(access, secret, ""),
		})
	}
	return u
}

// request is one that a user makes. A connection has no other after it: the
// server closes it once it has answered.
type request struct {
	*http.Request
	user, bucket, key string
}

// maxHead bounds the head of a request. The server takes less.
const maxHead = 64 << 10

// readHead reads the head of the request that comes by a connection. It returns
// what was read, and the request. The server answers one request a connection, so
// no other follows that is not looked at.
func readHead(client io.Reader) (head []byte, asked *http.Request, err error) {
	var text bytes.Buffer
	asked, err = http.ReadRequest(bufio.NewReader(io.TeeReader(io.LimitReader(client, maxHead), &text)))
	return text.Bytes(), asked, err
}

// request returns a request as one of a user's, or nil.
func (u *users) request(asked *http.Request) *request {
	r := &request{Request: asked, user: permissions.UserOf(asked)}
	if u.clients[r.user] == nil {
		return nil
	}
	r.bucket, r.key, _ = strings.Cut(strings.TrimPrefix(asked.URL.Path, "/"), "/")
	return r
}

// mend passes on what the server says before its answer, and an answer that is
// another on S3. Other answers it leaves to be read.
func (u *users) mend(client io.Writer, server *bufio.Reader, r *request) {
	const status = len("HTTP/1.1 ")
	start, err := server.Peek(status + len("200"))
	if err != nil {
		return
	}
	if string(start[status:]) == "100" { // it wants the body, whatever it says of it then
		if err = passHead(client, server); err == nil {
			start, err = server.Peek(len(start))
		}
	}
	if code := string(start[status:]); err != nil || code != "403" && code != "404" {
		return
	}
	answer, err := http.ReadResponse(server, r.Request)
	if err != nil {
		return
	}
	body, _ := io.ReadAll(answer.Body) // an end too early is the client's to see
	_ = answer.Body.Close()
	if denial := u.denial(r, answer.StatusCode, body); denial != nil {
		u.denied(denial)
		answer.Status, answer.StatusCode = "", http.StatusForbidden
		body, _ = xml.Marshal(failure{Code: "AccessDenied", Message: denial.Error()}) // texts always encode
	}
	answer.Body, answer.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	_ = answer.Write(client) // a client that is gone needs no answer
}

// passHead passes on lines up to the first that is empty.
func passHead(client io.Writer, server *bufio.Reader) error {
	for {
		line, err := server.ReadSlice('\n')
		if err != nil {
			return err
		}
		if _, err := client.Write(line); err != nil || string(line) == "\r\n" {
			return err
		}
	}
}

// noStatement is what the server tells those whom no statement lets. An address
// that has expired is denied too, in other words.
const noStatement = "Access Denied."

// failure is the body of an answer that tells one.
type failure struct {
	XMLName xml.Name `xml:"Error"`
	Code    string
	Message string
}

// denial returns what an answer denies to its user for want of a statement, or nil.
func (u *users) denial(r *request, status int, body []byte) *permissions.Denial {
	bucket := "arn:aws:s3:::" + r.bucket
	if status == http.StatusNotFound {
		// With the permission to list, a missing key is 404; without it, 403:
		// https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
		if r.Method != http.MethodGet && r.Method != http.MethodHead || r.key == "" || u.mayList(r) {
			return nil
		}
		return &permissions.Denial{User: r.user, Action: listBucket, Resource: bucket, Prefix: r.key}
	}
	var told failure
	// An answer to HEAD has no body: nothing else than this is denied to it.
	if r.Method != http.MethodHead && (xml.Unmarshal(body, &told) != nil || told.Message != noStatement) {
		return nil
	}
	if r.key == "" {
		return &permissions.Denial{User: r.user, Action: listBucket, Resource: bucket, Prefix: r.URL.Query().Get("prefix")}
	}
	return &permissions.Denial{User: r.user, Action: r.action(), Resource: bucket + "/" + r.key}
}

const listBucket = "s3:ListBucket"

// action returns the permission that a request about a key needs.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html
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

// lookTime bounds how long the server is asked whether a user may list a key.
const lookTime = 10 * time.Second

// mayList reports whether a user may list the key of its request. AWS does not
// document what the condition key s3:prefix is when a key is missing: some have
// seen the key itself, others no value at all. Both must be allowed here. The
// server itself is asked, as the user.
func (u *users) mayList(r *request) bool {
	ctx, cancel := context.WithTimeout(context.Background(), lookTime)
	defer cancel()
	for _, prefix := range []*string{&r.key, nil} {
		_, err := u.clients[r.user].ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &r.bucket, Prefix: prefix, MaxKeys: aws.Int32(1)})
		told, ok := errors.AsType[smithy.APIError](err)
		if ok && told.ErrorCode() == "AccessDenied" {
			return false
		}
	}
	return true
}
