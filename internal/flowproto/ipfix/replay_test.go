package ipfix

import (
	"testing"

	"crosstap/internal/flow"
)

// A stored run comes back whole over each new connection, each template once; a template that another version stored differently is
// withdrawn first.
func TestReplay(t *testing.T) {
	msgs := encoded(t, EncoderConfig{Domain: 7, MaxLen: 600}, sampleRecords())
	p := NewReplay()
	for range 2 {
		p.Connect()
		s := NewSession(Limits{})
		var recs []flow.Record
		templates := 0
		for _, m := range msgs {
			out, err := p.Message(m)
			if err != nil {
				t.Fatal(err)
			}
			if out == nil {
				continue
			}
			r, res, err := s.Decode(out, 1, recs)
			if err != nil || res.Lost != 0 || res.MissingSets != 0 || res.Redefined != 0 || res.Withdrawals != 0 {
				t.Errorf("%v %+v", err, res)
			}
			recs, templates = r, templates+res.Templates
		}
		if len(recs) != len(sampleRecords()) || templates == 0 {
			t.Errorf("%d records, %d templates", len(recs), templates)
		}
	}
	s := NewSession(Limits{})
	p.Connect()
	withdrawn := 0
	for _, m := range [][]byte{
		message(7, 0, set(2, template(300, 2, 8, 1, 8)), set(300, make([]byte, 16))),
		message(7, 9, set(300, make([]byte, 32))),
		message(7, 0, set(2, template(300, 2, 4, 1, 4)), set(300, make([]byte, 8))),
	} {
		out, err := p.Message(m)
		if err != nil {
			t.Fatal(err)
		}
		_, res, err := s.Decode(out, 1, nil)
		if err != nil || res.Lost != 0 || res.MissingSets != 0 {
			t.Errorf("%v %+v", err, res)
		}
		withdrawn += res.Withdrawals
	}
	if withdrawn != 1 {
		t.Errorf("%d withdrawals", withdrawn)
	}
	if _, err := p.Message(message(7, 0, set(999, []byte{1}))); err == nil {
		t.Error("a set without template was taken")
	}
}

// Whatever a file holds, there is an error or a message of sound lengths.
func FuzzReplay(f *testing.F) {
	for _, m := range encoded(f, EncoderConfig{Domain: 7, MaxLen: 600}, sampleRecords()) {
		f.Add(m)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p := NewReplay()
		if len(b) < HeaderLen || p.Learn(b) != nil {
			return
		}
		out, err := p.Message(b)
		if err == nil && out != nil {
			if h, err := ParseHeader(out); err != nil || h.Length != len(out) {
				t.Errorf("%v %+v", err, h)
			}
		}
	})
}
