package ovsdb

import (
	"bufio"
	"errors"
	"fmt"
)

var errNotJSON = errors.New("ovsdb: the peer does not speak JSON-RPC")

// message reads the next JSON object or array from r into buf, and returns it; the stream has no other frames. A message of more
// than limit bytes is an error, before the memory for it is taken.
func message(r *bufio.Reader, buf []byte, limit int) ([]byte, error) {
	depth, inString, escaped := 0, false, false
	for {
		c, err := r.ReadByte()
		if err != nil {
			return buf, err
		}
		if depth == 0 {
			switch c {
			case ' ', '\t', '\r', '\n':
				continue
			case '{', '[':
			default:
				return buf, errNotJSON
			}
		}
		if len(buf) == limit {
			return buf, fmt.Errorf("ovsdb: message of more than %d bytes", limit)
		}
		buf = append(buf, c)
		switch {
		case escaped:
			escaped = false
		case inString:
			escaped = c == '\\'
			inString = c != '"'
		case c == '"':
			inString = true
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			if depth--; depth == 0 {
				return buf, nil
			}
		}
	}
}
