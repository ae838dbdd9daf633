package bus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"crosstap/internal/collect/output"
	"crosstap/internal/flow"
)

// KafkaConfig says which topic gets records, and how.
type KafkaConfig struct {
	Brokers     []string // HOST:PORT, some of the cluster
	Topic       string
	CreateTopic bool // let the brokers make it, with their defaults
	Format      Format
	Key         Key
	Acks        string // "all", "leader", "none"
	Compression string // "zstd", "lz4", "snappy", "gzip", "none"
	Linger      time.Duration
	BatchBytes  int           // of one partition's batch
	Buffer      int           // records in memory that are not confirmed
	Timeout     time.Duration // after which a record that nobody confirms is dropped
	ClientID    string
	TLS         TLS

	Mechanism, User, PasswordFile string // SASL: "plain", "scram-sha-256", "scram-sha-512"; "" for none
}

// DefaultKafkaConfig confirms by all replicas and compresses.
func DefaultKafkaConfig() KafkaConfig {
	return KafkaConfig{
		Format: Flow, Key: ByFlow, Acks: "all", Compression: "zstd", Linger: 50 * time.Millisecond, BatchBytes: 1000000, Buffer: 1 << 16,
		Timeout: 2 * time.Minute, ClientID: "crosstap",
	}
}

// Validate reports the first mistake.
func (c *KafkaConfig) Validate() error {
	if len(c.Brokers) == 0 {
		return errors.New("brokers: want at least one HOST:PORT")
	}
	for _, b := range c.Brokers {
		if host, port, err := net.SplitHostPort(b); err != nil || host == "" || port == "" {
			return fmt.Errorf("broker %q: want HOST:PORT, such as kafka1:9092", b)
		}
	}
	switch {
	case c.Topic == "":
		return errors.New("topic: a name is needed")
	case c.Linger < 0 || c.Linger > time.Minute:
		return fmt.Errorf("linger %v: want 0s to 1m", c.Linger)
	case c.BatchBytes < 4096 || c.BatchBytes > 64<<20:
		return fmt.Errorf("batch of %d bytes: want 4KiB to 64MiB", c.BatchBytes)
	case c.Buffer < 100 || c.Buffer > 1<<22:
		return fmt.Errorf("buffer of %d records: want 100 to %d", c.Buffer, 1<<22)
	case c.Timeout < time.Second || c.Timeout > 24*time.Hour:
		return fmt.Errorf("timeout %v: want 1s to 24h", c.Timeout)
	case c.Mechanism == "" && (c.User != "" || c.PasswordFile != ""):
		return errors.New("sasl: a user is given, but no mechanism")
	}
	return errors.Join(one("format", c.Format, Flow, Goflow2, JSON), one("key", c.Key, ByFlow, ByExporter, NoKey),
		one("acks", c.Acks, "all", "leader", "none"), one("compression", c.Compression, "zstd", "lz4", "snappy", "gzip", "none"))
}

// Kafka produces records to a topic.
type Kafka struct {
	*output.Account
	cfg  KafkaConfig
	opts []kgo.Opt
}

// NewKafka makes the sink. It connects to nobody.
func NewKafka(c KafkaConfig) (*Kafka, error) {
	k := &Kafka{Account: output.NewAccount(), cfg: c}
	err := c.Validate()
	if err == nil {
		k.opts, err = k.options()
	}
	if err == nil {
		err = kgo.ValidateOpts(k.opts...)
	}
	if err != nil {
		return nil, fmt.Errorf("bus: kafka: %w", err)
	}
	return k, nil
}

var (
	kafkaAcks  = map[string]kgo.Acks{"all": kgo.AllISRAcks(), "leader": kgo.LeaderAck(), "none": kgo.NoAck()}
	kafkaCodec = map[string]kgo.CompressionCodec{
		"zstd": kgo.ZstdCompression(), "lz4": kgo.Lz4Compression(), "snappy": kgo.SnappyCompression(), "gzip": kgo.GzipCompression(), "none": kgo.NoCompression(),
	}
)

