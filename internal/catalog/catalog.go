// Package catalog knows the models that can run a job: what each model accepts, within
// which limits, and how a pair of files becomes the model's input. A model is one JSON
// file in models/, in the form of model.schema.json.
//
// The package reads no media. Callers pass what they know about a file as a [media.Info].
package catalog

import (
	"embed"
	"fmt"
	"io/fs"
	"maps"
	"slices"
)

//go:embed models/*.json
var embedded embed.FS

// Catalog is a set of models. It does not change once it is loaded, and is safe
// for concurrent use.
type Catalog struct {
	models map[string]*Model // by id
}

// Default returns the models that lipdrop comes with.
func Default() (*Catalog, error) {
	models, err := fs.Sub(embedded, "models")
	if err != nil {
		return nil, err
	}
	return Load(models)
}

// Load reads the models of fsys: every *.json file at its root. It does not check a file
// against model.schema.json, or that the file's inputSchema has every property that the file
// names. These checks would take most of a cold start, so a test makes them instead.
func Load(fsys fs.FS) (*Catalog, error) {
	files, err := fs.Glob(fsys, "*.json")
	if err != nil {
		return nil, err
	}
	c := &Catalog{models: make(map[string]*Model)}
	for _, file := range files {
		data, err := fs.ReadFile(fsys, file)
		if err != nil {
			return nil, err
		}
		m, err := parseModel(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		c.models[m.ID] = m
	}
	return c, nil
}

// Model returns the model with an id.
func (c *Catalog) Model(id string) (*Model, bool) {
	m, ok := c.models[id]
	return m, ok
}

// IDs returns the ids of all models, sorted.
func (c *Catalog) IDs() []string { return slices.Sorted(maps.Keys(c.models)) }
