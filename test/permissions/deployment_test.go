package permissions

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	archive "github.com/lipdrop/lipdrop/functions/archive/handler"
	cancel "github.com/lipdrop/lipdrop/functions/cancel/handler"
	poll "github.com/lipdrop/lipdrop/functions/poll/handler"
	submit "github.com/lipdrop/lipdrop/functions/submit/handler"
	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/budget"
	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local/access"
	"github.com/lipdrop/lipdrop/internal/local/awsjson"
	"github.com/lipdrop/lipdrop/internal/local/events"
	"github.com/lipdrop/lipdrop/internal/local/queue"
	"github.com/lipdrop/lipdrop/internal/local/states"
	"github.com/lipdrop/lipdrop/internal/notice"
	"github.com/lipdrop/lipdrop/internal/origins"
	"github.com/lipdrop/lipdrop/internal/runcomfy"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
	"github.com/lipdrop/lipdrop/internal/template"
	"github.com/lipdrop/lipdrop/internal/token"
	"github.com/lipdrop/lipdrop/internal/transfer"
)

const apiToken = "token"

// queueTime and runTime are how long a job queues and runs at RunComfy.
const queueTime, runTime = time.Minute, time.Minute

// deployment holds the four functions, their own bucket and the services that they
// call.
type deployment struct {
	ctx    context.Context
	bucket string

	submit  *submit.Handler
	poll    *poll.Handler
	archive *archive.Handler
	cancel  *cancel.Handler

	s3          *s3.Client   // the client of a person
	states      *sfn.Client  // the client of a person
	queue       *queue.Queue // submit's own queue
	postponeErr error        // the error of submit's last call to postpone a message
	fake        *runcomfytest.Server
	noticed     sync.Map     // the detail types of the notices that were sent
	later       atomic.Int64 // how far RunComfy's clock is ahead, in nanoseconds

	// occupant, if set, is written to the key of each output before archive completes the
	// output's multipart upload.
	occupant []byte
}

// postponing stores the error of Postpone, which submit only logs.
type postponing struct {
	submit.Queue
	err *error
}

func (p *postponing) Postpone(ctx context.Context, receipt string, pause time.Duration) error {
	*p.err = p.Queue.Postpone(ctx, receipt, pause)
	return *p.err
}

