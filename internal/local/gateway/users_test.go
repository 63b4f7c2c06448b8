package gateway_test

import (
	"bytes"
	"context"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/local/access"
	"github.com/lipdrop/lipdrop/internal/local/gateway"
	"github.com/lipdrop/lipdrop/internal/template"
)

// denials collects what was denied since the last call of drain.
type denials struct {
	mu  sync.Mutex
	all []access.Denial
}

func (d *denials) add(denial *access.Denial) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all = append(d.all, *denial)
}

func (d *denials) drain() []access.Denial {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := d.all
	d.all = nil
	return all
}

const user, secret = "user", "user's secret"

// startWithUser runs a gateway with one user and an empty bucket.
func startWithUser(t *testing.T) (*server, *denials) {
	t.Helper()
	denied := &denials{}
	srv := start(t, func(cfg *gateway.Config) {
		cfg.Users, cfg.Denied = map[string]string{user: secret}, denied.add
	})
	if err := gateway.EnsureBucket(t.Context(), srv.tls, bucket); err != nil {
		t.Fatal(err)
	}
	return srv, denied
}

type call func(context.Context, *s3.Client) error

func calling[In, Out any](operation func(*s3.Client, context.Context, *In, ...func(*s3.Options)) (*Out, error), input *In) call {
	return func(ctx context.Context, c *s3.Client) error {
		_, err := operation(c, ctx, input)
		return err
	}
}

