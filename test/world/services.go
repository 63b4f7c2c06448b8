package world

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"

	"github.com/lipdrop/lipdrop/internal/local/states"
	"github.com/lipdrop/lipdrop/internal/s3test"
	"github.com/lipdrop/lipdrop/internal/transfer"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

// execution is one of Step Functions.
type execution struct {
	arn  string
	x    *states.Execution
	wake time.Time
}

// stepFunctions is the world as Step Functions.
type stepFunctions World

func (s *stepFunctions) StartExecution(_ context.Context, in *sfn.StartExecutionInput, _ ...func(*sfn.Options)) (*sfn.StartExecutionOutput, error) {
	w := (*World)(s)
	if err := w.call("sfn StartExecution"); err != nil {
		return nil, err
	}
	arn := workflow.ExecutionARN(machineARN, *in.Name)
	if there, ok := w.executions[arn]; ok {
		if there.x.Status != states.Running || there.x.Input != *in.Input {
			return nil, &types.ExecutionAlreadyExists{}
		}
	} else {
		e := &execution{arn: arn, x: w.machine.Start(*in.Input, w.now), wake: w.now}
		w.executions[arn] = e
		w.running = append(w.running, e)
	}
	if err := w.answered("sfn StartExecution"); err != nil {
		return nil, err
	}
	return &sfn.StartExecutionOutput{ExecutionArn: &arn}, nil
}

func (s *stepFunctions) DescribeExecution(_ context.Context, in *sfn.DescribeExecutionInput, _ ...func(*sfn.Options)) (*sfn.DescribeExecutionOutput, error) {
	w := (*World)(s)
	if err := w.call("sfn DescribeExecution"); err != nil {
		return nil, err
	}
	e, ok := w.executions[*in.ExecutionArn]
	if !ok {
		return nil, &types.ExecutionDoesNotExist{}
	}
	return &sfn.DescribeExecutionOutput{
		ExecutionArn: in.ExecutionArn, Status: types.ExecutionStatus(e.x.Status), Input: &e.x.Input,
		StartDate: aws.Time(e.x.StartedAt), StopDate: aws.Time(e.x.StoppedAt), Error: &e.x.Error, Cause: &e.x.Cause,
	}, nil
}

func (s *stepFunctions) ListExecutions(_ context.Context, in *sfn.ListExecutionsInput, _ ...func(*sfn.Options)) (*sfn.ListExecutionsOutput, error) {
	w := (*World)(s)
	if err := w.call("sfn ListExecutions"); err != nil {
		return nil, err
	}
	var out sfn.ListExecutionsOutput
	for _, e := range w.executions {
		if types.ExecutionStatus(e.x.Status) == in.StatusFilter {
			out.Executions = append(out.Executions, types.ExecutionListItem{
				ExecutionArn: &e.arn, Name: &e.arn, StartDate: aws.Time(e.x.StartedAt), StopDate: aws.Time(e.x.StoppedAt),
			})
		}
	}
	// Newest first, as Step Functions lists them.
	slices.SortFunc(out.Executions, func(a, b types.ExecutionListItem) int {
		if n := b.StartDate.Compare(*a.StartDate); n != 0 {
			return n
		}
		return strings.Compare(*a.ExecutionArn, *b.ExecutionArn)
	})
	return &out, nil
}

func (s *stepFunctions) StopExecution(_ context.Context, in *sfn.StopExecutionInput, _ ...func(*sfn.Options)) (*sfn.StopExecutionOutput, error) {
	w := (*World)(s)
	if err := w.call("sfn StopExecution"); err != nil {
		return nil, err
	}
	if !w.Stop(*in.ExecutionArn) {
		return nil, &types.ExecutionDoesNotExist{}
	}
	if err := w.answered("sfn StopExecution"); err != nil {
		return nil, err
	}
	return &sfn.StopExecutionOutput{}, nil
}

