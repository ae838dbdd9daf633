package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"crosstap/internal/flow"
	"crosstap/internal/flowproto"
	"crosstap/internal/flowproto/ipfix"
	"crosstap/internal/frame"
	"crosstap/internal/tap/capture"

	"github.com/spf13/cobra"
)

var decodeFormats = []string{"table", "json", "jsonl", "csv", "yaml", "none"}

func newDecode() *cobra.Command {
	var output, elements string
	var d decoder
	var conversations *conversationsMode
	cmd := &cobra.Command{
		Use:   "decode FILE…",
		Short: "Print every field of the flow-export datagrams in captures and payload files",
		Long: `Decode NetFlow v1, v5, v6, v7 and v9, IPFIX and sFlow datagrams and print every field of every record with its
name, number and type.

FILE is a capture (pcap or pcapng, also compressed with gzip or zstd) of export datagrams, or a
payload file: one UDP payload, or IPFIX messages back to back. - reads standard input. Payload files of one
call are one transport session, in the order given: templates first. Records whose template comes
later are printed when it comes.

--explain tells of every byte of every datagram what it is instead: offset, header field, set, template, field and value
with the definition of the element, and each problem with its offset.

--elements reads definitions of elements that the tables do not name, from a YAML or CSV file with pen, id, name,
type and unit.

One summary line goes to standard error: what was decoded, and what was not and why.
The exit code is 2 when a file cannot be used, and 0 otherwise.`,
		Example: `  crosstap decode export.pcap
  crosstap decode -o jsonl export.pcap | jq 'select(.template == 282)'
  crosstap decode --explain export.pcap | less
  crosstap decode --templates --options templates.dat data.dat`,
		GroupID: "fix",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains(decodeFormats, output) {
				return usagef("decode: -o %q: expected one of %s", output, strings.Join(decodeFormats, ", "))
			}
			if conversations.on {
				return conversations.run(cmd, args, output, d.port)
			}
			if err := defineElements(elements); err != nil {
				return exit(exitUsage, err)
			}
			out := bufio.NewWriterSize(cmd.OutOrStdout(), 64<<10)
			if d.explain {
				d.lines, output = out, "none"
			}
			d.print = newRecordPrinter(output, out)
			err := d.files(cmd.Context(), args, cmd.InOrStdin())
			if d.print != nil {
				err = errors.Join(err, d.print.close())
			}
			err = errors.Join(err, out.Flush())
			if err == nil || d.count.datagrams > 0 || len(d.count.other) > 0 {
				fmt.Fprintln(cmd.ErrOrStderr(), d.summary(len(args)))
			}
			if err != nil {
				return exit(exitUsage, err)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVarP(&output, "output", "o", "table", "format: "+strings.Join(decodeFormats, ", ")+" (none decodes and counts only)")
	f.BoolVar(&d.explain, "explain", false, "explain the datagrams byte by byte")
	f.StringVar(&elements, "elements", "", "file with definitions of more elements (.yaml or .csv)")
	f.BoolVar(&d.templates, "templates", false, "print templates and withdrawals, too")
	f.BoolVar(&d.options, "options", true, "print the records of options templates, too")
	conversations = addConversations(cmd)
	f.Uint16Var(&d.port, "port", 0, "decode only datagrams to or from this UDP port (0 for any)")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(decodeFormats, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// decoder is one run of the command.
type decoder struct {
	templates, options bool
	explain            bool
	port               uint16
	lines              *bufio.Writer // of explain
	print              recordPrinter
	sessions           map[string]*flowproto.Session
	recs               []flow.Record
	count              decodeCount
}

// decodeCount is what the summary tells.
type decodeCount struct {
	datagrams int
	protocols [flowproto.Unknown + 1]protocolCount
	other     map[string]int // datagrams and frames that were not decoded
}

type protocolCount struct {
	datagrams int
	total     flowproto.Result
}

func (c *decodeCount) skip(what string) {
	if c.other == nil {
		c.other = make(map[string]int)
	}
	c.other[what]++
}

func (c *decodeCount) add(p flowproto.Protocol, r flowproto.Result) {
	c.protocols[p].datagrams++
	flowproto.Add(&c.protocols[p].total, r)
}

// files decodes one file after the other. A file that cannot be used does not keep the others from being decoded.
func (d *decoder) files(ctx context.Context, names []string, stdin io.Reader) error {
	d.sessions = make(map[string]*flowproto.Session)
	var errs []error
	for _, name := range names {
		if err := d.file(ctx, name, stdin); err != nil {
			errs = append(errs, fmt.Errorf("decode: %w", err))
		}
	}
	return errors.Join(errs...)
}

func (d *decoder) file(ctx context.Context, name string, stdin io.Reader) error {
	r, magic, done, err := begin(name, stdin)
	if err != nil {
		return err
	}
	defer done()
	switch {
	case isCapture(magic):
		return d.capture(ctx, name, r)
	case flowproto.Detect(magic) < flowproto.Unknown && flowproto.Detect(magic) != flowproto.Empty:
		return d.messages(name, r)
	}
	if len(magic) == 0 {
		return fmt.Errorf("%s: neither a capture file nor an export payload: there is nothing in it", name)
	}
	return fmt.Errorf("%s: neither a capture file nor an export payload: it starts with % x", name, magic)
}

// begin opens a file, "-" for standard input, and returns its first four bytes, or fewer when there are no more; they are read again by r.
func begin(name string, stdin io.Reader) (r *bufio.Reader, magic []byte, done func(), err error) {
	in, done := stdin, func() {}
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, nil, nil, err
		}
		in, done = f, func() { f.Close() }
	}
	r = bufio.NewReaderSize(in, 1<<17)
	if magic, err = r.Peek(4); err != nil && !errors.Is(err, io.EOF) {
		done()
		return nil, nil, nil, err
	}
	return r, magic, done, nil
}

// isCapture reports whether a file starts like a capture or a compressed file.
func isCapture(b []byte) bool {
	for _, magic := range []string{"\xa1\xb2\xc3\xd4", "\xd4\xc3\xb2\xa1", "\xa1\xb2\x3c\x4d", "\x4d\x3c\xb2\xa1",
		"\x34\xcd\xb2\xa1", "\xa1\xb2\xcd\x34", "\x0a\x0d\x0d\x0a", "\x1f\x8b", "\x28\xb5\x2f\xfd"} {
		if strings.HasPrefix(string(b), magic) {
			return true
		}
	}
	return false
}

// messages decodes a payload file: IPFIX message by message, so that its size does not matter, all else as one datagram.
func (d *decoder) messages(name string, r *bufio.Reader) error {
	buf := make([]byte, ipfix.MaxMessage)
	for {
		head, err := r.Peek(4)
		if len(head) == 0 && errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("%s: %w", name, err)
		}
		size := ipfix.MaxMessage
		if len(head) == 4 && flowproto.Detect(head) == flowproto.IPFIX {
			size = max(int(head[2])<<8|int(head[3]), ipfix.HeaderLen)
		}
		n, err := io.ReadFull(r, buf[:size])
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("%s: %w", name, err)
		}
		d.count.datagrams++
		d.payload(name, "", buf[:n], 0)
	}
}

