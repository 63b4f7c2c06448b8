// Package world runs the whole of lipdrop in memory on a virtual clock: the four
// handlers, the shipped state machine, a bucket, two queues and the fake RunComfy.
// A test's hooks see every call that a function makes. A hook can make the call fail, or end the
// function at that point.
package world

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/lipdrop/lipdrop"
	archive "github.com/lipdrop/lipdrop/functions/archive/handler"
	cancel "github.com/lipdrop/lipdrop/functions/cancel/handler"
	poll "github.com/lipdrop/lipdrop/functions/poll/handler"
	submit "github.com/lipdrop/lipdrop/functions/submit/handler"
	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/budget"
	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
	local "github.com/lipdrop/lipdrop/internal/local/events"
	"github.com/lipdrop/lipdrop/internal/local/states"
	"github.com/lipdrop/lipdrop/internal/notice"
	"github.com/lipdrop/lipdrop/internal/runcomfy"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
	"github.com/lipdrop/lipdrop/internal/s3test"
	"github.com/lipdrop/lipdrop/internal/template"
	"github.com/lipdrop/lipdrop/internal/token"
)

const (
	bucketName = "lipdrop"
	machineARN = "arn:aws:states:us-east-1:000000000000:stateMachine:lipdrop"
	pollARN    = "arn:aws:lambda:us-east-1:000000000000:function:poll"
	archiveARN = "arn:aws:lambda:us-east-1:000000000000:function:archive"

	// Token is the API token of a new world. Tests check that it does not leak.
	Token = "canary-token-0123456789"
)

// Begin is the time at which a world begins. The deadlines of invocations are on the virtual
// clock, but the timers of contexts run on the real clock. Begin is so late that no timer
// reaches the deadline of an invocation during a test.
var Begin = time.Date(2050, 1, 3, 12, 0, 0, 0, time.UTC)

// World is one deployment. Its exported fields may be changed between steps. A process reads
// Settings, Caps, MinBalance, MaxOutputs, the limits and SignFor when it starts: see Restart.
type World struct {
	Bucket   *s3test.Bucket
	RunComfy *runcomfytest.Server

	// Secret is the text of the token's secret.
	Secret string

	// Web holds the files outside the bucket, by their https URLs without a query.
	Web map[string][]byte

	// Before, if set, is called before each call that a function makes. If it
	// returns an error, the call fails without effect. It may panic with Crash,
	// which ends the function there.
	Before func(Call) error
	// After, if set, is called after each call that took effect. An error
	// replaces the response.
	After func(Call) error
	// TimedOut, if set, is called if Lambda ends a function because its time is
	// over. It receives the call that the function could not make.
	TimedOut func(Call)

	// Attempts is how often the clients of S3, SQS, EventBridge and Step Functions try
	// a call that fails with a temporary error. The clients of the SDK try three times.
	Attempts int

	// Batch is the largest number of messages in one call of submit or cancel.
	Batch int

	// S3Latency is how long each call of S3 takes. It must be zero if several
	// goroutines use the World at once.
	S3Latency time.Duration

	Settings   drop.Settings
	Caps       budget.Caps
	MinBalance float64 // the parameter MinBalanceUsd
	MaxOutputs int

	// QueueLimit and RunLimit are the parameters QueueHours and MaxHours.
	QueueLimit, RunLimit time.Duration

	// SignFor is how long a process of submit may sign URLs. Zero sets no limit.
	SignFor time.Duration

	// LoseStatusEvents means that the events of executions that end badly are lost.
	LoseStatusEvents bool

	Dead          []string // bodies of messages that were delivered too often
	DeadDeletions []string // the same for the queue of deletions
	Errors        []string // the errors that the handlers returned, as text

	Notices      []notice.Detail // the notices that EventBridge accepted, in order
	WrongNotices []string        // notices whose type does not fit their state, or whose content was never in a status, answer file or record

	submit  pool[*submit.Handler]
	poll    pool[*poll.Handler]
	archive pool[*archive.Handler]
	cancel  pool[*cancel.Handler]

	mu          sync.Mutex // guards what concurrent functions share
	invocations int
	executions  map[string]*execution

	now           time.Time
	template      *stackTemplate
	machine       *states.Machine
	ledger        *ledger.Store // does not call the hooks
	running       []*execution
	asleep        []*sleeper
	dropQueue     queue // of submit
	deletionQueue queue // of cancel
	receipts      int   // deliveries so far
	chain         int   // the largest message.chain in the batch that is now being delivered
	cancelCalls   []*cancelCall
	nextSweep     time.Time
	versions      map[string][]byte // of dropped files: see version
	outcomes      map[outcome]bool  // in the statuses, answer files and records that were written
}

