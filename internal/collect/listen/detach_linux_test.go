package listen

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// watched returns the inodes of the files that epoll instances of this process watch, as the kernel tells them (proc_pid_fdinfo(5)).
func watched(t *testing.T) map[uint64]bool {
	t.Helper()
	infos, err := filepath.Glob("/proc/self/fdinfo/*")
	if err != nil || len(infos) == 0 {
		t.Skipf("no descriptors in /proc: %v", err)
	}
	out, instances := map[uint64]bool{}, 0
	for _, path := range infos {
		if to, _ := os.Readlink(strings.Replace(path, "fdinfo", "fd", 1)); !strings.Contains(to, "eventpoll") {
			continue
		}
		instances++
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			fields := strings.Fields(line)
			for i, f := range fields {
				if hex, ok := strings.CutPrefix(f, "ino:"); ok {
					if hex == "" && i+1 < len(fields) {
						hex = fields[i+1]
					}
					n, err := strconv.ParseUint(hex, 16, 64)
					if err != nil {
						t.Fatal(err)
					}
					out[n] = true
				}
			}
		}
	}
	if instances == 0 {
		t.Skip("no epoll instance")
	}
	return out
}

// The Go runtime watches none of the sockets that a reader reads, and those are closed in the end.
func TestSocketsNotWatched(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Addr, cfg.Sockets = "127.0.0.1:0", 3
	l, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ordinary, err := listenUDP(t.Context(), net.ListenConfig{}, "127.0.0.1:0") // which it does watch
	if err != nil {
		t.Fatal(err)
	}
	defer ordinary.Close()
	if err := l.Bind(t.Context()); err != nil {
		t.Fatal(err)
	}
	all := watched(t)
	raw, err := ordinary.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) {
		if !all[inodeOf(t, int(fd))] {
			t.Errorf("the runtime does not watch an ordinary socket: what it watches is %v", all)
		}
	}); err != nil {
		t.Fatal(err)
	}
	var links []string
	for i, s := range l.bound().(*udpListener).sockets {
		if n := inodeOf(t, s.fd); all[n] {
			t.Errorf("socket %d is watched: each datagram wakes a thread", i)
		} else {
			links = append(links, fmt.Sprintf("socket:[%d]", n))
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	fds, _ := filepath.Glob("/proc/self/fd/*")
	for _, fd := range fds {
		to, _ := os.Readlink(fd)
		for _, link := range links {
			if to == link {
				t.Errorf("%s is open after Close", link)
			}
		}
	}
}

func inodeOf(t *testing.T, fd int) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}
