package handler_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/test/world"
	"github.com/lipdrop/lipdrop/test/world/worldtest"
)

// mostRequests is the largest number of requests to S3 for an event about one
// name, and mostOfMany that for an event about many names.
const (
	mostRequests = 60
	mostOfMany   = 5000
)

// The requests to S3 for one event are bounded, even for keys and folders that
// were made to be expensive. The event is about the last key.
func TestRequests(t *testing.T) {
	mixed := func(unit string, n int) string { return "e\u0301" + unit + strings.Repeat("\u00e9"+unit, n) }
	all := `{"model": "sync/react-1", "input": {"video_url": "v.mp4", "audio_url": "*.wav"}}`
	images := func(name func(i int) string) string {
		var members []string
		for i := range 9 {
			members = append(members, fmt.Sprintf(`"image_url_%d": %q`, i+1, name(i)))
		}
		return `{"model": "happyhorse/happyhorse-1.0/reference-to-video", "input": {"prompt": "x", ` + strings.Join(members, ", ") + `}}`
	}
	tests := []struct {
		name   string
		drops  []string // only the last one's event is handled; " = " precedes the content
		others string   // the keys of other objects; %05d is their number
		status bool     // the others are statuses
		most   int
	}{
		{name: "a pair", drops: []string{"ads/talk.mp4", "ads/talk.wav"}},
		{name: "500 dots of an audio", drops: []string{strings.Repeat("a.", 505) + "wav"}},
		{name: "500 dots of a video", drops: []string{strings.Repeat("a.", 505) + "mp4"}},
		{name: "dots between composed and decomposed letters", drops: []string{mixed(".", 238) + "wav"}},
		{name: "the same in such a folder", drops: []string{"e\u0301\u00e9/" + mixed(".", 235) + "wav"}},
		{name: "a pair 490 folders deep", drops: []string{strings.Repeat("a/", 440) + "x.mp4", strings.Repeat("a/", 440) + "x.wav"}},
		{name: "a pair in deep folders of mixed spelling", drops: []string{mixed("/", 200) + "x.mp4", mixed("/", 200) + "x.wav"}},
		{name: "an audio among thousands of tags", drops: []string{"t.mp4", "t.a.wav"}, others: "inbox/t.%05d.wav"},
		{name: "a tagged audio whose video has thousands of files alike", drops: []string{"t.mp4", "t.de.wav"}, others: "inbox/t.%05d.txt"},
		{name: "a video with thousands of files alike", drops: []string{"t.mp4"}, others: "inbox/t.%05d.txt"},
		{name: "files between the suffixes", drops: []string{"t.mp4", "t.wav"}, others: "inbox/t.MP4%05d inbox/t.mP4%05d inbox/t.MOv%05d inbox/t.Mov%05d inbox/t.WAv%05d inbox/t.mov%05d inbox/t.webm%05d"},
		{name: "folders that begin as the name", drops: []string{"t.mp4", "t.wav"}, others: "inbox/t.a%05d/x inbox/t.m%05d/x"},
		{name: "a file of a bundle without a job.json", drops: []string{"x.job/a.wav"}, others: "inbox/x.job/%05d.txt"},
		{name: "a file of a bundle beside statuses of other names", drops: []string{"ads.job/x.txt"}, others: "status/ads/job%05d.json", status: true},
		{name: "a match among thousands", drops: []string{"x.job/v.mp4", "x.job/job.json = " + all, "x.job/a.wav"}, others: "inbox/x.job/%05d.wav"},
		{name: "a match among thousands of other files", drops: []string{"x.job/v.mp4", "x.job/job.json = " + all, "x.job/zz.wav"}, others: "inbox/x.job/%05d.txt inbox/x.job/a/%05d.wav"},
		{name: "a preset among files alike", drops: []string{"preset.json = {}"}, others: "inbox/preset.%05d inbox/PRESET%05d inbox/Preset.j%05d"},
		{name: "a preset in deep folders", drops: []string{strings.Repeat("a/", 480) + "preset.json = {}"}},
		{name: "control characters", drops: []string{strings.Repeat("\x01", 900) + ".wav"}},
		{name: "a part ..", drops: []string{strings.Repeat("../", 300) + "t.wav"}},
		{name: "an unknown suffix among files alike", drops: []string{"t.txt"}, others: "inbox/t.%05d.txt"},
		{name: "nine files that are not there, in mixed spelling", drops: []string{
			"x.job/job.json = " + images(func(i int) string { return fmt.Sprintf("e\u0301\u00e9%d.png", i) })}},
		{name: "nine files of one image, none of which is one", drops: []string{
			"x.job/i.png = x", "x.job/job.json = " + images(func(int) string { return "i.png" })}},
		{name: "a video with thousands of tagged audios", drops: []string{"t.mp4"}, others: "inbox/t.%05d.wav", most: mostOfMany},
		{name: "a wildcard with thousands of matches", drops: []string{"x.job/v.mp4", "x.job/job.json = " + all}, others: "inbox/x.job/%05d.wav", most: mostOfMany},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var requests []int
			for _, n := range []int{1500, 4500} {
				w := worldtest.New(t)
				clip, voice := worldtest.Media(t)
				for pattern := range strings.FieldsSeq(tt.others) {
					for i := range n {
						body := []byte(nil)
						if tt.status {
							body = []byte(`{"name": "ads/x", "state": "succeeded", "take": "20500101T000000Z-000000000000"}`)
						}
						w.Bucket.Set(fmt.Sprintf(pattern, i), body)
					}
				}
				key := ""
				for _, drop := range tt.drops {
					name, content, given := strings.Cut(drop, " = ")
					key = "inbox/" + name
					body := voice
					switch {
					case given:
						body = []byte(content)
					case strings.HasSuffix(name, ".mp4"):
						body = clip
					}
					w.Put(key, body)
				}
				count := 0
				w.Before = func(c world.Call) error {
					if c.Service == "s3" {
						count++
					}
					return nil
				}
				if _, err := w.Submit(world.Message(key)); err != nil {
					t.Fatal(err)
				}
				requests = append(requests, count)
			}
			most := max(tt.most, mostRequests)
			t.Logf("%d requests beside 1,500 other files, %d beside 4,500", requests[0], requests[1])
			for _, n := range requests {
				if n > most {
					t.Errorf("%d requests, want at most %d", n, most)
				}
			}
		})
	}
}

