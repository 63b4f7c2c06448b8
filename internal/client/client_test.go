package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/s3test"
)

// newClient returns a client of a bucket in memory.
func newClient(storage bucket.S3) *Client {
	b := &bucket.Bucket{S3: storage, Name: "drops"}
	return &Client{Bucket: b, Ledger: &ledger.Store{Bucket: b, MachineARN: "arn:aws:states:eu-west-1:123456789012:stateMachine:m", Now: time.Now}}
}

func setStatus(storage *s3test.Bucket, st ledger.Status) {
	storage.Set(ledger.StatusKey(st.Name), bucket.JSON(st, ""))
}

// The error of a refused read contains S3's error code. In response to a HEAD request, S3 sends
// no code, so the error contains the HTTP status instead.
func TestExplainOfARefusedRead(t *testing.T) {
	for want, refused := range map[string]bucket.RefusedError{
		"cannot read a.mp4: AWS responded InvalidObjectState: it is archived": {HTTPStatus: 403, S3Code: "InvalidObjectState", S3Message: "it is archived"},
		"cannot read a.mp4: AWS responded HTTP 400":                           {HTTPStatus: 400},
	} {
		if err := Explain("read a.mp4", "", &refused); err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// Explain names the permission in AWS's message, or else the permission of the operation.
func TestExplainNamesThePermissionInTheMessage(t *testing.T) {
	const key = "arn:aws:kms:us-east-1:000000000000:key/1"
	for message, want := range map[string]string{
		"Access Denied": "s3:GetObject arn",
		`User: u is not authorized to perform: s3:GetObject on resource: "arn:aws:s3:::b/inbox/a b" because no identity-based policy allows it`:     "s3:GetObject arn",
		"User: u is not authorized to perform: kms:Decrypt on resource: " + key + " because no identity-based policy allows the kms:Decrypt action": "kms:Decrypt " + key,
		"User: u is not authorized to perform: kms:Decrypt on the resource associated with this ciphertext because it is not":                       "kms:Decrypt ",
	} {
		api := &smithy.GenericAPIError{Code: "AccessDenied", Message: message}
		for what, err := range map[string]error{
			"a RefusedError":      &bucket.RefusedError{HTTPStatus: 403, S3Code: api.Code, S3Message: api.Message},
			"an error of the SDK": &smithy.OperationError{ServiceID: "S3", OperationName: "GetObject", Err: api},
		} {
			if d, ok := errors.AsType[*DeniedError](Explain("read a", "arn", err)); !ok || d.Permission+" "+d.Resource != want {
				t.Errorf("%s, %q: %+v, want %q", what, message, d, want)
			}
		}
	}
}

// Explain names a missing permission as a policy does, not as the SDK names the operation.
func TestExplainNamesThePermissionOfTheOperation(t *testing.T) {
	for operation, want := range map[string]string{"GetObject": "s3:GetObject", "UploadPartCopy": "s3:GetObject", "CompleteMultipartUpload": "s3:PutObject"} {
		err := Explain("drop a.wav again", "", &smithy.OperationError{ServiceID: "S3", OperationName: operation, Err: &smithy.GenericAPIError{Code: "AccessDenied"}})
		if denied, ok := errors.AsType[*DeniedError](err); !ok || denied.Permission != want {
			t.Errorf("%s: %v, want the permission %s", operation, err, want)
		}
	}
}

// If a request cannot be sent, the remedy depends on where the stack runs.
func TestExplainWithoutAConnection(t *testing.T) {
	unsent := &smithy.OperationError{Err: &smithyhttp.RequestSendError{Err: errors.New("connection refused")}}
	for dir, want := range map[string]string{
		"":         "cannot read a.mp4: connection refused. Check your network and the region",
		".lipdrop": "cannot read a.mp4: connection refused. The local stack in .lipdrop is no longer running. Start it with: lipdrop local",
		"a b":      "cannot read a.mp4: connection refused. The local stack in a b is no longer running. Start it with: lipdrop local --dir 'a b'",
	} {
		if err := (&Client{Ledger: new(ledger.Store), Dir: dir}).Explain("read a.mp4", "", unsent); err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	silent := &smithy.OperationError{Err: &smithyhttp.RequestSendError{Err: &net.OpError{Op: "dial", Err: context.DeadlineExceeded}}}
	if err := Explain("read a.mp4", "", silent); !strings.Contains(err.Error(), "Check your network") {
		t.Errorf("a timeout of the network: %v, want the remedy \"Check your network\"", err)
	}
}

// Choose lists the common folder of the uploads, not the longest prefix that their keys share.
// That prefix may end within a letter, and S3 refuses such a prefix.
func TestChooseListsTheCommonFolder(t *testing.T) {
	storage := &s3test.Bucket{Now: time.Now}
	var asked []string
	storage.Before = func(op, key string) error {
		asked = append(asked, op+" "+key)
		return nil
	}
	d := &Drop{Client: newClient(storage), Uploads: map[string]*Upload{}}
	for _, key := range []string{"inbox/\u00e8.mp4", "inbox/\u00e9.wav"} {
		d.Uploads[key] = &Upload{File: bucket.File{Key: key, Size: 1}, Open: Bytes([]byte("a"))}
	}
	if err := d.Choose(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"ListObjectsV2 inbox/"}, asked); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func TestParsePattern(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       Pattern
		ok         bool
	}{
		{"a name", "ads/talk", Pattern{Text: "ads/talk"}, true},
		{"a name as a shell completes a path", "./talk", Pattern{Text: "talk"}, true},
		{"a key", "inbox/ads/talk", Pattern{Text: "ads/talk"}, true},
		{"a folder", "ads/", Pattern{Text: "ads/", Prefix: true}, true},
		{"a prefix", "ads/t*", Pattern{Text: "ads/t", Prefix: true}, true},
		{"everything", "*", Pattern{Prefix: true}, true},
		{"a name that ends with an asterisk", `ads/t\*`, Pattern{Text: "ads/t*"}, true},
		{"the inbox", "inbox/", Pattern{Prefix: true}, true},
		{"a decomposed umlaut", "u\u0308", Pattern{Text: "ü"}, true},
		{"nothing", "", Pattern{}, false},
		{"only a dot and a slash", "./", Pattern{}, false},
		{"a parent folder", "../talk", Pattern{}, false},
		{"an absolute path", "/ads/talk", Pattern{}, false},
	} {
		got, err := ParsePattern(tt.text)
		if _, usage := errors.AsType[*UsageError](err); got != tt.want || usage == tt.ok {
			t.Errorf("%s: %+v and error %v, want %+v and valid %t", tt.name, got, err, tt.want, tt.ok)
		}
	}
}

// Whatever the name of a job, the command in a remedy acts on that job only. Completion offers
// no name that a shell or the command reads as something else.
func TestHostileNames(t *testing.T) {
	storage := new(s3test.Bucket)
	for _, name := range []string{
		"talk", "ads/talk-2.de", "*", "ads/*", `t\*`, `t\\*`, "t**", "-rf", "--stack=other", "inbox/talk", "inbox/inbox/-x*", "it's", "$(id)", "a;id", "`id`", "~root", "a b", "ä",
	} {
		setStatus(storage, ledger.Status{Name: name, State: ledger.Failed})
		word := problem.NameWord(name)
		argument, err := exec.Command("sh", "-c", "printf %s "+word).Output()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ParsePattern(string(argument)); err != nil || got != (Pattern{Text: name}) || argument[0] == '-' {
			t.Errorf("the command takes %s for %+v, want the job %s (%v)", word, got, name, err)
		}
		if remedy := problem.OutputUnavailable.Remedy(name); !strings.Contains(remedy, "lipdrop redrive "+word+"`") {
			t.Errorf("the remedy of %s is %q, want %s in it", name, remedy, word)
		}
	}
	names, err := newClient(storage).NamesLike(t.Context(), "")
	if diff := cmp.Diff([]string{"ads/talk-2.de", "talk"}, names); diff != "" || err != nil {
		t.Errorf("completion: %v (-want +got):\n%s", err, diff)
	}
}

// To find the 10 statuses of the last hour among 10,000 older ones, Statuses makes at most 30 requests.
func TestStatusesSince(t *testing.T) {
	now := time.Now()
	storage := &s3test.Bucket{Now: func() time.Time { return now }}
	for i := range 10_000 {
		now = now.Add(time.Millisecond)
		setStatus(storage, ledger.Status{Name: fmt.Sprintf("old/%d", i), State: ledger.Succeeded})
	}
	now = now.Add(2 * time.Hour)
	for i := range 10 {
		setStatus(storage, ledger.Status{Name: fmt.Sprintf("new/%d", i), State: ledger.Failed})
	}
	c := newClient(storage)
	got, err := c.Statuses(t.Context(), ledger.StatusPrefix, now.Add(-time.Hour), Pattern{Prefix: true})
	if err != nil || len(got) != 10 || got[0].Name != "new/0" || got[0].State != ledger.Failed {
		t.Fatalf("%d statuses and error %v, want the 10 new ones and no error: %+v", len(got), err, got)
	}
	if n := c.Bucket.Requests(); n > 30 {
		t.Errorf("%d requests, want at most 30", n)
	}
}

func TestNamesOfPatterns(t *testing.T) {
	storage := new(s3test.Bucket)
	for _, name := range []string{"ads/talk", "ads/talk.de", "ads/talking", "solo", "v1.2/talk"} {
		setStatus(storage, ledger.Status{Name: name, State: ledger.Succeeded})
	}
	storage.Set(ledger.AnswerPrefix+"notes.txt.json", bucket.JSON(ledger.Status{Name: "notes.txt", State: ledger.Rejected}, ""))
	storage.Set("inbox/fresh/.media/talk.mp4", nil) // not a drop
	storage.Set("inbox/fresh/talk.wav", nil)
	storage.Set("inbox/v1.2/talk.wav", nil) // below v1.2, not v1
	storage.Set("inbox/other/talk.de.wav", nil)
	storage.SetMultipart("inbox/stale/talk.wav", nil, time.Now().Add(-time.Hour))
	c := newClient(storage)
	const assessing = "inbox/fresh/talk.wav was uploaded less than two minutes ago. Wait until lipdrop has assessed it"
	for _, tt := range []struct {
		text string
		want []string
		err  string
	}{
		{text: "ads/talk", want: []string{"ads/talk"}},
		{text: "ads/", want: []string{"ads/talk", "ads/talk.de", "ads/talking"}},
		{text: "ads/talk.*", want: []string{"ads/talk.de"}},
		{text: "ads", err: "there is no job named ads. To list the jobs in the folder, run: lipdrop jobs ads/. To name all of them, write ads/"},
		{text: "v1.2", err: "there is no job named v1.2. To list the jobs in the folder, run: lipdrop jobs v1.2/. To name all of them, write v1.2/"},
		{text: "solo.mp4", err: "there is no job named solo.mp4. Write the name without the suffix: solo"},
		{text: "notes.txt", err: "there is no job named notes.txt. This file belongs to no job. To see why, run: lipdrop show notes.txt"},
		{text: "fresh/talk", err: "there is no job named fresh/talk. " + assessing},
		{text: "fresh/", err: "there is no job named fresh/. " + assessing},
		{text: "stale/talk", err: "there is no job named stale/talk. The name is the path below inbox/, without the suffix. Run: lipdrop jobs"},
		{text: "v1", err: "there is no job named v1. The name is the path below inbox/, without the suffix. Run: lipdrop jobs"},
		{text: "other/talk", err: "there is no job named other/talk. The name is the path below inbox/, without the suffix. Run: lipdrop jobs"},
		{text: "none*", err: "there is no job named none*. Run: lipdrop jobs"},
	} {
		p, err := ParsePattern(tt.text)
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.Names(t.Context(), p)
		if diff := cmp.Diff(tt.want, got); diff != "" || tt.err == "" && err != nil || tt.err != "" && (err == nil || err.Error() != tt.err) {
			t.Errorf("%s: %v, %v, want %v, %q", tt.text, got, err, tt.want, tt.err)
		}
	}
}

// Follow reads only what has changed, and lists less often while nothing changes.
func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		storage := new(s3test.Bucket)
		for i := range 100 {
			setStatus(storage, ledger.Status{Name: fmt.Sprintf("ads/%03d", i), State: ledger.InQueue})
		}
		time.AfterFunc(10*time.Minute, func() { setStatus(storage, ledger.Status{Name: "ads/007", State: ledger.Succeeded}) })
		calls, began := 0, time.Now()
		err := newClient(storage).Follow(t.Context(), func(changed []Status) (bool, error) {
			if calls++; calls == 1 && len(changed) != 100 || calls == 2 && (len(changed) != 1 || changed[0].State != ledger.Succeeded) {
				t.Errorf("call %d has %d statuses, want 100 in the first call, and in the second only the one that changed", calls, len(changed))
			}
			return calls == 2, nil
		}, Pattern{Text: "ads/", Prefix: true})
		if took := time.Since(began); err != nil || took > 10*time.Minute+LongestPause {
			t.Errorf("the change was noticed after %s, with the error %v; want at most %s and no error", took, err, 10*time.Minute+LongestPause)
		}
		if n := storage.Calls(); n["GetObject"] != 101 || n["ListObjectsV2"] > 60 {
			t.Errorf("%d reads and %d listings in 10 minutes, want 101 and at most 60", n["GetObject"], n["ListObjectsV2"])
		}
	})
}

