package ui

import (
	"crypto/md5"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/budget"
	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/local/sample"
	"github.com/lipdrop/lipdrop/internal/runcomfy"
	"github.com/lipdrop/lipdrop/internal/s3test"
)

// A drop stays open as long as its page is open, and ends some time after the page is
// closed.
func TestDropEndsWithThePage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{ctx: t.Context(), sessions: map[string]*dropSession{}}
		session, err := s.openSession(dropForm{Files: []droppedFile{{"talk.mp4", 1}}})
		if err != nil {
			t.Fatal(err)
		}
		keep := func() int {
			w := httptest.NewRecorder()
			handle(s.withSession((*dropSession).keep))(w, httptest.NewRequest(http.MethodPost, "/?id="+session.id, nil))
			return w.Code
		}
		for range 10 {
			time.Sleep(time.Minute)
			if status := keep(); status != http.StatusOK {
				t.Fatalf("while the page is open: HTTP status %d, want 200", status)
			}
		}
		time.Sleep(idleAfter + time.Second)
		if status := keep(); status != http.StatusGone || session.ctx.Err() == nil {
			t.Errorf("after the page was closed: HTTP status %d, and the session's error is %v; want 410 and an error", status, session.ctx.Err())
		}
	})
}

// If a drop ends while the page sends a part, the part is not written to the buffer of the
// reader, which may use the buffer for another file by then.
func TestDropEndsDuringAPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{ctx: t.Context(), sessions: map[string]*dropSession{}}
		session, err := s.openSession(dropForm{Files: []droppedFile{{"talk.mp4", 4}}})
		if err != nil {
			t.Fatal(err)
		}
		file, err := session.drop.Uploads["inbox/talk.mp4"].Open()
		if err != nil {
			t.Fatal(err)
		}
		buffer := make([]byte, 4)
		from, to := io.Pipe()
		go func() {
			a := <-session.asks
			go func() {
				_, _ = session.receivePart(httptest.NewRequest(http.MethodPost, fmt.Sprint("/?number=", a.Number), from))
			}()
			_, _ = to.Write([]byte("ab"))
			s.endSession(session, io.ErrClosedPipe)
		}()
		if _, err := file.ReadAt(buffer, 0); err == nil {
			t.Error("reading a part of a drop that has ended returned no error")
		}
		clear(buffer)
		_, _ = to.Write([]byte("cd"))
		_ = to.Close()
		synctest.Wait()
		if string(buffer) != "\x00\x00\x00\x00" {
			t.Errorf("after the drop has ended, the buffer has %q, want no new bytes", buffer)
		}
	})
}

// newDropServer returns a server, its bucket in memory, and a function that returns the keys
// that were uploaded since the last call of the function, in the order of the uploads.
// Neighboring keys with the same suffix are sorted, because these files are uploaded at the
// same time.
func newDropServer(t *testing.T) (*Server, *s3test.Bucket, func() []string) {
	t.Helper()
	storage := &s3test.Bucket{}
	var mu sync.Mutex
	var uploaded []string
	parts := map[string][]byte{} // by key; each multipart upload has one part
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key, query := strings.TrimPrefix(r.URL.Path, "/b/"), r.URL.Query()
		stored, ok := storage.Object(key)
		etag, match := fmt.Sprintf("\"%x\"", md5.Sum(stored)), r.Header.Get("If-Match")
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		switch {
		case query.Has("uploads"): // a list of uploads, or a new upload
			_, _ = io.WriteString(w, "<Result><UploadId>1</UploadId></Result>")
		case query.Has("partNumber"):
			if parts[key] = body; r.Header.Get("X-Amz-Copy-Source") != "" {
				parts[key] = stored
			}
			_, _ = io.WriteString(w, `<Result><ETag>"1"</ETag></Result>`)
		case r.Method == http.MethodPost && match != "" && match != etag:
			w.WriteHeader(http.StatusPreconditionFailed)
		case r.Method == http.MethodPost:
			body = parts[key]
			_, _ = io.WriteString(w, "<Result></Result>")
			fallthrough
		case r.Method == http.MethodPut:
			storage.Set(key, body)
			uploaded = append(uploaded, key)
		case r.Method == http.MethodHead && ok:
			w.Header().Set("Content-Length", strconv.Itoa(len(stored)))
			w.Header().Set("ETag", etag)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(front.Close)
	cfg := aws.Config{Region: "us-east-1", BaseEndpoint: &front.URL, Credentials: credentials.NewStaticCredentialsProvider("key", "secret", "")}
	c := client.New(cfg, "b", "arn:aws:states:us-east-1:000000000000:stateMachine:m")
	c.Bucket = &bucket.Bucket{S3: storage, Name: "b"}
	c.Ledger.Bucket = c.Bucket
	resolver, err := c.Resolver()
	if err != nil {
		t.Fatal(err)
	}
	return &Server{
			client: c, resolver: resolver,
			prices: &budget.Prices{API: &runcomfy.Client{Token: runcomfy.StaticToken("token"), BaseURL: front.URL}, Now: time.Now},
			feed:   newFeed(c), rightsByFolder: map[string]cachedRights{}, ctx: t.Context(), sessions: map[string]*dropSession{},
		}, storage, func() []string {
			mu.Lock()
			defer mu.Unlock()
			sent := uploaded
			uploaded = nil
			for rest := sent; len(rest) > 0; {
				n := slices.IndexFunc(rest, func(key string) bool { return path.Ext(key) != path.Ext(rest[0]) })
				if n < 0 {
					n = len(rest)
				}
				slices.Sort(rest[:n])
				rest = rest[n:]
			}
			return sent
		}
}

// checked checks a drop of files. It gives the drop the contents of the files, so that no
// page is asked for them.
func (s *Server) checked(t *testing.T, files map[string][]byte, model string, options map[string]string) *dropSession {
	t.Helper()
	var form dropForm
	for _, name := range slices.Sorted(maps.Keys(files)) {
		form.Files = append(form.Files, droppedFile{name, int64(len(files[name]))})
	}
	session, err := s.openSession(form)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.endSession(session, nil) })
	for name, content := range files {
		session.drop.Uploads["inbox/"+name].Open = client.Bytes(content)
	}
	if err := session.checkFiles(drop.Choice{Model: model, Options: options}); err != nil {
		t.Fatal(err)
	}
	return session
}

