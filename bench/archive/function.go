package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/local"
	"github.com/lipdrop/lipdrop/internal/local/lambda"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

// functionTime is the timeout of the template.
const functionTime = 15 * time.Minute

// launcher writes its process id beside itself and becomes the function.
const launcher = "#!/bin/sh\necho $$ > \"$0.pid\"\nexec \"$(dirname \"$0\")/archive/bootstrap\"\n"

// runFunction archives one file by the function as it is deployed, from its
// cold start on: it reads its record, asks how the job ended, copies the output,
// looks at it, and writes result.json, record and status. It returns the key of
// the output.
func runFunction(ctx context.Context, s *stack, c copying) (cost, string, error) {
	job, err := s.accepted(ctx, c)
	if err != nil {
		return cost{}, "", err
	}
	program := filepath.Join(s.functions(), "launch")
	if err := os.WriteFile(program, []byte(launcher), 0o755); err != nil {
		return cost{}, "", err
	}
	env := s.environment()
	maps.Copy(env, map[string]string{
		"AWS_ENDPOINT_URL_SECRETS_MANAGER": s.apiURL,
		"BUCKET":                           local.Bucket,
		"STATE_MACHINE_ARN":                local.MachineARN,
		"RUNCOMFY_TOKEN_SECRET":            secretARN,
		"RUNCOMFY_BASE_URL":                s.apiURL,
		"OUTPUT_ORIGINS":                   origin(c.url),
		"MAX_OUTPUT_GIB":                   "100",
		"MAX_OUTPUTS":                      "1",
	})
	cpuBefore, began := childrenCPU(), time.Now()
	host, err := lambda.New(
		lambda.Config{Account: local.Account, Region: local.Region, LogDir: filepath.Join(s.dir, "logs")},
		lambda.Function{Name: "archive", Program: program, Timeout: functionTime, MemoryMB: 1024, Env: env, Concurrency: 1})
	if err != nil {
		return cost{}, "", err
	}
	defer host.Close()
	// What is no job never reaches the handler: the function has started and done
	// nothing yet.
	if _, failure, err := host.Invoke(ctx, "archive", []byte(`"start"`)); failure == nil {
		return cost{}, "", fmt.Errorf("the function did not start: %w", err)
	}
	text, err := os.ReadFile(program + ".pid")
	if err != nil {
		return cost{}, "", err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return cost{}, "", err
	}
	start := memory(pid, "VmRSS")
	result, failure, err := host.Invoke(ctx, "archive", job)
	spent := cost{whole: time.Since(began), peak: memory(pid, "VmHWM")}
	if failure != nil {
		err = failure
	}
	if err != nil {
		return spent, "", err
	}
	spent.above = spent.peak - start
	host.Close()
	spent.cpu = childrenCPU() - cpuBefore
	var archived workflow.Archived
	if err := json.Unmarshal(result, &archived); err != nil {
		return spent, "", err
	}
	if len(archived.Outputs) != 1 {
		return spent, "", fmt.Errorf("the function answered %s", result)
	}
	return spent, archived.Outputs[0], nil
}

// accepted writes the record of a job that RunComfy has accepted and ended, and
// returns the function's payload for it.
func (s *stack) accepted(ctx context.Context, c copying) ([]byte, error) {
	s.mu.Lock()
	s.output = c.url
	s.mu.Unlock()
	rec := ledger.Record{
		Name: "bench/talk", Take: fmt.Sprintf("20260101T000000Z-%012x", c.number), State: ledger.InProgress,
		Model: "sync/react-1", Options: map[string]any{}, RequestID: fmt.Sprintf("bench-%d", c.number),
		Inputs: []ledger.Input{{Property: "video_url", Key: "inbox/bench/talk.mp4", DurationSeconds: 3}},
	}
	store := &ledger.Store{Bucket: &bucket.Bucket{S3: s.s3, Name: local.Bucket}, MachineARN: local.MachineARN, Now: time.Now}
	if _, claimed, err := store.Claim(ctx, rec); err != nil || !claimed {
		return nil, fmt.Errorf("claimed: %t: %w", claimed, err)
	}
	return json.Marshal(workflow.Job{Name: rec.Name, Take: rec.Take, RequestID: rec.RequestID, Model: rec.Model, Ended: true})
}

// origin returns the scheme, host and port of an address.
func origin(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		panic(err) // this program made it
	}
	return u.Scheme + "://" + u.Host
}
