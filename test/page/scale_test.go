package page

import (
	"bufio"
	"bytes"
	"context"
	"crypto/md5"
	"encoding/binary"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local"
	"github.com/lipdrop/lipdrop/internal/local/sample"
)

// command is `lipdrop ui` as a program of its own.
type command struct {
	t       *testing.T
	pid     int
	address string

	mu   sync.Mutex
	text bytes.Buffer // what the command has printed
}

// runCommand builds and runs `lipdrop ui`.
func runCommand(t *testing.T, dir string) *command {
	t.Helper()
	program := filepath.Join(t.TempDir(), "lipdrop")
	if out, err := exec.Command("go", "build", "-o", program, "../../cmd/lipdrop").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.Command(program, "ui", "--no-open", "--dir", dir)
	output, writer := io.Pipe()
	cmd.Stdout, cmd.Stderr = writer, writer
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			t.Errorf("lipdrop ui ended with %v", err)
		}
		writer.Close()
	})
	c := &command{t: t, pid: cmd.Process.Pid}
	address := make(chan string, 1)
	go func() {
		for s, found := bufio.NewScanner(output), false; s.Scan(); {
			c.mu.Lock()
			fmt.Fprintln(&c.text, s.Text())
			c.mu.Unlock()
			if !found && strings.Contains(s.Text(), "?token=") {
				found = true
				address <- strings.TrimSpace(s.Text())
			}
		}
	}()
	select {
	case c.address = <-address:
	case <-time.After(within):
		t.Fatalf("lipdrop ui prints no address: %s", c.printed())
	}
	return c
}

func (c *command) printed() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String()
}

// peak returns the most memory that the command has had, in MiB.
func (c *command) peak() int {
	c.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.pid))
	if err != nil {
		c.t.Fatal(err)
	}
	kib := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)
	if kib == nil {
		c.t.Fatalf("no VmHWM in %s", status)
	}
	n, _ := strconv.Atoi(string(kib[1]))
	return n >> 10
}

// statusServer is an S3 server that holds only statuses, and refuses every change. It stands
// in for the local S3 server, which would need minutes to store 10,000 objects.
type statusServer struct {
	mu      sync.Mutex
	objects map[string][]byte
	changed map[string]time.Time
	refusal string // if set, the code of the error in every response
}

func (s *statusServer) refuse(code string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusal = code
}

func (s *statusServer) put(key string, body []byte, changed time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[key], s.changed[key] = body, changed
}

// ServeHTTP implements http.Handler.
func (s *statusServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	etag := func(key string) string { return fmt.Sprintf(`"%x"`, md5.Sum(s.objects[key])) }
	key := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/"+local.Bucket), "/")
	switch body, ok := s.objects[key]; {
	case s.refusal != "":
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, "<Error><Code>%s</Code></Error>", s.refusal)
	case r.Method != http.MethodGet:
		w.WriteHeader(http.StatusPreconditionFailed) // as S3 refuses the write that tests the permission
	case ok:
		w.Header().Set("ETag", etag(key))
		_, _ = w.Write(body)
	case key != "":
		w.WriteHeader(http.StatusNotFound)
	default:
		type object struct {
			Key, ETag, LastModified string
			Size                    int
		}
		list := struct {
			XMLName               xml.Name `xml:"ListBucketResult"`
			Contents              []object
			IsTruncated           bool
			NextContinuationToken string `xml:",omitempty"`
		}{}
		for _, key := range slices.Sorted(maps.Keys(s.objects)) {
			if !strings.HasPrefix(key, r.FormValue("prefix")) || key <= r.FormValue("continuation-token") {
				continue
			}
			if list.IsTruncated = len(list.Contents) == 1000; list.IsTruncated {
				list.NextContinuationToken = list.Contents[999].Key
				break
			}
			list.Contents = append(list.Contents, object{key, etag(key), s.changed[key].Format(time.RFC3339), len(s.objects[key])})
		}
		_ = xml.NewEncoder(w).Encode(list)
	}
}

// folder returns the folder of a local stack whose S3 server is s.
func (s *statusServer) folder(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	port := server.Listener.Addr().(*net.TCPAddr).Port
	dir := t.TempDir()
	write(t, filepath.Join(dir, "ports.json"), encoded(local.Ports{TLS: port, Plain: port}))
	write(t, filepath.Join(dir, "keys.json"), encoded(local.Keys{SecretKey: "secret", Token: "token"}))
	return dir
}

