package main

import (
	"encoding/hex"
	"fmt"
	"strings"

	"crosstap/internal/flowproto"
	"crosstap/internal/ie"
)

// defineElements reads the operator's definitions of elements; "" is none.
func defineElements(path string) error {
	if path == "" {
		return nil
	}
	all, err := ie.Load(path)
	if err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	return ie.Define(all)
}

// bytesShown is how many bytes of a part stand in its line.
const bytesShown = 8

// explainPayload prints every part of a datagram, one line each.
func (d *decoder) explainPayload(s *flowproto.Session, file, from string, b []byte, recvNS int64) flowproto.Result {
	if from == "" {
		from = file
	}
	fmt.Fprintf(d.lines, "datagram %d  exporter %s\n", d.count.datagrams, from)
	res, _ := s.Explain(b, recvNS, func(l flowproto.Line) { // problems are among the lines
		fmt.Fprintf(d.lines, "%5d  %-17s  %s%s", l.Offset, shownBytes(b, l), strings.Repeat("  ", l.Depth), l.Name)
		if l.Value != "" {
			fmt.Fprintf(d.lines, " = %s", l.Value)
		}
		if l.Note != "" {
			fmt.Fprintf(d.lines, "  (%s)", l.Note)
		}
		_ = d.lines.WriteByte('\n') // bufio keeps the error until Flush
	})
	_ = d.lines.WriteByte('\n')
	return res
}

// shownBytes are the first bytes of a leaf in hexadecimal, with a sign when there are more.
func shownBytes(b []byte, l flowproto.Line) string {
	if l.Offset+l.Len > len(b) || l.Depth == 0 || l.Len == 0 {
		return ""
	}
	if l.Len > bytesShown {
		return hex.EncodeToString(b[l.Offset:l.Offset+bytesShown]) + "…"
	}
	return hex.EncodeToString(b[l.Offset : l.Offset+l.Len])
}