// A short failure of S3 does not end Follow. A long failure ends it, and so do a missing
// permission and expired credentials.
func TestFollowInTrouble(t *testing.T) {
	for _, tt := range []struct {
		name   string
		status int
		code   string
		times  int
		err    string
	}{
		{"S3 is not available for a while", 503, "SlowDown", mostFailures, ""},
		{"S3 is not available for long", 503, "SlowDown", mostFailures + 1, "cannot list the statuses: AWS responded SlowDown: SlowDown"},
		{"no permission", 403, "AccessDenied", 1000, "you are not allowed to list the statuses: your credentials lack the permission s3:ListBucket on arn:aws:s3:::drops."},
		{"expired credentials", 400, "ExpiredToken", 1000, "AWS refuses the credentials: ExpiredToken"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := 0
				storage := &s3test.Bucket{Before: func(string, string) error {
					if n++; n > tt.times {
						return nil
					}
					return &smithy.OperationError{ServiceID: "S3", OperationName: "ListObjectsV2", Err: errors.Unwrap(s3test.Error(tt.status, tt.code))}
				}}
				err := newClient(storage).Follow(t.Context(), func([]Status) (bool, error) { return true, nil }, Pattern{Prefix: true})
				if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.err)) {
					t.Errorf("got %v, want %q", err, tt.err)
				}
			})
		})
	}
}

