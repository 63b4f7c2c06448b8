package drop_test

import (
	"cmp"
	"maps"
	"path/filepath"
	"testing"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/golden"
)

// TestBody compares what is sent to RunComfy with golden files, which have a fixed URL in
// place of each presigned URL. An option is absent if the user did not set it, although
// RunComfy's schemas name defaults. The exceptions are the options that lipdrop sets: prompt
// and num_clips of an avatar pair.
func TestBody(t *testing.T) {
	bundle := func(model, input string) string {
		return `x.job/job.json = {"model": "` + model + `", "input": ` + input + `}`
	}
	const (
		video = `"video_url": "v.mp4", "audio_url": "a.wav"`
		image = `"image_url": "i.png", "audio_url": "a.wav"`
	)
	tests := []struct {
		name  string // of the golden file
		model string
		do    []string
	}{
		{"react-1-pair", react, []string{`preset.json = {"model": "` + react + `"}`, "a.mp4", "a.wav"}},
		{"react-1-bundle", react, []string{bundle(react, "{"+video+"}")}},
		{"react-1-every-option", react, []string{bundle(react, `{`+video+`, "emotion": "surprised", "model_mode": "head", "lipsync_mode": "remap", "temperature": 0.70}`)}},
		{"lipsync-2-pro-pair", pro, []string{"a.mp4", "a.wav"}},
		{"lipsync-2-pro-bundle", pro, []string{bundle(pro, "{"+video+"}")}},
		{"lipsync-2-pro-every-option", pro, []string{bundle(pro, `{`+video+`, "sync_mode": "loop"}`)}},
		{"live-avatar-pair", avatar, []string{"a.png", "a.wav"}},
		{"live-avatar-bundle", avatar, []string{bundle(avatar, `{`+image+`, "prompt": "Hi <you> & \"me\""}`)}},
		{"live-avatar-every-option", avatar, []string{
			bundle(avatar, `{`+image+`, "prompt": "Hi", "num_clips": 2, "frames_per_clip": 80, "guidance_scale": 10, "seed": -9007199254740993}`),
		}},
		{"happyhorse-bundle", horse, []string{bundle(horse, `{"image_url_1": "i.png", "prompt": "character1 speaks"}`)}},
		{"happyhorse-every-option", horse, []string{
			bundle(horse, `{"image_url_1": "i.png", "image_url_2": "i.png", "image_url_3": "i.png",
				"image_url_4": "i.png", "image_url_5": "i.png", "image_url_6": "i.png", "image_url_7": "i.png", "image_url_8": "i.png",
				"image_url_9": "https://example.com/nine.webp?sig=s3cret", "prompt": "character1 speaks", "aspect_ratio": "9:16", "resolution": "720P",
				"duration": 15, "seed": 2147483647, "watermark": true}`),
		}},
	}
	complete := map[string]bool{} // models with every option set
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newInbox(t)
			b.step(t, "x.job/v.mp4", "x.job/a.wav", "x.job/i.png")
			ready, problems := b.prepared(t, b.step(t, tt.do...))
			if problems != nil {
				t.Fatalf("problems %v, want none", problems)
			}
			body := maps.Clone(ready.Input)
			for _, used := range ready.Media {
				body[used.Property] = cmp.Or(used.URL, "https://presigned.example/"+used.File.Key)
			}
			golden.Compare(t, filepath.Join("testdata/body", tt.name+".json"), string(bucket.JSON(body, "  ")))
			if ready.Model != tt.model {
				t.Errorf("model %s, want %s", ready.Model, tt.model)
			}
			model, _ := b.Catalog.Model(tt.model)
			if len(body) == len(model.Options())+len(model.MediaProperties()) {
				complete[tt.model] = true
			}
		})
	}
	for _, id := range newInbox(t).Catalog.IDs() {
		if !complete[id] {
			t.Errorf("no golden body of %s has every option set, want one", id)
		}
	}
}
