package drop

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzParseDoc checks that any job.json is either read completely and unchanged, or refused
// with reasons of a bounded length.
func FuzzParseDoc(f *testing.F) {
	for _, text := range []string{
		`{"model": "sync/react-1", "input": {"video_url": "talk.mp4", "audio_url": "voice.wav", "temperature": 0.50}}`,
		"\ufeff{}", "", "null", "[]", `{"model":null}`, `{"model":"m","input":[]}`, `{"input":{"a":{"b":1,"b":2}}}`,
		`{"model":"m","model":"n"}`, `{"modle":"m"}`, "{\n\"model\": \"m\",\n}", `{} {}`, "\xff\xfe{\x00}\x00",
		`{"input":{"n":1e999999999,"m":-0,"s":"\ud800"}}`, `{"a":[[[[[{}]]]]]}`, `{"\u0000":"","model":"\u0000"}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > maxDoc {
			t.Skip("lipdrop does not read so many bytes")
		}
		d, problems := parseDoc("job.json", text)
		for _, p := range problems {
			if p.Code == "" || p.Reason == "" || len(p.Reason) > 2000 {
				t.Errorf("problem %q with the reason %q, want a code and a reason of at most 2000 bytes", p.Code, p.Reason)
			}
		}
		if problems != nil {
			return
		}
		members := map[string]any{"input": d.Input}
		if d.hasModel {
			members["model"] = d.Model
		}
		rewritten, err := json.Marshal(members)
		if err != nil {
			t.Fatalf("%q is read, but the result cannot be written as JSON: %v", text, err)
		}
		var want, got any
		if json.Unmarshal(bytes.TrimPrefix(text, []byte("\ufeff")), &want) != nil || json.Unmarshal(rewritten, &got) != nil {
			return // there is a number that a float64 cannot hold
		}
		if m := want.(map[string]any); m["input"] == nil {
			m["input"] = map[string]any{}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("what is read from %q (-want +got):\n%s", text, diff)
		}
		if other, problems := parseDoc("job.json", rewritten); problems != nil || !cmp.Equal(d.Input, other.Input) {
			t.Errorf("%q is read, written as %q, and then read differently, with the problems %v; want the same input and no problems", text, rewritten, problems)
		}
	})
}
