// Command decoderate measures the decoder: on messages in memory, or on datagrams from a socket.
// It prints records and the CPU seconds (user and system) that they took.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"syscall"
	"time"

	"crosstap/internal/collect/listen"
	"crosstap/internal/flow"
	"crosstap/internal/flowproto/ipfix"
)

func main() {
	addr := flag.String("listen", "", "receive on this address until nothing comes for a second")
	rounds := flag.Int("rounds", 5, "how often the file is decoded")
	flag.Parse()
	var err error
	if *addr != "" {
		err = receive(*addr)
	} else {
		err = file(flag.Arg(0), *rounds)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "decoderate:", err)
		os.Exit(1)
	}
}

// file decodes the messages of a file, which is in memory, one by one.
func file(name string, rounds int) error {
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	var msgs [][]byte
	for len(b) > 0 {
		h, err := ipfix.ParseHeader(b)
		if err != nil {
			return err
		}
		msgs, b = append(msgs, b[:h.Length]), b[h.Length:]
	}
	recs, n := make([]flow.Record, 0, 64), 0
	start := cpu()
	for range rounds {
		s := ipfix.NewSession(ipfix.Limits{})
		for _, m := range msgs {
			var res ipfix.Result
			if recs, res, err = s.Decode(m, 1, recs[:0]); err != nil {
				return err
			}
			n += res.Records
		}
	}
	fmt.Println(n, (cpu() - start).Seconds())
	return nil
}

// receive decodes what comes to a socket; the CPU time is that of the whole process from the first datagram on.
func receive(addr string) error {
	cfg := listen.DefaultConfig()
	cfg.Addr = addr
	l, err := listen.New(cfg)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	if err := l.Bind(ctx); err != nil {
		return err
	}
	batches, done := make(chan listen.Batch, 8), make(chan error, 1)
	go func() { done <- l.Run(ctx, batches) }()
	fmt.Fprintln(os.Stderr, "ready")
	s, recs, n := ipfix.NewSession(ipfix.Limits{}), make([]flow.Record, 0, 64), 0
	var start, end time.Duration
	idle := time.NewTimer(time.Minute)
	for {
		select {
		case b := <-batches:
			if n == 0 {
				start = cpu()
			}
			for _, d := range b.Datagrams {
				var res ipfix.Result
				recs, res, _ = s.Decode(d.Data, d.TimeNS, recs[:0])
				n += res.Records
			}
			b.Release()
			end = cpu()
			idle.Reset(time.Second)
		case <-idle.C:
			fmt.Println(n, (end - start).Seconds())
			stop()
			return <-done
		}
	}
}

func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
