package listen

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"crosstap/internal/flowproto"
)

// udpSocket is one socket with what recvmmsg fills. Its descriptor is not among those that the Go runtime waits for: there each datagram would wake a
// thread while the reader naps.
type udpSocket struct {
	fd    int
	drops dropCounter

	hdrs  []mmsghdr
	iovs  []unix.Iovec
	names []unix.RawSockaddrInet6 // wide enough for IPv4
	oob   []byte
	bufs  []byte
	meta  []oobMeta // of what was read

	n, next int    // datagrams read, and of them those passed on
	readAt  uint64 // number of the reader's call that read last
	total   uint64 // datagrams read since the start
	from    sender // of the datagram before
}

// sender is the last address converted: datagrams of one exporter come in runs.
type sender struct {
	raw  unix.RawSockaddrInet6
	addr netip.AddrPort
}

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [(8 - (unsafe.Sizeof(unix.Msghdr{})+4)%8) % 8]byte
}

// bindUDP opens the port. The first socket is opened alone, so that a port that another process has is refused; only then
// it is shared with the others.
func bindUDP(ctx context.Context, l *Listener) (transport, error) {
	u := &udpListener{l: l}
	u.slabs.init(l.cfg.Slabs, l.cfg.Batch)
	conn, err := listenUDP(ctx, net.ListenConfig{}, l.cfg.Addr)
	if err != nil {
		return nil, err
	}
	local := conn.LocalAddr().(*net.UDPAddr)
	if err := u.add(conn); err != nil {
		return nil, err
	}
	u.addr = unmap(local.AddrPort())
	if err := u.share(ctx, local.String()); err != nil {
		return nil, errors.Join(err, u.close())
	}
	return u, nil
}

// add prepares a socket and takes it in; conn is closed, whatever happens.
func (u *udpListener) add(conn *net.UDPConn) error {
	want := u.l.cfg.ReceiveBuffer
	if n := u.l.cfg.Sockets; n > 1 {
		want /= n
	}
	granted, err := prepare(conn, want)
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	fd, err := detach(conn)
	if err != nil {
		return err
	}
	s := &udpSocket{fd: fd}
	s.init(u.l.cfg.Batch)
	u.sockets, u.granted = append(u.sockets, s), u.granted+granted
	return nil
}

// detach closes conn and returns a descriptor of its socket, which the caller closes.
func detach(conn *net.UDPConn) (int, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, errors.Join(err, conn.Close())
	}
	fd := -1
	ctl := raw.Control(func(f uintptr) { fd, err = unix.FcntlInt(f, unix.F_DUPFD_CLOEXEC, 0) })
	if err = errors.Join(err, ctl, conn.Close()); err != nil && fd >= 0 {
		err = errors.Join(err, unix.Close(fd))
	}
	return fd, err
}

func (s *udpSocket) close() error { return unix.Close(s.fd) }

// share opens the further sockets on the same address.
func (u *udpListener) share(ctx context.Context, addr string) error {
	n := u.l.cfg.Sockets
	if n == 0 {
		n = min((u.l.cfg.ReceiveBuffer+u.granted-1)/max(u.granted, 1), autoSockets)
	}
	if n <= 1 {
		return nil
	}
	reuse := func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) }
	if err := reuse(u.sockets[0].fd); err != nil {
		return fmt.Errorf("share the port: %w", err)
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		ctl := c.Control(func(fd uintptr) { err = reuse(int(fd)) })
		return errors.Join(err, ctl)
	}}
	for len(u.sockets) < n {
		conn, err := listenUDP(ctx, lc, addr)
		if err != nil {
			return fmt.Errorf("socket %d of %d: %w", len(u.sockets)+1, n, err)
		}
		if err := u.add(conn); err != nil {
			return err
		}
	}
	return spread(u.sockets[0].fd, n)
}

// skfAdRandom is SKF_AD_OFF + SKF_AD_RANDOM (linux/filter.h): loading it gives a random number.
const skfAdRandom = 0xfffff000 + 56

// spread makes the kernel give each datagram to one of n sockets at random.
func spread(fd, n int) error {
	prog := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: skfAdRandom},
		{Code: unix.BPF_ALU | unix.BPF_MOD | unix.BPF_K, K: uint32(n)},
		{Code: unix.BPF_RET | 0x10}, // BPF_A
	}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, &unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}); err != nil {
		return fmt.Errorf("spread datagrams over %d sockets: %w", n, err)
	}
	return nil
}

