package filter

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	packet "crosstap/internal/filter"
	"crosstap/internal/frame"
)

// sqlOf shows the three conditions with the arguments in their places.
func sqlOf(e *Expr) string {
	t := target(DuckDB, func(v any) string { return fmt.Sprintf("«%v»", v) })
	return "rows:  " + e.Rows(t) + "\nflows: " + e.Flows(t) + "\nrow:   " + e.Row(t) + "\n"
}

func target(d *Dialect, bind Bind) Target {
	return Target{Dialect: d, Bind: bind, Table: "r", Pair: "pair", Seen: func(ms uint64) string { return fmt.Sprintf("seen_%d", ms) }}
}

// TestCorpus reads testdata/corpus.txt: "ok EXPR", or "error POS LEN EXPR" and under it "  message".
func TestCorpus(t *testing.T) {
	text, err := os.ReadFile("testdata/corpus.txt")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	n := 0
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		expr, ok := strings.CutPrefix(line, "ok ")
		switch {
		case line == "" || strings.HasPrefix(line, ";"):
			continue
		case ok:
			if _, err := Parse(expr); err != nil {
				t.Errorf("line %d: %s: %v", i+1, expr, err)
			}
		default:
			var pos, length int
			if _, err := fmt.Sscanf(line, "error %d %d ", &pos, &length); err != nil || i+1 >= len(lines) {
				t.Fatalf("line %d: cannot be read", i+1)
			}
			expr = strings.SplitN(line+" ", " ", 4)[3]
			expr = strings.TrimSuffix(expr, " ")
			i++
			_, err := Parse(expr)
			e, isError := err.(*Error)
			if !isError {
				t.Errorf("line %d: %s: accepted", i, expr)
				continue
			}
			got := fmt.Sprintf("error %d %d %s\n  %s; %s", e.Pos, e.Len, expr, e.Message, e.Suggestion)
			if want := line + "\n" + lines[i]; got != want {
				t.Errorf("line %d:\n got %s\nwant %s", i, got, want)
			}
		}
		n++
	}
	if n < 150 {
		t.Errorf("only %d expressions", n)
	}
}

