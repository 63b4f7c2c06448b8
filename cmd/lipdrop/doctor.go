package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
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
	"github.com/lipdrop/lipdrop/internal/config"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/runcomfy"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

type doctorCmd struct {
	client.Target
	Drop  bool          `help:"Also drop a test file that starts no job, and wait for its answer file."`
	Wait  time.Duration `default:"10m" help:"How long to wait for that answer file."`
	Every time.Duration `default:"5s" hidden:"" help:"Pause between two test files, for tests."`
}

// finding is the result of one check. It says what is fine, or what is wrong and how
// to fix it, or why the check was skipped. Only the members that apply are set.
type finding struct {
	fine, wrong, remedy, skipped string
}

// checkedStack is the stack that doctor checks, and the profile that the caller named.
type checkedStack struct {
	*client.Client
	profile string
}

// Run checks a deployed stack and prints what to fix. Without --drop its calls
// only read, and cost nothing.
func (c *doctorCmd) Run(ctx context.Context, out *terminal) error {
	d, err := c.FindOnAWS(ctx)
	if _, ok := errors.AsType[*client.UsageError](err); ok {
		return err
	}
	var found []finding
	if err != nil {
		found = append(found, callFailed("find the stack", err))
	} else {
		found = c.findings(ctx, checkedStack{d, c.Profile})
	}
	wrong := 0
	for _, f := range found {
		switch {
		case f.wrong != "":
			wrong++
			printf(out, "WRONG  %s\n       %s\n", f.wrong, f.remedy)
		case f.skipped != "":
			printf(out, "-      %s\n", f.skipped)
		default:
			printf(out, "ok     %s\n", f.fine)
		}
	}
	if wrong > 0 {
		return fmt.Errorf("%s to fix", count(wrong, "thing"))
	}
	return nil
}

func (c *doctorCmd) findings(ctx context.Context, p checkedStack) []finding {
	found := p.checkBucket(ctx)
	found = append(found, p.checkRules(ctx)...)
	switch {
	case !c.Drop:
	case slices.ContainsFunc(found, func(f finding) bool { return f.wrong != "" }):
		found = append(found, finding{skipped: "the test file was not dropped: fix the above first"})
	default:
		found = append(found, p.checkDrop(ctx, c.Wait, c.Every))
	}
	found = append(found, p.checkDeadLetters(ctx))
	return append(found, p.checkRunComfy(ctx)...)
}

// callFailed returns the finding for a failed call of AWS.
func callFailed(question string, err error) finding {
	err = client.Explain(question, "", err)
	if e, ok := errors.AsType[*client.CredentialsError](err); ok {
		return finding{wrong: fmt.Sprintf("cannot %s: %v", question, e.Err), remedy: e.Remedy()}
	}
	if e, ok := errors.AsType[*client.NoStackError](err); ok {
		return finding{wrong: e.Reason, remedy: e.Remedy}
	}
	if e, ok := errors.AsType[*client.DeniedError](err); ok {
		return finding{
			wrong:  fmt.Sprintf("cannot %s: your credentials lack the permission %s", question, e.Permission),
			remedy: "Ask the owner of the account for it, or name other credentials with --profile.",
		}
	}
	if e, ok := errors.AsType[*client.ServiceError](err); ok {
		return finding{wrong: e.Error(), remedy: "Check the stack's name, the account and the region. Name others with --stack, --profile and --region."}
	}
	return finding{
		wrong:  strings.TrimSuffix(err.Error(), "."),
		remedy: "Check your profile, region and network. Name others with --profile and --region.",
	}
}

// command adds the stack's region and profile to a command line of the aws program.
func (p checkedStack) command(line string) string {
	if !strings.Contains(line, " --region ") {
		line += " --region " + p.Config.Region
	}
	if p.profile != "" {
		line += " --profile " + p.profile
	}
	return line
}

