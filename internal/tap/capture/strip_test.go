package capture

import (
	"encoding/hex"
	"math/rand/v2"
	"strings"
	"testing"

	"crosstap/internal/frame"
)

// frameHex is an ARP frame, without what a cable would have filled it up with.
const frameHex = "ffffffffffff 020000000001 0806 0001080006040001020000000001 0a000001 000000000000 0a000002"

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestStrip(t *testing.T) {
	f := func(url, before string, reason int, session uint32, more string) {
		t.Helper()
		e, err := ParseEndpoint(url)
		if err != nil {
			t.Fatal(err)
		}
		var c copied
		got := c.strip(&e, unhex(t, before+frameHex))
		if got != reason || reason == accepted && (c.session != session || c.link != frame.LinkEthernet) {
			t.Fatalf("%s: %d, session %d, link %d; want %d, %d", before, got, c.session, c.link, reason, session)
		}
		if want := hex.EncodeToString(unhex(t, frameHex)); reason == accepted && more == "" && hex.EncodeToString(c.data) != want {
			t.Errorf("%s: %x", before, c.data)
		}
		if more != "" && !strings.Contains(hex.EncodeToString(c.data), more) {
			t.Errorf("%s: %x has no %s", before, c.data, more)
		}
	}
	f("vxlan://", "08000000 00138900", accepted, 5001, "")
	f("vxlan://", "00000000 00138900", DropMirrorHeader, 0, "")        // no VNI
	f("vxlan://?vni=7,5001", "08000000 00138900", accepted, 5001, "")  //
	f("vxlan://?vni=7", "08000000 00138900", DropMirrorSession, 0, "") //
	f("vxlan://", "0c000003 00138900", accepted, 5001, "")             // generic protocol extension, Ethernet
	f("vxlan://", "0c000004 00138900", DropMirrorPayload, 0, "")       // a service header
	f("geneve://", "00006558 00138900", accepted, 5001, "")            //
	f("geneve://", "01006558 00138900 01020300", accepted, 5001, "")   // with an option
	f("geneve://", "00806558 00138900", DropMirrorNoFrame, 0, "")      // control
	f("geneve://", "3f006558 00138900", DropMirrorHeader, 0, "")       // options beyond the end
	f("udp://:5", "", accepted, 0, "")                                 //
	f("udp://:5?link=raw", "", DropMirrorPayload, 0, "")               //
	f("tzsp://", "01000001 01", accepted, 0, "")                       //
	f("tzsp://", "01000001 00 290205dc 00 01", accepted, 0, "")        //
	f("tzsp://", "01040001 01", DropMirrorNoFrame, 0, "")              // keep-alive
	f("tzsp://", "01000001 29ff", DropMirrorHeader, 0, "")             // a tag beyond the end
	f("gre://", "00006558", accepted, 0, "")                           //
	f("gre://?key=9", "20006558 00000009", accepted, 9, "")            //
	f("gre://?key=9", "20006558 00000008", DropMirrorSession, 0, "")   //
	f("gre://", "20010800 00000009", DropMirrorHeader, 0, "")          // version 1
	f("erspan://", "000088be", accepted, 0, "")                        // type I
	f("erspan://?session=5", "100088be 00000001 10000005 00000007", accepted, 5, "")
	f("erspan://", "100088be 00000001 30000005 00000007", DropMirrorHeader, 0, "")
	f("erspan://", "100022eb 00000001 20000005 00000001 0000 8000", accepted, 5, "")
	f("erspan://", "100022eb 00000001 20000005 00000001 0000 801d 0000000000000000", accepted, 5, "")
}

// TestStripQuestion: what a tap asks before its first copy is no frame, and nothing wrong with it; a header alone that says something is.
func TestStripQuestion(t *testing.T) {
	f := func(url, packet string, reason int) {
		t.Helper()
		e, err := ParseEndpoint(url)
		if err != nil {
			t.Fatal(err)
		}
		var c copied
		if got := c.strip(&e, unhex(t, packet)); got != reason || c.hasSeq {
			t.Errorf("%s: %q: %d, sequence %t; want %d", url, packet, got, c.hasSeq, reason)
		}
	}
	for _, url := range []string{"vxlan://", "geneve://", "tzsp://", "udp://:5"} {
		f(url, "", DropMirrorNoFrame)
	}
	f("gre://", "00006558 00000000", DropMirrorNoFrame)
	f("gre://?key=9", "20006558 00000009", DropMirrorNoFrame)
	f("erspan://?session=5", "100088be 00000000 00000000 00000000", DropMirrorNoFrame)
	f("erspan://", "100022eb 00000000 00000000 00000000 00000000 00000000 00000000", DropMirrorNoFrame)
	f("vxlan://", "08000000", DropMirrorHeader)
	f("gre://", "00006558 00000001", DropMirrorPayload)
}

// TestStripTag puts tags back: the draft's En is 2 for 802.1Q, taken off, and 3 for a tag that is still there.
func TestStripTag(t *testing.T) {
	e := Endpoint{Encap: EncapERSPAN}
	f := func(before, want string, orig int) {
		t.Helper()
		var c copied
		if got := c.strip(&e, unhex(t, before+frameHex)); got != accepted || hex.EncodeToString(c.data) != hex.EncodeToString(unhex(t, want)) || c.orig != orig {
			t.Errorf("%s: %d, %x, %d bytes", before, got, c.data, c.orig)
		}
	}
	tagged := "ffffffffffff 020000000001 8100 a064 " + frameHex[len("ffffffffffff 020000000001 "):]
	f("100088be 00000001 1064b005 00000007", tagged, 46)
	f("100088be 00000001 1064a805 00000007", tagged, 46)
	f("100088be 00000001 1064b805 00000007", frameHex, 42)
	f("100088be 00000001 1064a005 00000007", frameHex, 42)
	f("100088be 00000001 1064a405 00000007", frameHex, 43) // cut: it was longer, and its header does not say by how much
}

