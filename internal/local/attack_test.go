package local_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/google/go-cmp/cmp"

	"github.com/lipdrop/lipdrop/internal/local"
	"github.com/lipdrop/lipdrop/internal/local/localtest"
)

// A neighbour is another user of the machine, or a page in a browser on it. A neighbour can
// reach every port of a stack, but does not have the keys. The programs of the stack end with it.
func TestNeighbour(t *testing.T) {
	o := options(t.TempDir())
	s := localtest.Start(t, o)
	s.DropPair("talk")
	localtest.Until(t, "the end of the job", func() bool {
		jobs := s.Fake().Submitted()
		return len(jobs) == 1 && jobs[0].State == "succeeded"
	})
	ports := listening(t, "/proc/self")
	if len(ports) < 4 { // two for the AWS APIs, one for the S3 server's events, at least one for functions
		t.Fatalf("this process listens at the ports %v, want at least 4 ports", ports)
	}
	for _, child := range children(t) {
		if open := listening(t, child); len(open) > 0 {
			t.Errorf("the program of %s listens at the ports %v, want no port", child, open)
		}
	}
	client := &http.Client{
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	defer client.CloseIdleConnections()

	// ask sends a request to each port, by HTTP and by HTTPS.
	ask := func(t *testing.T, method, path, body string, head http.Header, check func(t *testing.T, where string, status int, body []byte)) {
		t.Helper()
		responded := 0
		for _, port := range ports {
			for _, scheme := range []string{"http", "https"} {
				where := fmt.Sprintf("%s://127.0.0.1:%d%s", scheme, port, path)
				r, err := http.NewRequestWithContext(t.Context(), method, where, strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				r.Header = head.Clone()
				r.Host = head.Get("Host") // if empty, the host of the URL is sent
				resp, err := client.Do(r)
				if err != nil {
					continue // a port of the other scheme
				}
				received, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if err != nil || bytes.Contains(received, []byte("HTTP request to an HTTPS server")) {
					continue
				}
				responded++
				check(t, where, resp.StatusCode, received)
			}
		}
		if responded < len(ports) {
			t.Errorf("%d of %d ports responded, want all", responded, len(ports))
		}
	}

	forged := `{"Records":[{"eventTime":"2026-01-01T00:00:00Z","eventName":"s3:ObjectCreated:Put","s3":{"bucket":{"arn":"arn:aws:s3:::/lipdrop/inbox/forged.txt"},"object":{"key":"inbox/forged.txt"}}}]}`
	job := s.Fake().Submitted()[0].RequestID
	target := func(name string) http.Header {
		return http.Header{"X-Amz-Target": {name}, "Content-Type": {"application/x-amz-json-1.0"}}
	}
	requests := []struct {
		name, method, path, body string
		head                     http.Header
	}{
		{"lists the buckets", "GET", "/", "", nil},
		{"lists the drops", "GET", "/lipdrop?list-type=2", "", nil},
		{"reads a drop", "GET", "/lipdrop/inbox/talk.mp4", "", nil},
		{"drops a file", "PUT", "/lipdrop/inbox/forged.txt", "x", nil},
		{"deletes a drop", "DELETE", "/lipdrop/inbox/talk.mp4", "", nil},
		{"reads the token", "POST", "/", `{"SecretId":"runcomfy-token"}`, target("secretsmanager.GetSecretValue")},
		{"starts an execution", "POST", "/", `{"stateMachineArn":"` + local.MachineARN + `","name":"forged","input":"{}"}`, target("AWSStepFunctions.StartExecution")},
		{"lists the executions", "POST", "/", `{"stateMachineArn":"` + local.MachineARN + `"}`, target("AWSStepFunctions.ListExecutions")},
		{"sends an event", "POST", "/", `{"Entries":[]}`, target("AWSEvents.PutEvents")},
		{"sends an event of the bucket", "POST", "/", forged, nil},
		{"invokes a function", "POST", "/2015-03-31/functions/submit/invocations", "{}", nil},
		{"takes the next call of a function", "GET", "/2018-06-01/runtime/invocation/next", "", nil},
		{"submits a job", "POST", "/v1/models/sync/react-1", "{}", nil},
		{"reads a job", "GET", "/v1/requests/" + job + "/result", "", nil},
		{"reads an output at its path on RunComfy", "GET", "/media/" + job + "%3D/output/1.mp4", "", nil},
	}
	foreign := map[string]http.Header{
		"by a foreign name that points to this machine":               {"Host": {"evil.example"}},
		"by the name for containers, which this stack does not serve": {"Host": {local.ContainerHost}},
		"from a foreign page": {"Origin": {"https://evil.example"}},
	}
	for _, tt := range requests {
		t.Run(tt.name+" without keys", func(t *testing.T) {
			ask(t, tt.method, tt.path, tt.body, tt.head, func(t *testing.T, where string, status int, body []byte) {
				if status < 300 {
					t.Errorf("%s responded %d, want a refusal: %.100q", where, status, body)
				}
			})
		})
		for name, header := range foreign {
			t.Run(tt.name+" "+name, func(t *testing.T) {
				head := header.Clone()
				maps.Copy(head, tt.head)
				ask(t, tt.method, tt.path, tt.body, head, func(t *testing.T, where string, status int, body []byte) {
					if status != http.StatusForbidden {
						t.Errorf("%s responded %d, want 403: %.100q", where, status, body)
					}
				})
			})
		}
	}

	// The first two are keys of earlier versions; the third has the length of a right key.
	for access, secret := range map[string]string{"lipdrop": "lipdrop-on-loopback", "submit": "submit-on-loopback", "cancel": strings.Repeat("A", 26)} {
		t.Run("with guessed keys of "+access, func(t *testing.T) {
			keys := credentials.NewStaticCredentialsProvider(access, secret, "")
			_, err := sfn.New(s.StepFunctions().Options(), func(o *sfn.Options) { o.Credentials = keys }).ListExecutions(t.Context(), &sfn.ListExecutionsInput{StateMachineArn: aws.String(local.MachineARN)})
			refused(t, err, "InvalidSignatureException")
			_, err = secretsmanager.New(secretsmanager.Options{
				Region: local.Region, BaseEndpoint: &s.Plain, Credentials: keys,
			}).GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String("runcomfy-token")})
			refused(t, err, "InvalidSignatureException")
			_, err = s3.New(s.S3().Options(), func(o *s3.Options) { o.Credentials = keys }).ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String(local.Bucket)})
			refused(t, err, "SignatureDoesNotMatch")
			_, err = s3.New(s.S3().Options(), func(o *s3.Options) { o.Credentials = keys }).HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String(local.Bucket), Key: aws.String("secret")})
			refused(t, err, "Forbidden")
		})
	}
	if n := s.Fake().Charges(); n != 1 {
		t.Errorf("%d charges, want 1, for the dropped pair", n)
	}
	if err := s.Err(); err != nil {
		t.Errorf("the stack failed: %v; want a running stack", err)
	}
	s.Close()
	if lines := commandLines(t, o.Dir); len(lines) > 0 {
		t.Errorf("after Close, the programs %q still run, want none", lines)
	}
}

