package handler

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
)

func TestMayLoseMatches(t *testing.T) {
	partial := []string{ledger.OnlyFirst + "5 of 8 jobs are named here"}
	var tooLong []string
	for i := range ledger.MaxObject / 800 {
		tooLong = append(tooLong, fmt.Sprintf("ads/cafe/%0800d", i))
	}
	const bundle, match = `{"stem":"inbox/ads/cafe"}`, `{"stem":"inbox/ads/cafe","key":"inbox/ads/cafe.job/m000.wav"}`
	for _, tt := range []struct {
		name, subject string
		prev          []string // warnings
		next          drop.Finding
		want          bool
	}{
		{"the bundle, after a whole list", bundle, nil, drop.Finding{}, false},
		{"the bundle, after a partial list", bundle, partial, drop.Finding{Jobs: tooLong, Warnings: partial}, true},
		{"a match, after a whole list", match, nil, drop.Finding{}, false},
		{"a match, after a partial list", match, partial, drop.Finding{Jobs: tooLong[:1]}, true},
		{"a match, if the next list is partial too", match, partial, drop.Finding{Jobs: tooLong[:1], Warnings: partial}, false},
		{"a match, if the next list is too long for a status", match, partial, drop.Finding{Jobs: tooLong}, false},
		{"the first match, if the next list is partial and lacks only this match", match, partial, drop.Finding{Jobs: tooLong[1:2], Warnings: partial}, false},
		{"a match, if the next list is partial and has other matches", match, partial, drop.Finding{Jobs: []string{"ads/cafe/n000"}, Warnings: partial}, true},
	} {
		var subject drop.Subject
		if err := json.Unmarshal([]byte(tt.subject), &subject); err != nil {
			t.Fatal(err)
		}
		prev := ledger.Posted{Status: ledger.Status{Jobs: tooLong[:2], Warnings: tt.prev}}
		if got := mayLoseMatches(subject, prev, tt.next); got != tt.want {
			t.Errorf("%s: got %v", tt.name, got)
		}
	}
}
