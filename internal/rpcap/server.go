package rpcap

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"crosstap/internal/frame"
	"crosstap/internal/ledger"
)

// ServerConfig says whom frames are given to.
type ServerConfig struct {
	Addr           string // HOST:PORT of the control connections
	DataPort       uint16 // of the data connections; 0 for a free one each
	User, Password string // both empty: everybody; only on loopback, unless Open is set
	Open           bool
	TLS            *tls.Config // nil: the connections are in the clear
	// Interfaces returns what frames are there of. Its place in the list is a frame's Point. It must be safe for concurrent use.
	Interfaces func() []Interface
	Dropped    func(point uint32) (kernel, device uint64) // before the server; nil for none
	MaxClients int
	// LoginTimeout is how long a client may take to log in, IdleTimeout how long one that does not capture may be quiet.
	LoginTimeout, IdleTimeout time.Duration
	BufferBytes               int // of frames that wait for one client; what does not fit is dropped
	Log                       *slog.Logger
}

// DefaultServerConfig has the times of rpcapd.
func DefaultServerConfig() ServerConfig {
	return ServerConfig{MaxClients: 16, LoginTimeout: 90 * time.Second, IdleTimeout: 180 * time.Second, BufferBytes: 4 << 20}
}

// Validate reports the first mistake.
func (c *ServerConfig) Validate() error {
	a, err := netip.ParseAddrPort(c.Addr)
	switch {
	case err != nil:
		return fmt.Errorf("rpcap: listen on %q: want ADDRESS:PORT", c.Addr)
	case c.Interfaces == nil:
		return errors.New("rpcap: no interfaces to offer")
	case c.MaxClients < 1 || c.MaxClients > 1000:
		return fmt.Errorf("rpcap: %d clients at most: want 1 to 1000", c.MaxClients)
	case c.BufferBytes < 2*(maxCaptured+headerLen+packetLen):
		return fmt.Errorf("rpcap: a buffer of %d bytes for each client: want at least %d", c.BufferBytes, 2*(maxCaptured+headerLen+packetLen))
	case !a.Addr().IsLoopback() && !c.Open && c.Password == "":
		return fmt.Errorf("rpcap: listen on %s without a password: whoever reaches it would see all frames; set a user and a password, or say open=yes", c.Addr)
	}
	return nil
}

// Server gives frames to clients of libpcap's remote capture.
type Server struct {
	cfg  ServerConfig
	book *ledger.Book
	log  *slog.Logger

	// mu guards what follows.
	mu       sync.RWMutex
	captures map[*capture]struct{}
	clients  int

	addr atomic.Pointer[net.TCPAddr]
}

// Reasons under which a server drops frames. A frame that some client got counts as out.
const (
	DropNoClient = iota // none captures from this interface, or none's filter and sampling want the frame
	DropSlow            // no client that wanted the frame had room for it
)

// NewServer returns a server. It listens in Run.
func NewServer(c ServerConfig) (*Server, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{cfg: c, log: c.Log, captures: map[*capture]struct{}{}, book: ledger.New("deliver", ledger.Frames, "not_asked_for", "client_slow")}, nil
}

// Book returns the server's account.
func (s *Server) Book() *ledger.Book { return s.book }

// Addr returns the address of the control connections; nil before Serve listens.
func (s *Server) Addr() *net.TCPAddr { return s.addr.Load() }

// Listen opens the port of the control connections.
func (s *Server) Listen(ctx context.Context) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", s.cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("rpcap: %w", err)
	}
	s.addr.Store(l.Addr().(*net.TCPAddr))
	return l, nil
}

// Serve accepts clients until ctx ends; then it closes all connections and returns when their goroutines have ended.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return nil
		}
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("rpcap: %w", err)
			}
			s.log.Warn("rpcap client not accepted", "error", err)
			time.Sleep(10 * time.Millisecond) // out of descriptors, say
			continue
		}
		if !s.enter() {
			s.log.Warn("rpcap client refused: too many", "client", conn.RemoteAddr(), "most", s.cfg.MaxClients)
			_ = conn.SetDeadline(time.Now().Add(time.Second))
			_, _ = conn.Write(message(msgError, uint16(CodeHost), []byte("too many clients")))
			conn.Close()
			continue
		}
		all.Go(func() {
			defer s.leave()
			s.serve(ctx, conn)
		})
	}
}

func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clients >= s.cfg.MaxClients {
		return false
	}
	s.clients++
	return true
}

func (s *Server) leave() {
	s.mu.Lock()
	s.clients--
	s.mu.Unlock()
}

// serve speaks with one client until it leaves.
func (s *Server) serve(ctx context.Context, raw net.Conn) {
	defer context.AfterFunc(ctx, func() { raw.Close() })()
	defer raw.Close()
	c := &client{server: s, log: s.log.With("client", raw.RemoteAddr().String())}
	defer c.stop()
	var err error
	if c.conn, err = s.secure(raw); err == nil {
		err = c.converse(ctx)
	}
	if err != nil && ctx.Err() == nil {
		c.log.Warn("rpcap client gone", "error", err)
		return
	}
	c.log.Info("rpcap client gone")
}

// allowed compares what a client says with the password. It takes the same time for all that is wrong.
func (s *Server) allowed(a *credentials) bool {
	if s.cfg.User == "" && s.cfg.Password == "" {
		return true
	}
	user := subtle.ConstantTimeCompare([]byte(a.user), []byte(s.cfg.User))
	password := subtle.ConstantTimeCompare([]byte(a.password), []byte(s.cfg.Password))
	return user&password == 1 && a.kind == authPassword
}

// Publish gives frames to all clients that want them. It never waits for one, and keeps nothing of the frames. It is for one goroutine.
func (s *Server) Publish(frames []frame.Frame) {
	s.book.In(len(frames))
	s.mu.RLock()
	defer s.mu.RUnlock()
	got, slow := 0, 0
	for i := range frames {
		wanted, taken := false, false
		if s.ours(&frames[i]) {
			continue
		}
		for c := range s.captures {
			w, t := c.offer(&frames[i])
			wanted, taken = wanted || w, taken || t
		}
		switch {
		case taken:
			got++
		case wanted:
			slow++
		}
	}
	for c := range s.captures {
		c.wake()
	}
	s.book.Out(got)
	s.book.Drop(DropSlow, slow)
	s.book.Drop(DropNoClient, len(frames)-got-slow)
}

// ours reports whether a frame carries frames to one of the clients.
func (s *Server) ours(f *frame.Frame) bool {
	for c := range s.captures {
		if c.own.match(f) {
			return true
		}
	}
	return false
}
