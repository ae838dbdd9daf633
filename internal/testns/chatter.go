//go:build linux

package testns

import (
	"net"
	"sync"
	"time"
)

// Chatter sends a datagram of 64 bytes to a UDP address of IPv4 every millisecond, until the function that it returns is called or the test ends.
// Nobody needs to listen there.
func (s *Space) Chatter(to string) (stop func()) {
	s.tb.Helper()
	addr, err := net.ResolveUDPAddr("udp4", to)
	if err != nil {
		s.tb.Fatal(err)
	}
	var c net.PacketConn // not connected: a refusal would come back as the next datagram's error
	if err := s.Do(func() (err error) { c, err = net.ListenPacket("udp4", ":0"); return err }); err != nil {
		s.tb.Fatal(err)
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		every := time.NewTicker(time.Millisecond)
		defer every.Stop()
		for {
			select {
			case <-every.C:
				_, _ = c.WriteTo(make([]byte, 64), addr)
			case <-quit:
				return
			}
		}
	}()
	stop = sync.OnceFunc(func() {
		close(quit)
		<-done
		c.Close()
	})
	s.tb.Cleanup(stop)
	return stop
}
