package ipfix

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/flowproto/decode"
	"crosstap/internal/testkit"
)

// datagram is the payload of one UDP datagram of a capture.
type datagram struct {
	from    string // source address and port, as bytes
	dstPort uint16
	payload []byte
	timeNS  int64
}

// readPcap returns the UDP payloads of a little-endian classic capture of Ethernet frames with IPv4.
func readPcap(t testing.TB, path string) (all []datagram) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	unit := int64(1000)
	switch binary.LittleEndian.Uint32(b) {
	case 0xa1b2c3d4:
	case 0xa1b23c4d:
		unit = 1
	default:
		t.Fatalf("%s: not a little-endian pcap file", path)
	}
	for b = b[24:]; len(b) >= 16; {
		at := int64(binary.LittleEndian.Uint32(b))*1e9 + int64(binary.LittleEndian.Uint32(b[4:]))*unit
		n := int(binary.LittleEndian.Uint32(b[8:]))
		frame := b[16 : 16+n]
		b = b[16+n:]
		if len(frame) < 42 || frame[12] != 8 || frame[13] != 0 || frame[23] != 17 {
			continue
		}
		udp := frame[14+int(frame[14]&15)*4:]
		size := int(binary.BigEndian.Uint16(udp[4:]))
		all = append(all, datagram{
			from: string(frame[26:30]) + string(udp[:2]), dstPort: binary.BigEndian.Uint16(udp[2:]),
			payload: udp[8:size:size], timeNS: at,
		})
	}
	return all
}

// ipfixFiles are all payload files of the corpus that hold IPFIX, by folder and in name order.
func ipfixFiles(t testing.TB) (files []string) {
	t.Helper()
	root := filepath.Join(testkit.CorpusDir(t), "collect")
	for _, pattern := range []string{"logstash-codec-netflow/ipfix*.dat", "telegraf/ipfix*/*.bin", "telegraf/issue*/*.bin", "cesnet-*/*.ipfix"} {
		m, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(m) == 0 {
			t.Fatalf("corpus: %s: %v", pattern, err)
		}
		sort.Strings(m)
		files = append(files, m...)
	}
	return files
}

// ipfixDatagrams are all IPFIX datagrams of the corpus's captures.
func ipfixDatagrams(t testing.TB) (all []datagram) {
	t.Helper()
	for _, name := range []string{
		"ovs-lab/h1.pcap", "ovs-lab/h2.pcap", "softflowd-lab/softflowd-v10.pcap", "softflowd-lab/softflowd-v10-biflow.pcap", "netgauze/srv6.pcap",
	} {
		for _, d := range readPcap(t, testkit.Corpus(t, "collect/"+name)) {
			if len(d.payload) > 2 && d.payload[1] == Version && d.payload[0] == 0 {
				all = append(all, d)
			}
		}
	}
	return all
}

// fields returns the fields of a record as text by name; a name that occurs twice has two values.
func fields(it *Item) map[string][]string {
	m := make(map[string][]string)
	for v := range it.Fields() {
		m[v.Name()] = append(m[v.Name()], v.Text())
	}
	return m
}