// TestSQL shows the text of the conditions for each kind of part.
func TestSQL(t *testing.T) {
	f := func(expr, rows, flows string) {
		t.Helper()
		e, err := Parse(expr)
		if err != nil {
			t.Error(err)
			return
		}
		want := "rows:  " + rows + "\nflows: " + flows
		if got := sqlOf(e); !strings.HasPrefix(got, want+"\n") {
			t.Errorf("%s\n got %s\nwant %s", expr, got, want)
		}
	}
	f("vm = web-1", "", "(src_vm = «web-1» OR dst_vm = «web-1»)")
	f("vni = 5001 and vm = a", "(segment = 0 OR segment IN (5001::UBIGINT, 72057594037932937::UBIGINT, 144115188075860873::UBIGINT, 17365880163140637577::UBIGINT, 17437937757178565513::UBIGINT, 17509995351216493449::UBIGINT)"+
		" OR segment BETWEEN 216172782113783808::UBIGINT AND 17365880163140632575::UBIGINT OR segment >= 17582052945254416384::UBIGINT)", "(((segment & 4294967295) = «5001») AND (src_vm = «a» OR dst_vm = «a»))")
	f("vni in 5000-5001", "(segment = 0 OR ((segment & 4294967295) BETWEEN «5000» AND «5001»))", "((segment & 4294967295) BETWEEN «5000» AND «5001»)")
	f("not vni = 5001", "", "(NOT ((segment & 4294967295) = «5001»))")
	f("vm != web-1", "", "(NOT (src_vm = «web-1» OR dst_vm = «web-1»))")
	f("port in (22, 80-90) and vm = a", "(src_port BETWEEN «80» AND «90» OR src_port IN («22») OR dst_port BETWEEN «80» AND «90» OR dst_port IN («22»))",
		"((src_port BETWEEN «80» AND «90» OR src_port IN («22») OR dst_port BETWEEN «80» AND «90» OR dst_port IN («22»)) AND (src_vm = «a» OR dst_vm = «a»))")
	f("src.port < dst.port", "((src_port < dst_port) OR (dst_port < src_port))", "(if(turn, dst_port, src_port) < if(turn, src_port, dst_port))")
	f("not dst.port = 53 and vm = a", "((NOT (dst_port = «53»)) OR (NOT (src_port = «53»)))",
		"((NOT (if(turn, src_port, dst_port) = «53»)) AND (src_vm = «a» OR dst_vm = «a»))")
	f("src.ip in 10.1.0.0/16",
		"((src BETWEEN «00000000-0000-0000-0000-ffff0a010000»::UUID AND «00000000-0000-0000-0000-ffff0a01ffff»::UUID)"+
			" OR (dst BETWEEN «00000000-0000-0000-0000-ffff0a010000»::UUID AND «00000000-0000-0000-0000-ffff0a01ffff»::UUID))",
		"(if(turn, dst, src) BETWEEN «00000000-0000-0000-0000-ffff0a010000»::UUID AND «00000000-0000-0000-0000-ffff0a01ffff»::UUID)")
	f("outer.src = 10.0.0.1", "", "(if(turn, outer_dst, outer_src) = «00000000-0000-0000-0000-ffff0a000001»::UUID)")
	f("outer.src.port = 7", "", "(CASE WHEN turn THEN (CASE WHEN flow_id <> 0 THEN flow_id IN (SELECT flow_id FROM r WHERE (outer_dst_port = «7»)) ELSE (outer_dst_port = «7») END)"+
		" ELSE (CASE WHEN flow_id <> 0 THEN flow_id IN (SELECT flow_id FROM r WHERE (outer_src_port = «7»)) ELSE (outer_src_port = «7») END) END)")
	f("seen_by = agent", "", "(CASE WHEN flow_id <> 0 THEN flow_id IN (SELECT flow_id FROM r WHERE ((observer = «agent») OR role = «1»)) ELSE ((observer = «agent») OR role = «1») END)")
	f("domain != 7", "", "(NOT (CASE WHEN flow_id <> 0 THEN flow_id IN (SELECT flow_id FROM r WHERE (domain = «7»)) ELSE (domain = «7») END))")
	f("exporter = 10.0.0.1 and tcp and domain = 7", "(proto = «6»)",
		"((proto = «6») AND (CASE WHEN flow_id <> 0 THEN flow_id IN (SELECT flow_id FROM r WHERE ((exporter = «00000000-0000-0000-0000-ffff0a000001»::UUID) AND (domain = «7»)))"+
			" ELSE ((exporter = «00000000-0000-0000-0000-ffff0a000001»::UUID) AND (domain = «7»)) END))")
	f("bytes > 1.5 MiB", "", "(octets > «1572864»)")
	f("rtt > 20ms", "", "(CASE WHEN flow_id <> 0 THEN flow_id IN (SELECT flow_id FROM r WHERE (rtt_us > «20000»)) ELSE (rtt_us > «20000») END)")
	f("rtt <= 20ms", "", "(CASE WHEN flow_id <> 0 THEN flow_id IN (SELECT flow_id FROM r WHERE ((rtt_us <> 0 AND rtt_us <= «20000»))) ELSE ((rtt_us <> 0 AND rtt_us <= «20000»)) END)")
	f("ttl < 5", "", "((min_ttl <> 0 AND min_ttl < «5»))") // an exporter that tells no time to live
	f("ttl > 5", "", "(min_ttl > «5»)")
	f("not ttl < 5", "", "(NOT ((min_ttl <> 0 AND min_ttl < «5»)))")
	f("port < 1024", "((src_port <> 0 AND src_port < «1024») OR (dst_port <> 0 AND dst_port < «1024»))", "((src_port <> 0 AND src_port < «1024») OR (dst_port <> 0 AND dst_port < «1024»))")
	f("icmp.type = 0", "", "(proto IN (1, 58) AND ((icmp >> 8) = «0»))") // an echo reply, which rows of TCP are not
	f("icmp.code in (0, 3-5)", "", "(proto IN (1, 58) AND ((icmp & 255) BETWEEN «3» AND «5» OR (icmp & 255) IN («0»)))")
	f("src.tenant != dst.tenant", "", "(if(turn, dst_tenant, src_tenant) != if(turn, src_tenant, dst_tenant))")
	f("new within 24h and tcp", "(proto = «6»)", "(((pair) NOT IN (SELECT * FROM seen_86400000)) AND (proto = «6»))")
	f("duration >= 2m", "", "((epoch_ms(t_end) - epoch_ms(t_start)) >= «120000»)")
}

