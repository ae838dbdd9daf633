package kernel

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"crosstap/internal/dissect"
	"crosstap/internal/frame"
	"crosstap/internal/netns"
	"crosstap/internal/testkit"
)

// counting is the program that counts, without an interface: the kernel runs it on one frame at a time.
type counting struct {
	t testing.TB
	f *Flows
	k *hook
}

// newCounting makes tables of 2^bits lines near at hand and of so many flows behind them.
func newCounting(t testing.TB, bits, flows int) *counting {
	testkit.Root(t)
	f, err := NewFlows(FlowsConfig{Config: Config{Interfaces: []string{"none"}}, Idle: 1e9, Active: 1e9, MaxFlows: 1 << 20, RingBytes: 1 << 20, Tunnels: dissect.DefaultConfig().VXLANPorts})
	fail(t, err)
	f.ring, err = newRing(1<<20, flowsKeep)
	fail(t, err)
	f.feed.ring, f.feed.line = f.ring, &f.line
	f.clock, err = newClock()
	fail(t, err)
	f.tables, err = newTables(flows)
	fail(t, err)
	f.tables.near.close()
	f.tables.near, err = newNear(bits)
	fail(t, err)
	k := &hook{point: 7, dir: frame.Egress, link: frame.LinkEthernet}
	fail(t, f.loadHook(k))
	t.Cleanup(func() { k.close(); f.Close() })
	return &counting{t, f, k}
}

