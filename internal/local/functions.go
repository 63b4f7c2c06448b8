package local

import (
	"maps"
	"runtime"
	"strings"

	"github.com/lipdrop/lipdrop/internal/local/access"
	"github.com/lipdrop/lipdrop/internal/local/lambda"
	"github.com/lipdrop/lipdrop/internal/template"
)

// The names in the stack.
const (
	Account = access.Account
	Region  = "us-east-1"
	Bucket  = "lipdrop"

	// AccessKey is the access key of a person, who may do everything. Keys.SecretKey is the
	// secret key for it. Each function has its own access key: see Stack.Variables.
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

const (
	// How many invocations may run at the same time, besides those for the queues of template.yaml,
	// whose limits are in template.yaml. The limit of poll is high, because calls of poll mostly wait.
	cancelConcurrency  = 5
	pollConcurrency    = 40
	archiveConcurrency = 8
)

// lambdaFunctions returns the four functions with the timeouts, memory and variables of
// template.yaml. The concurrency of a function is its limit above, if it has one, plus the
// concurrency of its queues.
func (s *Stack) lambdaFunctions() (all []lambda.Function, _ error) {
	for name, concurrency := range map[string]int{submit: 0, poll: pollConcurrency, archive: archiveConcurrency, cancel: cancelConcurrency} {
		read := s.functions[name]
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

// Variables returns the environment variables of a function: the variables of
// template.yaml, the URLs of AWS and RunComfy in this stack, the credentials of the function,
// the path of the certificate, and Options.Variables. A container does not have the
// certificate, so for a container all these URLs are http at ContainerHost.
func (s *Stack) Variables(function string, container bool) map[string]string {
	at, runComfy := s.TLS, s.TLS
	switch {
	case container:
		at = strings.Replace(s.Plain, loopback, ContainerHost, 1)
		runComfy = at
	case runtime.GOOS == "darwin":
		// On macOS, Go ignores SSL_CERT_FILE, so RunComfy is called over http. The AWS
		// SDK reads AWS_CA_BUNDLE there too.
		runComfy = s.Plain
	}
	functions, err := template.Functions(s.template, TemplateValues(at, runComfy))
	if err != nil {
		panic(err) // readTemplate has read the same text
	}
	v := functions[template.LogicalIDs[function]].Variables
	maps.Copy(v, map[string]string{
		"AWS_ACCESS_KEY_ID":                function,
		"AWS_SECRET_ACCESS_KEY":            s.keys.Functions[function],
		"AWS_ENDPOINT_URL_S3":              at,
		"AWS_ENDPOINT_URL_SFN":             at,
		"AWS_ENDPOINT_URL_SECRETS_MANAGER": at,
		"AWS_ENDPOINT_URL_SQS":             at,
		"AWS_ENDPOINT_URL_EVENTBRIDGE":     at,
	})
	if !container {
		v["AWS_CA_BUNDLE"], v["SSL_CERT_FILE"] = s.CAFile(), s.CAFile()
	}
	maps.Copy(v, s.options.Variables)
	return v
}
