package page

import (
	"bytes"
	"encoding/json"
	"errors"
	"image"
	"image/png"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local"
	"github.com/lipdrop/lipdrop/internal/local/sample"
)

// start starts a local stack and returns its client.
func start(t *testing.T, o local.Options) *client.Client {
	t.Helper()
	if testing.Short() {
		t.Skip("a local stack takes long")
	}
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	o.Visibility = time.Second
	stack, err := local.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stack.Close)
	c, err := client.Target{Dir: o.Dir}.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// put writes an object.
func put(t *testing.T, c *client.Client, key string, body []byte) {
	t.Helper()
	in := &s3.PutObjectInput{Bucket: &c.Bucket.Name, Key: &key, Body: bytes.NewReader(body), ContentType: bucket.ContentType(key)}
	if _, err := c.S3.PutObject(t.Context(), in); err != nil {
		t.Fatal(err)
	}
}

func putJSON(t *testing.T, c *client.Client, key string, value any) {
	t.Helper()
	put(t, c, key, encoded(value))
}

func encoded(value any) []byte {
	body, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return body
}

// write writes a file and returns its path.
func write(t *testing.T, path string, body []byte) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, body, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// quiet fails the test if a script of the page has failed, has tried something that the
// Content-Security-Policy forbids, or has opened a dialog.
func (b *browser) quiet() {
	b.t.Helper()
	for _, problem := range b.complaints() {
		b.t.Errorf("the browser reports: %s", problem)
	}
}

func (b *browser) openJob(name string) {
	b.t.Helper()
	b.do("open the job "+name, chromedp.Evaluate(`location.hash = "#job=" + encodeURIComponent(`+quoted(name)+`)`, nil))
	b.waitFor(name+" is shown", `document.querySelector("#job h2")?.innerText === `+quoted(name)+` && document.querySelector("#job .facts, #job .bad")`)
}

func quoted(text string) string { return string(encoded(text)) }

