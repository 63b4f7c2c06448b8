// Command archive is the Lambda function that copies the outputs of an ended
// job into the bucket and writes down how it ended.
//
// Environment:
//
//	BUCKET                 name of the bucket (required)
//	STATE_MACHINE_ARN      the machine that a status links to (required)
//	RUNCOMFY_TOKEN_SECRET  ARN of the secret that holds the API token (required)
//	RUNCOMFY_BASE_URL      API address (default: production)
//	OUTPUT_ORIGINS         where outputs may lie, separated by commas
//	                       (default: https://*.runcomfy.net,https://*.runcomfy.com)
//	MAX_OUTPUT_GIB         the largest output, in GiB (default: 10)
//	MAX_OUTPUTS            the most outputs of one job (default: 100)
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/lipdrop/lipdrop/functions/archive/handler"
	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/config"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/runcomfy"
	"github.com/lipdrop/lipdrop/internal/transfer"
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
	// S3's largest object of 10,000 parts of 5 GiB is far away; Lambda's 15
	// minutes are the limit of what can be copied.
	maxBytes := env.GiB("MAX_OUTPUT_GIB", 10, 100)
	// The record of a job lists them all.
	maxOutputs := env.Count("MAX_OUTPUTS", 100, 500)
	origins, originsErr := transfer.ParseOrigins(env.List("OUTPUT_ORIGINS", "https://*.runcomfy.net,https://*.runcomfy.com"))
	if originsErr != nil {
		originsErr = fmt.Errorf("OUTPUT_ORIGINS: %w", originsErr)
	}
	awsCfg, awsErr := awsconfig.LoadDefaultConfig(ctx)
	if err := errors.Join(env.Err(), originsErr, awsErr); err != nil {
		return nil, err
	}
	s3Client := bucket.NewClient(awsCfg)
	stored := &bucket.Bucket{S3: s3Client, Name: bucketName}
	token := &config.Token{Client: secretsmanager.NewFromConfig(awsCfg), ARN: secretARN, Now: time.Now}
	return &handler.Handler{
		Ledger:     &ledger.Store{Bucket: stored, MachineARN: machineARN, Now: time.Now},
		Bucket:     stored,
		API:        &runcomfy.Client{Token: token, BaseURL: baseURL},
		Copier:     &transfer.Copier{S3: s3Client, Bucket: bucketName, Origins: origins, MaxBytes: maxBytes},
		MaxOutputs: maxOutputs,
		Now:        time.Now,
		Sleep:      sleep,
	}, nil
}

// sleep waits, or returns the context's error.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