// breaking is a bucket whose downloads of a range break off after some bytes.
type breaking struct {
	*s3test.Bucket
	after int64
	ends  bool // the downloads end early, but without an error

	mu     sync.Mutex
	ranges []string
	sent   int64
}

func (b *breaking) GetObject(ctx context.Context, in *s3.GetObjectInput, o ...func(*s3.Options)) (*s3.GetObjectOutput, error) {
	out, err := b.Bucket.GetObject(ctx, in, o...)
	if err == nil && in.Range != nil {
		b.mu.Lock()
		b.ranges = append(b.ranges, *in.Range)
		b.mu.Unlock()
		end := errors.New("the connection broke")
		if b.ends {
			end = io.EOF
		}
		out.Body = io.NopCloser(io.MultiReader(io.LimitReader(&counting{out.Body, b}, b.after), iotest.ErrReader(end)))
	}
	return out, err
}

type counting struct {
	io.Reader
	b *breaking
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	c.b.sent += int64(n)
	return n, err
}

// storeTake stores an output, its result.json, its record and its status. It returns the bytes of
// the output.
func storeTake(storage *s3test.Bucket, name, take string, size int) []byte {
	body := bytes.Repeat([]byte(take+" "), size/len(take))
	sum := sha256.Sum256(body)
	key := ledger.OutputPrefix(name, take) + filepath.Base(name) + ".mp4"
	storage.Set(key, body)
	storage.Set(ledger.ResultKey(name, take), bucket.JSON(ledger.Result{Outputs: []ledger.Output{{Key: key, Bytes: int64(len(body)), SHA256: hex.EncodeToString(sum[:])}}}, ""))
	storage.Set(ledger.RecordKey(name, take), bucket.JSON(ledger.Record{Name: name, Take: take, State: ledger.Succeeded}, ""))
	setStatus(storage, ledger.Status{Name: name, State: ledger.Succeeded, Take: take})
	return body
}

