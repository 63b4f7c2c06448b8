package drop_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/text/unicode/norm"

	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
)

// printable is every printable character of ASCII. The slash divides it into two parts of a path.
var printable = func() string {
	var b strings.Builder
	for r := ' '; r <= '~'; r++ {
		b.WriteRune(r)
	}
	return b.String()
}()

// keyOf900 returns a key below inbox/, of 899 to 901 bytes in all. It repeats the text and ends in the suffix.
func keyOf900(text, suffix string) string {
	key := text + suffix
	for len("inbox/"+text+"/"+key) <= 900 {
		between := " "
		if !strings.Contains(key[:min(len(key), 450)], "|/") {
			between = "|/" // the end of a folder, about every 450 bytes; a text or suffix may contain / but not |/
		}
		key = text + between + key
	}
	if n := 900 - len("inbox//"+key); n > 0 {
		key = strings.Repeat("x", n) + "/" + key
	}
	return "inbox/" + key
}

func TestLongKeysOfAnyScript(t *testing.T) {
	texts := map[string]string{
		"all printable ASCII":          printable,
		"Latin with accents":           "Cr\u00e8me br\u00fbl\u00e9e \u1ec7 \u01d8",
		"Cyrillic":                     "\u0413\u043e\u0432\u043e\u0440\u0438\u0442 \u0439\u043e\u0433",
		"Hangul":                       "\ud55c\uad6d\uc5b4 \ub9d0\uc18c\ub9ac",
		"Devanagari":                   "\u0939\u093f\u0928\u094d\u0926\u0940 \u0958\u095e",
		"Arabic":                       "\u0635\u0648\u062a \u0622\u062f\u0645\u064a\u0629",
		"Japanese":                     "\u8a71\u3059\u58f0\u304c\u30ac\u30ae",
		"emoji of several characters":  "\U0001f469\u200d\U0001f692 \U0001f1e9\U0001f1ea \u2764\ufe0f",
		"characters that NFC replaces": "\u212b\u2126 \u212a",
	}
	for name, text := range texts {
		for form, of := range map[string]norm.Form{"composed": norm.NFC, "decomposed": norm.NFD} {
			t.Run(name+", "+form, func(t *testing.T) {
				b := newInbox(t)
				video := keyOf900(of.String(text), ".mp4")
				audio := norm.NFC.String(strings.TrimSuffix(video, ".mp4") + ".wav")
				b.Set(video, sample(t, video))
				b.Set(audio, sample(t, audio))
				job := norm.NFC.String(strings.TrimSuffix(strings.TrimPrefix(video, "inbox/"), ".mp4"))
				want := fmt.Sprintf("%s: job of pro, video_url=%s, audio_url=%s", job, strings.TrimPrefix(video, "inbox/"), strings.TrimPrefix(audio, "inbox/"))
				if diff := cmp.Diff([]string{want}, b.lines(t, []string{video, audio})); diff != "" {
					t.Errorf("findings of keys of %d and %d bytes (-want +got):\n%s", len(video), len(audio), diff)
				}
				f := b.only(t, audio)
				if owner, _ := drop.ParseKey(video).Owns(); owner != job || f.Name != job {
					t.Errorf("the name is %q and the owner %q, want %q for both", f.Name, owner, job)
				}
				for _, key := range []string{f.Key, ledger.RecordKey(job, f.Job.Take), ledger.OutputPrefix(job, f.Job.Take) + job[strings.LastIndex(job, "/")+1:] + "-2.mp4"} {
					if len(key) > 1024 || !strings.Contains(key, job) {
						t.Errorf("the key %q has %d bytes, want at most 1024 and the name in it", key, len(key))
					}
				}
			})
		}
	}
}

func TestOtherLongKeys(t *testing.T) {
	tests := []struct{ name, below, want string }{
		{"a bundle", ".job/a.wav", "waiting, waiting_for_job_json"},
		{"a preset", "/preset.json", "rejected, invalid_json"},
		{"an unknown suffix", ".txt", "rejected, unknown_suffix"},
	}
	for _, tt := range tests {
		for _, text := range []string{printable, "\ud55c\uad6d\uc5b4", "\U0001f469\u200d\U0001f692"} {
			b := newInbox(t)
			key := keyOf900(text, tt.below)
			b.Set(key, []byte("text"))
			f := b.only(t, key)
			name := norm.NFC.String(strings.TrimSuffix(strings.TrimPrefix(key, "inbox/"), ".job/a.wav"))
			if got := b.line(t, f); got != name+": "+tt.want {
				t.Errorf("%s: the finding is %s, want %s: %s", tt.name, got, name, tt.want)
			}
			if !strings.HasSuffix(f.Key, "/"+name+".json") {
				t.Errorf("%s: the finding has the key %q, want one that ends in the name %q", tt.name, f.Key, name)
			}
		}
	}
}

