package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/config"
	"github.com/lipdrop/lipdrop/internal/runcomfy"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
)

func TestSameInputs(t *testing.T) {
	const known = `{"type": "object", "required": ["a", "b"], "properties": {
		"a": {"type": "string", "default": "x"}, "b": {"type": "float", "minimum": 0, "maximum": 10}, "c": {"enum": ["on", "off"]}}}`
	for name, tt := range map[string]struct {
		change []string // old, new, …
		same   bool
	}{
		"nothing":             {nil, true},
		"prose and a sample":  {[]string{`"default": "x"`, `"title": "A", "default": "y"`}, true},
		"another form of 10":  {[]string{`10`, `10.0`}, true},
		"order of required":   {[]string{`"a", "b"`, `"b", "a"`}, true},
		"one more required":   {[]string{`["a", "b"]`, `["a", "b", "c"]`}, false},
		"a smaller maximum":   {[]string{`10`, `9`}, false},
		"a word less":         {[]string{`, "off"`, ``}, false},
		"a property more":     {[]string{`"properties": {`, `"properties": {"d": {"type": "string"}, `}, false},
		"another type":        {[]string{`"type": "float"`, `"type": "integer"`}, false},
		"no schema any more":  {[]string{known, `"gone"`}, false},
		"no properties there": {[]string{known, `{}`}, false},
	} {
		t.Run(name, func(t *testing.T) {
			live := strings.NewReplacer(tt.change...).Replace(known)
			if got := sameInputs(json.RawMessage(known), json.RawMessage(live)); got != tt.same {
				t.Errorf("same: %v, want %v", got, tt.same)
			}
		})
	}
}

// serveComfy returns a client of a fake RunComfy.
func serveComfy(t *testing.T, fake *runcomfytest.Server, token func(context.Context) (string, error)) *runcomfy.Client {
	t.Helper()
	server := httptest.NewServer(fake)
	t.Cleanup(server.Close)
	return &runcomfy.Client{BaseURL: server.URL, Token: token}
}

func TestDoctorOnTheToken(t *testing.T) {
	d := &deployment{outputs: map[string]string{"SetToken": "SET-IT", "TokenSecretArn": "THE-ARN"}}
	for name, tt := range map[string]struct {
		token         string
		err           error
		usable        bool
		wrong, remedy string
	}{
		"accepted":   {token: "right", usable: true},
		"none":       {err: config.ErrNoToken, wrong: "none is set", remedy: "SET-IT"},
		"unreadable": {err: errors.New("access denied"), wrong: "access denied", remedy: "THE-ARN"},
		"refused":    {token: "other", wrong: "HTTP 401", remedy: "SET-IT"},
	} {
		t.Run(name, func(t *testing.T) {
			api := serveComfy(t, &runcomfytest.Server{Token: "right"}, func(context.Context) (string, error) { return tt.token, tt.err })
			usable, found := d.checkToken(t.Context(), api)
			if usable != tt.usable || (found.wrong == "") != (tt.wrong == "") || !strings.Contains(found.wrong, tt.wrong) || !strings.Contains(found.remedy, tt.remedy) {
				t.Errorf("usable %v, %+v", usable, found)
			}
		})
	}
}

func TestDoctorOnTheModels(t *testing.T) {
	models, err := catalog.Default()
	if err != nil {
		t.Fatal(err)
	}
	published := map[string]json.RawMessage{}
	for _, id := range models.IDs() {
		model, _ := models.Model(id)
		published[id] = model.Schema()
	}
	delete(published, videoModel)
	published[imageModel] = json.RawMessage(`{"type": "object", "properties": {}}`)
	want := map[string]string{videoModel: "does not know it", imageModel: "has changed its input schema"}

	api := serveComfy(t, &runcomfytest.Server{Models: published}, func(context.Context) (string, error) { return "any", nil })
	found := checkModels(t.Context(), api)
	if len(found) != len(models.IDs()) {
		t.Fatalf("%d findings for %d models", len(found), len(models.IDs()))
	}
	for i, f := range found {
		id := models.IDs()[i]
		if !strings.Contains(f.what, id) || (f.wrong == "") != (want[id] == "") || !strings.Contains(f.wrong, want[id]) {
			t.Errorf("%s: %+v, want %q", id, f, want[id])
		}
	}
}
