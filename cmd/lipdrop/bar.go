package main

import (
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// bar shows bytes, speed and the time left of a transfer on a terminal that can redraw.
// Elsewhere it shows nothing.
type bar struct {
	progress *mpb.Progress
	bar      *mpb.Bar
}

func newBar(say *terminal, total int64) *bar {
	if columns, _ := say.canvas(); columns == 0 || total == 0 {
		return &bar{}
	}
	p := mpb.New(mpb.WithOutput(say.w), mpb.WithWidth(40))
	return &bar{p, p.AddBar(total,
		mpb.PrependDecorators(decor.CountersKibiByte("% .1f / % .1f")),
		mpb.AppendDecorators(decor.AverageSpeed(decor.SizeB1024(0), "% .1f "), decor.AverageETA(decor.ET_STYLE_GO)))}
}

// add shows that n more bytes are transferred.
func (b *bar) add(n int64) {
	if b.bar != nil {
		b.bar.IncrInt64(n)
	}
}

// close ends the bar; it stays visible.
func (b *bar) close() {
	if b.bar != nil {
		b.bar.Abort(false)
		b.progress.Wait()
	}
}