// jobsOf returns the name and the state of each job of a drop.
func jobsOf(d *dropSession) []string {
	var jobs []string
	for _, job := range d.result.Jobs {
		jobs = append(jobs, job.Name+" "+string(job.State))
	}
	return jobs
}

// If files are dropped again, only new or changed files are sent. An unchanged job.json is
// sent too, if media of its jobs are sent and these media start no job.
func TestDropAgain(t *testing.T) {
	mp4, wav := sample.Files()
	changed := slices.Clone(wav)
	changed[len(changed)-1]++
	const manifest = `{"model": "sync/react-1", "input": {"video_url": "v.mp4", "audio_url": "a.wav"}}`
	const many = `{"model": "sync/react-1", "input": {"video_url": "v.mp4", "audio_url": "*.wav"}}`
	pair := map[string][]byte{"talk.mp4": mp4, "talk.wav": wav}
	star := map[string][]byte{"a*.mp4": mp4, "a*.wav": wav}
	bundle := map[string][]byte{"x.job/job.json": []byte(manifest), "x.job/v.mp4": mp4, "x.job/a.wav": wav}
	wildcard := map[string][]byte{"x.job/job.json": []byte(many), "x.job/v.mp4": mp4, "x.job/a.wav": wav, "x.job/b.wav": wav}
	longer := append(slices.Clone(mp4), "\x00\x00\x00\x08free"...)
	with := func(files map[string][]byte, name string, body []byte) map[string][]byte {
		files = maps.Clone(files)
		files[name] = body
		return files
	}
	without := func(files map[string][]byte, name string) map[string][]byte {
		files = maps.Clone(files)
		delete(files, name)
		return files
	}
	two := with(with(with(bundle, "y.job/job.json", []byte(manifest)), "y.job/v.mp4", mp4), "y.job/a.wav", wav)
	outside := with(without(bundle, "x.job/v.mp4"), "v.mp4", mp4)
	outside["x.job/job.json"] = []byte(strings.Replace(manifest, "v.mp4", "/inbox/v.mp4", 1))
	for _, tt := range []struct {
		name          string
		first, second map[string][]byte
		model         string
		sent          []string // by the second drop, in this order
		starts        []string
		unchanged     []string
		idle          []string // because job.json is not sent
	}{
		{"a pair", pair, pair, "", nil, nil, []string{"talk"}, nil},
		{"a pair with another voice", pair, with(pair, "talk.wav", changed), "", []string{"talk.wav"}, []string{"talk"}, nil, nil},
		{"a pair with a model", pair, pair, "sync/react-1", nil, nil, []string{"talk"}, nil},
		{"a pair with a model and another voice", pair, with(pair, "talk.wav", changed), "sync/react-1", []string{"talk.job/talk.wav", "talk.job/job.json"}, []string{"talk"}, nil, nil},
		{"a pair with a model and a * in its names", star, with(star, "a*.wav", changed), "sync/react-1", []string{"a*.job/a-.wav", "a*.job/job.json"}, []string{"a*"}, nil, nil},
		{"a bundle", bundle, bundle, "", nil, nil, []string{"x"}, nil},
		{"a bundle with another voice", bundle, with(bundle, "x.job/a.wav", changed), "", []string{"x.job/a.wav", "x.job/job.json"}, []string{"x"}, nil, nil},
		{"another voice of a bundle, without its job.json", bundle, map[string][]byte{"x.job/a.wav": changed}, "", []string{"x.job/a.wav"}, nil, nil, nil},
		{"another match of a wildcard, without its job.json", wildcard, map[string][]byte{"x.job/c.wav": wav}, "", []string{"x.job/c.wav"}, []string{"x/c"}, nil, nil},
		{"a bundle with another job.json", bundle, with(bundle, "x.job/job.json", []byte(" "+manifest)), "", []string{"x.job/job.json"}, []string{"x"}, nil, nil},
		{"a bundle with a file that was missing", without(bundle, "x.job/a.wav"), bundle, "", []string{"x.job/a.wav"}, []string{"x"}, nil, nil},
		{"one bundle of two with another voice", two, with(two, "y.job/a.wav", changed), "", []string{"y.job/a.wav", "y.job/job.json"}, []string{"y"}, []string{"x"}, nil},
		{"a wildcard with another voice", wildcard, with(wildcard, "x.job/b.wav", changed), "", []string{"x.job/b.wav"}, []string{"x/b"}, []string{"x/a"}, nil},
		{"a wildcard with another video", wildcard, with(wildcard, "x.job/v.mp4", longer), "", []string{"x.job/v.mp4", "x.job/job.json"}, []string{"x/a", "x/b"}, nil, nil},
		{"a wildcard with another video and voice", wildcard, with(with(wildcard, "x.job/v.mp4", longer), "x.job/b.wav", changed), "", []string{"x.job/v.mp4", "x.job/b.wav"}, []string{"x/b"}, nil, []string{"x/a"}},
		{"a bundle with another video outside it", outside, with(outside, "v.mp4", longer), "", []string{"v.mp4", "x.job/job.json"}, []string{"x"}, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, _, uploaded := newDropServer(t)
			if err := s.checked(t, tt.first, tt.model, nil).upload(false); err != nil {
				t.Fatal(err)
			}
			uploaded()
			second := s.checked(t, tt.second, tt.model, nil)
			if err := second.upload(false); err != nil {
				t.Fatal(err)
			}
			var sent []string
			for _, key := range uploaded() {
				sent = append(sent, strings.TrimPrefix(key, "inbox/"))
			}
			slices.Sort(second.result.Names)
			if diff := cmp.Diff([][]string{tt.sent, tt.starts, tt.unchanged, tt.idle}, [][]string{sent, second.result.Names, second.result.Idle["the bucket holds the same files already"], second.result.Idle["only job.json starts the job again, and job.json was not sent"]}); diff != "" {
				t.Errorf("sent, started, unchanged and idle (-want +got), of the jobs %q:\n%s", jobsOf(second), diff)
			}
		})
	}
}

