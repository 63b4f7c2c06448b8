package media

import (
	"bytes"
	"fmt"
	"slices"
)

// spatialAudio names a codec that only Apple's programs decode.
const spatialAudio = "spatial audio (apac)"

// entryCodecs are the words for codecs, by the type of the sample entry.
var entryCodecs = map[string]string{
	"avc1": "h264", "avc2": "h264", "avc3": "h264", "avc4": "h264", "dva1": "h264", "dvav": "h264",
	"hvc1": "hevc", "hev1": "hevc", "dvh1": "hevc", "dvhe": "hevc", "vvc1": "vvc", "vvi1": "vvc",
	"av01": "av1", "dav1": "av1", "vp08": "vp8", "vp09": "vp9", "mp4v": "mpeg4", "s263": "h263", "h263": "h263",
	"apco": "prores", "apcs": "prores", "apcn": "prores", "apch": "prores", "ap4h": "prores", "ap4x": "prores", "aprn": "prores_raw", "aprh": "prores_raw", "braw": "braw",
	"AVdn": "dnxhd", "AVdh": "dnxhd", "CFHD": "cfhd", "dvc ": "dvvideo", "dvcp": "dvvideo", "dvpp": "dvvideo", "m2v1": "mpeg2video", "jpeg": "mjpeg", "mjpa": "mjpeg", "mjpb": "mjpeg",
	"png ": "png", "rle ": "qtrle", "SVQ3": "svq3", "cvid": "cinepak", "raw ": "rawvideo", "2vuy": "rawvideo", "v210": "v210",
	"mp4a": "aac", "alac": "alac", "ac-3": "ac3", "ec-3": "eac3", "ac-4": "ac4", "apac": "apac", "Opus": "opus", "fLaC": "flac",
	".mp3": "mp3", "ms\x00\x55": "mp3", "samr": "amr_nb", "sawb": "amr_wb", "dtsc": "dts", "mha1": "mpegh_3d_audio", "mhm1": "mpegh_3d_audio",
	"lpcm": "pcm", "sowt": "pcm", "twos": "pcm", "in24": "pcm", "in32": "pcm", "fl32": "pcm", "fl64": "pcm", "ipcm": "pcm", "fpcm": "pcm",
	"NONE": "pcm", "ulaw": "pcm_mulaw", "alaw": "pcm_alaw", "ima4": "adpcm_ima_qt",
}

// objectTypes are the words for codecs in mp4v and mp4a entries, by object type (mp4ra.org).
var objectTypes = map[byte]string{
	0x20: "mpeg4", 0x60: "mpeg2video", 0x61: "mpeg2video", 0x62: "mpeg2video", 0x63: "mpeg2video", 0x64: "mpeg2video", 0x65: "mpeg2video",
	0x6a: "mpeg1video", 0x6c: "mjpeg", 0x40: "aac", 0x66: "aac", 0x67: "aac", 0x68: "aac", 0x69: "mp3", 0x6b: "mp3", 0xa5: "ac3", 0xa6: "eac3",
	0xa9: "dts", 0xdd: "vorbis",
}

// unusualCodecs are the codecs that few programs decode, each with the name that people know.
var unusualCodecs = map[string]string{
	"prores": "ProRes", "prores_raw": "ProRes RAW", "braw": "Blackmagic RAW", "dnxhd": "DNxHD", "cfhd": "CineForm", "qtrle": "QuickTime Animation", "vvc": "H.266 (VVC)",
	"alac": "Apple Lossless (ALAC)", "apac": spatialAudio, "ac4": "Dolby AC-4", "mpegh_3d_audio": "MPEG-H 3D Audio",
}

// warnUnusual warns that few programs decode a track. unusual says what the track is, such as
// "ProRes". If it is empty, warnUnusual does nothing. It ignores the pictures of an audio file,
// because no model uses them.
func (i *Info) warnUnusual(t *Track, unusual string) {
	if unusual == "" || t == i.Video && i.Kind == Audio {
		return
	}
	part := i.Name
	if t == i.Audio && i.Kind == Video {
		part = "the sound of " + i.Name
	}
	better := "H.264 with AAC sound"
	if i.Kind == Audio {
		better = "WAV or MP3"
	}
	i.warn("%s is %s, which not every program decodes; if the job fails, export %s as %s", part, unusual, i.Name, better)
}

// readEntry reads the first sample entry of a track (ISO 14496-12, 8.5.2).
func (t *track) readEntry(r *reader) {
	stsd, found := t.tables["stsd"]
	if !found {
		return
	}
	head := r.head(stsd, 16)
	data := r.step(stsd.body+8, max(8, min(int64(u32(head[8:])), maxTable, stsd.end-stsd.body-8)))
	kind := string(data[4:8])
	if slices.Contains([]string{"encv", "enca", "encs", "drms", "drmi", "drmt", "aavd"}, kind) {
		t.encrypted = true
		if original := behind(data, "frma"); len(original) >= 4 {
			kind = string(original[:4])
		}
	}
	t.Codec = entryCodecs[kind]
	if kind == "raw " && t.handler == "soun" {
		t.Codec = "pcm"
	}
	t.unusual = unusualCodecs[t.Codec]
	if kind == "mp4a" || kind == "mp4v" {
		object, config := objectType(behind(data, "esds"))
		if codec := objectTypes[object]; codec != "" {
			t.Codec = codec
		}
		if t.Codec == "aac" && isXHE(config) {
			t.unusual = "xHE-AAC"
		}
	}
	if t.handler == "vide" && len(data) >= 84 {
		t.codedWidth, t.codedHeight = int(data[32])<<8|int(data[33]), int(data[34])<<8|int(data[35])
		t.describePicture(data)
	}
}

