package ipfix

import (
	"testing"

	"crosstap/internal/flowproto/decode"

	"github.com/google/go-cmp/cmp"
)

func TestReport(t *testing.T) {
	e, s := NewEncoder(EncoderConfig{Domain: 7, MaxLen: 1472}), NewSession(Limits{})
	var options []map[string][]string
	s.OnOption(func(it decode.Option) { options = append(options, fields(it.Item)) })
	flows, recs := 0, sampleRecords()[:3]
	emit := func(m []byte, n int) error {
		flows += n
		_, res, err := s.Decode(m, 0, nil)
		if err != nil || res.Lost != 0 {
			t.Errorf("%v, %+v", err, res)
		}
		return nil
	}
	for i := range recs {
		_ = e.Add(&recs[i], exportTime, emit)
	}
	_ = e.Report(42, NotSent{1, 2, 3}, exportTime, emit)
	_ = e.Add(&recs[0], exportTime, emit)
	_ = e.Report(42, NotSent{4, 5, 6}, exportTime, emit)
	want := []map[string][]string{
		{"exportingProcessId": {"42"}, "notSentFlowTotalCount": {"1"}, "notSentPacketTotalCount": {"2"}, "notSentOctetTotalCount": {"3"}},
		{"exportingProcessId": {"42"}, "notSentFlowTotalCount": {"4"}, "notSentPacketTotalCount": {"5"}, "notSentOctetTotalCount": {"6"}},
	}
	if diff := cmp.Diff(want, options); diff != "" || flows != 4 || e.Sequence() != 6 {
		t.Errorf("%d flows, sequence %d, options (-want +got):\n%s", flows, e.Sequence(), diff)
	}
}
