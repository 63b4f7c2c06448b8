package client

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"mime"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/check"
)

// Content is a file to upload.
type Content interface {
	io.ReaderAt
	io.Closer
}

// Upload is a file to upload to a key.
type Upload struct {
	Key string

	// Open opens the file.
	Open func() (Content, error)

	// Sum identifies the content.
	Sum Sum

	// Exists reports that the bucket has an object with this key, and Same that the
	// object has the same content. Compare sets them.
	Exists, Same bool
}

// Sum is the size and the checksums of a file.
type Sum struct {
	Size   int64
	SHA256 [sha256.Size]byte
	md5    [md5.Size]byte
	crc    uint64   // CRC64NVME, in which S3 can check a whole object
	parts  []uint64 // of each part; nil if there is only one
}

// The CRC64 of NVME, which S3 calculates for an object and for each of its parts.
var nvme = crc64.MakeTable(0x9a6c9329ac4bc9b5)

const (
	// minPart is the size of a part of a large file, in bytes. maxParts is how many parts
	// S3 accepts.
	minPart  = 16 << 20
	maxParts = 10_000

	// uploadsAtOnce is how many files are uploaded at the same time, and largeAtOnce how
	// many of them have several parts. The parts of a file are uploaded one after the
	// other, so that an interruption loses at most one.
	uploadsAtOnce = 16
	largeAtOnce   = 4

	// uploadAttempts is how often a request of an upload is tried.
	uploadAttempts = 6

	// resumable is how many unfinished uploads of a key are looked into.
	resumable = 10
)

// partSize returns the size of the parts of a file, in bytes.
func partSize(size int64) int64 {
	return max(minPart, (size+maxParts-1)/maxParts)
}

// SumOf reads a file and returns its sum.
func SumOf(ctx context.Context, file io.ReaderAt, size int64) (Sum, error) {
	sum := Sum{Size: size}
	whole, sha, hash := crc64.New(nvme), sha256.New(), md5.New()
	part := partSize(size)
	for off := int64(0); off < size; off += part {
		own := crc64.New(nvme)
		n, err := io.Copy(io.MultiWriter(whole, sha, hash, own), &contextReader{ctx, io.NewSectionReader(file, off, min(part, size-off))})
		if err != nil {
			return sum, err
		}
		if n < min(part, size-off) {
			return sum, io.ErrUnexpectedEOF
		}
		if size > part {
			sum.parts = append(sum.parts, own.Sum64())
		}
	}
	sum.crc = whole.Sum64()
	sha.Sum(sum.SHA256[:0])
	hash.Sum(sum.md5[:0])
	return sum, nil
}

// contextReader returns an error once its context has ended.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r *contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// Bytes returns a function that opens a text.
func Bytes(text []byte) func() (Content, error) {
	return func() (Content, error) { return nopCloser{bytes.NewReader(text)}, nil }
}

type nopCloser struct{ *bytes.Reader }

func (nopCloser) Close() error { return nil }

// encode returns a CRC64 in the form of S3's headers.
func encode(crc uint64) *string {
	return aws.String(base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint64(nil, crc)))
}

// Compare finds out which of the uploads the bucket holds already, with the same
// content. It sets their Exists and Same.
func (c *Client) Compare(ctx context.Context, uploads []*Upload) error {
	there, err := c.existing(ctx, uploads)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readsAtOnce)
	for _, u := range uploads {
		file, known := there[u.Key]
		if known && file.ETag == "" || known && file.Size != u.Sum.Size {
			u.Exists = file.ETag != ""
			continue
		}
		if u.Exists = known; known && file.ETag == hex.EncodeToString(u.Sum.md5[:]) {
			u.Same = true
			continue
		}
		group.Go(func() (err error) {
			u.Exists, u.Same, err = c.isSame(ctx, u)
			return err
		})
	}
	return group.Wait()
}

// existing lists the objects with the common prefix of the uploads, and returns them by
// their keys. It adds a file without an ETag for each upload that has no object. If there
// are so many objects that a request for each upload is cheaper, it returns only some.
func (c *Client) existing(ctx context.Context, uploads []*Upload) (map[string]bucket.File, error) {
	there := map[string]bucket.File{}
	if len(uploads) == 0 {
		return there, nil
	}
	prefix := uploads[0].Key
	for _, u := range uploads {
		for !strings.HasPrefix(u.Key, prefix) {
			prefix = prefix[:len(prefix)-1]
		}
	}
	files, more, err := c.Bucket.List(ctx, prefix, bucket.PageSize*max(1, len(uploads)/8))
	if err != nil {
		return nil, c.Explain("see what is already in the bucket", "inbox/", err)
	}
	if !more {
		for _, u := range uploads {
			there[u.Key] = bucket.File{}
		}
	}
	for _, f := range files {
		there[f.Key] = f
	}
	return there, nil
}

