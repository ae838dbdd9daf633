package ovs

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"crosstap/internal/control/platform"
)

// commands are what a person would type to bring an object from one state to another. They are for reading: our own way is one
// transaction, and checks what it finds.
func (p *Platform) commands(kind string, before, spec json.RawMessage) []string {
	switch kind {
	case kindBridge:
		return p.bridgeCommands(before, spec)
	case kindOutput:
		return p.outputCommands(before, spec)
	case kindFeed:
		return p.feedCommands(before, spec)
	case kindMirror:
		return p.mirrorCommands(before, spec)
	}
	return p.exportCommands(before, spec)
}

// vsctl writes an ovs-vsctl command whose words are quoted for a shell.
func (p *Platform) vsctl(words ...string) string {
	all := []string{"ovs-vsctl"}
	if a := p.cfg.Address; a != "unix:/run/openvswitch/db.sock" && a != "unix:/var/run/openvswitch/db.sock" {
		all = append(all, "--db="+a)
		if strings.HasPrefix(a, "ssl:") {
			all = append(all, "-p", "KEY", "-c", "CERT", "-C", "CA")
		}
	}
	for _, w := range words {
		all = append(all, quote(w))
	}
	return strings.Join(all, " ")
}

func quote(w string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:=,@%+", r)
	}
	if w != "" && strings.IndexFunc(w, func(r rune) bool { return !plain(r) }) < 0 {
		return w
	}
	return "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
}

func markWord(mark string) string { return fmt.Sprintf("external_ids:%s=%q", platform.MarkKey, mark) }

func optionWords(options map[string]string) (out []string) {
	for _, k := range slices.Sorted(maps.Keys(options)) {
		out = append(out, "options:"+k+"="+options[k])
	}
	return out
}

// read decodes our own bytes; nil gives the zero spec.
func read[T any](spec json.RawMessage) (out T) {
	if spec != nil {
		_ = json.Unmarshal(spec, &out)
	}
	return out
}

func (p *Platform) bridgeCommands(before, spec json.RawMessage) []string {
	s := read[bridgeSpec](spec)
	if spec == nil {
		return []string{p.vsctl("--if-exists", "del-br", read[bridgeSpec](before).Name)}
	}
	words := []string{
		"--may-exist", "add-br", s.Name, "--", "set", "bridge", s.Name, "datapath_type=" + s.Datapath, "fail_mode=secure",
		"protocols=" + strings.Join(protocols, ","), markWord(s.Mark),
	}
	if s.Listen != "" {
		words = append(words, "--", "set-controller", s.Name, s.Listen)
	}
	return []string{p.vsctl(words...)}
}

func (p *Platform) outputCommands(before, spec json.RawMessage) []string {
	s := read[portSpec](spec)
	if spec == nil {
		b := read[portSpec](before)
		return []string{p.vsctl("--if-exists", "del-port", b.Bridge, b.Name)}
	}
	words := []string{"--may-exist", "add-port", s.Bridge, s.Name, "--", "set", "port", s.Name, markWord(s.Mark)}
	if s.Type != "" {
		words = append(words, "--", "set", "interface", s.Name, "type="+s.Type)
		words = append(words, optionWords(s.Options)...)
	}
	return []string{p.vsctl(words...)}
}

