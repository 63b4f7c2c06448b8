package catalog_test

import (
	"encoding/json"
	"maps"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/media"
	"github.com/lipdrop/lipdrop/internal/rapidtest"
)

func TestPair(t *testing.T) {
	for _, tt := range []struct {
		id            string
		kind          media.Kind
		visual, audio string // "" if the model accepts no such pair
	}{
		{react1, media.Video, "video_url", "audio_url"},
		{react1, media.Image, "", ""},
		{lipsync, media.Video, "video_url", "audio_url"},
		{lipsync, media.Image, "", ""},
		{liveAvatar, media.Image, "image_url", "audio_url"},
		{liveAvatar, media.Video, "", ""},
		{liveAvatar, media.Audio, "", ""},
		{happyhorse, media.Image, "", ""},
		{happyhorse, media.Video, "", ""},
		{talker, media.Image, "portrait", "speech"},
	} {
		visual, audio, ok := model(t, tt.id).Pair(tt.kind)
		if visual != tt.visual || audio != tt.audio || ok != (tt.visual != "") {
			t.Errorf("%s with %s: %q, %q and %t, want %q, %q and %t", tt.id, tt.kind, visual, audio, ok, tt.visual, tt.audio, tt.visual != "")
		}
	}
}

// The default model for videos must accept a pair of a video and an audio file. The same is true for
// images. The error names the models to choose from.
func TestCheckPair(t *testing.T) {
	models, err := catalog.Default()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, id string
		kind     media.Kind
		want     string // "" if the model is accepted
	}{
		{"a model for videos", react1, media.Video, ""},
		{"a model for images", liveAvatar, media.Image, ""},
		{"a model for images, as the default for videos", liveAvatar, media.Video, "community/live-avatar does not accept a pair of a video and an audio file; choose sync/react-1 or sync/sync/lipsync/v2/pro"},
		{"a model that accepts no pair", happyhorse, media.Image, happyhorse + " does not accept a pair of an image and an audio file; choose community/live-avatar"},
		{"an unknown model", "sync/react", media.Video, `there is no model "sync/react"; choose sync/react-1 or sync/sync/lipsync/v2/pro`},
		{"no model", "", media.Image, `there is no model ""; choose community/live-avatar`},
	} {
		got := ""
		if err := models.CheckPair(tt.id, tt.kind); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// talk returns a voice of the exact length d.
func talk(d time.Duration) media.Info {
	return media.Info{Name: "talk.wav", Kind: media.Audio, Format: "wav", Bytes: mb, Audio: &media.Track{Length: media.Fact(d)}}
}

func TestPairInput(t *testing.T) {
	const prompt = "A person speaking naturally."
	uncertain := func(estimate, least time.Duration) media.Info {
		return media.Info{Name: "talk.mp3", Kind: media.Audio, Audio: &media.Track{Length: media.Length{D: estimate, Least: least}}}
	}
	tests := []struct {
		name     string
		id       string
		options  map[string]any
		audio    media.Info
		want     map[string]any
		warnings []string
	}{
		{name: "nothing is added for a video model", id: lipsync, audio: talk(time.Minute), want: map[string]any{}},
		{name: "options stay as they are", id: react1, options: map[string]any{"emotion": "sad"}, audio: talk(time.Minute),
			want: map[string]any{"emotion": "sad"}},

		{name: "a prompt, and three clips for 9 s", id: liveAvatar, audio: talk(9 * time.Second),
			want: map[string]any{"prompt": prompt, "num_clips": 3}},
		{name: "codec padding needs no further clip", id: liveAvatar, audio: talk(9*time.Second + 50*time.Millisecond),
			want: map[string]any{"prompt": prompt, "num_clips": 3}},
		{name: "a little more than codec padding needs one further clip", id: liveAvatar, audio: talk(9*time.Second + 50*time.Millisecond + time.Nanosecond),
			want: map[string]any{"prompt": prompt, "num_clips": 4}},
		{name: "clips for the least length, not for the estimate", id: liveAvatar, audio: uncertain(107*time.Second, 9*time.Second),
			want:     map[string]any{"prompt": prompt, "num_clips": 3},
			warnings: []string{"talk.mp3 is about 107.0 s long, by an estimate, and at least 9.0 s; num_clips is 3, which makes an output of about 9.0 s; set num_clips if the voice is longer than the output"}},
		{name: "an estimate without a least length", id: liveAvatar, audio: uncertain(107*time.Second, 0),
			want:     map[string]any{"prompt": prompt},
			warnings: []string{"the length of talk.mp3 is only an estimate, about 107.0 s, so RunComfy's default for num_clips applies; set num_clips if the voice is longer than the output"}},
		{name: "a least length without an estimate", id: liveAvatar, audio: uncertain(0, 9*time.Second),
			want:     map[string]any{"prompt": prompt, "num_clips": 3},
			warnings: []string{"talk.mp3 is at least 9.0 s long; num_clips is 3, which makes an output of about 9.0 s; set num_clips if the voice is longer than the output"}},
		{name: "a single word", id: liveAvatar, audio: talk(300 * time.Millisecond),
			want: map[string]any{"prompt": prompt, "num_clips": 1}},
		{name: "audio of length zero", id: liveAvatar, audio: talk(0),
			want: map[string]any{"prompt": prompt, "num_clips": 1}},
		{name: "the user's prompt and clips", id: liveAvatar, options: map[string]any{"prompt": "Shouting.", "num_clips": json.Number("2")}, audio: talk(time.Hour),
			want: map[string]any{"prompt": "Shouting.", "num_clips": json.Number("2")}},
		{name: "short clips", id: liveAvatar, options: map[string]any{"frames_per_clip": 16.0}, audio: talk(9 * time.Second),
			want: map[string]any{"prompt": prompt, "frames_per_clip": 16.0, "num_clips": 9}},
		{name: "long clips", id: liveAvatar, options: map[string]any{"frames_per_clip": json.Number("80")}, audio: talk(9 * time.Second),
			want: map[string]any{"prompt": prompt, "frames_per_clip": json.Number("80"), "num_clips": 2}},
		{name: "frames that are not a number", id: liveAvatar, options: map[string]any{"frames_per_clip": "many"}, audio: talk(9 * time.Second),
			want: map[string]any{"prompt": prompt, "frames_per_clip": "many", "num_clips": 3}},
		{name: "frames that are out of range", id: liveAvatar, options: map[string]any{"frames_per_clip": json.Number("-1e999")}, audio: talk(9 * time.Second),
			want: map[string]any{"prompt": prompt, "frames_per_clip": json.Number("-1e999"), "num_clips": 3}},
		{name: "a negative number of frames", id: liveAvatar, options: map[string]any{"frames_per_clip": -16}, audio: talk(9 * time.Second),
			want: map[string]any{"prompt": prompt, "frames_per_clip": -16, "num_clips": 3}},
		{name: "zero frames", id: liveAvatar, options: map[string]any{"frames_per_clip": 0}, audio: talk(9 * time.Second),
			want: map[string]any{"prompt": prompt, "frames_per_clip": 0, "num_clips": 3}},

		{name: "as long as 100 clips cover", id: liveAvatar, audio: talk(300 * time.Second),
			want: map[string]any{"prompt": prompt, "num_clips": 100}},
		{name: "longer than 100 clips cover", id: liveAvatar, audio: talk(412 * time.Second),
			want: map[string]any{"prompt": prompt, "num_clips": 100}},
		{name: "longer than 100 short clips cover", id: liveAvatar, options: map[string]any{"frames_per_clip": 16}, audio: talk(2 * time.Minute),
			want: map[string]any{"prompt": prompt, "frames_per_clip": 16, "num_clips": 100}},
		{name: "an absurd length", id: liveAvatar, audio: talk(1<<63 - 1),
			want: map[string]any{"prompt": prompt, "num_clips": 100}},
		{name: "an unknown length", id: liveAvatar, audio: media.Info{Name: "talk.wav", Kind: media.Audio},
			want:     map[string]any{"prompt": prompt},
			warnings: []string{"the length of talk.wav is not known, so RunComfy's default for num_clips applies; set num_clips if the voice is longer than the output"}},

		{name: "the model in testdata", id: talker, options: map[string]any{"frames": 20}, audio: talk(1500 * time.Millisecond),
			want: map[string]any{"mood": "calm", "frames": 20, "pieces": 2}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := maps.Clone(tt.options)
			got, warnings := model(t, tt.id).PairInput(tt.options, tt.audio)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("input (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.warnings, warnings); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(before, tt.options); diff != "" {
				t.Errorf("PairInput changed its options (-before +after):\n%s", diff)
			}
		})
	}
}

