package handler

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/media"
	"github.com/lipdrop/lipdrop/internal/outputtest"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
)

// silence returns a WAV file of the given length.
func silence(length time.Duration) []byte {
	const rate = 8000
	n := uint32(length * rate / time.Second)
	le := binary.LittleEndian
	wav := append([]byte("RIFF"), le.AppendUint32(nil, 36+n)...)
	wav = append(wav, "WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00"...)
	wav = le.AppendUint32(le.AppendUint32(wav, rate), rate)
	wav = append(wav, "\x01\x00\x08\x00data"...)
	return append(le.AppendUint32(wav, n), bytes.Repeat([]byte{128}, int(n))...)
}

func inspected(t *testing.T, name string, data []byte) (media.Info, error) {
	t.Helper()
	return media.Inspect(t.Context(), media.FromBytes(name, data))
}

// The right output of a job raises no doubt, whatever the lengths of the video and
// the audio, the mode and the frame rate. Each defect is found.
func TestVerdicts(t *testing.T) {
	models, err := catalog.Default()
	if err != nil {
		t.Fatal(err)
	}
	const ownInput outputtest.Form = "own-input" // the job's own video
	random := rand.New(rand.NewPCG(11, 15))
	length := func(from, to time.Duration) time.Duration {
		return (from + time.Duration(random.Int64N(int64(to-from)))).Truncate(time.Millisecond)
	}
	// For each model that accepts a pair with a video: the option that sets the mode.
	options := map[string]string{"sync/react-1": "lipsync_mode", "sync/sync/lipsync/v2/pro": "sync_mode"}
	for _, id := range models.IDs() {
		model, _ := models.Model(id)
		_, _, accepts := model.Pair(media.Video)
		if _, listed := options[id]; accepts && !listed {
			t.Fatalf("%s accepts a pair with a video: add the option that sets its mode to options, and that option and its default to outputLength in package outputtest", id)
		}
	}
	ids := slices.Sorted(maps.Keys(options))
	for range 200 {
		id := ids[random.IntN(len(ids))]
		model, _ := models.Model(id)
		mode := []string{"", "cut_off", "loop", "bounce", "silence", "remap"}[random.IntN(6)]
		frame := time.Second / []time.Duration{24, 25, 30, 50, 60}[random.IntN(5)]
		video := outputtest.Movie{Length: length(time.Second, 15*time.Second), Frame: frame, Width: 320, Height: 180, Seed: random.Uint64()}
		video.Sound = video.Length
		files := map[string][]byte{"video_url": video.MP4(), "audio_url": silence(length(time.Second, 15*time.Second))}
		off := length(250*time.Millisecond, time.Second)

		input := map[string]any{}
		if mode != "" {
			input[options[id]] = mode
		}
		var given []media.Info
		var rec ledger.Record
		for _, in := range []struct{ name, property string }{{"talk.mp4", "video_url"}, {"talk.wav", "audio_url"}} {
			info, err := inspected(t, in.name, files[in.property])
			if err != nil {
				t.Fatal(err)
			}
			given = append(given, info)
			rec.Inputs = append(rec.Inputs, drop.Medium{Property: in.property, File: drop.File{Key: "inbox/" + in.name}, Info: info}.Input())
			input[in.property] = "https://s3.example.com/" + in.name
		}
		expected := model.ExpectLength(input, given)
		rec.ExpectedSeconds, rec.ExpectedWithin = expected.Length.Seconds(), expected.Within.Seconds()
		for form, want := range map[outputtest.Form]ledger.DoubtCode{
			outputtest.Right: "", ownInput: ledger.PictureUnchanged,
			outputtest.Short: ledger.OutputShort, outputtest.Long: ledger.OutputLong,
			outputtest.NoSound: ledger.NoSound, outputtest.Silent: ledger.SilentSound, outputtest.Smaller: ledger.SmallerPicture,
			outputtest.Broken: ledger.NotPlayable, outputtest.WrongType: ledger.UnexpectedType,
		} {
			output := files["video_url"]
			if form != ownInput {
				if output, err = form.MakeOff(off, runcomfytest.Job{Model: id, Input: input}, files); err != nil {
					t.Fatal(err)
				}
			}
			_, suffix := outputType(output[:min(len(output), 512)])
			info, err := inspected(t, "talk"+suffix, output)
			wrong, _ := errors.AsType[*problem.Problem](err)
			var codes []ledger.DoubtCode
			doubts := doubtsAbout(headers{Info: info, wrong: wrong, etag: "of the output"}, rec, true)
			for _, d := range doubts {
				codes = append(codes, d.Code)
			}
			right := codes == nil
			if want != "" {
				right = slices.Contains(codes, want) && (form == ownInput || len(codes) == 1)
			}
			if !right {
				t.Errorf("%s, mode %q, %s of video at %s a frame, %s of audio, off by %s: the %s output has the doubts %+v, want %q (%v)",
					id, mode, given[0].Length().D, frame, given[1].Length().D, off, form, doubts, want, err)
			}
		}
	}
}

