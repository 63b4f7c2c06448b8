package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

// printEvery is how often a statusPrinter lists the statuses.
const printEvery = time.Second

// statusPrinter prints each status and each answer file of the bucket when it changes.
type statusPrinter struct {
	bucket *bucket.Bucket
	say    func(string)
	etags  map[string]string // by key
}

// newStatusPrinter returns a statusPrinter that prints only what changes from now on.
func newStatusPrinter(ctx context.Context, b *bucket.Bucket, say func(string)) (*statusPrinter, error) {
	p := &statusPrinter{bucket: b, say: say, etags: map[string]string{}}
	_, err := p.changed(ctx)
	return p, err
}

// run prints changes until ctx ends. If listings fail one after the other with the same
// error, it prints the error once.
func (p *statusPrinter) run(ctx context.Context) {
	last := ""
	for workflow.Sleep(ctx, printEvery) == nil {
		keys, err := p.changed(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			last = ""
		} else if err.Error() != last {
			last = err.Error()
			p.say(escapef("%v", err))
		}
		for _, key := range keys {
			if err := p.print(ctx, key); err != nil && ctx.Err() == nil {
				p.say(escapef("%v", err))
			}
		}
	}
}

// changed returns the keys of the statuses and answer files that have changed since the
// last call.
func (p *statusPrinter) changed(ctx context.Context) ([]string, error) {
	var keys []string
	for _, prefix := range []string{client.StatusPrefix, client.AnswerPrefix} {
		files, _, err := p.bucket.List(ctx, prefix, math.MaxInt)
		if err != nil {
			return keys, plainly(err)
		}
		for _, f := range files {
			if p.etags[f.Key] != f.ETag {
				p.etags[f.Key] = f.ETag
				keys = append(keys, f.Key)
			}
		}
	}
	return keys, nil
}

func (p *statusPrinter) print(ctx context.Context, key string) error {
	body, _, err := p.bucket.Get(ctx, key, ledger.MaxObject)
	if err != nil {
		return plainly(err)
	}
	var st ledger.Status
	if err := json.Unmarshal(body, &st); err != nil {
		return fmt.Errorf("%s is not a status: %w", key, err)
	}
	var line strings.Builder
	line.WriteString(escapef("%s  %s: %s", time.Now().Format(time.TimeOnly), st.Name, client.Describe(st)))
	if st.Jobs != nil {
		line.WriteString(escapef(" by %s", strings.Join(st.Jobs, ", ")))
	}
	for _, output := range st.Outputs {
		line.WriteString(escapef("\n          %s", output))
	}
	p.say(line.String())
	return nil
}
