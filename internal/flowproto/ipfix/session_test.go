package ipfix

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/flow"
	"crosstap/internal/flowproto/decode"
)

// turn is one datagram and what is expected of it.
type turn struct {
	msg  []byte
	want Result
	err  string
}

// play decodes datagrams in turn and compares the results, without the fields of the header.
func play(t *testing.T, s *Session, turns ...turn) (recs []flow.Record) {
	t.Helper()
	for i, st := range turns {
		var res Result
		var err error
		recs, res, err = s.Decode(st.msg, int64(i+1), recs)
		res.Protocol, res.Domain, res.ExportTime, res.Sequence = 0, 0, time.Time{}, 0
		if st.want.Messages == 0 && st.err == "" {
			st.want.Messages = 1
		}
		if diff := cmp.Diff(st.want, res); diff != "" {
			t.Errorf("turn %d (-want +got):\n%s", i, diff)
		}
		text := ""
		if err != nil {
			text = err.Error()
		}
		if text != st.err {
			t.Errorf("turn %d: error %q, want %q", i, text, st.err)
		}
	}
	return recs
}

var (
	twoPorts = template(300, 7, 2, 11, 2)
	tpl300   = set(2, twoPorts)
)

func TestMissingTemplateComesLater(t *testing.T) {
	s := NewSession(Limits{})
	data := set(300, bytesOf(0, 80, 1, 0, 0, 81, 1, 1))
	recs := play(t, s,
		turn{msg: message(1, 0, data), want: Result{MissingSets: 1}},
		turn{msg: message(1, 2, tpl300, set(300, bytesOf(0, 82, 1, 2))), want: Result{Templates: 1, Records: 3, LateRecords: 2}},
	)
	var ports []uint16
	for i := range recs {
		ports = append(ports, recs[i].SrcPort)
	}
	if !cmp.Equal(ports, []uint16{80, 81, 82}) || recs[0].RecvNS != 1 || recs[2].RecvNS != 2 {
		t.Errorf("records %+v", recs)
	}
	if sets, n := s.Pending(); sets != 0 || n != 0 {
		t.Errorf("%d sets, %d bytes still wait", sets, n)
	}
}

func TestPendingIsBounded(t *testing.T) {
	s := NewSession(Limits{PendingSets: 4, PendingBytes: 100, PendingAge: time.Hour})
	for i := range 1000 {
		_, _, _ = s.Decode(message(1, uint32(i), set(400, make([]byte, 30))), int64(i), nil)
	}
	if sets, n := s.Pending(); sets != 3 || n != 90 {
		t.Errorf("%d sets with %d bytes wait, want 3 with 90", sets, n)
	}
	_, res, err := s.Decode(message(1, 0, set(400, make([]byte, 200))), 0, nil)
	if res.Problems[decode.PendingLimit] != 1 || err == nil {
		t.Errorf("a set larger than the whole buffer: %+v, %v", res, err)
	}
	_, res, _ = s.Decode(message(1, 0, set(401, make([]byte, 8))), 2*int64(time.Hour), nil)
	if sets, _ := s.Pending(); sets != 1 || res.Problems[decode.PendingLimit] != 3 {
		t.Errorf("%d sets wait after their time, %+v", sets, res)
	}
}

// Open vSwitch up to 3.1 sends its templates in one domain only.
func TestBorrow(t *testing.T) {
	s := NewSession(Limits{})
	recs := play(t, s,
		turn{msg: message(1, 0, tpl300), want: Result{Templates: 1}},
		turn{msg: message(2, 0, set(300, bytesOf(0, 80, 1, 0))), want: Result{Records: 1, Borrowed: 1}},
		turn{msg: message(2, 1, set(300, bytesOf(0, 80, 1, 0, 9, 9))), want: Result{MissingSets: 1}}, // does not fit
		turn{msg: message(3, 2, set(2, template(300, 4, 1, 5, 1))), want: Result{Templates: 1}},
		turn{msg: message(2, 2, set(300, bytesOf(0, 80, 1, 0))), want: Result{MissingSets: 1}}, // two that differ fit
		turn{msg: message(2, 3, set(2, template(300, 10, 4))), want: Result{Templates: 1, Records: 2, LateRecords: 2}},
	)
	if !recs[0].Is(flow.MarkBorrowed) || recs[1].Is(flow.MarkBorrowed) || recs[2].InIf != 0x500100 {
		t.Errorf("records %+v", recs)
	}
}

