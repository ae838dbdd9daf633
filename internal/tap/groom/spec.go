package groom

import (
	"fmt"
	"math"
	"time"
)

// Spec says which steps a pipeline has; nil for a step that it has not. The order of the steps is fixed. It is written as
// flags (Parse) or as YAML, also within a larger document.
type Spec struct {
	Repair  *Repair
	Strip   *Strip
	Dedup   *Dedup
	Sample  *Sample
	Slice   *Slice
	Mask    *Mask
	Tag     *Tag
	Balance *Balance
}

// Repair configures the repair step.
type Repair struct {
	MTU int // frames longer than that without a virtio header are counted as suspicious
}

// Strip configures the strip step.
type Strip struct {
	Headers  Header // which headers to take off
	Ethernet bool   // keep an Ethernet header in front of a packet that was tunnelled without one
}

// Dedup configures the dedup step.
type Dedup struct {
	Window    time.Duration // a duplicate comes at most so long after the frame it repeats
	Packets   int           // and at most so many frames later; 0 for any number
	SamePoint bool          // also copies from the same observation point are duplicates
	CountOnly bool          // duplicates are counted and pass
	Inner     bool          // compare the innermost packets only
	Frame     bool          // compare whole frames, bit for bit
	Ignore    Field         // header fields that may differ
	Entries   int           // frames remembered at a time
}

// Sample configures the sample step.
type Sample struct {
	Rate int // one of so many frames or conversations passes
	Mode SampleMode
	Seed uint64 // of the random numbers, and of the choice of conversations
	Keep uint16 // TCP flags: a segment with any of them always passes
}

// SampleMode says how the sample is drawn.
type SampleMode uint8

// The ways to sample.
const (
	SampleEvery  SampleMode = iota // every N-th frame
	SampleRandom                   // each frame with probability 1/N
	SampleFlows                    // all frames of one in N conversations
)

// Slice configures the slice step.
type Slice struct {
	At           Place         // keep the bytes in front of this place
	AfterPackets int           // cut only after so many packets of the conversation
	AfterBytes   int64         // or so many bytes of it
	Drop         bool          // drop instead of cutting
	Idle         time.Duration // a conversation that is silent for so long begins anew
	Flows        int           // conversations remembered at a time
}

// Layer names where an offset counts from.
type Layer uint8

// The layers of a Place.
const (
	L2 Layer = iota // start of the frame, or of the inner frame
	L3              // start of the network header
	L4              // start of the transport header
	L7              // start of what follows the transport header
)

// Place is an offset in a frame.
type Place struct {
	Inner  bool // in the innermost packet, otherwise the outermost one
	Layer  Layer
	Offset int
}

// Range is the part of a frame from From on: Len bytes, or all for -1.
type Range struct {
	From Place
	Len  int
}

// Mask configures the mask step.
type Mask struct {
	Ranges    []Range
	Patterns  []string // regular expressions; what matches in the innermost payload is masked
	Fill      byte
	Addresses bool   // replace IP addresses by pseudonyms
	MACs      bool   // replace Ethernet addresses by pseudonyms
	Key       []byte // of the pseudonyms, 32 bytes
}

// Tag configures the tag step.
type Tag struct {
	VLAN      int    // push a tag with this identifier; 0 for none
	PerPoint  bool   // add the observation point's number to VLAN
	EtherType uint16 // of the tag
	Trailer   bool   // append a trailer with the observation point and the rule
	Comment   bool   // give the frame a label, which Pipeline.Labels tells
	Rule      string // name of the rule that chose the frames
	RuleID    uint32 // its number, in the trailer
	// VMs names the machines that interfaces belong to, by the interfaces' names, and with "" that of all others.
	VMs map[string]string
}

// Balance configures the balance step.
type Balance struct {
	Outputs int
	Hash    FlowHash
}

