package main

import (
	"fmt"
	"testing"
)

// Each story ends as the oracle expects.
func TestStories(t *testing.T) {
	total, err := tellStories(200, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, finding := range total.all() {
		t.Error(finding)
	}
	if total.charges < 200 {
		t.Errorf("%d charges, want at least 200", total.charges)
	}
}

func TestSameSeedTellsTheSameStories(t *testing.T) {
	for number := range uint64(6) {
		var texts []string
		for range 2 {
			s, err := tellStory(4, number)
			if err != nil {
				t.Fatal(err)
			}
			texts = append(texts, fmt.Sprint(s.text(), s.all(), s.calls))
		}
		if texts[0] != texts[1] {
			t.Errorf("story %d differs the second time:\n%s\nand then\n%s", number, texts[0], texts[1])
		}
	}
}
