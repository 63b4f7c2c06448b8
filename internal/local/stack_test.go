package local_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lipdrop/lipdrop/internal/local"
	"github.com/lipdrop/lipdrop/internal/local/localtest"
)

func options(dir string) local.Options {
	return local.Options{
		Dir: dir, Settle: 200 * time.Millisecond, Visibility: time.Second,
		QueueTime: 500 * time.Millisecond, RunTime: 500 * time.Millisecond,
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// A stack missed events of drops. The next stack on the folder finds these events, unless they
// are more than a minute older than the time in the file last-event.
func TestEventsMissed(t *testing.T) {
	dir := t.TempDir()
	patient := options(dir)
	patient.Settle = time.Hour
	first := localtest.Start(t, patient)
	dropped := time.Now()
	first.DropPair("talk")
	first.Drop("inbox/gone.wav", nil)
	first.Remove("inbox/gone.wav")
	localtest.Until(t, "four events", func() bool { return first.Pending() == 4 })
	first.Close()
	if err := os.RemoveAll(filepath.Join(dir, "queue")); err != nil {
		t.Fatal(err)
	}
	t.Run("long before the last event", func(t *testing.T) {
		setLastEvent(t, dir, dropped.Add(time.Hour))
		s := localtest.Start(t, patient)
		if n := s.Pending(); n != 0 {
			t.Errorf("%d events, want 0", n)
		}
	})
	t.Run("shortly before the last event", func(t *testing.T) {
		setLastEvent(t, dir, dropped.Add(30*time.Second)) // an event may take a minute to reach the queue
		s := localtest.Start(t, patient)
		if n := s.Pending(); n != 3 { // two files and a deletion
			t.Errorf("%d events, want 3", n)
		}
	})
}

// If the stack cannot save an event, for example on a full disk, the stack fails. The next
// stack on the folder finds the event.
func TestEventThatCannotBeKept(t *testing.T) {
	o := options(t.TempDir())
	o.Settle = time.Hour
	s := localtest.Start(t, o)
	longAgo := time.Now().Add(-time.Hour)
	setLastEvent(t, o.Dir, longAgo)
	s.Drop("inbox/talk.mp4", nil)
	localtest.Until(t, "the first event", func() bool {
		kept := string(read(t, filepath.Join(o.Dir, "last-event")))
		return s.Pending() == 1 && kept != longAgo.UTC().Format(time.RFC3339)
	})
	setLastEvent(t, o.Dir, longAgo)
	folder := filepath.Join(o.Dir, "queue")
	if err := os.Rename(folder, folder+"-away"); err != nil {
		t.Fatal(err)
	}
	s.Drop("inbox/talk.wav", nil)
	<-s.Failed()
	if err := s.Err(); !strings.Contains(err.Error(), "not kept") {
		t.Errorf("the stack failed with %v, want an event that was not kept", err)
	}
	s.Close()
	if got := string(read(t, filepath.Join(o.Dir, "last-event"))); got != longAgo.UTC().Format(time.RFC3339) {
		t.Errorf("last-event is %s, want %s", got, longAgo.UTC().Format(time.RFC3339))
	}
	if err := os.Rename(folder+"-away", folder); err != nil {
		t.Fatal(err)
	}
	s = localtest.Start(t, o)
	// The queue has the first event of talk.mp4, and the stack finds an event of each file.
	localtest.Until(t, "three events", func() bool { return s.Pending() >= 3 })
}

func setLastEvent(t *testing.T, dir string, at time.Time) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "last-event"), []byte(at.UTC().Format(time.RFC3339)), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	o := options(t.TempDir())
	o.Ports.TLS = l.Addr().(*net.TCPAddr).Port
	_, err = local.Start(t.Context(), o)
	if inUse, ok := errors.AsType[*local.PortError](err); !ok || inUse.Port != o.Ports.TLS {
		t.Errorf("Start() = %v, want a PortError of %d", err, o.Ports.TLS)
	}
}
