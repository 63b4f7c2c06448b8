// Package process starts child processes that end when this process ends, also
// after a crash of this process or a signal that it cannot catch.
//
// Each child is in a process group with a guard: a shell that waits for the end of
// a pipe, which only this process holds open. When this process has ended, the
// kernel closes the pipe and the guard kills the group. Unlike the parent-death
// signal of Linux, this also works on macOS, includes the grandchildren in the group,
// and does not depend on the thread that started the child.
package process

import (
	"fmt"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

const (
	// guardScript waits for the end of standard input, then kills the process group
	// of the guard, including the guard.
	guardScript = "read line; kill -KILL 0"
	// outputDelay is how long cmd.Wait waits for the output after the child has ended, if
	// a grandchild keeps the output open.
	outputDelay = time.Second
)

// Child is a running program. Its methods are safe for concurrent use.
type Child struct {
	cmd   *exec.Cmd
	guard *exec.Cmd // has the write end of the pipe; guard.Wait closes it
	done  chan struct{}
	err   error // result of cmd.Wait, set before done is closed

	mu    sync.Mutex
	ended bool // the group has ended, and its number may be used again
}

// Start starts cmd in a new process group. It sets cmd.SysProcAttr and
// cmd.WaitDelay.
func Start(cmd *exec.Cmd) (*Child, error) {
	guard := exec.Command("/bin/sh", "-c", guardScript)
	guard.Env = []string{}
	guard.Dir = "/"
	guard.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if _, err := guard.StdinPipe(); err != nil {
		return nil, fmt.Errorf("guard of %s: %w", cmd.Path, err)
	}
	if err := guard.Start(); err != nil {
		return nil, fmt.Errorf("guard of %s: %w", cmd.Path, err)
	}
	c := &Child{cmd: cmd, guard: guard, done: make(chan struct{})}
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
	c.err = c.cmd.Wait()
	c.mu.Lock()
	c.endGroup()
	c.ended = true
	c.mu.Unlock()
	close(c.done)
}

// endGroup kills what remains of the group, including the guard. The number of the
// group stays reserved until guard.Wait has returned.
func (c *Child) endGroup() {
	c.killGroup()
	_ = c.guard.Wait() // an error, because the guard was killed
}

func (c *Child) killGroup() {
	_ = syscall.Kill(-c.guard.Process.Pid, syscall.SIGKILL) // the group may have ended already
}

// Done returns a channel that is closed once the child has ended and its output has been read.
func (c *Child) Done() <-chan struct{} { return c.done }

// Err returns how the child ended: nil for exit status 0, an *exec.ExitError, or an
// error of reading the child's output. Call Err only after Done is closed.
func (c *Child) Err() error { return c.err }

// Kill kills the child and the other processes in its group, and waits for the end of the child.
func (c *Child) Kill() {
	c.mu.Lock()
	if !c.ended {
		c.killGroup()
	}
	c.mu.Unlock()
	<-c.done
}

// Stop sends SIGTERM to the child and waits for its end. If the child has not ended after grace,
// Stop does the same as Kill.
func (c *Child) Stop(grace time.Duration) {
	_ = c.cmd.Process.Signal(syscall.SIGTERM) // the child may have ended already
	select {
	case <-c.done:
	case <-time.After(grace):
	}
	c.Kill()
}
