package transfer

import (
	"bufio"
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/textproto"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"
	"pgregory.net/rapid"
)

// A fakeS3 is a server of the part of S3 that a Copier uses. It refuses a request
// without the checksums and conditions that a Copier must send.
type fakeS3 struct {
	// ServeHTTP calls fault before it serves a call. n counts the calls of the same name, from 1.
	// fault returns true if it has responded.
	fault func(call string, n int, w http.ResponseWriter, r *http.Request) bool

	// patience is how long the client waits for a response; 0: without limit.
	patience time.Duration

	// If discard is true, the server keeps no bytes of parts.
	discard bool

	// retries counts the calls that the SDK tried again.
	retries atomic.Int32

	server *httptest.Server

	mu      sync.Mutex
	objects map[string]stored
	uploads map[string]map[int]stored
	calls   map[string]int
	opened  int
}

type stored struct {
	data        []byte
	size        int
	crc         uint32
	etag        string
	contentType string
	source      string // metadata
}

func newBucket(t testing.TB) *fakeS3 { return startBucket(t, (*httptest.Server).Start) }

// newTLSBucket returns a bucket over TLS. Without TLS, the SDK cannot put a file that
// is still being downloaded.
func newTLSBucket(t testing.TB) *fakeS3 {
	return startBucket(t, func(server *httptest.Server) {
		server.Config.ErrorLog = quiet
		server.StartTLS()
	})
}

func startBucket(t testing.TB, start func(*httptest.Server)) *fakeS3 {
	b := &fakeS3{objects: map[string]stored{}, uploads: map[string]map[int]stored{}, calls: map[string]int{}}
	b.server = httptest.NewUnstartedServer(b)
	start(b.server)
	t.Cleanup(b.server.Close)
	return b
}

// eachBucket runs a test once with a bucket for uploads in parts, and once with a bucket for
// streamed puts.
func eachBucket(t *testing.T, test func(*testing.T, func(testing.TB) *fakeS3)) {
	t.Run("parts", func(t *testing.T) { test(t, newBucket) })
	t.Run("streamed put", func(t *testing.T) { test(t, newTLSBucket) })
}

// client returns the SDK's client of the bucket, which tries each call at most
// three times, without a wait in between.
func (b *fakeS3) client() *s3.Client {
	options := s3.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(b.server.URL), UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider("id", "key", ""),
		Retryer: retry.NewStandard(func(o *retry.StandardOptions) {
			o.MaxAttempts = 3
			o.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) {
				b.retries.Add(1)
				return 0, nil
			})
		}),
		HTTPClient: b.server.Client(),
	}
	b.server.Client().Transport.(*http.Transport).ResponseHeaderTimeout = b.patience
	if b.server.TLS == nil {
		// Without TLS, the SDK would sign each payload.
		options.APIOptions = []func(*middleware.Stack) error{unsigned}
	}
	return s3.New(options)
}

func unsigned(stack *middleware.Stack) error {
	if _, ok := stack.Finalize.Get("ComputePayloadHash"); !ok {
		return nil
	}
	return v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware(stack)
}

func (b *fakeS3) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	call := map[string]string{
		"HEAD": "HeadObject", "GET": "GetObject", "PUT": "PutObject", "DELETE": "AbortMultipartUpload", "POST": "CompleteMultipartUpload",
	}[r.Method]
	switch {
	case r.Method == "POST" && q.Has("uploads"):
		call = "CreateMultipartUpload"
	case r.Method == "PUT" && q.Has("uploadId"):
		call = "UploadPart"
	}
	b.mu.Lock()
	b.calls[call]++
	n := b.calls[call]
	b.mu.Unlock()
	if b.fault != nil && b.fault(call, n, w, r) {
		return
	}
	b.serve(call, w, r)
}

