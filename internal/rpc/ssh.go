package rpc

import (
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// SSH is a machine that OpenSSH's client reaches with nobody at a keyboard: by a key, an agent, or what ~/.ssh/config says.
type SSH struct {
	Program string // "" for the ssh in the path
	User    string
	Host    string
	Port    string // "" for its own default
	KeyFile string
}

// Validate refuses what ssh would take for an option.
func (s SSH) Validate() error {
	switch {
	case s.Host == "":
		return fmt.Errorf("ssh needs a host")
	case strings.HasPrefix(s.Host, "-") || strings.HasPrefix(s.User, "-"):
		return fmt.Errorf("host and user do not begin with '-'")
	}
	return nil
}

// Args are the arguments of ssh, the last of them the command for the remote shell. A peer that is silent for 15 s is gone.
func (s SSH) Args(command string) []string {
	args := []string{"-T", "-e", "none", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3"}
	if s.Port != "" {
		args = append(args, "-p", s.Port)
	}
	if s.User != "" {
		args = append(args, "-l", s.User)
	}
	if s.KeyFile != "" {
		args = append(args, "-i", s.KeyFile)
	}
	return append(args, "--", s.Host, command)
}

// Quote quotes a word for the remote shell.
func Quote(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }

// Start runs a command on the machine.
func (s SSH) Start(command string) (*Process, error) {
	program := s.Program
	if program == "" {
		program = "ssh"
	}
	return Start(exec.Command(program, s.Args(command)...))
}

// Process is a way to a peer: the input and output of a program.
type Process struct {
	in     io.WriteCloser
	out    io.ReadCloser
	cmd    *exec.Cmd
	errors tail
	once   sync.Once
	ended  chan struct{}
}

// patience is how long a program has to end by itself.
const patience = time.Second

// Start starts a program.
func Start(c *exec.Cmd) (*Process, error) {
	p := &Process{cmd: c, ended: make(chan struct{})}
	c.Stderr, c.WaitDelay = &p.errors, patience
	var err error
	if p.in, err = c.StdinPipe(); err == nil {
		p.out, err = c.StdoutPipe()
	}
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Read reads the program's output.
func (p *Process) Read(b []byte) (int, error) { return p.out.Read(b) }

// Write writes to the program's input.
func (p *Process) Write(b []byte) (int, error) { return p.in.Write(b) }

// Close ends the program: its input and output end, and when that does not end it, it is killed.
func (p *Process) Close() error {
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

// Why ends the program and returns the last line that it wrote to its error output, "" when it has nothing to say.
func (p *Process) Why() string {
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
