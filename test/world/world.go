// Package world is a whole lipdrop in memory on a virtual clock: the four
// handlers, the shipped state machine, a bucket, a queue and the fake RunComfy.
// Nothing in it waits, so that a day passes in a moment, and everything that a
// function calls can be made to fail, or be the last thing that it does.
package world

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	archive "github.com/lipdrop/lipdrop/functions/archive/handler"
	cancel "github.com/lipdrop/lipdrop/functions/cancel/handler"
	poll "github.com/lipdrop/lipdrop/functions/poll/handler"
	submit "github.com/lipdrop/lipdrop/functions/submit/handler"
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

	// Signature stands in every presigned URL, to be looked for where no URL
	// may be.
	Signature = "X-Amz-Signature=canary"
)

// The queue as template.yaml has it.
const (
	settle     = 10 * time.Second
	visibility = 12 * time.Minute
	receives   = 120
)

// World is one deployment. Its exported fields may be changed between steps.
type World struct {
	Bucket   *s3test.Bucket
	RunComfy *runcomfytest.Server
	Ledger   *ledger.Store

	// Secret is the text of the token's secret.
	Secret string

	// Call, where set, is asked before each call that a function makes, named
	// service and operation: an error fails it without effect. It may panic
	// with Crash, which ends the function there.
	Call func(call string) error
	// Answered is asked after each call that took effect: an error takes the
	// answer's place.
	Answered func(call string) error

	// LoseStatusEvents drops the events of executions that ended.
	LoseStatusEvents bool

	Dead []string // bodies of messages that were delivered too often

	submit  *submit.Handler
	poll    *poll.Handler
	archive *archive.Handler
	cancel  *cancel.Handler

	now        time.Time
	machine    *states.Machine
	executions map[string]*execution
	running    []*execution
	messages   []*message
	events     []*event
	nextSweep  time.Time
	noHooks    bool
}

// Crash is the panic of a function that dies between two calls.
type Crash struct{}

// message is one in the queue.
type message struct {
	body      string
	visibleAt time.Time
	receives  int
}

// event is an asynchronous call of cancel, tried three times as Lambda does.
type event struct {
	payload []byte
	at      time.Time
	tries   int
}

// New returns an empty world whose jitter is drawn from random.
func New(random func() float64) (*World, error) {
	models, err := catalog.Default()
	if err != nil {
		return nil, err
	}
	_, here, _, _ := runtime.Caller(0)
	text, err := os.ReadFile(filepath.Join(filepath.Dir(here), "../../statemachine.asl.json"))
	if err != nil {
		return nil, err
	}
	machine, err := states.Parse(text, map[string]string{"PollFunctionArn": pollARN, "ArchiveFunctionArn": archiveARN})
	if err != nil {
		return nil, err
	}
	machine.Random = random
	w := &World{
		Secret: "canary-token", now: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC),
		machine: machine, executions: map[string]*execution{},
	}
	w.nextSweep = w.now.Add(time.Hour)
	w.Bucket = &s3test.Bucket{Now: w.Now, Before: w.before("s3"), After: w.after("s3")}
	w.RunComfy = &runcomfytest.Server{Now: w.Now, Token: w.Secret, Fetch: w.fetch, CostUSD: 0.25, OutputURL: "https://files.runcomfy.net"}
	w.Ledger = &ledger.Store{S3: w.Bucket, Bucket: bucketName, MachineARN: machineARN, Now: w.Now}
	files := &drop.Bucket{S3: w.Bucket, Name: bucketName}
	api := func() (*runcomfy.Client, *config.Token) {
		token := &config.Token{Client: (*secrets)(w), ARN: "arn:aws:secretsmanager:us-east-1:000000000000:secret:t", Now: w.Now}
		return &runcomfy.Client{Token: token.Get, HTTPClient: &http.Client{Transport: (*apiTransport)(w)}}, token
	}
	w.submit = &submit.Handler{
		Bucket: bucketName, MachineARN: machineARN, Ledger: w.Ledger, States: (*stepFunctions)(w), Now: w.Now,
		Resolver: &drop.Resolver{
			Files: files, Catalog: models, DefaultVideoModel: "sync/sync/lipsync/v2/pro", DefaultImageModel: "community/live-avatar",
		},
		Presign: func(_ context.Context, f drop.File) (string, error) {
			return "https://s3.example.com/" + url.PathEscape(f.Key) + "?" + Signature, nil
		},
	}
	w.submit.API, w.submit.Token = api()
	w.poll = &poll.Handler{Ledger: w.Ledger, Models: models, QueueLimit: 6 * time.Hour, RunLimit: 24 * time.Hour, Now: w.Now, Jitter: random}
	w.poll.API, w.poll.Token = api()
	w.archive = &archive.Handler{
		Bucket: bucketName, Ledger: w.Ledger, Files: files, S3: w.Bucket, Copier: (*copier)(w), Now: w.Now,
		Sleep: func(_ context.Context, d time.Duration) error { w.now = w.now.Add(d); return nil },
	}
	w.archive.API, w.archive.Token = api()
	w.cancel = &cancel.Handler{Bucket: bucketName, MachineARN: machineARN, Ledger: w.Ledger, Files: files, States: (*stepFunctions)(w), Now: w.Now}
	w.cancel.API, w.cancel.Token = api()
	return w, nil
}

