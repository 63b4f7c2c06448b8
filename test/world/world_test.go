package world_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/test/world/worldtest"
)

func TestMain(m *testing.M) { worldtest.Main(m) }

var (
	media       = worldtest.Media
	newWorld    = worldtest.New
	dropPair    = worldtest.DropPair
	faulty      = worldtest.Faulty
	named       = worldtest.Fault
	rest        = worldtest.Rest
	wantStatus  = worldtest.WantStatus
	wantCharges = worldtest.WantCharges
)

func TestPairIsArchived(t *testing.T) {
	w := newWorld(t)
	dropPair(t, w)
	if !w.Run(time.Hour) {
		t.Fatal("after an hour, more than the hourly sweep is left to do; want only the sweep")
	}
	st := wantStatus(t, w, "ads/talk", ledger.Succeeded, "")
	wantCharges(t, w, 1)
	if len(st.Outputs) != 1 || !strings.HasPrefix(st.Outputs[0], "outbox/ads/talk/"+st.Take+"/talk.mp4") {
		t.Errorf("outputs %v, want one talk.mp4 below outbox/ads/talk/%s/", st.Outputs, st.Take)
	}
	clip, _ := media(t)
	got, _ := w.Bucket.Object(st.Outputs[0])
	if string(got) != string(clip) {
		t.Errorf("the output has %d bytes, want the %d of the clip", len(got), len(clip))
	}
	path := w.Path("ads/talk", st.Take)
	if diff := cmp.Diff([]string{"Wait", "Poll", "Ended?"}, path[:3]); diff != "" || path[len(path)-1] != "Archive" {
		t.Errorf("path %v, want it to begin with Wait, Poll, Ended? and to end with Archive", path)
	}
}