const take1, take2 = "20261121T120000Z-0123456789ab", "20261121T130000Z-0123456789ab"

// storedOutputs stores a take of each name, and returns the outputs.
func storedOutputs(t *testing.T, storage *s3test.Bucket, size int, names ...string) []Output {
	t.Helper()
	var outputs []Output
	for _, name := range names {
		storeTake(storage, name, take1, size)
		found, err := newClient(storage).Archived(t.Context(), name, "")
		if err != nil {
			t.Fatal(err)
		}
		outputs = append(outputs, found...)
	}
	return outputs
}

func TestDownload(t *testing.T) {
	for _, tt := range []struct {
		name  string
		job   string
		take  string            // see Archived
		files map[string]string // by path; a take stands for the content of its output
		want  map[string]string // by path: the take whose output the file holds; "" means the content in files
		spoil bool              // the object differs from result.json
		cut   bool              // the object is shorter than result.json says
		err   string
	}{
		{name: "the newest take", job: "ads/talk", want: map[string]string{"ads/talk.mp4": take2}},
		{name: "one take", job: "ads/talk", take: take1, want: map[string]string{"ads/talk.mp4": take1}},
		{name: "all takes", job: "ads/talk", take: AllTakes, want: map[string]string{"ads/talk." + take1 + ".mp4": take1, "ads/talk." + take2 + ".mp4": take2}},
		{name: "the input of the job is there", job: "ads/talk", files: map[string]string{"ads/talk.mp4": "my input"},
			want: map[string]string{"ads/talk.mp4": "", "ads/talk." + take2 + ".mp4": take2}},
		{name: "the output of an older take is there, with the same size", job: "ads/talk", files: map[string]string{"ads/talk.mp4": take1},
			want: map[string]string{"ads/talk.mp4": take1, "ads/talk." + take2 + ".mp4": take2}},
		{name: "a folder has the name", job: "ads/talk", files: map[string]string{"ads/talk.mp4/x": "x"},
			want: map[string]string{"ads/talk.mp4/x": "", "ads/talk." + take2 + ".mp4": take2}},
		{name: "both names are taken", job: "ads/talk", files: map[string]string{"ads/talk.mp4": "a", "ads/talk." + take2 + ".mp4": "b"},
			want: map[string]string{"ads/talk.mp4": "", "ads/talk." + take2 + ".mp4": ""}, err: "exists, and is not this output; move the existing file or folder away"},
		{name: "a file has the name of the folder", job: "ads/talk", files: map[string]string{"ads": "x"}, want: map[string]string{"ads": ""}, err: "outputs cannot be stored in"},
		{name: "another content in the bucket", job: "ads/talk", spoil: true, want: map[string]string{}, err: "the fetched file has the SHA-256"},
		{name: "a shorter object in the bucket", job: "ads/talk", cut: true, want: map[string]string{}, err: "the object was changed: it has at most 1000 bytes"},
		{name: "no such take", job: "ads/talk", take: "20200101T000000Z-0123456789ab", err: "has no take 20200101T000000Z-0123456789ab"},
		{name: "no such job", job: "ads/none", err: "there is no job named ads/none"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			storage := new(s3test.Bucket)
			bodies := map[string][]byte{}
			for _, take := range []string{take1, take2} {
				bodies[take] = storeTake(storage, "ads/talk", take, 1<<20)
			}
			if tt.spoil {
				storage.Set("outbox/ads/talk/"+take2+"/talk.mp4", bodies[take1])
			}
			if tt.cut {
				storage.Set("outbox/ads/talk/"+take2+"/talk.mp4", bodies[take2][:1000])
			}
			dir := t.TempDir()
			for path, body := range tt.files {
				if output := bodies[body]; output != nil {
					body = string(output)
				}
				path = filepath.Join(dir, path)
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o777), os.WriteFile(path, []byte(body), 0o666)); err != nil {
					t.Fatal(err)
				}
			}
			c := newClient(storage)
			for range 2 { // the second run has the same result
				outputs, err := c.Archived(t.Context(), tt.job, tt.take)
				if err == nil {
					_, err = c.Download(t.Context(), DownloadOptions{Dir: dir, TakeInName: tt.take == AllTakes, Progress: func(int64) {}}, outputs)
				}
				if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
					t.Fatalf("got %v, want %q", err, tt.err)
				}
			}
			got := map[string]string{}
			for path, body := range filesIn(t, dir) {
				got[path] = "another content"
				if before, ok := tt.files[path]; ok && before == string(body) {
					got[path] = ""
				}
				for take, want := range bodies {
					if bytes.Equal(body, want) {
						got[path] = take
					}
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" && tt.want != nil {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			if n := storage.Calls()["GetObject"]; tt.name == "the newest take" && n != 5 {
				t.Errorf("%d reads for two runs, want 5: the output is fetched once", n)
			}
		})
	}
}

