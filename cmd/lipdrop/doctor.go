package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	ebtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/runcomfy"
	"github.com/lipdrop/lipdrop/internal/token"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

type doctorCmd struct {
	Stack   string `placeholder:"NAME" help:"Name of the stack. The environment variable LIPDROP_STACK can give the name too. By default the only lipdrop stack of the region."`
	Profile string `help:"Profile of the AWS credentials."`
	Region  string `help:"AWS region of the stack."`
	Drop    bool   `help:"Also drop a test file that starts no job, and wait for its answer file."`
	Wait    delay  `default:"10m" help:"With --drop: how long to wait for the answer file, in addition to the SettleSeconds of the stack."`
	Every   delay  `default:"5s" hidden:"" help:"Pause between two drops of the test file; only tests set it."`
}

// doctor checks one stack, and prints each result.
type doctor struct {
	*client.Client
	profile string // the AWS profile of the command line
	out     *terminal
	wrongs  int // how many things are wrong
}

// Run checks a deployed stack and prints what to fix. Without c.Drop it only reads.
func (c *doctorCmd) Run(ctx context.Context, out *terminal) error {
	stack, err := client.Target{Stack: c.Stack, Profile: c.Profile, Region: c.Region}.FindOnAWS(ctx)
	if _, ok := errors.AsType[*client.UsageError](err); ok {
		return err
	}
	d := &doctor{Client: stack, profile: c.Profile, out: out}
	if err != nil {
		d.failed("find the stack", err)
	} else {
		d.checkBucket(ctx)
		d.checkResources(ctx)
		switch {
		case c.Drop && d.wrongs > 0:
			d.skipped("the test file was not dropped: fix the above first")
		case c.Drop:
			d.checkDrop(ctx, time.Duration(c.Wait), time.Duration(c.Every))
		}
		d.checkDeadLetters(ctx)
		d.checkRunComfy(ctx)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if d.wrongs > 0 {
		return &exitError{cmp.Or(exitCode(ctx, err), exitFailed), fmt.Errorf("%s to fix", count(d.wrongs, "thing"))}
	}
	return nil
}

func (d *doctor) fine(what string)    { printf(d.out, "ok     %s\n", what) }
func (d *doctor) skipped(what string) { printf(d.out, "-      %s\n", what) }

// wrong prints what is wrong, and each step of the remedy in a line of its own.
func (d *doctor) wrong(what string, remedy ...string) {
	d.wrongs++
	printf(d.out, "WRONG  %s\n", what)
	for _, step := range remedy {
		printf(d.out, "       %s\n", step)
	}
}

// failed prints what could not be done, and the remedy. The parameter purpose says what was tried,
// such as "find the stack".
func (d *doctor) failed(purpose string, err error) {
	err = client.Explain(purpose, "", err)
	if errors.Is(err, context.Canceled) { // the person has interrupted the command
		return
	}
	if e, ok := errors.AsType[*client.CredentialsError](err); ok {
		d.wrong(fmt.Sprintf("cannot %s: %v", purpose, e.Err), e.Remedy())
	} else if e, ok := errors.AsType[*client.NoStackError](err); ok {
		d.wrong(e.Reason, e.Remedy)
	} else if e, ok := errors.AsType[*client.DeniedError](err); ok {
		d.wrong(fmt.Sprintf("cannot %s: your credentials lack the permission %s", purpose, e.Permission),
			"Ask the owner of the account for this permission, or name other credentials with --profile.")
	} else if e, ok := errors.AsType[*client.ServiceError](err); ok {
		d.wrong(e.Error(), "Check the stack's name, the account and the region. Name others with --stack, --profile and --region.")
	} else {
		d.wrong(strings.TrimSuffix(err.Error(), "."), "Check your profile, region and network. Name others with --profile and --region.")
	}
}

// command adds the stack's region to a command line of the aws program, unless the line has a
// --region. It also adds the profile.
func (d *doctor) command(line string) string {
	if !strings.Contains(line, " --region ") {
		line += " --region " + d.Config.Region
	}
	if d.profile != "" {
		line += " --profile " + problem.ShellWord(d.profile)
	}
	return line
}

// checkBucket checks the region of the bucket, and whether the bucket sends its events to
// EventBridge. It checks the region first: a bucket in another region sends its events to
// that region, and S3 refuses the next request, which goes to the stack's region.
func (d *doctor) checkBucket(ctx context.Context) {
	name := d.Bucket.Name
	region, err := d.bucketRegion(ctx)
	switch {
	case err != nil:
		d.failed(fmt.Sprintf("ask for the region of the bucket %q", name), err)
		return
	case region != d.Config.Region:
		d.wrong(fmt.Sprintf("the bucket %q is in %s and the stack is in %s, so the stack sees no drop", name, region, d.Config.Region),
			fmt.Sprintf("Deploy the stack in %s; or set the parameter ExistingBucket to a bucket in %s.", region, d.Config.Region))
		return
	}
	d.fine(fmt.Sprintf("the bucket %q is in the stack's region, %s", name, region))
	out, err := d.S3.GetBucketNotificationConfiguration(ctx, &s3.GetBucketNotificationConfigurationInput{Bucket: &name})
	switch {
	case err != nil:
		d.failed(fmt.Sprintf("read whether the bucket %q sends its events", name), err)
	case out.EventBridgeConfiguration == nil:
		d.wrong(fmt.Sprintf("the bucket %q does not send its events to EventBridge, so the stack sees no drop", name),
			"Switch the events on, then drop again the files that got no status. This command switches them on and replaces the bucket's other notifications: "+
				d.command("aws s3api put-bucket-notification-configuration --bucket "+name+` --notification-configuration '{"EventBridgeConfiguration": {}}'`))
	default:
		d.fine(fmt.Sprintf("the bucket %q sends its events to EventBridge", name))
	}
}

// bucketRegion returns the region of the bucket. S3 names the region even if it refuses
// the request because the client uses another region.
func (d *doctor) bucketRegion(ctx context.Context) (string, error) {
	out, err := d.S3.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &d.Bucket.Name})
	if err == nil {
		return aws.ToString(out.BucketRegion), nil
	}
	if refused, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		if region := refused.Response.Header.Get("X-Amz-Bucket-Region"); region != "" && region != d.Config.Region {
			return region, nil
		}
	}
	return "", err
}

