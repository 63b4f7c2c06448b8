package media

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"math"
	"time"
)

// These tables of a track are read. stsd describes the codec and the picture. A sample is a
// picture, or a frame of sound: stts says how long each sample lasts, ctts how long after its
// decoding the sample is shown, and stsz or stz2 how many samples there are and how many bytes
// each has. Of stz2 only the number of samples is read. Samples are stored in chunks: stco or
// co64 says where each chunk begins, and stsc how many samples the chunk has. The edit list
// (elst) says which parts of the media are shown.

// maxTable is the largest size in bytes of a table that is read whole. It is enough for the
// sizes of the pictures of nine minutes of video at 30 pictures per second, or of the sound frames
// of five minutes of AAC at 48 kHz.
const maxTable = 64 << 10

// readTables reads what the tables of a track say. It leaves out what does not fit into
// the budget, but panics if the edit list does not fit.
func (t *track) readTables(r *reader, m *movie) {
	for _, read := range []func(*reader){t.readEntry, t.readCount, t.readDurations, t.readOrder} {
		r.inBudget(func() { read(r) })
	}
	if t.total > 0 {
		t.length = t.total
	}
	t.readEdits(r, m.timescale)
}

func (t *track) readCount(r *reader) {
	stsz := cmp.Or(t.tables["stsz"], t.tables["stz2"])
	if stsz.kind == "" {
		return
	}
	data := r.head(stsz, 12)
	t.Samples = int64(u32(data[8:]))
	if stsz.kind == "stsz" {
		t.size = int64(u32(data[4:]))
		t.Bytes, t.Largest = product(t.size, t.Samples), t.size
	}
}

// readDurations adds up how long the samples last, and sets t.frame to the duration in the entry of
// stts with the most samples. Like players, it counts a negative duration as one unit.
func (t *track) readDurations(r *reader) {
	table := r.table(t.tables["stts"], 8)
	left, most := t.Samples, int64(0)
	for ; len(table) > 0 && left > 0; table = table[8:] {
		n, each := min(int64(u32(table)), left), uint64(u32(table[4:]))
		if each > math.MaxInt32 {
			each = 1
		}
		left -= n
		t.total = min(t.total+uint64(product(n, int64(each))), maxTime)
		if n > most {
			most, t.frame = n, each
		}
	}
	t.total = min(t.total+uint64(product(left, int64(t.frame))), maxTime) // the samples that the table leaves out
}

// readOrder sets t.end. Samples are stored in the order in which they are decoded.
func (t *track) readOrder(r *reader) {
	t.end = int64(t.total)
	ctts, found := t.tables["ctts"]
	if !found {
		return
	}
	head := r.head(ctts, 16)
	// This end is used if a table below does not fit into the budget. It assumes that the last
	// sample has the same offset as the first.
	t.end += int64(int32(u32(head[12:])))
	durations := r.table(t.tables["stts"], 8)
	offsets := r.table(ctts, 8)
	var at, each, left int64 // when the next sample is decoded, how long it lasts, and for how many samples this duration still holds
	t.end = 0
	for ; len(offsets) > 0; offsets = offsets[8:] {
		for n := int64(u32(offsets)); n > 0; {
			if left == 0 {
				if len(durations) == 0 {
					return
				}
				left, each, durations = int64(u32(durations)), int64(int32(u32(durations[4:]))), durations[8:]
			}
			some := min(n, left)
			n, left = n-some, left-some
			at = min(at+product(some, max(each, 0)), maxTime)
		}
		t.end = max(t.end, at+int64(int32(u32(offsets[4:]))))
	}
}

// readSizes adds up the sizes of the samples and hashes them, unless all sizes are the same.
func (t *track) readSizes(r *reader) {
	stsz, found := t.tables["stsz"]
	if t.size > 0 || !found {
		return
	}
	stsz.body += 4 // in stsz, the count is 4 bytes later than in other tables
	table := r.table(stsz, 4)
	hash := fnv.New64a()
	_, _ = hash.Write(table) // never fails
	t.Hash = fmt.Sprintf("%d-%016x", t.Samples, hash.Sum64())
	for ; len(table) > 0; table = table[4:] {
		t.Bytes += int64(u32(table))
		t.Largest = max(t.Largest, int64(u32(table)))
	}
}

// product returns a*b, or maxTime if that is less. Neither number may be negative.
func product(a, b int64) int64 {
	if b > 0 && a > maxTime/b {
		return maxTime
	}
	return a * b
}

// head returns the first n bytes of a box's body. It panics with errBudget if the box is
// shorter, so that a malformed table counts as a table that does not fit into the budget.
func (r *reader) head(b box, n int64) []byte {
	if n > b.end-b.body {
		panic(errBudget)
	}
	return r.step(b.body, n)
}

// entries returns how many entries of the given size a table has. The table begins with
// a version, flags and this number. It panics with errBudget if the table is empty, or if
// its entries do not fit into the box.
func (r *reader) entries(table box, size int64) int64 {
	head := r.head(table, 8)
	count := int64(u32(head[4:]))
	if count == 0 || count*size > table.end-table.body-8 {
		panic(errBudget)
	}
	return count
}

// table returns the entries of a table, or nil if the track has no such table. It panics
// with errBudget if there are no entries, if they do not fit into the box, or if they take
// more than maxTable bytes.
func (r *reader) table(b box, size int64) []byte {
	if b.kind == "" {
		return nil
	}
	count := r.entries(b, size)
	if count*size > maxTable {
		panic(errBudget)
	}
	return r.bytes(b.body+8, count*size)
}

