#!/bin/bash
# test/bench/ingest.sh: what a flow record costs on its way from a UDP datagram to a durable file, what sorting and rolling up add, and how long a
# batch takes from full to durable, alone and while questions are asked; and what nfcapd -z takes of the processor for the same datagrams. RECORDS, RATE (datagrams in a second), SHAPE and
# ASKERS in the environment change the size; PROFILE names a file for a processor profile of the first part, with .settle behind it for that of the second.
set -euo pipefail
cd "$(dirname "$0")/../.."

records=${RECORDS:-2000000} rate=${RATE:-15000} shape=${SHAPE:-vxlan}
dir=$(mktemp -d)
peer=
trap '[ -z "$peer" ] || kill "$peer" 2>/dev/null || true; rm -rf "$dir"' EXIT
go build -o "$dir/ingest" ./test/bench/ingest
go build -o "$dir/vdsgen" ./test/bench/vdsgen
echo "ingest: $(nproc) cores with the sender, load $(cut -d' ' -f1-3 /proc/loadavg), $(uname -r), $(go env GOVERSION)"
TMPDIR=${TMPDIR:-$dir} "$dir/ingest" -records "$records" -rate "$rate" -shape "$shape" -askers "${ASKERS:-1}" ${PROFILE:+-cpuprofile "$PROFILE"}
# beside prints what nfcapd takes, which decodes the same datagrams and keeps 20 fields of each record: no names, no VNI, no outer addresses.
beside() {
	local port=$((20000 + $$ % 20000)) cpu
	mkdir "$dir/nfcapd"
	nfcapd -p "$port" -b 127.0.0.1 -z -w "$dir/nfcapd" -B $((32 << 20)) >"$dir/nfcapd.log" 2>&1 &
	peer=$!
	sleep 1
	"$dir/vdsgen" -shape "$shape" -records "$records" -rate "$rate" "udp://127.0.0.1:$port"
	sleep 2
	cpu=$(cat "/proc/$peer/task/"*/schedstat | awk '{ n += $1 } END { print n / 1e9 }')
	kill -INT "$peer"
	wait "$peer" || true
	peer=
	nfdump -R "$dir/nfcapd" -I | awk -v cpu="$cpu" '/^Flows:/ { printf "nfcapd -z: %d records, %.2f CPU-s, %.2f M rows/CPU-s; in the trial 3.95, so that 0.6 and 0.3 M were 0.15 and 0.08 of it\n", $2, cpu, $2 / cpu / 1e6 }'
}
if command -v nfcapd >/dev/null; then beside; fi
cat <<'END'

Method: user + system time of the collecting process alone; another process sends IPFIX of a distributed switch, nearly every record of a flow never seen before
(the table of flows is full). nfcapd receives the same datagrams from the same sender just after. Bars: 0.6 M rows/CPU-s durable, 0.3 M all in, p99 50 ms from full to durable while questions are asked, of batches of 20,480 rows.
In the second part the store tidies as it does in a server: files of 500,000 rows are sorted meanwhile.
END
