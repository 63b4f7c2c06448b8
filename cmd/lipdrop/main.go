// Command lipdrop tries, checks and operates lipdrop from a person's machine.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/alecthomas/kong"

	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/ledger"
)

type cli struct {
	Try     tryCmd     `cmd:"" help:"Start a local stack, drop files, and wait for their outputs. Needs only Go and costs nothing."`
	Local   localCmd   `cmd:"" help:"Run a local stack until Ctrl-C: drop files into a folder, or with the aws command."`
	Drop    dropCmd    `cmd:"" help:"Check files, folders or lists of jobs, and upload them: their jobs start."`
	Watch   watchCmd   `cmd:"" help:"Show the states of jobs until all have ended."`
	Jobs    jobsCmd    `cmd:"" help:"List jobs."`
	Show    showCmd    `cmd:"" help:"Show everything about one job: its state and what to do, takes, inputs, outputs, cost."`
	Get     getCmd     `cmd:"" help:"Fetch the outputs of jobs."`
	Cancel  cancelCmd  `cmd:"" help:"Cancel jobs that RunComfy has not started."`
	Redrive redriveCmd `cmd:"" help:"Continue a failed job where it failed, after you have fixed the cause. Submits nothing again."`
	Review  reviewCmd  `cmd:"" help:"Approve or reject the output of a job."`
	Cost    costCmd    `cmd:"" help:"Sum what jobs cost, by folder, model or day."`
	Models  modelsCmd  `cmd:"" help:"List the models, or the options of one."`
	Doctor  doctorCmd  `cmd:"" help:"Check a deployed stack, and say what to fix."`
	UI      uiCmd      `cmd:"" name:"ui" help:"Show the jobs of a stack on a page in your browser: compare, approve, drop, cancel."`
	Check   checkCmd   `cmd:"" help:"Say which jobs the given files would start, or what is wrong with the files. Uploads nothing."`
	Version versionCmd `cmd:"" help:"Print the version, the commit, the Go version and the platform."`

	Completion completionCmd `cmd:"" help:"Say how to switch on completion in bash, zsh or fish."`
}

// examples are the examples in the help of each verb.
var examples = map[string][]string{
	"try":        {"lipdrop try", "lipdrop try talk.mp4 talk.wav --out videos"},
	"local":      {"lipdrop local", "lipdrop local --queue 0s --run 1m"},
	"drop":       {"lipdrop drop talk.mp4 talk.wav --wait --get .", "lipdrop drop campaign.csv --to ads --model sync/react-1 --set emotion=happy --yes"},
	"watch":      {"lipdrop watch ads/talk", "lipdrop watch ads/ --timeout 2h --exit-status"},
	"jobs":       {"lipdrop jobs ads/ --state failed,held", "lipdrop jobs --since 24h --json"},
	"show":       {"lipdrop show ads/talk", "lipdrop show ads/talk --json | jq .status.state"},
	"get":        {"lipdrop get ads/talk", "lipdrop get ads/ ./videos --all-takes"},
	"cancel":     {"lipdrop cancel ads/talk", "lipdrop cancel ads/"},
	"redrive":    {"lipdrop redrive ads/talk", "lipdrop redrive ads/ --state failed"},
	"review":     {"lipdrop review ads/talk --approve", `lipdrop review ads/talk --reject --note "the lips are late"`},
	"cost":       {"lipdrop cost --by day --since 30d", "lipdrop cost ads/ --by model --csv"},
	"models":     {"lipdrop models", "lipdrop models sync/react-1 --live"},
	"doctor":     {"lipdrop doctor --stack lipdrop", "lipdrop doctor --stack lipdrop --drop"},
	"ui":         {"lipdrop ui", "lipdrop ui --stack lipdrop --no-open"},
	"check":      {"lipdrop check talk.mp4 talk.wav", "lipdrop check ads/ --json"},
	"version":    {"lipdrop version", "lipdrop version --json"},
	"completion": {"lipdrop completion bash", "lipdrop completion fish --code > ~/.config/fish/completions/lipdrop.fish"},
}

