package main

import (
	"fmt"
	"strings"
	"testing"
)

// unfixed are findings that are known and not repaired yet.
var unfixed = []string{
	"never there together",                 // a pair and a bundle of one name
	"the status of s/talk is withdrawn",    // the same
	"want rejected ambiguous",              // the same
	"an hour before it would have started", // RunComfy cannot be asked to cancel
	"waiting_for_files",                    // matches of a wildcard that is gone
}

// A few hundred stories end as the oracle says.
func TestStories(t *testing.T) {
	total, err := tellStories(200, 1)
	if err != nil {
		t.Fatal(err)
	}
	known := 0
	for _, finding := range total.all() {
		what, _, _ := strings.Cut(finding, "\n")
		if contains(what, unfixed) {
			known++
			continue
		}
		t.Error(finding)
	}
	t.Logf("%d charges, %d findings that are known", total.charges, known)
	if total.charges < 200 {
		t.Error("too little happened to prove anything")
	}
}

func contains(text string, parts []string) bool {
	for _, part := range parts {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}

func TestSameSeedTellsTheSameStories(t *testing.T) {
	for number := range uint64(12) {
		var texts []string
		for range 2 {
			s, err := tellStory(4, number)
			if err != nil {
				t.Fatal(err)
			}
			texts = append(texts, fmt.Sprint(s.text(), s.statuses(true), s.all(), s.calls))
		}
		if texts[0] != texts[1] {
			t.Errorf("%s\nand then\n%s", texts[0], texts[1])
		}
	}
}
