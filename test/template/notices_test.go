package template

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/notice"
)

// withNotices are parameters with which the stack has all its resources for notices.
var withNotices = map[string]string{"NotifyEmail": "a@example.com", "NotifyWebhookUrl": "https://example.com/hook?a=b"}

// noticeRule has the properties that the tests read from an EventBridge rule.
type noticeRule struct {
	EventPattern map[string]any
	Targets      []struct {
		Arn, RoleArn     string
		RetryPolicy      struct{ MaximumEventAgeInSeconds, MaximumRetryAttempts int }
		DeadLetterConfig struct{ Arn string }
		InputTransformer struct {
			InputPathsMap map[string]string
			InputTemplate string
		}
	}
}

// capture is a client of EventBridge that keeps the event of the last call.
type capture struct{ entry types.PutEventsRequestEntry }

func (c *capture) PutEvents(_ context.Context, in *eventbridge.PutEventsInput, _ ...func(*eventbridge.Options)) (*eventbridge.PutEventsOutput, error) {
	c.entry = in.Entries[0]
	return &eventbridge.PutEventsOutput{}, nil
}

// sentEvent returns the event that EventBridge delivers after a function of a stack has
// sent a notice about a state.
func sentEvent(t *testing.T, stackName string, state ledger.State) map[string]any {
	t.Helper()
	c := &capture{}
	s := &notice.Sender{Client: c, Bucket: "b", MachineARN: "arn:aws:states:us-east-1:1:stateMachine:" + stackName, Now: time.Now}
	n := ledger.Notice{Status: ledger.Status{Name: "ads/talk", State: state, Reason: `says "no"`, Remedy: "do"}, Key: "status/ads/talk.json"}
	if !s.Send(t.Context(), n) {
		t.Fatal("the notice was not sent")
	}
	var detail map[string]any
	if err := json.Unmarshal([]byte(*c.entry.Detail), &detail); err != nil {
		t.Fatal(err)
	}
	return map[string]any{
		"version": "0", "id": "1", "account": "000000000000", "region": "us-east-1", "resources": []any{}, "time": "2026-11-21T12:00:00Z",
		"source": *c.entry.Source, "detail-type": *c.entry.DetailType, "detail": detail,
	}
}

// The rule for mail matches the notices that NotifyOn selects, and the rule for the webhook
// matches every notice. Neither rule matches other events.
func TestRulesMatchTheNotices(t *testing.T) {
	all := notice.States()
	failures := []ledger.State{ledger.Failed, ledger.Unknown, ledger.Rejected, ledger.Held}
	for _, on := range []string{"failures", "all"} {
		given := map[string]string{"NotifyOn": on}
		maps.Copy(given, withNotices)
		s := written(t, given)
		for rule, wanted := range map[string][]ledger.State{"NoticeMailRule": failures, "WebhookRule": all} {
			if on == "all" {
				wanted = all
			}
			pattern := properties[noticeRule](t, s, rule).EventPattern
			for _, state := range all {
				if got, want := matches(t, pattern, sentEvent(t, "STACK", state)), slices.Contains(wanted, state); got != want {
					t.Errorf("with NotifyOn=%s, %s matches an event about %s: %v, want %v", on, rule, state, got, want)
				}
				if matches(t, pattern, sentEvent(t, "ANOTHER", state)) {
					t.Errorf("%s matches an event of another stack", rule)
				}
				foreign := sentEvent(t, "STACK", state)
				foreign["source"] = "somebody"
				if matches(t, pattern, foreign) {
					t.Errorf("%s matches an event of another source", rule)
				}
			}
		}
	}
}

// The mail's template uses only what each event has, and each line of the template is a
// JSON string.
func TestMailOfEachNotice(t *testing.T) {
	s := written(t, withNotices)
	rule := properties[noticeRule](t, s, "NoticeMailRule")
	transform := rule.Targets[0].InputTransformer
	for name, path := range transform.InputPathsMap {
		if !strings.Contains(transform.InputTemplate, "<"+name+">") {
			t.Errorf("the mail does not use %s", name)
		}
		for _, state := range notice.States() {
			if at(sentEvent(t, "STACK", state), path) == "" {
				t.Errorf("an event about %s has no %s", state, path)
			}
		}
	}
	for line := range strings.SplitSeq(transform.InputTemplate, "\n") {
		var text string
		if err := json.Unmarshal([]byte(line), &text); err != nil {
			t.Errorf("EventBridge refuses the line %s: %v", line, err)
		}
		for _, part := range strings.Split(text, "<")[1:] {
			if name, _, _ := strings.Cut(part, ">"); transform.InputPathsMap[name] == "" {
				t.Errorf("the mail uses <%s>, which InputPathsMap does not have", name)
			}
		}
	}
}

