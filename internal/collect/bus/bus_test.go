package bus

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"crosstap/internal/collect/output"
	"crosstap/internal/flow"
)

// records returns n records that differ in their source port and come from two exporters.
func records(from, n int) []flow.Record {
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC).UnixNano()
	out := make([]flow.Record, n)
	for i := range out {
		k := from + i
		out[i] = flow.Record{
			StartNS: at, EndNS: at + 1e9, RecvNS: at + 2e9, Proto: 17, SrcPort: uint16(k), DstPort: 53, Packets: uint64(k + 1), Octets: 60, Observer: "port1",
			Exporter: flow.FromNetip(netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", 1+k%2))), FlowID: uint64(k),
			Src: flow.FromNetip(netip.MustParseAddr("10.0.0.1")), Dst: flow.FromNetip(netip.MustParseAddr("10.0.0.2")),
		}
	}
	return out
}

// running is a sink under test.
type running struct {
	output.Sink
	in   chan []flow.Record
	done chan error
}

func run(t *testing.T, ctx context.Context, s output.Sink) running {
	t.Helper()
	r := running{s, make(chan []flow.Record), make(chan error, 1)}
	go func() { r.done <- s.Run(ctx, r.in) }()
	return r
}

// end closes the sink's input and checks its books.
func (r running) end(t *testing.T, out, dropped uint64) {
	t.Helper()
	close(r.in)
	select {
	case <-r.done:
	case <-time.After(60 * time.Second):
		t.Fatal("the sink does not end")
	}
	r.balanced(t, out, dropped)
}

func (r running) balanced(t *testing.T, out, dropped uint64) {
	t.Helper()
	b := r.Book()
	var n uint64
	for _, d := range b.Dropped {
		n += d.N
	}
	if err := b.Balance(); err != nil || b.Held != 0 || b.Out != out || n != dropped {
		t.Errorf("books: %v, %+v, want %d out, %d dropped; state %+v", err, b, out, dropped, r.State())
	}
}

func TestValidate(t *testing.T) {
	k := func(change func(*KafkaConfig), want string) {
		t.Helper()
		c := DefaultKafkaConfig()
		c.Brokers, c.Topic = []string{"b:9092"}, "flows"
		change(&c)
		if _, err := NewKafka(c); err == nil && want != "" || err != nil && (want == "" || !strings.Contains(err.Error(), want)) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	k(func(*KafkaConfig) {}, "")
	k(func(c *KafkaConfig) { c.Brokers = nil }, "brokers: want at least one")
	k(func(c *KafkaConfig) { c.Brokers = []string{"b"} }, `broker "b": want HOST:PORT`)
	k(func(c *KafkaConfig) { c.Topic = "" }, "topic: a name is needed")
	k(func(c *KafkaConfig) { c.Format = "protobuf" }, `format "protobuf": want flow, goflow2, json`)
	k(func(c *KafkaConfig) { c.Acks = "al" }, `acks "al": want all, leader, none; did you mean "all"?`)
	k(func(c *KafkaConfig) { c.Compression = "xz" }, `compression "xz"`)
	k(func(c *KafkaConfig) { c.Key = "vm" }, `key "vm": want flow, exporter, none`)
	k(func(c *KafkaConfig) { c.Acks = "leader" }, "")
	k(func(c *KafkaConfig) { c.User = "u" }, "sasl: a user is given, but no mechanism")
	k(func(c *KafkaConfig) { c.Mechanism, c.User, c.PasswordFile = "plain", "u", "/nowhere/x" }, "sasl: password-file")
	k(func(c *KafkaConfig) { c.TLS.CA = "/nowhere" }, "tls: settings are given, but it is not on")
	k(func(c *KafkaConfig) { c.TLS.On, c.TLS.CA = true, "/nowhere" }, "tls: ca")
	j := func(change func(*JetStreamConfig), want string) {
		t.Helper()
		c := DefaultJetStreamConfig()
		c.Servers, c.Subject = []string{"nats://n:4222"}, "crosstap.flows"
		change(&c)
		if _, err := NewJetStream(c); err == nil && want != "" || err != nil && (want == "" || !strings.Contains(err.Error(), want)) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	j(func(*JetStreamConfig) {}, "")
	j(func(c *JetStreamConfig) { c.Servers = []string{"n:4222"} }, `server "n:4222": want nats://HOST:PORT`)
	j(func(c *JetStreamConfig) { c.Servers = []string{"nats://u:p@n:4222"} }, "without a user")
	j(func(c *JetStreamConfig) { c.Subject = "a.*" }, `subject "a.*"`)
	j(func(c *JetStreamConfig) { c.Create = true }, "stream: a name is needed")
	j(func(c *JetStreamConfig) { c.MaxAge = time.Hour }, "create is not on")
	j(func(c *JetStreamConfig) { c.Timeout = 3 * time.Minute }, "less than 2m0s")
	j(func(c *JetStreamConfig) { c.Key = ByFlow }, `key "flow": want none, exporter`)
}
