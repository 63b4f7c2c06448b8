// Package world is a whole lipdrop in memory on a virtual clock: the four
// handlers, the shipped state machine, a bucket, a queue and the fake RunComfy.
// Nothing in it waits, so that a day passes in a moment, and everything that a
// function calls can be made to fail, or be the last thing that it does.
package world

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	archive "github.com/lipdrop/lipdrop/functions/archive/handler"
	cancel "github.com/lipdrop/lipdrop/functions/cancel/handler"
	poll "github.com/lipdrop/lipdrop/functions/poll/handler"
	submit "github.com/lipdrop/lipdrop/functions/submit/handler"
	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/config"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local/states"
	"github.com/lipdrop/lipdrop/internal/runcomfy"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
	"github.com/lipdrop/lipdrop/internal/s3test"
)

const (
	bucketName = "lipdrop"
	machineARN = "arn:aws:states:us-east-1:000000000000:stateMachine:lipdrop"
	pollARN    = "arn:aws:lambda:us-east-1:000000000000:function:poll"
	archiveARN = "arn:aws:lambda:us-east-1:000000000000:function:archive"

	// Token is the API token of a new world, to be looked for where none may be.
	Token = "canary-token-0123456789"
)

// The queue as template.yaml has it.
const (
	settle     = 10 * time.Second
	visibility = 12 * time.Minute
	receives   = 120
)

// Begin is when a world begins: so late that no timer on the real clock, which
// a deadline of the virtual one sets, ever fires.
var Begin = time.Date(2050, 1, 3, 12, 0, 0, 0, time.UTC)

// QueueHours and MaxHours as template.yaml has them.
const (
	queueLimit = 6 * time.Hour
	runLimit   = 24 * time.Hour

	maxOutputs = 100
)

// World is one deployment. Its exported fields may be changed between steps.
type World struct {
	Bucket   *s3test.Bucket
	RunComfy *runcomfytest.Server

	// Secret is the text of the token's secret.
	Secret string

	// Web holds what lies at https addresses outside the bucket, by the
	// address without its query.
	Web map[string][]byte

	// Before, where set, is asked before each call that a function makes: an
	// error fails it without effect. It may panic with Crash, which ends the
	// function there.
	Before func(Call) error
	// After is asked after each call that took effect: an error takes the
	// answer's place.
	After func(Call) error
	// TimedOut, where set, is told of the call that a function does not come to
	// make, because its time is over and Lambda ends it.
	TimedOut func(Call)

	// Attempts is how often the client of S3 and that of Step Functions try a
	// call that failed for a reason that may pass. The SDK's do it three times.
	Attempts int

	// Batch is how many messages of the queue submit is called with at most.
	Batch int

	// Price is how long each call of S3 takes. Zero: no time, which is right
	// for a World that several goroutines use at once.
	Price time.Duration

	// Settings are those of submit.
	Settings drop.Settings

	// QueueLimit is QueueHours, and RunLimit is MaxHours.
	QueueLimit, RunLimit time.Duration

	// MaxOutputs is the parameter of that name.
	MaxOutputs int

	// StaleStates is for how long DescribeExecution still describes an execution
	// that has ended as running.
	StaleStates time.Duration

	// SignFor is for how long a process of submit may sign URLs. Zero sets no
	// limit.
	SignFor time.Duration

	// LoseStatusEvents drops the events of executions that ended.
	LoseStatusEvents bool

	Dead          []string // bodies of messages that were delivered too often
	DeadDeletions []string // the same of cancel's queue
	Errors        []string // what invocations of the functions ended with

	submit  pool[*submit.Handler]
	poll    pool[*poll.Handler]
	archive pool[*archive.Handler]
	cancel  pool[*cancel.Handler]

	mu          sync.Mutex // of what functions that run side by side share
	invocations int
	executions  map[string]*execution

	now       time.Time
	machine   *states.Machine
	ledger    *ledger.Store // without the hooks
	running   []*execution
	messages  []*message
	events    []*event
	nextSweep time.Time
	versions  map[string][]byte // of dropped files, by key and ETag
}

// message is one in the queue.
type message struct {
	body      string
	visibleAt time.Time
	receives  int
}

// event is an asynchronous call of cancel, tried three times as Lambda does, or
// a message in its queue of deletions.
type event struct {
	payload  []byte
	at       time.Time
	tries    int
	deletion bool
}