// Three pages show 10,000 jobs. The pages hold only the rows that are visible, and the
// command needs little memory.
func TestTenThousandJobs(t *testing.T) {
	b := openBrowser(t)
	s := &statusServer{objects: map[string][]byte{}, changed: map[string]time.Time{}}
	now := time.Now().UTC().Truncate(time.Second)
	reasons := strings.Repeat("talk.mp4 is 2.0 s longer than talk.wav. ", 10)
	for i := range 10000 {
		at := now.Add(-time.Duration(i) * time.Minute)
		st := ledger.Status{
			Name: fmt.Sprintf("campaign-%02d/talk-%05d", i/200, i), State: ledger.Succeeded, Model: "sync/sync/lipsync/v2/pro", UpdatedAt: at,
			Take: at.Format(ledger.StampLayout) + "-0123456789ab", ExpectedSeconds: 12.5, Verdict: ledger.VerdictOK, Warnings: []string{reasons},
		}
		if i%10 == 0 {
			st.State, st.Code, st.Reason, st.Remedy = ledger.Failed, "no_output", reasons, reasons
		}
		s.put(ledger.StatusKey(st.Name), encoded(st), at)
	}
	command := runCommand(t, s.folder(t))
	b.do("count how often the menu of folders is filled", chromedp.ActionFunc(func(ctx context.Context) error {
		_, err := page.AddScriptToEvaluateOnNewDocument(`window.filled = 0; addEventListener("DOMContentLoaded", () => new MutationObserver(() => filled++).observe(document.querySelector("#folder") ?? document, {childList: true}))`).Do(ctx)
		return err
	}))
	tabs := []*browser{b, b.newTab(), b.newTab()}
	for _, tab := range tabs {
		tab.do("open the page", chromedp.Navigate(command.address))
		tab.waitFor("all jobs are counted", `document.querySelector("#summary")?.innerText.includes("of 10000 ended")`)
	}
	b.do("look at the first page", page.BringToFront())
	b.waitFor("all jobs are read", `!document.querySelector("#summary").innerText.includes("reading")`)
	b.check("the menu of folders was filled once, because filling a long menu is slow", `filled === 1`)
	rows := func() int { return eval[int](b, `document.querySelectorAll("#rows .row").length`) }
	if n := rows(); n < 10 || n > 60 {
		t.Errorf("%d rows are in the page, want only those that are visible: 10 to 60", n)
	}
	if first := eval[string](b, `document.querySelector('#rows [aria-rowindex="2"]').innerText`); !strings.Contains(first, "talk-00000") {
		t.Errorf("the first row is %q, want the newest job, talk-00000", first)
	}
	b.shoot("ten-thousand-light")
	b.do("scroll to the end", chromedp.Evaluate(`document.querySelector("#jobs-list").scrollTop = 1e9`, nil))
	b.waitFor("the last row is shown", `document.querySelector('#rows [aria-rowindex="10001"]')?.innerText.includes("talk-09999")`)
	if n := rows(); n > 60 {
		t.Errorf("%d rows are in the page after scrolling, want only those that are visible: at most 60", n)
	}
	b.do("look at another page, and come back", chromedp.Evaluate(setHidden(true), nil), chromedp.Evaluate(setHidden(false), nil))
	s.put(ledger.StatusKey("last"), encoded(ledger.Status{Name: "last", State: ledger.Waiting}), now.AddDate(-1, 0, 0))
	b.waitFor("one more job is counted", `document.querySelector("#summary").innerText.includes("of 10001 ended")`)
	b.check("talk-09999 is still shown", `document.querySelector('#rows [aria-rowindex="10001"]')?.innerText.includes("talk-09999")`)
	b.do("search", chromedp.SendKeys("#search", "talk-07777"))
	b.waitFor("one job is found", `document.querySelectorAll("#rows .row").length === 1`)
	b.do("clear the search", chromedp.Evaluate(`(() => { const s = document.querySelector("#search"); s.value = ""; s.dispatchEvent(new Event("input")); })()`, nil))
	b.do("select a folder and a state", chromedp.Evaluate(`for (const [id, value] of [["folder", "campaign-10/"], ["state", "failed"]]) { const s = document.getElementById(id); s.value = value; s.dispatchEvent(new Event("input")); }`, nil))
	b.waitFor("the selected jobs are counted", `document.querySelector("#summary").innerText.includes("campaign-10/: 200 of 200 ended") && document.querySelector("#table").getAttribute("aria-rowcount") === "21"`)

	// A change reaches every page.
	s.put(ledger.StatusKey("campaign-10/new"), encoded(ledger.Status{Name: "campaign-10/new", State: ledger.Held, Code: "throttled", Reason: "wait", UpdatedAt: time.Now()}), time.Now())
	for _, tab := range tabs {
		tab.do("look at the tab", page.BringToFront())
		tab.waitFor("the new job is counted", `document.querySelector("#summary").innerText.includes("held")`)
	}
	command.checkMemoryAndOutput()
	b.quiet()
}

