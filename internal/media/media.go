// Package media inspects a media file: its format, its tracks, its duration and the
// size of its picture. lipdrop inspects inputs before it spends money on them, and
// outputs after it has copied them.
//
// The package reads a file by ranges. It reads at most [MaxBytes] in at most [MaxCalls]
// calls, whatever the size of the file. It does not trust the file: it never allocates
// a length that the file claims, and no input makes it panic or loop. It decodes
// neither sound nor pictures. It does not know the limits of models.
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
	// Name is the file name. Its suffix says what the file claims to be.
	// Inspect ignores folders in it.
	Name string

	// Size is the file's length in bytes.
	Size int64

	// ReadRange returns the n bytes that begin at byte off. Inspect calls it only
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

// content is a group of file formats that share suffixes.
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

// suffixes lists the accepted suffixes. To accept another one, add a row.
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

// KindOf returns the kind of file that a file name's suffix stands for. It ignores
// upper and lower case. It returns false if the suffix is not accepted.
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

// Suffixes returns the accepted suffixes of the given kinds, in lower case. Without
// kinds it returns all accepted suffixes.
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

// Info is what Inspect found in a file.
type Info struct {
	// Format is "mp4", "mov", "wav", "mp3", "jpeg", "png" or "webp". It is "mp4" for
	// M4A and M4V files. It is empty if this package cannot read the format.
	Format string

	// Type is the MIME type of the content.
	Type string

	// Kind is the kind that the suffix stands for. If the suffix is not accepted, it
	// is the kind of the content.
	Kind Kind

	// Duration is the length of the presentation, after edit lists. For an MP3 it
	// includes the encoder's padding of about 50 ms. It is zero unless HasDuration.
	Duration    time.Duration
	HasDuration bool

	// Estimated reports whether Duration is an estimate from parts of the file.
	Estimated bool

	// HasVideo and HasAudio report which tracks the file has. An image has neither.
	HasVideo, HasAudio bool

	// Width and Height are the size of the picture in pixels, as it is shown. The
	// rotation of a video track or the EXIF orientation of a JPEG may swap them.
	// They are zero if they are not known.
	Width, Height int

	// Warnings says, in sentences, what could not be checked or is doubtful.
	Warnings []string

	// Unread reports that the file passed although its tracks could not be read.
	// HasVideo, HasAudio, Duration, Width and Height may then not be set.
	Unread bool
}

// Inspect reads what a file holds. It returns a *problem.Problem if the file is empty,
// damaged or not what its suffix says, if a video has no video track, or if an audio
// has no audio track. It returns an error of ReadRange wrapped. A valid file passes
// with a warning if this package cannot read its format, or cannot read it within the
// budget. If the suffix is not accepted, Inspect does not compare it with the content.
// With an error, the Info holds what was found before the error.
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

// setDuration sets a duration of n units. A second has perSecond units.
func (i *Info) setDuration(n, perSecond uint64) {
	i.Duration, i.HasDuration = inTime(n, perSecond)
}
