package main

import (
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// display shows the states of jobs: on a terminal one changing line for each job,
// elsewhere one line for each change.
type display struct {
	out      io.Writer
	progress *mpb.Progress // nil if out is not a terminal

	mu    sync.Mutex
	bars  map[string]*mpb.Bar
	state map[string]string
}

func newDisplay(out *terminal) *display {
	d := &display{out: out, bars: map[string]*mpb.Bar{}, state: map[string]string{}}
	if file, ok := out.w.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		d.progress = mpb.New(mpb.WithOutput(file), mpb.WithWidth(12))
	}
	return d
}

// say prints a sentence above the jobs.
func (d *display) say(text string) {
	if d.progress == nil {
		fmt.Fprintln(d.out, text)
		return
	}
	fmt.Fprintln(&terminal{w: d.progress}, text)
}

// job adds a job.
func (d *display) job(name string) {
	if d.progress == nil {
		return
	}
	state := func(decor.Statistics) string {
		d.mu.Lock()
		defer d.mu.Unlock()
		return escape(d.state[name], "")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.state[name] = "dropped"
	d.bars[name] = d.progress.New(0, mpb.SpinnerStyle(),
		mpb.PrependDecorators(decor.Name(escape(name, ""), decor.WCSyncSpaceR)),
		mpb.AppendDecorators(decor.Elapsed(decor.ET_STYLE_MMSS), decor.Any(state, decor.WC{C: decor.DextraSpace})))
}

// change shows a job's new state.
func (d *display) change(name, state string) {
	if d.progress == nil {
		printf(d.out, "%s: %s\n", name, state)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.state[name] = state
}

// close ends the changing lines; the last states remain visible.
func (d *display) close() {
	if d.progress == nil {
		return
	}
	for _, bar := range d.bars {
		bar.SetTotal(bar.Current(), true)
		bar.Abort(false)
	}
	d.progress.Wait()
}