// at returns the text at a path such as $.detail.state.
func at(event map[string]any, path string) string {
	var value any = event
	for name := range strings.SplitSeq(strings.TrimPrefix(path, "$."), ".") {
		members, _ := value.(map[string]any)
		value = members[name]
	}
	text, _ := value.(string)
	return text
}

// EventBridge tries for a day, or 185 times (both are its limits), to send a notice that the topic
// or the webhook does not accept. It then puts the notice into a dead-letter queue.
func TestNoticesAreTriedForADay(t *testing.T) {
	s := written(t, withNotices)
	for rule, target := range map[string]string{"NoticeMailRule": "NoticeTopic", "WebhookRule": "WebhookDestination.Arn"} {
		targets := properties[noticeRule](t, s, rule).Targets
		if len(targets) != 1 || targets[0].Arn != target || targets[0].RetryPolicy.MaximumEventAgeInSeconds != 24*60*60 ||
			targets[0].RetryPolicy.MaximumRetryAttempts != 185 || targets[0].DeadLetterConfig.Arn != "NoticeDeadLetterQueue.Arn" {
			t.Errorf("%s has the targets %+v, want %s, tried for a day with a dead-letter queue", rule, targets, target)
		}
	}
}

// The webhook has the URL of NotifyWebhookUrl, and a key that the stack generates.
func TestWebhook(t *testing.T) {
	s := written(t, withNotices)
	destination := properties[struct {
		ConnectionArn, HTTPMethod, InvocationEndpoint string
		InvocationRateLimitPerSecond                  int
	}](t, s, "WebhookDestination")
	if destination.ConnectionArn != "WebhookConnection.Arn" || destination.HTTPMethod != "POST" || destination.InvocationEndpoint != withNotices["NotifyWebhookUrl"] ||
		destination.InvocationRateLimitPerSecond == 0 {
		t.Errorf("the destination is %+v, want WebhookConnection.Arn, POST, %s and a rate limit", destination, withNotices["NotifyWebhookUrl"])
	}
	connection := properties[struct {
		AuthorizationType string
		AuthParameters    struct {
			APIKeyAuthParameters struct{ APIKeyName, APIKeyValue string }
		}
	}](t, s, "WebhookConnection")
	key := connection.AuthParameters.APIKeyAuthParameters
	if connection.AuthorizationType != "API_KEY" || key.APIKeyName != "X-Lipdrop-Key" || key.APIKeyValue != "{{resolve:secretsmanager:WebhookKey}}" {
		t.Errorf("the connection is %+v, want X-Lipdrop-Key with the value of the secret WebhookKey", connection)
	}
	if generated := properties[struct {
		GenerateSecretString struct{ PasswordLength int }
	}](t, s, "WebhookKey").GenerateSecretString.PasswordLength; generated < 32 {
		t.Errorf("the key has %d characters, want at least 32", generated)
	}
}

// EventBridge sends notices with roles that allow nothing else. The topics have no policies:
// EventBridge does not support conditions in them, and without a condition the rules of every
// account could publish.
// https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-resource-based.html
func TestNoticesAreSentWithRoles(t *testing.T) {
	s := written(t, withNotices)
	for rule, want := range map[string]struct{ role, action, resource string }{
		"NoticeMailRule": {"NoticeMailRole", "sns:Publish", "NoticeTopic"},
		"WebhookRule":    {"WebhookRole", "events:InvokeApiDestination", "WebhookDestination.Arn"},
	} {
		if got := properties[noticeRule](t, s, rule).Targets[0].RoleArn; got != want.role+".Arn" {
			t.Errorf("the target of %s has the role %q, want %s.Arn", rule, got, want.role)
		}
		policies := properties[role](t, s, want.role).Policies
		if len(policies) != 1 || len(policies[0].PolicyDocument.Statement) != 1 {
			t.Errorf("%s has the policies %+v, want one statement", want.role, policies)
			continue
		}
		st := policies[0].PolicyDocument.Statement[0]
		if !slices.Equal(st.Action, []string{want.action}) || !slices.Equal(st.Resource, []string{want.resource}) {
			t.Errorf("%s allows %v on %v, want %s on %s", want.role, st.Action, st.Resource, want.action, want.resource)
		}
	}
	if policies := ofType(s, "AWS::SNS::TopicPolicy"); len(policies) > 0 {
		t.Errorf("the topics have the policies %v, want none", policies)
	}
}

// Without NotifyEmail and NotifyWebhookUrl, the stack has no resources that mail notices or send them
// to a webhook.
func TestNoticesAreOffByDefault(t *testing.T) {
	s, full := written(t, nil), written(t, withNotices)
	for id := range full.Resources {
		sends := strings.HasPrefix(id, "Webhook") || strings.HasPrefix(id, "NoticeMail") || id == "NoticeTopic"
		if _, kept := s.Resources[id]; kept == sends {
			t.Errorf("%s is in a stack without notices: %v, want %v", id, kept, !kept)
		}
	}
}
