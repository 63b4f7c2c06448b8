// Package page tests the page of `lipdrop ui` in a real browser, over a local stack.
package page

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/ui"
)

// chromium returns the path of a browser. It skips the test with -short, or if there
// is no browser.
func chromium(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("a test in a browser takes long")
	}
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("there is no Chromium on this machine: install it to test the page in a browser")
	return ""
}

// within is how long a browser may take for one step on a slow machine.
const within = 4 * time.Minute

// browser is a tab of a headless browser.
type browser struct {
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex
	problems []string // errors of scripts, what the Content-Security-Policy has blocked, and dialogs
	requests []string // addresses that the page has requested
}

// openBrowser opens a tab of a new browser.
func openBrowser(t *testing.T, more ...chromedp.ExecAllocatorOption) *browser {
	t.Helper()
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), chromedp.ExecPath(chromium(t)), chromedp.NoSandbox,
		chromedp.WindowSize(1280, 800), chromedp.Flag("autoplay-policy", "no-user-gesture-required"), chromedp.WSURLReadTimeout(within))
	options = append(options, more...)
	ctx, cancel := chromedp.NewExecAllocator(context.WithoutCancel(t.Context()), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx, chromedp.WithErrorf(func(string, ...any) {})) // hides errors about events that the library does not know
	t.Cleanup(cancel)
	b := &browser{t: t, ctx: ctx}
	b.listen()
	return b
}

// newTab opens another tab of the same browser.
func (b *browser) newTab() *browser {
	ctx, cancel := chromedp.NewContext(b.ctx)
	b.t.Cleanup(cancel)
	tab := &browser{t: b.t, ctx: ctx}
	tab.listen()
	return tab
}

func (b *browser) listen() {
	chromedp.ListenTarget(b.ctx, func(event any) {
		b.mu.Lock()
		defer b.mu.Unlock()
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			b.problems = append(b.problems, e.ExceptionDetails.Error())
		case *log.EventEntryAdded:
			if e.Entry.Source == log.SourceSecurity || e.Entry.Source == log.SourceViolation || strings.Contains(e.Entry.Text, "Content Security Policy") {
				b.problems = append(b.problems, e.Entry.Text)
			}
		case *network.EventRequestWillBeSent:
			b.requests = append(b.requests, e.Request.URL)
		case *page.EventJavascriptDialogOpening:
			b.problems = append(b.problems, "a dialog: "+e.Message)
			go func() { _ = chromedp.Run(b.ctx, page.HandleJavaScriptDialog(false)) }()
		}
	})
}

// do runs actions and ends the test if one fails.
func (b *browser) do(what string, actions ...chromedp.Action) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, within)
	defer cancel()
	if err := chromedp.Run(b.ctx); err != nil { // starts the browser, which must outlive ctx
		b.t.Fatal(err)
	}
	if err := chromedp.Run(ctx, actions...); err != nil {
		var text string
		ctx, cancel := context.WithTimeout(b.ctx, within) // a script of the page that never ends would block Evaluate
		defer cancel()
		_ = chromedp.Run(ctx, chromedp.Evaluate("document.body ? document.body.innerText : ''", &text))
		b.t.Fatalf("%s: %v\nproblems: %q\nthe page shows:\n%s", what, err, b.complaints(), text)
	}
}

// waitFor waits until an expression of the page is true. While the browser leaves a page,
// evaluating fails, so waitFor tries again.
func (b *browser) waitFor(what, expression string) {
	b.t.Helper()
	b.do("wait until "+what, chromedp.ActionFunc(func(ctx context.Context) error {
		for {
			var is bool
			if err := chromedp.Evaluate("!!("+expression+")", &is).Do(ctx); err == nil && is {
				return nil
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(50 * time.Millisecond):
			}
		}
	}))
}

// press waits for a button of the job and clicks it. The page may draw the job again at any
// moment, so press finds and clicks the button in one step.
func (b *browser) press(selector string) {
	b.t.Helper()
	b.waitFor(selector+" is pressed", fmt.Sprintf(`(() => { const button = document.querySelector(%q); button?.click(); return button; })()`, selector))
}

// eval returns the value of an expression of the page. If the expression is a promise, eval
// waits for the value of the promise.
func eval[T any](b *browser, expression string) T {
	b.t.Helper()
	var value T
	b.do("evaluate "+expression, chromedp.Evaluate(expression, &value, func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }))
	return value
}

// complaints returns the problems so far.
func (b *browser) complaints() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.problems)
}

// key presses a key.
func (b *browser) key(key string) {
	b.t.Helper()
	b.do("press "+key, chromedp.KeyEvent(key))
}

// size makes the window a phone or a desktop.
func (b *browser) size(width, height int64, phone bool) {
	b.t.Helper()
	b.do("resize", emulation.SetDeviceMetricsOverride(width, height, 1, phone), emulation.SetTouchEmulationEnabled(phone))
}

// scheme chooses light or dark.
func (b *browser) scheme(name string) {
	b.t.Helper()
	b.do("choose "+name, emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}}))
}

// shoot stores a screenshot for a person to look at, in the folder that LIPDROP_SCREENSHOTS
// names. Without this variable, shoot does nothing.
func (b *browser) shoot(name string) {
	b.t.Helper()
	folder := os.Getenv("LIPDROP_SCREENSHOTS")
	if folder == "" {
		return
	}
	var picture []byte
	b.do("take a screenshot", chromedp.CaptureScreenshot(&picture))
	if err := os.MkdirAll(folder, 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, name+".png"), picture, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// drag drops files onto the page.
func (b *browser) drag(paths ...string) {
	b.t.Helper()
	data := &input.DragData{Items: []*input.DragDataItem{}, Files: paths, DragOperationsMask: 1}
	b.do("drag files", chromedp.ActionFunc(func(ctx context.Context) error {
		for _, kind := range []input.DispatchDragEventType{input.DragEnter, input.DragOver, input.Drop} {
			if err := input.DispatchDragEvent(kind, 300, 300, data).Do(ctx); err != nil {
				return fmt.Errorf("%s: %w", kind, err)
			}
		}
		return nil
	}))
}

// serve serves the page of a stack until the test ends, and returns its address.
func serve(t *testing.T, c *client.Client) string {
	t.Helper()
	address, _ := serveUntil(t, c)
	return address
}

// serveUntil is like serve, but also returns a function that ends the server earlier.
func serveUntil(t *testing.T, c *client.Client) (address string, end func()) {
	t.Helper()
	server, err := ui.Listen(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx) }()
	end = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(end)
	return server.URL(), end
}
