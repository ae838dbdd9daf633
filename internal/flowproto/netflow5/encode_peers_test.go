package netflow5

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/flow"
	"crosstap/internal/testkit"
)

// Records of foreign exporters, filled in again from their fields, become the same bytes.
func TestEncodeAsOthersDo(t *testing.T) {
	f := func(records int, payloads ...[]byte) {
		t.Helper()
		n := 0
		for _, want := range payloads {
			h := Header(want)
			if !h.Valid() {
				continue
			}
			uptime := time.Duration(h.UptimeMS()) * time.Millisecond
			ms := int64(h.UnixSecs())*1000 + int64(h.UnixNsecs())/1e6
			clock := time.UnixMilli(ms)
			c := EncoderConfig{Boot: clock.Add(-uptime), EngineType: h.EngineType(), EngineID: h.EngineID(), SamplingMode: h.SamplingMode()}
			e := NewEncoder(c)
			emit, got := collect()
			for at := HeaderLen; at < len(want); at += RecordLen {
				r := recordOf(h, Record(want[at:]), ms)
				if why, err := e.Add(&r, clock, emit); why != Taken || err != nil {
					t.Fatalf("%v, %v", why, err)
				}
				n++
			}
			e.seq = h.Sequence()
			if e.parts > 0 {
				e.Flush(clock, emit)
			} else { // it was full and has left
				Header((*got)[0]).SetSequence(h.Sequence())
			}
			if diff := cmp.Diff(hex.Dump(plain(want)), hex.Dump((*got)[0])); diff != "" {
				t.Errorf("(-theirs +ours)\n%s", diff)
			}
		}
		if n != records {
			t.Errorf("%d records", n)
		}
	}
	f(112, payloads(t, "collect/softflowd-lab/softflowd-v5.pcap")...)
	f(131, payloads(t, "collect/ovs-lab/h1.pcap")...)
	f(29, file(t, "collect/logstash-codec-netflow/netflow5_test_juniper_mx80.dat"))
	f(30, file(t, "collect/logstash-codec-netflow/netflow5_test_microtik.dat"))
}

// plain returns a datagram with what we leave out set to zero: the nanoseconds below one millisecond, next hop, autonomous
// systems, masks, padding.
func plain(b []byte) []byte {
	b = bytes.Clone(b)
	h := Header(b)
	h.SetUnix(h.UnixSecs(), h.UnixNsecs()/1e6*1e6)
	if h.SamplingMode() == SamplingNone && h.SamplingInterval() != 0 {
		h.SetSampling(SamplingDeterministic, h.SamplingInterval()) // Juniper tells no mode
	}
	for at := HeaderLen; at+RecordLen <= len(b); at += RecordLen {
		r := b[at : at+RecordLen]
		clear(r[8:12])
		r[36] = 0
		clear(r[40:48])
	}
	return b
}

// recordOf reads a record of a datagram that was made ms milliseconds after the epoch.
func recordOf(h Header, b Record, ms int64) flow.Record {
	r := flow.Record{
		StartNS: (ms - int64(int32(h.UptimeMS()-b.FirstMS()))) * 1e6, EndNS: (ms - int64(int32(h.UptimeMS()-b.LastMS()))) * 1e6,
		Src: flow.V4(b.Src()), Dst: flow.V4(b.Dst()), SrcPort: b.SrcPort(), DstPort: b.DstPort(), Proto: b.Proto(), ToS: b.ToS(),
		TCPFlags: uint16(b.TCPFlags()), InIf: uint32(b.Input()), OutIf: uint32(b.Output()),
		Packets: uint64(b.Packets()), Octets: uint64(b.Octets()), Sampling: uint32(h.SamplingInterval()),
	}
	if r.Proto == 1 {
		r.ICMPTypeCode = b.DstPort()
	}
	return r
}

