package ipfix

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/flowproto/about"
	"crosstap/internal/flowproto/decode"
)

// What an exporter tells of itself comes back, takes part in the sequence numbers, and has its templates told once.
func TestAbout(t *testing.T) {
	e, s := NewEncoder(EncoderConfig{Domain: 7, MaxLen: 1472}), NewSession(Limits{})
	var options []map[string][]string
	s.OnOption(func(it decode.Option) { options = append(options, fields(it.Item)) })
	flows, recs := 0, sampleRecords()[:3]
	emit := func(m []byte, n int) error {
		flows += n
		_, res, err := s.Decode(m, 0, nil)
		if err != nil || res.Lost != 0 || len(m) > 1472 {
			t.Errorf("%v, %+v, %d bytes", err, res, len(m))
		}
		return nil
	}
	for i := range recs {
		_ = e.Add(&recs[i], exportTime, emit)
	}
	x := about.Exporter{
		Process: 42, NotSent: about.Counts{Flows: 1, Packets: 2, Octets: 3}, Sent: about.Sent{Messages: 4, Flows: 5, Octets: 6},
		Ignored: &about.Counts{Packets: 7, Octets: 8}, Packets: about.Sampling{Interval: 64}, Flows: 4, Domain: "br0",
		Points:     []about.Point{{ID: 1, IfIndex: 9, Name: "vnet3", Switch: "br0"}},
		Interfaces: []about.Interface{{Index: 9, Name: "vnet3", Description: "web"}},
		VRFs:       []about.VRF{{ID: 10, Name: "blue"}},
		From:       time.UnixMilli(1000), To: time.UnixMilli(2500),
		Stages: []about.Stage{{Name: "capture frames", In: 10, Out: 8, InDelta: 5, DropDelta: 1, Dropped: []about.Dropped{{Reason: "kernel_dropped", Total: 2, Delta: 1}, {Reason: "none"}}}},
	}
	_ = e.About(&x, exportTime, emit)
	want := []map[string][]string{
		{"selectorId": {"1"}, "selectorAlgorithm": {"1"}, "samplingPacketInterval": {"1"}, "samplingPacketSpace": {"63"}},
		{"selectorId": {"2"}, "flowSelectorAlgorithm": {"4"}, "samplingProbability": {"0.25"}},
		{"ingressInterface": {"9"}, "interfaceName": {"vnet3"}, "interfaceDescription": {"web"}},
		{"ingressVRFID": {"10"}, "VRFname": {"blue"}},
		{"observationDomainId": {"7"}, "observationDomainName": {"br0"}},
		{"observationPointId": {"1"}, "ingressInterface": {"9"}, "virtualStationInterfaceName": {"vnet3"}, "observationDomainName": {"br0"}},
		{"exportingProcessId": {"42"}, "notSentFlowTotalCount": {"1"}, "notSentPacketTotalCount": {"2"}, "notSentOctetTotalCount": {"3"}},
		{"exportingProcessId": {"42"}, "exportedMessageTotalCount": {"4"}, "exportedFlowRecordTotalCount": {"5"}, "exportedOctetTotalCount": {"6"}},
		{"observationDomainId": {"7"}, "ignoredPacketTotalCount": {"7"}, "ignoredOctetTotalCount": {"8"}},
	}
	if len(options) != 11 {
		t.Fatalf("%d option records: %v", len(options), options)
	}
	if diff := cmp.Diff(want, options[:9]); diff != "" || flows != 3 || e.Sequence() != 3+6 {
		t.Errorf("%d flows, sequence %d, options (-want +got):\n%s", flows, e.Sequence(), diff)
	}
	stages := []map[string][]string{
		{"selectorId": {"16"}, "selectorName": {"capture frames"}, "flowStartMilliseconds": {"1970-01-01T00:00:01.000Z"}, "flowEndMilliseconds": {"1970-01-01T00:00:02.500Z"},
			"packetDeltaCount": {"5"}, "droppedPacketDeltaCount": {"1"}, "selectorIdTotalPktsObserved": {"10"}, "selectorIdTotalPktsSelected": {"8"}},
		{"selectorId": {"16"}, "selectorName": {"kernel_dropped"}, "flowStartMilliseconds": {"1970-01-01T00:00:01.000Z"}, "flowEndMilliseconds": {"1970-01-01T00:00:02.500Z"},
			"droppedPacketDeltaCount": {"1"}, "droppedPacketTotalCount": {"2"}},
	}
	if diff := cmp.Diff(stages, options[9:]); diff != "" {
		t.Errorf("ledger (-want +got):\n%s", diff)
	}
	_ = e.About(&x, exportTime, emit)
	_ = e.Add(&recs[0], exportTime, emit)
	_ = e.Flush(exportTime, emit)
	if len(options) != 22 || flows != 4 {
		t.Errorf("%d option records, %d flows", len(options), flows)
	}
}
