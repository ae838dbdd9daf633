//go:build !agent

package main

import (
	"bytes"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"crosstap/internal/testkit"
)

// exportCapture is a capture of one NetFlow v5 datagram with one record, written by hand: 192.0.2.9:2055 to 192.0.2.1:2055, received at
// 2020-01-02 03:04:05 UTC, 10.0.0.1:40000 to 10.0.0.2:443, 7 packets, 900 octets, from 03:04:00 to 03:04:04 UTC.
const exportCapture = "d4c3b2a1 0200 0400 00000000 00000000 00000400 01000000" + // pcap, little endian, Ethernet
	"a55d0d5e 00000000 72000000 72000000" +
	"020000000002 020000000001 0800" +
	"45000064 00000000 40110000 c0000209 c0000201" +
	"0807 0807 0050 0000" +
	"0005 0001 000186a0 5e0d5da5 00000000 00000001 00 00 0000" + // up 100 s
	"0a000001 0a000002 00000000 0000 0000 00000007 00000384 00017318 000182b8 9c40 01bb 00 18 06 00 0000 0000 00 00 0000"

func TestImport(t *testing.T) {
	raw, err := hex.DecodeString(strings.ReplaceAll(exportCapture, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file, data := filepath.Join(dir, "export.pcap"), filepath.Join(dir, "data")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	f := func(want, complaint string, args ...string) {
		t.Helper()
		var out, errs bytes.Buffer
		cmd := newRoot()
		cmd.SetArgs(args)
		cmd.SetOut(&out)
		cmd.SetErr(&errs)
		err := cmd.ExecuteContext(t.Context())
		text := errs.String()
		if err != nil {
			text += err.Error()
		}
		if out.String() != want || !strings.Contains(text, complaint) {
			t.Errorf("%v:\n%s%s\nwant %q and %q", args, out.String(), text, want, complaint)
		}
	}
	f("", "no NetFlow, IPFIX or sFlow in 1 frame", "import", file, "--port", "9", "--data", filepath.Join(dir, "other"))
	nfcapd := filepath.Join(dir, "nfcapd.202601020300")
	if err := os.WriteFile(nfcapd, []byte{0x0c, 0xa5, 2, 0, 0, 0, 0, 0}, 0o600); err != nil {
		t.Fatal(err)
	}
	f("", "a file of nfcapd holds no datagrams", "import", nfcapd, "--data", filepath.Join(dir, "other"))
	f("", "1 record of 1 datagram", "import", file, "--data", data)
	const sql = "SELECT t_start, t_end, src, dst, dst_port, packets, octets, tcp_flags FROM canonical"
	row := "2020-01-02T03:04:00Z,2020-01-02T03:04:04Z,10.0.0.1,10.0.0.2,443,7,900,24\n"
	const head = "t_start,t_end,src,dst,dst_port,packets,octets,tcp_flags\n"
	f(head+row, "1 row in", "query", sql, "--data", data, "-o", "csv")
	f("", "it was imported at", "import", file, "--data", data)
	f(head+row, "1 row in", "query", sql, "--data", data, "-o", "csv")
	f("", "2 records", "import", file, "--data", data, "--again")
	f("{\"n\":2,\"h\":\"2020-01-02T03:00:00Z\"}\n", "1 row", "query", "SELECT rows AS n, bucket AS h FROM pairs_1h WHERE rows > 0", "--data", data, "-o", "jsonl")
	f("", "2 records", "backup", data, filepath.Join(dir, "backup"))
	f("", "2 records", "restore", filepath.Join(dir, "backup"), filepath.Join(dir, "restored"))
	f(head+row+row, "2 rows in", "query", sql, "--data", filepath.Join(dir, "restored"), "-o", "csv")
	f("", "it was imported at", "import", file, "--data", filepath.Join(dir, "restored"))
	elsewhere := t.TempDir() // the data directory of a server whose records are in ClickHouse
	f("", "no store in "+elsewhere, "backup", elsewhere, filepath.Join(dir, "nothing"))
	if err := os.WriteFile(filepath.Join(elsewhere, "control.db"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f("", elsewhere+" has no records, its server keeps them in ClickHouse", "backup", elsewhere, filepath.Join(dir, "nothing"))
	f("", "no such file", "import", filepath.Join(dir, "none"), "--data", data)
	f("", "is the same as another of the files", "import", file, file, "--data", filepath.Join(dir, "twice"))
	f("n\n0\n", "1 row", "query", "SELECT count(*) AS n FROM flows", "--data", filepath.Join(dir, "twice"), "-o", "csv")
	f("", "top --by exporter,domain,observer", "exporters", "--data", data, "-o", "csv", "--no-headers")
	f("", "expected table", "query", "SELECT 1", "--data", data, "-o", "xml")
	f("", "one SELECT", "query", "DROP VIEW flows", "--data", data)
}

// TestImportIsTheSame: an import of the captures of two switches counts the same each time, and what both have reported once. Of one TCP pair Open vSwitch
// reported each of 214 packets with 11,260 octets and 217 back with 251,380 three times.
func TestImportIsTheSame(t *testing.T) {
	h1, h2 := testkit.Corpus(t, "collect/ovs-lab/h1.pcap"), testkit.Corpus(t, "collect/ovs-lab/h2.pcap")
	dir := t.TempDir()
	run := func(wantErr string, args ...string) string {
		t.Helper()
		var out bytes.Buffer
		cmd := newRoot()
		cmd.SetArgs(args)
		cmd.SetOut(&out)
		cmd.SetErr(io.Discard)
		if err := cmd.ExecuteContext(t.Context()); (err != nil) != (wantErr != "") || err != nil && !strings.Contains(err.Error(), wantErr) {
			t.Errorf("%v: %v, want %q", args, err, wantErr)
		}
		return out.String()
	}
	data := func(name string) string { return filepath.Join(dir, name) }
	const pair = "SELECT sum(packets)::BIGINT, sum(octets)::BIGINT FROM canonical WHERE proto = 6 AND src BETWEEN addr('172.16.1.0') AND addr('172.16.1.255')"
	run("", "import", h1, h2, "--port", "4739", "--data", data("ipfix"))
	if got := run("", "query", pair, "--data", data("ipfix"), "-o", "jsonl"); !strings.Contains(got, ":431,") || !strings.Contains(got, ":262640}") {
		t.Errorf("the pair has %s", got)
	}
	const all = "SELECT count(*), count(DISTINCT flow_id), sum(packets)::BIGINT, sum(octets)::BIGINT FROM canonical"
	notes := data("notes.pcap")
	if err := os.WriteFile(notes, []byte("this is no capture of anything"), 0o600); err != nil {
		t.Fatal(err)
	}
	run("", "import", h1, h2, "--data", data("a"))
	run("notes.pcap: capture", "import", h1, notes, h2, "--data", data("b"))
	run("it was imported at", "import", h2, "--data", data("b"))
	a, b := run("", "query", all, "--data", data("a"), "-o", "csv"), run("", "query", all, "--data", data("b"), "-o", "csv")
	if a != b || len(a) < 20 {
		t.Errorf("one import gives %s, another one %s", a, b)
	}
}
