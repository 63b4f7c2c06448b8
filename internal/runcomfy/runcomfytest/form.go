package runcomfytest

import (
	"bytes"
	"cmp"
	"fmt"
	"image"
	"image/png"
	"strings"
	"time"

	"github.com/lipdrop/lipdrop/internal/media"
)

// Form says what the fake returns as the output of a job.
type Form string

// The forms. All but OwnInput are made up. WrongType is a PNG image. The other made-up forms
// have the structure of a video, but no picture and no sound in them can be decoded.
const (
	OwnInput  Form = "own-input"  // the job's own video or image
	Right     Form = "right"      // as long as the job's model, options and inputs say
	Short     Form = "short"      // shorter than Right by Script.Off
	Long      Form = "long"       // longer than Right by Script.Off
	NoSound   Form = "no-sound"   // without a sound track
	Silent    Form = "silent"     // with frames of sound as small as those of silence
	Smaller   Form = "smaller"    // half as wide and half as high as Right
	Broken    Form = "broken"     // without the last tenth of its bytes
	WrongType Form = "wrong-type" // an image instead of a video
)

// defaultOff is the default of Script.Off. RunComfy's infinite-talk model makes its outputs
// too long by this much.
const defaultOff = time.Second

func (f Form) isMadeUp() bool { return f != "" && f != OwnInput }

// formOf returns the form of a job's output.
func (s *Server) formOf(j *job) Form { return cmp.Or(j.script.Form, s.Form) }

// makeOutput makes up the output of a job from what is known about the job's inputs.
func (s *Server) makeOutput(j *job, inputs []media.Info) ([]byte, error) {
	form, off := s.formOf(j), cmp.Or(j.script.Off, defaultOff)
	m := Movie{Length: outputLength(j, inputs), Width: 640, Height: 360, Frame: time.Second / 25, Seed: 99}
	for _, in := range inputs {
		if in.Kind == media.Video {
			m.Width, m.Height = in.Width, in.Height
			if in.Video != nil && in.Video.Frame > 0 {
				m.Frame = in.Video.Frame
			}
		}
	}
	switch form {
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
		return nil, fmt.Errorf("there is no form %q", form)
	}
	if form != NoSound {
		m.Sound = m.Length
	}
	data := m.MP4()
	if form == Broken {
		data = data[:len(data)*9/10]
	}
	return data, nil
}

// outputLength returns how long the output of a job is. It does not use the catalogue, because
// tests compare the catalogue with the outputs.
func outputLength(j *job, inputs []media.Info) time.Duration {
	var video, audio time.Duration
	for _, in := range inputs {
		switch in.Kind {
		case media.Video:
			video = in.Length().D
		case media.Audio:
			audio = in.Length().D
		}
	}
	number := func(name string, otherwise float64) float64 {
		if n, ok := j.Input[name].(float64); ok {
			return n
		}
		return otherwise
	}
	mode, _ := j.Input["sync_mode"].(string)
	if j.Model == "sync/react-1" {
		if mode, _ = j.Input["lipsync_mode"].(string); mode == "" {
			mode = "bounce"
		}
	}
	switch {
	case strings.Contains(j.Model, "avatar"):
		return time.Duration(number("num_clips", 10) * number("frames_per_clip", 48) / 16 * float64(time.Second))
	case video == 0:
		return time.Duration(number("duration", 5) * float64(time.Second))
	case mode == "" || mode == "cut_off":
		return min(video, audio)
	case mode == "silence":
		return max(video, audio)
	}
	return audio
}
