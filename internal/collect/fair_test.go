package collect

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"crosstap/internal/collect/listen"
)

func datagrams(from string, n int, via listen.Transport) []waiting {
	out := make([]waiting, n)
	for i := range out {
		out[i] = waiting{Datagram: listen.Datagram{From: netip.MustParseAddrPort(from), TimeNS: int64(i), Via: via}}
	}
	return out
}

// An exporter that sends a hundred times as much as the others loses its own datagrams, and each other one gets through whole and in
// its order.
func TestFairQueue(t *testing.T) {
	shed := map[string]int{}
	q := newFairQueue(100, func(ws []waiting) {
		for _, w := range ws {
			shed[w.From.Addr().String()]++
		}
	})
	quiet := []string{"10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"}
	for range 10 {
		q.push(datagrams("10.9.9.9:1", 100, listen.UDP), false)
		for _, a := range quiet {
			q.push(datagrams(a, 1, listen.UDP), false)
		}
	}
	q.push(datagrams("10.0.0.4:1", 200, listen.TCP), false) // never shed
	got, last := map[string]int{}, map[string]int64{}
	q.close()
	first := ""
	for {
		ws, empty := q.pop(context.Background(), make([]waiting, 0, 32))
		if len(ws) == 0 {
			break
		}
		for _, w := range ws {
			a := w.From.Addr().String()
			if first == "" {
				first = a
			}
			got[a]++
			if a == "10.0.0.4" && w.TimeNS < last[a] {
				t.Errorf("%s: %d after %d", a, w.TimeNS, last[a])
			}
			last[a] = w.TimeNS
		}
		if empty != (q.len() == 0) {
			t.Errorf("empty %v with %d left", empty, q.len())
		}
	}
	for _, a := range []string{"10.0.0.1", "10.0.0.2", "10.0.0.3"} {
		if got[a] != 10 || shed[a] != 0 {
			t.Errorf("%s: %d came through, %d shed, want 10 and 0", a, got[a], shed[a])
		}
	}
	if got["10.9.9.9"]+shed["10.9.9.9"] != 1000 || got["10.9.9.9"] == 0 || got["10.0.0.4"] != 200 {
		t.Errorf("came through %v, shed %v", got, shed)
	}
}

// Exporters are served in turn: a long lane does not keep a short one waiting.
func TestFairQueueTurns(t *testing.T) {
	q := newFairQueue(10000, func([]waiting) { t.Error("shed") })
	q.push(datagrams("10.9.9.9:1", 5000, listen.UDP), false)
	q.push(datagrams("10.0.0.1:1", 1, listen.UDP), false)
	ws, _ := q.pop(context.Background(), make([]waiting, 0, 2*quantum))
	if len(ws) != 2*quantum || ws[quantum].From.Addr().String() != "10.0.0.1" {
		t.Errorf("%d datagrams, the one of the quiet exporter is not in the second turn", len(ws))
	}
}

// When memory is short even a queue that is not full sheds, of the longest lane.
func TestFairQueueTight(t *testing.T) {
	n := 0
	q := newFairQueue(1000, func(ws []waiting) { n += len(ws) })
	q.push(datagrams("10.0.0.1:1", 10, listen.UDP), true)
	if n != 5 || q.len() != 5 {
		t.Errorf("%d shed, %d left", n, q.len())
	}
}

// A source that can wait does so until there is room.
func TestFairQueueWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newFairQueue(2, func([]waiting) { t.Error("shed") })
		q.push(datagrams("10.0.0.1:1", 2, listen.UDP), false)
		start := time.Now()
		go func() {
			time.Sleep(3 * time.Second)
			q.pop(t.Context(), make([]waiting, 0, 1))
		}()
		q.wait(t.Context())
		if d := time.Since(start); d != 3*time.Second {
			t.Errorf("waited %v", d)
		}
	})
}

// len returns the number of datagrams in the queue.
func (q *fairQueue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.all
}