// TestClickHouse: the other engine's words for the same.
func TestClickHouse(t *testing.T) {
	f := func(expr, want string) {
		t.Helper()
		e, err := Parse(expr)
		if err != nil {
			t.Error(err)
			return
		}
		got := e.Flows(target(ClickHouse, func(v any) string { return fmt.Sprintf("«%v»", v) }))
		if got != want {
			t.Errorf("%s\n got %s\nwant %s", expr, got, want)
		}
	}
	f("vni = 5001", "(bitAnd(segment, 4294967295) = «5001»)")
	f("ip in 10.1.0.0/16", "(src BETWEEN toIPv6(«::ffff:10.1.0.0») AND toIPv6(«::ffff:10.1.255.255») OR dst BETWEEN toIPv6(«::ffff:10.1.0.0») AND toIPv6(«::ffff:10.1.255.255»))")
	f(`vm like "a\_%"`, `(src_vm LIKE «a\\_%» OR dst_vm LIKE «a\\_%»)`)
	f("vm ~ '^a'", "(match(src_vm, «^a») OR match(dst_vm, «^a»))")
	f("flags has syn", "(bitAnd(tcp_flags, «2») <> 0)")
	f("ip6", "(src NOT BETWEEN toIPv6('::ffff:0.0.0.0') AND toIPv6('::ffff:255.255.255.255') AND src <> toIPv6('::'))")
	f("duration > 1s", "((toUnixTimestamp64Milli(t_end) - toUnixTimestamp64Milli(t_start)) > «1000»)")
}

