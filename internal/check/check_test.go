package check_test

import (
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/check"
	"github.com/lipdrop/lipdrop/internal/drop"
)

// Lengths have at most three decimals.
func TestDescribeLength(t *testing.T) {
	o := check.Outcome{State: check.Ready, Job: drop.Ready{Expected: catalog.Expected{Length: 2388999 * time.Microsecond}}}
	if got := o.Describe().Expected; got != 2.389 {
		t.Errorf("the length is %v s, want 2.389 s", got)
	}
}
