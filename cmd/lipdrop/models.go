package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
		printOptions(out, model.Schema())
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

// printOptions prints the properties of a model's input.
func printOptions(out *terminal, schema json.RawMessage) {
	var input struct {
		Properties map[string]struct {
			Type                                 string
			Enum                                 []any
			Minimum, Maximum, MaxLength, Default any
		}
		Required []string
	}
	if json.Unmarshal(schema, &input) != nil {
		return // the catalogue's schemas parse
	}
	var rows [][]string
	for _, name := range sortedKeys(input.Properties) {
		p := input.Properties[name]
		values := strings.Replace(p.Type, "float", "number", 1) // RunComfy's word for it
		switch {
		case p.Enum != nil:
			values = strings.Trim(fmt.Sprint(p.Enum), "[]")
		case p.Minimum != nil && p.Maximum != nil:
			values += fmt.Sprintf(", %v to %v", p.Minimum, p.Maximum)
		}
		needed := ""
		if slices.Contains(input.Required, name) {
			needed = "required"
		}
		rows = append(rows, []string{name, needed, values})
	}
	printTable(out, []string{"INPUT", "", "VALUES"}, 0, rows)
}
