package media

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/lipdrop/lipdrop/internal/problem"
)

// Identifiers of Matroska elements (RFC 9559, section 5).
const (
	idEBML                                        = 0x1A45DFA3
	idSegment, idInfo, idTracks, idCluster        = 0x18538067, 0x1549A966, 0x1654AE6B, 0x1F43B675
	idSeekHead, idCues, idChapters, idAttachments = 0x114D9B74, 0x1C53BB6B, 0x1043A770, 0x1941A469
	idTags, idTag, idTargets, idTagTrackUID       = 0x1254C367, 0x7373, 0x63C0, 0x63C5
	idSimpleTag, idTagName, idTagString           = 0x67C8, 0x45A3, 0x4487

	idTimestampScale, idDuration = 0x2AD7B1, 0x4489

	idTrackEntry, idTrackNumber, idTrackUID, idTrackType                     = 0xAE, 0xD7, 0x73C5, 0x83
	idFlagEnabled, idDefaultDuration                                         = 0xB9, 0x23E383
	idCodecID, idCodecPrivate, idVideo, idPixelWidth, idPixelHeight, idAlpha = 0x86, 0x63A2, 0xE0, 0xB0, 0xBA, 0x53C0
	idDisplayUnit, idDisplayWidth, idDisplayHeight                           = 0x54B2, 0x54B0, 0x54BA
	idColour, idTransfer, idProjection, idRoll                               = 0x55B0, 0x55BA, 0x7670, 0x7675
	idEncodings, idEncoding, idEncryption                                    = 0x6D80, 0x6240, 0x5035

	idTimestamp, idSimpleBlock, idBlockGroup, idBlock, idBlockDuration = 0xE7, 0xA3, 0xA0, 0xA1, 0x9B
	idVoid                                                             = 0xEC
)

// matroska is what was found in the first segment of a Matroska or WEBM file. The segment begins
// with its length and the list of its tracks. Then come clusters of a few seconds, which hold the
// pictures and the sound in blocks.
type matroska struct {
	scale       uint64  // nanoseconds in a unit of time
	duration    float64 // in units; 0 if the file does not say
	tracks      []mkvTrack
	first, last element // the first cluster, and the last one that was found
	walked      bool    // last is the last cluster of the file
	cut         bool    // the file ends in the middle of an element
	end         int64   // where the segment ends; 0 if it does not say how long it is
	all         bool    // all blocks were read
	gap         bool    // zeros or something unknown follow a block, so later blocks may be missing
	unwritten   bool    // the segment ends with more zeros than a block of silence has
	joined      bool    // the file holds another segment
	start       int64   // when the first cluster starts (see clusterStart)
}

// mkvTrack is a track of a Matroska file.
type mkvTrack struct {
	Track
	number, kind  uint64
	width, height int
	uid           uint64 // identifies the track in tags
	switchedOff   bool
	seen          bool // a block was found
	encrypted     bool
	unusual       string
	each          uint64        // nanoseconds of a frame; 0 if the file does not say
	at, end       int64         // start and end of the found block that ends last, in units of the file
	tagged        time.Duration // when the track ends, as its tag says; 0 if it has no tag
}

// mkvVideo is the kind of a video track. The kind of an audio track is the next number.
const mkvVideo = 1

// readMatroska reads MKV and WEBM files. See setLengths for which length counts.
func readMatroska(r *reader, info *Info) {
	m := matroska{scale: uint64(time.Millisecond)}
	segment, err := r.element(0, r.src.Size)
	for err == nil && segment.id != idSegment {
		segment, err = r.element(segment.end, r.src.Size)
	}
	if err != nil {
		panic(err)
	}
	m.walk(r, segment)
	m.joined = startsAt(r, segment.end)
	if m.tracks == nil {
		panic(damage("its list of tracks is missing, so the export or the upload broke off"))
	}
	chosen := m.chooseTracks(info)
	if m.first.id == 0 {
		panic(damage("it holds no pictures and no sound, only their description"))
	}
	r.inBudget(func() { m.measure(r, chosen) })
	if m.all && !m.cut { // tracks without blocks do not count
		pictures := info.Video != nil
		m.tracks = slices.DeleteFunc(m.tracks, func(t mkvTrack) bool { return !t.seen })
		chosen = m.chooseTracks(info)
		if pictures && info.Video == nil {
			panic(damage("its video track holds no picture"))
		}
	}
	m.describe(info, chosen)
}

