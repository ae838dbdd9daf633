package ipfix

import (
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"fmt"
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

// packet is a frame in tshark's JSON.
type packet struct {
	Source struct {
		Layers struct {
			UDP struct {
				SrcPort string `json:"udp.srcport"`
				Payload string `json:"udp.payload"`
			} `json:"udp"`
			Cflow json.RawMessage `json:"cflow"`
		} `json:"layers"`
	} `json:"_source"`
}

// flows returns the records of the cflow layer in order, each as text by tshark's field name. Values of repeated
// fields follow each other, those of subtrees stand beside the others.
func (p packet) flows(t testing.TB) (all []map[string][]string) {
	t.Helper()
	if len(p.Source.Layers.Cflow) == 0 {
		return nil
	}
	last := ""
	walkJSON(t, json.NewDecoder(strings.NewReader(string(p.Source.Layers.Cflow))), func(path []string, value string) {
		if len(path) < 3 || !strings.HasPrefix(path[1], "Flow ") {
			return
		}
		if here := path[0] + path[1]; here != last {
			last = here
			all = append(all, map[string][]string{})
		}
		name := path[len(path)-1]
		all[len(all)-1][name] = append(all[len(all)-1][name], value)
	})
	return all
}

// walkJSON calls leaf with the path and text of every string in an object, repeated names too, which maps would lose.
func walkJSON(t testing.TB, d *json.Decoder, leaf func(path []string, value string)) {
	t.Helper()
	var path []string
	var name *string
	depth := 0
	for {
		tok, err := d.Token()
		if err != nil {
			return
		}
		switch v := tok.(type) {
		case json.Delim:
			switch v {
			case '{', '[':
				depth++
				if depth > 1 {
					path = append(path, *name)
				}
				name = nil
			default:
				if depth--; depth > 0 {
					path = path[:len(path)-1]
				}
				name = nil
			}
		case string:
			if name == nil {
				name = &v
				continue
			}
			leaf(append(path, *name), v)
			name = nil
		}
	}
}

func readTshark(t testing.TB, path string) (all []packet) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(z).Decode(&all); err != nil {
		t.Fatal(err)
	}
	return all
}

// asTshark tells a record in tshark's words. Fields that tshark shows only when its template has them are
// compared only then.
func asTshark(r *flow.Record) map[string]string {
	m := map[string]string{
		"cflow.direction": strconv.Itoa(int(r.Direction)), "cflow.srcmac": mac(r.SrcMAC), "cflow.dstmac": mac(r.DstMAC),
		"cflow.ethernet_type": strconv.Itoa(int(r.EtherType)), "cflow.inputint": strconv.Itoa(int(r.InIf)), "cflow.outputint": strconv.Itoa(int(r.OutIf)),
		"cflow.packets": strconv.FormatUint(r.Packets, 10), "cflow.octets": strconv.FormatUint(r.Octets, 10),
		"cflow.layer2_octet_delta_count": strconv.FormatUint(r.L2Octets, 10), "cflow.flow_end_reason": strconv.Itoa(int(r.EndReason)),
		"cflow.protocol": strconv.Itoa(int(r.Proto)), "cflow.srcport": strconv.Itoa(int(r.SrcPort)), "cflow.dstport": strconv.Itoa(int(r.DstPort)),
		"cflow.tos": fmt.Sprintf("0x%02x", r.ToS), "cflow.ip_ttl": strconv.Itoa(int(r.MaxTTL)),
		"cflow.observation_point_id": strconv.FormatUint(r.Point, 10),
		"cflow.icmp_ipv6_type":       strconv.Itoa(int(r.ICMPTypeCode >> 8)), "cflow.icmp_ipv6_code": strconv.Itoa(int(r.ICMPTypeCode & 0xff)),
		"cflow.icmp_ipv4_type": strconv.Itoa(int(r.ICMPTypeCode >> 8)), "cflow.icmp_ipv4_code": strconv.Itoa(int(r.ICMPTypeCode & 0xff)),
		"cflow.abstimestart": tsharkTime(r.StartNS), "cflow.abstimeend": tsharkTime(r.EndNS),
		"cflow.tcpflags": fmt.Sprintf("0x%04x", r.TCPFlags),
		"cflow.ttl_min":  strconv.Itoa(int(r.MinTTL)), "cflow.ttl_max": strconv.Itoa(int(r.MaxTTL)),
		"cflow.biflow_direction": strconv.Itoa(int(r.Client)), "cflow.layer2_segment_id": strconv.FormatUint(uint64(r.Segment), 10),
		"cflow.sampling_interval": strconv.Itoa(int(r.Sampling)), "cflow.vlanid": strconv.Itoa(int(r.VLAN)),
	}
	switch {
	case r.Src.Is4():
		m["cflow.srcaddr"], m["cflow.dstaddr"] = r.Src.String(), r.Dst.String()
	default:
		m["cflow.srcaddrv6"], m["cflow.dstaddrv6"] = v6text(r.Src), v6text(r.Dst)
	}
	return m
}