// A pair's input is valid, whatever the length of its audio. Its clips cover the audio
// except for codec padding, with no clip too many. Audio that needs more than 100 clips
// gets 100.
func TestPairInputIsValid(t *testing.T) {
	m := model(t, liveAvatar)
	visual, audio, _ := m.Pair(media.Image)
	rapidtest.Check(t, func(t *rapid.T) {
		frames := 4 * rapid.IntRange(4, 20).Draw(t, "frames / 4")
		length := time.Duration(rapid.Int64Range(0, int64(10*time.Minute)).Draw(t, "length"))
		input, warnings := m.PairInput(map[string]any{"frames_per_clip": frames}, talk(length))
		input[visual], input[audio] = "anna.png", "talk.wav"
		if problems := m.Validate(input); len(problems) > 0 {
			t.Fatalf("problems %+v, want none", problems)
		}
		n := input["num_clips"].(int)
		each := time.Second * time.Duration(frames) / 16 // live-avatar makes 16 frames per second
		covered := time.Duration(n) * each
		switch {
		case covered-each+50*time.Millisecond >= length && n > 1:
			t.Errorf("%d clips of %s for %s, want fewer", n, each, length)
		case covered+50*time.Millisecond < length && n < 100:
			t.Errorf("%d clips of %s for %s, want more", n, each, length)
		case len(warnings) > 0:
			t.Errorf("%d clips of %s for %s: warnings %q, want none", n, each, length, warnings)
		}
	})
}
