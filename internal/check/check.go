// Package check says which jobs a set of files would start, or what is wrong with the
// files, before they are dropped. It runs the same code as submit.
package check

import (
	"context"
	"path"
	"strings"

	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/media"
	"github.com/lipdrop/lipdrop/internal/problem"
)

// Ready is the state of a finding whose job would be submitted.
const Ready ledger.State = "ready"

// Each assesses the files with the given keys, in order. It calls report once for each finding,
// with the first key that led to the finding.
func Each(ctx context.Context, resolver *drop.Resolver, keys []string, report func(key string, f drop.Finding) error) error {
	seen := map[string]bool{}
	for _, key := range keys {
		subjects, err := resolver.Touched(ctx, drop.ParseKey(key))
		if err != nil {
			return err
		}
		for len(subjects) > 0 {
			found, err := resolver.Find(ctx, subjects[0])
			if err != nil {
				return err
			}
			subjects = append(subjects[1:], found.Matches...)
			for _, f := range found.Findings() {
				if seen[f.Key] {
					continue
				}
				seen[f.Key] = true
				if err := report(key, f); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// Outcome is what submit would do about a finding.
type Outcome struct {
	Finding  drop.Finding
	State    ledger.State // Ready, or the state that the status would have
	Problems []problem.Problem
	Warnings []string
	Job      drop.Prepared // what is known about the job, if there is one
}

// Good reports whether nothing is wrong or missing.
func (o Outcome) Good() bool {
	return o.State == Ready || o.State == ledger.Used || o.State == ledger.Accepted
}

// AssessEach is like Each, but calls report with the outcome of each finding.
func AssessEach(ctx context.Context, resolver *drop.Resolver, keys []string, report func(key string, o Outcome) error) error {
	return Each(ctx, resolver, keys, func(key string, f drop.Finding) error {
		if f.Job == nil {
			return report(key, Outcome{Finding: f, State: f.State, Problems: f.Problems, Warnings: f.Warnings})
		}
		job, problems, err := resolver.Prepare(ctx, f.Job)
		if err != nil {
			return err
		}
		o := Outcome{Finding: f, State: Ready, Problems: problems, Warnings: job.Warnings, Job: job}
		if len(problems) > 0 {
			o.State = drop.StateOf(problems)
		}
		return report(key, o)
	})
}

// Job is a line of `lipdrop check --json`. docs/check.md describes its members.
type Job struct {
	Name     string         `json:"name"`
	State    ledger.State   `json:"state"`
	Model    string         `json:"model,omitempty"`
	Input    map[string]any `json:"input,omitempty"`
	Media    []Medium       `json:"media,omitempty"`
	Expected float64        `json:"expectedSeconds,omitempty"`
	// EstimateUSD is what the job costs by RunComfy's base price. It is nil if no estimate
	// was asked for, or the cost is not known.
	EstimateUSD *float64  `json:"estimateUsd,omitempty"`
	Jobs        []string  `json:"jobs,omitempty"`
	Problems    []Problem `json:"problems,omitempty"`
	Warnings    []string  `json:"warnings,omitempty"`
}

// Medium is a file of a Job, or a URL that job.json has in place of a file.
type Medium struct {
	File     string   `json:"file"`
	Property string   `json:"property,omitempty"`
	Seconds  float64  `json:"seconds,omitempty"`
	Exact    bool     `json:"exact"`
	Width    int      `json:"width,omitempty"`
	Height   int      `json:"height,omitempty"`
	Codecs   []string `json:"codecs,omitempty"`
}

// Problem is something wrong with a Job.
type Problem struct {
	Code   problem.Code `json:"code"`
	Reason string       `json:"reason"`
	Remedy string       `json:"remedy"`
}

// Describe returns the Job of an outcome.
func (o Outcome) Describe() Job {
	job := Job{Name: o.Finding.Name, State: o.State, Model: o.Job.Model, Jobs: o.Finding.Jobs, Warnings: o.Warnings}
	if o.State == Ready {
		job.Input, job.Expected = o.Job.Input, ledger.Seconds(o.Job.Expected.Length)
	}
	for _, used := range o.Job.Media {
		m := Medium{File: File(used.File.Key), Property: used.Property}
		if used.URL != "" {
			m.File = used.Input().URL
		}
		length := used.Info.Longest()
		m.Seconds, m.Exact = ledger.Seconds(length.D), length.Exact
		m.Width, m.Height, m.Codecs = used.Info.Width, used.Info.Height, used.Info.Codecs()
		job.Media = append(job.Media, m)
	}
	for _, p := range o.Problems {
		job.Problems = append(job.Problems, Problem{p.Code, p.Reason, p.RemedyFor(o.Finding.Name)})
	}
	return job
}

// UploadRank orders uploads so that no job starts before all its files are there:
// presets first, then videos, images and unknown files, then audio files, then job.json.
func UploadRank(key string) int {
	kind, _ := media.KindOf(key)
	switch base := path.Base(key); {
	case strings.EqualFold(base, "preset.json"):
		return 0
	case strings.EqualFold(base, "job.json"):
		return 3
	case kind == media.Audio:
		return 2
	}
	return 1
}

// File returns the path of a key below inbox/, cleaned by path.Clean.
func File(key string) string { return path.Clean(strings.TrimPrefix(key, ledger.InboxPrefix)) }