// The command has only parts of a file in memory while it uploads the file. To seek in a
// large file, the browser requests ranges of the file from the bucket.
func TestLargeFile(t *testing.T) {
	b := openBrowser(t)
	dir := t.TempDir()
	c := start(t, local.Options{Dir: dir})
	command := runCommand(t, dir)
	_, wav := sample.Files()
	put(t, c, "inbox/large.wav", longVoice(wav, 100<<20))
	dropped := write(t, filepath.Join(t.TempDir(), "dropped.wav"), longVoice(wav, 20<<20))
	b.do("open the page", chromedp.Navigate(command.address))
	b.waitFor("the job is listed", `document.querySelector('#rows [data-key="large"]')`)
	b.drag(dropped)
	b.waitFor("the file is checked", `document.querySelector("#found .found li")?.innerText.includes("dropped")`)
	b.do("upload", chromedp.WaitEnabled("#drop-start"), chromedp.Click("#drop-start"))
	b.waitFor("the window is closed", `!document.querySelector("#drop").open`)
	if head, err := c.Bucket.Head(t.Context(), "inbox/dropped.wav"); err != nil || head.Size != 20<<20 {
		t.Errorf("the bucket has %d bytes of the file (%v), want %d", head.Size, err, 20<<20)
	}
	b.openJob("large")
	b.waitFor("the sound is loaded", `document.querySelector(".stage audio")?.readyState >= 1`)
	b.do("seek to the end", chromedp.Evaluate(`(() => { const s = document.querySelector(".scrubber"); s.value = s.max - 2; s.dispatchEvent(new Event("input")); })()`, nil))
	b.waitFor("the sound is near its end", `(() => { const a = document.querySelector(".stage audio"); return a.readyState >= 2 && !a.seeking && a.duration > 1000 && a.currentTime > a.duration - 3; })()`)
	origin := eval[string](b, "location.origin")
	loaded := 0
	for _, address := range b.requested() {
		if strings.Contains(address, "large.wav?") {
			loaded++
			if strings.HasPrefix(address, origin) {
				t.Error("the browser loads the file through the command, want it loaded from the bucket")
			}
		}
	}
	if loaded < 2 {
		t.Errorf("the file was requested %d times, want at least 2, because each range is a request", loaded)
	}
	command.checkMemoryAndOutput()
	b.quiet()
}

// checkMemoryAndOutput fails the test if the command printed its address more than once, or any
// other URL. On Linux, it also fails the test if the command used 100 MiB of memory or more.
func (c *command) checkMemoryAndOutput() {
	c.t.Helper()
	if runtime.GOOS == "linux" {
		if peak := c.peak(); peak >= 100 {
			c.t.Errorf("the command had %d MiB of memory, want less than 100", peak)
		} else {
			c.t.Logf("the command had at most %d MiB of memory", peak)
		}
	}
	for line := range strings.Lines(strings.Replace(c.printed(), c.address, "", 1)) {
		if strings.Contains(line, "X-Amz") || strings.Contains(line, "token=") || strings.Contains(line, "http") {
			c.t.Errorf("the command prints %q, want its address only once, and no other URL", line)
		}
	}
}

// longVoice returns a WAV of the given size that repeats the sound of another WAV.
func longVoice(wav []byte, size int) []byte {
	const header = 44
	long := make([]byte, 0, size)
	long = append(long, wav[:header]...)
	for len(long) < size {
		long = append(long, wav[header:]...)
	}
	long = long[:size]
	binary.LittleEndian.PutUint32(long[4:], uint32(size-8))
	binary.LittleEndian.PutUint32(long[40:], uint32(size-header))
	return long
}
