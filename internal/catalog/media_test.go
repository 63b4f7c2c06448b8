package catalog_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/media"
	"github.com/lipdrop/lipdrop/internal/problem"
)

const mb = 1 << 20

func TestCheckMedia(t *testing.T) {
	video := func(d time.Duration, bytes int64) media.Info {
		return media.Info{Name: "talk.mp4", Kind: media.Video, Format: "mp4", Bytes: bytes, Video: &media.Track{Length: media.Fact(d)}, Width: 320, Height: 240}
	}
	audio := func(format string, d time.Duration) media.Info {
		return media.Info{Name: "talk." + format, Kind: media.Audio, Format: format, Bytes: mb, Audio: &media.Track{Length: media.Fact(d)}}
	}
	image := func(format string, width, height int, bytes int64) media.Info {
		return media.Info{Name: "anna." + format, Kind: media.Image, Format: format, Bytes: bytes, Width: width, Height: height}
	}
	film := func(picture, sound media.Length) media.Info {
		return media.Info{Name: "talk.mp4", Kind: media.Video, Format: "mp4", Video: &media.Track{Length: picture}, Audio: &media.Track{Length: sound}}
	}
	estimate := func(d time.Duration) media.Length { return media.Length{D: d, Least: time.Second} } // the file may be as short as a second
	tests := []struct {
		name         string
		id, property string
		facts        media.Info
		code         problem.Code
		reason       string
		remedy       string
		warning      string
	}{
		{name: "a video as long as the model accepts", id: react1, property: "video_url", facts: video(15*time.Second, mb)},
		{name: "a video with codec padding", id: react1, property: "video_url", facts: video(15050*time.Millisecond, mb)},
		{name: "a video with more than codec padding", id: react1, property: "video_url", facts: video(15051*time.Millisecond, mb),
			code: problem.TooLong, reason: "talk.mp4 is 15.1 s long; sync/react-1 accepts at most 15 s", remedy: "Shorten talk.mp4 to at most 15 s."},
		{name: "a long audio", id: react1, property: "audio_url", facts: audio("mp3", 2*time.Minute),
			code: problem.TooLong, reason: "talk.mp3 is 120.0 s long; sync/react-1 accepts at most 15 s", remedy: "Shorten talk.mp3 to at most 15 s."},
		{name: "an audio file of unknown length", id: react1, property: "audio_url",
			facts:   media.Info{Name: "talk.ogg", Kind: media.Audio, Format: "ogg", Bytes: mb, Audio: &media.Track{}},
			warning: "the length of talk.ogg is not known; sync/react-1 accepts at most 15 s"},
		{name: "a film whose sound is too long", id: react1, property: "video_url", facts: film(media.Fact(14*time.Second), media.Fact(16*time.Second)),
			code: problem.TooLong, reason: "the sound of talk.mp4 is 16.0 s long; sync/react-1 accepts at most 15 s", remedy: "Shorten talk.mp4 to at most 15 s."},
		{name: "a film whose picture is too long", id: react1, property: "video_url", facts: film(media.Fact(16*time.Second), media.Fact(14*time.Second)),
			code: problem.TooLong, reason: "the picture of talk.mp4 is 16.0 s long; sync/react-1 accepts at most 15 s", remedy: "Shorten talk.mp4 to at most 15 s."},
		{name: "a film whose picture and sound are too long", id: react1, property: "video_url", facts: film(media.Fact(16*time.Second), media.Fact(17*time.Second)),
			code: problem.TooLong, reason: "talk.mp4 is 16.0 s long; sync/react-1 accepts at most 15 s", remedy: "Shorten talk.mp4 to at most 15 s."},
		{name: "an exact length and an estimate, both too long", id: react1, property: "video_url", facts: film(estimate(16*time.Second), media.Fact(17*time.Second)),
			code: problem.TooLong, reason: "the sound of talk.mp4 is 17.0 s long; sync/react-1 accepts at most 15 s", remedy: "Shorten talk.mp4 to at most 15 s."},
		{name: "an estimate that is too long, and an exact length that is not", id: react1, property: "video_url", facts: film(estimate(16*time.Second), media.Fact(14*time.Second)),
			warning: "the picture of talk.mp4 is about 16.0 s long, by an estimate; sync/react-1 accepts at most 15 s"},
		{name: "an audio file whose cover picture is a long video track", id: react1, property: "audio_url",
			facts: media.Info{Name: "talk.m4a", Kind: media.Audio, Format: "m4a", Video: &media.Track{Length: media.Fact(time.Hour)}, Audio: &media.Track{Length: media.Fact(time.Second)}}},
		{name: "an audio file for a video", id: react1, property: "video_url", facts: audio("wav", time.Hour),
			code: problem.WrongKind, reason: "talk.wav is an audio file; video_url of sync/react-1 accepts a video", remedy: "Use a video for video_url."},
		{name: "an image for an audio file", id: liveAvatar, property: "audio_url", facts: image("png", 800, 800, mb),
			code: problem.WrongKind, reason: "anna.png is an image; audio_url of community/live-avatar accepts an audio file", remedy: "Use an audio file for audio_url."},
		{name: "a text for a video", id: lipsync, property: "video_url", facts: media.Info{Name: "talk.txt"},
			code: problem.WrongKind, reason: "talk.txt is not a media file; video_url of sync/sync/lipsync/v2/pro accepts a video", remedy: "Use a video for video_url."},
		{name: "a long video for a model that has no limit", id: lipsync, property: "video_url", facts: video(time.Hour, 100*mb)},
		{name: "a video that is larger than recommended", id: lipsync, property: "video_url", facts: video(time.Minute, 100*mb+1),
			warning: "talk.mp4 is 100.1 MB; RunComfy recommends at most 100 MB for a video"},
		{name: "a video that is larger than recommended, and too long", id: react1, property: "video_url", facts: video(time.Minute, 120*mb),
			code: problem.TooLong, reason: "talk.mp4 is 60.0 s long; sync/react-1 accepts at most 15 s", remedy: "Shorten talk.mp4 to at most 15 s.",
			warning: "talk.mp4 is 120 MB; RunComfy recommends at most 100 MB for a video"},
		{name: "an audio file has no recommended size", id: lipsync, property: "audio_url",
			facts: media.Info{Name: "talk.wav", Kind: media.Audio, Format: "wav", Bytes: 900 * mb}},

		{name: "an image of the recommended size", id: liveAvatar, property: "image_url", facts: image("webp", 64, 64, 50*mb)},
		{name: "an image that is larger than recommended", id: liveAvatar, property: "image_url", facts: image("webp", 64, 64, 50*mb+1),
			warning: "anna.webp is 50.1 MB; RunComfy recommends at most 50 MB for an image"},
		{name: "WAV for live-avatar", id: liveAvatar, property: "audio_url", facts: audio("wav", time.Hour)},
		{name: "MP3 for live-avatar", id: liveAvatar, property: "audio_url", facts: audio("mp3", time.Hour)},
		{name: "M4A for live-avatar", id: liveAvatar, property: "audio_url", facts: audio("m4a", time.Second),
			code: problem.WrongFormat, reason: "talk.m4a is M4A; community/live-avatar accepts WAV or MP3", remedy: "Convert talk.m4a to WAV."},
		{name: "an unknown format for live-avatar", id: liveAvatar, property: "audio_url",
			facts:   media.Info{Name: "talk.wav", Kind: media.Audio, Bytes: mb},
			warning: "the format of talk.wav is not known; community/live-avatar accepts WAV or MP3"},

		{name: "JPEG for happyhorse", id: happyhorse, property: "image_url_1", facts: image("jpeg", 400, 3000, mb)},
		{name: "PNG for happyhorse", id: happyhorse, property: "image_url_5", facts: image("png", 3000, 400, mb)},
		{name: "WEBP for happyhorse", id: happyhorse, property: "image_url_9", facts: image("webp", 400, 400, 10*mb)},
		{name: "GIF for happyhorse", id: happyhorse, property: "image_url_9", facts: image("gif", 400, 400, mb),
			code: problem.WrongFormat, reason: "anna.gif is GIF; happyhorse/happyhorse-1.0/reference-to-video accepts JPEG, PNG or WEBP", remedy: "Convert anna.gif to JPEG."},
		{name: "a narrow image for happyhorse", id: happyhorse, property: "image_url_2", facts: image("png", 399, 3000, mb),
			code: problem.TooSmall, reason: "anna.png is 399 × 3000 pixels; happyhorse/happyhorse-1.0/reference-to-video accepts images whose short side is at least 400 pixels", remedy: "Enlarge anna.png to a short side of at least 400 pixels."},
		{name: "a low image for happyhorse", id: happyhorse, property: "image_url_2", facts: image("png", 3000, 399, mb),
			code: problem.TooSmall, reason: "anna.png is 3000 × 399 pixels; happyhorse/happyhorse-1.0/reference-to-video accepts images whose short side is at least 400 pixels", remedy: "Enlarge anna.png to a short side of at least 400 pixels."},
		{name: "an image of unknown size", id: happyhorse, property: "image_url_1", facts: image("png", 0, 0, mb),
			warning: "the size in pixels of anna.png is not known; happyhorse/happyhorse-1.0/reference-to-video accepts images whose short side is at least 400 pixels"},
		{name: "a large image for happyhorse", id: happyhorse, property: "image_url_1", facts: image("png", 800, 800, 10*mb+1),
			code: problem.TooLarge, reason: "anna.png is 10.1 MB; happyhorse/happyhorse-1.0/reference-to-video accepts at most 10 MB", remedy: "Compress anna.png to at most 10 MB."},
		{name: "an image above both the limit of happyhorse and the recommended size", id: happyhorse, property: "image_url_1", facts: image("png", 800, 800, 60*mb),
			code: problem.TooLarge, reason: "anna.png is 60 MB; happyhorse/happyhorse-1.0/reference-to-video accepts at most 10 MB", remedy: "Compress anna.png to at most 10 MB."},

		{name: "an image within the model's limit, but larger than recommended", id: talker, property: "portrait", facts: image("png", 800, 800, 60*mb),
			warning: "anna.png is 60 MB; RunComfy recommends at most 50 MB for an image"},
		{name: "an audio file that is too long for the model in testdata", id: talker, property: "speech", facts: audio("mp3", 91*time.Second),
			code: problem.TooLong, reason: "talk.mp3 is 91.0 s long; acme/talker-2.1/portrait accepts at most 90 s", remedy: "Shorten talk.mp3 to at most 90 s."},
		{name: "a property that accepts no media", id: react1, property: "emotion", facts: video(time.Hour, 200*mb)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var wantProblems []problem.Problem
			if tt.code != "" {
				wantProblems = []problem.Problem{{Code: tt.code, Reason: tt.reason, Remedy: tt.remedy}}
			}
			var wantWarnings []string
			if tt.warning != "" {
				wantWarnings = []string{tt.warning}
			}
			problems, warnings := model(t, tt.id).CheckMedia(tt.property, tt.facts)
			if diff := cmp.Diff(wantProblems, problems); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(wantWarnings, warnings); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCheckMediaReportsEveryLimit(t *testing.T) {
	problems, warnings := model(t, happyhorse).CheckMedia("image_url_3", media.Info{
		Name: "anna.gif", Kind: media.Image, Format: "gif", Bytes: 11 * mb, Width: 200, Height: 200,
	})
	var codes []problem.Code
	for _, p := range problems {
		codes = append(codes, p.Code)
	}
	if diff := cmp.Diff([]problem.Code{problem.WrongFormat, problem.TooLarge, problem.TooSmall}, codes); diff != "" {
		t.Errorf("codes (-want +got):\n%s", diff)
	}
	if len(warnings) > 0 {
		t.Errorf("warnings %q, want none", warnings)
	}
}

func TestWarnings(t *testing.T) {
	tests := []struct {
		name   string
		id     string
		prompt any
		want   []string
	}{
		{name: "every image is given", id: happyhorse, prompt: "character1 hugs character2's dog."},
		{name: "an image is not given", id: happyhorse, prompt: "character1 hugs character4.",
			want: []string{"prompt names character4, but image_url_4 is not given"}},
		{name: "images that are not given: each once, in the order of the prompt", id: happyhorse, prompt: "CHARACTER9 and character3 and Character9",
			want: []string{
				"prompt names character9, but image_url_9 is not given",
				"prompt names character3, but image_url_3 is not given",
			}},
		{name: "a prompt in Chinese", id: happyhorse, prompt: "character1抱着character5的狗",
			want: []string{"prompt names character5, but image_url_5 is not given"}},
		{name: "a number that no input of the model has", id: happyhorse, prompt: "character12",
			want: []string{"prompt names character12, but happyhorse/happyhorse-1.0/reference-to-video has no input image_url_12"}},
		{name: "number 0", id: happyhorse, prompt: "character0",
			want: []string{"prompt names character0, but happyhorse/happyhorse-1.0/reference-to-video has no input image_url_0"}},
		{name: "a number that does not fit in an int is ignored", id: happyhorse, prompt: "character99999999999999999999999"},
		{name: "texts that only look like references", id: happyhorse, prompt: "the main character 4, supercharacter4, character4th"},
		{name: "a prompt that is not a text", id: happyhorse, prompt: 4},
		{name: "a model whose prompt does not refer to media", id: liveAvatar, prompt: "character4"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			input := map[string]any{"prompt": tt.prompt, "image_url_1": "anna.png", "image_url_2": "ben.png"}
			if diff := cmp.Diff(tt.want, model(t, tt.id).Warnings(input)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
