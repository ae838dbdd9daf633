package groom_test

import (
	"context"
	"encoding/binary"
	"errors"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/frame"
	"crosstap/internal/tap/groom"
	"crosstap/internal/testkit"
	"crosstap/internal/wire"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// TestSliceAtLayers cuts one frame, plain and in VXLAN, at every place.
func TestSliceAtLayers(t *testing.T) {
	in := packet{src: 1, dst: 2, srcPort: 3, dstPort: 80, ttl: 64, vlan: 5, tcp: true, payload: make([]byte, 100)}.frame(0, 0)
	tunnelled := inVXLAN(in, 9)
	arp := frame.Frame{Data: append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1}, make([]byte, 38)...), OrigLen: 60, Link: frame.LinkEthernet}
	tail := packet{src: 1, dst: 2, ttl: 64, payload: make([]byte, 80)}.frame(0, 0)
	binary.BigEndian.PutUint16(tail.Data[20:], 100) // a fragment other than the first
	f := func(x frame.Frame, flags string, want int) {
		t.Helper()
		got := apply(t, pipeline(t, flags), []frame.Frame{x})[0][0]
		if len(got.Data) != want || got.OrigLen != x.OrigLen {
			t.Errorf("%s: %d of %d bytes, want %d of %d", flags, len(got.Data), got.OrigLen, want, x.OrigLen)
		}
	}
	f(in, "slice=40", 40)
	f(in, "slice=l2+40", 40)
	f(in, "slice=l3+10", 18+10)
	f(in, "slice=l4+10", 38+10)
	f(in, "slice=l7+0", 58)
	f(in, "slice=inner-l7+9", 58+9)
	f(in, "slice=l7+1000", len(in.Data))
	f(tunnelled, "slice=l4+8", 34+8)
	f(tunnelled, "slice=l7+8", 42+8)
	f(tunnelled, "slice=inner-l2+14", 50+14)
	f(tunnelled, "slice=inner-l3+0", 50+18)
	f(tunnelled, "slice=inner-l7+4", 50+58+4)
	f(arp, "slice=l7+0", 14+28)
	f(arp, "slice=l3+2", 14+2)
	f(tail, "slice=l7+0", 34)
	f(tail, "slice=l4+3", 34+3)
}

// TestSliceWithinConversations keeps the first packets or bytes of each conversation whole.
func TestSliceWithinConversations(t *testing.T) {
	var frames []frame.Frame
	for i := range 12 {
		a, b := byte(1), byte(2)
		if i%2 == 1 { // answers belong to the conversation
			a, b = b, a
		}
		frames = append(frames, packet{src: a, dst: b, srcPort: 5, dstPort: 5, ttl: 64, payload: make([]byte, 58)}.frame(int64(i)*ms, 0))
	}
	late := packet{src: 1, dst: 2, srcPort: 5, dstPort: 5, ttl: 64, payload: make([]byte, 58)}.frame(60_000*ms, 0)
	frames = append(frames, late)
	f := func(flags string, want ...int) {
		t.Helper()
		var whole []int
		for i, x := range apply(t, pipeline(t, flags), frames)[0] {
			if !x.Truncated() {
				whole = append(whole, i)
			}
		}
		if diff := cmp.Diff(want, whole); diff != "" {
			t.Errorf("%s: (-want, +got whole)\n%s", flags, diff)
		}
	}
	f("slice=l7+0/after=3p", 0, 1, 2, 12)
	f("slice=l7+0/after=250B", 0, 1, 2, 12)
	f("slice=l7+0/after=3p/idle=2m", 0, 1, 2)
	f("slice=0/after=2p/drop", 0, 1, 2) // the last is the first of a new conversation
}

// TestSample draws by number, by chance and by conversation.
func TestSample(t *testing.T) {
	var frames []frame.Frame
	for i := range 20000 {
		p := packet{src: byte(i), dst: byte(i >> 8), srcPort: 7, dstPort: 80, ttl: 64, tcp: true, flags: 0x10}
		if i%500 == 3 {
			p.flags = 0x11
		}
		if i >= 10000 { // the answers
			p = packet{src: byte((i - 10000) >> 8), dst: byte(i - 10000), srcPort: 80, dstPort: 7, ttl: 64, tcp: true, flags: 0x10}
		}
		frames = append(frames, p.frame(0, 0))
	}
	if n := len(apply(t, pipeline(t, "sample=1:10"), frames)[0]); n != 2000 {
		t.Errorf("every tenth: %d of 20000", n)
	}
	if n := len(apply(t, pipeline(t, "sample=1:10/random/seed=1"), frames)[0]); n < 1850 || n > 2150 {
		t.Errorf("one of ten by chance: %d of 20000", n)
	}
	count := map[string]int{}
	got := apply(t, pipeline(t, "sample=1:10/flow"), frames)[0]
	for _, x := range got {
		a, b := string(x.Data[26:30]), string(x.Data[30:34])
		count[min(a, b)+max(a, b)]++
	}
	if len(got) < 1700 || len(got) > 2300 {
		t.Errorf("one conversation of ten: %d of 20000 frames", len(got))
	}
	for _, n := range count {
		if n%2 != 0 {
			t.Errorf("a conversation lost one direction")
			break
		}
	}
	fins := 0
	for _, x := range apply(t, pipeline(t, "sample=1:100/flow/keep=fin"), frames)[0] {
		if wire.TCP(x.Data[34:]).Flags()&1 != 0 {
			fins++
		}
	}
	if fins != 20 {
		t.Errorf("%d of 20 FINs were kept", fins)
	}
}

