package permissions

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/local/build"
	"github.com/lipdrop/lipdrop/internal/local/gateway"
	"github.com/lipdrop/lipdrop/internal/local/permissions"
	"github.com/lipdrop/lipdrop/internal/local/states"
)

const (
	region     = "us-east-1"
	account    = "000000000000"
	machine    = "lipdrop"
	machineARN = "arn:aws:states:" + region + ":" + account + ":stateMachine:" + machine
	queueARN   = "arn:aws:sqs:" + region + ":" + account + ":" + machine
	queueURL   = "http://127.0.0.1/" + account + "/" + machine
	secretARN  = "arn:aws:secretsmanager:" + region + ":" + account + ":secret:token-a1B2c3"
)

// person is a user who may do everything. reader is a user who may do only what TestPeople
// allows. All users have the same secret key.
const person, reader, secretKey = "person", "reader", "on-loopback"

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	os.Exit(m.Run())
}

// lab holds what all deployments share: the template, the state machine and an S3
// server with a user for each function.
type lab struct {
	t        *testing.T
	s3       string // URL of the S3 server
	template []byte
	machine  *states.Machine
	buckets  int // number of buckets created so far

	mu     sync.Mutex
	denied []permissions.Denial // since the last deployment
}

// openLab runs an S3 server until the test ends.
func openLab(t *testing.T) *lab {
	t.Helper()
	source, err := build.Find(".", func(text string) { t.Log(text) })
	if err != nil {
		t.Fatal(err)
	}
	program, err := source.Gateway(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{t: t}
	if l.template, err = os.ReadFile(filepath.Join(source.Root, "template.yaml")); err != nil {
		t.Fatal(err)
	}
	definition, err := os.ReadFile(filepath.Join(source.Root, "statemachine.asl.json"))
	if err != nil {
		t.Fatal(err)
	}
	l.machine, err = states.Parse(definition, map[string]string{"Partition": "aws", "PollFunctionArn": "arn:poll", "ArchiveFunctionArn": "arn:archive"})
	if err != nil {
		t.Fatal(err)
	}
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	t.Cleanup(hook.Close)
	users := map[string]string{reader: secretKey}
	for function := range permissions.LogicalIDs {
		users[function] = secretKey
	}
	server, err := gateway.Start(t.Context(), gateway.Config{
		Program: program, Dir: t.TempDir(), Access: person, Secret: secretKey,
		Region: region, Webhook: hook.URL, Log: io.Discard, Users: users, Denied: l.deny,
	})
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(server)
	l.s3 = front.URL
	t.Cleanup(func() {
		front.Close()
		server.Close()
	})
	return l
}

func (l *lab) deny(denial *permissions.Denial) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.denied = append(l.denied, *denial)
}

// denials returns what was denied since the last deployment.
func (l *lab) denials() []permissions.Denial {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.denied)
}

// s3As returns a client of S3 for a user, configured like the functions' clients.
func (l *lab) s3As(user string) *s3.Client { return bucket.NewClient(configAs(user, l.s3)) }

func configAs(user, endpoint string) aws.Config {
	return aws.Config{
		Region: region, BaseEndpoint: &endpoint, Credentials: credentials.NewStaticCredentialsProvider(user, secretKey, ""),
	}
}

// newBucket creates a bucket in which each function has the permissions of its role in
// the template, except the given permission, if any. It returns the bucket's name and the roles.
func (l *lab) newBucket(versioned bool, without permission) (name string, roles map[string]permissions.Role) {
	l.t.Helper()
	l.buckets++
	name = fmt.Sprintf("drops-%d", l.buckets)
	roles = l.roles(name)
	if without.function != "" {
		roles[without.function] = remove(roles[without.function], without)
	}
	client := l.s3As(person)
	if _, err := client.CreateBucket(l.t.Context(), &s3.CreateBucketInput{Bucket: &name}); err != nil {
		l.t.Fatal(err)
	}
	if versioned {
		if err := gateway.EnsureBucket(l.t.Context(), client, name); err != nil {
			l.t.Fatal(err)
		}
	}
	policy, err := permissions.BucketPolicy(roles)
	if err == nil {
		_, err = client.PutBucketPolicy(l.t.Context(), &s3.PutBucketPolicyInput{Bucket: &name, Policy: aws.String(string(policy))})
	}
	if err != nil {
		l.t.Fatal(err)
	}
	l.mu.Lock()
	l.denied = nil
	l.mu.Unlock()
	return name, roles
}

// remove returns a role without one permission. It divides only the statement that has
// the permission, because the S3 server stores a policy in an extended attribute, which
// holds only a few kilobytes.
func remove(role permissions.Role, without permission) permissions.Role {
	var left permissions.Role
	for _, st := range role {
		single := split(permissions.Role{st})
		is := func(st permissions.Statement) bool { return permissionOf(without.function, st) == without }
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
func (l *lab) roles(bucket string) map[string]permissions.Role {
	l.t.Helper()
	byID, err := permissions.Read(l.template, map[string]string{
		"AWS::Partition": "aws", "AWS::Region": region, "AWS::AccountId": account,
		"Bucket": bucket, "StateMachine": machineARN, "StateMachine.Name": machine, "TokenSecret": secretARN,
		"Queue.Arn": queueARN,
	})
	if err != nil {
		l.t.Fatal(err)
	}
	roles := map[string]permissions.Role{}
	for function, id := range permissions.LogicalIDs {
		roles[function] = byID[id]
	}
	return roles
}
