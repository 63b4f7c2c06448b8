// Command submit is the Lambda function that handles each upload and each deletion below
// inbox/: it assesses the names that the change affects, and submits each complete job at most once.
package main

import (
	"context"
	"math/rand/v2"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/google/uuid"

	"github.com/lipdrop/lipdrop/functions/submit/handler"
	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/budget"
	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/config"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/media"
	"github.com/lipdrop/lipdrop/internal/notice"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

func main() { config.Start(newHandler) }

func newHandler(ctx context.Context, env *config.Env) any {
	clients := env.Clients(ctx)
	settings := drop.Settings{
		DefaultVideoModel: env.Text("DEFAULT_VIDEO_MODEL"),
		DefaultImageModel: env.Text("DEFAULT_IMAGE_MODEL"),
		SharedFolders:     env.Folders("SHARED_FOLDERS"),
		MaxJobsPerDrop:    env.Count("MAX_JOBS_PER_DROP"),
		RejectMismatch:    env.Choice("LENGTH_MISMATCH", "warn", "reject") == "reject",
	}
	presignFor := env.Hours("PRESIGN_HOURS")
	models, err := catalog.Default()
	if err != nil {
		env.Mistake("the catalog", err)
	} else {
		env.Mistake("DEFAULT_VIDEO_MODEL", models.CheckPair(settings.DefaultVideoModel, media.Video))
		env.Mistake("DEFAULT_IMAGE_MODEL", models.CheckPair(settings.DefaultImageModel, media.Image))
	}
	clients.Ledger.Notify = notice.For(clients.AWS, clients.Ledger).Send
	clients.Ledger.Writer = uuid.NewString()
	h := &handler.Handler{
		Resolver:    &drop.Resolver{Files: clients.Ledger.Bucket, Catalog: models, Settings: settings},
		Ledger:      clients.Ledger,
		Presign:     bucket.Presigner(clients.S3, clients.Ledger.Bucket.Name, presignFor),
		API:         clients.API,
		States:      sfn.NewFromConfig(clients.AWS),
		Queue:       handler.SQS{Client: sqs.NewFromConfig(clients.AWS), URL: env.Text("QUEUE_URL")},
		Prices:      &budget.Prices{API: clients.API, Now: time.Now},
		Books:       &budget.Books{Bucket: clients.Ledger.Bucket},
		Caps:        budget.Caps{Jobs: env.CountLimit("MAX_JOBS_PER_DAY"), Seconds: env.Limit("MAX_SECONDS_PER_DAY"), USD: env.Limit("MAX_USD_PER_DAY")},
		Jitter:      rand.Float64,
		MaxReceives: env.Count("MAX_RECEIVES"),
		Now:         time.Now,
		Sleep:       workflow.Sleep,

		SignUntil: signUntil(env.Getenv("AWS_SESSION_TOKEN"), os.TempDir(), time.Now(), presignFor),
		Exit:      func() { os.Exit(1) },
	}
	return h.Handle
}