// startsAt reports whether a recording starts at off: a segment, or a header and then a segment.
func startsAt(r *reader, off int64) bool {
	e, err := r.element(off, r.src.Size)
	if err == nil && e.id == idEBML {
		e, err = r.element(e.end, r.src.Size)
	}
	return err == nil && e.id == idSegment
}

// chooseTracks sets info.Video and info.Audio to the tracks that a player chooses, and returns these
// tracks.
func (m *matroska) chooseTracks(info *Info) (chosen []*mkvTrack) {
	info.Video, info.Audio = nil, nil
	for i, track := range []**Track{&info.Video, &info.Audio} {
		t := m.chooseTrack(mkvVideo + uint64(i))
		if t == nil {
			continue
		}
		if t.encrypted {
			panic(encryptedFile(info.Name))
		}
		chosen = append(chosen, t)
		*track = &t.Track
	}
	return chosen
}

// walk reads the elements of a segment. It stops after a cluster that does not say how long it
// is. In a file that is not cut, it also stops after a cluster if it knows the length of the
// file and the tracks.
func (m *matroska) walk(r *reader, segment element) {
	m.cut = segment.cut
	if !segment.open {
		m.end = segment.end
	}
	for off := segment.body; off < segment.end; {
		e, err := r.element(off, segment.end)
		if m.first.id != 0 && err != nil {
			m.cut = m.cut || errors.Is(err, errEnd)
			return
		}
		if err != nil {
			panic(err)
		}
		switch e.id {
		case idInfo:
			r.elements(e.body, e.end, func(e element) { m.readInfo(r, e) })
		case idTracks:
			if e.cut {
				panic(errEnd)
			}
			r.elements(e.body, e.end, func(e element) { m.readTrack(r, e) })
		case idTags:
			m.readTags(r, e)
		case idCluster:
			if m.last = e; m.first.id == 0 {
				m.first = e
				m.start = clusterStart(r, e)
			}
			m.cut = m.cut || e.cut
			if e.open || m.duration > 0 && !m.cut && m.tracks != nil {
				return
			}
		}
		off = e.end
	}
	m.walked = true
}

func (m *matroska) readInfo(r *reader, e element) {
	switch e.id {
	case idTimestampScale:
		m.scale = max(1, r.number(e))
	case idDuration:
		m.duration = r.float(e)
	}
}

func (m *matroska) readTrack(r *reader, e element) {
	if e.id != idTrackEntry || len(m.tracks) == maxTracks {
		return
	}
	found := map[uint32]element{}
	var visit func(element)
	visit = func(e element) {
		switch e.id {
		case idVideo, idColour, idProjection, idEncodings, idEncoding:
			r.elements(e.body, e.end, visit)
		default:
			found[e.id] = e
		}
	}
	r.elements(e.body, e.end, visit)
	number := func(id uint32) uint64 { return r.number(found[id]) }
	private := r.value(found[idCodecPrivate], 64)
	t := mkvTrack{number: number(idTrackNumber), uid: number(idTrackUID), kind: number(idTrackType), each: number(idDefaultDuration)}
	flag, given := found[idFlagEnabled]
	t.switchedOff = given && r.number(flag) == 0
	_, t.encrypted = found[idEncryption]
	t.Codec = mkvCodec(string(r.value(found[idCodecID], 64)), private)
	t.unusual = unusualCodecs[t.Codec]
	if t.Codec == "hevc" {
		t.unusual = unusualHEVC(private, byte(number(idTransfer)))
	}
	if number(idAlpha) == 1 && t.unusual == "" {
		t.unusual = "a video with transparency"
	}
	if t.kind == mkvVideo {
		t.Frame = time.Duration(min(t.each, uint64(time.Hour)))
		width, height := number(idPixelWidth), number(idPixelHeight)
		const unknownUnit = 4
		if shown, ok := mulDiv(height, number(idDisplayWidth), number(idDisplayHeight)); ok && shown > 0 && number(idDisplayUnit) < unknownUnit {
			width = shown // the pixels may not be square
		}
		if math.Abs(r.float(found[idRoll])) == 90 {
			width, height = height, width
		}
		t.width, t.height = int(width&math.MaxInt32), int(height&math.MaxInt32)
	}
	m.tracks = append(m.tracks, t)
}

