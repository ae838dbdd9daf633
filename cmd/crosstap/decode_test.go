package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"crosstap/internal/ie"
	"crosstap/internal/testkit"
	"crosstap/test/bench/vds"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
)

// decodeRun runs the command and returns what it printed and its exit code.
func decodeRun(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := newDecode()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	if err := cmd.ExecuteContext(t.Context()); err != nil {
		var e *exitError
		if !errors.As(err, &e) {
			t.Fatal(err)
		}
		return out.String(), errs.String() + err.Error() + "\n", e.code
	}
	return out.String(), errs.String(), 0
}

// vdsFile writes n records of a distributed switch to a payload file or a capture.
func vdsFile(t *testing.T, name string, n int) string {
	t.Helper()
	var b bytes.Buffer
	if filepath.Ext(name) == ".pcap" {
		if err := vds.WritePcap(&b, n, vds.VXLAN); err != nil {
			t.Fatal(err)
		}
	} else {
		vds.Stream(n, vds.VXLAN, func(m []byte) bool {
			b.Write(m)
			return true
		})
	}
	return writeFile(t, name, b.Bytes())
}

func writeFile(t *testing.T, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDecodeTable(t *testing.T) {
	out, errs, code := decodeRun(t, "--templates", vdsFile(t, "vds.pcap", 1))
	if code != 0 || errs != "decode: 1 file, 2 datagrams, 2 messages: 1 record, 0 option records, 2 templates\n" {
		t.Errorf("exit %d, %s", code, errs)
	}
	for _, want := range []string{
		"template 1  exporter 10.254.0.1:40000  domain 1  template 256  sequence 0  exported 2025-10-09T08:53:20Z\n",
		"  paddingOctets             0/210     octetArray            length 1\n",
		"record 3  exporter 10.254.0.1:40000  domain 1  template 260  sequence 0  exported 2025-10-09T08:53:21Z\n",
		"  protocolIdentifier        0/4       unsigned8             17\n",
		"  tenantProtocol            6876/880  unsigned8             17\n",
		"  vxlanExportRole           6876/889  unsigned8             1\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("output lacks %q:\n%s", want, out)
		}
	}
}

// All formats tell the same values.
func TestDecodeFormatsAgree(t *testing.T) {
	type field struct {
		PEN   uint32 `json:"pen"`
		ID    int    `json:"id"`
		Name  string `json:"name"`
		Type  string `json:"type"`
		Value any    `json:"value"`
	}
	type item struct {
		Kind     string  `json:"kind"`
		Exporter string  `json:"exporter"`
		Domain   uint32  `json:"domain"`
		Template uint16  `json:"template"`
		Sequence uint32  `json:"sequence"`
		Export   string  `json:"export_time"`
		Fields   []field `json:"fields"`
	}
	file := vdsFile(t, "vds.pcap", 20)
	get := func(format string) string {
		t.Helper()
		out, errs, code := decodeRun(t, "-o", format, file)
		if code != 0 || !strings.Contains(errs, ": 20 records, ") {
			t.Fatalf("-o %s: exit %d: %s", format, code, errs)
		}
		return out
	}
	var fromJSON []item
	if err := json.Unmarshal([]byte(get("json")), &fromJSON); err != nil || len(fromJSON) != 20 || len(fromJSON[0].Fields) != 25 {
		t.Fatalf("json: %v, %d items", err, len(fromJSON))
	}
	var fromLines []item
	d := json.NewDecoder(strings.NewReader(get("jsonl")))
	for d.More() {
		var it item
		if err := d.Decode(&it); err != nil {
			t.Fatal(err)
		}
		fromLines = append(fromLines, it)
	}
	if diff := cmp.Diff(fromJSON, fromLines); diff != "" {
		t.Errorf("json and jsonl differ:\n%s", diff)
	}
	asJSON, err := yaml.YAMLToJSON([]byte(get("yaml")))
	if err != nil {
		t.Fatal(err)
	}
	var fromYAML []item
	if err := json.Unmarshal(asJSON, &fromYAML); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fromJSON, fromYAML); diff != "" {
		t.Errorf("json and yaml differ:\n%s", diff)
	}
	rows, err := csv.NewReader(strings.NewReader(get("csv"))).ReadAll()
	if err != nil || len(rows) != 1+20*25 || rows[0][0] != "item" {
		t.Fatalf("csv: %v, %d rows", err, len(rows))
	}
	if got := rows[1]; got[1] != "record" || got[4] != "1" || got[5] != "260" || got[10] != "sourceIPv4Address" || got[12] != fromJSON[0].Fields[0].Value {
		t.Errorf("csv: first row %v", got)
	}
	if out := get("none"); out != "" {
		t.Errorf("-o none printed %q", out)
	}
}

