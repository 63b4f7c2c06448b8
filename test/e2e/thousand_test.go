package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/test/world"
)

// crowd is files that are dropped into one folder, two pairs and one wrong file
// in five. It returns what each name or file must become.
func crowd(files int, clip, voice []byte, drop func(key string, body []byte)) map[string]ledger.State {
	want := map[string]ledger.State{}
	for i := range files / 5 {
		for _, half := range []string{"a", "b"} {
			name := fmt.Sprintf("ads/clip %04d%s", i, half)
			want[ledger.StatusKey(name)] = ledger.Succeeded
			drop("inbox/"+name+".mp4", clip)
			drop("inbox/"+name+".wav", voice)
		}
		name := fmt.Sprintf("ads/wrong %04d", i)
		switch i % 4 {
		case 0: // no partner
			want[ledger.StatusKey(name)] = ledger.Waiting
			drop("inbox/"+name+".wav", voice)
		case 1:
			want[ledger.StatusKey(name)] = ledger.Waiting
			drop("inbox/"+name+".MOV", clip)
		case 2:
			want["answers/"+name+".txt.json"] = ledger.Rejected
			drop("inbox/"+name+".txt", []byte("She should smile more."))
		case 3:
			want["answers/"+name+".json"] = ledger.Rejected
			drop("inbox/"+name, clip)
		}
	}
	return want
}

// cost is what submit asks of S3 for a crowd, by operation.
func cost(t *testing.T, files int) map[string]int {
	t.Helper()
	w := newWorld(t)
	w.Batch = 10 // the template's
	requests := map[string]int{}
	w.Before = func(call world.Call) error {
		if call.Function == "submit" && call.Service == "s3" {
			requests[call.Op]++
		}
		return nil
	}
	want := crowd(files, medium(t, "talk.mp4"), medium(t, "voice.wav"), w.Drop)
	rest(t, w)
	got := map[string]ledger.State{}
	jobs := 0
	for key, body := range written(w) {
		if !strings.HasPrefix(key, "status/") && !strings.HasPrefix(key, "answers/") {
			continue
		}
		var st ledger.Status
		if err := json.Unmarshal([]byte(body), &st); err != nil {
			t.Fatal(err)
		}
		got[key] = st.State
		if st.State == ledger.Succeeded {
			jobs++
		} else if st.Reason == "" || st.Remedy == "" {
			t.Errorf("%s does not say what to do: %s", key, body)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("answers to %d files:\n%s", files, diff)
	}
	if charges := w.RunComfy.Charges(); charges != jobs {
		t.Errorf("%d charges for %d jobs", charges, jobs)
	}
	if len(w.Dead) > 0 {
		t.Errorf("%d dead letters", len(w.Dead))
	}
	return requests
}

// A thousand files dropped in a folder at once are each answered, and none
// costs more requests than in a folder of twenty.
func TestThousandFilesAtOnce(t *testing.T) {
	const few, many = 20, 1000
	small, large := cost(t, few), cost(t, many)
	total := 0
	for op, n := range large {
		total += n
		if n > small[op]*many/few {
			t.Errorf("%s: %d requests for %d files, %d for %d", op, n, many, small[op], few)
		}
	}
	t.Logf("submit made %.1f requests of S3 a dropped file: %v for %d files", float64(total)/many, large, many)
}
