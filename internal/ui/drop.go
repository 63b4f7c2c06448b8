package ui

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/check"
	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/media"
	"github.com/lipdrop/lipdrop/internal/problem"
)

// dropResult is what a check has found, and what an upload has sent.
type dropResult struct {
	Jobs    []check.Job         `json:"jobs,omitempty"`
	Files   int                 `json:"files"`
	Bytes   int64               `json:"bytes"`
	Present []string            `json:"present,omitempty"` // some of the files whose keys the bucket has already
	Left    []string            `json:"left,omitempty"`    // files that are not uploaded, because they would start no job
	Denied  string              `json:"denied,omitempty"`  // the permission that is missing
	Names   []string            `json:"names,omitempty"`   // after the upload: the jobs that start
	Idle    map[string][]string `json:"idle,omitempty"`    // after the upload: the jobs that do not start, by the reason
}

// check finds out which jobs the files start. If a model or options are given, each pair
// becomes a bundle that has them.
func (d *dropSession) check(model string, options map[string]any) error {
	stored, err := check.NewSnapshot(d.ctx, d.server.Client.Bucket, ledger.InboxPrefix, mostListed)
	if err != nil {
		return d.server.Client.Explain("check the files", ledger.InboxPrefix, err)
	}
	var result dropResult
	if model != "" || len(options) > 0 {
		if result.Jobs, result.Left, err = d.makeBundles(model, options); err != nil {
			return err
		}
	}
	files := filesOf(d.files)
	keys := files.Keys()
	for i := range len(keys) - 1 {
		if keys[i] == keys[i+1] {
			return fmt.Errorf("two files are named %s; rename one", check.File(keys[i]))
		}
	}
	byName, made := map[string][]string{}, map[string]bool{} // by name: the keys, and whether makeBundles made the bundle
	for _, f := range d.files {
		if k := drop.ParseKey(f.Key); k.Stem != "" {
			byName[k.Name] = append(byName[k.Name], f.Key)
			made[k.Name] = made[k.Name] || f.index < 0
		}
	}
	var ready []drop.Finding
	good, bad := map[string]bool{}, map[string]bool{} // the keys of jobs that are not rejected, and of those that are
	err = d.eachOutcome(check.Overlay{New: files, Bucket: stored}, keys, func(o check.Outcome) {
		of := good
		if o.State == ledger.Rejected {
			of = bad
		}
		for _, key := range keysOf(o, byName) {
			of[key] = true
		}
		starts := o.State == check.Ready && d.canStart(o.Finding, files, stored)
		if starts {
			ready = append(ready, o.Finding)
		}
		result.Jobs = append(result.Jobs, d.describe(o, starts, made))
	})
	if err != nil {
		return err
	}
	d.files = slices.DeleteFunc(d.files, func(f *browserFile) bool {
		left := bad[f.Key] && !good[f.Key]
		if left {
			result.Left = append(result.Left, check.File(f.Key))
		}
		return left
	})
	slices.Sort(result.Left)
	result.Files, result.Present, result.Denied = len(d.files), d.present(stored), d.denied()
	for _, f := range d.files {
		result.Bytes += f.Size
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.result, d.ready, d.total, d.checked = result, ready, result.Bytes, true
	return nil
}

// keysOf returns the keys of the files that an outcome is about. A rejected job is about all
// files of its name.
func keysOf(o check.Outcome, byName map[string][]string) (keys []string) {
	f := o.Finding
	for _, file := range f.Files() {
		keys = append(keys, file.Key)
	}
	switch {
	case o.State != ledger.Rejected:
		return keys
	case f.Key == drop.SubjectOf(f.Name).Key():
		return append(keys, byName[f.Name]...)
	default: // about a file that cannot belong to a job
		return append(keys, ledger.InboxPrefix+f.Name)
	}
}

// describe returns the job of an outcome. Starts says whether the drop starts the job. The
// map made has the names whose bundle comes from makeBundles.
func (d *dropSession) describe(o check.Outcome, starts bool, made map[string]bool) check.Job {
	job := o.Describe()
	for i, p := range job.Problems {
		if p.Code == problem.Ambiguous && made[o.Finding.Name] {
			job.Problems[i].Remedy = "Delete the other files of this name from the bucket, or rename yours, or choose no model and no options. Then drop your files again."
		}
	}
	switch {
	case starts:
		job.EstimateUSD = d.server.prices.Estimate(d.ctx, o.Job.Model, o.Job.Expected.Length).USD
	case o.State == check.Ready:
		job.State, job.Problems = ledger.Waiting, []check.Problem{{
			Reason: "only job.json starts a bundle again, and it was not dropped",
			Remedy: "Drop the folder with its job.json.",
		}}
	}
	return job
}

// present returns which of the first files have keys that the bucket has already.
func (d *dropSession) present(stored drop.Files) []string {
	const most = 100 // each may cost a request
	var present []string
	for _, f := range d.files[:min(len(d.files), most)] {
		if _, err := stored.Head(d.ctx, f.Key); err == nil {
			present = append(present, check.File(f.Key))
		}
	}
	return present
}

// denied returns the permission that is missing to upload the files, or "". If there are
// many folders, it returns "": the upload itself then says what is missing.
func (d *dropSession) denied() string {
	const most = 20
	folders := map[string]bool{}
	for _, f := range d.files {
		folders[strings.TrimPrefix(path.Dir(f.Key)+"/", ledger.InboxPrefix)] = true
	}
	if len(folders) > most {
		return ""
	}
	for folder := range folders {
		if missing := d.server.rights(d.ctx, folder).Drop; missing != "" {
			return missing
		}
	}
	return ""
}

// canStart reports whether the dropped files can start the job of a finding, assuming that
// the bucket does not hold the same contents.
func (d *dropSession) canStart(f drop.Finding, dropped, stored drop.Files) bool {
	has := func(files drop.Files, key string) bool {
		_, err := files.Head(d.ctx, key)
		return err == nil
	}
	if manifest, isBundle := f.Job.Manifest(); !isBundle || has(dropped, manifest.Key) {
		return true
	}
	sent := map[string]*client.Upload{}
	for _, file := range f.Files() {
		if has(dropped, file.Key) {
			sent[file.Key] = &client.Upload{Key: file.Key, Exists: has(stored, file.Key)}
		}
	}
	return client.Starts(f, sent)
}

// eachOutcome calls report with each outcome about the files at keys.
func (d *dropSession) eachOutcome(files drop.Files, keys []string, report func(check.Outcome)) error {
	resolver := &drop.Resolver{Files: files, Catalog: d.server.Catalog, Settings: d.server.Settings}
	err := check.AssessEach(d.ctx, resolver, keys, func(_ string, o check.Outcome) error {
		report(o)
		return nil
	})
	return d.server.Client.Explain("check the files", ledger.InboxPrefix, err)
}

// makeBundles puts each pair of the dropped files into a bundle of its own, whose job.json
// has the model and the options. To find out what job.json must say, it checks the files
// with a preset that has the model and the options. This check leaves out the files of the
// bucket, because one of them may be the bundle of an earlier drop.
//
// Files that form no valid pair cannot get the options. makeBundles removes them from the
// drop, and returns what it found about them (unfit) and their names (left).
func (d *dropSession) makeBundles(model string, options map[string]any) (unfit []check.Job, left []string, err error) {
	preset := map[string]any{"input": options}
	if options == nil {
		preset["input"] = map[string]any{}
	}
	if model != "" {
		preset["model"] = model
	}
	text, err := json.Marshal(preset)
	if err != nil {
		return nil, nil, err
	}
	own, folders := map[string]*browserFile{}, map[string]bool{}
	var checked, bundles []*browserFile
	for _, f := range d.files {
		own[f.Key] = f
		folders[path.Dir(f.Key)+"/"] = true
		if !strings.EqualFold(path.Base(f.Key), "preset.json") {
			checked = append(checked, f)
		}
	}
	for folder := range folders {
		checked = append(checked, d.made(folder+"preset.json", text))
	}
	used, unused := map[string]bool{}, map[string]bool{}
	files := filesOf(checked)
	err = d.eachOutcome(files, files.Keys(), func(o check.Outcome) {
		f := o.Finding
		pair := f.Files()
		if _, isBundle := f.Job.Manifest(); isBundle || len(pair) == 0 {
			return // not about a pair
		}
		of := used
		if o.State == check.Ready {
			bundles = append(bundles, d.bundle(f.Name, o.Job, own)...)
		} else {
			of = unused
			unfit = append(unfit, describeUnfit(o))
		}
		for _, file := range pair {
			of[file.Key] = true
		}
	})
	d.files = slices.DeleteFunc(d.files, func(f *browserFile) bool {
		if unused[f.Key] && !used[f.Key] {
			left = append(left, check.File(f.Key))
		}
		return unused[f.Key] || used[f.Key]
	})
	d.files = append(d.files, bundles...)
	return unfit, left, err
}

// describeUnfit returns the job of a pair that cannot get the options.
func describeUnfit(o check.Outcome) check.Job {
	job, folder := o.Describe(), path.Dir(o.Finding.Files()[0].Key)+"/"
	// The preset of this check is what the person has chosen on the page.
	chosen := strings.NewReplacer("the preset in "+folder+" is wrong: ", "", "the preset "+folder+"preset.json sets "+job.Model+", which", job.Model)
	for i, p := range job.Problems {
		job.Problems[i].Reason = chosen.Replace(p.Reason)
		if p.Code == problem.ModelMismatch {
			job.Problems[i].Remedy = "Choose another model."
		}
	}
	if o.State == ledger.Waiting {
		job.Problems = []check.Problem{{
			Reason: check.File(o.Finding.Files()[0].Key) + " was dropped without its partner, so it cannot get the model and the options that you chose",
			Remedy: "Drop both files of the pair together, or choose no model and no options.",
		}}
	}
	return job
}

// bundle returns the files of a bundle that has the job of a pair. Own are the dropped files
// by their keys.
func (d *dropSession) bundle(name string, job drop.Ready, own map[string]*browserFile) (files []*browserFile) {
	input, folder := maps.Clone(job.Input), ledger.InboxPrefix+name+".job/"
	for _, m := range job.Media {
		copied := *own[m.File.Key]
		copied.Key = folder + path.Base(m.File.Key)
		files = append(files, &copied)
		input[m.Property] = path.Base(m.File.Key)
	}
	manifest, err := json.MarshalIndent(map[string]any{"model": job.Model, "input": input}, "", "  ")
	if err != nil {
		panic(err) // what was read from JSON can be written as JSON
	}
	return append(files, d.made(folder+"job.json", manifest))
}

// made returns a file with a text that the command has made.
func (d *dropSession) made(key string, text []byte) *browserFile {
	sum := sha256.Sum256(text) // the ETag of a check only needs to change with the content
	return &browserFile{text: text, session: d, index: -1, File: bucket.File{
		Key: key, Size: int64(len(text)), LastModified: time.Now().UTC().Truncate(time.Second), ETag: hex.EncodeToString(sum[:]),
	}}
}

// start begins the upload of a drop that was checked.
func (d *dropSession) start(r *http.Request) (any, error) {
	var how struct {
		Again bool `json:"again"` // upload what the bucket has already
	}
	if err := decode(r, &how); err != nil {
		return nil, err
	}
	d.mu.Lock()
	ready := d.checked && !d.uploaded && d.err == nil
	d.uploaded = d.uploaded || ready
	d.mu.Unlock()
	if !ready {
		return nil, &requestError{http.StatusConflict, "these files are not checked, or are already being uploaded"}
	}
	d.begin(func() error { return d.upload(how.Again) })
	return map[string]bool{"started": true}, nil
}

// upload uploads the files that client.ToSend selects. Again is true to upload all.
func (d *dropSession) upload(again bool) error {
	c := d.server.Client
	var uploads []*client.Upload
	for _, f := range d.files {
		uploads = append(uploads, &client.Upload{Key: f.Key, Size: f.Size, Open: func() (client.Content, error) { return &readAhead{file: f}, nil }})
	}
	if err := c.Compare(d.ctx, uploads); err != nil {
		return d.cause(err)
	}
	send := client.ToSend(uploads, again, d.ready)
	var total int64
	for _, u := range send {
		total += u.Sum.Size
	}
	d.mu.Lock()
	d.total = total
	d.mu.Unlock()
	err := c.Send(d.ctx, slices.Collect(maps.Values(send)), func(n int64) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.sent += n
	})
	if err != nil {
		return d.cause(err)
	}
	d.server.feed.poke()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.result.Idle = map[string][]string{}
	for _, f := range d.ready {
		if client.Starts(f, send) {
			d.result.Names = append(d.result.Names, f.Name)
		} else {
			why := client.WhyNot(f, send)
			d.result.Idle[why] = append(d.result.Idle[why], f.Name)
		}
	}
	return nil
}

// modelForm is what the page needs to show a form for a model.
type modelForm struct {
	ID      string          `json:"id"`
	Schema  json.RawMessage `json:"schema"`
	Options []modelOption   `json:"options"`
	Media   []media.Kind    `json:"media"` // the kinds of the files that the model accepts
}

// modelOption is a catalog.Option in JSON.
type modelOption struct {
	Name     string `json:"name"`
	Required bool   `json:"required"`
	Allowed  string `json:"allowed"`
	Default  string `json:"default"`
}

// models returns the models and their options.
func (s *Server) models(*http.Request) (any, error) {
	var forms []modelForm
	for _, id := range s.Catalog.IDs() {
		model, _ := s.Catalog.Model(id)
		form := modelForm{ID: id, Schema: model.Schema()}
		for _, o := range model.Options() {
			form.Options = append(form.Options, modelOption(o))
		}
		for _, p := range model.MediaProperties() {
			if !slices.Contains(form.Media, p.Kind) {
				form.Media = append(form.Media, p.Kind)
			}
		}
		forms = append(forms, form)
	}
	return forms, nil
}
