package main

import (
	"testing"
	"time"
)

// Each hostile person acts among victims, and all victims have a status in the end.
func TestHostilePeople(t *testing.T) {
	for i, person := range hostiles {
		t.Run(person.name, func(t *testing.T) {
			found, err := attackWorld(1, uint64(i), 3*time.Hour) // a few deliveries are enough
			if err != nil {
				t.Fatal(err)
			}
			for _, finding := range found.all() {
				t.Error(finding)
			}
		})
	}
}
