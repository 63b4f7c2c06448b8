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

// crowd drops files into one folder. After every two pairs, it drops one file that gets no
// job. It returns the state that each status and answer file must have, by key.
func crowd(files int, clip, voice []byte, drop func(key string, body []byte)) map[string]ledger.State {
	want := map[string]ledger.State{}
	for i := range files / 5 {
		for _, letter := range []string{"a", "b"} {
			name := fmt.Sprintf("ads/clip %04d%s", i, letter)
			want[ledger.StatusKey(name)] = ledger.Succeeded
			drop("inbox/"+name+".mp4", clip)
			drop("inbox/"+name+".wav", voice)
		}
		name := fmt.Sprintf("ads/wrong %04d", i)
		switch i % 4 {
		case 0:
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

// runCrowd drops a crowd, and checks each status and answer file, and the charges. It returns how
// many requests submit made to S3, by operation.
func runCrowd(t *testing.T, files int) map[string]int {
	t.Helper()
	w := newWorld(t)
	w.Batch = w.SubmitBatch()
	requests := map[string]int{}
	w.Before = func(call world.Call) error {
		if call.Function == "submit" && call.Service == "s3" {
			requests[call.Op]++
		}
		return nil
	}
	want := crowd(files, mediaFile(t, "talk.mp4"), mediaFile(t, "voice.wav"), w.Drop)
	runUntilIdle(t, w)
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
			t.Errorf("%s has no reason or no remedy: %s", key, body)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("statuses and answer files of %d files (-want +got):\n%s", files, diff)
	}
	if charges := w.RunComfy.Charges(); charges != jobs {
		t.Errorf("%d charges, want %d: one for each job that succeeded", charges, jobs)
	}
	if len(w.Dead) > 0 {
		t.Errorf("%d dead letters, want none", len(w.Dead))
	}
	return requests
}

// If a thousand files are dropped into a folder at once, each gets a status or an answer
// file. Submit makes no more requests for each file than with twenty files.
func TestThousandFilesAtOnce(t *testing.T) {
	const few, many = 20, 1000
	small, large := runCrowd(t, few), runCrowd(t, many)
	total := 0
	for op, n := range large {
		total += n
		if n > small[op]*many/few {
			t.Errorf("%s: %d requests for %d files, want at most %d, as for %d files", op, n, many, small[op]*many/few, few)
		}
	}
	t.Logf("submit made %.1f requests to S3 for each dropped file: %v for %d files", float64(total)/many, large, many)
}