// New returns an empty world whose jitter is drawn from random.
func New(random func() float64) (*World, error) {
	models, err := catalog.Default()
	if err != nil {
		return nil, err
	}
	return NewWith(models, random)
}

// NewWith is New with models of one's own.
func NewWith(models *catalog.Catalog, random func() float64) (*World, error) {
	text, err := os.ReadFile(inRepository("statemachine.asl.json"))
	if err != nil {
		return nil, err
	}
	machine, err := states.Parse(text, map[string]string{"Partition": "aws", "PollFunctionArn": pollARN, "ArchiveFunctionArn": archiveARN})
	if err != nil {
		return nil, err
	}
	machine.Random = random
	w := &World{
		Settings: drop.DefaultSettings(),
		Secret:   Token, Attempts: 3, Batch: 1, QueueLimit: queueLimit, RunLimit: runLimit, MaxOutputs: maxOutputs, Web: map[string][]byte{},
		now: Begin, machine: machine,
		executions: map[string]*execution{}, versions: map[string][]byte{},
	}
	w.nextSweep = w.now.Add(time.Hour)
	w.Bucket = &s3test.Bucket{Now: w.Now}
	w.RunComfy = &runcomfytest.Server{Now: w.Now, Token: w.Secret, Fetch: w.fetch, CostUSD: 0.25, OutputURL: "https://files.runcomfy.net"}
	w.ledger = &ledger.Store{Bucket: &bucket.Bucket{S3: w.Bucket, Name: bucketName}, MachineARN: machineARN, Now: w.Now}
	w.functions(models, random)
	return w, nil
}

// functions says how a process of each function begins.
func (w *World) functions(models *catalog.Catalog, random func() float64) {
	files := &bucket.Bucket{S3: (*client)(w), Name: bucketName}
	records := &ledger.Store{Bucket: &bucket.Bucket{S3: (*client)(w), Name: bucketName}, MachineARN: machineARN, Now: w.Now}
	api := func() *runcomfy.Client {
		return &runcomfy.Client{
			Token:      &config.Token{Client: (*secrets)(w), ARN: "arn:aws:secretsmanager:us-east-1:000000000000:secret:t", Now: w.Now},
			HTTPClient: &http.Client{Transport: (*network)(w)},
		}
	}
	pass := func(_ context.Context, d time.Duration) error { w.now = w.now.Add(d); return nil }
	w.submit.start = func() *submit.Handler {
		var until time.Time
		if w.SignFor > 0 {
			until = w.now.Add(w.SignFor)
		}
		return &submit.Handler{
			SignUntil: until, Exit: func() { panic(Crash{}) },
			Ledger: records, API: api(), States: (*stepFunctions)(w), MaxReceives: receives, Now: w.Now, Sleep: pass, Presign: presign,
			Resolver: &drop.Resolver{
				Files: files, Catalog: models, Settings: w.Settings,
			},
		}
	}
	w.poll.start = func() *poll.Handler {
		return &poll.Handler{Ledger: records, Models: models, API: api(), QueueLimit: w.QueueLimit, RunLimit: w.RunLimit, Now: w.Now, Jitter: random}
	}
	w.archive.start = func() *archive.Handler {
		return &archive.Handler{
			Bucket: files, Ledger: records, API: api(), Copier: (*copier)(w), MaxOutputs: w.MaxOutputs, Now: w.Now, Sleep: pass,
		}
	}
	w.cancel.start = func() *cancel.Handler {
		return &cancel.Handler{
			Bucket: files, MachineARN: machineARN, Ledger: records, API: api(), States: (*stepFunctions)(w), Now: w.Now,
		}
	}
}

// Now returns the virtual time.
func (w *World) Now() time.Time { return w.now }

// Started returns how many processes of submit were started.
func (w *World) Started() int { return w.submit.started }

// Drop puts a file into the bucket, as a person does, and its event into the
// queue.
func (w *World) Drop(key string, body []byte) {
	w.Put(key, body)
	w.Notify("Object Created", key, 0)
}

// Sample returns the project's own clip and voice.
func Sample() (clip, voice []byte, err error) {
	if clip, err = os.ReadFile(inRepository("internal/local/sample/clip.mp4")); err == nil {
		voice, err = os.ReadFile(inRepository("internal/local/sample/voice.wav"))
	}
	return clip, voice, err
}

func inRepository(path string) string {
	_, here, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(here), "../..", path)
}

