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

// answers prints each status and answer file of the bucket when it changes.
type answers struct {
	bucket *bucket.Bucket
	say    func(string)
	etags  map[string]string
}

// answersEvery is how often the statuses are listed.
const answersEvery = time.Second

func newAnswers(b *bucket.Bucket, say func(string)) *answers {
	return &answers{bucket: b, say: say, etags: map[string]string{}}
}

// begin stores which statuses exist, so that run prints only later changes.
func (a *answers) begin(ctx context.Context) error {
	return a.each(ctx, func(string) error { return nil })
}

// run prints changes until ctx ends. It prints an error of a listing once.
func (a *answers) run(ctx context.Context) {
	said := ""
	for workflow.Sleep(ctx, answersEvery) == nil {
		err := a.each(ctx, func(key string) error { return a.print(ctx, key) })
		text := ""
		if err != nil && ctx.Err() == nil {
			text = escapef("%v", err)
		}
		if text != "" && text != said {
			a.say(text)
		}
		said = text
	}
}

// each calls do with the key of each status that has changed since the last call.
// It prints an error of do, and passes the status again only after a change.
func (a *answers) each(ctx context.Context, do func(key string) error) error {
	for _, prefix := range []string{"status/", "answers/"} {
		files, _, err := a.bucket.List(ctx, prefix, math.MaxInt)
		if err != nil {
			return plainly(err)
		}
		for _, f := range files {
			if a.etags[f.Key] == f.ETag {
				continue
			}
			if err := do(f.Key); err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				a.say(escapef("%v", err))
			}
			a.etags[f.Key] = f.ETag
		}
	}
	return nil
}

func (a *answers) print(ctx context.Context, key string) error {
	body, _, err := a.bucket.Get(ctx, key, ledger.MaxObject)
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
	a.say(line.String())
	return nil
}
