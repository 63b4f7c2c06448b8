package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/check"
	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local"
	"github.com/lipdrop/lipdrop/internal/private"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
)

// through returns a folder for --dir. With this folder, the command reaches the stack through
// a proxy, which passes a request on if handle returns false.
func (r *running) through(handle func(w http.ResponseWriter, req *http.Request) bool) string {
	r.t.Helper()
	ports, err := local.ReadPorts(r.dir)
	if err != nil {
		r.t.Fatal(err)
	}
	target := &url.URL{Scheme: "http", Host: "127.0.0.1:" + strconv.Itoa(ports.Plain)}
	proxy := &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.SetURL(target)
		p.Out.Host = p.In.Host // the signature covers the host
	}}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if !handle(w, req) {
			proxy.ServeHTTP(w, req)
		}
	}))
	r.t.Cleanup(front.Close)
	ports.Plain = front.Listener.Addr().(*net.TCPAddr).Port
	dir := r.t.TempDir()
	err = errors.Join(private.ReplaceJSON(filepath.Join(dir, "ports.json"), ports), os.Symlink(filepath.Join(r.dir, "keys.json"), filepath.Join(dir, "keys.json")))
	if err != nil {
		r.t.Fatal(err)
	}
	return dir
}

// addFree appends n bytes to an MP4 file, as a box that players ignore.
func addFree(t *testing.T, path string, n int) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = file.Write(append(binary.BigEndian.AppendUint32(nil, uint32(n)), "free"...))
	if err == nil {
		_, err = io.CopyN(file, rand.NewChaCha8([32]byte{}), int64(n-8))
	}
	if err = errors.Join(err, file.Close()); err != nil {
		t.Fatal(err)
	}
}

// If there are many jobs, print describes only mostShown of them: first the jobs that wait for a
// file, each with the reason, then the jobs that start, with one line each.
func TestPrintManyJobs(t *testing.T) {
	p := &plan{Drop: &client.Drop{}}
	for range mostShown {
		p.Jobs = append(p.Jobs, client.DroppedJob{Outcome: check.Outcome{Finding: drop.Finding{Name: "talk"}, State: check.Ready, Job: drop.Prepared{Model: "m"}}, Starts: true})
	}
	p.Jobs = append(p.Jobs, client.DroppedJob{Outcome: check.Outcome{
		Finding: drop.Finding{Name: "lone"}, State: ledger.Waiting, Problems: []problem.Problem{{Code: problem.WaitingForAudio, Reason: "the voice is missing"}},
	}})
	var out bytes.Buffer
	p.print(&terminal{w: &out})
	const first, each = "lone: waiting\n  waiting_for_audio: the voice is missing\n", "talk: one job of m, of unknown length\n"
	if n := strings.Count(out.String(), each); !strings.HasPrefix(out.String(), first) || n != mostShown-1 {
		t.Errorf("print wrote %d lines %q, want %d:\n%s\nwant this at the beginning:\n%s", n, each, mostShown-1, &out, first)
	}
}

// If there is nothing to send, printTotal advises --force, except if every job still waits for a
// file: --force would start no such job.
func TestPrintSameFiles(t *testing.T) {
	for state, want := range map[ledger.State]bool{check.Ready: true, ledger.Waiting: false} {
		p := &plan{Drop: &client.Drop{Jobs: []client.DroppedJob{{Outcome: check.Outcome{Finding: drop.Finding{Name: "talk"}, State: state}}}}}
		var out bytes.Buffer
		p.printTotal(&terminal{w: &out})
		if got := strings.Contains(out.String(), "add --force"); got != want {
			t.Errorf("%s: --force is advised: %t, want %t; printed:\n%s", state, got, want, &out)
		}
	}
}

