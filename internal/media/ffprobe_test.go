package media_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/golden"
	"github.com/lipdrop/lipdrop/internal/media"
	"github.com/lipdrop/lipdrop/internal/problem"
)

// figures is what ffprobe reports about a file.
type figures struct {
	Duration float64 `json:"duration"` // seconds
	Video    bool    `json:"video"`
	Audio    bool    `json:"audio"`
	Width    int     `json:"width"` // as a player shows the picture
	Height   int     `json:"height"`
}

func probe(t *testing.T, path string) figures {
	t.Helper()
	out, err := exec.Command("ffprobe", "-v", "quiet", "-of", "json", "-show_format", "-show_streams", path).Output()
	if err != nil {
		t.Fatalf("ffprobe %s: %v", path, err)
	}
	var found struct {
		Format  struct{ Duration string }
		Streams []struct {
			CodecType     string `json:"codec_type"`
			Width, Height int
			Disposition   struct {
				AttachedPic int `json:"attached_pic"`
			}
			SideData []struct{ Rotation int } `json:"side_data_list"`
		}
	}
	if err := json.Unmarshal(out, &found); err != nil {
		t.Fatal(err)
	}
	f := figures{}
	f.Duration, _ = strconv.ParseFloat(found.Format.Duration, 64) // images have no duration
	for _, s := range found.Streams {
		switch {
		case s.CodecType == "audio":
			f.Audio = true
		case s.CodecType == "video" && s.Disposition.AttachedPic == 0:
			f.Video = true
			f.Width, f.Height = s.Width, s.Height
			if len(s.SideData) > 0 && s.SideData[0].Rotation%180 != 0 {
				f.Width, f.Height = s.Height, s.Width
			}
		}
	}
	return f
}

func hasTool(name string) bool {
	_, err := exec.LookPath(name)
	return err == nil
}

// tolerance returns how much a duration may differ from ffprobe's. Up to version 6, ffprobe
// includes the padding that an MP3 encoder adds: about three frames, of 576 samples each at 8 kHz.
// For AAC in ADTS, ffprobe estimates the duration from the bit rate.
func tolerance(path string) time.Duration {
	const usual, frames = 20 * time.Millisecond, 3 * 576 * time.Second / 8000
	switch filepath.Ext(path) {
	case ".mp3":
		return usual + frames
	case ".aac":
		return 200 * time.Millisecond
	}
	return usual
}

// compare reports the differences between info and what ffprobe found.
func compare(t *testing.T, path string, info media.Info, want figures) {
	t.Helper()
	if info.Kind == media.Image {
		if want.Width > 0 && (info.Width != want.Width || info.Height != want.Height) {
			t.Errorf("got %d×%d pixels, want %d×%d", info.Width, info.Height, want.Width, want.Height)
		}
		return
	}
	duration := time.Duration(math.Round(want.Duration * float64(time.Second)))
	longest := info.Longest() // what ffprobe reports as the duration of a file
	if off := (longest.D - duration).Abs(); !longest.Exact || off > tolerance(path) {
		t.Errorf("got a length of %+v, want an exact length that differs from %v by at most %v", longest, duration, tolerance(path))
	}
	got := figures{want.Duration, info.Video != nil, info.Audio != nil, info.Width, info.Height}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if len(info.Warnings) > 0 {
		t.Errorf("got warnings %q, want none", info.Warnings)
	}
}

// TestSamples compares what Inspect finds in the samples with what ffprobe reports. If
// ffprobe is not installed, the test uses an earlier report of ffprobe, which is stored in figures.json.
func TestSamples(t *testing.T) {
	const known = "testdata/figures.json"
	all := map[string]figures{}
	if golden.Update() && hasTool("ffprobe") {
		writeFigures(t, known)
	}
	data, err := os.ReadFile(known)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	for name, want := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join("testdata", name)
			if hasTool("ffprobe") {
				want = probe(t, path)
			}
			info, err := inspectFile(t, path)
			if err != nil {
				t.Fatal(err)
			}
			compare(t, path, info, want)
		})
	}
}

// writeFigures writes what ffprobe reports about the samples that Inspect can read.
func writeFigures(t *testing.T, to string) {
	t.Helper()
	all := map[string]figures{}
	paths, err := filepath.Glob("testdata/*.*")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		if _, is := media.KindOf(path); !is {
			continue
		}
		info, err := inspectFile(t, path)
		if _, refused := errors.AsType[*problem.Problem](err); refused || info.Unread {
			continue
		}
		all[filepath.Base(path)] = probe(t, path)
	}
	data, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden.Compare(t, to, string(data)+"\n")
}

