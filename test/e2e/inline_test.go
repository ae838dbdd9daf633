//go:build linux

package e2e

import (
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"crosstap/internal/testkit"
	"crosstap/internal/testns"
)

// pairLab is a host between a (10.9.0.1) and b (10.9.0.2), which reach each other through its interfaces i1 and i2 alone.
type pairLab struct {
	t          *testing.T
	host, a, b *testns.Space
}

func newPairLab(t *testing.T) *pairLab {
	t.Helper()
	w := &pairLab{t, testns.New(t), testns.New(t), testns.New(t)}
	for i, vm := range []*testns.Space{w.a, w.b} {
		w.host.Sh(fmt.Sprintf("ip link add i%[1]d type veth peer name eth0 netns NS; ip link set i%[1]d addrgenmode none; ip link set i%[1]d up", i+1), vm)
		vm.Sh(fmt.Sprintf("ip link set eth0 addrgenmode none; ip link set eth0 up; ip addr add 10.9.0.%d/24 dev eth0", i+1))
	}
	w.host.Up("i1", "i2")
	w.a.Up("eth0")
	w.b.Up("eth0")
	return w
}

// tap starts a tap of the pair, and returns when it is joined.
func (w *pairLab) tap(options string, args ...string) *run {
	w.t.Helper()
	r := start(w.t, nil, append([]string{"tap", "--inline", "i1,i2" + options, "--netns", w.host.Path()}, args...)...)
	r.waitFor("inline pair joined")
	return r
}

// probes sends numbered datagrams from a to b, a millisecond apart, while f runs, and returns the numbers that did not come.
func (w *pairLab) probes(f func()) (sent int, lost []int) {
	w.t.Helper()
	var rx, tx net.PacketConn
	must(w.t, w.b.Do(func() (err error) { rx, err = net.ListenPacket("udp4", "10.9.0.2:7000"); return err }))
	must(w.t, w.a.Do(func() (err error) { tx, err = net.ListenPacket("udp4", "10.9.0.1:0"); return err }))
	defer rx.Close()
	defer tx.Close()
	came := make(chan map[int]bool, 1)
	go func() {
		seen, b := map[int]bool{}, make([]byte, 64)
		for {
			n, _, err := rx.ReadFrom(b)
			number, end := strconv.Atoi(string(b[:n]))
			if err != nil || end != nil {
				came <- seen
				return
			}
			seen[number] = true
		}
	}()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	to := &net.UDPAddr{IP: net.IPv4(10, 9, 0, 2), Port: 7000}
	for ended := false; !ended || sent < 200; sent++ {
		select {
		case <-done:
			ended = true
		default:
		}
		_, err := tx.WriteTo([]byte(strconv.Itoa(sent)), to)
		must(w.t, err)
		time.Sleep(time.Millisecond)
	}
	_, err := tx.WriteTo([]byte("end"), to)
	must(w.t, err)
	must(w.t, rx.SetReadDeadline(time.Now().Add(patience)))
	seen := <-came
	for n := range sent {
		if !seen[n] {
			lost = append(lost, n)
		}
	}
	return sent, lost
}

// crosstap runs a command to its end and returns its output.
func (w *pairLab) crosstap(code int, args ...string) string {
	w.t.Helper()
	r := start(w.t, nil, args...)
	r.exit(code)
	return r.text()
}

