package media

import (
	"bytes"
	"cmp"
	"slices"
	"strings"

	"github.com/gabriel-vasile/mimetype"
)

// form is a file format that identify recognizes. If lipdrop does not accept the format, only
// phrase and kind are set.
type form struct {
	phrase string               // the format in a sentence, with its article
	mime   string               // the MIME type
	kind   Kind                 // what the file holds
	format string               // Info.Format
	suffix string               // the usual suffix
	family []string             // suffixes that the file may have as well
	read   func(*reader, *Info) // reads the file
}

var (
	isoFamily = []string{".mp4", ".mov", ".m4v", ".m4a"}
	mkvFamily = []string{".webm", ".mkv"}
)

var (
	formMP4  = form{"an MP4 file", "video/mp4", Video, "mp4", ".mp4", isoFamily, readMP4}
	formM4A  = form{"an M4A file", "audio/mp4", Audio, "mp4", ".m4a", isoFamily, readMP4}
	formMOV  = form{"a QuickTime movie", "video/quicktime", Video, "mov", ".mov", isoFamily, readMP4}
	formWEBM = form{"a WEBM file", "video/webm", Video, "webm", ".webm", mkvFamily, readMatroska}
	formMKV  = form{"a Matroska file", "video/x-matroska", Video, "mkv", ".mkv", mkvFamily, readMatroska}
	formAVI  = form{"an AVI file", "video/x-msvideo", Video, "avi", ".avi", nil, readAVI}
	formWAV  = form{"a WAV file", "audio/wav", Audio, "wav", ".wav", nil, readWAV}
	formMP3  = form{"an MP3 file", "audio/mpeg", Audio, "mp3", ".mp3", nil, readMP3}
	formAAC  = form{"an AAC stream", "audio/aac", Audio, "aac", ".aac", nil, readAAC}
	formOGG  = form{"an Ogg file", "audio/ogg", Audio, "ogg", ".ogg", []string{".opus"}, readOgg}
	formFLAC = form{"a FLAC file", "audio/flac", Audio, "flac", ".flac", nil, readFLAC}
	formJPEG = form{"a JPEG image", "image/jpeg", Image, "jpeg", ".jpg", []string{".jpeg"}, readJPEG}
	formPNG  = form{"a PNG image", "image/png", Image, "png", ".png", nil, readPNG}
	formWEBP = form{"a WEBP image", "image/webp", Image, "webp", ".webp", nil, readWEBP}
)

// accepts reports whether a file of this form may have a suffix.
func (f form) accepts(suffix string) bool {
	return suffix == f.suffix || slices.Contains(f.family, suffix)
}

// signatures lists what files begin with. ? stands for any byte. The first row that matches
// decides. An old QuickTime movie begins with a box such as free. The \x00 before its name is the
// first byte of the size of a box below 16 MB; it excludes a text with the word free.
var signatures = []struct {
	form   form
	begins []string
}{
	{formPNG, []string{"\x89PNG\r\n\x1a\n"}},
	{formJPEG, []string{"\xff\xd8\xff"}},
	{formWAV, []string{"RIFF????WAVE", "RF64????WAVE", "BW64????WAVE", "RIFX????WAVE"}},
	{formWEBP, []string{"RIFF????WEBP"}},
	{formAVI, []string{"RIFF????AVI "}},
	{formM4A, []string{"????ftypM4A ", "????ftypM4B ", "????ftypF4A "}},
	{form{phrase: "a HEIF image, as phones take them", kind: Image}, []string{"????ftyphei", "????ftyphevc", "????ftyphevx", "????ftypmif1", "????ftypmsf1", "????ftypavci"}},
	{form{phrase: "a Canon RAW image", kind: Image}, []string{"????ftypcrx "}},
	{form{phrase: "an AVIF image", kind: Image}, []string{"????ftypavif", "????ftypavis"}},
	{formMOV, []string{"????ftypqt  ", "????mdat", "\x00???moov", "\x00???wide", "\x00???free", "\x00???skip", "\x00???pnot"}},
	{formMP4, []string{"????ftyp", "\x00???uuid", "\x00???moof", "\x00???styp", "\x00???sidx"}},
	{formOGG, []string{"OggS"}},
	{formFLAC, []string{"fLaC"}},
	{formAAC, []string{"ADIF"}},
	{form{phrase: "an AMR recording, as phones make them", kind: Audio}, []string{"#!AMR"}},
	{form{phrase: "a voice message in SILK", kind: Audio}, []string{"#!SILK", "\x02#!SILK"}},
	{form{phrase: "an AIFF file", kind: Audio}, []string{"FORM"}},
	{form{phrase: "a CAF file", kind: Audio}, []string{"caff"}},
	{form{phrase: "a Windows Media file", kind: Video}, []string{"\x30\x26\xb2\x75\x8e\x66\xcf\x11"}},
	{form{phrase: "a Wave64 file", kind: Audio}, []string{"riff\x2e\x91\xcf\x11"}},
	{form{phrase: "a WavPack file", kind: Audio}, []string{"wvpk"}},
	{form{phrase: "a Monkey's Audio file", kind: Audio}, []string{"MAC "}},
	{form{phrase: "an AU file", kind: Audio}, []string{".snd"}},
	{form{phrase: "a True Audio file", kind: Audio}, []string{"TTA1"}},
	{form{phrase: "a Dolby Digital stream", kind: Audio}, []string{"\x0b\x77"}},
	{form{phrase: "a DTS stream", kind: Audio}, []string{"\x7f\xfe\x80\x01"}},
	{form{phrase: "a Flash video", kind: Video}, []string{"FLV\x01"}},
	{form{phrase: "H.264 or H.265 video without a container", kind: Video}, []string{"\x00\x00\x00\x01\x09", "\x00\x00\x00\x01\x27", "\x00\x00\x00\x01\x67", "\x00\x00\x00\x01\x40\x01", "\x00\x00\x00\x01\x46\x01"}},
	{form{phrase: "an MPEG program stream", kind: Video}, []string{"\x00\x00\x01\xba"}},
	{form{phrase: "a raw DV stream, as camcorders record it", kind: Video}, []string{"\x1f\x07\x00"}},
	{form{phrase: "an MXF file", kind: Video}, []string{"\x06\x0e\x2b\x34"}},
	{form{phrase: "a RealMedia file", kind: Video}, []string{".RMF"}},
	{form{phrase: "a MIDI file, which holds notes and no sound", kind: Audio}, []string{"MThd"}},
}