func TestWithdrawal(t *testing.T) {
	s := NewSession(Limits{})
	data := set(300, bytesOf(0, 80, 1, 0))
	play(t, s,
		turn{msg: message(1, 0, tpl300, set(3, optionsTemplate(301, 1, 144, 4, 167, 8))), want: Result{Templates: 2}},
		turn{msg: message(1, 0, set(2, withdrawal(300))), want: Result{Withdrawals: 1}},
		turn{msg: message(1, 0, data), want: Result{MissingSets: 1}},
		turn{msg: message(1, 1, tpl300), want: Result{Templates: 1, Records: 1, LateRecords: 1}},
		turn{msg: message(1, 1, set(2, withdrawal(2))), want: Result{Withdrawals: 1}}, // all templates
		turn{msg: message(1, 1, set(301, make([]byte, 12))), want: Result{OptionRecords: 1}},
		turn{msg: message(1, 2, set(3, withdrawal(3))), want: Result{Withdrawals: 1}}, // all options templates
		turn{msg: message(1, 2, set(301, make([]byte, 12)), data), want: Result{MissingSets: 2}},
	)
	if s.Templates() != 0 {
		t.Errorf("%d templates left", s.Templates())
	}
}

func TestRedefinition(t *testing.T) {
	s := NewSession(Limits{})
	recs := play(t, s,
		turn{msg: message(1, 0, tpl300), want: Result{Templates: 1}},
		turn{msg: message(1, 0, tpl300), want: Result{Templates: 1}},
		turn{msg: message(1, 0, set(2, template(300, 10, 4))), want: Result{Templates: 1, Redefined: 1}},
		turn{msg: message(1, 0, set(300, bytesOf(0, 0, 0, 9))), want: Result{Records: 1}},
	)
	if recs[0].InIf != 9 {
		t.Errorf("record %+v", recs[0])
	}
}

func TestTemplatesAreBounded(t *testing.T) {
	s := NewSession(Limits{Templates: 3})
	for i := range 100 {
		_, _, _ = s.Decode(message(1, 0, set(2, template(uint16(256+i), 7, 2))), int64(i), nil)
	}
	if s.Templates() != 3 || s.Find(1, 355) == nil || s.Find(1, 256) != nil {
		t.Errorf("%d templates kept", s.Templates())
	}
}

// Two datagrams of 24 bytes make another decoder run for ever: a withdrawal and then data of the template.
func TestWithdrawalThenData(t *testing.T) {
	play(t, NewSession(Limits{}),
		turn{msg: message(1, 0, set(2, withdrawal(256))), want: Result{Withdrawals: 1}},
		turn{msg: message(1, 0, set(256, bytesOf(0, 0, 0, 0))), want: Result{MissingSets: 1}},
	)
}

