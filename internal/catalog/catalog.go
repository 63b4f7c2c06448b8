// Package catalog knows the models that can run a job: what each accepts, within
// which limits, and how a pair of files becomes its input. A model is one JSON file
// in models/, in the form of model.schema.json.
//
// The package reads no media. Callers pass what they know about a file as a [media.Info].
package catalog

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

//go:embed models/*.json
var embedded embed.FS

// Catalog is a set of models. It does not change once it is loaded, and is safe
// for concurrent use.
type Catalog struct {
	models map[string]*Model
	ids    []string
}

// Default returns the models that lipdrop comes with. It does not check the form of their
// files, because that takes most of the start of a function. A test checks it.
func Default() (*Catalog, error) {
	models, err := fs.Sub(embedded, "models")
	if err != nil {
		return nil, err
	}
	return load(models, nil)
}

// Load reads the models of fsys: every *.json file at its root. Its error joins all
// mistakes of all files, each with the file's name. If the form of a file is wrong,
// only the mistakes of its form are reported.
func Load(fsys fs.FS) (*Catalog, error) {
	form, err := compileForm()
	if err != nil {
		return nil, err
	}
	return load(fsys, form)
}

// load is Load. It checks the form of the files if form is not nil.
func load(fsys fs.FS, form *jsonschema.Schema) (*Catalog, error) {
	files, err := fs.Glob(fsys, "*.json")
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, errors.New("no model: there is no *.json file")
	}
	c := &Catalog{models: make(map[string]*Model)}
	from := make(map[string]string)
	var mistakes []error
	for _, file := range files {
		data, err := fs.ReadFile(fsys, file)
		if err != nil {
			mistakes = append(mistakes, err)
			continue
		}
		m, errs := parseModel(data, form)
		for _, err := range errs {
			mistakes = append(mistakes, fmt.Errorf("%s: %w", file, err))
		}
		if len(errs) > 0 {
			continue
		}
		if first, ok := from[m.ID]; ok {
			mistakes = append(mistakes, fmt.Errorf("%s: %s has the same id %s", file, first, m.ID))
			continue
		}
		from[m.ID] = file
		c.models[m.ID] = m
		c.ids = append(c.ids, m.ID)
	}
	if len(mistakes) > 0 {
		return nil, errors.Join(mistakes...)
	}
	slices.Sort(c.ids)
	return c, nil
}

// Model returns the model with an id.
func (c *Catalog) Model(id string) (*Model, bool) {
	m, ok := c.models[id]
	return m, ok
}

// IDs returns the ids of all models, sorted.
func (c *Catalog) IDs() []string { return slices.Clone(c.ids) }

// Nearest returns the known id that a wrong one probably means, or "".
func (c *Catalog) Nearest(id string) string { return Nearest(id, c.ids) }