func refused(t *testing.T, err error, code string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), code) {
		t.Errorf("err = %v, want %s", err, code)
	}
}

// children returns the folders in /proc of the programs that this process has started.
// These are at least the S3 server and a function.
func children(t *testing.T) []string {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	var own []string
	for _, process := range all {
		text, err := os.ReadFile(process + "/stat")
		if err != nil {
			continue // the process has ended
		}
		const state, parent = 0, 1 // fields after the program's name, which may have spaces in it
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		if fields[parent] == strconv.Itoa(os.Getpid()) && fields[state] != "Z" {
			own = append(own, process)
		}
	}
	if len(own) < 2 && len(all) > 0 {
		t.Errorf("this process has started %v, want at least 2 programs", own)
	}
	return own
}

// listening returns the ports at which the process in a folder of /proc listens.
// It fails the test if one of the ports is open at another address than 127.0.0.1, and skips
// the test if this system has no /proc.
func listening(t *testing.T, process string) []int {
	t.Helper()
	files, err := os.ReadDir(process + "/fd")
	switch {
	case errors.Is(err, fs.ErrNotExist) && process == "/proc/self":
		t.Skip("the test reads /proc, which this system does not have")
	case errors.Is(err, fs.ErrNotExist):
		return nil // the process has ended
	case err != nil:
		t.Fatal(err)
	}
	own := map[string]bool{}
	for _, file := range files {
		if name, err := os.Readlink(process + "/fd/" + file.Name()); err == nil {
			own[name] = true
		}
	}
	var ports []int
	for _, table := range []string{"tcp", "tcp6"} {
		text, err := os.ReadFile(process + "/net/" + table)
		if err != nil {
			continue // no IPv6
		}
		for _, line := range strings.Split(string(text), "\n")[1:] {
			const local, state, listens, inode = 1, 3, "0A", 9
			fields := strings.Fields(line)
			if len(fields) <= inode || fields[state] != listens || !own["socket:["+fields[inode]+"]"] {
				continue
			}
			address, port, _ := strings.Cut(fields[local], ":")
			if address != "0100007F" {
				t.Errorf("port %s is open at the address %s, want 0100007F, which is 127.0.0.1", port, address)
			}
			number, err := strconv.ParseUint(port, 16, 16)
			if err != nil {
				t.Fatal(err)
			}
			ports = append(ports, int(number))
		}
	}
	return ports
}

