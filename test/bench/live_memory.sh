#!/bin/bash
# test/bench/live_memory.sh: what the built agent has in memory while it meters FLOWS flows for a server: by a table in the kernel, and by a packet ring. "beside rings" is what is
# resident without packet rings and rings of the kernel's programs; the flow table of the kernel, as far as the agent has it mapped, is in it.
# As root. FLOWS (100000), RATE (packets a second), LONG (seconds), ROUNDS, BUDGET (of the agent; none unless given) in the environment; CROSSTAP names the server's binary, AGENT the
# agent's, which is built as "make agent" does unless given.
set -euo pipefail
cd "$(dirname "$0")/../.."

source test/bench/live_lab.sh

flows=${FLOWS:-100000} rate=${RATE:-50000} long=${LONG:-20} rounds=${ROUNDS:-1} agent=$(realpath "${AGENT:-$dir/crosstap-agent}")
if [ -z "${AGENT:-}" ]; then CGO_ENABLED=0 go build -trimpath -tags agent -ldflags '-s -w' -o "$agent" ./cmd/crosstap; fi
tools/need jq curl
server=''
more_cleanup() {
	if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; fi
}
bridge 02:00:00:00:08:08 02:00:00:00:09:09
at h bridge fdb add 02:00:00:00:09:09 dev p2 master static
space s
at h ip link add up1 type veth peer name eth0 netns "${id}s"
at h ip link set up1 up
at h ip addr add 10.8.0.1/24 dev up1
at s ip link set eth0 up
at s ip addr add 10.8.0.9/24 dev eth0

eventually() { # COMMAND…: until it succeeds
	local end=$((SECONDS + 60))
	until "$@" 2>/dev/null; do
		if [ $SECONDS -ge $end ]; then
			cat "$dir"/*.err >&2
			echo "live_memory: in vain: $*" >&2
			exit 1
		fi
		sleep 0.2
	done
}
listens() { [ -n "$(at s ss -Hltn 'sport = :8475')" ]; }
scrape() { at h curl -sS --max-time 20 http://127.0.0.1:9475/metrics; }
running() { [ "$(scrape | grep -c '^crosstap_tap_running.* 1$')" = "$1" ]; }
held() { scrape | awk -v want="$1" '/^crosstap_tap_stage_held/ && /stage="(kernel_flows|flow_cache)"/ && /records/ { n += $NF } END { printf "%d\n", n; exit n < want }'; }
given() { at s "$crosstap" agent taps h --server https://10.8.0.9:8475 --token "$dir/operator" -f "$dir/taps.yaml" >/dev/null 2>"$dir/given.err"; }
taps() { # PATH or nothing
	if [ -z "$1" ]; then
		echo 'taps: []' >"$dir/taps.yaml"
	else
		echo "taps: [{name: flows, source: {interfaces: [p1], path: $1}, meter: {idle: 5m, active: 5m, max_flows: 200000}, to: [{url: 'ipfix+tcp://10.8.0.9'}]}]" >"$dir/taps.yaml"
	fi
	eventually given
}
# memory tells what process PID has resident, in MiB: all, anonymous, of files, shared; of the two latter packet rings, programs' rings and flow table; all beside rings; and what the
# kernel's maps take.
memory() { # PID
	local fd
	for fd in "/proc/$1/fd/"*; do
		if [ "$(readlink "$fd" 2>/dev/null)" = anon_inode:bpf-map ]; then
			awk '{ v[$1] = $2 } END { print "map", v["map_type:"], v["value_size:"], v["max_entries:"], v["memlock:"], v["map_id:"] }' "/proc/$1/fdinfo/${fd##*/}"
		fi
	done >"$dir/maps"
	cat "$dir/maps" "/proc/$1/smaps" "/proc/$1/status" | awk '
		function kind(path, size) {
			if (path ~ /^socket:/) return "packets"
			if (path !~ /bpf-map/) return ""
			return size in ring || size < 16 ? "ring" : "table"
		}
		$1 == "map" {
			if (!seen[$6]++) { kernel += $5 }
			if ($3 > 128 && $4 > 1) ring[int(($3 * $4 + 4095) / 4096) * 4] # entries of a ring have frames in them, lines of a table 128 bytes
			next
		}
		/^[0-9a-f]+-[0-9a-f]+ / { path = $6; next }
		$1 == "Size:" { size = $2 }
		$1 == "Rss:" { rss[kind(path, size)] += $2 }
		$1 ~ /^(VmRSS|RssAnon|RssFile|RssShmem):$/ { is[$1] = $2 }
		END {
			printf "%.1f %.1f %.1f %.1f %.1f %.1f %.1f %.1f %.1f\n", is["VmRSS:"] / 1024, is["RssAnon:"] / 1024, is["RssFile:"] / 1024, is["RssShmem:"] / 1024,
				rss["packets"] / 1024, rss["ring"] / 1024, rss["table"] / 1024, (is["VmRSS:"] - rss["packets"] - rss["ring"]) / 1024, kernel / 1048576
		}'
}
row() { printf '  %-34s %7s %7s %7s %7s %9s %7s %7s %13s %8s\n' "$@"; }

mkdir -p "$dir/store"
"$crosstap" token create --data "$dir/store" --role agent >"$dir/token"
"$crosstap" token create --data "$dir/store" --role operator >"$dir/operator"
ip netns exec "${id}s" "$crosstap" serve --data "$dir/store" --http 127.0.0.1:8474 --flows tcp://10.8.0.9:4739 --agents 10.8.0.9:8475 >"$dir/serve.out" 2>"$dir/serve.err" &
server=$!
eventually listens
echo "live memory: agent of $(stat -c %s "$agent" | awk '{printf "%.1f", $1 / 1e6}') MB, $flows flows at $rate packets a second, ${long} s, $(machine)"
row MiB VmRSS RssAnon RssFile Shmem 'packets' ring table 'beside rings' 'kernel'
for round in $(seq "$rounds"); do
	for path in '' tcx ring; do
		rm -rf "$dir/state"
		taps ''
		ip netns exec "${id}h" "$agent" agent --server https://10.8.0.9:8475 --token "$dir/token" --name h --state "$dir/state" --metrics 127.0.0.1:9475 ${BUDGET:+--budget "$BUDGET"} >"$dir/agent.out" 2>"$dir/agent.err" &
		monitors=($!)
		eventually scrape >/dev/null
		name='no tap'
		if [ -n "$path" ]; then
			taps "$path"
			eventually running 1
			"$dir/livegen" -netns "/run/netns/${id}a" -size 128 -rate "$rate" -flows "$flows" -for "${long}s" -core 0 >"$dir/gen"
			name="$path, $(held 0) flows"
		else
			sleep 2
		fi
		# shellcheck disable=SC2046
		row "$name" $(memory "${monitors[0]}")
		stop_all
	done
done
cat <<'END'

Method: /proc/PID/status and smaps of the agent while its flows are in its tables (timeouts of 5 minutes). packets: the packet rings; ring: of programs, for what they hand over; table: the
kernel's flow table, where the agent has it mapped. beside rings: VmRSS less the first two. kernel: what the kernel says that all maps of the agent's programs take.
Bars: less than 60 MB beside its rings at 100,000 flows, and a binary of less than 25 MB.
END
