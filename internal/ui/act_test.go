package ui

import (
	"testing"

	"github.com/lipdrop/lipdrop/internal/ledger"
)

func TestFileToDropAgain(t *testing.T) {
	manifest := ledger.Input{Key: "inbox/ads/cafe.job/job.json"}
	audio := func(key string) ledger.Input { return ledger.Input{Property: "audio_url", Key: key} }
	video := func(key string) ledger.Input { return ledger.Input{Property: "video_url", Key: key} }
	for _, tt := range []struct {
		what, name string
		inputs     []ledger.Input
		want       string // "" if nothing is written
	}{
		{"a pair", "ads/cafe", []ledger.Input{video("inbox/ads/cafe.mp4"), audio("inbox/ads/cafe.wav")}, "inbox/ads/cafe.wav"},
		{"a bundle", "ads/cafe", []ledger.Input{video("inbox/ads/cafe.job/v.mp4"), audio("inbox/ads/cafe.job/a.wav"), manifest}, "inbox/ads/cafe.job/job.json"},
		{"a bundle whose name has capital letters", "ads/Cafe", []ledger.Input{audio("inbox/ads/cafe.job/a.wav"), manifest}, "inbox/ads/cafe.job/job.json"},
		{"a match of a wildcard", "ads/cafe/de", []ledger.Input{video("inbox/ads/cafe.job/v.mp4"), audio("inbox/ads/cafe.job/de.wav"), manifest}, "inbox/ads/cafe.job/de.wav"},
		{"addresses only", "ads/cafe.de", []ledger.Input{{Property: "audio_url", URL: "https://example.com/a.wav"}}, ""},
		{"a key of another prefix", "ads/cafe", []ledger.Input{audio("outbox/ads/cafe.wav")}, ""},
	} {
		got, ok := fileToDropAgain(ledger.Record{Name: tt.name, Inputs: tt.inputs})
		if got != tt.want || ok != (tt.want != "") {
			t.Errorf("%s: %q, %t, want %q", tt.what, got, ok, tt.want)
		}
	}
}
