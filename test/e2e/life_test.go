package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/fsnotify/fsnotify"

	"github.com/lipdrop/lipdrop/internal/local"
	"github.com/lipdrop/lipdrop/internal/private"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
)

// If the environment variable E2E_STACK_DIR is set, the test binary runs a stack instead of tests.
const (
	stackDir   = "E2E_STACK_DIR"      // the state folder of the stack
	stackComfy = "E2E_STACK_RUNCOMFY" // the address of the stack's RunComfy
)

// token is the API token of RunComfy.
const token = "e2e"

// ready is what the process prints when its stack accepts drops.
const ready = "ready"

func TestMain(m *testing.M) {
	if dir := os.Getenv(stackDir); dir != "" {
		comfy := os.Getenv(stackComfy)
		_, err := local.Start(context.Background(), local.Options{
			Dir: dir, Visibility: time.Second,
			Variables: map[string]string{"RUNCOMFY_BASE_URL": comfy, "OUTPUT_ORIGINS": comfy},
		})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(ready)
		_, _ = io.Copy(io.Discard, os.Stdin) // until the test kills this process or ends
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// mortal is a stack in a process of its own, which is killed at moments that the test
// chooses, and is then started again. Its RunComfy runs in the test, so the test knows every charge.
type mortal struct {
	t    *testing.T
	dir  string
	fake *runcomfytest.Server
	url  string // of the fake

	mu     sync.Mutex
	cmd    *exec.Cmd
	chosen func(moment string) bool // reports whether to kill the process at a moment; nil if no kill is to come
	killed bool                     // the process was killed
	life   int                      // how many processes have become ready
	up     chan struct{}            // closed while the process is ready
	client *s3.Client
	https  *http.Client // trusts the stack
}

func newMortal(t *testing.T, fake *runcomfytest.Server) *mortal {
	t.Helper()
	m := &mortal{t: t, dir: t.TempDir(), fake: fake, up: make(chan struct{})}
	fake.Token, fake.Fetch = token, m.fetch
	if err := private.ReplaceJSON(filepath.Join(m.dir, "keys.json"), local.Keys{Token: token}); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(m)
	t.Cleanup(server.Close)
	m.url = server.URL
	m.watch("queue", "cancel-queue", "executions", "s3/objects")
	t.Cleanup(func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.cmd != nil {
			_ = m.cmd.Process.Kill()
		}
	})
	return m
}

// watch calls moment for each change of a file below these folders of the state folder.
func (m *mortal) watch(folders ...string) {
	m.t.Helper()
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = watcher.Close() })
	for _, folder := range folders {
		path := filepath.Join(m.dir, folder)
		if err := errors.Join(os.MkdirAll(path, 0o700), watcher.Add(path)); err != nil {
			m.t.Fatal(err)
		}
	}
	go func() {
		for event := range watcher.Events {
			// In a new folder, files may have been created before watcher.Add.
			_ = filepath.WalkDir(event.Name, func(path string, entry fs.DirEntry, _ error) error {
				if entry != nil && entry.IsDir() {
					_ = watcher.Add(path)
				} else if below, err := filepath.Rel(m.dir, path); err == nil { // a file, or something that no longer exists
					m.moment(filepath.ToSlash(below) + " has changed")
				}
				return nil
			})
		}
	}()
}

// moment kills the process if the named moment is the chosen one. It reports whether it did.
func (m *mortal) moment(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.chosen == nil || !m.chosen(name) {
		return false
	}
	m.t.Logf("killed when %s", name)
	m.chosen, m.killed = nil, true
	if m.isUp() {
		m.up = make(chan struct{})
	}
	if err := m.cmd.Process.Kill(); err != nil {
		m.t.Error(err)
	}
	return true
}

func (m *mortal) isUp() bool {
	select {
	case <-m.up:
		return true
	default:
		return false
	}
}

// ServeHTTP is the fake RunComfy, with a moment before and after each of its steps.
func (m *mortal) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	call, _ := runcomfytest.CallOf(r)
	if m.moment(fmt.Sprintf("%s arrives", call)) {
		panic(http.ErrAbortHandler)
	}
	response := httptest.NewRecorder()
	m.fake.ServeHTTP(response, r)
	if m.moment(fmt.Sprintf("%s has taken effect", call)) {
		panic(http.ErrAbortHandler)
	}
	maps.Copy(w.Header(), response.Header())
	w.WriteHeader(response.Code)
	body := response.Body.Bytes()
	half := len(body) / 2
	_, _ = w.Write(body[:half])
	_ = http.NewResponseController(w).Flush()
	if m.moment(fmt.Sprintf("the response to %s is half sent", call)) {
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(body[half:])
	_ = http.NewResponseController(w).Flush()
	m.moment(fmt.Sprintf("the response to %s is sent", call))
}

