package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/runcomfy"
	"github.com/lipdrop/lipdrop/internal/token"
)

type modelsCmd struct {
	client.Target
	Live bool   `help:"Also ask RunComfy for prices and changed inputs, with the stack's token."`
	JSON bool   `name:"json" help:"Print one JSON object for each model."`
	ID   string `arg:"" optional:"" predictor:"model" help:"Model to describe, such as sync/react-1."`
}

// modelLine is what models --json prints about a model.
type modelLine struct {
	ID           string          `json:"id"`
	Schema       json.RawMessage `json:"schema"`
	Removed      bool            `json:"removed,omitempty"` // RunComfy no longer has the model
	BasePriceUSD *float64        `json:"basePriceUsd,omitempty"`
	PriceUnit    string          `json:"priceUnit,omitempty"`
	Differs      []string        `json:"differs,omitempty"` // properties that RunComfy has changed, added or removed
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
	header := []string{"MODEL", "INPUT"}
	var stack *client.Client
	if c.Live {
		header = []string{"MODEL", "PRICE", "INPUT"}
		if stack, err = c.Find(ctx); err != nil {
			return err
		}
	}
	var rows [][]string
	for _, id := range ids {
		model, _ := models.Model(id)
		line := modelLine{ID: id, Schema: model.Schema()}
		if c.Live {
			if err := line.ask(ctx, stack); err != nil {
				return err
			}
		}
		switch {
		case c.JSON:
			if err := writeJSON(out, line); err != nil {
				return err
			}
		case c.ID != "":
			if c.Live {
				printf(out, "%s: %s\n", id, line.liveText())
			}
			printInput(out, model)
		default:
			row := []string{id, strings.Join(sortedKeys(properties(model.Schema())), ", ")}
			if c.Live {
				row = slices.Insert(row, 1, line.liveText())
			}
			rows = append(rows, row)
		}
	}
	printTable(out, header, 0, rows)
	return nil
}

// ask asks RunComfy for the price of the model, and whether its input has changed.
func (l *modelLine) ask(ctx context.Context, stack *client.Client) error {
	live, err := stack.RunComfy().Model(ctx, l.ID)
	if errors.Is(err, token.ErrNone) {
		return errors.New("the RunComfy token is not set. Run: lipdrop doctor")
	}
	if runcomfy.IsKind(err, runcomfy.KindBadModel) {
		l.Removed = true
		return nil
	}
	if err != nil {
		return stack.Explain("ask RunComfy for the model "+l.ID, "", err)
	}
	l.BasePriceUSD, l.PriceUnit = live.BasePriceUSD, live.PriceUnit
	if live.InputSchema != nil {
		l.Differs = differences(l.Schema, live.InputSchema)
	}
	return nil
}

// liveText returns what ask found out, for a person.
func (l *modelLine) liveText() string {
	if l.Removed {
		return "RunComfy no longer has this model"
	}
	price := "price not known"
	if l.BasePriceUSD != nil {
		price = fmt.Sprintf("$%.4f per %s", *l.BasePriceUSD, cmp.Or(l.PriceUnit, "unknown unit"))
	}
	if l.Differs != nil {
		price += "; RunComfy has changed " + strings.Join(l.Differs, ", ")
	}
	return price
}

// checkModel returns a *client.UsageError if no model has the id.
func checkModel(models *catalog.Catalog, id string) error {
	if _, ok := models.Model(id); !ok {
		return &client.UsageError{Reason: fmt.Sprintf("there is no model %s; the models are %s", id, strings.Join(models.IDs(), ", "))}
	}
	return nil
}

func printInput(out *terminal, model *catalog.Model) {
	needed := map[bool]string{true: "required"}
	var rows [][]string
	for _, p := range model.MediaProperties() {
		rows = append(rows, []string{p.Name, needed[p.Required], p.Kind.Noun()})
	}
	for _, o := range model.Options() {
		rows = append(rows, []string{o.Name, needed[o.Required], o.Allowed})
	}
	printTable(out, []string{"INPUT", "", "VALUES"}, 0, rows)
}

// differences returns the names of the properties that differ in two input schemas.
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

// properties returns, for each property of an input schema, whether it is required, and the
// keywords that limit its value. It leaves out the defaults, because some of them are only samples.
func properties(schema json.RawMessage) map[string]map[string]any {
	var s struct {
		Properties map[string]map[string]any `json:"properties"`
		Required   []string                  `json:"required"`
	}
	if json.Unmarshal(schema, &s) != nil {
		return nil // in a comparison, every property differs
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

// inAnyOrder sorts the value of a schema's keyword if it is a list, so that the order does
// not matter in a comparison.
func inAnyOrder(value any) any {
	list, ok := value.([]any)
	if !ok {
		return value
	}
	slices.SortFunc(list, func(a, b any) int { return strings.Compare(fmt.Sprintf("%#v", a), fmt.Sprintf("%#v", b)) })
	return list
}
