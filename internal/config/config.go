// Package config configures a function from its environment when a process starts.
// template.yaml sets every variable except those of AWS, and is the only place that has defaults.
package config

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/runcomfy"
	"github.com/lipdrop/lipdrop/internal/token"
)

// Start runs a Lambda function. newHandler reads the environment and returns the
// function's handler. If the environment has mistakes, Start logs all of them
// and exits.
func Start(newHandler func(context.Context, *Env) any) {
	slog.SetDefault(lambdacontext.NewLogger())
	env := &Env{Getenv: os.Getenv}
	handler := newHandler(context.Background(), env)
	if err := env.Err(); err != nil {
		slog.Error("bad configuration", "err", err)
		os.Exit(1)
	}
	lambda.Start(handler)
}

// Clients are the clients that Env.Clients makes for a function.
type Clients struct {
	AWS    aws.Config
	S3     *s3.Client
	Ledger *ledger.Store // has the bucket, and the ARN of the state machine
	API    *runcomfy.Client
}

// Clients reads the variables that every function has, and makes the clients from them.
func (e *Env) Clients(ctx context.Context) Clients {
	name := e.Text("BUCKET")
	machineARN := e.Text("STATE_MACHINE_ARN")
	secretARN := e.Text("RUNCOMFY_TOKEN_SECRET")
	baseURL := e.BaseURL("RUNCOMFY_BASE_URL")
	cfg, err := awsconfig.LoadDefaultConfig(ctx)
	e.Mistake("AWS", err)
	storage := bucket.NewClient(cfg)
	source := &token.Source{Client: secretsmanager.NewFromConfig(cfg), ARN: secretARN, Now: time.Now}
	return Clients{
		AWS: cfg, S3: storage,
		Ledger: &ledger.Store{Bucket: &bucket.Bucket{S3: storage, Name: name}, MachineARN: machineARN, Now: time.Now},
		API:    &runcomfy.Client{Token: source, BaseURL: baseURL},
	}
}

// Env reads settings from the environment. It collects mistakes: call Err after
// all settings are read.
type Env struct {
	Getenv func(string) string
	errs   []error
}

// Err returns every mistake so far, or nil.
func (e *Env) Err() error { return errors.Join(e.errs...) }

// Mistake adds err, prefixed with name. It ignores a nil error.
func (e *Env) Mistake(name string, err error) {
	if err != nil {
		e.errs = append(e.errs, fmt.Errorf("%s: %w", name, err))
	}
}

// Text returns a variable, which must be set.
func (e *Env) Text(name string) string {
	value := e.Getenv(name)
	if value == "" {
		e.Mistake(name, errors.New("is not set"))
	}
	return value
}

// Hours returns a variable that is a number of hours above 0.
func (e *Env) Hours(name string) time.Duration {
	return time.Duration(e.number(name, false) * float64(time.Hour))
}

// GiB returns a variable that is a number of gibibytes above 0, converted to bytes.
func (e *Env) GiB(name string) int64 { return int64(e.number(name, false) * (1 << 30)) }

// Count returns a variable that is a whole number above 0.
func (e *Env) Count(name string) int { return e.whole(name, e.number(name, false)) }

// Limit returns a variable that is a number of at least 0. 0 means no limit.
func (e *Env) Limit(name string) float64 { return e.number(name, true) }

// CountLimit does what Limit does, for a whole number.
func (e *Env) CountLimit(name string) int { return e.whole(name, e.Limit(name)) }

func (e *Env) whole(name string, n float64) int {
	if n != float64(int(n)) {
		e.Mistake(name, fmt.Errorf("%g is not a whole number", n))
	}
	return int(n)
}

// number returns a variable that is a number below 1,000,000 and above 0. If zero is true, it may be 0.
func (e *Env) number(name string, zero bool) float64 {
	value := e.Text(name)
	n, err := strconv.ParseFloat(value, 64)
	if value != "" && (err != nil || !(n >= 0 && n < 1e6) || n == 0 && !zero) {
		kind := "above 0"
		if zero {
			kind = "of at least 0"
		}
		e.Mistake(name, fmt.Errorf("%q is not a number %s and below 1,000,000", value, kind))
	}
	return n
}

// List returns the entries of a variable, which are separated by commas.
func (e *Env) List(name string) []string {
	var entries []string
	for entry := range strings.SplitSeq(e.Text(name), ",") {
		if entry = strings.TrimSpace(entry); entry != "" {
			entries = append(entries, entry)
		}
	}
	return entries
}

// Choice returns a variable that is one of the given values.
func (e *Env) Choice(name string, values ...string) string {
	value := e.Text(name)
	if value != "" && !slices.Contains(values, value) {
		e.Mistake(name, fmt.Errorf("%q is not %s", value, problem.List(values, "or")))
	}
	return value
}

// Folders does what List does. Each entry must be inbox/ or a folder below inbox/, and must
// end in a slash.
func (e *Env) Folders(name string) []string {
	folders := e.List(name)
	for _, folder := range folders {
		if !strings.HasPrefix(folder, ledger.InboxPrefix) || !strings.HasSuffix(folder, "/") {
			e.Mistake(name, fmt.Errorf("%q is not a folder such as inbox/shared/", folder))
		}
	}
	return folders
}

// BaseURL returns a variable that is the URL of an API, without a slash at the end. The
// token is sent to this URL, so the URL must be https. Plain http is allowed only to this
// machine: to a loopback address or, from a container, to host.docker.internal.
func (e *Env) BaseURL(name string) string {
	value := e.Text(name)
	u, err := url.Parse(value)
	switch {
	case value == "":
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		e.Mistake(name, errors.New("is not the address of an API, such as https://model-api.runcomfy.net"))
	case u.Scheme == "https":
	case u.Scheme == "http" && thisMachine(u.Hostname()):
	default:
		e.Mistake(name, fmt.Errorf("must be https: the token would be sent unencrypted to %s", u.Host))
	}
	return strings.TrimSuffix(value, "/")
}

func thisMachine(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || host == "host.docker.internal" || ip != nil && ip.IsLoopback()
}
