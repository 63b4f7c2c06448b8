package drop_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPresets(t *testing.T) {
	const (
		reacts = `preset.json = {"model": "sync/react-1"}`
		happy  = `preset.json = {"model": "sync/react-1", "input": {"emotion": "happy"}}`
	)
	testRows(t, []row{
		{
			says: "preset.json in a folder sets the model and the options of the pairs dropped in it",
			do:   []string{"ads/" + happy, "ads/talk.mp4", "ads/talk.wav"},
			want: []string{"ads/preset.json: accepted", "ads/talk: job of react, video_url=ads/talk.mp4, audio_url=ads/talk.wav, emotion=happy"},
		},
		{
			says: "a preset applies to the folders below its folder",
			do:   []string{happy, "ads/2026/talk.mp4", "ads/2026/talk.wav"},
			want: []string{"ads/2026/talk: job of react, video_url=ads/2026/talk.mp4, audio_url=ads/2026/talk.wav, emotion=happy", "preset.json: accepted"},
		},
		{
			says: "a preset does not apply to the folders beside or above its folder",
			do:   []string{"ads/de/" + happy, "ads/fr/a.mp4", "ads/fr/a.wav", "ads/b.mp4", "ads/b.wav"},
			want: []string{
				"ads/b: job of pro, video_url=ads/b.mp4, audio_url=ads/b.wav", "ads/de/preset.json: accepted",
				"ads/fr/a: job of pro, video_url=ads/fr/a.mp4, audio_url=ads/fr/a.wav",
			},
		},
		{
			says: "only the nearest preset applies",
			do:   []string{happy, "ads/" + reacts, "ads/talk.mp4", "ads/talk.wav"},
			want: []string{"ads/preset.json: accepted", "ads/talk: job of react, video_url=ads/talk.mp4, audio_url=ads/talk.wav", "preset.json: accepted"},
		},
		{
			says: "only the nearest preset applies, also in a folder whose name is empty",
			do:   []string{"a//" + happy, "a/" + reacts, "a//b.mp4", "a//b.wav"},
			want: []string{"a//b: job of react, video_url=a//b.mp4, audio_url=a//b.wav, emotion=happy", "a//preset.json: accepted", "a/preset.json: accepted"},
		},
		{
			says: "a preset does not apply to bundles",
			do: []string{
				happy, "cafe.job/" + happy, "cafe.job/talk.mp4", "cafe.job/voice.wav",
				`cafe.job/job.json = {"model": "sync/react-1", "input": {"video_url": "talk.mp4", "audio_url": "voice.wav"}}`,
			},
			want: []string{"cafe: job of react, video_url=cafe.job/talk.mp4, audio_url=cafe.job/voice.wav", "preset.json: accepted"},
		},
		{
			says: "a preset names no media",
			do: []string{
				`a/preset.json = {"model": "sync/react-1", "input": {"video_url": "talk.mp4"}}`,
				`b/preset.json = {"input": {"audio_url": "voice.wav"}}`,
			},
			want: []string{"a/preset.json: rejected, media_in_preset", "b/preset.json: rejected, media_in_preset"},
		},
		{
			says: "the options of a preset without a model are for the default model",
			do:   []string{`preset.json = {"input": {"sync_mode": "loop"}}`, "talk.mp4", "talk.wav", "face.png", "face.wav"},
			want: []string{
				"face: rejected, invalid_preset",
				"preset.json: accepted",
				"talk: job of pro, video_url=talk.mp4, audio_url=talk.wav, sync_mode=loop",
			},
		},
		{
			says: "a preset without a model may have options that only the default model of images accepts",
			do:   []string{`preset.json = {"input": {"guidance_scale": 5}}`, "face.png", "face.wav"},
			want: []string{
				"face: job of avatar, image_url=face.png, audio_url=face.wav, guidance_scale=5, num_clips=1, prompt=A person speaking naturally.",
				"preset.json: accepted",
			},
		},
		{
			says: "A preset whose model does not accept a pair's media rejects that pair",
			do:   []string{"preset.json = {\"model\": \"community/live-avatar\"}", "talk.mp4", "talk.wav", "face.png", "face.wav"},
			want: []string{
				"face: job of avatar, image_url=face.png, audio_url=face.wav, num_clips=1, prompt=A person speaking naturally.",
				"preset.json: accepted",
				"talk: rejected, model_takes_other_media",
			},
		},
		{
			says: "A preset whose model accepts no pair is rejected",
			do:   []string{"preset.json = {\"model\": \"happyhorse/happyhorse-1.0/reference-to-video\"}", "talk.mp4", "talk.wav"},
			want: []string{"preset.json: rejected, model_takes_other_media", "talk: rejected, model_takes_other_media"},
		},
		{
			says: "a pair that is assessed after the preset was dropped uses the preset, even if the pair is older",
			do:   []string{"talk.mp4", "talk.wav", happy},
			want: []string{"preset.json: accepted", "talk: job of react, video_url=talk.mp4, audio_url=talk.wav, emotion=happy"},
		},
		{
			says: "preset.json may be written with a capital, or in capitals",
			do:   []string{`a/Preset.JSON = {"model": "sync/react-1"}`, "a/b.mp4", "a/b.wav", `c/PRESET.json = {"model": "sync/react-1"}`, "c/d.mp4", "c/d.wav"},
			want: []string{
				"a/Preset.JSON: accepted", "a/b: job of react, video_url=a/b.mp4, audio_url=a/b.wav",
				"c/PRESET.json: accepted", "c/d: job of react, video_url=c/d.mp4, audio_url=c/d.wav",
			},
		},
		{
			says: "preset.json in another mixture of capitals and small letters is rejected",
			do:   []string{`preSET.json = {}`},
			want: []string{"preSET.json: rejected, invalid_json"},
		},
		{
			says: "Two candidates for one role: two presets that differ only in case",
			do:   []string{`Preset.json = {}`, reacts, "talk.mp4", "talk.wav"},
			want: []string{"Preset.json: rejected, ambiguous", "preset.json: rejected, ambiguous", "talk: rejected, ambiguous"},
		},
		{
			says: "after one of two presets is deleted, the other applies",
			do:   []string{`Preset.json = {}`, `PRESET.JSON = {}`, "- PRESET.JSON"},
			want: []string{"PRESET.JSON: withdrawn, files_gone", "Preset.json: accepted"},
		},
		{
			says: "a wrong preset.json is rejected",
			do: []string{
				`a/preset.json = {"model": "sync/react"}`, `b/preset.json = {"model": "sync/react-1", "input": {"emotion": "joyful"}}`,
				`c/preset.json = {"models": "sync/react-1"}`, `d/preset.json = {,}`, `e/preset.json = `, `f/preset.json = null`,
			},
			want: []string{
				"a/preset.json: rejected, unknown_model", "b/preset.json: rejected, bad_value", "c/preset.json: rejected, unknown_member",
				"d/preset.json: rejected, invalid_json", "e/preset.json: rejected, empty_file", "f/preset.json: rejected, invalid_json",
			},
		},
		{
			says: "a pair with a wrong preset is rejected, not submitted without a preset",
			do:   []string{`preset.json = {"model": "sync/react"}`, "a.mp4", "a.wav", `b/preset.json = {,}`, "b/c.mp4", "b/c.wav", "b/d.mp4 = ", "b/d.wav"},
			want: []string{
				"a: rejected, invalid_preset", "b/c: rejected, invalid_preset", "b/d: rejected, invalid_preset, empty_file",
				"b/preset.json: rejected, invalid_json", "preset.json: rejected, unknown_model",
			},
		},
	})
}