// mkvCodecs are the words for codecs, by the beginnings of their identifiers. The first row
// that fits counts.
var mkvCodecs = []struct{ id, codec string }{
	{"V_MPEG4/ISO/AVC", "h264"}, {"V_MPEGH/ISO/HEVC", "hevc"}, {"V_MPEGI/ISO/VVC", "vvc"}, {"V_AV1", "av1"}, {"V_VP8", "vp8"}, {"V_VP9", "vp9"}, {"V_PRORES", "prores"},
	{"V_MPEG4", "mpeg4"}, {"V_MPEG2", "mpeg2video"}, {"V_MPEG1", "mpeg1video"}, {"V_MJPEG", "mjpeg"}, {"V_THEORA", "theora"}, {"V_FFV1", "ffv1"},
	{"V_UNCOMPRESSED", "rawvideo"}, {"A_AAC", "aac"}, {"A_MPEG/L3", "mp3"}, {"A_MPEG/L2", "mp2"}, {"A_OPUS", "opus"}, {"A_VORBIS", "vorbis"}, {"A_FLAC", "flac"},
	{"A_PCM", "pcm"}, {"A_AC3", "ac3"}, {"A_EAC3", "eac3"}, {"A_DTS", "dts"}, {"A_TRUEHD", "truehd"}, {"A_ALAC", "alac"},
}

// mkvCodec returns the word for a codec, or "". Some files describe the codec as AVI or
// QuickTime files do.
func mkvCodec(id string, private []byte) string {
	switch {
	case id == "V_MS/VFW/FOURCC" && len(private) >= 20:
		return pictureCodec(private[16:20])
	case id == "V_QUICKTIME" && len(private) >= 8:
		return entryCodecs[string(private[4:8])]
	case id == "A_MS/ACM" && len(private) >= 2:
		return wavCodecs[binary.LittleEndian.Uint16(private)]
	}
	for _, c := range mkvCodecs {
		if strings.HasPrefix(id, c.id) {
			return c.codec
		}
	}
	return ""
}

// chooseTrack returns the first track of a kind that is not switched off, or else the first track
// of this kind. It returns nil if there is none.
func (m *matroska) chooseTrack(kind uint64) (chosen *mkvTrack) {
	for i := range m.tracks {
		t := &m.tracks[i]
		if t.kind == kind && (chosen == nil || chosen.switchedOff && !t.switchedOff) {
			chosen = t
		}
	}
	return chosen
}

// clusterTime returns the timestamp of a cluster, and the offset after it. If the timestamp is not
// among the first four elements, clusterTime returns -1 and the beginning of the cluster's body.
func clusterTime(r *reader, cluster element) (at, next int64) {
	off := cluster.body
	for range 4 {
		e, err := r.element(off, cluster.end)
		if err != nil {
			break
		}
		if e.id == idTimestamp {
			return int64(r.number(e) & (1<<48 - 1)), e.end
		}
		off = e.end
	}
	return -1, cluster.body
}

// clusterStart returns when a cluster starts, in the file's time units: the earliest of its
// timestamp and the starts of its first blocks. clusterStart reads only blocks that are in
// memory already.
func clusterStart(r *reader, cluster element) int64 {
	const most = 8 // elements
	base, off := clusterTime(r, cluster)
	start := base
	for range most {
		if _, found := r.kept(off, min(longestHead, cluster.end-off)); !found {
			break
		}
		e, err := r.element(off, cluster.end)
		if err != nil {
			break
		}
		if off = e.end; e.id == idBlockGroup {
			e, _ = r.element(e.body, e.end)
		}
		data := r.value(e, 8)
		if _, _, n := vint(data); (e.id == idSimpleBlock || e.id == idBlock) && n > 0 && len(data) >= n+2 {
			start = min(start, base+int64(int16(binary.BigEndian.Uint16(data[n:]))))
		}
	}
	return max(0, start)
}

