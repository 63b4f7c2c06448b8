package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/s3/manager"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"
)

const (
	// limitPart and limitPiece are the sizes of parts and of ranges of the limit.
	limitPart  = 8 << 20
	limitPiece = 1 << 20

	// limitParts is how many parts the limit holds in memory: 256 MiB.
	limitParts = 32
)

// streamCopy is the role of a program that copies as the SDK's documentation
// shows it: the body of a GET goes into an uploader. Its arguments are address,
// bucket and key.
func streamCopy(ctx context.Context, args []string) error {
	client, err := newClient(ctx)
	if err != nil {
		return err
	}
	resp, err := get(ctx, args[0], "")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = manager.NewUploader(client).Upload(ctx, &s3.PutObjectInput{Bucket: &args[1], Key: &args[2], Body: resp.Body})
	return err
}

func newClient(ctx context.Context) (*s3.Client, error) {
	config, err := awsconfig.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, err
	}
	return s3.NewFromConfig(config), nil
}

// get asks for an address, or for a range of it.
func get(ctx context.Context, address, byteRange string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	want := http.StatusOK
	if byteRange != "" {
		req.Header.Set("Range", byteRange)
		want = http.StatusPartialContent
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != want {
		resp.Body.Close()
		return nil, fmt.Errorf("%s answered %s", address, resp.Status)
	}
	return resp, nil
}

// A limitCopy copies as fast as this machine can by these means: it knows how
// long the file is and how many connections are best, it may take what memory
// it likes, and it verifies nothing.
type limitCopy struct {
	client      *s3.Client
	url         string
	bucket, key string
	size        int64
	connections int

	upload *string
	parts  []types.CompletedPart
	free   chan []byte
}

// limitRole is the role of a program that makes a limitCopy. Its arguments are
// address, bucket, key, length and number of connections; one connection means
// no ranges.
func limitRole(ctx context.Context, args []string) error {
	client, err := newClient(ctx)
	if err != nil {
		return err
	}
	l := &limitCopy{client: client, url: args[0], bucket: args[1], key: args[2]}
	if l.size, err = strconv.ParseInt(args[3], 10, 64); err != nil {
		return err
	}
	if l.connections, err = strconv.Atoi(args[4]); err != nil {
		return err
	}
	http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = l.connections
	if l.size <= limitPart {
		return l.put(ctx)
	}
	return l.multipart(ctx)
}

// unverified leaves out the checksum that the SDK adds.
func unverified(o *s3.Options) {
	o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
}

// put copies a small file in one request each way.
func (l *limitCopy) put(ctx context.Context) error {
	resp, err := get(ctx, l.url, "")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data := make([]byte, l.size)
	if _, err := io.ReadFull(resp.Body, data); err != nil {
		return err
	}
	_, err = l.client.PutObject(ctx, &s3.PutObjectInput{Bucket: &l.bucket, Key: &l.key, Body: bytes.NewReader(data)}, unverified)
	return err
}

func (l *limitCopy) multipart(ctx context.Context) error {
	created, err := l.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &l.bucket, Key: &l.key})
	if err != nil {
		return err
	}
	l.upload = created.UploadId
	l.parts = make([]types.CompletedPart, (l.size+limitPart-1)/limitPart)
	l.free = make(chan []byte, limitParts)
	for range min(limitParts, len(l.parts)) {
		l.free <- nil
	}
	group, groupCtx := errgroup.WithContext(ctx)
	if l.connections == 1 {
		group.Go(func() error { return l.stream(groupCtx, group) })
	} else {
		l.ranges(groupCtx, group)
	}
	if err := group.Wait(); err != nil {
		return err
	}
	_, err = l.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &l.bucket, Key: &l.key, UploadId: l.upload,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: l.parts},
	})
	return err
}

// buffer returns memory for a part of the file.
func (l *limitCopy) buffer(ctx context.Context, number int) ([]byte, error) {
	select {
	case b := <-l.free:
		if b == nil {
			b = make([]byte, limitPart)
		}
		return b[:min(limitPart, l.size-int64(number)*limitPart)], nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// stream reads a source that gives no ranges.
func (l *limitCopy) stream(ctx context.Context, group *errgroup.Group) error {
	resp, err := get(ctx, l.url, "")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	for number := range l.parts {
		data, err := l.buffer(ctx, number)
		if err != nil {
			return err
		}
		if _, err := io.ReadFull(resp.Body, data); err != nil {
			return err
		}
		group.Go(func() error { return l.send(ctx, number, data) })
	}
	return nil
}

// ranges reads ranges side by side: one goroutine hands out pieces of parts in
// order, as many as there are connections read them.
func (l *limitCopy) ranges(ctx context.Context, group *errgroup.Group) {
	type piece struct {
		number  int
		from    int64
		data    []byte // of the piece
		part    []byte
		missing *atomic.Int64 // pieces of the part
	}
	pieces := make(chan piece)
	group.Go(func() error {
		defer close(pieces)
		for number := range l.parts {
			part, err := l.buffer(ctx, number)
			if err != nil {
				return err
			}
			missing := new(atomic.Int64)
			missing.Store(int64(len(part)+limitPiece-1) / limitPiece)
			for at := 0; at < len(part); at += limitPiece {
				p := piece{number, int64(number)*limitPart + int64(at), part[at:min(at+limitPiece, len(part))], part, missing}
				select {
				case pieces <- p:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
		}
		return nil
	})
	for range l.connections {
		group.Go(func() error {
			for p := range pieces {
				resp, err := get(ctx, l.url, fmt.Sprintf("bytes=%d-%d", p.from, p.from+int64(len(p.data))-1))
				if err != nil {
					return err
				}
				_, err = io.ReadFull(resp.Body, p.data)
				resp.Body.Close()
				if err != nil {
					return err
				}
				if p.missing.Add(-1) == 0 {
					group.Go(func() error { return l.send(ctx, p.number, p.part) })
				}
			}
			return nil
		})
	}
}

func (l *limitCopy) send(ctx context.Context, number int, data []byte) error {
	out, err := l.client.UploadPart(ctx, &s3.UploadPartInput{
		Bucket: &l.bucket, Key: &l.key, UploadId: l.upload, PartNumber: aws.Int32(int32(number + 1)), Body: bytes.NewReader(data),
	}, unverified)
	if err != nil {
		return err
	}
	l.parts[number] = types.CompletedPart{PartNumber: aws.Int32(int32(number + 1)), ETag: out.ETag}
	l.free <- data[:cap(data)]
	return nil
}