func fail(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// onOne keeps the test on one processor until it ends, so that which packet is a flow's first does not go by the processors' order.
func onOne(t testing.TB) {
	t.Helper()
	onEach(t)
}

// onEach keeps the test on one processor until it ends, and returns how many there are and what moves it to the n-th of them.
func onEach(t testing.TB) (cpus int, move func(n int)) {
	t.Helper()
	runtime.LockOSThread()
	var were unix.CPUSet
	fail(t, unix.SchedGetaffinity(0, &were))
	var all []int
	for i := 0; len(all) < were.Count(); i++ {
		if were.IsSet(i) {
			all = append(all, i)
		}
	}
	move = func(n int) {
		t.Helper()
		var one unix.CPUSet
		one.Set(all[n])
		fail(t, unix.SchedSetaffinity(0, &one))
	}
	move(0)
	t.Cleanup(func() {
		if err := unix.SchedSetaffinity(0, &were); err == nil {
			runtime.UnlockOSThread()
		}
	})
	return len(all), move
}

// skbuff is struct __sk_buff as a test run takes it.
type skbuff struct {
	_       [44]uint32
	GSOSize uint32
	_       [3]uint32
}

// run has a frame counted, as a super-frame of segments of so many bytes unless that is 0, and returns whether it went to user space.
func (c *counting) run(b []byte, segment uint32) (up bool) {
	c.t.Helper()
	before, err := c.k.stats.read()
	fail(c.t, err)
	_, err = c.k.prog.Run(&ebpf.RunOptions{Data: b, Context: skbuff{GSOSize: segment}, ContextOut: new(skbuff)})
	fail(c.t, err)
	after, err := c.k.stats.read()
	fail(c.t, err)
	if after.seen() != before.seen()+1 {
		c.t.Fatalf("%x: %v before, %v after it", b, before, after)
	}
	if after[statUp] > before[statUp] {
		if batch, n := c.f.feed.batch(); n > 0 {
			batch.Release()
		}
	}
	return after[statOut] == before[statOut]
}

// send has a frame looked at.
func (c *counting) send(b []byte) {
	c.t.Helper()
	_, _, err := c.k.prog.Benchmark(b, 1, nil)
	fail(c.t, err)
}

// drained returns what was counted.
func (c *counting) drained() map[flowKey]expected {
	c.t.Helper()
	all := map[flowKey]expected{}
	fail(c.t, c.f.tables.drain(func(k, v []byte) {
		ne, packets := binary.NativeEndian, binary.NativeEndian.Uint64(v[valPackets:])
		if packets == 0 {
			return
		}
		var key flowKey
		key.set(k)
		x := expected{packets, ne.Uint64(v[valOctets:]), ne.Uint64(v[valL2:]), ne.Uint16(v[valFlags:]), v[valFirstFlags], v[valToS], v[valMinTTL], v[valMaxTTL], ne.Uint16(v[valMinLen:]), ne.Uint16(v[valMaxLen:])}
		if was, ok := all[key]; ok { // another processor's
			x = was.and(x)
		}
		all[key] = x
	}))
	return all
}

// expected is what a flow shall have been counted as.
type expected struct {
	Packets, Octets, L2Octets uint64
	Flags                     uint16
	FirstFlags, ToS           uint8
	MinTTL, MaxTTL            uint8
	MinLen, MaxLen            uint16
}

func (e expected) and(x expected) expected {
	return expected{e.Packets + x.Packets, e.Octets + x.Octets, e.L2Octets + x.L2Octets, e.Flags | x.Flags, e.FirstFlags, e.ToS,
		min(e.MinTTL, x.MinTTL), max(e.MaxTTL, x.MaxTTL), min(e.MinLen, x.MinLen), max(e.MaxLen, x.MaxLen)}
}

// expect says, in the slow and obvious way, what the program shall make of a frame; false: it goes to user space. Offsets are those of RFC 791, 8200, 768,
// 9293, 792 and 4443.
func expect(b []byte, segment int, tunnels []uint16) (k flowKey, e expected, ok bool) {
	be := binary.BigEndian
	if len(b) < 14+20 {
		return k, e, false
	}
	ip := b[14:]
	where, total, header, icmp := byte(frame.Egress), 0, 0, byte(0)
	switch be.Uint16(b[12:]) {
	case 0x0800:
		if ip[0] != 0x45 || be.Uint16(ip[6:])&0x3fff != 0 {
			return k, e, false
		}
		total, header, icmp = int(be.Uint16(ip[2:])), 20, 1
		e.ToS, e.MinTTL, k[keyProto] = ip[1], ip[8], ip[9]
		copy(k[keyAddresses:], ip[12:20])
	case 0x86dd:
		if len(ip) < 40 || ip[0]>>4 != 6 || be.Uint16(ip[4:]) == 0 {
			return k, e, false
		}
		total, header, icmp = 40+int(be.Uint16(ip[4:])), 40, 58
		e.ToS, e.MinTTL, k[keyProto] = ip[0]<<4|ip[1]>>4, ip[7], ip[6]
		copy(k[keyAddresses:], ip[8:40])
		where |= whereV6
	default:
		return k, e, false
	}
	if total > len(ip) {
		return k, e, false
	}
	transport, have := ip[header:], min(total, len(ip))-header
	switch proto := k[keyProto]; {
	case proto == 6 && have >= 20:
		n := int(transport[12]>>4) * 4
		if n < 20 {
			return k, e, false
		}
		copy(k[keyPorts:], transport[:4])
		e.Flags = be.Uint16(transport[12:]) & 0x1ff
		e.FirstFlags = byte(e.Flags)
		header += n
	case proto == 17 && have >= 8 && !slices.Contains(tunnels, be.Uint16(transport[2:])):
		copy(k[keyPorts:], transport[:4])
		header += 8
	case proto == icmp && have >= 4:
		copy(k[keyPorts+2:], transport[:2])
		header += 8
	default:
		return k, e, false
	}
	k[keyWhere] = where
	copy(k[keyMACs:], b[:12])
	binary.NativeEndian.PutUint32(k[keyPoint:], 7)
	e.MaxTTL = e.MinTTL
	e.Packets, e.Octets, e.L2Octets, e.MinLen, e.MaxLen = 1, uint64(total), uint64(len(b)), uint16(total), uint16(total)
	if segment > 0 {
		payload := total - header
		if payload <= 0 {
			return k, e, false
		}
		n := (payload + segment - 1) / segment
		e.Packets, e.Octets = uint64(n), uint64(n*header+payload)
		e.L2Octets = e.Octets + uint64(n)*14
		e.MinLen, e.MaxLen = uint16(header+payload-(n-1)*segment), uint16(header+min(segment, payload))
	}
	return k, e, true
}

// corpusFrames returns frames of all captures of the corpus that a test run takes, a few of each.
func corpusFrames(t *testing.T, each int) (all [][]byte) {
	t.Helper()
	fail(t, filepath.WalkDir(testkit.CorpusDir(t), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".pcap") && !strings.HasSuffix(path, ".pcapng") {
			return err
		}
		list := frames(t, path)
		n := 0
		for _, b := range list {
			if n < each && len(b) <= 1600 {
				all = append(all, b)
				n++
			}
		}
		return nil
	}))
	return all
}