// checkResources checks what brings events to the functions: the rules and the event
// source mappings.
func (d *doctor) checkResources(ctx context.Context) {
	pages := cloudformation.NewListStackResourcesPaginator(cloudformation.NewFromConfig(d.Config), &cloudformation.ListStackResourcesInput{StackName: &d.Stack})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			d.failed("list what the stack has", err)
			return
		}
		for _, r := range page.StackResourceSummaries {
			id, name := aws.ToString(r.PhysicalResourceId), aws.ToString(r.LogicalResourceId)
			switch aws.ToString(r.ResourceType) {
			case "AWS::Events::Rule":
				d.checkRule(ctx, "the rule "+name, id)
			case "AWS::Lambda::EventSourceMapping":
				d.checkMapping(ctx, "the event source mapping "+name, id)
			}
		}
	}
}

func (d *doctor) checkRule(ctx context.Context, rule, id string) {
	out, err := eventbridge.NewFromConfig(d.Config).DescribeRule(ctx, &eventbridge.DescribeRuleInput{Name: &id})
	switch {
	case err != nil:
		d.failed("ask whether "+rule+" is enabled", err)
	case out.State == ebtypes.RuleStateDisabled:
		d.wrong(rule+" is disabled, so its events are lost",
			"Enable the rule, then repeat the drops and deletions that were made while it was disabled. This command enables the rule: "+d.command("aws events enable-rule --name "+id))
	default:
		d.fine(rule + " is enabled")
	}
}

// checkMapping checks the state and the last processing result of an event source mapping.
func (d *doctor) checkMapping(ctx context.Context, mapping, id string) {
	out, err := lambda.NewFromConfig(d.Config).GetEventSourceMapping(ctx, &lambda.GetEventSourceMappingInput{UUID: &id})
	if err != nil {
		d.failed("ask whether "+mapping+" is enabled", err)
		return
	}
	state, result := aws.ToString(out.State), aws.ToString(out.LastProcessingResult)
	switch {
	case state == "Creating" || state == "Enabling" || state == "Updating":
		d.skipped(mapping + " was not checked: its state is " + state)
	case state != "Enabled":
		d.wrong(mapping+" is in the state "+state+", so Lambda does not read its queue",
			"Run: "+d.command("aws lambda update-event-source-mapping --enabled --uuid "+id))
	case strings.HasPrefix(result, "PROBLEM"):
		d.wrong(mapping+" reports: "+result,
			"Fix what this message names, then check again. If it names the function, read the log and the errors of that function.")
	default:
		d.fine(mapping + " is enabled")
	}
}

// testFile is a drop that starts no job: submit rejects its suffix.
const testFile = "lipdrop-doctor.check"

// checkDrop drops the test file and waits for its answer file, which shows that events
// arrive and that submit runs. Events are lost in the first minutes after EventBridge is
// switched on for a bucket, so checkDrop drops the test file again after each pause. At the
// end, it deletes the test file.
func (d *doctor) checkDrop(ctx context.Context, wait, pause time.Duration) {
	settle, _ := strconv.Atoi(d.Parameters["SettleSeconds"]) // CloudFormation accepts only numbers
	wait += time.Duration(settle) * time.Second
	drop, answer := ledger.InboxPrefix+testFile, ledger.AnswerPrefix+testFile+".json"
	if err := remove(ctx, d.Bucket, answer); err != nil { // an earlier check may have left one
		d.failed("delete "+answer, err)
		return
	}
	stored := false
	defer func() {
		if stored || ctx.Err() != nil { // an interrupted upload may have stored the file
			if err := remove(context.WithoutCancel(ctx), d.Bucket, drop); err != nil {
				d.failed("delete "+drop, err)
			}
		}
	}()
	for start := time.Now(); ; {
		if err := upload(ctx, d.Bucket, drop, strings.NewReader("lipdrop doctor\n"), nil); err != nil {
			d.failed("drop "+drop, err)
			return
		}
		stored = true
		_, err := d.Bucket.Head(ctx, answer)
		switch {
		case err == nil:
			d.fine("the test file " + testFile + " got an answer file, so drops arrive")
			return
		case !errors.Is(err, bucket.ErrNotFound):
			d.failed("search for "+answer, err)
			return
		case time.Since(start) >= wait:
			d.wrong(fmt.Sprintf("the test file %s got no answer file within %v", testFile, wait),
				"A bucket's events begin about five minutes after EventBridge was switched on; check again then. "+
					"If the answer file is still missing, read the log and the errors of the stack's SubmitFunction.")
			return
		}
		if workflow.Sleep(ctx, pause) != nil {
			return // Run returns the error of ctx
		}
	}
}

