package page

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local"
	"github.com/lipdrop/lipdrop/internal/local/sample"
)

// check fails the test if an expression of the page is not true.
func (b *browser) check(what, expression string) {
	b.t.Helper()
	if !eval[bool](b, "!!("+expression+")") {
		b.t.Errorf("not true: %s", what)
	}
}

// setHidden returns a script that hides the page, as if another tab was chosen, or shows it again.
func setHidden(hidden bool) string {
	return fmt.Sprintf(`Object.defineProperty(document, "hidden", {value: %t, configurable: true}); document.dispatchEvent(new Event("visibilitychange"))`, hidden)
}

// If the shown job changes, the page keeps the note, the focus and the opened commands.
func TestJobChangesWhileItIsUsed(t *testing.T) {
	b := openBrowser(t)
	c := start(t, local.Options{})
	mp4, wav := sample.Files()
	put(t, c, "inbox/talk.mp4", mp4)
	put(t, c, "inbox/talk.wav", wav)
	put(t, c, "inbox/lonely.wav", wav)
	awaitState(t, c, "talk", ledger.Succeeded)
	awaitState(t, c, "lonely", ledger.Waiting)
	// Once a minute, the page may ask for the job again, which aborts a request that has no response yet. So the
	// minute is not too short.
	b.do("make minutes short", chromedp.ActionFunc(func(ctx context.Context) error {
		_, err := page.AddScriptToEvaluateOnNewDocument(`(() => { const set = setInterval; window.setInterval = (f, ms) => set(f, ms === 60000 ? 3000 : ms); })()`).Do(ctx)
		return err
	}))
	brief := *c
	brief.S3 = s3.New(c.S3.Options(), func(o *s3.Options) {
		o.Credentials = aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
			got, err := c.S3.Options().Credentials.Retrieve(ctx)
			got.CanExpire, got.Expires = true, time.Now().Add(20*time.Minute)
			return got, err
		})
	})
	b.do("open the page", chromedp.Navigate(serve(t, &brief)))
	b.waitFor("the job is listed", `document.querySelector('#rows [data-key="talk"]')`)

	b.do("open a job over a slow connection", chromedp.Evaluate(`window.connected = fetch; window.fetch = () => new Promise(() => {}); location.hash = "#job=lonely"`, nil))
	b.waitFor("the page says that it reads the job", `document.querySelector("#job").innerText.includes("Reading the job…")`)
	b.do("open the list over a fast connection", chromedp.Evaluate(`window.fetch = connected; location.hash = ""`, nil))
	b.openJob("lonely")
	b.check("the page does not capitalize the file name at the beginning of the reason", `document.querySelector("#job .status").innerText.includes("lonely.wav is from")`)
	b.check("each fact has a value", `((rows) => rows.length && rows.every((row) => row.cells[1].innerText.trim()))([...document.querySelectorAll("#job .facts tr")])`)

	b.openJob("talk")
	b.check("the section has the job's name", `document.getElementById(document.querySelector("#job").getAttribute("aria-labelledby")).innerText === "talk"`)
	b.waitFor("both videos are loaded", `[...document.querySelectorAll(".stage video")].filter((v) => v.readyState >= 2).length === 2`)
	b.check("a screen reader does not read each position", `!document.querySelector(".player :is(output, [role=status], [aria-live])")`)

	changed := 0
	change := func() {
		t.Helper()
		changed++
		posted, err := c.Ledger.Posted(t.Context(), ledger.StatusKey("talk"))
		if err != nil {
			t.Fatal(err)
		}
		st := posted.Status
		st.Warnings = []string{fmt.Sprint("change ", changed)}
		putJSON(t, c, ledger.StatusKey("talk"), st)
	}
	b.do("open the commands, and go to the play button", chromedp.Evaluate(`window.said = 0; new MutationObserver(() => said++).observe(document.querySelector("#live"), {childList: true, subtree: true, characterData: true});
		document.querySelector("#job summary").click(); document.querySelector(".play").focus()`, nil))
	change()
	b.waitFor("the change is shown", `document.querySelector("#job .warnings")?.innerText === "change 1"`)
	b.check("a screen reader does not read the same state of the connection again", `said === 0`)
	b.check("the commands are still open", `document.querySelector("#job details").open`)
	b.check("the play button still has the focus", `document.activeElement.matches(".play")`)

	b.do("hide the page, and listen to the events like a second page", chromedp.Evaluate(setHidden(true)+`; new EventSource("api/events").addEventListener("jobs", (e) => { const { reset, rows } = JSON.parse(e.data); window.seen = !reset && rows; })`, nil))
	change()
	b.waitFor("the second page knows the change", `window.seen`)
	b.do("show the page again", chromedp.Evaluate(setHidden(false), nil))
	b.waitFor("the change is shown", `document.querySelector("#job .warnings")?.innerText === "change 2"`)

	b.do("write a note, and lose the connection", chromedp.SendKeys("#note", "lips are late"),
		chromedp.Evaluate(`window.connected = fetch; window.fetch = async () => { throw new TypeError("no connection"); }`, nil))
	change()
	b.waitFor("the page says that lipdrop ui does not respond", `document.querySelector("#notice").innerText.includes("does not respond")`)
	b.check("the note is still there", `document.querySelector("#note")?.value === "lips are late"`)
	b.do("connect again", chromedp.Evaluate(`window.sent = 0; window.fetch = (path, ...more) => { if (path === "api/review") sent++; return connected(path, ...more); }`, nil))
	b.do("click twice", chromedp.Evaluate(`document.querySelector("#approve")?.click(); document.querySelector("#approve")?.click()`, nil))
	b.waitFor("the take is approved", `document.querySelector(".review")?.innerText.includes("approved")`)
	b.check("the second click sent nothing", `sent === 1`)

	b.do("wait until the credentials that signed the addresses have expired", chromedp.Evaluate(`window.signed = document.querySelector(".stage video").src; const now = Date.now; Date.now = () => now() + 21 * 60 * 1000;`, nil))
	b.waitFor("the player has new addresses", `document.querySelector(".stage video")?.src !== signed`)

	if _, err := c.S3.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &c.Bucket.Name, Key: aws.String("inbox/talk.wav")}); err != nil {
		t.Fatal(err)
	}
	b.do("make the time for a message short, and the connection slow", chromedp.Evaluate(`{
		const set = setTimeout;
		window.setTimeout = (f, ms) => set(f, ms === 6000 ? 1 : ms);
		window.fetch = (path, ...more) => path === "api/again" ? new Promise((go) => { window.release = go; }).then(() => connected(path, ...more)) : connected(path, ...more);
	}`, nil))
	b.press("#again")
	b.do("drop again what was deleted", chromedp.Click("#confirm .primary"))
	b.waitFor("the page waits for the response", `window.release`)
	time.Sleep(200 * time.Millisecond)
	b.check("the page still says that it drops the file", `document.querySelector("#notice").innerText === "Drop again: talk …"`)
	b.do("let the request through", chromedp.Evaluate(`release()`, nil))
	b.waitFor("the page says what to do", `document.querySelector("#notice").innerText === "talk.wav is no longer in the bucket; drop the files again"`)

	b.do("go to the job", chromedp.Evaluate(`document.querySelector("#job").focus()`, nil))
	b.key(kb.Escape)
	b.waitFor("the job is closed", `document.querySelector("#job").hidden`)
	b.check("the row of the job has the focus", `document.activeElement.closest(".row")?.dataset.key === "talk"`)
	b.quiet()
}

