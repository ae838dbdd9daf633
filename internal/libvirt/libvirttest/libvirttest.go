// Package libvirttest starts a libvirt daemon for tests: libvirtd with its test driver alone, without root's directories, namespaces or
// machines.
package libvirttest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"crosstap/internal/testkit"
)

// Daemon is a libvirtd that runs until the test ends.
type Daemon struct {
	tb   testing.TB
	dir  string
	node string // file of the test driver: its machines
	cmd  *exec.Cmd
	log  bytes.Buffer
	rest func()
}

// Start starts a daemon whose test driver has the machines of node, a file in the format of test:///PATH; "" for the driver's own
// default, one machine named test.
func Start(tb testing.TB, node string) *Daemon {
	tb.Helper()
	testkit.Root(tb)
	testkit.Tool(tb, "libvirtd")
	dir, err := os.MkdirTemp("", "ct-lv-") // the path of a socket must be short
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	d := &Daemon{tb: tb, dir: dir, node: node}
	conf := fmt.Sprintf("unix_sock_dir = %q\nauth_unix_ro = \"none\"\nauth_unix_rw = \"none\"\nlog_outputs = \"3:stderr\"\n", dir)
	if err := os.WriteFile(filepath.Join(dir, "conf"), []byte(conf), 0o600); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(d.Stop)
	d.Run()
	return d
}

// Run starts the daemon again after Stop.
func (d *Daemon) Run() {
	d.tb.Helper()
	d.cmd = exec.Command("unshare", "--mount", "sh", "-c", `mount -t tmpfs none /run && mkdir -p /run/libvirt && exec libvirtd -f "$0/conf" -p "$0/pid"`, d.dir)
	d.cmd.Env = append(os.Environ(), "LIBVIRT_DRIVER_DIR="+d.dir) // no drivers but the built-in ones
	d.cmd.Stderr = &d.log
	d.cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	if err := d.cmd.Start(); err != nil {
		d.tb.Fatalf("libvirtd: %v", err)
	}
	d.rest = testkit.Guard(d.tb, -d.cmd.Process.Pid)
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		c, err := net.Dial("unix", d.Socket())
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(end) {
			d.Stop()
			d.tb.Fatalf("libvirtd does not listen: %v\n%s", err, d.log.String())
		}
	}
}

// Stop kills the daemon.
func (d *Daemon) Stop() {
	if d.cmd == nil {
		return
	}
	_ = unix.Kill(-d.cmd.Process.Pid, unix.SIGKILL)
	_ = d.cmd.Wait()
	d.rest()
	d.cmd = nil
	for _, s := range []string{"libvirt-sock", "libvirt-sock-ro", "libvirt-admin-sock", "pid"} {
		_ = os.Remove(filepath.Join(d.dir, s))
	}
}

// Socket returns the path of the daemon's socket.
func (d *Daemon) Socket() string { return filepath.Join(d.dir, "libvirt-sock") }

// URI returns the URI of the daemon's machines.
func (d *Daemon) URI() string {
	path := d.node
	if path == "" {
		path = "/default"
	}
	return "test://" + path + "?socket=" + d.Socket()
}