func filesIn(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(dir, path) // path is below dir
		files[rel], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// A download that breaks off continues where it ended, in the same run and in a later
// one. At most 64 KiB are fetched twice.
func TestDownloadContinues(t *testing.T) {
	const size = 10 << 20
	storage := &breaking{Bucket: new(s3test.Bucket), after: size / 20}
	outputs := storedOutputs(t, storage.Bucket, size, "talk")
	body, _ := storage.Object(outputs[0].Key)
	c := newClient(storage)
	dir := t.TempDir()
	ctx, kill := context.WithCancel(t.Context())
	defer kill()
	reported := int64(0)
	progress := func(n int64) {
		if reported += n; reported > size/2 {
			kill()
		}
	}
	_, err := c.Download(ctx, DownloadOptions{Dir: dir, Progress: progress}, outputs)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("the run that is interrupted: %v, want context.Canceled", err)
	}
	for path := range filesIn(t, dir) {
		if !strings.HasSuffix(path, ".partial") {
			t.Errorf("%s exists before the download is complete, want .partial files only", path)
		}
	}
	reported = 0
	done, err := c.Download(t.Context(), DownloadOptions{Dir: dir, Progress: func(n int64) { reported += n }}, outputs)
	if err != nil || len(done) != 1 || !done[0].Fetched {
		t.Fatalf("the second run: %+v and error %v, want one fetched file and no error", done, err)
	}
	if got := filesIn(t, dir); len(got) != 1 || !bytes.Equal(got["talk.mp4"], body) {
		t.Errorf("%d files, and talk.mp4 is right: %t; want only talk.mp4, and true", len(got), bytes.Equal(got["talk.mp4"], body))
	}
	if reported != int64(len(body)) {
		t.Errorf("the second run reports %d bytes, want %d", reported, len(body))
	}
	if extra := storage.sent - int64(len(body)); extra > 64<<10 {
		t.Errorf("%d bytes were fetched twice, in the ranges %v; want at most 65536", extra, storage.ranges)
	}
}

func TestCheckFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	if err := CheckFolder(dir); err != nil {
		t.Errorf("a new folder: %v, want no error", err)
	}
	if os.Getuid() == 0 {
		t.Skip("root may write to every folder")
	}
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	storage := new(s3test.Bucket)
	outputs := storedOutputs(t, storage, 1000, "talk")
	_, err := newClient(storage).Download(t.Context(), DownloadOptions{Dir: dir, Progress: func(int64) {}}, outputs)
	for _, err := range []error{CheckFolder(dir), err} {
		if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "outputs cannot be stored in "+dir) {
			t.Errorf("a folder that is read-only: %v, want that outputs cannot be stored there", err)
		}
	}
	if err := os.Chmod(dir, 0o300); err != nil {
		t.Fatal(err)
	}
	if err := CheckFolder(dir); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "outputs cannot be stored in "+dir) {
		t.Errorf("a folder that cannot be read: %v, want that outputs cannot be stored there", err)
	}
}

// If a folder cannot be made, one error covers all its outputs. The outputs of other folders are fetched.
func TestDownloadIntoFoldersThatCannotBeMade(t *testing.T) {
	storage, dir := new(s3test.Bucket), t.TempDir()
	outputs := storedOutputs(t, storage, 1000, "ads/a", "ads/b", "new/a", "tv/a", "tv/b")
	for _, folder := range []string{"ads", "tv"} {
		if err := os.WriteFile(filepath.Join(dir, folder), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	done, err := newClient(storage).Download(t.Context(), DownloadOptions{Dir: dir, Progress: func(int64) {}}, outputs)
	want := fmt.Sprintf("outputs cannot be stored in %[1]s/ads: not a directory. Name another folder\noutputs cannot be stored in %[1]s/tv: not a directory. Name another folder", dir)
	if err == nil || err.Error() != want || len(done) != 1 {
		t.Errorf("%d outputs and the error %q, want 1 and %q", len(done), err, want)
	}
}

// The error names each output whose file name is too long for the file system.
func TestDownloadOfATooLongName(t *testing.T) {
	storage, dir := new(s3test.Bucket), t.TempDir()
	outputs := storedOutputs(t, storage, 1000, strings.Repeat("a", 300), strings.Repeat("b", 300))
	_, err := newClient(storage).Download(t.Context(), DownloadOptions{Dir: dir, Progress: func(int64) {}}, outputs)
	for _, o := range outputs {
		if err == nil || !strings.Contains(err.Error(), o.Key+" has a file name that is too long for the file system of "+dir) {
			t.Errorf("the error is %v, want that the name of %s is too long", err, o.Key)
		}
	}
}

// If other outputs of the same run have both possible file names of an output, the error does not
// say to move a file away.
func TestDownloadOfNamesThatDifferInCase(t *testing.T) {
	storage, dir := new(s3test.Bucket), t.TempDir()
	outputs := storedOutputs(t, storage, 1000, "TALK", "Talk", "talk")
	done, err := newClient(storage).Download(t.Context(), DownloadOptions{Dir: dir, Progress: func(int64) {}}, outputs)
	if err == nil || !strings.Contains(err.Error(), "is the file of another output. Fetch the job ") || strings.Contains(err.Error(), "exists") || len(done) != 2 {
		t.Errorf("%d outputs and the error %v, want 2 and an error about the third one", len(done), err)
	}
}

// For a partial file, Download shortens a long name. The result is still UTF-8.
func TestDownloadOfALongName(t *testing.T) {
	storage, name, dir := new(s3test.Bucket), strings.Repeat("日", 83), t.TempDir()
	outputs := storedOutputs(t, storage, 1000, name)
	c := newClient(storage)
	ctx, kill := context.WithCancel(t.Context())
	defer kill()
	_, err := c.Download(ctx, DownloadOptions{Dir: dir, Progress: func(n int64) {
		if n > 0 {
			kill()
		}
	}}, outputs)
	files, _ := filepath.Glob(filepath.Join(dir, ".*.partial"))
	if !errors.Is(err, context.Canceled) || len(files) != 1 || !utf8.ValidString(files[0]) {
		t.Errorf("a download that is interrupted: %q and error %v, want a partial file and context.Canceled", files, err)
	}
	if done, err := c.Download(t.Context(), DownloadOptions{Dir: dir, Progress: func(int64) {}}, outputs); err != nil || len(done) != 1 || filepath.Base(done[0].Path) != name+".mp4" {
		t.Errorf("the next download: %+v and error %v, want the output and no error", done, err)
	}
}

// A download gives up after five requests in a row that fetch no byte. An earlier request that
// has fetched some bytes does not count.
func TestDownloadGivesUp(t *testing.T) {
	for want, ends := range map[string]bool{"the connection broke": false, "the response is empty": true} {
		storage := &breaking{Bucket: new(s3test.Bucket), after: 1000, ends: ends}
		outputs := storedOutputs(t, storage.Bucket, 5000, "talk")
		onlyOnce := func(n int64) {
			if n > 0 {
				storage.after = 0
			}
		}
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		_, err := newClient(storage).Download(ctx, DownloadOptions{Dir: t.TempDir(), Progress: onlyOnce}, outputs)
		if err == nil || !strings.Contains(err.Error(), want) || len(storage.ranges) != 1+maxEmptyTries {
			t.Errorf("%d requests and error %v, want %d and %q", len(storage.ranges), err, 1+maxEmptyTries, want)
		}
	}
}

// If a file cannot be written, Download does not request the object again, and the error says what to do.
func TestDownloadOntoAFullDisk(t *testing.T) {
	storage := &breaking{Bucket: new(s3test.Bucket), after: 5 << 20}
	outputs := storedOutputs(t, storage.Bucket, 5<<20, "talk")
	var before syscall.Rlimit
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	dir := t.TempDir()
	// The limit also applies to the log that go test writes. 1 MiB is enough for that log.
	if err := errors.Join(syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before), syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 1 << 20, Max: before.Max})); err != nil {
		t.Fatal(err)
	}
	_, err := newClient(storage).Download(t.Context(), DownloadOptions{Dir: dir, Progress: func(int64) {}}, outputs)
	if restored := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before); restored != nil {
		t.Fatal(restored)
	}
	want := "outputs cannot be stored in " + dir + ": file too large. Check the disk and its free space, then run the command again to fetch the rest"
	if err == nil || err.Error() != want || len(storage.ranges) != 1 {
		t.Errorf("%d requests and error %v, want one and %q", len(storage.ranges), err, want)
	}
}

