package catalog

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lipdrop/lipdrop/internal/media"
	"github.com/lipdrop/lipdrop/internal/problem"
)

// mb is the number of bytes in a megabyte of RunComfy's limits.
const mb = 1 << 20

// durationTolerance is by how much a duration may exceed its limit. Encoders pad the
// last frame, so 15 s of sound may become a file of 15.03 s.
const durationTolerance = 50 * time.Millisecond

// recommendedBytes is the largest size that RunComfy recommends for input files
// of any model (docs.runcomfy.com).
var recommendedBytes = map[media.Kind]int64{media.Video: 100 * mb, media.Image: 50 * mb}

// CheckMedia compares a media file with the limits of a property. For a file of the wrong kind,
// it returns this problem only. Otherwise it returns a problem for each limit that the file breaks,
// and a warning for each limit that cannot be checked or that only an estimate exceeds. A file
// within its size limit gets a warning if it is larger than RunComfy recommends. Each warning is a
// clause without a full stop. For a property that accepts no media, CheckMedia returns nothing.
func (m *Model) CheckMedia(property string, f media.Info) (problems []problem.Problem, warnings []string) {
	p, ok := m.mediaProperty(property)
	if !ok {
		return nil, nil
	}
	if f.Kind != p.Kind {
		return []problem.Problem{{
			Code:   problem.WrongKind,
			Reason: fmt.Sprintf("%s is %s; %s of %s accepts %s", f.Name, f.Kind.Noun(), property, m.ID, p.Kind.Noun()),
			Remedy: fmt.Sprintf("Use %s for %s.", p.Kind.Noun(), property),
		}}, nil
	}
	report := func(code problem.Code, part, is, accepts, remedy string) {
		problems = append(problems, problem.Problem{
			Code:   code,
			Reason: fmt.Sprintf("%s is %s; %s accepts %s", part, is, m.ID, accepts),
			Remedy: remedy,
		})
	}
	unknown := func(what, accepts string) {
		warnings = append(warnings, fmt.Sprintf("the %s of %s is not known; %s accepts %s", what, f.Name, m.ID, accepts))
	}

	if len(p.Formats) > 0 && !slices.Contains(p.Formats, f.Format) {
		accepts := problem.List(strings.Fields(strings.ToUpper(strings.Join(p.Formats, " "))), "or")
		if f.Format == "" {
			unknown("format", accepts)
		} else {
			report(problem.WrongFormat, f.Name, strings.ToUpper(f.Format), accepts, fmt.Sprintf("Convert %s to %s.", f.Name, strings.ToUpper(p.Formats[0])))
		}
	}
	if p.MaxDuration > 0 {
		accepts := "at most " + seconds(p.MaxDuration)
		if !f.Length().Known() {
			unknown("length", accepts)
		}
		switch part, l := overlong(f, p.MaxDuration+durationTolerance); {
		case l.Exact:
			report(problem.TooLong, part, problem.Length(l.D)+" long", accepts, fmt.Sprintf("Shorten %s to %s.", f.Name, accepts))
		case l.Known():
			warnings = append(warnings, fmt.Sprintf("%s is about %s long, by an estimate; %s accepts %s", part, problem.Length(l.D), m.ID, accepts))
		}
	}
	if p.MaxBytes > 0 && f.Bytes > p.MaxBytes {
		report(problem.TooLarge, f.Name, megabytes(f.Bytes), "at most "+megabytes(p.MaxBytes), fmt.Sprintf("Compress %s to at most %s.", f.Name, megabytes(p.MaxBytes)))
	} else if most := recommendedBytes[p.Kind]; most > 0 && f.Bytes > most {
		warnings = append(warnings, fmt.Sprintf("%s is %s; RunComfy recommends at most %s for %s", f.Name, megabytes(f.Bytes), megabytes(most), p.Kind.Noun()))
	}
	if p.MinShortSide > 0 {
		accepts := fmt.Sprintf("%ss whose short side is at least %d pixels", p.Kind, p.MinShortSide)
		if short := min(f.Width, f.Height); short <= 0 {
			unknown("size in pixels", accepts)
		} else if short < p.MinShortSide {
			report(problem.TooSmall, f.Name, fmt.Sprintf("%d × %d pixels", f.Width, f.Height), accepts,
				fmt.Sprintf("Enlarge %s to a short side of at least %d pixels.", f.Name, p.MinShortSide))
		}
	}
	return problems, warnings
}

// overlong names the part of a file that is longer than a limit, and returns the length of the part.
// It considers estimates only if no exact length is too long. If it finds only one of the two tracks
// of a video too long, part names this track. If it finds none, the returned length is not known.
func overlong(f media.Info, limit time.Duration) (part string, l media.Length) {
	for _, exact := range []bool{true, false} {
		over := func(t *media.Track) bool { return t != nil && t.Length.D > limit && t.Length.Exact == exact }
		picture, sound := f.Kind == media.Video && over(f.Video), over(f.Audio)
		switch {
		case picture && (sound || f.Audio == nil), sound && f.Kind == media.Audio:
			return f.Name, f.Length()
		case picture:
			return "the picture of " + f.Name, f.Video.Length
		case sound:
			return "the sound of " + f.Name, f.Audio.Length
		}
	}
	return "", media.Length{}
}

// seconds writes the limit of a length with at most one decimal: 15 s.
func seconds(d time.Duration) string {
	return oneDecimal(math.Round(d.Seconds()*10)) + " s"
}

// megabytes writes a number of bytes with at most one decimal: 10.1 MB. It rounds
// up, so that a size above a limit never reads like the limit.
func megabytes(n int64) string {
	return oneDecimal(math.Ceil(float64(n)/mb*10)) + " MB"
}

func oneDecimal(tenths float64) string { return strconv.FormatFloat(tenths/10, 'f', -1, 64) }