func TestHostile(t *testing.T) {
	f := func(name string, b []byte, want Reason, text string) {
		t.Helper()
		s := NewSession(Limits{})
		recs, res, err := s.Decode(b, 0, nil)
		var e *Error
		if !errors.As(err, &e) || e.Reason != want || res.Problems[want] == 0 || len(recs) > 0 || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v, %+v", name, err, res)
		}
	}
	long := message(1, 0)
	long[3] = 200
	f("length beyond the end", long, decode.ShortMessage, "needs 200 bytes, 16 there")
	f("version 9", []byte{0, 9, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, decode.BadVersion, "version is 9")
	f("length 0", []byte{0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, decode.BadLength, "length is 0")
	f("short", []byte{0, 10}, decode.ShortMessage, "needs 16 bytes, 2 there")
	f("zeros after the header", message(1, 0, make([]byte, 40)), decode.BadSet, "set 0 at offset 16: length is 0, 40 bytes left")
	f("set of length 3", message(1, 0, []byte{1, 0, 0, 3, 0}), decode.BadSet, "length is 3")
	f("set beyond the message", message(1, 0, []byte{1, 0, 0, 9, 0}), decode.BadSet, "length is 9, 5 bytes left")
	f("reserved set", message(1, 0, set(5)), decode.UnknownSet, "identifier 5 is reserved")
	f("template of no bytes", message(1, 0, set(2, template(256, 210, 0)), set(256, make([]byte, 8))), decode.BadTemplate, "template 256")
	f("template cut", message(1, 0, set(2, template(256, 7, 2, 11, 2)[:10])), decode.BadTemplate, "needs 12 bytes, 10 left")
	f("1000 fields", message(1, 0, set(2, []byte{1, 0, 3, 232, 0, 7, 0, 2})), decode.BadTemplate, "template 256")
	f("reserved template id", message(1, 0, set(2, template(20, 7, 2))), decode.BadTemplate, "template 20")
	f("scope of 9 fields", message(1, 0, set(3, optionsTemplate(256, 9, 7, 2))), decode.BadTemplate, "template 256")
	f("template longer than a message", message(1, 0, set(2, template(256, 210, 65000, 210, 65000))), decode.BadTemplate, "template 256")
	f("string beyond the set", message(1, 0, set(2, template(256, 82, 65535)), set(256, bytesOf(9, 'a'))), decode.BadRecord, "record needs 10 bytes, 2 left")
	f("long string beyond the set", message(1, 0, set(2, template(256, 82, 65535)), set(256, bytesOf(255, 1))), decode.BadRecord, "record needs 3 bytes")
}

// What is left of a set behind its last record is padding; messages may stand back to back.
func TestPaddingAndConcatenation(t *testing.T) {
	one := message(1, 0, tpl300, set(300, bytesOf(0, 80, 1, 0, 0, 0, 0)), set(300, bytesOf(0, 81, 1, 0)))
	two := message(1, 2, set(300, bytesOf(0, 82, 1, 0)))
	recs := play(t, NewSession(Limits{}), turn{msg: append(one, two...), want: Result{Messages: 2, Templates: 1, Records: 3}})
	if len(recs) != 3 || recs[2].SrcPort != 82 {
		t.Errorf("records %+v", recs)
	}
	padded := message(1, 0, set(2, twoPorts, make([]byte, 3)), set(3, optionsTemplate(301, 1, 144, 4), make([]byte, 2)))
	play(t, NewSession(Limits{}), turn{msg: padded, want: Result{Templates: 2}})
}

// Interface names are shared between records and their number is bounded.
func TestObserverNames(t *testing.T) {
	s := NewSession(Limits{Names: 2})
	tpl := set(2, template(300, 82, 65535, 61, 1, 82, 65535))
	recs := play(t, s, turn{msg: message(1, 0, tpl, set(300,
		bytesOf(2, 'i', 'n', 0, 3, 'o', 'u', 't'), bytesOf(2, 'i', 'n', 1, 3, 'o', 'u', 't'),
		bytesOf(2, 'x', 'y', 0, 0), bytesOf(2, 0xff, 'z', 0, 0), bytesOf(0, 0, 0))), want: Result{Templates: 1, Records: 5}})
	var got []string
	for i := range recs {
		got = append(got, recs[i].Observer)
	}
	if diff := cmp.Diff([]string{"in", "out", "xy", "\uFFFDz", ""}, got); diff != "" {
		t.Errorf("observers (-want +got):\n%s", diff)
	}
	if s.Names() > 2 {
		t.Errorf("%d names kept", s.Names())
	}
}

func TestSequence(t *testing.T) {
	s := NewSession(Limits{})
	n := func(domain, sequence uint32, records int) []byte {
		return message(domain, sequence, set(300, make([]byte, 4*records)))
	}
	const wrap = 1<<32 - 2
	play(t, s,
		turn{msg: message(1, 100, tpl300), want: Result{Templates: 1}},
		turn{msg: n(1, 100, 3), want: Result{Records: 3}},
		turn{msg: n(1, 110, 2), want: Result{Records: 2, Lost: 7}},
		turn{msg: n(1, 103, 5), want: Result{Records: 5, Found: 5}}, // out of order
		turn{msg: n(1, 112, 1), want: Result{Records: 1}},
		turn{msg: n(1, 112, 1), want: Result{Records: 1}}, // a duplicate
		turn{msg: n(1, 900000, 1), want: Result{Records: 1, Lost: 900000 - 113}},
		turn{msg: n(1, wrap, 2), want: Result{Records: 2}}, // far ahead: a restart
		turn{msg: n(1, 0, 1), want: Result{Records: 1}},    // the number wraps
		turn{msg: n(1, 3, 1), want: Result{Records: 1, Lost: 2}},
		turn{msg: n(1, wrap+1, 1), want: Result{Records: 1}}, // late, but nothing from before the wrap is missing
	)
}

// A record after a gap says so.
func TestGapIsMarked(t *testing.T) {
	s := NewSession(Limits{})
	recs := play(t, s,
		turn{msg: message(1, 0, tpl300, set(300, make([]byte, 4))), want: Result{Templates: 1, Records: 1}},
		turn{msg: message(1, 5, set(300, make([]byte, 4))), want: Result{Records: 1, Lost: 4}},
		turn{msg: message(1, 6, set(300, make([]byte, 4))), want: Result{Records: 1}},
	)
	if recs[0].Is(flow.MarkGap) || !recs[1].Is(flow.MarkGap) || recs[2].Is(flow.MarkGap) {
		t.Errorf("marks %v %v %v", recs[0].Marks, recs[1].Marks, recs[2].Marks)
	}
}

// Open vSwitch counts over all domains of a session, RFC 7011 says within each; neither shows a loss.
func TestSequenceAcrossDomains(t *testing.T) {
	one := func(domain, sequence uint32) []byte { return message(domain, sequence, set(300, make([]byte, 4))) }
	f := func(name string, next func(i int) (domain, sequence uint32)) {
		t.Helper()
		s := NewSession(Limits{})
		_, _, _ = s.Decode(message(1, 0, tpl300), 0, nil)
		_, _, _ = s.Decode(message(2, 0, tpl300), 0, nil)
		lost := uint64(0)
		for i := range 200 {
			if i == 150 {
				continue // one is lost
			}
			_, res, err := s.Decode(one(next(i)), 0, nil)
			if err != nil {
				t.Fatal(err)
			}
			lost += res.Lost
		}
		if lost != 1 {
			t.Errorf("%s: %d records lost, want 1", name, lost)
		}
	}
	f("inclusive", func(i int) (uint32, uint32) { return 1, uint32(i + 1) })
	f("per session", func(i int) (uint32, uint32) { return uint32(i%3%2 + 1), uint32(i) })
	f("per domain", func(i int) (uint32, uint32) { return uint32(i%2 + 1), uint32(i / 2) })
}

// Records that could not be counted make no loss of the next message.
func TestNoLossAfterMissingTemplate(t *testing.T) {
	s := NewSession(Limits{})
	play(t, s,
		turn{msg: message(1, 0, tpl300, set(300, make([]byte, 4))), want: Result{Templates: 1, Records: 1}},
		turn{msg: message(1, 1, set(301, make([]byte, 40))), want: Result{MissingSets: 1}},
		turn{msg: message(1, 9, set(300, make([]byte, 4))), want: Result{Records: 1}},
	)
}
