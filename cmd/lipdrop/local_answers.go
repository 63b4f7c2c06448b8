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

// answersEvery is how often the statuses are listed.
const answersEvery = time.Second

// answers prints each status and answer file of the bucket when it changes.
type answers struct {
	bucket *bucket.Bucket
	say    func(string)
	etags  map[string]string // by key
}

// newAnswers returns answers that prints only what changes from now on.
func newAnswers(ctx context.Context, b *bucket.Bucket, say func(string)) (*answers, error) {
	a := &answers{bucket: b, say: say, etags: map[string]string{}}
	_, err := a.changed(ctx)
	return a, err
}

// run prints changes until ctx ends. It prints an error of a listing once.
func (a *answers) run(ctx context.Context) {
	said := ""
	for workflow.Sleep(ctx, answersEvery) == nil {
		keys, err := a.changed(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil && err.Error() != said {
			a.say(escapef("%v", err))
		}
		said = fmt.Sprint(err)
		for _, key := range keys {
			if err := a.print(ctx, key); err != nil && ctx.Err() == nil {
				a.say(escapef("%v", err))
			}
		}
	}
}

// changed returns the keys of the statuses that have changed since the last call.
func (a *answers) changed(ctx context.Context) ([]string, error) {
	var keys []string
	for _, prefix := range []string{client.StatusPrefix, client.AnswerPrefix} {
		files, _, err := a.bucket.List(ctx, prefix, math.MaxInt)
		if err != nil {
			return keys, plainly(err)
		}
		for _, f := range files {
			if a.etags[f.Key] != f.ETag {
				a.etags[f.Key] = f.ETag
				keys = append(keys, f.Key)
			}
		}
	}
	return keys, nil
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
