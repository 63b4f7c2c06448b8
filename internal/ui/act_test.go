package ui

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/ledger"
)

func TestFileToDropAgain(t *testing.T) {
	inputs := []ledger.Input{{Property: "video_url", Key: "inbox/ads/cafe.mp4"}, {Property: "audio_url", Key: "inbox/ads/cafe.wav"}}
	for want, rec := range map[string]ledger.Record{
		"inbox/ads/cafe.wav":          {Inputs: inputs},
		"inbox/ads/cafe.job/job.json": {Inputs: inputs, Manifest: "inbox/ads/cafe.job/job.json"},
		"inbox/ads/cafe.job/de.wav":   {Inputs: inputs, Manifest: "inbox/ads/cafe.job/job.json", Match: "inbox/ads/cafe.job/de.wav"},
	} {
		if got := fileToDropAgain(rec); got != want {
			t.Errorf("the record %+v: %q, want %q", rec, got, want)
		}
	}
}

// The commands do what the buttons do with the take that is shown. A command has --take if
// it would otherwise choose a newer take.
func TestCommandsOfATake(t *testing.T) {
	takes := []takeSummary{{Take: "t5", State: ledger.InQueue}, {Take: "t4", State: ledger.Failed}, {Take: "t3", State: ledger.Succeeded}, {Take: "t2", State: ledger.Failed}, {Take: "t1", State: ledger.Succeeded}}
	for take, want := range map[string]map[string]string{
		"t5": {"cancel": "lipdrop cancel --stack s ads/talk"},
		"t4": {"redrive": "lipdrop redrive --stack s ads/talk"},
		"t3": {"get": "lipdrop get --stack s ads/talk", "approve": "lipdrop review --stack s --approve ads/talk", "reject": "lipdrop review --stack s --reject ads/talk"},
		"t2": {"redrive": "lipdrop redrive --stack s --take t2 ads/talk"},
		"t1": {"get": "lipdrop get --stack s --take t1 ads/talk", "approve": "lipdrop review --stack s --approve --take t1 ads/talk", "reject": "lipdrop review --stack s --reject --take t1 ads/talk"},
		"":   {},
	} {
		view := &jobView{Name: "ads/talk", Takes: takes, Commands: map[string]string{}}
		(&Server{flags: []string{"--stack", "s"}}).addCommands(view, take)
		want["show"] = "lipdrop show --stack s ads/talk"
		if diff := cmp.Diff(want, view.Commands); diff != "" {
			t.Errorf("take %q: commands (-want +got):\n%s", take, diff)
		}
	}
	view := &jobView{Name: "-t*", Commands: map[string]string{}} // must be read as neither a flag nor a prefix
	if new(Server).addCommands(view, ""); view.Commands["show"] != `lipdrop show 'inbox/-t\*'` {
		t.Errorf(`the command of a name that looks like a flag and a prefix: %s, want lipdrop show 'inbox/-t\*'`, view.Commands["show"])
	}
}

// shown returns what the page shows of a job, for the query of a request.
func shown(t *testing.T, s *Server, query string) *jobView {
	t.Helper()
	response, err := s.job(httptest.NewRequest(http.MethodGet, "/?"+query, nil))
	if err != nil {
		t.Fatal(err)
	}
	return response.(*jobView)
}

// The AWS console does not show executions of the local stack, so the page has no link to
// the console.
func TestLinksOfALocalJob(t *testing.T) {
	s, storage, _ := newDropServer(t)
	const take = "20261121T120000Z-0123456789ab"
	for _, statusTake := range []string{take, "20261121T130000Z-0123456789ab"} { // the status is about the take, or about a newer drop
		links := &ledger.Links{Execution: "https://console.aws.amazon.com/", RunComfy: "https://www.runcomfy.com/"}
		storage.Set(ledger.StatusKey("talk"), bucket.JSON(ledger.Status{Name: "talk", State: ledger.InQueue, Take: statusTake, Links: links}, ""))
		storage.Set(ledger.RecordKey("talk", take), bucket.JSON(ledger.Record{Name: "talk", Take: take, State: ledger.InQueue, RequestID: "r1"}, ""))
		for dir, want := range map[string]bool{"": true, ".lipdrop": false} {
			s.client.Dir = dir
			view := shown(t, s, "key=talk&take="+take)
			for what, got := range map[string]*ledger.Links{"status": view.Status.Links, "take": view.Take.Links} {
				if (got.Execution != "") != want || got.RunComfy == "" {
					t.Errorf("in the folder %q, the links of the %s are %+v; want a link to the AWS console: %t", dir, what, got, want)
				}
			}
		}
	}
}