// Sniff returns the MIME type of a file that begins with head, and the suffix for an
// output of that type. The suffix is .mp4, .mov, .webm, .png, .jpg or .webp, and empty
// for other types. A few hundred bytes are enough to find the suffix.
func Sniff(head []byte) (mimeType, suffix string) {
	f, _ := signature(head)
	switch f.suffix {
	case ".mp4", ".mov", ".webm", ".png", ".jpg", ".webp":
		return f.mime, f.suffix
	}
	return cmp.Or(f.mime, mimeOf(head)), ""
}

// identify returns the form of the file. It sets r.start to the end of the tags before the content,
// or to the first page of an Ogg file. It finds sound after tags, and after other bytes only if the
// suffix is .aac, .mp3, .ogg or .opus.
func identify(r *reader, suffix string) (f form, known bool) {
	head := r.most(0, longestSignature)
	if f, known = signature(head); known {
		return f, true
	}
	r.start = skipTags(r, 0)
	tagged := r.start > 0
	if tagged {
		head = r.most(r.start, longestSignature)
		switch f, known = signature(head); {
		case known && f.accepts(".mp4"):
			panic(damage("a tag was added before its header, so its pictures and its sound are not where its index says"))
		case known && f.kind == Audio:
			return f, true
		}
	}
	switch suffix {
	case ".aac":
		if isLATM(head) {
			return formAAC, true
		}
		if _, known = adtsFraming.findSound(r, r.start, frameSearch); known {
			return formAAC, true
		}
	case ".ogg", ".opus":
		if i := bytes.Index(r.most(r.start, frameSearch), []byte("OggS")); i >= 0 {
			r.start += int64(i)
			return formOGG, true
		}
	}
	search := int64(1)
	if suffix == ".mp3" {
		search = frameSearch
	}
	_, found := mpegFraming.findSound(r, r.start, search)
	// Any other file that begins with a tag is an MP3, even if no frame was found.
	return formMP3, found || tagged || isFreeFormat(r)
}

// longestSignature is how many bytes of a file the function signature reads. A transport
// stream needs the most: its second packet must begin within these bytes.
const longestSignature = 200

// signature returns the form of a file that begins with head. It returns false if the
// first bytes do not identify a form.
func signature(head []byte) (form, bool) {
	head = head[:min(len(head), longestSignature)]
	for _, s := range signatures {
		if slices.ContainsFunc(s.begins, func(begins string) bool { return matchesSignature(head, begins) }) {
			return s.form, true
		}
	}
	_, isADTS := adtsFraming.at(head)
	switch {
	case isADTS:
		return formAAC, true
	case isTransport(head, 0), isTransport(head, 4):
		return form{phrase: "an MPEG transport stream", kind: Video}, true
	case beginsWith(head, "\x1a\x45\xdf\xa3"):
		if bytes.Contains(head[:min(64, len(head))], []byte("webm")) { // other elements may come before the document type
			return formWEBM, true
		}
		return formMKV, true
	}
	return form{}, false
}

func matchesSignature(head []byte, signature string) bool {
	if len(head) < len(signature) {
		return false
	}
	for i := range len(signature) {
		if signature[i] != '?' && signature[i] != head[i] {
			return false
		}
	}
	return true
}

// isTransport reports whether head begins with packets of an MPEG transport stream. The
// parameter extra is how many bytes come before each packet: a camera writes 4.
func isTransport(head []byte, extra int) bool {
	next := 188 + 2*extra
	return len(head) > next && head[extra] == 'G' && head[next] == 'G' && head[extra+1]&0x80 == 0
}

// onlyZeros describes a file that a download or a copy created but never wrote.
const onlyZeros = "only zeros"

// nameContent returns words for the content of a file that identify does not recognize: a MIME
// type, onlyZeros or "something else". It ignores audio/mpeg, which mimetype reports after only
// two bytes, and a text/plain that may be 8-bit samples without a header.
func nameContent(r *reader) string {
	const enough = 3072 // the bytes that mimetype reads by default
	head := r.most(0, enough)
	_, tail := r.tail(0, enough)
	mime := mimetype.Detect(head)
	notASCII := 0
	for _, b := range head {
		notASCII += int(b >> 7)
	}
	isUnicode := strings.Contains(mime.String(), "charset=utf-")
	switch {
	case isZero(head) && isZero(tail):
		return onlyZeros
	case mime.Is("application/octet-stream"), mime.Is("audio/mpeg"), mime.Is("text/plain") && !isUnicode && notASCII >= len(head)/4:
		return "something else"
	}
	return mimeOf(head)
}

// mimeOf returns the MIME type of a file that begins with head, without parameters.
func mimeOf(head []byte) string {
	mime, _, _ := strings.Cut(mimetype.Detect(head).String(), ";")
	return mime
}
