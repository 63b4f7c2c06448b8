// Command submit is the Lambda function that answers a drop: it finds the jobs
// that an event in the bucket may have completed, and submits each once.
//
// Environment:
//
//	BUCKET                 name of the bucket (required)
//	STATE_MACHINE_ARN      the machine that waits for a job's end (required)
//	RUNCOMFY_TOKEN_SECRET  ARN of the secret that holds the API token (required)
//	RUNCOMFY_BASE_URL      API address (default: production)
//	DEFAULT_VIDEO_MODEL    model of a video and an audio (default: sync/sync/lipsync/v2/pro)
//	DEFAULT_IMAGE_MODEL    model of an image and an audio (default: community/live-avatar)
//	SHARED_FOLDERS         folders whose files any job.json may name, separated by commas (default: inbox/shared/)
//	MAX_JOBS_PER_DROP      how many jobs one changed file may start (default: 100)
//	PRESIGN_HOURS          how long RunComfy may fetch the media (default: 6, at most 10)
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
	"github.com/aws/aws-sdk-go-v2/service/sfn"

	"github.com/lipdrop/lipdrop/functions/submit/handler"
	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/config"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/media"
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
	videoModel := env.Optional("DEFAULT_VIDEO_MODEL", "sync/sync/lipsync/v2/pro")
	imageModel := env.Optional("DEFAULT_IMAGE_MODEL", "community/live-avatar")
	sharedFolders := env.Folders("SHARED_FOLDERS", "inbox/shared/")
	maxJobs := env.Count("MAX_JOBS_PER_DROP", 100, 1000)
	presignFor := env.Hours("PRESIGN_HOURS", 6, 10)

	models, modelsErr := catalog.Default()
	if modelsErr == nil {
		modelsErr = errors.Join(
			takesPair(models, "DEFAULT_VIDEO_MODEL", videoModel, media.Video),
			takesPair(models, "DEFAULT_IMAGE_MODEL", imageModel, media.Image))
	}
	awsCfg, awsErr := awsconfig.LoadDefaultConfig(ctx)
	if err := errors.Join(env.Err(), modelsErr, awsErr); err != nil {
		return nil, err
	}

	s3Client := bucket.NewClient(awsCfg)
	stored := &bucket.Bucket{S3: s3Client, Name: bucketName}
	token := &config.Token{Client: secretsmanager.NewFromConfig(awsCfg), ARN: secretARN, Now: time.Now}
	return &handler.Handler{
		Bucket:     bucketName,
		MachineARN: machineARN,
		Resolver: &drop.Resolver{
			Files: stored, Catalog: models,
			Settings: drop.Settings{
				DefaultVideoModel: videoModel, DefaultImageModel: imageModel,
				SharedFolders: sharedFolders, MaxJobsPerDrop: maxJobs,
			},
		},
		Ledger:  &ledger.Store{Bucket: stored, MachineARN: machineARN, Now: time.Now},
		Presign: bucket.Presigner(s3Client, bucketName, presignFor),
		API:     &runcomfy.Client{Token: token, BaseURL: baseURL},
		States:  sfn.NewFromConfig(awsCfg),
		Now:     time.Now,

		SignUntil: signUntil(getenv("AWS_SESSION_TOKEN"), os.TempDir(), time.Now(), presignFor),
		Exit:      func() { os.Exit(1) },
	}, nil
}

// takesPair returns why a default model cannot be one.
func takesPair(models *catalog.Catalog, variable, id string, kind media.Kind) error {
	model, ok := models.Model(id)
	if !ok {
		return fmt.Errorf("%s: there is no model %q; the models are %v", variable, id, models.IDs())
	}
	if _, _, ok := model.Pair(kind); !ok {
		return fmt.Errorf("%s: %s does not take a pair of %s and audio", variable, id, kind)
	}
	return nil
}