// Each folder has its own keys, which survive a restart. No other user can read the keys,
// either in the folder or in the command lines of the programs.
func TestKeys(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s := localtest.Start(t, options(dir))
	keys := s.Keys()
	for path, mode := range map[string]fs.FileMode{"": 0o700, "keys.json": 0o600} {
		info, err := os.Stat(filepath.Join(dir, path))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != mode {
			t.Errorf("the mode of %q is %v, want %v", path, info.Mode(), mode)
		}
	}
	secrets := slices.AppendSeq([]string{keys.SecretKey, keys.Token, keys.Outputs, keys.Webhook, "://"}, maps.Values(keys.Functions))
	lines := commandLines(t, dir)
	if _, err := os.Stat("/proc/self/cmdline"); err == nil && len(lines) == 0 {
		t.Error("no program of the stack was found, want at least one")
	}
	for _, line := range lines {
		for _, secret := range secrets {
			if strings.Contains(line, secret) {
				t.Errorf("the command line %q has a secret or a URL in it, want neither", line)
			}
		}
	}
	if _, err := local.Start(t.Context(), options(dir)); err == nil || !strings.Contains(err.Error(), "another local stack uses the folder") {
		t.Errorf("a second stack on the folder: %v, want an error about the first stack", err)
	}
	s.Close()

	if diff := cmp.Diff(keys, localtest.Start(t, options(dir)).Keys()); diff != "" {
		t.Errorf("a restart changed the keys (-before +after):\n%s", diff)
	}
	other := localtest.Start(t, options(t.TempDir())).Keys()
	if other.SecretKey == keys.SecretKey || other.Token == keys.Token || other.Outputs == keys.Outputs || other.Webhook == keys.Webhook || other.Functions["submit"] == keys.Functions["submit"] {
		t.Error("two folders share a key, want different keys")
	}
}

// commandLines returns the command lines of the running programs that have dir in them.
func commandLines(t *testing.T, dir string) (found []string) {
	t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		if line, err := os.ReadFile(path); err == nil && bytes.Contains(line, []byte(dir)) {
			found = append(found, string(line))
		}
	}
	return found
}

// Somebody has put a symbolic link into the state folder. Start refuses the folder, and writes
// nothing through the link.
func TestPlantedStateFolder(t *testing.T) {
	for _, name := range []string{"keys.json", "ports.json.partial", "logs/submit.log", "queue", "lock", "s3/objects/lipdrop/inbox/talk.mp4"} {
		t.Run(name, func(t *testing.T) {
			home := t.TempDir()
			victim := filepath.Join(home, "precious")
			if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(home, "work", ".lipdrop")
			link := filepath.Join(dir, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(link), 0o755), os.Symlink(victim, link)); err != nil {
				t.Fatal(err)
			}
			s, err := local.Start(t.Context(), options(dir))
			if err == nil {
				s.Close()
			}
			if err == nil || !strings.Contains(err.Error(), name+" is a symbolic link") {
				t.Errorf("Start() = %v, want an error that names the symbolic link", err)
			}
			if text, err := os.ReadFile(victim); err != nil || string(text) != "precious" {
				t.Errorf("the victim's file holds %q (%v), want precious", text, err)
			}
		})
	}
}
