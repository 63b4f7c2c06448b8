package catalog

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/lipdrop/lipdrop/internal/media"
	"github.com/lipdrop/lipdrop/internal/problem"
)

// outputLength says which option decides how long an output is.
// model.schema.json describes its members.
type outputLength struct {
	Option          string            `json:"option"`
	Modes           map[string]string `json:"modes"`
	FramesOption    string            `json:"framesOption"`
	FramesPerSecond int               `json:"framesPerSecond"`

	modes []string // the keys of Modes, in the order of the enum of Option
	most  int      // the maximum of Option; required with a FramesOption
}

// The values of outputLength.Modes.
const (
	asShorter   = "shorter"
	asAudio     = "audio"
	asStretched = "stretched"
	asLonger    = "longer"
)

// leastMismatch is the smallest difference between two lengths that is reported.
const leastMismatch = 500 * time.Millisecond

// Expected is what is known about the length of an output before its job runs.
type Expected struct {
	// Length is how long the output will be, or 0 if that is not known.
	Length time.Duration

	// Within is how far the length of a correct output may be from Length, apart from
	// the rounding to whole frames. It is the length of a clip if the model makes clips,
	// else 0.
	Within time.Duration

	// Warning says which lengths do not fit together, and what that does to the output. It is a
	// clause without a full stop, or "".
	Warning string

	// Dropped is the problem that Warning describes if a part of a media file would be
	// missing in the output, else nil. Dropped.Again holds the name of that file. The rule
	// "audio" sets neither Dropped nor Warning, although it may drop the end of a video.
	Dropped *problem.Problem
}

// ExpectLength returns how long the output of a valid input will be. The infos describe the media
// of the input; media of which nothing is known may be left out.
func (m *Model) ExpectLength(input map[string]any, infos []media.Info) Expected {
	length := m.file.OutputLength
	if length.Option == "" {
		return Expected{}
	}
	value := m.option(input, length.Option)
	switch {
	case length.Modes != nil:
		video, audio := exact(media.Video, infos), exact(media.Audio, infos)
		mode, _ := value.(string)
		if video.Length().D <= 0 || audio.Length().D <= 0 {
			return Expected{}
		}
		return m.expectMode(mode, video, audio)
	case length.FramesOption != "":
		return m.expectClips(number(value), m.clip(input), exact(media.Audio, infos))
	}
	return Expected{Length: time.Duration(number(value) * float64(time.Second))}
}

// option returns the value of an option in the input, or else RunComfy's default.
func (m *Model) option(input map[string]any, name string) any {
	if value, ok := input[name]; ok {
		return value
	}
	return *m.schema.Properties[name].Default
}

// number returns the value of a JSON or Go number, and 0 for everything else.
func number(v any) float64 {
	switch v := v.(type) {
	case json.Number:
		f, err := v.Float64()
		if err != nil {
			return 0
		}
		return f
	case float64:
		return v
	case int:
		return float64(v)
	}
	return 0
}

// exact returns the first file of a kind if its length is exact, else the zero Info.
func exact(kind media.Kind, infos []media.Info) media.Info {
	i := slices.IndexFunc(infos, func(m media.Info) bool { return m.Kind == kind })
	if i < 0 || !infos[i].Length().Exact {
		return media.Info{}
	}
	return infos[i]
}

