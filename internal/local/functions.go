package local

import (
	"maps"
	"runtime"
	"strings"
	"time"

	"github.com/lipdrop/lipdrop/internal/local/lambda"
)

// What the stack is called, as the template calls its own.
const (
	Account = "000000000000"
	Region  = "us-east-1"
	Bucket  = "lipdrop"

	// AccessKey and SecretKey are a person's credentials, who may do everything.
	// Each function has its own: see Stack.Variables.
	AccessKey = "lipdrop"
	SecretKey = "lipdrop-on-loopback"

	// MachineARN is the state machine's.
	MachineARN  = "arn:aws:states:" + Region + ":" + Account + ":stateMachine:" + machineName
	machineName = "lipdrop"

	secretARN = "arn:aws:secretsmanager:" + Region + ":" + Account + ":secret:runcomfy-token-a1B2c3"
	queueARN  = "arn:aws:sqs:" + Region + ":" + Account + ":lipdrop"
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

// functions returns the four functions with the timeouts, memory and bounds
// that template.yaml gives them.
func (s *Stack) functions() []lambda.Function {
	var all []lambda.Function
	for _, f := range []lambda.Function{
		{Name: submit, Timeout: 2 * time.Minute, MemoryMB: 256, Concurrency: submitConcurrency},
		{Name: poll, Timeout: time.Minute, MemoryMB: 256, Concurrency: taskConcurrency},
		{Name: archive, Timeout: 15 * time.Minute, MemoryMB: 1024, Concurrency: taskConcurrency},
		{Name: cancel, Timeout: 2 * time.Minute, MemoryMB: 256, Concurrency: cancelConcurrency},
	} {
		f.Program = s.path("functions", f.Name, "bootstrap")
		f.Env = s.Variables(f.Name, false)
		maps.Copy(f.Env, s.options.Variables)
		all = append(all, f)
	}
	return all
}

const (
	submitConcurrency = 5 // the template's default
	cancelConcurrency = 5
	// taskConcurrency bounds the processes of the loop on a small machine. Polls
	// take milliseconds, and an archive is bound by the disk.
	taskConcurrency = 8
)

// Variables returns the environment variables that a function is given, with
// addresses over TLS on loopback, or for a container, which cannot be given the
// certificate, over plain http at ContainerHost.
func (s *Stack) Variables(function string, container bool) map[string]string {
	at := s.TLS
	if container {
		at = s.Plain.at(ContainerHost)
	}
	v := map[string]string{
		"AWS_ACCESS_KEY_ID":                function,
		"AWS_SECRET_ACCESS_KEY":            secretKeyOf(function),
		"AWS_ENDPOINT_URL_S3":              at.S3,
		"AWS_ENDPOINT_URL_SFN":             at.AWS,
		"AWS_ENDPOINT_URL_SECRETS_MANAGER": at.AWS,
		"BUCKET":                           Bucket,
		"STATE_MACHINE_ARN":                MachineARN,
		"RUNCOMFY_TOKEN_SECRET":            secretARN,
		"RUNCOMFY_BASE_URL":                at.RunComfy,
		"OUTPUT_ORIGINS":                   at.RunComfy,

		// The template's defaults.
		"DEFAULT_VIDEO_MODEL": "sync/sync/lipsync/v2/pro",
		"DEFAULT_IMAGE_MODEL": "community/live-avatar",
		"PRESIGN_HOURS":       "6",
		"QUEUE_HOURS":         "6",
		"MAX_HOURS":           "24",
		"MAX_OUTPUT_GIB":      "10",
	}
	if container {
		return v
	}
	v["AWS_CA_BUNDLE"] = s.CAFile()
	v["SSL_CERT_FILE"] = s.CAFile()
	if runtime.GOOS == "darwin" {
		// Go asks macOS whether to trust a certificate, which does not know
		// SSL_CERT_FILE. The AWS SDK's own setting works there.
		v["RUNCOMFY_BASE_URL"], v["OUTPUT_ORIGINS"] = s.Plain.RunComfy, s.Plain.RunComfy
	}
	return v
}