// The page shows every digit of an option, and shows a text without quotation marks.
func TestOptionsOfATake(t *testing.T) {
	s, storage, _ := newDropServer(t)
	const take = "20261121T120000Z-0123456789ab"
	storage.Set(ledger.StatusKey("talk"), bucket.JSON(ledger.Status{Name: "talk", State: ledger.Succeeded, Take: take}, ""))
	storage.Set(ledger.RecordKey("talk", take), []byte(`{"name": "talk", "take": "`+take+`", "state": "succeeded", "options": {"seed": 9007199254740993, "prompt": "<b>", "flags": [true, 1.50]}}`))
	want := map[string]any{"seed": "9007199254740993", "prompt": "<b>", "flags": "[true,1.50]"}
	if diff := cmp.Diff(want, shown(t, s, "key=talk").Take.Options); diff != "" {
		t.Errorf("options (-want +got):\n%s", diff)
	}
}

// The page says why it cannot sign the URLs of a file.
func TestMediumWithoutASignature(t *testing.T) {
	s, _, _ := newDropServer(t)
	s.client.S3 = s3.New(s.client.S3.Options(), func(o *s3.Options) {
		o.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{}, errors.New("the SSO session has expired")
		})
	})
	m := s.presignAll(t.Context(), []medium{{Name: "talk.wav", Input: ledger.Input{Key: "inbox/talk.wav", VersionID: "1"}}})[0]
	if !strings.Contains(m.WhyNoURL, "the SSO session has expired") {
		t.Errorf("the reason is %q, want the error of the credentials", m.WhyNoURL)
	}
}

// The page replaces the URLs of the media before they expire. A URL expires no later than the
// credentials that signed it.
func TestHowLongURLsAreUsed(t *testing.T) {
	s, _, _ := newDropServer(t)
	for credentials, want := range map[aws.Credentials]time.Duration{
		{AccessKeyID: "a", SecretAccessKey: "b"}:                                                            50 * time.Minute,
		{AccessKeyID: "a", SecretAccessKey: "b", CanExpire: true, Expires: time.Now().Add(12 * time.Hour)}:  50 * time.Minute,
		{AccessKeyID: "a", SecretAccessKey: "b", CanExpire: true, Expires: time.Now().Add(5 * time.Minute)}: 5 * time.Minute,
	} {
		s.client.S3 = s3.New(s.client.S3.Options(), func(o *s3.Options) {
			o.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return credentials, nil })
		})
		if got := s.usableFor(t.Context()); got.Round(time.Minute) != want {
			t.Errorf("with credentials that expire at %v: %v, want %v", credentials.Expires, got, want)
		}
	}
}

// If Step Functions does not respond, the page does not wait long for the rights, and offers
// every action.
func TestRightsWithoutAResponse(t *testing.T) {
	s, _, _ := newDropServer(t)
	s.client.States = sfn.New(s.client.States.Options(), func(o *sfn.Options) {
		o.HTTPClient = smithyhttp.ClientDoFunc(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
	})
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		for _, want := range []time.Duration{5 * time.Second, 0} { // the second time, the rights are remembered
			began := time.Now()
			if r := s.missingRightsFor(ctx, "ads/talk"); r != (missingRights{}) || time.Since(began) != want {
				t.Errorf("after %v, the missing permissions are %+v, want none after %v", time.Since(began), r, want)
			}
		}
	})
}

// A wrong take is not reported as a wrong name of a job.
func TestActionsWithAWrongTake(t *testing.T) {
	s, _, _ := newDropServer(t)
	_, err := s.handleAction(s.review)(httptest.NewRequest(http.MethodPost, "/", strings.NewReader(`{"name": "ads/talk", "take": "..", "decision": "approved"}`)))
	if want := `".." is not a take`; err == nil || err.Error() != want || statusOf(err) != http.StatusBadRequest {
		t.Errorf("got %v, want %s with HTTP status 400", err, want)
	}
}

