package main

import (
	"context"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	kongcompletion "github.com/jotaen/kong-completion"
	"github.com/posener/complete"

	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/client"
)

type completionCmd struct{ kongcompletion.Completion }

// Help says what the command prints.
func (*completionCmd) Help() string {
	return "Prints a line that switches on completion in the shell. With --code, prints the shell code that this line loads. Completion also completes the names of jobs."
}

// completionTime limits how long a person waits for the completion of a name.
const completionTime = 3 * time.Second

// registerCompletion prints completions and makes the parser exit, if the shell asks for
// completions. Otherwise it does nothing.
func registerCompletion(ctx context.Context, parser *kong.Kong) {
	kongcompletion.Register(parser,
		kongcompletion.WithPredictor("job", complete.PredictFunc(func(a complete.Args) []string {
			ctx, cancel := context.WithTimeout(ctx, completionTime)
			defer cancel()
			stack, err := targetOf(a.All).Find(ctx)
			if err != nil {
				return nil // the shell would not show a message
			}
			names, _ := stack.NamesLike(ctx, a.Last)
			return names
		})),
		kongcompletion.WithPredictor("folder", complete.PredictDirs("*")),
		kongcompletion.WithPredictor("file", complete.PredictFiles("*")),
		kongcompletion.WithPredictor("model", complete.PredictFunc(func(complete.Args) []string {
			models, err := catalog.Default()
			if err != nil {
				return nil
			}
			return models.IDs()
		})))
}

// targetOf returns the target that the flags of an unfinished command line select.
func targetOf(args []string) client.Target {
	var t client.Target
	fields := map[string]*string{"--stack": &t.Stack, "--dir": &t.Dir, "--profile": &t.Profile, "--region": &t.Region}
	for i, arg := range args {
		flag, value, ok := strings.Cut(arg, "=")
		if !ok && i+1 < len(args) {
			value = args[i+1]
		}
		if field := fields[flag]; field != nil {
			*field = value
		}
	}
	return t
}
