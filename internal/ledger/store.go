package ledger

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/runcomfy"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

// Store is the ledger of one bucket. It is safe for concurrent use.
type Store struct {
	Bucket *bucket.Bucket

	// MachineARN is the ARN of the state machine. Statuses link to its executions.
	MachineARN string

	Now func() time.Time

	// Notify sends a notice, and reports whether it was sent. If it is nil, the Store sends no
	// notice and marks no new one as due.
	Notify func(context.Context, Notice) bool

	// Writer identifies this process in the metadata of a status whose notice is due. Only
	// submit sets it; each process of submit has a different Writer.
	Writer string
}

// ExecutionARN returns the ARN of the execution of a take.
func (s *Store) ExecutionARN(name, take string) string {
	return workflow.ExecutionARN(s.MachineARN, workflow.ExecutionName(name, take))
}

// maxRaces is how often a conditional write is tried. Few functions write to one object, so more
// lost races are an error.
const maxRaces = 50

// MaxObject is the size, in bytes, of the largest record or status that is written or read, and of
// the largest result or review that is read.
const MaxObject = 1 << 20

// Claim writes rec and returns true if the take has no record, or only a released record.
// Otherwise it returns the existing record and false.
func (s *Store) Claim(ctx context.Context, rec Record) (Record, bool, error) {
	key := RecordKey(rec.Name, rec.Take)
	rec.Revision = rand.Text()
	for range maxRaces {
		err := s.put(ctx, key, rec, &rec.etag, nil)
		if err == nil {
			return rec, true, nil
		}
		if !errors.Is(err, bucket.ErrConflict) {
			return Record{}, false, err
		}
		stored, err := s.read(ctx, rec.Name, rec.Take)
		switch {
		case errors.Is(err, bucket.ErrNotFound):
			rec.etag = ""
		case err != nil:
			return Record{}, false, err
		case stored.State == Released:
			rec.etag = stored.etag
		default:
			// If the response to the first request was lost, the SDK's second request
			// conflicts with the record that the first request wrote.
			return stored, stored.Revision == rec.Revision, nil
		}
	}
	return Record{}, false, fmt.Errorf("claim of %s, take %s: lost %d races", rec.Name, rec.Take, maxRaces)
}

// Get returns the record of a take. If there is no record, or only a released record, the error
// is bucket.ErrNotFound. If the record is unreadable, the error is a *bucket.UnreadableError.
func (s *Store) Get(ctx context.Context, name, take string) (Record, error) {
	rec, err := s.read(ctx, name, take)
	if err == nil && rec.State == Released {
		return Record{}, fmt.Errorf("%s: %w", RecordKey(name, take), bucket.ErrNotFound)
	}
	return rec, err
}

// read does what Get does, but also returns the record of a released claim.
func (s *Store) read(ctx context.Context, name, take string) (Record, error) {
	var rec Record
	key := RecordKey(name, take)
	file, err := s.Bucket.GetJSON(ctx, key, MaxObject, &rec)
	rec.etag = file.ETag
	switch {
	case err != nil:
	case rec.Name != name || rec.Take != take:
		// An update of this record would be written to the key of the take that the record names.
		err = &bucket.UnreadableError{Key: key, Err: fmt.Errorf("it is the record of take %q of %q", rec.Take, rec.Name)}
	case !rec.State.Claimed() && rec.State != Released:
		// No change of this state is legal, so the end of the job would not be recorded.
		err = &bucket.UnreadableError{Key: key, Err: fmt.Errorf("no record has the state %s", problem.Quote(string(rec.State)))}
	}
	return rec, err
}

// Update calls edit with a record and writes the result. It reads the record and calls edit again
// only after a lost race. If a person has deleted the record, Update still writes the result. It
// writes nothing if edit leaves the record as it is, and returns an error if the new state is not
// allowed.
func (s *Store) Update(ctx context.Context, rec Record, edit func(*Record)) (Record, error) {
	for range maxRaces {
		read, before := rec, encode(rec)
		edit(&rec)
		if !read.State.CanBecome(rec.State) {
			return rec, fmt.Errorf("take %s of %s is %s and cannot become %s", rec.Take, rec.Name, read.State, rec.State)
		}
		if rec.State != read.State && rec.State.Ended() && s.Notify != nil {
			rec.NoticeDue = true
		}
		if bytes.Equal(before, encode(rec)) {
			return rec, nil
		}
		rec.Revision = rand.Text()
		err := s.put(ctx, RecordKey(rec.Name, rec.Take), rec, &rec.etag, nil)
		if err == nil {
			return rec, nil
		}
		if !errors.Is(err, bucket.ErrConflict) {
			return rec, err
		}
		stored, err := s.read(ctx, rec.Name, rec.Take)
		if errors.Is(err, bucket.ErrNotFound) {
			stored, err = read, nil
			stored.etag = ""
		}
		if err != nil {
			return rec, err
		}
		if stored.Revision == rec.Revision {
			return stored, nil
		}
		rec = stored
	}
	return rec, fmt.Errorf("record of %s, take %s: lost %d races", rec.Name, rec.Take, maxRaces)
}

