package local

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local/access"
	"github.com/lipdrop/lipdrop/internal/local/build"
	"github.com/lipdrop/lipdrop/internal/local/certs"
	"github.com/lipdrop/lipdrop/internal/local/events"
	"github.com/lipdrop/lipdrop/internal/local/gateway"
	"github.com/lipdrop/lipdrop/internal/local/lambda"
	"github.com/lipdrop/lipdrop/internal/local/queue"
	"github.com/lipdrop/lipdrop/internal/local/states"
	"github.com/lipdrop/lipdrop/internal/private"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
	"github.com/lipdrop/lipdrop/internal/template"
)

// callsGrace is how long calls of submit and cancel may take to end when a stack
// is closed. A submit that is killed between its paid request and its record
// leaves a job of unknown outcome.
const callsGrace = 10 * time.Second

// Stack is a running local stack. Its methods are safe for concurrent use.
type Stack struct {
	// TLS and Plain are the https and the http URL of all services. Plain is for clients
	// that cannot be made to trust the certificate.
	TLS, Plain string

	options Options
	keys    Keys
	hosts   access.Hosts // hosts that requests may be addressed to
	cert    certs.Certificate
	client  *http.Client // trusts only cert

	template      []byte                       // template.yaml
	functions     map[string]template.Function // by name
	roles         map[string]template.Role     // by name
	gateway       *gateway.Gateway
	webhook       *events.Webhook
	dropQueue     *queue.Queue
	deletionQueue *queue.Queue
	cancelQueue   *queue.Queue
	lambda        invoker
	states        *states.Server
	fake          *runcomfytest.Server

	intakeCtx  context.Context // its end stops the schedule, the delivery of messages, and the notices to Options.Webhook
	stopIntake context.CancelFunc
	consumers  sync.WaitGroup // the goroutines of the schedule and of the queues
	closers    []func()
	closing    sync.Once

	failed context.Context // done when the stack has failed, with the reason as its cause
	fail   context.CancelCauseFunc

	caughtUp      atomic.Bool // every event from before the start is in the queues
	lastEventLock sync.Mutex  // held while the file last-event is written
}

// invoker is a *lambda.Host or *lambda.Remote. It calls the functions by name or ARN. A failure
// of the function is a *lambda.Error.
type invoker interface {
	Invoke(ctx context.Context, name string, payload []byte) ([]byte, error)
	Close()
}

