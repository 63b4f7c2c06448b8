package world

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/notice"
	"github.com/lipdrop/lipdrop/internal/runcomfy"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
	"github.com/lipdrop/lipdrop/internal/transfer"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

// Signature is a part of every presigned URL. Tests search for it where a
// presigned URL must not appear.
const Signature = "X-Amz-Signature=canary"

const presignHost = "s3.example.com"

// securityToken is as long as the session token of a role on AWS. Each URL that a role
// presigns contains such a token.
var securityToken = strings.Repeat("IQoJb3JpZ2luX2VjE/+", 70)

// presign returns a URL of one version of a file.
func presign(_ context.Context, f drop.File) (string, error) {
	query := url.Values{"etag": {f.ETag}, "modified": {f.LastModified.Format(time.RFC3339)}, "X-Amz-Security-Token": {securityToken}}
	return "https://" + presignHost + "/" + url.PathEscape(f.Key) + "?" + query.Encode() + "&" + Signature, nil
}

// fetch opens an input of a job for the fake RunComfy.
func (w *World) fetch(_ context.Context, address string) (io.ReadCloser, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	body, ok := w.Web[u.Scheme+"://"+u.Host+u.Path]
	if u.Host == presignHost {
		body, ok = w.versions[version(strings.TrimPrefix(u.Path, "/"), u.Query().Get("etag"))]
	}
	if !ok {
		return nil, fmt.Errorf("GET %s: 404", address)
	}
	return io.NopCloser(bytes.NewReader(body)), nil
}

// secretsManager is the functions' client of Secrets Manager.
type secretsManager struct{ *World }

func (w secretsManager) GetSecretValue(ctx context.Context, _ *secretsmanager.GetSecretValueInput, _ ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error) {
	return once(ctx, w.World, "secretsmanager", "GetSecretValue", "", func() (*secretsmanager.GetSecretValueOutput, error) {
		return &secretsmanager.GetSecretValueOutput{SecretString: aws.String(w.Secret)}, nil
	})
}

// eventBus is the functions' client of EventBridge.
type eventBus struct{ *World }

// ErrEntry is an error that World.Before may return: PutEvents then succeeds, but its response says
// that the event was not processed.
var ErrEntry = errors.New("the event was not processed")

func (w eventBus) PutEvents(ctx context.Context, in *eventbridge.PutEventsInput, _ ...func(*eventbridge.Options)) (*eventbridge.PutEventsOutput, error) {
	entry := in.Entries[0]
	if n := len(in.Entries); n != 1 || aws.ToString(entry.Source) != notice.Source || len(aws.ToString(entry.Detail)) > 255<<10 {
		return nil, fmt.Errorf("PutEvents of %d entries, the first from %s with %d bytes; want one entry from lipdrop with at most 255 KiB, so that the event stays below 256 KiB", n, aws.ToString(entry.Source), len(aws.ToString(entry.Detail)))
	}
	var detail notice.Detail
	if err := json.Unmarshal([]byte(aws.ToString(entry.Detail)), &detail); err != nil {
		return nil, err
	}
	out, err := call(ctx, w.World, "events", "PutEvents", detail.StatusKey, func() (*eventbridge.PutEventsOutput, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.Notices = append(w.Notices, detail)
		got := outcome{detail.Name, detail.State, detail.Code, detail.Take, detail.Reason}
		if !w.outcomes[got] || aws.ToString(entry.DetailType) != notice.DetailType(detail.State) {
			w.WrongNotices = append(w.WrongNotices, fmt.Sprintf("the notice %+v", got))
		}
		return &eventbridge.PutEventsOutput{}, nil
	})
	if errors.Is(err, ErrEntry) {
		return &eventbridge.PutEventsOutput{FailedEntryCount: 1, Entries: []types.PutEventsResultEntry{{ErrorCode: aws.String("InternalFailure")}}}, nil
	}
	return out, err
}

// network is the transport between the functions and the fake RunComfy.
type network struct{ *World }

