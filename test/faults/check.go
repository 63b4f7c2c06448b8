package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/notice"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
	"github.com/lipdrop/lipdrop/test/world"
)

// checkCharges compares the records with the jobs that RunComfy accepted. It returns
// these jobs by their request ids.
func (s *simulation) checkCharges(records []ledger.Record) map[string]runcomfytest.Job {
	recorded := map[string]bool{} // request ids
	unknown := map[string]bool{}  // claims whose outcome may be unknown
	for _, rec := range records {
		s.ends[strings.TrimSpace(string(rec.State)+" "+string(rec.Code))]++
		recorded[rec.RequestID] = true
		if rec.State == ledger.Unknown && s.excused[ledger.RecordKey(rec.Name, rec.Take)] {
			unknown[claimed(rec)] = true
		}
	}
	accepted := map[string]runcomfytest.Job{}
	paid := map[string]string{} // request ids, by what RunComfy received
	for _, job := range s.w.RunComfy.Submitted() {
		s.charges++
		accepted[job.RequestID] = job
		what := sent(job)
		if before, twice := paid[what]; twice {
			s.found(chargedTwice, "requests %s and %s are both for %s", before, job.RequestID, what)
		}
		paid[what] = job.RequestID
		if !recorded[job.RequestID] && job.State == "succeeded" && !unknown[what] {
			s.found(lost, "request %s is in no record: %s", job.RequestID, what)
		}
	}
	return accepted
}

// checkNotices compares the notices with the final statuses and records. Each status or record
// whose state is one of notice.States must have at least one notice, except a rejected drop
// whose notice EventBridge did not accept. No notice may be wrong or still due.
func (s *simulation) checkNotices() {
	for _, text := range s.w.WrongNotices {
		s.wrong("%s", text)
	}
	noticed := map[string]bool{}
	id := func(name string, state ledger.State, take string) string {
		return fmt.Sprint(name, " ", state, " ", take)
	}
	for _, n := range s.w.Notices {
		noticed[id(n.Name, n.State, n.Take)] = true
		if n.Code == problem.OverBudget {
			s.faults["job held by a cap"]++
		}
	}
	s.notices += len(s.w.Notices)
	want := func(key, name string, state ledger.State, take string) {
		unsent := state == ledger.Rejected && s.unsent[key]
		if slices.Contains(notice.States(), state) && !noticed[id(name, state, take)] && !unsent {
			s.wrong("%s is %s (take %q), but has no notice", name, state, take)
		}
	}
	for _, key := range s.w.Bucket.Keys() {
		if strings.HasPrefix(key, "status/") || strings.HasPrefix(key, "answers/") {
			st := s.status(key)
			want(key, st.Name, st.State, st.Take)
		}
	}
	for _, rec := range s.records() {
		want(ledger.StatusKey(rec.Name), rec.Name, rec.State, rec.Take)
		if rec.NoticeDue {
			s.wrong("the notice about take %s of %s is still due", rec.Take, rec.Name)
		}
	}
}

// checkRecord compares the record of a take with the job that the take paid for.
func (s *simulation) checkRecord(rec ledger.Record, accepted map[string]runcomfytest.Job) {
	wrong := func(format string, args ...any) {
		s.wrong("take %s of %s, %s %s (%s): %s", rec.Take, rec.Name, rec.State, rec.Code, rec.Reason, fmt.Sprintf(format, args...))
	}
	if !rec.State.Ended() {
		wrong("the take has not ended")
	}
	if rec.State != ledger.Succeeded && (rec.Code == "" || rec.Reason == "" || rec.Code.Remedy(rec.Name) == "") {
		wrong("the code, the reason or the remedy is missing")
	}
	if rec.State == ledger.Unknown {
		if !s.excused[ledger.RecordKey(rec.Name, rec.Take)] || rec.RequestID != "" {
			wrong("no fault explains the unknown outcome, or the record has the request id %q", rec.RequestID)
		}
		return
	}
	job, ok := accepted[rec.RequestID]
	if !ok {
		wrong("RunComfy has no request %q", rec.RequestID)
		return
	}
	if sent(job) != claimed(rec) {
		wrong("request %s belongs to another take", rec.RequestID)
	}
	switch job.State {
	case "succeeded":
		if flaw := s.archived(rec, job); flaw != "" {
			s.found(lost, "request %s of take %s of %s, which is %s %s (%s): %s", job.RequestID, rec.Take, rec.Name, rec.State, rec.Code, rec.Reason, flaw)
		}
	case "failed":
		if rec.State != ledger.Failed || rec.Code != problem.JobFailed {
			wrong("want failed %s, because RunComfy's job failed", problem.JobFailed)
		}
	case "cancelled":
		if !rec.CostsNothing() {
			wrong("RunComfy cancelled the job, so the record must say that the job costs nothing")
		}
	default:
		wrong("RunComfy's job is %s, so it has not ended", job.State)
	}
}

