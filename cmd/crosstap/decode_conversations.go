//go:build !agent

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"crosstap/internal/collect"
	"crosstap/internal/collect/listen"
	"crosstap/internal/flow"
	"crosstap/internal/flowproto"
	"crosstap/internal/frame"
	"crosstap/internal/identity"
	"crosstap/internal/serve/settings"
	"crosstap/internal/tap/capture"

	"github.com/spf13/cobra"
)

// conversationsMode is "decode --conversations".
type conversationsMode struct {
	on                   bool
	inventory, exporters string
}

// addConversations adds the flags of the mode to decode.
func addConversations(cmd *cobra.Command) *conversationsMode {
	m := new(conversationsMode)
	f := cmd.Flags()
	f.BoolVar(&m.on, "conversations", false, "join the records of all observers, and print conversations with who saw them")
	f.StringVar(&m.inventory, "inventory", "", "with --conversations: file with the names of VMs, hosts, tenants and observers")
	f.StringVar(&m.exporters, "exporters", "", "with --conversations: file with what exporters do not say of themselves")
	return m
}

// run collects the files as a server would, into memory, and prints what was collected.
func (m *conversationsMode) run(cmd *cobra.Command, files []string, output string, port uint16) error {
	if output != "table" && output != "json" && output != "jsonl" && output != "none" {
		return usagef("decode --conversations: -o %q: expected one of table, json, jsonl, none", output)
	}
	src := &fileSource{files: files, port: port, stdin: cmd.InOrStdin()}
	mem := new(collect.Memory)
	cfg := collect.DefaultConfig()
	cfg.Store, cfg.Sources, cfg.Import, cfg.Workers = mem, []collect.Source{src}, true, 1
	cfg.Enrich.MaxAge, cfg.Enrich.MaxFlows = 100*365*24*time.Hour, 1<<22
	cfg.Session.Limits = flowproto.Limits{PendingBytes: 64 << 20, PendingSets: 1 << 16}
	cfg.Session.MaxHeldBytes = 1 << 30
	var err error
	if m.exporters != "" {
		if cfg.Session.Rules, err = settings.LoadExporters(m.exporters); err != nil {
			return exit(exitUsage, fmt.Errorf("--exporters: %w", err))
		}
	}
	c, err := collect.New(cfg)
	if err != nil {
		return exit(exitUsage, err)
	}
	if m.inventory != "" {
		inv, err := identity.Load(m.inventory)
		if err != nil {
			return exit(exitUsage, err)
		}
		c.SetInventory(identity.NewBook(inv))
	}
	if err := c.Run(cmd.Context()); err != nil {
		return exit(exitUsage, fmt.Errorf("decode: %w", err))
	}
	all := mem.Conversations()
	out := bufio.NewWriterSize(cmd.OutOrStdout(), 64<<10)
	if err := errors.Join(printConversations(out, output, all), out.Flush()); err != nil {
		return err
	}
	conversationsSummary(cmd.ErrOrStderr(), len(all), c.Status(), src)
	if err := errors.Join(src.errs...); err != nil {
		return exit(exitUsage, fmt.Errorf("decode: %w", err))
	}
	return nil
}

// fileSource gives the export datagrams of captures and payload files.
type fileSource struct {
	files []string
	port  uint16
	stdin io.Reader
	errs  []error // of files that cannot be used; the others are
}

