#!/bin/bash
# test/bench/store_bars.sh: the bars of store and reports in one table: what a row costs on its way in, what it takes on disk, what questions
# cost over 100 million rows, and the same beside nfdump over the same flows. Best on a quiet machine: some 20 minutes on two cores, 8 GB of disk.
# ROWS, DAYS, FLOWS (those on the way in) and DAY (those of the day beside nfdump) in the environment change the size; STORE keeps the store, or names one that flowgen has filled;
# CROSSTAP names the binary; PARTS chooses among "in" (on the way in), "store" (flowgen) and "nfdump".
set -euo pipefail
cd "$(dirname "$0")/../.."

rows=${ROWS:-100000000} days=${DAYS:-7} flows=${FLOWS:-3000000} rate=${RATE:-20000} day=${DAY:-14288000}
crosstap=$(realpath "${CROSSTAP:-bin/crosstap}")
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
store=${STORE:-$dir/store} parts=${PARTS:-in store nfdump}
TIMEFORMAT='%U %S'
go build -o "$dir/flowgen" ./test/bench/flowgen
go build -o "$dir/vdsgen" ./test/bench/vdsgen

# cpu COMMAND…: its user and system seconds; what it prints goes to $dir/out
cpu() { { time "$@" >"$dir/out" 2>"$dir/err"; } 2>&1 | tail -1 | awk '{print $1 + $2}'; }

# line NAME MEASURED UNIT BAR
line() { printf '  %-64s %10s %-14s %s\n' "$1" "$2" "$3" "$4"; }

echo "store and reports ($parts): $(nproc) cores, load $(cut -d' ' -f1-3 /proc/loadavg), $(uname -r), $(go env GOVERSION)"
echo
port=$((20000 + $$ % 20000))

if [[ $parts == *in* ]]; then
	"$dir/vdsgen" -shape vxlan -records "$flows" "$dir/flows.pcap"
	all=$(cpu "$crosstap" import "$dir/flows.pcap" --data "$dir/import")
	echo "on the way in                                                       measured                bar"
	go test -run XXX -bench 'Records|NewFlows' -benchtime 3s ./internal/collect/enrich >"$dir/enrich"
	go test -run XXX -bench 'Append|Seal' -benchtime 5x ./internal/collect/store/segment >"$dir/segment"
	metric() { awk -v b="^Benchmark$2" -v u="$3" '$1 ~ b {for (i = 2; i < NF; i++) if ($(i + 1) == u) printf "%.2f", $i / 1e6}' "$dir/$1"; }
	line "enrich, flows that are known" "$(metric enrich Records records/cpu-s)" "M rows/CPU-s" ""
	line "enrich, flows never seen before" "$(metric enrich NewFlows records/cpu-s)" "M rows/CPU-s" "1.5"
	line "sort an hour, settle canonical rows, roll up (two observers)" "$(metric segment Seal rows/cpu-s)" "M rows/CPU-s" ""

	# datagrams over loopback into a server with its defaults, then the same records with sorting and roll-ups
	url=http://127.0.0.1:$((port + 1))
	"$crosstap" serve --data "$dir/udp" --http "127.0.0.1:$((port + 1))" --flows "127.0.0.1:$port" 2>"$dir/serve.log" &
	server=$!
	until "$crosstap" status --server "$url" >/dev/null 2>&1; do sleep 0.2; done
	idle=$(awk '{print $14 + $15}' "/proc/$server/stat")
	"$dir/vdsgen" -shape vxlan -records "$flows" -rate "$rate" "udp://127.0.0.1:$port"
	sleep 4
	ticks=$(awk '{print $14 + $15}' "/proc/$server/stat")
	"$crosstap" status --server "$url" -o json >"$dir/status"
	kill -INT $server && wait $server || true
	stored=$(jq '.store.rows' "$dir/status")
	line "UDP, decode, enrich, durable ($stored of $flows arrived)" \
		"$(awk -v n="$stored" -v t=$((ticks - idle)) -v hz="$(getconf CLK_TCK)" 'BEGIN {printf "%.2f", n / t * hz / 1e6}')" "M rows/CPU-s" "0.6"
	line "capture file, decode, enrich, durable, sorted, rolled up" "$(awk -v n="$flows" -v t="$all" 'BEGIN {printf "%.2f", n / t / 1e6}')" "M rows/CPU-s" "0.3"
fi

if [[ $parts == *store* ]]; then
	echo
	echo "flowgen: $rows rows over $days days, 6,000 machines, 50 tenants, seed 1; bars: 22 B/row, 25 with roll-ups; rows grouped 20 M/CPU-s; 512 MB"
	"$dir/flowgen" -rows "$rows" -days "$days" -data "$store"