type queue struct {
	template.Queue
	messages []*message
	dead     *[]string // World.Dead or World.DeadDeletions
}

type message struct {
	body      string
	sent      time.Time
	receipt   string // of the last delivery
	visibleAt time.Time
	receives  int
	chain     int // the message's number in its chain: see submit.Queue
}

// cancelCall is an asynchronous call of cancel.
type cancelCall struct {
	payload []byte
	at      time.Time
	tries   int
}

// shippedModels reads the models once for all worlds.
var shippedModels = sync.OnceValues(catalog.Default)

// New returns an empty world. Its jitter comes from the given function.
func New(random func() float64) (*World, error) {
	models, err := shippedModels()
	if err != nil {
		return nil, err
	}
	return NewWith(models, random)
}

// NewWith is like New, but with the given models.
func NewWith(models *catalog.Catalog, random func() float64) (*World, error) {
	var mu sync.Mutex // functions run at the same time
	jitter := func() float64 {
		mu.Lock()
		defer mu.Unlock()
		return random()
	}
	machine, err := states.Parse(lipdrop.Machine, map[string]string{"Partition": "aws", "PollFunctionArn": pollARN, "ArchiveFunctionArn": archiveARN})
	if err != nil {
		return nil, err
	}
	machine.Random = jitter
	template, err := readTemplate()
	if err != nil {
		return nil, err
	}
	w := &World{
		Settings: template.settings, MaxOutputs: template.maxOutputs,
		QueueLimit: time.Duration(template.queueHours) * time.Hour, RunLimit: time.Duration(template.maxHours) * time.Hour,
		Secret: Token, Attempts: 3, Batch: 1, Web: map[string][]byte{},
		now: Begin, template: template, machine: machine,
		executions: map[string]*execution{}, versions: map[string][]byte{}, outcomes: map[outcome]bool{},
	}
	w.dropQueue, w.deletionQueue = queue{template.queues["Queue"], nil, &w.Dead}, queue{template.queues["DeletionQueue"], nil, &w.DeadDeletions}
	w.nextSweep = w.now.Add(time.Hour)
	w.Bucket = &s3test.Bucket{Now: w.Now}
	w.RunComfy = &runcomfytest.Server{Now: w.Now, Token: w.Secret, Fetch: w.fetch, CostUSD: 0.25, OutputURL: "https://files.runcomfy.net"}
	w.ledger = &ledger.Store{Bucket: &bucket.Bucket{S3: w.Bucket, Name: bucketName}, MachineARN: machineARN, Now: w.Now}
	w.wireFunctions(models, jitter)
	return w, nil
}

