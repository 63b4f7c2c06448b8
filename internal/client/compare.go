package client

import (
	"bufio"
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"hash/crc64"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/drop"
)

// Content is an open file.
type Content interface {
	io.ReaderAt
	io.Closer
}

// Upload is a file to upload.
type Upload struct {
	// Drop.Check treats File as a file of the bucket. Drop.Choose needs its Key and, if Sum is not
	// set, its Size. Client.Send needs only its Key.
	drop.File

	// Open opens the file.
	Open func() (Content, error)

	// Sum identifies the content. If Sum is not set, Drop.Choose sets it.
	Sum Sum

	// Exists is true if the bucket has an object with this key. Same is true if that object
	// also has the same content. Drop.Check sets Exists of a limited number of uploads.
	// Drop.Choose sets Exists and Same of all uploads.
	Exists, Same bool

	// stored is the object in the bucket with this key. Only its ETag and LastModified are
	// used. They are empty if there is no object, and until Drop.Choose sets them.
	stored drop.File

	// refused is the id of a multipart upload that S3 did not complete because of a conflict.
	refused string
}

// Sum is the size and the checksums of a file.
type Sum struct {
	Size   int64
	SHA256 [sha256.Size]byte
	md5    [md5.Size]byte
	crc    uint64   // CRC64NVME of the whole file
	parts  []uint64 // CRC64NVME of each part; nil if the file is sent in one request
}

func (s Sum) known() bool { return s.SHA256 != [sha256.Size]byte{} }

// crcTable is the table of CRC64NVME. S3 verifies this checksum for each part, and for the
// whole object.
var crcTable = crc64.MakeTable(0x9a6c9329ac4bc9b5)

const (
	// minPart is the smallest size that partSize returns, in bytes. maxParts is the largest
	// number of parts that S3 accepts for one file.
	minPart  = 16 << 20
	maxParts = 10_000
)

// partSize returns the size of the parts of a file, in bytes.
func partSize(size int64) int64 {
	return max(minPart, (size+maxParts-1)/maxParts)
}

// SumOf reads a file and returns its sum. It returns *ChangedError with the key if the file
// has become shorter than size.
func SumOf(ctx context.Context, key string, file io.ReaderAt, size int64) (Sum, error) {
	sum := Sum{Size: size}
	whole, sha, hash := crc64.New(crcTable), sha256.New(), md5.New()
	part := partSize(size)
	for off := int64(0); off < size; off += part {
		if err := ctx.Err(); err != nil {
			return sum, err
		}
		own, n := crc64.New(crcTable), min(part, size-off)
		read, err := io.Copy(io.MultiWriter(whole, sha, hash, own), readAhead(io.NewSectionReader(file, off, n), n))
		if err != nil {
			return sum, err
		}
		if read < n {
			return sum, &ChangedError{key}
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

// readAhead returns a reader of the n bytes of r. The reader reads r in large pieces: if r is a
// file in a browser, each read of r is a request to the browser.
func readAhead(r io.Reader, n int64) *bufio.Reader { return bufio.NewReaderSize(r, int(min(n, 2<<20))) }

// Bytes returns an Upload.Open for a text.
func Bytes(text []byte) func() (Content, error) {
	return func() (Content, error) { return nopCloser{bytes.NewReader(text)}, nil }
}

type nopCloser struct{ *bytes.Reader }

func (nopCloser) Close() error { return nil }

// encodeCRC returns a CRC64 in the form of S3's headers.
func encodeCRC(crc uint64) *string {
	return aws.String(base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint64(nil, crc)))
}

// sumsAtOnce is how many files setSums reads at the same time.
const sumsAtOnce = 4

// setSums sets the sums of the uploads that have none.
func setSums(ctx context.Context, uploads []*Upload) error {
	return each(ctx, sumsAtOnce, uploads, func(ctx context.Context, _ int, u *Upload) error {
		if u.Sum.known() {
			return nil
		}
		content, err := u.Open()
		if err != nil {
			return err
		}
		defer content.Close()
		u.Sum, err = SumOf(ctx, u.Key, content, u.Size)
		return err
	})
}

// compare finds out which uploads the bucket already holds with the same content. It sets
// Sum, Exists and Same of each upload.
func (d *Drop) compare(ctx context.Context) error {
	uploads := slices.Collect(maps.Values(d.Uploads))
	if err := setSums(ctx, uploads); err != nil {
		return err
	}
	snapshot, err := d.Snapshot(ctx)
	if err != nil {
		return err
	}
	return each(ctx, ReadsAtOnce, uploads, func(ctx context.Context, _ int, u *Upload) (err error) {
		if snapshot.Knows(u.Key) {
			u.stored, err = snapshot.Head(ctx, u.Key) // sends no request, so an error means that there is no object
			u.Exists, u.Same = err == nil, u.stored.ETag == hex.EncodeToString(u.Sum.md5[:])
			if !u.Exists || u.Same || u.stored.Size != u.Sum.Size {
				return nil
			}
		}
		u.stored, u.Same, err = d.headAndCompare(ctx, u)
		u.Exists = u.stored.ETag != ""
		return err
	})
}

// headAndCompare asks S3 for the object with the key of an upload. It returns the object's ETag and
// LastModified, or the zero File if there is no object. It also reports whether the object has the
// content of the upload.
func (c *Client) headAndCompare(ctx context.Context, u *Upload) (stored drop.File, same bool, err error) {
	head, err := c.S3.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &c.Bucket.Name, Key: &u.Key, ChecksumMode: types.ChecksumModeEnabled})
	switch status := bucket.HTTPStatus(err); {
	case status == http.StatusNotFound:
		return drop.File{}, false, nil
	case err != nil:
		return drop.File{}, false, c.Explain("compare "+u.Key+" with the file in the bucket", u.Key, err)
	}
	stored.ETag, stored.LastModified = strings.Trim(aws.ToString(head.ETag), `"`), aws.ToTime(head.LastModified)
	sameCRC := head.ChecksumType == types.ChecksumTypeFullObject && aws.ToString(head.ChecksumCRC64NVME) == *encodeCRC(u.Sum.crc)
	sameMD5 := stored.ETag == hex.EncodeToString(u.Sum.md5[:])
	return stored, aws.ToInt64(head.ContentLength) == u.Sum.Size && (sameCRC || sameMD5), nil
}
