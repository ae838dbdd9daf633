//go:build !agent

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"crosstap/internal/collect"
	"crosstap/internal/collect/listen"
	"crosstap/internal/collect/store"
	"crosstap/internal/collect/store/clickhouse"
	"crosstap/internal/collect/store/segment"
	"crosstap/internal/flowproto"
	"crosstap/internal/frame"
	"crosstap/internal/identity"
	"crosstap/internal/tap/capture"

	"github.com/spf13/cobra"
)

// importer is one run of the command.
type importer struct {
	data, inventory string
	to              string // URL of ClickHouse
	again, quiet    bool
	port            uint16
	store           settled
	err             io.Writer
}

// settled is a store that can be finished: what was stored is sorted and rolled up.
type settled interface {
	store.Store
	Settle(ctx context.Context) error
}

func newImport() *cobra.Command {
	im := &importer{}
	cmd := &cobra.Command{
		Use: "import FILE… {--data DIR | --store URL}", Short: "Store the flows of captured export datagrams", GroupID: "run", Args: cobra.MinimumNArgs(1),
		Long: `import runs the collect line on captures (pcap or pcapng, also compressed with gzip or zstd) of flow-export datagrams, and stores the
records with the times that they tell: decode, join with the inventory, elect, store, roll up. Afterwards every ask command answers from
the directory with --data, or a server that is started on it.

A file whose content was imported before is refused, unless --again says to store its records a second time. The directory
must not be in use by a server. With --store the records go into ClickHouse, also beside servers; --data then only keeps what was imported
before, and without it every file is stored however often it is given.`,
		Example: `  crosstap import export.pcap --data ./flows
  crosstap import *.pcapng.gz --data ./flows --inventory inventory.yaml
  crosstap import export.pcap --store clickhouse://ch1:9000/crosstap
  crosstap pairs --data ./flows --since 2026-01-02 --until 2026-01-03`,
		RunE: func(cmd *cobra.Command, args []string) error {
			im.err = cmd.ErrOrStderr()
			return im.run(cmd.Context(), args)
		},
	}
	f := cmd.Flags()
	f.StringVar(&im.data, "data", "", "store directory, created when needed")
	f.StringVar(&im.to, "store", "", "ClickHouse instead of the directory, such as clickhouse://host:9000/crosstap")
	f.StringVar(&im.inventory, "inventory", "", "inventory file with the names of machines and tenants")
	f.BoolVar(&im.again, "again", false, "store the records of files that were imported before a second time")
	f.BoolVar(&im.quiet, "no-progress", false, "do not show progress")
	f.Uint16Var(&im.port, "port", 0, "only datagrams to or from this UDP port (0 for any)")
	cmd.MarkFlagsOneRequired("data", "store")
	return cmd
}

func (im *importer) run(ctx context.Context, files []string) (err error) {
	var book identity.Book
	if im.inventory != "" {
		inv, err := identity.Load(im.inventory)
		if err != nil {
			return exit(exitUsage, fmt.Errorf("import: %w", err))
		}
		book = identity.NewBook(inv)
	} else {
		book = identity.NewBook(identity.Inventory{})
	}
	if im.store, err = im.open(ctx); err != nil {
		return exit(exitUsage, fmt.Errorf("import: %w", err))
	}
	defer func() { err = errors.Join(err, im.store.Close()) }()
	for _, name := range files {
		if err := im.file(ctx, name, book); err != nil {
			return exit(exitUsage, fmt.Errorf("import: %s: %w", name, err))
		}
	}
	im.say("import: sorting and rolling up")
	if err := im.store.Settle(ctx); err != nil {
		return fmt.Errorf("import: %w", err)
	}
	st := im.store.Stats()
	im.say("")
	_, err = fmt.Fprintf(im.err, "import: the store holds %s in %d bytes\n", plural(int(st.Rows), "record"), st.Bytes+st.RollupBytes)
	return err
}

// open opens the store. Hours are sealed once, at the end, not while their records come.
func (im *importer) open(ctx context.Context) (settled, error) {
	if im.to == "" {
		return segment.Open(segment.Config{Dir: im.data, SealGrace: 100 * 365 * 24 * time.Hour, AppendWait: time.Hour})
	}
	cfg, err := clickhouse.ParseURL(im.to)
	if err != nil {
		return nil, err
	}
	cfg.AppendWait, cfg.RollAfter = time.Hour, -1
	return clickhouse.Open(ctx, cfg)
}

func (im *importer) say(text string) {
	if !im.quiet && isTerminal(im.err) {
		fmt.Fprintf(im.err, "\r\x1b[K%s", text)
	}
}

