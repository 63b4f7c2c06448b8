package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"golang.org/x/sync/semaphore"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/check"
	"github.com/lipdrop/lipdrop/internal/drop"
)

const (
	// At most uploadsAtOnce files in one piece and largeAtOnce files in several parts are uploaded
	// at the same time. The parts of one file are uploaded one after the other, so that an
	// interruption loses at most one part of a file.
	uploadsAtOnce = 16
	largeAtOnce   = 4

	// uploadAttempts is how often the SDK tries a request that sends bytes or completes an upload, and
	// how often unlessStored makes such a request.
	uploadAttempts = 6

	// mostResumable is how many unfinished uploads of a key are compared with the file.
	mostResumable = 10
)

// Send uploads files in an order in which no job starts before all its files are there:
// see check.UploadRank. S3 verifies each file. A large file is uploaded in parts. If an
// earlier upload of the same content was interrupted, Send sends only the missing parts.
// Send stops at the first error; the next Send continues what is unfinished.
//
// Send calls report with the number of bytes that were sent since its last call. The number is
// negative if bytes must be sent again. Parts that S3 already has count too. The calls may be
// concurrent.
func (c *Client) Send(ctx context.Context, uploads []*Upload, report func(n int64)) error {
	s := &sender{Client: c, smallSlots: semaphore.NewWeighted(uploadsAtOnce), largeSlots: semaphore.NewWeighted(largeAtOnce), report: report}
	byRank := map[int][][]*Upload{}
	uploads = slices.SortedFunc(slices.Values(uploads), func(a, b *Upload) int { return strings.Compare(a.Key, b.Key) })
	for _, files := range groupPairs(uploads) {
		rank := check.UploadRank(files[0].Key)
		byRank[rank] = append(byRank[rank], files)
	}
	for _, rank := range slices.Sorted(maps.Keys(byRank)) {
		err := each(ctx, uploadsAtOnce, byRank[rank], func(ctx context.Context, _ int, files []*Upload) error { return s.upload(ctx, files) })
		if err != nil {
			return err
		}
	}
	return nil
}

// groupPairs groups the files that must appear in the bucket together. The upload of one file of a
// pair starts a job if the other file is there. A new video must not start a job with the old
// version of its voice, because that job would be charged too. So an audio file joins the group of
// the video or image that it pairs with, if either of the two replaces an object. The video or
// image is the first file of its group. Every other file is a group of its own.
func groupPairs(uploads []*Upload) [][]*Upload {
	var groups [][]*Upload
	visuals := map[string]int{} // the groups of the videos and images, by name
	for _, u := range uploads {
		if k := drop.ParseKey(u.Key); k.Role == drop.Visual {
			visuals[k.Name] = len(groups)
			groups = append(groups, []*Upload{u})
		}
	}
	for _, u := range uploads {
		k := drop.ParseKey(u.Key)
		if k.Role == drop.Visual {
			continue
		}
		name := k.Name // talk.de.wav pairs with talk.de.mp4, or else with talk.mp4
		i, found := visuals[name]
		for !found && path.Ext(name) != "" {
			name = strings.TrimSuffix(name, path.Ext(name))
			i, found = visuals[name]
		}
		if found && k.Role == drop.Audio && (u.Exists || groups[i][0].Exists) {
			groups[i] = append(groups[i], u)
		} else {
			groups = append(groups, []*Upload{u})
		}
	}
	return groups
}

type sender struct {
	*Client
	smallSlots, largeSlots *semaphore.Weighted // for the files in one piece, and for the files in several parts
	report                 func(n int64)
}

// upload uploads the files of a group. When S3 has the parts of all files, the first file appears
// in the bucket. Then the others appear, each by one short request. So all files except the first
// are sent in parts, even if they are small.
//
// A file that is the same as the object in the bucket is also sent in parts. If the response to
// a PUT is lost, the SDK sends the PUT again. S3 would accept both, because the ETag stays the same,
// and the file would start two takes. S3 completes a multipart upload only once. An empty file has
// no parts.
func (s *sender) upload(ctx context.Context, files []*Upload) error {
	for i, u := range files {
		if (i > 0 || u.Same) && u.Sum.parts == nil && u.Sum.Size > 0 {
			u.Sum.parts = []uint64{u.Sum.crc}
		}
	}
	finish := make([]func(context.Context) error, len(files))
	err := each(ctx, uploadsAtOnce, files, func(ctx context.Context, i int, u *Upload) (err error) {
		finish[i], err = s.prepare(ctx, u)
		return err
	})
	if err != nil {
		return err
	}
	if err := finish[0](ctx); err != nil {
		return err
	}
	return each(ctx, uploadsAtOnce, finish[1:], func(ctx context.Context, _ int, finish func(context.Context) error) error { return finish(ctx) })
}