// archived returns what is wrong with the archived outputs of a job that succeeded, or
// "".
func (s *simulation) archived(rec ledger.Record, job runcomfytest.Job) string {
	if rec.State != ledger.Succeeded || len(rec.Outputs) == 0 {
		return "the record is not in the state succeeded, or has no outputs"
	}
	served := s.pictureOf(rec) // the fake serves the picture as each output
	for _, out := range rec.Outputs {
		body, ok := s.w.Bucket.Object(out.Key)
		if !ok || !bytes.Equal(body, served) || out.SHA256 != job.OutputSHA256 || !strings.HasPrefix(out.Key, ledger.OutputPrefix(rec.Name, rec.Take)) {
			return out.Key + " is not in the folder of the take, or is not what RunComfy served"
		}
		s.outputs++
	}
	text, _ := s.w.Bucket.Object(ledger.ResultKey(rec.Name, rec.Take))
	var result ledger.Result
	if json.Unmarshal(text, &result) != nil || result.RequestID != rec.RequestID || len(result.Outputs) != len(rec.Outputs) {
		return "result.json is missing or belongs to another job"
	}
	execution, ok := s.w.Execution(rec.Name, rec.Take)
	if !ok || execution.Status != "SUCCEEDED" {
		return "the execution of the take has not succeeded"
	}
	return ""
}

// pictureOf returns the bytes of the video or image of a take.
func (s *simulation) pictureOf(rec ledger.Record) []byte {
	for _, in := range rec.Inputs {
		if strings.Contains(in.Property, "video") || strings.Contains(in.Property, "image") {
			return s.w.Version(in.Key, in.ETag)
		}
	}
	return nil
}

// compare compares a status with the record that the status must be about.
func (s *simulation) compare(st ledger.Status, rec ledger.Record) {
	var outputs []string
	for _, out := range rec.Outputs {
		outputs = append(outputs, out.Key)
	}
	if st.Take != rec.Take || st.State != rec.State || st.Code != rec.Code || st.Reason != rec.Reason || st.RequestID != rec.RequestID || !slices.Equal(st.Outputs, outputs) {
		s.wrong("the status of %s says take %s, request %s, %s %s (%s), outputs %q; the record says take %s, request %s, %s %s (%s), outputs %q",
			rec.Name, st.Take, st.RequestID, st.State, st.Code, st.Reason, st.Outputs, rec.Take, rec.RequestID, rec.State, rec.Code, rec.Reason, outputs)
	}
}

func (s *simulation) allPresent(files []string) bool {
	return !slices.ContainsFunc(files, func(key string) bool { return s.w.PresentETag(key) == "" })
}

// claimed returns, as one string, what a record claims: the versions of the media, and the
// options.
func claimed(rec ledger.Record) string {
	var media []string
	for _, in := range rec.Inputs {
		if in.Property != "" {
			media = append(media, fmt.Sprintf("%s=%s %s %s", in.Property, in.Key, in.ETag, in.LastModified.Format("20060102T150405Z")))
		}
	}
	return whatFor(media, rec.Options)
}

// sent returns what RunComfy received for a job, in the same form.
func sent(job runcomfytest.Job) string {
	options := map[string]any{}
	var media []string
	for property, value := range job.Input {
		address, _ := value.(string)
		u, err := url.Parse(address)
		if err != nil || u.Host == "" {
			options[property] = value
			continue
		}
		modified := strings.NewReplacer("-", "", ":", "").Replace(u.Query().Get("modified"))
		media = append(media, fmt.Sprintf("%s=%s %s %s", property, strings.TrimPrefix(u.Path, "/"), u.Query().Get("etag"), modified))
	}
	return whatFor(media, options)
}

func whatFor(media []string, options map[string]any) string {
	slices.Sort(media)
	return strings.Join(media, ", ") + " " + string(bucket.JSON(options, ""))
}

// records returns every record of the ledger, except the records whose claim was released.
func (s *simulation) records() []ledger.Record {
	var all []ledger.Record
	for _, key := range s.w.Bucket.Keys() {
		if strings.HasPrefix(key, "jobs/") {
			rec, ok := s.recordAt(key)
			if !ok {
				s.wrong("%s is not a record", key)
			} else if rec.State != ledger.Released {
				all = append(all, rec)
			}
		}
	}
	return all
}

func (s *simulation) recordAt(key string) (rec ledger.Record, ok bool) {
	text, ok := s.w.Bucket.Object(key)
	ok = ok && json.Unmarshal(text, &rec) == nil
	return rec, ok
}

func (s *simulation) status(key string) (st ledger.Status) {
	text, ok := s.w.Bucket.Object(key)
	if ok && json.Unmarshal(text, &st) != nil {
		s.wrong("%s is not a status", key)
	}
	return st
}

// checkSecrets searches the objects outside inbox/, the notices and the executions for tokens
// and signatures. It also checks that no host of an output received the token.
func (s *simulation) checkSecrets() {
	look := func(where string, texts ...string) {
		for _, text := range texts {
			for _, secret := range []string{world.Token, "X-Amz-", "canary"} { // each made-up secret contains canary
				if strings.Contains(text, secret) {
					s.found(leaked, "%q in %s", secret, where)
				}
			}
		}
	}
	for _, key := range s.w.Bucket.Keys() {
		if !strings.HasPrefix(key, ledger.InboxPrefix) {
			body, _ := s.w.Bucket.Object(key)
			look(key, key, string(body))
		}
	}
	for _, n := range s.w.Notices {
		look("a notice about "+n.Name, fmt.Sprintf("%+v", n))
	}
	for _, e := range s.w.Executions() {
		look(e.ARN, e.Input, e.Output, e.Error, e.Cause)
	}
	if n := s.w.RunComfy.LeakedTokens(); n > 0 {
		s.found(leaked, "the token was sent to the host of an output %d times", n)
	}
}
