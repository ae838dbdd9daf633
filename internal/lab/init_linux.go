package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// supervisor is the lab init: process 1 of the lab.
type supervisor struct {
	initConfig
	log      *slog.Logger
	control  *os.File
	listener *os.File

	writing sync.Mutex // one answer at a time

	mu       sync.Mutex // guards what follows
	network  *network
	children map[string]*child // by Process.Name
	running  map[int]*child    // by process id
}

// Init is the body of the lab init. It returns when the caller's end of the control socket closes;
// by then all other processes of the lab are dead.
func Init() error {
	s := &supervisor{children: map[string]*child{}, running: map[int]*child{}}
	if err := json.Unmarshal([]byte(os.Getenv(initEnv)), &s.initConfig); err != nil || os.Getpid() != 1 {
		return errors.New("lab init: it is started by the demo, not by hand")
	}
	for _, name := range []string{initEnv, "NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		os.Unsetenv(name) // ours, not the children's
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGCHLD, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	unix.CloseOnExec(fdControl)
	s.control = os.NewFile(fdControl, "control")
	if s.Listener {
		unix.CloseOnExec(fdListener)
		s.listener = os.NewFile(fdListener, "listener")
	}
	var out io.Writer = io.Discard
	if s.Verbose {
		out = os.Stderr
	}
	s.log = slog.New(slog.NewTextHandler(out, nil))
	mounts(s.log)
	end := make(chan struct{})
	go func() {
		s.orders()
		close(end)
	}()
	for {
		select {
		case sig := <-signals:
			if sig == syscall.SIGCHLD {
				s.reap()
				continue
			}
			if sig == syscall.SIGTERM { // the parent-death signal; the socket's end says the same
				s.end()
				return nil
			}
		case <-end:
			s.end()
			return nil
		}
	}
}

// mounts gives the lab a /proc of its own process namespace. A container that hides parts of /proc does not
// allow that; the lab works without.
func mounts(log *slog.Logger) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		log.Warn("mounts stay shared", "err", err)
		return
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		log.Warn("no /proc of the lab's own", "err", err)
	}
}

// orders carries out orders, each in its own goroutine, until the control socket ends.
func (s *supervisor) orders() {
	d := json.NewDecoder(s.control)
	for {
		var o order
		if err := d.Decode(&o); err != nil {
			return
		}
		go func() {
			a := answer{ID: o.ID}
			if err := s.carryOut(o, &a); err != nil {
				a.Err = err.Error()
			}
			s.write(a)
		}()
	}
}

func (s *supervisor) write(a answer) {
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := json.NewEncoder(s.control).Encode(a); err != nil {
		s.log.Warn("answer lost", "err", err)
	}
}

func (s *supervisor) carryOut(o order, a *answer) (err error) {
	switch {
	case o.Build != nil:
		return s.build(*o.Build)
	case o.Run != nil:
		return s.run(*o.Run)
	case o.Stop != nil:
		a.Exit, err = s.stop(*o.Stop)
		return err
	}
	return fmt.Errorf("lab init: order %d says nothing", o.ID)
}

func (s *supervisor) build(t Topology) error {
	n, err := build(t)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.network != nil {
		n.close()
		return errors.New("lab init: the network is built already")
	}
	s.network = n
	return nil
}

// reap collects ended processes: ours, and orphans that the kernel gave to process 1.
func (s *supervisor) reap() {
	for {
		s.mu.Lock() // a child is in the table before its end can be collected
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		c := s.running[pid]
		delete(s.running, pid)
		s.mu.Unlock()
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if c != nil {
			c.status = status
			close(c.ended)
		}
	}
}

// end kills everything in the lab and waits until it is gone, so that nobody writes to a directory that is
// being removed.
func (s *supervisor) end() {
	s.mu.Lock() // nothing starts any more
	defer s.mu.Unlock()
	deadline := time.Now().Add(5 * time.Second)
	for time.Now().Before(deadline) {
		_ = unix.Kill(-1, unix.SIGKILL)
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		if errors.Is(err, unix.ECHILD) {
			break
		}
		if pid == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	if s.Remove {
		if err := os.RemoveAll(s.Dir); err != nil {
			s.log.Warn("directory not removed", "err", err)
		}
	}
}