// prepare sends the parts of a file, if it has parts. The returned function makes the file
// appear in the bucket: it completes the upload of the parts, or sends the whole file.
func (s *sender) prepare(ctx context.Context, u *Upload) (finish func(context.Context) error, err error) {
	if u.Sum.parts == nil {
		put := func(ctx context.Context) error { return s.put(ctx, u) }
		return func(ctx context.Context) error { return s.explain(u, s.unlessStored(ctx, u, put)) }, nil
	}
	complete, err := s.sendParts(ctx, u)
	if isGone(err) {
		// If isStored fails, the parts are sent again. unlessStored then makes sure that the file
		// is not stored twice.
		if _, ok, _ := s.isStored(ctx, u); ok {
			s.report(u.Sum.Size)
			return func(context.Context) error { return nil }, nil
		}
		complete, err = s.sendParts(ctx, u)
	}
	if err != nil {
		return nil, s.explain(u, err)
	}
	return func(ctx context.Context) error {
		err := s.unlessStored(ctx, u, complete)
		if isGone(err) || isConflict(err) {
			s.report(-u.Sum.Size)
			if complete, err = s.sendParts(ctx, u); err == nil {
				err = s.unlessStored(ctx, u, complete)
			}
		}
		return s.explain(u, err)
	}, nil
}

// condition returns the condition under which a file may appear: the key still has the object
// u.stored, or no object. Otherwise two drops of the same files at the same time would start two
// takes, and both would be charged. For a delete marker, there is no condition (see unlessStored).
func condition(u *Upload) (ifMatch, ifNoneMatch *string) {
	switch {
	case !u.Exists:
		return nil, aws.String("*")
	case u.stored.ETag != "":
		return aws.String(`"` + u.stored.ETag + `"`), nil
	default:
		return nil, nil
	}
}

// isConditionError reports whether an error says that the condition of an upload does not hold, or
// could not be checked.
func isConditionError(err error) bool {
	return bucket.HTTPStatus(err) == http.StatusPreconditionFailed || isConflict(err)
}

// isConflict reports whether an error says that S3 could not check the condition of an upload
// because of another request, such as a deletion. A PUT may then be repeated. A multipart upload
// can no longer be completed.
func isConflict(err error) bool { return bucket.HTTPStatus(err) == http.StatusConflict }

// unlessStored calls finish, which makes a file appear. If S3 refuses the request, but the bucket
// holds the file, unlessStored returns nil: the file was stored by another drop, or by an earlier
// request whose response was lost. After other refusals it calls finish again, up to
// uploadAttempts times in all, unless the key has a new object or the multipart upload can no
// longer be completed.
//
// If u.Same is set and another drop sends the file, the ETag may stay the same. The condition then
// still holds, so unlessStored first checks whether another drop has sent the file.
func (s *sender) unlessStored(ctx context.Context, u *Upload, finish func(context.Context) error) error {
	if u.Same {
		if _, ok, err := s.isStored(ctx, u); ok || err != nil {
			return err
		}
	}
	for try := 1; ; try++ {
		err := finish(ctx)
		if !isConditionError(err) && !isGone(err) {
			return err
		}
		stored, ok, headErr := s.isStored(ctx, u)
		if ok {
			return nil
		}
		replaced := stored.ETag != "" && stored.ETag != u.stored.ETag
		uploadGone := isGone(err) && stored.ETag == u.stored.ETag
		if headErr != nil || replaced || uploadGone || try == uploadAttempts {
			return err
		}
		// versitygw 1.8.0 treats a delete marker as an object, and returns HTTP status 412. The
		// next request then has no condition. A conflict does not remove the condition: the request
		// of another drop may still be running.
		deleteMarker := !u.Exists && bucket.HTTPStatus(err) == http.StatusPreconditionFailed
		u.Exists, u.stored = deleteMarker || stored.ETag != "", stored
		if isConflict(err) && u.Sum.parts != nil {
			return err
		}
	}
}

// isGone reports whether an error says that a multipart upload, or the object that the condition
// of a request names, no longer exists. An upload no longer exists after it was aborted or
// completed: this sender may have completed it with a request whose response was lost.
func isGone(err error) bool { return bucket.HTTPStatus(err) == http.StatusNotFound }

// isStored returns the object with the key of an upload, and reports whether a drop has stored
// the file since Choose. If so, isStored counts a file without parts as sent, because the bytes of
// its failed PUT were subtracted.
func (s *sender) isStored(ctx context.Context, u *Upload) (stored drop.File, ok bool, err error) {
	stored, ok, err = s.headAndCompare(ctx, u)
	ok = ok && (!u.Same || stored.LastModified.After(u.stored.LastModified.Add(time.Second))) // S3 may round the times differently
	if ok && u.Sum.parts == nil {
		s.report(u.Sum.Size)
	}
	return stored, ok, err
}

