package groom

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"crosstap/internal/wire"
)

// number takes a whole number within bounds.
func number(least, most int, field func(*Spec) *int) setter {
	return func(s *Spec, v setting) *Error {
		w := v.value()
		n, err := strconv.Atoi(w.text)
		if err != nil || n < least || n > most {
			return w.advise(fmt.Sprintf("give a whole number from %d to %d", least, most), "%s: %q will not do", v.name.text, w.text)
		}
		*field(s) = n
		return nil
	}
}

// duration takes a time with its unit.
func duration(field func(*Spec) *time.Duration) setter {
	return func(s *Spec, v setting) *Error {
		w := v.value()
		d, err := time.ParseDuration(w.text)
		switch {
		case err != nil:
			return w.advise("give a number with its unit, such as 500us, 50ms or 2s", "%s: %q is no duration", v.name.text, w.text)
		case d <= 0:
			return w.advise("such as 500us, 50ms or 2s", "%s: %s must be positive", v.name.text, w.text)
		}
		*field(s) = d
		return nil
	}
}

// yes takes no value, or true or false.
func yes(field func(*Spec) *bool) setter {
	return func(s *Spec, v setting) *Error {
		w := v.value()
		switch w.text {
		case "", "true":
			*field(s) = true
		case "false":
			*field(s) = false
		default:
			return w.advise("the name alone switches it on", "%s: %q is neither true nor false", v.name.text, w.text)
		}
		return nil
	}
}

// choice takes one of a few words.
func choice(words map[string]func(*Spec)) setter {
	return func(s *Spec, v setting) *Error {
		w := v.value()
		set, ok := words[w.text]
		if !ok {
			var names []string
			for n := range words {
				names = append(names, n)
			}
			slices.Sort(names)
			return unknown(w, "value of "+v.name.text, names)
		}
		set(s)
		return nil
	}
}

func setHeaders(s *Spec, v setting) *Error {
	for _, w := range v.parts {
		i := slices.Index(headerNames, w.text)
		switch {
		case w.text == "all":
			s.Strip.Headers = HeaderAll
		case i < 0:
			return unknown(w, "header to strip", append([]string{"all"}, headerNames...))
		default:
			s.Strip.Headers |= 1 << i
		}
	}
	return nil
}

func fields(set func(*Spec, Field)) setter {
	return func(s *Spec, v setting) *Error {
		for _, w := range v.parts {
			i := slices.Index(fieldNames, w.text)
			if i < 0 {
				return unknown(w, "field that dedup can ignore", fieldNames)
			}
			set(s, 1<<i)
		}
		return nil
	}
}

func setRate(s *Spec, v setting) *Error {
	w := v.value()
	n, err := strconv.Atoi(strings.TrimPrefix(w.text, "1:"))
	if err != nil || n < 1 || n > MaxRate {
		return w.advise("1:10 takes one of ten", "%q is no sampling rate", w.text)
	}
	s.Sample.Rate = n
	return nil
}

func mode(m SampleMode) setter {
	return func(s *Spec, v setting) *Error {
		if w := v.value(); w.text != "" && w.text != "true" {
			return w.advise("the name alone switches it on", "%s takes no value", v.name.text)
		}
		if s.Sample.Mode != SampleEvery {
			return v.name.errorf("random and flow at once; choose one")
		}
		s.Sample.Mode = m
		return nil
	}
}

func seed(s *Spec, v setting) *Error {
	w := v.value()
	n, err := strconv.ParseUint(w.text, 0, 64)
	if err != nil {
		return w.advise("give a whole number below 2^64; the same seed takes the same frames again", "seed: %q will not do", w.text)
	}
	s.Sample.Seed = n
	return nil
}

// flagNames are the words for TCP flags, in the order of their bits.
var flagNames = []string{"fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"}

func setKeep(s *Spec, v setting) *Error {
	for _, w := range v.parts {
		i := slices.Index(flagNames, strings.ToLower(w.text))
		if i < 0 {
			return unknown(w, "TCP flag", flagNames)
		}
		s.Sample.Keep |= 1 << i
	}
	if len(v.parts) == 0 {
		s.Sample.Keep = wire.TCPSyn | wire.TCPFin | wire.TCPRst
	}
	return nil
}

