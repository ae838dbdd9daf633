#!/bin/bash
# test/bench/live_rate.sh: the rate up to which a tap loses nothing, for packets of 64 bytes and IMIX 7:4:1, beside tcpdump -w /dev/null. One
# processor sends as fast as it can through a veth pair; a tap that is slower than that loses packets, or slows the sender, whose
# processor does the kernel's part of the tap. All taps run in turn in each round.
# As root. ROUNDS, LONG (seconds), FLOWS, SIZES, ONLY (names, separated by |) in the environment; CROSSTAP names the binary.
set -euo pipefail
cd "$(dirname "$0")/../.."

rounds=${ROUNDS:-5} long=${LONG:-3} flows=${FLOWS:-1000} sizes=${SIZES:-64 0} only=${ONLY:-.}
crosstap=$(realpath "${CROSSTAP:-bin/crosstap}")
[ "$(id -u)" = 0 ] || { echo "live_rate: must run as root (network namespaces)" >&2; exit 1; }
[ "$(nproc)" -ge 2 ] || { echo "live_rate: needs 2 processors: one sends, one taps" >&2; exit 1; }
dir=$(mktemp -d)
id=xlr$$
pid=
cleanup() {
	if [ -n "$pid" ]; then kill -TERM "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; fi
	for n in a b; do ip netns del "$id$n" 2>/dev/null || true; done
	rm -rf "$dir"
}
trap cleanup EXIT
go build -o "$dir/livegen" ./test/bench/livegen
for n in a b; do
	ip netns add "$id$n"
	ip netns exec "$id$n" sysctl -qw net.ipv6.conf.default.disable_ipv6=1 net.ipv6.conf.all.disable_ipv6=1
	ip netns exec "$id$n" ip link set lo up
done
ip netns exec "${id}a" ip link add eth0 type veth peer name eth0 address 02:00:00:00:09:09 netns "${id}b"
for n in a b; do ip netns exec "$id$n" ip link set eth0 up; done

