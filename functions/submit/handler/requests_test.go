package handler_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local/sample"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
	"github.com/lipdrop/lipdrop/test/world"
	"github.com/lipdrop/lipdrop/test/world/worldtest"
)

// setMaxJobs sets MaxJobsPerDrop, as a deployment does.
func setMaxJobs(w *world.World, n int) {
	w.Settings.MaxJobsPerDrop = n
	w.Restart()
}

// mostRequests is the largest number of requests to AWS that submit may make for one message.
const mostRequests = 60

// The number of requests for one message is bounded, even for keys and folders that were
// made to be expensive, and does not grow with the folder. If the event concerns many names,
// submit sends further messages, and the requests for each of them are bounded too.
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
		drops  []string // only the last file has an event; " = " precedes the content
		others string   // patterns for keys of other objects; %05d is the number of the object
		status bool     // the other objects are statuses
	}{
		{name: "a pair", drops: []string{"ads/talk.mp4", "ads/talk.wav"}},
		{name: "an audio with 505 dots", drops: []string{strings.Repeat("a.", 505) + "wav"}},
		{name: "a video with 505 dots", drops: []string{strings.Repeat("a.", 505) + "mp4"}},
		{name: "dots between composed and decomposed letters", drops: []string{mixed(".", 238) + "wav"}},
		{name: "a folder and dots between composed and decomposed letters", drops: []string{"e\u0301\u00e9/" + mixed(".", 235) + "wav"}},
		{name: "a pair 440 folders deep", drops: []string{strings.Repeat("a/", 440) + "x.mp4", strings.Repeat("a/", 440) + "x.wav"}},
		{name: "a pair 100 folders deep", drops: []string{strings.Repeat("a/", 100) + "x.mp4", strings.Repeat("a/", 100) + "x.wav"}},
		{name: "a pair in deep folders of mixed spelling", drops: []string{mixed("/", 200) + "x.mp4", mixed("/", 200) + "x.wav"}},
		{name: "an audio among thousands of tags", drops: []string{"t.mp4", "t.a.wav"}, others: "inbox/t.%05d.wav"},
		{name: "a tagged audio and its video beside thousands of files that begin the same", drops: []string{"t.mp4", "t.de.wav"}, others: "inbox/t.%05d.txt"},
		{name: "a video beside thousands of files that begin the same", drops: []string{"t.mp4"}, others: "inbox/t.%05d.txt"},
		{name: "files that sort between the suffixes", drops: []string{"t.mp4", "t.wav"}, others: "inbox/t.MP4%05d inbox/t.mP4%05d inbox/t.MOv%05d inbox/t.Mov%05d inbox/t.WAv%05d inbox/t.mov%05d inbox/t.webm%05d"},
		{name: "folders that begin as the name does", drops: []string{"t.mp4", "t.wav"}, others: "inbox/t.a%05d/x inbox/t.m%05d/x"},
		{name: "a file of a bundle without a job.json", drops: []string{"x.job/a.wav"}, others: "inbox/x.job/%05d.txt"},
		{name: "a file of a bundle beside statuses of other names", drops: []string{"ads.job/x.txt"}, others: "status/ads/job%05d.json", status: true},
		{name: "a match among thousands", drops: []string{"x.job/v.mp4", "x.job/job.json = " + all, "x.job/a.wav"}, others: "inbox/x.job/%05d.wav"},
		{name: "a match among thousands of other files", drops: []string{"x.job/v.mp4", "x.job/job.json = " + all, "x.job/zz.wav"}, others: "inbox/x.job/%05d.txt inbox/x.job/a/%05d.wav"},
		{name: "a preset among files that begin the same", drops: []string{"preset.json = {}"}, others: "inbox/preset.%05d inbox/PRESET%05d inbox/Preset.j%05d"},
		{name: "a preset in deep folders", drops: []string{strings.Repeat("a/", 480) + "preset.json = {}"}},
		{name: "control characters", drops: []string{strings.Repeat("\x01", 900) + ".wav"}},
		{name: "folders named ..", drops: []string{strings.Repeat("../", 300) + "t.wav"}},
		{name: "an unknown suffix among files that begin the same", drops: []string{"t.txt"}, others: "inbox/t.%05d.txt"},
		{name: "nine files that are not there, in mixed spelling", drops: []string{
			"x.job/job.json = " + images(func(i int) string { return fmt.Sprintf("e\u0301\u00e9%d.png", i) })}},
		{name: "nine members that name one file, which is not an image", drops: []string{
			"x.job/i.png = x", "x.job/job.json = " + images(func(int) string { return "i.png" })}},
		{name: "a video with thousands of tagged audios", drops: []string{"t.mp4"}, others: "inbox/t.%05d.wav"},
		{name: "a wildcard with thousands of matches", drops: []string{"x.job/v.mp4", "x.job/job.json = " + all}, others: "inbox/x.job/%05d.wav"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			type cost struct{ forEvent, mostForMessage, messages int } // the first two are numbers of requests
			var costs []cost
			for _, n := range []int{1500, 4500} {
				w := worldtest.New(t)
				clip, voice := sample.Files()
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
				first, count := 0, map[int]int{} // the first invocation, and the requests of each
				w.Before = func(c world.Call) error {
					if c.Function == "submit" && c.Service != "lambda" && c.Service != "runcomfy" {
						first = cmp.Or(first, c.Invocation)
						count[c.Invocation]++
					}
					return nil
				}
				w.Notify("Object Created", key, 0)
				for len(count) < 50 && w.Step(time.Minute) {
				}
				most := slices.Max(slices.Collect(maps.Values(count)))
				costs = append(costs, cost{count[first], most, len(count)})
			}
			small, large := costs[0], costs[1]
			t.Logf("%d requests if each pattern has 1,500 objects, %d if it has 4,500; at most %d in any of the first %d messages", small.forEvent, large.forEvent, large.mostForMessage, large.messages)
			if large.mostForMessage > mostRequests {
				t.Errorf("%d requests for one message, want at most %d", large.mostForMessage, mostRequests)
			}
			if large.forEvent > small.forEvent || large.mostForMessage > small.mostForMessage {
				t.Errorf("%d requests for the event, and at most %d for one message; want no more than %d and %d, as in the smaller folder", large.forEvent, large.mostForMessage, small.forEvent, small.mostForMessage)
			}
		})
	}
}