func (b *fakeS3) serve(call string, w http.ResponseWriter, r *http.Request) {
	var body []byte
	var sent stored
	if call == "UploadPart" && b.discard {
		sent = discard(r.Body)
	} else {
		var err error
		if body, err = read(r); err != nil {
			fail(w, 400, "IncompleteBody")
			return
		}
		sent = newStored(body, "")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	key := strings.TrimPrefix(r.URL.Path, "/bucket/")
	id := r.URL.Query().Get("uploadId")
	parts, open := b.uploads[id]
	if id != "" && !open {
		fail(w, 404, "NoSuchUpload")
		return
	}
	object, there := b.objects[key]
	writes := call == "PutObject" || call == "CompleteMultipartUpload"
	sends := call == "PutObject" || call == "UploadPart"
	crc := crc32Text(sent.crc)
	switch {
	case writes && r.Header.Get("If-None-Match") != "*":
		fail(w, 400, "NoCondition")
		return
	case writes && there:
		fail(w, 412, "PreconditionFailed")
		return
	case sends && r.Header.Get("X-Amz-Checksum-Crc32") != crc && r.Trailer.Get("X-Amz-Checksum-Crc32") != crc:
		fail(w, 400, "BadDigest")
		return
	}
	switch call {
	case "HeadObject", "GetObject":
		if !there {
			fail(w, 404, "NoSuchKey")
			return
		}
		w.Header().Set("ETag", object.etag)
		w.Header().Set("Content-Type", object.contentType)
		w.Header().Set("X-Amz-Meta-Lipdrop-Source", object.source)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(object.data))
	case "PutObject":
		sent.contentType, sent.source = r.Header.Get("Content-Type"), r.Header.Get("X-Amz-Meta-Lipdrop-Source")
		b.objects[key] = sent
		w.Header().Set("ETag", sent.etag)
	case "CreateMultipartUpload":
		if r.Header.Get("X-Amz-Checksum-Type") != "FULL_OBJECT" || r.Header.Get("X-Amz-Checksum-Algorithm") != "CRC32" {
			fail(w, 400, "NoChecksum")
			return
		}
		b.opened++
		// The id holds the metadata for CompleteMultipartUpload.
		id := fmt.Sprintf("%d %s %s", b.opened, r.Header.Get("X-Amz-Meta-Lipdrop-Source"), r.Header.Get("Content-Type"))
		b.uploads[id] = map[int]stored{}
		fmt.Fprintf(w, "<InitiateMultipartUploadResult><UploadId>%s</UploadId></InitiateMultipartUploadResult>", id)
	case "UploadPart":
		w.Header().Set("X-Amz-Checksum-Crc32", crc)
		number, _ := strconv.Atoi(r.URL.Query().Get("partNumber"))
		parts[number] = sent
		w.Header().Set("ETag", sent.etag)
	case "CompleteMultipartUpload":
		whole, err := assemble(body, parts, r.Header)
		if err != nil {
			fail(w, 400, err.Error())
			return
		}
		_, rest, _ := strings.Cut(id, " ")
		whole.source, whole.contentType, _ = strings.Cut(rest, " ")
		b.objects[key] = whole
		delete(b.uploads, id)
		fmt.Fprintf(w, "<CompleteMultipartUploadResult><ETag>%s</ETag></CompleteMultipartUploadResult>", whole.etag)
	case "AbortMultipartUpload":
		delete(b.uploads, id)
		w.WriteHeader(204)
	}
}

// read returns the body of a request. If the body has chunks with a checksum after the
// last one, the checksum becomes a trailer of the request.
func read(r *http.Request) ([]byte, error) {
	if r.Header.Get("X-Amz-Content-Sha256") != "STREAMING-UNSIGNED-PAYLOAD-TRAILER" {
		return io.ReadAll(r.Body)
	}
	in := bufio.NewReader(r.Body)
	data, err := io.ReadAll(httputil.NewChunkedReader(in))
	if err != nil {
		return nil, err
	}
	if r.Header.Get("X-Amz-Decoded-Content-Length") != strconv.Itoa(len(data)) {
		return nil, io.ErrUnexpectedEOF
	}
	trailer, err := textproto.NewReader(in).ReadMIMEHeader()
	r.Trailer = http.Header(trailer)
	return data, err
}

// assemble makes an object of the parts that the request lists.
func assemble(request []byte, parts map[int]stored, header http.Header) (stored, error) {
	var list struct {
		Part []struct {
			PartNumber          int
			ETag, ChecksumCRC32 string
		}
	}
	if err := xml.Unmarshal(request, &list); err != nil {
		return stored{}, err
	}
	var whole stored
	crc := crc32.NewIEEE()
	for i, p := range list.Part {
		part, ok := parts[p.PartNumber]
		if !ok || p.PartNumber != i+1 || p.ETag != part.etag || p.ChecksumCRC32 != crc32Text(part.crc) {
			return stored{}, fmt.Errorf("InvalidPart")
		}
		whole.data = append(whole.data, part.data...)
		whole.size += part.size
		crc.Write(part.data)
	}
	whole.crc = crc.Sum32()
	discarded := len(whole.data) < whole.size
	if header.Get("X-Amz-Mp-Object-Size") != strconv.Itoa(whole.size) ||
		!discarded && header.Get("X-Amz-Checksum-Crc32") != crc32Text(whole.crc) {
		return stored{}, fmt.Errorf("BadDigest")
	}
	whole.etag = fmt.Sprintf(`"%x-%d"`, whole.crc, len(list.Part))
	return whole, nil
}

func newStored(data []byte, contentType string) stored {
	sum := md5.Sum(data)
	return stored{data: data, size: len(data), crc: crc32.ChecksumIEEE(data), etag: `"` + hex.EncodeToString(sum[:]) + `"`, contentType: contentType}
}

// discard reads a part without keeping it.
func discard(r io.Reader) stored {
	crc := crc32.NewIEEE()
	n, _ := io.Copy(crc, r) // a body that is cut has another checksum
	return stored{size: int(n), crc: crc.Sum32(), etag: `"` + crc32Text(crc.Sum32()) + `"`}
}

// fail responds with an error as S3 writes it.
func fail(w http.ResponseWriter, status int, code string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code></Error>", code)
}

// put writes an object without the Copier.
func (b *fakeS3) put(key string, data []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.objects[key] = newStored(data, "video/mp4")
}

func (b *fakeS3) called(call string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.calls[call]
}

// check fails the test unless the key holds want and no upload is open. If want is
// nil, no object may have the key.
func (b *fakeS3) check(t rapid.TB, key string, want []byte) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	got, there := b.objects[key]
	switch {
	case want == nil && there:
		t.Errorf("an object of %d bytes exists, want none", len(got.data))
	case want != nil && !there:
		t.Errorf("no object exists, want one of %d bytes", len(want))
	case !bytes.Equal(got.data, want):
		t.Errorf("the object's %d bytes are not the %d wanted bytes", len(got.data), len(want))
	}
	if len(b.uploads) > 0 {
		t.Errorf("%d uploads are open, want none", len(b.uploads))
	}
}

func crc32Text(crc uint32) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc))
}
