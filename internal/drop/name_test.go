package drop_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/media"
)

func TestNames(t *testing.T) {
	const (
		nfc = "f\u00eate/caf\u00e9"
		nfd = "fe\u0302te/cafe\u0301"
	)
	testRows(t, []row{
		{
			says: "A name is the path below inbox/ without its suffix",
			do:   []string{"talk.mp4", "ads/2026/talk.mp4", "a.b/c.d.mp4", "ads/cafe.job/x.wav"},
			want: []string{
				"a.b/c.d: waiting, waiting_for_audio", "ads/2026/talk: waiting, waiting_for_audio",
				"ads/cafe: waiting, waiting_for_job_json", "talk: waiting, waiting_for_audio",
			},
		},
		{
			says: "A name is in Unicode NFC: a Mac's NFD stem pairs with the NFC stem",
			do:   []string{nfd + ".mp4", nfc + ".wav"},
			want: []string{nfc + ": job of pro, video_url=" + nfd + ".mp4, audio_url=" + nfc + ".wav"},
		},
		{
			says: "A name is in Unicode NFC, although the folder and the file have different forms",
			do:   []string{"f\u00eate/cafe\u0301.mp4", "fe\u0302te/caf\u00e9.wav"},
			want: []string{nfc + ": job of pro, video_url=f\u00eate/cafe\u0301.mp4, audio_url=fe\u0302te/caf\u00e9.wav"},
		},
		{
			says: "two videos whose names differ only in their Unicode form are ambiguous",
			do:   []string{nfd + ".mp4", nfc + ".mp4", nfc + ".wav"},
			want: []string{nfc + ": rejected, ambiguous"},
		},
		{
			says: "a tagged audio and its video in different Unicode forms",
			do:   []string{nfd + ".mp4", nfc + ".de.wav"},
			want: []string{nfc + ".de: job of pro, video_url=" + nfd + ".mp4, audio_url=" + nfc + ".de.wav", nfc + ": used, by " + nfc + ".de"},
		},
		{
			says: "a bundle whose folder is in NFC and in NFD",
			do:   []string{reactJob(nfc+".job/job.json", "v.mp4", "a.wav"), nfd + ".job/v.mp4", nfd + ".job/a.wav"},
			want: []string{nfc + ": job of react, video_url=" + nfd + ".job/v.mp4, audio_url=" + nfd + ".job/a.wav"},
		},
		{
			says: "if both folders of a bundle have a file that job.json names, the file beside job.json is used",
			do:   []string{reactJob(nfc+".job/job.json", "v.mp4", "a.wav"), nfd + ".job/v.mp4", nfc + ".job/v.mp4", nfd + ".job/a.wav"},
			want: []string{nfc + ": job of react, video_url=" + nfc + ".job/v.mp4, audio_url=" + nfd + ".job/a.wav"},
		},
		{
			says: "a bundle whose folder is in NFC and in NFD waits for a job.json",
			do:   []string{nfc + ".job/v.mp4", nfd + ".job/a.wav"},
			want: []string{nfc + ": waiting, waiting_for_job_json"},
		},
		{
			says: "a preset and its pair in different Unicode forms",
			do:   []string{`fe` + "\u0302" + `te/preset.json = {"model": "sync/react-1"}`, nfc + ".mp4", nfc + ".wav"},
			want: []string{
				"fe\u0302te/preset.json: accepted",
				nfc + ": job of react, video_url=" + nfc + ".mp4, audio_url=" + nfc + ".wav",
			},
		},
		{
			says: "Video: .mp4 .mov .m4v .webm .mkv .avi",
			do:   []string{"a.mp4", "b.mov", "c.m4v", "d.webm", "e.mkv", "f.avi", "a.wav", "b.wav", "c.wav", "d.wav", "e.wav", "f.wav"},
			want: pairLines("pro", "video_url", "", "a.mp4 a.wav", "b.mov b.wav", "c.m4v c.wav", "d.webm d.wav", "e.mkv e.wav", "f.avi f.wav"),
		},
		{
			says: "audio: .wav .mp3 .m4a .aac .ogg .opus .flac",
			do: []string{
				"a.mp4", "b.mp4", "c.mp4", "d.mp4", "e.mp4", "f.mp4", "g.mp4",
				"a.wav", "b.mp3", "c.m4a", "d.aac", "e.ogg", "f.opus", "g.flac",
			},
			want: pairLines("pro", "video_url", "", "a.mp4 a.wav", "b.mp4 b.mp3", "c.mp4 c.m4a", "d.mp4 d.aac", "e.mp4 e.ogg", "f.mp4 f.opus", "g.mp4 g.flac"),
		},
		{
			says: "image: .png .jpg .jpeg .webp",
			do:   []string{"a.png", "b.jpg", "c.jpeg", "d.webp", "a.wav", "b.wav", "c.wav", "d.wav"},
			want: pairLines("avatar", "image_url", ", num_clips=1, prompt=A person speaking naturally.", "a.png a.wav", "b.jpg b.wav", "c.jpeg c.wav", "d.webp d.wav"),
		},
		{
			says: "suffixes compare without case",
			do:   []string{"A.MOV", "A.Wav", "b.Mp4", "b.M4A", "c.MP4", "c.mP3"},
			want: pairLines("pro", "video_url", "", "A.MOV A.Wav", "b.Mp4 b.M4A", "c.MP4 c.mP3"),
		},
		{
			says: "a file with an unknown suffix is rejected, and gets an answer file",
			do:   []string{"ads/notes.txt", "README", "talk.", "talk.mp4.part", "talk.m\u212av", "pre\u017fet.json"}, // \u212a folds to k, and \u017f to s
			want: []string{
				"README: rejected, unknown_suffix", "ads/notes.txt: rejected, unknown_suffix", "pre\u017fet.json: rejected, unknown_suffix",
				"talk.: rejected, unknown_suffix", "talk.mp4.part: rejected, unknown_suffix", "talk.m\u212av: rejected, unknown_suffix",
			},
		},
		{
			says: "keys may have every character that S3 allows: spaces, +, %, quotes, any script",
			do:   []string{"a b+c%2F\"d'/?*[e]\\f&g=#h.mp4", "a b+c%2F\"d'/?*[e]\\f&g=#h.wav", "\u8a71/\u0440\u0435\u0447\u044c.mp4", "\u8a71/\u0440\u0435\u0447\u044c.wav", "//x.mp4", "//x.wav"},
			want: []string{
				"//x: job of pro, video_url=//x.mp4, audio_url=//x.wav",
				"a b+c%2F\"d'/?*[e]\\f&g=#h: job of pro, video_url=a b+c%2F\"d'/?*[e]\\f&g=#h.mp4, audio_url=a b+c%2F\"d'/?*[e]\\f&g=#h.wav",
				"\u8a71/\u0440\u0435\u0447\u044c: job of pro, video_url=\u8a71/\u0440\u0435\u0447\u044c.mp4, audio_url=\u8a71/\u0440\u0435\u0447\u044c.wav",
			},
		},
		{
			says: "Not drops: folder markers, a file or folder whose name begins with a dot (.DS_Store, ._talk.mp4, .git/x.mp4), Thumbs.db and desktop.ini in any case",
			do: []string{
				"ads/ = ", "ads_$folder$ = ", "ads/x.job_$folder$ = ", ".DS_Store", "ads/._talk.mp4", ".git/x.mp4", "a/.git/b/x.mp4", "Thumbs.db", "ads/THUMBS.DB", "Desktop.ini",
				".job/job.json", "x.job/.y/a.wav", ".mp4", "//.mp/a.mp4", "../.git/x.mp4", "a/../",
			},
		},
		{
			says: "every drop gets a status or an answer file, even if its key is not a valid path",
			do:   []string{"../x.mp4", "a/./x.wav", "a/..", "x.job/../job.json = {}", "x.job/a.wav", "- x.job/a.wav"},
			want: []string{
				"../x.mp4: rejected, relative_path", "a/..: rejected, relative_path", "a/./x.wav: rejected, relative_path",
				"x.job/../job.json: rejected, relative_path", "x: withdrawn, files_gone",
			},
		},
	})
}

