package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	ebtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/config"
	"github.com/lipdrop/lipdrop/internal/runcomfy"
)

type doctorCmd struct {
	target
	RunComfyURL string `name:"runcomfy-url" hidden:"" help:"Address of the Model API and the account API, for tests."`
}

// finding is what a check found: fine, or what to mend.
type finding struct {
	what, wrong, remedy string
}

// Run looks at a deployed stack by calls that read and cost nothing, and says
// what to mend.
func (c *doctorCmd) Run(ctx context.Context, out io.Writer) error {
	if c.Stack == "" {
		return errors.New("name the stack to look at with --stack")
	}
	d, err := c.open(ctx)
	if err != nil {
		return err
	}
	token := &config.Token{Client: secretsmanager.NewFromConfig(d.config), ARN: d.outputs["TokenSecretArn"], Now: time.Now}
	models := &runcomfy.Client{Token: token.Get, BaseURL: c.RunComfyURL}
	account := &runcomfy.Client{Token: token.Get, BaseURL: c.RunComfyURL}
	if account.BaseURL == "" {
		account.BaseURL = runcomfy.AccountBaseURL
	}
	wrong := 0
	say := func(found ...finding) {
		for _, f := range found {
			if f.wrong == "" {
				fmt.Fprintf(out, "ok     %s\n", f.what)
				continue
			}
			wrong++
			fmt.Fprintf(out, "WRONG  %s: %s\n       %s\n", f.what, f.wrong, f.remedy)
		}
	}
	say(d.checkBucketEvents(ctx))
	say(d.checkRules(ctx, c.Stack)...)
	say(d.checkDeadLetters(ctx))
	usable, found := d.checkToken(ctx, account)
	say(found)
	if usable { // without a token RunComfy tells nothing of its models
		say(checkModels(ctx, models)...)
	}
	if wrong > 0 {
		return fmt.Errorf("%s to mend", count(wrong, "thing"))
	}
	return nil
}

// failed is a check that could not be made.
func failed(what string, err error) finding {
	return finding{what, err.Error(), "Look at your credentials, region and network, and run it again."}
}

func (d *deployment) checkBucketEvents(ctx context.Context) finding {
	what := "the bucket sends its events to EventBridge"
	out, err := d.bucket.s3.GetBucketNotificationConfiguration(ctx, &s3.GetBucketNotificationConfigurationInput{Bucket: &d.bucket.name})
	if err != nil {
		return failed(what, err)
	}
	if out.EventBridgeConfiguration == nil {
		return finding{what, "it does not", fmt.Sprintf(
			"Run: aws s3api put-bucket-notification-configuration --bucket %s --notification-configuration '{\"EventBridgeConfiguration\": {}}' (it replaces other notifications of the bucket).", d.bucket.name)}
	}
	return finding{what: what}
}

func (d *deployment) checkRules(ctx context.Context, stack string) []finding {
	what := "the rules are enabled"
	rules := eventbridge.NewFromConfig(d.config)
	pages := cloudformation.NewListStackResourcesPaginator(cloudformation.NewFromConfig(d.config), &cloudformation.ListStackResourcesInput{StackName: &stack})
	var found []finding
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return []finding{failed(what, err)}
		}
		for _, r := range page.StackResourceSummaries {
			if aws.ToString(r.ResourceType) != "AWS::Events::Rule" {
				continue
			}
			rule := "the rule " + aws.ToString(r.LogicalResourceId) + " is enabled"
			out, err := rules.DescribeRule(ctx, &eventbridge.DescribeRuleInput{Name: r.PhysicalResourceId})
			switch {
			case err != nil:
				found = append(found, failed(rule, err))
			case out.State != ebtypes.RuleStateEnabled:
				found = append(found, finding{rule, "it is " + string(out.State), "Run: aws events enable-rule --name " + aws.ToString(r.PhysicalResourceId)})
			default:
				found = append(found, finding{what: rule})
			}
		}
	}
	if found == nil {
		found = append(found, finding{what, "the stack has none", "Deploy the stack again."})
	}
	return found
}