// begin starts the process, which is killed at the chosen moment. The returned function waits
// for the end of the process. It returns an error if the process ended by itself or outlived patience.
func (m *mortal) begin(chosen func(moment string) bool) (wait func() error) {
	m.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), stackDir+"="+m.dir, stackComfy+"="+m.url)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if _, err := cmd.StdinPipe(); err != nil { // when the test ends, this pipe ends, and so does the stack
		m.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		m.t.Fatal(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.cmd, m.chosen, m.killed = cmd, chosen, false
	ended := make(chan error, 1)
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if lines.Text() == ready {
				if err := m.becameReady(); err != nil {
					m.t.Error(err)
				}
			}
		}
		_ = cmd.Wait() // cmd.ProcessState says how it ended
		m.mu.Lock()
		defer m.mu.Unlock()
		var err error
		if !m.killed {
			err = fmt.Errorf("the stack ended by itself: %v: %s", cmd.ProcessState, errs.String())
		}
		ended <- err
	}()
	return func() error {
		select {
		case err := <-ended:
			return err
		case <-time.After(patience):
			return errors.New("the moment to kill the stack did not come")
		}
	}
}

// becameReady notes that the process accepts drops, unless it was killed in the meantime.
func (m *mortal) becameReady() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.killed {
		return nil
	}
	ports, err := local.ReadPorts(m.dir)
	if err != nil {
		return err
	}
	certificate, err := os.ReadFile(filepath.Join(m.dir, "certs", "ca.pem"))
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certificate)
	keys, err := local.ReadKeys(m.dir)
	if err != nil {
		return err
	}
	m.https = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	m.client = s3.New(s3.Options{
		Region: local.Region, BaseEndpoint: aws.String(fmt.Sprintf("http://127.0.0.1:%d", ports.Plain)),
		Credentials: credentials.NewStaticCredentialsProvider(local.AccessKey, keys.SecretKey, ""), UsePathStyle: true,
		RetryMaxAttempts: 1, // persist repeats what failed because of a kill
	})
	m.life++
	close(m.up)
	return nil
}

// persist calls the function do with clients of the stack. If that call fails and the stack was
// killed in the meantime, persist calls the function again.
func (m *mortal) persist(ctx context.Context, do func(*s3.Client, *http.Client) error) error {
	for {
		m.mu.Lock()
		up := m.up
		m.mu.Unlock()
		select {
		case <-up:
		case <-ctx.Done():
			return ctx.Err()
		}
		m.mu.Lock()
		life, client, https := m.life, m.client, m.https
		m.mu.Unlock()
		err := do(client, https)
		m.mu.Lock()
		undisturbed := life == m.life && m.isUp()
		m.mu.Unlock()
		if err == nil || undisturbed {
			return err
		}
	}
}

// fetch downloads an input of a job, as RunComfy does. If a kill of the stack breaks
// the download, fetch repeats it, because on AWS the bucket would have stayed reachable.
func (m *mortal) fetch(ctx context.Context, address string) (io.ReadCloser, error) {
	var body []byte
	err := m.persist(ctx, func(_ *s3.Client, https *http.Client) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
		if err != nil {
			return err
		}
		res, err := https.Do(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return errors.New(res.Status)
		}
		body, err = io.ReadAll(res.Body)
		return err
	})
	return io.NopCloser(bytes.NewReader(body)), err
}

// awaitNoProcess waits until no process has the state folder in its command line. The
// children of a killed process end a moment after the process.
func (m *mortal) awaitNoProcess() {
	m.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
		if err != nil {
			m.t.Fatal(err)
		}
		alive := false
		for _, path := range paths {
			line, err := os.ReadFile(path)
			alive = alive || err == nil && bytes.Contains(line, []byte(m.dir))
		}
		if !alive {
			return
		}
	}
	m.t.Fatal("a child has outlived its stack")
}
