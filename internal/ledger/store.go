package ledger

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// S3 is what the ledger needs of the S3 client.
type S3 interface {
	GetObject(context.Context, *s3.GetObjectInput, ...func(*s3.Options)) (*s3.GetObjectOutput, error)
	PutObject(context.Context, *s3.PutObjectInput, ...func(*s3.Options)) (*s3.PutObjectOutput, error)
	DeleteObject(context.Context, *s3.DeleteObjectInput, ...func(*s3.Options)) (*s3.DeleteObjectOutput, error)
	ListObjectsV2(context.Context, *s3.ListObjectsV2Input, ...func(*s3.Options)) (*s3.ListObjectsV2Output, error)
}

// Store is the ledger of one bucket. It is safe for concurrent use.
type Store struct {
	S3     S3
	Bucket string

	// MachineARN is the state machine whose executions statuses link to.
	MachineARN string

	// Now is the clock.
	Now func() time.Time
}

// ErrNotFound is returned for a record or status that is not there.
var ErrNotFound = errors.New("not in the ledger")

// errConflict says that somebody else wrote first.
var errConflict = errors.New("somebody else wrote first")

// maxRaces bounds how often a change is decided again after a lost race. Only
// a handful of functions ever write to one object, so more is a fault.
const maxRaces = 50

// maxObject bounds what is read of a record or status, in bytes.
const maxObject = 1 << 20

// Claim makes the record of a take that has none and reports true. When there
// is one already, it returns that one and false.
func (s *Store) Claim(ctx context.Context, rec Record) (Record, bool, error) {
	key := RecordKey(rec.Name, rec.Take)
	rec.Revision = rand.Text()
	etag, err := s.put(ctx, key, rec, "", nil)
	if err == nil {
		rec.etag = etag
		return rec, true, nil
	}
	if !errors.Is(err, errConflict) {
		return Record{}, false, err
	}
	there, err := s.Get(ctx, rec.Name, rec.Take)
	if err != nil {
		return Record{}, false, err
	}
	// A lost answer to our own write comes back as a conflict with it.
	return there, there.Revision == rec.Revision, nil
}

// Get returns the record of a take, or ErrNotFound.
func (s *Store) Get(ctx context.Context, name, take string) (Record, error) {
	var rec Record
	etag, _, err := s.get(ctx, RecordKey(name, take), &rec)
	rec.etag = etag
	return rec, err
}

// Update changes the record of a take: change is called with the record as it
// stands, once more after each lost race, and what it leaves is written. A
// change that makes no difference writes nothing. The error of change is
// returned as it is; a change that is not a legal transition is *ErrTransition.
func (s *Store) Update(ctx context.Context, name, take string, change func(*Record) error) (Record, error) {
	rec, err := s.Get(ctx, name, take)
	if err != nil {
		return Record{}, err
	}
	return s.UpdateFrom(ctx, rec, change)
}

// UpdateFrom is Update for a caller that has just read or written the record,
// and saves the reading of it.
func (s *Store) UpdateFrom(ctx context.Context, rec Record, change func(*Record) error) (Record, error) {
	for range maxRaces {
		was, before := rec.State, encode(rec)
		if err := change(&rec); err != nil {
			return rec, err
		}
		if !was.CanBecome(rec.State) {
			return rec, &ErrTransition{Name: rec.Name, Take: rec.Take, From: was, To: rec.State}
		}
		if bytes.Equal(before, encode(rec)) {
			return rec, nil
		}
		rec.Revision = rand.Text()
		etag, err := s.put(ctx, RecordKey(rec.Name, rec.Take), rec, rec.etag, nil)
		if err == nil {
			rec.etag = etag
			return rec, nil
		}
		if !errors.Is(err, errConflict) {
			return rec, err
		}
		there, err := s.Get(ctx, rec.Name, rec.Take)
		if err != nil {
			return rec, err
		}
		if there.Revision == rec.Revision {
			return there, nil
		}
		rec = there
	}
	return rec, fmt.Errorf("record of %s, take %s: lost %d races", rec.Name, rec.Take, maxRaces)
}

// Release removes the record of a take that was claimed and certainly not
// taken by RunComfy, so that it can be claimed again.
func (s *Store) Release(ctx context.Context, rec Record) error {
	key := RecordKey(rec.Name, rec.Take)
	_, err := s.S3.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.Bucket, Key: &key})
	if err != nil {
		return fmt.Errorf("release %s: %w", key, err)
	}
	return nil
}

