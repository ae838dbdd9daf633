#!/bin/bash
# test/bench/live_iperf.sh: what is left of the throughput between two VMs on a Linux bridge when the port of one is tapped. PAIRS pairs of runs, one with
# and one without the tap, in turns; what is shown is the median of the quotients with the interval of a sign test. TCP by iperf3 with segments of
# the MTU (offloads off), and UDP packets of 64 bytes.
# As root. PAIRS, LONG (seconds each), ONLY (names, separated by |) in the environment; CROSSTAP names the binary.
set -euo pipefail
cd "$(dirname "$0")/../.."

source test/bench/live_lab.sh

pairs=${PAIRS:-20} long=${LONG:-2} only=${ONLY:-.}
tools/need iperf3 jq ethtool
more_cleanup() {
	if [ -n "${server:-}" ]; then kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; fi
}
bridge 02:00:00:00:09:01 02:00:00:00:09:02
n=0
for vm in a b; do
	n=$((n + 1))
	at $vm ip addr add "10.9.0.$n/24" dev eth0
	at $vm ethtool -K eth0 tso off gso off gro off tx off >/dev/null
	at h ethtool -K "p$n" tso off gso off gro off tx off >/dev/null
done
ip netns exec "${id}b" iperf3 -s -B 10.9.0.2 >/dev/null 2>&1 &
server=$!
sleep 0.5

tapped() { begin "$1" at_port "$1"; } # NAME
tcp() { at a iperf3 -c 10.9.0.2 -t "$long" -J | jq .end.sum_received.bits_per_second; }
udp() { # packets of 64 bytes that arrive at b's port in a second
	local before after
	before=$(at h cat /sys/class/net/p2/statistics/tx_packets)
	"$dir/livegen" -netns "/run/netns/${id}a" -dst 02:00:00:00:09:02 -size 64 -rate 0 -for "${long}s" -core 0 >/dev/null
	after=$(at h cat /sys/class/net/p2/statistics/tx_packets)
	echo $(((after - before) / long))
}
list=(filter metering headers mirror-10 ring-flows tcpdump softflowd)
echo "live iperf: $pairs pairs of $long s each, $(machine)"
for i in $(seq "$pairs"); do
	for name in "${list[@]}"; do
		[[ $name =~ ^($only) ]] || continue
		for what in tcp udp; do
			if [ $((i % 2)) = 1 ]; then # who is first changes
				without=$($what)
				tapped "$name"
				with=$($what)
				stop_all
			else
				tapped "$name"
				with=$($what)
				stop_all
				without=$($what)
			fi
			echo "$name $what $with $without" >>"$dir/all"
		done
	done
done
printf '\n  %-12s %10s %22s %12s %22s\n' tap 'TCP' 'interval' 'UDP 64 B' 'interval'
awk -v order="${list[*]}" "$statistics"'
	{ k = $1 " " $2; n[k]++; q[k, n[k]] = $3 / $4; if ($2 == "tcp") t[++m] = $4 / 1e9; else u[++v] = $4 / 1e6 }
	function cell(k, wide,   i, a, lo) {
		for (i = 1; i <= n[k]; i++) a[i] = q[k, i]
		sorted(a, n[k])
		lo = low(n[k])
		return sprintf("%" wide ".3f %10.3f to %8.3f", median(a, n[k]), a[lo], a[n[k] + 1 - lo])
	}
	END {
		c = split(order, names, " ")
		for (i = 1; i <= c; i++) if (n[names[i] " tcp"]) printf "  %-12s %s %s\n", names[i], cell(names[i] " tcp", 10), cell(names[i] " udp", 12)
		sorted(t, m); sorted(u, v)
		printf "\n  without a tap: TCP %.2f Gbit/s (%.2f to %.2f), UDP %.3f million packets a second (%.3f to %.3f)\n", median(t, m), t[1], t[m], median(u, v), u[1], u[v]
	}' "$dir/all"