// TestDrop runs the command on one local stack, whose jobs stay queued unless noQueue is set.
func TestDrop(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a local stack")
	}
	stack := startStack(t, local.Options{Dir: t.TempDir()})
	var noPrice, noQueue atomic.Bool
	stack.Fake().Script = func(string, map[string]any) runcomfytest.Script {
		if noQueue.Load() {
			return runcomfytest.Script{}
		}
		return runcomfytest.Script{Queue: time.Hour}
	}
	stack.Fake().Fault = func(req *http.Request, _ []byte) *runcomfytest.Fault {
		if call, _ := runcomfytest.CallOf(req); call == runcomfytest.CallModel && noPrice.Load() {
			return &runcomfytest.Fault{Status: http.StatusNotFound}
		}
		return nil
	}

	// says runs the command, checks that it prints the wanted text, and returns what it prints.
	says := func(t *testing.T, code int, want string, args ...string) string {
		t.Helper()
		out, errs := command(t, code, args...)
		contains(t, out+errs, want)
		return out + errs
	}
	charges := func(t *testing.T, want int) {
		t.Helper()
		for deadline := time.Now().Add(5 * patience); stack.Fake().Charges() < want && time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		}
		if got := stack.Fake().Charges(); got != want {
			t.Fatalf("RunComfy has charged %d jobs, want %d", got, want)
		}
	}
	const rows = 500
	writeList := func(t *testing.T, emotion func(row int) string) {
		t.Helper()
		text := "\ufeffname;video;audio;model;emotion\r\n"
		for i := range rows {
			text += fmt.Sprintf("row %d;talk.mp4;voice.wav;sync/react-1;%s\r\n", i, emotion(i))
		}
		if err := os.WriteFile("campaign.csv", []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}

	// A list of 500 rows is sent, corrected in 20 rows, and sent again: 520 charges. The
	// two media, which all rows use, are sent once.
	t.Run("only changed rows are charged", func(t *testing.T) {
		lay(t, map[string]string{"talk.mp4": "@clip.mp4", "voice.wav": "@voice.wav"})
		writeList(t, func(int) string { return "" })
		says(t, 0, "500 jobs to start, 21 min 5.5 s of output; 502 files to send", "drop", "campaign.csv", "--to", "spring", "--dir", stack.dir, "--yes")
		charges(t, rows)
		media, err := keysBelow(t.Context(), stack.bucket, "inbox/spring/campaign/.media/")
		if err != nil || len(media) != 2 {
			t.Errorf("media %v, %v, want 2", media, err)
		}
		writeList(t, func(row int) string {
			if row%25 == 0 {
				return "sad"
			}
			return ""
		})
		says(t, 0, "20 jobs to start, 50.6 s of output; 20 files to send", "drop", "campaign.csv", "--to", "spring", "--dir", stack.dir, "--yes")
		charges(t, rows+20)
		says(t, 0, "0 jobs to start; 0 files to send; the bucket holds 502 files already", "drop", "campaign.csv", "--to", "spring", "--dir", stack.dir)
		// A changed voice gets another key, so every row that uses the voice changes.
		voice := []byte(contentOf(t, "voice.wav"))
		voice[len(voice)-1]++
		if err := os.WriteFile("voice.wav", voice, 0o666); err != nil {
			t.Fatal(err)
		}
		says(t, 0, "500 jobs to start, 21 min 5.5 s of output; 501 files to send", "drop", "campaign.csv", "--to", "spring", "--dir", stack.dir, "--dry-run")
		records, err := keysBelow(t.Context(), stack.bucket, "jobs/spring/campaign/")
		if err != nil || len(records) != rows+20 {
			t.Errorf("%d records, %v, want %d", len(records), err, rows+20)
		}
		charges(t, rows+20)
	})

	// Every problem of every row is reported, and nothing is sent.
	t.Run("nothing is sent if a row is wrong", func(t *testing.T) {
		lay(t, map[string]string{
			"talk.mp4": "@clip.mp4", "voice.wav": "@voice.wav", "empty.wav": "", "fake.wav": "no sound at all",
			"wrong.csv": "name,model,video,audio,emotion\n" +
				"a,,talk.mp4,voice.wav,\nb,,gone.mp4,voice.wav,\nc,,talk.mp4,empty.wav,\nd,,talk.mp4,fake.wav,\n" +
				"e,sync/react-1,talk.mp4,voice.wav,joyful\nf,sync/react-1,clips\\talk.mp4,voice.wav,joyful\ng,,talk.mp4,/inbox/shared/none.wav,\nh,,voice.wav,voice.wav,\ni,,talk.mp4,/inbox/other/voice.wav,\n" +
				"j,,talk.mp4,/inbox/shared/voice.mp3,\nk,,talk.mp4,https://ann@example.com/voice.wav,\n",
		})
		if err := upload(t.Context(), stack.bucket, "inbox/shared/voice.mp3", strings.NewReader(contentOf(t, "voice.wav")), nil); err != nil {
			t.Fatal(err)
		}
		writes := 0
		dir := stack.through(func(_ http.ResponseWriter, req *http.Request) bool {
			if req.Method != http.MethodGet && req.Method != http.MethodHead {
				writes++
			}
			return false
		})
		out := says(t, 1, "nothing was sent:", "drop", "wrong.csv", "--dir", dir, "--yes")
		contains(t, out,
			`wrong.csv: row 3, column C (video): there is no file gone.mp4`, "Name a file of this computer that you may read, as a path from the folder of the list.",
			"wrong.csv: row 4, column D (audio): empty.wav is empty",
			"wrong.csv: row 5, column D (audio): fake.wav",
			`wrong.csv: row 6, column E (emotion): emotion is "joyful"; sync/react-1 accepts happy`, "Set emotion to happy",
			`wrong.csv: row 7, column C (video): there is no file clips\talk.mp4`, "Write the path from the folder of the list, with / in place of each backslash.",
			`wrong.csv: row 7, column E (emotion): emotion is "joyful"`,
			`wrong.csv: row 8, column D (audio): audio_url "/inbox/shared/none.wav" does not exist`,
			`wrong.csv: row 10, column D (audio): audio_url "/inbox/other/voice.wav" is not in inbox/wrong/ or inbox/shared/. Name a file of this computer, an https URL, or a file in a shared folder`,
			"wrong.csv: row 11, column D (audio): voice.mp3 is not what its suffix says: it is a WAV file. Rename voice.mp3 to voice.wav. Upload the new file in place of voice.mp3, and name it in the list.",
			"wrong.csv: row 12, column D (audio): audio_url is a URL with a user name; such a URL is not passed on. Name a file of this computer, an https URL,",
		)
		if strings.Contains(out, "row 2") || strings.Count(out, "row 9, column C (video): voice.wav is an audio file") != 1 || writes > 0 {
			t.Errorf("%d requests to write, want 0; want no problem of row 2, and one of row 9:\n%s", writes, out)
		}
	})

	// The command is killed while it sends part 7 of a file of 200 MiB, which has 13 parts of at most
	// 16 MiB. Run again, it sends only the missing parts, and the job is charged once.
	t.Run("killed in the middle", func(t *testing.T) {
		before := stack.Fake().Charges()
		lay(t, map[string]string{"big.mp4": "@clip.mp4", "big.wav": "@voice.wav"})
		addFree(t, "big.mp4", 200<<20)
		var mu sync.Mutex
		sent := map[string]int{} // how often each part was begun
		middle, dead := make(chan struct{}), make(chan struct{})
		killing := true
		dir := stack.through(func(_ http.ResponseWriter, req *http.Request) bool {
			part := req.URL.Query().Get("partNumber")
			if part == "" {
				return false
			}
			mu.Lock()
			sent[part]++
			hang := killing && part == "7"
			mu.Unlock()
			if hang {
				_, _ = io.CopyN(io.Discard, req.Body, 8<<20)
				close(middle)
				<-dead
			}
			return hang
		})
		args := []string{"drop", "big.mp4", "big.wav", "--dir", dir, "--to", "killed", "--yes"}
		cmd := startCommand(t, args...)
		select {
		case <-middle:
		case <-time.After(patience):
			t.Error("the command does not send part 7")
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // it was killed
		mu.Lock()
		killing = false
		mu.Unlock()
		close(dead)
		says(t, 0, "", args...)
		twice := 0
		for _, n := range sent {
			twice += n - 1
		}
		if len(sent) != 13 || twice != 1 {
			t.Errorf("%d parts, %d of them sent again, want 13 and 1", len(sent), twice)
		}
		there, _, err := stack.bucket.Get(t.Context(), "inbox/killed/big.mp4", math.MaxInt64)
		if err != nil || string(there) != contentOf(t, "big.mp4") {
			t.Errorf("the object has %d bytes, error %v; want the content of big.mp4 and no error", len(there), err)
		}
		charges(t, before+1)
	})

	// Ctrl-C ends an upload; the same command continues it. With --force, the same command would
	// start the jobs again, so the command says to leave out --force.
	t.Run("interrupted", func(t *testing.T) {
		lay(t, map[string]string{"big.mp4": "@clip.mp4", "big.wav": "@voice.wav"})
		addFree(t, "big.mp4", 40<<20)
		var interrupt context.CancelFunc
		var trigger string // a request whose URL contains this text interrupts the command
		dir := stack.through(func(_ http.ResponseWriter, req *http.Request) bool {
			if strings.Contains(req.URL.String(), trigger) {
				interrupt()
			}
			return false
		})
		args := []string{"drop", "big.mp4", "big.wav", "--dir", dir, "--to", "interrupted", "--yes"}
		interrupted := func(at string, want []string, args ...string) {
			t.Helper()
			ctx, cancel := context.WithCancel(t.Context())
			trigger, interrupt = at, cancel
			var out, errs bytes.Buffer
			if code := run(ctx, args, &out, &errs); code != exitInterrupted {
				t.Errorf("exit code %d, want %d", code, exitInterrupted)
			}
			contains(t, errs.String(), want...)
		}
		interrupted("partNumber=2", []string{"interrupted; run the same command again to send the rest"}, args...)
		says(t, 0, "sent 2 files", args...)
		forced := slices.Concat(args, []string{"--force", "--wait"})
		interrupted("partNumber=2", []string{"With --force, the same command would start them again, and you would pay again"}, forced...)
		interrupted("prefix=status", []string{"If you run this command again, leave out --force", "Run the same command without --force to watch again"}, forced...)
		noQueue.Store(true)
		defer noQueue.Store(false)
		interrupted("big.mp4?x-id=GetObject", []string{"run the same command again to fetch the rest\n  If you run this command again, leave out --force"}, append(forced, "--get", "out")...)
	})

	t.Run("a refused upload", func(t *testing.T) {
		lay(t, map[string]string{"talk.mp4": "@clip.mp4", "talk.wav": "@voice.wav"})
		dir := stack.through(func(w http.ResponseWriter, req *http.Request) bool {
			refused := req.Method == http.MethodPut
			if refused {
				w.WriteHeader(http.StatusForbidden)
			}
			return refused
		})
		out := says(t, exitCredentials, "your credentials lack the permission s3:PutObject", "drop", "talk.mp4", "talk.wav", "--dir", dir, "--to", "refused", "--yes")
		contains(t, out, "Not everything was sent. Run the same command again to send the rest")
	})

	// Nothing is sent if the estimate is above --max-usd or is not known.
	t.Run("limits", func(t *testing.T) {
		lay(t, map[string]string{"talk.mp4": "@clip.mp4", "talk.wav": "@voice.wav"})
		limited := func(code int, limit, want string) {
			t.Helper()
			says(t, code, want, "drop", "talk.mp4", "talk.wav", "--dir", stack.dir, "--to", "cheap", "--yes", "--max-usd="+limit)
		}
		limited(1, "0.01", "nothing was sent: --max-usd allows $0.0100, and the estimate is: about $")
		limited(1, "0", "nothing was sent: --max-usd allows $0.0000, and")
		limited(2, "-1", "")
		limited(2, "nan", "")
		noPrice.Store(true)
		limited(1, "100", "nothing was sent: --max-usd allows $100.00, and the estimate is: the cost is not known: ")
		noPrice.Store(false)
		if keys, err := keysBelow(t.Context(), stack.bucket, "inbox/cheap/"); err != nil || len(keys) > 0 {
			t.Errorf("inbox/cheap/ has %v, %v, want nothing", keys, err)
		}
		limited(0, "100", "")
	})
}

// A status is followed only if it is about the uploaded files or newer ones. Another take of the
// same second is not newer.
func TestStatusIsAboutTheUploadedFiles(t *testing.T) {
	job := drop.Finding{Order: "20260102T030405Z", Job: &drop.Job{Take: "20260102T030405Z-aaaaaaaaaaaa"}}
	tests := []struct {
		name  string
		take  string
		order ledger.Order
		want  bool
	}{
		{"of the take of the uploaded files", job.Job.Take, job.Order, true},
		{"of an earlier take", "20260102T030404Z-ffffffffffff", "20260102T030404Z-ffffffffffff", false},
		{"of another take of the same second", "20260102T030405Z-bbbbbbbbbbbb", "20260102T030405Z-bbbbbbbbbbbb", false},
		{"of a later take", "20260102T030406Z-bbbbbbbbbbbb", "20260102T030406Z-bbbbbbbbbbbb", true},
		{"of no take and earlier files", "", "20260102T030404Z", false},
		{"of no take and the uploaded files", "", "20260102T030405Z", true},
		{"of no take and later files", "", "20260102T030406Z-cccccccccccc", true},
		{"of no take and no files", "", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := isAbout(client.Status{Status: ledger.Status{State: ledger.Rejected, Take: tt.take}, Order: tt.order}, job); got != tt.want {
				t.Errorf("isAbout is %t, want %t", got, tt.want)
			}
		})
	}
}