// If a person does something else while files are checked or uploaded, the page says what
// happens, and nothing is lost.
func TestDropIsInterrupted(t *testing.T) {
	b := openBrowser(t)
	c := start(t, local.Options{})
	mp4, wav := sample.Files()
	folder := t.TempDir()
	var files []string
	for i := range 6 {
		name := filepath.Join(folder, fmt.Sprint("talk", i))
		files = append(files, write(t, name+".mp4", mp4), write(t, name+".wav", wav))
	}
	b.do("open the page", chromedp.Navigate(serve(t, c)))
	drop := func() {
		t.Helper()
		b.waitFor("the page is open", `document.querySelector("#none:not([hidden])")`)
		b.drag(files...)
		b.waitFor("the files are checked", `document.querySelector("#found .found, #found .bad")`)
	}
	for range 5 { // one more than the drops that may be open at once, so each reload must end the open drop
		drop()
		b.check("the files can be uploaded", `!document.querySelector("#drop-start").disabled`)
		b.do("reload", chromedp.Reload())
	}
	drop()
	b.check("the files cannot be uploaded before the new folder is checked", `(() => {
		document.querySelector("#drop-folder").dispatchEvent(new Event("change"));
		return document.querySelector("#drop-start").disabled;
	})()`)
	b.waitFor("the new folder is checked", `!document.querySelector("#drop-start").disabled`)
	slow := chromedp.Evaluate(`(() => {
		const real = fetch; let go; window.held = new Promise((resolve) => { go = resolve; }); window.release = go;
		window.fetch = async (path, options) => { if (path.startsWith("api/drop/part")) await held; return real(path, options); };
	})()`, nil)
	b.do("upload over a slow connection, and stop", slow, chromedp.Click("#drop-start"), chromedp.Click("#drop-close"))
	b.waitFor("the page says what the stop means", `document.querySelector("#notice").innerText.startsWith("The upload was stopped.")`)
	b.do("reload", chromedp.Reload())
	drop()
	b.do("upload, and get an error without a full stop", chromedp.Evaluate(`(() => {
		const real = fetch;
		window.fetch = async (path, options) => path.startsWith("api/drop/start") ? new Response("this drop has ended", { status: 410, headers: (await real("api/page")).headers }) : real(path, options);
	})()`, nil), chromedp.Click("#drop-start"))
	b.waitFor("the error ends with a full stop", `document.querySelector("#found .bad")?.innerText.startsWith("this drop has ended. If you drop")`)
	b.do("reload", chromedp.Reload())
	drop()
	b.do("upload over a slow connection", slow, chromedp.Click("#drop-start"))
	b.waitFor("the upload has begun", `document.querySelector("#found progress")?.nextSibling.innerText.includes(" of ")`)
	b.check("a screen reader does not read each number", `document.querySelector("#found progress").nextSibling.ariaLive === "off"`)
	b.drag(files...)
	b.waitFor("the page says that it cannot take more files", `document.querySelector("#notice").innerText.includes("Wait until the upload has ended")`)
	b.check("the message can be read above the window", `(() => { const r = document.querySelector("#notice").getBoundingClientRect(); return document.elementFromPoint(r.x + r.width / 2, r.y + r.height / 2)?.id === "notice"; })()`)
	b.shoot("wait-light")
	for range 3 {
		b.key(kb.Escape)
	}
	time.Sleep(100 * time.Millisecond)
	b.check("Escape does not stop the upload", `document.querySelector("#drop").open`)
	asked := make(chan bool)
	chromedp.ListenTarget(b.ctx, func(event any) {
		if _, ok := event.(*page.EventJavascriptDialogOpening); ok {
			go func() { asked <- chromedp.Run(b.ctx, page.HandleJavaScriptDialog(false)) == nil }()
		}
	})
	b.do("leave the page", chromedp.Evaluate(`setTimeout(() => location.reload())`, nil))
	select {
	case <-asked:
	case <-time.After(within):
		t.Fatal("the browser does not ask before it leaves the page")
	}
	b.do("go on", chromedp.Evaluate(`release()`, nil))
	b.waitFor("the page says in a few words that the jobs are uploaded", `document.querySelector("#notice").innerText === "6 jobs are uploaded; the jobs start soon."`)
}

