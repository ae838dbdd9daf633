package filter

import (
	"fmt"
	"net/netip"
	"strings"
)

// colons reads n bytes that contain a colon: an Ethernet or an IPv6 address; ok is false for
// neither, as the "0:2" of an index.
func colons(s string, i, n int) (token, bool, error) {
	text := s[i : i+n]
	if strings.Count(text, ":") == 5 && !strings.Contains(text, "::") && !strings.Contains(text, ".") {
		if follows(s, i+n) {
			return token{}, false, &Error{Pos: i, Len: n + 1, Message: fmt.Sprintf("invalid Ethernet address %q", s[i:i+n+1]), Suggestion: "six bytes of one or two hexadecimal digits"}
		}
		return macToken(s, i, i+n, ":")
	}
	for n > 0 && text[n-1] == ':' && !strings.HasSuffix(text[:n], "::") {
		n--
	}
	text = s[i : i+n]
	if strings.Count(text, ":") < 2 {
		return token{}, false, nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil || !a.Is6() {
		return token{}, false, &Error{Pos: i, Len: n, Message: fmt.Sprintf("invalid IPv6 address %q", text)}
	}
	return token{kind: tokIPv6, text: text, pos: i, end: i + n}, true, nil
}

// macToken checks the six bytes at s[i:end], separated by sep; "." separates three groups of four digits or
// six of two, "" nothing.
func macToken(s string, i, end int, sep string) (token, bool, error) {
	if _, err := parseMAC(s[i:end], sep); err != nil {
		return token{}, false, &Error{Pos: i, Len: end - i, Message: fmt.Sprintf("invalid Ethernet address %q", s[i:end]), Suggestion: "six bytes of one or two hexadecimal digits"}
	}
	return token{kind: tokMAC, text: s[i:end], pos: i, end: end}, true, nil
}

// macDots reports whether s is xxxx.xxxx.xxxx or six groups of one or two digits.
func macDots(s string) bool {
	parts := strings.Split(s, ".")
	if len(parts) != 3 && len(parts) != 6 {
		return false
	}
	for _, p := range parts {
		if len(parts) == 3 && len(p) != 4 || len(p) == 0 || len(parts) == 6 && len(p) > 2 {
			return false
		}
	}
	return true
}

// parseMAC reads the six bytes of an Ethernet address in any of its spellings.
func parseMAC(s, sep string) (mac [6]byte, err error) {
	if sep == "" || sep == "." && strings.Count(s, ".") == 2 {
		s = strings.ReplaceAll(s, ".", "")
		if len(s) != 12 {
			return mac, fmt.Errorf("%d digits", len(s))
		}
		for i := range mac {
			mac[i] = hexValue(s[2*i])<<4 | hexValue(s[2*i+1])
		}
		return mac, nil
	}
	parts := strings.Split(s, sep)
	if len(parts) != 6 {
		return mac, fmt.Errorf("%d bytes", len(parts))
	}
	for i, p := range parts {
		if len(p) == 0 || len(p) > 2 {
			return mac, fmt.Errorf("byte %q", p)
		}
		for _, c := range []byte(p) {
			mac[i] = mac[i]<<4 | hexValue(c)
		}
	}
	return mac, nil
}

// macOf reads the text of a tokMAC.
func macOf(text string) [6]byte {
	for _, sep := range []string{":", "-", ".", ""} {
		if sep != "" && !strings.Contains(text, sep) {
			continue
		}
		mac, _ := parseMAC(text, sep)
		return mac
	}
	return [6]byte{}
}

// dotted reads the one to four numbers of a dotted IPv4 address and returns it left-aligned in 32 bits with
// the number of bits it names.
func dotted(text string) (addr uint32, bits int, err error) {
	parts := strings.Split(text, ".")
	if len(parts) > 4 {
		return 0, 0, fmt.Errorf("invalid IPv4 address %q", text)
	}
	for _, p := range parts {
		v := 0
		if p == "" || len(p) > 3 {
			return 0, 0, fmt.Errorf("invalid IPv4 address %q", text)
		}
		for _, c := range []byte(p) {
			v = v*10 + int(c-'0')
		}
		if v > 255 {
			return 0, 0, fmt.Errorf("invalid IPv4 address %q", text)
		}
		addr = addr<<8 | uint32(v)
		bits += 8
	}
	return addr << (32 - bits), bits, nil
}