func TestDecodePayloadFiles(t *testing.T) {
	b, err := os.ReadFile(vdsFile(t, "vds.ipfix", 40))
	if err != nil {
		t.Fatal(err)
	}
	first := 16 + int(b[18])<<8 + int(b[19])
	templates, data := writeFile(t, "1.dat", b[:first]), writeFile(t, "2.dat", b[first:])
	f := func(want string, wantCode int, args ...string) {
		t.Helper()
		out, errs, code := decodeRun(t, append([]string{"-o", "jsonl"}, args...)...)
		if code != wantCode || errs != want {
			t.Errorf("%v: exit %d, %swant %s", args, code, errs, want)
		}
		if n := strings.Count(out, "\n"); !strings.Contains(want, " record") || n > 40 {
			t.Errorf("%v: %d lines", args, n)
		}
	}
	f("decode: 2 files, 4 datagrams, 4 messages: 40 records, 0 option records, 2 templates\n", 0, templates, data)
	f("decode: 2 files, 4 datagrams, 4 messages: 40 records, 0 option records, 2 templates, 40 decoded late\n", 0, data, templates)
	f("decode: 1 file, 3 datagrams, 3 messages: 0 records, 0 option records, 0 templates; 3 sets (3360 bytes) without a template\n", 0, data)
	cut := writeFile(t, "cut.dat", b[:len(b)-5])
	f("decode: 1 file, 4 datagrams, 3 messages: 32 records, 0 option records, 2 templates; not decoded: short-message 1\n", 0, cut)
	v5 := writeFile(t, "v5.dat", append([]byte{0, 5, 0, 1}, make([]byte, 68)...))
	f("decode: 2 files, 2 datagrams, 2 messages: 1 record, 0 option records, 2 templates; netflow5 1 datagram with 1 record, ipfix 1 datagram with 0 records\n", 0, v5, templates)
}

func TestDecodeUnusable(t *testing.T) {
	text := writeFile(t, "text", []byte("not an export payload"))
	f := func(want string, args ...string) {
		t.Helper()
		if _, errs, code := decodeRun(t, args...); code != exitUsage || !strings.Contains(errs, want) {
			t.Errorf("%v: exit %d, %s", args, code, errs)
		}
	}
	f("neither a capture file nor an export payload: it starts with 6e 6f 74 20", text)
	f("no such file", filepath.Join(t.TempDir(), "none"))
	f("neither a capture file nor an export payload: there is nothing in it", writeFile(t, "empty", nil))
	f(`-o "xml": expected one of table, json, jsonl, csv, yaml, none`, "-o", "xml", text)
	// the others are decoded all the same
	out, errs, code := decodeRun(t, "-o", "jsonl", text, vdsFile(t, "vds.ipfix", 3))
	if code != exitUsage || strings.Count(out, "\n") != 3 || !strings.Contains(errs, "3 records") {
		t.Errorf("exit %d, %s", code, errs)
	}
}

func TestDecodeOVSLab(t *testing.T) {
	f := func(name, want string, args ...string) {
		t.Helper()
		out, errs, code := decodeRun(t, append(args, "-o", "jsonl", testkit.Corpus(t, "collect/ovs-lab/"+name))...)
		if code != 0 || errs != want {
			t.Errorf("%s: exit %d, %swant %s", name, code, errs, want)
		}
		if strings.Contains(out, `"name":"6876/`) {
			t.Errorf("%s: an element of VMware has no name", name)
		}
	}
	f("h1.pcap", "decode: 1 file, 1195 datagrams, 1195 messages: 1549 records, 3 option records, 267 templates, 21 counter samples; "+
		"netflow5 21 datagrams with 131 records, ipfix 1080 datagrams with 1020 records, sflow 94 datagrams with 398 records\n")
	f("h2.pcap", "decode: 1 file, 1175 datagrams, 1175 messages: 748 records, 2 option records, 178 templates, 21 counter samples; "+
		"netflow5 22 datagrams with 133 records, ipfix 1056 datagrams with 187 records, sflow 97 datagrams with 428 records; "+
		"829 sets (246094 bytes) without a template\n")
	f("h1.pcap", "decode: 1 file, 1080 datagrams, 1080 messages: 1020 records, 3 option records, 267 templates\n", "--port", "4739", "--templates")
}