// If a pair and a bundle, or two pairs, would have the same name, the name has a problem. No
// file of that name is uploaded, but other files of the drop are.
func TestDropClash(t *testing.T) {
	mp4, wav := sample.Files()
	pair := map[string][]byte{"ads/talk.mp4": mp4, "ads/talk.wav": wav}
	manifest := []byte(`{"model": "sync/react-1", "input": {"video_url": "talk.mp4", "audio_url": "talk.wav"}}`)
	bundle := map[string][]byte{"ads/talk.job/job.json": manifest, "ads/talk.job/talk.mp4": mp4, "ads/talk.job/talk.wav": wav}
	const both = "the job ads/talk would be started by talk.mp4 and talk.wav, and also by the folder talk.job"
	for _, tt := range []struct {
		name         string
		stored, drop map[string][]byte
		model        string
		reason       string
		remedy       string
	}{
		{"a pair with a model beside the pair", pair, pair, "sync/react-1", both, "or choose no model and no options"},
		{"a pair with a model beside another voice", map[string][]byte{"ads/talk.mp3": wav}, pair, "sync/react-1",
			"the job ads/talk would be started by talk.mp3, and also by the folder talk.job", "Delete the other files of this name from the bucket"},
		{"a bundle beside the pair", pair, bundle, "", both, "Drop only one of them, or rename one."},
		{"a pair beside the bundle", bundle, pair, "", both, "Drop only one of them, or rename one."},
		{"a video beside two voices", map[string][]byte{"ads/talk.mp3": wav, "ads/talk.wav": wav}, map[string][]byte{"ads/talk.mp4": mp4}, "",
			"talk.mp3 and talk.wav could each be the audio of ads/talk", "If the bucket already holds others, delete them there first."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, storage, uploaded := newDropServer(t)
			for name, body := range tt.stored {
				storage.Set("inbox/"+name, body)
			}
			files := maps.Clone(tt.drop)
			files["ads/other.mp4"], files["ads/other.wav"] = mp4, wav
			d := s.checked(t, files, tt.model, nil)
			jobs := jobsOf(d)
			if diff := cmp.Diff([]string{"ads/other ready", "ads/talk rejected"}, slices.Sorted(slices.Values(jobs))); diff != "" {
				t.Fatalf("jobs (-want +got):\n%s", diff)
			}
			p := d.result.Jobs[slices.Index(jobs, "ads/talk rejected")].Problems[0]
			if p.Reason != tt.reason || !strings.Contains(p.Remedy, tt.remedy) {
				t.Errorf("the problem is %+v, want the reason %q, and %q in the remedy", p, tt.reason, tt.remedy)
			}
			if err := d.upload(false); err != nil {
				t.Fatal(err)
			}
			keys := uploaded()
			if len(keys) == 0 || slices.ContainsFunc(keys, func(key string) bool { return strings.Contains(key, "talk") }) {
				t.Errorf("uploaded %q, want only files of ads/other", keys)
			}
		})
	}
}

