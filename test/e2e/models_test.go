package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/golden"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local"
	"github.com/lipdrop/lipdrop/internal/local/sample"
	"github.com/lipdrop/lipdrop/internal/media"
)

const modelsDocument = "../../docs/models.md"

// section is the section about a model in docs/models.md.
type section struct {
	model    *catalog.Model
	table    string                 // the lines that begin with |
	examples map[string]exampleFile // by "job" and "preset"
}

// exampleFile is an example of a job.json or preset.json.
type exampleFile struct {
	text []byte
	form struct {
		Model string
		Input map[string]any
	}
}

var (
	heading = regexp.MustCompile("(?m)^## `(.+)`\n")
	table   = regexp.MustCompile(`(?m)(?:^\|.*\n)+`)
	example = regexp.MustCompile("(?ms)^```json (job|preset).json\n(.*?)^```\n")
)

// readModels returns the sections of docs/models.md. Each model of the catalog must have
// a section, and each section must be about a model.
func readModels(t *testing.T, text string) []section {
	t.Helper()
	models, err := catalog.Default()
	if err != nil {
		t.Fatal(err)
	}
	var sections []section
	var ids []string
	at := heading.FindAllStringSubmatchIndex(text, -1)
	for i, h := range at {
		id, end := text[h[2]:h[3]], len(text)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		body := text[h[1]:end]
		model, ok := models.Model(id)
		if !ok {
			t.Fatalf("docs/models.md has a section about %s, which is not a model", id)
		}
		s := section{model: model, table: table.FindString(body), examples: map[string]exampleFile{}}
		for _, found := range example.FindAllStringSubmatch(body, -1) {
			d := exampleFile{text: []byte(found[2])}
			if err := json.Unmarshal(d.text, &d.form); err != nil {
				t.Fatalf("%s.json of %s: %v", found[1], id, err)
			}
			s.examples[found[1]] = d
		}
		ids = append(ids, id)
		sections = append(sections, s)
	}
	if diff := cmp.Diff(models.IDs(), slices.Sorted(slices.Values(ids))); diff != "" {
		t.Fatalf("models of docs/models.md (-want +got):\n%s", diff)
	}
	return sections
}

// docs/models.md lists the inputs that the catalog has for each model. For each model it has an
// example of a job.json and, if the model accepts pairs, of a preset.json.
func TestDocumentOfModels(t *testing.T) {
	want := readDocument(t, modelsDocument)
	for _, s := range readModels(t, want) {
		head := "## `" + s.model.ID + "`\n"
		before, body, _ := strings.Cut(want, head)
		want = before + head + strings.Replace(body, s.table, tableOf(s.model), 1) // a missing table is added at the beginning of the section
		names := []string{"job"}
		if _, ok := visualOf(s.model); ok {
			names = append(names, "preset")
		}
		if diff := cmp.Diff(names, slices.Sorted(maps.Keys(s.examples))); diff != "" {
			t.Errorf("examples of %s (-want +got):\n%s", s.model.ID, diff)
		}
	}
	golden.Compare(t, modelsDocument, want)
}