// GetOrRecreate returns the record of a job that RunComfy knows. If a person has deleted the record,
// GetOrRecreate writes a new record, so that the job's output is still archived and the status is
// still updated. If the record is unreadable, GetOrRecreate adds a warning to the status, and
// returns the error.
func (s *Store) GetOrRecreate(ctx context.Context, job workflow.Job) (Record, error) {
	rec, err := s.Get(ctx, job.Name, job.Take)
	if _, unreadable := errors.AsType[*bucket.UnreadableError](err); unreadable {
		s.warnUnreadable(ctx, job, err)
	}
	if errors.Is(err, bucket.ErrNotFound) {
		rec, _, err = s.Claim(ctx, Record{
			Name: job.Name, Take: job.Take, State: Submitted, Model: job.Model, RequestID: job.RequestID, UsualSeconds: job.UsualSeconds,
			Times:    Times{Claimed: job.SubmittedAt, Submitted: job.SubmittedAt},
			Warnings: []string{"the record of this job was deleted; its options, inputs and estimate are not known"},
		})
	}
	return rec, err
}

// RecordEnd records that RunComfy reports the job of a take as failed or cancelled, and posts
// the status. If the take was Failed with another code and RunComfy reports a failed job,
// the code and the reason are replaced. Any other take that has ended stays unchanged.
func (s *Store) RecordEnd(ctx context.Context, rec Record, result runcomfy.Result) error {
	state, code := Failed, problem.JobFailed
	if result.State == runcomfy.ResultCancelled {
		state, code = Cancelled, problem.JobCancelled
	}
	rec, err := s.Update(ctx, rec, func(r *Record) {
		if r.State == state && r.Code == code || r.State == Cancelled || !r.State.CanBecome(state) {
			return
		}
		r.State, r.Code, r.Reason, r.Times.Ended = state, code, result.EndText(), Timestamp(s.Now())
		r.AddResult(result)
	})
	if err != nil {
		return err
	}
	return s.PostTake(ctx, rec)
}

// Release releases the claim of a take whose job RunComfy certainly did not accept, so that
// the take can be claimed again. It does not release a later claim of the take.
//
// Release overwrites the record. Submit has no permission to delete, and Object Lock refuses the
// deletion of a version.
func (s *Store) Release(ctx context.Context, claim Record) error {
	revision := claim.Revision
	_, err := s.Update(ctx, claim, func(r *Record) {
		if r.Revision == revision {
			r.State = Released
		}
	})
	if err != nil {
		return fmt.Errorf("release the claim: %w", err)
	}
	return nil
}

// Takes returns the records of a name, oldest first. It leaves out unreadable records (see
// bucket.UnreadableError), and returns an error that names them. After any other error it returns
// no records.
func (s *Store) Takes(ctx context.Context, name string) ([]Record, error) {
	return s.RecentTakes(ctx, name, time.Time{}, math.MaxInt)
}