// An output within all limits raises no doubt. An output beyond one limit raises only the
// doubt about that limit.
func TestDoubts(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(output *media.Info, rec *ledger.Record)
		want   ledger.DoubtCode // "": no doubt
	}{
		{"nothing is wrong", func(*media.Info, *ledger.Record) {}, ""},
		{"the width and the height are 15 pixels less", func(o *media.Info, _ *ledger.Record) { o.Width, o.Height = 305, 225 }, ""},
		{"the width is 16 pixels less", func(o *media.Info, _ *ledger.Record) { o.Width = 304 }, ledger.SmallerPicture},
		{"the height is 16 pixels less", func(o *media.Info, _ *ledger.Record) { o.Height = 224 }, ledger.SmallerPicture},
		{"no sound, although the job has an audio input", func(o *media.Info, _ *ledger.Record) { o.Audio = nil }, ledger.NoSound},
		{"no sound, and the job has no audio input", func(o *media.Info, rec *ledger.Record) { o.Audio, rec.Inputs = nil, rec.Inputs[:1] }, ""},
		{"uncompressed sound with few bytes in a frame", func(o *media.Info, _ *ledger.Record) { *o.Audio = media.Track{Codec: "pcm", Samples: 100, Bytes: 200} }, ""},
		{"silence, with the encoder's name in the first frame", func(o *media.Info, _ *ledger.Record) { o.Audio.Bytes, o.Audio.Largest = 620, 23 }, ledger.SilentSound},
		{"a word in a long silence", func(o *media.Info, _ *ledger.Record) { o.Audio.Bytes, o.Audio.Largest = 850, 129 }, ""},
		{"the sound ends half a second before the voice", func(o *media.Info, _ *ledger.Record) { o.Audio.Length.D = 9500 * time.Millisecond }, ledger.OutputShort},
		{"the sound ends less than half a second before the voice", func(o *media.Info, _ *ledger.Record) { o.Audio.Length.D = 9501 * time.Millisecond }, ""},
		{"the sound ends with the voice, before the picture", func(o *media.Info, rec *ledger.Record) {
			o.Audio.Length.D, rec.Inputs[0].DurationSeconds, rec.Inputs[1].DurationSeconds = 4*time.Second, 10, 4.2
		}, ""},
		{"the sound is longer than the picture, whose length is only an estimate", func(o *media.Info, _ *ledger.Record) { o.Video.Length = media.Length{D: time.Second} }, ""},
		{"sound of a codec whose frames may have one byte", func(o *media.Info, _ *ledger.Record) {
			*o.Audio = media.Track{Codec: "pcm_mulaw", Samples: 100, Bytes: 100, Largest: 1}
		}, ""},
		{"the sound ends with the picture, before the voice", func(_ *media.Info, rec *ledger.Record) { rec.Inputs[1].DurationSeconds = 20 }, ""},
		{"the sound ends early, and the length of the voice is not known", func(o *media.Info, rec *ledger.Record) {
			o.Audio.Length.D, rec.Inputs[1].DurationSeconds = time.Second, 0
		}, ""},
		{"the length of the sound is only an estimate", func(o *media.Info, _ *ledger.Record) { o.Audio.Length = media.Length{D: time.Second} }, ""},
		{"the sound ends half a second after the picture", func(o *media.Info, _ *ledger.Record) { o.Audio.Length.D = 10500 * time.Millisecond }, ledger.OutputLong},
		{"the sound ends less than half a second after the picture", func(o *media.Info, _ *ledger.Record) { o.Audio.Length.D = 10499 * time.Millisecond }, ""},
		{"the picture ends before the sound and before the expected length", func(o *media.Info, _ *ledger.Record) { o.Video.Length.D = 6 * time.Second }, ledger.OutputShort},
		{"as much longer as ExpectedWithin allows", func(o *media.Info, rec *ledger.Record) { o.Video.Length.D, rec.ExpectedWithin = 11*time.Second, 1 }, ""},
		{"longer than ExpectedWithin allows", func(o *media.Info, rec *ledger.Record) { o.Video.Length.D, rec.ExpectedWithin = 12*time.Second, 1 }, ledger.OutputLong},
		{"longer by two frames of half a second", func(o *media.Info, _ *ledger.Record) { o.Video.Frame, o.Video.Length.D = time.Second/2, 11*time.Second }, ""},
		{"the length is only an estimate", func(o *media.Info, _ *ledger.Record) { o.Video.Length = media.Length{D: time.Minute} }, ""},
		{"the expected length is not known", func(_ *media.Info, rec *ledger.Record) { rec.ExpectedSeconds = 0 }, ""},
		{"the frames of neither file are known", func(o *media.Info, rec *ledger.Record) { o.Video.Hash, rec.Inputs[0].PictureHash = "", "" }, ""},
		{"the same frames", func(o *media.Info, _ *ledger.Record) { o.Video.Hash = "of the input" }, ledger.PictureUnchanged},
	} {
		t.Run(tt.name, func(t *testing.T) {
			output := media.Info{
				Name: "talk.mp4", Kind: media.Video, Width: 320, Height: 240,
				Video: &media.Track{Frame: time.Second / 25, Length: media.Length{D: 10 * time.Second, Exact: true}, Hash: "of the output"},
				Audio: &media.Track{Codec: "aac", Length: media.Fact(10 * time.Second), Samples: 100, Bytes: 2000, Largest: 60},
			}
			rec := ledger.Record{ExpectedSeconds: 10, Inputs: []ledger.Input{
				{Key: "inbox/talk.mp4", Width: 320, Height: 240, PictureHash: "of the input"}, {Key: "inbox/talk.wav", DurationSeconds: 10},
			}}
			tt.change(&output, &rec)
			var want []ledger.DoubtCode
			if tt.want != "" {
				want = append(want, tt.want)
			}
			var got []ledger.DoubtCode
			for _, doubt := range doubtsAbout(headers{Info: output, etag: "of the output"}, rec, len(rec.Inputs) == 2) {
				got = append(got, doubt.Code)
			}
			if !slices.Equal(got, want) {
				t.Errorf("doubts %q, want %q", got, want)
			}
		})
	}
}