// wireFunctions sets how the processes of each function are started.
func (w *World) wireFunctions(models *catalog.Catalog, random func() float64) {
	files := &bucket.Bucket{S3: s3Client{w}, Name: bucketName}
	records := &ledger.Store{Bucket: files, MachineARN: machineARN, Now: w.Now}
	silent := *records // for poll, which sends no notices
	sender := &notice.Sender{Client: eventBus{w}, Bucket: bucketName, MachineARN: machineARN, Now: w.Now, Sleep: func(context.Context, time.Duration) error { return nil }}
	records.Notify = sender.Send
	api := func() *runcomfy.Client {
		return &runcomfy.Client{
			Token:      &token.Source{Client: secretsManager{w}, ARN: "arn:aws:secretsmanager:us-east-1:000000000000:secret:t", Now: w.Now},
			HTTPClient: &http.Client{Transport: network{w}},
		}
	}
	spend := func(_ context.Context, d time.Duration) error { w.Spend(d); return nil }
	w.submit.start = func() *submit.Handler {
		var until time.Time
		if w.SignFor > 0 {
			until = w.now.Add(w.SignFor)
		}
		runComfy := api()
		return &submit.Handler{
			SignUntil: until, Exit: func() { panic(Crash{}) }, Queue: submitQueue{w}, Jitter: random,
			Ledger: records, API: runComfy, States: stepFunctions{w}, MaxReceives: w.dropQueue.MaxReceives, Now: w.Now, Sleep: spend, Presign: presign,
			Prices: &budget.Prices{API: runComfy, Now: w.Now}, Books: &budget.Books{Bucket: files}, Caps: w.Caps,
			Resolver: &drop.Resolver{Files: files, Catalog: models, Settings: w.Settings},
		}
	}
	w.poll.start = func() *poll.Handler {
		return &poll.Handler{Ledger: &silent, API: api(), QueueLimit: w.QueueLimit, RunLimit: w.RunLimit, Now: w.Now, Sleep: w.sleep, Jitter: random}
	}
	w.archive.start = func() *archive.Handler {
		return &archive.Handler{
			Ledger: records, API: api(), Copier: copier{w}, Catalog: models, MaxOutputs: w.MaxOutputs, Now: w.Now, Sleep: w.sleep,
		}
	}
	w.cancel.start = func() *cancel.Handler {
		return &cancel.Handler{
			Ledger: records, API: api(), States: stepFunctions{w}, Now: w.Now,
			Books: &budget.Books{Bucket: files}, MinBalance: w.MinBalance,
		}
	}
}

// SubmitBatch returns the size of submit's batches in template.yaml.
func (w *World) SubmitBatch() int {
	return w.template.functions["submit"].Queues["Queue"].BatchSize
}

// Now returns the virtual time.
func (w *World) Now() time.Time { return w.now }

// Started returns how many processes of submit were started.
func (w *World) Started() int { return w.submit.started }

// Drop writes a file to the bucket, as a person does, and puts its event into
// submit's queue.
func (w *World) Drop(key string, body []byte) { w.DropLarge(key, body, w.now) }

// DropLarge is like Drop, but the file's multipart upload began at the given time. S3
// returns that time as LastModified.
func (w *World) DropLarge(key string, body []byte, began time.Time) {
	w.PutLarge(key, body, began)
	w.Notify("Object Created", key, 0)
}

// Put writes a file to the bucket without an event.
func (w *World) Put(key string, body []byte) { w.PutLarge(key, body, w.now) }

// PutLarge is like Put, but the file's multipart upload began at the given time.
func (w *World) PutLarge(key string, body []byte, began time.Time) {
	w.Bucket.SetMultipart(key, body, began)
	w.versions[version(key, etagOf(body))] = body
}

// Delete removes a file, as a person does, and sends the events of the deletion to submit and
// cancel.
func (w *World) Delete(key string) {
	w.Bucket.Remove(key)
	w.Notify("Object Deleted", key, 0)
	w.NotifyCancel(key, "DeleteObject", 0)
}

// Notify puts an event about a key into submit's queue. delay is added to the queue's own delay.
func (w *World) Notify(kind, key string, delay time.Duration) {
	w.send(&w.dropQueue, objectEvent(kind, key, "", w.now), w.dropQueue.Delay+delay)
}

// send puts the first message of a chain into a queue, with a delay.
func (w *World) send(q *queue, body string, delay time.Duration) { w.sendInChain(q, body, delay, 1) }