func (d *doctor) checkDeadLetters(ctx context.Context) {
	queue := d.Outputs["DeadLetterQueueUrl"]
	out, err := sqs.NewFromConfig(d.Config).GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
		QueueUrl: &queue, AttributeNames: []sqstypes.QueueAttributeName{sqstypes.QueueAttributeNameApproximateNumberOfMessages},
	})
	if err != nil {
		d.failed("ask whether there are dead letters", err)
		return
	}
	if n := out.Attributes[string(sqstypes.QueueAttributeNameApproximateNumberOfMessages)]; n != "0" {
		d.wrong("the dead-letter queue has messages ("+n+"): drops and deletions that are no longer retried",
			"If jobs are held, fix the causes that their statuses give. If no job is held, read the logs and the errors of the stack's SubmitFunction and CancelFunction. Then run: "+d.command(d.Outputs["Redrive"]))
		return
	}
	d.fine("the dead-letter queue is empty")
}

// checkRunComfy checks the token and the balance. If nothing is wrong with them, it compares the
// catalogue with RunComfy's descriptions of the models, which RunComfy sends only for a valid token.
func (d *doctor) checkRunComfy(ctx context.Context) {
	api := d.RunComfy()
	wrongs := d.wrongs
	d.checkToken(ctx, api)
	if d.wrongs > wrongs {
		d.skipped("the models at RunComfy were not checked: fix the above first")
		return
	}
	models, err := catalog.Default()
	if err != nil {
		d.wrong(err.Error(), "Install another version of lipdrop.")
		return
	}
	for _, id := range models.IDs() {
		model, _ := models.Model(id)
		live, err := api.Model(ctx, id)
		switch {
		case runcomfy.IsKind(err, runcomfy.KindBadModel):
			d.wrong("RunComfy no longer has the model "+id, "Use another model. RunComfy refuses jobs of this model; they are not charged.")
		case err != nil:
			d.runComfyFailed("ask RunComfy for the model "+id, err)
		case live.InputSchema == nil:
			d.skipped("the input of " + id + " was not compared: RunComfy's response does not describe it")
		default:
			d.compareInput(id, model.Schema(), live.InputSchema)
		}
	}
}

func (d *doctor) checkToken(ctx context.Context, api *runcomfy.Client) {
	set := []string{
		"1. Run this command, which then waits for the token: " + d.command(d.Outputs["SetToken"]),
		"2. Paste the token, press Enter, then press Ctrl-D.",
	}
	balance, err := api.Balance(ctx)
	var unreadable *smithy.OperationError // a failed request to Secrets Manager; requests to RunComfy fail with other types
	var unsent *runcomfy.TokenError
	switch {
	case errors.Is(err, token.ErrNone):
		d.wrong("the RunComfy token is not set", set...)
	case errors.As(err, &unreadable):
		d.failed("read the RunComfy token", err)
	case errors.As(err, &unsent):
		d.wrong("the secret does not hold a RunComfy token: "+unsent.Err.Error(), set...)
	case runcomfy.IsKind(err, runcomfy.KindToken):
		d.wrong("RunComfy does not accept the token: "+err.Error(), set...)
	case err != nil:
		d.runComfyFailed("ask RunComfy for the balance", err)
	case balance <= 0:
		d.wrong(fmt.Sprintf("the balance at RunComfy is %.2f US dollars", balance), "Top up the account on RunComfy's page.")
	default:
		d.fine(fmt.Sprintf("RunComfy accepts the token; the balance is %.2f US dollars", balance))
	}
}

func (d *doctor) runComfyFailed(purpose string, err error) {
	if errors.Is(err, context.Canceled) { // the person has interrupted the command
		return
	}
	d.wrong(fmt.Sprintf("cannot %s: %v", purpose, err), "Check your network, or try again later: RunComfy may have an outage.")
}

// compareInput checks whether a model's input is the same in the catalogue and at RunComfy.
func (d *doctor) compareInput(id string, known, live json.RawMessage) {
	if differ := differences(known, live); differ != nil {
		d.wrong("RunComfy has changed the input of "+id+": "+strings.Join(differ, ", "),
			"Install a newer lipdrop. Until then lipdrop rejects jobs with a new option, and RunComfy refuses jobs with a removed option. These jobs are not charged.")
		return
	}
	d.fine("the input of " + id + " is the same at RunComfy and in the catalogue")
}
