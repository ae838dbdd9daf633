package tap_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/tap"
	"crosstap/internal/tap/capture"
	"crosstap/internal/tap/groom"
	"crosstap/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// readFile runs a tap over a capture file and returns its output.
func readFile(t *testing.T, path string) (*tap.Tap, *bytes.Buffer, error) {
	t.Helper()
	var lines bytes.Buffer
	s := tap.DefaultSpec()
	s.File, s.To, s.Stdout, s.Name = path, []string{"flows:-", "null:"}, &lines, "test"
	line, err := tap.New(s)
	if err != nil {
		t.Fatal(err)
	}
	err = line.Run(context.Background())
	for _, st := range line.Statements() {
		if st.Balance() != nil || st.Held != 0 {
			t.Errorf("%+v: %v", st, st.Balance())
		}
	}
	return line, &lines, err
}

// TestOVSLab meters the packets between two Open vSwitch hosts (VXLAN, Geneve and GRE) and compares
// the sums of each inner conversation and tunnel with what tshark says of the same packets.
func TestOVSLab(t *testing.T) {
	tshark := testkit.Tool(t, "tshark")
	for _, name := range []string{"underlay1.pcap", "underlay2.pcap"} {
		path := testkit.Corpus(t, "collect/ovs-lab/"+name)
		_, lines, err := readFile(t, path)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]counts{}
		for d := json.NewDecoder(lines); ; {
			var r struct {
				SrcVTEP string `json:"src_vtep"`
				DstVTEP string `json:"dst_vtep"`
				VNI     int    `json:"vni"`
				Src     string `json:"src_addr"`
				Dst     string `json:"dst_addr"`
				Proto   string `json:"proto"`
				SrcPort int    `json:"src_port"`
				DstPort int    `json:"dst_port"`
				Packets uint64 `json:"packets"`
				Octets  uint64 `json:"octets"`
			}
			if err := d.Decode(&r); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			if r.Proto == "tcp" && r.SrcVTEP != "" {
				k := fmt.Sprint(r.SrcVTEP, " ", r.DstVTEP, " ", r.VNI, " ", r.Src, ":", r.SrcPort, " ", r.Dst, ":", r.DstPort)
				c := got[k]
				got[k] = counts{Packets: c.Packets + r.Packets, Octets: c.Octets + r.Octets}
			}
		}
		if diff := cmp.Diff(tsharkTunnels(t, tshark, path), got); diff != "" || len(got) < 20 {
			t.Errorf("%s: %d conversations (-tshark +ours)\n%s", name, len(got), diff)
		}
	}
}

// tsharkTunnels sums the TCP packets inside tunnels.
func tsharkTunnels(t *testing.T, tshark, path string) map[string]counts {
	args := []string{"-r", path, "-Y", "tcp and (vxlan or geneve or gre)", "-T", "fields", "-E", "separator=;"}
	for _, f := range []string{"ip.src", "ip.dst", "ip.len", "vxlan.vni", "geneve.vni", "gre.key", "tcp.srcport", "tcp.dstport"} {
		args = append(args, "-e", f)
	}
	out, err := exec.Command(tshark, args...).Output()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]counts{}
	for l := range strings.Lines(string(out)) {
		col := strings.Split(strings.TrimSpace(l), ";")
		src, dst, size := strings.Split(col[0], ","), strings.Split(col[1], ","), strings.Split(col[2], ",")
		if len(src) != 2 {
			continue
		}
		vni, err := strconv.ParseUint(col[3]+col[4]+col[5], 0, 32)
		if err != nil {
			t.Fatal(err)
		}
		octets, _ := strconv.ParseUint(size[1], 10, 64)
		k := fmt.Sprint(src[0], " ", dst[0], " ", vni, " ", src[1], ":", col[6], " ", dst[1], ":", col[7])
		c := all[k]
		all[k] = counts{Packets: c.Packets + 1, Octets: c.Octets + octets}
	}
	return all
}

// counts are the figures of one direction of a conversation.
type counts struct{ Packets, Octets, L2Octets uint64 }

