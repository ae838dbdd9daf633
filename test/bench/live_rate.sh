#!/bin/bash
# test/bench/live_rate.sh: the rate up to which a tap loses nothing, for packets of 64 bytes and IMIX 7:4:1, beside tcpdump -w /dev/null. One
# processor sends as fast as it can through a veth pair; a tap that is slower than that loses packets, or slows the sender, whose
# processor does the kernel's part of the tap. All taps run in turn in each round.
# As root. ROUNDS, LONG (seconds), FLOWS, SIZES, ONLY (names, separated by |) in the environment; CROSSTAP names the binary.
set -euo pipefail
cd "$(dirname "$0")/../.."

source test/bench/live_lab.sh

rounds=${ROUNDS:-5} long=${LONG:-3} flows=${FLOWS:-1000} sizes=${SIZES:-64 0} only=${ONLY:-.}
[ "$(nproc)" -ge 2 ] || { echo "live_rate: needs 2 processors: one sends, one taps" >&2; exit 1; }
space a b
at a ip link add eth0 type veth peer name eth0 address 02:00:00:00:09:09 netns "${id}b"
for n in a b; do at $n ip link set eth0 up; done

start() { # NAME
	local ring="-i eth0 --ingress-only --ring 32MiB"
	case $1 in
	none) echo 'listening on nothing' >&2; exec sleep 1000 ;;
	ring) tap b $ring --path ring --to null:frames ;;
	ring-flows) tap b $ring --path ring --to null: ;;
	headers) tap b $ring --path tcx --snap 112 --to null:frames ;;
	headers-flows) tap b $ring --path tcx --snap 160 --to null: ;;
	kernel-flows) tap b -i eth0 --ingress-only --path tcx --to null: ;;
	tcpdump) exec ip netns exec "${id}b" tcpdump -i eth0 -Q in -B 32768 -w /dev/null ;;
	tcpdump-96) exec ip netns exec "${id}b" tcpdump -i eth0 -Q in -s 96 -B 32768 -w /dev/null ;;
	*) peer b eth0 "$1" ;;
	esac
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
	begin "$1" start "$1"
	local before after sent took pid=${monitors[0]}
	before=$(cputime "$pid")
	"$dir/livegen" -netns "/run/netns/${id}a" -size "$2" -rate 0 -flows "$flows" -for "${long}s" -core 0 >"$dir/gen"
	sleep 0.3
	after=$(cputime "$pid")
	if [ "$1" = softflowd ]; then took=$(softflowctl -c "$dir/sf.ctl" statistics 2>/dev/null | awk '/[Pp]ackets processed/ {print $NF}'); fi
	stop_all
	sent=$(jq .sent "$dir/gen")
	took=${took:-$(seen "$1" "$sent")}
	jq -r --argjson took "${took:-0}" --argjson t $((after - before)) \
		'"\(.sent / .seconds / 1e6) \($took / .sent * 100) \(.ns_per_packet) \($t / .sent)"' "$dir/gen"
}
list=(none ring ring-flows headers headers-flows kernel-flows tcpdump tcpdump-96 softflowd)
echo "live rate: $flows flows, $rounds rounds of $long s, $(machine)"
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
	awk -v order="${list[*]}" "$statistics"'
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