// A person drops a pair, watches its job, plays and compares the videos, and approves the take.
func TestDropPlayApprove(t *testing.T) {
	b := openBrowser(t)
	c := start(t, local.Options{QueueTime: time.Second, RunTime: time.Second})
	mp4, wav := sample.Files()
	folder := t.TempDir()
	video, voice := write(t, filepath.Join(folder, "talk.mp4"), mp4), write(t, filepath.Join(folder, "talk.wav"), wav)

	b.do("open the page", chromedp.Navigate(serve(t, c)))
	b.waitFor("there are no jobs", `document.querySelector("#none").innerText.startsWith("There are no jobs yet")`)
	if address := eval[string](b, "location.href"); strings.Contains(address, "token") {
		t.Error("the address bar shows the token, want it removed")
	}

	b.drag(video, voice)
	b.waitFor("the files are checked", `document.querySelector("#found .found li")?.innerText.includes("talk")`)
	found := eval[string](b, `document.querySelector("#found").innerText`)
	for _, want := range []string{"1 job", "2.5 s of output", "ready", "sync/sync/lipsync/v2/pro", "talk.mp4 (3.0 s", "talk.wav (2.5 s"} {
		if !strings.Contains(found, want) {
			t.Errorf("the check shows no %q:\n%s", want, found)
		}
	}
	if _, err := c.Bucket.Head(t.Context(), "inbox/talk.mp4"); !errors.Is(err, bucket.ErrNotFound) {
		t.Errorf("talk.mp4 in the bucket after the check: got error %v, want %v", err, bucket.ErrNotFound)
	}
	b.shoot("drop-light")
	b.do("upload", chromedp.Click("#drop-start"))
	b.waitFor("the job is in the list", `document.querySelector('#rows [data-key="talk"]')`)
	b.do("open the job", chromedp.Click(`#rows [data-key="talk"] a`))
	b.waitFor("the job has succeeded", `document.querySelector("#job .status .state")?.innerText === "succeeded"`)
	for name, want := range map[string][]byte{"inbox/talk.mp4": mp4, "inbox/talk.wav": wav} {
		if body, _, err := c.Bucket.Get(t.Context(), name, 1<<20); err != nil || !bytes.Equal(body, want) {
			t.Errorf("%s in the bucket has %d bytes (error %v), want the same %d bytes that were dropped", name, len(body), err, len(want))
		}
	}

	b.waitFor("both videos are loaded", `document.querySelectorAll(".stage video").length === 2 && [...document.querySelectorAll(".stage video")].every((v) => v.readyState >= 2)`)
	b.do("slow the files down, so that none ends before a busy machine presses the next key", chromedp.Evaluate(`document.querySelectorAll(".stage video, .stage audio").forEach((m) => { m.playbackRate = 0.25; })`, nil))
	b.do("remove the focus", chromedp.Evaluate(`document.activeElement.blur()`, nil))
	b.key(" ")
	b.waitFor("both videos play together", `(() => { const [a, b] = document.querySelectorAll(".stage video"); return a.currentTime > 0.3 && b.currentTime > 0.3 && Math.abs(a.currentTime - b.currentTime) < 0.15; })()`)
	if heard := eval[int](b, `[...document.querySelectorAll(".stage video, .stage audio")].filter((m) => !m.muted).length`); heard != 1 {
		t.Errorf("%d sounds are heard, want 1", heard)
	}
	b.key(" ")
	b.waitFor("both videos are paused", `[...document.querySelectorAll(".stage video")].every((v) => v.paused)`)
	b.do("choose the sound of the voice", chromedp.Evaluate(`[...document.querySelectorAll(".sounds label")].find((l) => l.innerText.trim() === "Voice").querySelector("input").click()`, nil))
	if !eval[bool](b, `!document.querySelector(".stage audio").muted && [...document.querySelectorAll(".stage video")].every((v) => v.muted)`) {
		t.Error("the voice is not the only sound that is heard")
	}
	b.do("move the scrubber", chromedp.Evaluate(`(() => { const s = document.querySelector(".scrubber"); s.value = 1; s.dispatchEvent(new Event("input")); document.activeElement.blur(); })()`, nil))
	b.waitFor("all files are at one second", `[...document.querySelectorAll(".stage video, .stage audio")].every((v) => Math.abs(v.currentTime - 1) < 0.02)`)
	b.do("seek back as soon as the voice, which is the shortest file, has ended", chromedp.Evaluate(`(() => {
		const s = document.querySelector(".scrubber"), seek = (to) => { s.value = to; s.dispatchEvent(new Event("input")); };
		document.querySelector(".stage audio").addEventListener("ended", () => seek(0.5), { once: true });
		seek(2.3);
	})()`, nil))
	b.key(" ")
	b.waitFor("the voice plays again", `(() => { const a = document.querySelector(".stage audio"); return !a.paused && a.currentTime > 0.6 && a.currentTime < 2.2; })()`)
	b.key(" ")
	b.do("move the scrubber back", chromedp.Evaluate(`(() => { const s = document.querySelector(".scrubber"); s.value = 1; s.dispatchEvent(new Event("input")); })()`, nil))
	b.waitFor("all files are at one second again", `[...document.querySelectorAll(".stage video, .stage audio")].every((v) => v.paused && Math.abs(v.currentTime - 1) < 0.02)`)
	b.do("step", chromedp.KeyEvent(kb.ArrowRight))
	b.waitFor("both videos are a frame further", `[...document.querySelectorAll(".stage video")].every((v) => v.currentTime > 1.01 && v.currentTime < 1.1)`)
	b.do("wipe", chromedp.Evaluate(`[...document.querySelectorAll("label.check")].find((l) => l.innerText.includes("wipe")).querySelector("input").click()`, nil))
	if !eval[bool](b, `(() => { const [a, b] = document.querySelectorAll(".stage video"); const r = a.getBoundingClientRect(), s = b.getBoundingClientRect(); return Math.abs(r.x - s.x) < 1 && Math.abs(r.y - s.y) < 1 && getComputedStyle(document.querySelector(".output video")).clipPath.includes("50%"); })()`) {
		t.Error("the wipe does not lay the output over the input")
	}
	b.shoot("wipe-light")

	facts := eval[string](b, `document.querySelector("#job").innerText`)
	for _, want := range []string{"Expected length", "2.5 s", "Measured length", "picture_unchanged", "RunComfy", "archive", "talk.mp4"} {
		if !strings.Contains(facts, want) {
			t.Errorf("the job shows no %q:\n%s", want, facts)
		}
	}

	b.do("write a note", chromedp.SendKeys("#note", "lips are late, \"really\""), chromedp.Evaluate(`document.activeElement.blur()`, nil))
	b.key("a")
	b.waitFor("the take is approved", `document.querySelector(".review")?.innerText.includes("approved")`)
	b.waitFor("the list shows that the take is approved", `document.querySelector('#rows [data-key="talk"]').innerText.includes("approved")`)
	takes, err := c.Takes(t.Context(), "talk")
	if err != nil || len(takes) != 1 {
		t.Fatalf("%d takes (%v), want 1", len(takes), err)
	}
	review, _, err := c.ReadReview(t.Context(), "talk", takes[0].Take)
	who, _ := c.Caller(t.Context())
	if err != nil || review.Decision != client.Approved || review.Note != "lips are late, \"really\"" || review.By != who || review.At.IsZero() {
		t.Errorf("the review in the bucket is %+v (error %v), want approved by %s, with the note and a time", review, err, who)
	}
	b.do("list only the jobs to review", chromedp.Evaluate(`document.querySelector("#to-review").click()`, nil))
	b.waitFor("nothing is left to review", `!document.querySelector('#rows [data-key="talk"]')`)
	sheet := eval[string](b, `fetch("api/reviews.csv").then((r) => r.text())`)
	if !strings.Contains(sheet, `talk,`+takes[0].Take+`,approved,`+who) || !strings.Contains(sheet, `"lips are late, ""really"""`) {
		t.Errorf("the decisions as CSV lack the take, the person or the note:\n%s", sheet)
	}

	put(t, c, client.ReviewKey("talk", takes[0].Take), []byte("{"))
	b.waitFor("a review that does not parse counts as no review", `document.querySelector(".review p")?.innerText === "Not reviewed yet."`)

	b.do("drop again", chromedp.Click("#again"), chromedp.Click("#confirm .primary"))
	b.waitFor("there are two takes", `document.querySelectorAll(".takes a").length === 2`)
	b.quiet()
	for _, address := range b.requested() {
		if strings.Contains(address, "X-Amz-Signature") && !strings.Contains(address, "X-Amz-Expires=3600") {
			t.Error("a presigned URL lacks X-Amz-Expires=3600, want each to be valid for exactly an hour")
		}
	}
}