// Run implements collect.Source.
func (s *fileSource) Run(ctx context.Context, out chan<- listen.Batch) error {
	for _, name := range s.files {
		if err := s.file(ctx, name, out); err != nil {
			s.errs = append(s.errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	return nil
}

func (s *fileSource) file(ctx context.Context, name string, out chan<- listen.Batch) error {
	r, magic, closeFile, err := begin(name, s.stdin)
	if err != nil {
		return err
	}
	defer closeFile()
	if !isCapture(magic) {
		return s.payload(ctx, r, out)
	}
	src, err := capture.NewFile(capture.FileConfig{Path: name, Reader: r})
	if err != nil {
		return err
	}
	frames, done := make(chan frame.Batch, 4), make(chan error, 1)
	go func() { defer close(frames); done <- src.Run(ctx, frames) }()
	for b := range frames {
		var batch listen.Batch
		for i := range b.Frames {
			if d, ok := s.datagram(&b.Frames[i]); ok {
				batch.Datagrams = append(batch.Datagrams, d)
			}
		}
		b.Release()
		give(ctx, batch, out)
	}
	return <-done
}

// datagram copies the export datagram out of a frame.
func (s *fileSource) datagram(f *frame.Frame) (d listen.Datagram, ok bool) {
	u, ok := findUDP(f.Link, f.Data)
	if !ok || u.fragment || s.port != 0 && u.srcPort != s.port && u.dstPort != s.port {
		return d, false
	}
	p := flowproto.Detect(u.payload)
	if p == flowproto.Empty || p == flowproto.Unknown {
		return d, false
	}
	return listen.Datagram{
		Data: append([]byte(nil), u.payload...), From: netip.AddrPortFrom(u.src, u.srcPort), Local: netip.AddrPortFrom(u.dst, u.dstPort),
		TimeNS: f.TimeNS, Protocol: p,
	}, true
}

// maxPayloadFile bounds a file that is one payload.
const maxPayloadFile = 256 << 20

// payload gives a payload file: one datagram, or IPFIX messages back to back. All are one transport session.
func (s *fileSource) payload(ctx context.Context, r io.Reader, out chan<- listen.Batch) error {
	b, err := io.ReadAll(io.LimitReader(r, maxPayloadFile+1))
	if err != nil {
		return err
	}
	p := flowproto.Detect(b)
	switch {
	case len(b) > maxPayloadFile:
		return fmt.Errorf("longer than %d bytes", maxPayloadFile)
	case p == flowproto.Empty || p == flowproto.Unknown:
		return fmt.Errorf("neither a capture file nor an export payload: it starts with % x", b[:min(len(b), 4)])
	}
	now := time.Now().UnixNano()
	if h, err := flowproto.ParseHeader(b); err == nil && !h.ExportTime.IsZero() {
		now = h.ExportTime.UnixNano()
	}
	local := netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
	give(ctx, listen.Batch{Datagrams: []listen.Datagram{{Data: b, From: local, Local: local, TimeNS: now, Protocol: p}}}, out)
	return nil
}

func give(ctx context.Context, b listen.Batch, out chan<- listen.Batch) {
	if len(b.Datagrams) == 0 {
		return
	}
	select {
	case out <- b:
	case <-ctx.Done():
	}
}

// conversationDoc is a conversation in JSON.
type conversationDoc struct {
	Segment   string `json:"segment"` // kind and number, "" when it is not known
	Tenant    string `json:"tenant"`
	Client    endDoc `json:"client"`
	Server    endDoc `json:"server"`
	ClientHow string `json:"client_how"` // "packet", "guess", "unknown": the lower address stands first
	Proto     string `json:"proto"`
	App       string `json:"app"`
	Start     string `json:"start"`
	End       string `json:"end"`
	Forward   wayDoc `json:"forward"`
	Back      wayDoc `json:"back"`
}

type endDoc struct {
	Address string `json:"address"`
	Port    uint16 `json:"port"`
	VM      string `json:"vm"`
	MAC     string `json:"mac"`
}

type wayDoc struct {
	Packets   uint64    `json:"packets"`
	Octets    uint64    `json:"octets"`
	Marks     []string  `json:"marks"`
	Observers []seenDoc `json:"observers"`
}

type seenDoc struct {
	Observer  string   `json:"observer"`
	Host      string   `json:"host"`
	Exporter  string   `json:"exporter"`
	Domain    uint32   `json:"domain"`
	Role      string   `json:"role"`
	Direction string   `json:"direction"`
	VTEPs     []string `json:"vteps"`
	Rows      int      `json:"rows"`
	Packets   uint64   `json:"packets"`
	Octets    uint64   `json:"octets"`
	Canonical uint64   `json:"canonical_packets"`
	Marks     []string `json:"marks"`
}

func conversationOf(c *collect.Conversation) conversationDoc {
	end := func(e collect.End) endDoc { return endDoc{e.Addr.String(), e.Port, e.VM, e.MAC.String()} }
	stamp := func(ns int64) string { return time.Unix(0, ns).UTC().Format(time.RFC3339Nano) }
	how := "unknown"
	if c.Known {
		how = map[bool]string{true: "guess", false: "packet"}[c.Guess]
	}
	return conversationDoc{
		Segment: segmentText(c.Segment), Tenant: c.Tenant, Client: end(c.Client), Server: end(c.Server), ClientHow: how, Proto: protoName(c.Proto), App: c.App,
		Start: stamp(c.StartNS), End: stamp(c.EndNS), Forward: wayOf(&c.Forward), Back: wayOf(&c.Back),
	}
}

func wayOf(w *collect.Way) wayDoc {
	out := wayDoc{Packets: w.Packets, Octets: w.Octets, Marks: markNames(w.Marks), Observers: []seenDoc{}}
	for _, s := range w.Observers {
		d := seenDoc{
			Observer: s.Name, Host: s.Host, Exporter: s.Exporter.String(), Domain: s.Domain, Role: s.Role.String(), Direction: flow.DirectionText(s.Direction),
			Rows: s.Rows, Packets: s.Packets, Octets: s.Octets, Canonical: s.Canonical, Marks: markNames(s.Marks), VTEPs: []string{},
		}
		if !s.VTEPSrc.IsZero() {
			d.VTEPs = []string{s.VTEPSrc.String(), s.VTEPDst.String()}
		}
		out.Observers = append(out.Observers, d)
	}
	return out
}

var markTexts = [...]struct {
	m    flow.Mark
	name string
}{
	{flow.MarkSampled, "sampled"}, {flow.MarkAssumed, "rate-assumed"}, {flow.MarkAmbiguous, "ambiguous"}, {flow.MarkTruncated, "truncated"},
	{flow.MarkFragments, "fragments"}, {flow.MarkGap, "gap"}, {flow.MarkBorrowed, "borrowed-template"},
}

func markNames(m flow.Mark) []string {
	out := []string{}
	for _, t := range markTexts {
		if m&t.m != 0 {
			out = append(out, t.name)
		}
	}
	return out
}

func segmentText(s flow.Segment) string {
	if s == 0 {
		return ""
	}
	return fmt.Sprintf("%s %d", s.Kind(), s.Number())
}

func protoName(p uint8) string {
	if name, ok := map[uint8]string{1: "icmp", 6: "tcp", 17: "udp", 58: "icmp6", 132: "sctp"}[p]; ok {
		return name
	}
	return fmt.Sprint(p)
}

func printConversations(w io.Writer, format string, all []collect.Conversation) error {
	docs := make([]conversationDoc, len(all))
	for i := range all {
		docs[i] = conversationOf(&all[i])
	}
	e := json.NewEncoder(w)
	switch format {
	case "json":
		e.SetIndent("", "  ")
		return e.Encode(struct {
			Rows []conversationDoc `json:"rows"`
		}{docs})
	case "jsonl":
		for i := range docs {
			if err := e.Encode(&docs[i]); err != nil {
				return err
			}
		}
	case "table":
		for i := range docs {
			docs[i].text(w)
		}
	}
	return nil
}

// text prints a conversation for people: a line for it, a line for each observer.
func (c *conversationDoc) text(w io.Writer) {
	arrow := map[string]string{"packet": ">", "guess": ">?", "unknown": "-"}[c.ClientHow]
	where := strings.TrimSpace(c.Segment + " " + c.Tenant)
	if where == "" {
		where = "no segment"
	}
	fmt.Fprintf(w, "%s: %s %s %s %s", where, c.Client.text(), arrow, c.Server.text(), c.Proto)
	if c.App != "" && c.App != c.Proto {
		fmt.Fprintf(w, " %s", c.App)
	}
	fmt.Fprintln(w)
	c.Forward.text(w, "to the server")
	c.Back.text(w, "to the client")
}

func (e endDoc) text() string {
	s := e.Address
	if s == "" {
		s = e.MAC
	} else if e.Port != 0 {
		s = netip.AddrPortFrom(netip.MustParseAddr(e.Address), e.Port).String()
	}
	if e.VM != "" {
		s += " (" + e.VM + ")"
	}
	return s
}

func (d *wayDoc) text(w io.Writer, what string) {
	if len(d.Observers) == 0 {
		return
	}
	fmt.Fprintf(w, "  %s: %s, %d octets%s\n", what, plural(int(d.Packets), "packet"), d.Octets, inParens(d.Marks))
	for _, s := range d.Observers {
		name := s.Observer
		if name == "" {
			name = "-"
		}
		fmt.Fprintf(w, "    %s, %s/%d %s %s: %s, %d octets in %s", name, s.Exporter, s.Domain, s.Role, s.Direction, plural(int(s.Packets), "packet"), s.Octets, plural(s.Rows, "record"))
		if len(s.VTEPs) == 2 {
			fmt.Fprintf(w, ", %s > %s", s.VTEPs[0], s.VTEPs[1])
		}
		if s.Canonical > 0 {
			fmt.Fprint(w, ", counted")
		}
		fmt.Fprintln(w, inParens(s.Marks))
	}
}

func inParens(marks []string) string {
	if len(marks) == 0 {
		return ""
	}
	return " (" + strings.Join(marks, ", ") + ")"
}

// conversationsSummary says what was collected, and what waits or is missing.
func conversationsSummary(w io.Writer, n int, s collect.Status, src *fileSource) {
	var datagrams, records, lost uint64
	for i := range s.Exporters {
		x := &s.Exporters[i]
		datagrams, records, lost = datagrams+x.Datagrams, records+x.Records, lost+x.LostRecords
	}
	fmt.Fprintf(w, "decode: %s, %s, %s: %s in %s", plural(len(src.files), "file"), plural(len(s.Exporters), "exporter"), plural(int(datagrams), "datagram"),
		plural(int(records), "record"), plural(n, "conversation"))
	if lost > 0 {
		fmt.Fprintf(w, "; %s lost on the way by their sequence numbers", plural(int(lost), "record"))
	}
	fmt.Fprintln(w)
	for i := range s.Exporters {
		x := &s.Exporters[i]
		if x.MissingSets > x.LateRecords && x.PendingSets > 0 {
			fmt.Fprintf(w, "decode: %v/%d %v: %s for a template\n", x.Address, x.Domain, x.Protocol, plural(x.PendingSets, "data set")+" wait")
		}
		if x.Sampling.Rate > 1 || x.Sampling.Source >= 5 {
			fmt.Fprintf(w, "decode: %v/%d %v: sampling 1:%d (%v)\n", x.Address, x.Domain, x.Protocol, x.Sampling.Rate, x.Sampling.Source)
		}
		for _, r := range x.Rejects {
			fmt.Fprintf(w, "decode: %v/%d %v: %s %d\n", x.Address, x.Domain, x.Protocol, r.Reason, r.N)
		}
	}
}
