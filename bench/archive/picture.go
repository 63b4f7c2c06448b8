package main

import (
	"fmt"
	"image/color"
	"os"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
)

const (
	panelWidth  = 11 * vg.Centimeter
	panelHeight = 7 * vg.Centimeter
	barsWidth   = 6.6 * vg.Centimeter // all bars of a panel

	// headroom is how much higher than its highest bar a panel is, and
	// legendRoom how much higher the one is that has the legend.
	headroom   = 1.05
	legendRoom = 1.35
)

// plot draws a column of panels a source: throughput above, memory below, a
// group of bars a size, a bar a tool.
func (m *matrix) plot(path string) error {
	var columns []source
	for _, r := range m.rows {
		if !slices.Contains(columns, r.source) {
			columns = append(columns, r.source)
		}
	}
	panels := make([][]*plot.Plot, 2)
	for i, s := range columns {
		speed, err := m.panel(s, s.about, "MB/s", func(c cost, size int64) float64 { return c.rate(size) })
		if err != nil {
			return err
		}
		memory, err := m.panel(s, "", "peak memory, MiB", func(c cost, _ int64) float64 { return float64(c.peak) / mib })
		if err != nil {
			return err
		}
		if i == 0 {
			m.legend(memory)
		}
		panels[0], panels[1] = append(panels[0], speed), append(panels[1], memory)
	}
	canvas := vgimg.New(vg.Length(len(columns))*panelWidth, 2*panelHeight)
	tiles := draw.Tiles{Rows: 2, Cols: len(columns), PadX: vg.Centimeter / 2, PadY: vg.Centimeter / 2, PadTop: vg.Centimeter / 4, PadRight: vg.Centimeter / 4}
	for i, line := range plot.Align(panels, tiles, draw.New(canvas)) {
		for j, area := range line {
			panels[i][j].Draw(area)
		}
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	if _, err := (vgimg.PngCanvas{Canvas: canvas}).WriteTo(file); err != nil {
		_ = file.Close() // the picture is of no use
		return err
	}
	return file.Close()
}

// panel draws one figure of the tools for one source.
func (m *matrix) panel(s source, title, unit string, value func(cost, int64) float64) (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text, p.Y.Label.Text, p.Y.Min = title, unit, 0
	grid := plotter.NewGrid()
	grid.Vertical.Color = nil
	p.Add(grid)
	var names []string
	for i, t := range m.tools {
		var values plotter.Values
		names = names[:0]
		for _, r := range m.rows {
			if r.source == s {
				values, names = append(values, value(r.costs[t.name], r.size)), append(names, sizeName(r.size))
			}
		}
		width := barsWidth / vg.Length(len(values)*len(m.tools))
		bars, err := plotter.NewBarChart(values, width)
		if err != nil {
			return nil, fmt.Errorf("plot %s: %w", t.name, err)
		}
		bars.Color, bars.LineStyle.Width = m.color(i), 0
		bars.Offset = width * (vg.Length(i) - vg.Length(len(m.tools)-1)/2)
		p.Add(bars)
	}
	p.NominalX(names...)
	p.Y.Max *= headroom
	return p, nil
}

func (m *matrix) legend(p *plot.Plot) {
	p.Legend.Top, p.Legend.Left = true, true
	p.Y.Max *= legendRoom
	for i, t := range m.tools {
		p.Legend.Add(t.name, swatch{m.color(i)})
	}
}

// color gives the limit the color of what is no tool.
func (m *matrix) color(i int) color.Color {
	if m.tools[i].name == limit {
		return color.Gray{Y: 190}
	}
	return plotutil.SoftColors[i%len(plotutil.SoftColors)]
}

// swatch is a color in the legend.
type swatch struct{ color color.Color }

func (s swatch) Thumbnail(c *draw.Canvas) {
	r := c.Rectangle
	c.FillPolygon(s.color, []vg.Point{r.Min, {X: r.Max.X, Y: r.Min.Y}, r.Max, {X: r.Min.X, Y: r.Max.Y}})
}
