package ipfix

import (
	"testing"

	"crosstap/internal/flow"
	"crosstap/internal/testkit"
	"crosstap/test/bench/vds"
)

// Decoding allocates nothing once the templates are known: fixed and variable records, names, biflows, templates that
// come again.
func TestDecodeDoesNotAllocate(t *testing.T) {
	f := func(name string, msgs [][]byte) {
		t.Helper()
		s, recs := NewSession(Limits{}), make([]flow.Record, 0, 4096)
		for _, m := range msgs {
			recs, _, _ = s.Decode(m, 1, recs[:0])
		}
		n := testkit.Allocs(100, func() {
			for _, m := range msgs {
				recs, _, _ = s.Decode(m, 1, recs[:0])
			}
		})
		if n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	f("vds plain", vdsMessages(100, vds.Plain))
	f("vds vxlan", vdsMessages(100, vds.VXLAN))
	f("ovs profile", encoded(t, EncoderConfig{MaxLen: 1472}, sampleRecords()))
	f("vmware profile", encoded(t, EncoderConfig{Profile: VMware, MaxLen: 1472}, sampleRecords()))
	f("biflow", [][]byte{message(1, 0, set(2, template(256, 2, 8, 299, 8, 22, 4, 21, 4)), set(256, make([]byte, 23), []byte{1}))})
}

func TestEncodeDoesNotAllocate(t *testing.T) {
	for _, p := range []Profile{OVS, VMware} {
		e, recs := NewEncoder(EncoderConfig{Profile: p, MaxLen: 1472}), sampleRecords()
		emit := func([]byte, int) error { return nil }
		run := func() {
			for i := range recs {
				_ = e.Add(&recs[i], exportTime, emit)
			}
		}
		for range 10 {
			run()
		}
		if n := testkit.Allocs(100, run); n != 0 {
			t.Errorf("%s: %v allocations", p, n)
		}
	}
}