func file(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(testkit.Corpus(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// payloads returns the NetFlow v5 datagrams of a classic capture of Ethernet frames, or of cooked or bare packets over IPv4.
func payloads(t *testing.T, name string) (all [][]byte) {
	t.Helper()
	for b := file(t, name)[24:]; len(b) > 16; {
		n := int(binary.LittleEndian.Uint32(b[8:]))
		if i := bytes.Index(b[16:16+n], []byte{0x45, 0}); i >= 0 {
			if p := b[16+i : 16+n]; len(p) > 28 && p[9] == 17 && Header(p[28:]).Valid() {
				all = append(all, p[28:])
			}
		}
		b = b[16+n:]
	}
	return all
}

// tsharkFields returns the fields of the matching frames; several values of one field stand behind each other with commas.
func tsharkFields(t *testing.T, path, filter string, fields ...string) (rows [][]string) {
	t.Helper()
	args := []string{"-n", "-r", path, "-d", "udp.port==2055,cflow", "-Y", filter, "-T", "fields"}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	cmd := exec.Command(testkit.Tool(t, "tshark"), args...)
	cmd.Env = append(os.Environ(), "TZ=UTC")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		rows = append(rows, strings.Split(strings.TrimSuffix(line, "\n"), "\t"))
	}
	return rows
}

// peersDatagrams are two datagrams, the second made after the uptime's turn, with flows from before, across and after it.
func peersDatagrams(t *testing.T) [][]byte {
	const turn = 1 << 32
	ping, sampled := tcpFlow(turn-9000, turn-8000), tcpFlow(turn+100, turn+300)
	ping.Proto, ping.ICMPTypeCode, ping.TCPFlags = 1, 0x0800, 0
	sampled.Sampling = 100
	c := EncoderConfig{Boot: boot, EngineType: 3, EngineID: 3}
	return append(encode(t, c, turn-5000, ping), encode(t, c, turn+1000, tcpFlow(turn-3000, turn-2000), tcpFlow(turn-2001, turn+250), sampled)...)
}

// tshark reads the values that went in, and counts the age of a flow as we do.
func TestTsharkReadsOurs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v5.pcap")
	writeCapture(t, path, peersDatagrams(t))
	got := tsharkFields(t, path, "cflow", "cflow.count", "cflow.sysuptime", "cflow.unix_secs", "cflow.sequence", "cflow.engine_type",
		"cflow.engine_id", "cflow.samplingmode", "cflow.samplerate", "cflow.srcaddr", "cflow.dstaddr", "cflow.inputint", "cflow.outputint", "cflow.packets",
		"cflow.octets", "cflow.srcport", "cflow.dstport", "cflow.protocol", "cflow.tos", "cflow.tcpflags", "cflow.timestart", "cflow.timeend")
	want := [][]string{
		{"1", "4294962.296000000", "1776618162", "0", "3", "3", "0", "0", "10.0.0.1", "192.168.2.3", "13", "1549", "7",
			"3000", "0", "2048", "1", "0x28", "0x00", "4294958.296000000", "4294959.296000000"},
		{"2", "1.000000000", "1776618168", "0", "3", "3", "0", "0", "10.0.0.1,10.0.0.1", "192.168.2.3,192.168.2.3", "13,13", "1549,1549", "7,7",
			"3000,3000", "40000,40000", "443,443", "6,6", "0x28,0x28", "0x1b,0x1b",
			"4294964.296000000,4294965.295000000", "4294965.296000000,0.250000000"},
		{"1", "1.000000000", "1776618168", "2", "3", "3", "1", "100", "10.0.0.1", "192.168.2.3", "13", "1549", "7",
			"3000", "40000", "443", "6", "0x28", "0x1b", "0.100000000", "0.300000000"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-sent +tshark)\n%s", diff)
	}
}

// writeCapture writes datagrams to a pcap file of raw IPv4 packets (link type 228).
func writeCapture(t *testing.T, path string, payloads [][]byte) {
	t.Helper()
	le, be := binary.LittleEndian, binary.BigEndian
	b := le.AppendUint32(nil, 0xa1b2c3d4)
	b = le.AppendUint32(b, 4<<16|2)
	b = append(b, make([]byte, 8)...)
	b = le.AppendUint32(le.AppendUint32(b, 65535), 228)
	for _, p := range payloads {
		n := uint32(28 + len(p))
		b = le.AppendUint32(le.AppendUint32(le.AppendUint64(b, 0), n), n)
		b = be.AppendUint16(append(b, 0x45, 0), uint16(n))
		b = append(b, 0, 0, 0, 0, 64, 17, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1)
		b = be.AppendUint16(be.AppendUint16(b, 50000), 2055)
		b = append(be.AppendUint16(b, uint16(8+len(p))), 0, 0)
		b = append(b, p...)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// nfcapd stores our datagrams without complaint; nfdump reads the numbers that went in.
func TestNfcapdStoresOurs(t *testing.T) {
	t.Setenv("TZ", "UTC") // nfdump prints local times
	port := testkit.Port(t)
	stop := testkit.Nfcapd(t, "nfcapd", port)
	send, err := net.Dial("udp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		t.Fatal(err)
	}
	defer send.Close()
	for i, b := range peersDatagrams(t) {
		if i > 0 {
			Header(b).SetSequence(Header(b).Sequence() + 1) // two encoders, one engine
		}
		if _, err := send.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	said, got := stop()
	if !strings.Contains(said, "Flows: 4, Packets: 28, Bytes: 12000, Sequence Errors: 0, Bad Packets: 0") {
		t.Errorf("nfcapd says:\n%s", said)
	}
	if len(got) != 4 {
		t.Fatalf("nfdump has %d flows", len(got))
	}
	// The uptime turns at 17:02:47.296.
	first := map[string]any{
		"first": "2026-04-19T17:02:38.296", "last": "2026-04-19T17:02:39.296", "in_packets": 7.0, "in_bytes": 3000.0, "proto": 1.0, "icmp_type": 8.0,
		"icmp_code": 0.0, "src_tos": 40.0, "src4_addr": "10.0.0.1", "dst4_addr": "192.168.2.3", "input_snmp": 13.0, "output_snmp": 1549.0,
		"src_mask": 0.0, "dst_mask": 0.0,
	}
	for k := range got[0] {
		if _, ok := first[k]; !ok {
			delete(got[0], k)
		}
	}
	if diff := cmp.Diff(first, got[0]); diff != "" {
		t.Errorf("(-sent +nfdump)\n%s", diff)
	}
	for i, want := range [][2]string{1: {"44.296", "45.296"}, {"45.295", "47.546"}, {"47.396", "47.596"}} {
		const minute = "2026-04-19T17:02:"
		if i > 0 && (got[i]["first"] != minute+want[0] || got[i]["last"] != minute+want[1]) {
			t.Errorf("flow %d: %v to %v", i, got[i]["first"], got[i]["last"])
		}
	}
}
