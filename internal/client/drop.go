package client

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/budget"
	"github.com/lipdrop/lipdrop/internal/check"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/media"
	"github.com/lipdrop/lipdrop/internal/problem"
)

// Drop is what a person drops: the files, and the jobs that they form with the files of the
// bucket.
type Drop struct {
	*Client
	Resolver drop.Resolver // of the stack, without files

	// Uploads has the files by key. Sent has the files that Choose has chosen to send, also
	// by key.
	Uploads, Sent map[string]*Upload

	// Jobs has what Check has found about each name that the files concern.
	Jobs []DroppedJob

	// bundled has the warnings about each pair that BundlePairs put into a bundle, by job name.
	bundled map[string][]string
}

// DroppedJob is what a drop does about one name.
type DroppedJob struct {
	check.Outcome
	Key      string          // of the first upload that concerns the name
	Starts   bool            // the drop starts the job
	Estimate budget.Estimate // of the cost of a job that starts; set by Drop.Estimate
}

// Files returns a snapshot that has the uploads and no file of the bucket.
func Files(uploads map[string]*Upload) *check.Snapshot {
	var files []drop.File
	for _, u := range uploads {
		files = append(files, u.File)
	}
	return check.Dropped(files, func(key string, p []byte, off int64) (int, error) {
		content, err := uploads[key].Open()
		if err != nil {
			return 0, err
		}
		defer content.Close()
		return content.ReadAt(p, off)
	})
}

// Snapshot lists the files of the bucket in the common folder of the uploads. It reads the contents
// of the uploads from this machine. Without a bucket, Snapshot lists no files.
func (d *Drop) Snapshot(ctx context.Context) (*check.Snapshot, error) {
	var stored drop.Files = Files(nil)
	if d.Bucket != nil {
		stored = d.Bucket
	}
	// If the folder has more files than this, a check lists the files of each job instead.
	most := bucket.PageSize * (3 + len(d.Uploads)/10)
	snapshot, err := check.NewSnapshot(ctx, stored, Files(d.Uploads), d.Folder(), most)
	return snapshot, d.Explain("see what is in the bucket", "inbox/", err)
}

// Folder returns the deepest folder that contains all uploads, or inbox/ if there are none.
func (d *Drop) Folder() string {
	keys := slices.Sorted(maps.Keys(d.Uploads))
	if len(keys) == 0 {
		return ledger.InboxPrefix
	}
	first, last := keys[0], keys[len(keys)-1]
	n := 0
	for n < min(len(first), len(last)) && first[n] == last[n] {
		n++
	}
	return first[:strings.LastIndexByte(first[:n], '/')+1]
}

// Check finds out which jobs the uploads form with the files of the bucket, and sets Jobs.
// Until Choose compares the files with the bucket, every upload counts as new or changed.
func (d *Drop) Check(ctx context.Context) error {
	stored, err := d.Snapshot(ctx)
	if err != nil {
		return err
	}
	const most = 100 // each key may cost a request; Choose asks about the others
	keys := slices.Sorted(maps.Keys(d.Uploads))
	_ = each(ctx, ReadsAtOnce, keys[:min(len(keys), most)], func(ctx context.Context, _ int, key string) error {
		_, err := stored.Head(ctx, key)
		d.Uploads[key].Exists = err == nil // an error other than "not found" is left to Choose, which asks again
		return nil
	})
	stored.AddDropped()
	resolver := d.Resolver
	resolver.Files = stored
	err = check.AssessEach(ctx, &resolver, keys, func(key string, o check.Outcome) error {
		warnings, bundled := d.bundled[o.Finding.Name]
		for _, warning := range warnings {
			if !slices.Contains(o.Warnings, warning) {
				o.Warnings = append(o.Warnings, warning)
			}
		}
		for i, p := range o.Problems {
			if p.Code != problem.Ambiguous {
				continue
			}
			// The stack's remedy is to delete a file. A person who reads it here might delete the only copy.
			o.Problems[i].Remedy = "Drop only one of them, or rename one. If the bucket already holds others, delete them there first."
			if bundled {
				o.Problems[i].Remedy = "Delete the other files of this name from the bucket, or rename yours, or choose no model and no options. Then drop your files again."
			}
		}
		d.Jobs = append(d.Jobs, DroppedJob{Outcome: o, Key: key, Starts: o.State == check.Ready && starts(o.Finding, d.Uploads)})
		return nil
	})
	return d.Explain("check the files", "inbox/*", err)
}