// If the file with the AWS credentials is gone, the error does not tell the user to check the disk.
func TestDownloadWithoutTheFileOfTheCredentials(t *testing.T) {
	outputs := storedOutputs(t, new(s3test.Bucket), 5000, "talk")
	storage := s3.New(s3.Options{Region: "us-east-1", Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		_, err := os.Open(filepath.Join(t.TempDir(), "token.json"))
		return aws.Credentials{}, err
	})})
	_, err := newClient(storage).Download(t.Context(), DownloadOptions{Dir: t.TempDir(), Progress: func(int64) {}}, outputs)
	if err == nil || !strings.Contains(err.Error(), "get credentials: open ") || strings.Contains(err.Error(), "disk") {
		t.Errorf("got %v, want an error about the credentials and not about the disk", err)
	}
}

func TestFileName(t *testing.T) {
	for key, want := range map[string]string{
		"ads/Grüße 1.mp4": "ads/Grüße 1.mp4", `a\..\b.mp4`: "a%5C..%5Cb.mp4", "a\x1bb\u202e.mp4": "a%1Bb%E2%80%AE.mp4",
	} {
		if got := escaped(key); got != want {
			t.Errorf("%q is stored as %q, want %q", key, got, want)
		}
	}
}

// Download stores no output outside the folder, even if the output's key contains "..".
func TestDownloadStaysInTheFolder(t *testing.T) {
	storage := new(s3test.Bucket)
	outputs := storedOutputs(t, storage, 1000, "../../escaped")
	dir := filepath.Join(t.TempDir(), "a", "b")
	if _, err := newClient(storage).Download(t.Context(), DownloadOptions{Dir: dir, Progress: func(int64) {}}, outputs); err == nil {
		t.Error("the download succeeded, want an error")
	}
	if _, err := os.Stat(filepath.Join(dir, "..", "..", "escaped.mp4")); err == nil {
		t.Error("the output was stored outside the folder, want no such file")
	}
}

func TestForSheet(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "lips are late": "lips are late", "a=b": "a=b",
		"=1+1": "'=1+1", "+1": "'+1", "-1": "'-1", "@sum": "'@sum", "\t=1": "'\t=1", "\r=1": "'\r=1", "\n=1": "'\n=1", "＝1+1": "'＝1+1",
		"a; -b": "a; -b", "a;=1+1": "a;'=1+1", `a;"=1+1"`: `a;"'=1+1"`,
	} {
		if got := ForSheet(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}
