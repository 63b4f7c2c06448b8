package local

import (
	"cmp"
	"time"

	"github.com/lipdrop/lipdrop/internal/local/events"
)

// Options configure a stack. Only Dir is required. By default, a drop is assessed at once,
// and jobs end at once.
type Options struct {
	// Dir holds all state.
	Dir string

	// Settle is the time from a drop to its assessment.
	Settle time.Duration

	// Visibility is the time from the start of a failed delivery of a message to the next
	// delivery, unless submit postpones the message. Defaults to 30 seconds, so that a person
	// need not wait long.
	Visibility time.Duration

	// QueueTime and RunTime are how long the fake RunComfy queues and runs a job.
	// Stack.Fake has more settings.
	QueueTime, RunTime time.Duration

	Ports Ports

	// Variables replace environment variables of the functions, such as
	// QUEUE_HOURS.
	Variables map[string]string

	// Containers opens Ports.Plain to the Docker containers of this machine, which reach the
	// port at ContainerHost. Otherwise only loopback is served.
	Containers bool

	// LambdaEndpoint is the URL of a Lambda Invoke API, for example of
	// `sam local start-lambda`. The endpoint must have the functions under their logical ids in
	// template.yaml, with the variables that WriteEnv writes. lambda.CheckEndpoint must have
	// accepted the URL. Defaults to the stack's own Lambda.
	LambdaEndpoint string

	// Notice, if set, is called with each notice of the functions.
	Notice func(events.Notice)

	// Webhook is a URL that receives each notice as a POST, with Keys.Webhook in a header.
	// CheckWebhook must have accepted the URL.
	Webhook string

	// Say, if set, is called with a sentence, mostly before something that takes long.
	Say func(string)
}

func (o Options) withDefaults() Options {
	o.Visibility = cmp.Or(o.Visibility, 30*time.Second)
	if o.Say == nil {
		o.Say = func(string) {}
	}
	return o
}