func mac(m flow.MAC) string {
	if m == 0 {
		return "00:00:00:00:00:00"
	}
	return m.String()
}

func v6text(a flow.Addr) string {
	if a.IsZero() {
		return "::"
	}
	return a.String()
}

func tsharkTime(ns int64) string {
	return time.Unix(0, ns).UTC().Format("Jan _2, 2006 15:04:05.000000000 UTC")
}

// compareTshark compares the fields that both know and returns how many those were.
func compareTshark(t *testing.T, where string, r *flow.Record, got map[string][]string) (n int) {
	t.Helper()
	for name, want := range asTshark(r) {
		values, ok := got[name]
		if !ok {
			continue
		}
		n++
		if values[0] != want {
			t.Errorf("%s: %s: tshark says %v, we %s", where, name, values, want)
		}
	}
	return n
}

// What the decoder puts into flow.Record is what tshark reads in the same datagrams of Open vSwitch: times, counters, keys.
func TestOVSRecordsAgreeWithTshark(t *testing.T) {
	f := func(name string, records int) {
		t.Helper()
		sessions := map[string]*Session{}
		n, fields := 0, 0
		for i, p := range readTshark(t, testkit.Corpus(t, "collect/ovs-lab/"+name+".tshark.json.gz")) {
			flows := p.flows(t)
			payload := hexPayload(t, p.Source.Layers.UDP.Payload)
			if len(payload) < 2 || payload[0] != 0 || payload[1] != Version {
				continue
			}
			s := sessions[p.Source.Layers.UDP.SrcPort]
			if s == nil {
				s = NewSession(Limits{})
				sessions[p.Source.Layers.UDP.SrcPort] = s
			}
			recs, res, err := s.Decode(payload, 0, nil)
			if err != nil {
				t.Fatal(err)
			}
			if res.OptionRecords > 0 || len(flows) == 0 {
				continue
			}
			if len(recs) != len(flows) {
				t.Errorf("%s: datagram %d: %d records, tshark has %d", name, i, len(recs), len(flows))
				continue
			}
			for j := range recs {
				fields += compareTshark(t, fmt.Sprintf("%s: datagram %d", name, i), &recs[j], flows[j])
				n++
			}
		}
		if n != records || fields < 15*n {
			t.Errorf("%s: compared %d fields of %d records, want %d records", name, fields, n, records)
		}
	}
	f("h1", 1020)
	f("h2", 187)
}

func hexPayload(t testing.TB, s string) (b []byte) {
	t.Helper()
	for h := range strings.SplitSeq(s, ":") {
		v, err := strconv.ParseUint(h, 16, 8)
		if err != nil {
			return nil
		}
		b = append(b, byte(v))
	}
	return b
}

