package tap_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/frame"
	"crosstap/internal/tap"
	"crosstap/internal/tap/capture"
	"crosstap/internal/tap/groom"
	"crosstap/internal/testkit"
)

// through runs a capture file through a tap and returns the tap when it has ended.
func through(t *testing.T, path string, change func(*tap.Spec)) (*tap.Tap, error) {
	t.Helper()
	s := tap.DefaultSpec()
	s.File = path
	change(&s)
	line, err := tap.New(s)
	if err != nil {
		t.Fatal(err)
	}
	err = line.Run(context.Background())
	for _, st := range line.Statements() {
		if st.Balance() != nil || st.Held != 0 {
			t.Errorf("%s: %+v: %v", path, st, st.Balance())
		}
	}
	return line, err
}

// frames reads all that a capture holds, and the names of its interfaces in the frames' places.
func frames(t *testing.T, path string) (all []frame.Frame, names []string) {
	t.Helper()
	src, err := capture.NewFile(capture.FileConfig{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	out, done := make(chan frame.Batch), make(chan struct{})
	go func() {
		defer close(done)
		for b := range out {
			for _, f := range b.Frames {
				f.Data = bytes.Clone(f.Data)
				names = append(names, src.Interface(f.Point))
				f.Point = 0
				all = append(all, f)
			}
			b.Release()
		}
	}()
	_ = src.Run(context.Background(), out) // what is cut ends early on both sides
	close(out)
	<-done
	return all, names
}

// TestRewriteCorpus writes every capture of the corpus anew and finds the same frames in it.
func TestRewriteCorpus(t *testing.T) {
	n := 0
	dir := t.TempDir()
	err := filepath.WalkDir(testkit.Corpus(t, "tap"), func(path string, _ fs.DirEntry, err error) error {
		if ext := filepath.Ext(path); err != nil || ext != ".pcap" && ext != ".pcapng" && ext != ".trace" {
			return err
		}
		n++
		out := filepath.Join(dir, "out.pcapng")
		line, err := through(t, path, func(s *tap.Spec) { s.To = []string{"pcapng:" + out} })
		if err != nil && !errors.Is(err, capture.ErrCut) && line.Statements()[0].Out == 0 {
			return nil // not a capture
		}
		want, wantNames := frames(t, path)
		got, names := frames(t, out)
		for i := range want {
			want[i].TimeNS = max(want[i].TimeNS, 0)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-in +out):\n%.2000s", path, diff)
		}
		if diff := cmp.Diff(wantNames, names); diff != "" {
			t.Errorf("%s: interfaces (-in +out):\n%.500s", path, diff)
		}
		return nil
	})
	if err != nil || n < 700 {
		t.Errorf("%d captures: %v", n, err)
	}
}

// TestRewriteAgreesWithTshark has tshark read captures and what becomes of them: pcapng of both byte orders with several
// interfaces, other link types, cut frames, times finer than a microsecond.
func TestRewriteAgreesWithTshark(t *testing.T) {
	tshark := testkit.Tool(t, "tshark")
	read := func(path string) []string {
		t.Helper()
		args := []string{"-n", "-r", path, "-o", "frame.generate_md5_hash:TRUE", "-T", "fields", "-E", "separator=;"}
		for _, f := range []string{"frame.time_epoch", "frame.len", "frame.cap_len", "frame.encap_type", "frame.md5_hash", "frame.interface_name"} {
			args = append(args, "-e", f)
		}
		out, err := exec.Command(tshark, args...).Output()
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(out), "\n")
		for i, l := range lines {
			lines[i] = strings.TrimSuffix(l, "unknown") // tshark's name for an interface without one
		}
		return lines
	}
	for _, name := range []string{
		"tap/gopacket/pcapgo/tests/le/test005.pcapng", "tap/gopacket/pcapgo/tests/be/test006.pcapng", "tap/zeek/testing/btest/Traces/vlan-collisions.pcap",
		"tap/zeek/testing/btest/Traces/linux_dlt_sll2.pcap", "tap/zeek/testing/btest/Traces/erspanI.pcap", "tap/tcpdump/tftp-heapoverflow.pcap",
		"tap/zeek/testing/btest/Traces/ieee80211.15.4.pcap", "collect/ovs-lab/underlay1.pcap",
	} {
		in, out := testkit.Corpus(t, name), filepath.Join(t.TempDir(), "out.pcapng")
		if _, err := through(t, in, func(s *tap.Spec) { s.To = []string{"pcapng:" + out} }); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(read(in), read(out)); diff != "" {
			t.Errorf("%s (-in +out):\n%.2000s", name, diff)
		}
	}
}

