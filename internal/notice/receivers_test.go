package notice_test

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// program returns the example in docs/notices.md for a language, changed to listen on
// the port of address.
func program(t *testing.T, language, address string) string {
	t.Helper()
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	_, code, ok := strings.Cut(string(text), "```"+language+"\n")
	code, _, closed := strings.Cut(code, "```\n")
	if !ok || !closed {
		t.Fatalf("%s has no code in %s", document, language)
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(code, "8000", port, 1)
	if changed == code {
		t.Fatal("the code does not name the port 8000")
	}
	return changed
}

// The example receivers in docs/notices.md accept a notice only with the right key.
func TestReceiversOfTheDocument(t *testing.T) {
	for name, prepare := range map[string]func(t *testing.T, dir, address string) []string{
		"Go": func(t *testing.T, dir, address string) []string {
			file := filepath.Join(dir, "main.go")
			const imports = "package main\n\nimport (\n\"crypto/subtle\"\n\"encoding/json\"\n\"log\"\n\"net/http\"\n\"os\"\n)\n\nfunc main() {\n"
			write(t, file, imports+program(t, "go", address)+"}\n")
			receiver := filepath.Join(dir, "receiver")
			if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", receiver, file).CombinedOutput(); err != nil {
				t.Fatalf("the example does not compile: %v\n%s", err, out)
			}
			return []string{receiver}
		},
		"Python": func(t *testing.T, dir, address string) []string {
			python, err := exec.LookPath("python3")
			if err != nil {
				t.Skip("there is no python3")
			}
			file := filepath.Join(dir, "receiver.py")
			write(t, file, program(t, "python", address))
			return []string{python, file}
		},
	} {
		t.Run(name, func(t *testing.T) {
			// Until the example is compiled, the listener reserves the port for the receiver.
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			address := listener.Addr().String()
			command := prepare(t, t.TempDir(), address)
			_ = listener.Close()
			for _, tt := range []struct {
				name, known, sent string
				accepted          bool
			}{
				{"the right key", "secret", "secret", true},
				{"a wrong key", "secret", "secreT", false},
				{"a key with a letter outside of ASCII", "secret", "sécret", false},
				{"no key", "secret", "", false},
				{"a receiver without a key", "", "", false},
			} {
				t.Run(tt.name, func(t *testing.T) {
					cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
					cmd.Env = append(os.Environ(), "LIPDROP_KEY="+tt.known)
					var out buffer
					cmd.Stdout, cmd.Stderr = &out, &out
					if err := cmd.Start(); err != nil {
						t.Fatal(err)
					}
					status := post(t, "http://"+address+"/", tt.sent)
					printed := func() bool { return strings.Contains(out.String(), "ads/talk failed: no face found") }
					for range 600 {
						if !tt.accepted || printed() {
							break
						}
						time.Sleep(100 * time.Millisecond) // the receiver may print after it has responded
					}
					_ = cmd.Process.Kill()
					_ = cmd.Wait()
					if accepted := status/100 == 2; accepted != tt.accepted || accepted != printed() {
						t.Errorf("HTTP %d, printed %q; want the notice accepted and printed: %t", status, out.String(), tt.accepted)
					}
				})
			}
		})
	}
}

// buffer holds what a receiver prints.
type buffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// post sends a notice as soon as the receiver listens, and returns the HTTP status.
func post(t *testing.T, url, key string) int {
	t.Helper()
	const body = `{"detail-type": "Job failed", "detail": {"id": "1", "name": "ads/talk", "state": "failed", "summary": "ads/talk failed: no face found"}}`
	for range 600 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if key != "" {
			req.Header.Set("X-Lipdrop-Key", key)
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			_ = resp.Body.Close()
			return resp.StatusCode
		}
		time.Sleep(100 * time.Millisecond) // until the receiver listens
	}
	t.Fatal("the receiver does not listen")
	return 0
}
