package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// resolveTimeout bounds how long a run waits for the addresses of one name.
const resolveTimeout = 5 * time.Second

// resolver finds the names of a packet filter where libpcap does: hosts by the system's resolver, Ethernet
// addresses in /etc/ethers, networks in /etc/networks. A name is asked for once, so that every program that is made of an
// expression has the same addresses. It is safe for concurrent use.
type resolver struct {
	lookup           func(ctx context.Context, network, host string) ([]netip.Addr, error)
	ethers, networks string // file names
	timeout          time.Duration

	mu    sync.Mutex
	known map[string]found
}

// found is an answer about a host.
type found struct {
	addrs []netip.Addr
	err   error
}

func newResolver() *resolver {
	return &resolver{
		lookup: net.DefaultResolver.LookupNetIP, ethers: "/etc/ethers", networks: "/etc/networks",
		timeout: resolveTimeout, known: map[string]found{},
	}
}

// Host returns all IPv4 and IPv6 addresses of a host.
func (r *resolver) Host(name string) ([]netip.Addr, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f, ok := r.known[name]
	if !ok {
		ctx, cancel := context.WithTimeout(context.Background(), r.timeout)
		defer cancel()
		f.addrs, f.err = r.lookup(ctx, "ip", name)
		var answer *net.DNSError
		if f.err != nil && ctx.Err() != nil {
			f.err = fmt.Errorf("no answer within %v", r.timeout)
		} else if errors.As(f.err, &answer) {
			f.err = errors.New(answer.Err) // without the name, which the filter's error has
		}
		r.known[name] = f
	}
	return f.addrs, f.err
}

// Ether returns the Ethernet address that ethers(5) has for a host.
func (r *resolver) Ether(name string) (mac [6]byte, err error) {
	err = r.find(r.ethers, func(words []string) bool {
		a, err := net.ParseMAC(pairs(words[0]))
		if err != nil || len(a) != len(mac) || !strings.EqualFold(words[1], name) {
			return false
		}
		copy(mac[:], a)
		return true
	})
	return mac, err
}

// pairs writes an Ethernet address with two digits for each byte, as ethers(5) may leave zeros out.
func pairs(mac string) string {
	all := strings.Split(mac, ":")
	for i, b := range all {
		if len(b) == 1 {
			all[i] = "0" + b
		}
	}
	return strings.Join(all, ":")
}

// Net returns the network that networks(5) has under a name. The bytes that its number leaves out, and those that
// are zero at its end, are not part of the prefix, as in libpcap.
func (r *resolver) Net(name string) (p netip.Prefix, err error) {
	err = r.find(r.networks, func(words []string) bool {
		named := strings.EqualFold(words[0], name)
		for _, alias := range words[2:] {
			named = named || strings.EqualFold(alias, name)
		}
		var ok bool
		if named {
			p, ok = classful(words[1])
		}
		return ok
	})
	return p, err
}

// classful reads one to four dotted numbers; zeros at the end do not count.
func classful(text string) (netip.Prefix, bool) {
	parts := strings.Split(text, ".")
	for len(parts) > 1 && strings.Trim(parts[len(parts)-1], "0") == "" {
		parts = parts[:len(parts)-1]
	}
	var a [4]byte
	if len(parts) > len(a) {
		return netip.Prefix{}, false
	}
	for i, s := range parts {
		n, err := strconv.ParseUint(s, 10, 8)
		if err != nil {
			return netip.Prefix{}, false
		}
		a[i] = byte(n)
	}
	return netip.PrefixFrom(netip.AddrFrom4(a), 8*len(parts)), true
}

// find calls f for the lines of a file, split at blanks and without comments, until it is content.
func (r *resolver) find(file string, f func(words []string) bool) error {
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		text, _, _ := strings.Cut(lines.Text(), "#")
		if words := strings.Fields(text); len(words) >= 2 && f(words) {
			return nil
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return fmt.Errorf("%s does not have it", file)
}
