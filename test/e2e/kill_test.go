package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local"
	"github.com/lipdrop/lipdrop/internal/local/sample"
	"github.com/lipdrop/lipdrop/internal/problem"
	"github.com/lipdrop/lipdrop/internal/rapidtest"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
)

// nth returns a function that chooses the nth moment (see mortal.moment) whose name contains every
// one of the words.
func nth(n int, words ...string) func(moment string) bool {
	return func(moment string) bool {
		for _, word := range words {
			if !strings.Contains(moment, word) {
				return false
			}
		}
		n--
		return n == 0
	}
}

// except returns a function that does what chosen does, but skips each moment whose name
// contains word. The random moments skip the queues, because a queue is written very often.
func except(word string, chosen func(string) bool) func(string) bool {
	return func(moment string) bool { return !strings.Contains(moment, word) && chosen(moment) }
}

// deleted is the name of the job whose audio is deleted while RunComfy has the job in its queue.
const deleted = "deleted"

// If a stack is killed at any moment and started again, its jobs continue. Each is
// archived, or is unknown if the kill came between the claim of the job and the record of
// RunComfy's response. A job whose file is deleted is cancelled. No job is charged twice.
func TestKilledAtAnyMoment(t *testing.T) {
	if _, err := os.Stat("/proc/self/cmdline"); err != nil {
		t.Skip("the test needs /proc to find processes")
	}
	fake := &runcomfytest.Server{Script: func(_ string, input map[string]any) runcomfytest.Script {
		if address, _ := input["video_url"].(string); strings.Contains(address, deleted) {
			return runcomfytest.Script{Queue: time.Hour}
		}
		return runcomfytest.Script{Queue: 500 * time.Millisecond, Run: 500 * time.Millisecond}
	}}
	m := newMortal(t, fake)
	chance := rand.New(rand.NewPCG(rapidtest.Seed(), 0))
	moments := []func(string) bool{
		nth(1, "queue/", "has changed"), // the event of the first file
		nth(1, "queue/", "has changed"), // the first change of a queue after the restart
		nth(1, "submit arrives"),
		nth(1, "submit has taken effect"),
		nth(1, "output is half sent"),
	}
	if !testing.Short() {
		moments = append(moments,
			nth(1, "/jobs/", "has changed"), // a claim
			nth(1, "submit is half sent"),
			nth(1, "submit is sent"),
			nth(1, "executions/", ".partial has changed"),
			nth(1, "status arrives"),
			nth(1, "result arrives"),
			nth(1, "/outbox/", ".mp4 has changed"),
			except("queue/", nth(1+chance.IntN(40))),
			except("queue/", nth(1+chance.IntN(40))),
		)
	}
	var acts sync.WaitGroup
	t.Cleanup(acts.Wait)
	var names []string
	interrupted := map[string]bool{}
	runUntilKilled := func(chosen func(string) bool, act func() error) {
		t.Helper()
		wait := m.begin(chosen)
		acts.Go(func() {
			if err := act(); err != nil {
				t.Error(err)
			}
		})
		if err := wait(); err != nil {
			t.Fatal(err)
		}
		m.awaitNoProcess()
		for _, name := range m.submitting() {
			interrupted[name] = true
		}
	}
	for i, chosen := range moments {
		name := fmt.Sprintf("job-%d", i+1)
		names = append(names, name)
		runUntilKilled(chosen, func() error { return m.drop(name) })
	}
	runUntilKilled(nth(1, "cancel arrives"), func() error { return errors.Join(m.drop(deleted), m.deleteQueued(deleted)) })
	runUntilKilled(nth(1, "cancel has taken effect"), func() error { return nil })

	m.begin(nil)
	acts.Wait()
	clip, _ := sample.Files()
	unknownByCharges := map[int]int{}
	for _, name := range names {
		st, takes, charges := m.end(name), m.takes(name), m.charges(name)
		if len(takes) != 1 || charges > 1 {
			t.Errorf("%s has the takes %v and %d charges, want one take and at most one charge", name, takes, charges)
		}
		switch {
		case st.State == ledger.Succeeded && !interrupted[name] && charges == 1:
			if len(st.Outputs) != 1 || !bytes.Equal(m.object(st.Outputs[0]), clip) {
				t.Errorf("the outputs of %s are %v, want one that is the clip", name, st.Outputs)
			}
		case st.State == ledger.Unknown && interrupted[name] && st.Code == problem.SubmitInterrupted && st.Remedy != "":
			unknownByCharges[charges]++
		default:
			t.Errorf("%s is %s (%s: %s) with %d charges, want succeeded with 1, or unknown if its submit was cut short (%v)", name, st.State, st.Code, st.Reason, charges, interrupted[name])
		}
	}
	if unknownByCharges[0] == 0 || unknownByCharges[1] == 0 {
		t.Errorf("unknown jobs by charges: %v, want one that RunComfy accepted, and one that RunComfy did not accept", unknownByCharges)
	}
	if st := m.end(deleted); st.State != ledger.Cancelled || m.charges(deleted) != 1 || len(fake.Cancelled()) != 1 {
		t.Errorf("%s is %s (%s) after %d charges, and RunComfy has cancelled %v; want cancelled, one charge and one cancelled job", deleted, st.State, st.Code, m.charges(deleted), fake.Cancelled())
	}
	t.Logf("%d jobs, %d kills; the kills interrupted the submits of %v", len(names)+1, len(moments)+2, interrupted)
}

// charges returns how many jobs of the name RunComfy has accepted, and thus charged.
func (m *mortal) charges(name string) (n int) {
	for _, job := range m.fake.Submitted() {
		if address, _, _ := strings.Cut(job.Input["video_url"].(string), "?"); path.Base(address) == name+".mp4" {
			n++
		}
	}
	return n
}

