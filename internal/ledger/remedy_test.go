package ledger_test

import (
	"strings"
	"testing"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/s3test"
)

// A bundle runs again only if its job.json is uploaded again, so the remedy names job.json.
// An upload of job.json starts all matches of a wildcard, so the remedy of one match names the match's file.
func TestRemedyNamesWhatToUpload(t *testing.T) {
	s := newStore(&s3test.Bucket{})
	for _, code := range []problem.Code{problem.JobFailed, problem.OutcomeUnknown, problem.RequestLost, problem.CancelledByStop, problem.JobCancelled, problem.RefusedByRunComfy, problem.MediaArchived} {
		rec := ledger.Record{Name: "ads/talk", Take: "20261121T120000Z-000000000000", State: ledger.Failed, Code: code}
		if got := s.TakeStatus(rec).Remedy; strings.Contains(got, "job.json") {
			t.Errorf("%s of a pair: remedy %q names job.json, want no job.json", code, got)
		}
		rec.Manifest = "inbox/ads/talk.job/job.json"
		if got := s.TakeStatus(rec).Remedy; !strings.Contains(got, "job.json again") || strings.Contains(got, "a file") {
			t.Errorf("%s of a bundle: remedy %q, want it to name job.json only", code, got)
		}
		rec.Match = "inbox/ads/talk.job/voices/de.wav"
		if got, ok := strings.CutSuffix(s.TakeStatus(rec).Remedy, " "+problem.AllMatches); !ok || !strings.Contains(got, "upload de.wav again") || strings.Contains(got, "job.json") {
			t.Errorf("%s of a match: remedy %q, want it to name de.wav only, then AllMatches", code, got)
		}
		rec.Code = problem.CancelledByDeletion // its remedy says "the deleted files", not de.wav
		if got := s.TakeStatus(rec).Remedy; !strings.HasSuffix(got, problem.AllMatches) {
			t.Errorf("%s of a match: remedy %q, want one that ends with AllMatches", rec.Code, got)
		}
	}
}

// A redrive does not help if RunComfy cancelled the job before it started (NotCharged), so the
// remedy must not name a redrive. The remedy of JobFailed never names one.
func TestRemedyOfACancelledJob(t *testing.T) {
	s := newStore(&s3test.Bucket{})
	for _, info := range problem.Codes() {
		if info.State != string(ledger.Failed) {
			continue
		}
		rec := ledger.Record{Name: "ads/talk", Take: "20261121T120000Z-000000000000", State: ledger.Failed, Code: info.Code}
		if got := s.TakeStatus(rec).Remedy; info.Code != problem.JobFailed && !strings.Contains(got, "lipdrop redrive ads/talk") {
			t.Errorf("%s of a job that was not cancelled: remedy %q, want it to name lipdrop redrive", info.Code, got)
		}
		rec.NotCharged = true
		if got := s.TakeStatus(rec).Remedy; !strings.Contains(got, "Nothing was charged") || !strings.Contains(got, "upload the audio of the job again") || strings.Contains(got, "redrive") {
			t.Errorf("%s of a cancelled job: remedy %q, want an upload and no redrive", info.Code, got)
		}
	}
}
