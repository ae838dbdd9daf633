package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"crosstap/internal/procnet"
)

// listen opens the HTTP socket, unless it was handed over.
func (s *Server) listen(ctx context.Context) (net.Listener, error) {
	if s.cfg.Listener != nil {
		return s.cfg.Listener, nil
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", s.cfg.HTTP)
	if err != nil {
		return nil, fmt.Errorf("serve: http %s: %w", s.cfg.HTTP, inUse(err, "tcp", s.cfg.HTTP, "http"))
	}
	return ln, nil
}

// bindHint names who holds one of the collector's addresses.
func (s *Server) bindHint(err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		for _, addr := range s.cfg.Flows {
			if ap, perr := netip.ParseAddrPort(addr); perr == nil {
				if h, ok := procnet.FindHolder("udp", ap); ok {
					return fmt.Errorf("serve: flows %s: in use by %s; stop it or choose another address with --flows", addr, h)
				}
			}
		}
	}
	return fmt.Errorf("serve: %w", err)
}

// inUse names the process that holds the address, if that is why err came.
func inUse(err error, network, addr, flag string) error {
	if errors.Is(err, syscall.EACCES) {
		return fmt.Errorf("not allowed; ports below 1024 need CAP_NET_BIND_SERVICE: choose another with --%s", flag)
	}
	ap, perr := netip.ParseAddrPort(addr)
	if !errors.Is(err, syscall.EADDRINUSE) || perr != nil {
		return err
	}
	who := "another process"
	if h, ok := procnet.FindHolder(network, ap); ok {
		who = h.String()
	}
	return fmt.Errorf("in use by %s; stop it or choose another address with --%s", who, flag)
}

// firstFD is the first descriptor that a service manager hands over (sd_listen_fds(3)).
const firstFD = 3

// Activated returns the HTTP socket that a service manager opened for this process: the descriptor named "http" of
// LISTEN_FDS and LISTEN_FDNAMES, or the only one. It returns nil when there is none. The variables are removed, so
// that child processes do not take them for theirs.
func Activated() (net.Listener, error) {
	n, fdErr := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	pid, names := os.Getenv("LISTEN_PID"), strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	for _, name := range []string{"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"} {
		if err := os.Unsetenv(name); err != nil {
			return nil, err
		}
	}
	if fdErr != nil || n < 1 || pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return nil, nil
	}
	i := 0
	if n > 1 || names[0] != "" && names[0] != "unknown" {
		if i = slices.Index(names, "http"); i < 0 || i >= n {
			return nil, fmt.Errorf("serve: %d sockets were handed over, none is named http (LISTEN_FDNAMES)", n)
		}
	}
	f := os.NewFile(uintptr(firstFD+i), "http")
	defer f.Close()
	ln, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("serve: socket %d handed over as http: %w", firstFD+i, err)
	}
	return ln, nil
}
