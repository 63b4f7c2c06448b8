package catalog_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/media"
	"github.com/lipdrop/lipdrop/internal/problem"
)

// lengths describes talk.mp4 and talk.wav with the given lengths in seconds. A length
// below 0 is not known.
func lengths(video, audio float64) []media.Info {
	track := func(seconds float64) *media.Track {
		if seconds < 0 {
			return &media.Track{}
		}
		return &media.Track{Length: media.Fact(time.Duration(seconds * float64(time.Second)))}
	}
	return []media.Info{{Name: "talk.mp4", Kind: media.Video, Video: track(video)}, {Name: "talk.wav", Kind: media.Audio, Audio: track(audio)}}
}

func TestExpectLength(t *testing.T) {
	clips := func(n any) map[string]any { return map[string]any{"num_clips": n} }
	estimated := lengths(10, 6)
	estimated[1].Audio.Length.Exact = false
	tests := []struct {
		name    string
		id      string
		input   map[string]any
		given   []media.Info
		want    float64 // seconds; 0 if not known
		within  float64
		warning string
		dropped string // the remedy, if a part of an input is dropped
	}{
		{name: "cut_off is the default of lipsync-2-pro", id: lipsync, given: lengths(6, 10), want: 6,
			warning: "talk.wav is 4.0 s longer than talk.mp4: with sync_mode cut_off its last 4.0 s are dropped; loop, bounce or remap keep them",
			dropped: "Set sync_mode to loop, bounce or remap, or shorten talk.wav by 4.0 s."},
		{name: "cut_off, and the video is longer", id: lipsync, input: map[string]any{"sync_mode": "cut_off"}, given: lengths(10, 6), want: 6,
			warning: "talk.mp4 is 4.0 s longer than talk.wav: with sync_mode cut_off its last 4.0 s are dropped; silence keeps them",
			dropped: "Set sync_mode to silence, or shorten talk.mp4 by 4.0 s."},
		{name: "bounce is the default of react-1: the video goes back and forth", id: react1, given: lengths(6, 10), want: 10},
		{name: "bounce cuts the video to the voice", id: react1, given: lengths(10, 6), want: 6},
		{name: "loop", id: lipsync, input: map[string]any{"sync_mode": "loop"}, given: lengths(6, 10), want: 10},
		{name: "remap slows the video down", id: lipsync, input: map[string]any{"sync_mode": "remap"}, given: lengths(6, 10), want: 10,
			warning: "talk.wav is 4.0 s longer than talk.mp4: with sync_mode remap, talk.mp4 plays at 60 % of its speed; loop or bounce keep its speed"},
		{name: "remap speeds the video up", id: react1, input: map[string]any{"lipsync_mode": "remap"}, given: lengths(10, 6), want: 6,
			warning: "talk.mp4 is 4.0 s longer than talk.wav: with lipsync_mode remap, talk.mp4 plays at 167 % of its speed; silence keeps its speed"},
		{name: "silence, and the video is longer", id: lipsync, input: map[string]any{"sync_mode": "silence"}, given: lengths(10, 6), want: 10},
		{name: "silence, and the audio is longer", id: lipsync, input: map[string]any{"sync_mode": "silence"}, given: lengths(6, 10), want: 10},
		{name: "half a second is a difference", id: lipsync, given: lengths(6, 6.5), want: 6,
			warning: "talk.wav is 0.5 s longer than talk.mp4: with sync_mode cut_off its last 0.5 s are dropped; loop, bounce or remap keep them",
			dropped: "Set sync_mode to loop, bounce or remap, or shorten talk.wav by 0.5 s."},
		{name: "less than half a second adds no warning", id: lipsync, given: lengths(6.499, 6), want: 6},
		{name: "the length of the video is not known", id: lipsync, given: lengths(-1, 6)},
		{name: "the length of the audio is an estimate", id: lipsync, given: estimated},
		{name: "the audio is a URL", id: lipsync, given: lengths(6, 10)[:1]},

		{name: "clips of the usual length", id: liveAvatar, input: clips(3), given: lengths(-1, 9)[1:], want: 9, within: 3},
		{name: "clips of another length", id: liveAvatar, input: map[string]any{"num_clips": json.Number("3"), "frames_per_clip": json.Number("80")},
			given: lengths(-1, 12)[1:], want: 15, within: 5},
		{name: "the clips that RunComfy makes by default", id: liveAvatar, given: lengths(-1, 29)[1:], want: 30, within: 3},
		{name: "clips for an audio file of unknown length", id: liveAvatar, input: clips(2), want: 6, within: 3},
		{name: "too few clips", id: liveAvatar, input: clips(2), given: lengths(-1, 9)[1:], want: 6, within: 3,
			warning: "talk.wav is 3.0 s longer than the 6.0 s of num_clips 2: its last 3.0 s are dropped; num_clips 3 keeps them",
			dropped: "Set num_clips to 3, or shorten talk.wav by 3.0 s."},
		{name: "an audio file that is longer than the maximum number of clips", id: liveAvatar, input: clips(100), given: lengths(-1, 412)[1:], want: 300, within: 3,
			warning: "talk.wav is 112.0 s longer than the 300.0 s of num_clips 100: its last 112.0 s are dropped; community/live-avatar accepts at most num_clips 100",
			dropped: "Shorten talk.wav to at most 300 s."},
		{name: "too many clips", id: liveAvatar, given: lengths(-1, 4)[1:], want: 30, within: 3,
			warning: "talk.wav is 4.0 s long, and num_clips 10 makes about 30.0 s; num_clips 2 is enough"},

		{name: "happyhorse's default", id: happyhorse, want: 5},
		{name: "happyhorse's duration", id: happyhorse, input: map[string]any{"duration": json.Number("12")}, want: 12},
		{name: "the model in testdata", id: talker, input: map[string]any{"pieces": 4.0, "frames": 20}, given: lengths(-1, 3.5)[1:], want: 4, within: 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := model(t, tt.id).ExpectLength(tt.input, tt.given)
			if got.Length.Seconds() != tt.want || got.Within.Seconds() != tt.within || got.Warning != tt.warning {
				t.Errorf("got %s within %s, want %g s within %g s\nwarning %q\nwant    %q", got.Length, got.Within, tt.want, tt.within, got.Warning, tt.warning)
			}
			var remedy string
			if got.Dropped != nil {
				remedy = got.Dropped.Remedy
				if got.Dropped.Code != problem.LengthsDiffer || !strings.HasPrefix(got.Warning, got.Dropped.Reason) {
					t.Errorf("problem %+v, want the code %s and the beginning of the warning as the reason", got.Dropped, problem.LengthsDiffer)
				}
			}
			if diff := cmp.Diff(tt.dropped, remedy); diff != "" {
				t.Errorf("remedy (-want +got):\n%s", diff)
			}
		})
	}
}

// For each model, the catalog knows what decides the length of an output.
func TestEveryModelHasALength(t *testing.T) {
	c, err := catalog.Default()
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range c.IDs() {
		if got := model(t, id).ExpectLength(nil, lengths(6, 6)); got.Length == 0 {
			t.Errorf("the length of an output of %s is not known, want a length", id)
		}
	}
}
