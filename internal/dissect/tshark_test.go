package dissect_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"crosstap/internal/dissect"
	"crosstap/internal/frame"
	"crosstap/internal/testkit"
)

// tsharkProtocols are the dissectors that tshark may use: the headers this package reads and nothing above
// them, so that none of its heuristics finds a tunnel where no port says so.
var tsharkProtocols = strings.Fields(`frame eth ethertype llc vlan ieee8021ad ieee8021ah vntag etag mpls pwethcw pwethnocw pwethheuristic
	pppoes pppoed ppp arp ip ipv6 ipv6.hopopts ipv6.routing ipv6.fraghdr ipv6.dstopts mipv6 hip shim6 ah esp tcp udp udplite dccp sctp
	icmp icmpv6 gre erspan etherip vxlan vxlan_gpe geneve nsh gtp tzsp sll null raw data`)

// readTshark lets tshark dissect frames of one link type and gives their fields in order.
func readTshark(t *testing.T, link frame.LinkType, frames []captured, fields []string) [][]string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "merged.pcap")
	if err := os.WriteFile(path, pcapOf(link, frames), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"-r", path, "-n", "-T", "fields", "-E", "separator=/t", "-E", "occurrence=a", "-E", "aggregator=|",
		"-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE", "-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE", "-d", "udp.port==8472,vxlan", "-d", "mpls.label==1000,pwethcw", "-d", "mpls.label==1001,pwethnocw"}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	cmd := exec.Command(testkit.Tool(t, "tshark"), args...)
	cmd.Env = append(os.Environ(), "WIRESHARK_CONFIG_DIR="+testkit.TsharkOnly(t, tsharkProtocols))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tshark: %v\n%s", err, &stderr)
	}
	var rows [][]string
	for sc := bufio.NewScanner(bytes.NewReader(out)); sc.Scan(); {
		rows = append(rows, strings.Split(sc.Text(), "\t"))
	}
	if len(rows) != len(frames) {
		t.Fatalf("tshark: %d rows for %d frames\n%s", len(rows), len(frames), &stderr)
	}
	return rows
}

func pcapOf(link frame.LinkType, frames []captured) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, 0xa1b2c3d4)
	b = le.AppendUint16(le.AppendUint16(b, 2), 4)
	b = append(b, make([]byte, 8)...)
	b = le.AppendUint32(le.AppendUint32(b, 262144), uint32(link))
	for i, f := range frames {
		b = le.AppendUint32(le.AppendUint32(b, uint32(i)), 0)
		b = le.AppendUint32(le.AppendUint32(b, uint32(len(f.data))), uint32(f.orig))
		b = append(b, f.data...)
	}
	return b
}

// TestAgreesWithTshark compares the layers, and every field that a flow or a filter needs, with tshark's on every frame
// of the corpus and on the frames of TestLayers.
func TestAgreesWithTshark(t *testing.T) {
	byLink := map[frame.LinkType][]captured{}
	for _, c := range corpusFrames(t) {
		if len(c.data) <= 262144 {
			byLink[c.link] = append(byLink[c.link], c)
		}
	}
	for i, c := range cases {
		b := bytesOf(t, c.frame)
		byLink[c.link] = append(byLink[c.link], captured{"cases/" + c.name, i, c.link, b, len(b)})
	}
	names := make([]string, 0, len(fields)+1)
	for _, f := range fields {
		names = append(names, f.name)
	}
	used := map[int]int{}
	for link, frames := range byLink {
		t.Run(fmt.Sprintf("link %d", link), func(t *testing.T) {
			for i, row := range readTshark(t, link, frames, names) {
				compareRow(t, frames[i], row, used)
			}
		})
	}
	for i, e := range exceptions {
		if used[i] == 0 {
			t.Errorf("exception for %s (%s) is no longer needed", e.file, e.why)
		}
	}
}

func compareRow(t *testing.T, c captured, row []string, used map[int]int) {
	t.Helper()
	if len(c.data) == 0 {
		return // tshark names a protocol all the same
	}
	var p dissect.Packet
	dissect.New(dissect.Config{}).Dissect(&p, c.link, c.data, c.orig)
	quoted := p.NLayers > 0 && (p.Layers[p.NLayers-1].Kind == dissect.KindICMP || p.Layers[p.NLayers-1].Kind == dissect.KindICMPv6)
	for i, f := range fields {
		got, want := f.ours(&p, c.data), f.theirs(row[i])
		switch {
		case quoted && len(want) > len(got): // tshark goes on in the packet that an ICMP error quotes
			want = want[:len(got)]
		case cut(&p) && f.name == "frame.protocols" && len(want) == len(got)+1: // and names a header of which no byte is there
			want = want[:len(got)]
		case cut(&p) && f.name != "frame.protocols" && len(want) > len(got): // and reads the first fields of a cut header
			want = want[:len(got)]
		}
		if f.same != nil && f.same(got, want) || slices.Equal(got, want) {
			continue
		}
		at := slices.IndexFunc(exceptions, func(e exception) bool { return e.covers(c, f.name) })
		if at >= 0 {
			used[at]++
			continue
		}
		t.Errorf("%s frame %d: %s = %q, tshark says %q\n\t%s issues %#x\n\t%s", c.file, c.n, f.name, got, want, stack(&p), p.Issues, row[0])
	}
}
