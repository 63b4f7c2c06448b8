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

// releaseTries is how often a release is sent that S3 answers with a conflict.
const releaseTries = 3

// maxObject bounds what is read of a record or status, in bytes.
const maxObject = 1 << 20

// Claim makes the record of a take that has none and reports true. When there
// is one already, it returns that one and false.
func (s *Store) Claim(ctx context.Context, rec Record) (Record, bool, error) {
	key := RecordKey(rec.Name, rec.Take)
	rec.Revision = rand.Text()
	err := s.put(ctx, key, rec, &rec.written, nil)
	if err == nil {
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
	var err error
	rec.written, _, err = s.get(ctx, RecordKey(name, take), &rec)
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
		err := s.put(ctx, RecordKey(rec.Name, rec.Take), rec, &rec.written, nil)
		if err == nil {
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
	in := &s3.DeleteObjectInput{Bucket: &s.Bucket, Key: &key}
	// This very claim and no later one: the client repeats a call whose answer
	// was lost, and somebody else may have claimed the take in between.
	if rec.version != "" {
		in.VersionId = &rec.version // no delete marker takes its place
	} else {
		in.IfMatch = &rec.etag
	}
	var err error
	for range releaseTries {
		_, err = s.S3.DeleteObject(ctx, in)
		switch httpStatus(err) {
		case http.StatusPreconditionFailed, http.StatusNotFound: // it is gone, or another's
			return nil
		case http.StatusConflict:
			// Another request for this key was under way, and S3 deleted nothing.
			there, getErr := s.Get(ctx, rec.Name, rec.Take)
			if errors.Is(getErr, ErrNotFound) || getErr == nil && there.Revision != rec.Revision {
				return nil
			}
			continue
		}
		break
	}
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

// Answered returns the names that have a status and begin with prefix, up to the
// next slash.
func (s *Store) Answered(ctx context.Context, prefix string) ([]string, error) {
	keys, _, err := s.list(ctx, "status/"+prefix)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, key := range keys {
		names = append(names, strings.TrimSuffix(strings.TrimPrefix(key, "status/"), ".json"))
	}
	return names, nil
}

// list returns the keys and the folders directly below a prefix.
func (s *Store) list(ctx context.Context, prefix string) (keys, folders []string, err error) {
	pages := s3.NewListObjectsV2Paginator(s.S3, &s3.ListObjectsV2Input{
		Bucket: &s.Bucket, Prefix: &prefix, Delimiter: aws.String("/"),
		EncodingType: types.EncodingTypeUrl, // a key may hold what XML cannot
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, nil, fmt.Errorf("list %s: %w", prefix, err)
		}
		for _, object := range page.Contents {
			keys = append(keys, ListedKey(page, object.Key))
		}
		for _, folder := range page.CommonPrefixes {
			folders = append(folders, ListedKey(page, folder.Prefix))
		}
	}
	return keys, folders, nil
}

// ListedKey returns a key of a listing that was asked for in the URL encoding.
// The page says whether its server knows that encoding.
func ListedKey(page *s3.ListObjectsV2Output, key *string) string {
	if page.EncodingType == types.EncodingTypeUrl {
		if decoded, err := url.QueryUnescape(aws.ToString(key)); err == nil {
			return decoded
		}
	}
	return aws.ToString(key)
}

// written is what S3 says of an object that was read or written.
type written struct {
	etag    string // empty where there is no object
	version string // empty where the bucket keeps no versions
}

// get reads a JSON object, and its metadata, or ErrNotFound.
func (s *Store) get(ctx context.Context, key string, value any) (written, map[string]string, error) {
	out, err := s.S3.GetObject(ctx, &s3.GetObjectInput{Bucket: &s.Bucket, Key: &key})
	if err != nil {
		if httpStatus(err) == http.StatusNotFound {
			return written{}, nil, fmt.Errorf("%s: %w", key, ErrNotFound)
		}
		return written{}, nil, fmt.Errorf("read %s: %w", key, err)
	}
	defer out.Body.Close()
	body, err := io.ReadAll(io.LimitReader(out.Body, maxObject))
	if err != nil {
		return written{}, nil, fmt.Errorf("read %s: %w", key, err)
	}
	if err := json.Unmarshal(body, value); err != nil {
		return written{}, nil, fmt.Errorf("read %s: %w", key, err)
	}
	return written{aws.ToString(out.ETag), aws.ToString(out.VersionId)}, out.Metadata, nil
}

// put writes a JSON object over the one that was written, or where none is when
// there was none, and notes what is written then. When something else stands
// there it is errConflict.
func (s *Store) put(ctx context.Context, key string, value any, over *written, metadata map[string]string) error {
	in := &s3.PutObjectInput{
		Bucket: &s.Bucket, Key: &key, Body: bytes.NewReader(encode(value)),
		ContentType: aws.String("application/json"), Metadata: metadata,
	}
	if over.etag == "" {
		in.IfNoneMatch = aws.String("*")
	} else {
		in.IfMatch = &over.etag
	}
	out, err := s.S3.PutObject(ctx, in)
	switch status := httpStatus(err); {
	case err == nil:
		*over = written{aws.ToString(out.ETag), aws.ToString(out.VersionId)}
		return nil
	case status == http.StatusPreconditionFailed, status == http.StatusConflict,
		status == http.StatusNotFound && over.etag != "": // deleted meanwhile
		return errConflict
	default:
		return fmt.Errorf("write %s: %w", key, err)
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
	if re, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		return re.HTTPStatusCode()
	}
	return 0
}