// DropLarge puts a file into the bucket by a multipart upload that was initiated
// at the given time and completes now, and its event into the queue.
func (w *World) DropLarge(key string, body []byte, initiated time.Time) {
	w.Bucket.SetMultipart(key, body, initiated)
	w.versions[version(key, etagOf(body))] = body
	w.Notify("Object Created", key, 0)
}

// Put puts a file into the bucket without an event.
func (w *World) Put(key string, body []byte) {
	w.Bucket.Set(key, body)
	w.versions[version(key, etagOf(body))] = body
}

// PutLarge is Put of a file whose multipart upload began at some time: S3 says
// that it was last modified then.
func (w *World) PutLarge(key string, body []byte, began time.Time) {
	w.Bucket.Now = func() time.Time { return began }
	w.Put(key, body)
	w.Bucket.Now = w.Now
}

// Delete removes a file, as a person does, and sends both its events.
func (w *World) Delete(key string) {
	w.Bucket.Remove(key)
	w.Notify("Object Deleted", key, 0)
	w.NotifyCancel(key, "DeleteObject", 0)
}

// Notify puts an event about a key into the queue, late by a time of one's own
// choice.
func (w *World) Notify(kind, key string, late time.Duration) {
	w.messages = append(w.messages, &message{body: string(w.objectEvent(kind, key, "")), visibleAt: w.now.Add(settle + late)})
}

// NotifyCancel tells cancel that a key was deleted, for a reason in the words
// of S3's event, late by a time of one's own choice.
func (w *World) NotifyCancel(key, reason string, late time.Duration) {
	w.events = append(w.events, &event{payload: w.objectEvent("Object Deleted", key, reason), at: w.now.Add(time.Second + late), deletion: true})
}

// RedriveDeadLetters puts every dead letter back into the queue.
func (w *World) RedriveDeadLetters() {
	for _, body := range w.Dead {
		w.messages = append(w.messages, &message{body: body, visibleAt: w.now})
	}
	w.Dead = nil
}

// NotifyExpiry puts the event into the queue that a lifecycle rule removed an
// object or an old version.
func (w *World) NotifyExpiry(key string) {
	w.messages = append(w.messages, &message{body: string(w.objectEvent("Object Deleted", key, "Lifecycle Expiration")), visibleAt: w.now.Add(settle)})
}

func (w *World) objectEvent(kind, key, reason string) []byte {
	return objectEvent(kind, key, reason, w.now)
}

func objectEvent(kind, key, reason string, at time.Time) []byte {
	detail := map[string]any{"bucket": map[string]any{"name": bucketName}, "object": map[string]any{"key": key}}
	if reason != "" {
		detail["reason"] = reason
	}
	body, err := json.Marshal(map[string]any{"source": "aws.s3", "detail-type": kind, "time": at.UTC().Truncate(time.Second), "detail": detail})
	if err != nil {
		panic(err) // a map of texts always encodes
	}
	return body
}

// Status returns the posted status of a name.
func (w *World) Status(name string) ledger.Status {
	posted, err := w.ledger.Posted(context.Background(), ledger.StatusKey(name))
	if err != nil {
		panic(err) // a look without the hooks cannot fail
	}
	return posted.Status
}

// Record returns the record of a take, or false.
func (w *World) Record(name, take string) (ledger.Record, bool) {
	rec, err := w.ledger.Get(context.Background(), name, take)
	return rec, err == nil
}

// Takes returns the records of a name, oldest first.
func (w *World) Takes(name string) []ledger.Record {
	recs, err := w.ledger.Takes(context.Background(), name)
	if err != nil {
		panic(err) // a look without the hooks cannot fail
	}
	return recs
}

// CancelElsewhere cancels a job as a person does on RunComfy's page.
func (w *World) CancelElsewhere(requestID string) error {
	req, err := http.NewRequest(http.MethodPost, "https://model-api.runcomfy.net/v1/requests/"+requestID+"/cancel", http.NoBody)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+w.RunComfy.Token)
	_, err = w.RunComfy.Transport().RoundTrip(req)
	return err
}

// Present returns the ETag and the time of the file that lies at a key now, or
// an empty ETag.
func (w *World) Present(key string) (etag string, modified time.Time) {
	file, err := (&bucket.Bucket{S3: w.Bucket, Name: bucketName}).Head(context.Background(), key)
	if err != nil {
		return "", time.Time{}
	}
	return file.ETag, file.LastModified
}

// Version returns the bytes of a dropped file as it once was, or nil.
func (w *World) Version(key, etag string) []byte { return w.versions[version(key, etag)] }
