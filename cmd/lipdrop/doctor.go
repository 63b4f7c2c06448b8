package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	ebtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/config"
	"github.com/lipdrop/lipdrop/internal/runcomfy"
)

type doctorCmd struct {
	target
	RunComfyURL string `name:"runcomfy-url" hidden:"" help:"Address of the Model API and the account API, for tests."`
}

// finding is what a check found: what is fine, or what is wrong and how to mend
// it. What could not be looked at for the fault of another finding is neither.
type finding struct {
	fine, wrong, remedy, skipped string
}

// patient is the stack that is looked at, and how it was named.
type patient struct {
	*deployment
	stack, profile string
}

// Run looks at a deployed stack by calls that read and cost nothing, and says
// what to mend.
func (c *doctorCmd) Run(ctx context.Context, out io.Writer) error {
	if c.Stack == "" {
		return errors.New("name the stack to look at with --stack")
	}
	wrong := 0
	for _, f := range c.findings(ctx) {
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
		return fmt.Errorf("%s to mend", count(wrong, "thing"))
	}
	return nil
}

func (c *doctorCmd) findings(ctx context.Context) []finding {
	d, err := c.open(ctx)
	if err != nil {
		return []finding{unasked("look at the stack "+c.Stack, err)}
	}
	p := patient{d, c.Stack, c.Profile}
	token := &config.Token{Client: secretsmanager.NewFromConfig(d.config), ARN: d.outputs["TokenSecretArn"], Now: time.Now}
	models := &runcomfy.Client{Token: token.Get, BaseURL: c.RunComfyURL}
	account := &runcomfy.Client{Token: token.Get, BaseURL: c.RunComfyURL}
	if account.BaseURL == "" {
		account.BaseURL = runcomfy.AccountBaseURL
	}
	found := append([]finding{p.checkBucketEvents(ctx)}, p.checkRules(ctx)...)
	found = append(found, p.checkDeadLetters(ctx))
	return append(found, p.checkRunComfy(ctx, account, models)...)
}

// unasked is what follows when AWS gave no answer to a question.
func unasked(question string, err error) finding {
	var api smithy.APIError
	var asked, asks *smithy.OperationError
	var unsent *smithyhttp.RequestSendError
	switch {
	case errors.As(err, &api):
		return finding{
			wrong:  fmt.Sprintf("cannot %s: %s: %s", question, api.ErrorCode(), api.ErrorMessage()),
			remedy: "Look at the stack's name, at the account and its permissions, and at the region; --stack, --profile and --region name others.",
		}
	// The SDK asks the machine's own metadata for credentials once it has found none elsewhere.
	case errors.As(err, &asked) && errors.As(asked.Err, &asks) && asks.ServiceID == "ec2imds":
		return finding{
			wrong:  "cannot " + question + ": there are no AWS credentials",
			remedy: "Run: aws configure, or aws sso login; or name a profile that has some with --profile.",
		}
	case errors.As(err, &unsent):
		err = unsent.Err
	case asked != nil:
		err = asked.Err
	}
	return finding{
		wrong:  fmt.Sprintf("cannot %s: %v", question, err),
		remedy: "Look at your profile, region and network; --profile and --region name others.",
	}
}

// command returns a command line of the aws program with the region and the
// profile that the stack was found with, ready to paste.
func (p patient) command(line string) string {
	if !strings.Contains(line, " --region ") {
		line += " --region " + p.config.Region
	}
	if p.profile != "" {
		line += " --profile " + p.profile
	}
	return line
}

func (p patient) checkBucketEvents(ctx context.Context) finding {
	bucket := p.bucket.name
	out, err := p.bucket.s3.GetBucketNotificationConfiguration(ctx, &s3.GetBucketNotificationConfigurationInput{Bucket: &bucket})
	switch {
	case err != nil:
		return unasked("ask whether the bucket "+bucket+" sends its events", err)
	case out.EventBridgeConfiguration == nil:
		return finding{
			wrong: "the bucket " + bucket + " does not send its events to EventBridge, so no drop is seen",
			remedy: "Run this, which replaces other notifications of the bucket, and drop again what was dropped meanwhile: " +
				p.command("aws s3api put-bucket-notification-configuration --bucket "+bucket+` --notification-configuration '{"EventBridgeConfiguration": {}}'`),
		}
	}
	return finding{fine: "the bucket " + bucket + " sends its events to EventBridge"}
}

func (p patient) checkRules(ctx context.Context) []finding {
	rules := eventbridge.NewFromConfig(p.config)
	pages := cloudformation.NewListStackResourcesPaginator(cloudformation.NewFromConfig(p.config), &cloudformation.ListStackResourcesInput{StackName: &p.stack})
	var found []finding
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return []finding{unasked("list what the stack has", err)}
		}
		for _, r := range page.StackResourceSummaries {
			if aws.ToString(r.ResourceType) != "AWS::Events::Rule" {
				continue
			}
			rule := "the rule " + aws.ToString(r.LogicalResourceId)
			out, err := rules.DescribeRule(ctx, &eventbridge.DescribeRuleInput{Name: r.PhysicalResourceId})
			switch {
			case err != nil:
				found = append(found, unasked("ask whether "+rule+" is enabled", err))
			case out.State == ebtypes.RuleStateDisabled:
				found = append(found, finding{
					wrong: rule + " is disabled, so its events are lost",
					remedy: "Run this, and drop or delete again what was dropped or deleted meanwhile: " +
						p.command("aws events enable-rule --name "+aws.ToString(r.PhysicalResourceId)),
				})
			default:
				found = append(found, finding{fine: rule + " is enabled"})
			}
		}
	}
	return found
}