func (k *Kafka) options() ([]kgo.Opt, error) {
	c := &k.cfg
	opts := []kgo.Opt{
		kgo.SeedBrokers(c.Brokers...), kgo.DefaultProduceTopic(c.Topic), kgo.ClientID(c.ClientID), kgo.RequiredAcks(kafkaAcks[c.Acks]),
		kgo.ProducerBatchCompression(kafkaCodec[c.Compression]), kgo.ProducerLinger(c.Linger), kgo.ProducerBatchMaxBytes(int32(c.BatchBytes)),
		kgo.MaxBufferedRecords(c.Buffer), kgo.RecordDeliveryTimeout(c.Timeout),
		kgo.MetadataMinAge(time.Second), kgo.WithHooks(kafkaHook{k}),
	}
	if c.Acks != "all" {
		opts = append(opts, kgo.DisableIdempotentWrite())
	}
	if c.CreateTopic {
		opts = append(opts, kgo.AllowAutoTopicCreation())
	}
	t, err := c.TLS.config()
	if err != nil {
		return nil, err
	}
	if t != nil {
		opts = append(opts, kgo.DialTLSConfig(t))
	}
	if c.Mechanism != "" {
		m, err := c.sasl()
		if err != nil {
			return nil, fmt.Errorf("sasl: %w", err)
		}
		opts = append(opts, kgo.SASL(m))
	}
	return opts, nil
}

func (c *KafkaConfig) sasl() (sasl.Mechanism, error) {
	if err := one("mechanism", c.Mechanism, "plain", "scram-sha-256", "scram-sha-512"); err != nil {
		return nil, err
	}
	pass, err := secret(c.PasswordFile)
	if err != nil {
		return nil, err
	}
	switch c.Mechanism {
	case "plain":
		return plain.Auth{User: c.User, Pass: pass}.AsMechanism(), nil
	case "scram-sha-256":
		return scram.Auth{User: c.User, Pass: pass}.AsSha256Mechanism(), nil
	}
	return scram.Auth{User: c.User, Pass: pass}.AsSha512Mechanism(), nil
}

// Run implements output.Sink. It waits while too many records are not confirmed.
func (k *Kafka) Run(ctx context.Context, in <-chan []flow.Record) error {
	client, err := kgo.NewClient(k.opts...)
	if err != nil {
		k.Fail(err)
		return err
	}
	defer client.Close()
	ended := context.WithoutCancel(ctx)
	for {
		select {
		case batch, ok := <-in:
			if !ok {
				err := client.Flush(ctx)
				_ = client.AbortBufferedRecords(ended) // each is told to its promise
				return err
			}
			k.produce(ctx, client, batch)
		case <-ctx.Done():
			_ = client.AbortBufferedRecords(ended)
			return ctx.Err()
		}
	}
}

// produce gives a batch to the client. Values and keys of a batch share one slice. The client stamps the records with its clock: it measures
// the timeout from there.
func (k *Kafka) produce(ctx context.Context, client *kgo.Client, batch []flow.Record) {
	k.In(len(batch))
	recs := make([]kgo.Record, len(batch))
	room := make([]byte, 0, len(batch)*expectedBytes)
	for i := range batch {
		r := &recs[i]
		from := len(room)
		room = k.cfg.Format.append(room, &batch[i])
		r.Value = room[from:len(room):len(room)]
		if k.cfg.Key != NoKey {
			from = len(room)
			room = k.cfg.Key.append(room, &batch[i])
			r.Key = room[from:len(room):len(room)]
		}
		client.Produce(ctx, r, k.promise)
	}
}

// expectedBytes is what a message and its key usually take.
const expectedBytes = 320

// promise hears what became of a record.
func (k *Kafka) promise(r *kgo.Record, err error) {
	switch {
	case err == nil:
		k.Out(1, len(r.Value))
	case errors.Is(err, kgo.ErrAborting) || errors.Is(err, kgo.ErrClientClosed) || errors.Is(err, context.Canceled):
		k.Drop(output.DropStopped, 1, nil)
	case errors.Is(err, kerr.MessageTooLarge):
		k.Drop(output.DropLarge, 1, err)
	default:
		k.Drop(output.DropFailed, 1, err)
	}
}

// kafkaHook hears of connections and of produce requests that failed.
type kafkaHook struct{ k *Kafka }

// OnBrokerConnect notes whether a broker can be reached.
func (h kafkaHook) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	h.k.Set(func(s *output.State) { s.Connected = err == nil })
	if err != nil {
		h.k.Retry(err)
	}
}

// OnBrokerDisconnect notes that a connection is gone; the client makes another when there is something to send.
func (h kafkaHook) OnBrokerDisconnect(kgo.BrokerMetadata, net.Conn) {
	h.k.Set(func(s *output.State) { s.Connected = false })
}
