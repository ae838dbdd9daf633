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
	var output string
	var d decoder
	var conversations *conversationsMode
	cmd := &cobra.Command{
		Use:   "decode FILE…",
		Short: "Print every field of the flow-export datagrams in captures and payload files",
		Long: `Decode IPFIX datagrams and print every field of every record with its name, number and type.

FILE is a capture (pcap or pcapng, also compressed with gzip or zstd) of export datagrams, or a
payload file: one UDP payload, or IPFIX messages back to back. - reads standard input. Payload files of one
call are one transport session, in the order given: templates first. Records whose template comes
later are printed when it comes.

One summary line goes to standard error: what was decoded, and what was not and why.
The exit code is 2 when a file cannot be used, and 0 otherwise.`,
		Example: `  crosstap decode export.pcap
  crosstap decode -o jsonl export.pcap | jq 'select(.template == 282)'
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
			out := bufio.NewWriterSize(cmd.OutOrStdout(), 64<<10)
			d.print = newRecordPrinter(output, out)
			err := d.files(cmd.Context(), args, cmd.InOrStdin())
			if d.print != nil {
				err = errors.Join(err, d.print.close(), out.Flush())
			}
			fmt.Fprintln(cmd.ErrOrStderr(), d.summary(len(args)))
			if err != nil {
				return exit(exitUsage, err)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVarP(&output, "output", "o", "table", "format: "+strings.Join(decodeFormats, ", ")+" (none decodes and counts only)")
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
	port               uint16
	print              recordPrinter
	sessions           map[string]*flowproto.Session
	recs               []flow.Record
	count              decodeCount
}

// decodeCount is what the summary tells.
type decodeCount struct {
	datagrams int
	total     flowproto.Result
	other     map[string]int // datagrams by protocol, and frames, that were not decoded
}

func (c *decodeCount) skip(what string) {
	if c.other == nil {
		c.other = make(map[string]int)
	}
	c.other[what]++
}

func (c *decodeCount) add(r flowproto.Result) {
	t := &c.total
	t.Messages += r.Messages
	t.Records += r.Records
	t.OptionRecords += r.OptionRecords
	t.LateRecords += r.LateRecords
	t.Borrowed += r.Borrowed
	t.Templates += r.Templates
	t.Withdrawals += r.Withdrawals
	t.Lost += r.Lost
	t.Found += r.Found
	for i, n := range r.Problems {
		t.Problems[i] += n
	}
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

func (d *decoder) file(ctx context.Context, name string, in io.Reader) error {
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	r := bufio.NewReaderSize(in, 1<<17)
	magic, err := r.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	switch {
	case isCapture(magic):
		return d.capture(ctx, name, r)
	case exportProtocol(magic) == "ipfix":
		return d.messages(name, r)
	case exportProtocol(magic) != "":
		d.count.datagrams++
		d.count.skip(exportProtocol(magic))
		return nil
	}
	return fmt.Errorf("%s: neither a capture file nor an export payload: it starts with % x", name, magic)
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

// exportProtocol names the protocol of an export payload by its version word, "" for something else.
func exportProtocol(b []byte) string {
	if len(b) < 4 || b[0] != 0 {
		return ""
	}
	switch b[1] {
	case 0:
		if b[2] == 0 && b[3] == 5 {
			return "sflow5"
		}
	case 1, 5, 7, 9:
		return fmt.Sprintf("netflow%d", b[1])
	case ipfix.Version:
		return "ipfix"
	}
	return ""
}

// messages decodes a payload file, message by message, so that its size does not matter.
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
		if exportProtocol(head) == "ipfix" {
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
	switch p := exportProtocol(u.payload); {
	case p == "":
		return
	case u.fragment:
		d.count.datagrams++
		d.count.skip("fragment")
	case p == "ipfix":
		d.count.datagrams++
		d.payload(name, u.from(), u.payload, f.TimeNS)
	default:
		d.count.datagrams++
		d.count.skip(p)
	}
}

// payload decodes messages of the transport session from the exporter; "" is the session of payload files.
func (d *decoder) payload(file, from string, b []byte, recvNS int64) {
	s := d.sessions[from]
	if s == nil {
		s = flowproto.NewSession(flowproto.Limits{PendingBytes: 64 << 20, PendingSets: 1 << 16})
		d.sessions[from] = s
	}
	if d.print == nil {
		var res flowproto.Result
		d.recs, res, _ = s.Decode(b, recvNS, d.recs[:0]) // problems are in the result
		d.count.add(res)
		return
	}
	res, _ := s.Walk(b, recvNS, func(it *flowproto.Item) {
		switch it.Kind {
		case flowproto.KindRecord:
		case flowproto.KindOption:
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
	d.count.add(res)
}

// summary is the line on standard error.
func (d *decoder) summary(files int) string {
	t := &d.count.total
	var b strings.Builder
	fmt.Fprintf(&b, "decode: %s, %s, %s: %s, %s, %s", plural(files, "file"), plural(d.count.datagrams, "datagram"),
		plural(t.Messages, "message"), plural(t.Records, "record"), plural(t.OptionRecords, "option record"), plural(t.Templates, "template"))
	for _, extra := range []struct {
		n    int
		what string
	}{
		{t.Withdrawals, "withdrawn"}, {t.LateRecords, "decoded late"}, {t.Borrowed, "with a borrowed template"},
		{int(t.Lost - min(t.Found, t.Lost)), "lost on the way by their sequence numbers"},
	} {
		if extra.n > 0 {
			fmt.Fprintf(&b, ", %d %s", extra.n, extra.what)
		}
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
	for i, n := range t.Problems {
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

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
