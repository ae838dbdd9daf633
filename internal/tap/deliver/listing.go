package deliver

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"crosstap/internal/dissect"
	"crosstap/internal/flow"
	"crosstap/internal/frame"
	"crosstap/internal/ledger"
)

// Listing writes a line of text for each frame: time, place, addresses and ports of the innermost packet, its protocol, and the
// segments that it is in.
type Listing struct {
	w     io.Writer
	name  func(point uint32) string
	d     *dissect.Dissector
	p     dissect.Packet
	book  *ledger.Book
	line  []byte
	names map[uint32]string

	Again  bool         // others go on when nothing can be written: frames are lost and counted
	Log    *slog.Logger // of Again; nil for none
	faults faults
}

// Trouble returns why nothing could be written.
func (l *Listing) Trouble() Trouble { return l.faults.Trouble() }

// NewListing returns a sink that writes to w. name names the points.
func NewListing(w io.Writer, name func(point uint32) string, d *dissect.Dissector) *Listing {
	return &Listing{w: w, name: name, d: d, book: ledger.New("deliver", ledger.Frames, "write_failed"), names: map[uint32]string{}}
}

// Book returns the sink's account.
func (l *Listing) Book() *ledger.Book { return l.book }

// Where returns the destination as it was given.
func (l *Listing) Where() string { return "frames:-" }

// Run writes the frames of every batch from in, which it releases, until in is closed or ctx ends.
func (l *Listing) Run(ctx context.Context, in <-chan frame.Batch) error {
	w := bufio.NewWriterSize(l.w, 64<<10)
	var failed error
	for {
		select {
		case b, ok := <-in:
			if !ok {
				return nil
			}
			l.book.In(len(b.Frames))
			err := failed
			for i := 0; i < len(b.Frames) && err == nil; i++ {
				l.line = append(l.text(l.line[:0], &b.Frames[i]), '\n')
				_, err = w.Write(l.line)
			}
			if err == nil {
				err = w.Flush()
			}
			if err != nil {
				l.book.Drop(0, len(b.Frames))
			} else {
				l.book.Out(len(b.Frames))
			}
			b.Release()
			if failed = err; failed == nil {
				continue
			}
			err = fmt.Errorf("deliver: frames: %w", failed)
			if !l.Again {
				return err
			}
			if l.faults.begin(err) && l.Log != nil {
				l.Log.Warn("nothing can be written to standard output: frames for it are lost, and the other destinations go on", "error", failed)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// text appends the line of a frame.
func (l *Listing) text(b []byte, f *frame.Frame) []byte {
	l.d.Dissect(&l.p, f.Link, f.Data, f.OrigLen)
	b = time.Unix(0, f.TimeNS).AppendFormat(b, "15:04:05.000000")
	b = append(b, ' ')
	b = append(b, l.point(f.Point)...)
	switch f.Dir {
	case frame.Ingress:
		b = append(b, " in"...)
	case frame.Egress:
		b = append(b, " out"...)
	}
	for i := range l.p.NLevels {
		if s := l.p.Levels[i].Segment; s != 0 {
			b = append(append(b, ' '), segment(s)...)
		}
	}
	if n := l.p.NLevels; n > 0 {
		b = packet(b, &l.p.Levels[n-1], &l.p)
	}
	b = append(b, ", length "...)
	b = strconv.AppendInt(b, int64(f.OrigLen), 10)
	if f.Truncated() {
		b = append(b, " (cut)"...)
	}
	return b
}

func (l *Listing) point(index uint32) string {
	name, ok := l.names[index]
	if !ok {
		name = l.name(index)
		l.names[index] = name
	}
	return name
}

// packet appends what the innermost packet is.
func packet(b []byte, f *dissect.Flow, p *dissect.Packet) []byte {
	if f.VLAN != 0 {
		b = strconv.AppendUint(append(b, " vlan "...), uint64(f.VLAN), 10)
	}
	if !f.HasIP {
		b = fmt.Appendf(b, " %s > %s", f.SrcMAC, f.DstMAC)
		if n := p.NLayers; n > 0 {
			b = append(append(b, ' '), strings.ToLower(p.Layers[n-1].Kind.String())...)
		}
		return b
	}
	ports := f.TransOff != 0 && (f.SrcPort != 0 || f.DstPort != 0)
	b = place(append(b, ' '), f.Src, f.SrcPort, ports)
	b = place(append(b, " > "...), f.Dst, f.DstPort, ports)
	b = append(append(b, ' '), flow.ProtoText(f.Proto)...)
	switch {
	case f.FragOff != 0:
		b = append(b, " fragment"...)
	case f.Proto == 6 && f.TransOff != 0:
		b = append(append(b, ' '), flow.TCPFlagText(f.TCPFlags)...)
	case f.Proto == 1 || f.Proto == 58:
		b = fmt.Appendf(b, " type %d code %d", f.ICMPTypeCode>>8, f.ICMPTypeCode&255)
	}
	return b
}

// place appends an address of a packet that has one: what is nothing elsewhere is the unspecified address of IPv6 here.
func place(b []byte, a flow.Addr, port uint16, has bool) []byte {
	ip := a.Netip()
	if !ip.IsValid() {
		ip = netip.IPv6Unspecified()
	}
	if has {
		return netip.AddrPortFrom(ip, port).AppendTo(b)
	}
	return ip.AppendTo(b)
}
