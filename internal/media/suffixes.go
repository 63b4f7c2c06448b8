package media

import "slices"

// Suffixes returns every suffix that stands for a kind, in small letters: those
// of videos, then of audios, then of images.
func Suffixes() []string {
	return slices.Concat(suffixes[KindVideo], suffixes[KindAudio], suffixes[KindImage])
}
