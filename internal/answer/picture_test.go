package answer

import (
	"bytes"
	"strings"
	"testing"

	"crosstap/internal/collect/report"
)

// A set without an address would make nft refuse the whole file: what comes from the unspecified address is never forwarded.
func TestNFTUnspecifiedClients(t *testing.T) {
	row := func(src, dst string) report.AllowRow {
		return report.AllowRow{Fabric: "default", Segment: "vxlan:5001", SrcAddr: src, DstAddr: dst, Proto: "icmpv6"}
	}
	var out bytes.Buffer
	nft(&out, &report.AllowList{Rows: []report.AllowRow{row("", "ff02::1:ff00:1"), row("", "ff02::16"), row("fe80::1", "ff02::16"), row("fd00::1", "fd00::2")}})
	text := out.String()
	if strings.Contains(text, "{ }") || strings.Contains(text, "{  }") || strings.Contains(text, "{ ,") || strings.Contains(text, "ff02::1:ff00:1") {
		t.Errorf("an empty address: %s", text)
	}
	for _, want := range []string{"ip6 saddr { fe80::1 } ip6 daddr ff02::16 ", "ip6 saddr { fd00::1 } ip6 daddr fd00::2 "} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q: %s", want, text)
		}
	}
}
