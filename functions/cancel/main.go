// Command cancel is the Lambda function that stops paying for a job that
// nobody waits for any more, and writes down why it ended. It is called when an
// execution fails, times out or is stopped, when a dropped file is deleted,
// and every hour.
//
// Environment:
//
//	BUCKET                 name of the bucket (required)
//	STATE_MACHINE_ARN      the machine whose executions are settled (required)
//	RUNCOMFY_TOKEN_SECRET  ARN of the secret that holds the API token (required)
//	RUNCOMFY_BASE_URL      API address (default: production)
package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sfn"

	"github.com/lipdrop/lipdrop/functions/cancel/handler"
	"github.com/lipdrop/lipdrop/internal/bucket"
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
	awsCfg, awsErr := awsconfig.LoadDefaultConfig(ctx)
	if err := errors.Join(env.Err(), awsErr); err != nil {
		return nil, err
	}
	s3Client := bucket.NewClient(awsCfg)
	stored := &bucket.Bucket{S3: s3Client, Name: bucketName}
	token := &config.Token{Client: secretsmanager.NewFromConfig(awsCfg), ARN: secretARN, Now: time.Now}
	return &handler.Handler{
		Bucket:     bucketName,
		MachineARN: machineARN,
		Ledger:     &ledger.Store{Bucket: stored, MachineARN: machineARN, Now: time.Now},
		Files:      stored,
		API:        &runcomfy.Client{Token: token, BaseURL: baseURL},
		States:     sfn.NewFromConfig(awsCfg),
		Now:        time.Now,
	}, nil
}