// isSame asks S3 whether an object exists and has the content of the upload.
func (c *Client) isSame(ctx context.Context, u *Upload) (exists, same bool, err error) {
	head, err := c.S3.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &c.Bucket.Name, Key: &u.Key, ChecksumMode: types.ChecksumModeEnabled})
	switch status := statusOf(err); {
	case status == http.StatusNotFound:
		return false, false, nil
	case err != nil:
		return false, false, c.Explain("compare "+u.Key+" with the file in the bucket", u.Key, err)
	case aws.ToInt64(head.ContentLength) != u.Sum.Size:
		return true, false, nil
	}
	whole := head.ChecksumType == types.ChecksumTypeFullObject
	return true, whole && aws.ToString(head.ChecksumCRC64NVME) == *encode(u.Sum.crc) || aws.ToString(head.ETag) == `"`+hex.EncodeToString(u.Sum.md5[:])+`"`, nil
}

// statusOf returns the HTTP status of an error of S3, or 0.
func statusOf(err error) int {
	if response, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		return response.HTTPStatusCode()
	}
	return 0
}

// Send uploads files so that no job starts before all its files are there: see
// check.UploadRank. It calls sent with the number of bytes that were sent since the last
// call, which is negative if they must be sent again. A large file is uploaded in parts.
// If an earlier upload of the same content was interrupted, Send sends only the parts
// that are missing, and calls sent for the others too. S3 verifies each file. Send stops
// at the first error, and leaves unfinished uploads to the next Send.
func (c *Client) Send(ctx context.Context, uploads []*Upload, sent func(n int64)) error {
	var mu sync.Mutex
	s := &sender{Client: c, large: make(chan struct{}, largeAtOnce), sent: func(n int64) {
		mu.Lock()
		defer mu.Unlock()
		sent(n)
	}}
	ordered := slices.Clone(uploads)
	slices.SortStableFunc(ordered, func(a, b *Upload) int { return check.UploadRank(a.Key) - check.UploadRank(b.Key) })
	for len(ordered) > 0 {
		rank := check.UploadRank(ordered[0].Key)
		n := slices.IndexFunc(ordered, func(u *Upload) bool { return check.UploadRank(u.Key) != rank })
		if n < 0 {
			n = len(ordered)
		}
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(uploadsAtOnce)
		for _, u := range ordered[:n] {
			group.Go(func() error {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				return s.upload(ctx, u)
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
		ordered = ordered[n:]
	}
	return nil
}

// A sender uploads files.
type sender struct {
	*Client
	large chan struct{}
	sent  func(n int64)
}

// upload uploads one file.
func (s *sender) upload(ctx context.Context, u *Upload) error {
	file, err := u.Open()
	if err != nil {
		return err
	}
	defer file.Close()
	if u.Sum.parts == nil {
		return s.failed(u, s.put(ctx, u, file))
	}
	select {
	case s.large <- struct{}{}:
		defer func() { <-s.large }()
	case <-ctx.Done():
		return ctx.Err()
	}
	err = s.multipart(ctx, u, file)
	if statusOf(err) == http.StatusNotFound {
		// The upload has ended: an earlier request has completed it although its
		// response was lost, somebody else has, or it was aborted.
		if _, same, headErr := s.isSame(ctx, u); headErr == nil && same {
			return nil
		}
		err = s.multipart(ctx, u, file)
	}
	return s.failed(u, err)
}

// ChangedError is returned if a file has changed since its sum was calculated.
type ChangedError struct{ Key string }

func (e *ChangedError) Error() string {
	return fmt.Sprintf("%s changed while it was uploaded. Run the command again when it is complete", path.Base(e.Key))
}

// wrongDigest are the codes of S3 for a body that does not have its checksum.
var wrongDigest = []string{"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"}

// failed returns an error of an upload in words for a person.
func (s *sender) failed(u *Upload, err error) error {
	if err == nil {
		return nil
	}
	explained := s.Explain("upload "+u.Key, u.Key, err)
	service, ok := errors.AsType[*ServiceError](explained)
	if ok && slices.Contains(wrongDigest, service.Code) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &ChangedError{u.Key}
	}
	return explained
}

// counted returns the options of a request that sends a body, and a function to call
// after its success with the length of the body.
func (s *sender) counted() (options func(*s3.Options), done func(n int64)) {
	w := &wire{sent: s.sent}
	return func(o *s3.Options) {
		o.RetryMaxAttempts = uploadAttempts
		w.client, o.HTTPClient = o.HTTPClient, w
	}, w.done
}

// A wire is an HTTP client that counts the bytes of the body that it sends. Each attempt
// counts from 0.
type wire struct {
	client s3.HTTPClient
	sent   func(n int64)

	mu      sync.Mutex
	body    *countedBody // of the last request
	counted int64
}

// Do implements the SDK's client.
func (w *wire) Do(req *http.Request) (*http.Response, error) {
	w.begin(nil)
	if req.Body != nil && req.Body != http.NoBody {
		body := &countedBody{req.Body, w}
		w.begin(body)
		req.Body = body
	}
	return w.client.Do(req)
}

func (w *wire) begin(body *countedBody) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.counted > 0 {
		w.sent(-w.counted)
	}
	w.body, w.counted = body, 0
}

// done reports what is left of a body of n bytes.
func (w *wire) done(n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent(n - w.counted)
	w.body, w.counted = nil, 0
}

type countedBody struct {
	io.ReadCloser
	w *wire
}

// Read implements io.Reader.
func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.w.mu.Lock()
	defer b.w.mu.Unlock()
	if n > 0 && b.w.body == b {
		b.w.counted += int64(n)
		b.w.sent(int64(n))
	}
	return n, err
}

