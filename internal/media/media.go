// Package media inspects a media file: its format, its tracks, its duration and the
// size of its picture. lipdrop inspects inputs before it spends money on them, and
// outputs after it has copied them.
//
// The package reads a file by ranges: at most [MaxBytes] in at most [MaxCalls] calls, plus at most
// [MaxSteps] short ranges. It does not trust the file: it never allocates a length that the file
// claims, and no input makes it panic or loop. It decodes neither sound nor pictures. It does not
// know the limits of models.
package media

import (
	"cmp"
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
	// Name is the file name. Its suffix says what the file claims to be. Inspect
	// ignores folders in Name.
	Name string

	// Size is how many bytes the file has.
	Size int64

	// ReadRange returns the n bytes that begin at byte off. Inspect calls it only
	// for ranges inside the file that are not empty.
	ReadRange func(ctx context.Context, off, n int64) ([]byte, error)
}

// FromBytes returns a Source of a file that is in memory.
func FromBytes(name string, data []byte) Source {
	return Source{Name: name, Size: int64(len(data)), ReadRange: func(_ context.Context, off, n int64) ([]byte, error) {
		return data[off : off+n], nil
	}}
}

// Kind is the role that a file can play in a job.
type Kind string

// The kinds of media.
const (
	Video Kind = "video"
	Audio Kind = "audio"
	Image Kind = "image"
)

// Noun returns the kind as a noun with its article, for a sentence. For "" it returns "not a media file".
func (k Kind) Noun() string {
	nouns := map[Kind]string{Video: "a video", Audio: "an audio file", Image: "an image"}
	return cmp.Or(nouns[k], "not a media file")
}

// suffixes lists the accepted suffixes, each with the content type with which a browser
// is most likely to play or show the file. To accept another suffix, add a row here, and add the suffix
// to a form in sniff.go.
var suffixes = []struct {
	suffix      string
	kind        Kind
	contentType string
}{
	{".mp4", Video, "video/mp4"},
	{".mov", Video, "video/mp4"},
	{".m4v", Video, "video/mp4"},
	{".webm", Video, "video/webm"},
	{".mkv", Video, "video/x-matroska"},
	{".avi", Video, "video/x-msvideo"},
	{".wav", Audio, "audio/wav"},
	{".mp3", Audio, "audio/mpeg"},
	{".m4a", Audio, "audio/mp4"},
	{".aac", Audio, "audio/aac"},
	{".ogg", Audio, "audio/ogg"},
	{".opus", Audio, "audio/ogg"},
	{".flac", Audio, "audio/flac"},
	{".png", Image, "image/png"},
	{".jpg", Image, "image/jpeg"},
	{".jpeg", Image, "image/jpeg"},
	{".webp", Image, "image/webp"},
}

// KindOf returns the kind of file that a file name's suffix stands for. It ignores
// case. It returns false if the suffix is not accepted.
func KindOf(name string) (Kind, bool) {
	for _, s := range suffixes {
		if s.suffix == suffixOf(name) {
			return s.kind, true
		}
	}
	return "", false
}

// ContentType returns the content type with which a browser is most likely to play or show a
// file. It returns application/octet-stream if the suffix of the file name is not accepted.
func ContentType(name string) string {
	for _, s := range suffixes {
		if s.suffix == suffixOf(name) {
			return s.contentType
		}
	}
	return "application/octet-stream"
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

// suffixOf returns the suffix of a file name, with its ASCII letters in lower case.
// strings.ToLower would also turn a Kelvin sign into a k.
func suffixOf(name string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, path.Ext(name))
}

// Length is how long a track lasts. It is a fact, an estimate or unknown. The zero value
// is unknown.
type Length struct {
	// D is the length of the presentation, after edit lists. It includes the padding of
	// the codec, up to about 50 ms, unless the file says how long the padding is.
	// It is 0 if the length is not known.
	D time.Duration

	// Exact reports that D is a fact: it was counted, or independent signs in the file agree
	// on it.
	Exact bool

	// Least is the shortest length that the evidence allows, if D is not a fact. Even if
	// D is not known, Least may be above 0.
	Least time.Duration
}

// Fact returns a length that is certain.
func Fact(d time.Duration) Length { return Length{D: d, Exact: true} }

// Known reports whether the length is a fact or an estimate.
func (l Length) Known() bool { return l.Exact || l.D > 0 }

// AtLeast returns the shortest length that the evidence allows.
func (l Length) AtLeast() time.Duration {
	if l.Exact {
		return l.D
	}
	return l.Least
}

// Track is the video track or the audio track of a file.
type Track struct {
	// Codec is the name of the codec in lower case, as in ffprobe: "h264", "hevc",
	// "prores", "aac", "mp3", "opus". For every kind of uncompressed sound, Codec is
	// "pcm". It is empty if the codec is not known.
	Codec string

	Length Length

	// Frame is how long most pictures of a video track are shown. It is 0 for an audio
	// track, and if the time is not known.
	Frame time.Duration

	// Samples is how many pictures, or coded frames of sound, the track has. Bytes is
	// how many bytes the samples take, and Largest how many the largest of them takes. Each is 0
	// if it is not known.
	Samples, Bytes, Largest int64

	// Hash is a hash of the sizes of all samples: a copy of the track has the same hash.
	// It is empty if the sizes are not known, or all the same.
	Hash string
}

