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

const (
	// eventConcurrency bounds the calls of cancel for events, and taskConcurrency
	// those of poll and archive. A poll takes milliseconds, and an archive is bound
	// by the disk; AWS has no such limits.
	eventConcurrency = 5
	taskConcurrency  = 8
)

// lambdaFunctions returns the four functions with the timeouts, memory, variables
// and concurrency of template.yaml.
func (s *Stack) lambdaFunctions() []lambda.Function {
	var all []lambda.Function
	for name, further := range map[string]int{submit: 0, poll: taskConcurrency, archive: taskConcurrency, cancel: eventConcurrency} {
		read := s.functions[logicalIDs[name]]
		for _, mapping := range read.Queues {
			further += mapping.Concurrency
		}
		env := s.Variables(name, false)
		maps.Copy(env, s.options.Variables)
		all = append(all, lambda.Function{
			Name: name, Program: s.path("functions", name, "bootstrap"), Env: env,
			Timeout: read.Timeout, MemoryMB: read.MemoryMB, Concurrency: further,
		})
	}
	return all
}

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
	functions, err := permissions.Functions(s.template, Values(at))
	if err != nil {
		panic(err) // readTemplate has read the same text
	}
	v := functions[logicalIDs[function]].Variables
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
