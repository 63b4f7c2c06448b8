package outputtest

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"time"
)

// Movie describes a made-up MP4 file. The file has the structure of a video, but its coded
// pictures and frames of sound are noise.
type Movie struct {
	Length        time.Duration // of the video track, rounded to whole frames, at least one
	Frame         time.Duration // the length of one frame
	Sound         time.Duration // of the audio track; if 0, there is no audio track
	Silent        bool          // the sound has as few bytes as a silent track has
	Width, Height int
	Seed          uint64 // of the noise: the same seed makes the same noise
}

const (
	timescale   = 90_000 // units of time per second in video tracks
	soundRate   = 48_000
	soundFrame  = 1024 // samples of sound in a coded frame
	chunk       = 20   // coded frames in a chunk
	silentBytes = 6    // bytes of a coded frame of silence
)

// MP4 returns the file.
func (m Movie) MP4() []byte {
	var seed [32]byte
	binary.BigEndian.PutUint64(seed[:], m.Seed)
	noise := rand.NewChaCha8(seed)
	pictures := coded(noise, max(int((m.Length+m.Frame/2)/m.Frame), 1), 80, 200)
	sound := coded(noise, int((m.Sound*soundRate/soundFrame+time.Second-1)/time.Second), 120, 60)
	if m.Silent {
		for i := range sound {
			sound[i] = sound[i][:silentBytes]
		}
	}
	ftyp := box("ftyp", []byte("isom"), u32s(512), []byte("isommp41"))
	video, audio := slices.Concat(pictures...), slices.Concat(sound...)
	moov := func(dataOffset uint32) []byte {
		frameLength := uint32((m.Frame*timescale + time.Second/2) / time.Second)
		tracks := [][]byte{track(1, "vide", timescale, frameLength, pictures, dataOffset, m.Width, m.Height)}
		if len(sound) > 0 {
			tracks = append(tracks, track(2, "soun", soundRate, soundFrame, sound, dataOffset+uint32(len(video)), 0, 0))
		}
		mvhd := box("mvhd", u32s(0, 0, 0, 1000, uint32(m.Length.Milliseconds())), make([]byte, 80))
		return box("moov", append([][]byte{mvhd}, tracks...)...)
	}
	dataOffset := uint32(len(ftyp) + len(moov(0)) + 8) // the header of mdat has 8 bytes
	return slices.Concat(ftyp, moov(dataOffset), box("mdat", video, audio))
}

// coded returns count coded frames of noise. Their sizes in bytes are from minSize to
// minSize+spread-1.
func coded(noise *rand.ChaCha8, count, minSize, spread int) [][]byte {
	sizes := rand.New(noise)
	samples := make([][]byte, count)
	for i := range samples {
		samples[i] = make([]byte, minSize+sizes.IntN(spread))
		_, _ = noise.Read(samples[i]) // never fails
	}
	return samples
}

// track returns a trak box. The samples are the coded frames. dataOffset is the offset of the first
// sample in the file. sampleLength is the length of one sample in units of 1/scale seconds.
func track(id uint32, handler string, scale, sampleLength uint32, samples [][]byte, dataOffset uint32, width, height int) []byte {
	matrix := u32s(1<<16, 0, 0, 0, 1<<16, 0, 0, 0, 1<<30)
	length := sampleLength * uint32(len(samples))
	millis := uint32(uint64(length) * 1000 / uint64(scale))
	entry := box("mp4a", make([]byte, 6), []byte{0, 1}, make([]byte, 8), []byte{0, 2, 0, 16}, make([]byte, 4), u32s(scale<<16))
	if handler == "vide" {
		size := []byte{byte(width >> 8), byte(width), byte(height >> 8), byte(height)}
		entry = box("avc1", make([]byte, 6), []byte{0, 1}, make([]byte, 16), size, make([]byte, 50))
	}
	sizes, chunks := u32s(0, 0, uint32(len(samples))), []uint32{}
	for i, sample := range samples {
		if i%chunk == 0 {
			chunks = append(chunks, dataOffset)
		}
		dataOffset += uint32(len(sample))
		sizes = binary.BigEndian.AppendUint32(sizes, uint32(len(sample)))
	}
	full, rest := uint32(len(samples)/chunk), uint32(len(samples)%chunk)
	var runs []uint32 // of equal chunks: the first chunk, the samples in each, the sample description
	if full > 0 {
		runs = append(runs, 1, chunk, 1)
	}
	if rest > 0 {
		runs = append(runs, full+1, rest, 1)
	}
	return box("trak",
		box("tkhd", u32s(3, 0, 0, id, 0, millis), make([]byte, 16), matrix, u32s(uint32(width)<<16, uint32(height)<<16)),
		box("mdia",
			box("mdhd", u32s(0, 0, 0, scale, length, 0)),
			box("hdlr", u32s(0, 0), []byte(handler), make([]byte, 13)),
			box("minf", box("stbl",
				box("stsd", u32s(0, 1), entry),
				box("stts", u32s(0, 1, uint32(len(samples)), sampleLength)),
				box("stsc", u32s(0, uint32(len(runs)/3)), u32s(runs...)),
				box("stsz", sizes),
				box("stco", u32s(0, uint32(len(chunks))), u32s(chunks...)),
			)),
		),
	)
}

func box(kind string, body ...[]byte) []byte {
	all := slices.Concat(body...)
	return slices.Concat(u32s(uint32(8+len(all))), []byte(kind), all)
}

func u32s(numbers ...uint32) []byte {
	var out []byte
	for _, n := range numbers {
		out = binary.BigEndian.AppendUint32(out, n)
	}
	return out
}
