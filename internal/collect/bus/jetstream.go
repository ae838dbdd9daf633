package bus

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"crosstap/internal/collect/message"
	"crosstap/internal/collect/output"
	"crosstap/internal/flow"
)

// JetStreamConfig says which subject gets records, and how.
type JetStreamConfig struct {
	Servers     []string // nats://HOST:PORT or tls://HOST:PORT, some of the cluster
	Subject     string   // with ByExporter the exporter's address is added as its last token
	Stream      string   // that must take the subject; "" for any
	Create      bool     // make or change the stream
	MaxAge      time.Duration
	MaxBytes    int64
	Replicas    int
	Memory      bool // keep the stream in memory
	Format      Format
	Key         Key
	Compression string        // of a message: "zstd", "none"
	Batch       int           // records in a message
	Linger      time.Duration // the longest a record waits for its message to fill
	InFlight    int           // messages that may wait for their confirmation
	Timeout     time.Duration // after which a message that nobody confirms is dropped
	TLS         TLS
	Credentials string // file of the user's JWT and key
	User        string
	// PasswordFile belongs to User.
	PasswordFile string
}

// DefaultJetStreamConfig puts up to 500 records into a message.
func DefaultJetStreamConfig() JetStreamConfig {
	return JetStreamConfig{
		Format: Flow, Key: NoKey, Compression: "none", Batch: 500, Linger: 200 * time.Millisecond, InFlight: 16, Timeout: 90 * time.Second, Replicas: 1,
	}
}

// dedupWindow is how long a stream that we make remembers message identifiers. Timeout stays below it.
const dedupWindow = 2 * time.Minute

// Validate reports the first mistake.
func (c *JetStreamConfig) Validate() error {
	if len(c.Servers) == 0 {
		return errors.New("servers: want at least one nats://HOST:PORT")
	}
	for _, s := range c.Servers {
		if u, err := url.Parse(s); err != nil || u.Host == "" || u.Scheme != "nats" && u.Scheme != "tls" || u.User != nil {
			return fmt.Errorf("server %q: want nats://HOST:PORT or tls://HOST:PORT, without a user", s)
		}
	}
	switch {
	case c.Subject == "" || strings.ContainsAny(c.Subject, " \t\r\n*>") || strings.HasPrefix(c.Subject, ".") || strings.HasSuffix(c.Subject, ".") || strings.Contains(c.Subject, ".."):
		return fmt.Errorf("subject %q: want tokens with dots between them, such as crosstap.flows", c.Subject)
	case c.Create && c.Stream == "":
		return errors.New("stream: a name is needed to make it")
	case !c.Create && (c.MaxAge != 0 || c.MaxBytes != 0 || c.Memory):
		return errors.New("stream: limits are given, but create is not on")
	case strings.ContainsAny(c.Stream, " .*>/\\\t\r\n"):
		return fmt.Errorf("stream %q: no spaces, dots, slashes, * or >", c.Stream)
	case c.MaxAge < 0 || c.MaxBytes < 0 || c.Replicas < 1 || c.Replicas > 5:
		return fmt.Errorf("stream: max-age %v, max-bytes %d, %d replicas: want 0 or more, and 1 to 5 replicas", c.MaxAge, c.MaxBytes, c.Replicas)
	case c.MaxAge != 0 && c.MaxAge < dedupWindow:
		return fmt.Errorf("stream: max-age %v: want 0s or at least %v", c.MaxAge, dedupWindow)
	case c.Batch < 1 || c.Batch > 10000:
		return fmt.Errorf("batch of %d records: want 1 to 10000", c.Batch)
	case c.Linger < time.Millisecond || c.Linger > time.Minute:
		return fmt.Errorf("linger %v: want 1ms to 1m", c.Linger)
	case c.InFlight < 1 || c.InFlight > 256:
		return fmt.Errorf("in-flight %d messages: want 1 to 256", c.InFlight)
	case c.Timeout < time.Second || c.Timeout >= dedupWindow:
		return fmt.Errorf("timeout %v: want 1s to less than %v, for so long streams know messages that come twice", c.Timeout, dedupWindow)
	}
	return errors.Join(one("format", c.Format, Flow, Goflow2, JSON), one("key", c.Key, NoKey, ByExporter), one("compression", c.Compression, "zstd", "none"))
}

// JetStream publishes records to a subject that a stream keeps.
type JetStream struct {
	*output.Account
	cfg  JetStreamConfig
	opts []nats.Option
	run  string // begin of the identifiers of this run's messages
	n    uint64 // messages made
	zip  *zstd.Encoder
	room []byte

	open map[string]*parcel // by subject
	full int                // bytes in open parcels
}