// tableOf returns the inputs of a model as a table. Successive media properties that
// accept the same files share a row.
func tableOf(m *catalog.Model) string {
	var b strings.Builder
	b.WriteString("| input | values | default |\n| --- | --- | --- |\n")
	media := m.MediaProperties()
	for len(media) > 0 {
		same := 1
		for same < len(media) && accepts(media[same]) == accepts(media[0]) {
			same++
		}
		name := "`" + media[0].Name + "`"
		if same > 1 {
			name += " to `" + media[same-1].Name + "`"
		}
		fmt.Fprintf(&b, "| %s | %s | |\n", name, accepts(media[0]))
		media = media[same:]
	}
	for _, o := range m.Options() {
		allowed, standard := o.Allowed, ""
		if o.Required {
			allowed = "required: " + allowed
		}
		if o.Default != "" {
			standard = "`" + o.Default + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", o.Name, allowed, standard)
	}
	return b.String()
}

// accepts says which files a media property accepts.
func accepts(p catalog.MediaProperty) string {
	words := string(p.Kind)
	if p.Required {
		words = "required: " + words
	}
	if p.Formats != nil {
		words += ", " + strings.Join(p.Formats, " or ")
	}
	if p.MaxDuration > 0 {
		words += fmt.Sprintf(", at most %g s", p.MaxDuration.Seconds())
	}
	if p.MinShortSide > 0 {
		words += fmt.Sprintf(", short side at least %d pixels", p.MinShortSide)
	}
	if p.MaxBytes > 0 {
		words += fmt.Sprintf(", at most %d MB", p.MaxBytes>>20)
	}
	return words
}

// visualOf returns the suffix of the video or the image in a pair of a model. It returns
// false if the model accepts no pair.
func visualOf(m *catalog.Model) (suffix string, ok bool) {
	if _, _, ok := m.Pair(media.Video); ok {
		return ".mp4", true
	}
	_, _, ok = m.Pair(media.Image)
	return ".png", ok
}

// droppedJob is a job of docs/models.md that was dropped.
type droppedJob struct {
	name, model string
	options     map[string]any // the options that must be sent
	media       []string       // the media properties that must be sent
	output      []byte         // the output: the fake serves the video or the image of the job
}

// Each example of docs/models.md succeeds in the local stack: for each model a bundle, and
// a pair if the model accepts one. The verdict is doubtful, because the output is an input.
func TestModelsOfTheDocument(t *testing.T) {
	clip, voice := sample.Files()
	files := map[string][]byte{".mp4": clip, ".wav": voice, ".png": mediaFile(t, "woman.png")}
	s := start(t, local.Options{RunTime: time.Second, Visibility: time.Second})
	var jobs []droppedJob
	for _, each := range readModels(t, readDocument(t, modelsDocument)) {
		jobs = append(jobs, s.dropBundle(each, files))
		if suffix, ok := visualOf(each.model); ok {
			jobs = append(jobs, s.dropPair(each, suffix, files))
		}
	}
	for _, job := range jobs {
		st := s.Await(job.name, ended)
		if st.State != ledger.Succeeded || st.Model != job.model || len(st.Outputs) != 1 || st.Verdict != ledger.VerdictDoubtful {
			t.Errorf("the status of %s is %+v, want state succeeded, model %s and one doubtful output", job.name, st, job.model)
			continue
		}
		if body, _ := s.Object(st.Outputs[0]); !bytes.Equal(body, job.output) {
			t.Errorf("the output of %s is not what RunComfy served", job.name)
		}
		sent, _ := s.Fake().Job(st.RequestID)
		if diff := cmp.Diff(job.options, withoutURLs(t, sent, job.media...)); diff != "" || sent.FetchError != "" {
			t.Errorf("%s: fetch error %q; options sent (-want +got):\n%s", job.name, sent.FetchError, diff)
		}
	}
	if charges := s.Fake().Charges(); charges != len(jobs) {
		t.Errorf("%d charges for %d jobs", charges, len(jobs))
	}
}

// dropBundle drops the job.json of a section and the files that it names.
func (s *stack) dropBundle(each section, files map[string][]byte) droppedJob {
	s.t.Helper()
	manifest := each.examples["job"]
	job := droppedJob{name: "bundles/" + each.model.ID, model: manifest.form.Model, options: maps.Clone(manifest.form.Input)}
	folder := "inbox/" + job.name + ".job/"
	s.Drop(folder+"job.json", manifest.text)
	for _, p := range each.model.MediaProperties() {
		file, given := manifest.form.Input[p.Name].(string)
		if !given {
			continue
		}
		s.Drop(folder+file, files[path.Ext(file)])
		delete(job.options, p.Name)
		job.media = append(job.media, p.Name)
		if p.Kind != media.Audio {
			job.output = files[path.Ext(file)]
		}
	}
	return job
}

// dropPair drops the preset.json of a section, and then a pair into the same folder.
func (s *stack) dropPair(each section, suffix string, files map[string][]byte) droppedJob {
	s.t.Helper()
	preset := each.examples["preset"]
	folder := "pairs/" + each.model.ID + "/"
	s.Drop("inbox/"+folder+"preset.json", preset.text)
	s.Drop("inbox/"+folder+"talk.wav", files[".wav"])
	s.Drop("inbox/"+folder+"talk"+suffix, files[suffix])
	job := droppedJob{name: folder + "talk", model: each.model.ID, options: maps.Clone(preset.form.Input), output: files[suffix]}
	for _, p := range each.model.MediaProperties() {
		job.media = append(job.media, p.Name)
	}
	if each.model.ID == "community/live-avatar" {
		job.options["num_clips"] = 1.0 // submit computes it from the length of the voice, 2.5 s
	}
	return job
}
