package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/config"
)

type modelsCmd struct {
	client.Target
	Live bool   `help:"Also ask RunComfy for prices and changed inputs, with the stack's token."`
	JSON bool   `name:"json" help:"Print one JSON object for each model."`
	ID   string `arg:"" optional:"" help:"Model to describe, such as sync/react-1."`
}

// modelLine is what models --json prints of a model.
type modelLine struct {
	ID           string          `json:"id"`
	Schema       json.RawMessage `json:"schema"`
	BasePriceUSD *float64        `json:"basePriceUsd,omitempty"`
	PriceUnit    string          `json:"priceUnit,omitempty"`
	Differs      []string        `json:"differs,omitempty"` // properties that RunComfy has changed
}

// Run lists the models, or describes one.
func (c *modelsCmd) Run(ctx context.Context, out *terminal) error {
	models, err := catalog.Default()
	if err != nil {
		return err
	}
	ids := models.IDs()
	if c.ID != "" {
		if err := checkModel(models, c.ID); err != nil {
			return err
		}
		ids = []string{c.ID}
	}
	var stack *client.Client
	if c.Live {
		if stack, err = c.Find(ctx); err != nil {
			return err
		}
	}
	var rows [][]string
	for _, id := range ids {
		model, _ := models.Model(id)
		line := modelLine{ID: id, Schema: model.Schema()}
		price := ""
		if stack != nil {
			live, err := stack.RunComfy().Model(ctx, id)
			if errors.Is(err, config.ErrNoToken) {
				return errors.New("the RunComfy token is not set. Run: lipdrop doctor")
			}
			if err != nil {
				return stack.Explain("ask RunComfy for the model "+id, "", err)
			}
			line.BasePriceUSD, line.PriceUnit = live.BasePriceUSD, live.PriceUnit
			if live.InputSchema != nil {
				line.Differs = differences(model.Schema(), live.InputSchema)
			}
			price = "price not known"
			if live.BasePriceUSD != nil {
				price = fmt.Sprintf("$%.4f per %s", *live.BasePriceUSD, live.PriceUnit)
			}
			if line.Differs != nil {
				price += "; RunComfy has changed " + strings.Join(line.Differs, ", ")
			}
		}
		if c.JSON {
			if err := writeJSON(out, line); err != nil {
				return err
			}
			continue
		}
		rows = append(rows, []string{id, price, strings.Join(sortedKeys(properties(model.Schema())), ", ")})
	}
	switch {
	case c.JSON:
	case c.ID != "":
		if rows[0][1] != "" {
			printf(out, "%s: %s\n", c.ID, rows[0][1])
		}
		model, _ := models.Model(c.ID)
		printInput(out, model)
	case c.Live:
		printTable(out, []string{"MODEL", "PRICE", "INPUT"}, 0, rows)
	default:
		for i := range rows {
			rows[i] = []string{rows[i][0], rows[i][2]}
		}
		printTable(out, []string{"MODEL", "INPUT"}, 0, rows)
	}
	return nil
}

// checkModel returns an error if there is no model with an id.
func checkModel(models *catalog.Catalog, id string) error {
	if _, ok := models.Model(id); !ok {
		return &client.UsageError{Reason: fmt.Sprintf("there is no model %s; the models are %s", id, strings.Join(models.IDs(), ", "))}
	}
	return nil
}

// printInput prints the properties of a model's input.
func printInput(out *terminal, model *catalog.Model) {
	var rows [][]string
	add := func(name string, required bool, values string) {
		needed := ""
		if required {
			needed = "required"
		}
		rows = append(rows, []string{name, needed, values})
	}
	for _, p := range model.MediaProperties() {
		add(p.Name, p.Required, p.Kind.Noun())
	}
	for _, o := range model.Options() {
		add(o.Name, o.Required, o.Allowed)
	}
	printTable(out, []string{"INPUT", "", "VALUES"}, 0, rows)
}

// differences returns the properties that differ in two input schemas.
func differences(known, live json.RawMessage) []string {
	ours, theirs := properties(known), properties(live)
	var differ []string
	for _, name := range sortedKeys(ours) {
		if !reflect.DeepEqual(ours[name], theirs[name]) {
			differ = append(differ, name)
		}
	}
	for _, name := range sortedKeys(theirs) {
		if ours[name] == nil {
			differ = append(differ, name)
		}
	}
	return differ
}

// properties returns what an input schema requires of each property. It leaves out
// descriptions, and defaults, some of which are only samples.
func properties(schema json.RawMessage) map[string]map[string]any {
	var s struct {
		Properties map[string]map[string]any `json:"properties"`
		Required   []string                  `json:"required"`
	}
	if json.Unmarshal(schema, &s) != nil {
		return nil // every property differs
	}
	for name, p := range s.Properties {
		demands := map[string]any{"required": slices.Contains(s.Required, name)}
		for _, word := range []string{"type", "enum", "minimum", "maximum", "maxLength", "minLength", "multipleOf"} {
			if p[word] != nil {
				demands[word] = inAnyOrder(p[word])
			}
		}
		s.Properties[name] = demands
	}
	return s.Properties
}

// inAnyOrder returns the value of a schema's keyword so that lists with the same
// elements are equal.
func inAnyOrder(value any) any {
	list, ok := value.([]any)
	if !ok {
		return value
	}
	slices.SortFunc(list, func(a, b any) int { return strings.Compare(fmt.Sprintf("%#v", a), fmt.Sprintf("%#v", b)) })
	return list
}
