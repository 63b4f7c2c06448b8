// Package archive_test compares internal/transfer with a single GET whose body the SDK's
// transfermanager uploads. Both copy the same bytes from the same server into the same
// versitygw over TLS, and each object is compared with what was served.
//
//	go -C bench test ./archive -bench //64MiB -benchtime 1x -count 3 >new.txt
//	go run golang.org/x/perf/cmd/benchstat@latest -col /tool new.txt
//
// The server and versitygw are processes of their own, so the CPU time and the peak of memory
// are measured for the copy only. The benchmark needs Linux, where /proc has the peak.
package archive_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/local/build"
	"github.com/lipdrop/lipdrop/internal/local/certs"
	"github.com/lipdrop/lipdrop/internal/local/process"
	"github.com/lipdrop/lipdrop/internal/origins"
	"github.com/lipdrop/lipdrop/internal/transfer"
)

const (
	accessKey  = "lipdrop"
	secretKey  = "lipdrop-benchmark"
	bucketName = "bench"
	startLimit = 30 * time.Second // how long versitygw may take to start
)

var dataDir = flag.String("dir", "", "`folder` for the data of versitygw, such as /dev/shm (default: a temporary folder)")

// If the environment variable sourcesEnv is set, this program only serves the files to copy. The
// value is the folder of the server's certificate.
const sourcesEnv = "LIPDROP_BENCH_SOURCES"

func TestMain(m *testing.M) {
	dir := os.Getenv(sourcesEnv)
	if dir == "" {
		os.Exit(m.Run())
	}
	fmt.Fprintln(os.Stderr, "the server of the sources:", serveSources(dir))
	os.Exit(1)
}

// BenchmarkCopy copies files of three sizes from every source with each tool.
func BenchmarkCopy(b *testing.B) {
	dir, err := os.MkdirTemp(*dataDir, "lipdrop-bench-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	certDir := filepath.Join(dir, "certs")
	cert, err := certs.Ensure(certDir, time.Now())
	if err != nil {
		b.Fatal(err)
	}
	client := startGateway(b, dir, cert)
	addresses := startSources(b, certDir)
	b.Setenv("SSL_CERT_FILE", cert.CertFile) // both tools trust the system's certificates
	tools := []struct {
		name string
		copy func(ctx context.Context, client *s3.Client, address, key string) error
	}{{"lipdrop", copyByTransfer}, {"transfermanager", copyByManager}}
	for _, source := range sources {
		for _, size := range []int64{64 * mib, 1024 * mib, 5120 * mib} {
			for _, tool := range tools {
				b.Run(fmt.Sprintf("source=%s/size=%dMiB/tool=%s", source.name, size/mib, tool.name), func(b *testing.B) {
					b.SetBytes(size)
					address, key := fmt.Sprintf("%s/%d", addresses[source.name], size), tool.name+".mp4"
					var spent time.Duration
					var most int64
					resetPeak(b)
					for b.Loop() {
						before := cpuTime(b)
						if err := tool.copy(b.Context(), client, address, key); err != nil {
							b.Fatal(err)
						}
						spent += cpuTime(b) - before
						b.StopTimer()
						most = max(most, peak(b))
						check(b, filepath.Join(dir, "s3", bucketName, key), size)
						if _, err := client.DeleteObject(b.Context(), &s3.DeleteObjectInput{Bucket: aws.String(bucketName), Key: &key}); err != nil {
							b.Fatal(err)
						}
						resetPeak(b)
						b.StartTimer()
					}
					b.ReportMetric(spent.Seconds()/float64(b.N), "cpu-s/op")
					b.ReportMetric(float64(most)/mib, "peak-MiB")
				})
			}
		}
	}
}

// startSources starts this program again, as the server of the sources, and returns the
// address of each source by the source's name.
func startSources(b *testing.B, certDir string) (addresses map[string]string) {
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), sourcesEnv+"="+certDir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	start(b, cmd)
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		b.Fatal(err)
	}
	if err := json.Unmarshal(line, &addresses); err != nil {
		b.Fatal(err)
	}
	return addresses
}

func start(b *testing.B, cmd *exec.Cmd) {
	child, err := process.Start(cmd)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(child.Kill)
}

// startGateway starts versitygw and makes a bucket. The bucket has no versions, so that a
// deletion frees the space of an object.
func startGateway(b *testing.B, dir string, cert certs.Certificate) *s3.Client {
	source, err := build.Find(".", func(text string) { b.Log(text) })
	if err != nil {
		b.Fatal(err)
	}
	program, err := source.Gateway(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	address := free.Addr().String()
	_ = free.Close()
	data := filepath.Join(dir, "s3")
	if err := os.MkdirAll(filepath.Join(data, bucketName), 0o700); err != nil {
		b.Fatal(err)
	}
	const region = "us-east-1"
	cmd := exec.Command(program, "--quiet", "--port", address, "--cert", cert.CertFile, "--key", cert.KeyFile, "--region", region, "posix", data)
	cmd.Env = []string{"ROOT_ACCESS_KEY_ID=" + accessKey, "ROOT_SECRET_ACCESS_KEY=" + secretKey}
	start(b, cmd)
	client := bucket.NewClient(aws.Config{
		Region: region, BaseEndpoint: aws.String("https://" + address),
		Credentials: credentials.NewStaticCredentialsProvider(accessKey, secretKey, ""),
	})
	for late := time.Now().Add(startLimit); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
			break
		}
		if time.Now().After(late) {
			b.Fatal(err)
		}
	}
	return client
}

// cpuTime returns the CPU time of this process so far, user and system.
func cpuTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// peak returns the highest resident memory of this process since resetPeak, in bytes.
func peak(b *testing.B) int64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return kib << 10
}

// resetPeak returns unused memory to the system, and resets the peak to the memory that is
// left.
func resetPeak(b *testing.B) {
	debug.FreeOSMemory()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		b.Fatal(err)
	}
}

// copyByTransfer copies as the archive function does.
func copyByTransfer(ctx context.Context, client *s3.Client, address, key string) error {
	u, err := url.Parse(address)
	if err != nil {
		return err
	}
	list, err := origins.Parse([]string{u.Scheme + "://" + u.Host})
	if err != nil {
		return err
	}
	c := &transfer.Copier{S3: client, Bucket: bucketName, Origins: list, MaxBytes: 10 << 30}
	_, err = c.Copy(ctx, address, func([]byte) (string, string) { return key, "video/mp4" })
	return err
}

// copyByManager copies as the documentation of transfermanager shows it.
func copyByManager(ctx context.Context, client *s3.Client, address, key string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
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
		Bucket: aws.String(bucketName), Key: aws.String(key), Body: resp.Body,
	})
	return err
}

// check fails unless a file holds what the sources serve.
func check(b *testing.B, path string, size int64) {
	file, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	want, got, wanted := &content{size: size}, make([]byte, mib), make([]byte, mib)
	for {
		n, err := io.ReadFull(file, got)
		m, _ := io.ReadFull(want, wanted)
		if n != m || !bytes.Equal(got[:n], wanted[:m]) {
			b.Fatalf("%s is not what was served", path)
		}
		if err != nil {
			return // both have ended
		}
	}
}
