package vm

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

func TestNew(t *testing.T) {
	peer := Peer{Addr4: netip.MustParseAddr("10.0.0.1")}
	f := func(cfg Config, want string) {
		t.Helper()
		_, err := New(cfg)
		if got := ""; err != nil {
			if got = err.Error(); want == "" || !strings.Contains(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		} else if want != "" {
			t.Errorf("no error, want %q", want)
		}
	}
	f(Config{Role: "db"}, "")
	f(Config{Role: "web", DB: peer}, "")
	f(Config{Role: "client", DB: peer, Web: peer, Every: time.Second, Bulk: Bulk{Every: time.Second}}, "")
	f(Config{Role: "router"}, `role "router"`)
	f(Config{Role: "web"}, "no address")
	f(Config{Role: "client", DB: peer}, "no address")
	f(Config{Role: "client", DB: peer, Web: peer}, "longer than 0")
}

func TestCount(t *testing.T) {
	var s Stats
	s.count(t.Context(), "page", nil)
	s.count(t.Context(), "page", errors.New("no"))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	s.count(ended, "page", errors.New("cut short"))
	s.count(ended, "page", nil)
	if got, want := s.report("web-1"), (Report{VM: "web-1", Asked: 3, Failures: 1, Failure: "page: no"}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestMessages(t *testing.T) {
	var b bytes.Buffer
	if err := writeMessage(&b, []byte("item 7")); err != nil {
		t.Fatal(err)
	}
	if got, want := b.String(), "\x00\x00\x00\x06item 7"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, err := readMessage(&b); err != nil || string(got) != "item 7" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := readMessage(strings.NewReader("\x00\x02\x00\x00")); err == nil || !strings.Contains(err.Error(), "131072 bytes") {
		t.Errorf("a message that is too long: %v", err)
	}
	if a, b := row("item 1"), row("item 2"); bytes.Equal(a, b) || !bytes.HasPrefix(a, []byte("item 1\x00")) {
		t.Errorf("rows %q, %q", a, b)
	}
}

func TestResolve(t *testing.T) {
	zone := map[string]Peer{
		"web.blue.lab.": {Addr4: netip.MustParseAddr("10.0.0.1"), Addr6: netip.MustParseAddr("fd00::1")},
		"db.blue.lab.":  {Addr4: netip.MustParseAddr("10.0.0.2")},
	}
	f := func(name string, kind dnsmessage.Type, want string) {
		t.Helper()
		q := dnsmessage.Message{
			Header:    dnsmessage.Header{ID: 77},
			Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}},
		}
		b, err := q.Pack()
		if err != nil {
			t.Fatal(err)
		}
		for n := range b {
			_, _ = resolve(zone, b[:n]) // no prefix of a query may panic
		}
		if b, err = resolve(zone, b); err != nil {
			t.Fatal(err)
		}
		var m dnsmessage.Message
		if err := m.Unpack(b); err != nil || m.ID != 77 || !m.Response {
			t.Fatalf("%+v, %v", m, err)
		}
		got := ""
		if a, err := address(m); err != nil {
			got = err.Error()
		} else {
			got = a.String()
		}
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	f("web.blue.lab.", dnsmessage.TypeA, "10.0.0.1")
	f("web.blue.lab.", dnsmessage.TypeAAAA, "fd00::1")
	f("db.blue.lab.", dnsmessage.TypeAAAA, "no answer: RCodeSuccess")
	f("web.green.lab.", dnsmessage.TypeA, "no answer: RCodeNameError")
}

func TestSendBulk(t *testing.T) {
	f := func(n int) {
		t.Helper()
		var b bytes.Buffer
		if err := sendBulk(&b, n); err != nil || b.Len() != n+32 {
			t.Errorf("%d bytes, %v; want %d", b.Len(), err, n+32)
		}
	}
	f(0)
	f(1)
	f(32 << 10)
	f(32<<10 + 1)
}
