package settings

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"crosstap/internal/collect/bus"
	"crosstap/internal/collect/output"
	"crosstap/internal/collect/replicate"
	"crosstap/internal/flowproto"
	"crosstap/internal/nearest"
	"crosstap/internal/tap/export"
	"crosstap/internal/yamltext"

	"github.com/goccy/go-yaml/ast"
)

// Output is one entry of outputs: exactly one of Export, Lines, Kafka, JetStream and Replicate is not nil. docs/guide/outputs.md
// describes them.
type Output struct {
	Config    output.Config
	Export    *export.Target
	Lines     *output.LinesConfig
	Kafka     *bus.KafkaConfig
	JetStream *bus.JetStreamConfig
	Replicate *replicate.Config
}

// outputsFile is a file of outputs.
type outputsFile struct {
	Outputs []outputEntry `yaml:"outputs"`
}

type outputEntry struct {
	Name      string          `yaml:"name"`
	Records   string          `yaml:"records"`
	Filter    string          `yaml:"filter"`
	Exporters oneOrMore       `yaml:"exporters"`
	Tenants   oneOrMore       `yaml:"tenants"`
	Sample    uint32          `yaml:"sample"`
	Queue     int             `yaml:"queue"`
	Export    string          `yaml:"export"`
	File      *fileEntry      `yaml:"file"`
	Kafka     *kafkaEntry     `yaml:"kafka"`
	JetStream *jetEntry       `yaml:"jetstream"`
	Replicate *replicateEntry `yaml:"replicate"`
}

type fileEntry struct {
	Path  string `yaml:"path"`
	Size  string `yaml:"rotate-size"`
	Every string `yaml:"rotate-every"`
	Keep  int    `yaml:"keep"`
	Gzip  bool   `yaml:"gzip"`
}

type kafkaEntry struct {
	Brokers     oneOrMore `yaml:"brokers"`
	Topic       string    `yaml:"topic"`
	CreateTopic bool      `yaml:"create-topic"`
	Format      string    `yaml:"format"`
	Key         string    `yaml:"key"`
	Acks        string    `yaml:"acks"`
	Compression string    `yaml:"compression"`
	Linger      string    `yaml:"linger"`
	BatchBytes  string    `yaml:"batch-bytes"`
	Buffer      int       `yaml:"buffer"`
	Timeout     string    `yaml:"timeout"`
	ClientID    string    `yaml:"client-id"`
	TLS         *tlsEntry `yaml:"tls"`
	SASL        *struct {
		Mechanism    string `yaml:"mechanism"`
		User         string `yaml:"user"`
		PasswordFile string `yaml:"password-file"`
	} `yaml:"sasl"`
}

type tlsEntry struct {
	CA         string `yaml:"ca"`
	Cert       string `yaml:"cert"`
	Key        string `yaml:"key"`
	ServerName string `yaml:"server-name"`
}

type jetEntry struct {
	Servers      oneOrMore `yaml:"servers"`
	Subject      string    `yaml:"subject"`
	Stream       string    `yaml:"stream"`
	Create       bool      `yaml:"create"`
	MaxAge       string    `yaml:"max-age"`
	MaxBytes     string    `yaml:"max-bytes"`
	Replicas     int       `yaml:"replicas"`
	Memory       bool      `yaml:"memory"`
	Format       string    `yaml:"format"`
	Key          string    `yaml:"key"`
	Compression  string    `yaml:"compression"`
	Batch        int       `yaml:"batch"`
	Linger       string    `yaml:"linger"`
	InFlight     int       `yaml:"in-flight"`
	Timeout      string    `yaml:"timeout"`
	TLS          *tlsEntry `yaml:"tls"`
	Credentials  string    `yaml:"credentials"`
	User         string    `yaml:"user"`
	PasswordFile string    `yaml:"password-file"`
}

type replicateEntry struct {
	To        oneOrMore `yaml:"to"`
	Source    string    `yaml:"source"`
	Share     string    `yaml:"share"`
	Protocols oneOrMore `yaml:"protocols"`
}

// maxOutputs bounds the number of outputs; each is a label in the metrics.
const maxOutputs = 64

// inlineOutputs marks a Settings.Outputs whose entries stand in the settings' own file.
const inlineOutputs = "(in the file)"

// LoadOutputs reads a file of outputs and checks it.
func LoadOutputs(path string) ([]Output, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxExportersFile+1))
	if err != nil || len(b) > maxExportersFile {
		return nil, cmp.Or(err, fmt.Errorf("%s has more than %d bytes", path, maxExportersFile))
	}
	var doc outputsFile
	if err := yamltext.Decode(b, &doc); err != nil {
		return nil, yamltext.In(path, err)
	}
	out, err := outputs(doc.Outputs)
	if err != nil {
		return nil, yamltext.In(path, err)
	}
	return out, nil
}

// outputsNode reads the list that stands in the settings' own file.
func outputsNode(n ast.Node) ([]Output, error) {
	var list []outputEntry
	if err := yamltext.DecodeNode(n, &list, true); err != nil {
		return nil, err
	}
	return outputs(list)
}