// The events that logstash's codec lists, field for field. Fields that it names after the vendor and the tables
// do not name are passed over; the records are all there.
func TestLogstash(t *testing.T) {
	dir := testkit.Corpus(t, "collect/logstash-codec-netflow")
	f := func(name string, records, options, least int) {
		t.Helper()
		var golden struct {
			Files  []string                           `json:"files_in_order"`
			Events []struct{ Netflow map[string]any } `json:"expected_events_listed"`
		}
		b, err := os.ReadFile(filepath.Join(dir, "expected", name+".json"))
		if err == nil {
			err = json.Unmarshal(b, &golden)
		}
		if err != nil {
			t.Fatal(err)
		}
		s := NewSession(Limits{})
		var got []map[string][]string
		var total Result
		for _, file := range golden.Files {
			b, err := os.ReadFile(filepath.Join(dir, file))
			if err != nil {
				t.Fatal(err)
			}
			res, err := s.Walk(b, 0, func(it *Item) {
				if it.Kind == decode.KindRecord || it.Kind == decode.KindOption {
					got = append(got, fields(it))
				}
			})
			if err != nil {
				t.Errorf("%s: %s: %v", name, file, err)
			}
			total.Records += res.Records
			total.OptionRecords += res.OptionRecords
		}
		if total.Records != records || total.OptionRecords != options {
			t.Errorf("%s: %d records and %d options, want %d and %d", name, total.Records, total.OptionRecords, records, options)
		}
		compared := 0
		for i, e := range golden.Events {
			if len(e.Netflow) == 0 {
				continue // the second NetScaler case lists its template cache instead
			}
			best, n := closest(e.Netflow, got)
			compared += n
			if best != "" {
				t.Errorf("%s: event %d: %s", name, i, best)
			}
		}
		if compared < least {
			t.Errorf("%s: compared only %d fields", name, compared)
		}
	}
	f("ipfix-vmware-virtual-distributed-switch", 5, 0, 85)
	f("ipfix-barracuda-extended-uniflow-template-256", 2, 0, 16)
	f("ipfix-mikrotik-routeros-6-39-2", 46, 0, 30)
	f("ipfix-netscaler-with-variable-length-fields", 3, 0, 12)
	f("ipfix-netscaler-with-variable-length-fields-2", 6, 0, 0) // the first three waited for their template
	f("ipfix-netscaler-with-variable-length-fields-missing-templates", 0, 0, 0)
	f("ipfix-nokia-bras", 1, 0, 7)
	f("ipfix-options-template-from-juniper-mx240-junos-15-1-r6-s3", 0, 1, 5)
	f("ipfix-viptela-with-vpn-id", 1, 0, 15)
	f("ipfix-yaf-basic-with-applabel", 2, 1, 50)
	f("ipfix", 12, 1, 50) // the golden lists the first message's; nfcapd and goflow2 count as we do
}

// closest finds the record that agrees best with an event and returns what differs, "" for nothing, and the
// number of fields compared.
func closest(event map[string]any, records []map[string][]string) (diff string, compared int) {
	least := 1 << 20
	diff = "no record"
	for _, r := range records {
		var wrong []string
		n := 0
		for name, want := range event {
			got, ok := r[strings.Replace(name, "vmwareIn", "in", 1)]
			if !ok || name == "version" || name == "netscalerConnectionChainID" { // logstash shows its octets as text
				continue
			}
			n++
			if !same(want, got) {
				wrong = append(wrong, name+": "+strings.Join(got, ", "))
			}
		}
		if n > 0 && len(wrong) < least {
			least, diff, compared = len(wrong), strings.Join(wrong, "; "), n
		}
	}
	return diff, compared
}

// same compares a value of a golden with the text of the fields of its name. logstash prints no digits of NTP
// fractions, times of other precision, and numbers for times in options.
func same(want any, got []string) bool {
	for _, g := range got {
		at, isTime := time.Parse(time.RFC3339Nano, g)
		switch w := want.(type) {
		case float64:
			if n, err := strconv.ParseFloat(g, 64); err == nil && n == w || isTime == nil && (at.UnixMilli() == int64(w) || at.Unix() == int64(w)) {
				return true
			}
		case string:
			if short, _, cut := strings.Cut(w, "#{"); cut && strings.HasPrefix(g, short[:19]) {
				return true
			}
			wantAt, err := time.Parse(time.RFC3339Nano, w)
			if strings.EqualFold(strings.TrimSpace(g), strings.TrimSpace(w)) || err == nil && isTime == nil && wantAt.Equal(at) {
				return true
			}
		}
	}
	return false
}