// writePcap writes messages as a capture of UDP datagrams to port 4739.
func writePcap(t testing.TB, msgs [][]byte) string {
	t.Helper()
	b := binary.LittleEndian.AppendUint32(nil, 0xa1b2c3d4)
	b = append(b, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 1, 0, 0, 0)
	for _, m := range msgs {
		n := uint32(14 + 20 + 8 + len(m))
		for _, v := range []uint32{uint32(exportTime.Unix()), 0, n, n} {
			b = binary.LittleEndian.AppendUint32(b, v)
		}
		b = append(b, 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0)
		b = put16(b, uint16(28+len(m)))
		b = append(b, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2)
		b = put16(put16(put16(put16(b, 40000), Port), uint16(8+len(m))), 0)
		b = append(b, m...)
	}
	path := filepath.Join(t.TempDir(), "export.pcap")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// vmwareFields are the octets of VMware's elements in a record, in the order of its template, as tshark writes
// elements that it does not know. It counts other enterprises' among them.
func vmwareFields(p Profile, r *flow.Record) (all []string) {
	all = tunnelFields(p, r)
	hex := func(b []byte) string { return strings.ReplaceAll(fmt.Sprintf("% x", b), " ", ":") }
	if r.RTTUS|r.Retransmits|r.ZeroWindows != 0 {
		all = append(all, hex(put32(nil, r.RTTUS)), hex(put32(nil, r.Retransmits)), hex(put32(nil, r.ZeroWindows)))
	}
	if r.AppHow == flow.AppSSH {
		all = append(all, hex([]byte(r.AppName)))
	}
	return all
}

func tunnelFields(p Profile, r *flow.Record) (all []string) {
	var first []string
	if r.Proto == 6 {
		first = []string{fmt.Sprintf("%02x", r.FirstTCPFlags)}
	}
	if r.Tunnel == (flow.Tunnel{}) {
		return first
	}
	add := func(b ...byte) { all = append(all, strings.ReplaceAll(fmt.Sprintf("% x", b), " ", ":")) }
	address := func(a flow.Addr) {
		b := a.Netip().AsSlice()
		add(b...)
	}
	if p == OVS {
		all = append(all, first...)
		if r.Tunnel.Src.Is4() {
			address(r.Tunnel.Src)
			address(r.Tunnel.Dst)
		}
		add(r.Tunnel.Type)
		add(r.Tunnel.Proto)
		add(put16(nil, r.Tunnel.SrcPort)...)
		add(put16(nil, r.Tunnel.DstPort)...)
		key := put32(nil, r.Segment.Number())
		if r.Tunnel.Type != tunnelGRE {
			key = key[1:]
		}
		add(key...)
		return all
	}
	add(r.Proto)
	if r.Src.IsZero() {
		return all
	}
	address(r.Src)
	address(r.Dst)
	if r.SrcPort|r.DstPort != 0 {
		add(put16(nil, r.SrcPort)...)
		add(put16(nil, r.DstPort)...)
	}
	return append(all, first...)
}

// tshark finds nothing malformed in what we send, and reads the same values.
func TestTsharkReadsOurMessages(t *testing.T) {
	tool := testkit.Tool(t, "tshark")
	f := func(p Profile, recs []flow.Record) {
		t.Helper()
		path := writePcap(t, encoded(t, EncoderConfig{Profile: p, Domain: 7, MaxLen: 600}, recs))
		out, err := exec.Command(tool, "-r", path, "-T", "json", "-o", "cflow.desegment:TRUE").Output()
		if err != nil {
			t.Fatal(err)
		}
		var packets []packet
		if err := json.Unmarshal(out, &packets); err != nil {
			t.Fatal(err)
		}
		var flows []map[string][]string
		for _, p := range packets {
			flows = append(flows, p.flows(t)...)
		}
		if len(flows) != len(recs) {
			t.Fatalf("%s: tshark has %d records, want %d", p, len(flows), len(recs))
		}
		for i := range recs {
			r := recs[i]
			if diff := cmp.Diff(vmwareFields(p, &r), flows[i]["cflow.enterprise_private_entry"]); diff != "" {
				t.Errorf("%s: record %d: VMware's elements (-want +tshark):\n%s", p, i, diff)
			}
			if p == VMware && r.Tunnel.Src != (flow.Addr{}) { // in IANA's elements stands the tunnel
				r.Src, r.Dst, r.SrcPort, r.DstPort, r.Proto = r.Tunnel.Src, r.Tunnel.Dst, r.Tunnel.SrcPort, r.Tunnel.DstPort, r.Tunnel.Proto
			}
			if n := compareTshark(t, fmt.Sprintf("%s: record %d", p, i), &r, flows[i]); n < 13 {
				t.Errorf("%s: record %d: compared only %d fields", p, i, n)
			}
			if got := flows[i]["cflow.if_name"]; r.Observer != "" && (len(got) != 1 || got[0] != r.Observer) {
				t.Errorf("%s: record %d: if_name %v, want %q", p, i, got, r.Observer)
			}
		}
		expert, err := exec.Command(tool, "-r", path, "-Y", "_ws.malformed || _ws.expert", "-T", "fields", "-e", "frame.number", "-e", "_ws.expert.message").Output()
		if err != nil || len(strings.TrimSpace(string(expert))) > 0 {
			t.Errorf("%s: tshark complains: %v %s", p, err, expert)
		}
	}
	for _, p := range []Profile{OVS, VMware} {
		f(p, sampleRecords())
		f(p, underV6())
	}
}
