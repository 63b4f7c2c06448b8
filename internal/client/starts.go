package client

import (
	"slices"

	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/media"
)

// ToSend returns the compared uploads that must be sent, by key: all of them, or only
// those whose content the bucket does not hold. If a medium of a bundle is sent, the
// bundle's job.json is sent too, because only job.json starts the bundle's job again. But
// if a sent file already starts a job of the bundle, job.json is left out: it would start
// that job a second time. Jobs are the findings whose jobs can start.
func ToSend(uploads []*Upload, all bool, jobs []drop.Finding) map[string]*Upload {
	byKey, send := map[string]*Upload{}, map[string]*Upload{}
	for _, u := range uploads {
		byKey[u.Key] = u
		if all || !u.Same {
			send[u.Key] = u
		}
	}
	again, started := map[string]bool{}, map[string]bool{} // the keys of job.json
	for _, f := range jobs {
		manifest, _ := f.Job.Manifest()
		if Starts(f, send) {
			started[manifest.Key] = true
		} else if changes(f, send) {
			again[manifest.Key] = true
		}
	}
	for key := range again {
		if u := byKey[key]; u != nil && !started[key] {
			send[key] = u
		}
	}
	return send
}

// changes reports whether a file of a job is sent.
func changes(f drop.Finding, sent map[string]*Upload) bool {
	return slices.ContainsFunc(f.Files(), func(file drop.File) bool { return sent[file.Key] != nil })
}

// Starts reports whether the sent uploads start the job of a finding.
func Starts(f drop.Finding, sent map[string]*Upload) bool {
	return slices.ContainsFunc(f.Files(), func(file drop.File) bool { return sent[file.Key] != nil && starts(f, sent[file.Key]) })
}

// WhyNot returns a clause that says why the sent uploads do not start the job of a
// finding.
func WhyNot(f drop.Finding, sent map[string]*Upload) string {
	if changes(f, sent) {
		return "only its job.json starts it again, and that was not sent"
	}
	return "the bucket holds the same files already"
}

// starts reports whether the upload of one of a job's files starts the job. Any file of a
// pair does. In a bundle, these do: job.json, a file that was missing, and the file that
// matches the wildcard.
func starts(f drop.Finding, u *Upload) bool {
	manifest, isBundle := f.Job.Manifest()
	if !isBundle || u.Key == manifest.Key {
		return true
	}
	k, bundle := drop.ParseKey(u.Key), drop.ParseKey(manifest.Key).Name
	kind, _ := media.KindOf(u.Key)
	isMatch := f.Name != bundle && kind == media.Audio
	return k.Role == drop.Member && k.Name == bundle && (isMatch || !u.Exists)
}
