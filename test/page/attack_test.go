package page

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local"
)

// visitor is an HTTP client that has the cookie of the page.
type visitor struct {
	t    *testing.T
	http *http.Client
	base string // the URL of the page
}

// visit exchanges the token of an address for the cookie.
func visit(t *testing.T, address string) *visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	v := &visitor{t: t, http: &http.Client{Jar: jar, Transport: &http.Transport{MaxIdleConnsPerHost: 1}}}
	response, err := v.http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	path := regexp.MustCompile(`url=(/[^/]+/)"`).FindSubmatch(body)
	if response.StatusCode != http.StatusOK || path == nil {
		t.Fatalf("the exchange of the token: HTTP status %s, want 200 and the path of the page: %s", response.Status, body)
	}
	u, _ := url.Parse(address)
	v.base = u.Scheme + "://" + u.Host + string(path[1])
	return v
}

// send sends a request as the page does, and returns the HTTP status and the body.
func (v *visitor) send(method, path, contentType, body string) (int, string) {
	v.t.Helper()
	r, err := http.NewRequest(method, v.base+path, strings.NewReader(body))
	if err != nil {
		v.t.Fatal(err)
	}
	if method != http.MethodGet {
		r.Header.Set("Origin", "http://"+r.URL.Host)
		r.Header.Set("Content-Type", contentType)
	}
	response, err := v.http.Do(r)
	if err != nil {
		v.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// succeeded writes a take that has succeeded, and its status.
func succeeded(t *testing.T, c *client.Client, name string) (take string) {
	t.Helper()
	now := time.Now().UTC().Truncate(time.Second)
	take = now.Format(ledger.StampLayout) + "-0123456789ab"
	putJSON(t, c, ledger.RecordKey(name, take), ledger.Record{Name: name, Take: take, State: ledger.Succeeded, Model: "sync/react-1", Times: ledger.Times{Claimed: now}})
	putJSON(t, c, ledger.StatusKey(name), ledger.Status{Name: name, Take: take, State: ledger.Succeeded, UpdatedAt: now})
	return take
}

func TestAttacksOnTheRoutes(t *testing.T) {
	c := start(t, local.Options{})
	take := succeeded(t, c, "talk")
	put(t, c, "secret.json", []byte(`{"secret": true}`))
	v := visit(t, serve(t, c))
	const jsonType = "application/json"

	t.Run("paths", func(t *testing.T) {
		tests := []struct {
			name, method, path, body string
			want                     int
		}{
			{name: "the page itself", method: "GET", path: "", want: 200},
			{name: "a file of the page", method: "GET", path: "static/app.js", want: 200},
			{name: "a file outside of static/", method: "GET", path: "static/../server.go", want: 403},
			{name: "a file outside of static/, escaped", method: "GET", path: "static/%2e%2e/%2e%2e/server.go", want: 404},
			{name: "a file of the machine", method: "GET", path: "static/%2fetc%2fpasswd", want: 404},
			{name: "backslashes", method: "GET", path: `static/..\..\go.mod`, want: 404},
			{name: "a route that does not exist", method: "GET", path: "api/token", want: 404},
			{name: "a job", method: "GET", path: "api/job?key=talk", want: 200},
			{name: "a name that leaves status/", method: "GET", path: "api/job?key=../secret", want: 400},
			{name: "the key of an answer file that leaves answers/", method: "GET", path: "api/job?key=/../secret", want: 400},
			{name: "a name with a dot as a part", method: "GET", path: "api/job?key=a/./b", want: 400},
			{name: "a name with a NUL", method: "GET", path: "api/job?key=a%00b", want: 400},
			{name: "an empty name", method: "GET", path: "api/job?key=", want: 400},
			{name: "a review of a name that leaves review/", method: "POST", path: "api/review", body: `{"name":"../inbox/x","take":"t","decision":"approved"}`, want: 400},
			{name: "a review of a take that leaves its name", method: "POST", path: "api/review", body: `{"name":"talk","take":"../../inbox/x","decision":"approved"}`, want: 400},
			{name: "a review of a take that does not exist", method: "POST", path: "api/review", body: `{"name":"talk","take":"t","decision":"approved"}`, want: 409},
			{name: "an unknown decision", method: "POST", path: "api/review", body: `{"name":"talk","take":"` + take + `","decision":"<b>"}`, want: 400},
			{name: "a change by GET", method: "GET", path: "api/cancel?name=talk", want: 405},
			{name: "an unknown member", method: "POST", path: "api/cancel", body: `{"name":"talk","force":true}`, want: 400},
			{name: "not JSON", method: "POST", path: "api/cancel", body: `name=talk`, want: 400},
			{name: "a drop outside of inbox/", method: "POST", path: "api/drop/open", body: `{"folder":"../outbox","files":[{"path":"a.mp4","size":1}]}`, want: 400},
			{name: "a file outside of its folder", method: "POST", path: "api/drop/open", body: `{"folder":"ads","files":[{"path":"../../outbox/a.mp4","size":1}]}`, want: 400},
			{name: "a file of a negative size", method: "POST", path: "api/drop/open", body: `{"files":[{"path":"a.mp4","size":-1}]}`, want: 400},
			{name: "no file", method: "POST", path: "api/drop/open", body: `{"files":[]}`, want: 400},
			{name: "a drop that does not exist", method: "POST", path: "api/drop/next?id=x", body: `{}`, want: 410},
			{name: "an oversized body", method: "POST", path: "api/review", body: `{"name":"` + strings.Repeat("x", 5<<20) + `"}`, want: 413},
			{name: "an oversized note", method: "POST", path: "api/review", body: `{"name":"talk","take":"` + take + `","decision":"approved","note":"` + strings.Repeat("x", 5000) + `"}`, want: 400},
		}
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				status, body := v.send(test.method, test.path, jsonType, test.body)
				if status != test.want {
					t.Errorf("HTTP status %d, want %d: %.300s", status, test.want, body)
				}
				if strings.Contains(body, "secret") && strings.Contains(body, "true") {
					t.Error("the response has the content of another object")
				}
			})
		}
	})

	t.Run("cookies of other servers of this machine", func(t *testing.T) {
		u, _ := url.Parse(v.base)
		cookies := []*http.Cookie{{Name: "lipdrop", Value: "x", Path: "/"}} // another server may use the same name
		for i := range 10 {
			cookies = append(cookies, &http.Cookie{Name: fmt.Sprint("other", i), Value: strings.Repeat("x", 4000), Path: "/"})
		}
		v.http.Jar.SetCookies(u, cookies)
		if status, body := v.send("GET", "api/job?key=talk", "", ""); status != http.StatusOK {
			t.Errorf("HTTP status %d, want 200: %s", status, body)
		}
		for _, c := range cookies {
			c.MaxAge = -1
		}
		v.http.Jar.SetCookies(u, cookies)
	})

	t.Run("a part that is not asked for, an upload before the check, a short part", func(t *testing.T) {
		status, body := v.send("POST", "api/drop/open", jsonType, `{"files":[{"path":"talk.mp4","size":100000},{"path":"talk.wav","size":100000}]}`)
		id := regexp.MustCompile(`"id":"([^"]+)"`).FindStringSubmatch(body)
		if status != http.StatusOK || id == nil {
			t.Fatalf("open: HTTP status %d, want 200 and an id: %s", status, body)
		}
		if status, body := v.send("POST", "api/drop/part?number=99&id="+id[1], "application/octet-stream", "x"); status != http.StatusConflict {
			t.Errorf("HTTP status %d, want 409: %s", status, body)
		}
		if status, body := v.send("POST", "api/drop/start?id="+id[1], jsonType, `{}`); status != http.StatusConflict {
			t.Errorf("an upload without a check: HTTP status %d, want 409: %s", status, body)
		}
		// A part that is too short ends the check with an error.
		_, next := v.send("POST", "api/drop/next?id="+id[1], jsonType, `{}`)
		number := regexp.MustCompile(`"number":(\d+)`).FindStringSubmatch(next)
		if number == nil {
			t.Fatalf("the command asks for no part: %s", next)
		}
		v.send("POST", "api/drop/part?number="+number[1]+"&id="+id[1], "application/octet-stream", "short")
		if _, next := v.send("POST", "api/drop/next?id="+id[1], jsonType, `{}`); !strings.Contains(next, " was not read completely") {
			t.Errorf("after a short part: %s, want an error that the file was not read completely", next)
		}
	})

	t.Run("two tabs decide at once", func(t *testing.T) {
		decide := func(decision, etag string) int {
			status, _ := v.send("POST", "api/review", jsonType, fmt.Sprintf(`{"name":"talk","take":%q,"decision":%q,"etag":%q}`, take, decision, etag))
			return status
		}
		var group sync.WaitGroup
		results := make([]int, 10)
		for i := range results {
			group.Go(func() { results[i] = decide([]string{"approved", "rejected"}[i%2], "") })
		}
		group.Wait()
		stored := 0
		for _, status := range results {
			if status == http.StatusOK {
				stored++
			} else if status != http.StatusConflict {
				t.Errorf("HTTP status %d, want 200 or 409", status)
			}
		}
		if stored != 1 {
			t.Errorf("%d decisions were stored, want 1", stored)
		}
		_, etag, err := c.ReadReview(t.Context(), "talk", take)
		if err != nil {
			t.Fatal(err)
		}
		if status := decide("approved", "0123456789abcdef0123456789abcdef"); status != http.StatusConflict {
			t.Errorf("a decision by somebody who has seen another review: HTTP status %d, want 409", status)
		}
		if status := decide("approved", etag); status != http.StatusOK {
			t.Errorf("a decision by somebody who has seen this review: HTTP status %d, want 200", status)
		}
	})

	t.Run("a hundred streams of events, of which maxStreams (12) stay open", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var mu sync.Mutex
		counts := map[int]int{}
		var group sync.WaitGroup
		for range 100 {
			group.Go(func() {
				r, _ := http.NewRequestWithContext(ctx, "GET", v.base+"api/events", nil)
				response, err := (&http.Client{Jar: v.http.Jar, Transport: &http.Transport{}}).Do(r)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				counts[response.StatusCode]++
				mu.Unlock()
				context.AfterFunc(ctx, func() { response.Body.Close() })
			})
		}
		group.Wait()
		if counts[http.StatusOK] != 12 || counts[http.StatusServiceUnavailable] != 88 {
			t.Errorf("the numbers of streams by HTTP status are %v, want 12 with 200 and 88 with 503", counts)
		}
		if status, _ := v.send("GET", "api/job?key=talk", "", ""); status != http.StatusOK {
			t.Errorf("beside the open streams, a request for a job has the HTTP status %d, want 200", status)
		}
		cancel()
		for deadline := time.Now().Add(within); ; time.Sleep(20 * time.Millisecond) {
			r, _ := http.NewRequest("GET", v.base+"api/events", nil)
			response, err := v.http.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("no stream can be opened after the others have ended")
			}
		}
	})
}

