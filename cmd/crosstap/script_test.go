//go:build !agent

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"crosstap/internal/collect/store/segment"
	"crosstap/internal/flow"
	"crosstap/internal/testkit"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"crosstap": func() { os.Exit(run(os.Args[1:])) },
		extcapName: func() { os.Exit(run(arguments(os.Args))) },
		"exits":    exits,
		"get":      get,
		"ready":    ready,
		"pause":    pause,
		"until":    until,
	})
}

// exits CODE COMMAND ARGS... runs a command and wants that exit code.
func exits() {
	want, err := strconv.Atoi(os.Args[1])
	if err != nil {
		panic(err)
	}
	cmd := exec.Command(os.Args[2], os.Args[3:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err = cmd.Run()
	var ee *exec.ExitError
	if err != nil && !errors.As(err, &ee) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if got := cmd.ProcessState.ExitCode(); got != want {
		fmt.Fprintf(os.Stderr, "exit code %d, want %d\n", got, want)
		os.Exit(1)
	}
}

// get URL writes a body to stdout and fails on a status that is not 200.
func get() {
	res, err := http.Get(os.Args[1])
	if err == nil {
		defer res.Body.Close()
		_, err = io.Copy(os.Stdout, res.Body)
	}
	if err != nil || res.StatusCode != http.StatusOK {
		fmt.Fprintln(os.Stderr, err, res)
		os.Exit(1)
	}
}

// ready URL waits until a server answers.
func ready() {
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if res, err := http.Get(os.Args[1] + "/healthz"); err == nil {
			_ = res.Body.Close()
			return
		}
	}
	fmt.Fprintln(os.Stderr, os.Args[1], "does not answer")
	os.Exit(1)
}

// pause DURATION does nothing for that long.
func pause() {
	d, err := time.ParseDuration(os.Args[1])
	if err != nil {
		panic(err)
	}
	time.Sleep(d)
}

// until PATTERN COMMAND ARGS... runs a command again and again until what it prints matches, and passes that on.
func until() {
	pattern := regexp.MustCompile(os.Args[1])
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		var out, errs bytes.Buffer
		cmd := exec.Command(os.Args[2], os.Args[3:]...)
		cmd.Stdout, cmd.Stderr = &out, &errs
		err := cmd.Run()
		matched := pattern.MatchString(out.String() + errs.String())
		if !matched && time.Now().Before(end) {
			continue
		}
		fmt.Fprint(os.Stdout, out.String())
		fmt.Fprint(os.Stderr, errs.String())
		if !matched {
			fmt.Fprintf(os.Stderr, "never %s; %v\n", pattern, err)
			os.Exit(1)
		}
		return
	}
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(env *testscript.Env) error {
			for _, name := range []string{"AGENTS", "HTTP", "FLOWS"} { // addresses where nobody listens
				env.Setenv(name, fmt.Sprintf("127.0.0.1:%d", testkit.Port(t)))
			}
			env.Setenv("URL", "http://"+env.Getenv("HTTP"))
			env.Setenv("TZ", "UTC")
			if err := os.WriteFile(filepath.Join(env.WorkDir, "ping.pcap"), pingCapture(), 0o644); err != nil {
				return err
			}
			return makeStore(filepath.Join(env.WorkDir, "data"))
		},
	})
}

// pingCapture returns a pcap file with an echo request of 84 bytes and its reply.
func pingCapture() []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, 0xa1b2c3d4)
	for _, v := range []uint32{4<<16 | 2, 0, 0, 65535, 1} { // version 2.4, Ethernet
		b = le.AppendUint32(b, v)
	}
	for i, kind := range []byte{8, 0} {
		from, to := byte(1+i), byte(2-i)
		frame := []byte{2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from, 8, 0, 0x45, 0, 0, 84, 0, 1, 0, 0, 64, 1, 0, 0, 10, 0, 0, from, 10, 0, 0, to, kind, 0, 0, 0, 0, 1, 0, 1}
		frame = append(frame, make([]byte, 14+84-len(frame))...)
		for _, v := range []uint32{uint32(scriptNoon.Unix()) + uint32(i), 0, uint32(len(frame)), uint32(len(frame))} {
			b = le.AppendUint32(b, v)
		}
		b = append(b, frame...)
	}
	return b
}

// scriptNoon is the time of the records in the scripts' store.
var scriptNoon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// makeStore writes a store directory: in VNI 5001 web-1 asks db-1 on another host, seen by a mirror and by a VTEP; in VNI
// 5002 the same addresses belong to others.
func makeStore(dir string) error {
	st, err := segment.Open(segment.Config{Dir: dir})
	if err != nil {
		return err
	}
	var recs []flow.Record
	for i := range 3 {
		recs = append(recs, scriptFlow(i, 5001, "blue", "web-1", "db-1", flow.MarkCanonical), scriptFlow(i, 5001, "blue", "web-1", "db-1", 0), scriptFlow(i, 5002, "red", "", "db-9", flow.MarkCanonical))
	}
	ctx := context.Background()
	return errors.Join(st.Append(ctx, recs), st.Flush(ctx), st.Close())
}

func scriptFlow(i int, vni uint32, tenant, src, dst string, mark flow.Mark) flow.Record {
	end := scriptNoon.Add(time.Duration(i) * 10 * time.Second).UnixNano()
	r := flow.Record{
		StartNS: end - 5e9, EndNS: end, RecvNS: end + 1e6, Exporter: flow.FromNetip(netip.MustParseAddr("10.201.0.1")), Domain: 1, Direction: 0,
		Role: flow.RoleMirror, Client: flow.ClientSrc, Marks: mark, Proto: 6, TCPFlags: 0x1b, SrcPort: 40000, DstPort: 5432, EtherType: 0x800,
		Src: flow.FromNetip(netip.MustParseAddr("10.0.0.1")), Dst: flow.FromNetip(netip.MustParseAddr("10.0.0.2")), SrcMAC: 0x020000000001, DstMAC: 0x020000000002,
		Segment: flow.NewSegment(flow.KindVXLAN, vni), Packets: 10, Octets: 1000 * uint64(i+1), L2Octets: 1140 * uint64(i+1), FlowID: uint64(vni), ObserverID: 1, Fabric: "default", Observer: "h1 mirror", ObserverHost: "h1", Tenant: tenant,
		SrcVM: src, DstVM: dst, SrcHost: "h1", DstHost: "h2", App: "postgres",
	}
	if mark == 0 {
		r.Role, r.Observer, r.ObserverID = flow.RoleTunnel, "h1 vtep", 2
		r.Tunnel = flow.Tunnel{Src: flow.FromNetip(netip.MustParseAddr("10.200.0.1")), Dst: flow.FromNetip(netip.MustParseAddr("10.200.0.2")), Proto: 17, Type: 1, DstPort: 4789}
	}
	return r
}
