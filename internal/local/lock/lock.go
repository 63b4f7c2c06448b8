// Package lock keeps two processes from using one folder or building one
// program at the same time. A lock belongs to the process: the kernel releases
// it when the process ends, however that is.
package lock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// ErrHeld says that another process, or another holder in this one, has the
// lock.
var ErrHeld = errors.New("locked by another process")

// Lock is a lock that is held.
type Lock struct{ file *os.File }

// Try takes the lock on a file, which it makes where it is missing, or returns
// ErrHeld at once.
func Try(path string) (*Lock, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		_ = file.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, ErrHeld
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return &Lock{file}, nil
}

// tryEvery is how often Wait tries.
const tryEvery = 50 * time.Millisecond

// Wait takes the lock on a file, which it makes where it is missing, and waits
// for it until ctx is done. It tries again and again, since a system call that
// waits could not be interrupted.
func Wait(ctx context.Context, path string) (*Lock, error) {
	again := time.NewTicker(tryEvery)
	defer again.Stop()
	for {
		if held, err := Try(path); !errors.Is(err, ErrHeld) {
			return held, err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Release gives the lock up. The file stays.
func (l *Lock) Release() error { return l.file.Close() }
