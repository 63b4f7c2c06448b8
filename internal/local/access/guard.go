package access

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/lipdrop/lipdrop/internal/local/awsjson"
	"github.com/lipdrop/lipdrop/internal/template"
)

// credential matches the access key and the region in the header Authorization.
var credential = regexp.MustCompile(`Credential=([^/,]+)/[^/,]+/([^/,]+)/`)

// Account is the account of the local stack.
const Account = "000000000000"

// Denial is a request that was refused because the role of its user does not allow it.
type Denial struct {
	User     string // name of a function
	Action   string // such as s3:GetObject
	Resource string // an ARN, or "" if the request names no resource that the local stack knows
	Prefix   string // prefix of a listing
}

func (d *Denial) Error() string {
	about := cmp.Or(d.Resource, "an unknown resource")
	if d.Prefix != "" {
		about += " with the prefix " + d.Prefix
	}
	return fmt.Sprintf("%[1]s may not %s on %s: no statement of the role of %[1]s in template.yaml allows this action", d.User, d.Action, about)
}

// Guard returns a check of requests to Step Functions, Secrets Manager, SQS and EventBridge.
// If the role of a request's user does not allow the request, the check calls denied and
// refuses the request. It accepts a request that is unsigned or whose user is not in users. It
// takes the access key of a request as the name of its user, so check the signature first.
func Guard(users map[string]template.Role, denied func(*Denial)) awsjson.Check {
	return func(r *http.Request, body []byte) *awsjson.Error {
		signed := credential.FindStringSubmatch(r.Header.Get("Authorization"))
		if signed == nil {
			return nil
		}
		user, region := signed[1], signed[2]
		role, ok := users[user]
		if !ok {
			return nil
		}
		var about struct {
			StateMachineArn, ExecutionArn, SecretID, QueueURL string
			Entries                                           []struct{ Source string } // the events to put on the default event bus
		}
		_ = json.Unmarshal(body, &about) // a body that is not JSON names no resource
		service, operation := awsjson.Target(r)
		denial := &Denial{
			User: user, Action: service + ":" + operation,
			Resource: cmp.Or(about.StateMachineArn, about.ExecutionArn, about.SecretID, arnOfQueue(region, about.QueueURL)),
		}
		conditions := map[string][]string{}
		for _, entry := range about.Entries {
			denial.Resource = "arn:aws:events:" + region + ":" + Account + ":event-bus/default"
			conditions["events:source"] = append(conditions["events:source"], entry.Source)
		}
		if role.Allows(denial.Action, denial.Resource, conditions) {
			return nil
		}
		denied(denial)
		return awsjson.Errorf("AccessDeniedException", "%v", denial)
	}
}

// arnOfQueue returns the ARN of the queue at a URL. It returns "" if the URL does not end
// in the account and the name of a queue.
func arnOfQueue(region, url string) string {
	parts := strings.Split(url, "/")
	if len(parts) < 2 || parts[len(parts)-2] != Account {
		return ""
	}
	return "arn:aws:sqs:" + region + ":" + Account + ":" + parts[len(parts)-1]
}
