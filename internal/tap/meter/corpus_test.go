package meter

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/apphint"
	"crosstap/internal/dissect"
	"crosstap/internal/flow"
	"crosstap/internal/frame"
	"crosstap/internal/tap/capture"
	"crosstap/internal/testkit"
)

// readCapture returns the frames of a capture file as far as it can be read, in memory of their own.
func readCapture(t *testing.T, path string) (frames []frame.Frame) {
	t.Helper()
	src, err := capture.NewFile(capture.FileConfig{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	out := make(chan frame.Batch)
	go func() {
		defer close(out)
		_ = src.Run(context.Background(), out) // damaged captures are read up to the damage
	}()
	for b := range out {
		for _, f := range b.Frames {
			f.Data = bytes.Clone(f.Data)
			frames = append(frames, f)
		}
		b.Release()
	}
	return frames
}

var corpus map[string][]frame.Frame // once read

// corpusCaptures returns the frames of every capture of the corpus.
func corpusCaptures(t *testing.T) map[string][]frame.Frame {
	t.Helper()
	if corpus != nil {
		return corpus
	}
	all := map[string][]frame.Frame{}
	root := testkit.CorpusDir(t)
	for _, dir := range []string{"tap", "collect"} {
		err := filepath.WalkDir(testkit.Corpus(t, dir), func(path string, _ fs.DirEntry, err error) error {
			switch filepath.Ext(path) {
			case ".pcap", ".pcapng", ".cap", ".trace":
				name, _ := filepath.Rel(root, path)
				all[name] = readCapture(t, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	corpus = all
	return all
}

// writePcap writes frames of one link type, a second apart, and returns the path.
func writePcap(t *testing.T, link frame.LinkType, frames []frame.Frame) string {
	t.Helper()
	le := binary.LittleEndian
	b := le.AppendUint32(nil, 0xa1b2c3d4)
	b = le.AppendUint16(le.AppendUint16(b, 2), 4)
	b = append(b, make([]byte, 8)...)
	b = le.AppendUint32(le.AppendUint32(b, 262144), uint32(link))
	for i := range frames {
		f := &frames[i]
		b = le.AppendUint32(le.AppendUint32(b, uint32(i)), 0)
		b = le.AppendUint32(le.AppendUint32(b, uint32(len(f.Data))), uint32(f.OrigLen))
		b = append(b, f.Data...)
	}
	path := filepath.Join(t.TempDir(), "frames.pcap")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// headerProtocols are the headers that flows are made of; tshark is to look at nothing above them.
var headerProtocols = strings.Fields(`frame eth ethertype llc vlan ieee8021ad ieee8021ah vntag etag mpls pwethcw pwethnocw pwethheuristic pppoes ppp ip ipv6
	ipv6.hopopts ipv6.fraghdr tcp udp sll null raw data`)

// runTshark returns the lines that tshark prints with a configuration folder, "" for its defaults.
func runTshark(t *testing.T, config, path string, args ...string) []string {
	t.Helper()
	args = append([]string{"-n", "-r", path, "-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE"}, args...)
	cmd := exec.Command(testkit.Tool(t, "tshark"), args...)
	if config != "" {
		cmd.Env = append(os.Environ(), "WIRESHARK_CONFIG_DIR="+config)
	}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tshark: %v", err)
	}
	return strings.Split(strings.TrimRight(string(out), "\n"), "\n")
}

type totals struct{ Packets, Octets, L2Octets uint64 }

// TestCorpusTotals meters every capture by its outer headers. Each frame is in a record or in the books under its reason, and the sums
// of packets and octets are those that tshark's fields add up to for the same frames.
func TestCorpusTotals(t *testing.T) {
	all := corpusCaptures(t)
	byLink := map[frame.LinkType][]frame.Frame{}
	from := map[frame.LinkType][]string{}
	for name, frames := range all {
		for _, f := range frames {
			if len(f.Data) > 0 && len(f.Data) <= 262144 {
				byLink[f.Link] = append(byLink[f.Link], f)
				from[f.Link] = append(from[f.Link], name)
			}
		}
	}
	c := DefaultConfig()
	c.Key = KeyOuter
	compared, config := 0, testkit.TsharkOnly(t, headerProtocols)
	for link, frames := range byLink {
		if link == 0 || dropsAll(frames) {
			continue
		}
		rows := runTshark(t, config, writePcap(t, link, frames), "-T", "fields", "-e", "frame.protocols", "-e", "ip.len", "-e", "ipv6.plen", "-e", "frame.len")
		if len(rows) != len(frames) {
			t.Fatalf("link %d: %d rows for %d frames", link, len(rows), len(frames))
		}
		want, got := map[string]totals{}, map[string]totals{}
		for i := range frames {
			f := &frames[i]
			records, _ := run(t, c, frames[i:i+1])
			theirs, ok := outerTotals(rows[i])
			if len(records) == 0 || !ok {
				if len(records) > 0 && !excused(f) {
					t.Errorf("%s: a record for what tshark calls %q", from[link][i], rows[i])
				}
				continue
			}
			if excused(f) {
				continue
			}
			r := &records[0]
			compared++
			add(got, from[link][i], totals{r.Packets, r.Octets, r.L2Octets})
			add(want, from[link][i], theirs)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("link %d: (-tshark +ours)\n%s", link, diff)
		}
	}
	frames := 0
	for name, list := range all {
		frames += len(list)
		records, m := run(t, c, list)
		var packets uint64
		for _, r := range records {
			packets += r.Packets
		}
		s := m.Books()[0].Read()
		if packets != s.Out || s.In != uint64(len(list)) {
			t.Errorf("%s: %d packets in records, %+v", name, packets, s)
		}
	}
	t.Logf("%d captures, %d frames, %d compared with tshark one by one", len(all), frames, compared)
}

// dropsAll reports whether no frame has a link type with a reader.
func dropsAll(frames []frame.Frame) bool {
	var p dissect.Packet
	dissect.New(dissect.Config{}).Dissect(&p, frames[0].Link, frames[0].Data, frames[0].OrigLen)
	return p.NLayers == 0 && p.Issues&dissect.Unsupported != 0
}

// excused reports whether a frame's lengths contradict each other, or its IP packet is said to be longer than the frame: what
// tshark prints is then what the header claims.
func excused(f *frame.Frame) bool {
	var p dissect.Packet
	dissect.New(dissect.Config{}).Dissect(&p, f.Link, f.Data, f.OrigLen)
	return p.Issues&(dissect.Malformed|dissect.Truncated|dissect.Deep) != 0 || p.Levels[0].IPLen == 0 || p.Levels[0].IPLen32 > 0xffff || !p.Levels[0].HasIP
}

func add(m map[string]totals, name string, n totals) {
	c := m[name]
	m[name] = totals{c.Packets + n.Packets, c.Octets + n.Octets, c.L2Octets + n.L2Octets}
}

// outerTotals reads a row of tshark: the outermost IP packet's length.
func outerTotals(row string) (totals, bool) {
	col := strings.Split(row, "\t")
	size := func(s string) uint64 {
		first, _, _ := strings.Cut(s, ",")
		n, _ := strconv.ParseUint(first, 10, 64)
		return n
	}
	for p := range strings.SplitSeq(col[0], ":") {
		switch p {
		case "ip":
			return totals{1, size(col[1]), size(col[3])}, true
		case "ipv6":
			return totals{1, 40 + size(col[2]), size(col[3])}, true
		}
	}
	return totals{}, false
}

// TestConversations compares every TCP and UDP conversation of the corpus with tshark -z conv: packets of each direction
// exactly, bytes as exactly as tshark prints them. Left out are tunnels and fragments, which tshark counts otherwise, and damaged frames.
func TestConversations(t *testing.T) {
	var frames []frame.Frame
	var p dissect.Packet
	d := dissect.New(dissect.Config{})
	all := corpusCaptures(t)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		for _, f := range all[name] {
			d.Dissect(&p, f.Link, f.Data, f.OrigLen)
			lv := &p.Levels[0]
			if f.Link == frame.LinkEthernet && p.NLevels == 1 && lv.HasIP && p.Issues&^dissect.Unsupported == 0 && !lv.MoreFrags && lv.PayloadOff != 0 && plainHeaders(&p) && lv.IPLen != 0 && lv.IPLen32 <= 0xffff+40 && f.OrigLen <= 0xffff {
				f.TimeNS = int64(len(frames)) * second
				frames = append(frames, f)
			}
		}
	}
	records, _ := run(t, DefaultConfig(), frames)
	got := map[string]totals{}
	for _, r := range records {
		if r.Proto == 6 || r.Proto == 17 {
			add(got, fmt.Sprintf("%d %s>%s", r.Proto, end(r.Src, r.SrcPort), end(r.Dst, r.DstPort)), totals{Packets: r.Packets, L2Octets: r.L2Octets})
		}
	}
	path := writePcap(t, frame.LinkEthernet, frames)
	n, config, want := 0, testkit.TsharkOnly(t, headerProtocols), map[string]*printed{}
	for _, kind := range []string{"tcp", "udp"} {
		proto := map[string]string{"tcp": "6", "udp": "17"}[kind]
		for _, line := range runTshark(t, config, path, "-q", "-z", "conv,"+kind) {
			col := strings.Fields(line)
			if len(col) < 9 || col[1] != "<->" {
				continue
			}
			n++
			back, there := column{col[3], col[4], col[5]}, column{col[6], col[7], col[8]}
			there.add(t, want, proto+" "+col[0]+">"+col[2])
			back.add(t, want, proto+" "+col[2]+">"+col[0])
		}
	}
	for key, w := range want { // a connection that uses the ports of another again has a line of its own
		if g := got[key]; g.Packets != w.packets || g.L2Octets < w.least || g.L2Octets > w.most {
			t.Errorf("%s: %+v, tshark says %+v", key, g, *w)
		}
		delete(got, key)
	}
	if len(got) > 0 {
		t.Errorf("tshark does not have %v", got)
	}
	t.Logf("%d conversations of %d frames", n, len(frames))
}

// plainHeaders reports whether there is nothing between Ethernet and the ports but tags and one IP header. With a routing header, tshark names
// another destination.
func plainHeaders(p *dissect.Packet) bool {
	for _, l := range p.Layers[:p.NLayers] {
		switch l.Kind {
		case dissect.KindEthernet, dissect.KindVLAN, dissect.KindIPv4, dissect.KindIPv6, dissect.KindTCP, dissect.KindUDP:
		default:
			return false
		}
	}
	return true
}

func end(a flow.Addr, port uint16) string { return a.String() + ":" + strconv.Itoa(int(port)) }

// printed is what tshark prints of one direction: bytes from least to most.
type printed struct{ packets, least, most uint64 }

// column is one direction as tshark prints it.
type column struct{ frames, bytes, unit string }

func (c column) add(t *testing.T, to map[string]*printed, key string) {
	t.Helper()
	frames, err := strconv.ParseUint(c.frames, 10, 64)
	octets, err2 := strconv.ParseUint(c.bytes, 10, 64)
	if err != nil || err2 != nil {
		t.Fatalf("%s: %+v", key, c)
	}
	unit := map[string]uint64{"bytes": 1, "kB": 1000, "MB": 1000000}[c.unit]
	p := to[key]
	if p == nil {
		p = new(printed)
		to[key] = p
	}
	p.packets, p.least, p.most = p.packets+frames, p.least+octets*unit, p.most+octets*unit+unit-1
}

// TestNamesOfCorpus compares the names that payload tells with tshark's fields, frame by frame.
func TestNamesOfCorpus(t *testing.T) {
	fields := []string{"tls.handshake.extensions_server_name", "http.host", "dns.qry.name", "ssh.protocol"}
	hows := []flow.AppHow{flow.AppTLS, flow.AppHTTP, flow.AppDNS, flow.AppSSH}
	all := corpusCaptures(t)
	var frames []frame.Frame
	var from []string
	var packets []apphint.Packet
	var p dissect.Packet
	d := dissect.New(dissect.Config{})
	for _, name := range slices.Sorted(maps.Keys(all)) {
		for _, f := range all[name] {
			d.Dissect(&p, f.Link, f.Data, f.OrigLen)
			lv := p.Inner()
			var a arrival
			if a.transport(&f, lv); f.Link != frame.LinkEthernet || !lv.HasIP || lv.MoreFrags || len(a.payload) == 0 || f.OrigLen > 0xffff {
				continue
			}
			frames, from = append(frames, f), append(from, name)
			packets = append(packets, apphint.Packet{Proto: lv.Proto, SrcPort: lv.SrcPort, DstPort: lv.DstPort, Payload: a.payload})
		}
	}
	args := []string{"-T", "fields", "-E", "occurrence=a", "-E", "aggregator=|", "-o", "tcp.desegment_tcp_streams:FALSE", "-e", "_ws.malformed"}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	rows := runTshark(t, "", writePcap(t, frame.LinkEthernet, frames), args...)
	if len(rows) != len(frames) {
		t.Fatalf("%d rows for %d frames", len(rows), len(frames))
	}
	in, compared, more := apphint.New(), map[flow.AppHow]int{}, 0
	for i, row := range rows {
		col := strings.Split(row, "\t")
		h := in.Look(&packets[i], nil)
		for n, how := range hows {
			theirs, _, _ := strings.Cut(col[n+1], "|")
			switch {
			case theirs == "" && (h.How != how || len(h.Name) == 0):
				continue
			case theirs == "", strings.Contains(from[i], "/quic/"), strings.Contains(from[i], "ayiya"), strings.Contains(from[i], "_8053"):
				// tshark goes by the ports; a test of its own; a tunnel that is not read; an answer on a port without a name
				more++
				continue
			}
			if want := tsharkName(how, theirs); string(h.Name) != want || h.How != how {
				t.Errorf("%s: %s %q, tshark says %s (%s)", from[i], h.How, h.Name, want, row)
			}
			compared[how]++
		}
	}
	if more > 20 {
		t.Errorf("%d names could not be compared", more)
	}
	t.Logf("%d frames, names compared: %v", len(frames), compared)
}

// tsharkName writes a name of tshark as this meter does: lower case, no port, no comment, no dot at the end.
func tsharkName(how flow.AppHow, s string) string {
	switch s = strings.ToLower(s); how {
	case flow.AppHTTP:
		if at := strings.LastIndexByte(s, ':'); at > 0 && !strings.HasSuffix(s, "]") {
			s = s[:at]
		}
	case flow.AppSSH:
		s, _, _ = strings.Cut(s, " ")
	case flow.AppDNS:
		if s == "<root>" {
			s = "."
		}
	}
	return s
}

// TestQUICOfCorpus compares the server names of QUIC conversations, whose ClientHello may be spread over several packets, with
// tshark's.
func TestQUICOfCorpus(t *testing.T) {
	n := 0
	for name, frames := range corpusCaptures(t) {
		if !strings.Contains(name, "/quic/") || len(frames) == 0 {
			continue
		}
		want, got := map[string]bool{}, map[string]bool{}
		for _, row := range runTshark(t, "", testkit.Corpus(t, name), "-T", "fields", "-Y", "quic", "-e", "tls.handshake.extensions_server_name") {
			for s := range strings.SplitSeq(row, ",") {
				if s != "" {
					want[strings.ToLower(s)] = true
				}
			}
		}
		records, _ := run(t, DefaultConfig(), frames)
		for _, r := range records {
			if r.AppHow == flow.AppQUIC && r.AppName != "" {
				got[r.AppName] = true
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: (-tshark +ours)\n%s", name, diff)
		}
		n++
	}
	t.Logf("%d captures", n)
}
