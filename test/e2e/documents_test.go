package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/golden"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/outputtest"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
	"github.com/lipdrop/lipdrop/test/world"
	"github.com/lipdrop/lipdrop/test/world/worldtest"
)

const (
	statusDocument = "../../docs/status.md"
	resultDocument = "../../docs/result.md"
)

func readDocument(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// block returns the body of the code block that opens with json and a word, and the text
// before and after the body.
func block(t *testing.T, text, word string) (before, body, after string) {
	t.Helper()
	open := "```json " + word + "\n"
	before, rest, _ := strings.Cut(text, open)
	body, after, ok := strings.Cut(rest, "```\n")
	if !ok {
		t.Fatalf("no code block opens with json %s", word)
	}
	return before + open, body, "```\n" + after
}

// compareBlocks compares the examples in a document with what the functions wrote.
func compareBlocks(t *testing.T, document string, written map[string]string) {
	t.Helper()
	text := readDocument(t, document)
	for word, body := range written {
		before, _, after := block(t, text, word)
		text = before + body + after
	}
	golden.Compare(t, document, text)
}

// scene makes the functions write a status or an answer file.
type scene struct {
	word  string // opens the example in docs/status.md: see block
	state ledger.State
	key   string
	play  func(t *testing.T, w *world.World)
}

func dropPair(t *testing.T, w *world.World) {
	t.Helper()
	w.Drop("inbox/ads/talk.mp4", mediaFile(t, "talk.mp4"))
	w.Drop("inbox/ads/talk.wav", mediaFile(t, "speech.wav"))
}

func scenes() []scene {
	const talk, cafe = "status/ads/talk.json", "status/ads/cafe.json"
	job := func(state ledger.State) scene { return scene{string(state), state, talk, dropPair} }
	return []scene{
		{"waiting", ledger.Waiting, talk, func(t *testing.T, w *world.World) {
			w.Drop("inbox/ads/talk.wav", mediaFile(t, "voice.wav"))
		}},
		{"rejected", ledger.Rejected, cafe, func(t *testing.T, w *world.World) {
			w.Drop("inbox/ads/cafe.job/talk.mp4", mediaFile(t, "long.mp4"))
			w.Drop("inbox/ads/cafe.job/voice.wav", mediaFile(t, "voice.wav"))
			w.Drop("inbox/ads/cafe.job/job.json", []byte(`{"model": "sync/react-1", "input": {"video_url": "talk.mp4", "audio_url": "voice.wav", "emotion": "joyful"}}`))
		}},
		{"rejected file", ledger.Rejected, "answers/ads/notes.txt.json", func(_ *testing.T, w *world.World) {
			w.Drop("inbox/ads/notes.txt", []byte("She should smile more."))
		}},
		{"accepted", ledger.Accepted, "answers/ads/preset.json.json", func(_ *testing.T, w *world.World) {
			w.Drop("inbox/ads/preset.json", []byte(`{"model": "sync/react-1", "input": {"emotion": "happy"}}`))
		}},
		{"used", ledger.Used, talk, func(t *testing.T, w *world.World) {
			w.Drop("inbox/ads/talk.mp4", mediaFile(t, "talk.mp4"))
			w.Drop("inbox/ads/talk.de.wav", mediaFile(t, "voice.wav"))
			w.Drop("inbox/ads/talk.fr.wav", mediaFile(t, "voice.wav"))
		}},
		{"held", ledger.Held, talk, func(t *testing.T, w *world.World) {
			w.RunComfy.SetBalanceEmpty(true)
			dropPair(t, w)
			w.Run(time.Minute)
			w.RunComfy.SetBalanceEmpty(false)
		}},
		{"withdrawn", ledger.Withdrawn, talk, func(t *testing.T, w *world.World) {
			w.Drop("inbox/ads/talk.wav", mediaFile(t, "voice.wav"))
			runUntilIdle(t, w)
			w.Delete("inbox/ads/talk.wav")
		}},
		job(ledger.Submitted), job(ledger.InQueue), job(ledger.InProgress), job(ledger.Archiving), job(ledger.Succeeded),
		{"failed", ledger.Failed, talk, func(t *testing.T, w *world.World) {
			w.RunComfy.Script = func(string, map[string]any) runcomfytest.Script {
				return runcomfytest.Script{Run: 80 * time.Second, Fail: map[string]any{"message": "no face was found in the video"}}
			}
			dropPair(t, w)
		}},
		{"cancelled", ledger.Cancelled, talk, func(t *testing.T, w *world.World) {
			w.RunComfy.Queue = time.Hour
			dropPair(t, w)
			w.Run(2 * time.Minute)
			w.Delete("inbox/ads/talk.wav")
		}},
		{"unknown", ledger.Unknown, talk, func(t *testing.T, w *world.World) {
			w.Before = worldtest.FailIf(world.ErrBroken, func(c world.Call) bool { return c.Service == "runcomfy" && c.Op == "submit" })
			dropPair(t, w)
		}},
	}
}

// docs/status.md describes every member and every state. Each example is a status or an
// answer file that the functions wrote.
func TestDocumentOfStatus(t *testing.T) {
	text := readDocument(t, statusDocument)
	sameMembers(t, text, "Status files and answer files have the same form", reflect.TypeFor[ledger.Status]())
	sameMembers(t, text, "Members of `links`", reflect.TypeFor[ledger.Links]())
	schema := schemaOf(t, text)
	examples, states := map[string]string{}, map[ledger.State]bool{}
	for _, s := range scenes() {
		w := newWorld(t)
		w.RunComfy.Make = outputtest.Right.Make
		w.After = func(call world.Call) error {
			if call.Op != "PutObject" || !strings.HasPrefix(call.Key, "status/") && !strings.HasPrefix(call.Key, "answers/") {
				return nil
			}
			body, _ := w.Bucket.Object(call.Key)
			checkStatus(t, schema, s.word, body)
			if st := decodeStatus(t, body); call.Key == s.key && st.State == s.state && examples[s.word] == "" {
				examples[s.word] = string(body)
			}
			return nil
		}
		s.play(t, w)
		runUntilIdle(t, w)
		if examples[s.word] == "" {
			t.Errorf("%s: the functions did not write %s with the state %s", s.word, s.key, s.state)
		}
		if before, _, _ := block(t, text, s.word); !strings.Contains(before[strings.LastIndex(before, "\n#"):], "`"+s.key+"`") {
			t.Errorf("the section of the example %q does not name its key %s", s.word, s.key)
		}
		states[s.state] = true
		if !strings.Contains(text, "\n### `"+string(s.state)+"`\n") {
			t.Errorf("there is no section about %s", s.state)
		}
	}
	compareBlocks(t, statusDocument, examples)
	if headings := strings.Count(text, "\n### "); headings != len(states) {
		t.Errorf("%d sections about %d states, want one for each state", headings, len(states))
	}
}

// The statuses and answer files of the wrong drops match the schema in docs/status.md.
func TestWrongDropsMatchTheSchema(t *testing.T) {
	schema := schemaOf(t, readDocument(t, statusDocument))
	_, files := readBucket(t, wrongDrops)
	seen := 0
	for file, body := range files { // file is the folder of a wrong drop and a key, such as empty-voice/inbox/ads/talk.wav
		if _, key, _ := strings.Cut(file, "/"); !strings.HasPrefix(key, ledger.InboxPrefix) {
			checkStatus(t, schema, file, []byte(body))
			seen++
		}
	}
	if seen < 30 {
		t.Errorf("%d files were checked, want at least 30", seen)
	}
}

// The schema in docs/status.md accepts a status that names a thousand jobs.
func TestSchemaAcceptsManyJobs(t *testing.T) {
	st := ledger.Status{Name: "ads/talk", State: ledger.Used, UpdatedAt: world.Begin}
	for i := range 1000 {
		st.Jobs = append(st.Jobs, fmt.Sprintf("ads/talk.%d", i))
	}
	checkStatus(t, schemaOf(t, readDocument(t, statusDocument)), "a status of a thousand jobs", bucket.JSON(st, ""))
}

func schemaOf(t *testing.T, text string) *jsonschema.Schema {
	t.Helper()
	_, body, _ := block(t, text, "schema")
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("urn:status", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("urn:status")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func checkStatus(t *testing.T, schema *jsonschema.Schema, where string, body []byte) {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(body)))
	if err == nil {
		err = schema.Validate(doc)
	}
	if err != nil {
		t.Errorf("%s: %v\n%s", where, err, body)
	}
	st := decodeStatus(t, body)
	known := slices.ContainsFunc(problem.Codes(), func(info problem.Info) bool { return info.Code == st.Code })
	if st.Code != "" && !known {
		t.Errorf("%s: the code %s is not in the list of codes", where, st.Code)
	}
}

func decodeStatus(t *testing.T, body []byte) ledger.Status {
	t.Helper()
	var st ledger.Status
	if err := json.Unmarshal(body, &st); err != nil {
		t.Fatal(err)
	}
	return st
}

// docs/result.md describes every member and every code of a doubt. Its example is what the functions wrote.
func TestDocumentOfResult(t *testing.T) {
	text := readDocument(t, resultDocument)
	sameMembers(t, text, "# result.json", reflect.TypeFor[ledger.Result]())
	sameMembers(t, text, "## `inputs`", reflect.TypeFor[ledger.Input]())
	sameMembers(t, text, "## `outputs`", reflect.TypeFor[ledger.Output]())
	sameMembers(t, text, "## `verdict`", reflect.TypeFor[ledger.Verdict]())
	for _, code := range ledger.DoubtCodes() {
		if !strings.Contains(text, "| `"+string(code)+"` |") {
			t.Errorf("%s is not described", code)
		}
	}
	sameMembers(t, text, "## `times`", reflect.TypeFor[ledger.Times]())
	w := newWorld(t)
	w.RunComfy.Make = outputtest.Right.Make
	w.Web["https://example.com/voice.wav"] = mediaFile(t, "voice.wav")
	w.Drop("inbox/ads/cafe.job/talk.mp4", mediaFile(t, "talk.mp4"))
	w.Drop("inbox/ads/cafe.job/job.json", []byte(`{"model": "sync/react-1", "input": {"video_url": "talk.mp4", "audio_url": "https://example.com/voice.wav?key=4711", "emotion": "happy"}}`))
	runUntilIdle(t, w)
	st := w.Status("ads/cafe")
	body, ok := w.Bucket.Object(ledger.ResultKey("ads/cafe", st.Take))
	if !ok {
		t.Fatalf("there is no result.json; the status is %+v", st)
	}
	compareBlocks(t, resultDocument, map[string]string{"result": string(body)})
}

var memberRow = regexp.MustCompile("(?m)^\\| `([A-Za-z0-9]+)` \\|")

// sameMembers reads the first table after heading. Its first column must have the JSON members
// of form, in their order.
func sameMembers(t *testing.T, text, heading string, form reflect.Type) {
	t.Helper()
	_, section, ok := strings.Cut(text, heading)
	if !ok {
		t.Fatalf("no text %q", heading)
	}
	var got, want []string
	for _, row := range memberRow.FindAllStringSubmatch(table.FindString(section), -1) {
		got = append(got, row[1])
	}
	for field := range form.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		want = append(want, name)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("members of %s, after %q (-want +document):\n%s", form, heading, diff)
	}
}
