package template

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/lipdrop/lipdrop/internal/ledger"
)

// published lists the metrics that AWS services publish for a resource, and the dimension
// that identifies the resource.
var published = map[string]struct {
	dimension string
	value     map[string]string // by resource type: what follows the logical id in the dimension's value
	metrics   string
}{
	// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
	"AWS/SQS": {"QueueName", map[string]string{"AWS::SQS::Queue": ".QueueName"},
		"ApproximateAgeOfOldestMessage ApproximateNumberOfMessagesDelayed ApproximateNumberOfMessagesNotVisible " +
			"ApproximateNumberOfMessagesVisible NumberOfEmptyReceives NumberOfMessagesDeleted NumberOfMessagesReceived " +
			"NumberOfMessagesSent SentMessageSize"},
	// https://docs.aws.amazon.com/step-functions/latest/dg/procedure-cw-metrics.html
	"AWS/States": {"StateMachineArn", map[string]string{"AWS::StepFunctions::StateMachine": "", "AWS::Serverless::StateMachine": ""},
		"ExecutionTime ExecutionThrottled ExecutionsAborted ExecutionsFailed ExecutionsStarted ExecutionsSucceeded ExecutionsTimedOut"},
	// https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
	"AWS/Lambda": {"FunctionName", map[string]string{"AWS::Lambda::Function": "", "AWS::Serverless::Function": ""},
		"AsyncEventAge AsyncEventsDropped AsyncEventsReceived ConcurrentExecutions DeadLetterErrors Duration Errors Invocations Throttles"},
	// https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-monitoring.html
	"AWS/Events": {"RuleName", map[string]string{"AWS::Events::Rule": ""},
		"DeadLetterInvocations FailedInvocations Invocations InvocationsFailedToBeSentToDlq InvocationsSentToDlq ThrottledRules TriggeredRules"},
}

// metric is what an alarm watches or a widget draws.
type metric struct {
	namespace, name  string
	dimension, value string
}

type alarm struct {
	AlarmDescription, Namespace, MetricName, TreatMissingData string

	Dimensions   []struct{ Name, Value string }
	AlarmActions []string
}

type metricFilter struct {
	LogGroupName, FilterPattern string

	MetricTransformations []struct{ MetricNamespace, MetricName, MetricValue string }
}

// missing returns why nothing publishes a metric, or "" if something does.
func (m metric) missing(s stack, t *testing.T) string {
	t.Helper()
	if strings.HasPrefix(m.namespace, "lipdrop/") {
		for id := range ofType(s, "AWS::Logs::MetricFilter") {
			for _, tr := range properties[metricFilter](t, s, id).MetricTransformations {
				if tr.MetricNamespace == m.namespace && tr.MetricName == m.name && m.dimension == "" {
					return ""
				}
			}
		}
		return fmt.Sprintf("no metric filter makes %s %s", m.namespace, m.name)
	}
	service, ok := published[m.namespace]
	if !ok || !slices.Contains(strings.Fields(service.metrics), m.name) {
		return fmt.Sprintf("no service publishes %s %s", m.namespace, m.name)
	}
	if m.dimension != service.dimension {
		return fmt.Sprintf("%s has the dimension %s, not %q", m.namespace, service.dimension, m.dimension)
	}
	for id, r := range s.Resources {
		if suffix, ok := service.value[r.Type]; ok && m.value == id+suffix {
			return ""
		}
	}
	return fmt.Sprintf("%s %s is a metric of %s, which is not in the stack", m.namespace, m.name, m.value)
}

func TestAlarmsWatchMetricsThatExist(t *testing.T) {
	forBothForms(t, func(t *testing.T, s stack) {
		for id := range ofType(s, "AWS::CloudWatch::Alarm") {
			a := properties[alarm](t, s, id)
			m := metric{namespace: a.Namespace, name: a.MetricName}
			if len(a.Dimensions) == 1 {
				m.dimension, m.value = a.Dimensions[0].Name, a.Dimensions[0].Value
			}
			if len(a.Dimensions) > 1 {
				t.Errorf("%s has %d dimensions, want at most one", id, len(a.Dimensions))
			} else if problem := m.missing(s, t); problem != "" {
				t.Errorf("%s: %s", id, problem)
			}
			if a.AlarmDescription == "" || a.TreatMissingData != "notBreaching" || !slices.Equal(a.AlarmActions, []string{"AlarmTopic"}) {
				t.Errorf("%s has the description %q, the actions %v and %q for missing data; want a description, AlarmTopic and notBreaching",
					id, a.AlarmDescription, a.AlarmActions, a.TreatMissingData)
			}
		}
	})
}

