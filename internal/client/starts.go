package client

import (
	"slices"

	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/media"
)

// ToSend returns which of the compared uploads to send, by key: all, or those whose
// content the bucket does not hold. If one of them changes a medium of a bundle, its
// job.json is sent too, because only job.json starts the bundle's job again. If a file of
// the bundle starts a job already, job.json is not sent: it would start that job a second
// time. The jobs are the findings whose jobs can start.
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

// Starts reports whether the uploads that are sent start the job of a finding.
func Starts(f drop.Finding, sent map[string]*Upload) bool {
	return slices.ContainsFunc(f.Files(), func(file drop.File) bool { return sent[file.Key] != nil && starts(f, sent[file.Key]) })
}

// WhyNot says why the uploads that are sent do not start the job of a finding, as a clause.
func WhyNot(f drop.Finding, sent map[string]*Upload) string {
	if changes(f, sent) {
		return "only its job.json starts it again, and that was not sent"
	}
	return "the bucket holds the same files already"
}

// starts reports whether an upload of a file of a job starts the job. Any file of a pair
// does. A bundle's job is started by its job.json, by a file in the bundle that was
// missing, and by the file that matches its wildcard.
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