// checkBucket checks the region first: S3 refuses all other requests about a bucket
// of another region, and such a bucket sends its events elsewhere.
func (p checkedStack) checkBucket(ctx context.Context) []finding {
	region, err := p.bucketRegion(ctx)
	switch {
	case err != nil:
		return []finding{callFailed("ask for the region of the bucket "+p.Bucket.Name, err)}
	case region != p.Config.Region:
		return []finding{{
			wrong: fmt.Sprintf("the bucket %s is in %s and the stack is in %s, so the stack sees no drop", p.Bucket.Name, region, p.Config.Region),
			remedy: fmt.Sprintf("Deploy the stack in %s; or set the parameter ExistingBucket to a bucket in %s.",
				region, p.Config.Region),
		}}
	}
	return []finding{{fine: "the bucket " + p.Bucket.Name + " is in the stack's region, " + region}, p.checkBucketEvents(ctx)}
}

// bucketRegion returns the region of the bucket. S3 also names it when it refuses
// the request because of the region.
func (p checkedStack) bucketRegion(ctx context.Context) (string, error) {
	out, err := p.S3.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &p.Bucket.Name})
	if err == nil {
		return aws.ToString(out.BucketRegion), nil
	}
	if refused, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		if region := refused.Response.Header.Get("X-Amz-Bucket-Region"); region != "" && region != p.Config.Region {
			return region, nil
		}
	}
	return "", err
}

func (p checkedStack) checkBucketEvents(ctx context.Context) finding {
	bucket := p.Bucket.Name
	out, err := p.S3.GetBucketNotificationConfiguration(ctx, &s3.GetBucketNotificationConfigurationInput{Bucket: &bucket})
	switch {
	case err != nil:
		return callFailed("read whether the bucket "+bucket+" sends its events", err)
	case out.EventBridgeConfiguration == nil:
		return finding{
			wrong: "the bucket " + bucket + " does not send its events to EventBridge, so the stack sees no drop",
			remedy: "Run this, which replaces the bucket's other notifications, then drop the files again that got no status: " +
				p.command("aws s3api put-bucket-notification-configuration --bucket "+bucket+` --notification-configuration '{"EventBridgeConfiguration": {}}'`),
		}
	}
	return finding{fine: "the bucket " + bucket + " sends its events to EventBridge"}
}

// checkRules checks what leads a drop to submit: the rules and the event source mapping.
func (p checkedStack) checkRules(ctx context.Context) []finding {
	rules := eventbridge.NewFromConfig(p.Config)
	functions := lambda.NewFromConfig(p.Config)
	pages := cloudformation.NewListStackResourcesPaginator(cloudformation.NewFromConfig(p.Config), &cloudformation.ListStackResourcesInput{StackName: &p.Stack})
	var found []finding
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return []finding{callFailed("list what the stack has", err)}
		}
		for _, r := range page.StackResourceSummaries {
			id, name := aws.ToString(r.PhysicalResourceId), aws.ToString(r.LogicalResourceId)
			switch aws.ToString(r.ResourceType) {
			case "AWS::Events::Rule":
				found = append(found, p.checkRule(ctx, rules, name, id))
			case "AWS::Lambda::EventSourceMapping":
				found = append(found, p.checkMapping(ctx, functions, name, id))
			}
		}
	}
	return found
}

// checkRule checks a rule of EventBridge.
func (p checkedStack) checkRule(ctx context.Context, rules *eventbridge.Client, name, id string) finding {
	rule := "the rule " + name
	out, err := rules.DescribeRule(ctx, &eventbridge.DescribeRuleInput{Name: &id})
	switch {
	case err != nil:
		return callFailed("ask whether "+rule+" is enabled", err)
	case out.State == ebtypes.RuleStateDisabled:
		return finding{
			wrong: rule + " is disabled, so its events are lost",
			remedy: "Run this, then repeat the drops and deletions that were made while it was disabled: " +
				p.command("aws events enable-rule --name "+id),
		}
	}
	return finding{fine: rule + " is enabled"}
}

