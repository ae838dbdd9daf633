// Command vdsgen writes the IPFIX stream of a distributed switch: to a capture file, to a file of
// messages back to back, or as datagrams at a steady rate.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"crosstap/test/bench/vds"
)

func main() {
	records := flag.Int("records", 1_000_000, "number of flow records")
	shape := flag.String("shape", "plain", "plain (template 256) or vxlan (template 260)")
	rate := flag.Int("rate", 20_000, "datagrams in a second when sending")
	flag.Parse()
	if err := run(*records, *shape, *rate, flag.Arg(0)); err != nil {
		fmt.Fprintln(os.Stderr, "vdsgen:", err)
		os.Exit(1)
	}
}

// run writes to udp://HOST:PORT, FILE.pcap or FILE.
func run(records int, shapeName string, rate int, to string) error {
	shape, ok := vds.ParseShape(shapeName)
	if !ok || to == "" || rate < 1 {
		return fmt.Errorf("usage: vdsgen [-records N] [-shape plain|vxlan] FILE.pcap | FILE | udp://HOST:PORT")
	}
	if addr, ok := strings.CutPrefix(to, "udp://"); ok {
		return send(records, shape, rate, addr)
	}
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	if strings.HasSuffix(to, ".pcap") {
		err = vds.WritePcap(w, records, shape)
	} else {
		vds.Stream(records, shape, func(msg []byte) bool {
			_, err = w.Write(msg)
			return err == nil
		})
	}
	if e := w.Flush(); err == nil {
		err = e
	}
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

// send keeps the rate in steps of a millisecond, so that the receiver's buffer never sees a long burst.
func send(records int, shape vds.Shape, rate int, addr string) error {
	c, err := net.Dial("udp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	start, n := time.Now(), 0
	vds.Stream(records, shape, func(msg []byte) bool {
		if n++; n%max(rate/1000, 1) == 0 {
			time.Sleep(time.Until(start.Add(time.Duration(n) * time.Second / time.Duration(rate))))
		}
		_, err = c.Write(msg)
		return err == nil
	})
	return err
}
