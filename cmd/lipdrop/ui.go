package main

import (
	"context"
	"fmt"
	"html/template"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"

	"github.com/cli/browser"

	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/ui"
)

type uiCmd struct {
	client.Target
	NoOpen bool `help:"Only print the address of the page; do not open a browser."`
}

// Run serves the page until it is interrupted.
func (c *uiCmd) Run(ctx context.Context, stack *client.Client, out *terminal) error {
	debug.SetMemoryLimit(48 << 20) // the page stays open for hours beside other programs
	server, err := ui.Listen(ctx, stack, c.flags(stack)...)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "The page is at\n  %s\nOpen this address yourself if your browser does not show the page. Keep the address secret: anyone who has it can do what you may do. Press Ctrl-C to end the page.\n", server.URL())
	if !c.NoOpen {
		remove := openBrowser(server.URL())
		defer remove()
	}
	return server.Serve(ctx)
}

// flags returns the flags that select the stack in another command.
func (c *uiCmd) flags(stack *client.Client) []string {
	named := [][]string{{"--stack", stack.Stack}, {"--profile", c.Profile}, {"--region", c.Region}}
	if stack.Local() {
		named = [][]string{{"--dir", problem.PathArgument(c.Dir)}}
	}
	return slices.Concat(slices.DeleteFunc(named, func(flag []string) bool { return flag[1] == "" })...)
}

// openBrowser opens an address in the user's browser. Other users of the machine can see
// the arguments of every program, so openBrowser gives the browser a file that leads to the
// address. Other users cannot read this file, and the returned function removes it. If there is
// no browser, nothing happens.
func openBrowser(address string) (remove func()) {
	dir, err := os.MkdirTemp("", "lipdrop-ui-")
	if err != nil {
		return func() {}
	}
	remove = func() { _ = os.RemoveAll(dir) }
	path := filepath.Join(dir, "lipdrop.html")
	page := fmt.Sprintf(`<!doctype html><meta name="referrer" content="no-referrer"><meta http-equiv="refresh" content="0;url=%s"><title>lipdrop</title>`, template.HTMLEscapeString(address))
	if os.WriteFile(path, []byte(page), 0o600) == nil {
		browser.Stdout, browser.Stderr = io.Discard, io.Discard
		go func() { _ = browser.OpenFile(path) }() // OpenFile may return only when the browser ends
	}
	return remove
}
