package vm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sync/errgroup"
)

// names serves the tenant's zone: web.TENANT.lab and db.TENANT.lab.
func (v *VM) names(ctx context.Context, g *errgroup.Group) error {
	conn, err := net.ListenPacket("udp", fmt.Sprintf(":%d", portDNS))
	if err != nil {
		return fmt.Errorf("lab dns: %w", err)
	}
	context.AfterFunc(ctx, func() { conn.Close() })
	zone := map[string]Peer{"web." + v.cfg.Tenant + ".lab.": v.cfg.Web, "db." + v.cfg.Tenant + ".lab.": v.cfg.DB}
	g.Go(func() error {
		b := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(b)
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				return fmt.Errorf("lab dns: %w", err)
			}
			answer, err := resolve(zone, b[:n])
			if err != nil {
				continue // not a query: no answer, as other name servers do
			}
			if _, err := conn.WriteTo(answer, from); err == nil {
				v.stats.Served.Add(1)
			}
		}
	})
	return nil
}

// resolve answers a query from the zone (RFC 1035, section 4).
func resolve(zone map[string]Peer, query []byte) ([]byte, error) {
	var p dnsmessage.Parser
	head, err := p.Start(query)
	if err != nil {
		return nil, err
	}
	q, err := p.Question()
	if err != nil {
		return nil, err
	}
	if head.Response {
		return nil, errors.New("not a query")
	}
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: head.ID, Response: true, Authoritative: true, RecursionDesired: head.RecursionDesired},
		Questions: []dnsmessage.Question{q},
	}
	peer, ok := zone[q.Name.String()]
	if !ok {
		m.RCode = dnsmessage.RCodeNameError
		return m.Pack()
	}
	rr := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 60}
	switch {
	case q.Type == dnsmessage.TypeA:
		m.Answers = append(m.Answers, dnsmessage.Resource{Header: rr, Body: &dnsmessage.AResource{A: peer.Addr4.As4()}})
	case q.Type == dnsmessage.TypeAAAA && peer.Addr6.IsValid():
		m.Answers = append(m.Answers, dnsmessage.Resource{Header: rr, Body: &dnsmessage.AAAAResource{AAAA: peer.Addr6.As16()}})
	}
	return m.Pack()
}

// A resolver asks one name server from a fixed source port. One goroutine at a time.
type resolver struct {
	conn net.Conn
	id   uint16
}

func newResolver(server netip.Addr) (*resolver, error) {
	local := &net.UDPAddr{Port: portResolver}
	conn, err := net.DialUDP("udp", local, net.UDPAddrFromAddrPort(netip.AddrPortFrom(server, portDNS)))
	if err != nil {
		return nil, fmt.Errorf("lab resolver: %w", err)
	}
	return &resolver{conn: conn}, nil
}

// lookup asks for one record and returns its address.
func (r *resolver) lookup(name string, kind dnsmessage.Type) (netip.Addr, error) {
	r.id++
	dn, err := dnsmessage.NewName(name)
	if err != nil {
		return netip.Addr{}, err
	}
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: r.id, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dn, Type: kind, Class: dnsmessage.ClassINET}},
	}
	b, err := m.Pack()
	if err != nil {
		return netip.Addr{}, err
	}
	if err := r.conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return netip.Addr{}, err
	}
	if _, err := r.conn.Write(b); err != nil {
		return netip.Addr{}, err
	}
	answer := make([]byte, 1500)
	for {
		n, err := r.conn.Read(answer)
		if err != nil {
			return netip.Addr{}, err
		}
		var m dnsmessage.Message
		if m.Unpack(answer[:n]) != nil || m.ID != r.id {
			continue // a late answer to an earlier question
		}
		return address(m)
	}
}

// address returns the address in the first answer of a message.
func address(m dnsmessage.Message) (netip.Addr, error) {
	if len(m.Answers) == 0 {
		return netip.Addr{}, fmt.Errorf("no answer: %v", m.RCode)
	}
	switch body := m.Answers[0].Body.(type) {
	case *dnsmessage.AResource:
		return netip.AddrFrom4(body.A), nil
	case *dnsmessage.AAAAResource:
		return netip.AddrFrom16(body.AAAA), nil
	}
	return netip.Addr{}, errors.New("the answer is not an address")
}