func setSlice(s *Spec, v setting) (err *Error) {
	s.Slice.At, err = place(v.value())
	return err
}

var layerNames = []string{"l2", "l3", "l4", "l7"}

// place reads N, l4, l4+N or inner-l4+N.
func place(w word) (Place, *Error) {
	name, offset, has := strings.Cut(w.text, "+")
	if _, err := strconv.Atoi(w.text); err == nil || w.text == "" {
		name, offset = "l2", w.text
	} else if !has {
		offset = "0"
	}
	p, ok := layer(name)
	if !ok {
		return p, w.advise("give a number of bytes, or count from l2, l3, l4 or l7, with inner- in front for the innermost packet: 128, l4+64, inner-l7", "%q is no place in a frame", w.text)
	}
	n, err := strconv.Atoi(offset)
	if err != nil || n < 0 || n > math.MaxInt32 {
		return p, w.advise("such as 128 or l4+64", "%q is no number of bytes", offset)
	}
	p.Offset = n
	return p, nil
}

// layer returns the start of a layer by its name.
func layer(name string) (p Place, ok bool) {
	outer := strings.TrimPrefix(name, "inner-")
	i := slices.Index(layerNames, outer)
	return Place{Inner: outer != name, Layer: Layer(max(i, 0))}, i >= 0
}

// setAfter takes 10p, or a number of bytes as 4096, 64kB or 1MB.
func setAfter(s *Spec, v setting) *Error {
	w := v.value()
	unit := strings.TrimLeft(w.text, "0123456789")
	n, err := strconv.ParseInt(strings.TrimSuffix(w.text, unit), 10, 40)
	factor := map[string]int64{"": 1, "B": 1, "kB": 1000, "KiB": 1 << 10, "MB": 1e6, "MiB": 1 << 20}[unit]
	switch {
	case err == nil && n > 0 && n <= math.MaxInt32 && (unit == "p" || unit == "packets"):
		s.Slice.AfterPackets = int(n)
	case err == nil && n > 0 && factor > 0:
		s.Slice.AfterBytes = n * factor
	default:
		return w.advise("such as 10p, 4096B or 64kB", "after: %q is no number of packets or bytes", w.text)
	}
	return nil
}

// setMask takes ranges such as l7:64-127, inner-l4:0-, patterns as regex:…, addresses and macs.
func setMask(s *Spec, v setting) *Error {
	for _, w := range v.parts {
		what, rest, has := strings.Cut(w.text, ":")
		switch {
		case what == "addresses" && !has:
			s.Mask.Addresses = true
		case what == "macs" && !has:
			s.Mask.MACs = true
		case what == "regex":
			s.Mask.Patterns = append(s.Mask.Patterns, rest)
		default:
			r, err := part(w, what, rest, has)
			if err != nil {
				return err
			}
			s.Mask.Ranges = append(s.Mask.Ranges, r)
		}
	}
	return nil
}

// part reads LAYER, LAYER:FROM-, or LAYER:FROM-TO, the bytes counted from 0 and TO among them.
func part(w word, name, bytes string, has bool) (Range, *Error) {
	p, ok := layer(name)
	if !ok {
		e := unknown(w, "thing to mask", []string{"addresses", "macs", "regex:PATTERN"})
		if strings.HasPrefix(e.Suggestion, "there are") {
			e.Suggestion = "there are addresses, macs, regex:PATTERN and parts of l2, l3, l4 and l7, with inner- in front for the innermost packet: l7, l7:64-, l4:0-15"
		}
		return Range{}, e
	}
	if !has {
		return Range{From: p, Len: -1}, nil
	}
	from, to, open := strings.Cut(bytes, "-")
	a, err := strconv.ParseUint(from, 10, 31)
	b := a
	if err == nil && open && to != "" {
		b, err = strconv.ParseUint(to, 10, 31)
	}
	if err != nil || b < a {
		return Range{}, w.advise("64- is from byte 64 on, 0-15 the first sixteen", "%q is no range of bytes", bytes)
	}
	p.Offset = int(a)
	if open && to == "" {
		return Range{From: p, Len: -1}, nil
	}
	return Range{From: p, Len: int(b-a) + 1}, nil
}

