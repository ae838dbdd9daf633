#!/bin/bash
# test/bench/live_iperf.sh: what is left of the throughput between two VMs on a Linux bridge when both are tapped, each packet once: where it comes in. PAIRS pairs of runs, one with
# and one without the tap, in turns; what is shown is the median of the quotients with the interval of a sign test. TCP by iperf3, with segmentation offload as interfaces of VMs have
# it (packets of up to 64 KiB), and with segments of the MTU (all offloads off), where the sender's processor is the bound; and UDP packets of 64 bytes.
# As root. PAIRS, LONG (seconds each), ONLY and WHAT (names, separated by |; WHAT of tcp, mtu, udp) in the environment; CROSSTAP names the binary.
set -euo pipefail
cd "$(dirname "$0")/../.."

source test/bench/live_lab.sh

pairs=${PAIRS:-20} long=${LONG:-2} only=${ONLY:-.} kinds=${WHAT:-.}
tools/need iperf3 jq ethtool
more_cleanup() {
	local p
	for p in ${server:-} ${tool:-}; do
		kill "$p" 2>/dev/null || true
		wait "$p" 2>/dev/null || true
	done
}
bridge 02:00:00:00:09:01 02:00:00:00:09:02
at a ip addr add 10.9.0.1/24 dev eth0
at b ip addr add 10.9.0.2/24 dev eth0
ports=(-i p1 -i p2 --ingress-only)
ip netns exec "${id}b" iperf3 -s -B 10.9.0.2 >/dev/null 2>&1 &
server=$!
# The tool is another machine: what it does with copies is not for the VMs' processors to do.
ip netns exec "${id}t" "$dir/livegen" -end eth0 2>"$dir/end.err" &
tool=$!
sleep 0.5

offloads() { # on or off, of all interfaces between the two
	if [ "${state:-}" = "$1" ]; then return; fi
	state=$1
	local x
	for x in a:eth0 b:eth0 h:p1 h:p2; do at "${x%:*}" ethtool -K "${x#*:}" tso "$1" gso "$1" gro "$1" tx "$1" >/dev/null; done
}
tapped() { begin "$1" at_port "$1"; } # NAME
stream() { at a iperf3 -c 10.9.0.2 -t "$long" -J | jq .end.sum_received.bits_per_second; }
run() { # tcp, mtu or udp
	case $1 in
	udp) udp ;;
	*) stream ;;
	esac
}
udp() { # packets of 64 bytes that arrive at b's port in a second
	local before after
	before=$(at h cat /sys/class/net/p2/statistics/tx_packets)
	"$dir/livegen" -netns "/run/netns/${id}a" -dst 02:00:00:00:09:02 -size 64 -rate 0 -for "${long}s" -core 0 >/dev/null
	after=$(at h cat /sys/class/net/p2/statistics/tx_packets)
	echo $(((after - before) / long))
}
list=(hook filter metering headers mirror-10 ring-10 ring-flows tcpdump softflowd)
echo "live iperf: $pairs pairs of $long s each, $(machine)"
for i in $(seq "$pairs"); do
	for what in tcp mtu udp; do
		[[ $what =~ ^($kinds)$ || $kinds = . ]] || continue
		if [ $what = tcp ]; then offloads on; else offloads off; fi
		for name in "${list[@]}"; do
			[[ $name =~ ^($only)$ || $only = . ]] || continue
			if [ $((i % 2)) = 1 ]; then # who is first changes
				without=$(run $what)
				tapped "$name"
				with=$(run $what)
				stop_all
			else
				tapped "$name"
				with=$(run $what)
				stop_all
				without=$(run $what)
			fi
			echo "$name $what $with $without" >>"$dir/all"
		done
	done
done
printf '\n  %-11s %7s %16s %9s %16s %9s %16s\n' tap 'TCP' 'interval' 'TCP, MTU' 'interval' 'UDP 64 B' 'interval'
awk -v order="${list[*]}" "$statistics"'
	{ k = $1 " " $2; n[k]++; q[k, n[k]] = $3 / $4; base[$2, ++m[$2]] = $4 }
	function cell(k, wide,   i, a, lo) {
		if (!n[k]) return sprintf("%" wide "s %16s", "", "")
		for (i = 1; i <= n[k]; i++) a[i] = q[k, i]
		sorted(a, n[k])
		lo = low(n[k])
		return sprintf("%" wide ".3f %6.3f to %6.3f", median(a, n[k]), a[lo], a[n[k] + 1 - lo])
	}
	function alone(what, unit, name,   i, a) {
		if (!m[what]) return
		for (i = 1; i <= m[what]; i++) a[i] = base[what, i] / unit
		sorted(a, m[what])
		printf "  without a tap: %s %.2f (%.2f to %.2f)\n", name, median(a, m[what]), a[1], a[m[what]]
	}
	END {
		c = split(order, names, " ")
		for (i = 1; i <= c; i++) {
			x = names[i]
			if (n[x " tcp"] + n[x " mtu"] + n[x " udp"]) printf "  %-11s %s %s %s\n", x, cell(x " tcp", 7), cell(x " mtu", 9), cell(x " udp", 9)
		}
		print ""
		alone("tcp", 1e9, "TCP, Gbit/s"); alone("mtu", 1e9, "TCP with segments of the MTU, Gbit/s"); alone("udp", 1e6, "UDP, million packets a second")
	}' "$dir/all"
cat <<'END'

Method: iperf3 from one VM to the other on a machine whose processors both work for it, so that what a tap takes is missing. Both VMs are tapped with --ingress-only, so that each packet
is seen at one port; copies end where they reach the tool; tcpdump and softflowd are at one port, both ways. hook: an empty program at one port, both ways. mirror-10: one packet in ten, copied in the kernel (VXLAN); ring-10:
the same through a packet ring and user space. Bars: TCP 0.97 with metering, headers or a filter that passes one in ten, UDP 0.90.
END