// readTags records when tracks end, from the tags that ffmpeg and mkvmerge write.
func (m *matroska) readTags(r *reader, tags element) {
	const most = 16 << 10
	if tags.end-tags.body > most {
		return
	}
	var uid uint64
	var name string
	var visit func(element)
	visit = func(e element) {
		switch e.id {
		case idTag:
			uid = 0
			r.elements(e.body, e.end, visit)
		case idTargets, idSimpleTag:
			r.elements(e.body, e.end, visit)
		case idTagTrackUID:
			uid = r.number(e)
		case idTagName:
			name = string(r.value(e, 9)) // one byte more than DURATION has
		case idTagString:
			var hours, minutes uint16
			var seconds float64
			if n, _ := fmt.Sscanf(string(r.value(e, 18)), "%d:%d:%f", &hours, &minutes, &seconds); n < 3 || name != "DURATION" || !(seconds < 60) {
				return
			}
			for i := range m.tracks {
				if m.tracks[i].uid == uid {
					m.tracks[i].tagged = time.Duration(hours)*time.Hour + time.Duration(minutes)*time.Minute + time.Duration(seconds*float64(time.Second))
				}
			}
		}
	}
	_ = try(func() { r.elements(tags.body, tags.end, visit) }) // after an error, the lengths that were read before it are used
}

// measure reads the end of the file: the tags, and when the last blocks end. It also sets m.gap,
// m.unwritten and m.joined.
func (m *matroska) measure(r *reader, chosen []*mkvTrack) {
	length := int64(320 << 10) // bytes at the end of the file, to find its length
	if m.duration > 0 && !m.cut {
		length = 64 << 10 // to verify m.duration
	}
	at, tail := r.tail(m.first.body-longestHead, min(length, r.bytesLeft))
	const blockZeros, silenceZeros = 64, 32 << 10 // the most zeros at the end of a block, and in a block of silence
	end := cmp.Or(m.end, r.src.Size)
	written := at + int64(len(bytes.TrimRight(tail, "\x00")))
	if i := bytes.LastIndexByte(tail[:written-at], idVoid); written < end-blockZeros && i >= 0 {
		if e, err := r.element(at+int64(i), end); err == nil && !e.cut && !e.open && e.end == end {
			written = end // the zeros are padding
		}
	}
	m.gap, m.unwritten = written < end-blockZeros, written < end-silenceZeros
	if i := lastID(tail, idEBML); i >= 0 {
		m.joined = m.joined || startsAt(r, at+int64(i))
	}
	if i := lastID(tail, idTags); i >= 0 {
		if e, err := r.element(at+int64(i), r.src.Size); err == nil {
			m.readTags(r, e)
		}
	}
	left := 50000 // how many elements may still be read, so that no file makes the search slow
	m.readTail(r, at, tail, &left)
	if slices.ContainsFunc(chosen, func(t *mkvTrack) bool { return t.end > 0 }) {
		return
	}
	if !m.walked && (m.last.open && m.last.body < at || m.last.end < at) {
		return // there may be clusters between the last known one and the tail
	}
	m.readLast(r, at, tail, &left)
}

// lastID returns the index of the last occurrence of an identifier of four bytes, or -1.
func lastID(data []byte, id uint32) int {
	return bytes.LastIndex(data, binary.BigEndian.AppendUint32(nil, id))
}

// readLast reads the blocks of the last cluster. The cluster may begin before tail. tailOffset is
// the offset of tail in the file.
func (m *matroska) readLast(r *reader, tailOffset int64, tail []byte, left *int) {
	base, next := clusterTime(r, m.last)
	if base < 0 || m.readBlocks(r, base, next, m.last.end, false, left) {
		return
	}
	for i, b := range tail { // find where a block begins
		off := tailOffset + int64(i)
		if off >= m.last.end || *left <= 0 {
			return
		}
		if off > next && (b == idSimpleBlock || b == idBlockGroup) && m.readBlocks(r, base, off, m.last.end, true, left) {
			return
		}
	}
}

