package serve

import (
	"context"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A server that starts waits for a ClickHouse that ends its connections, until it is told to stop; what a server answers ends it at once.
func TestWaitForClickHouse(t *testing.T) {
	for _, c := range []struct {
		what   string
		answer []byte
		again  bool
	}{
		{"resets", nil, true},
		{"no ClickHouse", []byte("\x07SSH-2.0-Other"), false},
	} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		set := testSettings(t)
		set.Store = "clickhouse://" + ln.Addr().String() + "/crosstap"
		s, err := New(Config{Settings: set})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		var tries atomic.Int32
		go func() {
			for {
				conn, err := ln.Accept()
				if err != nil {
					return
				}
				if tries.Add(1) == 3 {
					cancel()
				}
				if c.answer == nil {
					_ = conn.(*net.TCPConn).SetLinger(0)
				} else {
					_, _ = conn.Write(c.answer)
					_, _ = io.Copy(io.Discard, conn) // until the other end has read it and goes
				}
				_ = conn.Close()
			}
		}()
		err = s.Run(ctx)
		cancel()
		ln.Close()
		if err == nil || !strings.Contains(err.Error(), ln.Addr().String()) {
			t.Errorf("%s: %v", c.what, err)
		}
		if n := tries.Load(); c.again != (n >= 3) {
			t.Errorf("%s: %d tries", c.what, n)
		}
	}
}
