package apphint

import (
	"bytes"

	"crosstap/internal/flow"
)

const maxHeaders = 8192 // bytes in which the host is looked for

// http reads a request or the first line of an answer (RFC 9112, sections 3 and 4). The host is that of an absolute target,
// else of the Host field, without its port; it must be in the same packet.
func (in *Inspector) http(b []byte) Hint {
	b = b[:min(len(b), maxHeaders)]
	h := Hint{App: HTTP, How: flow.AppHTTP}
	if bytes.HasPrefix(b, []byte("HTTP/1.")) {
		return h
	}
	method := bytes.IndexByte(b[:min(len(b), 20)], ' ')
	if method < 3 || !upper(b[:method]) {
		return Hint{}
	}
	line, fields, ended := bytes.Cut(b, []byte("\n"))
	target := line[method+1:]
	switch at := bytes.LastIndex(target, []byte(" HTTP/")); {
	case at > 0:
		target = target[:at]
	case ended || !usual(b[:method]):
		return Hint{}
	}
	if string(b[:method]) == "PRI" { // RFC 9113, section 3.4
		return h
	}
	if host := absolute(target, b[:method]); host != nil {
		h.Name = in.host(withoutPort(host))
		return h
	}
	h.Name = in.host(withoutPort(hostField(fields)))
	return h
}

func upper(b []byte) bool {
	for _, c := range b {
		if (c < 'A' || c > 'Z') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// usual reports whether a method alone is enough, when the request line is longer than the packet.
func usual(method []byte) bool {
	switch string(method) {
	case "GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND":
		return true
	}
	return false
}

// absolute returns the authority of a target that has one.
func absolute(target, method []byte) []byte {
	if string(method) == "CONNECT" {
		return target
	}
	at := bytes.Index(target, []byte("://"))
	if at < 1 || at > 10 {
		return nil
	}
	host := target[at+3:]
	if end := bytes.IndexAny(host, "/?#"); end >= 0 {
		host = host[:end]
	}
	return host[bytes.LastIndexByte(host, '@')+1:]
}

// hostField returns the value of the Host field, nil when it is not there to its end.
func hostField(fields []byte) []byte {
	for len(fields) > 0 {
		line, rest, ended := bytes.Cut(fields, []byte("\n"))
		const name = "host:"
		if !ended || len(line) < 2 {
			return nil
		}
		if len(line) > len(name) && bytes.EqualFold(line[:len(name)], []byte(name)) {
			return bytes.TrimSpace(line[len(name):])
		}
		fields = rest
	}
	return nil
}

// withoutPort cuts the port off, but nothing of a bare IPv6 address.
func withoutPort(host []byte) []byte {
	at := bytes.LastIndexByte(host, ':')
	if at < 0 || host[0] == '[' && host[at-1] != ']' || host[0] != '[' && bytes.IndexByte(host, ':') != at {
		return host
	}
	return host[:at]
}
