package main

import (
	"bytes"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
)

// costRecords returns records in several states. sumCosts leaves out those with the estimate 9: they
// cost nothing or were not submitted.
func costRecords() []ledger.Record {
	day := func(d int) ledger.Times { return ledger.Times{Claimed: time.Date(2050, 1, d, 23, 59, 0, 0, time.UTC)} }
	return []ledger.Record{
		{Name: "ads/a", Model: "m/1", RequestID: "1", State: ledger.Succeeded, ExpectedSeconds: 2.5, EstimateUSD: new(0.1), CostUSD: new(0.125), Times: day(3)},
		{Name: "ads/b", Model: "m/2", RequestID: "2", State: ledger.InProgress, ExpectedSeconds: 3, EstimateUSD: new(0.2), Times: day(3)},
		{Name: "ads/b", Model: "m/2", RequestID: "3", State: ledger.Failed, Times: day(4)},
		{Name: "ads/c", Model: "m/1", State: ledger.Unknown, EstimateUSD: new(7.0), Times: day(4)},
		{Name: "top", Model: "m/1", RequestID: "4", State: ledger.Succeeded, ExpectedSeconds: 1, EstimateUSD: new(0.1), CostUSD: new(0.1), Times: day(4)},
		{Name: "ads/d", Model: "m/1", RequestID: "5", State: ledger.Cancelled, EstimateUSD: new(9.0), Times: day(4)},
		{Name: "ads/e", Model: "m/1", RequestID: "6", State: ledger.Failed, NotCharged: true, EstimateUSD: new(9.0), Times: day(4)},
		{Name: "ads/f", Model: "m/1", RequestID: "7", State: ledger.Failed, CostUSD: new(0.0), EstimateUSD: new(9.0), Times: day(4)},
		{Name: "ads/g", Model: "m/1", State: ledger.Submitting, EstimateUSD: new(9.0), Times: day(4)},
		{Name: "=SUM(1)/x", Model: "m/1", RequestID: "8", State: ledger.Failed, CostUSD: new(0.5), Times: day(5)},
	}
}

func TestSumCosts(t *testing.T) {
	tests := map[string][]costs{
		"folder": {
			{Group: "", Jobs: 1, Seconds: 1, EstimateUSD: 0.1, CostUSD: 0.1},
			{Group: "=SUM(1)/", Jobs: 1, CostUSD: 0.5, WithoutEstimate: 1},
			{Group: "ads/", Jobs: 3, Seconds: 5.5, EstimateUSD: 0.3, CostUSD: 0.125, WithoutEstimate: 1, WithoutCost: 2, Unknown: 1},
		},
		"model": {
			{Group: "m/1", Jobs: 3, Seconds: 3.5, EstimateUSD: 0.2, CostUSD: 0.725, WithoutEstimate: 1, Unknown: 1},
			{Group: "m/2", Jobs: 2, Seconds: 3, EstimateUSD: 0.2, WithoutEstimate: 1, WithoutCost: 2},
		},
		"day": {
			{Group: "2050-01-03", Jobs: 2, Seconds: 5.5, EstimateUSD: 0.3, CostUSD: 0.125, WithoutCost: 1},
			{Group: "2050-01-04", Jobs: 2, Seconds: 1, EstimateUSD: 0.1, CostUSD: 0.1, WithoutEstimate: 1, WithoutCost: 1, Unknown: 1},
			{Group: "2050-01-05", Jobs: 1, CostUSD: 0.5, WithoutEstimate: 1},
		},
	}
	all := costs{Jobs: 5, Seconds: 6.5, EstimateUSD: 0.4, CostUSD: 0.725, WithoutEstimate: 2, WithoutCost: 2, Unknown: 1}
	for by, want := range tests {
		groups, total := sumCosts(costRecords(), by)
		if diff := cmp.Diff(want, groups); diff != "" {
			t.Errorf("by %s (-want +got):\n%s", by, diff)
		}
		if diff := cmp.Diff(all, total); diff != "" {
			t.Errorf("the total by %s (-want +got):\n%s", by, diff)
		}
	}
}

func TestCostsAsCSV(t *testing.T) {
	groups, _ := sumCosts(costRecords(), "folder")
	var out bytes.Buffer
	if err := writeCosts(&out, "folder", groups); err != nil {
		t.Fatal(err)
	}
	want := `folder,jobs,seconds,estimateUsd,costUsd,withoutEstimate,withoutCost,unknown
,1,1,0.1,0.1,0,0,0
'=SUM(1)/,1,0,0,0.5,1,0,0
ads/,3,5.5,0.3,0.125,1,2,1
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("CSV (-want +got):\n%s", diff)
	}
}

func TestPeriod(t *testing.T) {
	for text, want := range map[string]time.Duration{"30d": 720 * time.Hour, "12h": 12 * time.Hour, "0": 0, "d": -1, "-3h": -1, "soon": -1, "99999999d": -1} {
		var p period
		err := p.UnmarshalText([]byte(text))
		if (err != nil) != (want < 0) || err == nil && time.Duration(p) != want {
			t.Errorf("%q: got %v, %v; want %v (negative: an error)", text, time.Duration(p), err, want)
		}
	}
}

// check --price prints an estimate of what a job costs, or why there is none.
func TestCheckWithPrices(t *testing.T) {
	fake := &runcomfytest.Server{Token: "canary-token"}
	server := httptest.NewServer(fake)
	defer server.Close()
	tests := []struct {
		name, token string
		args, want  []string
	}{
		{"a pair", "canary-token", nil, []string{"estimate: $0.2025, by RunComfy's base price; not a quote", "note on the price: invented"}},
		{"as JSON", "canary-token", []string{"--json"}, []string{`"estimateUsd":0.20248`}},
		{"a wrong token", "canary-other", nil, []string{"warning: there is no estimate of the cost: RunComfy did not say what the model costs: it returned HTTP 401"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			lay(t, map[string]string{"talk.mp4": "@clip.mp4", "talk.wav": "@voice.wav"})
			t.Setenv("RUNCOMFY_TOKEN", tt.token)
			t.Setenv("RUNCOMFY_BASE_URL", server.URL)
			out, errs := command(t, 0, append([]string{"check", "--price", "talk.mp4", "talk.wav"}, tt.args...)...)
			contains(t, out, tt.want...)
			if strings.Contains(out+errs, "canary") {
				t.Errorf("the token is printed, want no canary:\n%s%s", out, errs)
			}
		})
	}
}