// Choose compares the uploads with the bucket, sets Sent to those that toSend selects, and
// finds out which jobs the sent uploads start. If all is true, toSend selects all uploads.
func (d *Drop) Choose(ctx context.Context, all bool) error {
	if err := d.compare(ctx); err != nil {
		return err
	}
	var ready []drop.Finding
	for _, job := range d.Jobs {
		if job.State == check.Ready {
			ready = append(ready, job.Finding)
		}
	}
	d.Sent = toSend(d.Uploads, all, ready)
	for i, job := range d.Jobs {
		d.Jobs[i].Starts = job.State == check.Ready && starts(job.Finding, d.Sent)
	}
	return nil
}

// toSend returns the compared uploads that must be sent, by key: all of them, or only
// those whose content the bucket does not hold. If a medium of a bundle is sent, the
// bundle's job.json is sent too, because only job.json starts the bundle's job again. It is
// not added if another sent file starts a job of the bundle, because that job would start
// twice. findings are those of the jobs that can start.
func toSend(uploads map[string]*Upload, all bool, findings []drop.Finding) map[string]*Upload {
	send := maps.Clone(uploads)
	maps.DeleteFunc(send, func(_ string, u *Upload) bool { return !all && u.Same })
	again, started := map[string]bool{}, map[string]bool{} // the keys of job.json
	for _, f := range findings {
		manifest, _ := f.Job.Manifest()
		if starts(f, send) {
			started[manifest.Key] = true
		} else if sendsAny(f, send) {
			again[manifest.Key] = true
		}
	}
	for key := range again {
		if u := uploads[key]; u != nil && !started[key] {
			send[key] = u
		}
	}
	return send
}

// sendsAny reports whether a file of a job is sent.
func sendsAny(f drop.Finding, sent map[string]*Upload) bool {
	return slices.ContainsFunc(f.Files(), func(file drop.File) bool { return sent[file.Key] != nil })
}

// starts reports whether the sent uploads start the job of a finding. Any file of a pair
// starts the job of the pair. The job of a bundle is started by job.json, by a file that was
// missing in the bundle, and by the file that matches the wildcard.
func starts(f drop.Finding, sent map[string]*Upload) bool {
	manifest, isBundle := f.Job.Manifest()
	bundle := drop.ParseKey(manifest.Key).Name
	return slices.ContainsFunc(f.Files(), func(file drop.File) bool {
		u, k := sent[file.Key], drop.ParseKey(file.Key)
		kind, _ := media.KindOf(file.Key)
		isMatch := f.Name != bundle && kind == media.Audio
		isMember := k.Role == drop.Member && k.Name == bundle
		return u != nil && (!isBundle || file.Key == manifest.Key || isMember && (isMatch || !u.Exists))
	})
}

// WhyNot returns a clause that says why the sent files do not start a job.
func (d *Drop) WhyNot(job DroppedJob) string {
	if sendsAny(job.Finding, d.Sent) {
		return "only job.json starts the job again, and job.json was not sent"
	}
	return "the bucket holds the same files already"
}

// Estimate estimates what the jobs that start will cost.
func (d *Drop) Estimate(ctx context.Context, prices *budget.Prices) {
	for i, job := range d.Jobs {
		if job.Starts {
			d.Jobs[i].Estimate = prices.Estimate(ctx, job.Job.Model, job.Job.Expected.Length)
		}
	}
}

// SizeOf returns the size of uploads, in bytes.
func SizeOf(uploads map[string]*Upload) (n int64) {
	for _, u := range uploads {
		n += u.Size
	}
	return n
}

