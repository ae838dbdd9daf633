package urlopt

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
)

// TestOnce reads options as they are written in URLs of destinations.
func TestOnce(t *testing.T) {
	f := func(query, want string) {
		t.Helper()
		got := ""
		err := Once(query, []string{"size", "groom", "filter"}, func(name, value string) error {
			if value == "bad" {
				return errors.New("want good")
			}
			got += fmt.Sprintf("%s:%s;", name, value)
			return nil
		})
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: %s, want %s", query, got, want)
		}
	}
	f("", "")
	f("size=1&groom=slice=l4+8&", "size:1;groom:slice=l4+8;")
	f("filter=not%20port%2022%26", "filter:not port 22&;")
	f("filter", "filter:;")
	f("size=1&size=1", "size=1: is given twice")
	f("size=bad", "size=bad: want good")
	f("size=%zz", `size=%zz: invalid URL escape "%zz"`)
	f("sise=1", `option "sise" is not known; did you mean "size"?`)
	f("elephant=1", `option "elephant" is not known, use filter, groom, size`)
	f("=1", `option "" is not known, use filter, groom, size`)
}

// TestTake leaves what it does not know to others.
func TestTake(t *testing.T) {
	f := func(query, want string) {
		t.Helper()
		got := ""
		rest, err := Take(query, []string{"filter", "groom"}, func(name, value string) error {
			got += name + ":" + value + ";"
			return nil
		})
		if got += "rest:" + rest; err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: %s, want %s", query, got, want)
		}
	}
	f("", "rest:")
	f("vni=7&filter=tcp%20port%2080&rate=%31M", "filter:tcp port 80;rest:vni=7&rate=%31M")
	f("filters=1&groom=decap=1", "groom:decap=1;rest:filters=1")
	f("filter=tcp&vni=7&filter=udp", "filter=udp: is given twice")
}

// TestOptions writes what was read in such a way that it is read again as it was.
func TestOptions(t *testing.T) {
	type target struct {
		text string
		addr netip.Addr
		on   bool
	}
	list := func(p *target) Options {
		return Options{Text("text", &p.text), Addr("addr", &p.addr), Bool("on", &p.on, true)}
	}
	f := func(query, want string) {
		t.Helper()
		a, b := target{on: true}, target{on: true}
		err := list(&a).Read(query)
		if err != nil {
			if err.Error() != want {
				t.Errorf("%q: %v, want %s", query, err, want)
			}
			return
		}
		if got := list(&a).Query(); got != want {
			t.Errorf("%q: %s, want %s", query, got, want)
		}
		if err := list(&b).Read(want); err != nil || a != b {
			t.Errorf("%q: again %+v, %v; want %+v", want, b, err, a)
		}
	}
	f("", "")
	f("on=yes&text=a+b", "text=a+b")
	f("on=no&text=a%25%26%20%23%2b&addr=2001:db8::1", "addr=2001:db8::1&on=no&text=a%25%26%20%23+")
	f("text=", "text=: is empty")
	f("addr=h", "addr=h: want an IP address")
	f("on=maybe", "on=maybe: want yes or no")
}

func TestParseSize(t *testing.T) {
	f := func(s, want string) {
		t.Helper()
		n, err := ParseSize(s, 1<<10, 1<<50)
		got := SizeText(n)
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: %s, want %s", s, got, want)
		}
	}
	const bounds = "want 1KiB to 1024TiB"
	f("1024", "1KiB")
	f("1025", "1025")
	f("1536KiB", "1536KiB")
	f("1024TiB", "1024TiB")
	f("1025TiB", bounds)
	f("1023", bounds)
	f("-1KiB", bounds)
	f("99999999999999999999", bounds)
	f("MiB", bounds)
}
