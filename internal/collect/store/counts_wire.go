package store

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"crosstap/internal/flow"
)

// Fields of the messages Counts, Count and Cell of docs/formats/flow.proto. Those of Counts begin at 2, so that who expects a FlowBatch finds an empty one.
const (
	wireFeed = 2 + iota
	wireSeq
	wireList
)

const (
	wireAgent = 1 + iota
	wireDomain
	wireClass
	wireIndex
	wireName
	wireUUID
	wireFabric
	wireHost
	wireVM
	wireVMID
	wireReason
	wireSince
	wireUntil
	wireCell
)

const (
	wireFrom = 1 + iota
	wireTo
	wireInOctets
	wireOutOctets
	wireInPackets
	wireOutPackets
)

// Append appends the message Counts of docs/formats/flow.proto.
func (c *Counts) Append(b []byte) []byte {
	b = appendText(b, wireFeed, c.Feed)
	b = appendNumber(b, wireSeq, c.Seq)
	var one, cell []byte
	for i := range c.List {
		one, cell = c.List[i].append(one[:0], cell)
		b = protowire.AppendBytes(protowire.AppendTag(b, wireList, protowire.BytesType), one)
	}
	return b
}

func (c *Count) append(b, room []byte) (out, reuse []byte) {
	b = protowire.AppendBytes(protowire.AppendTag(b, wireAgent, protowire.BytesType), c.Agent[:])
	b = appendNumber(b, wireDomain, uint64(c.Domain))
	b = appendNumber(b, wireClass, uint64(c.Class))
	b = appendNumber(b, wireIndex, uint64(c.Index))
	for i, s := range [...]string{c.Name, c.UUID, c.Owner.Fabric, c.Owner.Host, c.Owner.VM, c.Owner.VMID, c.Owner.Reason} {
		b = appendText(b, wireName+protowire.Number(i), s)
	}
	b = appendNumber(b, wireSince, uint64(c.Owner.FromNS))
	b = appendNumber(b, wireUntil, uint64(c.Owner.ToNS))
	for _, x := range c.Cells {
		room = room[:0]
		for i, n := range [...]uint64{uint64(x.FromNS), uint64(x.ToNS), x.InOctets, x.OutOctets, x.InPackets, x.OutPackets} {
			room = appendNumber(room, wireFrom+protowire.Number(i), n)
		}
		b = protowire.AppendBytes(protowire.AppendTag(b, wireCell, protowire.BytesType), room)
	}
	return b, room
}

func appendNumber(b []byte, field protowire.Number, n uint64) []byte {
	if n == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), n)
}

func appendText(b []byte, field protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
}

// ParseCounts reads what Append wrote. Fields of newer versions are passed over.
func ParseCounts(b []byte) (c Counts, err error) {
	err = eachField(b, func(field protowire.Number, n uint64, text []byte) error {
		switch field {
		case wireFeed:
			c.Feed = string(text)
		case wireSeq:
			c.Seq = n
		case wireList:
			one, err := parseCount(text)
			if err != nil {
				return err
			}
			c.List = append(c.List, one)
		}
		return nil
	})
	if err != nil {
		return Counts{}, fmt.Errorf("counts: %w", err)
	}
	return c, nil
}

func parseCount(b []byte) (c Count, err error) {
	err = eachField(b, func(field protowire.Number, n uint64, text []byte) error {
		switch field {
		case wireAgent:
			if len(text) != len(flow.Addr{}) {
				return fmt.Errorf("agent of %d bytes", len(text))
			}
			c.Agent = flow.Addr(text)
		case wireDomain:
			c.Domain = uint32(n)
		case wireClass:
			c.Class = uint32(n)
		case wireIndex:
			c.Index = uint32(n)
		case wireName, wireUUID, wireFabric, wireHost, wireVM, wireVMID, wireReason:
			*[...]*string{&c.Name, &c.UUID, &c.Owner.Fabric, &c.Owner.Host, &c.Owner.VM, &c.Owner.VMID, &c.Owner.Reason}[field-wireName] = string(text)
		case wireSince:
			c.Owner.FromNS = int64(n)
		case wireUntil:
			c.Owner.ToNS = int64(n)
		case wireCell:
			cell, err := parseCell(text)
			if err != nil {
				return err
			}
			c.Cells = append(c.Cells, cell)
		}
		return nil
	})
	return c, err
}

func parseCell(b []byte) (c CountCell, err error) {
	err = eachField(b, func(field protowire.Number, n uint64, _ []byte) error {
		switch field {
		case wireFrom:
			c.FromNS = int64(n)
		case wireTo:
			c.ToNS = int64(n)
		case wireInOctets:
			c.InOctets = n
		case wireOutOctets:
			c.OutOctets = n
		case wireInPackets:
			c.InPackets = n
		case wireOutPackets:
			c.OutPackets = n
		}
		return nil
	})
	if err == nil && (c.FromNS < 0 || c.FromNS >= c.ToNS || c.ToNS > 1<<62) {
		err = errors.New("a cell is of no time")
	}
	return c, err
}

// eachField calls f with each field that is a number or bytes.
func eachField(b []byte, f func(field protowire.Number, n uint64, text []byte) error) error {
	for len(b) > 0 {
		field, kind, size := protowire.ConsumeTag(b)
		if size < 0 {
			return protowire.ParseError(size)
		}
		b = b[size:]
		var n uint64
		var text []byte
		switch kind {
		case protowire.VarintType:
			n, size = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			text, size = protowire.ConsumeBytes(b)
		default:
			field, size = 0, protowire.ConsumeFieldValue(field, kind, b)
		}
		if size < 0 {
			return protowire.ParseError(size)
		}
		b = b[size:]
		if err := f(field, n, text); err != nil {
			return err
		}
	}
	return nil
}