// In a real browser, a page of another server cannot use lipdrop's page, and lipdrop's page gives
// away no secret.
func TestAttacksInTheBrowser(t *testing.T) {
	b := openBrowser(t)
	c := start(t, local.Options{})
	succeeded(t, c, "talk")
	address := serve(t, c)
	b.do("open the page", chromedp.Navigate(address))
	b.waitFor("the job is listed", `document.querySelector("#rows .row")`)
	base := eval[string](b, `location.origin + location.pathname`)

	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if referer := r.Header.Get("Referer"); referer != "" && !strings.HasPrefix(referer, "http://"+r.Host) {
			t.Errorf("the page gives away its address to another server: Referer %s", referer)
		}
		if cookie := r.Header.Get("Cookie"); cookie != "" {
			t.Errorf("a server on another port gets the cookie %s", cookie)
		}
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<title>evil</title><iframe src=%q></iframe><script src="%sstatic/dom.js" onload="window.loaded=1"></script><img src="%sstatic/icon.svg" onload="window.loaded=1">`, base, base, base)
	}))
	defer evil.Close()

	// A page on another port of the same machine belongs to the same site, so SameSite=Strict does
	// not protect against such a page.
	tab := b.newTab()
	tab.do("open another page", chromedp.Navigate(evil.URL))
	tab.waitFor("the other page is loaded", `document.readyState === "complete"`)
	got := eval[string](tab, `fetch(`+quoted(base+"api/page")+`, {credentials: "include"}).then((r) => "read " + r.status, (e) => "refused")`)
	if got != "refused" {
		t.Errorf("another page reads the page: got %q, want refused", got)
	}
	got = eval[string](tab, `fetch(`+quoted(base+"api/cancel")+`, {method: "POST", credentials: "include", headers: {"Content-Type": "application/json"}, body: '{"name":"talk"}'}).then((r) => "sent " + r.status, (e) => "refused")`)
	if got != "refused" {
		t.Errorf("another page sends a change: got %q, want refused", got)
	}
	if eval[bool](tab, `"loaded" in window`) {
		t.Error("another page loads a file of the page")
	}
	var frames *page.FrameTree
	tab.do("list the frames", chromedp.ActionFunc(func(ctx context.Context) (err error) {
		frames, err = page.GetFrameTree().Do(ctx)
		return err
	}))
	if children := frames.ChildFrames; len(children) != 1 || children[0].Frame.URL != "chrome-error://chromewebdata/" {
		t.Errorf("another page has %d frames, want 1, and the frame must show an error instead of the page", len(children))
	}

	b.do("follow a link of the page", chromedp.Evaluate(`(() => { const a = document.createElement("a"); a.href = `+quoted(evil.URL+"/link")+`; document.body.append(a); a.click(); })()`, nil))
	b.waitFor("the other page is open", `document.title === "evil"`)
}

// Another user's server takes the port of a command that has ended. A page that is still open
// sends this server no file and shows no job that this server lists.
func TestServerOnThePortOfTheCommand(t *testing.T) {
	b := openBrowser(t)
	c := start(t, local.Options{})
	address, end := serveUntil(t, c)
	b.do("open the page", chromedp.Navigate(address))
	b.waitFor("the page is live", `document.querySelector("#live").innerText === "live"`)
	if eval[bool](b, `import("./static/dom.js?new").then(({ isOurs }) => isOurs(null))`) { // a new instance of the module, which has no proof yet
		t.Error("the page accepts a first response that has no proof")
	}
	end()
	u, _ := url.Parse(address)
	listener, err := net.Listen("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var stolen []byte
	evil := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		switch path.Base(r.URL.Path) {
		case "open":
			_, _ = io.WriteString(w, `{"id":"x"}`)
		case "next":
			_, _ = io.WriteString(w, `{"ask":{"number":1,"file":0,"offset":0,"length":6}}`)
		case "part":
			stolen, _ = io.ReadAll(r.Body)
		case "models":
			_, _ = io.WriteString(w, `[]`)
		case "events":
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "event: jobs\ndata: {\"reset\":true,\"rows\":[{\"key\":\"fake\",\"name\":\"fake\",\"state\":\"failed\"}]}\n\n")
		}
	})}
	go func() { _ = evil.Serve(listener) }()
	t.Cleanup(func() { _ = evil.Close() })
	b.drag(write(t, filepath.Join(t.TempDir(), "talk.mp4"), []byte("secret")))
	b.waitFor("the list says that another program responds", `document.querySelector("#live").innerText === "another program responds at this address, not lipdrop ui"`)
	if rows := eval[string](b, `document.querySelector("#rows").innerText`); rows != "" {
		t.Errorf("the page lists the jobs of another server: %s", rows)
	}
	b.waitFor("the page says that another program responds", `document.body.innerText.includes("Another program responds at this address, not lipdrop ui")`)
	mu.Lock()
	defer mu.Unlock()
	if len(stolen) > 0 {
		t.Errorf("the page has sent %q to another server", stolen)
	}
}

// A foreign host name that points to this machine reaches nothing.
func TestDNSRebinding(t *testing.T) {
	c := start(t, local.Options{})
	address := serve(t, c)
	b := openBrowser(t, chromedp.Flag("host-resolver-rules", "MAP evil.example 127.0.0.1"))
	b.do("open the page by another name", chromedp.Navigate(strings.Replace(address, "127.0.0.1", "evil.example", 1)))
	if text := eval[string](b, "document.body.innerText"); !strings.Contains(text, "the request is for another server") {
		t.Errorf("the page by another name shows %q, want that the request is for another server", text)
	}
}