// checkMapping checks an event source mapping and the result of its last call. Through
// it, Lambda reads a queue and calls a function.
func (p checkedStack) checkMapping(ctx context.Context, functions *lambda.Client, name, id string) finding {
	mapping := "the event source mapping " + name
	out, err := functions.GetEventSourceMapping(ctx, &lambda.GetEventSourceMappingInput{UUID: &id})
	if err != nil {
		return callFailed("ask whether "+mapping+" is enabled", err)
	}
	state, result := aws.ToString(out.State), aws.ToString(out.LastProcessingResult)
	switch {
	case state == "Creating" || state == "Enabling" || state == "Updating":
		return finding{skipped: mapping + " is not enabled yet: its state is " + state}
	case state != "Enabled":
		return finding{
			wrong:  mapping + " is in the state " + state + ", so Lambda does not read its queue",
			remedy: "Run: " + p.command("aws lambda update-event-source-mapping --enabled --uuid "+id),
		}
	case strings.HasPrefix(result, "PROBLEM"):
		return finding{
			wrong:  mapping + " reports: " + result,
			remedy: "Fix what it names, then check again. If it names the function, read the log and the errors of that function.",
		}
	}
	return finding{fine: mapping + " is enabled"}
}

// testFile is a drop that starts no job: submit rejects its suffix.
const testFile = "lipdrop-doctor.check"

// checkDrop drops the test file until its answer file is there, which shows that
// events arrive and that submit runs. EventBridge loses the events of a bucket's
// first minutes, so checkDrop drops the file again after each pause.
func (p checkedStack) checkDrop(ctx context.Context, wait, pause time.Duration) finding {
	settle, _ := strconv.Atoi(p.Parameters["SettleSeconds"]) // CloudFormation accepts only numbers
	wait += time.Duration(settle) * time.Second
	drop, answer := ledger.InboxPrefix+testFile, "answers/"+testFile+".json"
	if err := remove(ctx, p.Bucket, answer); err != nil { // an earlier check may have left one
		return callFailed("delete "+answer, err)
	}
	for start := time.Now(); ; {
		if err := p.Bucket.Upload(ctx, drop, strings.NewReader("lipdrop doctor\n"), nil); err != nil {
			return callFailed("drop "+drop, err)
		}
		_, err := p.Bucket.Head(ctx, answer)
		missing := errors.Is(err, bucket.ErrNotFound)
		switch {
		case err != nil && !missing:
			return callFailed("search for "+answer, err)
		case missing && time.Since(start) < wait:
			if err := workflow.Sleep(ctx, pause); err != nil {
				return callFailed("wait for "+answer, err)
			}
			continue
		}
		if err := remove(ctx, p.Bucket, drop); err != nil {
			return callFailed("delete "+drop, err)
		}
		if missing {
			return finding{
				wrong: fmt.Sprintf("the test file %s got no answer file within %v", testFile, wait),
				remedy: "A bucket's events begin about five minutes after EventBridge was switched on; check again then. " +
					"If the answer file is still missing, read the log and the errors of the stack's SubmitFunction.",
			}
		}
		return finding{fine: "the test file " + testFile + " got an answer file, so drops arrive"}
	}
}

func (p checkedStack) checkDeadLetters(ctx context.Context) finding {
	queue := p.Outputs["DeadLetterQueueUrl"]
	out, err := sqs.NewFromConfig(p.Config).GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
		QueueUrl: &queue, AttributeNames: []sqstypes.QueueAttributeName{sqstypes.QueueAttributeNameApproximateNumberOfMessages},
	})
	if err != nil {
		return callFailed("ask whether there are dead letters", err)
	}
	if n := out.Attributes[string(sqstypes.QueueAttributeNameApproximateNumberOfMessages)]; n != "0" {
		return finding{
			wrong:  "the dead-letter queue holds " + n + " events of drops, which are no longer retried",
			remedy: "Fix the causes that the statuses of these drops name, then run: " + p.command(p.Outputs["Redrive"]),
		}
	}
	return finding{fine: "the dead-letter queue is empty"}
}