// In a bucket without versions, the page does not show a file that has replaced the input
// of a take, even if both files have the same length. If either file was uploaded in parts, its
// ETag proves nothing, so the page compares only the lengths.
func TestReplacedMedium(t *testing.T) {
	s, storage, _ := newDropServer(t)
	const key = "inbox/talk.wav"
	storage.Set(key, []byte("first"))
	first, err := s.client.Bucket.Head(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	input := medium{Name: "talk.wav", Input: ledger.Input{Key: key, ETag: first.ETag, Bytes: first.Size}}
	for text, want := range map[string]string{
		"first": "", "other": "talk.wav was replaced by a later upload.", "longer": "talk.wav was replaced by a later upload.",
	} {
		storage.Set(key, []byte(text))
		m := s.presignAll(t.Context(), []medium{input})[0]
		if m.WhyNoURL != want || (m.Show == "") != (want != "") {
			t.Errorf("the bucket has %q: the reason is %q and the URL %q; want the reason %q, and a URL only without a reason", text, m.WhyNoURL, m.Show, want)
		}
	}
	input.ETag = "0123456789abcdef0123456789abcdef-1" // of an upload in parts
	storage.Set(key, []byte("first"))
	if m := s.presignAll(t.Context(), []medium{input})[0]; m.WhyNoURL != "" {
		t.Errorf("an upload in parts: the reason is %q, want none", m.WhyNoURL)
	}
}

// Two tabs show the same take, and a person clicks "Drop again" in both. The second click starts
// no take, unless its tab has read the files again after the first click.
func TestDropAgainInTwoTabs(t *testing.T) {
	s, storage, uploaded := newDropServer(t)
	const take = "20261121T120000Z-0123456789ab"
	storage.SetMultipart("inbox/talk.wav", []byte("voice"), time.Now().Add(-time.Hour))
	storage.Set(ledger.StatusKey("talk"), bucket.JSON(ledger.Status{Name: "talk", State: ledger.Succeeded, Take: take}, ""))
	storage.Set(ledger.RecordKey("talk", take), bucket.JSON(ledger.Record{Name: "talk", Take: take, State: ledger.Succeeded, Inputs: []ledger.Input{{Property: "audio_url", Key: "inbox/talk.wav"}}}, ""))
	open := func() action {
		t.Helper()
		return action{Name: "talk", Take: take, Dropped: shown(t, s, "key=talk").Take.Dropped}
	}
	click := func(what string, a action, want bool) {
		t.Helper()
		_, err := s.dropAgain(t.Context(), a)
		if keys := uploaded(); (err == nil) != want || slices.Contains(keys, "inbox/talk.wav") != want {
			t.Errorf("%s: uploaded %q and got %v, want an upload: %t", what, keys, err, want)
		}
	}
	first, second := open(), open()
	click("the first tab", first, true)
	click("the second tab", second, false)
	click("the second tab, reloaded", open(), true)
	storage.SetMultipart("inbox/talk.wav", []byte("voice"), time.Now().Add(-time.Hour))
	third := open()
	storage.After = func(op, _ string) error {
		if op == "HeadObject" {
			time.Sleep(100 * time.Millisecond) // the other click could read the file meanwhile
		}
		return nil
	}
	results := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := s.dropAgain(t.Context(), third)
			results <- err
		}()
	}
	if a, b := <-results, <-results; (a == nil) == (b == nil) {
		t.Errorf("two clicks at the same time: %v and %v, want one error", a, b)
	}
	storage.After = nil
	_, err := s.dropAgain(t.Context(), action{Name: "talk", Take: take})
	if want := "this page could not read talk.wav; reload"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("a page that could not read the file: %v, want %q", err, want)
	}
}

// A file is uploaded, or dropped again by another `lipdrop ui`, while "Drop again" copies the older
// file. The copy does not replace the newer file.
func TestDropAgainDuringAnUpload(t *testing.T) {
	s, storage, _ := newDropServer(t)
	const take, key = "20261121T120000Z-0123456789ab", "inbox/talk.wav"
	storage.Set(key, []byte("older"))
	head, err := s.client.Bucket.Head(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	storage.Set(ledger.RecordKey("talk", take), bucket.JSON(ledger.Record{Name: "talk", Take: take, State: ledger.Succeeded, Inputs: []ledger.Input{{Property: "audio_url", Key: key}}}, ""))
	storage.After = func(op, _ string) error {
		if op == "HeadObject" {
			storage.Set(key, []byte("newer"))
		}
		return nil
	}
	_, err = s.dropAgain(t.Context(), action{Name: "talk", Take: take, Dropped: head.LastModified})
	if body, _ := storage.Object(key); string(body) != "newer" || err == nil || !strings.Contains(err.Error(), "was uploaded again") {
		t.Errorf("the bucket has %q, and the error is %v; want the newer file, and an error that says that it was uploaded again", body, err)
	}
}

// Submit writes a take's record, then the status. In between, the page shows the take, not the
// status of an older drop.
func TestStatusOfAnOlderDrop(t *testing.T) {
	s, storage, _ := newDropServer(t)
	newest := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	take := newest.Format(ledger.StampLayout) + "-0123456789ab"
	storage.Set(ledger.RecordKey("talk", take), bucket.JSON(ledger.Record{Name: "talk", Take: take, State: ledger.Submitting, Times: ledger.Times{Claimed: newest.Add(time.Minute)}}, ""))
	for dropped, want := range map[time.Time]ledger.State{
		newest.Add(-time.Hour): ledger.Submitting, newest: ledger.Submitting, newest.Add(time.Hour): ledger.Waiting,
	} {
		storage.Remove(ledger.StatusKey("talk"))
		if err := s.client.Ledger.Post(t.Context(), ledger.StatusKey("talk"), ledger.Status{Name: "talk", State: ledger.Waiting}, ledger.OrderAt(dropped), ledger.Posted{}); err != nil {
			t.Fatal(err)
		}
		view := shown(t, s, "key=talk")
		if newer := want == ledger.Waiting; view.Status.State != want || view.Newer != newer || (view.Take == nil) != newer {
			t.Errorf("a status of a drop at %v: the page shows %s, newer %t, take %v; want %s", dropped, view.Status.State, view.Newer, view.Take, want)
		}
	}
}
