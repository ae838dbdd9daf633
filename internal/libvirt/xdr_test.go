package libvirt

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Bytes by hand, after RFC 4506 and remote_protocol.x.
func TestDecode(t *testing.T) {
	d := newDecoder(unhex(t, "00000003 77656200 6695eb01f6a4830479aa97f2502e1900 00000001"))
	got := d.domain()
	want := Domain{Name: "web", UUID: [16]byte{0x66, 0x95, 0xeb, 0x01, 0xf6, 0xa4, 0x83, 0x04, 0x79, 0xaa, 0x97, 0xf2, 0x50, 0x2e, 0x19, 0x00}, ID: 1}
	if diff := cmp.Diff(want, got); diff != "" || d.end() != nil {
		t.Error(diff, d.end())
	}
	if got.UUIDText() != "6695eb01-f6a4-8304-79aa-97f2502e1900" {
		t.Error(got.UUIDText())
	}
	e := newDecoder(unhex(t, "00000007 00000003 77656200 6695eb01f6a4830479aa97f2502e1900 ffffffff 00000005 00000003"))
	event, ok := e.event(procEventLifecycle)
	want.ID = -1
	if diff := cmp.Diff(Event{Kind: Lifecycle, Domain: want, What: Stopped, Detail: StoppedMigrated}, event); diff != "" || !ok {
		t.Error(diff, ok)
	}
	if !event.Migrated() || event.String() != "stopped (migrated)" {
		t.Error(event)
	}
}

func TestEncode(t *testing.T) {
	h := header{programRemote, programVersion, procOpen, typeCall, 5, statusOK}
	var args encoder
	args.optional("qemu:///system")
	args.u32(flagReadOnly)
	got := hex.EncodeToString(append(h.append(nil, len(args.b)), args.b...))
	want := "00000038" + "20008086" + "00000001" + "00000001" + "00000000" + "00000005" + "00000000" +
		"00000001" + "0000000e" + hex.EncodeToString([]byte("qemu:///system")) + "0000" + "00000001"
	if got != want {
		t.Errorf("\n%s, want\n%s", got, want)
	}
}

func TestMistakes(t *testing.T) {
	f := func(text, want string, read func(*decoder)) {
		t.Helper()
		d := newDecoder(unhex(t, text))
		read(d)
		if err := d.end(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	f("ffffffff", "a string of 4294967295 bytes, at most 4194304", func(d *decoder) { d.str() })
	f("00000005 61626364", "too short", func(d *decoder) { d.str() })
	f("00000003 616263", "too short", func(d *decoder) { d.str() }) // without its padding
	f("00000002 00000000", "neither 0 nor 1", func(d *decoder) { d.optional() })
	f("00010000", "65536 elements, at most 16384", func(d *decoder) { d.count(maxDomains, leastDomain) })
	f("00000003 00000000", "too short", func(d *decoder) { d.count(maxDomains, leastDomain) })
	f("00000001 00000000", "4 bytes left over", func(d *decoder) { d.u32() })

	long := binary.BigEndian.AppendUint32(nil, maxMessage+1)
	if _, err := message(bytes.NewReader(long)); err == nil || !strings.Contains(err.Error(), "16777217 bytes") {
		t.Error(err)
	}
	if _, err := message(bytes.NewReader(unhex(t, "0000001b"))); err == nil || !strings.Contains(err.Error(), "27 bytes") {
		t.Error(err)
	}
}

func TestDescription(t *testing.T) {
	f := func(text, mistake string) {
		t.Helper()
		if _, err := ParseDescription(text); err == nil || !strings.Contains(err.Error(), mistake) {
			t.Errorf("%.40s: %v, want %q", text, err, mistake)
		}
	}
	f("", "EOF")
	f("<domain/>", "it has no name")
	f("<domain><name>x</name><devices>"+strings.Repeat("<interface/>", maxNICs+1)+"</devices></domain>", "1025 adapters, at most 1024")
}

func FuzzXDR(f *testing.F) {
	f.Add(unhex(f, "20008086 00000001 00000111 00000001 00000003 00000000 00000001 00000003 77656200 6695eb01f6a4830479aa97f2502e1900 00000001 00000001"))
	f.Add(unhex(f, "20008086 00000001 0000013e 00000002 00000000 00000000 00000007 00000003 77656200 6695eb01f6a4830479aa97f2502e1900 ffffffff 00000005 00000003"))
	f.Add(unhex(f, "20008086 00000001 00000001 00000001 00000001 00000001 0000002a 0000000a 00000001 00000002 6e6f0000 00000002 00000000 00000000 00000000 00000000 ffffffff ffffffff 00000000"))
	f.Add(unhex(f, "6b656570 00000001 00000001 00000002 00000000 00000000"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for n := range min(len(b), 200) + 1 { // any prefix too
			decodeAll(t, b[:n])
		}
		decodeAll(t, b)
	})
}

// decodeAll reads bytes as everything that a daemon sends. What is read whole is written as the same bytes.
func decodeAll(t *testing.T, b []byte) {
	d := newDecoder(b)
	h := d.header()
	if d.failed() {
		return
	}
	body := b[headerLen:]
	for _, procedure := range []int32{procEventLifecycle, procEventAdded, procEventRemoved, h.procedure} {
		newDecoder(body).event(procedure)
	}
	_ = refusal(newDecoder(body))
	x := newDecoder(body)
	for range x.count(maxIfaces, 12) {
		x.interfaceAddrs()
	}
	x = newDecoder(body)
	var again encoder
	list := make([]Domain, 0)
	for range x.count(maxDomains, leastDomain) {
		list = append(list, x.domain())
	}
	if x.end() != nil {
		return
	}
	again.u32(uint32(len(list)))
	for _, dom := range list {
		again.domain(dom)
	}
	if len(again.b) != len(body) {
		t.Errorf("%d domains take %d bytes, were %d", len(list), len(again.b), len(body))
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
