// Command poll is the Lambda function that reports whether a submitted job has
// ended. The state machine calls it once per turn of its loop.
//
// Environment:
//
//	BUCKET                 name of the bucket (required)
//	STATE_MACHINE_ARN      the machine that a status links to (required)
//	RUNCOMFY_TOKEN_SECRET  ARN of the secret that holds the API token (required)
//	RUNCOMFY_BASE_URL      API address (default: production)
//	QUEUE_HOURS            how long a job may be queued (default: 6)
//	MAX_HOURS              how long a job may run (default: 24)
package main

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/lipdrop/lipdrop/functions/poll/handler"
	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/config"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/runcomfy"
)

func main() {
	slog.SetDefault(lambdacontext.NewLogger())
	h, err := newHandler(context.Background(), os.Getenv)
	if err != nil {
		slog.Error("bad configuration", "err", err)
		os.Exit(1)
	}
	lambda.Start(h.Handle)
}

func newHandler(ctx context.Context, getenv func(string) string) (*handler.Handler, error) {
	env := config.Env{Getenv: getenv}
	bucketName := env.Required("BUCKET")
	machineARN := env.Required("STATE_MACHINE_ARN")
	secretARN := env.Required("RUNCOMFY_TOKEN_SECRET")
	baseURL := env.BaseURL("RUNCOMFY_BASE_URL")
	// With their limits, the two fit into the machine's own timeout.
	queueLimit := env.Hours("QUEUE_HOURS", 6, 24)
	runLimit := env.Hours("MAX_HOURS", 24, 48)
	models, modelsErr := catalog.Default()
	awsCfg, awsErr := awsconfig.LoadDefaultConfig(ctx)
	if err := errors.Join(env.Err(), modelsErr, awsErr); err != nil {
		return nil, err
	}
	token := &config.Token{Client: secretsmanager.NewFromConfig(awsCfg), ARN: secretARN, Now: time.Now}
	return &handler.Handler{
		Ledger:     &ledger.Store{Bucket: &bucket.Bucket{S3: bucket.NewClient(awsCfg), Name: bucketName}, MachineARN: machineARN, Now: time.Now},
		Models:     models,
		API:        &runcomfy.Client{Token: token, BaseURL: baseURL},
		QueueLimit: queueLimit,
		RunLimit:   runLimit,
		Now:        time.Now,
		Jitter:     rand.Float64,
	}, nil
}