// requested returns the addresses that the page has requested.
func (b *browser) requested() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.requests)
}

// A redriven job continues where it failed, and a queued job is cancelled.
func TestRedriveAndCancel(t *testing.T) {
	b := openBrowser(t)
	dir := t.TempDir()
	mp4, wav := sample.Files()
	broken, err := local.Start(t.Context(), local.Options{Dir: dir, Variables: map[string]string{"OUTPUT_ORIGINS": "https://elsewhere.example"}})
	if err != nil {
		t.Fatal(err)
	}
	defer broken.Close()
	c, err := client.Target{Dir: dir}.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	put(t, c, "inbox/ads/talk.mp4", mp4)
	put(t, c, "inbox/ads/talk.wav", wav)
	awaitState(t, c, "ads/talk", ledger.Failed)
	broken.Close()

	c = start(t, local.Options{Dir: dir, QueueTime: time.Hour})
	b.do("open the page", chromedp.Navigate(serve(t, c)))
	b.waitFor("the job is listed", `document.querySelector('#rows [data-key="ads/talk"]')`)
	b.openJob("ads/talk")
	for _, want := range []string{"failed", "output_refused", "What to do:", "lipdrop redrive"} {
		if text := eval[string](b, `document.querySelector("#job").innerText`); !strings.Contains(text, want) {
			t.Errorf("the failed job shows no %q:\n%s", want, text)
		}
	}
	b.shoot("failed-light")
	b.press("#redrive")
	b.do("confirm", chromedp.Click("#confirm .primary"))
	b.waitFor("the job has succeeded", `document.querySelector("#job .status .state")?.innerText === "succeeded"`)

	put(t, c, "inbox/other.mp4", mp4)
	put(t, c, "inbox/other.wav", wav)
	awaitState(t, c, "other", ledger.InQueue)
	b.openJob("other")
	b.waitFor("the job is in the queue", `document.querySelector("#cancel") && document.querySelector("#job .status .state")?.innerText === "in queue" && document.querySelector("#job .status").innerText.includes("jobs ahead")`)
	b.do("set the clock an hour ahead, and leave all requests without a response", chromedp.Evaluate(`window.connected = fetch; window.fetch = () => new Promise(() => {}); window.clock = Date.now; Date.now = () => clock() + 3600 * 1000`, nil))
	b.waitFor("the page shows that the job is in the queue for an hour", `/queue 36\d\d s/.test(document.querySelector("#job .steps").innerText)`)
	b.do("set the clock back, and let requests through", chromedp.Evaluate(`window.fetch = connected; Date.now = clock`, nil))
	b.press("#cancel")
	b.do("do not cancel after all", chromedp.Click("#confirm button"))
	b.press("#cancel")
	b.do("confirm", chromedp.Click("#confirm .primary"))
	b.waitFor("the job is cancelled", `document.querySelector("#job .status .state")?.innerText === "cancelled"`)
	b.waitFor("the cancelled job does not count for the sums", `document.querySelector("#summary").innerText.includes("2 of 2 ended, 2.5 s of output, ≈ $0.202 for 1 of the jobs")`)
	b.check("the row of the cancelled job has no cost, and the other row has its estimate", `["other", "ads/talk"].map((key) => document.querySelector('#rows [data-key="' + key + '"]').querySelectorAll("[role=cell]")[5].textContent).join() === ",≈ $0.202"`)
	if takes, err := c.Takes(t.Context(), "other"); err != nil || len(takes) != 1 || takes[0].State != ledger.Cancelled {
		t.Errorf("the takes are %+v (%v), want one that is cancelled", takes, err)
	}
	b.quiet()
}

