package main

import (
	"context"
	"path"
	"slices"
	"strings"

	"golang.org/x/text/unicode/norm"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/check"
	"github.com/lipdrop/lipdrop/internal/ledger"
)

// isBundle reports whether a folder's name makes it a bundle.
func isBundle(folder string) bool { return strings.EqualFold(path.Ext(folder), ".job") }

// isPreset reports whether a key is the key of a preset.
func isPreset(key string) bool { return strings.EqualFold(path.Base(key), "preset.json") }

// removeEarlier deletes earlier drops that would form jobs together with the given
// keys: files of the same names with any tag and suffix, bundles of the same names,
// and presets. The keys are directly below inbox/ or in bundles. It returns how many
// objects it deleted. It deletes job.json first and then audio files, so that no
// deletion starts a job.
func removeEarlier(ctx context.Context, b *bucket.Bucket, keys []string) (int, error) {
	// By prefix: whether to delete only presets.
	prefixes := map[string]bool{}
	for _, spelling := range []string{"preset", "PRESET", "Preset"} {
		prefixes[ledger.InboxPrefix+spelling+"."] = true
	}
	for _, key := range keys {
		below := strings.TrimPrefix(key, ledger.InboxPrefix)
		first, _, _ := strings.Cut(below, "/")
		stem, _, _ := strings.Cut(first, ".")
		for _, form := range []norm.Form{norm.NFC, norm.NFD} {
			prefixes[ledger.InboxPrefix+form.String(stem)+"."] = isPreset(key)
		}
	}
	earlier := map[string]bool{}
	for prefix, onlyPresets := range prefixes {
		found, err := keysBelow(ctx, b, prefix)
		if err != nil {
			return 0, err
		}
		for _, key := range found {
			first, _, inFolder := strings.Cut(strings.TrimPrefix(key, ledger.InboxPrefix), "/")
			if isPreset(key) && !inFolder || !onlyPresets && (!inFolder || isBundle(first)) {
				earlier[key] = true
			}
		}
	}
	ordered := sortedKeys(earlier)
	slices.SortStableFunc(ordered, func(a, b string) int { return check.UploadRank(b) - check.UploadRank(a) })
	for _, key := range ordered {
		if err := remove(ctx, b, key); err != nil {
			return 0, err
		}
	}
	return len(ordered), nil
}
