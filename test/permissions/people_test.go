package permissions

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sfn"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local/access"
	"github.com/lipdrop/lipdrop/internal/local/awsjson"
	"github.com/lipdrop/lipdrop/internal/template"
)

// The verbs jobs, watch, show, cost and get need only the permissions in their rows, which
// docs/iam.md lists too. If a permission is missing, the error names it.
func TestPeople(t *testing.T) {
	l := openLab(t)
	statuses := []string{"s3:ListBucket", "s3:GetObject status/*"}
	show := append(slices.Clone(statuses), "s3:GetObject answers/*", "s3:GetObject jobs/*", "s3:GetObject review/*")
	for _, tt := range []struct {
		verb    string
		needs   []string
		spare   string // a permission that is not needed for the jobs of this test
		refused string // if the verb must fail: the permission that the person lacks
		run     func(c *client.Client, dir string) error
	}{
		{verb: "jobs", needs: append(slices.Clone(statuses), "s3:GetObject answers/*"), spare: "s3:GetObject answers/*", run: func(c *client.Client, _ string) error {
			found, err := c.Statuses(t.Context(), ledger.StatusPrefix, time.Time{}, client.Pattern{Prefix: true})
			_, answersErr := c.Statuses(t.Context(), ledger.AnswerPrefix, time.Time{}, client.Pattern{Prefix: true})
			return errors.Join(err, answersErr, want(len(found) == 2, "%d statuses, want 2", len(found)))
		}},
		{verb: "watch", needs: statuses, run: func(c *client.Client, _ string) error {
			return c.Follow(t.Context(), func(changed []client.Status) (bool, error) {
				return true, want(len(changed) == 1, "%d changes, want 1", len(changed))
			}, client.Pattern{Text: "talk"})
		}},
		{verb: "show", needs: show, spare: "s3:GetObject answers/*", run: func(c *client.Client, _ string) error {
			job, err := c.Show(t.Context(), "talk")
			return errors.Join(err, want(len(job.Takes) == 1, "%d takes, want 1", len(job.Takes)))
		}},
		{verb: "cost", needs: []string{"s3:ListBucket", "s3:GetObject jobs/*"}, run: func(c *client.Client, _ string) error {
			recs, unreadable, err := c.Records(t.Context(), "", time.Time{})
			return errors.Join(err, want(len(recs) == 2 && unreadable == 0, "%d records and %d unreadable ones, want 2 and none", len(recs), unreadable))
		}},
		{verb: "get", needs: append(slices.Clone(statuses), "s3:GetObject jobs/*", "s3:GetObject outbox/*"), spare: "s3:GetObject jobs/*", run: func(c *client.Client, dir string) error {
			names, err := c.Names(t.Context(), client.Pattern{Text: "talk"})
			if err != nil {
				return err
			}
			outputs, err := c.Archived(t.Context(), names[0], "")
			if err == nil {
				_, err = c.Download(t.Context(), client.DownloadOptions{Dir: dir, Progress: func(int64) {}}, outputs)
			}
			return err
		}},
		{verb: "cancel by a person who may only read", needs: show, refused: "states:StopExecution", run: func(c *client.Client, _ string) error {
			return c.Cancel(t.Context(), "open", func(string) {})
		}},
		{verb: "redrive by a person who may only read", needs: show, refused: "states:RedriveExecution", run: func(c *client.Client, _ string) error {
			_, _, err := c.Redrive(t.Context(), "open", "")
			return err
		}},
	} {
		t.Run(tt.verb, func(t *testing.T) {
			err := tt.run(l.clientOf(t, tt.needs), t.TempDir())
			if tt.refused == "" && err != nil {
				t.Fatalf("with the permissions %v: error %v, want none", tt.needs, err)
			}
			if denied, ok := errors.AsType[*client.DeniedError](err); tt.refused != "" && (!ok || denied.Permission != tt.refused) {
				t.Fatalf("error %v, want one that names %s as missing", err, tt.refused)
			}
			for i, without := range tt.needs {
				if without == tt.spare || tt.refused != "" {
					continue
				}
				err := tt.run(l.clientOf(t, slices.Delete(slices.Clone(tt.needs), i, i+1)), t.TempDir())
				action, _, _ := strings.Cut(without, " ")
				if denied, ok := errors.AsType[*client.DeniedError](err); !ok || denied.Permission != action {
					t.Errorf("without %s: error %v, want one that names %s as missing", without, err, action)
				}
			}
		})
	}
}

func want(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, args...)
}

// clientOf creates a bucket with two jobs, one of which is under way, and returns the
// client of a person who has only the given permissions.
func (l *lab) clientOf(t *testing.T, allowed []string) *client.Client {
	t.Helper()
	name, roles := l.newBucket(t, false, permission{})
	roles[reader] = nil
	for _, each := range allowed {
		action, key, ok := strings.Cut(each, " ")
		resource := "arn:aws:s3:::" + name
		if ok {
			resource += "/" + key
		}
		roles[reader] = append(roles[reader], template.Statement{Action: []string{action}, Resource: []string{resource}})
	}
	l.setPolicy(t, name, roles)
	put := func(key string, body []byte) {
		if _, err := l.s3As(person).PutObject(t.Context(), &s3.PutObjectInput{Bucket: &name, Key: &key, Body: bytes.NewReader(body)}); err != nil {
			t.Fatal(err)
		}
	}
	for job, state := range map[string]ledger.State{"talk": ledger.Succeeded, "open": ledger.InProgress} {
		const take = "20261121T120000Z-0123456789ab"
		put(ledger.StatusKey(job), bucket.JSON(ledger.Status{Name: job, State: state, Take: take}, ""))
		put(ledger.RecordKey(job, take), bucket.JSON(ledger.Record{Name: job, Take: take, State: state}, ""))
		output := ledger.OutputPrefix(job, take) + job + ".mp4"
		put(output, []byte("video"))
		sum := sha256.Sum256([]byte("video"))
		put(ledger.ResultKey(job, take), bucket.JSON(ledger.Result{Outputs: []ledger.Output{{Key: output, Bytes: 5, SHA256: hex.EncodeToString(sum[:])}}}, ""))
		put(client.ReviewKey(job, take), bucket.JSON(client.Review{Name: job, Take: take, Decision: client.Approved}, ""))
	}
	services := httptest.NewServer(awsjson.Operations{}.Handler(access.Guard(roles, l.deny)))
	t.Cleanup(services.Close)
	c := client.New(configAs(reader, l.s3), name, machineARN)
	c.States = sfn.NewFromConfig(configAs(reader, services.URL))
	return c
}
