package page

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local"
	"github.com/lipdrop/lipdrop/internal/local/sample"
)

// contrast is a script that returns the visible texts with a contrast below 4.5, the least that
// WCAG 2.1 accepts for small text at level AA.
const contrast = `(() => {
	const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
	const rgba = (color) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1); const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255]; };
	const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
	const under = (el) => { for (; el; el = el.parentElement) { const c = rgba(getComputedStyle(el).backgroundColor); if (c[3] > 0.99) return c; } return rgba("Canvas"); };
	const poor = new Set();
	const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	for (let node = walker.nextNode(); node; node = walker.nextNode()) {
		const el = node.parentElement;
		if (!node.data.trim() || !el.checkVisibility({visibilityProperty: true}) || el.closest("option, noscript, script, button:disabled")) continue;
		const style = getComputedStyle(el), a = light(rgba(style.color)), b = light(under(el));
		const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
		if (ratio < 4.5) poor.add(ratio.toFixed(2) + " " + node.data.trim().slice(0, 40));
	}
	return [...poor];
})()`

// The page is readable in light and dark, on a desktop and on a phone. It can be used with the
// keyboard, and its controls have names for a screen reader.
func TestLooks(t *testing.T) {
	b := openBrowser(t)
	c := start(t, local.Options{})
	now := time.Now().UTC().Truncate(time.Second)
	mp4, wav := sample.Files()
	put(t, c, "inbox/ads/spring/talk.mp4", mp4)
	put(t, c, "inbox/ads/spring/talk.de.wav", wav)
	put(t, c, "inbox/ads/spring/talk.fr.wav", wav)
	put(t, c, "inbox/ads/lonely.wav", wav)
	put(t, c, "inbox/ads/notes.txt", []byte("x"))
	awaitState(t, c, "ads/spring/talk.de", ledger.Succeeded)
	awaitState(t, c, "ads/spring/talk.fr", ledger.Succeeded)
	awaitState(t, c, "ads/lonely", ledger.Waiting)
	for i, state := range []ledger.State{
		ledger.Submitting, ledger.Submitted, ledger.InQueue, ledger.InProgress, ledger.Archiving, ledger.Failed, ledger.Cancelled,
		ledger.Unknown, ledger.Rejected, ledger.Held, ledger.Withdrawn, ledger.Used, ledger.Accepted,
	} {
		name := fmt.Sprintf("states/%02d", i)
		putJSON(t, c, ledger.StatusKey(name), ledger.Status{Name: name, State: state, Code: "throttled", Reason: "a reason", Remedy: "Do it.", UpdatedAt: now.Add(-time.Hour)})
	}
	for i, name := range []string{strings.Repeat("a-long-folder/", 9) + "last", "second"} { // the newest, so first in the list
		putJSON(t, c, ledger.StatusKey(name), ledger.Status{Name: name, State: ledger.Rejected, UpdatedAt: now.Add(time.Hour - time.Duration(i)*time.Minute)})
	}
	b.do("open the page", chromedp.Navigate(serve(t, c)))
	b.waitFor("the jobs are listed", `document.querySelectorAll("#rows .row").length >= 10`)

	for _, scheme := range []string{"light", "dark"} {
		for _, size := range []struct {
			name          string
			width, height int64
			phone         bool
		}{{"desktop", 1280, 800, false}, {"phone", 390, 844, true}} {
			b.scheme(scheme)
			b.size(size.width, size.height, size.phone)
			look := func(what string) {
				t.Helper()
				b.shoot(what + "-" + scheme + "-" + size.name)
				for _, poor := range eval[[]string](b, contrast) {
					t.Errorf("%s, %s, %s: contrast below 4.5: %s", what, scheme, size.name, poor)
				}
				if eval[bool](b, `document.documentElement.scrollWidth > innerWidth`) {
					t.Errorf("%s, %s, %s: the page is wider than the window", what, scheme, size.name)
				}
				b.checkNames()
			}
			b.do("close the job", chromedp.Evaluate(`location.hash = ""`, nil))
			b.waitFor("the list is shown", `document.querySelector("#job").hidden && document.querySelector("#rows .row")`)
			b.do("scroll to the first job", chromedp.Evaluate(`document.querySelector("#jobs-list").scrollTop = 0`, nil))
			look("list")
			b.waitFor(scheme+", "+size.name+": the last part of a name in a long folder is shown whole", `[...document.querySelectorAll("#rows bdi")].some((e) => e.innerText === "last" && e.getBoundingClientRect().right <= e.closest(".name").getBoundingClientRect().right)`)
			for _, name := range []string{"ads/spring/talk.de", "ads/lonely", "states/05", "states/09"} {
				b.openJob(name)
				if name == "ads/spring/talk.de" {
					b.waitFor("both videos are loaded", `document.querySelectorAll(".stage video").length === 2 && [...document.querySelectorAll(".stage video")].every((v) => v.readyState >= 2)`)
				}
				look(strings.ReplaceAll("job "+name, "/", "-"))
			}
			b.do("open the help", chromedp.Click("#open-help"))
			look("help")
			b.key(kb.Escape)
			b.do("open the drop", chromedp.Click("#open-drop"), chromedp.WaitVisible("#drop-model"),
				chromedp.Evaluate(`(() => { const m = document.querySelector("#drop-model"); m.value = "community/live-avatar"; m.dispatchEvent(new Event("change")); })()`, nil))
			look("drop")
			b.key(kb.Escape)
		}
	}

	b.size(800, 600, false)
	b.openJob("ads/spring/talk.de")
	b.check("in a small window, the input and the output are side by side", `(([input, output]) => input.y === output.y && input.right < output.x)([...document.querySelectorAll(".stage video")].map((v) => v.getBoundingClientRect()))`)

	b.do("close the job", chromedp.Evaluate(`location.hash = ""`, nil))
	b.waitFor("the list is shown", `document.querySelector("#job").hidden`)
	b.size(320, 256, false) // 1280 by 1024 at a zoom of 400 %
	b.check("in a very small window, the list can be scrolled into view", `(() => { const list = document.querySelector("#jobs-list"); list.scrollIntoView(); const {top, height} = list.getBoundingClientRect(); return height > 100 && top < innerHeight - 60; })()`)

	// Keys show the next and the previous job, reject a take, and open the search and the help.
	b.size(1280, 800, false)
	b.do("close the job", chromedp.Evaluate(`location.hash = ""; document.activeElement.blur()`, nil))
	b.waitFor("the list is shown", `document.querySelector("#job").hidden`)
	first, second := eval[string](b, `document.querySelector('[aria-rowindex="2"]').dataset.key`), eval[string](b, `document.querySelector('[aria-rowindex="3"]').dataset.key`)
	shown := func(key string) {
		t.Helper()
		b.waitFor(key+" is shown", `document.querySelector("#job h2")?.innerText === `+quoted(key)+` && document.querySelector("#rows .current").dataset.key === `+quoted(key))
	}
	b.key("j")
	shown(first)
	b.key("j")
	shown(second)
	b.key("k")
	shown(first)
	b.openJob("ads/spring/talk.fr")
	b.key("r")
	b.waitFor("the take is rejected", `document.querySelector(".review").innerText.includes("rejected by")`)
	b.key("/")
	b.do("type", chromedp.KeyEvent("ja"))
	if typed := eval[string](b, `document.querySelector("#search").value`); !strings.HasSuffix(typed, "ja") {
		t.Errorf("the search has %q, want a text that ends with ja", typed)
	}
	b.key(kb.Escape) // leaves the search
	b.key(kb.Escape)
	b.waitFor("the job is closed", `document.querySelector("#job").hidden`)
	b.key("?")
	b.waitFor("the help is open", `document.querySelector("#help").open`)
	b.key(kb.Escape)
	b.quiet()
}