// TestFramesAndFlows writes what a filter lets through as frames and as flow records in one run: tcpdump chooses the same
// frames, and both destinations have all of them.
func TestFramesAndFlows(t *testing.T) {
	tcpdump := testkit.Tool(t, "tcpdump")
	in, dir := testkit.Corpus(t, "collect/ovs-lab/underlay1.pcap"), t.TempDir()
	const expr = "udp port 4789 and greater 150"
	truth, ours, classic := filepath.Join(dir, "truth.pcap"), filepath.Join(dir, "ours.pcapng.gz"), filepath.Join(dir, "ours.pcap")
	if out, err := exec.Command(tcpdump, "-n", "-r", in, "-w", truth, expr).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var lines bytes.Buffer
	line, err := through(t, in, func(s *tap.Spec) {
		s.Filter, s.To, s.Stdout = expr, []string{"pcapng:" + ours, "pcap:" + classic, "flows:-", "null:frames"}, &lines
	})
	if err != nil {
		t.Fatal(err)
	}
	want, _ := frames(t, truth)
	for _, path := range []string{ours, classic} {
		got, _ := frames(t, path)
		if diff := cmp.Diff(want, got); diff != "" || len(want) < 100 {
			t.Errorf("%s: %d frames (-tcpdump +ours):\n%.2000s", path, len(want), diff)
		}
	}
	packets := 0
	for d := json.NewDecoder(&lines); ; {
		var r struct{ Packets int }
		if d.Decode(&r) != nil {
			break
		}
		packets += r.Packets
	}
	all, _ := frames(t, in)
	ledger := cmp.Diff(line.Ledger(), sprint(len(all), " frames read = ", len(all)-len(want), " filtered + ", len(want), " delivered"))
	if packets != len(want) || ledger != "" || line.Filter() != "in the tap" {
		t.Errorf("%d packets in records, want %d; ledger %s; %s", packets, len(want), ledger, line.Summary(time.Second))
	}
}

// TestGroomLedger accounts for every frame between the file and the destinations.
func TestGroomLedger(t *testing.T) {
	in, dir := testkit.Corpus(t, "collect/ovs-lab/underlay1.pcap"), t.TempDir()
	f := func(steps, filter, want string, files int) {
		t.Helper()
		spec, err := groom.Parse(steps)
		if err != nil {
			t.Fatal(err)
		}
		line, err := through(t, in, func(s *tap.Spec) {
			s.Groom, s.Filter, s.To = &spec, filter, []string{"null:"}
			for i := range files {
				s.To = append(s.To, sprint("pcapng:", dir, "/", i))
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := line.Ledger(); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s, want %s", steps, got, want)
		}
		delivered := uint64(0)
		for _, s := range line.Statements() {
			if s.Stage == "deliver" && s.Unit == "frames" {
				delivered += s.Out
			}
		}
		if tail := sprint(" ", delivered, " delivered"); files > 0 && !strings.HasSuffix(line.Ledger(), tail) {
			t.Errorf("%s: %s, want %q at its end", steps, line.Ledger(), tail)
		}
		if line.Stats().Packets == 0 {
			t.Errorf("%s: nothing metered", steps)
		}
	}
	all, _ := frames(t, in)
	f("sample=1:10", "", sprint(len(all), " frames read = ", len(all)-(len(all)+9)/10, " sampled out + "), 1)
	f("sample=1:10", "udp port 4789", sprint(len(all), " frames read = "), 1)
	f("slice=l4+64,dedup", "", sprint(len(all), " frames read = "), 1)
	f("balance=3", "", sprint(len(all), " frames read = ", len(all), " delivered"), 3)
}

func sprint(parts ...any) string {
	var b strings.Builder
	for _, p := range parts {
		fmt.Fprint(&b, p)
	}
	return b.String()
}
