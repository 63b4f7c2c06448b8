package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local"
)

// lines collects the lines of a statusPrinter. It is safe for concurrent use.
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

// An object that is not a status, and one whose key the S3 server lists wrongly, are each
// skipped with one line. The other statuses are printed.
func TestStatusPrinterSkipsWhatCannotBeRead(t *testing.T) {
	s := startStack(t, local.Options{Dir: t.TempDir()})
	put := func(key, body string) {
		t.Helper()
		if _, err := s.S3().PutObject(t.Context(), &s3.PutObjectInput{
			Bucket: aws.String(local.Bucket), Key: &key, Body: strings.NewReader(body),
		}); err != nil {
			t.Fatal(err)
		}
	}
	status := func(name, reason string) string {
		text, err := json.Marshal(ledger.Status{Name: name, State: ledger.Rejected, Code: "x", Reason: reason})
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	var said lines
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	p, err := newStatusPrinter(ctx, s.bucket, said.say)
	if err != nil {
		t.Fatal(err)
	}
	go p.run(ctx)

	put("status/a broken.json", "{")
	put("status/b\x1b[31m.json", status("b\x1b[31m", "red"))
	put("status/c.json", status("c", "an escape \x1b]0;title\x07 and a\nnewline"))
	soon(t, "the whole status", func() bool { return said.count(`an escape \x1b]0;title\a and a\nnewline`) == 1 })
	soon(t, "a line about the broken one", func() bool { return said.count("status/a broken.json is not a status") == 1 })
	for i := range 3 { // each is printed by a later listing
		put(fmt.Sprintf("status/d%d.json", i), status(fmt.Sprint("d", i), "later"))
		soon(t, "a later status", func() bool { return said.count("later") == i+1 })
	}
	if n := said.count("a broken"); n != 1 {
		t.Errorf("%d lines about the broken status, want 1", n)
	}
	if n := said.count("[31m"); n != 1 {
		t.Errorf("%d lines about the status with an escape in its key, want 1", n)
	}
	if n := said.count("\x1b"); n != 0 {
		t.Errorf("%d escape characters were printed, want none", n)
	}
}