// Info is what Inspect found in a file.
type Info struct {
	// Name is the file name without folders. Bytes is how many bytes the file has.
	Name  string
	Bytes int64

	// Format is "mp4", "mov", "m4a", "webm", "mkv", "avi", "wav", "mp3", "aac", "ogg",
	// "opus", "flac", "jpeg", "png" or "webp". It is "mp4" for M4V files. It is empty if
	// the content is not known, or of a format that lipdrop does not accept.
	Format string

	// Kind is the kind that the suffix stands for. If the suffix is not accepted, it
	// is the kind of the content.
	Kind Kind

	// Video and Audio are the tracks that a player chooses, or nil if the file has no
	// such track. An image has neither.
	Video, Audio *Track

	// Width and Height are the size of the picture in pixels, as it is shown. The
	// rotation of a video track or the EXIF orientation of an image may swap them.
	// They are zero if they are not known.
	Width, Height int

	// Warnings say what is doubtful or could not be checked. Each is a clause without a full
	// stop.
	Warnings []string

	// Unread reports that the file passed although its format or its headers could not be read.
	// Some or all of Video, Audio, Width and Height are then not set.
	Unread bool
}

// Length returns the length of the video track of a video, or of the audio track of an
// audio file.
func (i Info) Length() Length {
	switch {
	case i.Kind == Video && i.Video != nil:
		return i.Video.Length
	case i.Kind == Audio && i.Audio != nil:
		return i.Audio.Length
	}
	return Length{}
}

// Longest returns how long a player shows the file: the length of the longer track of a video,
// or of the audio track of an audio file.
func (i Info) Longest() Length {
	l := i.Length()
	if i.Audio != nil && i.Audio.Length.D > l.D {
		l = i.Audio.Length
	}
	return l
}

// Codecs returns the known codecs of the video track and the audio track, in this order.
func (i Info) Codecs() []string {
	var codecs []string
	for _, t := range []*Track{i.Video, i.Audio} {
		if t != nil && t.Codec != "" {
			codecs = append(codecs, t.Codec)
		}
	}
	return codecs
}

// Inspect reads what a file holds. It returns a *problem.Problem if the file is empty,
// damaged, encrypted, not what its suffix says or of a variant that common decoders refuse, if
// a video has no video track, or if an audio file has no audio track or no sound. It wraps an
// error of ReadRange. A valid file passes with a warning if this package cannot read its format,
// or would have to read more of it than MaxBytes, MaxCalls and MaxSteps allow. If the suffix is
// not accepted, Inspect does not compare it with the content. With an error, the Info holds what
// was found before the error.
func Inspect(ctx context.Context, src Source) (Info, error) {
	src.Name = path.Base(src.Name)
	kind, _ := KindOf(src.Name)
	info := Info{Name: src.Name, Bytes: src.Size, Kind: kind}
	if src.Size <= 0 {
		return info, EmptyFile(info.Name)
	}
	r := newReader(ctx, src)
	err := try(func() { info.read(r) })
	var d damage
	var u unread
	switch {
	case r.failed != nil:
		return info, r.failed
	case errors.As(err, &d):
		return info, damagedFile(info.Name, d)
	case errors.As(err, &u):
		info.Unread = true
		info.warn("%s was not checked: %s", info.Name, u)
		return info, nil
	}
	return info, err
}

// read completes the info of a file with what its content says.
func (i *Info) read(r *reader) {
	named := i.Kind != "" // the suffix says what the content must be
	f, known := identify(r, suffixOf(i.Name))
	switch {
	case !known && named:
		panic(unknownContent(i.Name, i.Kind, nameContent(r)))
	case !known:
		panic(unread(fmt.Sprintf("lipdrop cannot read its content (%s)", nameContent(r))))
	}
	i.Format = f.format
	if named && !f.accepts(suffixOf(i.Name)) {
		panic(wrongContent(i.Name, f))
	}
	if !named {
		i.Kind = f.kind
	}
	if f.accepts(".m4a") && i.Kind == Audio {
		i.Format = "m4a"
	}
	if f.read == nil {
		panic(unread("lipdrop cannot read " + f.phrase))
	}
	f.read(r, i)
	if !named && i.Kind == Video && i.Video == nil && i.Audio != nil {
		i.Kind = Audio
	}
	if err := checkTracks(*i); err != nil {
		panic(err)
	}
}

func (i *Info) warn(format string, args ...any) {
	i.Warnings = append(i.Warnings, fmt.Sprintf(format, args...))
}

// factFromUnits returns a length of n units. A second has perSecond units. The length is unknown
// if it is too large or perSecond is 0.
func factFromUnits(n, perSecond uint64) Length {
	d, ok := inTime(n, perSecond)
	return Length{D: d, Exact: ok}
}