func (p *Platform) feedCommands(before, spec json.RawMessage) []string {
	if spec == nil {
		b := read[feedSpec](before)
		out := []string{p.vsctl("--if-exists", "del-port", b.Bridge, b.Name)}
		if e := b.What.Export; e != nil {
			out[0] = p.vsctl("--if-exists", "del-port", b.Bridge, b.Name, "--", "--id=@s", "get", "Flow_Sample_Collector_Set", fmt.Sprint(e.ID), "--", "destroy", "Flow_Sample_Collector_Set", "@s")
		}
		return append(out, fmt.Sprintf("ovs-ofctl -O OpenFlow14 del-flows %s cookie=%#x/%#x", b.Bridge, feedCookie(b.Name), uint64(feedMask)))
	}
	s := read[feedSpec](spec)
	words := []string{"--may-exist", "add-port", s.Bridge, s.Name, "--", "set", "interface", s.Name, "type=patch", "options:peer=" + s.Peer,
		"--", "set", "port", s.Name, markWord(s.Mark), fmt.Sprintf("external_ids:%s=%q", feedKey, encode(s.What))}
	if e := s.What.Export; e != nil {
		words = append(words, "--", "--id=@b", "get", "bridge", s.Bridge, "--", "--id=@x", "create", "IPFIX", fmt.Sprintf("targets=%q", e.Target),
			fmt.Sprintf("cache_active_timeout=%d", e.Active), "--", "create", "Flow_Sample_Collector_Set", fmt.Sprintf("id=%d", e.ID), "bridge=@b", "ipfix=@x", markWord(s.Mark))
	}
	out := []string{p.vsctl(words...)}
	flows, err := s.flows()
	if err != nil {
		return out
	}
	const most = 40
	for i, f := range flows {
		if i == most {
			out = append(out, fmt.Sprintf("# and %d flows more", len(flows)-most))
			break
		}
		out = append(out, fmt.Sprintf("ovs-ofctl -O OpenFlow14 --names add-flow %s %s", s.Bridge, quote(f.String())))
	}
	return out
}

func (p *Platform) mirrorCommands(before, spec json.RawMessage) []string {
	b, s := read[mirrorSpec](before), read[mirrorSpec](spec)
	switch {
	case spec == nil:
		words := []string{"--", "--id=@m", "get", "mirror", b.Name, "--", "remove", "bridge", b.Bridge, "mirrors", "@m"}
		if b.Type != "" {
			words = append(words, "--", "--if-exists", "del-port", b.Bridge, b.Output)
		}
		return []string{p.vsctl(append(words, p.nudgeWords(b.Ours)...)...)}
	case before != nil && b.Output == s.Output && b.Type == s.Type:
		words := append(append(portIDs(&s), "--", "set", "mirror", s.Name), mirrorWords(&s)...)
		if b.Snaplen != 0 {
			words = append(words, "--", "clear", "mirror", s.Name, "snaplen")
		}
		return []string{p.vsctl(append(words, p.nudgeWords(s.Ours)...)...)}
	}
	words := []string{}
	if s.Type != "" {
		words = append(words, "--", "--may-exist", "add-port", s.Bridge, s.Output, "--", "set", "interface", s.Output, "type="+s.Type)
		words = append(words, optionWords(s.Options)...)
		words = append(words, "--", "set", "port", s.Output, markWord(s.Mark))
	}
	words = append(words, portIDs(&s)...)
	words = append(words, "--", "--id=@m", "create", "mirror", "name="+s.Name)
	words = append(words, mirrorWords(&s)...)
	words = append(words, "--", "add", "bridge", s.Bridge, "mirrors", "@m")
	return []string{p.vsctl(append(words, p.nudgeWords(s.Ours)...)...)}
}

// portIDs names the ports of a mirror for the commands behind.
func portIDs(s *mirrorSpec) (out []string) {
	all := append(slices.Concat(s.Src, s.Dst), s.Output)
	slices.Sort(all)
	for _, name := range slices.Compact(all) {
		out = append(out, "--", "--id=@"+name, "get", "port", name)
	}
	return out
}

func mirrorWords(s *mirrorSpec) []string {
	list := func(names []string) string {
		var at []string
		for _, n := range names {
			at = append(at, "@"+n)
		}
		return "[" + strings.Join(at, ",") + "]"
	}
	words := []string{
		fmt.Sprintf("select-all=%t", s.All), "select-src-port=" + list(s.Src), "select-dst-port=" + list(s.Dst), "output-port=@" + s.Output, markWord(s.Mark),
	}
	if len(s.VLANs) > 0 {
		words = append(words, strings.ReplaceAll(fmt.Sprintf("select-vlan=%v", s.VLANs), " ", ","))
	}
	return words
}

// nudgeWords make the switch look at its cached flows again.
func (p *Platform) nudgeWords(bridge string) []string {
	if bridge == "" {
		return nil
	}
	name := nudgePrefix + hash(bridge) + "a"
	return []string{"--", "add-port", bridge, name, "--", "set", "interface", name, "type=patch", "options:peer=none"}
}