// Every protocol in one capture: the summary tells each, and --explain tells of every byte what it is.
func TestDecodeEveryProtocol(t *testing.T) {
	file := testkit.Corpus(t, "collect/ovs-lab/h1.pcap")
	_, errs, code := decodeRun(t, "-o", "none", file)
	for _, want := range []string{"netflow5 21 datagrams with 131 records", "ipfix 1080 datagrams with 1020 records", "sflow 94 datagrams with 398 records", "21 counter samples"} {
		if code != 0 || !strings.Contains(errs, want) {
			t.Errorf("exit %d, no %q in %s", code, want, errs)
		}
	}
	out, _, _ := decodeRun(t, "--explain", file)
	for _, want := range []string{
		"engine id = ", "flow_sample.sampling_rate = ", "extended_vni_ingress.vni = 5001", "    sourceIPv4Address = 172.16.1.1  (IANA 8, ipv4Address)",
		"tunnelKey = 0x001389  (VMware 892, octetArray)", "set = 462, length 16  (data)",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q", want)
		}
	}
	out, errs, code = decodeRun(t, "-o", "jsonl", testkit.Corpus(t, "collect/softflowd-lab/softflowd-v5.pcap"))
	if code != 0 || strings.Count(out, "\n") != 112 || !strings.Contains(out, `"protocol":"netflow5"`) {
		t.Errorf("exit %d, %s", code, errs)
	}
}

// What cannot be decoded is refused with its reason and gives no record.
func TestDecodeRefuses(t *testing.T) {
	f := func(file, want string) {
		t.Helper()
		out, errs, code := decodeRun(t, "-o", "jsonl", testkit.Corpus(t, "collect/logstash-codec-netflow/"+file))
		if code != 0 || out != "" || !strings.Contains(errs, want) {
			t.Errorf("%s: exit %d, %d bytes, %s", file, code, len(out), errs)
		}
	}
	f("netflow5_test_invalid01.dat", ": 0 records, 0 option records, 0 templates; not decoded: bad-count 1")
	f("netflow9_test_invalid01.dat", ": 0 records, 0 option records, 2 templates; not decoded: bad-count 1")
	out, _, _ := decodeRun(t, "--explain", testkit.Corpus(t, "collect/logstash-codec-netflow/netflow5_test_invalid01.dat"))
	if !strings.Contains(out, "count = 55582") || !strings.Contains(out, "problem = netflow5: message: its count needs 2667960 bytes, 1464 there") {
		t.Error(out)
	}
}

// An element that no table names becomes readable by a definition.
func TestDecodeElements(t *testing.T) {
	defer func() { _ = ie.Define(nil) }()
	data := writeFile(t, "x.dat", []byte("\x00\x0a\x00\x2a\x69\x20\x5d\xc0\x00\x00\x00\x00\x00\x00\x00\x01"+
		"\x00\x02\x00\x10\x01\x00\x00\x01\x80\x01\x00\x02\x00\x00\x10\x92"+"\x01\x00\x00\x0a\x00\x05\x00\x06\x00\x07"))
	f := func(name, text, want string) {
		t.Helper()
		out, errs, code := decodeRun(t, "--elements", writeFile(t, name, []byte(text)), data)
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("exit %d, %s%s", code, errs, out)
		}
	}
	f("e.yaml", "- pen: 4242\n  id: 1\n  name: queueDepth\n  type: unsigned16\n", "queueDepth  4242/1  unsigned16  5\n")
	f("e.csv", "pen,id,name,type\n4242,1,queueLength,unsigned16\n", "queueLength  4242/1  unsigned16  7\n")
	if _, errs, code := decodeRun(t, "--elements", writeFile(t, "e.csv", []byte("pen,id,name\n0,8,x\n")), data); code != exitUsage || !strings.Contains(errs, "it is sourceIPv4Address already") {
		t.Errorf("exit %d, %s", code, errs)
	}
}
