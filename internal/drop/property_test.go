package drop_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/text/unicode/norm"
	"pgregory.net/rapid"

	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/rapidtest"
)

// universe lists the files that put can drop: names that begin alike, tags of tags, two
// Unicode forms of one letter, a preset, bundles, a wildcard, and files that start no job.
var universe = append(products([]string{"talk", "talk.de", "talk.de.v2", "talks", "caf\u00e9", "cafe\u0301.de"}, []string{".mp4", ".png", ".wav", ".MP3"}),
	"preset.json", "notes.txt", "job.json", "talk.de/voice.wav", "talk.x.job/voice.wav",
	"one.job/job.json", "one.job/Job.json", "one.job/v.mp4", "one.job/a.wav",
	"all.job/job.json", "all.job/v.mp4", "all.job/de.wav", "all.job/fr.wav", "all.job/fr.mp3", "all.job/fr.txt",
)

var contents = map[string]string{
	"one.job/job.json": `{"model": "sync/react-1", "input": {"video_url": "v.mp4", "audio_url": "a.wav"}}`,
	"one.job/Job.json": `{}`,
	"talks.wav":        "", "talk.de.png": "", "one.job/v.mp4": "", "all.job/fr.wav": "",
	"all.job/job.json": `{"model": "sync/react-1", "input": {"video_url": "v.mp4", "audio_url": "*"}}`,
}

func products(heads, tails []string) []string {
	var all []string
	for _, h := range heads {
		for _, t := range tails {
			all = append(all, h+t)
		}
	}
	return all
}

// put drops a file of the universe. Each file has a time of its own.
func (b *inbox) put(name string) {
	b.now = noon.Add(time.Duration(slices.Index(universe, name)) * time.Second)
	body, ok := contents[name]
	if !ok {
		body = name
	}
	b.Set("inbox/"+name, []byte(body))
}

// handleEvents handles an event of each key, and stores the findings in statuses.
func (b *inbox) handleEvents(t testing.TB, statuses map[string]string, keys ...string) {
	for _, f := range b.findings(t, keys...) {
		take := ""
		if f.Job != nil {
			take = f.Job.Take
		}
		statuses[f.Key] = fmt.Sprint(f.Name, " ", f.State, codes(f.Problems), f.Jobs, f.Order, take)
	}
}

func withoutWithdrawn(statuses map[string]string) map[string]string {
	kept := maps.Clone(statuses)
	maps.DeleteFunc(kept, func(_, line string) bool { return strings.Contains(line, " withdrawn") })
	return kept
}

// Files are dropped and deleted in any order, and their events come late, out
// of order and more than once. In the end, the statuses that are not withdrawn are the
// same as after one assessment of the files that are left.
func TestEventsInAnyOrder(t *testing.T) {
	rapidtest.Check(t, func(rt *rapid.T) {
		b := newInbox(t)
		statuses := map[string]string{}
		var pending, keys []string
		files := rapid.SliceOfNDistinct(rapid.SampledFrom(universe), 1, 6, rapid.ID[string]).Draw(rt, "files")
		for range rapid.IntRange(1, 12).Draw(rt, "length") {
			name := rapid.SampledFrom(files).Draw(rt, "file")
			key := "inbox/" + name
			// all.job/job.json is never deleted, because no assessment would withdraw its matches.
			if _, there := b.Object(key); there && name != "all.job/job.json" {
				b.Remove(key)
			} else {
				b.put(name)
			}
			keys, pending = append(keys, key), append(pending, key)
			for len(pending) > 0 && rapid.Bool().Draw(rt, "an event comes") {
				i := rapid.IntRange(0, len(pending)-1).Draw(rt, "which")
				b.handleEvents(t, statuses, pending[i])
				if rapid.Bool().Draw(rt, "for the last time") {
					pending = slices.Delete(pending, i, i+1)
				}
			}
		}
		b.handleEvents(t, statuses, rapid.Permutation(pending).Draw(rt, "the late ones")...)
		end := map[string]string{}
		b.handleEvents(t, end, keys...)
		if diff := cmp.Diff(withoutWithdrawn(end), withoutWithdrawn(statuses)); diff != "" {
			rt.Errorf("statuses (-from one assessment at the end +from the events):\n%s", diff)
		}
	})
}

// The same files with the same times lead to the same findings and takes, in whatever
// order the files arrive.
func TestOrderOfDropsDoesNotMatter(t *testing.T) {
	rapidtest.Check(t, func(rt *rapid.T) {
		names := rapid.SliceOfNDistinct(rapid.SampledFrom(universe), 1, 10, rapid.ID[string]).Draw(rt, "files")
		statusesOf := func(names []string) map[string]string {
			b := newInbox(t)
			statuses := map[string]string{}
			for _, name := range names {
				b.put(name)
				b.handleEvents(t, statuses, "inbox/"+name)
			}
			return statuses
		}
		first, second := statusesOf(names), statusesOf(rapid.Permutation(names).Draw(rt, "another order"))
		if diff := cmp.Diff(first, second); diff != "" {
			rt.Errorf("statuses of two orders, want the same (-first order +second order):\n%s", diff)
		}
	})
}

