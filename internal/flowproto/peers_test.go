package flowproto

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/flow"
	"crosstap/internal/testkit"
)

// captured is a UDP payload of a capture.
type captured struct {
	from    string
	port    uint16
	payload []byte
	timeNS  int64
}

// readPcap returns the UDP payloads of a little-endian capture of Ethernet frames with IPv4 or IPv6 and no options.
func readPcap(t testing.TB, path string) (all []captured) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for b = b[24:]; len(b) >= 16; {
		at := int64(binary.LittleEndian.Uint32(b))*1e9 + int64(binary.LittleEndian.Uint32(b[4:]))*1e3
		n := int(binary.LittleEndian.Uint32(b[8:]))
		f := b[16 : 16+n]
		b = b[16+n:]
		off := 34
		if f[12] == 0x86 {
			off = 54
		}
		if len(f) < off+8 || off == 34 && f[23] != 17 || off == 54 && f[20] != 17 {
			continue
		}
		udp := f[off:]
		size := min(int(binary.BigEndian.Uint16(udp[4:])), len(udp))
		all = append(all, captured{
			from: string(f[26:34]) + string(udp[:2]), port: binary.BigEndian.Uint16(udp[2:]), payload: udp[8:size:size], timeNS: at,
		})
	}
	return all
}

// writePcap writes payloads as UDP datagrams for tshark to read, from the given ports.
func writePcap(t testing.TB, port uint16, payloads [][]byte, from []uint16) string {
	t.Helper()
	b := binary.LittleEndian.AppendUint32(nil, 0xa1b2c3d4)
	b = append(b, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0)
	for i, p := range payloads {
		n := len(p) + 42
		b = binary.LittleEndian.AppendUint32(b, 1)
		b = binary.LittleEndian.AppendUint32(b, uint32(i))
		b = binary.LittleEndian.AppendUint32(b, uint32(n))
		b = binary.LittleEndian.AppendUint32(b, uint32(n))
		b = append(b, 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(n-14))
		b = append(b, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2)
		b = binary.BigEndian.AppendUint16(b, from[i])
		b = binary.BigEndian.AppendUint16(b, port)
		b = binary.BigEndian.AppendUint16(b, uint16(n-34))
		b = append(append(b, 0, 0), p...)
	}
	path := filepath.Join(t.TempDir(), "t.pcap")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// tsharkFlows returns, per datagram, the values of some fields in the order of the records.
func tsharkFlows(t testing.TB, path string, port uint16, fields []string) [][]string {
	t.Helper()
	args := []string{"-r", path, "-d", fmt.Sprintf("udp.port==%d,cflow", port), "-T", "fields", "-E", "separator=|", "-E", "aggregator=,"}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	out, err := exec.Command(testkit.Tool(t, "tshark"), args...).Output()
	if err != nil {
		t.Fatalf("tshark: %v", err)
	}
	var all [][]string
	for line := range strings.Lines(string(out)) {
		all = append(all, strings.Split(strings.TrimRight(line, "\n"), "|"))
	}
	return all
}

var tsharkNames = []struct{ tshark, ours string }{
	{"cflow.srcaddr", "sourceIPv4Address"}, {"cflow.dstaddr", "destinationIPv4Address"}, {"cflow.srcaddrv6", "sourceIPv6Address"},
	{"cflow.dstaddrv6", "destinationIPv6Address"}, {"cflow.srcport", "sourceTransportPort"}, {"cflow.dstport", "destinationTransportPort"},
	{"cflow.protocol", "protocolIdentifier"}, {"cflow.packets", "packetDeltaCount"}, {"cflow.octets", "octetDeltaCount"},
	{"cflow.inputint", "ingressInterface"}, {"cflow.outputint", "egressInterface"},
}

// The values of the NetFlow payloads of the corpus are tshark's, datagram by datagram and record by record. H3C's are left out: tshark
// does not read fields of variable length in version 9.
func TestNetFlowAgreesWithTshark(t *testing.T) {
	dir := filepath.Join(testkit.CorpusDir(t), "collect")
	var payloads [][]byte
	var cases []uint16 // one transport session each
	var where []string
	n := uint16(0)
	f := func(pattern string) {
		t.Helper()
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		sort.Slice(files, func(i, j int) bool { // templates first
			a, b := strings.Contains(files[i], "tpl"), strings.Contains(files[j], "tpl")
			return a && !b || a == b && files[i] < files[j]
		})
		n++
		for _, name := range files {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			payloads, cases, where = append(payloads, b), append(cases, 4096+n), append(where, filepath.Base(name))
		}
	}
	for _, p := range []string{
		"netflow5_test_juniper*", "netflow5_test_microtik*", "netflow9_test_valid01*", "netflow9_test_invalid01*", "netflow9_test_macaddr*",
		"netflow9_test_cisco_1941K9*", "netflow9_test_cisco_aci*", "netflow9_test_cisco_asr9k_*260*", "netflow9_test_fortigate_fortios_521*",
		"netflow9_test_fortigate_fortios_542*", "netflow9_test_iptnetflow*", "netflow9_test_paloalto*",
		"netflow9_test_ubnt*", "netflow9_test_unknown*", "netflow9_test_0length*", "netflow9_cisco_asr1001x*", "netflow9_test_streamcore*256*",
	} {
		f("logstash-codec-netflow/" + p)
	}
	f("telegraf/netflow_v5_example/*.bin")
	f("telegraf/netflow_v9_example/*.bin")
	var names []string
	for _, n := range tsharkNames {
		names = append(names, n.tshark)
	}
	want := tsharkFlows(t, writePcap(t, 2055, payloads, cases), 2055, names)
	compared := 0
	sessions := map[uint16]*Session{}
	for i, p := range payloads {
		s := sessions[cases[i]]
		if s == nil {
			s = NewSession(Limits{})
			sessions[cases[i]] = s
		}
		for k, text := range tsharkValues(s, p) {
			if strings.Join(text, ",") != want[i][k] {
				t.Errorf("%s: %s: we have %.200s, tshark %.200s", where[i], names[k], strings.Join(text, ","), want[i][k])
			}
			compared += len(text)
		}
	}
	if compared < 1500 {
		t.Errorf("compared only %d values", compared)
	}
}

// tsharkValues are our values of a datagram's own records, for each of tsharkNames.
func tsharkValues(s *Session, payload []byte) [][]string {
	got := make([][]string, len(tsharkNames))
	_, _ = s.Walk(payload, 0, func(it *Item) {
		if it.Data == nil || it.Late {
			return
		}
		for v := range it.Fields() {
			for k, n := range tsharkNames {
				if v.Name() == n.ours {
					got[k] = append(got[k], v.Text())
				}
			}
		}
	})
	return got
}

// softflowd's flows in version 5 and 9 are those that nfdump reads.
func TestSoftflowdAgreesWithNfdump(t *testing.T) {
	f := func(name string, records int) {
		t.Helper()
		var want []map[string]any
		b, err := os.ReadFile(testkit.Corpus(t, "collect/softflowd-lab/"+name+".nfdump.json"))
		if err == nil {
			err = json.Unmarshal(b, &want)
		}
		if err != nil {
			t.Fatal(err)
		}
		s := NewSession(Limits{})
		var recs []flow.Record
		for _, d := range readPcap(t, testkit.Corpus(t, "collect/softflowd-lab/"+name+".pcap")) {
			var res Result
			recs, res, err = s.Decode(d.payload, d.timeNS, recs)
			if err != nil || res.Lost != 0 {
				t.Fatalf("%s: %v, %+v", name, err, res)
			}
		}
		var ours, theirs []string
		for _, r := range recs {
			if r.Proto == 58 {
				r.ICMPTypeCode = 0 // nfdump leaves it out
			}
			ours = append(ours, fmt.Sprint(r.Src, r.Dst, r.SrcPort, r.DstPort, r.ICMPTypeCode, r.Proto, r.Packets, r.Octets, r.ToS, stamp(r.StartNS), stamp(r.EndNS)))
		}
		for _, w := range want {
			theirs = append(theirs, nfdumpLine(w))
		}
		sort.Strings(ours)
		sort.Strings(theirs)
		if d := cmp.Diff(theirs, ours); d != "" || len(recs) != records {
			t.Errorf("%s: %d records (-nfdump +us):\n%s", name, len(recs), d)
		}
	}
	f("softflowd-v5", 112)
	f("softflowd-v9", 125)
}

func stamp(ns int64) string { return time.Unix(0, ns).UTC().Format("2006-01-02T15:04:05.000") }

func nfdumpLine(w map[string]any) string {
	text := func(names ...string) string {
		for _, n := range names {
			if v, ok := w[n]; ok {
				return fmt.Sprint(v)
			}
		}
		return "0"
	}
	num := func(name string) uint64 {
		v, _ := strconv.ParseFloat(text(name), 64)
		return uint64(v)
	}
	addr := func(names ...string) flow.Addr { return flow.FromNetip(netip.MustParseAddr(text(names...))) }
	icmp := uint16(num("icmp_type")<<8 | num("icmp_code"))
	return fmt.Sprint(addr("src4_addr", "src6_addr"), addr("dst4_addr", "dst6_addr"), num("src_port"), num("dst_port"), icmp, num("proto"),
		num("in_packets"), num("in_bytes"), num("src_tos"), text("first"), text("last"))
}

// The two datagrams that send another decoder into an endless loop: a withdrawal, then data. And noise in every length.
func TestWithdrawalThenData(t *testing.T) {
	s := NewSession(Limits{})
	withdrawal := []byte{0, 10, 0, 24, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2, 0, 8, 1, 0, 0, 0}
	data := []byte{0, 10, 0, 24, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 8, 1, 2, 3, 4}
	for range 1000 {
		_, res, err := s.Decode(withdrawal, 1, nil)
		if err != nil || res.Withdrawals != 1 {
			t.Fatalf("%+v, %v", res, err)
		}
		recs, res, _ := s.Decode(data, 1, nil)
		if len(recs) != 0 || res.MissingSets != 1 {
			t.Fatalf("%d records, %+v", len(recs), res)
		}
	}
	if sets, n := s.Pending(); sets > 1024 || n > 4096 {
		t.Errorf("%d sets with %d bytes wait", sets, n)
	}
	if _, res, err := s.Decode(bytes.Repeat([]byte{7}, 40), 1, nil); err == nil || res.Problems[BadVersion] != 1 {
		t.Errorf("%+v, %v", res, err)
	}
}

// Templates of IPFIX and of NetFlow v9 survive a restart together.
func TestRestore(t *testing.T) {
	a := NewSession(Limits{})
	dir := testkit.Corpus(t, "collect/logstash-codec-netflow")
	for _, name := range []string{"ipfix_test_vmware_vds_tpl.dat", "netflow9_test_cisco_asa_1_tpl.dat", "netflow9_test_juniper_srx_tplopt.dat"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := a.Decode(b, 1, nil); err != nil {
			t.Fatal(err)
		}
	}
	saved := a.AppendTemplates(nil)
	b := NewSession(Limits{})
	if res, err := b.Restore(saved, 2); err != nil || res.Templates != a.Templates() || b.Fields() != a.Fields() {
		t.Fatalf("%+v, %v", res, err)
	}
	if !bytes.Equal(saved, b.AppendTemplates(nil)) {
		t.Error("templates changed")
	}
	for name, want := range map[string]int{"ipfix_test_vmware_vds_data264.dat": 1, "netflow9_test_cisco_asa_1_data.dat": 14} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if _, res, err := b.Decode(data, 3, nil); err != nil || res.Records < want || res.Lost != 0 {
			t.Errorf("%s: %+v, %v", name, res, err)
		}
	}
}