// Takes returns the records of a name, oldest first.
func (s *Store) Takes(ctx context.Context, name string) ([]Record, error) {
	keys, _, err := s.list(ctx, "jobs/"+name+"/")
	if err != nil {
		return nil, err
	}
	var recs []Record
	for _, key := range keys {
		rec, err := s.Get(ctx, name, strings.TrimSuffix(path.Base(key), ".json"))
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		recs = append(recs, rec)
	}
	return recs, nil
}

// Names returns the names that have records and begin with prefix, up to the
// next slash: the tagged names of a video are those that begin with its own
// name and a dot.
func (s *Store) Names(ctx context.Context, prefix string) ([]string, error) {
	_, folders, err := s.list(ctx, "jobs/"+prefix)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, folder := range folders {
		names = append(names, strings.TrimSuffix(strings.TrimPrefix(folder, "jobs/"), "/"))
	}
	return names, nil
}

// list returns the keys and the folders directly below a prefix.
func (s *Store) list(ctx context.Context, prefix string) (keys, folders []string, err error) {
	in := &s3.ListObjectsV2Input{
		Bucket: &s.Bucket, Prefix: &prefix, Delimiter: aws.String("/"),
		EncodingType: types.EncodingTypeUrl, // a key may hold what XML cannot
	}
	pages := s3.NewListObjectsV2Paginator(s.S3, in)
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, nil, fmt.Errorf("list %s: %w", prefix, err)
		}
		for _, object := range page.Contents {
			if key, err := url.QueryUnescape(aws.ToString(object.Key)); err == nil {
				keys = append(keys, key)
			}
		}
		for _, folder := range page.CommonPrefixes {
			if key, err := url.QueryUnescape(aws.ToString(folder.Prefix)); err == nil {
				folders = append(folders, key)
			}
		}
	}
	return keys, folders, nil
}

// get reads a JSON object and returns its ETag and metadata, or ErrNotFound.
func (s *Store) get(ctx context.Context, key string, value any) (string, map[string]string, error) {
	out, err := s.S3.GetObject(ctx, &s3.GetObjectInput{Bucket: &s.Bucket, Key: &key})
	if err != nil {
		if httpStatus(err) == http.StatusNotFound {
			return "", nil, fmt.Errorf("%s: %w", key, ErrNotFound)
		}
		return "", nil, fmt.Errorf("read %s: %w", key, err)
	}
	defer out.Body.Close()
	body, err := io.ReadAll(io.LimitReader(out.Body, maxObject))
	if err != nil {
		return "", nil, fmt.Errorf("read %s: %w", key, err)
	}
	if err := json.Unmarshal(body, value); err != nil {
		return "", nil, fmt.Errorf("read %s: %w", key, err)
	}
	return aws.ToString(out.ETag), out.Metadata, nil
}

// put writes a JSON object over the one with the given ETag, or where none is
// when the ETag is empty. When something else stands there it is errConflict.
func (s *Store) put(ctx context.Context, key string, value any, etag string, metadata map[string]string) (string, error) {
	in := &s3.PutObjectInput{
		Bucket: &s.Bucket, Key: &key, Body: bytes.NewReader(encode(value)),
		ContentType: aws.String("application/json"), Metadata: metadata,
	}
	if etag == "" {
		in.IfNoneMatch = aws.String("*")
	} else {
		in.IfMatch = &etag
	}
	out, err := s.S3.PutObject(ctx, in)
	switch status := httpStatus(err); {
	case err == nil:
		return aws.ToString(out.ETag), nil
	case status == http.StatusPreconditionFailed, status == http.StatusConflict,
		status == http.StatusNotFound && etag != "": // deleted meanwhile
		return "", errConflict
	default:
		return "", fmt.Errorf("write %s: %w", key, err)
	}
}

// encode returns the JSON that is written. Keys stay readable: HTML signs are
// not escaped.
func encode(value any) []byte {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(value); err != nil {
		panic(err) // the types of this package always encode
	}
	return buf.Bytes()
}

// httpStatus returns the HTTP status of an error of the S3 client, or 0.
func httpStatus(err error) int {
	var re *awshttp.ResponseError
	if errors.As(err, &re) {
		return re.HTTPStatusCode()
	}
	return 0
}
