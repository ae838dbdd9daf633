package export

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"crosstap/internal/choose"
	"crosstap/internal/flow"
	"crosstap/internal/flowproto/about"
	"crosstap/internal/flowproto/ipfix"
	"crosstap/internal/flowproto/sflow"
)

// ProbeResult is what a collector, or the way to it, said to templates and one record.
type ProbeResult struct {
	URL      string    `json:"url"`
	OK       bool      `json:"ok"` // nothing speaks against it
	Address  string    `json:"address,omitempty"`
	Local    string    `json:"local,omitempty"`
	MTU      int       `json:"mtu,omitempty"` // of the path as far as the system knows, IP header included
	Messages int       `json:"messages"`
	Bytes    int       `json:"bytes"`
	Answer   string    `json:"answer"` // what came back, in words
	TLS      string    `json:"tls,omitempty"`
	Peer     string    `json:"peer,omitempty"`    // name in the collector's certificate
	Expires  time.Time `json:"expires,omitzero"`  // of that certificate
	Error    string    `json:"error,omitempty"`   // why it is not OK
	Unacked  int       `json:"unacked,omitempty"` // bytes that the collector's host has not acknowledged
}

// probeWait is how long a host has to refuse a datagram or to break a connection.
const probeWait = time.Second

// Probe sends templates and one record to the target of a URL, of any scheme, and says what came back. The record is of the
// addresses that RFC 5737 keeps for documentation, and counts one packet. An error is of the URL; what the network says is in the result.
func Probe(ctx context.Context, url string) (ProbeResult, error) {
	if strings.HasPrefix(url, "sflow:") {
		t, err := ParseSFlow(url)
		if err != nil {
			return ProbeResult{}, err
		}
		r := ProbeResult{URL: t.String()}
		r.datagrams(ctx, Target{Host: t.Host, Port: t.Port, Source: t.Source, MTU: t.MTU}, func(local netip.Addr, maxLen int, emit emitter) error {
			e := sflow.NewEncoder(flow.FromNetip(local), t.SubAgent, time.Now(), maxLen)
			rec := probeRecord()
			err := e.AddFlow(&sflow.FlowSample{
				Rate: max(t.Sample, 1), Pool: 1, In: sflow.Unknown, Out: sflow.Unknown, Protocol: sflow.HeaderEthernet,
				FrameLen: 64, Stripped: 4, Header: choose.AppendFrame(nil, &rec),
			}, time.Now(), emit)
			return errors.Join(err, e.Flush(time.Now(), emit))
		})
		return r, nil
	}
	t, err := ParseTarget(url)
	if err != nil {
		return ProbeResult{}, err
	}
	if t.Domain == 0 {
		t.Domain = DefaultConfig().Domain
	}
	r := ProbeResult{URL: t.String()}
	if t.stream() {
		d, err := newDialer(&t)
		if err != nil {
			return r, fmt.Errorf("export: %s: %w", url, err)
		}
		r.connection(ctx, t, d)
		return r, nil
	}
	r.datagrams(ctx, t, func(_ netip.Addr, maxLen int, emit emitter) error {
		e, _ := newEncoder(&t, false)
		e.SetMaxLen(maxLen)
		return probeMessages(e, emit)
	})
	return r, nil
}

// probeMessages makes the messages of a probe.
func probeMessages(e encoder, emit emitter) error {
	rec, now := probeRecord(), time.Now()
	return errors.Join(e.Templates(now, emit), e.About(&about.Exporter{}, now, emit), e.Add(&rec, now, emit), e.Flush(now, emit))
}

func probeRecord() flow.Record {
	now := time.Now().UnixNano()
	return flow.Record{
		StartNS: now, EndNS: now, Direction: 255, EndReason: flow.EndForced, Proto: 17, SrcPort: 9, DstPort: 9, EtherType: 0x0800,
		Src: flow.FromNetip(netip.MustParseAddr("192.0.2.1")), Dst: flow.FromNetip(netip.MustParseAddr("198.51.100.1")),
		Packets: 1, Octets: 28, L2Octets: 42, MinLen: 28, MaxLen: 28, Observer: "crosstap destinations test",
	}
}

// datagrams probes over UDP.
func (r *ProbeResult) datagrams(ctx context.Context, t Target, messages func(local netip.Addr, maxLen int, emit emitter) error) {
	d := net.Dialer{Timeout: dialTimeout}
	if t.Source.IsValid() {
		d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(t.Source, 0))
	}
	c, err := d.DialContext(ctx, "udp", t.address())
	if err != nil {
		r.Error = err.Error()
		return
	}
	conn := c.(*net.UDPConn)
	defer conn.Close()
	local := conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
	r.Address, r.Local = conn.RemoteAddr().String(), conn.LocalAddr().String()
	path := pathMTU{v6: conn.RemoteAddr().(*net.UDPAddr).AddrPort().Addr().Unmap().Is6(), wanted: t.MTU}
	_ = dontFragment(conn, path.v6) // then the size below is the system's guess
	err = messages(local, path.message(conn), func(msg []byte, _ int) error {
		n, err := conn.Write(msg)
		r.Messages++
		r.Bytes += n
		return err
	})
	if err == nil {
		_ = conn.SetReadDeadline(time.Now().Add(probeWait))
		_, err = conn.Read(make([]byte, 64))
	}
	r.MTU, _ = socketMTU(conn, path.v6)
	var timeout net.Error
	switch {
	case err == nil:
		r.OK, r.Answer = true, "a datagram came back, which collectors do not send"
	case errors.As(err, &timeout) && timeout.Timeout():
		r.OK, r.Answer = true, "nothing came back: nobody refused it, and over UDP nobody says more"
	case errors.Is(err, syscall.ECONNREFUSED):
		r.Answer, r.Error = "refused", fmt.Sprintf("the host %s says that nothing listens on port %d", t.Host, t.Port)
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		r.Answer, r.Error = "unreachable", err.Error()
	default:
		r.Error = err.Error()
	}
}

// connection probes over TCP or TLS.
func (r *ProbeResult) connection(ctx context.Context, t Target, d dialer) {
	c, err := d.dial(ctx)
	if err != nil {
		r.Error = err.Error()
		return
	}
	defer c.Close()
	r.Address, r.Local, r.TLS, r.Peer, r.Expires = c.RemoteAddr().String(), c.LocalAddr().String(), c.version, c.peer, c.expires
	gone := make(chan error, 1)
	go func() {
		_, err := c.Read(make([]byte, 64))
		if err == nil {
			err = errors.New("the collector answers, which RFC 7011 does not know")
		}
		gone <- err
	}()
	if err = c.welcome(ctx, gone); err == nil {
		replay := ipfix.NewReplay()
		e, _ := newEncoder(&t, false)
		err = probeMessages(e, func(msg []byte, _ int) error {
			out, err := replay.Message(msg)
			if err != nil || out == nil {
				return err
			}
			_ = c.SetWriteDeadline(time.Now().Add(probeWait))
			n, err := c.Write(out)
			r.Messages++
			r.Bytes += n
			return err
		})
	}
	if err == nil {
		select {
		case err = <-gone:
		case <-time.After(probeWait):
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	r.Unacked = int(c.written() - c.acknowledged())
	switch {
	case err != nil:
		r.Answer, r.Error = "the connection ended", err.Error()
	case r.Unacked > 0:
		r.Answer, r.Error = "connected", fmt.Sprintf("%d bytes are not acknowledged after %v", r.Unacked, probeWait)
	default:
		r.OK, r.Answer = true, "connected, and all bytes were acknowledged"
	}
}
