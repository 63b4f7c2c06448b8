package runcomfytest_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/runcomfy"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
)

func TestFetchTime(t *testing.T) {
	tests := []struct {
		name   string
		start  bool     // FetchAtStart
		queued []string // fetched while the job is queued
	}{
		{"at submit", false, []string{audioURL, videoURL}},
		{"at the start of the run", true, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, files := &clock{noon}, pairFiles()
			fake := &runcomfytest.Server{FetchAtStart: tt.start, Queue: time.Minute, Run: time.Minute, Now: c.Now, Fetch: files.fetch}
			client := clientOf(fake, "t")
			id := submit(t, client, pair())
			ask := func() {
				t.Helper()
				if _, err := client.Status(t.Context(), id); err != nil {
					t.Fatal(err)
				}
			}
			c.advance(59 * time.Second)
			ask()
			if diff := cmp.Diff(tt.queued, files.fetched); diff != "" {
				t.Errorf("while queued (-want +got):\n%s", diff)
			}
			for _, wait := range []time.Duration{time.Second, time.Hour} { // to the start of the run, and beyond its end
				c.advance(wait)
				ask()
				if diff := cmp.Diff([]string{audioURL, videoURL}, files.fetched); diff != "" {
					t.Errorf("%v after the submit, want each once (-want +got):\n%s", c.now.Sub(noon), diff)
				}
			}
		})
	}
	t.Run("a job that was cancelled fetches nothing", func(t *testing.T) {
		c, files := &clock{noon}, pairFiles()
		fake := &runcomfytest.Server{FetchAtStart: true, Queue: time.Minute, Now: c.Now, Fetch: files.fetch}
		client := clientOf(fake, "t")
		id := submit(t, client, pair())
		if _, err := client.Cancel(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		c.advance(time.Hour)
		if result, err := client.Result(t.Context(), id); err != nil || result.State != runcomfy.ResultCancelled || files.fetched != nil {
			t.Errorf("result %q, error %v, fetched %v; want a cancelled job that fetched nothing", result.State, err, files.fetched)
		}
	})
}

func TestAJobWhoseMediaCannotBeFetchedFails(t *testing.T) {
	tests := []struct {
		name    string
		content map[string]string
		want    string
	}{
		{"no video", map[string]string{audioURL: "a"}, "could not download video_url from https://b.example/talk.mov HTTP 403"},
		{"no audio", map[string]string{videoURL: "v"}, "could not download audio_url from https://b.example/talk.wav HTTP 403"},
		{"an empty video", map[string]string{videoURL: "", audioURL: "a"}, "could not download video_url from https://b.example/talk.mov the file is empty"},
		{"an empty audio", map[string]string{videoURL: "v", audioURL: ""}, "could not download audio_url from https://b.example/talk.wav the file is empty"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := &clock{noon}
			fake := &runcomfytest.Server{Queue: time.Minute, Run: time.Hour, Now: c.Now, Fetch: (&files{content: tt.content}).fetch}
			client := clientOf(fake, "t")
			id := submit(t, client, pair())
			if status, err := client.Status(t.Context(), id); err != nil || status.State != runcomfy.InQueue {
				t.Errorf("status %q, error %v; want %q", status.State, err, runcomfy.InQueue)
			}
			c.advance(time.Minute)
			result, err := client.Result(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			if result.State != runcomfy.ResultFailed || result.Failure != tt.want || !result.FinishedAt.Equal(noon.Add(time.Minute)) {
				t.Errorf("result %+v, want a job that failed after a minute with %q", result, tt.want)
			}
			if fake.Charges() != 1 {
				t.Errorf("%d charges, want 1", fake.Charges())
			}
			if job, ok := fake.Job(id); !ok || job.State != "failed" || !strings.Contains(job.FetchError, "X-Amz-Signature") {
				t.Errorf("job %+v, want a failed one whose FetchError quotes the whole URL", job)
			}
		})
	}
}