// A user may do what the policy of the bucket allows. A refusal names the missing
// permission.
func TestUserMayDoWhatThePolicySays(t *testing.T) {
	srv, denied := startWithUser(t)
	policy, err := template.BucketPolicy(map[string]template.Role{user: {
		{Action: []string{"s3:GetObject", "s3:DeleteObject"}, Resource: []string{"arn:aws:s3:::drops/in/*"}},
		{Action: []string{"s3:GetObject", "s3:PutObject"}, Resource: []string{"arn:aws:s3:::drops/out/*"}},
		{
			Action: []string{"s3:ListBucket"}, Resource: []string{"arn:aws:s3:::drops"},
			Condition: map[string]map[string]template.OneOrMany{"StringLikeIfExists": {"s3:prefix": {"in/*"}}},
		},
		{Action: []string{"states:StartExecution"}, Resource: []string{"arn:aws:states:::elsewhere"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := srv.tls.PutBucketPolicy(t.Context(), &s3.PutBucketPolicyInput{Bucket: aws.String(bucket), Policy: aws.String(string(policy))}); err != nil {
		t.Fatal(err)
	}
	version := put(t, srv.tls, "in/ü 1.txt", "there")
	put(t, srv.tls, "elsewhere.txt", "there")

	get := func(key string, version *string) call {
		return calling((*s3.Client).GetObject, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: &key, VersionId: version})
	}
	head := func(key string) call {
		return calling((*s3.Client).HeadObject, &s3.HeadObjectInput{Bucket: aws.String(bucket), Key: &key})
	}
	list := func(prefix string) call {
		return calling((*s3.Client).ListObjectsV2, &s3.ListObjectsV2Input{Bucket: aws.String(bucket), Prefix: &prefix})
	}
	write := func(key string, size int) call {
		return func(ctx context.Context, c *s3.Client) error {
			_, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String(bucket), Key: &key, Body: bytes.NewReader(make([]byte, size))})
			return err
		}
	}
	remove := func(key string, version *string) call {
		return calling((*s3.Client).DeleteObject, &s3.DeleteObjectInput{Bucket: aws.String(bucket), Key: &key, VersionId: version})
	}
	abort := calling((*s3.Client).AbortMultipartUpload, &s3.AbortMultipartUploadInput{Bucket: aws.String(bucket), Key: aws.String("out/1"), UploadId: aws.String("any")})
	versioning := calling((*s3.Client).GetBucketVersioning, &s3.GetBucketVersioningInput{Bucket: aws.String(bucket)})
	versions := calling((*s3.Client).ListObjectVersions, &s3.ListObjectVersionsInput{Bucket: aws.String(bucket), Prefix: aws.String("in/")})
	uploads := calling((*s3.Client).ListMultipartUploads, &s3.ListMultipartUploadsInput{Bucket: aws.String(bucket)})
	removePolicy := calling((*s3.Client).DeleteBucketPolicy, &s3.DeleteBucketPolicyInput{Bucket: aws.String(bucket)})
	removeTags := calling((*s3.Client).DeleteBucketTagging, &s3.DeleteBucketTaggingInput{Bucket: aws.String(bucket)})
	removeBucket := calling((*s3.Client).DeleteBucket, &s3.DeleteBucketInput{Bucket: aws.String(bucket)})
	const large = 5 << 20 // so large that the client waits for the server's 100 Continue
	tests := []struct {
		name                     string
		call                     call
		code                     string
		action, resource, prefix string // of the expected denial; the resource without the ARN of the bucket
	}{
		{name: "reads what the user may read", call: get("in/ü 1.txt", nil)},
		{name: "lists what the user may list", call: list("in/")},
		{name: "writes what the user may write", call: write("out/1", large)},
		{name: "heads a missing file", call: head("in/none.txt"), code: "NotFound"},
		{name: "reads a missing file", call: get("in/none.txt", nil), code: "NoSuchKey"},

		{name: "reads a file that the user may not read", call: get("elsewhere.txt", nil), code: "AccessDenied", action: "s3:GetObject", resource: "/elsewhere.txt"},
		{name: "heads a file that the user may not read", call: head("elsewhere.txt"), code: "Forbidden", action: "s3:GetObject", resource: "/elsewhere.txt"},
		{name: "reads a version of a file that the user may read", call: get("in/ü 1.txt", &version), code: "AccessDenied", action: "s3:GetObjectVersion", resource: "/in/ü 1.txt"},
		{name: "lists a folder that the user may not list", call: list("out/"), code: "AccessDenied", action: "s3:ListBucket", prefix: "out/"},
		{name: "heads a missing file that the user may not list", call: head("out/none.txt"), code: "Forbidden", action: "s3:ListBucket", prefix: "out/none.txt"},
		{name: "reads a missing file that the user may not list", call: get("out/none.txt", nil), code: "AccessDenied", action: "s3:ListBucket", prefix: "out/none.txt"},
		{name: "writes a file that the user may not write", call: write("in/1", 1), code: "AccessDenied", action: "s3:PutObject", resource: "/in/1"},
		{name: "writes a large file that the user may not write", call: write("in/1", large), code: "AccessDenied", action: "s3:PutObject", resource: "/in/1"},
		{name: "deletes a version of a file that the user may delete", call: remove("in/ü 1.txt", &version), code: "AccessDenied", action: "s3:DeleteObjectVersion", resource: "/in/ü 1.txt"},
		{name: "deletes a file that the user may not delete", call: remove("out/1", nil), code: "AccessDenied", action: "s3:DeleteObject", resource: "/out/1"},
		{name: "reads whether the bucket has versions", call: versioning, code: "AccessDenied", action: "s3:GetBucketVersioning"},
		{name: "lists versions", call: versions, code: "AccessDenied", action: "s3:ListBucketVersions", prefix: "in/"},
		{name: "lists uploads", call: uploads, code: "AccessDenied", action: "s3:ListBucketMultipartUploads"},
		{name: "deletes the policy", call: removePolicy, code: "AccessDenied", action: "s3:DeleteBucketPolicy"},
		{name: "deletes the tags of the bucket", call: removeTags, code: "AccessDenied", action: "s3:PutBucketTagging"},
		{name: "deletes the bucket", call: removeBucket, code: "AccessDenied", action: "s3:DeleteBucket"},
		{name: "aborts an upload of a file that the user may write", call: abort, code: "AccessDenied", action: "s3:AbortMultipartUpload", resource: "/out/1"},
	}
	asUser := func(o *s3.Options) { o.Credentials = credentials.NewStaticCredentialsProvider(user, secret, "") }
	for scheme, client := range map[string]*s3.Client{"https": s3.New(srv.tls.Options(), asUser), "http": s3.New(srv.plain.Options(), asUser)} {
		for _, tt := range tests {
			t.Run(scheme+": "+tt.name, func(t *testing.T) {
				err := tt.call(t.Context(), client)
				if tt.code == "" && err != nil {
					t.Error(err)
				} else if tt.code != "" {
					expectCode(t, tt.code, err)
				}
				var want []access.Denial
				if tt.action != "" {
					want = []access.Denial{{User: user, Action: tt.action, Resource: "arn:aws:s3:::drops" + tt.resource, Prefix: tt.prefix}}
				}
				if diff := cmp.Diff(want, denied.drain()); diff != "" {
					t.Errorf("denied (-want +got):\n%s", diff)
				}
				if tt.code == "AccessDenied" && !strings.Contains(err.Error(), want[0].Error()) {
					t.Errorf("error %v, want one that says %v", err, &want[0])
				}
			})
		}
	}
	if err := abort(t.Context(), srv.tls); err == nil || len(denied.drain()) > 0 {
		t.Errorf("the root user aborts an upload that does not exist: got %v, want an error that does not count as denied", err)
	}
	for _, tt := range []struct {
		name, key string
		age       time.Duration
		want      int // denials of a GET
	}{
		{"a presigned URL of a file that the user may not read", "elsewhere.txt", 0, 1},
		{"a presigned URL that has expired", "in/%C3%BC%201.txt", time.Hour, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			address := srv.url + "/" + bucket + "/" + tt.key + "?X-Amz-Expires=60"
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
			if err != nil {
				t.Fatal(err)
			}
			signed, _, err := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }).PresignHTTP(t.Context(),
				aws.Credentials{AccessKeyID: user, SecretAccessKey: secret}, req, "UNSIGNED-PAYLOAD", "s3", "us-east-1", time.Now().Add(-tt.age))
			if err != nil {
				t.Fatal(err)
			}
			for _, request := range []struct {
				send func(string) (*http.Response, error)
				want int
			}{{http.Get, tt.want}, {http.Head, 0}} { // the signature of a GET is wrong for a HEAD
				response, err := request.send(signed)
				if err != nil {
					t.Fatal(err)
				}
				_ = response.Body.Close()
				if response.StatusCode != http.StatusForbidden {
					t.Errorf("HTTP status %d, want 403", response.StatusCode)
				}
				if got := denied.drain(); len(got) != request.want {
					t.Errorf("the %s has the denials %v, want %d", response.Request.Method, got, request.want)
				}
			}
		})
	}
}