// Start starts a stack and returns when the stack accepts drops. Start builds the programs;
// the first time, this takes a minute or two. Start returns a *PortError if a port is in use.
func Start(ctx context.Context, o Options) (*Stack, error) {
	s := &Stack{options: o.withDefaults()}
	s.failed, s.fail = context.WithCancelCause(context.Background())
	s.intakeCtx, s.stopIntake = context.WithCancel(context.Background())
	if err := s.start(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// path returns a path in the state folder.
func (s *Stack) path(parts ...string) string {
	return filepath.Join(append([]string{s.options.Dir}, parts...)...)
}

// onClose adds a function for Close to call. Close calls the last added function first.
func (s *Stack) onClose(do func()) { s.closers = append(s.closers, do) }

func (s *Stack) start(ctx context.Context) error {
	source, err := build.Find(".", s.options.Say)
	if err != nil {
		return err
	}
	if err := s.takeFolder(); err != nil {
		return err
	}
	listeners, err := s.listen()
	if err != nil {
		return err
	}
	s.client = s.newClient()
	if err := s.readCheckout(source.Root); err != nil {
		return err
	}
	program, err := s.build(ctx, source)
	if err != nil {
		return err
	}
	if err := s.openQueues(); err != nil {
		return err
	}
	since, restarted, err := s.lastEvent()
	if err != nil {
		return err
	}
	s.onClose(func() { // after the S3 server has ended, so that no event is on the way
		if err := s.saveLastEvent(); err != nil {
			slog.Error("time of the last event not saved", "err", err)
		}
	})
	if err := s.startGateway(ctx, program); err != nil {
		return err
	}
	if err := s.serve(listeners); err != nil {
		return err
	}
	if err := gateway.EnsureBucket(ctx, s.S3(), Bucket); err != nil {
		return err
	}
	if err := s.setPolicy(ctx); err != nil {
		return err
	}
	if err := s.startFunctions(); err != nil {
		return err
	}
	// The executions continue after ctx has ended, until Close.
	if err := s.states.Resume(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	s.onClose(s.states.Close)
	if err := s.catchUp(ctx, since); err != nil {
		return err
	}
	s.startConsumers(restarted)
	return nil
}

func (s *Stack) listen() ([]net.Listener, error) {
	secure, plain, err := openPorts(s.options.Ports, s.options.Dir)
	if err != nil {
		return nil, err
	}
	s.onClose(func() { _, _ = secure.Close(), plain.Close() })
	s.TLS, s.Plain = "https://"+secure.Addr().String(), "http://"+plain.Addr().String()
	if s.cert, err = certs.Ensure(s.path("certs"), time.Now()); err != nil {
		return nil, err
	}
	s.hosts = access.Loopback()
	all := []net.Listener{s.cert.Listener(secure), plain}
	if s.options.Containers {
		s.hosts = access.Loopback(ContainerHost)
		if ip, network, ok := bridge(); ok {
			inner, err := listen(ip.String(), port(plain))
			if err != nil {
				return nil, err
			}
			s.onClose(func() { _ = inner.Close() })
			all = append(all, containersOnly{inner, network})
		}
	}
	return all, nil
}

// dropFolder is the folder in the state folder where a person puts files to drop.
// The files may be symbolic links.
const dropFolder = "drop"

// takeFolder takes the lock of the state folder and reads its keys. It makes the folder and the keys
// if they are missing.
func (s *Stack) takeFolder() error {
	dir, err := filepath.Abs(s.options.Dir)
	if err != nil {
		return err
	}
	s.options.Dir = dir
	if err := private.Dir(dir); err != nil {
		return fmt.Errorf("make the state folder: %w", err)
	}
	if err := private.CheckNoLinks(dir, s.path(dropFolder)); err != nil {
		return err
	}
	lock := flock.New(s.path("lock"), flock.SetPermissions(0o600))
	held, err := lock.TryLock()
	if err != nil {
		return err
	}
	if !held {
		return fmt.Errorf("another local stack uses the folder %s: end that stack, or choose another folder", dir)
	}
	s.onClose(func() { _ = lock.Unlock() })
	s.keys, err = ensureKeys(dir)
	return err
}

// readCheckout reads the template and the state machine of a checkout.
func (s *Stack) readCheckout(root string) error {
	s.options.Say("the local stack runs the checkout " + root)
	definition, err := os.ReadFile(filepath.Join(root, "statemachine.asl.json"))
	if err != nil {
		return err
	}
	machine, err := states.Parse(definition, map[string]string{
		"Partition": "aws", "PollFunctionArn": functionARN(poll), "ArchiveFunctionArn": functionARN(archive),
	})
	if err != nil {
		return fmt.Errorf("statemachine.asl.json: %w", err)
	}
	s.states = &states.Server{
		Machine: machine, ARN: MachineARN, Dir: s.path("executions"),
		Invoke: s.invokeTask, OnEnd: s.onEnd,
	}
	return s.readTemplate(root)
}

// build builds the S3 server from a checkout and returns its path. Without a LambdaEndpoint, it also
// builds the functions.
func (s *Stack) build(ctx context.Context, source build.Source) (program string, err error) {
	// The two builds run one after the other because they share packages.
	if s.options.LambdaEndpoint == "" {
		if err := source.Functions(ctx, s.path("functions"), submit, poll, archive, cancel); err != nil {
			return "", err
		}
	}
	return source.Gateway(ctx)
}

func (s *Stack) openQueues() error {
	queues, err := template.Queues(s.template, TemplateValues("", "")) // no property that Queues reads has a URL
	if err != nil {
		return fmt.Errorf("template.yaml: %w", err)
	}
	for _, q := range []struct {
		opened   **queue.Queue
		folder   string
		delay    time.Duration
		receives int
	}{
		{&s.dropQueue, "queue", s.options.Settle, queues["Queue"].MaxReceives},
		{&s.deletionQueue, "deletion-queue", 0, queues["DeletionQueue"].MaxReceives},
		// On AWS, the cancel queue is Lambda's own queue for asynchronous calls.
		{&s.cancelQueue, "cancel-queue", 0, s.functions[cancel].Attempts},
	} {
		*q.opened, err = queue.Open(queue.Config{
			Dir: s.path(q.folder), Delay: q.delay, Visibility: s.options.Visibility, MaxReceives: q.receives, Now: time.Now,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Stack) startGateway(ctx context.Context, program string) error {
	s.webhook = &events.Webhook{Bucket: Bucket, Prefix: ledger.InboxPrefix, Forward: s.Forward}
	hook, err := listen(loopback, 0)
	if err != nil {
		return err
	}
	secret := rand.Text()
	s.serveOn(&http.Server{Handler: access.Loopback().Handler(access.Below(secret, s.webhook))}, hook)
	log, err := s.openLog("versitygw")
	if err != nil {
		return err
	}
	s.gateway, err = gateway.Start(ctx, gateway.Config{
		Program: program, Dir: s.path("s3"), Access: AccessKey, Secret: s.keys.SecretKey, Region: Region,
		Webhook: "http://" + hook.Addr().String() + "/" + secret + "/", Log: log,
		Users: s.keys.Functions, Denied: s.deny,
	})
	if err != nil {
		return err
	}
	s.onClose(s.gateway.Close)
	go func() {
		<-s.gateway.Done()
		s.fail(s.gateway.Err())
	}()
	return nil
}

func (s *Stack) startFunctions() error {
	if s.options.LambdaEndpoint != "" {
		s.lambda = lambda.NewRemote(s.options.LambdaEndpoint, template.LogicalIDs)
	} else {
		functions, err := s.lambdaFunctions()
		if err != nil {
			return err
		}
		s.lambda = lambda.New(Region, functions...)
	}
	s.onClose(s.lambda.Close)
	return nil
}

// openLog opens the log of a program until the stack is closed.
func (s *Stack) openLog(name string) (*os.File, error) {
	if err := os.MkdirAll(s.path("logs"), 0o700); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(s.path("logs", name+".log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		s.onClose(func() { _ = file.Close() })
	}
	return file, err
}

// startConsumers starts the schedule, and the delivery of messages from the queues to the
// functions submit and cancel.
func (s *Stack) startConsumers(restarted bool) {
	consume := func(q *queue.Queue, m template.Mapping, deliver func(context.Context, []queue.Message) ([]string, error)) {
		c := queue.Consumer{BatchSize: m.BatchSize, Concurrency: m.Concurrency, Deliver: deliver}
		s.consumers.Go(func() { q.Consume(s.intakeCtx, c) })
	}
	consume(s.dropQueue, s.functions[submit].Queues[queueARN], queue.DeliverBatch(queueARN, s.invokeFunction(submit)))
	consume(s.deletionQueue, s.functions[cancel].Queues[deletionQueueARN], queue.DeliverBatch(deletionQueueARN, s.invokeFunction(cancel)))
	consume(s.cancelQueue, template.Mapping{BatchSize: 1, Concurrency: cancelConcurrency}, queue.DeliverEach(s.invokeFunction(cancel)))
	s.consumers.Go(func() { s.schedule(restarted) })
}

// invokeFunction returns a queue.Invoke that calls a function. The queue.Invoke logs an error
// only if the call itself failed, because a function logs its own failures.
func (s *Stack) invokeFunction(name string) queue.Invoke {
	return func(ctx context.Context, payload []byte) ([]byte, error) {
		result, err := s.lambda.Invoke(ctx, name, payload)
		if _, failed := errors.AsType[*lambda.Error](err); err != nil && !failed && !errors.Is(err, lambda.ErrClosed) {
			slog.Error("call of a function failed", "function", name, "err", err)
		}
		return result, err
	}
}

// invokeTask calls a function for the state machine.
func (s *Stack) invokeTask(ctx context.Context, arn string, payload []byte) ([]byte, error) {
	result, err := s.lambda.Invoke(ctx, arn, payload)
	if failure, ok := errors.AsType[*lambda.Error](err); ok {
		err = &states.TaskError{Name: failure.Type, Cause: string(failure.Payload())}
	}
	return result, err
}

// Failed returns a channel that is closed when the S3 server has ended, when an event of
// the bucket cannot be kept, or when a function has sent a request that its role in
// template.yaml does not allow. Then Err returns the reason, and the caller should call Close.
func (s *Stack) Failed() <-chan struct{} { return s.failed.Done() }

// Err returns why the stack failed, after the channel of Failed is closed. The error is a
// *access.Denial if a request of a function was denied.
func (s *Stack) Err() error { return context.Cause(s.failed) }

// Close ends every part and every child process. Jobs under way continue when another
// stack is started on the same folder.
func (s *Stack) Close() {
	s.closing.Do(func() {
		s.stopIntake()
		ended := make(chan struct{})
		go func() {
			s.consumers.Wait()
			close(ended)
		}()
		select {
		case <-ended:
		case <-time.After(callsGrace):
		}
		for i := range s.closers {
			s.closers[len(s.closers)-1-i]()
		}
		<-ended // s.lambda.Close has ended the remaining calls
	})
}
