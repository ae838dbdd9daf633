package session

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/collect/internal/exports"
	"crosstap/internal/flow"
	"crosstap/internal/flowproto/ipfix"
	"crosstap/internal/testkit"
)

func table(t testing.TB, change func(*Config)) *Table {
	t.Helper()
	cfg := DefaultConfig()
	if change != nil {
		change(&cfg)
	}
	tab, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

func key(addr string) Key {
	return Key{Exporter: netip.MustParseAddrPort(addr), Local: netip.MustParseAddrPort("192.0.2.1:4739")}
}

// message is an IPFIX message with the given sets.
func message(exportSec, seq, domain uint32, sets ...[]byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, 10)
	b = append(b, 0, 0)
	b = binary.BigEndian.AppendUint32(b, exportSec)
	b = binary.BigEndian.AppendUint32(b, seq)
	b = binary.BigEndian.AppendUint32(b, domain)
	for _, s := range sets {
		b = append(b, s...)
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	return b
}

var (
	template = []byte{0, 2, 0, 20, 1, 0, 0, 3, 0, 8, 0, 4, 0, 12, 0, 4, 0, 2, 0, 8} // 256: source, destination, packets
	row      = []byte{10, 0, 0, 1, 10, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 5}
)

// data is a set of n rows of the template.
func data(n int) []byte {
	b := []byte{1, 0, 0, byte(4 + n*len(row))}
	for range n {
		b = append(b, row...)
	}
	return b
}

const second = int64(time.Second)

func balanced(t *testing.T, tab *Table) {
	t.Helper()
	if err := tab.Book().Balance(); err != nil {
		t.Error(err)
	}
}

func TestSequenceLossBecomesLoss(t *testing.T) {
	tab := table(t, nil)
	k := key("10.0.0.9:5000")
	base := int64(1_700_000_000) * second / int64(time.Minute) * int64(time.Minute)
	at := func(s int64) int64 { return base + s*second }
	sec := func(s int64) uint32 { return uint32(at(s) / second) }
	n := 0
	feed := func(s int64, seq uint32, sets ...[]byte) {
		n += len(tab.Decode(k, at(s), message(sec(s), seq, 7, sets...), nil))
	}
	feed(0, 100, template, data(2))
	feed(1, 102, data(2))
	feed(2, 114, data(1)) // ten are missing
	feed(3, 120, data(1)) // five more
	feed(4, 104, data(3)) // three of them were only late
	feed(61, 121, data(1))
	if got := tab.Tick(at(62)); !cmp.Equal(got, []Loss{{
		FromNS: at(1), ToNS: at(3), Exporter: flow.V4([]byte{10, 0, 0, 9}), Domain: 7, Reason: ReasonSequence, Records: 12,
	}}) {
		t.Errorf("losses %+v", got)
	}
	feed(70, 200, data(1))
	if got := tab.Flush(); len(got) != 1 || got[0].Records != 78 {
		t.Errorf("losses at the end %+v", got)
	}
	x := tab.Exporters(at(80))
	if len(x) != 1 || x[0].LostRecords != 90 || x[0].Records != uint64(n) || n != 11 || x[0].Datagrams != 7 || x[0].Templates != 1 || x[0].Silent {
		t.Errorf("exporters %+v, %d records", x, n)
	}
	balanced(t, tab)
}

func TestSilence(t *testing.T) {
	tab := table(t, func(c *Config) { c.SilentAfter = 5 * time.Minute })
	minute := int64(time.Minute)
	start := 1000 * minute
	say := func(addr string, at int64) {
		tab.Decode(key(addr), at, message(uint32(at/second), 0, 7, template), nil)
	}
	var got []string
	tick := func(at int64) {
		for _, l := range tab.Tick(start + at*minute) {
			got = append(got, l.Reason+" "+time.Duration(l.FromNS-start).String()+" to "+time.Duration(l.ToNS-start).String())
		}
	}
	say("10.0.0.9:5000", start)
	for m := range int64(5) {
		tick(m)
	}
	say("10.0.0.9:5001", start+5*minute-1) // the exporter came back from another port: no silence
	for m := int64(5); m < 32; m++ {
		tick(m)
	}
	if x := tab.Exporters(start + 32*minute); !x[0].Silent || len(x[0].Sessions) != 2 || x[0].Sessions[0].Key.Exporter.Port() != 5001 {
		t.Errorf("%+v", x)
	}
	say("10.0.0.9:5001", start+35*minute)
	tick(36)
	want := []string{
		"exporter restarted: what it held may be lost 0s to 4m59.999999999s",
		"exporter silent 4m59.999999999s to 10m0s", "exporter silent 10m0s to 16m0s", "exporter silent 16m0s to 28m0s", "exporter silent 28m0s to 35m0s",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// TestParallelSessions has two processes of one exporter speak in turn, as the bridges of an Open vSwitch do: the
// second one is no restart of the first.
func TestParallelSessions(t *testing.T) {
	tab := table(t, nil)
	for i := range int64(30) {
		for _, addr := range []string{"10.0.0.9:5000", "10.0.0.9:5001"} {
			tab.Decode(key(addr), (100+i)*second, message(uint32(100+i), 0, 7, template), nil)
		}
		if l := tab.Tick((100 + i) * second); len(l) > 0 {
			t.Fatalf("after %d s: %+v", i, l)
		}
	}
}

func TestRejectsAreCountedByReason(t *testing.T) {
	tab := table(t, nil)
	k := key("10.0.0.9:5000")
	f := func(b []byte) { tab.Decode(k, second, b, nil) }
	f(nil)
	f([]byte{0, 9, 0, 0})
	if s := tab.Stats(); s.Sessions != 0 || s.Exporters != 0 {
		t.Errorf("a datagram that is no IPFIX opened a session: %+v", s)
	}
	f(message(1, 0, 7, template))
	f(message(1, 0, 7, template)[:20])
	bad := message(1, 0, 7, template)
	bad[17] = 1 // set identifier 1 is reserved
	f(bad)
	f(append([]byte{0, 11}, make([]byte, 20)...))
	x := tab.Exporters(second)
	want := []Reject{{"bad-version", 1}, {"short-message", 1}, {"unknown-set", 1}}
	if len(x) != 1 || !cmp.Equal(x[0].Rejects, want) || x[0].Errors != 3 || x[0].Datagrams != 2 {
		t.Errorf("exporters %+v", x)
	}
	s := tab.Book()
	balanced(t, tab)
	if s.In != 6 || s.Out != 2 {
		t.Errorf("book %+v", s)
	}
}

func TestSessionsAreBounded(t *testing.T) {
	tab := table(t, func(c *Config) { c.MaxSessions, c.MaxExporters = 10, 20 })
	real := key("10.0.0.9:5000")
	tab.Decode(real, 1, message(1, 0, 7, template), nil)
	for i := range 1000 { // forged sources that give nothing
		tab.Decode(key(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 1).String()), int64(i+2), message(1, 0, uint32(i), data(1)), nil)
	}
	if s := tab.Stats(); s.Sessions != 10 || s.Evicted != 991 || s.Exporters > 20 || s.HeldBytes != 9*len(row)+3*fieldBytes {
		t.Errorf("%+v", s)
	}
	if recs := tab.Decode(real, 5000, message(1, 0, 7, data(2)), nil); len(recs) != 2 {
		t.Error("the real exporter's templates were forgotten")
	}
	balanced(t, tab)
}

func TestPendingIsBoundedOverAllSessions(t *testing.T) {
	tab := table(t, func(c *Config) { c.MaxHeldBytes = 1 << 16 })
	big := append([]byte{1, 0, 0x40, 0}, make([]byte, 0x4000-4)...)
	for i := range 100 {
		tab.Decode(key(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}), 1).String()), int64(i), message(1, 0, 1, big), nil)
	}
	if s := tab.Stats(); s.HeldBytes > 1<<16 || s.Sessions > 4 {
		t.Errorf("%+v", s)
	}
}

