//go:build linux

// Package sshtest starts OpenSSH's server for tests, in a network namespace of its own, with keys of its own; nothing of the machine's
// sshd or of the user's ssh is read.
package sshtest

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"crosstap/internal/rpc"
	"crosstap/internal/testkit"
	"crosstap/internal/testns"
)

const patience = 2 * time.Minute

// Name is what ssh calls the host.
const Name = "kvm-4"

// Host is a machine with a real sshd: a network namespace.
type Host struct {
	Space *testns.Space
	SSH   rpc.SSH // its Program is the ssh of this machine, from within the namespace
	tb    testing.TB
	dir   string
	pid   int
}

// New starts the server. It ends with the test.
func New(tb testing.TB) *Host {
	tb.Helper()
	testkit.Root(tb)
	for _, tool := range []string{"ssh", "sshd", "ssh-keygen", "unshare", "nsenter"} {
		testkit.Tool(tb, tool)
	}
	me, err := user.Current()
	if err != nil {
		tb.Fatal(err)
	}
	h := &Host{tb: tb, Space: testns.New(tb), dir: tb.TempDir()}
	for _, name := range []string{"host", "key"} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", h.file(name)).CombinedOutput(); err != nil {
			tb.Fatalf("ssh-keygen: %v: %s", err, out)
		}
	}
	h.write("authorized_keys", h.read("key.pub"), 0o600)
	h.Know("host")
	h.write("sshd_config", fmt.Sprintf("Port 22\nListenAddress 127.0.0.1\nHostKey %s\nAuthorizedKeysFile %s\nPidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin prohibit-password\nPasswordAuthentication no\nUseDNS no\n",
		h.file("host"), h.file("authorized_keys")), 0o600)
	h.write("config", fmt.Sprintf("Host %s\n  HostName 127.0.0.1\n  HostKeyAlias %s\n  UserKnownHostsFile %s\n  GlobalKnownHostsFile none\n  IdentityFile %s\n  IdentitiesOnly yes\n", Name, Name, h.file("known_hosts"), h.file("key")), 0o600)
	// What is typed on another machine of its network.
	h.write("ssh", fmt.Sprintf("#!/bin/sh\nexec nsenter --net=%s %s -F %s \"$@\"\n", h.Space.Path(), testkit.Tool(tb, "ssh"), h.file("config")), 0o700)
	h.SSH = rpc.SSH{Program: h.file("ssh"), User: me.Username, Host: Name}
	h.start()
	return h
}

// Dir is a folder with the Program alone in it that matters for a path of commands.
func (h *Host) Dir() string { return h.dir }

// Know has ssh know the host by a key: "host" is its own, "key" is not.
func (h *Host) Know(key string) {
	h.tb.Helper()
	h.write("known_hosts", Name+" "+h.read(key+".pub"), 0o600)
}

func (h *Host) file(name string) string { return filepath.Join(h.dir, name) }

func (h *Host) write(name, text string, mode os.FileMode) {
	h.tb.Helper()
	if err := os.WriteFile(h.file(name), []byte(text), mode); err != nil {
		h.tb.Fatal(err)
	}
}

func (h *Host) read(name string) string {
	h.tb.Helper()
	b, err := os.ReadFile(h.file(name))
	if err != nil {
		h.tb.Fatal(err)
	}
	return string(b)
}

// start starts sshd; the folder that it wants below /run is its own.
func (h *Host) start() {
	h.tb.Helper()
	c := exec.Command("unshare", "--mount", "sh", "-ec", `mount -t tmpfs none /run && mkdir -m 755 /run/sshd && exec "$(command -v sshd)" -D -e -f "$0"`, h.file("sshd_config"))
	log, err := os.Create(h.file("sshd.log"))
	if err != nil {
		h.tb.Fatal(err)
	}
	defer log.Close()
	c.Stderr, c.SysProcAttr = log, &syscall.SysProcAttr{Setpgid: true}
	if err := h.Space.Do(c.Start); err != nil {
		h.tb.Fatal(err)
	}
	release := testkit.Guard(h.tb, c.Process.Pid)
	h.pid = c.Process.Pid
	h.tb.Cleanup(func() {
		defer release()
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
		_ = c.Wait()
	})
	for end := time.Now().Add(patience); !strings.Contains(h.read("sshd.log"), "Server listening"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			h.tb.Fatalf("sshd does not listen: %s", h.read("sshd.log"))
		}
	}
}

// HangUp kills what the listening sshd has started: its sessions.
func (h *Host) HangUp() {
	h.tb.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", h.pid, h.pid))
	if err != nil || len(b) == 0 {
		h.tb.Fatalf("sshd has no sessions: %v", err)
	}
	for _, word := range strings.Fields(string(b)) {
		pid, err := strconv.Atoi(word)
		if err != nil {
			h.tb.Fatal(err)
		}
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
	}
}