// checkNames fails the test if a control or an image has no name for a screen reader.
func (b *browser) checkNames() {
	b.t.Helper()
	b.do("read the names", chromedp.ActionFunc(func(ctx context.Context) error {
		// The types of cdproto do not decode everything that a new browser sends.
		var tree struct {
			Nodes []struct {
				Ignored bool `json:"ignored"`
				Role    struct {
					Value any `json:"value"`
				} `json:"role"`
				Name struct {
					Value any `json:"value"`
				} `json:"name"`
			} `json:"nodes"`
		}
		if err := cdp.Execute(ctx, "Accessibility.getFullAXTree", nil, &tree); err != nil {
			return err
		}
		found := 0
		for _, node := range tree.Nodes {
			if node.Ignored {
				continue
			}
			switch role, _ := node.Role.Value.(string); role {
			case "button", "link", "textbox", "searchbox", "slider", "checkbox", "radio", "combobox", "spinbutton", "dialog", "progressbar", "table", "img", "image":
				found++
				if name, _ := node.Name.Value.(string); strings.TrimSpace(name) == "" {
					b.t.Errorf("a %s has no name for a screen reader", role)
				}
			}
		}
		if found < 3 {
			b.t.Errorf("%d controls and images, want at least 3", found)
		}
		return nil
	}))
}