func (d *deployment) checkDeadLetters(ctx context.Context) finding {
	what := "no event was given up"
	queue := d.outputs["DeadLetterQueueUrl"]
	out, err := sqs.NewFromConfig(d.config).GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
		QueueUrl: &queue, AttributeNames: []sqstypes.QueueAttributeName{sqstypes.QueueAttributeNameApproximateNumberOfMessages},
	})
	if err != nil {
		return failed(what, err)
	}
	n, err := strconv.Atoi(out.Attributes[string(sqstypes.QueueAttributeNameApproximateNumberOfMessages)])
	switch {
	case err != nil:
		return failed(what, err)
	case n > 0:
		return finding{what, "the dead-letter queue holds " + count(n, "event"), "Mend what the statuses of their jobs name, then run: " + d.outputs["Redrive"]}
	}
	return finding{what: what}
}

// checkToken asks for the balance, and reports whether there is a token that
// was not refused.
func (d *deployment) checkToken(ctx context.Context, api *runcomfy.Client) (usable bool, found finding) {
	what := "RunComfy accepts the token"
	set := "Paste one after this command: " + d.outputs["SetToken"]
	balance, err := api.Balance(ctx)
	var unread *runcomfy.TokenError
	var answered *runcomfy.Error
	switch {
	case errors.Is(err, config.ErrNoToken):
		return false, finding{what, "none is set", set}
	case errors.As(err, &unread):
		return false, finding{what, err.Error(), "Look at the secret " + d.outputs["TokenSecretArn"] + " and at your permission to read it."}
	case errors.As(err, &answered) && answered.Kind() == runcomfy.KindToken:
		return false, finding{what, err.Error(), set}
	case err != nil:
		return true, failed(what, err)
	case balance <= 0:
		return true, finding{what, fmt.Sprintf("it does, but the balance is %.2f US dollars", balance), "Top up the account on RunComfy's page."}
	}
	return true, finding{what: fmt.Sprintf("%s; the balance is %.2f US dollars", what, balance)}
}

// checkModels compares the catalogue with what RunComfy publishes today.
func checkModels(ctx context.Context, api *runcomfy.Client) []finding {
	models, err := catalog.Default()
	if err != nil {
		return []finding{failed("the catalogue of models", err)}
	}
	var found []finding
	for _, id := range models.IDs() {
		what := "the catalogue knows " + id + " as RunComfy publishes it"
		model, _ := models.Model(id)
		live, err := api.Model(ctx, id)
		var answered *runcomfy.Error
		switch {
		case errors.As(err, &answered) && answered.Kind() == runcomfy.KindBadModel:
			found = append(found, finding{what, "RunComfy does not know it", "Use another model, or look for a newer lipdrop; jobs of this one are rejected by RunComfy without a charge."})
		case err != nil:
			found = append(found, failed(what, err))
		case !sameInputs(model.Schema(), live.InputSchema):
			found = append(found, finding{what, "RunComfy has changed its input schema", "Look for a newer lipdrop; until then options that are new are rejected, and jobs that RunComfy refuses for its changes are not charged."})
		default:
			found = append(found, finding{what: what})
		}
	}
	return found
}

// sameInputs reports whether two input schemas ask for the same, whatever their
// prose and their defaults, which are samples in part.
func sameInputs(a, b json.RawMessage) bool {
	return reflect.DeepEqual(inputsOf(a), inputsOf(b))
}

// inputs are what a schema says of its properties.
type inputs struct {
	Required   []string
	Properties map[string]map[string]any
}

// inputsOf returns what a schema asks for: nothing where it is no schema.
func inputsOf(schema json.RawMessage) inputs {
	var in inputs
	if json.Unmarshal(schema, &in) != nil {
		return inputs{}
	}
	slices.Sort(in.Required)
	for _, p := range in.Properties {
		for name := range p {
			switch name {
			case "type", "enum", "minimum", "maximum", "maxLength", "minLength", "multipleOf":
			default:
				delete(p, name)
			}
		}
	}
	return in
}
