package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/lipdrop/lipdrop/internal/local/process"
)

// A cost is what one copy took.
type cost struct {
	copy  time.Duration // from the first request for the file until the object is there
	whole time.Duration // from the start of the program to its end
	cpu   time.Duration // user and system, of all its processes
	peak  int64         // bytes of resident memory, all its processes added
	above int64         // of that, above the function's start; 0 for other tools
}

// sampleEvery is how often the memory of a process is looked at. The kernel
// keeps the peak, so that only what comes in the last moment is missed.
const sampleEvery = 10 * time.Millisecond

// run runs the programs of a pipeline side by side and waits for their end.
func run(ctx context.Context, programs ...*exec.Cmd) (cost, error) {
	began := time.Now()
	var c cost
	var children []*process.Child
	var peaks []*peak
	var said []*bytes.Buffer
	for _, program := range programs {
		var errors bytes.Buffer
		program.Stderr = &errors
		child, err := process.Start(program)
		if err != nil {
			return c, err
		}
		defer child.Kill()
		children, peaks, said = append(children, child), append(peaks, watch(program.Process.Pid)), append(said, &errors)
		for _, end := range []any{program.Stdin, program.Stdout} {
			if pipe, ok := end.(*os.File); ok {
				_ = pipe.Close() // the child has its own; the other side sees its end
			}
		}
	}
	for i, child := range children {
		select {
		case <-child.Done():
		case <-ctx.Done():
			return c, context.Cause(ctx)
		}
		if err := child.Err(); err != nil {
			return c, fmt.Errorf("%s: %w: %s", programs[i].Path, err, bytes.TrimSpace(said[i].Bytes()))
		}
		state := programs[i].ProcessState
		c.cpu += state.UserTime() + state.SystemTime()
	}
	c.whole = time.Since(began)
	for _, p := range peaks {
		c.peak += p.end()
	}
	return c, nil
}

// A peak is the highest resident memory of a process so far. The one that
// wait4 tells is no use: it counts the memory of the parent as well.
type peak struct {
	bytes atomic.Int64
	stop  chan struct{}
	done  chan struct{}
}

func watch(pid int) *peak {
	p := &peak{stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(p.done)
		tick := time.NewTicker(sampleEvery)
		defer tick.Stop()
		for {
			if n := memory(pid, "VmHWM"); n > 0 {
				p.bytes.Store(n)
			}
			select {
			case <-p.stop:
				return
			case <-tick.C:
			}
		}
	}()
	return p
}

func (p *peak) end() int64 {
	close(p.stop)
	<-p.done
	return p.bytes.Load()
}

// memory returns a figure of /proc/<pid>/status in bytes, 0 where the process
// has gone.
func memory(pid int, name string) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			kib, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64) // the kernel writes numbers
			return kib << 10
		}
	}
	return 0
}

// childrenCPU returns the CPU time of all children that have ended.
func childrenCPU() time.Duration {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_CHILDREN, &usage) // cannot fail with these arguments
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