// awaitState waits until the status of a name has a state.
func awaitState(t *testing.T, c *client.Client, name string, state ledger.State) {
	t.Helper()
	var got ledger.State
	for deadline := time.Now().Add(within); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		posted, err := c.Ledger.Posted(t.Context(), ledger.StatusKey(name))
		if err != nil {
			t.Fatal(err)
		}
		if got = posted.State; got == state {
			return
		}
	}
	t.Fatalf("after %v, the state of %s is %q, want %q", within, name, got, state)
}

// hostile has markup that tries to run a script, in whatever part of a page it is shown.
const hostile = `"><script>window.pwned=1</script><img src=x onerror="window.pwned=1">'</b>{{.}}${alert(1)}`

// A failed, held, rejected, unknown or cancelled job is shown correctly, whatever texts its files hold.
// Anybody who may write to the bucket can put such texts into statuses, records and reviews.
func TestEveryStateIsReadable(t *testing.T) {
	b := openBrowser(t)
	c := start(t, local.Options{})
	now := time.Now().UTC().Truncate(time.Second)
	take := now.Format(ledger.StampLayout) + "-0123456789ab"
	evil := strings.ReplaceAll(hostile, "/", "∕") // a name has no slash inside a part
	for _, state := range []ledger.State{ledger.Failed, ledger.Held, ledger.Rejected, ledger.Unknown, ledger.Cancelled} {
		st := ledger.Status{
			Name: "evil/" + evil + string(state), State: state, Code: "output_refused", Reason: "RunComfy said " + hostile, Remedy: "do " + hostile,
			Warnings: []string{hostile}, Model: hostile, RequestID: hostile, UpdatedAt: now, Jobs: []string{hostile}, Verdict: hostile,
			Links: &ledger.Links{Execution: "javascript:window.pwned=1", RunComfy: "data:text/html,<script>window.pwned=1</script>", Outputs: hostile},
		}
		if state != ledger.Held && state != ledger.Rejected {
			st.Take = take
			putJSON(t, c, ledger.RecordKey(st.Name, take), ledger.Record{
				Name: st.Name, Take: take, State: state, Code: "output_refused", Reason: hostile, Model: hostile, RequestID: hostile,
				Options: map[string]any{"prompt": hostile, hostile: "x"},
				Inputs: []ledger.Input{
					{Property: "video_url", URL: "javascript:window.pwned=1"}, {Property: hostile, URL: "https://example.com/" + hostile},
					{Property: "audio_url", Key: "inbox/" + hostile + ".wav", Codecs: []string{hostile}},
				},
				Outputs: []ledger.Output{{Key: "outbox/" + hostile, Type: hostile, Codecs: []string{hostile}, Verdict: &ledger.Verdict{State: hostile, Doubts: []ledger.Doubt{{Code: hostile, Reason: hostile}}}}},
				Times:   ledger.Times{Claimed: now, Submitted: now.Add(time.Second), Ended: now.Add(time.Minute)}, Warnings: []string{hostile},
			})
			putJSON(t, c, client.ReviewKey(st.Name, take), client.Review{Name: st.Name, Take: take, Decision: hostile, By: hostile, At: now, Note: hostile})
		}
		putJSON(t, c, ledger.StatusKey(st.Name), st)
	}
	putJSON(t, c, "answers/"+evil+".txt.json", ledger.Status{Name: evil, State: ledger.Rejected, Code: "unknown_suffix", Reason: hostile, Remedy: hostile, UpdatedAt: now})
	put(t, c, "status/broken.json", []byte("{"))
	putJSON(t, c, "status/strange.json", map[string]any{"name": "strange", "state": "constructor", "reason": "strange", "updatedAt": now})
	older := now.Add(-time.Hour).Format(ledger.StampLayout) + "-0123456789ab"
	putJSON(t, c, ledger.RecordKey("strange", older), ledger.Record{Name: "strange", Take: older, State: ledger.Failed})
	put(t, c, ledger.RecordKey("strange", take), []byte("{"))

	put(t, c, "status/huge.json", []byte(`{"name": "huge", "state": "succeeded", "take": "`+take+`", "expectedSeconds": 1e308, "costUsd": -1e300, "estimateUsd": 1e300}`))
	long := strings.Repeat("x", 10000)
	putJSON(t, c, "status/long.json", ledger.Status{Name: "long", State: ledger.State(long), Take: take, UpdatedAt: now})
	putJSON(t, c, ledger.RecordKey("long", take), ledger.Record{Name: "long", Take: take, State: ledger.Succeeded, Outputs: []ledger.Output{{Key: "outbox/" + long, Type: "video/mp4"}}})

	b.do("open the page", chromedp.Navigate(serve(t, c)))
	b.waitFor("all are listed", `document.querySelectorAll("#rows .row").length === 10`)
	b.check("impossible lengths and costs are not shown", `(() => { const text = document.querySelector("#summary").innerText + document.querySelector('[data-key="huge"]').innerText; return !/Infinity|NaN|\$|of output/.test(text); })()`)
	b.check("no state is wider than the summary of the list", `(({scrollWidth, clientWidth}) => scrollWidth <= clientWidth)(document.querySelector("#summary"))`)
	b.shoot("hostile-light")
	for state, canDropAgain := range map[string]bool{"failed": true, "held": false, "rejected": false, "unknown": true, "cancelled": true} {
		b.openJob("evil/" + evil + state)
		b.waitFor("the job has its state", `document.querySelector("#job .status .state").innerText === `+quoted(state))
		if eval[bool](b, `!!document.querySelector("#again")`) != canDropAgain {
			t.Errorf("the %s job can be dropped again: %t, want %t", state, !canDropAgain, canDropAgain)
		}
		text := eval[string](b, `document.querySelector("#job").innerText`)
		for _, want := range []string{"RunComfy said " + hostile, "What to do: do " + hostile, "output_refused"} {
			if !strings.Contains(text, want) {
				t.Errorf("the %s job does not show %q:\n%s", state, want, text)
			}
		}
		if links := eval[[]string](b, `[...document.querySelectorAll("#job a, #job img, #job video, #job audio")].map((a) => a.getAttribute("href") || a.getAttribute("src")).filter((a) => a && !a.startsWith("#") && !/^https?:/.test(a))`); len(links) > 0 {
			t.Errorf("the %s job has the links %q, want only links with http or https", state, links)
		}
	}
	b.shoot("hostile-job-light")
	b.check("a long verdict hides no state", `[...document.querySelectorAll("#rows .row")].every((row) => row.firstChild.clientWidth > 90)`)
	failed := "evil/" + evil + "failed"
	b.openJob(failed)
	b.press("#again")
	if isolated := eval[string](b, `document.querySelector("#confirm h2 bdi").innerText`); isolated != failed {
		t.Errorf("the bdi element of the question has %q, want the name %q", isolated, failed)
	}
	b.key(kb.Escape)
	b.openJob("long")
	b.waitFor("long texts are not wider than the job", `document.querySelector("#job .unplayable") && document.querySelector("#job").scrollWidth <= document.querySelector("#job").clientWidth`)
	b.openJob("broken")
	if text := eval[string](b, `document.querySelector("#job").innerText`); !strings.Contains(text, "The status cannot be read.") || strings.Contains(text, "Updated") {
		t.Errorf("a status that is not JSON is shown as %q, want that it cannot be read, and no time", text)
	}
	b.openJob("strange")
	if text := eval[string](b, `document.querySelector("#job .status .bad:not(.state)").innerText`); !strings.HasPrefix(text, ledger.RecordKey("strange", take)+" cannot be read: ") {
		t.Errorf("a record that is not JSON is shown as %q, want that it cannot be read", text)
	}
	if text := eval[string](b, `document.querySelector("#job .status .state").innerText`); text != "constructor" {
		t.Errorf("the unknown state is shown as %q, want constructor", text)
	}
	if text := eval[string](b, `document.querySelector("#job .status").innerText`); !strings.Contains(text, "A newer drop of this name: ") || strings.Contains(text, "undefined") {
		t.Errorf("a newer drop without a remedy is shown as %q, want no word \"undefined\"", text)
	}
	for state, row := range map[string]string{"unreadable": "broken", "constructor": "strange"} {
		b.do("choose "+state, chromedp.Evaluate(`[...document.querySelectorAll(".chip")].find((chip) => chip.textContent.startsWith(`+quoted(state)+`)).click()`, nil))
		b.waitFor("only "+row+" is listed", `document.querySelector("#state").selectedOptions[0].innerText === "`+state+` (1)" && [...document.querySelectorAll("#rows .row")].map((e) => e.dataset.key).join() === `+quoted(row))
	}
	b.do("search for markup", chromedp.SendKeys("#search", "<script>"))
	if eval[bool](b, `"pwned" in window || document.querySelectorAll("script").length !== 1`) {
		t.Error("a text was run as a script")
	}
	b.quiet()
}

