#!/bin/bash
# test/bench/decode_rate.sh: IPFIX decode rate on a distributed switch's stream, beside nfcapd and goflow2.
# RECORDS, ROUNDS and RATE (datagrams a second) in the environment change the size.
set -euo pipefail
cd "$(dirname "$0")/../.."

records=${RECORDS:-1000000} rounds=${ROUNDS:-5} rate=${RATE:-40000}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
go build -o "$dir/vdsgen" ./test/bench/vdsgen
go build -o "$dir/decoderate" ./test/bench/decoderate
tools="crosstap"
if (cd test/bench/goflow2 && go build -o "$dir/goflow2" . 2>"$dir/err"); then
	tools="$tools goflow2 goflow2-structs"
else
	echo "goflow2 left out, it does not build here: $(tail -1 "$dir/err")" >&2
fi
core=$(($(nproc) - 1))
pin="taskset -c $core"
port=$((20000 + $$ % 20000))
crosstap=${CROSSTAP:-bin/crosstap}

# memory TOOL SHAPE: decode messages that are in memory; prints "records CPU-seconds"
memory() {
	case $1 in
	crosstap) $pin "$dir/decoderate" -rounds 5 "$dir/$2.ipfix" ;;
	goflow2) GOMAXPROCS=1 $pin "$dir/goflow2" -rounds 1 "$dir/$2.ipfix" ;;
	goflow2-structs) GOMAXPROCS=1 $pin "$dir/goflow2" -structs -rounds 1 "$dir/$2.ipfix" ;;
	esac
}

# capture SHAPE: the whole command on a capture file
capture() {
	local TIMEFORMAT='%3U %3S'
	{ time $pin "$crosstap" decode -o none "$dir/$1.pcap" 2>/dev/null; } 2>&1 | awk -v n="$records" '{print n, $1 + $2}'
}

# socket TOOL SHAPE: receive from a UDP socket; nfcapd also writes its file, to a temporary directory
socket() {
	: >"$dir/ready"
	: >"$dir/nflog"
	if [ "$1" = crosstap ]; then
		$pin "$dir/decoderate" -listen "127.0.0.1:$port" 2>"$dir/ready" &
		until grep -q ready "$dir/ready"; do sleep 0.1; done
		"$dir/vdsgen" -shape "$2" -records "$records" -rate "$rate" "udp://127.0.0.1:$port"
		wait $!
		return
	fi
	rm -rf "$dir/nf" && mkdir "$dir/nf"
	$pin nfcapd -b 127.0.0.1 -p "$port" -B 33554432 -w "$dir/nf" 2>"$dir/nflog" &
	local pid=$!
	until grep -q Startup "$dir/nflog"; do sleep 0.1; done
	"$dir/vdsgen" -shape "$2" -records "$records" -rate "$rate" "udp://127.0.0.1:$port"
	sleep 0.5
	local ticks
	ticks=$(awk '{print $14 + $15}' "/proc/$pid/stat")
	kill -INT "$pid" && wait "$pid" || true
	sed -n 's/.*Flows: \([0-9]*\),.*/\1/p' "$dir/nflog" | awk -v t="$ticks" -v hz="$(getconf CLK_TCK)" '{n += $1} END {print n, t / hz}'
}

for shape in plain vxlan; do
	"$dir/vdsgen" -shape $shape -records "$records" "$dir/$shape.ipfix"
	"$dir/vdsgen" -shape $shape -records "$records" "$dir/$shape.pcap"
	for ((i = 0; i < rounds; i++)); do
		for t in $tools; do memory "$t" $shape >>"$dir/$shape.memory.$t"; done
		if [ -x "$crosstap" ]; then capture $shape >>"$dir/$shape.capture.crosstap"; fi
		for t in crosstap nfcapd; do socket "$t" $shape >>"$dir/$shape.socket.$t"; done
	done
done

# rates FILE: median and best of records per CPU-second, in millions; and the records of the median run
rates() { awk '$2 > 0 {print $1 / $2 / 1e6, $1}' "$1" | sort -n | awk '{v[NR] = $1; n[NR] = $2} END {m = int((NR + 1) / 2); print v[m], v[NR], n[m]}'; }

echo "IPFIX decode: $records records of a distributed switch, 18 (plain) or 16 (vxlan) in a datagram"
for shape in plain vxlan; do
	echo
	if [ $shape = plain ]; then echo "template 256, IPv4 with ports"; else echo "template 260, IPv4 inside VXLAN"; fi
	printf '  %-9s %-16s %18s %8s %12s\n' input tool "Mrecords/CPU-s" "best" "crosstap is"
	for kind in memory capture socket; do
		[ -s "$dir/$shape.$kind.crosstap" ] || continue
		own=$(rates "$dir/$shape.$kind.crosstap" | cut -d' ' -f1)
		for f in "$dir/$shape.$kind".*; do
			read -r median best n < <(rates "$f")
			awk -v k=$kind -v t="${f##*.}" -v m="$median" -v b="$best" -v own="$own" -v n="$n" -v all="$records" 'BEGIN {
				printf "  %-9s %-16s %18.2f %8.2f %10.1f x%s\n", k, t, m, b, own / m, n < all ? sprintf("  (%d of %d arrived)", n, all) : "" }'
		done
	done
done
cat <<END

Method: user + system CPU seconds, median of $rounds runs, all tools in turn in each round, one core (taskset -c $core).
memory: messages in memory, one by one; crosstap into its flow record with every field it has (5 passes a run), goflow2 v2.2.6 into
generic fields, goflow2-structs into its protobuf structs, GOMAXPROCS=1. capture: the whole command "crosstap decode -o none" on a capture
file. socket: datagrams over loopback at $rate a second, receiving included; crosstap receives and decodes, nfcapd $(nfcapd -V 2>&1 | sed 's/.*Version: *//') also stores
(uncompressed, temporary directory) and keeps neither tenant nor VNI.
The stream is written by test/bench/vds, the same bytes each time.
END