// describePicture sets t.unusual if the pictures are HEVC with 10 bits or more, or have
// transparency. data is the sample entry.
func (t *track) describePicture(data []byte) {
	transfer := byte(0)
	if colour := behind(data, "colr"); len(colour) >= 8 && colour[6] == 0 {
		transfer = colour[7]
	}
	if behind(data, "dvcC") != nil || behind(data, "dvvC") != nil {
		transfer = transferPQ
	}
	if hevc := unusualHEVC(behind(data, "hvcC"), transfer); hevc != "" {
		t.unusual = hevc
	}
	const depthWithAlpha = 32
	alpha := data[82] == 0 && data[83] == depthWithAlpha && slices.Contains([]string{"prores", "qtrle", "png"}, t.Codec)
	switch {
	case alpha && t.unusual != "":
		t.unusual += " with transparency"
	case alpha || behind(data, "almo") != nil:
		t.unusual = "a video with transparency"
	}
}

// Transfer functions of HDR (ITU-T H.273).
const (
	transferPQ  = 16
	transferHLG = 18
)

// unusualHEVC returns a name such as "10-bit HEVC HDR" if config (ISO 14496-15, 8.3.3) says
// that the pictures have 10 bits or more. Otherwise it returns "".
func unusualHEVC(config []byte, transfer byte) string {
	const depthAt = 17 // offset of the bit depth minus 8, in three bits
	if len(config) <= depthAt || config[depthAt]&7 < 2 {
		return ""
	}
	text := fmt.Sprintf("%d-bit HEVC", 8+(config[depthAt]&7))
	if transfer == transferPQ || transfer == transferHLG {
		text += " HDR"
	}
	return text
}

// pictureCodecs are the words for codecs, by the code in a Windows bitmap header. The codes
// are in capitals, without trailing spaces.
var pictureCodecs = map[string]string{
	"H264": "h264", "X264": "h264", "AVC1": "h264", "HEVC": "hevc", "H265": "hevc", "HVC1": "hevc", "AV01": "av1", "VP80": "vp8", "VP90": "vp9",
	"XVID": "mpeg4", "DIVX": "mpeg4", "DX50": "mpeg4", "FMP4": "mpeg4", "MP4V": "mpeg4", "DIV3": "msmpeg4v3", "MP43": "msmpeg4v3",
	"MJPG": "mjpeg", "DVSD": "dvvideo", "CFHD": "cfhd", "AVDN": "dnxhd", "AVDH": "dnxhd", "CVID": "cinepak",
	"\x00\x00\x00\x00": "rawvideo", "DIB": "rawvideo", "I420": "rawvideo", "YUY2": "rawvideo", "UYVY": "rawvideo",
}

// pictureCodec returns the word for the codec with a code of a Windows bitmap header, or "".
func pictureCodec(fourCC []byte) string {
	return pictureCodecs[string(bytes.ToUpper(bytes.TrimRight(fourCC, " ")))]
}

// behind returns the bytes of data that follow the first box header of the given type, or nil if
// data has no such box.
func behind(data []byte, kind string) []byte {
	if i := bytes.Index(data, []byte(kind)); i >= 0 {
		return data[i+len(kind):]
	}
	return nil
}

// objectType returns the object type of the codec and the configuration of the decoder from the
// body of an esds box (ISO 14496-1, 7.2.6). A value that is missing there is 0 or nil.
func objectType(esds []byte) (object byte, config []byte) {
	const elementary, decoder, specific = 3, 4, 5
	fields := map[byte]int{elementary: 3, decoder: 13} // bytes before the next tag
	data := esds[min(4, len(esds)):]
	for len(data) > 1 {
		tag := data[0]
		for data = data[1:]; len(data) > 0 && data[0]&0x80 != 0; { // all bytes of a length but its last have this bit
			data = data[1:]
		}
		data = data[min(1, len(data)):]
		switch {
		case tag == specific:
			return object, data
		case fields[tag] == 0:
			return object, nil
		case tag == decoder && len(data) > 0:
			object = data[0]
		}
		data = data[min(fields[tag], len(data)):]
	}
	return object, nil
}

// isXHE reports whether AAC of the given configuration is xHE-AAC, the audio object type 42. This
// type is coded as 31 in five bits and 42-32 in six bits (ISO 14496-3, 1.6.2.1).
func isXHE(config []byte) bool {
	return len(config) > 1 && config[0] == 0xf9 && config[1]&0xe0 == 0x40
}
