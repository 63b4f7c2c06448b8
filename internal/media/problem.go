package media

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/gabriel-vasile/mimetype"

	"github.com/lipdrop/lipdrop/internal/problem"
)

// damage is the error with which a parser panics for a file that breaks the rules of its
// format. The text of the error continues the sentence "file is damaged: ".
type damage string

func (d damage) Error() string { return string(d) }

// EmptyFile returns the problem of a file without bytes.
func EmptyFile(file string) *problem.Problem {
	return newProblem(problem.FileEmpty, file+" is empty", "Make sure that "+file+" is not empty on your computer.")
}

func noSound(file string) error {
	return newProblem(problem.FileEmpty, file+" holds no sound", "Record "+file+" again.")
}

func damagedFile(file string, d damage) error {
	return newProblem(problem.FileDamaged,
		fmt.Sprintf("%s is damaged: %s", file, d),
		"Export "+file+" again if it does not open on your computer.")
}

func encryptedFile(file string) error {
	return newProblem(problem.FileEncrypted,
		file+" is encrypted, so only programs that have its key can decode it",
		"Export "+file+" without copy protection.")
}

// wrongContent returns the problem of a file whose content does not match its suffix.
func wrongContent(file string, f form) error {
	kind, _ := KindOf(file)
	to, suffix := f.kind, f.suffix
	if kind == Audio && f.kind == Video { // only the sound of the video is needed
		to, suffix = Audio, ""
		if f.accepts(".m4a") {
			suffix = ".m4a"
		}
	}
	remedy := convert(file, to)
	switch {
	case (to == Audio) != (kind == Audio): // an image cannot be converted to sound, nor sound to an image or a video
		remedy = export(file, kind)
	case suffix != "":
		remedy = fmt.Sprintf("Rename %s to %s%s.", file, strings.TrimSuffix(file, path.Ext(file)), suffix)
	}
	return newProblem(problem.FileMismatch, fmt.Sprintf("%s is not what its suffix says: it is %s", file, f.phrase), remedy)
}

// convert returns the remedy for a file that must be converted to a common format of a kind.
func convert(file string, to Kind) string {
	formats := map[Kind]string{Video: "an MP4 file", Audio: "a WAV or MP3 file", Image: "a JPEG or PNG image"}
	return fmt.Sprintf("Convert %s to %s.", file, formats[to])
}

// export returns the remedy for a file whose content is not of the kind that its suffix says.
func export(file string, kind Kind) string {
	return fmt.Sprintf("Export %s as a real %s.", file, problem.List(Suffixes(kind), "or"))
}

// refused returns the problem of a file in a variant of its format that common decoders refuse.
func refused(file, variant string, kind Kind) error {
	return newProblem(problem.FileMismatch, fmt.Sprintf("%s is %s", file, variant), convert(file, kind))
}

var archives = []string{"application/zip", "application/gzip", "application/vnd.rar", "application/x-7z-compressed", "application/x-tar", "application/x-bzip2", "application/x-xz", "application/zstd"}

// unknownContent returns the problem of a file whose content lipdrop does not accept. The
// parameter content is the MIME type of the content, or words such as "something else".
func unknownContent(file string, kind Kind, content string) error {
	is := fmt.Sprintf("not %s, but %s", kind.Noun(), content)
	remedy := export(file, kind)
	switch {
	case strings.HasPrefix(content, string(kind)+"/"):
		is, remedy = content, convert(file, kind)
	case isText(content) || content == "application/vnd.apple.mpegurl":
		remedy = fmt.Sprintf("Download or export %s again: it holds only text, such as an error message.", file)
	case content == onlyZeros:
		remedy = fmt.Sprintf("Download or copy %s again.", file)
	case slices.Contains(archives, content):
		remedy = fmt.Sprintf("Unpack %s: it is an archive.", file)
	}
	return newProblem(problem.FileMismatch, fmt.Sprintf("%s is not what its suffix says: it is %s", file, is), remedy)
}

// isText reports whether files of a MIME type, such as application/json, are texts.
func isText(content string) bool {
	mime := mimetype.Lookup(content)
	for mime != nil && !mime.Is("text/plain") {
		mime = mime.Parent()
	}
	return mime != nil
}

// checkTracks returns a problem if a file lacks the track that its kind needs, or nil.
func checkTracks(info Info) error {
	file := info.Name
	switch {
	case info.Kind == Video && info.Video == nil && info.Audio != nil:
		voice := "convert it to WAV or MP3"
		if info.Format == formMP4.format || info.Format == formMOV.format {
			voice = "name it " + strings.TrimSuffix(file, path.Ext(file)) + ".m4a"
		}
		return newProblem(problem.NoVideoTrack, file+" has no video track, only sound",
			fmt.Sprintf("Export %s again with its picture. If it is the voice, %s.", file, voice))
	case info.Kind == Video && info.Video == nil:
		return newProblem(problem.NoVideoTrack, file+" has no video track", "Export "+file+" again with its picture.")
	case info.Kind == Audio && info.Audio == nil:
		return newProblem(problem.NoAudioTrack, file+" has no audio track", "Export "+file+" again with its sound.")
	}
	return nil
}

func newProblem(code problem.Code, reason, remedy string) *problem.Problem {
	return &problem.Problem{Code: code, Reason: reason, Remedy: remedy}
}