func TestWholeLen(t *testing.T) {
	f := func(text string, want int) {
		t.Helper()
		if got := wholeLen(unhex(t, text)); got != want {
			t.Errorf("%s: %d, want %d", text, got, want)
		}
	}
	const macs = "ffffffffffff 020000000001 "
	f(macs+"0800 450005dc", 1514)
	f(macs+"8100 0005 0800 450005dc", 1518)
	f(macs+"86dd 60000000 0100", 14+40+256)
	f(macs+"0806 0001", 17)
	f(macs+"0800 4500", 17)
}

func TestERSPAN3(t *testing.T) {
	e := Endpoint{Encap: EncapERSPAN}
	var c copied
	// Granularity 2 with the platform's seconds, egress.
	b := unhex(t, "100022eb 00000009 20000005 00000064 0000 800d 14000001 65000000"+frameHex)
	if got := c.strip(&e, b); got != accepted || c.dir != frame.Egress || c.seq != 9 || c.stamp != (stamp{ns: 0x65000000*1e9 + 100, ok: true}) {
		t.Errorf("%d, %+v", got, c)
	}
	// 100 µs, wrapping.
	var k clock
	const tick = 100_000
	times := []int64{1<<32 - 2, 1<<32 - 1, 1, 0, 5}
	want := []int64{1000, 1000 + tick, 1000 + 3*tick, 1000 + 2*tick, 1000 + 7*tick}
	for i, n := range times {
		if got := k.time(stamp{ns: n * tick, wrap: 1 << 32 * tick, ok: true}, 1000+int64(i)); got != want[i] {
			t.Errorf("stamp %d: %d, want %d", n, got, want[i])
		}
	}
}

// TestWindow compares the window with a plain count, on sequences with losses, duplicates and disorder.
func TestWindow(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		first := rnd.Uint32()
		var sent []uint32
		lost := 0
		for i := range uint32(500) {
			if i > 0 && i < 499 && rnd.IntN(10) == 0 {
				lost++
				continue
			}
			sent = append(sent, first+i)
			if rnd.IntN(20) == 0 {
				sent = append(sent, first+i)
			}
		}
		for i := 1; i+30 < len(sent); i += 30 { // late by up to some places
			part := sent[i : i+30]
			rnd.Shuffle(len(part), func(i, j int) { part[i], part[j] = part[j], part[i] })
		}
		var w window
		got := 0
		for _, n := range sent {
			got += w.next(n)
		}
		if got += w.rest(); got != lost {
			t.Fatalf("%d lost, %d found", lost, got)
		}
	}
	f := func(want int, numbers ...uint32) {
		t.Helper()
		var w window
		got := 0
		for _, n := range numbers {
			got += w.next(n)
		}
		if got += w.rest(); got != want {
			t.Errorf("%v: %d lost, want %d", numbers, got, want)
		}
	}
	f(0, 5)
	f(3, 5, 9)
	f(999, 0, 1000)
	f(63, 0, 64)
	f(1, 1<<32-1, 1)
	f(0, 5000, 1, 2, 3)        // the sender began anew
	f(0, 5, 1<<31, 1<<31+1)    // the same, far ahead
	f(2, 100, 103, 10_000_000) // what was owed is counted once
}

func TestParseEndpoint(t *testing.T) {
	f := func(text, want, mistake string) {
		t.Helper()
		e, err := ParseEndpoint(text)
		switch {
		case mistake == "" && (err != nil || e.String() != want):
			t.Errorf("%s: %s, %v", text, e, err)
		case mistake != "" && (err == nil || !strings.Contains(err.Error(), mistake)):
			t.Errorf("%s: %v, want %q", text, err, mistake)
		}
	}
	f("vxlan://:4789", "vxlan://:4789", "")
	f("vxlan://", "vxlan://:4789", "")
	f("geneve://10.0.0.1?vni=5,6&from=10.0.0.0/8", "geneve://10.0.0.1:6081", "")
	f("erspan://[fd00::1]?session=0x3ff", "erspan://[fd00::1]", "")
	f("udp://:5555?link=raw", "udp://:5555", "")
	f("udp://", "", "no port")
	f("gre://:47", "", "has none")
	f("erspan://?session=1024", "", "0 to 1023")
	f("erspan://?sesion=1", "", `did you mean "session"`)
	f("tzsp://?vni=1", "", `"vni" is not known, use from`)
	f("vxlan://host.example", "", "IP addresses")
	f("vxlan://:99999", "", "port")
	f("http://", "", "want vxlan://")
	f("vxlan://?from=x", "", "prefix")
	f("vxlan://%zz", "", "invalid URL escape")
	f("erspan://?time=now", "", "sender, or receiver")
	f("vxlan:///x", "", "want vxlan://[ADDRESS][:PORT]")
}

func FuzzStrip(f *testing.F) {
	for _, before := range []string{"0800000000138900", "010065580013890001020300", "0100000100290205dc0001", "100088be000000011064b00500000007", "100022eb000000092000000500000064000080 0d1400000165000000"} {
		f.Add(uint8(len(before)), unhex(f, before+frameHex))
	}
	f.Fuzz(func(t *testing.T, kind uint8, b []byte) {
		e := Endpoint{Encap: Encap(int(kind) % len(encaps)), Link: frame.LinkEthernet}
		var c copied
		n := len(b)
		if c.strip(&e, b) == accepted && (len(c.data) == 0 || len(c.data) > n || c.orig < len(c.data)) {
			t.Fatalf("%+v of %d bytes", c, n)
		}
		(&window{}).next(c.seq)
	})
}
