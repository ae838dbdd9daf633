//go:build linux

package agent

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"crosstap/internal/agentapi"
	"crosstap/internal/ledger"
	server "crosstap/internal/serve/agent"
	"crosstap/internal/tapspec"
)

// The folder of a tap's flows has a name that file systems take, and no other tap has it.
func TestSpoolFolder(t *testing.T) {
	r := rules{spool: "/var/lib/x/spool"}
	f := func(tap, want string) {
		t.Helper()
		if got := r.folder(tap); got != want {
			t.Errorf("%q: %s, want %s", tap, got, want)
		}
	}
	f("web", "/var/lib/x/spool/tap-web")
	f("..", "/var/lib/x/spool/tap-..")
	f("a/b", "/var/lib/x/spool/tap-a%2Fb")
	long := strings.Repeat("ä", 64)
	if a, b := filepath.Base(r.folder(long)), filepath.Base(r.folder(long[2:]+"ö")); len(a) > 255 || a == b {
		t.Errorf("%d bytes: %s, %s", len(a), a, b)
	}
}

// TestTapsOfOneCollector has two taps send to the same collector, which is away. Both keep their flows on the disk; one of them changes meanwhile. When the
// collector is back, it gets all of both.
func TestTapsOfOneCollector(t *testing.T) {
	t.Parallel()
	a, b := cable(t)
	s, c := newSite(t), newCollector(t)
	c.halt()
	s.run(Config{Token: s.token(agentapi.RoleAgent)})
	specs := []tapspec.Spec{spec(b, "ipfix+tcp://"+c.addr), spec(b, "ipfix+tcp://"+c.addr)}
	for i := range specs {
		specs[i].Name = fmt.Sprintf("tap%d", i)
		specs[i].Meter.Idle, specs[i].Meter.Active = tapspec.Duration(100*time.Millisecond), tapspec.Duration(200*time.Millisecond)
	}
	put := func() {
		t.Helper()
		if err := s.hub.Put("h1", specs); err != nil {
			t.Fatal(err)
		}
		s.wait("both run", func(x server.Agent) bool {
			for i := range specs {
				if len(x.Taps) != 2 || x.Taps[i].State != agentapi.StateRunning || x.Taps[i].Digest != specs[i].Digest() {
					return false
				}
			}
			return true
		})
	}
	// exports returns the books of both exporters.
	exports := func(x server.Agent) (all []ledger.Statement) {
		for _, tap := range x.Taps {
			for _, book := range tap.Books {
				if book.Stage == "export" {
					all = append(all, book)
				}
			}
		}
		return all
	}
	put()
	stop := traffic(t, a)
	s.wait("flows of both wait", func(x server.Agent) bool {
		all := exports(x)
		return len(all) == 2 && all[0].Held > 20 && all[1].Held > 20
	})
	for i, n := range []int{1, 0, 0, 1} {
		specs[n].Meter.Active = tapspec.Duration(300+i) * tapspec.Duration(time.Millisecond)
		put()
	}
	stop()
	c.start()
	got := s.wait("all is sent", func(x server.Agent) bool {
		all := exports(x)
		return len(all) == 2 && all[0].Held == 0 && all[1].Held == 0 && all[0].Out > 0 && all[1].Out > 0
	})
	for i, book := range exports(got) {
		for _, d := range book.Dropped {
			if d.N > 0 {
				t.Errorf("tap %d: %d %s", i, d.N, d.Reason)
			}
		}
		if err := book.Balance(); err != nil {
			t.Error(err)
		}
	}
}
