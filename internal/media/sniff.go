package media

import (
	"bytes"
	"slices"
	"strings"

	"github.com/gabriel-vasile/mimetype"
)

// form is a form of media file that is known by its first bytes.
type form struct {
	format  string  // Info.Format; empty for a form that is not read here
	mime    string  // Info.Type
	kind    Kind    // what a file of it is, where its suffix does not say
	called  string  // what a sentence calls a file of it
	suffix  string  // what such a file is best named; empty where no suffix will do
	content content // what the suffixes that it may have promise
	read    func(*reader, *Info) error
}

// MIME types of ISO base media.
const (
	typeMP4 = "video/mp4"
	typeM4A = "audio/mp4"
)

var (
	formMP4  = form{"mp4", typeMP4, Video, "an MP4 file", ".mp4", contentISO, readMP4}
	formM4A  = form{"mp4", typeM4A, Audio, "an M4A file", ".m4a", contentISO, readMP4}
	formMOV  = form{"mov", "video/quicktime", Video, "a QuickTime movie", ".mov", contentISO, readMP4}
	formWAV  = form{"wav", "audio/wav", Audio, "a WAV file", ".wav", contentWAV, readWAV}
	formMP3  = form{"mp3", "audio/mpeg", Audio, "an MP3 file", ".mp3", contentMP3, readMP3}
	formJPEG = form{"jpeg", "image/jpeg", Image, "a JPEG image", ".jpg", contentJPEG, readJPEG}
	formPNG  = form{"png", "image/png", Image, "a PNG image", ".png", contentPNG, readPNG}
	formWEBP = form{"webp", "image/webp", Image, "a WEBP image", ".webp", contentWebP, readWEBP}

	formWEBM = form{"", "video/webm", Video, "a WEBM file", ".webm", contentMatroska, nil}
	formMKV  = form{"", "video/x-matroska", Video, "a Matroska file", ".mkv", contentMatroska, nil}
	formAVI  = form{"", "video/x-msvideo", Video, "an AVI file", ".avi", contentAVI, nil}
	formOGG  = form{"", "audio/ogg", Audio, "an Ogg file", ".ogg", contentOgg, nil}
	formFLAC = form{"", "audio/flac", Audio, "a FLAC file", ".flac", contentFLAC, nil}
	formAAC  = form{"", "audio/aac", Audio, "an AAC stream", ".aac", contentAAC, nil}
	formRIFX = form{"", "audio/wav", Audio, "a big-endian WAV file", ".wav", contentWAV, nil}
	formHEIF = form{"", "image/heif", Image, "a HEIF image, as phones take them", "", unknown, nil}
	formAVIF = form{"", "image/avif", Image, "an AVIF image", "", unknown, nil}
)

// outputSuffixes are the suffixes that an output may be given by what it is.
var outputSuffixes = []string{".mp4", ".mov", ".webm", ".png", ".jpg", ".webp"}

// Sniff returns the MIME type of a file that begins with head, and the suffix that
// an output of that type is given: .mp4, .mov, .webm, .png, .jpg or .webp, and an
// empty one for everything else. A few hundred bytes are enough.
func Sniff(head []byte) (mimeType, suffix string) {
	f, known := signature(head)
	if !known {
		return mimeOf(head), ""
	}
	if slices.Contains(outputSuffixes, f.suffix) {
		return f.mime, f.suffix
	}
	return f.mime, ""
}

// identify returns the form that r's file is of. Sound without a signature of its
// own, such as an MP3's, is searched for only where the suffix announces an MP3.
func identify(r *reader, suffix string) (f form, known bool, err error) {
	head, err := r.most(0, longestSignature)
	if err != nil {
		return form{}, false, err
	}
	if f, known = signature(head); known {
		return f, true, nil
	}
	start, err := skipID3(r)
	if err != nil {
		return form{}, false, err
	}
	tagged := start > 0
	if tagged {
		if head, err = r.most(start, longestSignature); err != nil {
			return form{}, false, err
		}
	}
	if f, known = audioSignature(head); known {
		return f, true, nil
	}
	if tagged { // nothing else begins so, frames or not
		return formMP3, true, nil
	}
	search := int64(1)
	if suffix == ".mp3" {
		search = frameSearch
	}
	_, found, err := findFrame(r, start, search)
	return formMP3, found, err
}

