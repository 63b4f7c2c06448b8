// Package media looks at a stranger's media file before money is spent on it, and
// at an output after it was copied: what the file is, which tracks it has, how
// long its presentation is and how large its picture.
//
// It reads by ranges, at most [MaxBytes] in [MaxCalls] calls whatever the file's
// size, and believes nothing that it reads: no length that a file claims is
// allocated, and no input makes it panic or loop. It decodes no sound and no
// picture, and leaves to others which figures a model allows.
package media

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// Source is a file that is read by ranges.
type Source struct {
	// Name is the file's name; its suffix says what the file claims to be.
	// A folder before it is ignored.
	Name string

	// Size is the file's length in bytes.
	Size int64

	// ReadRange returns the n bytes that begin at byte off. It is called only
	// for ranges inside the file.
	ReadRange func(ctx context.Context, off, n int64) ([]byte, error)
}

// Kind is the role that a file can play in a job.
type Kind string

// The kinds of media.
const (
	Video Kind = "video"
	Audio Kind = "audio"
	Image Kind = "image"
)

// content is a group of forms of files that share their suffixes.
type content int

const (
	unknown content = iota
	contentISO
	contentMatroska
	contentAVI
	contentWAV
	contentMP3
	contentAAC
	contentOgg
	contentFLAC
	contentPNG
	contentJPEG
	contentWebP
)

// suffixes is the only list of suffixes that are accepted. To add one, add a row.
var suffixes = []struct {
	suffix  string
	kind    Kind
	content content
}{
	{".mp4", Video, contentISO}, {".mov", Video, contentISO}, {".m4v", Video, contentISO},
	{".webm", Video, contentMatroska}, {".mkv", Video, contentMatroska}, {".avi", Video, contentAVI},
	{".wav", Audio, contentWAV}, {".mp3", Audio, contentMP3}, {".m4a", Audio, contentISO}, {".aac", Audio, contentAAC},
	{".ogg", Audio, contentOgg}, {".opus", Audio, contentOgg}, {".flac", Audio, contentFLAC},
	{".png", Image, contentPNG}, {".jpg", Image, contentJPEG}, {".jpeg", Image, contentJPEG}, {".webp", Image, contentWebP},
}

// KindOf returns the kind that a file name's suffix stands for, in any case, and
// false for a suffix that is not accepted.
func KindOf(name string) (Kind, bool) {
	kind, _ := promise(name)
	return kind, kind != ""
}

// promise returns what the suffix of a file name says about the file.
func promise(name string) (Kind, content) {
	for _, s := range suffixes {
		if s.suffix == suffixOf(name) {
			return s.kind, s.content
		}
	}
	return "", unknown
}

// Suffixes returns the accepted suffixes of the given kinds, or of all, in small
// letters.
func Suffixes(kinds ...Kind) []string {
	var of []string
	for _, s := range suffixes {
		if len(kinds) == 0 || slices.Contains(kinds, s.kind) {
			of = append(of, s.suffix)
		}
	}
	return of
}

func suffixOf(name string) string { return strings.ToLower(path.Ext(path.Base(name))) }

// Info is what Inspect found out about a file.
type Info struct {
	// Format is "mp4", "mov", "wav", "mp3", "jpeg", "png" or "webp", and empty
	// for a form that is not read here. An M4A or M4V file is an "mp4".
	Format string

	// Type is the MIME type of what the file holds.
	Type string

	// Kind is what the suffix says or, where it says nothing, what the file holds.
	Kind Kind

	// Duration is the length of the presentation, after edit lists; of an MP3 it
	// includes the encoder's padding, some 50 ms. Zero unless HasDuration.
	Duration    time.Duration
	HasDuration bool

	// Estimated says that Duration was reckoned from samples of the file.
	Estimated bool

	// HasVideo and HasAudio say which tracks there are. An image has neither.
	HasVideo, HasAudio bool

	// Width and Height are in pixels, as shown: after the rotation of a video
	// track and the EXIF orientation of a JPEG, which both may swap the two.
	// Zero where they are not known.
	Width, Height int

	// Warnings are sentences about what could not be looked at or is doubtful.
	Warnings []string

	// Unread says that the file passed without its tracks having been looked at,
	// so that HasVideo, HasAudio, Duration, Width and Height may lack.
	Unread bool
}

// Inspect looks at a file. It returns a *problem.Problem for a file that is empty, damaged
// or not what its suffix says, for a video without a video track and for an audio
// without an audio track; an error of ReadRange comes back wrapped. A valid file
// that cannot be read here, or not within the budget, passes with a warning. Where
// the suffix is no medium's, the file may hold anything and is judged by that.
// The Info that comes with an error holds what was found up to it.
func Inspect(ctx context.Context, src Source) (Info, error) {
	kind, promised := promise(src.Name)
	named := kind != ""
	info := Info{Kind: kind}
	file := path.Base(src.Name)
	src.Name = file
	if src.Size <= 0 {
		return info, EmptyFile(file)
	}
	r := newReader(ctx, src)
	f, known, err := identify(r, suffixOf(src.Name))
	switch {
	case err != nil:
		return info, err
	case !known && named:
		return info, unknownContent(file, kind, describe(r))
	case !known:
		info.Unread = true
		info.warn("%s was not looked into: what it holds is not known (%s)", file, describe(r))
		return info, nil
	}
	info.Format, info.Type = f.format, f.mime
	if named && f.content != promised {
		return info, wrongContent(file, f)
	}
	if !named {
		info.Kind = f.kind
	}
	if f.read == nil {
		info.Unread = true
		info.warn("%s was not looked into: %s is not read here, so that its tracks and its duration are not checked", file, f.called)
		return info, nil
	}

	err = f.read(r, &info)
	var d damage
	var u unread
	switch {
	case errors.As(err, &d):
		return info, damagedFile(file, d)
	case errors.Is(err, errEnd):
		return info, damagedFile(file, "it ends in the middle of its header")
	case errors.As(err, &u):
		info.Unread = true
		info.warn("%s was not looked into: %s", file, u)
		return info, nil
	case err != nil:
		return info, err
	}
	if !named && info.Kind == Video && !info.HasVideo && info.HasAudio {
		info.Kind = Audio
	}
	return info, checkTracks(file, info)
}

func (i *Info) warn(format string, args ...any) {
	i.Warnings = append(i.Warnings, fmt.Sprintf(format, args...))
}

// setDuration notes a duration of n units, of which a second has perSecond.
func (i *Info) setDuration(n, perSecond uint64) {
	i.Duration, i.HasDuration = inTime(n, perSecond)
}
