//go:build linux

package agent

import (
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"crosstap/internal/agentapi"
	server "crosstap/internal/serve/agent"
	"crosstap/internal/tapspec"
)

// TestSoak runs for as long as CROSSTAP_SOAK says, such as 10m: server and collector go away and come back by chance, and specs change, while
// packets come. At the end every packet is metered once, as the interface's own counter says, and no record is lost.
func TestSoak(t *testing.T) {
	length, err := time.ParseDuration(os.Getenv("CROSSTAP_SOAK"))
	if err != nil {
		t.Skip("CROSSTAP_SOAK=10m runs it")
	}
	a, b := cable(t)
	s, c := newSite(t), newCollector(t)
	s.run(Config{Token: s.token(agentapi.RoleAgent), Lease: time.Hour})
	sp := spec(b, "ipfix+tcp://"+c.addr)
	sp.Meter.Idle, sp.Meter.Active = tapspec.Duration(time.Second), tapspec.Duration(2*time.Second)
	if err := s.hub.Put("h1", []tapspec.Spec{sp}); err != nil {
		t.Fatal(err)
	}
	s.wait("running", tapIs(agentapi.StateRunning, sp))
	before := rxPackets(t, b)
	stop := traffic(t, a)
	up, collecting, changes, outages := true, true, 0, 0
	for end := time.Now().Add(length); time.Now().Before(end); time.Sleep(time.Duration(200+rand.IntN(1500)) * time.Millisecond) {
		switch rand.IntN(3) {
		case 0:
			if up {
				s.halt()
				outages++
			} else {
				s.start()
			}
			up = !up
		case 1:
			if collecting {
				c.halt()
				outages++
			} else {
				c.start()
			}
			collecting = !collecting
		case 2:
			if !up {
				continue
			}
			sp.Meter.Active = tapspec.Duration(time.Duration(1000+rand.IntN(2000)) * time.Millisecond)
			if err := s.hub.Put("h1", []tapspec.Spec{sp}); err != nil {
				t.Fatal(err)
			}
			changes++
		}
	}
	if !up {
		s.start()
	}
	if !collecting {
		c.start()
	}
	s.wait("the last spec", tapIs(agentapi.StateRunning, sp))
	sent := stop()
	if n := rxPackets(t, b) - before; n != sent {
		t.Fatalf("%d packets came, %d were sent", n, sent)
	}
	last := time.Now()
	s.wait("all delivered", func(x server.Agent) bool {
		if time.Since(last) > 10*time.Second {
			last = time.Now()
			t.Logf("%d sent\n%+v\n%+v\n%+v\n%+v", sent, book(x, "capture"), book(x, "handover"), book(x, "meter"), book(x, "export"))
		}
		return metered(x, sent) && book(x, "flow_cache").Held == 0 && book(x, "export").Held == 0
	})
	got, _ := s.hub.Agent("h1")
	for _, bk := range got.Taps[0].Books {
		if bk.Stage != "handover" && bk.Stage != "meter" && bk.Stage != "capture" {
			for _, d := range bk.Dropped {
				if d.N > 0 {
					t.Errorf("%s: %d %s", bk.Stage, d.N, d.Reason)
				}
			}
		}
	}
	t.Logf("%d packets, %d outages, %d changes; %+v", sent, outages, changes, book(got, "export"))
}
