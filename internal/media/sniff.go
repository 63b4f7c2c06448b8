package media

import (
	"bytes"
	"slices"
	"strings"

	"github.com/gabriel-vasile/mimetype"
)

// form is a file format that identify recognizes.
type form struct {
	format  string                     // Info.Format
	mime    string                     // Info.Type
	kind    Kind                       // Info.Kind if the suffix of the file is not accepted
	called  string                     // the format in a sentence, with its article
	suffix  string                     // the usual suffix; empty if lipdrop accepts none for this format
	content content                    // the group of suffixes that the file may have
	read    func(*reader, *Info) error // nil if this package cannot read the format
}

// MIME types of ISO base media.
const (
	typeMP4 = "video/mp4"
	typeM4A = "audio/mp4"
	typeMOV = "video/quicktime"
)

var (
	formMP4  = form{"mp4", typeMP4, Video, "an MP4 file", ".mp4", contentISO, readMP4}
	formM4A  = form{"mp4", typeM4A, Audio, "an M4A file", ".m4a", contentISO, readMP4}
	formMOV  = form{"mov", typeMOV, Video, "a QuickTime movie", ".mov", contentISO, readMP4}
	formWAV  = form{"wav", "audio/wav", Audio, "a WAV file", ".wav", contentWAV, readWAV}
	formMP3  = form{"mp3", "audio/mpeg", Audio, "an MP3 file", ".mp3", contentMP3, readMP3}
	formJPEG = form{"jpeg", "image/jpeg", Image, "a JPEG image", ".jpg", contentJPEG, readJPEG}
	formPNG  = form{"png", "image/png", Image, "a PNG image", ".png", contentPNG, readPNG}
	formWEBP = form{"webp", "image/webp", Image, "a WEBP image", ".webp", contentWebP, readWEBP}

	formWEBM = form{"webm", "video/webm", Video, "a WEBM file", ".webm", contentMatroska, readMatroska}
	formMKV  = form{"mkv", "video/x-matroska", Video, "a Matroska file", ".mkv", contentMatroska, readMatroska}
	formAVI  = form{"avi", "video/x-msvideo", Video, "an AVI file", ".avi", contentAVI, readAVI}
	formOGG  = form{"ogg", "audio/ogg", Audio, "an Ogg file", ".ogg", contentOgg, readOgg}
	formFLAC = form{"flac", "audio/flac", Audio, "a FLAC file", ".flac", contentFLAC, readFLAC}
	formAAC  = form{"aac", "audio/aac", Audio, "an AAC stream", ".aac", contentAAC, readAAC}
	formTS   = form{"ts", "video/mp2t", Video, "an MPEG transport stream", "", unknown, nil}
	formHEIF = form{"heif", "image/heif", Image, "a HEIF image, as phones take them", "", unknown, nil}
	formAVIF = form{"avif", "image/avif", Image, "an AVIF image", "", unknown, nil}
)

// outputSuffixes are the suffixes that Sniff returns.
var outputSuffixes = []string{".mp4", ".mov", ".webm", ".png", ".jpg", ".webp"}

// Sniff returns the MIME type of a file that begins with head, and the suffix for an
// output of that type. The suffix is .mp4, .mov, .webm, .png, .jpg or .webp, and empty
// for other types. A few hundred bytes are enough.
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

// others are the signatures of files that lipdrop does not accept.
var others = []struct {
	begins string
	form   form
}{
	{"#!AMR", form{"amr", "audio/amr", Audio, "an AMR recording, as phones make them", "", unknown, nil}},
	{"#!SILK", form{"silk", "audio/silk", Audio, "a voice message in SILK", "", unknown, nil}},
	{"\x02#!SILK", form{"silk", "audio/silk", Audio, "a voice message in SILK", "", unknown, nil}},
	{"FORM", form{"aiff", "audio/aiff", Audio, "an AIFF file", "", unknown, nil}},
	{"caff", form{"caf", "audio/x-caf", Audio, "a CAF file", "", unknown, nil}},
	{"\x30\x26\xb2\x75\x8e\x66\xcf\x11", form{"wma", "audio/x-ms-wma", Audio, "a Windows Media file", "", unknown, nil}},
	{"riff\x2e\x91\xcf\x11", form{"w64", "audio/x-w64", Audio, "a Wave64 file", "", unknown, nil}},
	{"wvpk", form{"wv", "audio/x-wavpack", Audio, "a WavPack file", "", unknown, nil}},
	{"MAC ", form{"ape", "audio/x-ape", Audio, "a Monkey's Audio file", "", unknown, nil}},
	{".snd", form{"au", "audio/basic", Audio, "an AU file", "", unknown, nil}},
	{"TTA1", form{"tta", "audio/x-tta", Audio, "a True Audio file", "", unknown, nil}},
	{"\x0b\x77", form{"ac3", "audio/ac3", Audio, "a Dolby Digital stream", "", unknown, nil}},
	{"\x7f\xfe\x80\x01", form{"dts", "audio/vnd.dts", Audio, "a DTS stream", "", unknown, nil}},
	{"FLV\x01", form{"flv", "video/x-flv", Video, "a Flash video", "", unknown, nil}},
	{"\x00\x00\x01\xba", form{"mpg", "video/mpeg", Video, "an MPEG program stream", "", unknown, nil}},
	{"MThd", form{"mid", "audio/midi", Audio, "a MIDI file, which holds notes and no sound", "", unknown, nil}},
}

