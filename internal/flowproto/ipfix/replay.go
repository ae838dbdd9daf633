package ipfix

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Replay makes stored messages fit for a connection: a template goes out once, before the first record that needs it; one whose
// definition has changed since, because another version stored it, is withdrawn first (RFC 7011, section 8.1);
// sequence numbers count from the connection's start. The messages are those of one Encoder or of several after each other,
// of the domains that it writes. One goroutine at a time.
type Replay struct {
	known map[templateName]definition // the latest, as the messages defined them
	told  map[templateName][]byte     // on this connection
	seq   map[uint32]uint32           // by domain
	out   []byte
}

// templateName is a template's name: identifiers are of one domain.
type templateName struct {
	domain uint32
	id     uint16
}

// definition is a template: its record as sent, and what is needed to step over a data record.
type definition struct {
	record  []byte
	options bool
	lengths []uint16
}

// NewReplay returns a Replay that knows no template.
func NewReplay() *Replay {
	return &Replay{known: make(map[templateName]definition), told: make(map[templateName][]byte), seq: make(map[uint32]uint32)}
}

// Connect begins a new connection.
func (p *Replay) Connect() {
	clear(p.told)
	clear(p.seq)
}

// Learn takes the templates of a message, and makes nothing of the rest.
func (p *Replay) Learn(msg []byte) error {
	return p.sets(msg, func(templateName, []byte) error { return nil })
}

// Definitions gives emit messages that define every template known, with the rest of the header as in header.
func (p *Replay) Definitions(header []byte, emit func(msg []byte) error) error {
	b, domain := append([]byte(nil), header[:HeaderLen]...), uint32(0)
	finish := func() error {
		if len(b) == HeaderLen {
			return nil
		}
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		binary.BigEndian.PutUint32(b[8:], 0)
		binary.BigEndian.PutUint32(b[12:], domain)
		err := emit(b)
		b = b[:HeaderLen]
		return err
	}
	for t, d := range p.known {
		if t.domain != domain || len(b)+4+len(d.record) > MaxMessage {
			if err := finish(); err != nil {
				return err
			}
		}
		domain = t.domain
		b = p.define(b, t)
	}
	return finish()
}

// Message returns what is to be sent for a message, nil when that is nothing; it is valid until the next call.
func (p *Replay) Message(msg []byte) ([]byte, error) {
	if len(msg) < HeaderLen {
		return nil, fmt.Errorf("ipfix: message of %d bytes: the header has %d", len(msg), HeaderLen)
	}
	p.out = append(p.out[:0], msg[:HeaderLen]...)
	records := uint32(0)
	err := p.sets(msg, func(t templateName, set []byte) error {
		d, ok := p.known[t]
		if !ok {
			return fmt.Errorf("ipfix: set %d: its template was never defined", t.id)
		}
		p.tell(t, d)
		p.out = append(p.out, set...)
		n, err := d.count(set[4:])
		records += n
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(p.out) == HeaderLen {
		return nil, nil
	}
	if len(p.out) > MaxMessage {
		return nil, fmt.Errorf("ipfix: message of %d bytes with its templates: at most %d fit", len(p.out), MaxMessage)
	}
	binary.BigEndian.PutUint16(p.out[2:], uint16(len(p.out)))
	domain := binary.BigEndian.Uint32(p.out[12:])
	binary.BigEndian.PutUint32(p.out[8:], p.seq[domain])
	p.seq[domain] += records
	return p.out, nil
}

// tell defines a template, unless the connection knows it so.
func (p *Replay) tell(t templateName, d definition) {
	was, ok := p.told[t]
	if ok && bytes.Equal(was, d.record) {
		return
	}
	if ok {
		p.out = put16(put16(p.out, d.set()), 8)
		p.out = put16(put16(p.out, t.id), 0)
	}
	p.out = p.define(p.out, t)
	p.told[t] = d.record
}

// set is the identifier of the sets that define the template.
func (d *definition) set() uint16 {
	if d.options {
		return setOptionsTemplate
	}
	return setTemplate
}

func (p *Replay) define(b []byte, t templateName) []byte {
	d := p.known[t]
	return append(put16(put16(b, d.set()), uint16(4+len(d.record))), d.record...)
}

// sets walks a message: definitions are taken, data sets given to data with their headers.
func (p *Replay) sets(msg []byte, data func(t templateName, set []byte) error) error {
	domain := binary.BigEndian.Uint32(msg[12:])
	for b := msg[HeaderLen:]; len(b) > 0; {
		if len(b) < 4 {
			return fmt.Errorf("ipfix: %d bytes behind the last set", len(b))
		}
		id, n := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		if n < 4 || n > len(b) {
			return fmt.Errorf("ipfix: set %d: length %d, %d bytes left", id, n, len(b))
		}
		var err error
		switch id {
		case setTemplate, setOptionsTemplate:
			err = p.learn(domain, b[4:n], id == setOptionsTemplate)
		default:
			err = data(templateName{domain, id}, b[:n])
		}
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// learn takes the definitions of a set. What is shorter than one is padding.
func (p *Replay) learn(domain uint32, b []byte, options bool) error {
	head := 4
	if options {
		head = 6
	}
	for len(b) >= head {
		id, fields := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		if id == 0 {
			return nil
		}
		d, n := definition{options: options}, head
		for range fields {
			if n+4 > len(b) {
				return fmt.Errorf("ipfix: template %d: %d bytes hold not all of %d fields", id, len(b), fields)
			}
			d.lengths = append(d.lengths, binary.BigEndian.Uint16(b[n+2:]))
			n += 4
			if b[n-4]&0x80 != 0 {
				n += 4
			}
		}
		if n > len(b) {
			return fmt.Errorf("ipfix: template %d: %d bytes hold not all of %d fields", id, len(b), fields)
		}
		if old, ok := p.known[templateName{domain, id}]; !ok || !bytes.Equal(old.record, b[:n]) {
			d.record = bytes.Clone(b[:n])
			p.known[templateName{domain, id}] = d
		}
		b = b[n:]
	}
	return nil
}

// count returns the number of data records in a set's content.
func (d *definition) count(b []byte) (n uint32, err error) {
	for len(b) > 0 {
		size := 0
		for _, l := range d.lengths {
			if l != anyLen {
				size += int(l)
				continue
			}
			if size >= len(b) {
				return n, fmt.Errorf("ipfix: a record is cut off")
			}
			if l = uint16(b[size]); l == 255 && size+3 <= len(b) {
				l = binary.BigEndian.Uint16(b[size+1:])
				size += 2
			}
			size += 1 + int(l)
		}
		if size == 0 || size > len(b) {
			return n, fmt.Errorf("ipfix: a record of %d bytes is cut off after %d", size, len(b))
		}
		b = b[size:]
		n++
	}
	return n, nil
}
