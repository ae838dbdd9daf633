# test/bench/live_lab.sh: what live_cost.sh, live_iperf.sh and live_rate.sh share: namespaces, taps that come and go, and statistics. They read it with
# "source", after cd to the root of the checkout. As root. CROSSTAP names the binary.
# shellcheck shell=bash
me=$(basename "$0" .sh)
crosstap=$(realpath "${CROSSTAP:-bin/crosstap}")
[ "$(id -u)" = 0 ] || { echo "$me: must run as root (network namespaces)" >&2; exit 1; }
dir=$(mktemp -d)
id=x${me//[^a-z]/}
id=${id:0:6}$$
declare -a monitors=() spaces=()
stop_all() { # the taps
	local p
	for p in "${monitors[@]}"; do kill -TERM "$p" 2>/dev/null || true; done
	for p in "${monitors[@]}"; do wait "$p" 2>/dev/null || true; done
	monitors=()
}
more_cleanup() { :; } # of one script alone
cleanup() {
	stop_all
	more_cleanup
	local n
	for n in "${spaces[@]}"; do ip netns del "$id$n" 2>/dev/null || true; done
	rm -rf "$dir"
}
trap cleanup EXIT
go build -o "$dir/livegen" ./test/bench/livegen

at() { ip netns exec "$id$1" "${@:2}"; }
space() { # NAME…: network namespaces without IPv6
	local n
	for n in "$@"; do
		ip netns add "$id$n"
		spaces+=("$n")
		at "$n" sysctl -qw net.ipv6.conf.default.disable_ipv6=1 net.ipv6.conf.all.disable_ipv6=1
		at "$n" ip link set lo up
	done
}
plug() { # BRIDGE PORT [VM MAC]…: a bridge in h, and each VM at its port PORT1, PORT2, …
	local bridge=$1 port=$2 n=0
	shift 2
	at h ip link add "$bridge" type bridge mcast_snooping 0
	at h ip link set "$bridge" up
	while [ $# -gt 0 ]; do
		n=$((n + 1))
		at h ip link add "$port$n" type veth peer name eth0 address "$2" netns "$id$1"
		at h ip link set "$port$n" master "$bridge" up
		at "$1" ip link set eth0 up
		shift 2
	done
}
bridge() { # MAC MAC: a host h with a bridge, VMs a and b at its ports p1 and p2, and a way through up0 to the tool 10.7.0.9 in t
	space a b h t
	plug br0 p a "$1" b "$2"
	at h ip link add up0 mtu 9000 type veth peer name eth0 mtu 9000 netns "${id}t"
	at h ip link set up0 up
	at h ip addr add 10.7.0.1/24 dev up0
	at t ip link set eth0 up
	at t ip addr add 10.7.0.9/24 dev eth0
	at h ip neigh replace 10.7.0.9 dev up0 nud permanent lladdr "$(at t cat /sys/class/net/eth0/address)"
}
# second adds to bridge another one in the same host that nobody taps: VMs c and d at its ports q1 and q2.
second() { # MAC MAC
	space c d
	plug br1 q c "$1" d "$2"
}
to_tool='vxlan://10.7.0.9?vni=77&probe=no'
tap() { # SPACE ARGUMENT…: a tap of ours, in place of this process
	exec ip netns exec "$id$1" "$crosstap" tap "${@:2}"
}
peer() { # SPACE INTERFACE NAME: a program that others use for the same; false when there is none of the name
	case $3 in
	tcpdump) exec ip netns exec "$id$1" tcpdump -i "$2" -w /dev/null ;;
	tcpdump-96) exec ip netns exec "$id$1" tcpdump -i "$2" -s 96 -w /dev/null ;;
	softflowd) exec ip netns exec "$id$1" softflowd -d -i "$2" -n 127.0.0.1:9 -p "$dir/sf.pid" -c "$dir/sf.ctl" ;;
	esac
	return 1
}
ports=(-i p1) # that taps of ours are of
# at_port runs a tap of ours, or a peer of the port p1 of bridge.
at_port() { # NAME
	case $1 in
	hook) exec ip netns exec "${id}h" "$dir/livegen" -hook p1 ;;
	filter) tap h "${ports[@]}" --path tcx -f 'tcp port 9999' --to "$to_tool" ;;
	metering) tap h "${ports[@]}" --path tcx --to null: ;;
	headers) tap h "${ports[@]}" --path tcx --snap 112 --to null:frames ;;
	mirror-[0-9]*) tap h "${ports[@]}" --path tcx --groom "sample=${1#mirror-}" --to "$to_tool" ;;
	ring-[0-9]*) tap h "${ports[@]}" --path ring --groom "sample=${1#ring-}" --to "$to_tool" ;;
	ring-flows) tap h "${ports[@]}" --path ring --to null: ;;
	*) peer h p1 "$1" ;;
	esac
}
begin() { # NAME COMMAND…: starts a tap, and returns when it captures
	"${@:2}" >"$dir/out" 2>"$dir/err" &
	monitors=($!)
	local i
	for i in $(seq 200); do
		if [ "$1" = softflowd ] && [ "$i" = 10 ] || grep -q 'listening on' "$dir/err"; then return; fi
		if grep -Eq 'msg=("program attached"|capturing)' "$dir/err"; then
			sleep 0.3
			return
		fi
		sleep 0.05
	done
	cat "$dir/err" >&2
	echo "$me: $1 does not start" >&2
	exit 1
}
ticks() { # PID: processor time of a process
	awk '{print $14 + $15}' "/proc/$1/stat" 2>/dev/null || echo 0
}
cputime() { # PID: processor time of a process and its threads, in nanoseconds
	cat "/proc/$1/task/"*/schedstat 2>/dev/null | awk '{ n += $1 } END { printf "%d\n", n }'
}
machine() { echo "$(nproc) processors, $(uname -r), load$(uptime | sed 's/.*average//')"; }
# Functions of awk: sorted sorts, median is of what is sorted, low is the rank of the lower end of the interval that a sign test gives the median
# at 95 % (of 9, the 2nd).
# shellcheck disable=SC2034,SC2016
statistics='
	function sorted(a, n,   i, j, t) { for (i = 2; i <= n; i++) { t = a[i]; for (j = i - 1; j > 0 && a[j] > t; j--) a[j + 1] = a[j]; a[j + 1] = t } }
	function median(a, n) { return n % 2 ? a[(n + 1) / 2] : (a[n / 2] + a[n / 2 + 1]) / 2 }
	function low(n,   r) { r = int((n - 1.96 * sqrt(n)) / 2 + 0.5); return r < 1 ? 1 : r }
'
