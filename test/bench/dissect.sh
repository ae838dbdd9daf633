#!/bin/bash
# test/bench/dissect.sh: every layer of every frame of a capture file, beside tcpdump's filter and tshark.
# PACKETS, ROUNDS, FILTER and TSHARK_PACKETS in the environment change the size and tcpdump's expression.
set -euo pipefail
cd "$(dirname "$0")/../.."

packets=${PACKETS:-1000000} rounds=${ROUNDS:-9} few=${TSHARK_PACKETS:-50000} filter=${FILTER:-tcp port 443 or udp port 53}
source test/bench/file_lab.sh
capture mixed "$packets"
capture few "$few"

run() { # TOOL
	case $1 in
	crosstap) cpu "$crosstap" tap -r "$dir/mixed.pcap" --no-progress --groom strip=tzsp --to null:frames ;;
	tcpdump) cpu tcpdump -n -r "$dir/mixed.pcap" -w /dev/null "$filter" ;;
	tshark) cpu tshark -n -r "$dir/few.pcap" -T fields -e frame.protocols ;;
	esac
}
tools="crosstap tcpdump tshark"
for ((i = 0; i < rounds; i++)); do
	for t in $tools; do
		if [ "$t" != tshark ] || [ "$i" -lt 3 ]; then run "$t" >>"$dir/$t"; fi
	done
done

echo "dissection: IMIX 7:4:1, half in VXLAN; tcpdump only filters: \"$filter\""
printf '\n  %-10s %10s %10s %10s %16s %14s\n' tool packets "CPU s" "least" "Mpackets/CPU-s" "crosstap is"
own=$(median "$dir/crosstap")
for t in $tools; do
	n=$packets
	if [ "$t" = tshark ]; then n=$few; fi
	awk -v t="$t" -v m="$(median "$dir/$t")" -v l="$(least "$dir/$t")" -v n="$n" -v all="$packets" -v own="$own" 'BEGIN {
		printf "  %-10s %10d %10.3f %10.3f %16.2f %12.2f x\n", t, n, m, l, n / m / 1e6, m / n / (own / all) }'
done
cat <<END

Method: user + system time of the whole process by the shell's time, start included; median of $rounds runs (tshark: 3), all tools in turn
in each round; one core (taskset -c $core); the file in the page cache. crosstap finds every layer of every frame with the inner and outer
addresses and ports, because the step it is given (strip of a header that is not there) has to know. tshark prints the names of
the layers, of fewer packets, as it is slow: its start is a part of its time. Its version is $(tshark --version 2>/dev/null | head -1 | awk '{print $3}').
The capture is written by test/bench/mixedpcap, the same bytes each time.
END