// readTail reads clusters that begin in tail, from the last towards the first. tailOffset is the
// offset of tail in the file. One cluster is not enough: the picture that is shown last may be in
// an earlier cluster.
func (m *matroska) readTail(r *reader, tailOffset int64, tail []byte, left *int) {
	m.all = true
	reached := false // the first cluster of the file begins in tail
	for end, tries := len(tail), 0; tries < 16; tries++ {
		i := lastID(tail[:end], idCluster)
		if i < 0 {
			break
		}
		end = i
		e, err := r.element(tailOffset+int64(i), r.src.Size)
		if err != nil {
			continue
		}
		base, next := clusterTime(r, e)
		read := base >= 0 && m.readBlocks(r, base, next, e.end, false, left)
		m.all = m.all && read
		reached = reached || e.body == m.first.body
	}
	m.all = m.all && reached
}

// readBlocks reads the blocks of a cluster between the offsets off and end. The parameter base
// is the timestamp of the cluster. readBlocks records when the blocks start and end, and reports
// whether it did. If guess is set, the offset off may be inside a block: readBlocks then records
// nothing if it finds a complete block of an unknown track, or an element that it does not know.
func (m *matroska) readBlocks(r *reader, base, off, end int64, guess bool, left *int) bool {
	trial := *m
	trial.tracks = slices.Clone(m.tracks)
	complete := 0 // how many elements are complete
	cut := false  // the last element is not complete
blocks:
	for off < end {
		if *left--; *left < 0 {
			return false
		}
		data, found := r.kept(off, min(longestHead, end-off))
		if !found || len(data) == 0 {
			return false
		}
		e, err := r.element(off, end)
		if errors.Is(err, errEnd) {
			cut = true
			break
		}
		missed := false // the element is a block that was not recorded
		switch e.id {
		case idSimpleBlock:
			missed = !trial.noteBlock(r, base, e, 0)
		case idBlockGroup:
			missed = !trial.noteGroup(r, base, e, left)
		case idTimestamp, 0xAB, 0xA7, idVoid, 0xBF, 0x5854: // timestamp, sizes and positions, padding, checksum, silent tracks
		case idSeekHead, idInfo, idTracks, idCluster, idCues, idChapters, idTags, idAttachments: // elements of the segment, so the cluster ends here
			break blocks
		default: // the element does not belong to a cluster, so the blocks end here
			if guess {
				return false
			}
			trial.all, trial.gap = false, true
			break blocks
		}
		if cut = e.cut; !cut {
			complete++
		}
		if guess && missed && !cut {
			return false
		}
		trial.all = trial.all && !missed
		off = e.end
	}
	if guess && cut && complete < 2 { // any bytes can look like one block that is cut
		return false
	}
	m.cut, m.all, m.gap = m.cut || cut && end == r.src.Size, trial.all, trial.gap
	copy(m.tracks, trial.tracks)
	return true
}

// noteGroup is noteBlock for the block in a group. The group may say how long the block lasts.
func (m *matroska) noteGroup(r *reader, base int64, group element, left *int) bool {
	var block element
	var lasts uint64
	visit := func(e element) {
		if *left--; *left < 0 {
			panic(errElement)
		}
		switch e.id {
		case idBlock:
			block = e
		case idBlockDuration:
			lasts = r.number(e)
		}
	}
	err := try(func() { r.elements(group.body, group.end, visit) })
	return err == nil && block.id != 0 && m.noteBlock(r, base, block, int64(min(lasts, maxTime)))
}

// noteBlock records when a block starts and ends. If lasts is 0, the block lasts as long as
// its frames. If the file does not say how long a frame lasts, the time since the track's
// previous block counts. noteBlock returns false unless e is a block of a known track.
func (m *matroska) noteBlock(r *reader, base int64, e element, lasts int64) bool {
	data := r.value(e, 8)
	number, _, n := vint(data)
	if n == 0 || len(data) < n+2 {
		return false
	}
	i := slices.IndexFunc(m.tracks, func(t mkvTrack) bool { return t.number == uint64(number) })
	if i < 0 {
		return false
	}
	t := &m.tracks[i]
	t.seen = true
	at := base + int64(int16(binary.BigEndian.Uint16(data[n:])))
	const lacing = 0x06  // flags of a block with several frames; the next byte is the number of frames less one
	const longest = 1000 // units; a longer time between two blocks is a gap
	switch {
	case lasts > 0:
	case t.each > 0:
		frames := uint64(1)
		if len(data) > n+3 && data[n+2]&lacing != 0 {
			frames += uint64(data[n+3])
		}
		lasts = int64(frames * min(t.each, uint64(time.Hour)) / m.scale)
	case t.end > 0 && at > t.at && at-t.at < longest:
		lasts = at - t.at
	}
	if at+lasts >= t.end {
		t.at, t.end = at, at+lasts
	}
	return true
}

