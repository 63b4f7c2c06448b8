package local

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/lipdrop/lipdrop/internal/private"
)

// A start may request the previous start's TLS port as its plain port, or the reverse.
func TestRequestedPortsComeFirst(t *testing.T) {
	dir := t.TempDir()
	open := func(wanted Ports) Ports {
		secure, plain, err := openPorts(wanted, dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(secure.Close(), plain.Close()); err != nil {
			t.Fatal(err)
		}
		return Ports{TLS: port(secure), Plain: port(plain)}
	}
	first := open(Ports{})
	if again := open(Ports{}); again != first {
		t.Errorf("ports %v, want %v as the last time", again, first)
	}
	second := open(Ports{Plain: first.TLS})
	if second.Plain != first.TLS {
		t.Errorf("plain port %d, want %d", second.Plain, first.TLS)
	}
	if third := open(Ports{TLS: second.Plain}); third.TLS != second.Plain {
		t.Errorf("TLS port %d, want %d", third.TLS, second.Plain)
	}
}

// The error about a damaged file in the state folder names the file, and says what to do.
func TestDamagedState(t *testing.T) {
	dir := t.TempDir()
	for name, read := range map[string]func() error{
		"ports.json": func() error { _, _, err := openPorts(Ports{}, dir); return err },
		"keys.json":  func() error { _, err := ensureKeys(dir); return err },
		"0.json":     func() error { _, err := private.ReadAllJSON[Ports](dir); return err }, // ReadAllJSON also reads the queues, the executions and the fake's jobs
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(`{"tls": `), 0o600); err != nil {
			t.Fatal(err)
		}
		if err, want := read(), path+" is damaged: delete it, and start the local stack again"; err == nil || err.Error() != want {
			t.Errorf("error %v, want %q", err, want)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}