// The page names what the browser cannot read of a drop, and says if a drop has no files.
func TestUnreadableDrop(t *testing.T) {
	b := openBrowser(t)
	b.do("open the page", chromedp.Navigate(serve(t, start(t, local.Options{}))))
	b.waitFor("there are no jobs", `document.querySelector("#none").innerText.startsWith("There are no jobs yet")`)
	drop := func(entry string) {
		t.Helper()
		b.do("drop an entry that the browser cannot read", chromedp.Evaluate(`(() => {
			const drop = new Event("drop");
			drop.dataTransfer = {types: ["Files"], items: [{webkitGetAsEntry: () => `+entry+`}]};
			dispatchEvent(drop);
		})()`, nil))
	}
	const cannot = `(_, bad) => bad(new Error("not allowed"))`
	drop(`({name: "talk.mp4", isFile: true, file: ` + cannot + `})`)
	b.waitFor("the file is named", `document.querySelector("#notice").innerText.includes("could not read talk.mp4.")`)
	drop(`({name: "ads", createReader: () => ({readEntries: ` + cannot + `})})`)
	b.waitFor("the folder is named", `document.querySelector("#notice").innerText.includes("could not read ads.")`)
	b.drag(t.TempDir())
	b.waitFor("the page says that the folder has no files", `document.querySelector("#notice").innerText.startsWith("There are no files to upload")`)
	b.check("no window is open", `!document.querySelector("#drop").open`)
	b.quiet()
}