// identify returns the form of the file and sets the start of its content. Tags and, in
// files whose suffix says so, other bytes may come before a stream of sound.
func identify(r *reader, promised content) (f form, known bool, err error) {
	head, err := r.most(0, longestSignature)
	if err != nil {
		return form{}, false, err
	}
	if f, known = signature(head); known {
		return f, true, nil
	}
	if r.start, err = skipTags(r, 0); err != nil {
		return form{}, false, err
	}
	tagged := r.start > 0
	if tagged {
		if head, err = r.most(r.start, longestSignature); err != nil {
			return form{}, false, err
		}
		if f, known = signature(head); known && f.kind == Audio && f.content != contentISO {
			return f, true, nil
		}
	}
	switch promised {
	case contentAAC:
		if isLATM(head) {
			return formAAC, true, nil
		}
		if _, known, err = adtsFraming.findSound(r, r.start, frameSearch); known || err != nil {
			return formAAC, known, err
		}
	case contentOgg:
		data, err := r.most(r.start, frameSearch)
		if i := bytes.Index(data, []byte("OggS")); i >= 0 || err != nil {
			r.start += max(int64(i), 0)
			return formOGG, i >= 0, err
		}
	}
	search := int64(1)
	if promised == contentMP3 {
		search = frameSearch
	}
	_, found, err := mpegFraming.findSound(r, r.start, search)
	// Only an MP3 begins with an ID3 tag, even if it has no frames.
	return formMP3, found || tagged, err
}

// longestSignature is how many bytes of a file signature reads. The longest
// signature is two packets of a transport stream.
const longestSignature = 200

// signature returns the form of a file that begins with head. It returns false if the
// first bytes do not identify a form.
func signature(head []byte) (form, bool) {
	head = head[:min(len(head), longestSignature)]
	begins := func(s string) bool { return bytes.HasPrefix(head, []byte(s)) }
	switch {
	case begins("\x89PNG\r\n\x1a\n"):
		return formPNG, true
	case begins("\xff\xd8\xff"):
		return formJPEG, true
	case isTransport(head, 0), isTransport(head, 4):
		return formTS, true
	case begins("\x1a\x45\xdf\xa3"):
		if bytes.Contains(head[:min(64, len(head))], []byte("webm")) { // other elements may come before the document type
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
	case "RF64", "BW64", "RIFX":
		if kind == "WAVE" {
			return formWAV, true
		}
	}
	if f, known := isoSignature(head); known {
		return f, true
	}
	return audioSignature(head)
}

// isTransport reports whether head begins with packets of an MPEG transport stream. A
// camera's packets have more bytes in front.
func isTransport(head []byte, more int) bool {
	next := 188 + 2*more
	return len(head) > next && head[more] == 'G' && head[next] == 'G' && head[more+1]&0x80 == 0
}

// isoSignature returns the form of an ISO base media file. It reads the type of the
// first box and, if that box is ftyp, the major brand. Old QuickTime movies have no
// ftyp box. Some box types are also words that a text file may contain; isoSignature
// accepts those only if the first byte of the box's length is 0.
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

// audioSignature returns the form of a stream of sound.
func audioSignature(head []byte) (form, bool) {
	switch _, isADTS := adtsFraming.at(head); {
	case bytes.HasPrefix(head, []byte("OggS")):
		return formOGG, true
	case bytes.HasPrefix(head, []byte("fLaC")):
		return formFLAC, true
	case isADTS, bytes.HasPrefix(head, []byte("ADIF")):
		return formAAC, true
	}
	for _, other := range others {
		if bytes.HasPrefix(head, []byte(other.begins)) {
			return other.form, true
		}
	}
	return form{}, false
}

// describe returns words for the content of a file that identify does not recognize:
// a MIME type, or "something else". It ignores the type audio/mpeg, because identify
// would have found an MP3 and mimetype needs only two bytes to report one.
func describe(r *reader) string {
	const enough = 3072 // the bytes that mimetype reads by default
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
