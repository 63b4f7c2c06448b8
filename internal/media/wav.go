package media

import (
	"encoding/binary"
	"errors"
	"math"
)

// These are the format tags, from Microsoft's mmreg.h, of the codecs whose samples all
// have the same size.
const (
	tagPCM        = 0x0001
	tagFloat      = 0x0003
	tagALaw       = 0x0006
	tagMuLaw      = 0x0007
	tagExtensible = 0xfffe
)

// wav is what the chunks before the data chunk say about the sound.
type wav struct {
	size        uint64 // of the file, as its header claims
	longData    uint64 // bytes of sound, from ds64
	tag         uint16
	channels    uint16
	rate        uint32 // samples per second
	byteRate    uint32
	blockAlign  uint16 // bytes of one sample of all channels
	samples     uint32 // from fact
	formatKnown bool
}

// readWAV reads RIFF, RF64 and BW64 files. If all samples have the same size, it
// computes the duration from the length of the data chunk. For other codecs it uses
// the fact chunk or, without one, the byte rate.
func readWAV(r *reader, info *Info) error {
	head, err := r.bytes(0, 12)
	if err != nil {
		return err
	}
	w := wav{size: uint64(binary.LittleEndian.Uint32(head[4:])) + 8}
	for off := int64(12); ; {
		head, err := r.bytes(off, 8)
		if errors.Is(err, errEnd) {
			return damage("it has no sound data")
		}
		if err != nil {
			return err
		}
		body, length := off+8, int64(binary.LittleEndian.Uint32(head[4:]))
		switch string(head[:4]) {
		case "ds64":
			err = w.readLong(r, body)
		case "fmt ":
			err = w.readFormat(r, body, length)
		case "fact":
			var data []byte
			if data, err = r.bytes(body, 4); err == nil {
				w.samples = binary.LittleEndian.Uint32(data)
			}
		case "data":
			return w.finish(r, body, length, info)
		}
		if err != nil {
			return err
		}
		off = body + length + length&1
	}
}

func (w *wav) readLong(r *reader, body int64) error {
	data, err := r.bytes(body, 16)
	if err != nil {
		return err
	}
	w.size = binary.LittleEndian.Uint64(data) + 8
	w.longData = binary.LittleEndian.Uint64(data[8:])
	return nil
}

func (w *wav) readFormat(r *reader, body, length int64) error {
	const size = 16
	if length < size {
		return damage("its format chunk is too short")
	}
	data, err := r.bytes(body, size)
	if err != nil {
		return err
	}
	w.tag = binary.LittleEndian.Uint16(data)
	w.channels = binary.LittleEndian.Uint16(data[2:])
	w.rate = binary.LittleEndian.Uint32(data[4:])
	w.byteRate = binary.LittleEndian.Uint32(data[8:])
	w.blockAlign = binary.LittleEndian.Uint16(data[12:])
	w.formatKnown = true
	return nil
}

// finish sets the duration from the data chunk at body, which claims a length.
func (w *wav) finish(r *reader, body, claimed int64, info *Info) error {
	switch {
	case !w.formatKnown:
		return damage("its sound comes before the description of its format")
	case w.channels == 0 || w.rate == 0:
		return damage("its format has no channels or no sampling rate")
	}
	info.Audio = &Track{}
	length := w.dataLength(r, uint64(r.src.Size-body), uint64(claimed), info)
	if length == 0 {
		return noSound(r.src.Name)
	}
	switch w.tag {
	case tagPCM, tagFloat, tagALaw, tagMuLaw, tagExtensible:
		if w.blockAlign == 0 {
			return damage("its samples have no size")
		}
		info.Audio.Length = fact(length/uint64(w.blockAlign), uint64(w.rate))
	default:
		if w.samples > 0 && w.samples < math.MaxUint32 {
			info.Audio.Length = fact(uint64(w.samples), uint64(w.rate))
		} else {
			info.Audio.Length = fact(length, uint64(w.byteRate))
		}
	}
	if !info.Audio.Length.Known() {
		info.warn("%s does not say how long it is, so its duration is not checked", r.src.Name)
	}
	return nil
}

// dataLength returns how many bytes of sound the file holds. Available is how many
// bytes follow the header of the data chunk. A program that writes to a pipe cannot
// go back to the header, so it leaves the length at 0 or at its largest value. The
// sound then extends to the end of the file.
func (w *wav) dataLength(r *reader, available, claimed uint64, info *Info) uint64 {
	switch claimed {
	case math.MaxUint32:
		if w.longData == 0 || w.longData == math.MaxUint64 {
			return available
		}
		claimed = w.longData
	case math.MaxInt32:
		return available
	case 0:
		if w.size == uint64(r.src.Size) { // the header was completed, so there is no sound
			return 0
		}
		return available
	}
	if claimed > available {
		info.warn("%s ends before its sound does: it may have been cut short", r.src.Name)
		return available
	}
	return claimed
}
