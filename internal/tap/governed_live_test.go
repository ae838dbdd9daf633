//go:build linux

package tap_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"crosstap/internal/tap"
	"crosstap/internal/tapspec"
	"crosstap/internal/testns"
)

// flood sends frames of 1000 bytes of many conversations, so many in a burst, until stop is called.
type flood struct {
	burst atomic.Int64 // each 10 ms
	sent  atomic.Uint64
	quit  chan struct{}
	done  chan struct{}
}

func newFlood(t *testing.T, s *testns.Space, iface string) *flood {
	t.Helper()
	fd := -1
	must(t, s.Do(func() (err error) {
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		i, err := net.InterfaceByName(iface)
		if err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: i.Index})
	}))
	f := &flood{quit: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(f.done)
		defer unix.Close(fd)
		frame := append([]byte("\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01\x08\x00\x45\x00\x03\xda\x00\x01\x40\x00\x40\x11\x00\x00\x0a\x00\x00\x01\x0a\x00\x00\x02"), make([]byte, 966)...)
		frame[37], frame[39] = 53, 198 // UDP: destination port, 966 bytes
		frame[38] = 3
		const every = 10 * time.Millisecond
		tick := time.NewTicker(every)
		defer tick.Stop()
		for n, last := 0, time.Now().Add(-every); ; {
			now := time.Now()
			due := min(now.Sub(last)/every, 20) // more than one after a time without a processor
			last = last.Add(due * every)
			if now.Sub(last) > every {
				last = now
			}
			for range f.burst.Load() * int64(due) {
				n++
				frame[34], frame[35] = byte(n>>8)&3, byte(n) // 1024 conversations
				if _, err := unix.Write(fd, frame); err == nil {
					f.sent.Add(1)
				}
			}
			select {
			case <-tick.C:
			case <-f.quit:
				return
			}
		}
	}()
	t.Cleanup(f.stop)
	return f
}

func (f *flood) stop() {
	select {
	case <-f.quit:
	default:
		close(f.quit)
	}
	<-f.done
}

// TestBudgetLive overloads a tap that mirrors: it gives up what is beyond the budget in the kernel, and comes back when the load has gone. Each
// frame is in the books, as the interface's own counter says.
func TestBudgetLive(t *testing.T) {
	_, b, f, tool := flooded(t)
	var lines bytes.Buffer
	spec := tap.DefaultSpec()
	spec.Interfaces, spec.NetNS, spec.IngressOnly, spec.RingBytes, spec.Workers = []string{"b0"}, b.Path(), true, 16<<20, 1
	spec.To, spec.Stdout = []string{toTool(b, tool), "flows:-"}, &lines
	spec.Budget = tapspec.Budget{Mirror: 4e6}
	line, stop := start(t, spec)
	before := ingress(t, b, "b0")
	f.burst.Store(2) // 1.6 Mbit/s
	becomes(t, line, "at first", "full")
	f.burst.Store(60) // 48 Mbit/s, and 7.7 of headers
	becomes(t, line, "overloaded", "sampled")
	time.Sleep(500 * time.Millisecond) // of sampled traffic
	f.burst.Store(1)
	becomes(t, line, "again", "full")
	f.stop()
	came := ingress(t, b, "b0") - before
	for end := time.Now().Add(time.Minute); line.Statements()[0].In < came && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
	}
	stop()
	books := line.Statements()
	if sent := f.sent.Load(); came != sent || books[0].In != sent {
		t.Errorf("%d frames sent, %d came, %d in the books", sent, came, books[0].In)
	}
	if shed := books[0].Dropped[len(books[0].Dropped)-1]; shed.Reason != "shed_for_budget" || shed.N == 0 {
		t.Errorf("%+v", books[0])
	}
	for _, s := range books {
		if err := s.Balance(); err != nil {
			t.Error(err)
		}
	}
	checkSampled(t, &lines, f.sent.Load())
	if text := strings.Join(line.BudgetLines(), "\n"); !strings.Contains(text, "short of mirror") || !strings.Contains(text, "there is room again") {
		t.Error(text)
	}
}

// TestBudgetBelowRings tells at the start that a tap will be off for its memory alone.
func TestBudgetBelowRings(t *testing.T) {
	_, b, _, _ := flooded(t)
	for limit, told := range map[tapspec.Size]bool{1 << 20: true, 1 << 40: false} {
		var log logTo
		spec := tap.DefaultSpec()
		spec.Interfaces, spec.NetNS, spec.To, spec.Log = []string{"b0"}, b.Path(), []string{"null:"}, log.logger()
		spec.Budget = tapspec.Budget{Memory: limit}
		_, stop := start(t, spec)
		stop()
		if got := strings.Contains(log.String(), "more memory than it may"); got != told {
			t.Errorf("budget of %d bytes: told %v: %s", limit, got, log.String())
		}
	}
}

// checkSampled adds up the records, each as often as it stands for: what was sampled says so, and the estimate is near the truth.
func checkSampled(t *testing.T, lines *bytes.Buffer, sent uint64) {
	t.Helper()
	var sampled, estimate uint64
	for d := json.NewDecoder(lines); d.More(); {
		var r struct {
			Packets  uint64 `json:"packets"`
			Sampling uint32 `json:"sampling"`
		}
		must(t, d.Decode(&r))
		estimate += r.Packets * uint64(max(r.Sampling, 1))
		if r.Sampling == 16 {
			sampled++
		}
	}
	if sampled == 0 {
		t.Error("no record says that it was sampled")
	}
	if estimate < sent*7/10 || estimate > sent*13/10 {
		t.Errorf("%d packets estimated, %d sent", estimate, sent)
	}
}

// ingress is what an interface itself has counted.
func ingress(t *testing.T, s *testns.Space, name string) (n uint64) {
	t.Helper()
	must(t, s.Do(func() error {
		b, err := os.ReadFile("/proc/thread-self/net/dev")
		for line := range strings.Lines(string(b)) {
			if iface, rest, _ := strings.Cut(line, ":"); strings.TrimSpace(iface) == name {
				_, _ = fmt.Sscan(strings.Fields(rest)[1], &n)
			}
		}
		return err
	}))
	return n
}