func TestFetchByHTTP(t *testing.T) {
	var seen []string
	storage := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Method+" "+r.RequestURI+" "+r.Header.Get("Authorization"))
		if strings.Contains(r.URL.Path, "gone") {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		_, _ = io.WriteString(w, "content")
	}))
	defer storage.Close()
	fake := &runcomfytest.Server{HTTPClient: storage.Client()}
	client := clientOf(fake, "t")
	good := submit(t, client, map[string]any{"video_url": storage.URL + "/a%2Bb.mp4?X-Amz-Expires=1", "prompt": "a plain text", "seed": 1})
	bad := submit(t, client, map[string]any{"image_url": storage.URL + "/gone.png"})
	want := []string{"GET /a%2Bb.mp4?X-Amz-Expires=1 ", "GET /gone.png "}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	if job, _ := fake.Job(good); job.State != "succeeded" {
		t.Errorf("job %+v, want a succeeded one", job)
	}
	if job, _ := fake.Job(bad); job.State != "failed" || !strings.Contains(job.FetchError, "HTTP 403") {
		t.Errorf("job %+v, want a failed one with HTTP 403", job)
	}
}

func TestTheOutputIsTheJobsOwnMedia(t *testing.T) {
	address := func(name string) string { return "https://b.example/" + name }
	tests := []struct {
		name    string
		input   map[string]any
		script  runcomfytest.Script
		want    []string // file names of the outputs; nil if there is no output
		content string
	}{
		{name: "the video", input: map[string]any{"video_url": address("v.mp4"), "audio_url": address("a.wav")}, want: []string{"1.mp4"}, content: "v.mp4"},
		{name: "the image if there is no video", input: map[string]any{"image_url": address("i.png"), "audio_url": address("a.wav")}, want: []string{"1.png"}, content: "i.png"},
		{name: "the first image", input: map[string]any{"image_url_2": address("2.webp"), "image_url_1": address("1.jpg")}, want: []string{"1.jpg"}, content: "1.jpg"},
		{name: "the video, although the image is first by name", input: map[string]any{"image_url": address("i.png"), "video_url": address("v.webm")}, want: []string{"1.webm"}, content: "v.webm"},
		{name: "a video that only the suffix of its URL shows", input: map[string]any{"source": address("v.MOV")}, want: []string{"1.mov"}, content: "v.MOV"},
		{name: "a video whose URL has no suffix", input: map[string]any{"video_url": address("v")}, want: []string{"1.mp4"}, content: "v"},
		{name: "audio only", input: map[string]any{"audio_url": address("a.mp4")}},
		{name: "no media", input: map[string]any{"prompt": "hello"}},
		{
			name: "several outputs", input: map[string]any{"video_url": address("v.mp4")}, script: runcomfytest.Script{Outputs: 3},
			want: []string{"1.mp4", "2.mp4", "3.mp4"}, content: "v.mp4",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fake := &runcomfytest.Server{
				OutputURL: "https://storage.example",
				Script:    func(string, map[string]any) runcomfytest.Script { return tt.script },
				Fetch: func(_ context.Context, url string) (io.ReadCloser, error) {
					return io.NopCloser(strings.NewReader(strings.TrimPrefix(url, address("")))), nil
				},
			}
			client := clientOf(fake, "t")
			id := submit(t, client, tt.input)
			result, err := client.Result(t.Context(), id)
			if err != nil || result.State != runcomfy.ResultSucceeded {
				t.Fatalf("result %+v, error %v; want a succeeded job", result, err)
			}
			var want []string
			for _, name := range tt.want {
				want = append(want, "https://storage.example/media/"+id+"%3D/output/"+name) // RunComfy's paths contain a %3D, too
			}
			if diff := cmp.Diff(want, result.Outputs); diff != "" {
				t.Errorf("outputs (-want +got):\n%s", diff)
			}
			for _, output := range result.Outputs {
				if status, _, body := get(t, fake, "GET", output, nil); status != 200 || body != tt.content {
					t.Errorf("HTTP %d, %q; want 200, %q", status, body, tt.content)
				}
			}
			wantSum := ""
			if len(tt.want) > 0 {
				wantSum = fmt.Sprintf("%x", sha256.Sum256([]byte(tt.content)))
			}
			if job, _ := fake.Job(id); job.OutputSHA256 != wantSum {
				t.Errorf("job %+v, want OutputSHA256 %q", job, wantSum)
			}
		})
	}
}