// MaxJobsPerDrop limits how many jobs one changed file starts. If the person chose a model, each
// pair becomes a bundle, whose job.json starts only one job. So the limit holds back no pair,
// however many pairs one video has.
func TestDropOfManyVoicesWithAModel(t *testing.T) {
	mp4, wav := sample.Files()
	s, _, _ := newDropServer(t)
	s.resolver.MaxJobsPerDrop = 1
	d := s.checked(t, map[string][]byte{"talk.mp4": mp4, "talk.x.wav": wav, "talk.z.wav": wav}, "sync/react-1", nil)
	if diff := cmp.Diff([]string{"talk.x ready", "talk.z ready"}, jobsOf(d)); diff != "" {
		t.Errorf("jobs (-want +got):\n%s", diff)
	}
}

// Only a pair can get the chosen model and options. If only one file of a pair is dropped, the
// file is not uploaded, even if the bucket has the other file.
func TestDropOfHalfAPairWithOptions(t *testing.T) {
	mp4, wav := sample.Files()
	s, storage, _ := newDropServer(t)
	storage.Set("inbox/talk.mp4", mp4)
	d := s.checked(t, map[string][]byte{"talk.wav": wav}, "sync/react-1", nil)
	if diff := cmp.Diff([]string{"talk waiting"}, jobsOf(d)); diff != "" || len(d.drop.Uploads) > 0 || !strings.Contains(d.result.Jobs[0].Problems[0].Reason, "without its partner") {
		t.Errorf("%d files to upload, want 0; jobs %+v, want talk waiting for its partner", len(d.drop.Uploads), d.result.Jobs)
	}
}

// If the chosen model or the chosen options do not fit the files, the problem is about this
// choice, and not about a preset.json.
func TestDropWithUnfitOptions(t *testing.T) {
	mp4, wav := sample.Files()
	for _, tt := range []struct {
		model   string
		options map[string]string
		want    string
	}{
		{"community/live-avatar", nil, "community/live-avatar does not accept a pair of a video and an audio file. Choose another model."},
		{"sync/react-1", map[string]string{"temperature": "7"}, "temperature is 7; sync/react-1 accepts a number from 0 to 1. Set temperature to a number from 0 to 1, or leave it out."},
		{"sync/react-1", map[string]string{"video_url": "v.mp4"}, "video_url accepts media; it is not an option. Remove video_url: the media are the uploaded files."},
	} {
		s, _, _ := newDropServer(t)
		d := s.checked(t, map[string][]byte{"ads/talk.mp4": mp4, "ads/talk.wav": wav}, tt.model, tt.options)
		if p := d.result.Jobs[0].Problems; len(p) != 1 || p[0].Reason+". "+p[0].Remedy != tt.want {
			t.Errorf("%s, %v: the problems are %+v, want only %q", tt.model, tt.options, p, tt.want)
		}
	}
}

// A file is left out if all its jobs are rejected.
func TestDropLeavesOut(t *testing.T) {
	mp4, wav := sample.Files()
	for _, tt := range []struct {
		name  string
		files map[string][]byte
		want  []string
	}{
		{"the voice of one of two jobs", map[string][]byte{"talk.mp4": mp4, "talk.de.wav": wav, "talk.fr.wav": nil}, []string{"talk.fr.wav"}},
		{"the voice of the only job", map[string][]byte{"talk.mp4": mp4, "talk.fr.wav": nil}, []string{"talk.fr.wav", "talk.mp4"}},
	} {
		s, _, _ := newDropServer(t)
		d := s.checked(t, tt.files, "", nil)
		if diff := cmp.Diff(tt.want, d.result.Left); diff != "" || d.result.Files != len(tt.files)-len(tt.want) {
			t.Errorf("%s: %d files to upload, want %d; left out (-want +got):\n%s", tt.name, d.result.Files, len(tt.files)-len(tt.want), diff)
		}
	}
}