// If a person chooses a model and options, a pair is uploaded as a bundle. Files that the
// bucket holds already are not sent again, and start nothing.
func TestDropWithOptions(t *testing.T) {
	b := openBrowser(t)
	// With a short Settle, submit could start one job for each file of a pair that is dropped again.
	c := start(t, local.Options{Settle: 5 * time.Second})
	mp4, wav := sample.Files()
	folder := t.TempDir()
	write(t, filepath.Join(folder, "shop", "talk.mp4"), mp4)
	write(t, filepath.Join(folder, "shop", "talk.wav"), wav)
	write(t, filepath.Join(folder, "shop", ".DS_Store"), []byte("x"))
	write(t, filepath.Join(folder, "shop", "broken.mp4"), []byte("this is no video"))
	write(t, filepath.Join(folder, "shop", "broken.wav"), wav)
	write(t, filepath.Join(folder, "shop", "lonely.wav"), wav)
	b.do("open the page", chromedp.Navigate(serve(t, c)))
	b.waitFor("the page is open", `document.querySelector("#none:not([hidden])")`)

	b.drag(filepath.Join(folder, "shop"))
	b.waitFor("the files are checked", `document.querySelector("#found .found")`)
	found := eval[string](b, `document.querySelector("#found").innerText`)
	for _, want := range []string{"1 job, 2.5 s of output, about $", "not a quote", "shop/talk", "shop/broken", "broken.mp4", "Not uploaded, because they would start no job: shop/broken.mp4, shop/broken.wav"} {
		if !strings.Contains(found, want) {
			t.Errorf("the check shows no %q:\n%s", want, found)
		}
	}
	for _, name := range []string{"shop/broken.mp4", "shop/talk.mp4"} { // the first is left out, the second is uploaded
		if !eval[bool](b, `[...document.querySelectorAll("#found bdi")].some((e) => e.innerText === `+quoted(name)+`)`) {
			t.Errorf("the check does not isolate %s: a name could reverse the text after it", name)
		}
	}
	if strings.Contains(found, "DS_Store") {
		t.Errorf("the check shows a file that is not a drop:\n%s", found)
	}
	uploadWithOptions := func() {
		t.Helper()
		b.do("choose a folder, a model and an option",
			chromedp.SetValue("#drop-folder", "ads/spring"), chromedp.SetValue("#drop-model", "sync/react-1"),
			chromedp.Evaluate(`document.querySelector("#drop-model").dispatchEvent(new Event("change"))`, nil),
			chromedp.WaitVisible("#option-temperature"),
			chromedp.Evaluate(`(() => { const t = document.querySelector("#option-temperature"); t.value = 0.25; t.dispatchEvent(new Event("input")); t.dispatchEvent(new Event("change"));
				const e = document.querySelector("#option-emotion"); e.value = String([...e.options].find((o) => o.innerText === "happy").value); e.dispatchEvent(new Event("change")); })()`, nil))
		b.waitFor("the options are checked", `document.querySelector("#found")?.innerText.includes("ads/spring/shop/talk") && document.querySelector("#found").innerText.includes("sync/react-1") && !document.querySelector("#drop-start").disabled`)
		b.shoot("options-light")
		b.do("upload", chromedp.Click("#drop-start"))
		b.waitFor("the window is closed", `!document.querySelector("#drop").open`)
	}
	uploadWithOptions()
	manifest, _, err := c.Bucket.Get(t.Context(), "inbox/ads/spring/shop/talk.job/job.json", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	var job struct {
		Model string
		Input map[string]any
	}
	if err := json.Unmarshal(manifest, &job); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"video_url": "talk.mp4", "audio_url": "talk.wav", "emotion": "happy", "temperature": 0.25}
	if diff := cmp.Diff(want, job.Input); diff != "" || job.Model != "sync/react-1" {
		t.Errorf("job.json (- want, + got), model %s:\n%s", job.Model, diff)
	}
	awaitState(t, c, "ads/spring/shop/talk", ledger.Succeeded)
	for _, name := range []string{".DS_Store", "broken.mp4", "broken.wav", "talk.mp4", "lonely.wav", "preset.json"} {
		if _, err := c.Bucket.Head(t.Context(), "inbox/ads/spring/shop/"+name); !errors.Is(err, bucket.ErrNotFound) {
			t.Errorf("%s in the bucket: got error %v, want %v", name, err, bucket.ErrNotFound)
		}
	}

	takes := func(name string) int {
		recs, err := c.Takes(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		return len(recs)
	}
	awaitTakes := func(name string, want int) {
		t.Helper()
		for deadline := time.Now().Add(within); takes(name) < want && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		}
		if n := takes(name); n != want {
			t.Fatalf("%s has %d takes, want %d", name, n, want)
		}
	}
	reload := func() {
		t.Helper()
		b.do("reload", chromedp.Reload())
		b.waitFor("the jobs are listed", `document.querySelector("#rows .row")`)
	}
	notice := func(want string) {
		t.Helper()
		if text := eval[string](b, `document.querySelector("#notice").innerText`); !strings.Contains(text, want) {
			t.Errorf("the page says %q, want %q", text, want)
		}
	}

	// First, only the voice is new, and a take starts. Then nothing is new, and nothing starts.
	changed := slices.Clone(wav)
	changed[len(changed)-1]++
	write(t, filepath.Join(folder, "shop", "talk.wav"), changed)
	for _, want := range []string{"ads/spring/shop/talk is uploaded; the job starts", "Nothing was started. ads/spring/shop/talk starts nothing, because the bucket holds the same files already."} {
		reload()
		b.drag(filepath.Join(folder, "shop"))
		b.waitFor("the files are checked", `document.querySelector("#found .found")`)
		uploadWithOptions()
		notice(want)
		awaitTakes("ads/spring/shop/talk", 2)
	}
	// Without options, the pair would be a second job of the same name.
	reload()
	b.drag(filepath.Join(folder, "shop"))
	b.waitFor("the files are checked", `document.querySelector("#found .found")`)
	b.do("choose the folder", chromedp.SetValue("#drop-folder", "ads/spring"), chromedp.Evaluate(`document.querySelector("#drop-folder").dispatchEvent(new Event("change"))`, nil))
	b.waitFor("the clash is shown", `document.querySelector("#found")?.innerText.includes("the job ads/spring/shop/talk would be started by talk.mp4 and talk.wav, and also by the folder talk.job. Drop only one of them")`)

	plain := []string{write(t, filepath.Join(folder, "plain.mp4"), mp4), write(t, filepath.Join(folder, "plain.wav"), wav)}
	drop := func(again bool) {
		t.Helper()
		reload()
		b.drag(plain...)
		b.waitFor("the files are checked", `document.querySelector("#found .found li")?.innerText.includes("plain")`)
		if again {
			b.do("choose to upload files that the bucket holds already", chromedp.Click("#drop-again"))
		}
		b.do("upload", chromedp.WaitEnabled("#drop-start"), chromedp.Click("#drop-start"))
		b.waitFor("the window is closed", `!document.querySelector("#drop").open`)
	}
	drop(false)
	awaitState(t, c, "plain", ledger.Succeeded)
	drop(false)
	notice("Nothing was started. plain starts nothing, because the bucket holds the same files already.")
	drop(true)
	awaitTakes("plain", 2)
	b.quiet()
}

