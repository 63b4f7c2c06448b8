// Package sample has a clip and a voice for a first try. Both were made for this
// project: a test pattern with a tone, and a synthetic voice.
package sample

import (
	_ "embed"
	"path/filepath"
	"slices"

	"github.com/lipdrop/lipdrop/internal/private"
)

//go:embed clip.mp4
var clip []byte

//go:embed voice.wav
var voice []byte

// Write makes the folder dir and its parent, the state folder. It writes sample.mp4 and
// sample.wav into dir, and replaces files of these names. Write returns an error if dir, its
// parent or a file in dir is a symbolic link.
func Write(dir string) error {
	for _, folder := range []string{filepath.Dir(dir), dir} {
		if err := private.Dir(folder); err != nil {
			return err
		}
	}
	if err := private.CheckNoLinks(dir); err != nil {
		return err
	}
	for name, content := range map[string][]byte{"sample.mp4": clip, "sample.wav": voice} {
		if err := private.Replace(filepath.Join(dir, name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Files returns the clip, an MP4 of 3 s, and the voice, a WAV of 2.5 s.
func Files() (mp4, wav []byte) { return slices.Clone(clip), slices.Clone(voice) }
