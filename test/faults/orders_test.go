package main

import "testing"

// Short stories end with the same statuses, whatever the order of files and events.
func TestOrders(t *testing.T) {
	total, err := orders(50, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, finding := range total.all() {
		t.Error(finding)
	}
	if total.charges < 65 {
		t.Errorf("%d charges, want at least 65: too little happened to prove anything", total.charges)
	}
}
