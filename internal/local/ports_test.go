package local

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// A port that a person requests may be the one that the folder had for another purpose.
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
	if got := open(Ports{Plain: first.TLS}); got.Plain != first.TLS {
		t.Errorf("plain port %d, want %d", got.Plain, first.TLS)
	}
	if got := open(Ports{TLS: first.TLS}); got.TLS != first.TLS { // which is the last plain port
		t.Errorf("TLS port %d, want %d", got.TLS, first.TLS)
	}
}

// The error about a damaged file of the state names it, and says what to do.
func TestDamagedState(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"ports.json", "keys.json"} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(`{"tls": `), 0o600); err != nil {
			t.Fatal(err)
		}
		_, _, err := openPorts(Ports{}, dir)
		if name == "keys.json" {
			_, err = ensureKeys(dir)
		}
		if want := path + " is damaged: delete it, and start the local stack again"; err == nil || err.Error() != want {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
