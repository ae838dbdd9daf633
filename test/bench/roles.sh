#!/bin/bash
# test/bench/roles.sh: what a record costs each process of docs/scale.md: collecting and storing in one, a collector with the NATS server in it, a writer into
# a store directory, and with CLICKHOUSE=HOST:PORT one into ClickHouse, whose own process is CLICKHOUSE_PID. RECORDS in the environment changes the size,
# CROSSTAP names the binary. The records are IPFIX of a distributed switch over one TCP connection, as fast as they are taken.
set -euo pipefail
cd "$(dirname "$0")/../.."

records=${RECORDS:-2000000}
crosstap=$(realpath "${CROSSTAP:-bin/crosstap}")
dir=$(mktemp -d)
pids=()
stop() { for pid in "${pids[@]}"; do kill -INT "$pid" 2>/dev/null && wait "$pid" || true; done; pids=(); }
trap 'stop; rm -rf "$dir"' EXIT
go build -o "$dir/vdsgen" ./test/bench/vdsgen
"$dir/vdsgen" -shape vxlan -records "$records" "$dir/stream"

# serve NAME FLAGS…: a server with a log of that name
serve() {
	local name=$1
	shift
	"$crosstap" serve --http 127.0.0.1:0 "$@" 2>"$dir/$name.log" &
	pids+=($!)
}
# said NAME EXPRESSION: what a server's log says of it
said() {
	local end=$((SECONDS + 120))
	until grep -oP "$2" "$dir/$1.log" | head -1 | grep .; do
		[ $SECONDS -lt $end ] || { cat "$dir/$1.log" >&2; exit 1; }
		sleep 0.1
	done
}
ticks() { awk '{print $14 + $15}' "/proc/$1/stat"; }

# measure TITLE FRONT BACK NAME=PID…: sends to the server FRONT, waits until BACK has stored all, and tells what each process took
measure() {
	local title=$1 front=$2 back=$3 p url before=()
	shift 3
	url=$(said "$back" 'console=\Khttp://[^ /]+')
	for p in "$@"; do before+=("$(ticks "${p#*=}")"); done
	local to end=$((SECONDS + 900))
	to=$(said "$front" 'flows="?\[\K[0-9.:]+')
	cat "$dir/stream" >"/dev/tcp/${to%:*}/${to##*:}"
	until [ "$("$crosstap" status --server "$url" -o json | jq .store.rows)" -ge "$records" ]; do
		[ $SECONDS -lt $end ] || { echo "not all records are stored" >&2; exit 1; }
		sleep 0.5
	done
	echo "$title"
	local i=0
	for p in "$@"; do
		awk -v name="${p%%=*}" -v n="$records" -v t="$(($(ticks "${p#*=}") - before[i]))" -v hz="$(getconf CLK_TCK)" -v rss="$(awk '/VmHWM/ {print $2}' "/proc/${p#*=}/status")" \
			'BEGIN { printf "  %-22s %6.2f CPU-s  %5.2f M records/CPU-s  %5d MiB at most\n", name, t / hz, n * hz / t / 1e6, rss / 1024 }'
		i=$((i + 1))
	done
	stop
}

echo "roles: $records records, $(nproc) cores with the sender, load $(cut -d' ' -f1-3 /proc/loadavg), $(uname -r)"
serve one --data "$dir/one" --flows tcp://127.0.0.1:0
measure "one process" one one "collect and store=${pids[0]}"

# split TITLE FLAGS… -- NAME=PID…: a collector and a writer
split() {
	local title=$1 flags=()
	shift
	while [ "$1" != -- ]; do flags+=("$1"); shift; done
	shift
	serve "$title.collector" --role collector --bus-listen 127.0.0.1:0 --data "$dir/$title.c" --flows tcp://127.0.0.1:0
	local bus
	bus=$(said "$title.collector" 'nats=\Knats://\S+')
	serve "$title.writer" --role writer --bus "$bus" --data "$dir/$title.w" "${flags[@]}"
	measure "collector and writer, $title" "$title.collector" "$title.writer" "collector with NATS=${pids[0]}" "writer=${pids[1]}" "$@"
}
split directory --
if [ -n "${CLICKHOUSE:-}" ]; then
	split ClickHouse --store "clickhouse://$CLICKHOUSE/roles" -- ${CLICKHOUSE_PID:+"ClickHouse=$CLICKHOUSE_PID"}
fi
cat <<'END'

Method: user + system time of each process from the first record to when all are stored, merging that falls into that time included; the sender is not in it.
END