func outputs(list []outputEntry) ([]Output, error) {
	if len(list) > maxOutputs {
		return nil, fmt.Errorf("%d outputs: want at most %d", len(list), maxOutputs)
	}
	var out []Output
	for i := range list {
		e := &list[i]
		o, err := e.output()
		if err != nil {
			return nil, fmt.Errorf("output %d (%s): %w", i+1, cmp.Or(e.Name, "no name"), err)
		}
		if slices.ContainsFunc(out, func(p Output) bool { return p.Config.Name == o.Config.Name }) {
			return nil, fmt.Errorf("output %d: name %q is given twice", i+1, e.Name)
		}
		out = append(out, o)
	}
	return out, nil
}

// output turns an entry into what the collector understands, and has each part find its mistakes.
func (e *outputEntry) output() (o Output, err error) {
	if o.Config, err = e.config(); err != nil {
		return o, err
	}
	kinds := 0
	for _, k := range []struct {
		given bool
		read  func(*Output) error
	}{
		{e.Export != "", e.export}, {e.File != nil, e.file}, {e.Kafka != nil, e.kafka}, {e.JetStream != nil, e.jetstream}, {e.Replicate != nil, e.replicate},
	} {
		if !k.given {
			continue
		}
		if kinds++; kinds == 1 {
			err = k.read(&o)
		}
	}
	if kinds != 1 {
		return o, errors.New("want exactly one of export, file, kafka, jetstream, replicate")
	}
	return o, err
}

func (e *outputEntry) config() (c output.Config, err error) {
	c = output.Config{Name: e.Name, Filter: e.Filter, Tenants: e.Tenants, Sample: e.Sample, Queue: cmp.Or(e.Queue, output.DefaultQueue)}
	if e.Name == "" || strings.ContainsFunc(e.Name, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' }) || len(e.Name) > 64 {
		return c, errors.New("name: want 1 to 64 letters without spaces, it names the output in status and metrics")
	}
	switch e.Records {
	case "", "all":
	case "canonical":
		c.Canonical = true
	default:
		return c, fmt.Errorf("records %q: want all or canonical%s", e.Records, nearest.Behind(e.Records, []string{"all", "canonical"}))
	}
	for _, text := range e.Exporters {
		p, err := parsePrefix(text)
		if err != nil {
			return c, fmt.Errorf("exporters: %w", err)
		}
		c.Exporters = append(c.Exporters, p.Masked())
	}
	_, err = output.New(c, nil)
	return c, err
}

func (e *outputEntry) export(o *Output) error {
	t, err := export.ParseTarget(e.Export)
	if err != nil {
		return err
	}
	o.Export, o.Config.To, o.Config.Counted = &t, t.String(), true
	return nil
}

func (e *outputEntry) file(o *Output) error {
	f := e.File
	o.Lines = &output.LinesConfig{Path: f.Path, Keep: f.Keep, Gzip: f.Gzip}
	o.Config.To = "file:" + f.Path
	if err := errors.Join(sizeInto(&o.Lines.Size, "rotate-size", f.Size), spanInto(&o.Lines.Every, "rotate-every", f.Every)); err != nil {
		return err
	}
	_, err := output.NewLines(*o.Lines)
	return err
}

func (e *outputEntry) kafka(o *Output) error {
	f, c := e.Kafka, bus.DefaultKafkaConfig()
	c.Brokers, c.Topic, c.CreateTopic = f.Brokers, f.Topic, f.CreateTopic
	c.Format, c.Key = bus.Format(cmp.Or(f.Format, string(c.Format))), bus.Key(cmp.Or(f.Key, string(c.Key)))
	c.Acks, c.Compression, c.Buffer, c.ClientID = cmp.Or(f.Acks, c.Acks), cmp.Or(f.Compression, c.Compression), cmp.Or(f.Buffer, c.Buffer), cmp.Or(f.ClientID, c.ClientID)
	c.TLS = f.TLS.tls()
	if f.SASL != nil {
		c.Mechanism, c.User, c.PasswordFile = f.SASL.Mechanism, f.SASL.User, f.SASL.PasswordFile
		if c.Mechanism == "" {
			return errors.New("kafka: sasl: mechanism: want plain, scram-sha-256 or scram-sha-512")
		}
	}
	batch := int64(c.BatchBytes)
	if err := errors.Join(spanInto(&c.Linger, "linger", f.Linger), spanInto(&c.Timeout, "timeout", f.Timeout), sizeInto(&batch, "batch-bytes", f.BatchBytes)); err != nil {
		return err
	}
	c.BatchBytes = int(min(batch, 1<<30))
	o.Kafka, o.Config.To, o.Config.Counted = &c, "kafka://"+strings.Join(c.Brokers, ",")+"/"+c.Topic, c.Format.Counted()
	_, err := bus.NewKafka(c)
	return err
}