// TestAgainstFFprobe makes files with ffmpeg, in more forms than the samples have, and
// compares what Inspect finds in them with what ffprobe reports.
func TestAgainstFFprobe(t *testing.T) {
	if !hasTool("ffmpeg") || !hasTool("ffprobe") {
		t.Skip("ffmpeg and ffprobe are not installed")
	}
	dir := t.TempDir()
	ffmpeg := func(t *testing.T, args ...string) {
		t.Helper()
		cmd := exec.Command("ffmpeg", append([]string{"-nostdin", "-v", "error", "-y"}, args...)...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if bytes.Contains(out, []byte("Unknown encoder")) {
			t.Skipf("this ffmpeg lacks an encoder: %s", out)
		}
		if err != nil {
			t.Fatalf("ffmpeg %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	picture := func(rate string) string { return "-f lavfi -i testsrc=size=96x64:rate=" + rate }
	const (
		sound = " -f lavfi -i sine=frequency=330:sample_rate=48000"
		avc   = " -c:v libx264 -preset ultrafast -bf 2 -g 15 -pix_fmt yuv420p"
		aac   = " -c:a aac -b:a 32k"
	)
	ffmpeg(t, strings.Fields(picture("25")+sound+" -t 4.3"+avc+aac+" base.mp4")...)
	loop := "-stream_loop 300 -i base.mp4 -c copy " // the tables, or the headers of the fragments, exceed media.MaxBytes
	for name, args := range map[string]string{
		"film rate.mp4":                   picture("24000/1001") + sound + " -t 3.3" + avc + aac,
		"one picture a second.mp4":        picture("1") + sound + " -t 3.3" + avc + aac,
		"sound outlasts picture.mp4":      picture("25") + " -t 1" + sound + " -t 2.5" + avc + aac,
		"low rate.m4a":                    "-f lavfi -i sine=sample_rate=8000 -t 2.2" + aac,
		"opus.m4a":                        "-f lavfi -i sine=sample_rate=44100 -t 2.2 -c:a libopus -f mp4",
		"timecode.mov":                    "-i base.mp4 -c copy -timecode 01:00:00:00",
		"fine timescale.mp4":              "-i base.mp4 -c copy -video_track_timescale 1000000",
		"cut, tail.mp4":                   "-ss 2.9 -i base.mp4 -c copy",
		"cut, middle.mp4":                 "-ss 0.5 -t 1.1 -i base.mp4 -c copy",
		"delayed.mp4":                     "-itsoffset 1.1 -i base.mp4 -c copy",
		"delayed picture.mp4":             "-i base.mp4 -itsoffset 1.1 -i base.mp4 -map 1:v -map 0:a -c copy",
		"delayed sound, fragments.mp4":    "-i base.mp4 -itsoffset 1.1 -i base.mp4 -map 0:v -map 1:a -c copy -movflags frag_keyframe+empty_moov",
		"delayed picture, fragments.mp4":  "-i base.mp4 -itsoffset 1.1 -i base.mp4 -map 1:v -map 0:a -c copy -movflags frag_keyframe+delay_moov",
		"cut, fragments.mp4":              "-ss 2.9 -i base.mp4 -c copy -movflags frag_keyframe+empty_moov",
		"fragments by time.mp4":           "-i base.mp4 -c copy -movflags empty_moov+default_base_moof -frag_duration 300000",
		"fragments by time, no index.mp4": "-i base.mp4 -c copy -movflags empty_moov+skip_trailer -frag_duration 300000",
		"fragments by track.mp4":          "-i base.mp4 -c copy -movflags frag_keyframe+empty_moov+separate_moof",
		"fragments.mov":                   "-i base.mp4 -c copy -movflags frag_keyframe+empty_moov",
		"long.mp4":                        loop,
		"long, moov first.mp4":            loop + "-movflags faststart",
		"long, fragments.mp4":             loop + "-movflags frag_keyframe+empty_moov",
		"long, fragments, no index.mp4":   loop + "-movflags frag_keyframe+empty_moov+skip_trailer",
		"long, segments.mp4":              loop + "-movflags dash+global_sidx",
		"six channels.wav":                "-f lavfi -i sine=sample_rate=96000 -t 1.111 -ac 6",
		"double.wav":                      "-f lavfi -i sine=sample_rate=44100 -t 1.111 -c:a pcm_f64le",
		"gsm.wav":                         "-f lavfi -i sine=sample_rate=8000 -t 1.5 -c:a gsm_ms",
		"broadcast.wav":                   "-f lavfi -i sine -t 1.111 -write_bext 1 -metadata description=hello",
		"streamed.flac":                   "-f lavfi -i sine=sample_rate=96000 -t 3.3 -ac 2 -sample_fmt s32",
		"six channels.opus":               "-f lavfi -i anoisesrc=r=48000 -t 4.4 -ac 6 -c:a libopus",
		"pages of a minute.ogg":           "-f lavfi -i anoisesrc=r=48000 -t 99 -c:a libopus -b:a 16k -page_duration 60000000",
		"voice.ogg":                       "-f lavfi -i anoisesrc=r=16000 -t 99 -c:a libvorbis",
		"stereo.aac":                      "-f lavfi -i anoisesrc=r=48000 -t 3.3 -ac 2 -c:a aac -b:a 64k",
		"low.mp3":                         "-f lavfi -i sine=sample_rate=8000 -t 2.2 -c:a libmp3lame -q:a 4",
		"stereo.mp3":                      "-f lavfi -i anoisesrc=r=48000:a=0.2 -t 2.2 -ac 2 -c:a libmp3lame -q:a 2",
		"long, constant.mp3":              "-f lavfi -i sine -t 60 -c:a libmp3lame -b:a 64k -write_xing 0",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ffmpeg(t, append(strings.Fields(args), name)...)
			path := filepath.Join(dir, name)
			info, err := inspectFile(t, path)
			if err != nil {
				t.Fatal(err)
			}
			compare(t, path, info, probe(t, path))
		})
	}
}