// TestBalance spreads conversations; when an output fails only its own move, and they come back.
func TestBalance(t *testing.T) {
	p := pipeline(t, "balance=4")
	frames := imix(4000)
	where := func() map[uint16]int {
		all := map[uint16]int{}
		for o, out := range apply(t, p, frames) {
			for _, x := range out {
				k := issues(&x)
				port := k.Inner().SrcPort
				if was, ok := all[port]; ok && was != o {
					t.Fatalf("conversation %d goes to %d and %d", port, was, o)
				}
				all[port] = o
			}
		}
		return all
	}
	before := where()
	var each [4]int
	for _, o := range before {
		each[o]++
	}
	if slices.Min(each[:]) < 25 {
		t.Errorf("conversations of the outputs: %v", each)
	}
	p.SetOutput(2, false)
	for port, o := range where() {
		if o == 2 || before[port] != 2 && o != before[port] {
			t.Errorf("conversation %d went from %d to %d while 2 was down", port, before[port], o)
		}
	}
	p.SetOutput(2, true)
	if diff := cmp.Diff(before, where()); diff != "" {
		t.Errorf("they did not come back: %s", diff)
	}
	back := packet{src: 2, dst: 1, srcPort: 80, dstPort: 9, ttl: 3}.frame(0, 0)
	there := packet{src: 1, dst: 2, srcPort: 9, dstPort: 80, ttl: 64}.frame(0, 0)
	out := apply(t, p, []frame.Frame{back, inVXLAN(there, 1)})
	if !slices.ContainsFunc(out, func(x []frame.Frame) bool { return len(x) == 2 }) {
		t.Error("an answer, and a packet in a tunnel, went elsewhere")
	}
}

// TestTagsAreTcprewrites pushes and strips VLAN tags as tcprewrite does.
func TestTagsAreTcprewrites(t *testing.T) {
	tcprewrite, dir := testkit.Tool(t, "tcprewrite"), t.TempDir()
	in, out := filepath.Join(dir, "in.pcap"), filepath.Join(dir, "out.pcap")
	f := func(flags string, frames []frame.Frame, args ...string) {
		t.Helper()
		save(t, in, frame.LinkEthernet, frames)
		if b, err := exec.Command(tcprewrite, append(args, "-i", in, "-o", out)...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, b)
		}
		got, want := apply(t, pipeline(t, flags), frames)[0], load(t, out)
		for i := range got { // it writes microseconds
			got[i].TimeNS = want[min(i, len(want)-1)].TimeNS
		}
		equal(t, flags, want, got)
	}
	plain := imix(50)
	f("tag=vlan:100", plain, "--enet-vlan=add", "--enet-vlan-tag=100", "--enet-vlan-cfi=0", "--enet-vlan-pri=0")
	var tagged []frame.Frame
	for i := range 50 {
		tagged = append(tagged, packet{src: 1, dst: 2, vlan: uint16(i + 1), ttl: 9, payload: make([]byte, i)}.frame(0, 0))
	}
	f("strip=vlan", tagged, "--enet-vlan=del")
}