// init makes the room for a batch. Only as much of it is touched as datagrams are long.
func (s *udpSocket) init(batch int) {
	s.hdrs, s.iovs = make([]mmsghdr, batch), make([]unix.Iovec, batch)
	s.names, s.oob = make([]unix.RawSockaddrInet6, batch), make([]byte, batch*oobLen)
	s.bufs, s.meta = make([]byte, batch*maxDatagram), make([]oobMeta, batch)
	for i := range s.hdrs {
		h := &s.hdrs[i].hdr
		s.iovs[i].Base = &s.bufs[i*maxDatagram]
		s.iovs[i].SetLen(maxDatagram)
		h.Iov = &s.iovs[i]
		h.SetIovlen(1)
		h.Name, h.Control = (*byte)(unsafe.Pointer(&s.names[i])), &s.oob[i*oobLen]
		s.reset(i)
	}
}

// reset undoes what the kernel wrote into a header.
func (s *udpSocket) reset(i int) {
	h := &s.hdrs[i].hdr
	h.Namelen, h.Flags = uint32(unsafe.Sizeof(s.names[i])), 0
	h.SetControllen(oobLen)
}

// receive reads what is there, at most a batch, without waiting.
func (s *udpSocket) receive() error {
	for i := range s.hdrs[:min(len(s.hdrs), s.n+1)] { // what the call before has changed
		s.reset(i)
	}
	s.n, s.next = 0, 0
	for {
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&s.hdrs[0])), uintptr(len(s.hdrs)), unix.MSG_DONTWAIT, 0, 0)
		switch {
		case errno == 0:
			s.n = int(n)
			s.total += uint64(n)
			return nil
		case errno == unix.EAGAIN:
			return nil
		case !temporary(errno):
			return fmt.Errorf("receive: %w", errno)
		}
	}
}

// fromOf returns the sender of a datagram.
func (s *udpSocket) fromOf(i int) netip.AddrPort {
	raw := &s.names[i]
	if raw.Family == s.from.raw.Family && raw.Port == s.from.raw.Port && s.from.addr.IsValid() && s.same(raw) {
		return s.from.addr
	}
	s.from.raw = *raw
	port := raw.Port<<8 | raw.Port>>8
	if raw.Family == unix.AF_INET {
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(raw))
		s.from.addr = netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), port)
		return s.from.addr
	}
	a := netip.AddrFrom16(raw.Addr).Unmap()
	if raw.Scope_id != 0 && a.Is6() {
		a = a.WithZone(zoneName(raw.Scope_id))
	}
	s.from.addr = netip.AddrPortFrom(a, port)
	return s.from.addr
}

func (s *udpSocket) same(raw *unix.RawSockaddrInet6) bool {
	if raw.Family == unix.AF_INET {
		return raw.Flowinfo == s.from.raw.Flowinfo // where struct sockaddr_in has its address
	}
	return raw.Addr == s.from.raw.Addr && raw.Scope_id == s.from.raw.Scope_id
}

// zoneName names an interface as package net does.
func zoneName(index uint32) string {
	if ifi, err := net.InterfaceByIndex(int(index)); err == nil {
		return ifi.Name
	}
	return fmt.Sprint(index)
}

// Waiting. While datagrams come one by one the reader naps, and finds several: a wakeup costs more than a datagram, and so does each
// of the stages behind that is woken for a few.
const (
	nap     = time.Millisecond
	napRoom = 4 << 20 // bytes of receive buffer that a nap needs: more than comes in its time
	napMost = 5       // naps at a time
)

// napFor is how long the reader naps with so much receive buffer, 0 for not at all.
func napFor(granted int) time.Duration { return nap * time.Duration(min(granted/napRoom, napMost)) }

// reader is the one reader of all sockets of a port.
type reader struct {
	u     *udpListener
	fds   []unix.PollFd // the sockets, and last what wakes the reader
	calls uint64
	busy  bool // the last wait was short
	pack  packer
}

func (u *udpListener) read(ctx context.Context, out chan<- Batch) error {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("eventfd: %w", err)
	}
	defer unix.Close(wake)
	rung := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { defer close(rung); _, _ = unix.Write(wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) })
	defer func() {
		if !stop() {
			<-rung // it has the descriptor
		}
	}()
	r := &reader{u: u, pack: packer{u: u, out: out}}
	for _, s := range u.sockets {
		r.fds = append(r.fds, unix.PollFd{Fd: int32(s.fd), Events: unix.POLLIN})
	}
	r.fds = append(r.fds, unix.PollFd{Fd: int32(wake), Events: unix.POLLIN})
	return r.run(ctx)
}

