package flowproto

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/testkit"
)

// tcpdump's decodes of three captures: a sample with its interfaces, rates and autonomous systems; counters; a datagram cut
// short, which crashed an old tcpdump.
func TestSFlowAgreesWithTcpdump(t *testing.T) {
	f := func(name string, samples, counters int, problem string, want ...string) {
		t.Helper()
		s, n, c, text := NewSession(Limits{}), 0, 0, ""
		var fields []string
		for _, d := range readPcap(t, testkit.Corpus(t, "collect/tcpdump/"+name+".pcap")) {
			if d.port != 6343 {
				continue
			}
			_, err := s.Walk(d.payload, d.timeNS, func(it *Item) {
				switch it.Kind {
				case KindRecord:
					n++
				case KindCounters:
					c++
				}
				for v := range it.Fields() {
					fields = append(fields, v.Name()+" "+v.Text())
				}
			})
			if err != nil {
				text = err.Error()
			}
		}
		all := strings.Join(fields, "\n") + "\n"
		for _, w := range want {
			if !strings.Contains(all, w+"\n") {
				t.Errorf("%s: no %q", name, w)
			}
		}
		if n != samples || c != counters || text != problem {
			t.Errorf("%s: %d samples, %d counter samples, %q", name, n, c, text)
		}
	}
	f("sflow_expanded", 1, 0, "", "flow_sample.sequence_number 2170480284", "flow_sample.source_id_index 11001", "flow_sample.sampling_rate 1000",
		"flow_sample.sample_pool 1521799520", "flow_sample.input 29001", "flow_sample.output 1285816721", "sampled_header.frame_length 126",
		"sampled_header.stripped 4", "extended_gateway.nexthop 54.54.54.54")
	f("sflow-print-v6", 13, 48, "", "counters_sample.source_id_index 23001", "if_counters.ifSpeed 400000000000", "if_counters.ifOutOctets 9717",
		"if_counters.ifOutMulticastPkts 79", "ethernet_counters.dot3StatsFCSErrors 0")
	f("sflow_print-segv", 0, 0, "sflow: message: needs 12 bytes, 8 there")
}

// telegraf's decodes: interface counters, and a discarded packet.
func TestSFlowAgreesWithTelegraf(t *testing.T) {
	f := func(file string, want ...string) {
		t.Helper()
		b, err := os.ReadFile(testkit.Corpus(t, "collect/telegraf/"+file))
		if err != nil {
			t.Fatal(err)
		}
		var fields []string
		res, err := NewSession(Limits{}).Walk(b, 1, func(it *Item) {
			for v := range it.Fields() {
				fields = append(fields, v.Name()+" "+v.Text())
			}
		})
		if err != nil || res.Agent.String() != "192.168.119.184" || res.Domain != 100000 {
			t.Errorf("%s: %+v, %v", file, res, err)
		}
		all := strings.Join(fields, "\n") + "\n"
		for _, w := range want {
			if !strings.Contains(all, w+"\n") {
				t.Errorf("%s: no %q in\n%s", file, w, all)
			}
		}
	}
	f("sflow_v5_example/sflow_v5.bin", "if_counters.ifInOctets 3910", "if_counters.ifInUcastPkts 28", "if_counters.ifInBroadcastPkts 4294967295",
		"if_counters.ifOutOctets 3946", "if_counters.ifOutUcastPkts 29", "if_counters.ifSpeed 1000000000", "port_name.name eno1", "counters_sample.source_id_index 3")
	f("sflow_issue_15375/sflow_drop_1036.bin", "discarded_packet.inputifindex 1", "discarded_packet.outputifindex 2", "discarded_packet.reason 1",
		"discarded_packet.drops 256", "extended_egress_queue.queue 42")
}

// writeFrames writes Ethernet frames for tshark to read.
func writeFrames(t *testing.T, frames [][]byte) string {
	t.Helper()
	b := binary.LittleEndian.AppendUint32(nil, 0xa1b2c3d4)
	b = append(b, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0)
	for i, f := range frames {
		for _, v := range []int{1, i, len(f), 1514} {
			b = binary.LittleEndian.AppendUint32(b, uint32(v))
		}
		b = append(b, f...)
	}
	path := filepath.Join(t.TempDir(), "frames.pcap")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// The samples of two Open vSwitch hosts: a record says of its packet what tshark says of the sampled header, and a sample
// that came out of a tunnel has its endpoints and its number. (tshark 4.0 itself loses its way in the tunnel structures.)
func TestSFlowOfOpenVSwitch(t *testing.T) {
	s, lost := NewSession(Limits{}), uint64(0)
	var frames [][]byte
	var ours []string
	tunnels := map[string]int{}
	for _, d := range readPcap(t, testkit.Corpus(t, "collect/ovs-lab/h2.pcap")) {
		if Detect(d.payload) != SFlow {
			continue
		}
		res, err := s.Walk(d.payload, d.timeNS, func(it *Item) {
			r, ok := it.Flow()
			if !ok {
				return
			}
			for v := range it.Fields() {
				if v.Name() == "sampled_header.header" {
					frames = append(frames, v.Bytes)
				}
			}
			ports := [2]string{"", ""}
			if r.Proto == 6 {
				ports = [2]string{fmt.Sprint(r.SrcPort), fmt.Sprint(r.DstPort)}
			}
			v4 := [2]string{"", ""}
			if r.Src.Is4() && r.EtherType == 0x0800 {
				v4 = [2]string{r.Src.String(), r.Dst.String()}
			}
			ours = append(ours, fmt.Sprint(r.SrcMAC, "|", r.DstMAC, "|", v4[0], "|", v4[1], "|", ports[0], "|", ports[1]))
			if r.Segment != 0 {
				tunnels[fmt.Sprint(r.Tunnel.Src, " ", r.Tunnel.Dst, " ", r.Segment.Kind(), " ", r.Segment.Number())]++
			}
		})
		if err != nil {
			t.Error(err)
		}
		lost += res.Lost + res.LostSamples
	}
	if len(ours) != 428 || len(frames) != 428 || lost != 0 {
		t.Fatalf("%d records, %d headers, %d lost", len(ours), len(frames), lost)
	}
	out, err := exec.Command(testkit.Tool(t, "tshark"), "-r", writeFrames(t, frames), "-T", "fields", "-E", "separator=|", "-e", "eth.src", "-e", "eth.dst",
		"-e", "ip.src", "-e", "ip.dst", "-e", "tcp.srcport", "-e", "tcp.dstport").Output()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(strings.Split(strings.TrimRight(string(out), "\n"), "\n"), ours); d != "" {
		t.Errorf("(-tshark +us):\n%s", d)
	}
	for _, want := range []string{"10.9.0.1 10.9.0.2 vxlan 5001", "10.9.0.1 10.9.0.2 geneve 5002", "10.9.0.1 10.9.0.2 gre 5003"} {
		if tunnels[want] == 0 {
			t.Errorf("no sample came out of %s: %v", want, tunnels)
		}
	}
}