// TestToPacketFilter: what packets can tell, and what they cannot. Every result is an expression that the packet filter takes.
func TestToPacketFilter(t *testing.T) {
	f := func(expr string, inner bool, want string, unsaid ...string) {
		t.Helper()
		e, err := Parse(expr)
		if err != nil {
			t.Error(err)
			return
		}
		got := e.ToPacketFilter(PacketOptions{Inner: inner, Addrs: func(vm string) []netip.Addr {
			return map[string][]netip.Addr{"web-1": {netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}}[vm]
		}})
		var texts []string
		for _, u := range got.Unsaid {
			texts = append(texts, u.Text)
			if expr[u.Pos:u.Pos+u.Len] != u.Text || u.Why == "" {
				t.Errorf("%s: %+v", expr, u)
			}
		}
		if got.Expr != want || !slices.Equal(texts, unsaid) {
			t.Errorf("%s\n got %s, unsaid %q\nwant %s, unsaid %q", expr, got.Expr, texts, want, unsaid)
		}
		if _, err := packet.Compile(got.Expr, frame.LinkEthernet, packet.Options{Never: true}); err != nil {
			t.Errorf("%s: %s: %v", expr, got.Expr, err)
		}
	}
	f("", false, "")
	f("host 10.1.0.5 and tcp port 443", false, "(host 10.1.0.5) and (tcp) and (port 443)")
	f("vni = 5001 and ip in 10.1.0.0/16", true, "(outer vxlan 5001 or outer geneve 5001 or outer gre 5001) and (inner (net 10.1.0.0/16))")
	f("vni = 5001 and ip in 10.1.0.0/16", false, "(net 10.1.0.0/16)", "vni = 5001")
	f("vxlan 5001 and udp", true, "(outer vxlan 5001) and (inner (udp))")
	f("src.ip = 10.0.0.1 and dst.port = 443", false, "((src host 10.0.0.1) and (dst port 443)) or ((dst host 10.0.0.1) and (src port 443))", "src.ip = 10.0.0.1", "dst.port = 443")
	f("src.ip = 10.0.0.1 or src.ip = 10.0.0.1 and tcp", false, "((src host 10.0.0.1) or ((src host 10.0.0.1) and (tcp))) or ((dst host 10.0.0.1) or ((dst host 10.0.0.1) and (tcp)))", "src.ip = 10.0.0.1")
	f("vm = web-1", false, "host 10.0.0.1 or host fd00::1")
	f("not vm = web-1 and tcp", false, "(tcp)", "not vm = web-1")
	f("vm = db-9 or tcp", false, "", "vm = db-9")
	f("app = dns and bytes > 1 MB and seen_by = agent", false, "", "app = dns", "bytes > 1 MB", "seen_by = agent")
	f("not port in (53, 8000-8080)", false, "not (port 53 or portrange 8000-8080)")
	f("port > 1023", false, "portrange 1024-65535")
	f("port < 10", false, "portrange 1-9")
	f("not port <= 1", false, "not (port 1)")
	f("port < 1", false, "", "port < 1")
	f("port >= 0", false, "", "port >= 0")
	f("mac = 02:00:00:00:00:01 or src.mac = 02:00:00:00:00:02", false,
		"((ether host 02:00:00:00:00:01) or (ether src host 02:00:00:00:00:02)) or ((ether host 02:00:00:00:00:01) or (ether dst host 02:00:00:00:00:02))", "src.mac = 02:00:00:00:00:02")
	f("dscp = 46 and ip6", false, "(ip[1] & 0xfc = 184 or ip6[0:2] & 0xfc0 = 2944) and (ip6)")
	f("icmp.type = 8", false, "icmp[0] = 8 or icmp6[0] = 8")
	f("vtep = 10.200.0.1 and proto = 89", true, "(outer (host 10.200.0.1)) and (inner (ip proto 89 or ip6 proto 89))")
	f("not (vni = 5001 or port 53)", false, "(not (port 53))", "vni = 5001")
	f("not (app = dns and port 53) and tcp", false, "(tcp)", "app = dns")
	f("not (app = dns or not udp)", false, "(udp)", "app = dns")
	f("not (vm = web-1 or tcp)", false, "(not (tcp))", "vm = web-1")
	f("vni = 16777216", true, "outer gre 16777216")
	f("segment = vxlan:16777216 or gre 16777216", true, "", "segment = vxlan:16777216")
	f("ethertype = 0x0800 or ethertype = 700", false, "", "ethertype = 700")
	f("src.port < dst.port and new within 1h and udp", false, "(udp)", "src.port < dst.port", "new within 1h")
}

