package ie

import (
	"iter"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"crosstap/internal/testkit"
)

func TestLookup(t *testing.T) {
	f := func(pen uint32, id uint16, name string, typ Type, s Semantics, u Unit) {
		t.Helper()
		e, ok := Lookup(pen, id)
		if !ok {
			t.Errorf("Lookup(%d, %d) found nothing, want %s", pen, id, name)
			return
		}
		if e.PEN != pen || e.ID != id || e.Name != name || e.Type != typ || e.Semantics != s || e.Unit != u {
			t.Errorf("Lookup(%d, %d) = %+v", pen, id, *e)
		}
	}
	f(0, 1, "octetDeltaCount", Unsigned64, DeltaCounter, Octets)
	f(0, 8, "sourceIPv4Address", IPv4Address, Default, NoUnit)
	f(0, 28, "destinationIPv6Address", IPv6Address, Default, NoUnit)
	f(0, 56, "sourceMacAddress", MACAddress, Default, NoUnit)
	f(0, 82, "interfaceName", String, Default, NoUnit)
	f(0, 152, "flowStartMilliseconds", DateTimeMilliseconds, Default, Milliseconds)
	f(0, 290, "encryptedTechnology", String, Default, NoUnit)
	f(0, 291, "basicList", BasicList, List, NoUnit)
	f(0, 351, "layer2SegmentId", Unsigned64, Identifier, NoUnit)
	f(0, 533, "pathDelaySumDeltaMicroseconds", Unsigned64, Quantity, Microseconds)
	f(6876, 880, "tenantProtocol", Unsigned8, Identifier, NoUnit)
	f(6876, 892, "tunnelKey", OctetArray, Default, NoUnit)
	f(6876, 898, "virtualObsID", String, Default, NoUnit)
	f(29305, 1, "reverseOctetDeltaCount", Unsigned64, DeltaCounter, Octets)
	f(29305, 6, "reverseTcpControlBits", Unsigned16, Flags, NoUnit)
}

func TestNotThere(t *testing.T) {
	f := func(pen uint32, id uint16) {
		t.Helper()
		if e, ok := Lookup(pen, id); ok {
			t.Errorf("Lookup(%d, %d) = %+v, want none", pen, id, *e)
		}
	}
	f(0, 0)
	f(0, 65)    // reserved in the registry
	f(0, 97)    // reserved in the registry
	f(0, 416)   // deprecated, a duplicate of 352
	f(0, 65535) //
	f(6876, 885)
	f(29305, 148) // flowId has no reverse
	f(29305, 210)
	f(1, 1)
}

// Every row says something that can be sent: names are unique inside a book and types have lengths.
func TestTables(t *testing.T) {
	seen := map[string]bool{}
	n := 0
	for e := range all() {
		k := strconv.Itoa(int(e.PEN)) + e.Name
		if seen[k] {
			t.Errorf("%d/%d: name %q stands twice", e.PEN, e.ID, e.Name)
		}
		seen[k] = true
		if e.Type.String() == "" || e.Type.Len() == 0 || e.Semantics.String() == "" {
			t.Errorf("%+v is incomplete", *e)
		}
		if e.PEN == IANA {
			n++
		}
	}
	if n < 490 {
		t.Errorf("only %d IANA elements", n)
	}
}

func TestFits(t *testing.T) {
	f := func(typ Type, n int, want bool) {
		t.Helper()
		if got := typ.Fits(n); got != want {
			t.Errorf("%s.Fits(%d) = %v", typ, n, got)
		}
	}
	f(Unsigned64, 8, true)
	f(Unsigned64, 3, true)
	f(Unsigned64, 0, false)
	f(Unsigned16, 4, false)
	f(Signed32, 2, true)
	f(Float64, 4, true)
	f(Float64, 5, false)
	f(IPv4Address, 4, true)
	f(IPv4Address, 3, false)
	f(DateTimeMilliseconds, 4, false)
	f(String, 0, true)
	f(MACAddress, 6, true)
}

func TestLookupDoesNotAllocate(t *testing.T) {
	n := testkit.Allocs(100, func() {
		Lookup(0, 8)
		Lookup(6876, 892)
		Lookup(29305, 1)
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Wireshark names most of IANA's elements as the registry does, and the others in the capitals of
// NetFlow v9; where it uses the registry's spelling we must agree.
func TestNamesAgreeWithTshark(t *testing.T) {
	out, err := exec.Command(testkit.Tool(t, "tshark"), "-G", "values").Output()
	if err != nil {
		t.Fatalf("tshark -G values: %v", err)
	}
	n := 0
	for line := range strings.Lines(string(out)) {
		f := strings.Split(strings.TrimSpace(line), "\t")
		if len(f) != 4 || f[1] != "cflow.template_ipfix_field_type" {
			continue
		}
		id, err := strconv.Atoi(f[2])
		if err != nil || id > 511 || f[3][0] < 'a' || strings.ContainsAny(f[3], " _") {
			continue
		}
		if id >= 213 && id <= 215 {
			continue // tshark 4.0 names these three after the collector, the registry after the export
		}
		e, ok := Lookup(IANA, uint16(id))
		if !ok || e.Name != f[3] {
			t.Errorf("element %d: tshark says %s, we %v", id, f[3], e)
		}
		n++
	}
	if n < 250 {
		t.Errorf("compared only %d names", n)
	}
}

// all yields IANA's elements by identifier, then the other enterprises' in no order.
func all() iter.Seq[*Element] {
	return func(yield func(*Element) bool) {
		all := iana()
		for i := range all {
			if all[i].Name != "" && !yield(&all[i]) {
				return
			}
		}
		for _, e := range byID() {
			if !yield(e) {
				return
			}
		}
	}
}