// file imports one file.
func (im *importer) file(ctx context.Context, name string, book identity.Book) error {
	log, err := openImports(im.data)
	if err != nil {
		return err
	}
	sum, size, err := fileSum(name)
	if err != nil {
		return err
	}
	if before := log.find(sum); before != nil && !im.again {
		return before.refusal()
	}
	if err := log.add(imported{Sum: sum, File: name, When: time.Now().UTC()}); err != nil {
		return err
	}
	src := &exportFile{name: name, port: im.port}
	cfg := collect.DefaultConfig()
	cfg.Store, cfg.Sources, cfg.Import = im.store, []collect.Source{src}, true
	cfg.Enrich.MaxAge = 200 * 365 * 24 * time.Hour // the times are the data's, however old
	c, err := collect.New(cfg)
	if err != nil {
		return err
	}
	c.SetInventory(book)
	if im.data != "" {
		if err := c.RestoreCounters(im.data); err != nil {
			return err
		}
	}
	before := im.store.Stats()
	done := make(chan struct{})
	go im.progress(src, name, size, done)
	err = c.Run(ctx)
	close(done)
	if err == nil {
		err = ctx.Err() // half a file is not imported
	}
	if err == nil && im.data != "" {
		err = c.SaveCounters(im.data)
	}
	if err != nil {
		return err
	}
	after := im.store.Stats()
	n := after.Book.Out - before.Book.Out
	if err := log.add(imported{Sum: sum, File: name, When: time.Now().UTC(), Records: n, Done: true}); err != nil {
		return err
	}
	im.say("")
	_, err = fmt.Fprintf(im.err, "import: %s: %s%s\n", name, plural(int(n), "record"), im.losses(c, src, after.Book.In-before.Book.In-n))
	return err
}

// losses tells what of a file did not become a record, and why.
func (im *importer) losses(c *collect.Collector, src *exportFile, dropped uint64) string {
	text := fmt.Sprintf(" of %s", plural(int(src.datagrams.Load()), "datagram"))
	if n := src.fragments.Load(); n > 0 {
		text += fmt.Sprintf("; not decoded: %s", plural(int(n), "fragment"))
	}
	if src.cut {
		text += "; the capture is cut at its end"
	}
	if dropped > 0 {
		text += fmt.Sprintf("; not stored: %s", plural(int(dropped), "record"))
	}
	for _, b := range c.Status().Books {
		for _, d := range b.Dropped {
			if d.N > 0 {
				text += fmt.Sprintf("; %s: %s %d", b.Stage, d.Reason, d.N)
			}
		}
	}
	return text
}

// progress shows how far the file is read.
func (im *importer) progress(src *exportFile, name string, size int64, done <-chan struct{}) {
	tick := time.NewTicker(300 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			im.say(fmt.Sprintf("import: %s: %d %%, %d datagrams, %d records", name, 100*src.read.Load()/max(size, 1), src.datagrams.Load(), im.store.Stats().Book.In))
		}
	}
}

// exportFile is a source of the datagrams in a capture.
type exportFile struct {
	name                       string
	port                       uint16
	cut                        bool // set before Run returns
	read, datagrams, fragments atomic.Int64
}

// Run implements collect.Source.
func (x *exportFile) Run(ctx context.Context, out chan<- listen.Batch) error {
	f, err := os.Open(x.name)
	if err != nil {
		return err
	}
	defer f.Close()
	src, err := capture.NewFile(capture.FileConfig{Path: x.name, Reader: &meteredReader{f, &x.read}})
	if err != nil {
		return err
	}
	frames, done := make(chan frame.Batch, 4), make(chan error, 1)
	go func() {
		defer close(frames)
		done <- src.Run(ctx, frames)
	}()
	for b := range frames {
		batch := x.datagramsOf(&b)
		b.Release()
		if len(batch.Datagrams) == 0 {
			continue
		}
		select {
		case out <- batch:
		case <-ctx.Done():
		}
	}
	if err = <-done; err != nil && x.datagrams.Load() > 0 && ctx.Err() == nil {
		x.cut, err = true, nil
	}
	return err
}

// datagramsOf copies the export datagrams of a batch of frames.
func (x *exportFile) datagramsOf(b *frame.Batch) (out listen.Batch) {
	for i := range b.Frames {
		f := &b.Frames[i]
		u, ok := findUDP(f.Link, f.Data)
		if !ok || x.port != 0 && u.srcPort != x.port && u.dstPort != x.port {
			continue
		}
		if p := flowproto.Detect(u.payload); p == flowproto.Unknown || p == flowproto.Empty {
			continue
		}
		if u.fragment {
			x.fragments.Add(1)
			continue
		}
		x.datagrams.Add(1)
		out.Datagrams = append(out.Datagrams, listen.Datagram{Data: append([]byte(nil), u.payload...), From: netip.AddrPortFrom(u.src, u.srcPort),
			Local: netip.AddrPortFrom(u.dst, u.dstPort), TimeNS: f.TimeNS})
	}
	return out
}

// meteredReader counts what is read.
type meteredReader struct {
	r io.Reader
	n *atomic.Int64
}

func (m *meteredReader) Read(b []byte) (int, error) {
	n, err := m.r.Read(b)
	m.n.Add(int64(n))
	return n, err
}
