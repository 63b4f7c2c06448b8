// Package sample is a clip and a voice to try the local stack with. Both were
// made for this project: a test pattern with a tone, and a synthetic voice.
package sample

import (
	_ "embed"
	"os"
	"path/filepath"
	"slices"
)

//go:embed clip.mp4
var clip []byte

//go:embed voice.wav
var voice []byte

// Write writes sample.mp4 and sample.wav into a folder, which it makes and
// returns.
func Write(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(dir, "sample.mp4"), clip, 0o666); err != nil {
		return "", err
	}
	return dir, os.WriteFile(filepath.Join(dir, "sample.wav"), voice, 0o666)
}

// Files returns the clip, an MP4 of 3 s, and the voice, a WAV of 2.5 s.
func Files() (mp4, wav []byte) { return slices.Clone(clip), slices.Clone(voice) }
