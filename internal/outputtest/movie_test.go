package outputtest

import (
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/media"
)

// The length of a Movie's MP4 differs from Length by at most one frame, even if Frame is not a whole
// number of the file's units of time.
func TestMovieLength(t *testing.T) {
	movie := Movie{Length: 5 * time.Minute, Frame: time.Second / 60, Width: 16, Height: 16}
	data := movie.MP4()
	info, err := media.Inspect(t.Context(), media.FromBytes("talk.mp4", data))
	if off := info.Length().D - movie.Length; err != nil || off.Abs() > movie.Frame {
		t.Errorf("the movie is %v longer than %v, want a difference of at most one frame; error %v", off, movie.Length, err)
	}
}
