#!/bin/bash
# test/bench/ingest.sh: what a flow record costs on its way from a UDP datagram to a durable file, what sorting and rolling up add, and how long a
# batch takes from full to durable, alone and while questions are asked. RECORDS, RATE (datagrams in a second), SHAPE and ASKERS in the
# environment change the size; PROFILE names a file for a processor profile of the first part, with .settle behind it for that of the second.
set -euo pipefail
cd "$(dirname "$0")/../.."

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
go build -o "$dir/ingest" ./test/bench/ingest
echo "ingest: $(nproc) cores with the sender, load $(cut -d' ' -f1-3 /proc/loadavg), $(uname -r), $(go env GOVERSION)"
TMPDIR=${TMPDIR:-$dir} "$dir/ingest" -records "${RECORDS:-2000000}" -rate "${RATE:-15000}" -shape "${SHAPE:-vxlan}" -askers "${ASKERS:-1}" ${PROFILE:+-cpuprofile "$PROFILE"}
cat <<'END'

Method: user + system time of the collecting process alone; another process sends IPFIX of a distributed switch, nearly every record of a flow never seen before
(the table of flows is full). Bars: 0.6 M rows/CPU-s durable, 0.3 M all in, p99 50 ms from full to durable while questions are asked, of batches of 20,480 rows.
In the second part the store tidies as it does in a server: files of 500,000 rows are sorted meanwhile.
END