func TestSkewIsMeasuredAndCorrected(t *testing.T) {
	times := []byte{0, 2, 0, 20, 1, 0, 0, 3, 0, 150, 0, 4, 0, 151, 0, 4, 0, 2, 0, 8} // 256: start and end in seconds, packets
	f := func(correct bool, ahead int64, want int64) {
		t.Helper()
		tab := table(t, func(c *Config) { c.CorrectSkew = correct })
		k := key("10.0.0.9:5000")
		var last []flow.Record
		for i := range int64(20) {
			recv := (2_000_000+10*i)*second + i*second/10 // export times are cut to seconds
			export := uint32(recv/second - ahead)
			set := binary.BigEndian.AppendUint32([]byte{1, 0, 0, 20}, export-3)
			set = binary.BigEndian.AppendUint32(set, export-1)
			set = append(set, 0, 0, 0, 0, 0, 0, 0, 1)
			last = tab.Decode(k, recv, message(export, uint32(i), 7, times, set), nil)
			if len(last) != 1 {
				t.Fatal("no record")
			}
		}
		wantStart := (2_000_000+10*19+1-3-ahead)*second + want // the last one's receipt is 1.9 s after its ten
		if got := last[0].StartNS; got != wantStart || last[0].EndNS != wantStart+2*second {
			t.Errorf("ahead by %d s: start %v off", ahead, time.Duration(got-wantStart))
		}
		x := tab.Exporters(0)
		if !x[0].Skewed || x[0].SkewNS != ahead*second {
			t.Errorf("skew %v, want %d s", time.Duration(x[0].SkewNS), ahead)
		}
	}
	f(true, 0, 0)
	f(true, 3600, 3600*second)
	f(true, -40, -40*second)
	f(false, 3600, 0)
}

func TestTemplatesSurviveRestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "templates.json")
	a := table(t, nil)
	k, silent := key("10.0.0.9:5000"), key("10.0.0.10:5000")
	a.Decode(k, 1, message(1, 0, 7, template), nil)
	a.Decode(silent, 1, message(1, 0, 7), nil)
	if err := a.Save(path); err != nil {
		t.Fatal(err)
	}
	b := table(t, nil)
	if n, err := b.Restore(path, 2); n != 1 || err != nil {
		t.Fatalf("%d sessions restored, %v", n, err)
	}
	if recs := b.Decode(k, 3, message(1, 50, 7, data(3)), nil); len(recs) != 3 {
		t.Error("templates were not restored")
	}
	if x := b.Exporters(3); len(x) != 1 || x[0].LostRecords != 0 || x[0].Templates != 1 {
		t.Errorf("%+v", x)
	}
	if n, err := table(t, nil).Restore(filepath.Join(t.TempDir(), "none"), 0); n != 0 || err != nil {
		t.Errorf("a file that is not there: %d, %v", n, err)
	}
	for _, text := range []string{"", "{", `{"version":2}`, `{"version":1,"sessions":[{"exporter":"x"}]}`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := table(t, nil).Restore(path, 0); err == nil || !strings.HasPrefix(err.Error(), "session: restore templates: ") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// The lab's sessions decode as another collector's files say; the bridge whose templates are missing in h2 waits.
func TestOVSLab(t *testing.T) {
	f := func(name string, records, missing uint64) {
		t.Helper()
		tab := table(t, nil)
		total := 0
		for _, d := range exports.Read(t, testkit.Corpus(t, "collect/ovs-lab/"+name+".pcap"), ipfix.Port) {
			total += len(tab.Decode(Key{Exporter: d.From, Local: d.To}, d.TimeNS, d.Data, nil))
		}
		balanced(t, tab)
		var sum Exporter
		for _, x := range tab.Exporters(0) {
			sum.Records += x.Records
			sum.LostRecords += x.LostRecords
			sum.Errors += x.Errors
			sum.MissingSets += x.MissingSets
			if x.SkewNS >= second || x.SkewNS < -second {
				t.Errorf("%s: skew %v", name, time.Duration(x.SkewNS))
			}
		}
		if sum.Records != records || uint64(total) != records || sum.LostRecords != 0 || sum.Errors != 0 || sum.MissingSets != missing {
			t.Errorf("%s: %+v", name, sum)
		}
	}
	f("h1", 1020, 0)  // h1.ipfixcol2.jsonl has 1023 lines, three of them option records
	f("h2", 187, 829) // 189 lines, two option records; the other 829 messages are of the bridge without templates
}

// Every prefix of every datagram, and noise: nothing panics, all is counted, nothing grows.
func TestHostile(t *testing.T) {
	tab := table(t, func(c *Config) { c.MaxSessions = 8 })
	r := rand.New(rand.NewPCG(3, 4))
	n := uint64(0)
	ds := exports.Read(t, testkit.Corpus(t, "collect/ovs-lab/h1.pcap"), ipfix.Port)
	recs := make([]flow.Record, 0, 64)
	for i, d := range ds {
		step := 1
		if i > 150 {
			step = 17
		}
		for cut := 0; cut < len(d.Data); cut += step {
			tab.Decode(Key{Exporter: d.From, Local: d.To}, d.TimeNS, d.Data[:cut], recs[:0])
			n++
		}
		noise := append([]byte(nil), d.Data...)
		for range 20 {
			noise[r.IntN(len(noise))] = byte(r.Uint32())
			from := netip.AddrPortFrom(d.From.Addr(), uint16(r.Uint32()))
			tab.Decode(Key{Exporter: from, Local: d.To}, d.TimeNS, noise, recs[:0])
			n++
		}
	}
	s := tab.Book()
	balanced(t, tab)
	if st := tab.Stats(); s.In != n || st.Sessions > 8 || st.HeldBytes > 16<<20 {
		t.Errorf("book %+v, stats %+v", s, st)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(message(1, 0, 7, template, data(2)), message(1, 2, 7, data(1)))
	f.Add(message(1, 0, 7, []byte{0, 2, 0, 8, 1, 0, 0, 0}), message(1, 0, 7, data(1))) // withdrawal, then data
	f.Fuzz(func(t *testing.T, a, b []byte) {
		tab := table(t, func(c *Config) { c.MaxSessions = 2 })
		k := key("10.0.0.9:5000")
		for i, d := range [][]byte{a, b, a} {
			tab.Decode(k, int64(i), d, nil)
		}
		balanced(t, tab)
		tab.Tick(int64(time.Hour))
		tab.Flush()
		path := filepath.Join(t.TempDir(), "t")
		if err := tab.Save(path); err != nil {
			t.Fatal(err)
		}
		if _, err := table(t, nil).Restore(path, 1); err != nil {
			t.Fatal(err)
		}
	})
}
