#!/bin/bash
# test/bench/store.sh: what a row costs in the store, and what the questions of reports cost over it.
# ROWS and DAYS in the environment change the size; 595,000 rows an hour are 100 million in a week.
set -euo pipefail
cd "$(dirname "$0")/../.."

rows=${ROWS:-3000000} days=${DAYS:-0.21}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
go build -o "$dir/flowgen" ./test/bench/flowgen
echo "store: $rows rows over $days days, 6,000 machines, 50 tenants, seed 1"
for observers in 1 2; do
	echo
	"$dir/flowgen" -rows "$rows" -days "$days" -observers "$observers" -data "$dir/$observers"
done
cat <<'END'

Method: user + system time of the whole process, the generator's included; questions by the report package or in SQL on views of the store, two
threads, 512 MiB; "first" with the files in the page cache and a new engine, "best" of three rounds.
END
