// Command ingest measures the way of flow records from UDP datagrams to the store in one process, as the server composes it: what a
// durable row costs, what sorting and rolling up add, and how long a batch takes to become durable while questions are asked.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"sync"
	"syscall"
	"time"

	"crosstap/internal/collect"
	"crosstap/internal/collect/listen"
	"crosstap/internal/collect/store/segment"
	"crosstap/test/bench/vds"
)

type options struct {
	records, rate, askers int
	shape                 vds.Shape
	profile               string
}

func main() {
	o := options{}
	flag.IntVar(&o.records, "records", 2_000_000, "flow records to send")
	flag.IntVar(&o.rate, "rate", 15_000, "datagrams in a second")
	flag.IntVar(&o.askers, "askers", 1, "questions asked at one time while latency is measured")
	shape := flag.String("shape", "vxlan", "plain (template 256) or vxlan (template 260)")
	flag.StringVar(&o.profile, "cpuprofile", "", "file for a profile of the first part, up to durable; that of sorting and rolling up goes to the same name with .settle")
	part := flag.String("part", "all", "rate, latency or all")
	to := flag.String("send", "", "only send, to this address")
	flag.Parse()
	var ok bool
	if o.shape, ok = vds.ParseShape(*shape); !ok {
		fail(fmt.Errorf("shape %q: want plain or vxlan", *shape))
	}
	if *to != "" {
		fail(send(o, *to))
		return
	}
	if *part != "latency" {
		fail(throughput(o))
	}
	if *part != "rate" {
		fail(latency(o))
	}
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "ingest:", err)
		os.Exit(1)
	}
}

// send keeps the rate in steps of a millisecond.
func send(o options, to string) error {
	c, err := net.Dial("udp", to)
	if err != nil {
		return err
	}
	defer c.Close()
	start, n := time.Now(), 0
	vds.Stream(o.records, o.shape, func(msg []byte) bool {
		if n++; n%max(o.rate/1000, 1) == 0 {
			time.Sleep(time.Until(start.Add(time.Duration(n) * time.Second / time.Duration(o.rate))))
		}
		_, err = c.Write(msg)
		return err == nil
	})
	return err
}

// line is a collector under way.
type line struct {
	*collect.Collector
	store *segment.Store
	end   context.CancelFunc
	done  chan error
}

// open starts the collect line over a store.
func open(cfg segment.Config) (*line, error) {
	s, err := segment.Open(cfg)
	if err != nil {
		return nil, err
	}
	lc := listen.DefaultConfig()
	lc.Addr = "127.0.0.1:0"
	cc := collect.DefaultConfig()
	cc.Store, cc.Listen, cc.Log = s, []listen.Config{lc}, slog.New(slog.DiscardHandler)
	c, err := collect.New(cc)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	ctx, end := context.WithCancel(context.Background())
	if err := c.Bind(ctx); err != nil {
		end()
		return nil, errors.Join(err, s.Close())
	}
	l := &line{c, s, end, make(chan error, 1)}
	go func() { l.done <- c.Run(ctx) }()
	return l, nil
}

// feed has another process send, and returns when all has come or nothing more comes.
func (l *line) feed(o options) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	shape := "plain"
	if o.shape == vds.VXLAN {
		shape = "vxlan"
	}
	cmd := exec.Command(self, "-send", l.Addrs()[0].String(), "-records", fmt.Sprint(o.records), "-rate", fmt.Sprint(o.rate), "-shape", shape)
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("sender: %w", err)
	}
	in := func() uint64 { return l.store.Stats().Book.In }
	for before := in(); ; before = in() {
		if before == uint64(o.records) {
			return nil
		}
		time.Sleep(time.Second)
		if in() == before {
			return nil
		}
	}
}

// stop lets what was received become durable.
func (l *line) stop() error {
	l.end()
	return errors.Join(<-l.done, l.store.Flush(context.Background()))
}

