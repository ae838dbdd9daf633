package libvirt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// Endpoint says how to reach a daemon.
type Endpoint struct {
	URI      *URI
	ReadOnly bool   // use the socket that only reads; it needs no permission on most machines
	SSH      string // the ssh program; "" for the one in the path
}

// Sockets lists where a local daemon listens, the most likely place first.
func (e Endpoint) Sockets() []string { return e.URI.sockets(e.ReadOnly) }

// transport is the way to a daemon: a socket, or ssh's input and output.
type transport interface {
	io.ReadWriteCloser
	// why explains a broken transport, "" when it has nothing to say.
	why() string
}

type socket struct{ net.Conn }

func (socket) why() string { return "" }

// dial opens the transport.
func (e Endpoint) dial(ctx context.Context) (transport, error) {
	if e.URI.Transport == "ssh" {
		return e.dialSSH()
	}
	var failures []error
	for _, path := range e.Sockets() {
		c, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
		if err == nil {
			return socket{c}, nil
		}
		failures = append(failures, err)
	}
	return nil, fmt.Errorf("libvirt: %s: no daemon listens: %w", e.URI, errors.Join(failures...))
}

func (e Endpoint) dialSSH() (transport, error) {
	program := e.SSH
	if program == "" {
		program = "ssh"
	}
	c := exec.Command(program, e.URI.sshArgs(e.ReadOnly)...)
	p := &pipe{cmd: c, ended: make(chan struct{})}
	c.Stderr, c.WaitDelay = &p.errors, patience
	var err error
	if p.in, err = c.StdinPipe(); err == nil {
		p.out, err = c.StdoutPipe()
	}
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("libvirt: %s: ssh: %w", e.URI, err)
	}
	return p, nil
}

// pipe is a session through ssh.
type pipe struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    io.ReadCloser
	errors tail
	once   sync.Once
	ended  chan struct{}
}

func (p *pipe) Read(b []byte) (int, error)  { return p.out.Read(b) }
func (p *pipe) Write(b []byte) (int, error) { return p.in.Write(b) }

// Close ends ssh: its input and output end, and when that does not end it, it is killed.
func (p *pipe) Close() error {
	p.once.Do(func() {
		_, _ = p.in.Close(), p.out.Close()
		kill := time.AfterFunc(patience, func() { _ = p.cmd.Process.Kill() })
		go func() {
			_ = p.cmd.Wait()
			kill.Stop()
			close(p.ended)
		}()
	})
	return nil
}

// patience is how long ssh has to end by itself.
const patience = time.Second

// why returns the last line that ssh wrote to its error output.
func (p *pipe) why() string {
	_ = p.Close()
	select {
	case <-p.ended:
	case <-time.After(3 * patience):
	}
	return p.errors.last()
}

// tail keeps the end of what is written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

func (t *tail) Write(b []byte) (int, error) {
	const most = 4096
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, b...)
	if n := len(t.b) - most; n > 0 {
		t.b = append(t.b[:0], t.b[n:]...)
	}
	return len(b), nil
}

func (t *tail) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(string(t.b)), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}