// ChangedError is returned if a file changes while it is checked or uploaded.
type ChangedError struct{ Key string }

// RetryableError tells the SDK not to repeat the request.
func (e *ChangedError) RetryableError() bool { return false }

func (e *ChangedError) Error() string {
	return fmt.Sprintf("%s changed while it was read. Wait until the file is complete, then try again", path.Base(e.Key))
}

// wrongDigest are S3's error codes for a body that does not match its checksum.
var wrongDigest = []string{"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"}

// explain returns an error of an upload in words for a person. The error is *ChangedError if
// the file has changed.
func (s *sender) explain(u *Upload, err error) error {
	if changed, ok := errors.AsType[*ChangedError](err); ok {
		return changed
	}
	if isConditionError(err) {
		return fmt.Errorf("another program uploaded %s at the same time. Drop your file again: lipdrop then compares it with the file in the bucket", u.Key)
	}
	explained := s.Explain("upload "+u.Key, u.Key, err)
	if service, ok := errors.AsType[*ServiceError](explained); ok && slices.Contains(wrongDigest, service.Code) {
		return &ChangedError{u.Key}
	}
	return explained
}

// options returns the options of a request that sends bytes of a file. The options
// report the bytes that are sent. If a request fails, they subtract its bytes again.
func (s *sender) options(u *Upload) func(*s3.Options) {
	return func(o *s3.Options) {
		o.RetryMaxAttempts = uploadAttempts
		// Over plain http, the SDK would read the file once more for a checksum of its own.
		o.APIOptions = append(o.APIOptions, v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware)
		client := o.HTTPClient
		o.HTTPClient = smithyhttp.ClientDoFunc(func(req *http.Request) (*http.Response, error) {
			if req.ContentLength <= 0 {
				return client.Do(req)
			}
			body := &countedBody{Closer: req.Body, ahead: readAhead(req.Body, req.ContentLength), key: u.Key, size: req.ContentLength, report: s.report}
			stored := int64(0)
			req.Body = body
			response, err := client.Do(req)
			if err == nil && response.StatusCode == http.StatusOK {
				stored = req.ContentLength
			}
			body.end(stored)
			return response, err
		})
	}
}

// countedBody is the body of a request. It reports how many of its bytes were read. It
// reports nothing after the request has ended, because the HTTP client may still read some
// bytes then. If the body has fewer bytes than size, Read returns *ChangedError with the key.
type countedBody struct {
	io.Closer
	ahead  io.Reader
	key    string
	size   int64
	report func(n int64)

	mu    sync.Mutex
	n     int64 // how much was reported
	ended bool
}

// Read implements io.Reader.
func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ahead.Read(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.ended && n > 0 {
		b.n += int64(n)
		b.report(int64(n))
	}
	if err == io.EOF && !b.ended && b.n < b.size {
		err = &ChangedError{b.key}
	}
	return n, err
}

// end corrects the reported number of bytes to the number that S3 has stored.
func (b *countedBody) end(stored int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.report(stored - b.n)
	b.ended = true
}

// put uploads a file in one request.
func (s *sender) put(ctx context.Context, u *Upload) error {
	if err := s.smallSlots.Acquire(ctx, 1); err != nil {
		return err
	}
	defer s.smallSlots.Release(1)
	file, err := u.Open()
	if err != nil {
		return err
	}
	defer file.Close()
	ifMatch, ifNoneMatch := condition(u)
	_, err = s.S3.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &s.Bucket.Name, Key: &u.Key, ContentType: bucket.ContentType(u.Key), ContentLength: &u.Sum.Size,
		Body: io.NewSectionReader(file, 0, u.Sum.Size), ChecksumCRC64NVME: encodeCRC(u.Sum.crc), IfMatch: ifMatch, IfNoneMatch: ifNoneMatch,
	}, s.options(u))
	return err
}

