// Command cancel is the Lambda function that cancels the jobs of deleted files, and
// settles executions that failed, timed out or were stopped. Every hour, it finishes what
// the functions left undone and, if MIN_BALANCE_USD is not 0, logs the balance at RunComfy.
package main

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sfn"

	"github.com/lipdrop/lipdrop/functions/cancel/handler"
	"github.com/lipdrop/lipdrop/internal/budget"
	"github.com/lipdrop/lipdrop/internal/config"
	"github.com/lipdrop/lipdrop/internal/notice"
)

func main() { config.Start(newHandler) }

func newHandler(ctx context.Context, env *config.Env) any {
	clients := env.Clients(ctx)
	clients.Ledger.Notify = notice.For(clients.AWS, clients.Ledger).Send
	h := &handler.Handler{
		Ledger:     clients.Ledger,
		API:        clients.API,
		MinBalance: env.Limit("MIN_BALANCE_USD"),
		Books:      &budget.Books{Bucket: clients.Ledger.Bucket},
		States:     sfn.NewFromConfig(clients.AWS),
		Now:        time.Now,
	}
	return h.Handle
}