// expectMode returns what is known about the output that a mode makes of a video and an
// audio file.
func (m *Model) expectMode(mode string, video, audio media.Info) Expected {
	shorter, longer := video, audio
	if shorter.Length().D > longer.Length().D {
		shorter, longer = longer, shorter
	}
	var e Expected
	option, rule := m.file.OutputLength.Option, m.file.OutputLength.Modes[mode]
	switch rule {
	case asShorter:
		e.Length = shorter.Length().D
	case asAudio, asStretched:
		e.Length = audio.Length().D
	case asLonger:
		e.Length = longer.Length().D
	}
	over := longer.Length().D - shorter.Length().D
	if over < leastMismatch {
		return e
	}
	differ := fmt.Sprintf("%s is %s longer than %s: with %s %s", longer.Name, problem.Length(over), shorter.Name, option, mode)
	// The warning names modes that avoid the loss. If the video is longer, these modes play its
	// end in silence. If the audio file is longer, they repeat or stretch the video.
	keeping := m.modesThat(asLonger)
	if longer.Kind == media.Audio {
		keeping = m.modesThat(asAudio, asStretched)
	}
	switch rule {
	case asShorter:
		dropped := fmt.Sprintf("%s its last %s are dropped", differ, problem.Length(over))
		e.Warning = dropped + thatKeep(keeping, "them")
		remedy := fmt.Sprintf("Shorten %s by %s.", longer.Name, problem.Length(over))
		if keeping != nil {
			remedy = fmt.Sprintf("Set %s to %s, or shorten %s by %s.", option, problem.List(keeping, "or"), longer.Name, problem.Length(over))
		}
		e.Dropped = &problem.Problem{Code: problem.LengthsDiffer, Reason: dropped, Remedy: remedy, Again: []string{longer.Name}}
	case asStretched:
		if longer.Kind == media.Audio {
			keeping = m.modesThat(asAudio)
		}
		e.Warning = fmt.Sprintf("%s, %s plays at %.0f %% of its speed", differ, video.Name,
			100*video.Length().D.Seconds()/audio.Length().D.Seconds()) + thatKeep(keeping, "its speed")
	}
	return e
}

// modesThat returns the modes with one of the given rules, or nil.
func (m *Model) modesThat(rules ...string) []string {
	var modes []string
	for _, mode := range m.file.OutputLength.modes {
		if slices.Contains(rules, m.file.OutputLength.Modes[mode]) {
			modes = append(modes, mode)
		}
	}
	return modes
}

// expectClips returns what is known about an output of n clips, made for an audio file.
func (m *Model) expectClips(n float64, clip time.Duration, audio media.Info) Expected {
	option, most := m.file.OutputLength.Option, m.file.OutputLength.most
	e := Expected{Length: time.Duration(n * float64(clip)), Within: clip}
	over, needed := audio.Length().D-e.Length, m.clipsFor(audio.Length().D, clip)
	switch {
	case audio.Length().D <= 0: // not known, so there is nothing to compare
	case over >= leastMismatch:
		dropped := fmt.Sprintf("%s is %s longer than the %s of %s %.0f: its last %s are dropped",
			audio.Name, problem.Length(over), problem.Length(e.Length), option, n, problem.Length(over))
		keep := fmt.Sprintf("%s %d keeps them", option, needed)
		remedy := fmt.Sprintf("Set %s to %d, or shorten %s by %s.", option, needed, audio.Name, problem.Length(over))
		if needed > most {
			keep = fmt.Sprintf("%s accepts at most %s %d", m.ID, option, most)
			remedy = fmt.Sprintf("Shorten %s to at most %s.", audio.Name, seconds(time.Duration(most)*clip))
		}
		e.Warning = dropped + "; " + keep
		e.Dropped = &problem.Problem{Code: problem.LengthsDiffer, Reason: dropped, Remedy: remedy, Again: []string{audio.Name}}
	case needed < int(n) && -over >= clip+leastMismatch:
		e.Warning = fmt.Sprintf("%s is %s long, and %s %.0f makes about %s; %s %d is enough",
			audio.Name, problem.Length(audio.Length().D), option, n, problem.Length(e.Length), option, needed)
	}
	return e
}

// clip returns the length of a clip. The options set its number of frames; if that number
// is not positive, the default applies.
func (m *Model) clip(options map[string]any) time.Duration {
	frames := number(m.option(options, m.file.OutputLength.FramesOption))
	if !(frames > 0) { // true for NaN, too
		frames = number(m.option(nil, m.file.OutputLength.FramesOption))
	}
	return time.Duration(frames * float64(time.Second) / float64(m.file.OutputLength.FramesPerSecond))
}

// clipsFor returns how many clips cover an audio file, but at least one. The clips need
// not cover the padding that the codec may have added.
func (m *Model) clipsFor(audio, clip time.Duration) int {
	// In float64, whole nanoseconds are exact up to 104 days.
	return int(max(math.Ceil(float64(audio-durationTolerance)/float64(clip)), 1))
}

// thatKeep returns the end of a warning, which names the modes that avoid the loss:
// "; loop or bounce keep them". Without modes it returns "".
func thatKeep(modes []string, what string) string {
	switch len(modes) {
	case 0:
		return ""
	case 1:
		return "; " + modes[0] + " keeps " + what
	default:
		return "; " + problem.List(modes, "or") + " keep " + what
	}
}