// capture decodes the UDP payloads of a capture file.
func (d *decoder) capture(ctx context.Context, name string, r io.Reader) error {
	src, err := capture.NewFile(capture.FileConfig{Path: name, Reader: r})
	if err != nil {
		return err
	}
	frames := make(chan frame.Batch, 4)
	done := make(chan error, 1)
	go func() {
		defer close(frames)
		done <- src.Run(ctx, frames)
	}()
	seen := 0
	for b := range frames {
		for i := range b.Frames {
			d.frame(name, &b.Frames[i])
		}
		seen += len(b.Frames)
		b.Release()
	}
	err = <-done
	if err != nil && seen > 0 {
		d.count.skip("rest of a cut capture")
		return nil
	}
	return err
}

// frame decodes the datagram in a frame. What is not UDP, or not the wanted port, is passed over.
func (d *decoder) frame(name string, f *frame.Frame) {
	u, ok := findUDP(f.Link, f.Data)
	if !ok || d.port != 0 && u.srcPort != d.port && u.dstPort != d.port {
		return
	}
	switch p := flowproto.Detect(u.payload); {
	case p == flowproto.Empty, p == flowproto.Unknown:
		return
	case u.fragment:
		d.count.datagrams++
		d.count.skip("fragment")
	case d.port == 0 && unlikely(p, u.payload):
		return
	default:
		d.count.datagrams++
		d.payload(name, u.from(), u.payload, f.TimeNS)
	}
}

