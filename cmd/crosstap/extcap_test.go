//go:build linux && !agent

package main

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"crosstap/internal/testkit"
	"crosstap/internal/testns"

	"github.com/google/go-cmp/cmp"
)

// extcapCall runs one call of Wireshark's and returns what it prints.
func extcapCall(t *testing.T, args ...string) string {
	t.Helper()
	cmd := newExtcap()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(args)
	if err := cmd.Execute(); err != nil {
		return "error: " + err.Error()
	}
	return out.String()
}

func TestExtcapCalls(t *testing.T) {
	f := func(want string, args ...string) {
		t.Helper()
		if got := extcapCall(t, args...); !strings.Contains(got, want) {
			t.Errorf("%v: %q, want %q", args, got, want)
		}
	}
	f("interface {value=crosstap-if-lo}{display=crosstap: lo}\n", "--extcap-interfaces", "--extcap-version=4.9", "--never-heard-of")
	f("interface {value=crosstap-mirror}", "--extcap-interfaces")
	f("dlt {number=1}{name=EN10MB}{display=Ethernet}\n", "--extcap-interface=crosstap-if-lo", "--extcap-dlts")
	f("{call=--promiscuous}", "--extcap-interface", "crosstap-if-lo", "--extcap-config")
	f("{call=--listen}{display=Endpoint}{type=string}{default=erspan://}", "--extcap-config", "--extcap-interface=crosstap-mirror")
	f("{call=--password}{display=Password}{type=password}", "--extcap-config", "--extcap-interface=crosstap-rpcap")
	f("did you mean", "--extcap-interface=crosstap-if-lo", "--extcap-capture-filter=tcp prot 5")
	f("error: extcap: interface \"eth9\"", "--extcap-interface=eth9", "--extcap-dlts")
	f("error: extcap: --capture needs --fifo", "--extcap-interface=crosstap-if-lo", "--capture")
	f("error: extcap: set the interface", "--extcap-interface=crosstap-rpcap", "--capture", "--fifo=/nowhere", "--url", "eth0")
	f("error: listen x://", "--extcap-interface=crosstap-mirror", "--capture", "--fifo=/nowhere", "--listen", "x://")
	f("crosstap extcap install", "--help")
	if got := extcapCall(t, "--extcap-interface=crosstap-if-lo", "--extcap-capture-filter=vxlan 5001 and inner tcp"); got != "" {
		t.Error(got)
	}
}

func TestArguments(t *testing.T) {
	f := func(args []string, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, arguments(args), cmp.Transformer("", func(x []string) string { return strings.Join(x, " ") })); diff != "" {
			t.Error(diff)
		}
	}
	f([]string{"/usr/bin/crosstap", "version"}, "version")
	f([]string{"/home/x/crosstap-extcap", "--extcap-interfaces"}, "extcap", "--extcap-interfaces")
	f(nil)
}

func TestExtcapInstall(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "extcap")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // again renews the link
		link, err := linkExtcap(self, dir)
		if to, _ := os.Readlink(link); err != nil || to != self || filepath.Base(link) != extcapName {
			t.Errorf("%s to %s, %v", link, to, err)
		}
	}
	other := filepath.Join(dir, extcapName)
	if err := os.Remove(other); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(other, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := linkExtcap(self, dir); err == nil {
		t.Error("another program is written over")
	}
}

// TestTshark has tshark find the program in its folder, list its interfaces, and capture through it what passes in a namespace. tshark
// does not look for such programs as root.
func TestTshark(t *testing.T) {
	tshark, setpriv := testkit.Tool(t, "tshark"), testkit.Tool(t, "setpriv")
	s := testns.New(t)
	dir, err := os.MkdirTemp("", "crosstap-extcap-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	program := filepath.Join(dir, "extcap", extcapName)
	if err := os.MkdirAll(filepath.Dir(program), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	copyProgram(t, program)
	run := func(args ...string) *exec.Cmd {
		c := exec.Command(setpriv, append([]string{"--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps", "+net_raw,+net_admin",
			"--ambient-caps", "+net_raw,+net_admin", tshark}, args...)...)
		c.Env = append(os.Environ(), "HOME="+dir, "WIRESHARK_EXTCAP_DIR="+filepath.Dir(program))
		return c
	}
	inside := func(f func() error) {
		t.Helper()
		if err := s.Do(f); err != nil {
			t.Fatal(err)
		}
	}
	inside(func() error {
		out, err := run("-D").Output()
		if !strings.Contains(string(out), "crosstap-if-lo (crosstap: lo)") || !strings.Contains(string(out), "crosstap-mirror") {
			t.Errorf("%s, %v", out, err)
		}
		return nil
	})
	var out bytes.Buffer
	c := run("-i", "crosstap-if-lo", "-f", "udp port 9 and not icmp", "-c", "4", "-T", "fields", "-e", "frame.interface_name", "-e", "udp.dstport")
	c.Stdout = &out
	inside(c.Start)
	done := make(chan error, 1)
	go func() { done <- c.Wait() }()
	deadline := time.After(2 * time.Minute)
	for ended := false; !ended; {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			ended = true
		case <-deadline:
			_ = c.Process.Signal(syscall.SIGKILL)
			t.Fatal("tshark captures nothing")
		case <-time.After(200 * time.Millisecond):
			inside(func() error {
				u, err := net.Dial("udp", "127.0.0.1:9")
				if err == nil {
					_, _ = u.Write([]byte("hello")) // nobody listens
					err = u.Close()
				}
				return err
			})
		}
	}
	if got := strings.Fields(out.String()); len(got) != 8 || got[0] != "lo" || got[1] != "9" {
		t.Errorf("%q", out.String())
	}
}

// TestExtcapInterfaceGone has Wireshark be told of an interface that is down or goes away, instead of showing no packets for ever.
func TestExtcapInterfaceGone(t *testing.T) {
	testkit.Root(t)
	s, dir := testns.New(t), t.TempDir()
	program, fifo := filepath.Join(dir, extcapName), filepath.Join(dir, "fifo")
	copyProgram(t, program)
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	s.Sh("ip link add x0 type veth peer name x1")
	f := func(want string, begun func()) {
		t.Helper()
		c := exec.Command(program, "--capture", "--extcap-interface", extcapPrefix+"x0", "--fifo", fifo)
		var said bytes.Buffer
		c.Stderr = &said
		if err := s.Do(c.Start); err != nil {
			t.Fatal(err)
		}
		kill := time.AfterFunc(time.Minute, func() { _ = c.Process.Kill() })
		defer kill.Stop()
		begun()
		if err := c.Wait(); c.ProcessState.ExitCode() != exitFinding || said.String() != want {
			t.Errorf("%v, %q, want %q", err, said.String(), want)
		}
	}
	f("crosstap: extcap: interface x0 is down: ip link set x0 up\n", func() {})
	s.Sh("ip link set x0 up; ip link set x1 up")
	f("crosstap: extcap: interface x0 is gone\n", func() {
		if _, err := reader.Read(make([]byte, 4)); err != nil { // the capture has begun
			t.Error(err)
		}
		s.Sh("ip link del x0")
	})
}

// copyProgram puts a copy of this test binary there that other users may run.
func copyProgram(t *testing.T, path string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(self)
	if err == nil {
		err = os.WriteFile(path, b, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}