// deploy deploys the functions for a scenario, with every permission except the given one,
// if any.
func (l *lab) deploy(t *testing.T, sc scenario, without permission) *deployment {
	t.Helper()
	models, err := catalog.Default()
	if err != nil {
		t.Fatal(err)
	}
	d := &deployment{ctx: t.Context(), s3: l.s3As(person)}
	var roles map[string]template.Role
	d.bucket, roles = l.newBucket(t, !sc.unversioned, without)

	d.fake = &runcomfytest.Server{
		Token: apiToken, Queue: queueTime, Run: runTime, Fault: sc.fault,
		Now: func() time.Time { return time.Now().Add(time.Duration(d.later.Load())) },
	}
	comfy := httptest.NewServer(d.fake)
	t.Cleanup(comfy.Close)
	list, err := origins.Parse([]string{comfy.URL})
	if err != nil {
		t.Fatal(err)
	}

	// Each execution waits in its first call of a function. The scenarios call poll and archive
	// themselves.
	machine := &states.Server{
		Machine: l.machine, ARN: machineARN, Dir: t.TempDir(),
		Invoke: func(ctx context.Context, _ string, _ []byte) ([]byte, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
	}
	if err := machine.Resume(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(machine.Close)
	d.queue, err = queue.Open(queue.Config{Dir: t.TempDir(), Visibility: time.Minute, MaxReceives: 2, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	bus := &events.Bus{Account: account, Region: region, Now: time.Now, Receive: func(n events.Notice) {
		d.noticed.Store(n.DetailType, true)
	}}
	operations := awsjson.Join(machine.Operations(), awsjson.Secret(apiToken), d.queue.Operations(strings.TrimPrefix(queueURL, "http://127.0.0.1")), bus.Operations())
	services := httptest.NewServer(operations.Handler(access.Guard(roles, l.deny)))
	t.Cleanup(services.Close)
	d.states = sfn.NewFromConfig(configAs(person, services.URL))

	type clients struct {
		s3     *s3.Client
		ledger *ledger.Store
		api    *runcomfy.Client
		states *sfn.Client
	}
	as := func(function string) clients {
		cfg := configAs(function, services.URL)
		c := clients{s3: l.s3As(function), states: sfn.NewFromConfig(cfg)}
		c.ledger = &ledger.Store{Bucket: &bucket.Bucket{S3: c.s3, Name: d.bucket}, MachineARN: machineARN, Now: time.Now}
		if function != "poll" { // poll sends no notices
			c.ledger.Notify = notice.For(cfg, c.ledger).Send
		}
		apiTokens := &token.Source{Client: secretsmanager.NewFromConfig(cfg), ARN: secretARN, Now: time.Now}
		c.api = &runcomfy.Client{Token: apiTokens, BaseURL: comfy.URL}
		return c
	}
	noSleep := func(context.Context, time.Duration) error { return nil }
	c := as("submit")
	d.submit = &submit.Handler{
		Ledger: c.ledger, API: c.api, States: c.states, Now: time.Now, Sleep: noSleep,
		Presign: bucket.Presigner(c.s3, d.bucket, time.Hour),
		Queue:   &postponing{Queue: submit.SQS{Client: sqs.NewFromConfig(configAs("submit", services.URL)), URL: queueURL}, err: &d.postponeErr},
		Jitter:  func() float64 { return 0 },
		Prices:  &budget.Prices{API: c.api, Now: time.Now}, Books: &budget.Books{Bucket: c.ledger.Bucket}, Caps: budget.Caps{Jobs: 100},
		Resolver: &drop.Resolver{
			Files: c.ledger.Bucket, Catalog: models, Settings: template.DefaultSettings(),
		},
	}
	c = as("poll")
	d.poll = &poll.Handler{
		Ledger: c.ledger, API: c.api, QueueLimit: time.Hour, RunLimit: time.Hour, Now: time.Now,
		Sleep:  func(context.Context, time.Duration) error { return context.Canceled }, // ask once
		Jitter: func() float64 { return 0 },
	}
	c = as("archive")
	d.archive = &archive.Handler{
		MaxOutputs: 100, Catalog: models,
		Ledger: c.ledger, API: c.api, Now: time.Now, Sleep: noSleep,
		Copier: &transfer.Copier{S3: competitor{c.s3, d}, Bucket: d.bucket, Origins: list, MaxBytes: 1 << 30},
	}
	c = as("cancel")
	d.cancel = &cancel.Handler{
		Ledger: c.ledger, API: c.api, States: c.states, Now: time.Now,
		Books: &budget.Books{Bucket: c.ledger.Bucket}, MinBalance: 1,
	}
	return d
}

// competitor is archive's client of S3. If occupant is set, competitor writes it to the key
// of each multipart upload as soon as archive has created the upload, as a person might.
type competitor struct {
	*s3.Client
	d *deployment
}

func (c competitor) CreateMultipartUpload(ctx context.Context, in *s3.CreateMultipartUploadInput, o ...func(*s3.Options)) (*s3.CreateMultipartUploadOutput, error) {
	out, err := c.Client.CreateMultipartUpload(ctx, in, o...)
	if err == nil && c.d.occupant != nil {
		_, err = c.d.s3.PutObject(ctx, &s3.PutObjectInput{Bucket: in.Bucket, Key: in.Key, Body: bytes.NewReader(c.d.occupant)})
	}
	return out, err
}

// failure is the panic that ends a scenario.
type failure struct{ error }

// attempt calls a scenario, or a part of one, and returns the error with which it failed.
func attempt(run func()) (err error) {
	defer func() {
		switch ended := recover().(type) {
		case nil:
		case failure:
			err = ended.error
		default:
			panic(ended)
		}
	}()
	run()
	return nil
}

// fail makes the attempt fail.
func fail(format string, args ...any) { panic(failure{fmt.Errorf(format, args...)}) }

// check makes the attempt fail if there is an error.
func check(err error) {
	if err != nil {
		panic(failure{err})
	}
}

// must returns a value, or makes the attempt fail if there is an error.
func must[T any](value T, err error) T {
	check(err)
	return value
}

// put writes an object as a person does.
func (d *deployment) put(key string, body []byte) {
	must(d.s3.PutObject(d.ctx, &s3.PutObjectInput{Bucket: &d.bucket, Key: &key, Body: bytes.NewReader(body)}))
}

// remove deletes an object as a person does.
func (d *deployment) remove(key string) {
	must(d.s3.DeleteObject(d.ctx, &s3.DeleteObjectInput{Bucket: &d.bucket, Key: &key}))
}

// object returns the content of an object, read by a person, or nil if there is no object.
func (d *deployment) object(key string) []byte {
	out, err := d.s3.GetObject(d.ctx, &s3.GetObjectInput{Bucket: &d.bucket, Key: &key})
	if _, absent := errors.AsType[*types.NoSuchKey](err); absent {
		return nil
	}
	check(err)
	defer out.Body.Close()
	return must(io.ReadAll(out.Body))
}

// record returns the job's record, or the zero Record if the bucket has none or it is released.
func (d *deployment) record() ledger.Record {
	store := &ledger.Store{Bucket: &bucket.Bucket{S3: d.s3, Name: d.bucket}, Now: time.Now}
	takes := must(store.Takes(d.ctx, name))
	if len(takes) == 0 {
		return ledger.Record{}
	}
	return takes[0]
}

// wantReserved fails unless the book of the job's day has the given number of takes.
func (d *deployment) wantReserved(takes int) {
	var book struct{ Takes []budget.Take }
	if body := d.object(budget.Key(budget.Day(d.record().Times.Claimed))); body != nil {
		check(json.Unmarshal(body, &book))
	}
	if len(book.Takes) != takes {
		fail("%d takes have a reservation, want %d", len(book.Takes), takes)
	}
}

// wantStatus fails if the status at a key does not have the given state. It also fails if
// that state needs a notice and no notice was sent.
func (d *deployment) wantStatus(key string, state ledger.State) {
	var st ledger.Status
	if body := d.object(key); body != nil {
		check(json.Unmarshal(body, &st))
	}
	if st.State != state {
		fail("%s is %q (%s), want %s", key, st.State, st.Reason, state)
	}
	if _, sent := d.noticed.Load(notice.DetailType(state)); !sent && slices.Contains(notice.States(), state) {
		fail("%s is %s, but no notice was sent", key, state)
	}
}

// wantRecord fails unless the record and the status of the job have the given state.
func (d *deployment) wantRecord(state ledger.State) {
	if rec := d.record(); rec.State != state {
		fail("the record is %q (%s), want %s", rec.State, rec.Reason, state)
	}
	d.wantStatus(ledger.StatusKey(name), state)
}

// event returns the event that EventBridge sends about a key of the bucket.
func (d *deployment) event(kind, key string) json.RawMessage {
	return fmt.Appendf(nil, `{"detail-type": %q, "detail": {"bucket": {"name": %q}, "object": {"key": %q}}}`, kind, d.bucket, key)
}

// advance moves RunComfy's clock forward.
func (d *deployment) advance(by time.Duration) { d.later.Add(int64(by)) }