// TestLabels puts what is known of the observation point and the rule into frames.
func TestLabels(t *testing.T) {
	s, err := groom.Parse("tag=comment+trailer+vlan:200/per-point/rule=web/rule-id=77/vm=vnet0:web-1+other")
	must2(t, err)
	names := []string{"vnet0", "vnet1", ""}
	p, err := groom.New(groom.Config{Spec: s, Interface: func(point uint32) string { return names[point] }})
	must2(t, err)
	var in []frame.Frame
	for point := range uint32(3) {
		in = append(in, packet{src: 1, dst: 2}.frame(0, point))
	}
	in[1].Segments, in[1].Dir = 5, frame.Egress
	var got []string
	out := apply(t, p, in)[0]
	for _, x := range out {
		got = append(got, p.Labels()(x.Tag))
	}
	got = append(got, p.Labels()(0), p.Labels()(0xffff))
	if diff := cmp.Diff([]string{"point vnet0, vm web-1, rule web", "point vnet1, vm other, rule web", "vm other, rule web", "", "vm other, rule web"}, got); diff != "" {
		t.Error(diff)
	}
	for point, want := range []string{
		"\x01\x05vnet0\x02\x05web-1\x03\x03web\x00\x13\x00\x00\x00\x00\x00\x00\x00\x4d\x00\x02\x00\x00xtap",
		"\x01\x05vnet1\x02\x05other\x03\x03web\x00\x13\x00\x00\x00\x01\x00\x00\x00\x4d\x01\x02\x00\x05xtap",
		"\x02\x05other\x03\x03web\x00\x0c\x00\x00\x00\x02\x00\x00\x00\x4d\x00\x02\x00\x00xtap",
	} {
		if diff := cmp.Diff(want, string(out[point].Data[len(in[point].Data)+wire.VLANLen:])); diff != "" {
			t.Errorf("point %d: %s", point, diff)
		}
	}
	if id := wire.VLAN(out[1].Data[14:]).ID(); id != 201 || out[1].OrigLen != in[1].OrigLen+4+21+16 {
		t.Errorf("VLAN %d, %d bytes", id, out[1].OrigLen)
	}
}

// TestTrailer appends numbers alone when no names are given.
func TestTrailer(t *testing.T) {
	in := []frame.Frame{packet{src: 1, dst: 2}.frame(0, 3)}
	in[0].Dir = frame.Ingress
	before := len(in[0].Data)
	out := apply(t, pipeline(t, "tag=trailer/rule-id=9"), in)[0]
	if diff := cmp.Diff("\x00\x00\x00\x03\x00\x00\x00\x09\x00\x01\x00\x00xtap", string(out[0].Data[before:])); diff != "" {
		t.Error(diff)
	}
}

func must2(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestRunDrains passes everything on before it ends, and counts what a stop leaves behind.
func TestRunDrains(t *testing.T) {
	p := pipeline(t, "balance=2")
	in, a, b := make(chan frame.Batch, 8), make(chan frame.Batch, 100), make(chan frame.Batch, 100)
	for range 8 {
		in <- frame.Batch{Frames: imix(1000)}
	}
	close(in)
	must2(t, p.Run(context.Background(), in, a, b))
	balanced(t, p)
	sent := p.Sent()
	if sent[0]+sent[1] != 8000 || len(a) == 0 || len(b) == 0 {
		t.Errorf("sent %v", sent)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p = pipeline(t, "balance=2")
	in = make(chan frame.Batch)
	done := make(chan error)
	go func() { done <- p.Run(ctx, in, make(chan frame.Batch), make(chan frame.Batch)) }()
	in <- frame.Batch{Frames: imix(1000)}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	s := p.Books()[0].Read()
	if s.In != 1000 || s.Dropped[0].N != 1000 {
		t.Errorf("%+v", s)
	}
	balanced(t, p)
	if err := p.Run(ctx, in); err == nil {
		t.Error("no channels for two outputs")
	}
}

// TestFilterComesFirst asks the filter about frames as they were captured.
func TestFilterComesFirst(t *testing.T) {
	s, err := groom.Parse("repair,strip=all")
	must2(t, err)
	p, err := groom.New(groom.Config{Spec: s, Filter: func(f *frame.Frame) bool { return f.OrigLen > 1000 }})
	must2(t, err)
	out := apply(t, p, []frame.Frame{super(5000), super(100)})[0]
	if len(out) != 4 || out[0].Segments != 4 {
		t.Errorf("%d frames", len(out))
	}
	if s := p.Books()[0].Read(); s.Dropped[0].N != 1 {
		t.Errorf("%+v", s)
	}
	if s := p.Books()[1].Read(); s.In != 1 || s.Made != 3 || s.Out != 4 {
		t.Errorf("%+v", s)
	}
}

// TestNoAllocation: at steady state nothing is allocated, whatever a step does to frames.
func TestNoAllocation(t *testing.T) {
	frames := imix(256)
	frames = append(frames, super(20000), super(300))
	for _, flags := range []string{"", "repair", "strip=all", "strip=vlan", "dedup", "sample=1:2/flow/keep", "slice=inner-l7+4/after=3p", "mask=inner-l7:4-+addresses+macs" + key,
		"tag=vlan:3+comment", "balance=3", "repair,strip=all,dedup/same-point,sample=1:2,slice=l7+64,tag=comment,balance=2"} {
		p := pipeline(t, flags)
		emit := func(_ int, b frame.Batch) bool { b.Release(); return true }
		run := func() { p.Apply(frame.Batch{Frames: frames}, emit) }
		for range 20 {
			run()
		}
		if n := testkit.Allocs(100, run); n != 0 {
			t.Errorf("%q: %v allocations for a batch", flags, n)
		}
	}
}