func (p patient) checkDeadLetters(ctx context.Context) finding {
	queue := p.outputs["DeadLetterQueueUrl"]
	out, err := sqs.NewFromConfig(p.config).GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
		QueueUrl: &queue, AttributeNames: []sqstypes.QueueAttributeName{sqstypes.QueueAttributeNameApproximateNumberOfMessages},
	})
	if err != nil {
		return unasked("ask whether there are dead letters", err)
	}
	if n := out.Attributes[string(sqstypes.QueueAttributeNameApproximateNumberOfMessages)]; n != "0" {
		return finding{
			wrong:  "events of drops in the dead-letter queue, which are not tried any more: " + n,
			remedy: "Mend what the statuses of these drops name, then run: " + p.command(p.outputs["Redrive"]),
		}
	}
	return finding{fine: "the dead-letter queue is empty"}
}

// checkRunComfy looks at the token first: without one, nothing else can be asked.
func (p patient) checkRunComfy(ctx context.Context, account, models *runcomfy.Client) []finding {
	token := p.checkToken(ctx, account)
	if token.wrong != "" {
		return []finding{token, {skipped: "the models at RunComfy were not looked at: mend the above first"}}
	}
	return append([]finding{token}, checkModels(ctx, models)...)
}

func (p patient) checkToken(ctx context.Context, api *runcomfy.Client) finding {
	set := "Run this, paste the token, then press Enter and Ctrl-D: " + p.command(p.outputs["SetToken"])
	balance, err := api.Balance(ctx)
	var unreadable smithy.APIError
	var unsent *runcomfy.TokenError
	var answered *runcomfy.Error
	switch {
	case errors.Is(err, config.ErrNoToken):
		return finding{wrong: "the RunComfy token is not set", remedy: set}
	case errors.As(err, &unreadable):
		return unasked("read the RunComfy token", err)
	case errors.As(err, &unsent):
		return finding{wrong: "what is set is no RunComfy token: " + unsent.Err.Error(), remedy: set}
	case errors.As(err, &answered) && answered.Kind() == runcomfy.KindToken:
		return finding{wrong: "RunComfy does not accept the token: " + err.Error(), remedy: set}
	case err != nil:
		return noAnswer("ask RunComfy for the balance", err)
	case balance <= 0:
		return finding{wrong: fmt.Sprintf("the balance at RunComfy is %.2f US dollars", balance), remedy: "Top up the account on RunComfy's page."}
	}
	return finding{fine: fmt.Sprintf("RunComfy accepts the token; the balance is %.2f US dollars", balance)}
}

// noAnswer is what follows when RunComfy did not answer a question.
func noAnswer(question string, err error) finding {
	return finding{wrong: fmt.Sprintf("cannot %s: %v", question, err), remedy: "Look at your network, or try again later: RunComfy may have an outage."}
}

// checkModels compares the catalogue with what RunComfy publishes today.
func checkModels(ctx context.Context, api *runcomfy.Client) []finding {
	models, err := catalog.Default()
	if err != nil {
		return []finding{{wrong: err.Error(), remedy: "Build lipdrop again, from a version that passes its tests."}}
	}
	var found []finding
	for _, id := range models.IDs() {
		model, _ := models.Model(id)
		live, err := api.Model(ctx, id)
		var answered *runcomfy.Error
		switch {
		case errors.As(err, &answered) && answered.Kind() == runcomfy.KindBadModel:
			found = append(found, finding{wrong: "RunComfy does not have the model " + id + " any more", remedy: "Use another one: its jobs are rejected, without a charge."})
		case err != nil:
			found = append(found, noAnswer("ask RunComfy for the model "+id, err))
		default:
			found = append(found, compare(id, model.Schema(), live.InputSchema))
		}
	}
	return found
}

// compare says which properties of a model's input differ between the catalogue
// and RunComfy.
func compare(id string, known, live json.RawMessage) finding {
	ours, theirs := properties(known), properties(live)
	var differ []string
	for _, name := range sortedKeys(ours) {
		if !reflect.DeepEqual(ours[name], theirs[name]) {
			differ = append(differ, name)
		}
	}
	for _, name := range sortedKeys(theirs) {
		if ours[name] == nil {
			differ = append(differ, name)
		}
	}
	if differ != nil {
		return finding{
			wrong:  "RunComfy has changed the input of " + id + ": " + strings.Join(differ, ", "),
			remedy: "Look for a newer lipdrop. Until then an option that is new is rejected here, and one that is gone is refused by RunComfy, without a charge.",
		}
	}
	return finding{fine: "RunComfy has " + id + " as the catalogue knows it"}
}

// properties returns what an input schema demands of each property: neither its
// prose, nor its default, which is a sample in part.
func properties(schema json.RawMessage) map[string]map[string]any {
	var s struct {
		Properties map[string]map[string]any `json:"properties"`
		Required   []string                  `json:"required"`
	}
	if json.Unmarshal(schema, &s) != nil {
		return nil // every property differs
	}
	for name, p := range s.Properties {
		demands := map[string]any{"required": slices.Contains(s.Required, name)}
		for _, word := range []string{"type", "enum", "minimum", "maximum", "maxLength", "minLength", "multipleOf"} {
			if p[word] != nil {
				demands[word] = p[word]
			}
		}
		s.Properties[name] = demands
	}
	return s.Properties
}