const (
	errNoTable   = damage("its index (moov) lacks a table that every player needs")
	errNotThere  = damage("its index is there, but not its pictures and sound, so the export or the upload broke off")
	errCutMedia  = damage("it ends in the middle of its media data, so the export or the upload broke off")
	errZeroMedia = damage("it holds zeros instead of the last part of its media data, so a download or a copy broke off")
)

// checkData checks that the track has the tables that every player needs, and that its first and
// its last chunk are in the file. It panics with errBudget if it cannot read these tables.
func (t *track) checkData(r *reader, moov box) {
	if t.Samples == 0 {
		return
	}
	offsets, wide := t.tables["co64"]
	if !wide {
		offsets = t.tables["stco"]
	}
	for _, table := range []box{t.tables["stts"], t.tables["stsc"], offsets} {
		if table.kind == "" || u32(r.head(table, 8)[4:]) == 0 {
			panic(errNoTable)
		}
	}
	entry := int64(4)
	if wide {
		entry = 8
	}
	count := r.entries(offsets, entry)
	var last int64
	for _, i := range []int64{0, count - 1} {
		data := r.step(offsets.body+8+i*entry, entry)
		last = int64((&cursor{data, wide}).word() & math.MaxInt64)
		if last >= r.src.Size || last >= moov.off && last < moov.end {
			if i > 0 {
				panic(errCutMedia)
			}
			panic(errNotThere)
		}
	}
	t.checkLastChunk(r, count, last)
}

// checkLastChunk checks that the last of count chunks, which begins at off, is in the file. It
// sets lastSample if the samples are compressed and differ in size. It checks nothing if the
// tables do not say how many bytes the chunk has. A size of one byte says nothing: some QuickTime
// files give it for samples of sound that are larger.
func (t *track) checkLastChunk(r *reader, count, off int64) {
	available := r.src.Size - off
	stsz, sized := t.tables["stsz"]
	stsc, found := t.tables["stsc"]
	if !sized || !found || t.size == 1 {
		return
	}
	const entry = 12
	entries := r.entries(stsc, entry)
	data := r.step(stsc.body+8+(entries-1)*entry, entry)
	n := min(int64(u32(data[4:])), t.Samples)
	if entries == 1 { // the last chunk may have fewer samples than the others
		n = max(min(n, t.Samples-product(n, count-1)), 0)
	}
	if t.size > 0 {
		if product(n, t.size) > available {
			panic(errCutMedia)
		}
		return
	}
	if t.Samples*4 > stsz.end-stsz.body-12 {
		panic(errBudget)
	}
	some := min(n, maxTable/4)
	data = r.step(stsz.body+12+(t.Samples-some)*4, some*4)
	length, last := int64(0), int64(0) // of the chunk, and of its last sample
	for ; len(data) > 0; data = data[4:] {
		last = int64(u32(data))
		length += last
	}
	switch {
	case length > available:
		panic(errCutMedia)
	case some < n:
		panic(errBudget)
	case last > 0 && t.Codec != "pcm" && t.Codec != "rawvideo":
		t.lastSample = off + length - last
	}
}

// readEdits sets t.start, t.empty and t.shown from the edit list. An edit shows no more of the
// media than there is. The length of an edit is in units of the movie's timescale, not of the
// track's. If a time in the list is impossible, or the list shows no media, t.shown stays the
// length of the media.
func (t *track) readEdits(r *reader, movieTimescale uint64) {
	media, _ := inTime(t.length, t.timescale)
	t.shown = media
	elst, found := t.tables["elst"]
	if !found {
		return
	}
	head, _ := r.versioned(elst, 4, 0)
	entry := int64(12)
	if head.wide {
		entry = 20
	}
	off := elst.body + 8
	list := r.bytes(off, min(int64(head.u32()), (elst.end-off)/entry)*entry)
	edits, total, open, gap := 0, time.Duration(0), time.Duration(0), time.Duration(0)
	for ; len(list) > 0; list = list[entry:] {
		c := cursor{list, head.wide}
		length, start, rate := c.word(), c.signed(), float64(int32(c.u32()))/(1<<16)
		d, ok := inTime(length, movieTimescale)
		if length > 0 && !ok || d > maxTime-total-gap {
			return
		}
		if start < 0 { // nothing is shown until the next edit, if there is one
			if gap += d; edits == 0 {
				t.empty = gap
			}
			continue
		}
		if edits++; edits == 1 {
			t.start = uint64(start)
		}
		if media > 0 && rate != 0 { // at a rate of 0 the edit shows a single picture
			rest := t.rest(start, rate)
			if length == 0 {
				open = min(rest, maxTime-total-gap)
			}
			d = min(d, rest)
		}
		total, gap = total+gap+d, 0
	}
	if edits == 1 { // an edit without a length extends to the end of the media only if no other edit shows media
		total += open
	}
	if total > t.empty {
		t.shown = total
	}
}

// rest returns how long it takes to show the media from start on at the given rate.
func (t *track) rest(start int64, rate float64) time.Duration {
	end := max(t.end, int64(min(t.length, maxTime)))
	d, _ := inTime(uint64(max(0, end-min(start, maxTime))), t.timescale)
	if rate > 0 {
		d = time.Duration(min(float64(d)/rate, maxTime))
	}
	return d
}
