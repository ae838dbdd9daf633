package groom

import (
	"math"
	"slices"
	"time"

	"crosstap/internal/wire"
)

// stepDef says how one step is written.
type stepDef struct {
	name    string
	key     string // of the main value in YAML
	needs   string // an example, when there must be a main value
	start   func(*Spec)
	main    setter
	options map[string]setter
}

// setter takes over a value as it is written.
type setter func(*Spec, setting) *Error

func (d *stepDef) optionNames() []string {
	var all []string
	for n := range d.options {
		all = append(all, n)
	}
	slices.Sort(all)
	return all
}

func findStep(name string) (*stepDef, bool) {
	i := slices.IndexFunc(stepDefs, func(d stepDef) bool { return d.name == name })
	if i < 0 {
		return nil, false
	}
	return &stepDefs[i], true
}

func stepNames() []string {
	var all []string
	for _, d := range stepDefs {
		all = append(all, d.name)
	}
	return all
}

// Defaults of the steps.
const (
	DefaultMTU     = 1500
	DefaultWindow  = 50 * time.Millisecond
	DefaultEntries = 1 << 18
	DefaultIdle    = 30 * time.Second
	DefaultFlows   = 1 << 16
)

// stepDefs lists the steps in their order.
var stepDefs = []stepDef{
	{name: "repair", start: func(s *Spec) { s.Repair = &Repair{MTU: DefaultMTU} }, options: map[string]setter{
		"mtu": number(minMTU, math.MaxUint16, func(s *Spec) *int { return &s.Repair.MTU }),
	}},
	{name: "strip", key: "headers", needs: "vxlan+vntag or all", start: func(s *Spec) { s.Strip = new(Strip) }, main: setHeaders, options: map[string]setter{
		"link": choice(map[string]func(*Spec){
			"raw":      func(s *Spec) { s.Strip.Ethernet = false },
			"ethernet": func(s *Spec) { s.Strip.Ethernet = true },
		}),
	}},
	{name: "dedup", key: "window", start: func(s *Spec) { s.Dedup = &Dedup{Window: DefaultWindow, Entries: DefaultEntries, Ignore: DefaultIgnore} },
		main: duration(func(s *Spec) *time.Duration { return &s.Dedup.Window }), options: map[string]setter{
			"packets":    number(0, MaxPackets, func(s *Spec) *int { return &s.Dedup.Packets }),
			"same-point": yes(func(s *Spec) *bool { return &s.Dedup.SamePoint }),
			"count":      yes(func(s *Spec) *bool { return &s.Dedup.CountOnly }),
			"inner":      yes(func(s *Spec) *bool { return &s.Dedup.Inner }),
			"frame":      yes(func(s *Spec) *bool { return &s.Dedup.Frame }),
			"ignore":     fields(func(s *Spec, f Field) { s.Dedup.Ignore |= f }),
			"compare":    fields(func(s *Spec, f Field) { s.Dedup.Ignore &^= f }),
			"entries":    number(1, MaxEntries, func(s *Spec) *int { return &s.Dedup.Entries }),
		}},
	{name: "sample", key: "rate", needs: "1:10", start: func(s *Spec) { s.Sample = new(Sample) }, main: setRate, options: map[string]setter{
		"random": mode(SampleRandom),
		"flow":   mode(SampleFlows),
		"seed":   seed,
		"keep":   setKeep,
	}},
	{name: "slice", key: "to", needs: "l4+64 or 128", start: func(s *Spec) { s.Slice = &Slice{Idle: DefaultIdle, Flows: DefaultFlows} }, main: setSlice, options: map[string]setter{
		"after": setAfter,
		"drop":  yes(func(s *Spec) *bool { return &s.Slice.Drop }),
		"idle":  duration(func(s *Spec) *time.Duration { return &s.Slice.Idle }),
		"flows": number(1, MaxFlows, func(s *Spec) *int { return &s.Slice.Flows }),
	}},
	{name: "mask", key: "what", needs: "l7:64- or addresses", start: func(s *Spec) { s.Mask = new(Mask) }, main: setMask, options: map[string]setter{
		"fill":     setFill,
		"key":      setKey,
		"key-file": setKeyFile,
	}},
	{name: "tag", key: "with", needs: "vlan:100 or comment", start: func(s *Spec) { s.Tag = &Tag{EtherType: wire.TypeVLAN} }, main: setTag, options: map[string]setter{
		"per-point": yes(func(s *Spec) *bool { return &s.Tag.PerPoint }),
		"tpid":      setTPID,
		"rule":      setRule,
		"rule-id":   setRuleID,
		"vm":        setVM,
	}},
	{name: "balance", key: "outputs", needs: "3", start: func(s *Spec) { s.Balance = new(Balance) }, main: number(1, MaxOutputs, func(s *Spec) *int { return &s.Balance.Outputs }), options: map[string]setter{
		"hash": choice(map[string]func(*Spec){
			"ports": func(s *Spec) { s.Balance.Hash = HashPorts },
			"hosts": func(s *Spec) { s.Balance.Hash = HashHosts },
		}),
	}},
}
