//go:build linux

// Package ovstest starts a private Open vSwitch database, and a switch, for tests: sockets and files in a temporary
// directory, nothing of the machine's own Open vSwitch.
package ovstest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"crosstap/internal/testkit"
)

// schemaPath is where Debian's package has the schema of the Open_vSwitch database.
const schemaPath = "/usr/share/openvswitch/vswitch.ovsschema"

const patience = time.Minute

// DB is an ovsdb-server with an empty Open_vSwitch database.
type DB struct {
	tb     testing.TB
	dir    string
	args   []string
	server *process
	vswd   *process
	do     func(func() error) error // runs a function in the namespace
}

// New starts a server with more remotes besides its unix socket. do runs a function in the network namespace that the server and
// the switch are to be in; nil for the test's own.
func New(tb testing.TB, do func(func() error) error, args ...string) *DB {
	tb.Helper()
	testkit.Tool(tb, "ovsdb-server")
	testkit.Tool(tb, "ovs-vsctl")
	if _, err := os.Stat(schemaPath); err != nil {
		testkit.Missing(tb, err.Error())
	}
	if do == nil {
		do = func(f func() error) error { return f() }
	}
	dir, err := os.MkdirTemp("", "ovs") // short: a socket's path has 107 bytes
	if err != nil {
		tb.Fatal(err)
	}
	d := &DB{tb: tb, dir: dir, args: args, do: do}
	tb.Cleanup(func() {
		d.stop(d.vswd)
		d.Stop()
		os.RemoveAll(dir)
	})
	d.run(testkit.Tool(tb, "ovsdb-tool"), "create", d.file("conf.db"), schemaPath)
	d.Start()
	d.Vsctl("--no-wait init")
	return d
}

func (d *DB) file(name string) string { return filepath.Join(d.dir, name) }

// Socket returns the path of the database's unix socket.
func (d *DB) Socket() string { return d.file("db.sock") }

// Start starts the server again after Stop.
func (d *DB) Start() {
	d.tb.Helper()
	args := append([]string{
		d.file("conf.db"), "--remote=punix:" + d.Socket(), "--unixctl=" + d.file("ovsdb.ctl"), "--pidfile=" + d.file("ovsdb.pid"),
		"--no-chdir", "-vconsole:off", "--log-file=" + d.file("ovsdb.log"),
	}, d.args...)
	d.server = d.start("ovsdb-server", args...)
	d.waitFor(d.Socket())
}

// Stop ends the server.
func (d *DB) Stop() {
	d.stop(d.server)
	d.server = nil
	os.Remove(d.Socket())
}

// Switch starts ovs-vswitchd on the database. Only bridges of the userspace datapath (datapath_type=netdev) work everywhere.
func (d *DB) Switch() {
	d.tb.Helper()
	testkit.Root(d.tb)
	testkit.Tool(d.tb, "ovs-vswitchd")
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		testkit.Missing(d.tb, "the switch needs /dev/net/tun: "+err.Error())
	}
	d.vswd = d.start("ovs-vswitchd", "unix:"+d.Socket(), "--unixctl="+d.file("vswitchd.ctl"), "--pidfile="+d.file("vswitchd.pid"),
		"--no-chdir", "-vconsole:off", "--log-file="+d.file("vswitchd.log"))
	d.waitFor(d.file("vswitchd.ctl"))
	// It looks at its cached flows ten times a second and not twice, and drops none for being seldom used: tests wait for that (Revalidated).
	d.Vsctl("--no-wait set Open_vSwitch . other_config:max-revalidator=100 other_config:min-revalidate-pps=1")
}

// Vsctl runs ovs-vsctl with the words of args, and returns what it prints.
func (d *DB) Vsctl(args string) string {
	d.tb.Helper()
	return d.run("ovs-vsctl", append([]string{"--db=unix:" + d.Socket(), "--timeout=60"}, strings.Fields(args)...)...)
}

// Revalidated returns when the switch has looked at all its cached flows once more, wholly: ovs-vswitchd confirms a change of the database
// before it has. It does not have the switch look for a reason.
func (d *DB) Revalidated() {
	d.tb.Helper()
	for range 2 { // the round that is under way may have begun before
		d.run("ovs-appctl", "--target="+d.file("vswitchd.ctl"), "revalidator/wait")
	}
}

// run runs a command of Open vSwitch in the namespace.
func (d *DB) run(name string, args ...string) string {
	d.tb.Helper()
	var out []byte
	err := d.do(func() (err error) {
		cmd := exec.Command(name, args...)
		cmd.Env = d.env()
		out, err = cmd.CombinedOutput()
		return err
	})
	if err != nil {
		d.tb.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func (d *DB) env() []string {
	return append(os.Environ(), "OVS_RUNDIR="+d.dir, "OVS_LOGDIR="+d.dir, "OVS_DBDIR="+d.dir, "OVS_SYSCONFDIR="+d.dir)
}

// process is one of the daemons.
type process struct {
	*exec.Cmd
	release func() // of its guard
}

func (d *DB) start(name string, args ...string) *process {
	d.tb.Helper()
	cmd := exec.Command(testkit.Tool(d.tb, name), args...)
	cmd.Env = d.env()
	if err := d.do(cmd.Start); err != nil {
		d.tb.Fatalf("%s: %v", name, err)
	}
	return &process{cmd, testkit.Guard(d.tb, cmd.Process.Pid)}
}

func (d *DB) stop(cmd *process) {
	if cmd == nil {
		return
	}
	defer cmd.release()
	_ = cmd.Process.Signal(unix.SIGTERM)
	kill := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	_ = cmd.Wait()
}

// waitFor waits until a daemon takes connections at a socket; its file is there a moment before.
func (d *DB) waitFor(path string) {
	d.tb.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if c, err := net.Dial("unix", path); err == nil {
			c.Close()
			return
		}
	}
	log, _ := filepath.Glob(filepath.Join(d.dir, "*.log"))
	text := ""
	for _, l := range log {
		b, _ := os.ReadFile(l)
		text += fmt.Sprintf("%s:\n%s", l, b)
	}
	d.tb.Fatalf("nobody listens at %s\n%s", path, text)
}
