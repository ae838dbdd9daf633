// Package bus puts flow records onto message buses: Apache Kafka and NATS JetStream. Both deliver at least once what they took: a
// message that is not confirmed is sent again, in a way that the receiver can recognise.
package bus

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"

	"crosstap/internal/collect/message"
	"crosstap/internal/flow"
	"crosstap/internal/nearest"
	"crosstap/internal/pki"
)

// Format is what a message is made of.
type Format string

// The formats.
const (
	Flow    Format = "flow"    // docs/formats/flow.proto
	Goflow2 Format = "goflow2" // the FlowMessage of goflow2, with its length before it as goflow2 sends it
	JSON    Format = "json"    // as the flows report
)

// Key is what keeps messages together and in order.
type Key string

// The keys.
const (
	ByExporter Key = "exporter"
	ByFlow     Key = "flow"
	NoKey      Key = "none"
)

// Counted reports whether the format tells what was counted, with the rate beside it.
func (f Format) Counted() bool { return f == Goflow2 }

// one returns an error unless got is one of the words.
func one[T ~string](what string, got T, words ...T) error {
	var texts []string
	for _, w := range words {
		if w == got {
			return nil
		}
		texts = append(texts, string(w))
	}
	return fmt.Errorf("%s %q: want %s%s", what, string(got), strings.Join(texts, ", "), nearest.Behind(string(got), texts))
}

// append appends one record as a message of its own.
func (f Format) append(b []byte, r *flow.Record) []byte {
	switch f {
	case Goflow2:
		return appendDelimited(b, r)
	case JSON:
		return message.AppendJSON(b, r)
	}
	return message.AppendFlow(b, r)
}

// appendDelimited appends a FlowMessage with its length before it.
func appendDelimited(b []byte, r *flow.Record) []byte {
	const room = 2 // a message has some hundred bytes
	at := len(b)
	b = message.AppendGoflow2(append(b, make([]byte, room)...), r)
	n := len(b) - at - room
	var length [binary.MaxVarintLen64]byte
	k := binary.PutUvarint(length[:], uint64(n))
	if k < room { // the longer form means the same
		length[k-1] |= 0x80
		length[k] = 0
	}
	copy(b[at:], length[:room])
	return b
}

// appendKey appends the key of a record.
func (k Key) append(b []byte, r *flow.Record) []byte {
	switch k {
	case ByExporter:
		if r.Exporter.IsZero() {
			return b
		}
		return r.Exporter.Netip().AppendTo(b)
	case ByFlow:
		return fmt.Appendf(b, "%016x", r.FlowID)
	}
	return b
}

// TLS says how a connection is protected. Files are in PEM.
type TLS struct {
	On         bool
	CA         string // what the server's certificate is checked with; "" for the system's authorities
	Cert, Key  string // our own
	ServerName string // in the server's certificate; "" for the host
}

// config reads the files; nil when the connection is plain.
func (t TLS) config() (*tls.Config, error) {
	if !t.On {
		if t != (TLS{}) {
			return nil, errors.New("tls: settings are given, but it is not on")
		}
		return nil, nil
	}
	c, err := pki.Client{CA: t.CA, Cert: t.Cert, Key: t.Key, ServerName: t.ServerName}.Config()
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	return c, nil
}

// secret reads a password file: its first line.
func secret(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("password-file: %w", err)
	}
	line, _, _ := strings.Cut(string(b), "\n")
	if line = strings.TrimRight(line, "\r"); line == "" {
		return "", fmt.Errorf("password-file: %s has an empty first line", path)
	}
	return line, nil
}
