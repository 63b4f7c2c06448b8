package local

import (
	"errors"
	"net"
	"path/filepath"
	"testing"

	"github.com/lipdrop/lipdrop/internal/local/certs"
)

// A port that a person requests may be the one that the folder had for another purpose.
func TestRequestedPortsComeFirst(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ports.json")
	first, err := openPorts(Ports{}, path)
	if err != nil {
		t.Fatal(err)
	}
	wanted := port(first.s3)
	first.close()
	second, err := openPorts(Ports{S3Plain: wanted}, path)
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
	l, err := openPorts(Ports{}, filepath.Join(t.TempDir(), "ports.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.secure(certs.Files{}); err == nil {
		t.Error("no error")
	}
	l.close()
}

func TestPortInUseInANetworkOfContainers(t *testing.T) {
	l, err := openPorts(Ports{}, filepath.Join(t.TempDir(), "ports.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	err = l.openToContainers(net.IPv4(127, 0, 0, 1), nil) // where the ports are open already
	if inUse, ok := errors.AsType[*PortError](err); !ok || inUse.Port != port(l.s3Plain) {
		t.Errorf("%v, want a *PortError", err)
	}
}
