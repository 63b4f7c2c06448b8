package e2e

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local/sample"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/test/world/worldtest"
)

var scripts = []string{
	"Grüße_à_l’été_",
	"映画の予告編・",
	"مقطع_فيديو_",
	"नमस्ते_दुनिया_",
	"Привет_мир_",
	"👩🏽‍🚀🏴‍☠️🇩🇪🫶", // most of these emoji have several code points
}

// printable returns every printable ASCII character except the slash, which makes
// folders, and the dot, which can begin a suffix.
func printable() string {
	var b strings.Builder
	for r := rune(' '); r <= '~'; r++ {
		if r != '/' && r != '.' {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// longName returns a name that repeats the word, and whose video has a key of 900 bytes.
func longName(word string) string {
	const bytes, folder, stem = 900 - len("inbox/.mp4"), 200, 60 // the key of an output has the stem twice
	repeat := func(size int) string {
		text := strings.ToValidUTF8(strings.Repeat(word, size/len(word)+1)[:size], "")
		return text + strings.Repeat("x", size-len(text)) // if a code point was cut off
	}
	var name string
	for bytes-len(name) > folder+1+stem {
		name += repeat(folder) + "/"
	}
	return name + repeat(bytes-len(name)-1-stem) + "/" + repeat(stem)
}

// keyNames returns unusual names of jobs.
func keyNames() []string {
	signs := printable()
	names := []string{
		signs,
		signs[:40] + "/" + signs[40:],
		"v1.2/talk.v3", // these dots do not begin the suffix of a file
		"%2F%20+&=?#%", // changes if it is encoded or decoded once too often
		`a//b/c\d`,
	}
	for _, word := range scripts {
		names = append(names, word, "ads "+word+"/"+word+"/talk", longName(word))
	}
	return append(names, longName("x"), longName(signs))
}

// Jobs with unusual names succeed, and each name is unchanged in the keys, the status, the
// record and result.json.
func TestKeysRoundTrip(t *testing.T) {
	w := newWorld(t)
	names := keyNames()
	for _, r := range printable() { // each character at both ends and in the middle
		names = append(names, fmt.Sprintf("%c%d%c%d%c", r, r, r, r, r))
	}
	worldtest.DropPairs(w, names...)
	runUntilIdle(t, w)
	clip, _ := sample.Files()
	if long := slices.MaxFunc(names, func(a, b string) int { return len(a) - len(b) }); len("inbox/"+long+".mp4") != 900 {
		t.Errorf("the longest key of a dropped video has %d bytes, want 900", len("inbox/"+long+".mp4"))
	}
	var want []string
	for _, name := range names {
		st := w.Status(name)
		prefix := "outbox/" + name + "/" + st.Take + "/"
		output := prefix + path.Base(name) + ".mp4"
		if st.Name != name || st.State != ledger.Succeeded || cmp.Diff([]string{output}, st.Outputs) != "" {
			t.Errorf("the status of %q is %+v, want succeeded with the output %s", name, st, output)
			continue
		}
		if rec, ok := w.Record(name, st.Take); !ok || rec.Name != name || rec.Inputs[0].Key != "inbox/"+name+".mp4" || rec.Outputs[0].Key != output {
			t.Errorf("the record of %q is %+v, want the same name in it and in its keys", name, rec)
		}
		if body, _ := w.Bucket.Object(output); string(body) != string(clip) {
			t.Errorf("the output of %q is not what RunComfy served", name)
		}
		var result ledger.Result
		if body, _ := w.Bucket.Object(prefix + "result.json"); json.Unmarshal(body, &result) != nil {
			t.Errorf("result.json of %q is %q, want JSON", name, body)
		} else if result.Name != name || result.Inputs[1].Key != "inbox/"+name+".wav" || result.Outputs[0].Key != output {
			t.Errorf("result.json of %q is %+v, want the same name in it and in its keys", name, result)
		}
		want = append(want, "inbox/"+name+".mp4", "inbox/"+name+".wav", ledger.StatusKey(name), ledger.RecordKey(name, st.Take), output, prefix+"result.json")
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, w.Bucket.Keys()); diff != "" {
		t.Errorf("keys of the bucket (-want +got):\n%s", diff)
	}
	for _, job := range w.RunComfy.Submitted() {
		if job.FetchError != "" {
			t.Errorf("RunComfy could not fetch an input: %s", job.FetchError)
		}
	}
}

// If the keys of a name's outputs would be too long, the name gets a status. If even the key of the
// status would be too long, the file gets an answer file with a shortened key.
func TestNamesThatAreTooLong(t *testing.T) {
	for _, tt := range []struct {
		name, key, prefix string // the prefix of the key that is written
	}{
		{"its outputs' keys would be too long", "inbox/" + strings.Repeat("x", 890) + ".mp4", "status/" + strings.Repeat("x", 890) + ".json"},
		{"its status key would be too long", "inbox/" + strings.Repeat("é", 507) + ".mp4", "answers/" + strings.Repeat("é", 450) + "~"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.Drop(tt.key, mediaFile(t, "talk.mp4"))
			runUntilIdle(t, w)
			got := written(w)
			if len(got) != 1 {
				t.Fatalf("the functions wrote %v, want one object", got)
			}
			for key, body := range got {
				var st ledger.Status
				if err := json.Unmarshal([]byte(body), &st); err != nil {
					t.Fatal(err)
				}
				if !strings.HasPrefix(key, tt.prefix) || len(key) > 1024 || st.Code != problem.NameTooLong || st.Name != tt.key[len("inbox/"):len(tt.key)-len(".mp4")] {
					t.Errorf("the key %s has %d bytes and the status %+v; want a key that begins with %s, and the code name_too_long", key, len(key), st, tt.prefix)
				}
			}
			if w.RunComfy.Calls() != 0 {
				t.Error("RunComfy was called")
			}
		})
	}
}
