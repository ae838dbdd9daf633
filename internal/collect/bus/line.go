package bus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// LineConfig says which JetStream stream lies between collectors and writers. A zero field means its default.
type LineConfig struct {
	Servers     []string // nats://HOST:PORT or tls://HOST:PORT, some of the cluster
	Stream      string   // "CROSSTAP"
	Replicas    int      // of the stream; 1
	MaxBytes    int64    // of the stream; beyond it collectors wait, then shed. 10 GB
	User        string
	Password    string
	Credentials string // file of the user's JWT and key
	TLS         TLS
}

var streamName = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// lineOptions of URLs, behind the question mark.
var lineOptions = []string{"replicas", "credentials", "password-file", "ca", "cert", "key"}

// ParseLine reads nats://[USER:PASSWORD@]HOST[:PORT][,HOST…]/[STREAM][?OPTIONS], or tls:// likewise. Options are replicas=N, credentials=FILE,
// password-file=FILE, and ca=, cert=, key= with files in PEM.
func ParseLine(text string) (c LineConfig, err error) {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok || scheme != "nats" && scheme != "tls" {
		return c, fmt.Errorf("bus %q: want nats://HOST:4222 or tls://HOST:4222", text)
	}
	hosts := rest
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		hosts = rest[:i]
	}
	at := strings.LastIndexByte(hosts, '@')
	u, err := url.Parse(scheme + "://" + hosts[:at+1] + "h" + rest[len(hosts):])
	if err != nil {
		return c, errors.New("bus: not a URL")
	}
	for _, h := range strings.Split(hosts[at+1:], ",") {
		if h == "" {
			return c, errors.New("bus: a host is missing")
		}
		if _, _, err := net.SplitHostPort(h); err != nil {
			h = net.JoinHostPort(strings.Trim(h, "[]"), "4222")
		}
		c.Servers = append(c.Servers, scheme+"://"+h)
	}
	c.User = u.User.Username()
	c.Password, _ = u.User.Password()
	c.Stream = strings.Trim(u.Path, "/")
	q := u.Query()
	for k := range q {
		if err := one("option", k, lineOptions...); err != nil {
			return c, fmt.Errorf("bus: %w", err)
		}
	}
	if v := q.Get("replicas"); v != "" {
		if c.Replicas, err = strconv.Atoi(v); err != nil || c.Replicas < 1 || c.Replicas > 5 {
			return c, fmt.Errorf("bus: replicas=%s: want 1 to 5", v)
		}
	}
	c.Credentials = q.Get("credentials")
	if f := q.Get("password-file"); f != "" {
		if c.Password, err = secret(f); err != nil {
			return c, fmt.Errorf("bus: %w", err)
		}
	}
	c.TLS = TLS{On: scheme == "tls", CA: q.Get("ca"), Cert: q.Get("cert"), Key: q.Get("key")}
	if _, err := c.withDefaults(); err != nil {
		return c, err
	}
	return c, nil
}

func (c LineConfig) withDefaults() (LineConfig, error) {
	if c.Stream == "" {
		c.Stream = "CROSSTAP"
	}
	if c.Replicas == 0 {
		c.Replicas = 1
	}
	if c.MaxBytes <= 0 {
		c.MaxBytes = 10_000_000_000
	}
	switch {
	case len(c.Servers) == 0:
		return c, errors.New("bus: no server is named")
	case !streamName.MatchString(c.Stream):
		return c, fmt.Errorf("bus: stream %q: letters, digits, - and _ only", c.Stream)
	}
	if _, err := c.TLS.config(); err != nil {
		return c, fmt.Errorf("bus: %w", err)
	}
	return c, nil
}

// String names the stream without secrets.
func (c LineConfig) String() string { return strings.Join(c.Servers, ",") + "/" + c.Stream }

// subject is what the stream takes; kinds of messages follow it.
func (c LineConfig) subject() string { return "crosstap.line." + c.Stream }

