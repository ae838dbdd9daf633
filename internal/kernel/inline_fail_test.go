package kernel

import (
	"bufio"
	"context"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"crosstap/internal/ledger"
	"crosstap/internal/testkit"
)

// pairLease is long enough for a process that waits for a processor to renew it.
const pairLease = 4 * time.Second

// pairVictim is a process that joins i1 and i2, and is killed.
func pairVictim(space, fail string) string {
	x, err := NewInline(InlineConfig{A: "i1", B: "i2", NetNS: space, Closed: fail == FailClosed, Lease: pairLease, Keeper: []string{os.Args[0]}})
	if err == nil {
		_ = os.Setenv("KERNEL_TEST_KEEP", "1") // for the keeper that is started
		err = x.Open()
	}
	if err != nil {
		return err.Error()
	}
	go x.Run(context.Background())
	return "running"
}

// pairVictim runs one; signal sends it a signal, and waits when that ends it.
func (l *lab) pairVictim(fail string) (signal func(unix.Signal)) {
	l.t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), "KERNEL_TEST_VICTIM="+l.host.Path(), "KERNEL_TEST_PAIR="+fail)
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	must(l.t, err)
	must(l.t, c.Start())
	release := testkit.Guard(l.t, c.Process.Pid)
	ended := false
	signal = func(s unix.Signal) {
		_ = c.Process.Signal(s)
		if s == unix.SIGKILL && !ended {
			ended = true
			_ = c.Wait()
			release()
		}
	}
	l.t.Cleanup(func() { signal(unix.SIGKILL) })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "running\n" {
		l.t.Fatalf("victim: %q, %v", line, err)
	}
	return signal
}

// up reports whether interfaces of the host are set up.
func (l *lab) up(names ...string) (all []bool) {
	l.t.Helper()
	must(l.t, l.host.Do(func() error {
		for _, name := range names {
			i, err := net.InterfaceByName(name)
			if err != nil {
				return err
			}
			all = append(all, i.Flags&net.FlagUp != 0)
		}
		return nil
	}))
	return all
}

func (l *lab) pairs() []Pair {
	l.t.Helper()
	all, err := Pairs(l.host.Path())
	must(l.t, err)
	return all
}

// A pair that fails open goes on when its process is killed with traffic running, and when it hangs. The next process takes it over, knows what
// passed meanwhile, and no packet of the application is lost at any time.
func TestInlineFailsOpen(t *testing.T) {
	l := newPairLab(t)
	signal := l.pairVictim(FailOpen)
	l.during(t, func() {
		signal(unix.SIGSTOP)
		time.Sleep(100 * time.Millisecond)
		signal(unix.SIGCONT)
		signal(unix.SIGKILL)
	})
	await(t, "nobody watches", func() bool { p := l.pairs(); return len(p) == 1 && !p[0].Watched })
	l.exchange(7000, 100)
	var x *Inline
	var stop func() ledger.Statement
	in, _ := l.ports()
	l.during(t, func() { x, stop = l.join(InlineConfig{}) })
	p := l.pairs()
	if len(p) != 1 || !p[0].Watched || p[0].Alone < 200 || p[0].Fail != FailOpen || p[0].A != "i1" || p[0].B != "i2" {
		t.Errorf("%+v", p)
	}
	now, _ := l.ports()
	if s := stop(); s.In == 0 || s.In > now-in || s.Out != s.In {
		t.Errorf("%+v, but the interfaces got %d", s, now-in)
	}
	if st := x.State(); st.Alone > st.Frames[0]+st.Frames[1] || st.Lost != 0 {
		t.Errorf("%+v", st)
	}
	l.exchange(7000, 10)
	if err := RemovePair(l.host.Path(), "i1", "i2", false); err != nil {
		t.Error(err)
	}
	if left := l.left(); left != nil || len(l.pairs()) != 0 {
		t.Errorf("left: %v", left)
	}
}

// A pair that fails closed: after kill -9 it passes everything until its lease has ended, and then nothing; its links are down, and nothing of it
// is left. The next process sets the links up.
func TestInlineFailsClosed(t *testing.T) {
	l := newPairLab(t)
	signal := l.pairVictim(FailClosed)
	l.exchange(7000, 20)
	if err := RemovePair(l.host.Path(), "i1", "i2", false); err == nil {
		t.Error("a pair that is watched was parted")
	}
	signal(unix.SIGKILL)
	await(t, "links are down", func() bool { return cmp.Equal(l.up("i1", "i2"), []bool{false, false}) })
	await(t, "nothing is left", func() bool { return l.left() == nil })
	_, stop := l.join(InlineConfig{Closed: true})
	l.host.Up("i1", "i2")
	l.a.Up("eth0")
	l.b.Up("eth0")
	l.arp4()
	l.exchange(7000, 20)
	if s := stop(); s.Out != 40 {
		t.Errorf("%+v", s)
	}
	if left, up := l.left(), l.up("i1", "i2"); left != nil || up[0] || up[1] {
		t.Errorf("left %v, up %v", left, up)
	}
}

// A process that hangs: a pair that fails closed stops within its lease, and goes on when the process does.
func TestInlineHangsClosed(t *testing.T) {
	l := newPairLab(t)
	signal := l.pairVictim(FailClosed)
	l.exchange(7000, 20)
	signal(unix.SIGSTOP)
	await(t, "links are down", func() bool { return cmp.Equal(l.up("i1", "i2"), []bool{false, false}) })
	signal(unix.SIGCONT)
	await(t, "links are up", func() bool { return cmp.Equal(l.up("i1", "i2"), []bool{true, true}) })
	l.host.Up("i1", "i2")
	l.a.Up("eth0")
	l.b.Up("eth0")
	l.arp4()
	await(t, "the lease is renewed", func() bool { p := l.pairs(); return len(p) == 1 && p[0].Watched })
	l.exchange(7000, 20)
}

// Without a keeper the lease alone closes the pair, and Sweep takes away what is left.
func TestInlineLease(t *testing.T) {
	l := newPairLab(t)
	x, stop := l.join(InlineConfig{Closed: true})
	l.datagrams(5, 100, 7000)
	must(t, x.beat.m.Put(uint32(0), uint64(1)))
	l.datagrams(6, 100, 7000)
	must(t, x.beat.renew())
	l.datagrams(7, 100, 7000)
	if s := stop(); s.In < 12 || dropped(s, DropPairClosed) != 6 && dropped(s, DropPairClosed) != 0 { // it may have been renewed at that moment
		t.Errorf("%+v", s)
	}
	y, err := NewInline(InlineConfig{A: "i1", B: "i2", NetNS: l.host.Path(), Closed: true, Lease: MinPairLease})
	must(t, err)
	must(t, y.Open())
	defer y.release()
	var gone []Swept
	await(t, "the lease has ended", func() bool {
		some, err := Sweep(l.host.Path())
		must(t, err)
		gone = append(gone, some...)
		return len(gone) >= 4
	})
	if left := l.left(); left != nil {
		t.Errorf("left: %v", left)
	}
}