// The buttons for choosing files and a folder lead to the check of the files.
func TestChosenFiles(t *testing.T) {
	b := openBrowser(t)
	c := start(t, local.Options{})
	mp4, wav := sample.Files()
	folder := t.TempDir()
	files := []string{write(t, filepath.Join(folder, "talk.mp4"), mp4), write(t, filepath.Join(folder, "talk.wav"), wav)}
	address := serve(t, c)
	for picker, chosen := range map[string][]string{"#pick-files": files, "#pick-folder": {folder}} {
		b.do("open the page", chromedp.Navigate(address))
		b.waitFor("the page is open", `document.querySelector("#none:not([hidden])")`)
		b.do("choose files with "+picker, chromedp.SetUploadFiles(picker, chosen))
		b.waitFor("the files are checked", `document.querySelector("#found .found li")?.innerText.includes("talk")`)
	}
	b.quiet()
}

// If the browser cannot play a file, the page says so and offers to download it. The page shows
// images.
func TestOtherMedia(t *testing.T) {
	b := openBrowser(t)
	c := start(t, local.Options{})
	_, wav := sample.Files()
	var picture bytes.Buffer
	if err := png.Encode(&picture, image.NewGray(image.Rect(0, 0, 600, 500))); err != nil {
		t.Fatal(err)
	}
	put(t, c, "inbox/odd.avi", []byte("RIFF....AVI and nothing that can be played"))
	put(t, c, "inbox/face.png", picture.Bytes())
	put(t, c, "inbox/face.wav", wav)
	put(t, c, "inbox/notes.txt", []byte("<script>alert(1)</script>"))
	awaitState(t, c, "odd", ledger.Waiting)
	awaitState(t, c, "face", ledger.Succeeded)
	b.do("open the page", chromedp.Navigate(serve(t, c)))
	b.waitFor("the jobs are listed", `document.querySelectorAll("#rows .row").length >= 3`)
	b.openJob("odd")
	b.waitFor("the page says what it cannot show", `document.querySelector(".unplayable")?.innerText.includes("This browser cannot load or show odd.avi")`)
	address := eval[string](b, `document.querySelector(".unplayable a").href`)
	response, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, _ := io.ReadAll(response.Body); response.StatusCode != http.StatusOK || !strings.HasPrefix(string(body), "RIFF") || !strings.HasPrefix(response.Header.Get("Content-Disposition"), "attachment") {
		t.Errorf("the download: %s, %v; want the file as an attachment", response.Status, response.Header)
	}

	b.openJob("face")
	b.waitFor("the image is shown beside the output", `document.querySelectorAll(".stage img").length === 2 && [...document.querySelectorAll(".stage img")].every((i) => i.complete && i.naturalWidth === 600)`)
	b.waitFor("the voice is loaded", `document.querySelector(".stage audio")?.readyState >= 2`)
	b.do("remove the focus", chromedp.Evaluate(`document.activeElement.blur()`, nil))
	b.key(" ")
	b.waitFor("the voice plays", `document.querySelector(".stage audio").currentTime > 0.2 && !document.querySelector(".stage audio").muted`)

	b.do("open the answer file", chromedp.Evaluate(`location.hash = "#job=" + encodeURIComponent("/notes.txt")`, nil))
	b.waitFor("the answer file is shown", `document.querySelector("#job .status")?.innerText.includes("unknown_suffix")`)
	b.do("open an answer file that does not exist", chromedp.Evaluate(`location.hash = "#job=" + encodeURIComponent("/none.txt")`, nil))
	b.waitFor("the title has no slash", `document.querySelector("#job .bad") && document.querySelector("#job-title").innerText === "none.txt"`)

	takes, err := c.Takes(t.Context(), "face")
	if err != nil || len(takes) != 1 || len(takes[0].Outputs) != 1 {
		t.Fatalf("the takes are %+v (error %v), want one with one output", takes, err)
	}
	if _, err := c.S3.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &c.Bucket.Name, Key: &takes[0].Outputs[0].Key}); err != nil {
		t.Fatal(err)
	}
	b.openJob("face")
	b.waitFor("the page says that the output is gone", `document.querySelector(".output .unplayable")?.innerText.includes("face.png is no longer in the bucket.")`)
	b.waitFor("the input is still shown", `document.querySelectorAll(".stage img").length === 1 && document.querySelector(".input img").complete`)
	b.quiet()
}