// contentType returns the type of a file by its name, or nil.
func contentType(key string) *string {
	if kind := mime.TypeByExtension(path.Ext(key)); kind != "" {
		return &kind
	}
	return nil
}

// put uploads a file by one request.
func (s *sender) put(ctx context.Context, u *Upload, file io.ReaderAt) error {
	options, done := s.counted()
	_, err := s.S3.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &s.Bucket.Name, Key: &u.Key, ContentType: contentType(u.Key), ContentLength: &u.Sum.Size,
		Body: io.NewSectionReader(file, 0, u.Sum.Size), ChecksumCRC64NVME: encode(u.Sum.crc),
	}, options)
	if err == nil {
		done(u.Sum.Size)
	}
	return err
}

// multipart uploads a file in parts, and resumes an unfinished upload of the same
// content.
func (s *sender) multipart(ctx context.Context, u *Upload, file io.ReaderAt) error {
	id, parts, err := s.unfinished(ctx, u)
	if err != nil {
		return err
	}
	if id == nil {
		created, err := s.S3.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
			Bucket: &s.Bucket.Name, Key: &u.Key, ContentType: contentType(u.Key),
			ChecksumAlgorithm: types.ChecksumAlgorithmCrc64nvme, ChecksumType: types.ChecksumTypeFullObject,
		})
		if err != nil {
			return err
		}
		id, parts = created.UploadId, make([]types.CompletedPart, len(u.Sum.parts))
	}
	size := partSize(u.Sum.Size)
	for i := range parts {
		off := int64(i) * size
		n := min(size, u.Sum.Size-off)
		if parts[i].ETag != nil {
			s.sent(n)
			continue
		}
		number, crc := aws.Int32(int32(i+1)), encode(u.Sum.parts[i])
		options, done := s.counted()
		out, err := s.S3.UploadPart(ctx, &s3.UploadPartInput{
			Bucket: &s.Bucket.Name, Key: &u.Key, UploadId: id, PartNumber: number, ContentLength: &n,
			Body: io.NewSectionReader(file, off, n), ChecksumCRC64NVME: crc,
		}, options)
		if err != nil {
			return err
		}
		done(n)
		parts[i] = types.CompletedPart{PartNumber: number, ETag: out.ETag, ChecksumCRC64NVME: crc}
	}
	_, err = s.S3.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &s.Bucket.Name, Key: &u.Key, UploadId: id, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
		ChecksumCRC64NVME: encode(u.Sum.crc), ChecksumType: types.ChecksumTypeFullObject, MpuObjectSize: &u.Sum.Size,
	}, func(o *s3.Options) { o.RetryMaxAttempts = uploadAttempts })
	return err
}

// unfinished returns the newest upload of the same content to the same key that was
// interrupted, and its parts; those without an ETag are missing. It returns no id if
// there is none, or if the caller may not list uploads. An upload counts if it has
// parts, and each is a part of this file: other programs have other part sizes.
func (s *sender) unfinished(ctx context.Context, u *Upload) (*string, []types.CompletedPart, error) {
	out, err := s.S3.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: &s.Bucket.Name, Prefix: &u.Key})
	if statusOf(err) == http.StatusForbidden {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	var open []types.MultipartUpload
	for _, upload := range out.Uploads {
		if aws.ToString(upload.Key) == u.Key {
			open = append(open, upload)
		}
	}
	slices.SortFunc(open, func(a, b types.MultipartUpload) int { return aws.ToTime(b.Initiated).Compare(aws.ToTime(a.Initiated)) })
	for _, upload := range open[:min(len(open), resumable)] {
		parts, err := s.partsOf(ctx, u, upload.UploadId)
		if status := statusOf(err); status == http.StatusNotFound || status == http.StatusForbidden {
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

// partsOf returns the parts of an unfinished upload, or nil if it has none or is not
// about this content.
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
			if i < 0 || i >= len(parts) || aws.ToInt64(p.Size) != min(size, u.Sum.Size-int64(i)*size) || aws.ToString(p.ChecksumCRC64NVME) != *encode(u.Sum.parts[i]) {
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
