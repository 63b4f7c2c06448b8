package ui

import (
	"encoding/json"
	"maps"
	"net/http"
	"path"
	"slices"
	"strings"

	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/check"
	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/media"
)

// dropResult is what the check has found and, after the upload, which jobs start.
type dropResult struct {
	Jobs    []check.Job         `json:"jobs,omitempty"`
	Files   int                 `json:"files"`
	Bytes   int64               `json:"bytes"`
	Present []string            `json:"present,omitempty"` // files whose keys are known to be in the bucket already
	Left    []string            `json:"left,omitempty"`    // files that are not uploaded, because they would start no job
	Denied  string              `json:"denied,omitempty"`  // the permission that is missing
	Names   []string            `json:"names,omitempty"`   // after the upload: the jobs that start
	Idle    map[string][]string `json:"idle,omitempty"`    // after the upload: the jobs that do not start after all, by the reason
}

// checkFiles finds out which jobs the files start. If the person chose a model or options, each
// pair becomes a bundle with this choice.
func (d *dropSession) checkFiles(choice drop.Choice) error {
	var result dropResult
	if choice.Model != "" || len(choice.Options) > 0 {
		unfit, left, err := d.drop.BundlePairs(d.ctx, choice, false)
		if err != nil {
			return err
		}
		for _, outcome := range unfit {
			result.Jobs = append(result.Jobs, outcome.Describe())
		}
		result.Left = left
	}
	if err := d.drop.Check(d.ctx); err != nil {
		return err
	}
	d.drop.Estimate(d.ctx, d.server.prices)
	for _, job := range d.drop.Jobs {
		result.Jobs = append(result.Jobs, describeJob(job))
	}
	result.Left = append(result.Left, d.leaveOut()...)
	for i, key := range result.Left {
		result.Left[i] = check.File(key)
	}
	slices.Sort(result.Left)
	for _, key := range slices.Sorted(maps.Keys(d.drop.Uploads)) {
		if d.drop.Uploads[key].Exists {
			result.Present = append(result.Present, check.File(key))
		}
	}
	result.Files, result.Bytes, result.Denied = len(d.drop.Uploads), client.SizeOf(d.drop.Uploads), d.denied()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.result, d.total, d.checked = result, result.Bytes, true
	return nil
}

// leaveOut removes from the uploads the files that only rejected jobs use, and returns the
// keys of these files. leaveOut assumes that a rejected job uses every file that
// belongs to its name.
func (d *dropSession) leaveOut() (left []string) {
	good, bad := map[string]bool{}, map[string]bool{} // keys
	rejected := map[string]bool{}                     // names
	for _, job := range d.drop.Jobs {
		used := good
		if job.State == ledger.Rejected {
			used, rejected[job.Finding.Name] = bad, true
		}
		for _, file := range job.Finding.Files() {
			used[file.Key] = true
		}
	}
	maps.DeleteFunc(d.drop.Uploads, func(key string, _ *client.Upload) bool {
		out := (bad[key] || rejected[drop.ParseKey(key).Name]) && !good[key]
		if out {
			left = append(left, key)
		}
		return out
	})
	return left
}

// describeJob returns what the page shows about a job.
func describeJob(dropped client.DroppedJob) check.Job {
	job := dropped.Describe()
	job.EstimateUSD = dropped.Estimate.USD
	if dropped.State == check.Ready && !dropped.Starts {
		job.State, job.Problems = ledger.Waiting, []check.Problem{{
			Reason: "only job.json starts a bundle again, and no job.json was dropped",
			Remedy: "Drop the folder with its job.json.",
		}}
	}
	return job
}

// denied returns the permission that an upload of the files needs and that the person lacks,
// or "". For files in many folders, it checks nothing and returns "": the upload itself then
// reports a missing permission.
func (d *dropSession) denied() string {
	const most = 20
	folders := map[string]bool{}
	for key := range d.drop.Uploads {
		folders[strings.TrimPrefix(path.Dir(key)+"/", ledger.InboxPrefix)] = true
	}
	if len(folders) > most {
		return ""
	}
	for folder := range folders {
		if missing := d.server.missingRightsFor(d.ctx, folder).Drop; missing != "" {
			return missing
		}
	}
	return ""
}

// start begins the upload of a drop that was checked.
func (d *dropSession) start(r *http.Request) (any, error) {
	var how struct {
		Again bool `json:"again"` // also upload what the bucket has already
	}
	if err := decode(r, &how); err != nil {
		return nil, err
	}
	d.mu.Lock()
	ready := d.checked && !d.uploadBegun
	d.uploadBegun = d.uploadBegun || ready
	d.mu.Unlock()
	if !ready {
		return nil, &requestError{http.StatusConflict, "the check of these files has not ended, or their upload has already begun"}
	}
	d.beginPhase(func() error { return d.upload(how.Again) })
	return map[string]bool{"started": true}, nil
}

// upload uploads the files that Choose selects. If again is true, Choose selects all files.
func (d *dropSession) upload(again bool) error {
	checked := slices.Clone(d.drop.Jobs)
	if err := d.drop.Choose(d.ctx, again); err != nil {
		return err
	}
	d.mu.Lock()
	d.total = client.SizeOf(d.drop.Sent)
	d.mu.Unlock()
	err := d.drop.Send(d.ctx, slices.Collect(maps.Values(d.drop.Sent)), func(n int64) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.sent += n
	})
	if err != nil {
		return err
	}
	d.server.feed.listNow()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.result.Idle = map[string][]string{}
	for i, job := range d.drop.Jobs {
		switch name := job.Finding.Name; {
		case job.Starts:
			d.result.Names = append(d.result.Names, name)
		case checked[i].Starts:
			why := d.drop.WhyNot(job)
			d.result.Idle[why] = append(d.result.Idle[why], name)
		}
	}
	return nil
}

// modelForm is what the page needs to show a form for a model.
type modelForm struct {
	ID      string           `json:"id"`
	Schema  json.RawMessage  `json:"schema"`
	Options []catalog.Option `json:"options"`
	Media   []media.Kind     `json:"media"` // the kinds of the files that the model accepts
}

// models returns the models and their options.
func (s *Server) models(*http.Request) (any, error) {
	var forms []modelForm
	for _, id := range s.resolver.Catalog.IDs() {
		model, _ := s.resolver.Catalog.Model(id)
		form := modelForm{ID: id, Schema: model.Schema(), Options: model.Options()}
		for _, p := range model.MediaProperties() {
			form.Media = append(form.Media, p.Kind)
		}
		forms = append(forms, form)
	}
	return forms, nil
}
