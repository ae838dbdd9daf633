#!/bin/bash
# test/bench/scaleout.sh: the same questions to a store directory and to ClickHouse over the same rows, in one run: time, processor time, and whether the
# documents are the same. ROWS and DAYS in the environment change the size. ClickHouse is the one inside of libchdb (make deps).
set -euo pipefail
cd "$(dirname "$0")/../.."

rows=${ROWS:-10000000} days=${DAYS:-7}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
go build -o "$dir/flowgen" ./test/bench/flowgen
echo "scale-out: $rows rows over $days days, 6,000 machines, 50 tenants, seed 1; $(nproc) cores, load $(cut -d' ' -f1-3 /proc/loadavg), $(uname -r), $(go env GOVERSION)"
echo
"$dir/flowgen" -rows "$rows" -days "$days" -data "$dir/store" -clickhouse
cat <<'END'

Method: both stores on one machine, two threads and 512 MiB for a question, best of three rounds with warm caches; CPU is user + system time of this process, for ClickHouse of
its server too.
END