func (r *reader) run(ctx context.Context) error {
	var deadline time.Time // of the drain, zero before
	for {
		got, more, err := r.round(ctx)
		if err != nil {
			return err
		}
		switch {
		case ctx.Err() != nil:
			if deadline.IsZero() {
				deadline = time.Now().Add(drainTime)
			}
			if got == 0 && !more || time.Now().After(deadline) {
				return r.abandon(ctx)
			}
		case !more:
			if err := r.wait(got); err != nil {
				return err
			}
		}
	}
}

// abandon passes on what was read and could not wait for its turn any longer.
func (r *reader) abandon(ctx context.Context) error {
	for r.emit(ctx, true) {
	}
	r.pack.flush(ctx)
	return nil
}

// wait waits for a datagram or the end. got is how many the last round brought.
func (r *reader) wait(got int) error {
	rest := napFor(r.u.granted)
	if r.busy && got > 0 && rest > 0 {
		time.Sleep(rest)
		return nil
	}
	before := time.Now()
	for {
		_, err := unix.Poll(r.fds, -1)
		r.busy = time.Since(before) < max(rest, nap)
		if err == nil || !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// round reads each socket that has nothing left, and passes on all that is in order. It returns how many datagrams
// it read, and whether it is worth to go on without waiting.
func (r *reader) round(ctx context.Context) (got int, more bool, err error) {
	for _, s := range r.u.sockets {
		if s.next < s.n {
			continue
		}
		r.calls++
		s.readAt = r.calls
		if err := s.receive(); err != nil {
			return got, false, err
		}
		got += s.n
		r.u.note(s)
	}
	for r.emit(ctx, false) {
	}
	if r.left() > 0 {
		return got, true, nil // it waits only for the others to be read once more
	}
	r.pack.flush(ctx)
	for _, s := range r.u.sockets {
		more = more || s.n == len(s.hdrs) // there may be more than a batch
	}
	return got, more, nil
}

// left counts what is read and not passed on.
func (r *reader) left() (n int) {
	for _, s := range r.u.sockets {
		n += s.n - s.next
	}
	return n
}

// note reads what the kernel says beside the datagrams.
func (u *udpListener) note(s *udpSocket) {
	for i := range s.n {
		m := parseOOB(s.oob[i*oobLen:][:s.hdrs[i].hdr.Controllen])
		if m.hasDrops {
			u.dropped(s, m.drops)
		}
		if m.timeNS == 0 {
			m.timeNS = time.Now().UnixNano()
		}
		s.meta[i] = m
	}
}

// emit passes on the oldest datagram of all sockets. It returns false when there is none, or when an older one may be in a
// socket that was not emptied since this one was read.
func (r *reader) emit(ctx context.Context, anyway bool) bool {
	var from *udpSocket
	for _, s := range r.u.sockets {
		if s.next < s.n && (from == nil || s.meta[s.next].timeNS < from.meta[from.next].timeNS) {
			from = s
		}
	}
	if from == nil {
		return false
	}
	for _, s := range r.u.sockets {
		if !anyway && s.next == s.n && (s.readAt < from.readAt || s.n == len(s.hdrs) && s != from) {
			return false
		}
	}
	r.one(ctx, from, from.next)
	from.next++
	return true
}

// one takes in a datagram.
func (r *reader) one(ctx context.Context, s *udpSocket, i int) {
	l, h := r.u.l, &s.hdrs[i]
	data := s.bufs[i*maxDatagram:][:h.len]
	d := Datagram{From: s.fromOf(i), Local: r.u.addr, TimeNS: s.meta[i].timeNS, Protocol: flowproto.Detect(data)}
	if a := s.meta[i].local; a.IsValid() {
		d.Local = netip.AddrPortFrom(a, r.u.addr.Port())
	}
	if h.hdr.Flags&msgTrunc != 0 {
		l.book.In(1)
		l.bytes.Add(uint64(len(data)))
		l.book.Drop(DropTruncated, 1)
		return
	}
	if l.take(&d, len(data)) {
		r.pack.put(ctx, d, data)
	}
}