// sendParts sends the parts of a file, and returns the function that completes the
// upload. It continues an unfinished upload of the same content if the file has several parts.
func (s *sender) sendParts(ctx context.Context, u *Upload) (complete func(context.Context) error, err error) {
	slots := s.largeSlots
	if len(u.Sum.parts) == 1 {
		slots = s.smallSlots
	}
	if err := slots.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer slots.Release(1)
	file, err := u.Open()
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var id *string
	var parts []types.CompletedPart
	// S3's LastModified is the time when the upload began. So a file of one part, which is sent
	// quickly, gets a new upload: its LastModified is then the time of this drop.
	if len(u.Sum.parts) > 1 {
		if id, parts, err = s.unfinished(ctx, u); err != nil {
			return nil, err
		}
	}
	if id == nil {
		created, err := s.S3.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
			Bucket: &s.Bucket.Name, Key: &u.Key, ContentType: bucket.ContentType(u.Key),
			ChecksumAlgorithm: types.ChecksumAlgorithmCrc64nvme, ChecksumType: types.ChecksumTypeFullObject,
		})
		if err != nil {
			return nil, err
		}
		id, parts = created.UploadId, make([]types.CompletedPart, len(u.Sum.parts))
	}
	size, done := partSize(u.Sum.Size), int64(0)
	for i := range parts {
		off := int64(i) * size
		n := min(size, u.Sum.Size-off)
		done += n
		if parts[i].ETag != nil {
			s.report(n)
			continue
		}
		number, crc := aws.Int32(int32(i+1)), encodeCRC(u.Sum.parts[i])
		out, err := s.S3.UploadPart(ctx, &s3.UploadPartInput{
			Bucket: &s.Bucket.Name, Key: &u.Key, UploadId: id, PartNumber: number, ContentLength: &n,
			Body: io.NewSectionReader(file, off, n), ChecksumCRC64NVME: crc,
		}, s.options(u))
		if err != nil {
			if isGone(err) { // the earlier parts must be sent again; s.options has subtracted this one
				s.report(n - done)
			}
			return nil, err
		}
		parts[i] = types.CompletedPart{PartNumber: number, ETag: out.ETag, ChecksumCRC64NVME: crc}
	}
	return func(ctx context.Context) error {
		ifMatch, ifNoneMatch := condition(u)
		_, err := s.S3.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
			Bucket: &s.Bucket.Name, Key: &u.Key, UploadId: id, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
			ChecksumCRC64NVME: encodeCRC(u.Sum.crc), ChecksumType: types.ChecksumTypeFullObject, MpuObjectSize: &u.Sum.Size,
			IfMatch: ifMatch, IfNoneMatch: ifNoneMatch,
		}, func(o *s3.Options) { o.RetryMaxAttempts = uploadAttempts })
		if isConflict(err) {
			u.refused = *id
		}
		return err
	}, nil
}

// unfinished returns the id of the newest unfinished upload of the same content to the same
// key, and an entry for each part of the file. The entry of a part that the upload lacks has
// no ETag. unfinished ignores the upload that S3 has refused to complete. It returns no id if it
// finds no other upload, or if the caller may not list uploads or their parts.
func (s *sender) unfinished(ctx context.Context, u *Upload) (*string, []types.CompletedPart, error) {
	out, err := s.S3.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: &s.Bucket.Name, Prefix: &u.Key})
	if bucket.HTTPStatus(err) == http.StatusForbidden {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	open := slices.DeleteFunc(out.Uploads, func(upload types.MultipartUpload) bool {
		return aws.ToString(upload.Key) != u.Key || aws.ToString(upload.UploadId) == u.refused
	})
	slices.SortFunc(open, func(a, b types.MultipartUpload) int { return aws.ToTime(b.Initiated).Compare(aws.ToTime(a.Initiated)) })
	for _, upload := range open[:min(len(open), mostResumable)] {
		parts, err := s.partsOf(ctx, u, upload.UploadId)
		if status := bucket.HTTPStatus(err); status == http.StatusNotFound || status == http.StatusForbidden {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		if parts != nil {
			return upload.UploadId, parts, nil
		}
	}
	return nil, nil, nil
}

// partsOf returns the parts of an unfinished upload. It returns nil if the upload has no
// parts, or if one of them does not match the file: the upload then has other content, or
// a program with another part size began it.
func (s *sender) partsOf(ctx context.Context, u *Upload, id *string) ([]types.CompletedPart, error) {
	parts := make([]types.CompletedPart, len(u.Sum.parts))
	size, found := partSize(u.Sum.Size), false
	pages := s3.NewListPartsPaginator(s.S3, &s3.ListPartsInput{Bucket: &s.Bucket.Name, Key: &u.Key, UploadId: id})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, p := range page.Parts {
			i := int(aws.ToInt32(p.PartNumber)) - 1
			if i < 0 || i >= len(parts) || aws.ToInt64(p.Size) != min(size, u.Sum.Size-int64(i)*size) || aws.ToString(p.ChecksumCRC64NVME) != *encodeCRC(u.Sum.parts[i]) {
				return nil, nil
			}
			parts[i] = types.CompletedPart{PartNumber: p.PartNumber, ETag: p.ETag, ChecksumCRC64NVME: p.ChecksumCRC64NVME}
			found = true
		}
	}
	if !found {
		return nil, nil
	}
	return parts, nil
}