// copier is the world as the copy of an output: package transfer has tests of
// its own, so here it is the promise alone, an object made once.
type copier World

func (c *copier) Copy(ctx context.Context, address string, name func(head []byte, path string) (key, contentType string)) (transfer.Object, error) {
	w := (*World)(c)
	u, err := url.Parse(address)
	if err != nil {
		return transfer.Object{}, err
	}
	if err := w.call("output GET"); err != nil {
		return transfer.Object{}, &transfer.UnavailableError{Host: u.Host, Err: err}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return transfer.Object{}, err
	}
	answer, err := w.RunComfy.Transport().RoundTrip(req)
	if err != nil {
		return transfer.Object{}, &transfer.UnavailableError{Host: u.Host, Err: err}
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		return transfer.Object{}, &transfer.UnavailableError{Host: u.Host, Status: answer.StatusCode, Err: err}
	}
	if len(body) == 0 {
		return transfer.Object{}, &transfer.EmptyError{Host: u.Host}
	}
	key, contentType := name(body[:min(len(body), 4096)], u.Path)
	out, err := w.Bucket.PutObject(ctx, &s3.PutObjectInput{
		Key: &key, Body: strings.NewReader(string(body)), ContentType: &contentType, IfNoneMatch: aws.String("*"),
	})
	sum := sha256.Sum256(body)
	object := transfer.Object{Key: key, Bytes: int64(len(body)), SHA256: hex.EncodeToString(sum[:]), ContentType: contentType}
	if err != nil {
		there, ok := w.Bucket.Object(key)
		if !ok || string(there) != string(body) {
			return transfer.Object{}, &transfer.StorageError{Op: "PutObject", Key: key, Err: err}
		}
		object.Existed = true
		head, err := w.Bucket.HeadObject(ctx, &s3.HeadObjectInput{Key: &key})
		if err != nil {
			return transfer.Object{}, &transfer.StorageError{Op: "HeadObject", Key: key, Err: err}
		}
		object.ETag = *head.ETag
		return object, nil
	}
	object.ETag = *out.ETag
	return object, nil
}

// unhooked is the bucket for the world's own looks, which nothing fails.
type unhooked struct{ w *World }

func (u unhooked) quiet(f func() error) error {
	before := u.w.noHooks
	u.w.noHooks = true
	defer func() { u.w.noHooks = before }()
	return f()
}

func (u unhooked) GetObject(ctx context.Context, in *s3.GetObjectInput, _ ...func(*s3.Options)) (out *s3.GetObjectOutput, err error) {
	err = u.quiet(func() error { out, err = u.w.Bucket.GetObject(ctx, in); return err })
	return out, err
}

func (u unhooked) ListObjectsV2(ctx context.Context, in *s3.ListObjectsV2Input, _ ...func(*s3.Options)) (out *s3.ListObjectsV2Output, err error) {
	err = u.quiet(func() error { out, err = u.w.Bucket.ListObjectsV2(ctx, in); return err })
	return out, err
}

func (u unhooked) PutObject(context.Context, *s3.PutObjectInput, ...func(*s3.Options)) (*s3.PutObjectOutput, error) {
	return nil, errLooksOnly
}

func (u unhooked) DeleteObject(context.Context, *s3.DeleteObjectInput, ...func(*s3.Options)) (*s3.DeleteObjectOutput, error) {
	return nil, errLooksOnly
}

var errLooksOnly = errors.New("the world only looks")

// Throttled is an error of S3 for World.Call.
var Throttled = s3test.Error(http.StatusServiceUnavailable, "SlowDown")

// taskError is what Lambda makes of a function's error.
func taskError(err error) *states.TaskError {
	name := fmt.Sprintf("%T", err)
	name = name[strings.LastIndexByte(name, '.')+1:]
	return &states.TaskError{Name: name, Cause: fmt.Sprintf(`{"errorMessage":%q,"errorType":%q}`, err.Error(), name)}
}