// Alarms are mailed to AlarmEmail, if it is set.
func TestAlarmMail(t *testing.T) {
	if _, ok := written(t, nil).Resources["AlarmMail"]; ok {
		t.Error("without AlarmEmail there is a subscription to alarms, want none")
	}
	s := written(t, map[string]string{"AlarmEmail": "a@example.com"})
	mail := properties[struct{ TopicArn, Protocol, Endpoint string }](t, s, "AlarmMail")
	if mail.TopicArn != "AlarmTopic" || mail.Protocol != "email" || mail.Endpoint != "a@example.com" {
		t.Errorf("the subscription is %+v, want one of AlarmTopic by email to a@example.com", mail)
	}
}

// EventBridge loses an event that it cannot put into a queue, so each rule with a queue
// as its target has an alarm. Each dead-letter queue has an alarm for its messages.
func TestUndeliveredEventsRaiseAnAlarm(t *testing.T) {
	s := written(t, withNotices)
	watched := map[[2]string]bool{} // the dimension's value and the metric of each alarm
	for id := range ofType(s, "AWS::CloudWatch::Alarm") {
		if a := properties[alarm](t, s, id); len(a.Dimensions) == 1 {
			watched[[2]string{a.Dimensions[0].Value, a.MetricName}] = true
		}
	}
	wantAlarm := func(id, deadArn string) {
		if dead := strings.TrimSuffix(deadArn, ".Arn"); dead != "" && !watched[[2]string{dead + ".QueueName", "ApproximateNumberOfMessagesVisible"}] {
			t.Errorf("no alarm says that messages of %s are in %s", id, dead)
		}
	}
	for id := range ofType(s, "AWS::Events::Rule") {
		for _, target := range properties[noticeRule](t, s, id).Targets {
			wantAlarm(id, target.DeadLetterConfig.Arn)
			to, _, _ := strings.Cut(target.Arn, ".")
			if s.Resources[to].Type == "AWS::SQS::Queue" && !watched[[2]string{id, "FailedInvocations"}] {
				t.Errorf("no alarm says that events of %s did not reach %s", id, to)
			}
		}
	}
	for id := range ofType(s, "AWS::SQS::Queue") {
		wantAlarm(id, properties[queue](t, s, id).RedrivePolicy.DeadLetterTargetArn)
	}
}

// logGroups returns, by log group, the folder of the function that writes to it.
func logGroups(t *testing.T, s stack) map[string]string {
	t.Helper()
	groups := map[string]string{}
	for folder, id := range functions {
		config := properties[struct {
			LoggingConfig struct{ LogFormat, LogGroup string }
		}](t, s, id).LoggingConfig
		if config.LogFormat != "JSON" {
			t.Errorf("%s has the log format %q, want JSON", id, config.LogFormat)
		}
		groups[config.LogGroup] = folder
	}
	return groups
}

// comparison matches a comparison of a filter pattern.
var comparison = regexp.MustCompile(`\$\.(\w+) (=|>=|!=) ("[^"]*"|\d+)`)

// A metric filter looks for messages that the function of its log group logs. Every line with
// such a message has all the members that the filter uses.
func TestMetricFiltersMatchWhatIsLogged(t *testing.T) {
	forBothForms(t, func(t *testing.T, s stack) {
		groups := logGroups(t, s)
		for id := range ofType(s, "AWS::Logs::MetricFilter") {
			f := properties[metricFilter](t, s, id)
			folder, ok := groups[f.LogGroupName]
			if !ok {
				t.Errorf("%s filters %s, which is not the log group of a function", id, f.LogGroupName)
				continue
			}
			lines := loggedMessages(t, folder)
			var messages, members []string
			for _, match := range comparison.FindAllStringSubmatch(f.FilterPattern, -1) {
				value := strings.Trim(match[3], `"`)
				switch match[1] {
				case "message":
					messages = append(messages, value)
				case "state":
					if !isState(value) {
						t.Errorf("%s looks for the state %s, which does not exist", id, value)
					}
					fallthrough
				default:
					members = append(members, match[1])
				}
			}
			for _, tr := range f.MetricTransformations {
				if member, ok := strings.CutPrefix(tr.MetricValue, "$."); ok {
					members = append(members, member)
				}
			}
			if len(messages) == 0 {
				t.Errorf("%s looks for no message", id)
			}
			// Submit logs a state with one of two messages, so a filter that counts a state needs both.
			if slices.Contains(members, "state") && !slices.Equal(slices.Sorted(slices.Values(messages)), []string{"assessed", "not submitted"}) {
				t.Errorf("%s counts only the states in lines with %q, want \"assessed\" and \"not submitted\"", id, messages)
			}
			for _, message := range messages {
				for _, member := range append(members, "message") {
					if !lines[message][member] {
						t.Errorf("%s looks for %q with %s, which %s does not log", id, message, member, folder)
					}
				}
			}
		}
	})
}