func (w network) RoundTrip(req *http.Request) (*http.Response, error) {
	op, _ := runcomfytest.CallOf(req)
	return once(req.Context(), w.World, "runcomfy", string(op), req.URL.Path, func() (*http.Response, error) {
		started := w.now
		resp, err := w.RunComfy.Transport().RoundTrip(req)
		if errors.Is(err, context.DeadlineExceeded) { // no response came before the timeout of the client or the deadline of the context
			w.reach(started.Add(patience(req.Context(), runcomfy.Timeout)))
		}
		return resp, err
	})
}

// patience returns how long a client waits for a response: until its timeout or, if that is earlier,
// the deadline of ctx by the real clock. An invocation sets its deadline by the virtual clock, which
// is decades ahead, so that deadline does not shorten the wait.
func patience(ctx context.Context, timeout time.Duration) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return min(timeout, time.Until(deadline).Round(time.Second))
	}
	return timeout
}

// copier copies outputs. Package transfer has its own tests, so copier is simple:
// it writes each object with one request, and only if the object does not exist.
type copier struct{ *World }

func (w copier) Copy(ctx context.Context, address string, name func(head []byte) (key, contentType string)) (transfer.Object, error) {
	u, err := url.Parse(address)
	if err != nil {
		return transfer.Object{}, err
	}
	body, err := w.download(ctx, address)
	if err != nil {
		return transfer.Object{}, &workflow.OutputUnavailable{Failure: workflow.Failure{Err: err}}
	}
	if len(body) == 0 {
		return transfer.Object{}, &workflow.NoOutput{Failure: workflow.Failuref("%s: the output is empty", u.Host)}
	}
	key, contentType := name(body[:min(len(body), 4096)])
	object := objectOf(key, contentType, body)
	_, err = s3Client(w).PutObject(ctx, &s3.PutObjectInput{
		Key: &key, Body: bytes.NewReader(body), ContentType: &contentType, IfNoneMatch: aws.String("*"),
		Metadata: map[string]string{sourceMetadata: sourceOf(u)},
	})
	if err == nil {
		return object, nil
	}
	there, ok := w.Bucket.Object(key)
	switch {
	case !ok || isTemporary(err):
		return transfer.Object{}, &workflow.StorageUnavailable{Failure: workflow.Failure{Err: err}}
	case !bytes.Equal(there, body):
		return transfer.Object{}, &workflow.OutputOccupied{Failure: workflow.Failuref("%s holds another object", key)}
	}
	object.Existed = true
	return object, nil
}

// sourceMetadata is the metadata key that holds the source of a copy.
const sourceMetadata = "lipdrop-source"

func sourceOf(u *url.URL) string { return u.Host + u.EscapedPath() }

func (w copier) Find(ctx context.Context, address, key string) (transfer.Object, bool, error) {
	u, err := url.Parse(address)
	if err != nil {
		return transfer.Object{}, false, err
	}
	head, err := (&bucket.Bucket{S3: s3Client(w), Name: bucketName}).Head(ctx, key)
	if errors.Is(err, bucket.ErrNotFound) || err == nil && head.Metadata[sourceMetadata] != sourceOf(u) {
		return transfer.Object{}, false, nil
	}
	if err != nil {
		return transfer.Object{}, false, &workflow.StorageUnavailable{Failure: workflow.Failure{Err: err}}
	}
	body, _ := w.Bucket.Object(key)
	object := objectOf(key, head.ContentType, body)
	object.Existed = true
	return object, true, nil
}

func objectOf(key, contentType string, body []byte) transfer.Object {
	return transfer.Object{
		Key: key, ETag: etagOf(body), Bytes: int64(len(body)), SHA256: fmt.Sprintf("%x", sha256.Sum256(body)), ContentType: contentType,
	}
}

// download returns the whole body of an output.
func (w *World) download(ctx context.Context, address string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	return once(ctx, w, "output", "GET", req.URL.Path, func() ([]byte, error) {
		resp, err := w.RunComfy.Transport().RoundTrip(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("HTTP %d", resp.StatusCode)
		}
		return body, err
	})
}