// RecentTakes is like Takes, but returns only the newest takes: at most the given number of
// takes, and only takes whose newest file is not older than the given time.
func (s *Store) RecentTakes(ctx context.Context, name string, since time.Time, most int) ([]Record, error) {
	prefix := RecordPrefix + name + "/"
	// S3 lists in the order of keys. A take begins with its year, so with the digit 2. Most names
	// below this name sort after all takes, so a listing that stops at the digit 3 skips most of them.
	keys, _, err := s.list(ctx, prefix, prefix+since.UTC().Format(StampLayout), prefix+"3")
	if err != nil {
		return nil, err
	}
	var recs []Record
	var errs []error
	for _, key := range keys[max(0, len(keys)-most):] {
		rec, err := s.Get(ctx, name, strings.TrimSuffix(path.Base(key), ".json"))
		if _, ok := errors.AsType[*bucket.UnreadableError](err); ok {
			errs = append(errs, err)
			continue
		}
		if errors.Is(err, bucket.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		recs = append(recs, rec)
	}
	slices.SortStableFunc(recs, func(a, b Record) int { return cmp.Compare(a.order(), b.order()) })
	return recs, errors.Join(errs...)
}

// Names returns the names that begin with prefix, have no slash after it, and have records of their
// own or of names below them: talk.de and talk.fr, for example, for the prefix "talk.".
func (s *Store) Names(ctx context.Context, prefix string) ([]string, error) {
	_, folders, err := s.list(ctx, RecordPrefix+prefix, "", "\xff")
	if err != nil {
		return nil, err
	}
	var names []string
	for _, folder := range folders {
		names = append(names, strings.TrimSuffix(strings.TrimPrefix(folder, RecordPrefix), "/"))
	}
	return names, nil
}

// NamesBelow returns at most the given number of names that are directly below the given name, have
// a status, and sort after the name startAfter. It may also return a prefix of startAfter, such as
// take for take-2.
func (s *Store) NamesBelow(ctx context.Context, name, startAfter string, most int) ([]string, error) {
	prefix := StatusPrefix + name + "/"
	// The name take-2 comes after take, but the key take-2.json comes before take.json. So the
	// listing starts at the key without .json.
	start := strings.TrimSuffix(StatusKey(startAfter), ".json")
	var names []string
	for more := true; more && len(names) < most; {
		var files []bucket.File
		var err error
		if files, more, err = s.Bucket.ListFolder(ctx, prefix, start, bucket.PageSize); err != nil {
			return nil, err
		}
		for _, f := range files {
			if start = f.Key; strings.HasSuffix(f.Key, ".json") && f.Key != StatusKey(startAfter) {
				names = append(names, strings.TrimSuffix(strings.TrimPrefix(f.Key, StatusPrefix), ".json"))
			}
		}
	}
	return names[:min(len(names), most)], nil
}

// TakeID identifies a take, and says when its record was last written.
type TakeID struct {
	Name, Take string
	Written    time.Time
}

// Written returns the takes, of all names that begin with prefix, whose records were
// written after a time.
func (s *Store) Written(ctx context.Context, prefix string, after time.Time) ([]TakeID, error) {
	files, _, err := s.Bucket.List(ctx, RecordPrefix+prefix, math.MaxInt)
	var takes []TakeID
	for _, f := range files {
		name, take := path.Split(strings.TrimSuffix(strings.TrimPrefix(f.Key, RecordPrefix), ".json"))
		if name != "" && f.LastModified.After(after) {
			takes = append(takes, TakeID{strings.TrimSuffix(name, "/"), take, f.LastModified})
		}
	}
	return takes, err
}

// list returns the keys of the files and of the folders directly below prefix that come after
// the key startAfter. It stops after the first page that reaches the key stopAt. If this page has
// keys beyond stopAt, list returns these too.
func (s *Store) list(ctx context.Context, prefix, startAfter, stopAt string) (keys, folders []string, err error) {
	for more := true; more && startAfter < stopAt; {
		var files []bucket.File
		if files, more, err = s.Bucket.ListFolder(ctx, prefix, startAfter, bucket.PageSize); err != nil {
			return nil, nil, err
		}
		for _, f := range files {
			if startAfter = f.Key; strings.HasSuffix(f.Key, "/") {
				folders = append(folders, f.Key)
			} else {
				keys = append(keys, f.Key)
			}
		}
	}
	return keys, folders, nil
}

// put writes a JSON object. If the object at the key no longer has the ETag *etag, put returns
// bucket.ErrConflict. An empty *etag stands for no object. After a write, *etag is the new ETag.
func (s *Store) put(ctx context.Context, key string, value any, etag *string, metadata map[string]string) error {
	body := encode(value)
	if len(body) > MaxObject {
		return fmt.Errorf("write %s: the object would have %d bytes; an object may have at most %d", key, len(body), MaxObject)
	}
	newETag, err := s.Bucket.PutJSON(ctx, key, *etag, body, metadata)
	if err == nil {
		*etag = newETag
	}
	return err
}

// encode returns the JSON of a record or status.
func encode(value any) []byte { return bucket.JSON(value, "  ") }