// Anyone can name a user in a request with a wrong signature, so such a request does not
// count as denied.
func TestForgedUser(t *testing.T) {
	srv, denied := startWithUser(t)
	now := time.Now().UTC()
	at, scope := now.Format("20060102T150405Z"), user+"/"+now.Format("20060102")+"/us-east-1/s3/aws4_request"
	signature := strings.Repeat("0", 64)
	header := http.Header{
		"Authorization":        {"AWS4-HMAC-SHA256 Credential=" + scope + ", SignedHeaders=host;x-amz-date, Signature=" + signature},
		"X-Amz-Date":           {at},
		"X-Amz-Content-Sha256": {"UNSIGNED-PAYLOAD"},
	}
	query := "?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=" + scope + "&X-Amz-Date=" + at + "&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=" + signature
	for name, row := range map[string]struct {
		path string
		head http.Header
	}{
		"a wrong signature":                          {"/drops/key", header},
		"a wrong signature in the query":             {"/drops/key" + query, nil},
		"a signature that url.ParseQuery leaves out": {"/drops/key" + query + ";", nil},
		"a query that versitygw reads as a fragment": {"/drops/key#" + query, nil},
		"two Authorization headers":                  {"/drops/key", http.Header{"Authorization": {"Credential=" + scope, ""}}},
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPut} {
			t.Run(method+" with "+name, func(t *testing.T) {
				r := httptest.NewRequest(method, "/", nil)
				r.RequestURI = row.path
				var err error
				if r.URL, err = url.ParseRequestURI(row.path); err != nil {
					t.Fatal(err)
				}
				maps.Copy(r.Header, row.head)
				w := httptest.NewRecorder()
				srv.ServeHTTP(w, r)
				if w.Code/100 != 4 {
					t.Errorf("HTTP status %d, want a refusal", w.Code)
				}
				if got := denied.drain(); len(got) > 0 {
					t.Errorf("the request counts as denied: %v; want no denial", got)
				}
			})
		}
	}
}