// mouse presses or releases the left button of the mouse over an element.
func (b *browser) mouse(kind input.MouseType, selector string) {
	b.t.Helper()
	at := eval[[]float64](b, `(({x, y, width, height}) => [x + width / 2, y + height / 2])(document.querySelector(`+quoted(selector)+`).getBoundingClientRect())`)
	b.do(string(kind)+" over "+selector, input.DispatchMouseEvent(kind, at[0], at[1]).WithButton(input.Left).WithClickCount(1))
}

// A click counts even if a job changes between the press and the release of the button.
func TestChangeDuringAClick(t *testing.T) {
	b := openBrowser(t)
	c := start(t, local.Options{})
	take := succeeded(t, c, "talk")
	b.do("open the page", chromedp.Navigate(serve(t, c)))
	b.waitFor("the job is listed", `document.querySelector("#rows .row")`)
	// Date.now always returns the same time, because the page waits only one second for the release of a button. window.listed
	// is true after an event with rows. window.reason is the reason of the job that was read last.
	b.do("prepare the page", chromedp.Evaluate(`(() => { const now = Date.now(), parse = JSON.parse; Date.now = () => now;
		JSON.parse = (text) => { const value = parse(text); window.listed ||= Boolean(value.rows); window.reason = value.status?.reason ?? window.reason; return value; }; })()`, nil))
	for _, click := range []struct{ selector, changed, done string }{
		{"#rows .row", `window.listed`, `document.querySelector("#approve")`},
		{"#approve", `window.reason === "#approve"`, `document.querySelector(".review").innerText.includes("approved")`},
		{"#close-job", `window.reason === "#close-job"`, `document.querySelector("#job").hidden`},
	} {
		b.mouse(input.MousePressed, click.selector)
		putJSON(t, c, ledger.StatusKey("talk"), ledger.Status{Name: "talk", Take: take, State: ledger.Succeeded, Reason: click.selector})
		b.waitFor("the page has the change", click.changed)
		eval[bool](b, `new Promise((end) => requestAnimationFrame(() => requestAnimationFrame(() => end(true))))`)
		b.mouse(input.MouseReleased, click.selector)
		b.waitFor("the click on "+click.selector+" has its effect", click.done)
	}
	eval[bool](b, `new Promise((end) => setTimeout(() => end(true), 200))`)
	b.check("a change during the click on #close-job does not show the job again", `document.querySelector("#job").childElementCount === 0`)
	b.quiet()
}

// A space bar that is held down starts the player once. The page still shows changes.
func TestHeldSpaceBar(t *testing.T) {
	b := openBrowser(t)
	c := start(t, local.Options{})
	mp4, wav := sample.Files()
	put(t, c, "inbox/talk.mp4", mp4)
	put(t, c, "inbox/talk.wav", wav)
	awaitState(t, c, "talk", ledger.Succeeded)
	b.do("open the page", chromedp.Navigate(serve(t, c)))
	b.waitFor("the job is listed", `document.querySelector("#rows .row")`)
	b.openJob("talk")
	b.waitFor("both videos are loaded", `[...document.querySelectorAll(".stage video")].filter((v) => v.readyState >= 2).length === 2`)
	b.do("hold the space bar", chromedp.Evaluate(`(() => {
		window.toggled = 0;
		for (const video of document.querySelectorAll(".stage video")) video.loop = true; // the end of a video would toggle the player again
		new MutationObserver(() => toggled++).observe(document.querySelector(".play"), {childList: true});
		const press = (repeat) => document.body.dispatchEvent(new KeyboardEvent("keydown", {key: " ", repeat, bubbles: true}));
		press(false);
		setInterval(press, 50, true);
	})()`, nil))
	putJSON(t, c, ledger.StatusKey("new"), ledger.Status{Name: "new", State: ledger.Waiting})
	b.waitFor("the new job is listed", `document.querySelector('#rows [data-key="new"]')`)
	b.check("the player was toggled once", `toggled === 1`)
}

// A frame that the browser skips does not change how far one frame back or forward is.
func TestSkippedFrame(t *testing.T) {
	b := openBrowser(t)
	b.do("open the page", chromedp.Navigate(serve(t, start(t, local.Options{}))))
	b.waitFor("there are no jobs", `document.querySelector("#none").innerText.startsWith("There are no jobs yet")`)
	frame := eval[float64](b, `import("./static/player.js").then(({ Player }) => {
		const player = new Player([]);
		let next;
		player.measureFrames({ isConnected: true, requestVideoFrameCallback: (callback) => { next = callback; } });
		player.playing = true;
		for (const mediaTime of [0.04, 0.08, 0.16]) next(0, { mediaTime });
		return player.frame;
	})`)
	if frame != 0.04 {
		t.Errorf("a frame is %v s long, want 0.04 s", frame)
	}
}

