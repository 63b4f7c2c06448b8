package local

import (
	"maps"
	"runtime"
	"strings"

	"github.com/lipdrop/lipdrop/internal/local/lambda"
	"github.com/lipdrop/lipdrop/internal/local/permissions"
)

// What the stack is called, as the template calls its own.
const (
	Account = "000000000000"
	Region  = "us-east-1"
	Bucket  = "lipdrop"

	// AccessKey is a person's, who may do everything. Its secret key is one of the
	// Keys. Each function has its own: see Stack.Variables.
	AccessKey = "lipdrop"

	// MachineARN is the state machine's.
	MachineARN  = "arn:aws:states:" + Region + ":" + Account + ":stateMachine:" + machineName
	machineName = "lipdrop"

	secretARN        = "arn:aws:secretsmanager:" + Region + ":" + Account + ":secret:runcomfy-token-a1B2c3"
	queueARN         = "arn:aws:sqs:" + Region + ":" + Account + ":lipdrop"
	deletionQueueARN = queueARN + "-deletions"
)

// The functions' names.
const (
	submit  = "submit"
	poll    = "poll"
	archive = "archive"
	cancel  = "cancel"
)

// logicalIDs are what template.yaml, and so the SAM CLI, calls the functions.
var logicalIDs = map[string]string{
	submit: "SubmitFunction", poll: "PollFunction", archive: "ArchiveFunction", cancel: "CancelFunction",
}

// Endpoints are the addresses of what the stack serves.
type Endpoints struct {
	S3       string
	AWS      string // Step Functions and Secrets Manager
	RunComfy string
}

func endpoints(scheme string, s3, aws, runComfy string) Endpoints {
	return Endpoints{scheme + s3, scheme + aws, scheme + runComfy}
}

// at returns the addresses with another host.
func (e Endpoints) at(host string) Endpoints {
	change := func(address string) string { return strings.Replace(address, "127.0.0.1", host, 1) }
	return Endpoints{change(e.S3), change(e.AWS), change(e.RunComfy)}
}

// functions returns the four functions with the timeouts, memory and variables
// that template.yaml gives them.
func (s *Stack) functions() []lambda.Function {
	var all []lambda.Function
	for _, f := range []lambda.Function{
		{Name: submit, Concurrency: submitConcurrency},
		{Name: poll, Concurrency: taskConcurrency},
		{Name: archive, Concurrency: taskConcurrency},
		{Name: cancel, Concurrency: cancelConcurrency},
	} {
		properties := s.properties(f.Name, s.TLS)
		f.Timeout, f.MemoryMB = properties.Timeout, properties.MemoryMB
		f.Program = s.path("functions", f.Name, "bootstrap")
		f.Env = s.Variables(f.Name, false)
		maps.Copy(f.Env, s.options.Variables)
		all = append(all, f)
	}
	return all
}

// properties returns what the template says of a function, with the addresses of
// this stack. The template was found to be readable when the stack started.
func (s *Stack) properties(function string, at Endpoints) permissions.Function {
	functions, err := permissions.Functions(s.template, Values(at))
	if err != nil {
		panic(err)
	}
	return functions[logicalIDs[function]]
}

const (
	submitConcurrency = 5 // the template's default
	cancelConcurrency = 5
	// deletionConcurrency is the MaximumConcurrency of cancel's queue.
	deletionConcurrency = 2
	// taskConcurrency bounds the processes of the loop on a small machine. Polls
	// take milliseconds, and an archive is bound by the disk.
	taskConcurrency = 8
)

// Variables returns the environment variables that a function is given: those of
// template.yaml, the addresses of this stack, and the function's credentials. The
// addresses are over TLS on loopback. For a container, which cannot be given the
// certificate, they are over plain http at ContainerHost.
func (s *Stack) Variables(function string, container bool) map[string]string {
	at := s.TLS
	switch {
	case container:
		at = s.Plain.at(ContainerHost)
	case runtime.GOOS == "darwin":
		// Go asks macOS whether to trust a certificate, which does not know
		// SSL_CERT_FILE. The AWS SDK's own setting works there.
		at.RunComfy = s.Plain.RunComfy
	}
	v := s.properties(function, at).Variables
	maps.Copy(v, map[string]string{
		"AWS_ACCESS_KEY_ID":                function,
		"AWS_SECRET_ACCESS_KEY":            s.keys.Functions[function],
		"AWS_ENDPOINT_URL_S3":              at.S3,
		"AWS_ENDPOINT_URL_SFN":             at.AWS,
		"AWS_ENDPOINT_URL_SECRETS_MANAGER": at.AWS,
	})
	if !container {
		v["AWS_CA_BUNDLE"], v["SSL_CERT_FILE"] = s.CAFile(), s.CAFile()
	}
	return v
}