// TestInlineOpen kills the tap of a pair with traffic running: no packet is lost, then and when the next tap takes the pair over. What that one copies
// is what it passed on.
func TestInlineOpen(t *testing.T) {
	tshark := testkit.Tool(t, "tshark")
	w := newPairLab(t)
	first := w.tap("", "--to", "null:")
	w.a.Stream(w.b, "10.9.0.2", make([]byte, 3_000_000))
	sent, lost := w.probes(func() {
		time.Sleep(100 * time.Millisecond)
		must(t, first.cmd.Process.Kill())
		<-first.done
	})
	if len(lost) > 0 {
		t.Errorf("kill -9 lost %d of %d packets: %v", len(lost), sent, lost)
	}
	for end := time.Now().Add(patience); !regexp.MustCompile(`i1 +i2 +open +no `).MatchString(w.crosstap(0, "inline", "--netns", w.host.Path())); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the pair still counts as watched")
		}
	}
	w.a.Stream(w.b, "10.9.0.2", make([]byte, 1_000_000))
	file := filepath.Join(t.TempDir(), "wire.pcapng")
	var second *run
	if sent, lost = w.probes(func() { second = w.tap("", "--to", "pcapng:"+file) }); len(lost) > 0 {
		t.Errorf("taking the pair over lost %d of %d packets: %v", len(lost), sent, lost)
	}
	w.b.Stream(w.a, "10.9.0.1", make([]byte, 500_000))
	w.a.Stream(w.b, "10.9.0.2", make([]byte, 500_000))
	must(t, second.cmd.Process.Signal(syscall.SIGINT))
	second.exit(0)
	m := regexp.MustCompile(`inline: i1 → i2 (\d+) frames .* i2 → i1 (\d+) frames`).FindStringSubmatch(second.text())
	if m == nil || !strings.Contains(second.text(), "taken over") || !strings.Contains(second.text(), "stay joined") {
		t.Fatal(second.text())
	}
	out, err := exec.Command(tshark, "-r", file, "-T", "fields", "-e", "frame.interface_name").Output()
	must(t, err)
	for i, name := range []string{"i1", "i2"} {
		n, _ := strconv.Atoi(m[i+1])
		if copied := strings.Count(string(out), name+"\n"); copied < n || copied == 0 { // capturing begins before joining
			t.Errorf("%s: %d frames passed on, %d copied", name, n, copied)
		}
	}
	w.a.Stream(w.b, "10.9.0.2", make([]byte, 100_000))
	w.crosstap(0, "inline", "remove", "i1,i2", "--netns", w.host.Path())
	if text := w.crosstap(0, "inline", "--netns", w.host.Path()); !strings.Contains(text, "no inline pairs") {
		t.Error(text)
	}
}

// TestInlineClosed kills the tap of a pair that fails closed: after its lease the links are down and nothing is left in the kernel. A budget is
// kept meanwhile, and the tap is in the words of a document, too.
func TestInlineClosed(t *testing.T) {
	w := newPairLab(t)
	r := w.tap("/fail=closed/lease=4s", "--to", "flows:-", "--budget", "cpu=50%")
	w.a.Stream(w.b, "10.9.0.2", make([]byte, 300_000))
	must(t, r.cmd.Process.Kill())
	<-r.done
	down := func() bool {
		all := true
		must(t, w.host.Do(func() error {
			for _, name := range []string{"i1", "i2"} {
				i, err := net.InterfaceByName(name)
				if err != nil {
					return err
				}
				all = all && i.Flags&net.FlagUp == 0
			}
			return nil
		}))
		return all
	}
	for end := time.Now().Add(patience); !down() || !strings.Contains(w.crosstap(0, "inline", "--netns", w.host.Path()), "no inline pairs"); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the pair does not close")
		}
	}
	w.host.Sh("test -z \"$(tc qdisc show | grep clsact)\"")
}

// TestInlineRefused: pairs that would be a loop are not joined.
func TestInlineRefused(t *testing.T) {
	w := newPairLab(t)
	w.host.Sh("ip link add br0 type bridge; ip link set i1 master br0; ip link set i2 master br0")
	if text := w.crosstap(7, "tap", "--inline", "i1,i2", "--netns", w.host.Path(), "--to", "null:"); !strings.Contains(text, "port of the bridge br0") {
		t.Error(text)
	}
	w.crosstap(2, "tap", "--inline", "i1", "--to", "null:")
	w.crosstap(2, "tap", "--inline", "i1,i2/fail=maybe", "--to", "null:")
	w.crosstap(2, "inline", "remove", "i1,i2", "--netns", w.host.Path())
}