func main() {
	ctx, cancel := context.WithCancel(context.Background())
	go callWhenOrphaned(cancel)
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// callWhenOrphaned calls cancel when the parent process ends, if the parent is `go run`: killing
// `go run` does not kill the program that it runs.
func callWhenOrphaned(cancel func()) {
	const checkEvery = time.Second
	program, err := os.Executable()
	if err != nil || !isFromGoRun(program) {
		return
	}
	for parent := os.Getppid(); os.Getppid() == parent; {
		time.Sleep(checkEvery)
	}
	cancel()
}

// isFromGoRun reports whether `go run` built a program. Such a program is in a temporary
// folder of the go command, or in a folder of the build cache that is named after a hash.
func isFromGoRun(program string) bool {
	return regexp.MustCompile(`go-build|[/\\][0-9a-f]{64}-d[/\\]`).MatchString(program)
}

// run runs one command and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	out, errs := &terminal{w: stdout}, &terminal{w: stderr}
	var c cli
	exited := -1
	parser, err := kong.New(&c, kong.Name("lipdrop"), kong.Writers(stdout, stderr),
		kong.Description("Drop a video and a voice into an S3 bucket; get the lip-synced video back in the same bucket."),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.NamedMapper("folder", kong.MapperFunc(decodeFolder)), kong.NamedMapper("number", kong.MapperFunc(decodeNumber)),
		kong.Vars{"states": joinStates(ledger.StatusStates())},
		kong.Exit(func(code int) { exited = code }),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(out), kong.Bind(messages{errs}))
	if err != nil {
		panic(err) // a tag of cli is wrong
	}
	for _, verb := range parser.Model.Children {
		verb.Detail = strings.TrimSpace(verb.Detail + "\n\nExamples:\n\n  " + strings.Join(examples[verb.Name], "\n\n  "))
	}
	registerCompletion(ctx, parser)
	if exited >= 0 {
		return exited
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	if i := slices.IndexFunc(args, func(arg string) bool { return !utf8.ValidString(arg) }); i >= 0 { // kong would change the argument
		fmt.Fprintf(errs, "lipdrop: the argument %q is not UTF-8 text. If it is the name of a file, rename the file\n", args[i])
		return exitUsage
	}
	command, err := parser.Parse(flagsFirst(parser.Model.Children, args))
	if exited >= 0 {
		return exited // after --help
	}
	if unwritten, ok := errors.AsType[*fs.PathError](err); ok { // kong could not write the help
		fmt.Fprintf(errs, "lipdrop: not everything could be printed: %v\n", unwritten)
		return exitFailed
	}
	if err != nil {
		help := "lipdrop"
		if parse, ok := errors.AsType[*kong.ParseError](err); ok && parse.Context.Selected() != nil {
			help = parse.Context.Selected().FullPath()
		}
		hint, text := "", strings.Replace(err.Error(), "expected value ", "expected a ", 1)
		if strings.HasPrefix(text, "unknown flag -") && !strings.HasPrefix(text, "unknown flag --") {
			hint = "write ./ before a name that begins with a hyphen; "
		}
		fmt.Fprintf(errs, "lipdrop: %s\n%srun %s --help for usage\n", indented(text), hint, help)
		return exitUsage
	}
	if err := command.BindToProvider(func() (*client.Client, error) {
		return command.Selected().Target.Addr().Interface().(interface {
			Find(context.Context) (*client.Client, error)
		}).Find(ctx)
	}); err != nil {
		panic(err) // the function is not a provider
	}
	err = command.Run()
	if unwritten := out.failed(); unwritten != nil && !errors.Is(err, unwritten) {
		err = errors.Join(err, fmt.Errorf("not everything could be printed: %w", unwritten))
	}
	if err != nil && ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = errors.New("interrupted")
	}
	if err != nil {
		fmt.Fprintf(errs, "lipdrop: %s\n", indented(err.Error()))
	}
	return exitCode(ctx, err)
}

// indented indents all lines of an error but the first, so that a file name with a newline cannot
// look like a second message.
func indented(text string) string { return strings.ReplaceAll(text, "\n", "\n  ") }

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

type versionCmd struct {
	JSON bool `name:"json" help:"Print a JSON object."`
}

// build is what version --json prints.
type build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Modified bool   `json:"modified,omitempty"` // built from a checkout with uncommitted changes
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// Run prints the version, the commit, the Go version and the platform.
func (c *versionCmd) Run(_ context.Context, out *terminal) error {
	b := build{Version: "unknown", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		b.Version = cmp.Or(info.Main.Version, b.Version) // empty if go build was given file names
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				b.Commit = s.Value
			case "vcs.modified":
				b.Modified = s.Value == "true"
			}
		}
	}
	if c.JSON {
		return writeJSON(out, b)
	}
	commit := cmp.Or(b.Commit, "unknown")
	if b.Modified {
		commit += ", with changes"
	}
	printf(out, "lipdrop %s\ncommit %s\n%s %s\n", b.Version, commit, b.Go, b.Platform)
	return nil
}
