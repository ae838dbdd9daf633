// Package procnet reads the kernel's socket tables under /proc: which process holds a port.
package procnet

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Holder is a process that holds a socket.
type Holder struct {
	PID  int
	Name string // of the program, as in /proc/PID/comm
	Addr netip.AddrPort
}

// String gives "pid 123 (name)", or that the process belongs to another user.
func (h Holder) String() string {
	if h.PID == 0 {
		return "a process of another user or namespace"
	}
	return fmt.Sprintf("pid %d (%s)", h.PID, h.Name)
}

// FindHolder returns who holds the local address, network "udp" or "tcp" (listening sockets only). An unspecified
// address conflicts with all others of its port. ok is false when nobody does, as far as /proc says.
func FindHolder(network string, addr netip.AddrPort) (h Holder, ok bool) {
	return findHolder(os.DirFS("/proc"), network, addr)
}

func findHolder(proc fs.FS, network string, addr netip.AddrPort) (Holder, bool) {
	for _, table := range []string{"net/" + network, "net/" + network + "6"} {
		b, err := fs.ReadFile(proc, table)
		if err != nil {
			continue
		}
		for _, s := range sockets(b) {
			if conflict(s.addr, addr) && (network == "udp" || s.state == stateListen) {
				h := owner(proc, s.inode)
				h.Addr = s.addr
				return h, true
			}
		}
	}
	return Holder{}, false
}

// stateListen is TCP_LISTEN as /proc/net/tcp shows it.
const stateListen = "0A"

// socket is one line of a table.
type socket struct {
	addr  netip.AddrPort
	state string
	inode string
}

// sockets reads a table: "sl local_address rem_address st … inode". Lines it does not understand are left out.
func sockets(table []byte) []socket {
	var out []socket
	lines := bufio.NewScanner(bytes.NewReader(table))
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 10 {
			continue
		}
		if addr, ok := parseAddr(f[1]); ok {
			out = append(out, socket{addr, f[3], f[9]})
		}
	}
	return out
}

// parseAddr reads "0100007F:1283": 32-bit words of the address in host order, the port in hexadecimal.
func parseAddr(s string) (netip.AddrPort, bool) {
	words, port, ok := strings.Cut(s, ":")
	b, err := hex.DecodeString(words)
	n, err2 := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil || err2 != nil || len(b)%4 != 0 {
		return netip.AddrPort{}, false
	}
	if [2]byte{1, 0} == nativeOne {
		for w := range slices.Chunk(b, 4) {
			slices.Reverse(w)
		}
	}
	addr, ok := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(addr.Unmap(), uint16(n)), ok
}

func conflict(a, b netip.AddrPort) bool {
	return a.Port() == b.Port() && (a.Addr() == b.Addr().Unmap() || a.Addr().IsUnspecified() || b.Addr().IsUnspecified())
}

// owner finds the process with the socket among its open files.
func owner(proc fs.FS, inode string) Holder {
	want := "socket:[" + inode + "]"
	entries, _ := fs.ReadDir(proc, ".")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		fds, _ := fs.ReadDir(proc, path.Join(e.Name(), "fd")) // unreadable for processes of others
		for _, fd := range fds {
			if link, err := fs.ReadLink(proc, path.Join(e.Name(), "fd", fd.Name())); err == nil && link == want {
				comm, _ := fs.ReadFile(proc, path.Join(e.Name(), "comm"))
				return Holder{PID: pid, Name: strings.TrimSpace(string(comm))}
			}
		}
	}
	return Holder{}
}
