package catalog

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/lipdrop/lipdrop/internal/media"
	"github.com/lipdrop/lipdrop/internal/problem"
)

// pair says how a pair of files becomes an input.
type pair struct {
	Visual   string         `json:"visual"`
	Audio    string         `json:"audio"`
	Defaults map[string]any `json:"defaults"`
}

// Pair returns the properties for the two files of a pair: an audio file, and a file of
// the given kind, Video or Image. It returns false if the model accepts no such
// pair.
func (m *Model) Pair(kind media.Kind) (visualProperty, audioProperty string, ok bool) {
	if m.file.Pair == nil {
		return "", "", false
	}
	if p, found := m.mediaProperty(m.file.Pair.Visual); !found || p.Kind != kind {
		return "", "", false
	}
	return m.file.Pair.Visual, m.file.Pair.Audio, true
}

// CheckPair returns an error if the model with the id cannot be the default for pairs of an audio
// file and a file of the given kind, Video or Image. The error names the models that can.
func (c *Catalog) CheckPair(id string, kind media.Kind) error {
	var fit []string
	for _, other := range c.IDs() {
		if _, _, ok := c.models[other].Pair(kind); ok {
			fit = append(fit, other)
		}
	}
	switch {
	case slices.Contains(fit, id):
		return nil
	case c.models[id] == nil:
		return fmt.Errorf("there is no model %q; choose %s", id, problem.List(fit, "or"))
	}
	return fmt.Errorf("%s does not accept a pair of %s and an audio file; choose %s", id, kind.Noun(), problem.List(fit, "or"))
}

// PairInput returns the input of a pair without its two files: the user's options, the
// catalogue's defaults for a pair, and enough clips for the audio if the model has an option for
// their number. It does not check the options; Validate does. The model must accept a pair (see
// Pair). Each warning is a clause without a full stop.
func (m *Model) PairInput(options map[string]any, audio media.Info) (input map[string]any, warnings []string) {
	input = map[string]any{}
	maps.Copy(input, m.file.Pair.Defaults)
	maps.Copy(input, options)
	option := m.file.OutputLength.Option
	if _, ok := input[option]; ok || m.file.OutputLength.FramesOption == "" {
		return input, nil
	}
	length := audio.Length()
	if length.AtLeast() == 0 && !length.Exact {
		is := "not known"
		if length.Known() {
			is = "only an estimate, about " + problem.Length(length.D)
		}
		return input, []string{fmt.Sprintf("the length of %s is %s, so RunComfy's default for %s applies; set %s if the voice is longer than the output", audio.Name, is, option, option)}
	}
	clip := m.clip(input)
	count := min(m.clipsFor(length.AtLeast(), clip), m.file.OutputLength.most)
	input[option] = count
	if !length.Exact {
		long := "at least " + problem.Length(length.AtLeast()) + " long"
		if length.Known() {
			long = fmt.Sprintf("about %s long, by an estimate, and at least %s", problem.Length(length.D), problem.Length(length.AtLeast()))
		}
		warnings = append(warnings, fmt.Sprintf("%s is %s; %s is %d, which makes an output of about %s; set %s if the voice is longer than the output",
			audio.Name, long, option, count, problem.Length(time.Duration(count)*clip), option))
	}
	return input, warnings
}