// TestFlowsCorpus has the program count frames of every capture of the corpus, and compares with what shall come of each: with room for all flows near
// at hand, with lines for some of them, and with hardly any room at all.
func TestFlowsCorpus(t *testing.T) {
	testkit.Root(t)
	onOne(t)
	list := corpusFrames(t, 25)
	f := func(bits, flows int, all bool) {
		t.Helper()
		c := newCounting(t, bits, flows)
		for round := range 3 { // both halves, and one of them again
			want, ups := map[flowKey]expected{}, 0
			for i, b := range list {
				segment := []int{0, 0, 0, 100, 1400}[i%5]
				k, e, ok := expect(b, segment, c.f.tunnels)
				up := c.run(b, uint32(segment))
				switch {
				case up && ok && all, !up && !ok:
					t.Fatalf("round %d, segment %d: %x: to user space: %t, want %t", round, segment, b, up, !ok)
				case up:
					ups++
					continue
				}
				if was, ok := want[k]; ok {
					e = was.and(e)
				}
				want[k] = e
			}
			if diff := cmp.Diff(want, c.drained()); diff != "" {
				t.Fatalf("%d bits, %d flows, round %d: (-want +got)\n%s", bits, flows, round, diff)
			}
			if round == 0 {
				t.Logf("%d frames, %d flows, %d to user space", len(list), len(want), ups)
			}
			if len(want) < 20 {
				t.Errorf("%d flows only", len(want))
			}
		}
	}
	f(12, 16, true)
	f(nearLeast, 1<<14, true)
	f(nearLeast, 4, false)
}

// TestNearBits: lines for every flow, as far as their memory goes.
func TestNearBits(t *testing.T) {
	f := func(flows, cpus, want int) {
		t.Helper()
		if got := nearBits(flows, cpus); got != want {
			t.Errorf("%d flows, %d processors: 2^%d lines, want 2^%d", flows, cpus, got, want)
		}
	}
	f(1<<16, 2, 15)
	f(1<<16, 1, 16)
	f(1000, 2, 10)
	f(1, 2, nearLeast)
	f(1<<16, 256, 8)
	f(1<<16, 1<<13, nearLeast)
}

// FuzzFlows has the kernel count any frame.
func FuzzFlows(f *testing.F) {
	c := newCounting(f, 8, 16)
	f.Add(packetOf(1), uint16(0))
	f.Add(packetOf(2)[:100], uint16(0))
	tcp := slices.Clone(packetOf(3))
	tcp[23], tcp[46], tcp[47] = 6, 0x50, 0x12
	f.Add(tcp, uint16(100))
	six := append(slices.Clone(tcp[:12]), 0x86, 0xdd, 0x6a, 0xb0, 0, 0, 0, 24, 17, 9)
	f.Add(append(six, make([]byte, 60)...), uint16(0))
	f.Fuzz(func(t *testing.T, b []byte, segment uint16) {
		if len(b) < 60 || len(b) > 1600 {
			return
		}
		c.t = t
		k, e, ok := expect(b, int(segment), c.f.tunnels)
		up := c.run(b, uint32(segment))
		want := map[flowKey]expected{k: e}
		if !ok {
			clear(want)
		}
		if diff := cmp.Diff(want, c.drained()); diff != "" || up == ok {
			t.Errorf("%s to user space: %t, want %t: (-want +got)\n%s", fmt.Sprintf("%x", b), up, !ok, diff)
		}
	})
}

// The programs load with the privileges that crosstap asks for, and none besides: without CAP_PERFMON the verifier looks more closely.
func TestFewPrivileges(t *testing.T) {
	testkit.Root(t)
	fail(t, netns.OnThread(func() error {
		caps := [2]unix.CapUserData{}
		for _, c := range []uint{unix.CAP_BPF, unix.CAP_NET_ADMIN, unix.CAP_NET_RAW} {
			caps[c/32].Effective |= 1 << (c % 32)
			caps[c/32].Permitted |= 1 << (c % 32)
		}
		if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &caps[0]); err != nil {
			return err
		}
		h, err := NewHeaders(HeadersConfig{Config: Config{Interfaces: []string{"none"}, Sample: Sample{Rate: 3, Mode: Random}}, Keep: 112, RingBytes: minRing})
		if err != nil {
			return err
		}
		if h.ring, err = newRing(minRing, h.keep); err != nil {
			return err
		}
		defer h.ring.close()
		if err := h.check(); err != nil {
			return fmt.Errorf("headers: %w", err)
		}
		if err := TryFlows(); err != nil {
			return fmt.Errorf("flows: %w", err)
		}
		if err := TryMirror(); err != nil {
			return fmt.Errorf("mirror: %w", err)
		}
		return nil
	}))
}
