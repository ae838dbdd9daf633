package libvirt

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"crosstap/internal/rpc"
)

// URI is a connection URI as virsh takes it, such as qemu:///system, qemu+ssh://root@host/system or
// test:///default?socket=/run/libvirt/libvirt-sock.
type URI struct {
	Driver    string // qemu, lxc, test …
	Transport string // "unix" or "ssh"
	User      string
	Host      string // of ssh
	Port      string // of ssh, "" for its own default
	Path      string // /system, /session, /default
	Socket    string // named by "socket=", "" for the usual places
	KeyFile   string // named by "keyfile="
	Mode      string // named by "mode=": legacy (libvirtd), direct (the driver's own daemon), auto or ""

	text string
}

// String returns the URI as it was written, without a password.
func (u *URI) String() string { return u.text }

// remote is the URI as the daemon knows it.
func (u *URI) remote() string { return u.Driver + "://" + u.Path }

// ParseURI reads a URI.
func ParseURI(s string) (*URI, error) {
	p, err := url.Parse(s)
	if err != nil {
		return nil, fmt.Errorf("libvirt: URI %q: %w", s, err)
	}
	u := &URI{Host: p.Hostname(), Port: p.Port(), Path: p.Path, text: p.Redacted()}
	u.Driver, u.Transport, _ = strings.Cut(p.Scheme, "+")
	switch {
	case u.Driver == "":
		return nil, fmt.Errorf("libvirt: URI %q: begin with the driver, such as qemu:///system or qemu+ssh://host/system", s)
	case u.Transport == "" && u.Host == "":
		u.Transport = "unix"
	case u.Transport == "unix" && u.Host == "", u.Transport == "ssh" && u.Host != "":
	case u.Transport == "ssh":
		return nil, fmt.Errorf("libvirt: URI %q: ssh needs a host: %s+ssh://HOST%s", s, u.Driver, u.Path)
	default:
		return nil, fmt.Errorf("libvirt: URI %q: host %q is reached by ssh alone: %s+ssh://%s%s", s, u.Host, u.Driver, p.Host, u.Path)
	}
	if strings.HasPrefix(u.Host, "-") || strings.HasPrefix(p.User.Username(), "-") {
		return nil, fmt.Errorf("libvirt: URI %q: host and user do not begin with '-'", s)
	}
	if p.User != nil {
		if _, has := p.User.Password(); has {
			return nil, fmt.Errorf("libvirt: URI %s: no password goes into a URI: give ssh a key", u.text)
		}
		u.User = p.User.Username()
	}
	if u.Path == "" || u.Path == "/" {
		return nil, fmt.Errorf("libvirt: URI %q: the path is missing: %s/system, or /session", s, strings.TrimSuffix(s, "/"))
	}
	return u, u.query(p.Query())
}

func (u *URI) query(q url.Values) error {
	for key, values := range q {
		v := values[0]
		switch key {
		case "socket":
			u.Socket = v
		case "keyfile":
			u.KeyFile = v
		case "mode":
			if !slices.Contains([]string{"auto", "legacy", "direct"}, v) {
				return fmt.Errorf("libvirt: URI %s: mode=%q: auto, legacy or direct", u, v)
			}
			u.Mode = v
		default:
			return fmt.Errorf("libvirt: URI %s: parameter %q is not known: socket, keyfile or mode", u, key)
		}
	}
	return nil
}

// sockets lists where the daemon listens, the most likely place first.
func (u *URI) sockets(readOnly bool) []string {
	if u.Socket != "" {
		return []string{u.Socket}
	}
	dir, suffix := "/run/libvirt", ""
	switch {
	case strings.HasPrefix(u.Path, "/session"):
		dir = filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "libvirt") // it has no read-only socket
		if os.Getenv("XDG_RUNTIME_DIR") == "" {
			home, _ := os.UserHomeDir()
			dir = filepath.Join(home, ".cache", "libvirt")
		}
	case readOnly:
		suffix = "-ro"
	}
	direct, legacy := filepath.Join(dir, "virt"+u.Driver+"d-sock"+suffix), filepath.Join(dir, "libvirt-sock"+suffix)
	switch u.Mode {
	case "legacy":
		return []string{legacy}
	case "direct":
		return []string{direct}
	}
	return []string{direct, legacy}
}

// ssh is the machine that the URI names; program is "" for the ssh in the path.
func (u *URI) ssh(program string) rpc.SSH {
	return rpc.SSH{Program: program, User: u.User, Host: u.Host, Port: u.Port, KeyFile: u.KeyFile}
}

// remoteCommand is what connects ssh's input and output with the daemon's socket: libvirt's own helper, which knows where
// the socket is, else nc.
func (u *URI) remoteCommand(readOnly bool) string {
	nc := netcat(rpc.Quote(u.Socket))
	if u.Socket == "" {
		nc = ""
		for _, s := range (&URI{Driver: u.Driver, Path: "/system", Mode: u.Mode}).sockets(readOnly) {
			nc += "if test -S " + s + "; then " + netcat(s) + "; fi; "
		}
		nc += "echo 'no socket of libvirt' >&2; exit 1"
	}
	if u.Socket != "" || u.Mode == "legacy" {
		return "sh -c " + rpc.Quote(nc)
	}
	helper := "virt-ssh-helper "
	if readOnly {
		helper += "-r "
	}
	return "sh -c " + rpc.Quote("if command -v virt-ssh-helper >/dev/null 2>&1; then exec "+helper+rpc.Quote(u.remote())+"; fi; "+nc)
}

// netcat is nc for a socket, in place of the shell. Debian's ends with its input only when told so.
func netcat(socket string) string {
	return "q=; if nc -q 2>&1 | grep -q requires; then q=-q0; fi; exec nc $q -U " + socket
}