// pairLines returns the expected line of each pair. A pair is written "a.mp4 a.wav".
func pairLines(model, property, options string, pairs ...string) []string {
	var lines []string
	for _, p := range pairs {
		visual, audio, _ := strings.Cut(p, " ")
		name, _, _ := strings.Cut(visual, ".")
		lines = append(lines, fmt.Sprintf("%s: job of %s, %s=%s, audio_url=%s%s", name, model, property, visual, audio, options))
	}
	return lines
}

func TestKeysThatLeadToNoFinding(t *testing.T) {
	b := newInbox(t)
	for _, key := range []string{"", "inbox", "inbox/", "outbox/talk.mp4", "status/talk.json", "Inbox/talk.mp4", "jobs/x.job/job.json"} {
		if found := b.findings(t, key); found != nil {
			t.Errorf("a change of %q leads to %+v, want no finding", key, found)
		}
	}
	if calls := b.Calls(); len(calls) > 0 {
		t.Errorf("requests %v, want none", calls)
	}
}

func TestTake(t *testing.T) {
	file := func(name, minute string) string {
		// The ETag is the MD5 of "v".
		return `{"etag":"9e3669d19b675bd57058fd4664205d2a","key":"inbox/` + name + `","lastModified":"2026-11-21T12:0` + minute + `:00Z"}`
	}
	tests := []struct {
		says  string
		do    []string
		files string
	}{
		{"canonical JSON, in which <, & and > are not escaped", []string{"<a&b>.mp4 = v", "<a&b>.wav = v"}, file("<a&b>.mp4", "1") + "," + file("<a&b>.wav", "2")},
		{"each file, sorted by key: the visual first", []string{"<a&b>.wav = v", "<a&b>.png = v"}, file("<a&b>.png", "2") + "," + file("<a&b>.wav", "1")},
		{"each file, sorted by key: the audio first", []string{"<a&b>.png = v", "<a&b>.mp3 = v"}, file("<a&b>.mp3", "2") + "," + file("<a&b>.png", "1")},
	}
	for _, tt := range tests {
		t.Run(tt.says, func(t *testing.T) {
			b := newInbox(t)
			key := b.step(t, tt.do...)
			sum := sha256.Sum256([]byte(`{"files":[` + tt.files + `],"name":"<a&b>"}` + "\n"))
			want := "20261121T120200Z-" + hex.EncodeToString(sum[:])[:12]
			if f := b.only(t, key); f.Job.Take != want {
				t.Errorf("take %s, want %s", f.Job.Take, want)
			}
		})
	}
}