// throughput measures processor time: first to durable files alone, then sorting, settling and rolling them up.
func throughput(o options) error {
	dir, err := os.MkdirTemp("", "ingest-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	late := segment.Config{Dir: filepath.Join(dir, "store"), SealGrace: 1e6 * time.Hour, MergeFiles: 1 << 30, SealRows: 1 << 30} // nothing is tidied meanwhile
	l, err := open(late)
	if err != nil {
		return err
	}
	stop, err := profile(o.profile)
	if err != nil {
		return err
	}
	before := used()
	if err := errors.Join(l.feed(o), l.stop()); err != nil {
		return err
	}
	durable := used() - before
	stop()
	st := l.store.Stats()
	fmt.Printf("UDP, decode, enrich, durable: %d of %d records, %s, %.1f B/row, most memory %d MiB\n", st.Rows, o.records, perSecond(st.Rows, durable),
		float64(st.Bytes)/float64(st.Rows), mostMemory()>>20)
	if err := l.store.Close(); err != nil {
		return err
	}
	later := func() time.Time { return time.Now().Add(48 * time.Hour) }
	s, err := segment.Open(segment.Config{Dir: late.Dir, SealGrace: 1e6 * time.Hour, Now: later})
	if err != nil {
		return err
	}
	if o.profile != "" {
		o.profile += ".settle"
	}
	if stop, err = profile(o.profile); err != nil {
		return err
	}
	before = used()
	if err := s.Settle(context.Background()); err != nil {
		return err
	}
	settled := used() - before
	stop()
	st = s.Stats()
	fmt.Printf("sorted, settled, rolled up: %s; all in %s, %.1f B/row with roll-ups (%.1f rows to one), most memory %d MiB\n", perSecond(st.Rows, settled), perSecond(st.Rows, durable+settled),
		float64(st.Bytes+st.RollupBytes)/float64(st.Rows), float64(st.Rows)/float64(max(st.RollupRows, 1)), mostMemory()>>20)
	return s.Close()
}

// profile starts a processor profile into a file, none without a name.
func profile(name string) (stop func(), err error) {
	if name == "" {
		return func() {}, nil
	}
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	return func() {
		pprof.StopCPUProfile()
		f.Close()
	}, pprof.StartCPUProfile(f)
}

// latency measures how long batches take from full to durable, with the store's own tidying, alone and while questions are asked.
func latency(o options) error {
	for _, askers := range []int{0, o.askers} {
		if err := latencyWith(o, askers); err != nil {
			return err
		}
	}
	return nil
}

var questions = []string{
	"SELECT src, dst, sum(octets) AS o FROM %s GROUP BY ALL ORDER BY o DESC LIMIT 10",
	"SELECT time_bucket(INTERVAL '10 seconds', t_end) AS moment, segment, sum(octets) FROM %s GROUP BY ALL ORDER BY moment LIMIT 100",
	"SELECT dst_port, count(*), sum(packets) FROM %s WHERE src BETWEEN '00000000-0000-0000-0000-ffff0a000000' AND '00000000-0000-0000-0000-ffff0a00ffff' GROUP BY ALL",
}

func latencyWith(o options, askers int) error {
	dir, err := os.MkdirTemp("", "ingest-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var mu sync.Mutex
	var took, asked []time.Duration
	l, err := open(segment.Config{Dir: filepath.Join(dir, "store"), Wrote: func(rows int, d time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		took = append(took, d)
	}})
	if err != nil {
		return err
	}
	ctx, enough := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var failed error
	for n := range askers {
		wg.Go(func() {
			for i := n; ctx.Err() == nil; i++ {
				at := time.Now()
				err := ask(ctx, l.store, questions[i%len(questions)])
				mu.Lock()
				if asked = append(asked, time.Since(at)); err != nil && ctx.Err() == nil {
					failed = err
				}
				mu.Unlock()
			}
		})
	}
	err = l.feed(o)
	enough()
	wg.Wait()
	if err := errors.Join(err, failed, l.stop()); err != nil {
		return err
	}
	st := l.store.Stats()
	fmt.Printf("%d rows, %d questions at a time: %s from full to durable; %s for a question\n", st.Rows, askers, quantiles("segments", took), quantiles("questions", asked))
	return l.store.Close()
}

func ask(ctx context.Context, s *segment.Store, text string) error {
	v, err := s.View(ctx, 0, 1<<62)
	if err != nil {
		return err
	}
	defer v.Close()
	rows, err := v.Query(ctx, fmt.Sprintf(text, v.Table()))
	if err != nil {
		return err
	}
	for rows.Next() {
	}
	return errors.Join(rows.Err(), rows.Close())
}

func quantiles(what string, all []time.Duration) string {
	if len(all) == 0 {
		return "no " + what
	}
	slices.Sort(all)
	at := func(q float64) float64 { return all[int(q*float64(len(all)-1)+.5)].Seconds() * 1e3 }
	return fmt.Sprintf("%d %s p50 %.1f ms, p99 %.1f ms, max %.1f ms", len(all), what, at(.5), at(.99), at(1))
}

func perSecond(rows uint64, d time.Duration) string {
	return fmt.Sprintf("%.2f CPU-s, %.2f M rows/CPU-s", d.Seconds(), float64(rows)/d.Seconds()/1e6)
}

// used is the processor time of this process.
func used() time.Duration {
	u := usage()
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func mostMemory() int64 { return usage().Maxrss << 10 }

func usage() (u syscall.Rusage) {
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // does not fail
	return u
}
