package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
)

// document returns the page of docs/ about a run.
func (m *matrix) document() string {
	var b strings.Builder
	fmt.Fprintf(&b, `# Benchmarks of the archive function

Written by `+"`go -C bench run ./archive %s`"+` on %d processors (%s), which the tools shared with the server of the sources and with
the S3 server. All tools copied the same bytes from the same server into the same versitygw, over TLS, in turn: %d times, below
%d MiB %d times, and once only where a copy took more than %s. The fastest copy counts, and the highest peak. Every object was
compared with what was served, byte for byte.

`, strings.Join(os.Args[1:], " "), runtime.NumCPU(), runtime.GOARCH, m.options.rounds, small/mib, m.options.rounds*smallRounds, m.options.patience)
	b.WriteString("![throughput and peak memory of each tool](benchmarks.png)\n\n")
	for _, t := range m.tools {
		fmt.Fprintf(&b, "- **%s**: %s\n", t.name, t.about)
	}
	b.WriteString(`
rclone gets the flags that were fastest over the sources with ranges. From the source without ranges it copies in one thread:
with more, the object that rclone 1.76.0 made of this source's files was not the file.

A copy is measured from outside: from its first request for the file until the S3 server has made the object. So the start of
a program does not count, nor what the function does besides, which is in the second table.
The limit is a plain copy that is told what the others have to find out. It is no bound: it sends all files in parts, and the
server has more to do for these.

` + m.tables())
	return b.String()
}