// A change asks for many more jobs than MaxJobsPerDrop. All jobs that do not start are held.
func TestVeryManyJobs(t *testing.T) {
	w := worldtest.New(t)
	setMaxJobs(w, 3)
	clip, voice := sample.Files()
	for i := range 505 {
		w.Drop(fmt.Sprintf("inbox/ads/talk.%03d.wav", i), voice)
	}
	w.Run(time.Minute)
	worldtest.WantStatus(t, w, "ads/talk.504", ledger.Waiting, problem.WaitingForVisual)
	w.Drop("inbox/ads/talk.mp4", clip)
	w.Run(5 * time.Minute)
	worldtest.WantCharges(t, w, 3)
	held := 0
	for i := range 505 {
		if w.Status(fmt.Sprintf("ads/talk.%03d", i)).Code == problem.TooManyJobs {
			held++
		}
	}
	if held != 502 {
		t.Errorf("%d jobs are held, want 502", held)
	}
}

// The video of a bundle arrives while the messages about its matches wait. No more jobs
// start than MaxJobsPerDrop allows.
func TestVideoArrivesWhileMessagesWait(t *testing.T) {
	const folder = "inbox/ads/x.job/"
	w := worldtest.New(t)
	setMaxJobs(w, 3)
	clip, voice := sample.Files()
	for i := range 40 {
		w.Put(fmt.Sprintf("%s%02d.wav", folder, i), voice)
	}
	atFirstMessage(t, w, func() { w.Put(folder+"v.mp4", clip) })
	w.Drop(folder+"job.json", react("v.mp4", "*.wav"))
	w.Run(10 * time.Minute)
	if n := w.RunComfy.Charges(); n > 3 {
		t.Errorf("%d jobs are charged, want at most 3", n)
	}
	w.Drop(folder+"v.mp4", clip)
	w.Run(10 * time.Minute)
	worldtest.WantStatus(t, w, "ads/x/39", ledger.Held, problem.TooManyJobs)
}

