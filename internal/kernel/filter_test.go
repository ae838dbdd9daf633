package kernel

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"crosstap/internal/filter"
	"crosstap/internal/frame"
	"crosstap/internal/tap/capture"
	"crosstap/internal/testkit"
)

// decide loads a filter as it stands in our programs: it returns 1 for a match.
func decide(prog asm.Instructions) (*ebpf.Program, error) {
	c := &code{}
	c.add(asm.Mov.Reg(regCtx, asm.R1))
	c.filter(prog, "matched", "refused")
	c.at("matched")
	c.result(1)
	c.at("refused")
	c.result(0)
	c.finish()
	return load("xt_filter", c.ins)
}

// run tells what a program says of a frame.
func run(t *testing.T, p *ebpf.Program, data []byte) uint32 {
	t.Helper()
	ret, err := p.Run(&ebpf.RunOptions{Data: data})
	if err != nil {
		t.Fatal(err)
	}
	return ret
}

// each calls f with the lines of a file of the corpus.
func each(t *testing.T, name string, f func(line []byte)) {
	t.Helper()
	file, err := os.Open(testkit.Corpus(t, name))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 8<<20)
	for lines.Scan() {
		f(lines.Bytes())
	}
}

// frames reads the Ethernet frames of a capture; short ones are left out, because the kernel's test run takes none.
func frames(t *testing.T, path string) (all [][]byte) {
	t.Helper()
	f, err := capture.NewFile(capture.FileConfig{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	out := make(chan frame.Batch)
	go func() { defer close(out); _ = f.Run(t.Context(), out) }()
	for b := range out {
		for _, x := range b.Frames {
			if x.Link == frame.LinkEthernet && len(x.Data) >= 60 {
				all = append(all, bytes.Clone(x.Data))
			}
		}
		b.Release()
	}
	return all
}

// TestCorpusFiltersLoad has the verifier look at the expressions of libpcap's own tests, and the kernel run them on libpcap's
// captures: what the matcher says, the program must say.
func TestCorpusFiltersLoad(t *testing.T) {
	testkit.Root(t)
	var data [][]byte
	paths, err := filepath.Glob(filepath.Join(testkit.CorpusDir(t), "tap/libpcap-filter/filter/*.pcap"))
	if err != nil || len(paths) == 0 {
		t.Fatal("no captures", err)
	}
	for _, p := range paths {
		list := frames(t, p)
		data = append(data, list[:min(len(list), 4)]...)
	}
	loaded, residual := 0, 0
	each(t, "tap/libpcap-filter/compile-accept.jsonl", func(line []byte) {
		var x struct {
			DLT, Name string
			Aliases   []string
		}
		if err := json.Unmarshal(line, &x); err != nil {
			t.Fatal(err)
		}
		if x.DLT != "EN10MB" || x.Name == "bpf_image" {
			return
		}
		expr := x.Aliases[0]
		f, err := filter.Compile(expr, frame.LinkEthernet, filter.Options{})
		if err != nil {
			return // needs names, or is for another link type: the filter's own tests say which
		}
		ins, left, err := f.EBPF()
		if err != nil || left {
			residual++
			return
		}
		p, err := decide(ins)
		if err != nil {
			t.Errorf("%q: %v", expr, err)
			return
		}
		defer p.Close()
		loaded++
		for i := range 6 {
			b := data[(loaded*7+i)%len(data)]
			if want := f.Match(b, len(b)); (run(t, p, b) == 1) != want {
				t.Errorf("%q: %x: the matcher says %t, the kernel not", expr, b, want)
			}
		}
	})
	t.Logf("%d programs, %d expressions with tests that no program can do", loaded, residual)
	if loaded < 50 {
		t.Errorf("only %d programs", loaded)
	}
}

// A filter that reads behind the end of a frame does not match, and the programs of others still run.
func TestShortFrames(t *testing.T) {
	testkit.Root(t)
	f := func(expr string, frame []byte, want uint32) {
		t.Helper()
		ins, err := compile(expr, 1, filter.Options{})
		if err != nil {
			t.Fatal(err)
		}
		p, err := decide(ins)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		if got := run(t, p, frame); got != want {
			t.Errorf("%q: %x: %d, want %d", expr, frame, got, want)
		}
	}
	short := make([]byte, 14)
	f("ether[60] = 0", short, 0)
	f("ether[13] = 0", short, 1)
	f("len <= 14 or ether[60] = 0", short, 1)
	f("not (ether[60] = 0)", short, 0) // as libpcap has it: a load behind the end refuses the frame
	f("ether[ether[0]+100000] = 0", short, 0)
	f("ip[ip[0]] / ether[1] = 0", append(short, make([]byte, 40)...), 0)
}

func TestResidual(t *testing.T) {
	f := func(expr string, residual, mistake bool) {
		t.Helper()
		err := CanFilter(expr, filter.Options{})
		var wrong *filter.Error
		if errors.Is(err, ErrResidual) != residual || errors.As(err, &wrong) != mistake || err == nil == (residual || mistake) {
			t.Errorf("%q: %v", expr, err)
		}
	}
	f("", false, false)
	f("tcp port 80 or vlan 7", false, false)
	f("inner tcp port 80", true, false)
	f("tcp prot 80", false, true)
}