// part generates a part of a path from characters that need care.
func part() *rapid.Generator[string] {
	runes := []rune("aA.~ %+*?[\"'\\\n\u00e9e\u0301\u212b\ud55c\u1112\u1161\u11ab\u0958\U0001f469\u200d\U0001f692\U0001d160")
	return rapid.StringOfN(rapid.SampledFrom(runes), 0, 12, -1)
}

// anyPath generates a path below inbox/. Some paths are as long as S3 allows.
func anyPath() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		long := strings.Repeat("n", rapid.SampledFrom([]int{0, 0, 900, 980}).Draw(t, "long"))
		parts := rapid.SliceOfN(part(), 1, 4).Draw(t, "parts")
		suffix := rapid.SampledFrom([]string{"", ".mp4", ".WAV", ".png", ".txt", ".job/job.json", ".JOB/a.wav", "/preset.json", "/job.json"}).Draw(t, "suffix")
		return long + strings.Join(parts, "/") + suffix
	}).Filter(func(path string) bool { return len("inbox/"+path) <= 1024 })
}

// For every key, an assessment does not panic, and each finding has a key that S3 accepts. No two
// names share a key. A finding's key contains its name, unless the name is unprintable, relative
// or too long.
func TestNamesAndKeys(t *testing.T) {
	rapidtest.Check(t, func(rt *rapid.T) {
		b := newInbox(t)
		found := map[string]drop.Finding{}
		keys := map[string]string{} // the name that each key belongs to
		for _, below := range rapid.SliceOfN(anyPath(), 1, 6).Draw(rt, "files") {
			b.Set("inbox/"+below, []byte("{}"))
			for _, f := range b.findings(t, "inbox/"+below) {
				found[f.Name+" at "+f.Key] = f
			}
		}
		own := func(key, name string) {
			if owner, ok := keys[key]; ok && owner != name {
				rt.Errorf("%q and %q share the key %q, want one each", owner, name, key)
			}
			keys[key] = name
		}
		for _, f := range found {
			own(f.Key, f.Name)
			if len(f.Key) > 1024 {
				rt.Errorf("the key %q of %q has %d bytes, want at most 1024", f.Key, f.Name, len(f.Key))
			}
			name, isStatus := strings.CutPrefix(strings.TrimSuffix(f.Key, ".json"), "status/")
			if !isStatus {
				name = strings.TrimPrefix(name, "answers/")
			}
			if f.State == ledger.Rejected && f.Problems[0].Code == problem.UnprintableName {
				if isStatus || strings.ContainsFunc(f.Key, unicode.IsControl) {
					rt.Errorf("the answer file of %q is %q, want one below answers/ without control characters", f.Name, f.Key)
				}
				continue
			}
			if isRelative(f.Name) {
				if f.Problems[0].Code != problem.RelativePath || isStatus || isRelative(f.Key) {
					rt.Errorf("the problems of %q are %s, with the key %q; want relative_path first, and a key below answers/ without the parts \".\" and \"..\"", f.Name, codes(f.Problems), f.Key)
				}
			} else if tooLong := len("answers/"+f.Name+".json") > 1024; !tooLong && name != f.Name {
				rt.Errorf("the finding of %q has the key %q, want the name in the key", f.Name, f.Key)
			}
			if !isStatus {
				continue
			}
			if !norm.NFC.IsNormalString(name) {
				rt.Errorf("the name %+q is not in NFC, want it in NFC", name)
			}
			for _, take := range []string{"20261121T120000Z-0123456789ab", "20261121T120001Z-0123456789ab"} {
				own(ledger.RecordKey(name, take), name+" "+take)
				own(ledger.OutputPrefix(name, take), name+" "+take)
			}
			if owner, _ := drop.ParseKey("inbox/" + name + ".mp4").Owns(); owner != name {
				rt.Errorf("the file %q owns the name %q, want %q", "inbox/"+name+".mp4", owner, name)
			}
		}
	})
}

func isRelative(path string) bool {
	return slices.ContainsFunc(strings.Split(path, "/"), func(part string) bool { return part == "." || part == ".." })
}

// A take depends only on its files: not on how many events led to it, nor on other
// files.
func TestTakeOfTheSameFiles(t *testing.T) {
	rapidtest.Check(t, func(rt *rapid.T) {
		b := newInbox(t)
		for _, name := range []string{"talk.mp4", "talk.wav", "one.job/job.json", "one.job/v.mp4", "one.job/a.wav"} {
			b.put(name)
		}
		want := b.takes(t, "inbox/talk.mp4", "inbox/one.job/job.json")
		others := []string{"talk.de.wav", "talks.mp4", "talks.wav", "preset.json", "notes.txt", "all.job/de.wav", "all.job/job.json"}
		for _, name := range rapid.SliceOf(rapid.SampledFrom(others)).Draw(rt, "others") {
			b.put(name)
			keys := []string{"inbox/talk.mp4", "inbox/talk.wav", "inbox/one.job/job.json", "inbox/one.job/v.mp4"}
			got := b.takes(t, rapid.SliceOf(rapid.SampledFrom(keys)).Draw(rt, "events")...)
			for _, name := range []string{"talk", "one"} {
				if take, ok := got[name]; ok && take != want[name] {
					rt.Errorf("take %s of %s, want %s", take, name, want[name])
				}
			}
		}
	})
}
