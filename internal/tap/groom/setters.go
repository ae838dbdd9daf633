package groom

import (
	"encoding/hex"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"crosstap/internal/wire"
)

// number takes a whole number.
func number(field func(*Spec) *int) setter {
	return func(s *Spec, v setting) *Error {
		w := v.value()
		n, err := strconv.Atoi(w.text)
		if err != nil {
			return w.errorf("%s: %q is no whole number", v.name.text, w.text)
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
		if err != nil {
			e := w.errorf("%s: %q is no duration", v.name.text, w.text)
			e.Suggestion = "give a number with its unit, such as 500us, 50ms or 2s"
			return e
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
			return w.errorf("%s: %q is neither true nor false", v.name.text, w.text)
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
	if err != nil {
		e := w.errorf("%q is no sampling rate", w.text)
		e.Suggestion = "1:10 takes one of ten"
		return e
	}
	s.Sample.Rate = n
	return nil
}

func mode(m SampleMode) setter {
	return func(s *Spec, v setting) *Error {
		if w := v.value(); w.text != "" && w.text != "true" {
			return w.errorf("%s takes no value", v.name.text)
		}
		if s.Sample.Mode != SampleEvery {
			return v.name.errorf("random and flow at once: choose one")
		}
		s.Sample.Mode = m
		return nil
	}
}

func seed(s *Spec, v setting) *Error {
	w := v.value()
	n, err := strconv.ParseUint(w.text, 0, 64)
	if err != nil {
		return w.errorf("seed: %q is no number below 2^64", w.text)
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

// place reads N, l4+N or inner-l4+N.
func place(w word) (Place, *Error) {
	name, offset, has := strings.Cut(w.text, "+")
	var p Place
	if !has {
		name, offset = "l2", w.text
	}
	if p.Inner = strings.HasPrefix(name, "inner-"); p.Inner {
		name = strings.TrimPrefix(name, "inner-")
	}
	if i := slices.Index(layerNames, name); i >= 0 {
		p.Layer = Layer(i)
	} else {
		return p, unknown(w, "place in a frame", []string{"l2+N", "l3+N", "l4+N", "l7+N", "inner-l2+N", "inner-l3+N", "inner-l4+N", "inner-l7+N"})
	}
	n, err := strconv.Atoi(offset)
	if err != nil || n < 0 || n > math.MaxInt32 {
		return p, w.errorf("%q is no offset in bytes", offset)
	}
	p.Offset = n
	return p, nil
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
		e := w.errorf("after: %q is no number of packets or bytes", w.text)
		e.Suggestion = "such as 10p, 4096B or 64kB"
		return e
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
func part(w word, layer, bytes string, has bool) (Range, *Error) {
	name := strings.TrimPrefix(layer, "inner-")
	if !slices.Contains(layerNames, name) {
		return Range{}, unknown(w, "thing to mask", []string{"l2:FROM-TO", "l3:FROM-TO", "l4:FROM-TO", "l7:FROM-TO", "inner-l7:FROM-TO", "regex:PATTERN", "addresses", "macs"})
	}
	p := Place{Inner: name != layer, Layer: Layer(slices.Index(layerNames, name))}
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
		e := w.errorf("%q is no range of bytes", bytes)
		e.Suggestion = "64- is from byte 64 on, 0-15 the first sixteen"
		return Range{}, e
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
		return w.errorf("fill: %q is no byte", w.text)
	}
	s.Mask.Fill = byte(n)
	return nil
}

func setKey(s *Spec, v setting) *Error {
	w := v.value()
	key, err := hex.DecodeString(w.text)
	if err != nil || len(key) != KeyLen {
		return w.errorf("key: must be %d hexadecimal digits", 2*KeyLen)
	}
	s.Mask.Key = key
	return nil
}

// setKeyFile reads a key of 32 bytes, or of 64 hexadecimal digits, from a file.
func setKeyFile(s *Spec, v setting) *Error {
	w := v.value()
	st, err := os.Stat(w.text)
	if err != nil || !st.Mode().IsRegular() || st.Size() > 4*KeyLen {
		return w.errorf("key-file: %s must be a file of %d bytes or %d hexadecimal digits", w.text, KeyLen, 2*KeyLen)
	}
	b, err := os.ReadFile(w.text)
	if err != nil {
		return w.errorf("key-file: %v", err)
	}
	if len(b) != KeyLen {
		if b, err = hex.DecodeString(strings.TrimSpace(string(b))); err != nil || len(b) != KeyLen {
			return w.errorf("key-file: %s must hold %d bytes or %d hexadecimal digits", w.text, KeyLen, 2*KeyLen)
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
			if err != nil || id == 0 {
				return w.errorf("%q is no VLAN identifier", rest)
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
		return w.errorf("tpid: %q must be 0x8100, 0x88a8 or 0x9100", w.text)
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
		return w.errorf("rule-id: %q is no number below 2^32", w.text)
	}
	s.Tag.RuleID = uint32(n)
	return nil
}
