package catalog_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/media"
)

const (
	react1     = "sync/react-1"
	lipsync    = "sync/sync/lipsync/v2/pro"
	liveAvatar = "community/live-avatar"
	happyhorse = "happyhorse/happyhorse-1.0/reference-to-video"
	talker     = "acme/talker-2.1/portrait"
)

// model returns one of the models that lipdrop comes with, or the model in
// testdata/talker.
func model(t testing.TB, id string) *catalog.Model {
	t.Helper()
	c, err := catalog.Default()
	if id == talker {
		c, err = catalog.Load(os.DirFS("testdata/talker"))
	}
	if err != nil {
		t.Fatal(err)
	}
	m, ok := c.Model(id)
	if !ok {
		t.Fatalf("no model %s among %q", id, c.IDs())
	}
	return m
}

func TestUsualRunTime(t *testing.T) {
	for id, want := range map[string]time.Duration{
		react1: 100 * time.Second, lipsync: 137 * time.Second, liveAvatar: 90 * time.Second, happyhorse: 3 * time.Minute, talker: 45 * time.Second,
	} {
		m := model(t, id)
		if usual := m.Usual.Of(10 * time.Second); m.ID != id || usual != want {
			t.Errorf("got %s with the usual run %s, want %s with %s", m.ID, usual, id, want)
		}
	}
}

// Option.Allowed describes only some keywords of the schema: it says nothing about maxItems,
// exclusiveMinimum and format.
func TestModel(t *testing.T) {
	m := model(t, talker)
	media := []catalog.MediaProperty{
		{Name: "portrait", Kind: media.Image, Required: true, Formats: []string{"png"}, MaxBytes: 80 << 20, MinShortSide: 512},
		{Name: "speech", Kind: media.Audio, Required: true, MaxDuration: 90 * time.Second},
	}
	if diff := cmp.Diff(media, m.MediaProperties()); diff != "" {
		t.Errorf("media (-want +got):\n%s", diff)
	}
	options := []catalog.Option{
		{Name: "cuts", Allowed: "a list", Default: "[0.5,1]"},
		{Name: "frames", Allowed: "a whole number of at least 1", Default: "10"},
		{Name: "loop", Allowed: "true or false or a whole number"},
		{Name: "mood", Required: true, Allowed: "calm or lively"},
		{Name: "note", Allowed: "a value", Default: `""`},
		{Name: "pieces", Allowed: "a whole number from 1 to 7", Default: "3"},
		{Name: "seed", Allowed: "null or a whole number of at most 9"},
		{Name: "strength", Allowed: "a number of at most 2.5"},
	}
	if diff := cmp.Diff(options, m.Options()); diff != "" {
		t.Errorf("options (-want +got):\n%s", diff)
	}
}

// Schema keeps RunComfy's own words, such as the type float. It returns a copy.
func TestSchema(t *testing.T) {
	m := model(t, liveAvatar)
	m.Schema()[0] = 'x'
	var schema struct {
		Properties map[string]map[string]any
	}
	if err := json.Unmarshal(m.Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	want := map[string]map[string]any{
		"prompt":          {"type": "string", "default": "A person speaking naturally."},
		"guidance_scale":  {"type": "float", "minimum": 0.0, "maximum": 10.0, "default": 3.5},
		"frames_per_clip": {"type": "integer", "minimum": 16.0, "maximum": 80.0, "default": 48.0},
	}
	for name, property := range want {
		if diff := cmp.Diff(property, schema.Properties[name]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestNearest(t *testing.T) {
	c, err := catalog.Default()
	if err != nil {
		t.Fatal(err)
	}
	short := []string{"model", "input"}
	tests := []struct {
		name, wrong string
		known       []string
		want        string
	}{
		{"hyphen left out", "sync/react1", c.IDs(), react1},
		{"upper case", "SYNC/REACT-1", c.IDs(), react1},
		{"without its owner", "react-1", c.IDs(), react1},
		{"a segment left out", "sync/lipsync/v2/pro", c.IDs(), lipsync},
		{"joined by hyphens", "lipsync-v2-pro", c.IDs(), lipsync},
		{"underscore", "community/live_avatar", c.IDs(), liveAvatar},
		{"last segment left out", "happyhorse/happyhorse-1.0", c.IDs(), happyhorse},
		{"something else", "black-forest/flux", c.IDs(), ""},
		{"too short to tell", "v2", c.IDs(), ""},
		{"empty", "", c.IDs(), ""},
		{"very long", strings.Repeat("sync/react-1", 100_000), c.IDs(), ""},
		{"one letter wrong", "modal", short, "model"},
		{"one letter left out", "modl", short, "model"},
		{"two letters exchanged", "modle", short, "model"},
		{"the first two letters exchanged", "niput", short, "input"},
		{"two letters wrong", "medal", short, ""},
		{"two exchanges of letters", "omdle", short, ""},
		{"letters of several bytes", "输出文件名", short, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := catalog.Nearest(tt.wrong, tt.known); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestIDsAreSorted(t *testing.T) {
	fsys := fstest.MapFS{}
	for file, id := range map[string]string{"a.json": "z/z", "b.json": "b/b", "c.json": "a/a"} {
		fsys[file] = &fstest.MapFile{Data: []byte(`{"id": "` + id + `", "usual": {"base": "1m", "perSecond": 0, "source": "a test"}, "media": [{"properties": ["v"], "kind": "video"}],
			"inputSchema": {"type": "object", "properties": {"v": {"type": "string"}}}}`)}
	}
	c, err := catalog.Load(fsys)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a/a", "b/b", "z/z"}, c.IDs()); diff != "" {
		t.Errorf("ids (-want +got):\n%s", diff)
	}
}