func TestComplete(t *testing.T) {
	f := func(expr string, from int, want ...string) {
		t.Helper()
		pos := strings.IndexByte(expr, '|')
		h := Complete(strings.Replace(expr, "|", "", 1), pos)
		var got []string
		for _, o := range h.Options {
			got = append(got, o.Text)
		}
		if h.Field != nil {
			got = append(got, "values of "+h.Field.Name)
		}
		if h.From != from || !strings.HasPrefix(strings.Join(got, " ")+" ", strings.Join(want, " ")+" ") {
			t.Errorf("%s: from %d %q, want %d %q", expr, h.From, got, from, want)
		}
	}
	f("|", 0, "vm", "ip", "port", "tenant")
	f("ten|", 0, "tenant")
	f("src.v|", 0, "src.vm", "src.vm_id", "src.vtep")
	f("vm |", 3, "=", "!=", "like")
	f("vni = |", 6, "values of vni")
	f("vni = 50|", 6, "values of vni")
	f("proto = t|", 8, "tcp", "values of proto")
	f("role in (mi|", 9, "mirror", "values of role")
	f("role in (mirror|)", 9, "mirror", "values of role")
	f("role in (mirror |", 16, ",", ")")
	f("role in (mirror, |", 17, "agent", "mirror")
	f("vm = \"web|", 5, "values of vm")
	f("vm = web-1 |", 11, "and", "or")
	f("vm = web-1 and not |", 19, "vm")
	f("tcp |", 4, "and", "or", "port", "portrange", "host")
	f("tcp and |", 8, "vm")
	f("tcp port |", 9, "values of port")
	f("tcp port 80 |", 12, "and", "or")
	f("udp src |", 8, "host", "net", "port", "portrange")
	f("host |", 5, "=", "!=", "like", "ilike", "in", "not in", "~", "!~", "values of vm")
	f("host web|", 5, "values of vm")
	f("host \"web|", 5, "values of vm")
	f("host (web|", 6, "values of vm")
	f("host 10.|", 5, "values of ip")
	f("host web-1 |", 11, "and", "or")
	f("host = |", 7, "values of host")
	f("net |", 4, "values of ip")
	f("port 4|", 5, "values of port")
	f("portrange |", 10, "values of port")
	f("vlan |", 5, "=", "!=", ">", ">=", "<", "<=", "in", "not in", "values of vlan")
	f("vxlan |", 6, "and", "or", "values of vni")
	f("vxlan 50|", 6, "values of vni")
	f("vxlan 5001 |", 11, "and", "or")
	f("vxlan 5001 and |", 15, "vm")
	f("vxlan and |", 10, "vm")
	f("src |", 4, "host", "net", "port", "portrange")
	f("src host w|", 9, "values of src.vm")
	f("dst net |", 8, "values of dst.ip")
	f("src 10.0.0.1 |", 13, "and", "or")
	f("vm !|", 3, "!=", "!~")
	f("src.tenant ! |", 13, "values of src.tenant")
	f("vni = 1 and !|", 13, "vm")
}

// FuzzParse: no panic, errors inside the expression, and what is accepted gives SQL whose values are
// all bound.
func FuzzParse(f *testing.F) {
	text, _ := os.ReadFile("testdata/corpus.txt")
	for line := range strings.SplitSeq(string(text), "\n") {
		f.Add(strings.TrimPrefix(line, "ok "), 3)
	}
	f.Fuzz(func(t *testing.T, expr string, pos int) {
		Complete(expr, pos)
		e, err := Parse(expr)
		if err != nil {
			bad, ok := err.(*Error)
			if !ok || bad.Pos < 0 || bad.Len < 0 || bad.Pos+bad.Len > len(expr) {
				t.Fatalf("%q: error %#v", expr, err)
			}
			return
		}
		duck, click := target(DuckDB, func(any) string { return "?" }), target(ClickHouse, func(any) string { return "?" })
		for _, sql := range []string{e.Rows(duck), e.Flows(duck), e.Row(duck), e.Rows(click), e.Flows(click), e.Row(click)} {
			if strings.Count(sql, "(") != strings.Count(sql, ")") {
				t.Fatalf("%q: unbalanced SQL %s", expr, sql)
			}
			for _, c := range strings.Fields(strings.ReplaceAll(sql, "'", " ")) {
				if strings.ContainsAny(c, "\";") {
					t.Fatalf("%q: text of the filter in the SQL %s", expr, sql)
				}
			}
		}
		for _, inner := range []bool{false, true} {
			p := e.ToPacketFilter(PacketOptions{Inner: inner})
			if _, err := packet.Compile(p.Expr, frame.LinkEthernet, packet.Options{Never: true}); err != nil && len(expr) < 200 {
				t.Fatalf("%q: packet filter %q: %v", expr, p.Expr, err)
			}
		}
		for _, term := range e.Terms() {
			if _, err := Parse(term); err != nil {
				t.Fatalf("%q: part %q: %v", expr, term, err)
			}
		}
	})
}