// unlikely reports whether a datagram of a rare version is something else: the version word alone is weak evidence.
func unlikely(p flowproto.Protocol, b []byte) bool {
	if p != flowproto.NetFlow1 && p != flowproto.NetFlow6 && p != flowproto.NetFlow7 {
		return false
	}
	_, err := flowproto.ParseHeader(b)
	return err != nil
}

// payload decodes messages of the transport session from the exporter; "" is the session of payload files.
func (d *decoder) payload(file, from string, b []byte, recvNS int64) {
	s := d.sessions[from]
	if s == nil {
		s = flowproto.NewSession(flowproto.Limits{PendingBytes: 64 << 20, PendingSets: 1 << 16})
		d.sessions[from] = s
	}
	p := flowproto.Detect(b)
	if d.explain {
		d.count.add(p, d.explainPayload(s, file, from, b, recvNS))
		return
	}
	if d.print == nil {
		var res flowproto.Result
		d.recs, res, _ = s.Decode(b, recvNS, d.recs[:0]) // problems are in the result
		d.count.add(p, res)
		return
	}
	res, _ := s.Walk(b, recvNS, func(it *flowproto.Item) {
		switch it.Kind {
		case flowproto.KindRecord, flowproto.KindDiscard:
		case flowproto.KindOption, flowproto.KindCounters:
			if !d.options {
				return
			}
		default:
			if !d.templates {
				return
			}
		}
		d.print.item(file, from, it)
	})
	d.count.add(p, res)
}

// summary is the line on standard error.
func (d *decoder) summary(files int) string {
	var sum flowproto.Result
	var each []string
	for p, c := range d.count.protocols {
		if c.datagrams > 0 {
			flowproto.Add(&sum, c.total)
			each = append(each, fmt.Sprintf("%s %s with %s", flowproto.Protocol(p), plural(c.datagrams, "datagram"), plural(c.total.Records, "record")))
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "decode: %s, %s, %s: %s, %s, %s", plural(files, "file"), plural(d.count.datagrams, "datagram"),
		plural(sum.Messages, "message"), plural(sum.Records, "record"), plural(sum.OptionRecords, "option record"), plural(sum.Templates, "template"))
	d.extras(&b, &sum)
	if len(each) > 1 {
		fmt.Fprintf(&b, "; %s", strings.Join(each, ", "))
	}
	sets, bytes := 0, 0
	for _, s := range d.sessions {
		n, size := s.Pending()
		sets, bytes = sets+n, bytes+size
	}
	if sets > 0 {
		fmt.Fprintf(&b, "; %s (%d bytes) without a template", plural(sets, "set"), bytes)
	}
	var not []string
	for i, n := range sum.Problems {
		if n > 0 {
			not = append(not, fmt.Sprintf("%s %d", flowproto.Reason(i), n))
		}
	}
	for what, n := range d.count.other {
		not = append(not, fmt.Sprintf("%s %d", what, n))
	}
	if len(not) > 0 {
		slices.Sort(not)
		fmt.Fprintf(&b, "; not decoded: %s", strings.Join(not, ", "))
	}
	return b.String()
}

// extras tells what does not happen in most files.
func (d *decoder) extras(b *strings.Builder, sum *flowproto.Result) {
	tell := func(n uint64, what string) {
		if n > 0 {
			fmt.Fprintf(b, ", %d %s", n, what)
		}
	}
	tell(uint64(sum.CounterSamples), "counter samples")
	tell(uint64(sum.Withdrawals), "withdrawn")
	tell(uint64(sum.LateRecords), "decoded late")
	tell(uint64(sum.Borrowed), "with a borrowed template")
	for p := range d.count.protocols {
		r := &d.count.protocols[p].total
		what := "lost on the way by their sequence numbers"
		if flowproto.Protocol(p) != flowproto.IPFIX {
			what = r.Unit.String() + " of " + flowproto.Protocol(p).String() + " " + what
		}
		tell(r.Lost-min(r.Found, r.Lost), what)
	}
	tell(sum.AgentDrops, "packets that agents could not sample")
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
