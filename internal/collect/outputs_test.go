package collect

import (
	"context"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"crosstap/internal/collect/listen"
	"crosstap/internal/collect/output"
	"crosstap/internal/collect/replicate"
	"crosstap/internal/flow"
)

// stuck is a sink that takes nothing.
type stuck struct{ *output.Account }

func (stuck) Run(ctx context.Context, _ <-chan []flow.Record) error {
	<-ctx.Done()
	return ctx.Err()
}

// What is collected goes to every output and, as it came, to other collectors; one that takes nothing holds nobody up.
func TestOutputs(t *testing.T) {
	sock, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer sock.Close()
	lines, err := output.NewLines(output.LinesConfig{Path: filepath.Join(t.TempDir(), "flows.jsonl")})
	if err != nil {
		t.Fatal(err)
	}
	file, err := output.New(output.Config{Name: "file", Canonical: true}, lines)
	if err != nil {
		t.Fatal(err)
	}
	slow, err := output.New(output.Config{Name: "slow", Queue: 10}, stuck{output.NewAccount()})
	if err != nil {
		t.Fatal(err)
	}
	rep, err := replicate.New(replicate.Config{
		Name: "copies", To: []netip.AddrPort{netip.MustParseAddrPort(sock.LocalAddr().String())}, Source: replicate.Own, Share: replicate.All,
	})
	if err != nil {
		t.Fatal(err)
	}
	datagrams := labDatagrams(t)
	m := &memory{}
	cfg := DefaultConfig()
	cfg.Store, cfg.Sources, cfg.Import = m, []Source{capture(datagrams)}, true
	cfg.Outputs, cfg.Replicators = []*output.Output{file, slow}, []*replicate.Replicator{rep}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.outputWait = 3 * time.Second // the file, too, has no more at the end
	done := make(chan error, 1)
	go func() { done <- c.Run(t.Context()) }()
	came := make(map[string]bool)
	for _, d := range datagrams {
		came[string(d.Data)] = true
	}
	buf := make([]byte, 65536)
	for range 20 { // the kernel may drop later ones
		_ = sock.SetReadDeadline(time.Now().Add(time.Minute))
		if n, _, err := sock.ReadFrom(buf); err != nil || !came[string(buf[:n])] {
			t.Fatalf("a copy of %d bytes that nobody sent, %v", n, err)
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	s := c.Status()
	canonical := 0
	for _, r := range m.recs {
		if r.Is(flow.MarkCanonical) {
			canonical++
		}
	}
	if got := s.Outputs[0].Book; int(got.In) != m.len() || int(got.Out) != canonical || canonical == 0 || got.Balance() != nil {
		t.Errorf("%d stored, %d canonical, %+v", m.len(), canonical, got)
	}
	if got := s.Outputs[1].Book; int(got.In) != m.len() || got.Out != 0 || got.Held != 0 || got.Balance() != nil {
		t.Errorf("%+v", got)
	}
	if got := s.Replicators[0]; int(got.Book.Out) != len(datagrams) || int(got.Targets[0].Book.Out) != len(datagrams) {
		t.Errorf("%+v, %d datagrams", got, len(datagrams))
	}
}

// A collector does not send to itself.
func TestReplicationLoop(t *testing.T) {
	free, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := free.LocalAddr().String()
	free.Close()
	rep, err := replicate.New(replicate.Config{Name: "loop", To: []netip.AddrPort{netip.MustParseAddrPort(at)}, Source: replicate.Own, Share: replicate.All})
	if err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	lc := listen.DefaultConfig()
	lc.Addr = at
	cfg.Store, cfg.Listen, cfg.Replicators = &memory{}, []listen.Config{lc}, []*replicate.Replicator{rep}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Run(t.Context()); err == nil {
		t.Error("it runs")
	}
}
