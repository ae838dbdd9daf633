//go:build !agent

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"crosstap/internal/collect"
	"crosstap/internal/collect/store"
	"crosstap/internal/collect/store/clickhouse"
	"crosstap/internal/collect/store/segment"
	"crosstap/internal/flowproto"
	"crosstap/internal/identity"

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

Several files are read one after the other as one capture: what observers in different files saw of a flow is counted once. A file whose
content was imported before is refused before anything is stored, unless --again says to store its records a second time. The directory must
not be in use by a server. With --store the records go into ClickHouse, also beside servers; --data then only keeps what was imported
before, and without it every file is stored however often it is given.`,
		Example: `  crosstap import export.pcap --data ./flows
  crosstap import *.pcapng.gz --data ./flows --inventory inventory.yaml
  crosstap import export.pcap --store clickhouse://ch1:9000/crosstap
  crosstap pairs --data ./flows --since 2026-01-02 --until 2026-01-03`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if im.data == "" && im.to == "" {
				return usagef("import: no store: give its directory with --data DIR, or ClickHouse with --store clickhouse://HOST:9000/DATABASE")
			}
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
	unread, err := im.files(ctx, files, book)
	if err != nil {
		return exit(exitUsage, fmt.Errorf("import: %w", err))
	}
	im.say("import: sorting and rolling up")
	if err := im.store.Settle(ctx); err != nil {
		return fmt.Errorf("import: %w", err)
	}
	st := im.store.Stats()
	im.say("")
	_, err = fmt.Fprintf(im.err, "import: the store holds %s in %d bytes\n", plural(int(st.Rows), "record"), st.Bytes+st.RollupBytes)
	if unread != nil {
		return exit(exitUsage, errors.Join(fmt.Errorf("import: %w", unread), err))
	}
	return err
}

// open opens the store. Hours are sealed once, at the end, not while their records come; on a disk that is nearly full none are deleted for the new ones.
func (im *importer) open(ctx context.Context) (settled, error) {
	if im.to == "" {
		return segment.Open(segment.Config{Dir: im.data, SealGrace: 100 * 365 * 24 * time.Hour, AppendWait: time.Hour, FullAt: 1})
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

// files imports all files through one line, so that observers whose exports are in different files are joined. It returns why files could not
// be read, which keeps no other one out.
func (im *importer) files(ctx context.Context, names []string, book identity.Book) (unread, err error) {
	log, err := openImports(im.data)
	if err != nil {
		return nil, err
	}
	src, err := im.usable(names, log)
	if err != nil {
		return nil, err
	}
	c, err := im.line(src, book)
	if err != nil {
		return nil, err
	}
	before := im.store.Stats()
	done := make(chan struct{})
	go im.progress(src, done)
	err = c.Run(ctx)
	close(done)
	if err == nil {
		err = ctx.Err() // half a file is not imported
	}
	if err == nil && im.data != "" {
		err = c.SaveCounters(im.data)
	}
	if err != nil {
		return nil, err
	}
	after := im.store.Stats()
	n := after.Book.Out - before.Book.Out
	if err := src.finish(log, n); err != nil {
		return nil, err
	}
	im.say("")
	return src.errors(), im.told(src, n, im.losses(c, src, after.Book.In-before.Book.In-n))
}

// usable looks at all files before anything is stored: they are there, and none was imported before.
func (im *importer) usable(names []string, log *imports) (out exportFiles, err error) {
	for _, name := range names {
		x := &exportFile{name: name, port: im.port}
		x.begin = func() error { return log.add(imported{Sum: x.sum, File: name, When: time.Now().UTC()}) }
		if x.sum, x.size, err = fileSum(name); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		before := log.find(x.sum)
		switch twice := slices.ContainsFunc(out, func(o *exportFile) bool { return o.sum == x.sum }); {
		case im.again:
		case before != nil:
			return nil, fmt.Errorf("%s: %w", name, before.refusal())
		case twice:
			return nil, fmt.Errorf("%s: it is the same as another of the files; --again stores its records twice", name)
		}
		out = append(out, x)
	}
	return out, nil
}

// line is the collect line for files: one decoder, so that the order of the capture decides and not the moment, and more room for what waits for
// its template.
func (im *importer) line(src exportFiles, book identity.Book) (*collect.Collector, error) {
	cfg := collect.DefaultConfig()
	cfg.Store, cfg.Sources, cfg.Import, cfg.Workers = im.store, []collect.Source{src}, true, 1
	cfg.Enrich.MaxAge = 200 * 365 * 24 * time.Hour // the times are the data's, however old
	cfg.Enrich.MaxFlows = 1 << 20
	cfg.Session.Limits = flowproto.Limits{PendingBytes: 64 << 20, PendingSets: 1 << 16}
	c, err := collect.New(cfg)
	if err != nil {
		return nil, err
	}
	c.SetInventory(book)
	if im.data == "" {
		return c, nil
	}
	return c, c.RestoreCounters(im.data)
}

// told says what was imported: a line for one file; for several one for each, and one for all.
func (im *importer) told(src exportFiles, records uint64, losses string) error {
	if len(src) == 1 {
		_, err := fmt.Fprintf(im.err, "import: %s: %s of %s%s\n", src[0].name, plural(int(records), "record"), plural(int(src[0].datagrams.Load()), "datagram"), losses)
		return err
	}
	var text strings.Builder
	for _, x := range src {
		fmt.Fprintf(&text, "import: %s: %s%s\n", x.name, plural(int(x.datagrams.Load()), "datagram"), x.ended())
	}
	fmt.Fprintf(&text, "import: %s: %s%s\n", plural(len(src), "file"), plural(int(records), "record"), losses)
	_, err := io.WriteString(im.err, text.String())
	return err
}

// losses tells what did not become a record, and why.
func (im *importer) losses(c *collect.Collector, src exportFiles, dropped uint64) (text string) {
	if len(src) == 1 {
		text = src[0].ended()
	}
	if n := src.sum(func(x *exportFile) int64 { return x.fragments.Load() }); n > 0 {
		text += fmt.Sprintf("; not decoded: %s", plural(int(n), "fragment"))
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

// progress shows how far the files are read.
func (im *importer) progress(src exportFiles, done <-chan struct{}) {
	tick := time.NewTicker(300 * time.Millisecond)
	defer tick.Stop()
	size := src.sum(func(x *exportFile) int64 { return x.size })
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			im.say(fmt.Sprintf("import: %d %%, %d datagrams, %d records", 100*src.sum(func(x *exportFile) int64 { return x.read.Load() })/max(size, 1),
				src.sum(func(x *exportFile) int64 { return x.datagrams.Load() }), im.store.Stats().Book.In))
		}
	}
}
