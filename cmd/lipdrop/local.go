package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local"
	"github.com/lipdrop/lipdrop/internal/local/events"
	"github.com/lipdrop/lipdrop/internal/local/lambda"
	"github.com/lipdrop/lipdrop/internal/notice"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

type localCmd struct {
	Dir        string `default:".lipdrop" type:"folder" predictor:"folder" help:"Folder of the local stack's state. The state survives a restart."`
	RunTime    delay  `name:"run" default:"10s" help:"How long the fake RunComfy runs each job."`
	QueueTime  delay  `name:"queue" default:"5s" help:"How long the fake RunComfy queues each job."`
	Settle     delay  `default:"2s" help:"How long to wait before a drop is assessed, so that files copied together are assessed together."`
	Port       int    `type:"number" range:"0-65535" placeholder:"PORT" help:"Port of the stack over plain http on 127.0.0.1. By default the port of the last start, or a free one."`
	TLSPort    int    `name:"tls-port" type:"number" range:"0-65535" placeholder:"PORT" help:"Port of the stack over https on 127.0.0.1."`
	Containers bool   `help:"Let Docker containers on this machine connect to the stack, for sam local. They need the stack's keys too."`
	Webhook    string `placeholder:"URL" help:"Send each notice to this address on this machine, as the stack parameter NotifyWebhookUrl does on AWS."`
	Lambda     string `name:"lambda-endpoint" placeholder:"URL" help:"Call the functions through the Lambda Invoke API at this address, such as http://127.0.0.1:3001 of sam local start-lambda."`
}

// Validate is called by kong.
func (c *localCmd) Validate() error {
	if c.Port != 0 && c.Port == c.TLSPort {
		return fmt.Errorf("--port and --tls-port are both %d: give them different ports, or leave one of them out", c.Port)
	}
	return nil
}

// Run runs a local stack until it is interrupted or fails. It makes the bucket follow the folder
// "drop" in c.Dir, and prints the notices and each status and answer file that changes.
func (c *localCmd) Run(ctx context.Context, out *terminal) error {
	folder, err := filepath.Abs(filepath.Join(c.Dir, "drop"))
	if err != nil {
		return err
	}
	say := func(text string) { fmt.Fprintln(out, text) }
	if c.Webhook != "" {
		if err := local.CheckWebhook(c.Webhook); err != nil {
			return &client.UsageError{Reason: "--webhook: " + err.Error()}
		}
	}
	if c.Lambda != "" {
		if err := lambda.CheckEndpoint(c.Lambda); err != nil {
			return &client.UsageError{Reason: "--lambda-endpoint: " + err.Error()}
		}
	}
	stack, err := local.Start(ctx, local.Options{
		Dir: c.Dir, QueueTime: time.Duration(c.QueueTime), RunTime: time.Duration(c.RunTime),
		Settle: time.Duration(c.Settle), Ports: local.Ports{TLS: c.TLSPort, Plain: c.Port}, Containers: c.Containers, LambdaEndpoint: c.Lambda, Say: say,
		Webhook: c.Webhook, Notice: func(n events.Notice) { say(describeNotice(n)) },
	})
	if inUse, ok := errors.AsType[*local.PortError](err); ok {
		return fmt.Errorf("%w: end the program that listens there, choose another port with --port or --tls-port, or leave out these options", inUse)
	}
	if err != nil {
		return err
	}
	defer stack.Close()

	running, err := client.Target{Dir: c.Dir}.Find(ctx)
	if err != nil {
		return err
	}
	watch, err := newWatcher(ctx, running.Bucket, folder, say)
	if err != nil {
		return err
	}
	containers, err := c.containerCommands(stack)
	if err != nil {
		return err
	}
	fmt.Fprint(out, c.welcome(stack, folder, containers))
	go watch.run(ctx)
	go printStatuses(ctx, running, say)
	select {
	case <-ctx.Done():
		say("ending")
		return nil
	case <-stack.Failed():
		return errors.Join(errStackFailed, stack.Err())
	}
}

