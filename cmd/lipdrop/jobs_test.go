package main

import (
	"bytes"
	"testing"

	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/ledger"
)

// show says that a status cannot be read, and prints no time of its last change.
func TestShowUnreadableStatus(t *testing.T) {
	var out bytes.Buffer
	showJob(&terminal{w: &out}, client.Job{Status: ledger.Status{Name: "talk"}})
	if want := "talk: the status cannot be read: it is not JSON\n"; out.String() != want {
		t.Errorf("printed %q, want %q", &out, want)
	}
}
