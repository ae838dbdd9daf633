package lab

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of waiting for a process.
const (
	readyTimeout = time.Minute
	readyPoll    = 5 * time.Millisecond
	restartDelay = 200 * time.Millisecond
	maxDelay     = 10 * time.Second
)

// A child is one life of a Process.
type child struct {
	Process
	pid     int
	started time.Time
	stopped chan struct{}   // closed when it was asked to end
	ended   chan struct{}   // closed when it has ended, after status is set
	status  unix.WaitStatus // of the end
	notify  *net.UnixConn   // its readiness socket, nil without
	logFrom int64           // where its part of the log begins
}

// run starts a process, waits until it is ready and keeps it running if so asked.
func (s *supervisor) run(p Process) error {
	c, err := s.start(p, make(chan struct{}))
	if err != nil {
		return err
	}
	if err := c.ready(s.Dir); err != nil {
		_ = unix.Kill(c.pid, unix.SIGKILL)
		return err
	}
	go s.watch(c)
	return nil
}

// start starts one life of a process in its namespace.
func (s *supervisor) start(p Process, stopped chan struct{}) (*child, error) {
	c := &child{Process: p, started: time.Now(), stopped: stopped, ended: make(chan struct{})}
	if len(p.Argv) == 0 || strings.ContainsAny(p.Name, "/\x00") || p.Name == "" {
		return nil, fmt.Errorf("lab: process %q: needs a plain name and arguments", p.Name)
	}
	cmd, files, err := s.command(c)
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	if err != nil {
		return nil, fmt.Errorf("lab: %s: %w", p.Name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.children[p.Name]; old != nil && !isClosed(old.ended) {
		return nil, fmt.Errorf("lab: %s: runs already", p.Name)
	}
	if s.network == nil || s.network.spaces[p.Namespace] == nil {
		return nil, fmt.Errorf("lab: %s: no namespace %q", p.Name, p.Namespace)
	}
	if err := s.network.spaces[p.Namespace].do(cmd.Start); err != nil {
		return nil, fmt.Errorf("lab: %s: %w", p.Name, err)
	}
	c.pid = cmd.Process.Pid
	s.children[p.Name], s.running[c.pid] = c, c
	return c, cmd.Process.Release() // reap waits for it
}

// command prepares the process: standard input empty, output and errors to files, readiness and
// listening sockets as service managers pass them.
func (s *supervisor) command(c *child) (cmd *exec.Cmd, files []*os.File, err error) {
	cmd = exec.Command(c.Argv[0], c.Argv[1:]...)
	if c.Argv[0] == "" {
		cmd = exec.Command(program(s.Exe), c.Argv[1:]...)
		cmd.Args[0] = "crosstap"
	}
	if cmd.Err != nil {
		return nil, nil, cmd.Err
	}
	cmd.Dir = s.Dir
	cmd.Env = append(os.Environ(), c.Env...)
	log, err := os.OpenFile(s.logPath(c.Name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, nil, err
	}
	files = append(files, log)
	if c.logFrom, err = log.Seek(0, io.SeekEnd); err != nil {
		return nil, files, err
	}
	cmd.Stdout, cmd.Stderr = log, log
	if c.Out != "" {
		out, err := os.OpenFile(filepath.Join(s.Dir, c.Out), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
		if err != nil {
			return nil, files, err
		}
		files = append(files, out)
		cmd.Stdout = out
	}
	if c.Listener && s.listener != nil {
		cmd.ExtraFiles = []*os.File{s.listener}
		cmd.Env = append(cmd.Env, "LISTEN_FDS=1", "LISTEN_FDNAMES=http")
	}
	if c.Notify {
		path := filepath.Join(s.Dir, c.Name+".notify")
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, files, err
		}
		if c.notify, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"}); err != nil {
			return nil, files, err
		}
		cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+path)
	}
	return cmd, files, nil
}

func (s *supervisor) logPath(name string) string { return logPath(s.Dir, name) }

// ready waits until the process says that it is.
func (c *child) ready(dir string) error {
	said := make(chan bool, 1)
	give := time.AfterFunc(readyTimeout, func() { said <- false })
	defer give.Stop()
	switch {
	case c.notify != nil:
		defer c.notify.Close()
		go func() {
			b := make([]byte, 4096)
			for {
				n, err := c.notify.Read(b)
				if err != nil {
					return
				}
				if bytes.Contains(b[:n], []byte("READY=1")) {
					said <- true
					return
				}
			}
		}()
	case c.Ready != "":
		go func() {
			for !isClosed(c.ended) {
				if strings.Contains(readFrom(logPath(dir, c.Name), c.logFrom), c.Ready) {
					said <- true
					return
				}
				time.Sleep(readyPoll)
			}
		}()
	default:
		return nil
	}
	select {
	case ok := <-said:
		if ok {
			return nil
		}
		return fmt.Errorf("lab: %s: not ready after %v%s", c.Name, readyTimeout, c.lastWords(dir))
	case <-c.ended:
		return fmt.Errorf("lab: %s: ended before it was ready: %s%s", c.Name, statusText(c.status), c.lastWords(dir))
	}
}

// watch reports an end that nobody asked for and starts the process again.
func (s *supervisor) watch(c *child) {
	for delay := restartDelay; ; delay = min(2*delay, maxDelay) {
		<-c.ended
		if isClosed(c.stopped) {
			return
		}
		if time.Since(c.started) > maxDelay {
			delay = restartDelay
		}
		e := Event{Process: c.Name, Status: statusText(c.status), Restart: c.Restart}
		if c.Restart {
			select {
			case <-time.After(delay):
			case <-c.stopped:
				return
			}
			next, err := s.start(c.Process, c.stopped)
			if err == nil {
				err, c = next.ready(s.Dir), next
			}
			if err != nil {
				e.Err = err.Error()
			}
		}
		s.write(answer{Event: &e})
		if !c.Restart {
			return
		}
	}
}

// stop ends a process.
func (s *supervisor) stop(o stopping) (*Exit, error) {
	s.mu.Lock()
	c := s.children[o.Process]
	if c != nil && !isClosed(c.stopped) {
		close(c.stopped)
	}
	s.mu.Unlock()
	if c == nil {
		return nil, fmt.Errorf("lab: %s: no such process", o.Process)
	}
	if !isClosed(c.ended) {
		if err := unix.Kill(c.pid, unix.Signal(o.Signal)); err != nil {
			s.log.Warn("signal", "process", c.Name, "err", err)
		}
	}
	select {
	case <-c.ended:
	case <-time.After(time.Duration(o.GraceMS) * time.Millisecond):
		_ = unix.Kill(c.pid, unix.SIGKILL)
		<-c.ended
	}
	return &Exit{Process: c.Name, Status: statusText(c.status), Clean: c.status.Exited() && c.status.ExitStatus() == 0}, nil
}

// lastWords returns the end of the process's log for an error message.
func (c *child) lastWords(dir string) string {
	return lastLine(readFrom(logPath(dir, c.Name), c.logFrom))
}

func statusText(w unix.WaitStatus) string {
	if w.Signaled() {
		return "signal: " + w.Signal().String()
	}
	return fmt.Sprintf("exit status %d", w.ExitStatus())
}

// readFrom returns what stands in a file from an offset on, the last 64 KiB of it when it is more.
func readFrom(path string, from int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	const most = 64 << 10
	if info, err := f.Stat(); err == nil {
		from = max(from, info.Size()-most)
	}
	b, _ := io.ReadAll(io.NewSectionReader(f, from, most))
	return string(b)
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