func TestIdentity(t *testing.T) {
	wild := reactJob("w.job/job.json", "v.mp4", "*.wav")
	begin := []string{
		"ads/talk.mp4", "ads/talk.wav",
		cafe, "ads/cafe.job/woman.png", "ads/cafe.job/voice.wav",
		wild, "w.job/v.mp4", "w.job/de.wav", "w.job/fr.wav",
	}
	tests := []struct {
		says   string
		step   string
		change []string // the names that get a new take
	}{
		{"presets do not change the take", `ads/preset.json = {"model": "sync/react-1"}`, nil},
		{"other files do not change the take", "ads/talks.mp4", nil},
		{"dropping a file again, changed", "ads/talk.wav = RIFF", []string{"ads/talk"}},
		{"dropping a file again, unchanged", "ads/talk.mp4", []string{"ads/talk"}},
		{"dropping a file of a bundle does not change the take", "ads/cafe.job/woman.png", nil},
		{"dropping job.json again", cafe, []string{"ads/cafe"}},
		{"dropping a wildcard's match again", "w.job/de.wav", []string{"w/de"}},
		{"dropping the job.json of a wildcard again", wild, []string{"w/de", "w/fr"}},
		{"dropping the video of a bundle with a wildcard does not change the takes", "w.job/v.mp4", nil},
	}
	all := []string{"inbox/ads/talk.mp4", "inbox/ads/cafe.job/job.json", "inbox/w.job/job.json"}
	for _, tt := range tests {
		t.Run(tt.says, func(t *testing.T) {
			b := newInbox(t)
			b.step(t, begin...)
			before := b.takes(t, all...)
			b.step(t, tt.step)
			after := b.takes(t, all...)
			var changed []string
			for _, name := range []string{"ads/cafe", "ads/talk", "w/de", "w/fr"} {
				if before[name] == "" || after[name] == "" {
					t.Fatalf("takes before the step %v, after it %v; want a take of %s in both", before, after, name)
				}
				if after[name] < before[name] {
					t.Errorf("the new take %s of %s sorts before the old take %s, want it after", after[name], name, before[name])
				}
				if after[name] != before[name] {
					changed = append(changed, name)
				}
			}
			if diff := cmp.Diff(tt.change, changed); diff != "" {
				t.Errorf("names with a new take (-want +got):\n%s", diff)
			}
		})
	}
}