// Only the presets of a pair's eleven nearest folders and of inbox/ apply. If the pair is
// in more folders, a warning says so.
func TestPresetsOfDeepFolders(t *testing.T) {
	const set = ` = {"model": "sync/react-1"}`
	tests := []struct {
		name     string
		folder   string
		preset   string // the folder of a preset, or "-" for no preset
		model    string
		warnings int
	}{
		{"no preset", strings.Repeat("a/", 100), "-", pro, 1},
		{"in inbox/", strings.Repeat("a/", 100), "", react, 1},
		{"in the pair's own folder", strings.Repeat("a/", 100), strings.Repeat("a/", 100), react, 1},
		{"in the eleventh nearest folder", strings.Repeat("a/", 100), strings.Repeat("a/", 90), react, 1},
		{"in the twelfth nearest folder", strings.Repeat("a/", 100), strings.Repeat("a/", 89), pro, 1},
		{"in the outermost of eleven folders", strings.Repeat("a/", 11), "a/", react, 0},
		{"decomposed letters", strings.Repeat("u\u0308/", 60), strings.Repeat("u\u0308/", 55), react, 1},
		{"decomposed letters, and a preset in a composed folder", "b/" + strings.Repeat("u\u0308/", 3), "b/\u00fc/", react, 0},
		{"decomposed and composed letters", strings.Repeat("u\u0308\u00fc/", 30), strings.Repeat("u\u0308\u00fc/", 28), react, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newInbox(t)
			if tt.preset != "-" {
				b.step(t, tt.preset+"preset.json"+set)
			}
			b.step(t, tt.folder+"talk.mp4")
			ready, problems := b.prepared(t, b.step(t, tt.folder+"talk.wav"))
			if problems != nil || ready.Model != tt.model || len(ready.Warnings) != tt.warnings {
				t.Errorf("model %s, problems %v, warnings %q; want %s, no problems and %d warnings", ready.Model, problems, ready.Warnings, tt.model, tt.warnings)
			}
		})
	}
}

// The command checks drops with the settings of a stack. A newer stack may have a default model
// that the command does not know. Options are not checked against that model.
func TestPresetBesideAnUnknownDefault(t *testing.T) {
	b := newInbox(t)
	b.DefaultVideoModel = "sync/react-9"
	key := b.step(t, `preset.json = {"input": {"prompt": "Hi"}}`)
	if diff := cmp.Diff([]string{"preset.json: accepted"}, b.lines(t, []string{key})); diff != "" {
		t.Errorf("the finding (-want +got):\n%s", diff)
	}
}
