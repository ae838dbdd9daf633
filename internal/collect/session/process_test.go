package session

import (
	"encoding/binary"
	"strings"
	"testing"

	"crosstap/internal/flowproto"
)

// A process that describes itself in domain 0 is no exporter beside its domains, and nothing is missing between its options.
func TestDomainZeroIsNoExporter(t *testing.T) {
	tab := table(t, nil)
	k := key("10.0.0.9:5000")
	all := ipfixMessage(0, set(3, append(words(300, 2, 1), words(144, 4, 34, 4)...)), set(300, []byte{0, 0, 0, 1, 0, 0, 0, 50}))
	binary.BigEndian.PutUint32(all[12:], 0)
	tab.Decode(k, base, all, nil)
	if x := tab.Exporters(base); len(x) != 1 || x[0].Domain != 0 || x[0].OptionRecords != 1 {
		t.Errorf("alone it stays listed: %+v", x)
	}
	tab.Decode(k, base, ipfixMessage(0, flowTemplate(256), flowRecord(256, 3, 4)), nil)
	if x := tab.Exporters(base); len(x) != 1 || x[0].Domain != 7 || x[0].Records != 1 {
		t.Errorf("%+v", x)
	}
	var silent []uint32
	for _, l := range tab.Tick(base + 3600*second) {
		if strings.Contains(l.Reason, ReasonSilent) {
			silent = append(silent, l.Domain)
		}
	}
	if len(silent) != 1 || silent[0] != 7 {
		t.Errorf("silent domains %v", silent)
	}
	// with records in domain 0 it is an exporter like others
	own := ipfixMessage(1, flowTemplate(256), flowRecord(256, 3, 4))
	binary.BigEndian.PutUint32(own[12:], 0)
	tab.Decode(k, base, own, nil)
	if x := tab.Exporters(base); len(x) != 2 {
		t.Errorf("%+v", x)
	}
}

// sFlow tells no time of export: there is nothing to measure a clock by, and times stay.
func TestSFlowHasNoSkew(t *testing.T) {
	tab := table(t, nil)
	var b []byte
	for _, w := range []uint32{5, 1, 0x0a000001, 0, 1, 1000, 0} { // version, IPv4 agent, sub-agent, sequence, uptime, no samples
		b = binary.BigEndian.AppendUint32(b, w)
	}
	tab.Decode(key("10.0.0.9:5000"), base, b, nil)
	x := tab.Exporters(base)
	if len(x) != 1 || x[0].Protocol != flowproto.SFlow || x[0].Datagrams != 1 || x[0].Skewed || x[0].SkewNS != 0 {
		t.Errorf("%+v", x)
	}
}
