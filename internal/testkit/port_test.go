package testkit

import (
	"fmt"
	"net"
	"testing"
)

func TestPort(t *testing.T) {
	seen := map[int]bool{}
	for range 100 {
		p := Port(t)
		if seen[p] || p < firstPort || p > lastPort {
			t.Fatalf("port %d", p)
		}
		seen[p] = true
	}
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", Port(t)))
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}