// drop drops a pair. It drops each file once, even if the stack is killed in the meantime.
func (m *mortal) drop(name string) error {
	clip, voice := sample.Files()
	for suffix, body := range map[string][]byte{".mp4": clip, ".wav": voice} {
		key := "inbox/" + name + suffix
		err := m.persist(m.t.Context(), func(c *s3.Client, _ *http.Client) error {
			_, err := c.HeadObject(m.t.Context(), &s3.HeadObjectInput{Bucket: aws.String(local.Bucket), Key: &key})
			if _, absent := errors.AsType[*types.NotFound](err); !absent {
				return err
			}
			_, err = c.PutObject(m.t.Context(), &s3.PutObjectInput{
				Bucket: aws.String(local.Bucket), Key: &key, Body: bytes.NewReader(body),
			})
			return err
		})
		if err != nil {
			return fmt.Errorf("drop %s: %w", key, err)
		}
	}
	return nil
}

// deleteQueued deletes a file of a job after RunComfy has queued the job.
func (m *mortal) deleteQueued(name string) error {
	m.until(name, func(st ledger.Status) bool { return st.State == ledger.InQueue })
	return m.persist(m.t.Context(), func(c *s3.Client, _ *http.Client) error {
		_, err := c.DeleteObject(m.t.Context(), &s3.DeleteObjectInput{Bucket: aws.String(local.Bucket), Key: aws.String("inbox/" + name + ".wav")})
		return err
	})
}

// submitting returns the names with a claim that has no outcome. It reads the bucket's
// files from the disk, because the S3 server may have been killed.
func (m *mortal) submitting() []string {
	m.t.Helper()
	paths, err := filepath.Glob(filepath.Join(m.dir, "s3/objects", local.Bucket, "jobs/*/*.json"))
	if err != nil {
		m.t.Fatal(err)
	}
	var names []string
	for _, path := range paths {
		var rec ledger.Record
		text, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(text, &rec)
		}
		if err != nil {
			m.t.Fatal(path, ": ", err)
		}
		if rec.State == ledger.Submitting {
			names = append(names, rec.Name)
		}
	}
	return names
}

// object returns an object, or nil if it does not exist.
func (m *mortal) object(key string) []byte {
	m.t.Helper()
	var body []byte
	err := m.persist(m.t.Context(), func(c *s3.Client, _ *http.Client) error {
		out, err := c.GetObject(m.t.Context(), &s3.GetObjectInput{Bucket: aws.String(local.Bucket), Key: &key})
		if _, absent := errors.AsType[*types.NoSuchKey](err); absent {
			return nil
		}
		if err != nil {
			return err
		}
		defer out.Body.Close()
		body, err = io.ReadAll(out.Body)
		return err
	})
	if err != nil {
		m.t.Error(key, ": ", err)
	}
	return body
}

// takes returns the keys of a name's records.
func (m *mortal) takes(name string) []string {
	m.t.Helper()
	prefix := "jobs/" + name + "/"
	var keys []string
	err := m.persist(m.t.Context(), func(c *s3.Client, _ *http.Client) error {
		out, err := c.ListObjectsV2(m.t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String(local.Bucket), Prefix: &prefix})
		if err != nil {
			return err
		}
		for _, object := range out.Contents {
			if strings.HasSuffix(*object.Key, ".json") { // skip a file that the S3 server was writing when it was killed
				keys = append(keys, *object.Key)
			}
		}
		return nil
	})
	if err != nil {
		m.t.Error(prefix, ": ", err)
	}
	return keys
}

// until waits until the status of a name is as wanted.
func (m *mortal) until(name string, wanted func(ledger.Status) bool) ledger.Status {
	m.t.Helper()
	var st ledger.Status
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		st = ledger.Status{}
		if body := m.object(ledger.StatusKey(name)); body != nil {
			if err := json.Unmarshal(body, &st); err != nil {
				m.t.Error(name, ": ", err)
			}
		}
		if wanted(st) {
			return st
		}
	}
	m.t.Errorf("after %v, %s is %s (%s), and not as wanted", patience, name, st.State, st.Reason)
	return st
}

// end waits until a job has ended and returns its status. If the kill came during a submit,
// end makes the claim older, because a claim without an outcome counts as in use for up to
// three minutes.
func (m *mortal) end(name string) ledger.Status {
	m.t.Helper()
	if slices.Contains(m.submitting(), name) {
		if err := m.age(name); err != nil {
			m.t.Error(err)
		}
	}
	return m.until(name, ended)
}

// age makes the claim of a name an hour older.
func (m *mortal) age(name string) error {
	key := m.takes(name)[0]
	return m.persist(m.t.Context(), func(c *s3.Client, _ *http.Client) error {
		out, err := c.GetObject(m.t.Context(), &s3.GetObjectInput{Bucket: aws.String(local.Bucket), Key: &key})
		if err != nil {
			return err
		}
		defer out.Body.Close()
		var rec ledger.Record
		if err := json.NewDecoder(out.Body).Decode(&rec); err != nil {
			return err
		}
		rec.Times.Claimed, rec.ClaimEnds = rec.Times.Claimed.Add(-time.Hour), rec.ClaimEnds.Add(-time.Hour)
		body, err := json.Marshal(rec)
		if err != nil {
			return err
		}
		_, err = c.PutObject(m.t.Context(), &s3.PutObjectInput{
			Bucket: aws.String(local.Bucket), Key: &key, IfMatch: out.ETag, Body: bytes.NewReader(body), ContentType: out.ContentType,
		})
		return err
	})
}