// One changed file starts at most MaxJobsPerDrop jobs. Further jobs are held, and
// start when the parameter is raised.
func TestMaxJobsPerDrop(t *testing.T) {
	clip, voice := worldtest.Media(t)
	tests := []struct {
		name    string
		drop    func(w *world.World) // causes one event
		job     string               // the name of a job by its number
		numbers int
	}{
		{"tagged audios of a video", func(w *world.World) {
			for i := range 12 {
				w.Put(fmt.Sprintf("inbox/ads/talk.%02d.wav", i), voice)
			}
			w.Drop("inbox/ads/talk.mp4", clip)
		}, "ads/talk.%02d", 12},
		{"matches of a wildcard", func(w *world.World) {
			for i := range 12 {
				w.Put(fmt.Sprintf("inbox/ads/x.job/%02d.wav", i), voice)
			}
			w.Put("inbox/ads/x.job/v.mp4", clip)
			w.Drop("inbox/ads/x.job/job.json", []byte(`{"model": "sync/react-1", "input": {"video_url": "v.mp4", "audio_url": "*.wav"}}`))
		}, "ads/x/%02d", 12},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := worldtest.New(t)
			w.Settings.MaxJobsPerDrop = 5
			w.Restart()
			tt.drop(w)
			w.Run(time.Hour)
			if n := w.RunComfy.Charges(); n != 5 {
				t.Errorf("%d charges, want 5", n)
			}
			for i := range tt.numbers {
				st := w.Status(fmt.Sprintf(tt.job, i))
				switch {
				case i < 5 && st.State != ledger.Succeeded:
					t.Errorf("job %d is %s: %s", i, st.State, st.Reason)
				case i >= 5 && (st.State != ledger.Held || st.Code != problem.TooManyJobs ||
					st.Reason != "one changed file asks for 12 jobs; it may start at most 5 (MaxJobsPerDrop)"):
					t.Errorf("job %d is %s, %s: %s", i, st.State, st.Code, st.Reason)
				}
			}
			w.Settings.MaxJobsPerDrop = 12
			w.Restart()
			w.Run(2 * time.Hour)
			if n := w.RunComfy.Charges(); n != 12 || len(w.Dead) > 0 {
				t.Errorf("after the parameter was raised: %d charges, want 12, and %d dead letters", n, len(w.Dead))
			}
		})
	}
}

// A message that asks for too many jobs is delivered for a day. A later delivery
// reads the status of each job beyond the limit, and nothing else.
func TestDeliveriesOfTooManyJobs(t *testing.T) {
	const voices, limit = 60, 5
	w := worldtest.New(t)
	w.Settings.MaxJobsPerDrop = limit
	w.Restart()
	clip, voice := worldtest.Media(t)
	for i := range voices {
		w.Put(fmt.Sprintf("inbox/talk.%02d.wav", i), voice)
	}
	w.Drop("inbox/talk.mp4", clip)
	w.Pass(time.Hour)
	requests, invocations := 0, map[int]bool{}
	w.Before = func(c world.Call) error {
		if c.Service == "s3" && c.Function == "submit" {
			requests++
			invocations[c.Invocation] = true
		}
		return nil
	}
	w.Pass(time.Hour)
	if most := len(invocations) * 2 * voices; requests == 0 || requests > most {
		t.Errorf("%d requests in %d deliveries, want at most %d", requests, len(invocations), most)
	}
	w.Settings.MaxJobsPerDrop = voices
	w.Restart()
	w.Pass(2 * time.Hour)
	worldtest.WantCharges(t, w, voices)
}