// sendInChain is like send, but chain is the number of the message in its chain.
func (w *World) sendInChain(q *queue, body string, delay time.Duration, chain int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	q.messages = append(q.messages, &message{body: body, sent: w.now, visibleAt: w.now.Add(delay), chain: chain})
}

// NotifyCancel puts the event that an object was deleted into cancel's queue. reason is S3's
// reason for the event, such as DeleteObject. The message becomes visible after one second plus late.
func (w *World) NotifyCancel(key, reason string, late time.Duration) {
	w.send(&w.deletionQueue, objectEvent("Object Deleted", key, reason, w.now), time.Second+late)
}

// submitQueue is submit's client of its own queue.
type submitQueue struct{ *World }

// Send refuses a message of more than 256 KiB, as some emulators of SQS do.
func (w submitQueue) Send(ctx context.Context, body string, newChain bool) error {
	chain := w.chain + 1
	if newChain {
		chain = 1
	}
	if len(body) > 256<<10 {
		return fmt.Errorf("a message of %d bytes, want at most 256 KiB", len(body))
	}
	_, err := call(ctx, w.World, "sqs", "SendMessage", "", func() (struct{}, error) {
		w.sendInChain(&w.dropQueue, body, time.Second, chain)
		return struct{}{}, nil
	})
	return err
}

// Postpone rounds the pause up to whole seconds, because SQS accepts only those.
func (w submitQueue) Postpone(ctx context.Context, receipt string, pause time.Duration) error {
	_, err := call(ctx, w.World, "sqs", "ChangeMessageVisibility", "", func() (struct{}, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		i := slices.IndexFunc(w.dropQueue.messages, func(m *message) bool { return m.receipt == receipt })
		if i < 0 {
			return struct{}{}, errors.New("no message with this receipt")
		}
		w.dropQueue.messages[i].visibleAt = w.now.Add((pause + time.Second - 1).Truncate(time.Second))
		return struct{}{}, nil
	})
	return err
}

// RedriveDeadLetters puts the dead letters back into their queues.
func (w *World) RedriveDeadLetters() {
	for _, q := range []*queue{&w.dropQueue, &w.deletionQueue} {
		for _, body := range *q.dead {
			w.send(q, body, 0)
		}
		*q.dead = nil
	}
}

func objectEvent(kind, key, reason string, at time.Time) string {
	return encode(local.Object(at, kind, bucketName, key, reason))
}

func encode(event local.Event) string { return string(bucket.JSON(event, "")) }

// Status returns the posted status of a name.
func (w *World) Status(name string) ledger.Status {
	posted, err := w.ledger.Posted(context.Background(), ledger.StatusKey(name))
	if err != nil {
		panic(err) // without the hooks, reading cannot fail
	}
	return posted.Status
}

// Record returns the record of a take, or false if there is no readable record.
func (w *World) Record(name, take string) (ledger.Record, bool) {
	rec, err := w.ledger.Get(context.Background(), name, take)
	return rec, err == nil
}

// Takes returns the records of a name, oldest first.
func (w *World) Takes(name string) []ledger.Record {
	recs, err := w.ledger.Takes(context.Background(), name)
	if err != nil {
		panic(err) // a record is unreadable: without the hooks, nothing else can fail
	}
	return recs
}

// CancelElsewhere cancels a job as a person does on RunComfy's page.
func (w *World) CancelElsewhere(requestID string) error {
	page := &runcomfy.Client{Token: runcomfy.StaticToken(w.RunComfy.Token), HTTPClient: &http.Client{Transport: w.RunComfy.Transport()}}
	_, err := page.Cancel(context.Background(), requestID)
	return err
}

// PresentETag returns the ETag of the present file at a key, or "" if there is no file.
func (w *World) PresentETag(key string) string {
	file, _ := w.ledger.Bucket.Head(context.Background(), key) // the file is empty after an error
	return file.ETag
}

// Version returns the bytes of one version of a dropped file. It returns nil if
// there never was such a version.
func (w *World) Version(key, etag string) []byte { return w.versions[version(key, etag)] }
