package permissions

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/lipdrop/lipdrop"
	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/local/access"
	"github.com/lipdrop/lipdrop/internal/local/gateway"
	"github.com/lipdrop/lipdrop/internal/local/gateway/gatewaytest"
	"github.com/lipdrop/lipdrop/internal/local/states"
	"github.com/lipdrop/lipdrop/internal/template"
)

const (
	region     = gatewaytest.Region
	account    = "000000000000"
	machine    = "lipdrop"
	machineARN = "arn:aws:states:" + region + ":" + account + ":stateMachine:" + machine
	queueARN   = "arn:aws:sqs:" + region + ":" + account + ":" + machine
	queueURL   = "http://127.0.0.1/" + account + "/" + machine
	secretARN  = "arn:aws:secretsmanager:" + region + ":" + account + ":secret:token-a1B2c3"
)

// person is a user who may do everything. reader is a user who may do only what TestPeople
// allows. All users have the same secret key.
const person, reader = gatewaytest.Access, "reader"

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	os.Exit(m.Run())
}

// lab holds what all deployments share: the state machine, and an S3 server with its users.
type lab struct {
	s3      string // URL of the S3 server
	machine *states.Machine
	buckets int // number of buckets created so far

	mu     sync.Mutex
	denied []access.Denial // since the last newBucket
}

// openLab runs an S3 server until the test ends.
func openLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{}
	var err error
	l.machine, err = states.Parse(lipdrop.Machine, map[string]string{"Partition": "aws", "PollFunctionArn": "arn:poll", "ArchiveFunctionArn": "arn:archive"})
	if err != nil {
		t.Fatal(err)
	}
	users := map[string]string{reader: gatewaytest.Secret}
	for function := range template.LogicalIDs {
		users[function] = gatewaytest.Secret
	}
	_, l.s3 = gatewaytest.Start(t, func(cfg *gateway.Config) {
		cfg.Users, cfg.Denied, cfg.Log = users, l.deny, io.Discard
	})
	return l
}

func (l *lab) deny(denial *access.Denial) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.denied = append(l.denied, *denial)
}

// denials returns what was denied since the last newBucket.
func (l *lab) denials() []access.Denial {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.denied)
}

// s3As returns a client of S3 for a user, configured like the functions' clients.
func (l *lab) s3As(user string) *s3.Client { return bucket.NewClient(configAs(user, l.s3)) }

func configAs(user, endpoint string) aws.Config {
	return aws.Config{
		Region: region, BaseEndpoint: &endpoint, Credentials: credentials.NewStaticCredentialsProvider(user, gatewaytest.Secret, ""),
	}
}

// newBucket creates a bucket in which each function has the permissions of its role in
// the template, except the given permission, if any. It returns the bucket's name and the roles.
func (l *lab) newBucket(t *testing.T, versioned bool, without permission) (name string, roles map[string]template.Role) {
	t.Helper()
	l.buckets++
	name = fmt.Sprintf("drops-%d", l.buckets)
	roles = l.roles(t, name)
	if without.function != "" {
		roles[without.function] = remove(roles[without.function], without)
	}
	client := l.s3As(person)
	_, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &name})
	if err == nil && versioned {
		err = gateway.EnsureBucket(t.Context(), client, name) // enables versioning
	}
	if err != nil {
		t.Fatal(err)
	}
	l.setPolicy(t, name, roles)
	l.mu.Lock()
	l.denied = nil
	l.mu.Unlock()
	return name, roles
}

// setPolicy lets each user do in a bucket what the user's role allows.
func (l *lab) setPolicy(t *testing.T, bucket string, roles map[string]template.Role) {
	t.Helper()
	policy, err := template.BucketPolicy(roles)
	if err == nil {
		_, err = l.s3As(person).PutBucketPolicy(t.Context(), &s3.PutBucketPolicyInput{Bucket: &bucket, Policy: aws.String(string(policy))})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// remove returns a role without one permission. It splits only the statement that has the
// permission, so that the policy stays short: the S3 server stores the policy in an extended
// attribute, which holds only a few kilobytes.
func remove(role template.Role, without permission) template.Role {
	var left template.Role
	for _, st := range role {
		single := split(template.Role{st})
		is := func(st template.Statement) bool { return permissionOf(without.function, st) == without }
		if slices.ContainsFunc(single, is) {
			left = append(left, slices.DeleteFunc(single, is)...)
		} else {
			left = append(left, st)
		}
	}
	return left
}

// roles returns the role of each function in the template, with the given bucket as the
// stack's bucket.
func (l *lab) roles(t *testing.T, bucket string) map[string]template.Role {
	t.Helper()
	byID, err := template.Roles(lipdrop.Template, map[string]string{
		"AWS::Partition": "aws", "AWS::Region": region, "AWS::AccountId": account,
		"Bucket": bucket, "StateMachine": machineARN, "StateMachine.Name": machine, "TokenSecret": secretARN,
		"Queue.Arn": queueARN,
	})
	if err != nil {
		t.Fatal(err)
	}
	return template.ByName(byID)
}
