package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/ledger"
)

// The oracle derives the right result of each name from the name's files.
func TestNames(t *testing.T) {
	const job = `s/c.job/job.json = {"input": {"video_url": "v.mp4", "audio_url": "a.wav"}}`
	const wild = `s/c.job/job.json = {"input": {"image_url": "f.png", "audio_url": "*.wav"}}`
	tests := []struct {
		says  string
		files []string
		want  []string
	}{
		{"a video and an audio of one stem are a job", []string{"s/a.mp4", "s/a.wav"}, []string{"s/a: job of s/a.mp4 s/a.wav"}},
		{"a tagged audio uses the video with the longest stem", []string{"s/a.mp4", "s/a.b.mp4", "s/a.b.de.wav"}, []string{
			"s/a: waiting waiting_for_audio", "s/a.b: used [s/a.b.de]", "s/a.b.de: job of s/a.b.de.wav s/a.b.mp4"}},
		{"an audio by itself waits", []string{"s/a.de.wav"}, []string{"s/a.de: waiting waiting_for_video_or_image"}},
		{"two audios are ambiguous", []string{"s/a.mp4", "s/a.wav", "s/a.WAV"}, []string{"s/a: rejected ambiguous"}},
		{"a video and an image are ambiguous", []string{"s/a.mp4", "s/a.png"}, []string{"s/a: rejected ambiguous"}},
		{"two presets in one folder are ambiguous", []string{"s/a.mp4", "s/a.wav", "s/preset.json = {}", "s/PRESET.json = {}"}, []string{"s/a: rejected ambiguous"}},
		{"a bundle with all files is a job", []string{job, "s/c.job/v.mp4", "s/c.job/a.wav"}, []string{"s/c: job of s/c.job/job.json"}},
		{"a bundle waits for the files that its job.json names", []string{job, "s/c.job/v.mp4"}, []string{"s/c: waiting waiting_for_files"}},
		{"a folder without job.json waits for a job.json", []string{"s/c.job/v.mp4"}, []string{"s/c: waiting waiting_for_job_json"}},
		{"a broken job.json is rejected", []string{"s/c.job/job.json = {"}, []string{"s/c: rejected invalid_json"}},
		{"each match of a wildcard is a job", []string{wild, "s/c.job/f.png", "s/c.job/x.wav", "s/c.job/y.wav"}, []string{
			"s/c: used [s/c/x s/c/y]", "s/c/x: job of s/c.job/job.json s/c.job/x.wav", "s/c/y: job of s/c.job/job.json s/c.job/y.wav"}},
		{"a wildcard without a match waits", []string{wild, "s/c.job/f.png"}, []string{"s/c: waiting waiting_for_match"}},
		{"an image and a bundle of one name are ambiguous, and so is each match of the bundle's wildcard", []string{"s/c.png", wild, "s/c.job/x.wav"}, []string{"s/c: rejected ambiguous", "s/c/x: rejected ambiguous"}},
		{"a pair and a bundle of one name are ambiguous", []string{"s/c.mp4", "s/c.wav", job, "s/c.job/v.mp4", "s/c.job/a.wav"}, []string{"s/c: rejected ambiguous"}},
	}
	for _, tt := range tests {
		t.Run(tt.says, func(t *testing.T) {
			var got []string
			names := inboxAfter(actsOf(tt.files...)).names()
			for _, name := range slices.Sorted(maps.Keys(names)) {
				w := names[name]
				text := strings.TrimSpace(fmt.Sprintf("%s: %s %s", name, w.state, w.code))
				switch {
				case w.state == "":
					var keys []string
					for _, f := range w.uses {
						keys = append(keys, strings.TrimPrefix(f.key, ledger.InboxPrefix))
					}
					slices.Sort(keys)
					text = name + ": job of " + strings.Join(keys, " ")
				case w.jobs != nil:
					text = fmt.Sprintf("%s: %s %v", name, w.state, w.jobs)
				}
				got = append(got, text)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// actsOf returns acts a minute apart, one for each text. "KEY" drops an empty file at the key,
// "KEY = CONTENT" drops a file with that content, and "- KEY" deletes the file.
func actsOf(texts ...string) []act {
	var acts []act
	for i, text := range texts {
		at := time.Date(2050, 1, 3, 12, i, 0, 0, time.UTC)
		what, body, _ := strings.Cut(text, " = ")
		key, deleted := strings.CutPrefix(what, "- ")
		acts = append(acts, act{at, 0, deleted, file{ledger.InboxPrefix + key, []byte(body), fmt.Sprint("etag", i), at, at}})
	}
	return acts
}

// takeOf returns the record of a succeeded take that was claimed half a minute after the last act.
// Its inputs are the name's files at that time.
func takeOf(acts []act, name string) ledger.Record {
	there := inboxAfter(acts)
	w := there.names()[name]
	last := acts[len(acts)-1].at
	rec := ledger.Record{Name: name, Take: w.stamp() + "-" + fmt.Sprint(len(acts)), State: ledger.Succeeded, Times: ledger.Times{Claimed: last.Add(30 * time.Second)}}
	for _, f := range w.files {
		rec.Inputs = append(rec.Inputs, ledger.Input{Key: f.key, ETag: f.etag, LastModified: f.modified})
	}
	return rec
}

func TestVerdicts(t *testing.T) {
	const job = `s/c.job/job.json = {"input": {"video_url": "v.mp4", "audio_url": "a.wav"}}`
	tests := []struct {
		says string
		name string
		acts []string
		runs []int  // for each take, how many acts came before its claim
		want string // "job" if a job has to run
	}{
		{"complete files without a take need a job", "s/a", []string{"s/a.mp4", "s/a.wav"}, nil, "job"},
		{"the status is about the take that ran", "s/a", []string{"s/a.mp4", "s/a.wav"}, []int{2}, "take 1"},
		{"a file dropped again is another take", "s/a", []string{"s/a.mp4", "s/a.wav", "s/a.mp4"}, []int{2}, "job"},
		{"a deletion does not change what ran", "s/a", []string{"s/a.mp4", "s/a.wav", "- s/a.wav"}, []int{2}, "take 1"},
		{"the deletion of all files does not change what ran", "s/a", []string{"s/a.mp4", "s/a.wav", "- s/a.wav", "- s/a.mp4"}, []int{2}, "take 1"},
		{"the deletion of job.json, the oldest file, does not change what ran", "s/c", []string{job, "s/c.job/v.mp4", "s/c.job/a.wav", "- s/c.job/job.json"}, []int{3}, "take 1"},
		{"a deletion after which the audio could use another video starts nothing", "s/a.de",
			[]string{"s/a.de.mp4", "s/a.de.wav", "s/a.mp4", "- s/a.de.mp4"}, []int{2}, "take 1"},
		{"a deletion resolves what was ambiguous", "s/a", []string{"s/a.mp4", "s/a.wav", "s/a.WAV", "- s/a.WAV"}, nil, "job"},
		{"a deletion resolves what became ambiguous after a take", "s/a", []string{"s/a.mp4", "s/a.wav", "s/a.WAV", "- s/a.wav"}, []int{2}, "job"},
		{"a deletion does not change what ran, although the audio could now use two files", "s/a.de",
			[]string{"s/a.de.mp4", "s/a.de.wav", "s/a.mp4", "s/a.png", "- s/a.de.mp4"}, []int{2}, "take 1"},
		{"a deletion that resolves what another deletion made ambiguous starts nothing", "s/a.de",
			[]string{"s/a.de.mp4", "s/a.de.wav", "s/a.mp4", "s/a.png", "- s/a.de.mp4", "- s/a.png"}, []int{2}, "take 1"},
		{"a deletion that leaves a pair with a file newer than the take starts a job", "s/a",
			[]string{"s/a.mp4", "s/a.wav", "s/a.MP4", "- s/a.mp4"}, []int{2}, "job"},
		{"a second audio after the take is ambiguous", "s/a", []string{"s/a.mp4", "s/a.wav", "s/a.WAV"}, []int{2}, "rejected ambiguous"},
		{"a name is withdrawn if its files were deleted before any take", "s/a", []string{"s/a.mp4", "- s/a.mp4"}, nil, "withdrawn"},
	}
	for _, tt := range tests {
		t.Run(tt.says, func(t *testing.T) {
			acts := actsOf(tt.acts...)
			var takes []ledger.Record
			for _, n := range tt.runs {
				takes = append(takes, takeOf(acts[:n], tt.name))
			}
			v := verdictOf(tt.name, acts, takes)
			got := "job"
			switch {
			case v.take != nil:
				got = fmt.Sprint("take ", 1+slices.IndexFunc(takes, func(rec ledger.Record) bool { return rec.Take == v.take.Take }))
			case v.result != nil:
				got = fmt.Sprintf("%s %s", v.result.state, v.result.code)
			case v.gone:
				got = "withdrawn"
			}
			if got != tt.want {
				t.Errorf("the verdict is %s (%s), want %s", got, v.why, tt.want)
			}
		})
	}
}
