package world

import (
	"testing"

	"github.com/aws/aws-lambda-go/events"
)

// A delivery during another delivery sets w.chain to the chain number of its own message. At its
// end, it restores the number of the outer delivery.
func TestChainAfterANestedDelivery(t *testing.T) {
	w, err := New(func() float64 { return 0 })
	if err != nil {
		t.Fatal(err)
	}
	w.sendInChain(&w.dropQueue, "", 0, 5)
	w.sendInChain(&w.deletionQueue, "", 0, 1)
	var during int
	w.deliver(&w.dropQueue, func(...events.SQSMessage) ([]string, error) {
		w.deliver(&w.deletionQueue, func(...events.SQSMessage) ([]string, error) {
			during = w.chain
			return nil, nil
		})
		if w.chain != 5 {
			t.Errorf("after the other delivery the chain is %d, want 5", w.chain)
		}
		return nil, nil
	})
	if during != 1 {
		t.Errorf("during the other delivery the chain was %d, want 1", during)
	}
}