func setFill(s *Spec, v setting) *Error {
	w := v.value()
	n, err := strconv.ParseUint(w.text, 0, 8)
	if err != nil {
		return w.advise("0 to 255, or 0x00 to 0xff", "fill: %q is no byte", w.text)
	}
	s.Mask.Fill = byte(n)
	return nil
}

func setKey(s *Spec, v setting) *Error {
	w := v.value()
	key, err := hex.DecodeString(w.text)
	if err != nil || len(key) != KeyLen {
		return w.advise(makeKey, "key: must be %d hexadecimal digits", 2*KeyLen)
	}
	s.Mask.Key = key
	return nil
}

// makeKey is the way to a key.
const makeKey = `head -c 32 /dev/urandom >FILE makes one; a path with slashes stands in double quotes: key-file="/etc/key"`

// setKeyFile reads a key of 32 bytes, or of 64 hexadecimal digits, from a file.
func setKeyFile(s *Spec, v setting) *Error {
	w := v.value()
	if w.text == "" {
		return w.advise(makeKey, "key-file: no name of a file")
	}
	st, err := os.Stat(w.text)
	if err != nil {
		return w.advise(makeKey, "key-file: %v", err)
	}
	b := []byte(nil)
	if st.Mode().IsRegular() && st.Size() <= 4*KeyLen {
		if b, err = os.ReadFile(w.text); err != nil {
			return w.errorf("key-file: %v", err)
		}
	}
	if len(b) != KeyLen {
		if b, err = hex.DecodeString(strings.TrimSpace(string(b))); err != nil || len(b) != KeyLen {
			return w.advise(makeKey, "key-file: %s must be a file of %d bytes or %d hexadecimal digits", w.text, KeyLen, 2*KeyLen)
		}
	}
	s.Mask.Key = b
	return nil
}

// setTag takes vlan:ID, trailer and comment.
func setTag(s *Spec, v setting) *Error {
	for _, w := range v.parts {
		what, rest, _ := strings.Cut(w.text, ":")
		switch what {
		case "vlan":
			id, err := strconv.ParseUint(rest, 10, 12)
			if err != nil || id == 0 || id > maxVLAN {
				return w.advise("vlan:1 to vlan:4094", "%q is no VLAN identifier", rest)
			}
			s.Tag.VLAN = int(id)
		case "trailer":
			s.Tag.Trailer = true
		case "comment":
			s.Tag.Comment = true
		default:
			return unknown(w, "way to tag", []string{"vlan:ID", "trailer", "comment"})
		}
	}
	return nil
}

func setTPID(s *Spec, v setting) *Error {
	w := v.value()
	n, err := strconv.ParseUint(w.text, 0, 16)
	if err != nil || n != wire.TypeVLAN && n != wire.TypeSVLAN && n != wire.TypeQinQ {
		return w.advise("0x8100, 0x88a8 or 0x9100", "tpid: %q is no tag's", w.text)
	}
	s.Tag.EtherType = uint16(n)
	return nil
}

func setRule(s *Spec, v setting) *Error {
	s.Tag.Rule = v.value().text
	return nil
}

func setRuleID(s *Spec, v setting) *Error {
	w := v.value()
	n, err := strconv.ParseUint(w.text, 0, 32)
	if err != nil {
		return w.advise("give a whole number below 2^32", "rule-id: %q will not do", w.text)
	}
	s.Tag.RuleID = uint32(n)
	return nil
}

// setVM takes names of machines: NAME for all observation points, INTERFACE:NAME for one.
func setVM(s *Spec, v setting) *Error {
	for _, w := range v.parts {
		iface, name, one := strings.Cut(w.text, ":")
		if !one {
			iface, name = "", w.text
		}
		if name == "" || one && iface == "" {
			return w.advise("vm=web-1 for all frames, vm=vnet3:web-1+vnet4:db-1 by their interface", "vm: %q names no machine", w.text)
		}
		if s.Tag.VMs == nil {
			s.Tag.VMs = map[string]string{}
		}
		if _, twice := s.Tag.VMs[iface]; twice {
			return w.errorf("vm: %s is there twice", cmp.Or(iface, "a name for all"))
		}
		s.Tag.VMs[iface] = name
	}
	return nil
}
