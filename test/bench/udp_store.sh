#!/bin/bash
# test/bench/udp_store.sh: export datagrams over loopback at a steady rate into crosstap serve, stored: what the kernel dropped, what
# was shed, what is stored; then the same with a collector that is stopped for a while, and whether its loss figure is exact.
# RECORDS_RATE, SECONDS_LONG, SHAPE and STOP (seconds) in the environment change the size; CROSSTAP names the binary.
set -euo pipefail
cd "$(dirname "$0")/../.."

rate=${RECORDS_RATE:-200000} long=${SECONDS_LONG:-30} shape=${SHAPE:-plain} stop=${STOP:-3}
per=18
if [ "$shape" = vxlan ]; then per=16; fi
crosstap=$(realpath "${CROSSTAP:-bin/crosstap}")
dir=$(mktemp -d)
server=
trap '[ -z "$server" ] || { kill -CONT "$server" && kill -INT "$server" && wait "$server"; } 2>/dev/null || true; rm -rf "$dir"' EXIT
go build -o "$dir/vdsgen" ./test/bench/vdsgen
port=$((20000 + $$ % 20000))
url=http://127.0.0.1:$((port + 1))

# run NAME RECORDS PAUSE FLAGS…: one server with a fresh store; it is stopped for PAUSE seconds in the middle
run() {
	local name=$1 records=$2 pause=$3
	shift 3
	"$crosstap" serve --data "$dir/$name" --http "127.0.0.1:$((port + 1))" --flows "127.0.0.1:$port" "$@" 2>"$dir/$name.log" &
	server=$!
	until "$crosstap" status --server "$url" >/dev/null 2>&1; do sleep 0.1; done
	"$dir/vdsgen" -shape "$shape" -records "$records" -rate $((rate / per)) "udp://127.0.0.1:$port" &
	local sender=$!
	if [ "$pause" != 0 ]; then
		sleep $((records / rate / 3 + 1))
		kill -STOP "$server"
		sleep "$pause"
		kill -CONT "$server"
	fi
	wait "$sender"
	local before=-1 rows=0
	while [ "$rows" != "$before" ]; do # until the line is empty
		before=$rows
		sleep 2
		rows=$("$crosstap" status --server "$url" -o json | jq '.stages[] | select(.stage == "append") | .out')
	done
	"$crosstap" status --server "$url" -o json >"$dir/status"
	"$crosstap" exporters --server "$url" -o json >"$dir/exporters"
	local ticks
	ticks=$(awk '{print $14 + $15}' "/proc/$server/stat")
	kill -INT "$server" && wait "$server"
	server=
	jq -rn --arg name "$name" --argjson sent "$records" --argjson cpu "$ticks" --argjson hz "$(getconf CLK_TCK)" \
		--slurpfile s "$dir/status" --slurpfile x "$dir/exporters" '
		($s[0].stages | map({key: .stage, value: .}) | from_entries) as $st |
		($s[0].listeners | map(.dropped_datagrams // 0) | add) as $kernel |
		([$st.dispatch.dropped[]?.n] | add // 0) as $shed | ($x[0].rows | map(.lost_records) | add) as $lost | $st.append.out as $rows |
		"  \($name): \($sent) records sent, \($rows) stored; datagrams dropped by the kernel \($kernel), shed \($shed); lost by sequence numbers \($lost) records: " +
		(if $rows + $lost == $sent then "exact" else "off by \($sent - $rows - $lost)" end) +
		"; \(($cpu / $hz * 100 | round) / 100) CPU-s, \(($s[0].process.resident_bytes / 1048576) | round) MiB"'
}

echo "UDP to store: $rate records a second of a distributed switch ($shape), $per in a datagram, $(nproc) cores with the sender"
run paced $((rate * long)) 0
run forced $((rate * 10)) "$stop" --flows-buffer 1MiB --flows-sockets 1
cat <<'END'

Method: crosstap serve with its defaults, fresh store, sender and server on the same cores. "forced" has one socket with a receive buffer of 1 MiB and is stopped
by a signal while the sender goes on. Records that are stored and records that sequence numbers miss must be those that were sent.
END
