package message

import (
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/flow"
)

// random fills every field of a record.
func random(rnd *rand.Rand) (r flow.Record) {
	var fill func(v reflect.Value)
	fill = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.Struct:
			for i := range v.NumField() {
				fill(v.Field(i))
			}
		case reflect.Array:
			for i := range v.Len() {
				v.Index(i).SetUint(rnd.Uint64() & 255)
			}
		case reflect.String:
			v.SetString([]string{"", "a", "web-1", "ü\x00x"}[rnd.IntN(4)])
		case reflect.Int64:
			v.SetInt(rnd.Int64())
		default:
			v.SetUint(rnd.Uint64() >> (rnd.IntN(64)) & (1<<v.Type().Bits() - 1))
		}
	}
	fill(reflect.ValueOf(&r).Elem())
	// what the message does not tell apart
	r.Direction = []uint8{0, 1, 255}[rnd.IntN(3)]
	r.EndReason %= flow.EndResource + 1
	r.Sampling = max(r.Sampling, 1)
	if rnd.IntN(2) == 0 {
		r.Segment = flow.NewSegment([]flow.SegmentKind{0, 1, 2, 0xf1, 0xf2, 0xf3}[rnd.IntN(6)], rnd.Uint32()>>8)
	}
	if rnd.IntN(2) == 0 {
		r.Src, r.Tunnel.Src = flow.V4([]byte{10, 0, 0, 1}), flow.Addr{}
	}
	return r
}

// A record comes out as it went in; that the bytes are what the .proto file says, TestFlow has protoc's word for.
func TestParseBatch(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var b, room []byte
		var want []flow.Record
		for range rnd.IntN(5) {
			r := random(rnd)
			want = append(want, r)
			b, room = AppendBatchFlow(b, room, &r)
		}
		got, err := ParseBatch(b, nil, &Texts{})
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatal(d)
		}
	}
}

func TestParseBatchBad(t *testing.T) {
	f := func(b []byte, ok bool, n int) {
		t.Helper()
		got, err := ParseBatch(b, nil, &Texts{})
		if (err == nil) != ok || len(got) != n {
			t.Errorf("%d records, %v", len(got), err)
		}
	}
	f(nil, true, 0)
	f([]byte{0x0a, 0}, true, 1)           // an empty flow
	f([]byte{0x0a, 5, 1}, false, 0)       // five bytes, one there
	f([]byte{0x08, 1}, false, 0)          // a number in place of a flow
	f([]byte{0x12, 1, 9}, true, 0)        // a field that we do not know
	f([]byte{0x0a, 2, 0x38, 1}, false, 0) // observer as a number
	f([]byte{0x0a, 4, 0x22, 2, 1, 2}, false, 0)
	f([]byte{0x0a, 2, 0x60, 3}, true, 1) // a mark outside of a packed list
	f([]byte{0x0f}, false, 0)
}

func FuzzParseBatch(f *testing.F) {
	r := random(rand.New(rand.NewPCG(3, 4)))
	b, _ := AppendBatchFlow(nil, nil, &r)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		recs, err := ParseBatch(b, nil, &Texts{})
		if err != nil {
			return
		}
		var again, room []byte
		for i := range recs {
			again, room = AppendBatchFlow(again, room, &recs[i])
		}
		twice, err := ParseBatch(again, nil, &Texts{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range recs { // the same up to what messages do not tell apart
			recs[i].Sampling = max(recs[i].Sampling, 1)
			if recs[i].EndReason > flow.EndResource {
				recs[i].EndReason = 0
			}
			if recs[i].Direction > 1 {
				recs[i].Direction = 255
			}
		}
		if d := cmp.Diff(recs, twice); d != "" {
			t.Fatal(d)
		}
	})
}
