package main

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"crosstap/internal/filter"
	"crosstap/internal/frame"
)

// fakeResolver knows web.example, and of slow.example nothing in time.
func fakeResolver(t *testing.T) (*resolver, *int) {
	t.Helper()
	dir, asked := t.TempDir(), new(int)
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	r := newResolver()
	r.timeout = time.Millisecond
	r.ethers = write("ethers", "# hosts\n\n2:0:0:0:0:a1 vm1\n02:00:00:00:00:a2 vm2 # the other\n")
	r.networks = write("networks", "loopback 127.0.0.0\nlab 10.9 testbed\nodd 300.1\n")
	r.lookup = func(ctx context.Context, _, host string) ([]netip.Addr, error) {
		*asked++
		switch host {
		case "web.example":
			return []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::1")}, nil
		case "slow.example":
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return nil, errors.New("no such host")
	}
	return r, asked
}

func TestResolverInFilters(t *testing.T) {
	r, asked := fakeResolver(t)
	same := func(named, plain string) {
		t.Helper()
		a, err := filter.Compile(named, frame.LinkEthernet, filter.Options{Resolver: r})
		if err != nil {
			t.Fatal(err)
		}
		b, err := filter.Compile(plain, frame.LinkEthernet, filter.Options{})
		if err != nil {
			t.Fatal(err)
		}
		x, _, _ := a.BPF()
		y, _, _ := b.BPF()
		if !slices.Equal(x, y) {
			t.Errorf("%s is not %s", named, plain)
		}
	}
	same("host web.example", "host 192.0.2.1 or host 192.0.2.2 or host 2001:db8::1")
	same("ip6 host web.example", "ip6 host 2001:db8::1")
	same("ip src web.example", "ip src 192.0.2.1 or ip src 192.0.2.2")
	same("ether host vm1", "ether host 02:00:00:00:00:a1")
	same("ether src vm2", "ether src 02:00:00:00:00:a2")
	same("net testbed", "net 10.9")
	same("src net loopback", "src net 127")
	if *asked != 1 {
		t.Errorf("web.example was looked up %d times", *asked)
	}
}

func TestResolverRefuses(t *testing.T) {
	r, _ := fakeResolver(t)
	f := func(expr, want string) {
		t.Helper()
		if _, err := filter.Compile(expr, frame.LinkEthernet, filter.Options{Resolver: r}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", expr, err, want)
		}
	}
	f("host none.example", `column 6: unknown host "none.example": no such host`)
	f("host slow.example", `unknown host "slow.example": no answer within 1ms`)
	f("ether host vm9", `unknown ether host "vm9"`)
	f("net odd", `unknown network "odd"`)
	r.ethers = filepath.Join(t.TempDir(), "none")
	f("ether host vm1", "no such file")
}
