package ui

import (
	"bytes"
	"cmp"
	"context"
	"crypto/md5"
	"encoding/hex"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"
)

// uploader uploads files to the bucket. A file of more than a part is uploaded in parts.
// An upload that was broken off continues: parts that S3 has already are not sent again.
type uploader struct {
	client *s3.Client
	bucket string
	sent   func(n int64) // is called with the bytes that S3 has, also from an earlier upload
}

// mostParts is how many parts S3 accepts.
const mostParts = 10000

// partSize returns the size of the parts of a file. It depends on the file's size only,
// so that a later upload of the same file has the same parts.
func partSize(size int64) int64 {
	return max(maxPart, (size+mostParts-1)/mostParts)
}

func (u *uploader) upload(ctx context.Context, key string, file io.ReaderAt, size int64, contentType *string) error {
	if size <= maxPart {
		body := make([]byte, size)
		if err := readFull(file, body, 0); err != nil {
			return err
		}
		_, err := u.client.PutObject(ctx, &s3.PutObjectInput{Bucket: &u.bucket, Key: &key, Body: bytes.NewReader(body), ContentType: contentType})
		if err == nil {
			u.sent(size)
		}
		return err
	}
	id, there := u.earlier(ctx, key, size)
	if id == nil {
		created, err := u.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &u.bucket, Key: &key, ContentType: contentType})
		if err != nil {
			return err
		}
		id = created.UploadId
	}
	parts, err := u.uploadParts(ctx, key, id, there, file, size)
	if err != nil {
		return err // the parts stay, so that the next upload continues
	}
	_, err = u.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &u.bucket, Key: &key, UploadId: id, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	})
	return err
}

// uploadParts uploads the parts that are not there, and returns all.
func (u *uploader) uploadParts(ctx context.Context, key string, id *string, there map[int32]types.Part, file io.ReaderAt, size int64) ([]types.CompletedPart, error) {
	each := partSize(size)
	var mu sync.Mutex
	var parts []types.CompletedPart
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(partsAtOnce)
	for number, off := int32(1), int64(0); off < size; number, off = number+1, off+each {
		group.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			body := make([]byte, min(each, size-off))
			if err := readFull(file, body, off); err != nil {
				return err
			}
			sum := md5.Sum(body)
			etag := there[number].ETag
			if strings.Trim(aws.ToString(etag), `"`) != hex.EncodeToString(sum[:]) {
				out, err := u.client.UploadPart(ctx, &s3.UploadPartInput{Bucket: &u.bucket, Key: &key, UploadId: id, PartNumber: &number, Body: bytes.NewReader(body)})
				if err != nil {
					return err
				}
				etag = out.ETag
			}
			u.sent(int64(len(body)))
			mu.Lock()
			defer mu.Unlock()
			parts = append(parts, types.CompletedPart{PartNumber: &number, ETag: etag})
			return nil
		})
	}
	err := group.Wait()
	slices.SortFunc(parts, func(a, b types.CompletedPart) int { return cmp.Compare(*a.PartNumber, *b.PartNumber) })
	return parts, err
}

// earlier returns the newest upload of a key that was broken off, and its parts. It
// returns none if the person may not list them.
func (u *uploader) earlier(ctx context.Context, key string, size int64) (*string, map[int32]types.Part) {
	uploads, err := u.client.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: &u.bucket, Prefix: &key})
	if err != nil {
		return nil, nil
	}
	var id *string
	var begun time.Time
	for _, upload := range uploads.Uploads {
		if aws.ToString(upload.Key) == key && !aws.ToTime(upload.Initiated).Before(begun) {
			id, begun = upload.UploadId, aws.ToTime(upload.Initiated)
		}
	}
	if id == nil {
		return nil, nil
	}
	there := map[int32]types.Part{}
	pages := s3.NewListPartsPaginator(u.client, &s3.ListPartsInput{Bucket: &u.bucket, Key: &key, UploadId: id})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, nil
		}
		for _, part := range page.Parts {
			there[aws.ToInt32(part.PartNumber)] = part
		}
	}
	if len(there) > int((size+partSize(size)-1)/partSize(size)) {
		return nil, nil // of another file: its further parts would stay in the object's place
	}
	return id, there
}

func readFull(file io.ReaderAt, body []byte, off int64) error {
	n, err := file.ReadAt(body, off)
	if n == len(body) {
		return nil
	}
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return err
}