func (e *outputEntry) jetstream(o *Output) error {
	f, c := e.JetStream, bus.DefaultJetStreamConfig()
	c.Servers, c.Subject, c.Stream, c.Create, c.Memory = f.Servers, f.Subject, f.Stream, f.Create, f.Memory
	c.Format, c.Key = bus.Format(cmp.Or(f.Format, string(c.Format))), bus.Key(cmp.Or(f.Key, string(c.Key)))
	c.Compression, c.Batch, c.InFlight, c.Replicas = cmp.Or(f.Compression, c.Compression), cmp.Or(f.Batch, c.Batch), cmp.Or(f.InFlight, c.InFlight), cmp.Or(f.Replicas, c.Replicas)
	c.Credentials, c.User, c.PasswordFile, c.TLS = f.Credentials, f.User, f.PasswordFile, f.TLS.tls()
	if err := errors.Join(spanInto(&c.Linger, "linger", f.Linger), spanInto(&c.Timeout, "timeout", f.Timeout), spanInto(&c.MaxAge, "max-age", f.MaxAge),
		sizeInto(&c.MaxBytes, "max-bytes", f.MaxBytes)); err != nil {
		return err
	}
	o.JetStream, o.Config.To, o.Config.Counted = &c, strings.Join(c.Servers, ",")+"/"+c.Subject, c.Format.Counted()
	_, err := bus.NewJetStream(c)
	return err
}

func (e *outputEntry) replicate(o *Output) error {
	f := e.Replicate
	if e.Records != "" || e.Filter != "" || len(e.Tenants) > 0 || e.Sample != 0 {
		return errors.New("replicate passes datagrams on as they came: records, filter, tenants and sample are for the other kinds; use exporters and protocols")
	}
	c := replicate.Config{
		Name: e.Name, Source: replicate.Source(cmp.Or(f.Source, string(replicate.Own))), Share: replicate.Share(cmp.Or(f.Share, string(replicate.All))),
		Exporters: o.Config.Exporters, Queue: cmp.Or(e.Queue, replicate.DefaultQueue),
	}
	for _, text := range f.To {
		a, err := netip.ParseAddrPort(text)
		if err != nil {
			return fmt.Errorf("replicate: to %q: want IP:PORT, such as 192.0.2.9:2055; names are not resolved", text)
		}
		c.To = append(c.To, a)
	}
	for _, text := range f.Protocols {
		p, err := protocol(text)
		if err != nil {
			return err
		}
		c.Protocols = append(c.Protocols, p)
	}
	o.Replicate = &c
	_, err := replicate.New(c)
	return err
}

// protocol reads the name of an export protocol.
func protocol(name string) (flowproto.Protocol, error) {
	var names []string
	for p := range flowproto.Protocol(16) {
		if p.String() == name && name != "unknown" && name != "empty" {
			return p, nil
		}
		if s := p.String(); s != "unknown" && s != "empty" {
			names = append(names, s)
		}
	}
	return 0, fmt.Errorf("replicate: protocol %q: want one of %s%s", name, strings.Join(names, ", "), nearest.Behind(name, names))
}

func (e *tlsEntry) tls() bus.TLS {
	if e == nil {
		return bus.TLS{}
	}
	return bus.TLS{On: true, CA: e.CA, Cert: e.Cert, Key: e.Key, ServerName: e.ServerName}
}

func spanInto(p *time.Duration, what, text string) error {
	if text == "" {
		return nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return fmt.Errorf("%s: %q: expected a duration such as 2s or 1h", what, text)
	}
	*p = d
	return nil
}

func sizeInto(p *int64, what, text string) error {
	if text == "" {
		return nil
	}
	n, err := ParseSize(text)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	*p = n
	return nil
}

// checkOutputs finds replications that would come back.
func (s Settings) checkOutputs() error {
	list, err := s.OutputsInUse()
	if err != nil {
		return err
	}
	var own []netip.AddrPort
	for _, text := range s.Flows {
		if a, err := ParseFlows(text); err == nil {
			if ap, err := netip.ParseAddrPort(a.Addr); err == nil {
				own = append(own, ap)
			}
		}
	}
	for _, o := range list {
		if o.Replicate != nil {
			if err := o.Replicate.CheckLoop(own); err != nil {
				return fmt.Errorf("%s: %w", o.Config.Name, err)
			}
		}
		if t := o.Export; t != nil {
			if err := exportLoop(t, own); err != nil {
				return fmt.Errorf("%s: %w", o.Config.Name, err)
			}
		}
	}
	return nil
}

// exportLoop is CheckLoop for a re-export to an address; where names lead is not looked up.
func exportLoop(t *export.Target, own []netip.AddrPort) error {
	a, err := netip.ParseAddr(t.Host)
	if err != nil {
		return nil
	}
	c := replicate.Config{To: []netip.AddrPort{netip.AddrPortFrom(a, t.Port)}}
	return c.CheckLoop(own)
}

// OutputsInUse returns the outputs, from the settings' own file or from the file that they name.
func (s Settings) OutputsInUse() ([]Output, error) {
	if s.Outputs == "" || s.Outputs == inlineOutputs {
		return s.OutputList, nil
	}
	return LoadOutputs(s.Outputs)
}