// Now returns the virtual time.
func (w *World) Now() time.Time { return w.now }

// Drop puts a file into the bucket, as a person does, and its event into the
// queue.
func (w *World) Drop(key string, body []byte) {
	w.Bucket.Set(key, body)
	w.Notify("Object Created", key, 0)
}

// Delete removes a file, as a person does.
func (w *World) Delete(key string) {
	w.Bucket.Remove(key)
	w.Notify("Object Deleted", key, 0)
	w.events = append(w.events, &event{payload: objectEvent("Object Deleted", key), at: w.now.Add(time.Second)})
}

// Notify puts an event about a key into the queue, late by a time of one's own
// choice.
func (w *World) Notify(kind, key string, late time.Duration) {
	w.messages = append(w.messages, &message{body: string(objectEvent(kind, key)), visibleAt: w.now.Add(settle + late)})
}

// RedriveDeadLetters puts every dead letter back into the queue.
func (w *World) RedriveDeadLetters() {
	for _, body := range w.Dead {
		w.messages = append(w.messages, &message{body: body, visibleAt: w.now})
	}
	w.Dead = nil
}

func objectEvent(kind, key string) []byte {
	body, err := json.Marshal(map[string]any{
		"source": "aws.s3", "detail-type": kind,
		"detail": map[string]any{"bucket": map[string]any{"name": bucketName}, "object": map[string]any{"key": key}},
	})
	if err != nil {
		panic(err) // a map of texts always encodes
	}
	return body
}

// Status returns the posted status of a name.
func (w *World) Status(name string) ledger.Status {
	posted, err := w.quiet().Posted(context.Background(), ledger.StatusKey(name))
	if err != nil {
		panic(err) // a world's own look cannot fail
	}
	return posted.Status
}

// Record returns the record of a take, or false.
func (w *World) Record(name, take string) (ledger.Record, bool) {
	rec, err := w.quiet().Get(context.Background(), name, take)
	return rec, err == nil
}

// quiet returns the ledger without the hooks.
func (w *World) quiet() *ledger.Store {
	return &ledger.Store{S3: unhooked{w}, Bucket: bucketName, MachineARN: machineARN, Now: w.Now}
}

// fetch opens an input for RunComfy.
func (w *World) fetch(_ context.Context, address string) (io.ReadCloser, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	body, ok := w.Bucket.Object(strings.TrimPrefix(u.Path, "/"))
	if !ok {
		return nil, fmt.Errorf("GET %s: 404", u.Path)
	}
	return io.NopCloser(strings.NewReader(string(body))), nil
}

// call is asked before a call of a function, and answered after it.
func (w *World) call(name string) error {
	if w.Call == nil || w.noHooks {
		return nil
	}
	return w.Call(name)
}

func (w *World) answered(name string) error {
	if w.Answered == nil || w.noHooks {
		return nil
	}
	return w.Answered(name)
}

func (w *World) before(service string) func(op, key string) error {
	return func(op, _ string) error { return w.call(service + " " + op) }
}

func (w *World) after(service string) func(op, key string) error {
	return func(op, _ string) error { return w.answered(service + " " + op) }
}

// secrets is the world as Secrets Manager.
type secrets World

func (s *secrets) GetSecretValue(context.Context, *secretsmanager.GetSecretValueInput, ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error) {
	w := (*World)(s)
	if err := w.call("secretsmanager GetSecretValue"); err != nil {
		return nil, err
	}
	value := w.Secret
	return &secretsmanager.GetSecretValueOutput{SecretString: &value}, nil
}

// apiTransport is the world as the network to RunComfy.
type apiTransport World

func (t *apiTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	w := (*World)(t)
	if err := w.call("runcomfy " + req.Method); err != nil {
		return nil, err
	}
	answer, err := w.RunComfy.Transport().RoundTrip(req)
	if err == nil {
		err = w.answered("runcomfy " + req.Method)
	}
	if err != nil {
		return nil, err
	}
	return answer, nil
}