// get requests an output without a socket.
func get(t *testing.T, fake *runcomfytest.Server, method, address string, header http.Header) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	if header != nil {
		req.Header = header
	}
	res, err := fake.Transport().RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, res.Header, string(body)
}

func TestServingAnOutput(t *testing.T) {
	for _, dir := range []string{"", t.TempDir()} {
		t.Run(fmt.Sprintf("on disk %t", dir != ""), func(t *testing.T) {
			fake := &runcomfytest.Server{Dir: dir, Fetch: pairFiles().fetch}
			client := clientOf(fake, "t")
			result, err := client.Result(t.Context(), submit(t, client, pair()))
			if err != nil {
				t.Fatal(err)
			}
			output := result.Outputs[0]
			_, whole, _ := get(t, fake, "GET", output, nil)
			etag := whole.Get("ETag")
			if etag == "" || strings.HasPrefix(etag, "W/") || whole.Get("Accept-Ranges") != "bytes" || whole.Get("Content-Type") != "text/plain" {
				t.Errorf("header %v, want a strong ETag, Accept-Ranges bytes and Content-Type text/plain", whole)
			}
			tests := []struct {
				name, method, url string
				header            http.Header
				status            int
				body              string
			}{
				{"whole", "GET", output, nil, 200, "the video"},
				{"HEAD", "HEAD", output, nil, 200, ""},
				{"a range", "GET", output, http.Header{"Range": {"bytes=4-6"}}, 206, "vid"},
				{"the last two bytes", "GET", output, http.Header{"Range": {"bytes=-2"}}, 206, "eo"},
				{"If-Range with the output's ETag", "GET", output, http.Header{"Range": {"bytes=0-2"}, "If-Range": {etag}}, 206, "the"},
				{"If-Range with another ETag", "GET", output, http.Header{"Range": {"bytes=0-2"}, "If-Range": {`"other"`}}, 200, "the video"},
				{"a range beyond the end", "GET", output, http.Header{"Range": {"bytes=99-"}}, 416, "invalid range: failed to overlap\n"},
				{"the path unescaped", "GET", strings.Replace(output, "%3D", "=", 1), nil, 404, `{"error_message":"there is no such output"}`},
				{"the path escaped in lower case", "GET", strings.Replace(output, "%3D", "%3d", 1), nil, 404, `{"error_message":"there is no such output"}`},
				{"a POST", "POST", output, nil, 404, `{"error_message":"there is no such output"}`},
				{"an unknown job", "GET", strings.Replace(output, "/media/", "/media/9", 1), nil, 404, `{"error_message":"there is no such output"}`},
			}
			for _, tt := range tests {
				t.Run(tt.name, func(t *testing.T) {
					status, header, body := get(t, fake, tt.method, tt.url, tt.header)
					if status != tt.status || body != tt.body {
						t.Errorf("HTTP %d %q, want %d %q", status, body, tt.status, tt.body)
					}
					if tt.name == "HEAD" && header.Get("Content-Length") != "9" {
						t.Errorf("Content-Length %q, want 9", header.Get("Content-Length"))
					}
				})
			}
			if fake.LeakedTokens() != 0 {
				t.Errorf("%d leaked tokens, want none", fake.LeakedTokens())
			}
			if status, _, _ := get(t, fake, "GET", output, http.Header{"Authorization": {"Bearer t"}}); status != 403 || fake.LeakedTokens() != 1 {
				t.Errorf("HTTP %d, %d leaked tokens; want 403, 1", status, fake.LeakedTokens())
			}
		})
	}
	t.Run("not before the job has ended", func(t *testing.T) {
		c := &clock{noon}
		fake := &runcomfytest.Server{Run: time.Minute, Now: c.Now, Fetch: pairFiles().fetch}
		id := submit(t, clientOf(fake, "t"), pair())
		output := "https://storage.example/media/" + id + "%3D/output/1.mov"
		if status, _, _ := get(t, fake, "GET", output, nil); status != 404 {
			t.Errorf("HTTP %d, want 404", status)
		}
		c.advance(time.Minute)
		if status, _, _ := get(t, fake, "GET", output, nil); status != 200 {
			t.Errorf("HTTP %d, want 200", status)
		}
	})
}
