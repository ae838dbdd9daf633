package bus

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"crosstap/internal/collect/internal/protocheck"
	"crosstap/internal/testkit"
)

// natsServer starts a server with JetStream. port -1 takes a free one.
func natsServer(t *testing.T, dir string, port int) *server.Server {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: dir, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("the server is not ready")
	}
	return s
}

func stop(s *server.Server) {
	s.Shutdown()
	s.WaitForShutdown()
}

// stored returns the messages that the stream holds.
func stored(t *testing.T, s *server.Server, stream string) (out []jetstream.Msg) {
	t.Helper()
	nc, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	st, err := js.Stream(ctx, stream)
	if err != nil {
		t.Fatal(err)
	}
	info, err := st.Info(ctx)
	if err != nil {
		t.Fatal(err)
	}
	c, err := st.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{AckPolicy: jetstream.AckNonePolicy})
	if err != nil {
		t.Fatal(err)
	}
	for uint64(len(out)) < info.State.Msgs {
		b, err := c.Fetch(int(info.State.Msgs)-len(out), jetstream.FetchMaxWait(5*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		for m := range b.Messages() {
			out = append(out, m)
		}
	}
	return out
}

func jetSink(t *testing.T, url string, change func(*JetStreamConfig)) *JetStream {
	t.Helper()
	cfg := DefaultJetStreamConfig()
	cfg.Servers, cfg.Subject, cfg.Stream, cfg.Create, cfg.Batch, cfg.Linger = []string{url}, "crosstap.flows", "FLOWS", true, 40, 5*time.Millisecond
	if change != nil {
		change(&cfg)
	}
	j, err := NewJetStream(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// The server is stopped and started again while records come: each arrives once.
func TestJetStreamRestart(t *testing.T) {
	file := protocheck.Flow(t)
	dir := t.TempDir()
	port := testkit.Port(t) // it is left, and taken again
	s := natsServer(t, dir, port)
	url := s.ClientURL()
	r := run(t, t.Context(), jetSink(t, url, func(c *JetStreamConfig) { c.InFlight = 64 })) // more than is sent while the server is away
	for i := range 60 {
		r.in <- records(i*50, 50)
		switch i {
		case 20:
			stop(s)
		case 40:
			s = natsServer(t, dir, port)
		}
	}
	r.end(t, 3000, 0)
	defer stop(s)
	seen := map[int]bool{}
	for _, m := range stored(t, s, "FLOWS") {
		flows := file.Read(t, "FlowBatch", m.Data())["flows"].([]any) //nolint:forcetypeassert // the field is a list
		if n, _ := strconv.Atoi(m.Headers().Get("Crosstap-Records")); n != len(flows) || m.Headers().Get("Nats-Msg-Id") == "" {
			t.Fatalf("%d flows, headers %v", len(flows), m.Headers())
		}
		for _, one := range flows {
			n := 0
			if v, ok := one.(map[string]any)["src_port"].(float64); ok { // 0 is left out
				n = int(v)
			}
			if seen[n] {
				t.Fatalf("flow %d came twice", n)
			}
			seen[n] = true
		}
	}
	if len(seen) != 3000 || r.State().Retries == 0 {
		t.Errorf("%d flows, state %+v", len(seen), r.State())
	}
}

// One identifier is stored once, whoever sends it again.
func TestJetStreamIdentifiers(t *testing.T) {
	s := natsServer(t, t.TempDir(), -1)
	defer stop(s)
	j := jetSink(t, s.ClientURL(), nil)
	nc, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	p := publisher{j: j, js: js}
	j.In(6)
	for range 3 {
		p.deliver(t.Context(), &parcel{subject: "crosstap.flows", id: "x-1", data: []byte{1}, n: 2})
	}
	if n := len(stored(t, s, "FLOWS")); n != 1 || j.Book().Out != 6 {
		t.Errorf("%d messages, %+v", n, j.Book())
	}
}

// By exporter each has a subject of its own; messages may be compressed, or JSON lines, or goflow2's.
func TestJetStreamForms(t *testing.T) {
	s := natsServer(t, t.TempDir(), -1)
	defer stop(s)
	send := func(stream string, change func(*JetStreamConfig)) []jetstream.Msg {
		t.Helper()
		r := run(t, t.Context(), jetSink(t, s.ClientURL(), func(c *JetStreamConfig) {
			c.Stream, c.Subject, c.Linger = stream, stream, time.Second
			change(c)
		}))
		r.in <- records(0, 20)
		r.end(t, 20, 0)
		return stored(t, s, stream)
	}
	msgs := send("BYEXPORTER", func(c *JetStreamConfig) { c.Key = ByExporter })
	if len(msgs) != 2 || msgs[0].Subject() == msgs[1].Subject() || len(msgs[0].Subject()) != len("BYEXPORTER.192-0-2-1") {
		t.Errorf("%d messages", len(msgs))
	}
	file := protocheck.Flow(t)
	msgs = send("ZIPPED", func(c *JetStreamConfig) { c.Compression = "zstd" })
	d, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	plain, err := d.DecodeAll(msgs[0].Data(), nil)
	if err != nil || len(file.Read(t, "FlowBatch", plain)["flows"].([]any)) != 20 || msgs[0].Headers().Get("Content-Encoding") != "zstd" { //nolint:forcetypeassert // a list
		t.Errorf("%v, headers %v", err, msgs[0].Headers())
	}
	if msgs = send("GOFLOW2", func(c *JetStreamConfig) { c.Format = Goflow2 }); len(msgs) != 20 {
		t.Errorf("%d messages of goflow2", len(msgs))
	}
	if msgs = send("LINES", func(c *JetStreamConfig) { c.Format = JSON }); len(msgs) != 1 || msgs[0].Data()[len(msgs[0].Data())-1] != '\n' {
		t.Errorf("%d messages of lines", len(msgs))
	}
}

// A server that never comes costs no more than the timeout, and everything is counted.
func TestJetStreamAway(t *testing.T) {
	testkit.NoLeaks(t)
	r := run(t, t.Context(), jetSink(t, "nats://127.0.0.1:1", func(c *JetStreamConfig) { c.Timeout, c.InFlight = time.Second, 4 }))
	r.in <- records(0, 100)
	r.end(t, 0, 100)
	if r.State().Error == "" || r.State().Connected {
		t.Errorf("%+v", r.State())
	}
	ctx, cancel := context.WithCancel(t.Context())
	r = run(t, ctx, jetSink(t, "nats://127.0.0.1:1", nil))
	r.in <- records(0, 100)
	cancel()
	<-r.done
	r.balanced(t, 0, 100)
}
