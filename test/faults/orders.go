package main

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
)

// inOrders is the number of orders in which each short story runs.
const inOrders = 3

// orders runs short stories, each in three orders. If the order makes a difference,
// that is a finding.
func orders(stories int, seed uint64) (tally, error) {
	return sum(stories, func(i int) (tally, error) {
		if i%2 == 0 {
			return ofArrivals(seed, uint64(i))
		}
		return ofEvents(seed, uint64(i))
	})
}

// ofArrivals drops the same files in three orders, with pauses between them. The
// result must be the same. A preset is always dropped first, because it does not
// apply to files that were submitted before it.
func ofArrivals(seed, number uint64) (tally, error) {
	return inThreeOrders(seed, number, false, func(t *story, reorder func()) {
		files := t.someFiles()
		reorder()
		t.dice.Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })
		slices.SortStableFunc(files, func(a, b string) int { return presetFirst(a) - presetFirst(b) })
		for _, what := range files {
			t.drop(what)
			t.pass([]time.Duration{0, time.Second, time.Minute, 20 * time.Minute}[t.dice.IntN(4)])
		}
	})
}

func presetFirst(what string) int {
	if strings.Contains(strings.ToLower(what), "preset.json") {
		return 0
	}
	return 1
}

// ofEvents lets people drop and delete files, and sends all events afterwards in
// three orders. The result must be the same, because the functions act on the
// present files and not on the event.
func ofEvents(seed, number uint64) (tally, error) {
	return inThreeOrders(seed, number, true, func(t *story, reorder func()) {
		t.silent = true
		for _, what := range t.someFiles() {
			t.drop(what)
			t.pass(t.between(0, time.Minute))
		}
		for range t.plans.IntN(4) {
			t.dropOrDelete()
			t.pass(t.between(0, 10*time.Minute))
		}
		reorder()
		events := slices.Clone(t.acts)
		t.dice.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
		for _, a := range events {
			if a.deleted {
				t.w.Notify("Object Deleted", a.key, 0)
				t.w.NotifyCancel(a.key, "DeleteObject", time.Duration(t.dice.Int64N(int64(time.Minute))))
			} else {
				t.w.Notify("Object Created", a.key, 0)
			}
			t.tell("the event of %s arrives", a.key)
			t.pass([]time.Duration{0, time.Second, time.Minute}[t.dice.IntN(3)])
		}
	})
}

// inThreeOrders plays a story three times and compares the statuses. If takes is true,
// it compares their takes too. All random numbers are the same each time, except those
// of t.dice after play has called reorder.
func inThreeOrders(seed, number uint64, takes bool, play func(t *story, reorder func())) (tally, error) {
	total := newTally()
	var first map[string]string
	var firstText string // the story of the first run
	for order := range inOrders {
		t, err := newStory(seed, number)
		if err != nil {
			return total, err
		}
		t.plain()
		play(t, func() {
			for range order * 100 {
				t.dice.Uint64()
			}
		})
		t.w.Run(12 * time.Hour)
		total.jobs++
		total.charges += t.w.RunComfy.Charges()
		says := t.statuses(takes)
		if order == 0 {
			first, firstText = says, t.text()
			continue
		}
		for _, text := range differences(first, says) {
			total.wrong("%s\n%s\n    and then\n%s", text, firstText, t.text())
		}
	}
	total.stories++
	return total, nil
}

// plain removes the trouble from a story and makes every job quick.
func (t *story) plain() {
	t.trouble = noTrouble
	t.w.RunComfy.Script = func(string, map[string]any) runcomfytest.Script { return runcomfytest.Script{Run: time.Minute} }
}

// someFiles returns the files of an opening and up to three others, without
// duplicates. A pair and a bundle share a name only if both are complete. Otherwise the
// oracle does not decide which of them the status is about.
func (t *story) someFiles() []string {
	files := slices.Clone(openings[t.plans.IntN(len(openings))])
	more := t.plans.IntN(4)
	if slices.Contains(files, "s/talk.mp4") && slices.Contains(files, "s/talk.job/job.json") {
		more = 0
	}
	for range more {
		what := vocabulary[t.plans.IntN(len(vocabulary))]
		name, _, _ := strings.Cut(what, " ")
		if strings.Contains(name, ".job/") != strings.Contains(files[0], ".job/") {
			continue
		}
		if !slices.ContainsFunc(files, func(other string) bool {
			there, _, _ := strings.Cut(other, " ")
			return there == name
		}) {
			files = append(files, what)
		}
	}
	return files
}

// statuses returns the state, the code and the jobs of every status and answer file,
// by key. If takes is true, it includes the take.
func (t *story) statuses(takes bool) map[string]string {
	says, names := map[string]string{}, after(t.acts).names()
	for _, key := range t.w.Bucket.Keys() {
		if !strings.HasPrefix(key, "status/") && !strings.HasPrefix(key, "answers/") {
			continue
		}
		st := t.status(key)
		if names[st.Name].loose() {
			continue // the status may be about the pair or the bundle
		}
		says[key] = strings.TrimSpace(fmt.Sprintf("%s %s %v", st.State, st.Code, st.Jobs))
		if takes {
			says[key] += " " + st.Take
		}
	}
	return says
}

// differences describes the statuses that differ between two orders.
func differences(a, b map[string]string) []string {
	var texts []string
	keys := maps.Clone(a)
	maps.Copy(keys, b)
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if a[key] != b[key] {
			texts = append(texts, fmt.Sprintf("%s is %q in one order and %q in another", path.Base(key), a[key], b[key]))
		}
	}
	return texts
}
