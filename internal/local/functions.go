package local

import (
	"fmt"
	"maps"
	"net"
	"runtime"
	"strings"

	"github.com/lipdrop/lipdrop/internal/local/lambda"
	"github.com/lipdrop/lipdrop/internal/local/permissions"
)

// The names in the stack.
const (
	Account = permissions.Account
	Region  = "us-east-1"
	Bucket  = "lipdrop"

	// AccessKey is the access key of a person, who may do everything. Keys has its
	// secret key. Each function has its own access key: see Stack.Variables.
	AccessKey = "lipdrop"

	// MachineARN is the ARN of the state machine.
	MachineARN  = "arn:aws:states:" + Region + ":" + Account + ":stateMachine:" + machineName
	machineName = "lipdrop"

	// SecretARN is the ARN of the secret that holds the token.
	SecretARN = "arn:aws:secretsmanager:" + Region + ":" + Account + ":secret:runcomfy-token-a1B2c3"

	queueARN         = "arn:aws:sqs:" + Region + ":" + Account + ":lipdrop"
	queuePath        = "/" + Account + "/lipdrop" // of the queue's URL
	deletionQueueARN = queueARN + "-deletions"
)

// The functions' names.
const (
	submit  = "submit"
	poll    = "poll"
	archive = "archive"
	cancel  = "cancel"
)

// Endpoints are the addresses of what the stack serves.
type Endpoints struct {
	S3       string
	AWS      string // Step Functions, Secrets Manager, SQS and EventBridge
	RunComfy string
}

// endpoints returns the addresses of open ports. The host is a URL without a port.
func endpoints(host string, s3, aws, runComfy []net.Listener) Endpoints {
	at := func(open []net.Listener) string { return fmt.Sprintf("%s:%d", host, port(open)) }
	return Endpoints{at(s3), at(aws), at(runComfy)}
}

// at returns the same addresses with another host.
func (e Endpoints) at(host string) Endpoints {
	change := func(address string) string { return strings.Replace(address, "127.0.0.1", host, 1) }
	return Endpoints{change(e.S3), change(e.AWS), change(e.RunComfy)}
}

const (
	// These bound the concurrent calls of cancel for events, of poll and of archive.
	// AWS has no such limits. Calls of poll mostly wait.
	eventConcurrency   = 5
	pollConcurrency    = 40
	archiveConcurrency = 8
)

// lambdaFunctions returns the four functions with the timeouts, memory and variables of
// template.yaml. Their concurrency is enough for the queues and the limits above.
func (s *Stack) lambdaFunctions() (all []lambda.Function, err error) {
	for name, concurrency := range map[string]int{submit: 0, poll: pollConcurrency, archive: archiveConcurrency, cancel: eventConcurrency} {
		read := s.functions[permissions.LogicalIDs[name]]
		for _, mapping := range read.Queues {
			concurrency += mapping.Concurrency
		}
		log, err := s.openLog(name)
		if err != nil {
			return nil, err
		}
		all = append(all, lambda.Function{
			Name: name, ARN: functionARN(name), Program: s.path("functions", name, "bootstrap"), Env: s.Variables(name, false),
			Timeout: read.Timeout, MemoryMB: read.MemoryMB, Concurrency: concurrency, Log: log,
		})
	}
	return all, nil
}

// Variables returns the environment variables of a function: those of
// template.yaml, the addresses of this stack, the credentials of the function, and
// Options.Variables. The addresses are https on loopback, except RunComfy's on macOS. For
// a container, which does not have the certificate, they are http at ContainerHost.
func (s *Stack) Variables(function string, container bool) map[string]string {
	at := s.TLS
	switch {
	case container:
		at = s.Plain.at(ContainerHost)
	case runtime.GOOS == "darwin":
		// On macOS, Go ignores SSL_CERT_FILE, so RunComfy is called over http. The AWS
		// SDK reads AWS_CA_BUNDLE there too.
		at.RunComfy = s.Plain.RunComfy
	}
	functions, err := permissions.Functions(s.template, Values(at))
	if err != nil {
		panic(err) // readTemplate has read the same text
	}
	v := functions[permissions.LogicalIDs[function]].Variables
	maps.Copy(v, map[string]string{
		"AWS_ACCESS_KEY_ID":                function,
		"AWS_SECRET_ACCESS_KEY":            s.keys.Functions[function],
		"AWS_ENDPOINT_URL_S3":              at.S3,
		"AWS_ENDPOINT_URL_SFN":             at.AWS,
		"AWS_ENDPOINT_URL_SECRETS_MANAGER": at.AWS,
		"AWS_ENDPOINT_URL_SQS":             at.AWS,
		"AWS_ENDPOINT_URL_EVENTBRIDGE":     at.AWS,
	})
	if !container {
		v["AWS_CA_BUNDLE"], v["SSL_CERT_FILE"] = s.CAFile(), s.CAFile()
	}
	maps.Copy(v, s.options.Variables)
	return v
}
