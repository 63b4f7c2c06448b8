package main

import (
	"strings"
	"testing"
)

// unfixedOrders are findings that are known and not repaired yet.
var unfixedOrders = []string{
	`"waiting waiting_for_audio [] " in one order and "waiting waiting_for_files [] "`, // a pair and a bundle of one name
}

// Short stories end in the same statuses, in whichever order files and events
// come.
func TestOrders(t *testing.T) {
	total, err := orders(150, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, finding := range total.all() {
		if what, _, _ := strings.Cut(finding, "\n"); contains(what, unfixedOrders) {
			continue
		}
		t.Error(finding)
	}
	if total.charges < 200 {
		t.Errorf("%d charges: too little happened to prove anything", total.charges)
	}
}