tap="$crosstap tap -i eth0 --ingress-only"
start() { # NAME
	case $1 in
	none) exec sleep 1000 ;;
	ring) exec ip netns exec "${id}b" $tap --path ring --ring 32MiB --to null:frames ;;
	ring-flows) exec ip netns exec "${id}b" $tap --path ring --ring 32MiB --to null: ;;
	headers) exec ip netns exec "${id}b" $tap --path tcx --snap 112 --ring 32MiB --to null:frames ;;
	headers-flows) exec ip netns exec "${id}b" $tap --path tcx --snap 160 --ring 32MiB --to null: ;;
	kernel-flows) exec ip netns exec "${id}b" $tap --path tcx --to null: ;;
	tcpdump) exec ip netns exec "${id}b" tcpdump -i eth0 -Q in -B 32768 -w /dev/null ;;
	tcpdump-96) exec ip netns exec "${id}b" tcpdump -i eth0 -Q in -s 96 -B 32768 -w /dev/null ;;
	softflowd) exec ip netns exec "${id}b" softflowd -d -i eth0 -n 127.0.0.1:9 -p "$dir/sf.pid" -c "$dir/sf.ctl" ;;
	esac
}
ready() { # NAME
	local i
	for i in $(seq 200); do
		case $1 in
		none) return ;;
		tcpdump*) if grep -q 'listening on' "$dir/err"; then return; fi ;;
		softflowd) sleep 0.5; return ;;
		*) if grep -Eq 'msg=("program attached"|capturing)' "$dir/err"; then sleep 0.3; return; fi ;;
		esac
		sleep 0.05
	done
	cat "$dir/err" >&2
	exit 1
}
seen() { # NAME: frames that the tap took, as it says itself at its end
	case $1 in
	none) echo "$2" ;;
	tcpdump*) awk '/packets captured/ {print $1}' "$dir/err" ;;
	softflowd) echo 0 ;; # it says nothing
	*) # frames read, less what the tap says it lost
		awk '/crosstap: tap: [0-9]+ frames/ { n = $3; for (i = 1; i <= NF; i++) if ($i ~ /^(dropped|full|lost|stopped)[;,]?$/) for (j = i; j > 0; j--) if ($j ~ /^[0-9]+$/) { n -= $j; break } print n }' "$dir/err" ;;
	esac
}
measure() { # NAME SIZE: Mpps sent, share taken, sender ns, reader ns
	start "$1" >"$dir/out" 2>"$dir/err" &
	pid=$!
	ready "$1"
	local before after sent took
	before=$(awk '{print $14 + $15}' "/proc/$pid/stat")
	"$dir/livegen" -netns "/run/netns/${id}a" -size "$2" -rate 0 -flows "$flows" -for "${long}s" -core 0 >"$dir/gen"
	sleep 0.3
	after=$(awk '{print $14 + $15}' "/proc/$pid/stat")
	if [ "$1" = softflowd ]; then took=$(softflowctl -c "$dir/sf.ctl" statistics 2>/dev/null | awk '/[Pp]ackets processed/ {print $NF}'); fi
	kill -TERM "$pid"
	wait "$pid" 2>/dev/null || true
	pid=
	sent=$(jq .sent "$dir/gen")
	took=${took:-$(seen "$1" "$sent")}
	jq -r --argjson took "${took:-0}" --argjson t $((after - before)) --argjson hz "$(getconf CLK_TCK)" \
		'"\(.sent / .seconds / 1e6) \($took / .sent * 100) \(.ns_per_packet) \($t / $hz * 1e9 / .sent)"' "$dir/gen"
}
list=(none ring ring-flows headers headers-flows kernel-flows tcpdump tcpdump-96 softflowd)
echo "live rate: $flows flows, $rounds rounds of $long s, $(nproc) processors, $(uname -r), load$(uptime | sed 's/.*average//')"
for size in $sizes; do
	: >"$dir/all"
	for round in $(seq "$rounds"); do
		for name in "${list[@]}"; do
			[[ $name =~ ^($only) ]] || continue
			echo "$name $(measure "$name" "$size")" >>"$dir/all"
		done
	done
	if [ "$size" = 0 ]; then label='IMIX 7:4:1 of 64, 570 and 1518 bytes'; else label="$size bytes"; fi
	printf '\n  %-44s %8s %16s %10s %10s\n' "$label" 'Mpps' 'interval' 'taken %' 'reader ns'
	awk -v order="${list[*]}" '
		function sorted(a, n,   i, j, t) { for (i = 2; i <= n; i++) { t = a[i]; for (j = i - 1; j > 0 && a[j] > t; j--) a[j + 1] = a[j]; a[j + 1] = t } }
		function median(a, n) { return n % 2 ? a[(n + 1) / 2] : (a[n / 2] + a[n / 2 + 1]) / 2 }
		{ n[$1]++; r[$1, n[$1]] = $2; s[$1, n[$1]] = $3; c[$1, n[$1]] = $5 }
		END {
			m = split(order, names, " ")
			for (k = 1; k <= m; k++) {
				x = names[k]
				if (!n[x]) continue
				for (i = 1; i <= n[x]; i++) { a[i] = r[x, i]; b[i] = s[x, i]; d[i] = c[x, i] }
				sorted(a, n[x]); sorted(b, n[x]); sorted(d, n[x])
				printf "  %-44s %8.2f %7.2f to %5.2f %10.2f %10.0f\n", x, median(a, n[x]), a[1], a[n[x]], median(b, n[x]), median(d, n[x])
			}
		}' "$dir/all"
done
cat <<'END'

Method: Mpps is what the sender got rid of, with the kernel's part of the tap in its time; median and range of all rounds. "taken" is the share that the tap counts
as taken; 100 means that nothing was lost at that rate. "reader ns" is processor time of the tap's process for each packet sent.
ring: whole frames; headers: 112 bytes by TCX; -flows: metered in user space; kernel-flows: in the kernel's table. tcpdump and ring have 32 MiB of buffer.
END
