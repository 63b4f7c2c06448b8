package local

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/lipdrop/lipdrop/internal/local/certs"
)

// A port that a person requests may be the one that the folder had for another purpose.
func TestRequestedPortsComeFirst(t *testing.T) {
	dir := t.TempDir()
	first, err := openPorts(Ports{}, dir)
	if err != nil {
		t.Fatal(err)
	}
	wanted := port(first.s3)
	first.close()
	second, err := openPorts(Ports{S3Plain: wanted}, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer second.close()
	if got := port(second.s3Plain); got != wanted {
		t.Errorf("port %d, want %d", got, wanted)
	}
}

// If the certificate cannot be read, the ports can still be closed.
func TestPortsCloseWithoutCertificate(t *testing.T) {
	l, err := openPorts(Ports{}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.secure(certs.Files{}); err == nil {
		t.Error("no error")
	}
	l.close()
}

// The error about a damaged file of the state names it, and says what to do.
func TestDamagedState(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"ports.json", "keys.json"} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(`{"s3": `), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := openPorts(Ports{}, dir)
		if name == "keys.json" {
			_, err = ensureKeys(dir)
		}
		if want := path + " is damaged: delete it, and start the local stack again"; err == nil || err.Error() != want {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestPortInUseInANetworkOfContainers(t *testing.T) {
	l, err := openPorts(Ports{}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	err = l.openToContainers(net.IPv4(127, 0, 0, 1), nil) // where the ports are open already
	if inUse, ok := errors.AsType[*PortError](err); !ok || inUse.Port != port(l.s3Plain) {
		t.Errorf("%v, want a *PortError", err)
	}
}
