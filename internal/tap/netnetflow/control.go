package netnetflow

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Files of the running instance in its folder.
const (
	lockFile   = "net-netflow.lock" // holds the process number
	socketFile = "net-netflow.sock"
)

// request is what the socket of a running instance takes, one line of JSON; it answers with one line.
type request struct {
	Switches []string `json:"switches,omitempty"` // to meter from now on; none for no change
}

// answer is what it says.
type answer struct {
	Error  string   `json:"error,omitempty"`
	Status []Status `json:"status,omitempty"`
}

const (
	maxRequest  = 1 << 20
	maxAnswer   = 64 << 20
	controlTime = 30 * time.Second
)

// Instance is the right to be the one running net-netflow of a folder.
type Instance struct {
	dir      string
	lock     *os.File
	listener net.Listener
}

// Claim takes the right, or says which process has it.
func Claim(dir string) (*Instance, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("net-netflow: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, fmt.Errorf("net-netflow: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("net-netflow: %s: %w", f.Name(), err)
		}
		pid, _ := io.ReadAll(io.LimitReader(f, 20))
		return nil, fmt.Errorf("net-netflow: already running (process %s, %s): change its switches with --change -e NAME,…, or give another --run-dir",
			strings.TrimSpace(string(pid)), f.Name())
	}
	i := &Instance{dir: dir, lock: f}
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteString(strconv.Itoa(os.Getpid()) + "\n")
	}
	if err == nil {
		path := filepath.Join(dir, socketFile)
		_ = os.Remove(path) // of an instance that was killed
		i.listener, err = net.Listen("unix", path)
		if err == nil {
			err = os.Chmod(path, 0o600)
		}
	}
	if err != nil {
		i.Release()
		return nil, fmt.Errorf("net-netflow: %w", err)
	}
	return i, nil
}

// Release gives the right up.
func (i *Instance) Release() {
	if i.listener != nil {
		i.listener.Close() // removes the socket
	}
	_ = i.lock.Truncate(0)
	i.lock.Close()
}

// Serve answers requests until ctx ends.
func (i *Instance) Serve(ctx context.Context, m *Meter) {
	defer context.AfterFunc(ctx, func() { i.listener.Close() })()
	for {
		c, err := i.listener.Accept()
		if err != nil {
			return
		}
		serveOne(c, m)
	}
}

// serveOne answers one request. They are few, and one changes the set at a time.
func serveOne(c net.Conn, m *Meter) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(controlTime))
	var a answer
	var r request
	line, err := bufio.NewReader(io.LimitReader(c, maxRequest)).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &r)
	}
	if err == nil && len(r.Switches) > 0 {
		err = m.Set(r.Switches)
	}
	if err != nil {
		a.Error = err.Error()
	}
	a.Status = m.Status()
	_ = json.NewEncoder(c).Encode(a) // who asked may be gone
}

// Ask asks the running instance of a folder for its state; when switches are named it meters those from now on.
func Ask(ctx context.Context, dir string, switches []string) ([]Status, error) {
	c, err := (&net.Dialer{Timeout: controlTime}).DialContext(ctx, "unix", filepath.Join(dir, socketFile))
	if err != nil {
		return nil, fmt.Errorf("net-netflow: no running instance in %s: %w", dir, err)
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	_ = c.SetDeadline(time.Now().Add(controlTime))
	if err := json.NewEncoder(c).Encode(request{switches}); err != nil {
		return nil, fmt.Errorf("net-netflow: %w", err)
	}
	var a answer
	if err := json.NewDecoder(io.LimitReader(c, maxAnswer)).Decode(&a); err != nil {
		return nil, fmt.Errorf("net-netflow: answer of the running instance: %w", err)
	}
	if a.Error != "" {
		return a.Status, errors.New(a.Error)
	}
	return a.Status, nil
}
