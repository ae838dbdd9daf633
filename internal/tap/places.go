package tap

import (
	"fmt"
	"slices"
	"strings"

	"crosstap/internal/frame"
	"crosstap/internal/rpcap"
	"crosstap/internal/tap/capture"
)

// places is what a source that is not a file tells of its observation points.
type places interface {
	Interface(point uint32) (name string, index uint32)
	Link(point uint32) (frame.LinkType, bool)
	Lost(point uint32) uint64   // frames that are known to have existed and never came
	Missed(point uint32) uint64 // frames that the interface itself has dropped
}

// kinds returns the kinds of source that the spec names.
func (s *Spec) kinds() (names []string) {
	if len(s.Interfaces) > 0 {
		names = append(names, "interfaces")
	}
	if s.Inline != nil {
		names = append(names, "an inline pair")
	}
	if s.File != "" {
		names = append(names, "a capture file")
	}
	if len(s.Listen) > 0 {
		names = append(names, "endpoints to listen on")
	}
	if len(s.Remotes) > 0 {
		names = append(names, "interfaces of other hosts")
	}
	return names
}

// splitRemotes takes the interfaces of other hosts out from among the interfaces.
func (s *Spec) splitRemotes() {
	var local []string
	remotes := slices.Clone(s.Remotes)
	for _, name := range s.Interfaces {
		if rpcap.IsTarget(name) {
			remotes = append(remotes, name)
		} else {
			local = append(local, name)
		}
	}
	s.Interfaces, s.Remotes = local, remotes
}

// checkSource reports a mistake in the source.
func (s *Spec) checkSource() error {
	switch kinds := s.kinds(); len(kinds) {
	case 0:
		return fmt.Errorf("tap: no source: name an interface, an inline pair, a capture file or an endpoint to listen on")
	case 1:
		return s.joinPair()
	default:
		return fmt.Errorf("tap: %s at once: name one kind of source", strings.Join(kinds, " and "))
	}
}

// joinPair makes interfaces of an inline pair: what comes in by either is all that passes.
func (s *Spec) joinPair() error {
	if s.Inline == nil {
		return nil
	}
	if err := s.Inline.Validate(); err != nil {
		return fmt.Errorf("tap: %w", err)
	}
	s.Interfaces, s.IngressOnly, s.Promiscuous = []string{s.Inline.A, s.Inline.B}, true, true
	return nil
}

// local reports whether the source is interfaces of this host, where the kernel can filter.
func (s *Spec) local() bool { return len(s.Interfaces) > 0 }

// makeMirror makes the source of what remote mirrors send.
func (t *Tap) makeMirror(snap int) error {
	s := &t.spec
	c := capture.MirrorConfig{NetNS: s.NetNS, BufferBytes: s.RingBytes, SnapLen: snap, Ready: s.Ready, Log: s.Log}
	for _, text := range s.Listen {
		e, err := capture.ParseEndpoint(text)
		if err != nil {
			return fmt.Errorf("tap: %w", err)
		}
		c.Endpoints = append(c.Endpoints, e)
	}
	m, err := capture.NewMirror(c)
	if err != nil {
		return err
	}
	t.source, t.at = m, m
	return nil
}
