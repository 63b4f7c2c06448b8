package local

import (
	"io"
	"time"
)

// Options say how a stack behaves. The zero value is a stack that looks at a
// drop at once, in the folder .lipdrop, whose jobs end at once.
type Options struct {
	// Dir holds all state. Defaults to .lipdrop.
	Dir string

	// Settle is how long a drop lies before submit looks at it.
	Settle time.Duration

	// Visibility is the pause before a message is delivered again whose
	// delivery failed. Defaults to 30 seconds.
	Visibility time.Duration

	// QueueTime and RunTime are how long the fake RunComfy lets a job queue and
	// run. Change and ask more by Fake.
	QueueTime, RunTime time.Duration

	// Token is the API token in the secret, which the fake accepts. Defaults to a
	// random one that Dir keeps (see Keys). See SetSecret.
	Token string

	// Ports are the ports to serve at.
	Ports Ports

	// Variables replace environment variables of the functions, such as
	// QUEUE_HOURS.
	Variables map[string]string

	// Containers opens the plain ports to Docker's containers on this machine,
	// which reach them at ContainerHost. Without it the stack listens on loopback
	// only.
	Containers bool

	// LambdaEndpoint is the address of a Lambda Invoke API, such as that of
	// `sam local start-lambda`, which runs the functions under the logical ids
	// of template.yaml, with the variables of WriteEnv. Defaults to the stack's
	// own Lambda.
	LambdaEndpoint string

	// Say is told, in a sentence, what takes long. Defaults to silence.
	Say func(string)

	// Log gets the functions' output, line by line, after the function's name.
	// It is in Dir too. Defaults to nothing.
	Log io.Writer
}

const (
	defaultDir        = ".lipdrop"
	defaultVisibility = 30 * time.Second
)

func (o Options) withDefaults() Options {
	if o.Dir == "" {
		o.Dir = defaultDir
	}
	if o.Visibility == 0 {
		o.Visibility = defaultVisibility
	}
	if o.Say == nil {
		o.Say = func(string) {}
	}
	return o
}