func TestBundlesWithKeysOfUpTo1024Bytes(t *testing.T) {
	for n := 1000; n <= 1012; n++ {
		b := newInbox(t)
		f := b.only(t, b.step(t, strings.Repeat("b", n)+".job/a"))
		if got := codes(f.Problems); !slices.Equal(got, []string{"name_too_long"}) {
			t.Errorf("a bundle whose name has %d bytes is %s, %v; want name_too_long", n, f.State, got)
		}
	}
}

// A person who reads a status, a listing or a terminal cannot see these characters,
// and may see another name because of them.
func TestUnprintableKeys(t *testing.T) {
	tests := []struct{ name, below, shown, points string }{
		{"a newline", "ads/a\nb.mp4", `ads/a\nb.mp4`, "U+000A"},
		{"an escape", "ads/\x1b[2J.wav", `ads/\x1b[2J.wav`, "U+001B"},
		{"a C1 control character", "ads/\u009b31m.mp4", `ads/\u009b31m.mp4`, "U+009B"},
		{"line and paragraph separators", "ads/a\u2028b\u2029.mp4", `ads/a\u2028b\u2029.mp4`, "U+2028 and U+2029"},
		{"an override of the direction", "ads/a\u202egpj.mp4", `ads/a\u202egpj.mp4`, "U+202E"},
		{"an isolate", "ads/\u2066a\u2069.wav", `ads/\u2066a\u2069.wav`, "U+2066 and U+2069"},
		{"a noncharacter", "ads/a\uffff.wav", `ads/a\uffff.wav`, "U+FFFF"},
		{"a folder", "a\x00b/talk.mp4", `a\x00b/talk.mp4`, "U+0000"},
		{"a file of a bundle", "x.job/\x01.wav", `x.job/\x01.wav`, "U+0001"},
		{"a preset in a folder with an unprintable name", "a\x7fb/preset.json", `a\x7fb/preset.json`, "U+007F"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newInbox(t)
			f := b.only(t, b.step(t, tt.below+" = {}"))
			if f.State != ledger.Rejected || len(f.Problems) != 1 || f.Problems[0].Code != problem.UnprintableName {
				t.Fatalf("state %s, problems %v; want rejected, only unprintable_name", f.State, f.Problems)
			}
			if want := "the path " + tt.shown + " has characters that cannot be seen or typed: " + tt.points; f.Problems[0].Reason != want {
				t.Errorf("the reason is\n%s, want\n%s", f.Problems[0].Reason, want)
			}
			if strings.IndexFunc(f.Key, func(r rune) bool { return !unicode.IsPrint(r) }) >= 0 || !strings.HasPrefix(f.Key, "answers/") || !strings.Contains(f.Key, "~") {
				t.Errorf("the answer file has the key %q, want a printable one below answers/ with a hash after ~", f.Key)
			}
		})
	}
}

// A long path of unprintable characters is rejected with a short reason.
func TestUnprintableKeyIsShownShort(t *testing.T) {
	b := newInbox(t)
	f := b.only(t, b.step(t, strings.Repeat("\x01\u2028\u202e\x02\x03\x04\x05\x06\x07\x08\x0b\x0c", 60)+".mp4"))
	if size := len(compact(t, f.Problems)); size > 2000 || codes(f.Problems)[0] != "unprintable_name" {
		t.Errorf("%d bytes of problems %s, want at most 2000 bytes of unprintable_name", size, codes(f.Problems))
	}
}

// A job.json cannot name media with unprintable characters.
func TestUnprintableMediaValues(t *testing.T) {
	b := newInbox(t)
	for _, audio := range []string{`a\u0001.wav`, `*\u202e.wav`} {
		key := b.step(t, "x.job/job.json = "+`{"model": "sync/react-1", "input": {"video_url": "https://example.com/v.mp4", "audio_url": "`+audio+`"}}`)
		if _, problems := b.prepared(t, key); len(problems) == 0 || codes(problems)[0] != "bad_value" {
			t.Errorf("audio_url %s: problems %v, want bad_value first", audio, problems)
		}
	}
}
