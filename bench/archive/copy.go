package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/origins"
	"github.com/lipdrop/lipdrop/internal/transfer"
)

// A cost is what one copy took.
type cost struct {
	Seconds float64
	CPU     float64 // seconds, user and system, of the whole process
	Peak    int64   // bytes of resident memory
}

// reported returns the role that makes one copy and writes its cost to standard output.
// The arguments of the role are the address, the bucket and the key.
func reported(copy func(ctx context.Context, client *s3.Client, address, bucket, key string) error) func(context.Context, []string) error {
	return func(ctx context.Context, args []string) error {
		config, err := awsconfig.LoadDefaultConfig(ctx)
		if err != nil {
			return err
		}
		began := time.Now()
		if err := copy(ctx, bucket.NewClient(config), args[0], args[1], args[2]); err != nil {
			return err
		}
		c := cost{Seconds: time.Since(began).Seconds()}
		var usage syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
			return err
		}
		c.CPU = time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
		if c.Peak, err = peak(); err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(c)
	}
}

// peak returns the highest resident memory of this process, in bytes. It does not use
// Getrusage, whose maximum includes the memory of the parent before the exec.
func peak() (int64, error) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	return kib << 10, err
}

// copyByTransfer copies as the archive function does.
func copyByTransfer(ctx context.Context, client *s3.Client, address, to, key string) error {
	u, err := url.Parse(address)
	if err != nil {
		return err
	}
	list, err := origins.Parse([]string{u.Scheme + "://" + u.Host})
	if err != nil {
		return err
	}
	c := &transfer.Copier{S3: client, Bucket: to, Origins: list, MaxBytes: 10 << 30}
	_, err = c.Copy(ctx, address, func([]byte) (string, string) { return key, "video/mp4" })
	return err
}

// copyByManager copies as the documentation of transfermanager shows it.
func copyByManager(ctx context.Context, client *s3.Client, address, bucket, key string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: HTTP status %s", address, resp.Status)
	}
	_, err = transfermanager.New(client).UploadObject(ctx, &transfermanager.UploadObjectInput{
		Bucket: aws.String(bucket), Key: aws.String(key), Body: resp.Body,
	})
	return err
}