// parcel is a message in the making.
type parcel struct {
	subject string
	id      string
	data    []byte
	n       int // records
}

// NewJetStream makes the sink. It connects to nobody.
func NewJetStream(c JetStreamConfig) (*JetStream, error) {
	j := &JetStream{Account: output.NewAccount(), cfg: c, open: map[string]*parcel{}}
	err := c.Validate()
	if err == nil {
		err = j.options()
	}
	if err != nil {
		return nil, fmt.Errorf("bus: jetstream: %w", err)
	}
	if c.Format == Goflow2 {
		j.cfg.Batch = 1
	}
	if c.Compression == "zstd" {
		j.zip, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	}
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	j.run = hex.EncodeToString(id[:])
	return j, err
}

func (j *JetStream) options() error {
	c := &j.cfg
	connected := func(v bool) func(*output.State) { return func(s *output.State) { s.Connected = v } }
	j.opts = []nats.Option{
		nats.Name("crosstap"), nats.MaxReconnects(-1), nats.RetryOnFailedConnect(true), nats.ReconnectWait(500 * time.Millisecond), nats.ReconnectBufSize(-1),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { j.Set(connected(false)); j.Fail(err) }),
		nats.ReconnectHandler(func(*nats.Conn) { j.Set(connected(true)) }),
		nats.ConnectHandler(func(*nats.Conn) { j.Set(connected(true)) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { j.Fail(err) }),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { j.Fail(err) }),
	}
	t, err := c.TLS.config()
	if err != nil {
		return err
	}
	if t != nil {
		j.opts = append(j.opts, nats.Secure(t))
	}
	if c.Credentials != "" {
		j.opts = append(j.opts, nats.UserCredentials(c.Credentials))
	}
	if c.User != "" {
		pass, err := secret(c.PasswordFile)
		if err != nil {
			return err
		}
		j.opts = append(j.opts, nats.UserInfo(c.User, pass))
	}
	return nil
}

// Run implements output.Sink. It waits while too many messages are not confirmed.
func (j *JetStream) Run(ctx context.Context, in <-chan []flow.Record) error {
	nc, err := nats.Connect(strings.Join(j.cfg.Servers, ","), j.opts...)
	if err != nil {
		j.Fail(err)
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		j.Fail(err)
		return err
	}
	parcels := make(chan *parcel)
	var wg sync.WaitGroup
	p := publisher{j: j, js: js}
	for range j.cfg.InFlight {
		wg.Go(func() {
			for m := range parcels {
				p.deliver(ctx, m)
			}
		})
	}
	err = j.collect(ctx, in, parcels, nc)
	close(parcels)
	wg.Wait()
	return err
}

// collect fills parcels until in is closed.
func (j *JetStream) collect(ctx context.Context, in <-chan []flow.Record, out chan<- *parcel, nc *nats.Conn) error {
	tick := time.NewTicker(j.cfg.Linger)
	defer tick.Stop()
	for {
		select {
		case batch, ok := <-in:
			if !ok {
				j.flush(ctx, out)
				return nil
			}
			j.In(len(batch))
			most := int(nc.MaxPayload())
			for i := range batch {
				j.add(ctx, &batch[i], out, most)
			}
			if j.full > maxOpen {
				j.flush(ctx, out)
			}
		case <-tick.C:
			j.flush(ctx, out)
		case <-ctx.Done():
			j.flush(ctx, out) // into the books
			return ctx.Err()
		}
	}
}

const (
	maxOpen    = 16 << 20  // bytes of all messages in the making
	maxMessage = 512 << 10 // bytes of one, before compression
)

// add puts a record into its parcel. most is what the server takes; it says 0 while there is no connection.
func (j *JetStream) add(ctx context.Context, r *flow.Record, out chan<- *parcel, most int) {
	subject := j.cfg.Subject
	if j.cfg.Key == ByExporter {
		subject += "." + token(r.Exporter)
	}
	m := j.open[subject]
	if m == nil {
		m = &parcel{subject: subject}
		j.open[subject] = m
	}
	before := len(m.data)
	m.data = j.append(m.data, r)
	m.n++
	j.full += len(m.data) - before
	limit := maxMessage
	if most > 0 {
		limit = min(limit, most/2)
	}
	if m.n >= j.cfg.Batch || len(m.data) >= limit {
		j.send(ctx, m, out)
	}
}

func (j *JetStream) append(b []byte, r *flow.Record) []byte {
	switch j.cfg.Format {
	case Flow:
		b, j.room = message.AppendBatchFlow(b, j.room, r)
		return b
	case JSON:
		return append(message.AppendJSON(b, r), '\n')
	}
	return j.cfg.Format.append(b, r)
}