// TestHabit: what pcap filters leave out means the same as all of it written down.
func TestHabit(t *testing.T) {
	for short, long := range map[string]string{
		"port 80 or 443":                      "port = 80 or port = 443",
		"tcp dst port 80 or 443 or https":     "proto = tcp and dst.port = 80 or proto = tcp and dst.port = 443 or proto = tcp and dst.port = 443",
		"host 10.1.0.5 and not 10.1.0.6":      "ip = 10.1.0.5 and not ip = 10.1.0.6",
		"src host web-1 or 10.1.0.7":          `src.vm = "web-1" or src.ip = 10.1.0.7`,
		"dst port (80 or 443) and tenant = r": "(dst.port = 80 or dst.port = 443) and tenant = r",
		"host (a or (10.1.0.5 and not b))":    "vm = a or (ip = 10.1.0.5 and not vm = b)",
		"net 10 or 172.16 or src net 10.1.2":  "ip in 10.0.0.0/8 or ip in 172.16.0.0/16 or src.ip in 10.1.2.0/24",
		"ip6 host (a or b)":                   "ip6 and (vm = a or vm = b)",
		"udp port 53 or tcp or icmp":          "proto = udp and port = 53 or proto = tcp or proto = icmp",
		"port 80 or tenant = red":             "port = 80 or tenant = red",
	} {
		a, err := Parse(short)
		if err != nil {
			t.Errorf("%s: %v", short, err)
			continue
		}
		b, err := Parse(long)
		if err != nil {
			t.Fatal(err)
		}
		quoted := func(v any) string { return fmt.Sprintf("%v", v) }
		if got, want := a.Rows(target(DuckDB, quoted)), b.Rows(target(DuckDB, quoted)); got != want {
			t.Errorf("%s:\n%s\n%s:\n%s", short, got, long, want)
		}
	}
	for _, bad := range []string{"tenant = red or 443", "(port 80) or 443", "vxlan 5 or 6", "port (80", "port ()"} {
		if _, err := Parse(bad); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
	e, err := Parse("tcp and dst port 80 and not 443")
	if err != nil {
		t.Fatal(err)
	}
	if got := e.Terms(); !slices.Equal(got, []string{"tcp", "dst port 80", "not dst port 443"}) {
		t.Errorf("parts %q", got)
	}
}

// TestNumbers: a filter that asks for the numbers of segments and nothing else is told from one that asks for more.
func TestNumbers(t *testing.T) {
	f := func(expr string, want ...uint64) {
		t.Helper()
		e, err := Parse(expr)
		if err != nil {
			t.Fatal(err)
		}
		if got, only := e.Numbers(); only != (want != nil) || !slices.Equal(got, want) && only {
			t.Errorf("%s: %d, %v", expr, got, only)
		}
	}
	f("vni = 5001", 5001)
	f("vni in (7, 5001)", 7, 5001)
	f("(vni = 7)", 7)
	f("")
	f("vni = 0")
	f("not vni = 7")
	f("vni != 7")
	f("vni in 7-9")
	f("vni = 7 or vni = 8")
	f("vni = 7 and tcp")
	f("vni = 7 and vni = 8")
	f("segment = vxlan:7")
}

func TestAddrs(t *testing.T) {
	f := func(expr string, want ...string) {
		t.Helper()
		e, err := Parse(expr)
		if err != nil {
			t.Fatal(err)
		}
		if got := e.Addrs(); !slices.Equal(got, want) {
			t.Errorf("%s: %q", expr, got)
		}
	}
	one, other := "00000000-0000-0000-0000-ffff0a000105", "fd000000-0000-0000-0000-000000000001"
	f("host 10.0.1.5", one)
	f("ip = 10.0.1.5 and tcp", one)
	f("vni = 7 and src.ip in (10.0.1.5, fd00::1)", one, other)
	f("dst.ip = fd00::1", other)
	f("")
	f("vni = 7")
	f("not ip = 10.0.1.5")
	f("ip != 10.0.1.5")
	f("ip = 10.0.1.5 or tcp")
	f("ip in 10.0.1.0/24")
	f("vtep = 10.0.1.5")
	f("exporter = 10.0.1.5")
}
