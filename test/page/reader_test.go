package page

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/chromedp/chromedp"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local"
	"github.com/lipdrop/lipdrop/internal/local/sample"
)

// ownFolder is a folder in which the reader may write.
const ownFolder = "own/"

// restricted is an HTTP client of the SDK. It refuses what AWS refuses to a person who may write only
// in ownFolder.
type restricted struct{ next s3.HTTPClient }

func (r *restricted) Do(req *http.Request) (*http.Response, error) {
	_, operation, _ := strings.Cut(req.Header.Get("X-Amz-Target"), ".")
	isS3 := operation == ""
	var body string
	var status int
	switch {
	case operation == "StopExecution", operation == "RedriveExecution":
		status, body = http.StatusBadRequest, `{"__type":"AccessDeniedException","message":"not authorized to perform: states:`+operation+`"}`
	case isS3 && req.Method != http.MethodGet && req.Method != http.MethodHead && !strings.Contains(req.URL.Path, "/"+ownFolder):
		status, body = http.StatusForbidden, `<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>`
	default:
		return r.next.Do(req)
	}
	return &http.Response{
		StatusCode: status, Header: http.Header{"Content-Type": {"application/xml"}}, Body: io.NopCloser(strings.NewReader(body)), Request: req,
	}, nil
}

// asReader returns a client of the same stack for a person who may write only in ownFolder.
func asReader(c *client.Client) *client.Client {
	reader := *c
	reader.S3 = s3.New(c.S3.Options(), func(o *s3.Options) { o.HTTPClient = &restricted{o.HTTPClient} })
	reader.Bucket = &bucket.Bucket{S3: reader.S3, Name: c.Bucket.Name}
	reader.Ledger = &ledger.Store{Bucket: reader.Bucket, MachineARN: c.Ledger.MachineARN}
	reader.States = sfn.New(c.States.Options(), func(o *sfn.Options) { o.HTTPClient = &restricted{o.HTTPClient} })
	return &reader
}

// A person who may write only in ownFolder sees everything. The page says which permissions are
// missing, and changes nothing.
func TestReader(t *testing.T) {
	b := openBrowser(t)
	c := start(t, local.Options{})
	mp4, wav := sample.Files()
	for _, name := range []string{"talk", ownFolder + "talk"} {
		put(t, c, "inbox/"+name+".mp4", mp4)
		put(t, c, "inbox/"+name+".wav", wav)
		awaitState(t, c, name, ledger.Succeeded)
	}
	before, _, err := c.Bucket.List(t.Context(), "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	b.do("open the page", chromedp.Navigate(serve(t, asReader(c))))
	b.waitFor("the page says that permissions are missing", `document.querySelector("#readonly")?.innerText === "some permissions are missing"`)
	b.size(390, 844, true)
	if !eval[bool](b, `document.elementsFromPoint(...(({x, y}) => [x + 4, y + 4])(document.querySelector("#readonly").getBoundingClientRect())).includes(document.querySelector("#readonly"))`) {
		t.Error("on a phone, the page does not show that permissions are missing")
	}
	b.size(1280, 800, false)
	b.waitFor("the job is listed", `document.querySelector('#rows [data-key="talk"]')`)
	b.openJob("talk")
	b.waitFor("both videos are loaded", `document.querySelectorAll(".stage video").length === 2 && [...document.querySelectorAll(".stage video")].every((v) => v.readyState >= 2)`)
	for _, id := range []string{"approve", "reject", "again"} {
		got := eval[string](b, `(() => { const e = document.getElementById(`+quoted(id)+`); return e.disabled + " " + document.getElementById(e.getAttribute("aria-describedby")).innerText; })()`)
		if want := "true needs s3:PutObject"; !strings.HasPrefix(got, want) {
			t.Errorf("the button %s: %s, want %s", id, got, want)
		}
	}
	b.shoot("reader-light")
	b.openJob(ownFolder + "talk")
	b.waitFor("the buttons for a job in "+ownFolder+" can be used", `["approve", "reject", "again"].every((id) => document.getElementById(id)?.disabled === false)`)
	b.openJob("talk")
	b.do("remove the focus", chromedp.Evaluate(`document.activeElement.blur()`, nil))
	b.key("a") // approves the take, if that is allowed
	folder := t.TempDir()
	b.drag(write(t, folder+"/new.mp4", mp4), write(t, folder+"/new.wav", wav))
	b.waitFor("the drop says what is missing", `document.querySelector("#drop-denied")?.innerText.includes("s3:PutObject") && document.querySelector("#drop-start").disabled`)
	after, _, err := c.Bucket.List(t.Context(), "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	if len(before) != len(after) {
		t.Errorf("the bucket has %d objects, want %d as before", len(after), len(before))
	}
	// The page tries out what the person may do. That changes nothing either.
	b.do("open the page of a person who may do everything", chromedp.Navigate(serve(t, c)))
	b.waitFor("the job is listed", `document.querySelector('#rows [data-key="talk"]')`)
	b.openJob("talk")
	b.waitFor("approving is allowed", `document.querySelector("#approve") && !document.querySelector("#approve").disabled`)
	if eval[bool](b, `!!document.querySelector("#readonly")`) {
		t.Error("the page of a person who may do everything says that permissions are missing")
	}
	if after, _, err = c.Bucket.List(t.Context(), "", 1000); err != nil || len(before) != len(after) {
		t.Errorf("the bucket has %d objects (%v), want %d as before", len(after), err, len(before))
	}
	b.quiet()
}