// token is an address as one token of a subject.
func token(a flow.Addr) string {
	if a.IsZero() {
		return "unknown"
	}
	return strings.NewReplacer(".", "-", ":", "-").Replace(a.String())
}

func (j *JetStream) flush(ctx context.Context, out chan<- *parcel) {
	for _, m := range j.open {
		j.send(ctx, m, out)
	}
}

// send gives a parcel to a publisher, and waits for one.
func (j *JetStream) send(ctx context.Context, m *parcel, out chan<- *parcel) {
	delete(j.open, m.subject)
	j.full -= len(m.data)
	j.n++
	m.id = j.run + "-" + strconv.FormatUint(j.n, 10)
	if j.zip != nil {
		m.data = j.zip.EncodeAll(m.data, nil)
	}
	select {
	case out <- m:
	case <-ctx.Done():
		j.Drop(output.DropStopped, m.n, nil)
	}
}

// publisher delivers parcels.
type publisher struct {
	j    *JetStream
	js   jetstream.JetStream
	mu   sync.Mutex
	made bool // the stream is there
}

// Waits between attempts to deliver a parcel.
const (
	attemptFor = 5 * time.Second
	retryFirst = 100 * time.Millisecond
	retryMost  = 2 * time.Second
)

// deliver publishes a parcel until the server confirms it or its time is over. Each attempt has the same identifier, so that a
// stream takes it once.
func (p *publisher) deliver(ctx context.Context, m *parcel) {
	msg := p.message(m)
	end, wait := time.Now().Add(p.j.cfg.Timeout), retryFirst
	for {
		err := p.attempt(ctx, msg)
		switch {
		case err == nil:
			p.j.Out(m.n, len(m.data))
			return
		case ctx.Err() != nil:
			p.j.Drop(output.DropStopped, m.n, nil)
			return
		case errors.Is(err, nats.ErrMaxPayload):
			p.j.Drop(output.DropLarge, m.n, err)
			return
		case time.Now().Add(wait).After(end):
			p.j.Drop(output.DropFailed, m.n, err)
			return
		}
		p.j.Retry(err)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
		wait = min(2*wait, retryMost)
	}
}

var contentTypes = map[Format]string{
	Flow: "application/x-protobuf; messageType=crosstap.flow.v1.FlowBatch", Goflow2: "application/x-protobuf; messageType=flowpb.FlowMessage; delimited=true",
	JSON: "application/x-ndjson",
}

func (p *publisher) message(m *parcel) *nats.Msg {
	msg := nats.NewMsg(m.subject)
	msg.Data = m.data
	msg.Header.Set(nats.MsgIdHdr, m.id)
	msg.Header.Set("Content-Type", contentTypes[p.j.cfg.Format])
	if p.j.zip != nil {
		msg.Header.Set("Content-Encoding", "zstd")
	}
	msg.Header.Set("Crosstap-Records", strconv.Itoa(m.n))
	return msg
}

func (p *publisher) attempt(ctx context.Context, msg *nats.Msg) error {
	ctx, cancel := context.WithTimeout(ctx, attemptFor)
	defer cancel()
	if err := p.stream(ctx); err != nil {
		return err
	}
	opts := []jetstream.PublishOpt{jetstream.WithRetryAttempts(0)}
	if p.j.cfg.Stream != "" {
		opts = append(opts, jetstream.WithExpectStream(p.j.cfg.Stream))
	}
	_, err := p.js.PublishMsg(ctx, msg, opts...)
	if errors.Is(err, jetstream.ErrNoStreamResponse) {
		p.forget()
	}
	return err
}

// forget makes the next attempt make the stream again: somebody deleted it.
func (p *publisher) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.made = false
}

// stream makes the stream, once.
func (p *publisher) stream(ctx context.Context) error {
	c := &p.j.cfg
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.made || !c.Create {
		return nil
	}
	sc := jetstream.StreamConfig{
		Name: c.Stream, Subjects: []string{c.Subject}, MaxAge: c.MaxAge, MaxBytes: c.MaxBytes, Replicas: c.Replicas, Duplicates: dedupWindow,
		Storage: jetstream.FileStorage, Discard: jetstream.DiscardOld, Description: "flow records of crosstap",
	}
	if c.MaxBytes == 0 {
		sc.MaxBytes = -1
	}
	if c.Memory {
		sc.Storage = jetstream.MemoryStorage
	}
	if c.Key == ByExporter {
		sc.Subjects = []string{c.Subject + ".*"}
	}
	if _, err := p.js.CreateOrUpdateStream(ctx, sc); err != nil {
		return fmt.Errorf("stream %s: %w", c.Stream, err)
	}
	p.made = true
	return nil
}
