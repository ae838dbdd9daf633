package replicate

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"

	"crosstap/internal/ledger"
)

// Reasons for which a target does not get a datagram.
const (
	dropQueue   = iota // its queue was full
	dropSend           // the system did not send it
	dropFamily         // the exporter's address is of the other version of IP, and cannot be kept
	dropLong           // longer than a datagram to the target may be
	dropLoop           // it came from the target
	dropStopped        // the line ended before it left
)

var targetReasons = []string{"queue_full", "send_failed", "address_family", "too_long", "loop", "stopped"}

// target is one collector that gets copies.
type target struct {
	cfg   *Config
	to    netip.AddrPort
	local bool // one of this machine's addresses
	book  *ledger.Book
	queue *queue
	raw   *rawSender // nil when the source address is our own
	own   []*net.UDPConn
	ports map[netip.AddrPort]*net.UDPConn
	bytes atomic.Uint64

	mu   sync.Mutex
	kept bool
	err  string
}

func newTarget(c *Config, to netip.AddrPort) *target {
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	return &target{
		cfg: c, to: to, book: ledger.New("replicate "+c.Name+" "+to.String(), ledger.Datagrams, targetReasons...), queue: newQueue(c.Queue),
		ports: map[netip.AddrPort]*net.UDPConn{},
	}
}

// bind opens the raw socket where the source address is to be kept.
func (t *target) bind() error {
	t.local = isLocal(t.to.Addr())
	if t.cfg.Source == Own || t.raw != nil {
		return nil
	}
	raw, err := newRawSender(t.to)
	if err != nil && t.cfg.Source == Keep {
		return err
	}
	if err != nil {
		t.cfg.Log.Warn("copies have our own source address", "replicate", t.cfg.Name, "target", t.to, "err", err)
		t.note(err)
		return nil
	}
	t.raw = raw
	t.mu.Lock()
	t.kept = true
	t.mu.Unlock()
	return nil
}

func (t *target) close() {
	if t.raw != nil {
		_ = t.raw.close() // nothing waits in it
		t.raw = nil
	}
	for _, c := range t.own {
		_ = c.Close()
	}
	t.own = nil
}

// offer puts a datagram into the queue, or counts why not.
func (t *target) offer(d *Datagram) {
	t.book.In(1)
	switch {
	case !t.local && d.From.Addr() == t.to.Addr():
		t.book.Drop(dropLoop, 1)
	case t.cfg.Source == Keep && d.From.Addr().Is4() != t.to.Addr().Is4():
		t.book.Drop(dropFamily, 1)
	default:
		t.book.Hold(1)
		if !t.queue.put(d.From, d.Data) {
			t.book.Hold(-1)
			t.book.Drop(dropQueue, 1)
		}
	}
}

func (t *target) run(ctx context.Context) {
	defer t.close()
	var b block
	for {
		var ok bool
		if b, ok = t.queue.take(ctx, b); !ok {
			break
		}
		for i := range b.items {
			it := &b.items[i]
			t.send(it.from, b.bytes[it.off:it.end])
		}
	}
	if n := t.queue.drain(); n > 0 {
		t.book.Hold(-n)
		t.book.Drop(dropStopped, n)
	}
}

// send sends one datagram and counts it.
func (t *target) send(from netip.AddrPort, data []byte) {
	var err error
	if t.raw != nil && from.Addr().Is4() == t.to.Addr().Is4() {
		err = t.raw.send(from, data)
	} else {
		err = t.sendOwn(from, data)
	}
	t.book.Hold(-1)
	switch {
	case err == nil:
		t.book.Out(1)
		t.bytes.Add(uint64(len(data)))
		return
	case errors.Is(err, syscall.EMSGSIZE):
		t.book.Drop(dropLong, 1)
	default:
		t.book.Drop(dropSend, 1)
	}
	t.note(err)
}

// sendOwn sends from a port of our own. A refusal is of an earlier datagram: the one at hand is sent again.
func (t *target) sendOwn(from netip.AddrPort, data []byte) error {
	c, err := t.socket(from)
	if err != nil {
		return err
	}
	if _, err = c.Write(data); errors.Is(err, syscall.ECONNREFUSED) {
		t.note(err)
		_, err = c.Write(data)
	}
	return err
}

// maxPorts is how many sockets sessions have for themselves. Further ones share them.
const maxPorts = 256

// socket returns the socket of a session: collectors know templates by their sender's address and port.
func (t *target) socket(from netip.AddrPort) (*net.UDPConn, error) {
	if c := t.ports[from]; c != nil {
		return c, nil
	}
	if len(t.own) >= maxPorts {
		return t.own[sessionHash(from)%uint64(len(t.own))], nil
	}
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(t.to))
	if err != nil {
		return nil, err
	}
	t.own = append(t.own, c)
	t.ports[from] = c
	return c, nil
}

func (t *target) note(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.err = err.Error()
}

func (t *target) status() TargetStatus {
	t.mu.Lock()
	defer t.mu.Unlock()
	return TargetStatus{Address: t.to.String(), Book: t.book.Read(), Kept: t.kept, Bytes: t.bytes.Load(), Error: t.err}
}
