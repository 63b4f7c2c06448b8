package main

import "testing"

// Jobs near their end need more calls of poll than Lambda runs at the same time. No job
// is lost. No call of poll waits while its job is queued.
func TestCrowd(t *testing.T) {
	skipIfShort(t)
	const limit = 20
	c, err := gather(300, limit, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, finding := range c.all() {
		t.Error(finding)
	}
	if c.outputs != 300 {
		t.Errorf("%d outputs, want 300", c.outputs)
	}
	if c.mostPolls < limit-5 || c.faults["lambda: too many calls at once"] == 0 {
		t.Errorf("at most %d calls of poll at the same time, %v: too few to prove anything", c.mostPolls, c.faults)
	}
	if c.whileQueued > 0 || c.longest == 0 {
		t.Errorf("a call of poll took %s while its job was queued, want 0; the longest later took %s, want more", c.whileQueued, c.longest)
	}
}