// describe completes info with the lengths of the chosen tracks, the size of the picture and the
// warnings.
func (m *matroska) describe(info *Info, chosen []*mkvTrack) {
	claimed := time.Duration(0)
	if d := m.duration * float64(m.scale); d > 0 && d < maxTime {
		claimed = time.Duration(d)
	}
	var playedEnd, lastEnd int64
	for _, t := range chosen {
		playedEnd = max(playedEnd, t.end)
	}
	for _, t := range m.tracks {
		lastEnd = max(lastEnd, t.end)
	}
	if !m.joined {
		m.setLengths(chosen, claimed, playedEnd, lastEnd)
	}
	for _, t := range chosen {
		info.warnUnusual(&t.Track, t.unusual)
	}
	if info.Video != nil {
		info.Width, info.Height = chosen[0].width, chosen[0].height // chooseTracks puts the video first
	}
	switch file := info.Name; {
	case m.joined:
		info.warn("%s holds several recordings, so its length is not checked", file)
	case m.cut, lastEnd == 0 && m.unwritten, lastEnd > 0 && m.gap && claimed-m.inTime(lastEnd-m.start) > time.Second/2:
		info.warn("%s ends in the middle of its pictures and sound: it may have been cut short", file)
	case claimed == 0 && playedEnd > 0:
		info.warn("%s does not say how long it is; its last pictures and sound end after %s; some programs refuse such a file", file, problem.Length(m.inTime(playedEnd-m.start)))
	case claimed == 0:
		info.warn("lipdrop did not find the length of %s in the part of the file that it reads, so this length is not checked", file)
	}
}

// setLengths sets the lengths of the chosen tracks. The length that the file claims counts if the
// file is not cut and one of these is true: the end of the last block agrees with it; the longest tag
// agrees with it, and m.gap is false; no block was found, and m.unwritten is false. Even then, a track
// whose last block and tag end earlier has its own length. If the claimed length does not count, the
// end of the track's last block counts; without such a block, the length is an estimate. playedEnd and
// lastEnd are when the last blocks of the chosen and of all tracks end.
func (m *matroska) setLengths(chosen []*mkvTrack, claimed time.Duration, playedEnd, lastEnd int64) {
	var longest time.Duration // by the tags
	for _, t := range m.tracks {
		longest = max(longest, t.tagged)
	}
	const padding = 50 * time.Millisecond // of the codec (see Length)
	agrees := func(d time.Duration) bool { return (claimed - d).Abs() <= 500*time.Millisecond }
	trusted := claimed > 0 && !m.cut && (lastEnd == 0 && !m.unwritten || agrees(m.inTime(lastEnd-m.start)) || agrees(m.inTime(lastEnd)) || agrees(longest) && !m.gap)
	for _, t := range chosen {
		end := m.inTime(t.end - m.start)
		if agrees(longest) && (t.end == 0 || trusted && !m.gap) { // the time in the tag includes the length of the last block, which t.end may lack
			end = max(end, t.tagged-m.inTime(m.start))
		}
		switch {
		case t.end > 0 && !trusted, end > 0 && trusted && claimed-end > padding:
			t.Length = Fact(end)
		case trusted:
			t.Length = Fact(claimed)
		case playedEnd > 0:
			t.Length = Length{D: m.inTime(playedEnd - m.start)}
		default:
			t.Length = Length{D: claimed}
		}
	}
}

// inTime converts units of the file to a duration. It returns 0 for a negative number.
func (m *matroska) inTime(n int64) time.Duration {
	return time.Duration(product(max(0, n), int64(min(m.scale, uint64(time.Second)))))
}
