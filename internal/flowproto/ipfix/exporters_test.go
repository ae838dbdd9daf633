package ipfix

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/flowproto/decode"
	"crosstap/internal/testkit"
)

// The other IPFIX payloads of the corpus: what other collectors count, we count. Nothing is lost by the sequence numbers, which
// softflowd counts in a way of its own.
func TestOtherExporters(t *testing.T) {
	dir := filepath.Join(testkit.CorpusDir(t), "collect")
	f := func(pattern string, records, options, templates, missing int, problem Reason, lost ...uint64) {
		t.Helper()
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		sort.Strings(files)
		s := NewSession(Limits{})
		var sum Result
		for _, name := range files {
			for _, d := range payloads(t, name) {
				_, res, _ := s.Decode(d.payload, d.timeNS, nil)
				sum.Records, sum.OptionRecords, sum.Templates = sum.Records+res.Records, sum.OptionRecords+res.OptionRecords, sum.Templates+res.Templates
				sum.MissingSets, sum.Lost, sum.Withdrawals = sum.MissingSets+res.MissingSets, sum.Lost+res.Lost, sum.Withdrawals+res.Withdrawals
				for i, n := range res.Problems {
					sum.Problems[i] += n
				}
			}
		}
		want := Result{Records: records, OptionRecords: options, Templates: templates, MissingSets: missing, Withdrawals: sum.Withdrawals}
		for _, n := range lost {
			want.Lost += n
		}
		if problem < Reason(decode.NumReasons) {
			want.Problems[problem] = 1
		}
		if diff := cmp.Diff(want, sum); diff != "" {
			t.Errorf("%s (-want +got):\n%s", pattern, diff)
		}
	}
	const fine = Reason(decode.NumReasons)
	f("softflowd-lab/softflowd-v10.pcap", 125, 1, 5, 0, fine)
	f("softflowd-lab/softflowd-v10-biflow.pcap", 124, 1, 5, 0, fine)
	f("telegraf/ipfix_options/*.bin", 0, 126, 1, 0, fine)
	f("telegraf/ipfix_pen_35632/*.bin", 2, 0, 6, 0, fine)
	f("telegraf/issue_13305/*.bin", 2, 0, 6, 0, fine)
	f("cesnet-ipfixcol/01-odid0.ipfix", 4251, 0, 25, 0, fine)
	f("cesnet-ipfixcol/02-odid4.ipfix", 117, 0, 6, 0, fine)
	f("cesnet-ipfixcol/03-odid0-a.ipfix", 151, 0, 8, 0, fine)
	f("cesnet-ipfixcol/04-odid256,512.ipfix", 22, 0, 2, 0, fine)
	f("cesnet-ipfixcol/withdrawal-message-256.ipfix", 0, 0, 0, 0, fine)
	f("cesnet-ipfixcol/missing-template-258.ipfix", 4, 0, 15, 1, fine)
	f("cesnet-ipfixcol/bad-template-field-count.ipfix", 0, 0, 0, 3, decode.BadTemplate)
	f("cesnet-ipfixcol/bad-length-in-set-very-long.ipfix", 0, 0, 0, 0, decode.ShortMessage)
	f("cesnet-ipfixcol/header-and-zeros.ipfix", 0, 0, 0, 0, decode.BadSet)
	f("cesnet-ipfixcol/enterprise-from-nfv9.ipfix", 57, 0, 4, 1, decode.BadTemplate) // template 260 is two bytes longer than its set
	f("cesnet-ipfixcol2/example_flows.ipfix", 3979, 0, 8, 0, fine, 1)                // after 59 records it begins again with number 0, and 60 records: the overlap is taken for late ones
}

// payloads are the datagrams of a capture, or one file as one payload.
func payloads(t *testing.T, name string) []datagram {
	t.Helper()
	if filepath.Ext(name) == ".pcap" {
		return readPcap(t, name)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return []datagram{{payload: b}}
}

// Every data record that NetGauze decoded of a router's SRv6 flows: names in order, numbers and addresses. The capture is IPv6.
func TestNetGauze(t *testing.T) {
	lines, err := os.ReadFile(testkit.Corpus(t, "collect/netgauze/srv6-flow.json"))
	if err != nil {
		t.Fatal(err)
	}
	type record struct {
		Scope  []map[string]any `json:"scope_fields"`
		Fields []map[string]any `json:"fields"`
	}
	var want []record
	for line := range bytes.Lines(lines) {
		var m struct {
			IPFIX struct {
				Sets []struct{ Data struct{ Records []record } }
			}
		}
		if err := json.Unmarshal(line, &m); err != nil {
			t.Fatal(err)
		}
		for _, s := range m.IPFIX.Sets {
			want = append(want, s.Data.Records...)
		}
	}
	s, n, compared := NewSession(Limits{}), 0, 0
	for _, p := range ipv6Payloads(t, testkit.Corpus(t, "collect/netgauze/srv6.pcap")) {
		_, err := s.Walk(p, 0, func(it *Item) {
			if it.Kind != decode.KindRecord && it.Kind != decode.KindOption {
				return
			}
			if n >= len(want) {
				t.Fatalf("more than %d records", len(want))
			}
			fields := append(want[n].Scope, want[n].Fields...)
			n++
			i := 0
			for v := range it.Fields() {
				if i >= len(fields) {
					t.Fatalf("record %d: more than %d fields", n, len(fields))
				}
				w, ok := fields[i][v.Name()]
				i++
				if !ok {
					t.Errorf("record %d: field %d is %s, NetGauze has %v", n, i, v.Name(), fields[i-1])
					continue
				}
				switch w := w.(type) {
				case float64, string:
					if _, isNumber := w.(float64); !isNumber && !strings.ContainsAny(w.(string), ".:") {
						continue // NetGauze names some numbers
					}
					compared++
					if !same(w, []string{v.Text()}) {
						t.Errorf("record %d: %s is %s, NetGauze has %v", n, v.Name(), v.Text(), w)
					}
				}
			}
		})
		if err != nil {
			t.Error(err)
		}
	}
	if n != len(want) || n != 172 || compared < 2000 {
		t.Errorf("%d records, NetGauze has %d; compared %d values", n, len(want), compared)
	}
}

// ipv6Payloads returns the UDP payloads of a capture of Ethernet frames with IPv6.
func ipv6Payloads(t *testing.T, path string) (all [][]byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for b = b[24:]; len(b) >= 16; {
		n := int(binary.LittleEndian.Uint32(b[8:]))
		f := b[16 : 16+n]
		b = b[16+n:]
		if len(f) > 62 && f[12] == 0x86 && f[13] == 0xdd && f[20] == 17 {
			all = append(all, f[62:54+int(binary.BigEndian.Uint16(f[58:]))])
		}
	}
	return all
}