// longestSignature is how much of a file the signatures look at: the longest is the
// EBML header, whose document type may come after others of its members.
const longestSignature = 64

// signature returns the form of a file that begins with head, as far as a few bytes
// at its beginning tell.
func signature(head []byte) (form, bool) {
	head = head[:min(len(head), longestSignature)]
	begins := func(s string) bool { return bytes.HasPrefix(head, []byte(s)) }
	switch {
	case begins("\x89PNG\r\n\x1a\n"):
		return formPNG, true
	case begins("\xff\xd8\xff"):
		return formJPEG, true
	case begins("\x1a\x45\xdf\xa3"):
		if bytes.Contains(head, []byte("webm")) {
			return formWEBM, true
		}
		return formMKV, true
	case len(head) < 12:
		return form{}, false
	}
	switch chunk, kind := string(head[:4]), string(head[8:12]); chunk {
	case "RIFF":
		switch kind {
		case "WAVE":
			return formWAV, true
		case "WEBP":
			return formWEBP, true
		case "AVI ":
			return formAVI, true
		}
	case "RF64", "BW64":
		if kind == "WAVE" {
			return formWAV, true
		}
	case "RIFX":
		if kind == "WAVE" {
			return formRIFX, true
		}
	}
	if f, known := isoSignature(head); known {
		return f, true
	}
	return audioSignature(head)
}

// isoSignature judges by the type of the first box and, where that is the file's
// type, by its major brand. QuickTime movies of old begin without one; a text that
// has such a word there is told from them by the length in front of it.
func isoSignature(head []byte) (form, bool) {
	switch first, brand, short := string(head[4:8]), string(head[8:12]), head[0] == 0; first {
	case "ftyp":
		switch brand {
		case "qt  ":
			return formMOV, true
		case "M4A ", "M4B ", "F4A ":
			return formM4A, true
		case "heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "msf1":
			return formHEIF, true
		case "avif", "avis":
			return formAVIF, true
		}
		return formMP4, true
	case "moof", "styp", "sidx":
		return formMP4, short
	case "moov", "wide", "free", "skip", "pnot":
		return formMOV, short
	case "mdat":
		return formMOV, true
	}
	return form{}, false
}

// audioSignature knows the streams that may also follow an ID3 tag.
func audioSignature(head []byte) (form, bool) {
	switch {
	case bytes.HasPrefix(head, []byte("OggS")):
		return formOGG, true
	case bytes.HasPrefix(head, []byte("fLaC")):
		return formFLAC, true
	case bytes.HasPrefix(head, []byte("ADIF")):
		return formAAC, true
	case len(head) >= 7 && head[0] == 0xff && head[1]&0xf6 == 0xf0 && head[2]>>2&0xf < 13:
		return formAAC, true // ADTS: twelve bits of sync, layer 0, a sampling rate of the thirteen
	}
	return form{}, false
}

// describe says what a file holds that is of no form of this package, as a MIME type
// where it has one. An MP3 would have been found: two bytes that look like one's
// are no reason to call it so.
func describe(r *reader) string {
	const enough = 3072 // what mimetype looks at by itself
	const other = "something else"
	head, err := r.most(0, enough)
	if err != nil {
		return other
	}
	switch mime := mimeOf(head); mime {
	case "application/octet-stream", "audio/mpeg":
		return other
	default:
		return mime
	}
}

// mimeOf returns the MIME type of a file that begins with head, without parameters.
func mimeOf(head []byte) string {
	mime, _, _ := strings.Cut(mimetype.Detect(head).String(), ";")
	return mime
}
