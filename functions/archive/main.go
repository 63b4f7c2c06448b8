// Command archive is the Lambda function that copies the outputs of an ended
// job into the bucket and records how the job ended.
package main

import (
	"context"
	"time"

	"github.com/lipdrop/lipdrop/functions/archive/handler"
	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/config"
	"github.com/lipdrop/lipdrop/internal/notice"
	"github.com/lipdrop/lipdrop/internal/origins"
	"github.com/lipdrop/lipdrop/internal/transfer"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

func main() { config.Start(newHandler) }

func newHandler(ctx context.Context, env *config.Env) any {
	clients := env.Clients(ctx)
	allowed, err := origins.Parse(env.List("OUTPUT_ORIGINS"))
	env.Mistake("OUTPUT_ORIGINS", err)
	models, err := catalog.Default()
	env.Mistake("the catalog", err)
	clients.Ledger.Notify = notice.For(clients.AWS, clients.Ledger).Send
	h := &handler.Handler{
		Ledger:     clients.Ledger,
		API:        clients.API,
		Copier:     &transfer.Copier{S3: clients.S3, Bucket: clients.Ledger.Bucket.Name, Origins: allowed, MaxBytes: env.GiB("MAX_OUTPUT_GIB")},
		Catalog:    models,
		MaxOutputs: env.Count("MAX_OUTPUTS"),
		Now:        time.Now,
		Sleep:      workflow.Sleep,
	}
	return h.Handle
}