// checkRunComfy checks the token first, because every other request needs it.
func (p checkedStack) checkRunComfy(ctx context.Context) []finding {
	api := p.RunComfy()
	token := p.checkToken(ctx, api.Account())
	if token.wrong != "" {
		return []finding{token, {skipped: "the models at RunComfy were not checked: fix the above first"}}
	}
	return append([]finding{token}, checkModels(ctx, api)...)
}

func (p checkedStack) checkToken(ctx context.Context, api *runcomfy.Client) finding {
	set := "Run this, paste the token, then press Enter and Ctrl-D: " + p.command(p.Outputs["SetToken"])
	balance, err := api.Balance(ctx)
	var unreadable smithy.APIError
	var unsent *runcomfy.TokenError
	switch {
	case errors.Is(err, config.ErrNoToken):
		return finding{wrong: "the RunComfy token is not set", remedy: set}
	case errors.As(err, &unreadable):
		return callFailed("read the RunComfy token", err)
	case errors.As(err, &unsent):
		return finding{wrong: "the secret does not hold a RunComfy token: " + unsent.Err.Error(), remedy: set}
	case isKind(err, runcomfy.KindToken):
		return finding{wrong: "RunComfy does not accept the token: " + err.Error(), remedy: set}
	case err != nil:
		return runComfyFailed("ask RunComfy for the balance", err)
	case balance <= 0:
		return finding{wrong: fmt.Sprintf("the balance at RunComfy is %.2f US dollars", balance), remedy: "Top up the account on RunComfy's page."}
	}
	return finding{fine: fmt.Sprintf("RunComfy accepts the token; the balance is %.2f US dollars", balance)}
}

// isKind reports whether an error is a response of RunComfy of one kind.
func isKind(err error, kind runcomfy.Kind) bool {
	answered, ok := errors.AsType[*runcomfy.Error](err)
	return ok && answered.Kind() == kind
}

// runComfyFailed returns the finding for a failed call of RunComfy.
func runComfyFailed(question string, err error) finding {
	return finding{wrong: fmt.Sprintf("cannot %s: %v", question, err), remedy: "Check your network, or try again later: RunComfy may have an outage."}
}

// checkModels compares the catalogue with what RunComfy publishes today.
func checkModels(ctx context.Context, api *runcomfy.Client) []finding {
	models, err := catalog.Default()
	if err != nil {
		return []finding{{wrong: err.Error(), remedy: "Install a lipdrop that passes its tests."}}
	}
	var found []finding
	for _, id := range models.IDs() {
		model, _ := models.Model(id)
		live, err := api.Model(ctx, id)
		switch {
		case isKind(err, runcomfy.KindBadModel):
			found = append(found, finding{wrong: "RunComfy no longer has the model " + id, remedy: "Use another model. RunComfy refuses jobs of this one; they are not charged."})
		case err != nil:
			found = append(found, runComfyFailed("ask RunComfy for the model "+id, err))
		default:
			found = append(found, compare(id, model.Schema(), live.InputSchema))
		}
	}
	return found
}

// compare returns a finding that names the properties of a model's input that
// differ between the catalogue and RunComfy.
func compare(id string, known, live json.RawMessage) finding {
	if differ := differences(known, live); differ != nil {
		return finding{
			wrong:  "RunComfy has changed the input of " + id + ": " + strings.Join(differ, ", "),
			remedy: "Install a newer lipdrop. Until then lipdrop rejects a new option, and RunComfy refuses a removed one; neither is charged.",
		}
	}
	return finding{fine: "the input of " + id + " is the same at RunComfy and in the catalogue"}
}