// More jobs than MaxJobsPerDrop wait for a file. No message waits for a higher limit, because a
// higher limit would start nothing.
func TestManyJobsThatWait(t *testing.T) {
	for _, tt := range []struct {
		name, voice string
		act         func(w *world.World)
		job         string
		code        problem.Code
	}{
		{"the video of tagged audios is deleted", "inbox/ads/talk.%02d.wav", func(w *world.World) {
			w.Put("inbox/ads/talk.mp4", nil)
			w.Delete("inbox/ads/talk.mp4")
		}, "ads/talk.11", problem.WaitingForVisual},
		{"the video of a wildcard is missing", "inbox/ads/x.job/%02d.wav", func(w *world.World) {
			w.Drop("inbox/ads/x.job/job.json", react("v.mp4", "*.wav"))
		}, "ads/x/11", problem.WaitingForFiles},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := worldtest.New(t)
			setMaxJobs(w, 3)
			_, voice := sample.Files()
			for i := range 12 {
				w.Put(fmt.Sprintf(tt.voice, i), voice)
			}
			tt.act(w)
			w.Pass(10 * time.Minute)
			worldtest.WantStatus(t, w, tt.job, ledger.Waiting, tt.code)
			deliveries := 0
			w.Before = func(c world.Call) error {
				if c.Function == "submit" && c.Service == "lambda" {
					deliveries++
				}
				return nil
			}
			w.Pass(5 * time.Hour)
			if deliveries > 0 {
				t.Errorf("%d deliveries, want none", deliveries)
			}
		})
	}
}

// One changed file starts at most MaxJobsPerDrop jobs. Further jobs are held, and
// start when the parameter is raised.
func TestMaxJobsPerDrop(t *testing.T) {
	for _, tt := range manyJobs {
		t.Run(tt.name, func(t *testing.T) {
			w := worldtest.New(t)
			setMaxJobs(w, 5)
			tt.drop(t, w, 12)
			w.Run(time.Hour)
			worldtest.WantCharges(t, w, 5)
			for i := range 12 {
				st := w.Status(fmt.Sprintf(tt.job, i))
				switch {
				case i < 5 && st.State != ledger.Succeeded:
					t.Errorf("job %d is %s: %s; want succeeded", i, st.State, st.Reason)
				case i >= 5 && (st.State != ledger.Held || st.Code != problem.TooManyJobs ||
					st.Reason != "one changed file asks for at least 12 jobs; it may start at most 5 (MaxJobsPerDrop)"):
					t.Errorf("job %d is %s, %s: %s; want held, %s, with both numbers", i, st.State, st.Code, st.Reason, problem.TooManyJobs)
				}
			}
			setMaxJobs(w, 12)
			w.Run(2 * time.Hour)
			if n := w.RunComfy.Charges(); n != 12 || len(w.Dead) > 0 {
				t.Errorf("after the parameter was raised: %d charges, want 12, and %d dead letters, want none", n, len(w.Dead))
			}
		})
	}
}

