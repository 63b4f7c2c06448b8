// Command poll is the Lambda function that reports whether a submitted job has
// ended. The state machine calls the function once per turn of its loop.
package main

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/lipdrop/lipdrop/functions/poll/handler"
	"github.com/lipdrop/lipdrop/internal/config"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

func main() { config.Start(newHandler) }

func newHandler(ctx context.Context, env *config.Env) any {
	clients := env.Clients(ctx)
	h := &handler.Handler{
		Ledger:     clients.Ledger,
		API:        clients.API,
		QueueLimit: env.Hours("QUEUE_HOURS"),
		RunLimit:   env.Hours("MAX_HOURS"),
		Now:        time.Now,
		Sleep:      workflow.Sleep,
		Jitter:     rand.Float64,
	}
	return h.Handle
}
