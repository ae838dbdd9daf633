package testkit

import (
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
)

// Ports that Port gives: below those that systems give out by themselves, above those that programs have by habit.
const (
	firstPort = 20000
	lastPort  = 29999
)

// Port returns a port of TCP and UDP that is free until the test ends: no other test that asks for one gets it, and the system gives it to
// nobody. It is for a program that is told its port, for an address that is left and taken again, and for one where nobody listens.
func Port(t testing.TB) int {
	t.Helper()
	for range 1000 {
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		// The claim is an abstract socket: it is as long there as its process, and as far as ports are, in this network namespace.
		claim, err := net.Listen("unix", fmt.Sprintf("@crosstap-test-port-%d", port))
		if err != nil {
			continue
		}
		if !unused(port) {
			claim.Close()
			continue
		}
		t.Cleanup(func() { claim.Close() })
		return port
	}
	t.Fatal("testkit: there is no free port")
	return 0
}

// unused reports whether nobody has the port, whatever the address.
func unused(port int) bool {
	at := fmt.Sprintf(":%d", port)
	l, err := net.Listen("tcp", at)
	if err != nil {
		return false
	}
	l.Close()
	c, err := net.ListenPacket("udp", at)
	if err != nil {
		return false
	}
	c.Close()
	return true
}