// A change that asks for too many jobs waits in one message. A delivery of this message makes
// no request while the limit is the same. After a day, the statuses say that the retries have
// ended.
func TestDeliveriesOfTooManyJobs(t *testing.T) {
	const voices, limit = 60, 5
	for _, tt := range manyJobs {
		t.Run(tt.name, func(t *testing.T) {
			w := worldtest.New(t)
			setMaxJobs(w, limit)
			tt.drop(t, w, voices)
			w.Pass(10 * time.Minute)
			requests, deliveries := 0, 0
			w.Before = func(c world.Call) error {
				if c.Function == "submit" && c.Service == "lambda" {
					deliveries++
				} else if c.Function == "submit" {
					requests++
				}
				return nil
			}
			w.Pass(5 * time.Hour)
			if requests > 0 || deliveries < 20 || deliveries > 30 {
				t.Errorf("%d requests in %d deliveries, want none in 20 to 30", requests, deliveries)
			}
			w.Pass(24 * time.Hour)
			if len(w.Dead) != 1 {
				t.Fatalf("%d dead letters, want 1: %s", len(w.Dead), w.Dead)
			}
			for i := limit; i < voices; i++ {
				st := w.Status(fmt.Sprintf(tt.job, i))
				if st.State != ledger.Held || st.Code != problem.TooManyJobs || !strings.Contains(st.Reason, "no longer retries") {
					t.Fatalf("job %d is %s, %s: %s; want held, %s, no longer retries", i, st.State, st.Code, st.Reason, problem.TooManyJobs)
				}
				if !strings.HasSuffix(st.Remedy, "or upload the audio of the job again.") {
					t.Fatalf("the remedy of job %d is %q, want one that ends with the upload of the audio only", i, st.Remedy)
				}
			}
			worldtest.WantCharges(t, w, limit)
			setMaxJobs(w, voices)
			w.RedriveDeadLetters()
			w.Pass(2 * time.Hour)
			worldtest.WantCharges(t, w, voices)
			if len(w.Dead) > 0 || len(w.Errors) > 0 {
				t.Errorf("%d dead letters, errors %s; want none", len(w.Dead), w.Errors)
			}
		})
	}
}

// Submit has replaced a message that waited for a higher MaxJobsPerDrop by one with "last". Then the limit
// was raised. At the last delivery of the new message, the held job's status says that the retries have ended.
func TestLastDeliveryAfterTheLimitIsRaised(t *testing.T) {
	clip, voice := sample.Files()
	w := worldtest.New(t)
	worldtest.Faulty(w, runcomfytest.CallSubmit, runcomfytest.FaultNamed(runcomfytest.CallSubmit, "429"), 48*time.Hour)
	w.Put("inbox/talk.de.wav", voice)
	w.Put("inbox/talk.mp4", clip)
	m := world.Message("")
	m.Body = `{"lipdrop": {"key": "inbox/talk.mp4", "subjects": [{"stem": "inbox/talk.de"}], "last": true}}`
	m.Attributes["ApproximateReceiveCount"] = "1000000"
	if _, err := w.Submit(m); err == nil {
		t.Error("no error, want one, so that the message becomes a dead letter")
	}
	if st := worldtest.WantStatus(t, w, "talk.de", ledger.Held, problem.Throttled); !strings.Contains(st.Reason, "no longer retries") {
		t.Errorf("reason %q, want one that says that lipdrop no longer retries", st.Reason)
	}
}

// MaxJobsPerDrop is raised when the message that waits for the higher limit is more than a
// day old. The held job then has all the retries of a new job.
func TestLimitIsRaisedAfterADay(t *testing.T) {
	clip, voice := sample.Files()
	w := worldtest.New(t)
	setMaxJobs(w, 1)
	w.Put("inbox/talk.01.wav", voice)
	w.Put("inbox/talk.02.wav", voice)
	w.Drop("inbox/talk.mp4", clip)
	w.Pass(25 * time.Hour)
	worldtest.WantCharges(t, w, 1)
	setMaxJobs(w, 2)
	worldtest.Faulty(w, runcomfytest.CallSubmit, runcomfytest.FaultNamed(runcomfytest.CallSubmit, "429 with Retry-After"), 0)
	worldtest.Rest(t, w)
	worldtest.WantCharges(t, w, 2)
	if len(w.Dead) > 0 {
		t.Errorf("%d dead letters, want none", len(w.Dead))
	}
}