fi

if [[ $parts == *nfdump* ]]; then
	echo
	"$dir/flowgen" -rows "$day" -days 1 -data "$dir/day" -only "fill it only" >/dev/null
	mkdir "$dir/nf"
	nfcapd -b 127.0.0.1 -p $((port + 2)) -B 33554432 -z -w "$dir/nf" 2>"$dir/nflog" &
	nf=$!
	until grep -q Startup "$dir/nflog"; do sleep 0.2; done
	"$dir/flowgen" -rows "$day" -days 1 -export "127.0.0.1:$((port + 2))"
	sleep 2
	kill -INT $nf && wait $nf || true
	took=$(nfdump -R "$dir/nf" -I | awk '/^Flows:/ {print $2}')
	echo "beside nfdump $(nfdump -V 2>&1 | grep -o '[0-9][0-9.]*[0-9]' | head -1), CPU-seconds over $day flows of 24 h, in the page cache; nfcapd received $took of them; x: for each flow; bar 4 to 23"
	beside() { # NAME NFDUMP-ARGUMENTS NFDUMP-FILTER CROSSTAP-ARGUMENTS…
		local name=$1 filter=$3 theirs ours i
		local -a nfargs
		read -ra nfargs <<<"$2"
		shift 3
		theirs=1e9 ours=1e9
		for i in 1 2 3; do
			theirs=$(printf '%s\n' "$theirs" "$(cpu nfdump -R "$dir/nf" "${nfargs[@]}" "$filter")" | sort -g | head -1)
			ours=$(printf '%s\n' "$ours" "$(cpu "$crosstap" "$@" --data "$dir/day")" | sort -g | head -1)
		done
		awk -v n="$name" -v t="$theirs" -v o="$ours" -v all="$day" -v took="$took" 'BEGIN {printf "  %-48s nfdump %6.2f  crosstap %6.2f  %5.1f x\n", n, t, o, t / took / (o / all)}'
	}
	segment=$((1 << 56 | 5017)) range="--since 2026-10-31T00:00:00Z --until 2026-11-01T00:00:00Z"
	echo "  all rows in SQL:"
	beside "top sources" "-s srcip/bytes -n 10" any query "SELECT src, sum(octets) AS o FROM canonical GROUP BY src ORDER BY o DESC LIMIT 10"
	beside "pairs of a network" "-A srcip,dstip -O bytes -n 10" "vlan 117" \
		query "SELECT src, dst, sum(octets) AS o FROM canonical WHERE segment = $segment GROUP BY ALL ORDER BY o DESC LIMIT 10"
	beside "pairs of a host" "-A srcip,dstip -O bytes -n 10" "host 10.0.1.5" query "SELECT src, dst, sum(octets) AS o FROM (SELECT * FROM canonical WHERE src = addr('10.0.1.5')
		UNION ALL SELECT * FROM canonical WHERE dst = addr('10.0.1.5') AND src <> addr('10.0.1.5')) GROUP BY ALL ORDER BY o DESC LIMIT 10"
	beside "pairs" "-A srcip,dstip -O bytes -n 10" any query "SELECT src, dst, sum(octets) AS o FROM canonical GROUP BY ALL ORDER BY o DESC LIMIT 10"
	beside "pairs and service" "-A srcip,dstip,dstport -O bytes -n 10" any query "SELECT src, dst, dst_port, sum(octets) AS o FROM canonical GROUP BY ALL ORDER BY o DESC LIMIT 10"
	echo "  as users ask (reports say more: machines, both ways, services, tenants, sparklines):"
	# shellcheck disable=SC2086
	{
		beside "top sources" "-s srcip/bytes -n 10" any top --by src.ip --limit 10 $range
		beside "pairs of a network" "-A srcip,dstip -O bytes -n 10" "vlan 117" pairs vni = 5017 --limit 10 $range
		beside "pairs of a host" "-A srcip,dstip -O bytes -n 10" "host 10.0.1.5" pairs host 10.0.1.5 --limit 10 $range
		beside "pairs" "-A srcip,dstip -O bytes -n 10" any pairs --limit 10 $range
	}
fi

cat <<'END'

Method: user + system time of whole processes, start included; questions of flowgen in one process: "first" with the files in the page cache and a new engine, "best" of
the later rounds with its processor time, "cold" with the files dropped from the page cache and a new engine; "memory" is the most that the question, asked twice in a process of its own
with 384 MiB for the engine, has resident beside what that had before. Beside nfdump the best of three runs, in turn,
over the same rows, which nfcapd got as IPFIX with a segment as VLAN and stored with LZO, without names and tenants.
END
