package enrich

import (
	"math/rand/v2"
	"testing"

	"crosstap/internal/flow"
)

// The identifier that is remembered is that of the record's own place, whatever places share its slot.
func TestObserverIDs(t *testing.T) {
	rnd := rand.New(rand.NewPCG(21, 22))
	var remembered observerIDs
	seen := map[uint64]seenBy{}
	for range 100_000 {
		r := &flow.Record{
			Exporter: flow.V4([]byte{192, 0, 2, byte(rnd.IntN(2))}), Domain: uint32(rnd.IntN(2)), Point: rnd.Uint64N(2), OutIf: uint32(rnd.IntN(3)),
			Observer: [...]string{"", "a", "b"}[rnd.IntN(3)], Role: flow.Role(rnd.IntN(3)), Direction: [...]uint8{0, 1, 255}[rnd.IntN(3)],
			Dst: [...]flow.Addr{flow.V4([]byte{10, 0, 0, 1}), flow.V4([]byte{224, 0, 0, 1})}[rnd.IntN(2)], DstMAC: [...]flow.MAC{2, 1 << 40}[rnd.IntN(2)],
		}
		place := observerPlace(r)
		id := remembered.of(r)
		if want := place.id(); id != want {
			t.Fatalf("%+v: identifier %x, want %x", place, id, want)
		}
		if other, met := seen[id]; met && other != place {
			t.Fatalf("%+v and %+v have one identifier", place, other)
		}
		seen[id] = place
	}
}