// An option keeps every digit of a number that JavaScript would round. Other numbers lose their leading zeros.
func TestLargeOption(t *testing.T) {
	b := openBrowser(t)
	b.do("open the page", chromedp.Navigate(serve(t, start(t, local.Options{}))))
	b.waitFor("there are no jobs", `document.querySelector("#none").innerText.startsWith("There are no jobs yet")`)
	b.do("open the drop", chromedp.Click("#open-drop"), chromedp.WaitVisible("#drop-model"), chromedp.Evaluate(`(() => {
		const m = document.querySelector("#drop-model"); m.value = "community/live-avatar"; m.dispatchEvent(new Event("change"));
		const real = fetch; window.fetch = (path, options) => { if (path === "api/drop/open") window.seed = JSON.parse(options.body).options.seed; return real(path, options); };
	})()`, nil))
	b.do("choose a file", chromedp.SetUploadFiles("#pick-files", []string{write(t, filepath.Join(t.TempDir(), "talk.wav"), []byte("x"))}))
	for typed, want := range map[string]string{"9007199254740993": "9007199254740993", "-9007199254740993": "-9007199254740993", "007": "7"} {
		b.do("type "+typed, chromedp.SetValue("#option-seed", typed), chromedp.Evaluate(`document.querySelector("#option-seed").dispatchEvent(new Event("change"))`, nil))
		b.waitFor("the seed is "+want, `window.seed === `+quoted(want))
	}
	b.quiet()
}

// If the last job of the chosen folder is gone, the folder stays chosen, and the list is empty.
func TestChosenFolderBecomesEmpty(t *testing.T) {
	b := openBrowser(t)
	c := start(t, local.Options{})
	for _, name := range []string{"talk", "ads/spring/talk"} {
		putJSON(t, c, ledger.StatusKey(name), ledger.Status{Name: name, State: ledger.Waiting})
	}
	b.do("open the page", chromedp.Navigate(serve(t, c)))
	b.waitFor("both jobs are listed", `document.querySelectorAll("#rows .row").length === 2`)
	b.do("choose a folder", chromedp.Evaluate(`(() => { const f = document.querySelector("#folder"); f.value = "ads/spring/"; f.dispatchEvent(new Event("input")); })()`, nil))
	b.waitFor("one job is listed", `document.querySelectorAll("#rows .row").length === 1`)
	if _, err := c.S3.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &c.Bucket.Name, Key: aws.String(ledger.StatusKey("ads/spring/talk"))}); err != nil {
		t.Fatal(err)
	}
	b.waitFor("no job is listed", `!document.querySelector("#none").hidden`)
	b.check("the folder is still chosen", `document.querySelector("#folder").value === "ads/spring/"`)
	b.quiet()
}

// The credentials expire while the page is open. The page says so, keeps the stack's name in view,
// and shows the list and the open job as soon as the credentials are renewed.
func TestExpiredCredentials(t *testing.T) {
	b := openBrowser(t)
	s := &statusServer{objects: map[string][]byte{}, changed: map[string]time.Time{}}
	s.put(ledger.StatusKey("talk"), encoded(ledger.Status{Name: "talk", State: ledger.Rejected}), time.Now())
	c, err := client.Target{Dir: s.folder(t)}.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b.do("open the page", chromedp.Navigate(serve(t, c)))
	b.waitFor("the job is listed", `document.querySelector("#rows .row")`)
	s.refuse("ExpiredToken")
	b.waitFor("the page says that the credentials have expired", `document.querySelector("#live").innerText.includes("ExpiredToken")`)
	b.check("the name of the stack is in view", `document.querySelector("#stack").clientWidth > 100`)
	b.openJob("talk")
	b.check("the job says that the credentials have expired", `document.querySelector("#job").innerText.includes("ExpiredToken")`)
	b.shoot("expired")
	s.refuse("")
	b.waitFor("the list is live", `document.querySelector("#live").innerText === "live"`)
	b.waitFor("the job is shown", `document.querySelector("#job .status .state")?.innerText === "rejected"`)
	b.quiet()
}
