package e2e

import (
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/ledger"
)

const wrongDrops = "testdata/drops"

// Each folder of testdata/drops is a bucket after a mistake that people make:
// below inbox/ what was dropped, and below status/ and answers/ what is found
// there afterwards, which -update writes. RunComfy is not called once.
func TestWrongDrops(t *testing.T) {
	drops, err := os.ReadDir(wrongDrops)
	if err != nil {
		t.Fatal(err)
	}
	if len(drops) < 30 {
		t.Errorf("only %d wrong drops", len(drops))
	}
	for _, drop := range drops {
		t.Run(drop.Name(), func(t *testing.T) {
			dir := filepath.Join(wrongDrops, drop.Name())
			dropped, answers := readBucket(t, dir)
			w := newWorld(t)
			for _, key := range slices.Sorted(maps.Keys(dropped)) {
				w.Drop(key, []byte(dropped[key]))
			}
			rest(t, w)
			got := written(w)
			if calls := w.RunComfy.Calls(); calls != 0 {
				t.Errorf("RunComfy was called %d times", calls)
			}
			if !slices.ContainsFunc(slices.Collect(maps.Values(got)), tellsWhatToDo) {
				t.Error("no answer says what is wrong and what to do")
			}
			if *update {
				writeAnswers(t, dir, answers, got)
				answers = got
			}
			if diff := cmp.Diff(answers, got); diff != "" {
				t.Errorf("the answers have changed (go test ./test/e2e -run TestWrongDrops -update writes them):\n%s", diff)
			}
		})
	}
}

// tellsWhatToDo reports whether a status says what a person must do.
func tellsWhatToDo(body string) bool {
	var st ledger.Status
	err := json.Unmarshal([]byte(body), &st)
	return err == nil && (st.State == ledger.Waiting || st.State == ledger.Rejected) && st.Code != "" && st.Reason != "" && st.Remedy != ""
}

// readBucket returns the files of a folder as the objects of a bucket: those
// that were dropped, and the others.
func readBucket(t *testing.T, dir string) (dropped, answers map[string]string) {
	t.Helper()
	dropped, answers = map[string]string{}, map[string]string{}
	err := filepath.WalkDir(dir, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		body, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		below, err := filepath.Rel(dir, file)
		key := filepath.ToSlash(below)
		if strings.HasPrefix(key, ledger.InboxPrefix) {
			dropped[key] = string(body)
		} else {
			answers[key] = string(body)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return dropped, answers
}

// writeAnswers puts answers into the place of old ones.
func writeAnswers(t *testing.T, dir string, old, answers map[string]string) {
	t.Helper()
	for key := range old {
		if err := os.Remove(filepath.Join(dir, key)); err != nil {
			t.Fatal(err)
		}
	}
	for key, body := range answers {
		file := filepath.Join(dir, filepath.FromSlash(key))
		if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(body), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}
