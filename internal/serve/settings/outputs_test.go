package settings

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"crosstap/internal/collect/bus"
	"crosstap/internal/collect/replicate"
	"crosstap/internal/flowproto"
	"crosstap/internal/flowproto/decode"
)

func loadOutputs(t *testing.T, text string) ([]Output, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "outputs.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return LoadOutputs(path)
}

func TestOutputs(t *testing.T) {
	list, err := loadOutputs(t, `
outputs:
  - {name: soc, export: "netflow9://192.0.2.9:9995?refresh=30s", records: canonical, filter: not port 53, tenants: red, sample: 10, queue: 5000, exporters: [10.1.2.3/8]}
  - {name: file, file: {path: f, rotate-size: 10MiB, rotate-every: 1h, keep: 3, gzip: true}}
  - {name: lake, kafka: {brokers: "b:9092", topic: t, format: goflow2, key: none, linger: 1s, tls: {server-name: k}}}
  - {name: nats, jetstream: {servers: ["tls://n:4222"], subject: a.b, batch: 7, in-flight: 3, key: exporter}}
  - {name: copies, replicate: {to: ["192.0.2.1:1", "[2001:db8::1]:2"], share: sticky, source: keep, protocols: [sflow]}, exporters: 10.0.0.0/8, queue: 99}
`)
	if err != nil {
		t.Fatal(err)
	}
	soc := list[0]
	if c := soc.Config; !c.Canonical || c.Filter != "not port 53" || c.Tenants[0] != "red" || c.Sample != 10 || c.Queue != 5000 || c.Exporters[0].String() != "10.0.0.0/8" || !c.Counted ||
		c.To != "netflow9://192.0.2.9:9995?refresh=30s" || soc.Export.Refresh != 30*time.Second {
		t.Errorf("%+v", soc)
	}
	if f := list[1].Lines; f.Path != "f" || f.Size != 10<<20 || f.Every != time.Hour || f.Keep != 3 || !f.Gzip || list[1].Config.Counted {
		t.Errorf("%+v", f)
	}
	if k := list[2].Kafka; k.Brokers[0] != "b:9092" || k.Format != bus.Goflow2 || k.Key != bus.NoKey || k.Linger != time.Second || k.Acks != "all" || !k.TLS.On || k.TLS.ServerName != "k" || !list[2].Config.Counted {
		t.Errorf("%+v", k)
	}
	if j := list[3].JetStream; j.Subject != "a.b" || j.Batch != 7 || j.InFlight != 3 || j.Key != bus.ByExporter || list[3].Config.Counted || list[3].Config.To != "tls://n:4222/a.b" {
		t.Errorf("%+v", j)
	}
	if r := list[4].Replicate; len(r.To) != 2 || r.Share != replicate.Sticky || r.Source != replicate.Keep || r.Protocols[0] != flowproto.Protocol(decode.SFlow) || len(r.Exporters) != 1 || r.Queue != 99 {
		t.Errorf("%+v", r)
	}
}

func TestOutputMistakes(t *testing.T) {
	f := func(entry, why string) {
		t.Helper()
		if _, err := loadOutputs(t, "outputs: ["+entry+"]"); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v, want %q", entry, err, why)
		}
	}
	f("{name: a}", "output 1 (a): want exactly one of export, file, kafka, jetstream, replicate")
	f("{export: ipfix://h}", "output 1 (no name): name: want")
	f(`{name: "a b", export: ipfix://h}`, "name: want 1 to 64 letters")
	f("{name: a, file: {path: x}}, {name: a, file: {path: y}}", `output 2: name "a" is given twice`)
	f("{name: a, export: ipfx://h}", `scheme "ipfx" is not known here`)
	f("{name: a, export: ipfix://h, filter: tcp prot 80}", `column 5: "prot" is not expected`)
	f("{name: a, export: ipfix://h, exporters: 10.0.0}", `exporters: "10.0.0"`)
	f("{name: a, file: {path: x, rotate-every: soon}}", `rotate-every: "soon": expected a duration`)
	f("{name: a, file: {path: x, rotate-size: big}}", "rotate-size:")
	f("{name: a, replicate: {to: [collector:2055]}}", "names are not resolved")
	f("{name: a, replicate: {to: [192.0.2.1:1], protocols: [netflow]}}", `protocol "netflow": want one of netflow1, netflow5`)
	f("{name: a, replicate: {to: [192.0.2.1:1]}, sample: 4}", "replicate passes datagrams on as they came")
	f("{name: a, kafka: {brokers: [b:1], topic: t, sasl: {user: u}}}", "sasl: mechanism")
	if _, err := LoadOutputs("/nowhere/outputs.yaml"); err == nil {
		t.Error("a file that is not there was read")
	}
}

func FuzzOutputs(f *testing.F) {
	f.Add([]byte("- {name: a, file: {path: x}}"))
	f.Add([]byte("- &x [*x]"))
	f.Fuzz(func(_ *testing.T, b []byte) {
		pairs, err := mapping(append([]byte("outputs:\n"), b...))
		if err == nil && len(pairs) == 1 {
			_, _ = outputsNode(pairs[0].Value)
		}
	})
}
