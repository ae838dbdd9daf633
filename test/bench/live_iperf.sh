#!/bin/bash
# test/bench/live_iperf.sh: what is left of the throughput between two VMs on a Linux bridge when the port of one is tapped. PAIRS pairs of runs, one with
# and one without the tap, in turns; what is shown is the median of the quotients with the interval of a sign test. TCP by iperf3 with segments of
# the MTU (offloads off), and UDP packets of 64 bytes.
# As root. PAIRS, LONG (seconds each), ONLY (names, separated by |) in the environment; CROSSTAP names the binary.
set -euo pipefail
cd "$(dirname "$0")/../.."

pairs=${PAIRS:-20} long=${LONG:-2} only=${ONLY:-.}
crosstap=$(realpath "${CROSSTAP:-bin/crosstap}")
[ "$(id -u)" = 0 ] || { echo "live_iperf: must run as root (network namespaces)" >&2; exit 1; }
tools/need iperf3 jq ethtool
dir=$(mktemp -d)
id=xli$$
pids=()
end() {
	local p
	for p in "${pids[@]}"; do kill -TERM "$p" 2>/dev/null || true; done
	for p in "${pids[@]}"; do wait "$p" 2>/dev/null || true; done
	pids=()
}
cleanup() {
	end
	if [ -n "${server:-}" ]; then kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; fi
	for n in a b h t; do ip netns del "$id$n" 2>/dev/null || true; done
	rm -rf "$dir"
}
trap cleanup EXIT
go build -o "$dir/livegen" ./test/bench/livegen
at() { ip netns exec "$id$1" "${@:2}"; }
for n in a b h t; do
	ip netns add "$id$n"
	at $n sysctl -qw net.ipv6.conf.default.disable_ipv6=1 net.ipv6.conf.all.disable_ipv6=1
	at $n ip link set lo up
done
at h ip link add br0 type bridge mcast_snooping 0
at h ip link set br0 up
n=0
for vm in a b; do
	n=$((n + 1))
	at h ip link add "p$n" type veth peer name eth0 address "02:00:00:00:09:0$n" netns "$id$vm"
	at h ip link set "p$n" master br0 up
	at $vm ip link set eth0 up
	at $vm ip addr add "10.9.0.$n/24" dev eth0
	at $vm ethtool -K eth0 tso off gso off gro off tx off >/dev/null
	at h ethtool -K "p$n" tso off gso off gro off tx off >/dev/null
done
at h ip link add up0 mtu 9000 type veth peer name eth0 mtu 9000 netns "${id}t"
at h ip link set up0 up
at h ip addr add 10.7.0.1/24 dev up0
at t ip link set eth0 up
at h ip neigh replace 10.7.0.9 dev up0 nud permanent lladdr "$(at t cat /sys/class/net/eth0/address)"
ip netns exec "${id}b" iperf3 -s -B 10.9.0.2 >/dev/null 2>&1 &
server=$!
sleep 0.5

tap="$crosstap tap -i p1"
to='vxlan://10.7.0.9?vni=77&probe=no'
start() { # NAME
	case $1 in
	filter) exec ip netns exec "${id}h" $tap --path tcx -f 'tcp port 9999' --to "$to" ;;
	metering) exec ip netns exec "${id}h" $tap --path tcx --to null: ;;
	headers) exec ip netns exec "${id}h" $tap --path tcx --snap 112 --to null:frames ;;
	mirror-10) exec ip netns exec "${id}h" $tap --path tcx --groom sample=10 --to "$to" ;;
	ring-flows) exec ip netns exec "${id}h" $tap --path ring --to null: ;;
	tcpdump) exec ip netns exec "${id}h" tcpdump -i p1 -w /dev/null ;;
	softflowd) exec ip netns exec "${id}h" softflowd -d -i p1 -n 127.0.0.1:9 -p "$dir/sf.pid" -c "$dir/sf.ctl" ;;
	esac
}
tapped() { # NAME
	start "$1" >"$dir/out" 2>"$dir/err" &
	pids=($!)
	local i
	for i in $(seq 200); do
		if grep -Eq 'msg=("program attached"|capturing)|listening on' "$dir/err"; then break; fi
		if [ "$1" = softflowd ] && [ "$i" = 10 ]; then break; fi
		sleep 0.05
	done
	sleep 0.2
}
tcp() { at a iperf3 -c 10.9.0.2 -t "$long" -J | jq .end.sum_received.bits_per_second; }
udp() { # packets of 64 bytes that arrive at b's port in a second
	local before after
	before=$(at h cat /sys/class/net/p2/statistics/tx_packets)
	"$dir/livegen" -netns "/run/netns/${id}a" -dst 02:00:00:00:09:02 -size 64 -rate 0 -for "${long}s" -core 0 >/dev/null
	after=$(at h cat /sys/class/net/p2/statistics/tx_packets)
	echo $(((after - before) / long))
}
list=(filter metering headers mirror-10 ring-flows tcpdump softflowd)
echo "live iperf: $pairs pairs of $long s each, $(nproc) processors, $(uname -r), load$(uptime | sed 's/.*average//')"
for i in $(seq "$pairs"); do
	for name in "${list[@]}"; do
		[[ $name =~ ^($only) ]] || continue
		for what in tcp udp; do
			if [ $((i % 2)) = 1 ]; then # who is first changes
				without=$($what)
				tapped "$name"
				with=$($what)
				end
			else
				tapped "$name"
				with=$($what)
				end
				without=$($what)
			fi
			echo "$name $what $with $without" >>"$dir/all"
		done
	done
done
printf '\n  %-12s %10s %22s %12s %22s\n' tap 'TCP' 'interval' 'UDP 64 B' 'interval'
awk -v order="${list[*]}" '
	function sorted(a, n,   i, j, t) { for (i = 2; i <= n; i++) { t = a[i]; for (j = i - 1; j > 0 && a[j] > t; j--) a[j + 1] = a[j]; a[j + 1] = t } }
	function median(a, n) { return n % 2 ? a[(n + 1) / 2] : (a[n / 2] + a[n / 2 + 1]) / 2 }
	{ k = $1 " " $2; n[k]++; q[k, n[k]] = $3 / $4; if ($2 == "tcp") t[++m] = $4 / 1e9; else u[++v] = $4 / 1e6 }
	function cell(k, wide,   i, a, lo) {
		for (i = 1; i <= n[k]; i++) a[i] = q[k, i]
		sorted(a, n[k])
		lo = int((n[k] - 1.96 * sqrt(n[k])) / 2 + 0.5); if (lo < 1) lo = 1
		return sprintf("%" wide ".3f %10.3f to %8.3f", median(a, n[k]), a[lo], a[n[k] + 1 - lo])
	}
	END {
		c = split(order, names, " ")
		for (i = 1; i <= c; i++) if (n[names[i] " tcp"]) printf "  %-12s %s %s\n", names[i], cell(names[i] " tcp", 10), cell(names[i] " udp", 12)
		sorted(t, m); sorted(u, v)
		printf "\n  without a tap: TCP %.2f Gbit/s (%.2f to %.2f), UDP %.3f million packets a second (%.3f to %.3f)\n", median(t, m), t[1], t[m], median(u, v), u[1], u[v]
	}' "$dir/all"
