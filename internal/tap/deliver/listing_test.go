package deliver

import (
	"bytes"
	"context"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"crosstap/internal/dissect"
	"crosstap/internal/frame"
)

func TestListing(t *testing.T) {
	const eth = "020000000002 020000000001 "
	const tcp = "45000028 00010000 40060000 0a000001 0a000002 9c4001bb 00000001 00000000 5002ffff 00000000"
	f := func(text string, dir frame.Direction, cut int, want string) {
		t.Helper()
		b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		l := NewListing(&out, func(uint32) string { return "vnet3" }, dissect.New(dissect.DefaultConfig()))
		in := make(chan frame.Batch, 1)
		in <- frame.Batch{Frames: []frame.Frame{{Data: b, OrigLen: len(b) + cut, TimeNS: 1e9 + 5000, Link: frame.LinkEthernet, Dir: dir}}}
		close(in)
		if err := l.Run(context.Background(), in); err != nil {
			t.Error(err)
		}
		clock := time.Unix(1, 5000).Format("15:04:05.000000 ")
		if got := out.String(); got != clock+want+"\n" {
			t.Errorf("%s: %q", text, got)
		}
		if st := l.Book().Read(); st.Balance() != nil || st.Out != 1 {
			t.Errorf("%+v", st)
		}
	}
	f(eth+"0800"+tcp, frame.Ingress, 0, "vnet3 in 10.0.0.1:40000 > 10.0.0.2:443 tcp S, length 54")
	f(eth+"8100 0005 0800"+tcp, frame.Unknown, 10, "vnet3 vlan 5 10.0.0.1:40000 > 10.0.0.2:443 tcp S, length 68 (cut)")
	f(eth+"0806 0001080006040001020000000001 0a000001 000000000000 0a000002", frame.Egress, 0, "vnet3 out 02:00:00:00:00:01 > 02:00:00:00:00:02 arp, length 42")
	f(eth+"0800 45000067 00010000 40110000 0a010001 0a010002 9c4012b5 00530000 0800000000138900"+eth+"0800"+tcp, frame.Ingress, 0,
		"vnet3 in vxlan:5001 10.0.0.1:40000 > 10.0.0.2:443 tcp S, length 104")
	f(eth+"86dd 6000000000083aff 00000000000000000000000000000000 ff0200000000000000000000000000ff 8700000000000000", frame.Ingress, 0,
		"vnet3 in :: > ff02::ff icmp6 type 135 code 0, length 62")
}

func TestListingFails(t *testing.T) {
	l := NewListing(broken{}, func(uint32) string { return "" }, dissect.New(dissect.DefaultConfig()))
	in := make(chan frame.Batch, 1)
	in <- frame.Batch{Frames: make([]frame.Frame, 3)}
	if err := l.Run(context.Background(), in); err == nil {
		t.Error("no error")
	}
	if st := l.Book().Read(); st.Balance() != nil || st.Dropped[0].N != 3 {
		t.Errorf("%+v", st)
	}
}
