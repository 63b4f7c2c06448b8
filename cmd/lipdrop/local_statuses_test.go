package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local"
)

// lines collects the lines that a function says. It is safe for concurrent use.
type lines struct {
	mu   sync.Mutex
	said []string
}

func (l *lines) say(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.said = append(l.said, text)
}

func (l *lines) count(part string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(strings.Join(l.said, "\n"), part)
}

// printStatuses prints a line for a status that cannot be read, and skips an object whose key
// the S3 server lists wrongly. It prints the other statuses.
func TestPrintStatuses(t *testing.T) {
	s := startStack(t, local.Options{Dir: t.TempDir()})
	status := func(name, reason string) string {
		return string(bucket.JSON(ledger.Status{Name: name, State: ledger.Rejected, Code: "x", Reason: reason}, ""))
	}
	var said lines
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	s.put("status/old.json", status("old", "there before"))
	go printStatuses(ctx, &client.Client{Bucket: s.bucket, Ledger: &ledger.Store{Bucket: s.bucket}}, said.say)
	for i := 0; said.count("first") == 0; i++ { // until printStatuses has begun and prints a changed status
		s.put("status/first.json", status("first", fmt.Sprint(i)))
		time.Sleep(printEvery)
	}

	s.put("status/a broken.json", "{")
	s.put("status/b\x1b[31m.json", status("b\x1b[31m", "red"))
	s.put("status/c.json", status("c", "an escape \x1b]0;title\x07 and a\nnewline"))
	soon(t, "the whole status", func() bool { return said.count(`an escape \x1b]0;title\a and a\nnewline`) == 1 })
	soon(t, "a line about the broken one", func() bool { return said.count("a broken: "+unreadable) == 1 })
	for i := range 3 { // each is printed by a later listing
		s.put(fmt.Sprintf("status/d%d.json", i), status(fmt.Sprint("d", i), "later"))
		soon(t, "a later status", func() bool { return said.count("later") == i+1 })
	}
	if n := said.count("a broken"); n != 1 {
		t.Errorf("%d lines about the broken status, want 1", n)
	}
	if said.count("\x1b") != 0 || said.count("old") != 0 {
		t.Errorf("printed %q, want no escape character and no status that was there before", said.said)
	}
}