func isState(word string) bool {
	return slices.Contains(append(ledger.StatusStates(), ledger.Submitting), ledger.State(word))
}

type widget struct {
	Type       string
	Width, X   int
	Properties struct {
		Title, Query, Region string
		Alarms               []string
		Metrics              [][]any
	}
}

func widgets(t *testing.T, s stack) []widget {
	t.Helper()
	body := properties[struct{ DashboardBody string }](t, s, "Dashboard").DashboardBody
	var dashboard struct{ Widgets []widget }
	if err := json.Unmarshal([]byte(body), &dashboard); err != nil {
		t.Fatalf("the dashboard is not JSON: %v", err)
	}
	if len(dashboard.Widgets) == 0 {
		t.Fatal("the dashboard has no widgets")
	}
	return dashboard.Widgets
}

func TestWidgetsDrawMetricsThatExist(t *testing.T) {
	forBothForms(t, func(t *testing.T, s stack) {
		for _, w := range widgets(t, s) {
			if w.X+w.Width > 24 {
				t.Errorf("%s reaches beyond the right edge of the dashboard", w.Properties.Title)
			}
			if w.Type == "metric" && len(w.Properties.Metrics) == 0 {
				t.Errorf("%s draws no metric", w.Properties.Title)
			}
			for _, row := range w.Properties.Metrics {
				var words []string
				for _, cell := range row {
					if word, ok := cell.(string); ok {
						words = append(words, word)
					}
				}
				m := metric{namespace: words[0], name: words[1]}
				if len(words) == 4 {
					m.dimension, m.value = words[2], words[3]
				}
				if problem := m.missing(s, t); problem != "" {
					t.Errorf("%s: %s", w.Properties.Title, problem)
				}
			}
		}
	})
}

func TestDashboardShowsEveryAlarm(t *testing.T) {
	s := written(t, nil)
	missing := ofType(s, "AWS::CloudWatch::Alarm")
	for _, w := range widgets(t, s) {
		if w.Type != "alarm" {
			continue
		}
		for _, arn := range w.Properties.Alarms {
			id := strings.TrimSuffix(arn, ".Arn")
			if !missing[id] {
				t.Errorf("the dashboard shows %s, which is not an alarm, or shows it twice", arn)
			}
			delete(missing, id)
		}
	}
	for id := range missing {
		t.Errorf("the dashboard does not show %s", id)
	}
}

// These match the log groups, the lists of words and the fields of a CloudWatch Logs Insights query.
var (
	sourceOf  = regexp.MustCompile(`SOURCE '([^']*)'`)
	wordLists = regexp.MustCompile(`in \[([^\]]*)\]`)
	fieldList = regexp.MustCompile(`(?:\| fields|\bby|latest\() ?([@\w, ]+)`)
)

// The tables of the dashboard look for messages and members that the functions log.
func TestWidgetsQueryWhatIsLogged(t *testing.T) {
	s := written(t, nil)
	groups := logGroups(t, s)
	tables := 0
	for _, w := range widgets(t, s) {
		if w.Type != "log" {
			continue
		}
		tables++
		messages, members := map[string]bool{}, map[string]bool{"@timestamp": true}
		for _, match := range sourceOf.FindAllStringSubmatch(w.Properties.Query, -1) {
			folder, ok := groups[match[1]]
			if !ok {
				t.Errorf("%s: %s is not the log group of a function", w.Properties.Title, match[1])
				continue
			}
			for message, keys := range loggedMessages(t, folder) {
				messages[message] = true
				maps.Copy(members, keys)
			}
		}
		for _, match := range wordLists.FindAllStringSubmatch(w.Properties.Query, -1) {
			for word := range strings.SplitSeq(match[1], ", ") {
				if word = strings.Trim(word, `"`); !messages[word] && !isState(word) {
					t.Errorf("%s: no function logs %q", w.Properties.Title, word)
				}
			}
		}
		for _, match := range fieldList.FindAllStringSubmatch(w.Properties.Query, -1) {
			for field := range strings.SplitSeq(match[1], ",") {
				if field = strings.TrimSpace(field); !members[field] {
					t.Errorf("%s: no function logs the member %q", w.Properties.Title, field)
				}
			}
		}
	}
	if tables != 2 {
		t.Errorf("the dashboard has %d tables, want 2", tables)
	}
}
