#!/bin/bash
# test/bench/filter_copy.sh: choosing frames of a capture file and copying them, beside tcpdump.
# PACKETS, ROUNDS and FILTER in the environment change the size and the expression.
set -euo pipefail
cd "$(dirname "$0")/../.."

packets=${PACKETS:-1000000} rounds=${ROUNDS:-9} filter=${FILTER:-tcp port 443 or udp port 53}
source test/bench/file_lab.sh
capture mixed "$packets"

ours() { cpu "$crosstap" tap -r "$dir/mixed.pcap" --no-progress "$@"; }
theirs() { cpu tcpdump -n -r "$dir/mixed.pcap" "$@"; }

tasks="count select copy copyng"
run() { # TASK TOOL
	rm -f "$dir/out" # a file that is there is emptied first, which costs too
	case $1.$2 in
	count.crosstap) ours -f "$filter" --to null:frames ;;
	count.tcpdump) theirs -w /dev/null "$filter" ;;
	select.crosstap) ours -f "$filter" --to pcap:"$dir/out" ;;
	select.tcpdump) theirs -w "$dir/out" "$filter" ;;
	copy.crosstap) ours --to pcap:"$dir/out" ;;
	copy.tcpdump | copyng.tcpdump) theirs -w "$dir/out" ;;
	copyng.crosstap) ours --to pcapng:"$dir/out" ;;
	esac
}
for ((i = 0; i < rounds; i++)); do
	for task in $tasks; do
		for tool in crosstap tcpdump; do run $task $tool >>"$dir/$task.$tool"; done
	done
done

# The same frames?
tcpdump -n -r "$dir/mixed.pcap" -w "$dir/theirs" "$filter" 2>/dev/null
"$crosstap" tap -r "$dir/mixed.pcap" --no-progress -f "$filter" --to pcap:"$dir/ours" 2>/dev/null
chosen=$(tcpdump -n -r "$dir/theirs" --count 2>/dev/null | awk '{print $1}')
frames() { tcpdump -n -tt -xx -r "$1" 2>/dev/null | cksum; }
if [ "$(frames "$dir/theirs")" != "$(frames "$dir/ours")" ]; then
	echo "filter_copy: the two do not choose the same frames" >&2
	exit 1
fi

echo "filter and copy: $packets packets, IMIX 7:4:1, half in VXLAN; \"$filter\" matches $chosen, the same in both"
what() {
	case $1 in
	count) echo "read, filter, count" ;;
	select) echo "read, filter, write pcap" ;;
	copy) echo "read all, write pcap" ;;
	copyng) echo "read all, write pcapng (tcpdump: pcap)" ;;
	esac
}
for task in $tasks; do
	printf '\n  %-40s %8s %8s %16s %14s\n' "$(what $task)" "CPU s" "least" "Mpackets/CPU-s" "crosstap is"
	own=$(median "$dir/$task.crosstap")
	for tool in crosstap tcpdump; do
		m=$(median "$dir/$task.$tool")
		least=$(least "$dir/$task.$tool")
		awk -v t="$tool" -v m="$m" -v l="$least" -v n="$packets" -v own="$own" 'BEGIN {
			printf "  %-40s %8.3f %8.3f %16.2f %12.2f x\n", t, m, l, n / m / 1e6, m / own }'
	done
done
cat <<END

Method: user + system time of the whole process by the shell's time, start included; median of $rounds runs, the two tools in turn in
each round; one core (taskset -c $core); input in the page cache, output on $(df --output=fstype "$dir" | tail -1), removed before each run.
crosstap syncs a file to the disk at its end, which tcpdump does not. tcpdump is $(tcpdump --version 2>&1 | head -1 | awk '{print $3}'), with $(tcpdump --version 2>&1 | sed -n 2p).
The capture is written by test/bench/mixedpcap, the same bytes each time.
END
