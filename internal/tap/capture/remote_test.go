package capture

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/bpf"

	"crosstap/internal/frame"
	"crosstap/internal/rpcap"
	"crosstap/internal/testkit"
)

// TestRemote captures from a server that drops for want of room, loses its connection and comes back.
func TestRemote(t *testing.T) {
	c := rpcap.DefaultServerConfig()
	c.Addr = "127.0.0.1:0"
	c.Interfaces = func() []rpcap.Interface { return []rpcap.Interface{{Name: "eth0", Link: frame.LinkEthernet}} }
	run := func(addr string) (*rpcap.Server, func()) {
		c.Addr = addr
		s, err := rpcap.NewServer(c)
		if err != nil {
			t.Fatal(err)
		}
		l, err := s.Listen(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- s.Serve(ctx, l) }()
		return s, func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	s, stop := run(fmt.Sprintf("127.0.0.1:%d", testkit.Port(t))) // it is left, and taken again
	addr := s.Addr().String()
	target, err := rpcap.ParseTarget("rpcap://" + addr + "/eth0")
	if err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	r, err := NewRemote(RemoteConfig{Targets: []rpcap.Target{target}, Ready: func() { close(ready) },
		Filter: func(frame.LinkType) ([]bpf.RawInstruction, error) {
			return []bpf.RawInstruction{{Op: 0x30, K: 12}, {Op: 0x15, Jf: 1, K: 8}, {Op: 6, K: 1 << 18}, {Op: 6}}, nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	out, done := make(chan frame.Batch, 64), make(chan error, 1)
	go func() { done <- r.Run(ctx, out); close(out) }()
	<-ready
	publish := func(s *rpcap.Server, kinds ...byte) {
		for range 6000 { // until the capture is there
			before := s.Book().Read().Out
			s.Publish([]frame.Frame{{Data: append(make([]byte, 12), kinds[0], 0, 1), OrigLen: 15, Link: frame.LinkEthernet}})
			if s.Book().Read().Out > before || kinds[0] != 8 {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	take := func() {
		t.Helper()
		select {
		case b := <-out:
			if len(b.Frames) != 1 || b.Frames[0].Data[12] != 8 || b.Frames[0].Point != 0 {
				t.Errorf("%+v", b.Frames)
			}
			b.Release()
		case <-time.After(time.Minute):
			t.Fatal("no frame comes")
		}
	}
	publish(s, 8)
	take()
	publish(s, 9)
	stop()
	s, stop = run(addr)
	defer stop()
	publish(s, 8)
	take()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if st := r.Book().Read(); st.Balance() != nil || st.Out != 2 {
		t.Errorf("%+v", st)
	}
	if name, _ := r.Interface(0); name != "rpcap://"+addr+"/eth0" {
		t.Error(name)
	}
	target.Device = "eth1"
	r, _ = NewRemote(RemoteConfig{Targets: []rpcap.Target{target}})
	if err := r.Run(context.Background(), nil); err == nil || !strings.Contains(err.Error(), "there are: eth0") {
		t.Error(err)
	}
}