// Limits of a spec.
const (
	MaxOutputs = 64
	MaxEntries = 1 << 26
	MaxFlows   = 1 << 24
	MaxPackets = math.MaxInt32
	MaxRate    = math.MaxInt32
	minMTU     = 68 // of IPv4 (RFC 791)
	maxVLAN    = 4094
)

// Validate reports the first mistake.
func (s *Spec) Validate() error {
	for _, check := range []func() error{s.checkDedup, s.checkSample, s.checkSlice, s.checkMask, s.checkTag} {
		if err := check(); err != nil {
			return fmt.Errorf("groom: %w", err)
		}
	}
	switch {
	case s.Repair != nil && s.Repair.MTU < minMTU:
		return fmt.Errorf("groom: repair: MTU %d: must be at least %d", s.Repair.MTU, minMTU)
	case s.Strip != nil && s.Strip.Headers == 0:
		return fmt.Errorf("groom: strip: no headers: name some, or all")
	case s.Balance != nil && (s.Balance.Outputs < 1 || s.Balance.Outputs > MaxOutputs):
		return fmt.Errorf("groom: balance: %d outputs: must be 1 to %d", s.Balance.Outputs, MaxOutputs)
	}
	return nil
}

func (s *Spec) checkDedup() error {
	d := s.Dedup
	switch {
	case d == nil:
	case d.Window <= 0:
		return fmt.Errorf("dedup: window %v: must be positive", d.Window)
	case d.Packets < 0 || d.Packets > MaxPackets:
		return fmt.Errorf("dedup: window of %d frames: must be 0 to %d", d.Packets, MaxPackets)
	case d.Entries < 1 || d.Entries > MaxEntries:
		return fmt.Errorf("dedup: %d entries: must be 1 to %d", d.Entries, MaxEntries)
	}
	return nil
}

func (s *Spec) checkSample() error {
	if s.Sample != nil && (s.Sample.Rate < 1 || s.Sample.Rate > MaxRate) {
		return fmt.Errorf("sample: rate 1:%d: must be 1:1 to 1:%d", s.Sample.Rate, MaxRate)
	}
	return nil
}

func (s *Spec) checkSlice() error {
	c := s.Slice
	switch {
	case c == nil:
	case c.At.Offset < 0:
		return fmt.Errorf("slice: offset %d: must not be negative", c.At.Offset)
	case c.AfterPackets < 0 || c.AfterBytes < 0:
		return fmt.Errorf("slice: must begin after a positive number of packets or bytes")
	case c.tracks() && (c.Flows < 1 || c.Flows > MaxFlows):
		return fmt.Errorf("slice: %d flows: must be 1 to %d", c.Flows, MaxFlows)
	case c.tracks() && c.Idle <= 0:
		return fmt.Errorf("slice: idle time %v: must be positive", c.Idle)
	}
	return nil
}

// tracks reports whether the step needs to know conversations.
func (c *Slice) tracks() bool { return c.AfterPackets > 0 || c.AfterBytes > 0 }

func (s *Spec) checkMask() error {
	m := s.Mask
	switch {
	case m == nil:
	case (m.Addresses || m.MACs) && len(m.Key) != KeyLen:
		return fmt.Errorf("mask: key of %d bytes: pseudonyms need one of %d; give key-file=PATH or key=HEX", len(m.Key), KeyLen)
	}
	return nil
}

func (s *Spec) checkTag() error {
	t := s.Tag
	switch {
	case t == nil:
	case t.VLAN < 0 || t.VLAN > maxVLAN:
		return fmt.Errorf("tag: VLAN %d: must be 1 to %d", t.VLAN, maxVLAN)
	case t.VLAN == 0 && !t.Trailer && !t.Comment:
		return fmt.Errorf("tag: nothing to add: name vlan, trailer or comment")
	}
	return nil
}

// KeyLen is the length of the key of pseudonyms: 16 bytes for AES and 16 to pad with.
const KeyLen = 32