// Kinds of messages are the last token of their subject.
const (
	kindFlows  = "flows"  // a FlowBatch of docs/formats/flow.proto, compressed with zstd
	kindGap    = "gap"    // a store.Gap as JSON
	kindCounts = "counts" // Counts of docs/formats/flow.proto, compressed with zstd
)

// connect keeps trying; what is sent meanwhile fails.
func (c LineConfig) connect(changed func(error)) (*nats.Conn, jetstream.JetStream, error) {
	opts := []nats.Option{
		nats.Name("crosstap"), nats.MaxReconnects(-1), nats.RetryOnFailedConnect(true), nats.ReconnectWait(200 * time.Millisecond), nats.ReconnectBufSize(-1),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { changed(err) }),
		nats.ReconnectHandler(func(*nats.Conn) { changed(nil) }),
		nats.ConnectHandler(func(*nats.Conn) { changed(nil) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { changed(err) }),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { changed(err) }),
	}
	t, err := c.TLS.config()
	if err != nil {
		return nil, nil, err
	}
	if t != nil {
		opts = append(opts, nats.Secure(t))
	}
	if c.Credentials != "" {
		opts = append(opts, nats.UserCredentials(c.Credentials))
	}
	if c.User != "" {
		opts = append(opts, nats.UserInfo(c.User, c.Password))
	}
	nc, err := nats.Connect(strings.Join(c.Servers, ","), opts...)
	if err != nil {
		return nil, nil, fmt.Errorf("bus: %w", err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, nil, fmt.Errorf("bus: %w", err)
	}
	return nc, js, nil
}

// lineWindow is how long the stream knows messages that come twice.
const lineWindow = 30 * time.Minute

// stream makes the stream, or finds it. A full one refuses messages, so that nothing that was taken is lost.
func (c LineConfig) stream(ctx context.Context, js jetstream.JetStream) (jetstream.Stream, error) {
	st, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: c.Stream, Subjects: []string{c.subject() + ".*"}, MaxBytes: c.MaxBytes, Replicas: c.Replicas, Duplicates: lineWindow, Storage: jetstream.FileStorage,
		Discard: jetstream.DiscardNew, Retention: jetstream.LimitsPolicy, Description: "flow records of crosstap, from collectors to writers",
	})
	if err != nil {
		return nil, fmt.Errorf("bus: stream %s: %w", c.Stream, err)
	}
	return st, nil
}

// Server is a NATS server with JetStream in this process, for one machine.
type Server struct{ s *server.Server }

// serverStart bounds how long a server may take to come up with what it has stored.
const serverStart = 2 * time.Minute

// Serve starts a server on IP:PORT that keeps its streams in dir. What it has taken is on the disk within a second.
func Serve(addr, dir string, maxBytes int64) (*Server, error) {
	host, port, err := net.SplitHostPort(addr)
	n, err2 := strconv.Atoi(port)
	if err != nil || err2 != nil {
		return nil, fmt.Errorf("bus: address %q: want IP:PORT", addr)
	}
	if n == 0 {
		n = server.RANDOM_PORT
	}
	if dir, err = filepath.Abs(dir); err == nil {
		err = os.MkdirAll(dir, 0o750)
	}
	if err != nil {
		return nil, fmt.Errorf("bus: %w", err)
	}
	const slack = 1 << 30 // of what the stream may hold, for its indexes
	s, err := server.NewServer(&server.Options{
		ServerName: "crosstap", Host: host, Port: n, JetStream: true, StoreDir: dir, JetStreamMaxStore: maxBytes + slack, SyncInterval: time.Second, NoSigs: true, NoLog: true,
		MaxPayload: 8 << 20,
	})
	if err != nil {
		return nil, fmt.Errorf("bus: server: %w", err)
	}
	s.Start()
	if !s.ReadyForConnections(serverStart) {
		s.Shutdown()
		return nil, fmt.Errorf("bus: server on %s does not come up; is the address in use?", addr)
	}
	return &Server{s}, nil
}

// URL is where the server listens.
func (s *Server) URL() string { return s.s.ClientURL() }

// Close ends the server.
func (s *Server) Close() {
	s.s.Shutdown()
	s.s.WaitForShutdown()
}