func TestOrder(t *testing.T) {
	// No step makes the order smaller.
	steps := []string{"talk.mp4", "talk.mp3", "talk.wav", "- talk.mp3", "talk.wav", "talk.mp4 = "}
	want := []ledger.Order{"20261121T120100Z", "20261121T120200Z", "20261121T120300Z", "20261121T120300Z", "20261121T120500Z", "20261121T120600Z"}
	b := newInbox(t)
	for i, s := range steps {
		b.step(t, s)
		f := b.only(t, "inbox/talk.mp4")
		if f.Order != want[i] || f.Job != nil && !strings.HasPrefix(f.Job.Take, string(want[i])) {
			t.Errorf("after %q the order is %s and the job %+v; want the order %s, and a take that begins with it", s, f.Order, f.Job, want[i])
		}
	}
}

func TestOwns(t *testing.T) {
	tests := []struct {
		says, key    string
		name, prefix string
	}{
		{"the audio of a pair owns its name", "inbox/ads/talk.de.wav", "ads/talk.de", ""},
		{"the video of a pair owns its name, and the names with a tag", "inbox/ads/talk.mp4", "ads/talk", "ads/talk."},
		{"the image of a pair owns its name in NFC, and the names with a tag", "inbox/cafe\u0301.PNG", "caf\u00e9", "caf\u00e9."},
		{"a job.json owns the name of its bundle, and the names of its matches", "inbox/ads/cafe.Job/JOB.json", "ads/cafe", "ads/cafe/"},
		{"a preset owns no name", "inbox/ads/preset.json", "", ""},
		{"a file that job.json names owns no name", "inbox/ads/cafe.job/woman.png", "", ""},
		{"a file that is not a drop owns no name", "inbox/ads/._talk.mp4", "", ""},
		{"a file that has an answer file owns no name", "inbox/ads/notes.txt", "", ""},
		{"an output owns no name", "outbox/ads/talk/t/talk.mp4", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.says, func(t *testing.T) {
			name, prefix := drop.ParseKey(tt.key).Owns()
			if name != tt.name || prefix != tt.prefix {
				t.Errorf("ParseKey(%q).Owns() = %q, %q, want %q, %q", tt.key, name, prefix, tt.name, tt.prefix)
			}
		})
	}
}

