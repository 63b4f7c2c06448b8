package lock_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/lipdrop/lipdrop/internal/local/lock"
)

func TestOnlyOneHolds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	first, err := lock.Try(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock.Try(path); !errors.Is(err, lock.ErrHeld) {
		t.Errorf("Try() of a held lock = %v, want ErrHeld", err)
	}
	waited := make(chan error)
	go func() {
		second, err := lock.Wait(t.Context(), path)
		if err == nil {
			err = second.Release()
		}
		waited <- err
	}()
	select {
	case err := <-waited:
		t.Fatalf("Wait() of a held lock returned (%v)", err)
	default:
	}
	if err := first.Release(); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; err != nil {
		t.Error(err)
	}
}

// A person who does not want to wait for another process interrupts.
func TestWaitEndsWithItsContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	held, err := lock.Try(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, interrupt := context.WithCancel(t.Context())
	waited := make(chan error)
	go func() {
		_, err := lock.Wait(ctx, path)
		waited <- err
	}()
	interrupt()
	if err := <-waited; !errors.Is(err, context.Canceled) {
		t.Errorf("Wait() = %v, want the end of its context", err)
	}
	if err := held.Release(); err != nil {
		t.Fatal(err)
	}
	if held, err = lock.Try(path); err != nil {
		t.Fatalf("the lock is not free: %v", err)
	}
	_ = held.Release()
}

func TestNoFolder(t *testing.T) {
	if _, err := lock.Try(filepath.Join(t.TempDir(), "missing", "lock")); err == nil {
		t.Error("Try() = nil, want an error")
	}
}
