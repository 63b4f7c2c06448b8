// Package process starts child processes that end when this process ends,
// however it ends: by its own will, by a signal that it cannot catch, or by a
// crash.
//
// Each child shares a process group with a guard, a shell that waits for the
// end of a pipe which only this process holds open. When this process is gone,
// the kernel closes the pipe and the guard kills the group. That works alike on
// Linux and macOS, takes grandchildren along, and does not depend on which
// thread started the child, as Linux's parent-death signal does.
package process

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

const (
	// shell runs the guard; POSIX puts one there.
	shell = "/bin/sh"
	// guardScript waits for the end of standard input, then kills the guard's
	// own process group, itself included.
	guardScript = "read line; kill -KILL 0"
	// outputDelay is how long the output of a child is waited for once the
	// child itself has ended, should a grandchild hold it open.
	outputDelay = time.Second
)

// Child is a running program. Its methods are safe for concurrent use.
type Child struct {
	cmd   *exec.Cmd
	guard *exec.Cmd
	pipe  io.Closer // the write end of the guard's standard input
	done  chan struct{}

	mu    sync.Mutex
	ended bool  // the group is gone, and its number may belong to others
	err   error // of cmd.Wait
}

// Start starts cmd in a process group of its own. It sets cmd.SysProcAttr and
// cmd.WaitDelay; everything else is the caller's.
func Start(cmd *exec.Cmd) (*Child, error) {
	guard := exec.Command(shell, "-c", guardScript)
	guard.Env = []string{}
	guard.Dir = "/"
	guard.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	pipe, err := guard.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("guard of %s: %w", cmd.Path, err)
	}
	if err := guard.Start(); err != nil {
		return nil, fmt.Errorf("guard of %s: %w", cmd.Path, err)
	}
	c := &Child{cmd: cmd, guard: guard, pipe: pipe, done: make(chan struct{})}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pgid: guard.Process.Pid}
	cmd.WaitDelay = outputDelay
	if err := cmd.Start(); err != nil {
		c.endGroup()
		return nil, err
	}
	go c.wait()
	return c, nil
}

func (c *Child) wait() {
	err := c.cmd.Wait()
	c.mu.Lock()
	c.err = err
	c.endGroup()
	c.ended = true
	c.mu.Unlock()
	close(c.done)
}

// endGroup kills whatever is left of the group, the guard included. The
// group's number stays reserved until the guard is waited for.
func (c *Child) endGroup() {
	c.killGroup()
	_ = c.guard.Wait() // killed: always an error
	_ = c.pipe.Close() // Wait has closed it already
}

func (c *Child) killGroup() {
	_ = syscall.Kill(-c.guard.Process.Pid, syscall.SIGKILL) // gone already: nothing to do
}

// Done is closed once the child has ended and its output has been read.
func (c *Child) Done() <-chan struct{} { return c.done }

// Err says how the child ended: nil for exit status 0, else an *exec.ExitError
// or a fault of reading its output. It is meaningful once Done is closed.
func (c *Child) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Kill kills the child and all that it started, and waits for its end.
func (c *Child) Kill() {
	c.mu.Lock()
	if !c.ended {
		c.killGroup()
	}
	c.mu.Unlock()
	<-c.done
}

// Stop asks the child to end by SIGTERM and kills it once grace is over.
// It returns how the child ended, which is nil where the request did it.
func (c *Child) Stop(grace time.Duration) error {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err == nil {
		select {
		case <-c.done:
		case <-time.After(grace):
		}
	}
	c.Kill()
	err := c.Err()
	if exit := new(exec.ExitError); errors.As(err, &exit) && signalled(exit, syscall.SIGTERM) {
		return nil
	}
	return err
}

func signalled(err *exec.ExitError, signal syscall.Signal) bool {
	status, ok := err.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == signal
}
