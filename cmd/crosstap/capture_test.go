//go:build linux

package main

import (
	"strings"
	"testing"
	"time"

	"crosstap/internal/tap"

	"github.com/google/go-cmp/cmp"
)

func TestCaptureSpec(t *testing.T) {
	f := func(flags captureFlags, target string, want func(*tap.Spec)) {
		t.Helper()
		got, err := flags.spec(target, "arp")
		if err != nil {
			t.Fatal(err)
		}
		s := tap.DefaultSpec()
		s.Filter = "arp"
		want(&s)
		if diff := cmp.Diff(s, got); diff != "" {
			t.Error(diff)
		}
	}
	f(captureFlags{}, "vnet3", func(s *tap.Spec) { s.Interfaces, s.To = []string{"vnet3"}, []string{"frames:-"} })
	f(captureFlags{write: "-", frames: 5, size: 100, limit: time.Second, snap: 96}, "iface/vnet3", func(s *tap.Spec) {
		s.Interfaces, s.To, s.SnapLen = []string{"vnet3"}, []string{"pcapng:-"}, 96
		s.Limit = tap.Limit{Frames: 5, Bytes: 100, For: time.Second}
	})
	f(captureFlags{write: "x.pcap.zst"}, "rpcap://host/eth0", func(s *tap.Spec) { s.Remotes, s.To = []string{"rpcap://host/eth0"}, []string{"pcap:x.pcap.zst"} })
	f(captureFlags{write: "x.pcapng"}, "erspan://?session=5", func(s *tap.Spec) { s.Listen, s.To = []string{"erspan://?session=5"}, []string{"pcapng:x.pcapng"} })

	mistake := func(flags captureFlags, target, want string) {
		t.Helper()
		if _, err := flags.spec(target, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", target, err, want)
		}
	}
	mistake(captureFlags{}, "erspan://:5", "has none")
	mistake(captureFlags{}, "vm/web-01", "want an interface")
	mistake(captureFlags{limit: -1}, "lo", "must be positive")
}