// BundlePairs puts each pair of the uploads into a bundle of its own, whose job.json has the
// chosen model and options. It does not read the bucket, because a bundle that an earlier
// drop made of the same pair would make the name ambiguous. BundlePairs removes from the
// uploads all videos, images and audio files outside of bundles. It returns the outcomes of the
// pairs and single files that it could not bundle, and the keys of the files that are in no bundle.
//
// If shared is true, the bundles of a folder share their media. For this, BundlePairs reads each
// medium of the bundles to its end.
func (d *Drop) BundlePairs(ctx context.Context, choice drop.Choice, shared bool) (unfit []check.Outcome, left []string, err error) {
	resolver := d.Resolver
	resolver.Files, resolver.Choice = Files(d.Uploads), &choice
	resolver.MaxJobsPerDrop = 0 // each pair gets a job.json of its own, which starts one job
	var pairs []check.Outcome
	used, unused := map[string]*Upload{}, map[string]bool{} // by key
	err = check.AssessEach(ctx, &resolver, slices.Sorted(maps.Keys(d.Uploads)), func(_ string, o check.Outcome) error {
		files := o.Finding.Files()
		if _, isBundle := o.Finding.Job.Manifest(); isBundle || len(files) == 0 {
			return nil // not about a pair
		}
		if o.State == check.Ready {
			pairs = append(pairs, o)
			for _, file := range files {
				used[file.Key] = d.Uploads[file.Key]
			}
			return nil
		}
		if o.State == ledger.Waiting {
			o.Problems = []problem.Problem{{
				Reason: check.File(files[0].Key) + " was dropped without its partner, so it cannot get the model and the options that you chose",
				Remedy: "Drop both files of the pair together, or choose no model and no options.",
			}}
		}
		unfit = append(unfit, o)
		for _, file := range files {
			unused[file.Key] = true
		}
		return nil
	})
	if err == nil && shared {
		err = setSums(ctx, slices.Collect(maps.Values(used)))
	}
	if err != nil {
		return nil, nil, err
	}
	maps.DeleteFunc(d.Uploads, func(key string, _ *Upload) bool { return used[key] != nil || unused[key] })
	d.bundled = map[string][]string{}
	for _, o := range pairs {
		d.bundled[o.Finding.Name] = o.Warnings
		files := map[string]*Upload{}
		for _, m := range o.Job.Media {
			files[m.Property] = used[m.File.Key]
		}
		d.AddBundle(ledger.InboxPrefix+o.Finding.Name, o.Job.Model, o.Job.Input, files)
	}
	for _, key := range slices.Sorted(maps.Keys(unused)) {
		if used[key] == nil {
			left = append(left, key)
		}
	}
	return unfit, left, nil
}

// mediaFolder is a folder beside the bundles. It holds the media that the bundles share. Its
// name begins with a dot, so that the media form no jobs by themselves. Each content has its
// own folder below mediaFolder, so a changed medium gets another key, and job.json changes too.
const mediaFolder = ".media/"

// AddBundle adds a bundle to the uploads, and returns the key of its job.json. stem is the path of
// the bundle's folder without .job at the end. The map files has the medium of each media property
// of the input. If the Sum of a medium is known, the medium is stored once for all bundles of the
// same folder; otherwise it is stored in this bundle.
func (d *Drop) AddBundle(stem, model string, input map[string]any, files map[string]*Upload) (manifest string) {
	input = maps.Clone(input)
	for property, u := range files {
		base := strings.ReplaceAll(path.Base(u.Key), "*", "-") // in job.json a * would be a wildcard
		key := stem + ".job/" + base
		input[property] = base
		if u.Sum.known() {
			key = path.Dir(stem) + "/" + mediaFolder + hex.EncodeToString(u.Sum.SHA256[:6]) + "/" + base
			input[property] = "/" + key
		}
		if d.Uploads[key] == nil {
			medium := *u
			medium.Key = key
			d.Uploads[key] = &medium
		}
	}
	manifest = stem + ".job/job.json"
	text := bucket.JSON(map[string]any{"model": model, "input": input}, "  ")
	d.Uploads[manifest] = &Upload{Open: Bytes(text), File: drop.File{Key: manifest, Size: int64(len(text)), ETag: fmt.Sprintf("%x", md5.Sum(text))}}
	return manifest
}