// Every field of every record that ipfixcol2 read from the two Open vSwitch hosts, repeated elements too. What it dropped
// because a template never came we keep waiting.
func TestOVSAgreesWithIpfixcol2(t *testing.T) {
	f := func(name string, records, options, waiting int) {
		t.Helper()
		want := map[string][]map[string][]string{}
		b, err := os.ReadFile(testkit.Corpus(t, "collect/ovs-lab/"+name+".ipfixcol2.jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(b) {
			k, m := ipfixcol2Record(t, line)
			want[k] = append(want[k], m)
		}
		sessions := map[string]*Session{}
		n, opts, lost := 0, 0, uint64(0)
		for _, d := range readPcap(t, testkit.Corpus(t, "collect/ovs-lab/"+name+".pcap")) {
			if d.dstPort != Port {
				continue
			}
			s := sessions[d.from]
			if s == nil {
				s = NewSession(Limits{})
				sessions[d.from] = s
			}
			res, err := s.Walk(d.payload, d.timeNS, func(it *Item) {
				if it.Kind != decode.KindRecord && it.Kind != decode.KindOption {
					return
				}
				k := recordKey(it.Domain, it.Sequence, it.ID)
				if len(want[k]) == 0 {
					t.Errorf("%s: record %s is not in ipfixcol2's output", name, k)
					return
				}
				if diff := cmp.Diff(want[k][0], asIpfixcol2(it)); diff != "" {
					t.Errorf("%s: record %s (-ipfixcol2 +us):\n%s", name, k, diff)
				}
				want[k] = want[k][1:]
			})
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			n, opts, lost = n+res.Records, opts+res.OptionRecords, lost+res.Lost
		}
		left := 0
		for _, m := range want {
			left += len(m)
		}
		pending := 0
		for _, s := range sessions {
			sets, _ := s.Pending()
			pending += sets
		}
		if n != records || opts != options || left != 0 || pending != waiting || lost != 0 {
			t.Errorf("%s: %d records, %d options, %d of ipfixcol2 not met, %d sets waiting, %d lost", name, n, opts, left, pending, lost)
		}
	}
	f("h1", 1020, 3, 0)
	f("h2", 187, 2, 829)
}

func recordKey(domain, sequence uint32, id uint16) string {
	return strconv.Itoa(int(domain)) + "/" + strconv.Itoa(int(sequence)) + "/" + strconv.Itoa(int(id))
}

// ipfixcol2Record reads one line of its JSON: the record's key, and its values as text by name.
func ipfixcol2Record(t *testing.T, line []byte) (string, map[string][]string) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	var raw map[string]any
	if err := d.Decode(&raw); err != nil {
		t.Fatal(err)
	}
	num := func(name string) uint32 {
		n, err := raw[name].(json.Number).Int64()
		if err != nil {
			t.Fatal(err)
		}
		return uint32(n)
	}
	k := recordKey(num("ipfix:odid"), num("ipfix:seqNumber"), uint16(num("ipfix:templateId")))
	m := map[string][]string{}
	for name, v := range raw {
		if strings.HasPrefix(name, "ipfix:") || name == "@type" {
			continue
		}
		list, ok := v.([]any)
		if !ok {
			list = []any{v}
		}
		for _, v := range list {
			s, ok := v.(string)
			if !ok {
				s = v.(json.Number).String()
			}
			m[name] = append(m[name], strings.ToLower(s))
		}
	}
	return k, m
}

// asIpfixcol2 writes a record as ipfixcol2 does: it does not know VMware's tunnel elements and shows their octets.
func asIpfixcol2(it *Item) map[string][]string {
	m := map[string][]string{}
	for v := range it.Fields() {
		name := "iana:" + v.Name()
		if v.PEN != 0 {
			name = "en" + strconv.Itoa(int(v.PEN)) + ":id" + strconv.Itoa(int(v.ID))
			v.Element = nil
		}
		m[name] = append(m[name], strings.ToLower(v.Text()))
	}
	return m
}