// welcome returns the text that says how to use the stack.
func (c *localCmd) welcome(stack *local.Stack, folder, containers string) string {
	return strings.NewReplacer(
		"{folder}", folder, "{dir}", problem.ShellWord(problem.PathArgument(c.Dir)), "{keys}", filepath.Join(c.Dir, "keys.json"), "{logs}", filepath.Join(c.Dir, "logs"),
		"{credentials}", strings.ReplaceAll(stack.Credentials(), "\n", "\n  "),
		"{bucket}", local.Bucket, "{http}", stack.Plain, "{https}", stack.TLS, "{ca}", problem.ShellWord(stack.CAFile()),
		"{containers}", containers, "{webhook}", c.webhookText(stack), "{outputs}", fakeOutputs,
	).Replace(`lipdrop is running on this machine. RunComfy is a fake: {outputs}. Nothing is charged.

Drop files into the folder
  {folder}
or with this command, in another terminal:
  lipdrop drop talk.mp4 talk.wav --dir {dir} --wait --get out
or with the aws command:
  {credentials}aws s3 cp talk.mp4 s3://{bucket}/inbox/ --endpoint-url {http}
  aws s3 cp talk.wav s3://{bucket}/inbox/ --endpoint-url {http}
Read the status, and fetch the output:
  aws s3 cp s3://{bucket}/status/talk.json - --endpoint-url {http}
  aws s3 cp --recursive s3://{bucket}/outbox/talk/ . --endpoint-url {http}
The same over https: --endpoint-url {https} --ca-bundle {ca}
See all jobs on a page:
  lipdrop ui --dir {dir}
{containers}{webhook}The keys are in {keys}. Anybody who has them can use everything in this stack.
Logs of the functions: {logs}
Press Ctrl-C to end the stack. Jobs under way continue at the next start.

`)
}

// describeNotice returns the line that is printed for a notice.
func describeNotice(n events.Notice) string {
	var detail notice.Detail
	_ = json.Unmarshal(n.Detail, &detail) // the stack has checked that the detail is an object
	return escapef("notice: %s, about %s", n.DetailType, detail.Name)
}

// webhookText returns a line about the webhook, or "" without one.
func (c *localCmd) webhookText(stack *local.Stack) string {
	if c.Webhook == "" {
		return ""
	}
	return fmt.Sprintf("Notices are sent to %s with the header %s: %s\n", c.Webhook, local.WebhookKeyHeader, stack.Keys().Webhook)
}

// containerCommands returns the commands that run the functions with `sam local`. It writes into
// the state folder the files that these commands need. Without --containers it writes nothing, and
// returns a line that names the flag.
func (c *localCmd) containerCommands(stack *local.Stack) (string, error) {
	if !c.Containers {
		return "Start the stack with --containers to run the functions in Docker with sam local.\n", nil
	}
	env, credentials := filepath.Join(c.Dir, "env.json"), filepath.Join(c.Dir, "credentials.sh")
	if err := errors.Join(stack.WriteEnv(env), os.WriteFile(credentials, []byte(stack.Credentials()), 0o600)); err != nil {
		return "", err
	}
	const commands = `Run one function in Docker:
  sam build%[1]s
  . %[2]s
  sam local invoke SubmitFunction -e events/submit/object-created.json%[3]s
Or run all functions, for a stack that was started with --lambda-endpoint http://127.0.0.1:3001:
  sam local start-lambda%[3]s
`
	options := " --env-vars " + problem.ShellWord(problem.PathArgument(env)) + " --add-host " + local.ContainerHost + ":host-gateway" + architecture()
	return fmt.Sprintf(commands, architecture(), problem.ShellWord(problem.PathArgument(credentials)), options), nil
}

// architecture returns the option of the sam command that selects an amd64 processor. On other
// machines it returns "", because the template's default is arm64.
func architecture() string {
	if runtime.GOARCH == "amd64" {
		return " --parameter-overrides Architecture=x86_64"
	}
	return ""
}

// printEvery is how often printStatuses lists the statuses.
const printEvery = time.Second

// printStatuses prints each status and each answer file that changes after the first listing,
// until ctx ends. If listings fail one after the other with the same error, it prints the error once.
func printStatuses(ctx context.Context, running *client.Client, say func(string)) {
	seen, last := map[string]string{}, ""
	begun := map[string]bool{} // the prefixes of which a listing has succeeded
	for {
		var errs []error
		for _, prefix := range []string{ledger.StatusPrefix, ledger.AnswerPrefix} {
			changed, err := running.Changes(ctx, prefix, seen, client.Pattern{Prefix: true})
			errs = append(errs, err)
			for _, st := range changed {
				if begun[prefix] {
					say(lineOf(st))
				}
			}
			begun[prefix] = begun[prefix] || err == nil
		}
		text := ""
		if err := errors.Join(errs...); err != nil {
			text = err.Error()
		}
		if workflow.Sleep(ctx, printEvery) != nil {
			return
		}
		if text != last && text != "" {
			say(escapef("%s", text))
		}
		last = text
	}
}

// lineOf returns a status in a line, and each of its outputs in a line of its own.
func lineOf(st client.Status) string {
	about := client.Describe(st.Status)
	if st.State == "" {
		about = unreadable
	}
	lines := []string{escapef("%s  %s: %s", time.Now().Format(time.TimeOnly), st.Name, about)}
	for _, output := range st.Outputs {
		lines = append(lines, escapef("          %s", output))
	}
	return strings.Join(lines, "\n")
}