func TestLongKeys(t *testing.T) {
	long := func(n int, suffix string) string {
		return strings.Repeat("d/", 50) + strings.Repeat("n", n-2*50-len(suffix)) + suffix
	}
	tests := []struct {
		says  string
		below int // bytes of the key below inbox/
		code  string
		dir   string // of the key of the finding
	}{
		{"a name that fits", 480, "waiting_for_audio", "status/"},
		{"a name is rejected if a key made from it would be longer than 1,024 bytes", 900, "name_too_long", "status/"},
		{"if even the key of the status is too long, the answer file is below answers/", 1018, "name_too_long", "answers/"},
	}
	for _, tt := range tests {
		t.Run(tt.says, func(t *testing.T) {
			b := newInbox(t)
			f := b.only(t, b.step(t, long(tt.below, ".mp4")))
			if got := codes(f.Problems); len(got) != 1 || got[0] != tt.code {
				t.Errorf("codes %v, want %s", got, tt.code)
			}
			if !strings.HasPrefix(f.Key, tt.dir) || len(f.Key) > 1024 {
				t.Errorf("the key is %s (%d bytes), want one below %s of at most 1024 bytes", f.Key, len(f.Key), tt.dir)
			}
		})
	}
	t.Run("the name of a bundle or of a match of a wildcard is too long", func(t *testing.T) {
		b := newInbox(t)
		name := long(940, "")
		b.step(t, name+".job/"+strings.Repeat("m", 20)+".wav")
		f := b.only(t, b.step(t, reactJob(name+".job/job.json", "v.mp4", "a.wav")))
		if got := codes(f.Problems); len(got) != 1 || got[0] != "name_too_long" {
			t.Errorf("the codes of the bundle are %v, want name_too_long", got)
		}
		name = strings.Repeat("d/", 50) + "x"
		b.step(t, name+".job/"+strings.Repeat("m", 600)+".wav")
		found := b.findings(t, b.step(t, reactJob(name+".job/job.json", "https://example.com/v.mp4", "*.wav")))
		if got := codes(found[1].Problems); len(got) != 1 || got[0] != "name_too_long" {
			t.Errorf("the codes of the match are %v, want name_too_long", got)
		}
	})
	t.Run("the answer file of a long key: the path below inbox/ cut to 900 bytes, then ~ and 12 hex digits of the SHA-256 of the whole key", func(t *testing.T) {
		b := newInbox(t)
		below := long(1018, ".txt")
		f := b.only(t, b.step(t, below))
		sum := sha256.Sum256([]byte("inbox/" + below))
		if want := "answers/" + below[:900] + "~" + hex.EncodeToString(sum[:])[:12] + ".json"; f.Key != want {
			t.Errorf("the answer file is %s, want %s", f.Key, want)
		}
		if f.Name != below || f.State != ledger.Rejected {
			t.Errorf("%s is %s, want the name uncut, and the state rejected", f.Name, f.State)
		}
	})
}

// For each accepted suffix, a file of its format starts a job.
func TestEverySuffixStartsAJob(t *testing.T) {
	partner := map[media.Kind]string{media.Video: ".wav", media.Image: ".wav", media.Audio: ".mp4"}
	for _, suffix := range media.Suffixes() {
		kind, _ := media.KindOf(suffix)
		b := newInbox(t)
		b.step(t, "talk"+partner[kind])
		key := b.step(t, "talk"+strings.ToUpper(suffix))
		if _, problems := b.prepared(t, key); problems != nil {
			t.Errorf("%s: problems %+v, want none", suffix, problems)
		}
		if f := b.only(t, key); f.Job == nil {
			t.Errorf("%s is %s, want a job", suffix, f.State)
		}
	}
}

// The README lists the accepted suffixes.
func TestREADMEListsTheSuffixes(t *testing.T) {
	text := strings.Join(strings.Fields(string(read(t, "../../README.md"))), " ")
	for _, kind := range []media.Kind{media.Video, media.Audio, media.Image} {
		want := fmt.Sprintf("%s `%s`", kind, strings.Join(media.Suffixes(kind), "` `"))
		if !strings.Contains(text, want+";") && !strings.Contains(text, want+".") {
			t.Errorf("README.md does not list exactly these suffixes, want: %s", want)
		}
	}
}
