// Package outputtest makes up the outputs of jobs, right ones and wrong ones, for tests of what
// lipdrop says about an output. See Make of [runcomfytest.Server].
package outputtest

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"image"
	"image/png"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/lipdrop/lipdrop/internal/media"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
)

// Form is what is right or wrong about an output.
type Form string

// The forms. WrongType is a PNG image. The other forms have the structure of a video, but no
// picture and no sound in them can be decoded.
const (
	Right     Form = "right"      // its length follows from the job's model, options and inputs
	Short     Form = "short"      // shorter than Right
	Long      Form = "long"       // longer than Right
	NoSound   Form = "no-sound"   // without a sound track
	Silent    Form = "silent"     // with a sound track that has as few bytes as a silent one
	Smaller   Form = "smaller"    // half as wide and half as high as Right
	Broken    Form = "broken"     // without the last tenth of its bytes
	WrongType Form = "wrong-type" // an image instead of a video
)

// Make returns an output of a job. files are the job's inputs by the names of their properties.
// A Short or Long output is off by one second, as the outputs of RunComfy's infinite-talk model are.
func (f Form) Make(job runcomfytest.Job, files map[string][]byte) ([]byte, error) {
	return f.MakeOff(time.Second, job, files)
}

// MakeOff is like Make, but a Short or Long output is off by the given time.
func (f Form) MakeOff(off time.Duration, job runcomfytest.Job, files map[string][]byte) ([]byte, error) {
	m := Movie{Width: 640, Height: 360, Frame: time.Second / 25, Seed: 99}
	var video, audio time.Duration
	for property, data := range files {
		address, _ := job.Input[property].(string)
		u, err := url.Parse(address)
		if err != nil {
			return nil, err
		}
		in, err := media.Inspect(context.Background(), media.FromBytes(property+path.Ext(u.Path), data))
		switch {
		case err != nil: // the length of the input is not known
		case in.Kind == media.Audio:
			audio = in.Length().D
		case in.Kind == media.Video:
			video, m.Width, m.Height = in.Length().D, in.Width, in.Height
			if in.Video != nil && in.Video.Frame > 0 {
				m.Frame = in.Video.Frame
			}
		}
	}
	m.Length = outputLength(job, video, audio)
	switch f {
	case Right, NoSound, Broken:
	case Short:
		m.Length = max(m.Length-off, m.Frame)
	case Long:
		m.Length += off
	case Silent:
		m.Silent = true
	case Smaller:
		m.Width, m.Height = m.Width/2, m.Height/2
	case WrongType:
		var b bytes.Buffer
		err := png.Encode(&b, image.NewGray(image.Rect(0, 0, m.Width, m.Height)))
		return b.Bytes(), err
	default:
		return nil, fmt.Errorf("there is no form %q", f)
	}
	if f != NoSound {
		m.Sound = m.Length
	}
	data := m.MP4()
	if f == Broken {
		data = data[:len(data)*9/10]
	}
	return data, nil
}

// outputLength returns how long the output of a job is. It does not use the catalogue, because
// tests compare the catalogue with the outputs.
func outputLength(job runcomfytest.Job, video, audio time.Duration) time.Duration {
	number := func(name string, otherwise float64) float64 {
		if n, ok := job.Input[name].(float64); ok {
			return n
		}
		return otherwise
	}
	option, byDefault := "sync_mode", "cut_off"
	if job.Model == "sync/react-1" {
		option, byDefault = "lipsync_mode", "bounce"
	}
	mode, _ := job.Input[option].(string)
	mode = cmp.Or(mode, byDefault)
	switch {
	case strings.Contains(job.Model, "avatar"):
		return time.Duration(number("num_clips", 10) * number("frames_per_clip", 48) / 16 * float64(time.Second))
	case video == 0:
		return time.Duration(number("duration", 5) * float64(time.Second))
	case mode == "cut_off":
		return min(video, audio)
	case mode == "silence":
		return max(video, audio)
	}
	return audio
}