// TestCutFile meters what a cut capture holds before it reports the cut.
func TestCutFile(t *testing.T) {
	whole, err := os.ReadFile(testkit.Corpus(t, "collect/ovs-lab/underlay1.pcap"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "cut.pcap")
	if err := os.WriteFile(path, whole[:len(whole)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	line, lines, err := readFile(t, path)
	if !errors.Is(err, capture.ErrCut) || !strings.Contains(err.Error(), path+": offset ") {
		t.Error(err)
	}
	if n := strings.Count(lines.String(), "\n"); n < 20 || uint64(n) != line.Statements()[2].Out {
		t.Errorf("%d lines, %+v", n, line.Statements())
	}
	if s := line.Summary(1500 * time.Millisecond); !strings.Contains(s, " flow records; meter: ") || !strings.Contains(s, " frames non ip") {
		t.Error(s)
	}
}

func TestSpec(t *testing.T) {
	f := func(change func(*tap.Spec), want string) {
		t.Helper()
		s := tap.DefaultSpec()
		s.File, s.To, s.Stdout = "x", []string{"null:"}, io.Discard
		change(&s)
		_, err := tap.New(s)
		if text := fmt.Sprint(err); text != want {
			t.Errorf("\n got %s\nwant %s", text, want)
		}
	}
	f(func(*tap.Spec) {}, "<nil>")
	f(func(s *tap.Spec) { s.File = "" }, "tap: no source: name an interface, an inline pair, a capture file or an endpoint to listen on")
	f(func(s *tap.Spec) { s.Interfaces = []string{"eth0"} }, "tap: interfaces and a capture file at once: name one kind of source")
	f(func(s *tap.Spec) { s.To = nil }, "tap: no destination: give at least one of ipfix://HOST, flows:-, pcapng:PATH, pcap:PATH and null: (to measure)")
	f(func(s *tap.Spec) { s.SnapLen = 64 }, "tap: snap length 64: must be 0 for whole frames, or at least 160 so that headers inside tunnels stay")
	f(func(s *tap.Spec) { s.To = []string{"flows:x"} }, `tap: destination "flows:x": did you mean flows:-?`)
	f(func(s *tap.Spec) { s.To = []string{"somewhere:x"} }, `tap: destination "somewhere:x": want ipfix://, ipfix+tcp://, ipfix+tls://, netflow9://, netflow5:// or sflow://HOST, flows:-, frames:-, pcapng:PATH, pcap:PATH, tls://…, vxlan://…, geneve://…, udp://…, gre://…, erspan2://…, erspan3://…, iface:NAME, rpcap://ADDRESS, or null: for nowhere`)
	f(func(s *tap.Spec) { s.To = []string{"ipfix://"} }, "tap: export: ipfix://: no host, want ipfix://HOST[:PORT]")
	f(func(s *tap.Spec) { s.Stdout, s.To = nil, []string{"flows:-"} }, "tap: destination flows:-: there is no standard output")
	f(func(s *tap.Spec) { s.To = []string{"pcapng:"} }, "deliver: pcapng: no path: want pcapng:PATH, or pcapng:- for standard output")
	f(func(s *tap.Spec) { s.To = []string{"pcapng:-", "flows:-"} }, "tap: 2 destinations on standard output: it takes one")
	f(func(s *tap.Spec) { s.To = []string{"pcapng:a/../b", "pcap:b"} }, "tap: two destinations are the file b")
	f(func(s *tap.Spec) { s.Filter = "tcp prot 5" }, `filter: column 5: "prot" is not expected; did you mean "port"?`)
	f(func(s *tap.Spec) { s.Groom = &groom.Spec{Balance: &groom.Balance{Outputs: 2}} },
		"tap: groom: balance over 2 outputs: 0 capture files or tools to send to; name one for each, and no null:frames or sflow")
	f(func(s *tap.Spec) { s.Idle = 0 }, "meter: idle timeout 0s: must be 10ms to 24h0m0s")
	f(func(s *tap.Spec) { s.Tunnels.VXLANPorts = []uint16{0} }, "tap: dissect: vxlan port 0: ports are 1 to 65535")
}

// TestCorpus runs the tap line over every capture that others have made, the hostile ones among them: every frame is metered
// or in the books under a reason, and what is metered comes out in records.
func TestCorpus(t *testing.T) {
	n := 0
	err := filepath.WalkDir(testkit.Corpus(t, "tap"), func(path string, _ os.DirEntry, err error) error {
		if ext := filepath.Ext(path); err != nil || ext != ".pcap" && ext != ".pcapng" && ext != ".trace" {
			return err
		}
		n++
		line, lines, _ := readFile(t, path)
		var packets uint64
		for d := json.NewDecoder(lines); ; {
			var r struct{ Packets uint64 }
			if d.Decode(&r) != nil {
				break
			}
			packets += r.Packets
		}
		st := line.Statements()
		if source, frames := st[0], st[1]; source.Out != frames.In || frames.Out != packets || line.Stats().Packets != packets {
			t.Errorf("%s: %d packets in records, %+v, books %+v", path, packets, line.Stats(), st)
		}
		return nil
	})
	if err != nil || n < 700 {
		t.Errorf("%d captures: %v", n, err)
	}
}
