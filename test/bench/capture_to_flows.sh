#!/bin/bash
# test/bench/capture_to_flows.sh: from a capture file to flow records, beside softflowd, nfpcapd and pmacctd.
# PACKETS and ROUNDS in the environment change the size.
set -euo pipefail
cd "$(dirname "$0")/../.."

packets=${PACKETS:-1000000} rounds=${ROUNDS:-7}
source test/bench/file_lab.sh
capture mixed "$packets"
capture plain "$packets" -plain
mkdir "$dir/nf"
run() { # TOOL FILE
	case $1 in
	crosstap) cpu "$crosstap" tap -r "$2" --to null: ;;
	softflowd) cpu softflowd -d -r "$2" -m 200000 -n 127.0.0.1:9 ;;
	nfpcapd) cpu nfpcapd -r "$2" -w "$dir/nf" ;;
	pmacctd) cpu pmacctd -f "$dir/pmacctd.conf" -I "$2" ;;
	tcpdump) cpu tcpdump -n -r "$2" -w /dev/null ;;
	esac
}

cat >"$dir/pmacctd.conf" <<END
daemonize: false
plugins: print
aggregate: src_host, dst_host, src_port, dst_port, proto, tos
print_output: csv
print_output_file: $dir/pmacctd.csv
print_refresh_time: 3600
print_cache_entries: 131071
plugin_pipe_size: 104857600
plugin_buffer_size: 102400
END

tools="crosstap softflowd nfpcapd tcpdump"
! command -v pmacctd >/dev/null || tools="$tools pmacctd"
for kind in mixed plain; do
	cat "$dir/$kind.pcap" >/dev/null # into the page cache
	for ((i = 0; i < rounds; i++)); do
		for t in $tools; do run "$t" "$dir/$kind.pcap" >>"$dir/$kind.$t"; done
	done
done

records=$("$crosstap" tap -r "$dir/mixed.pcap" --to null: 2>&1 | sed 's/.*; \([0-9]*\) flow records.*/\1/')
echo "capture file to flows: $packets packets, IMIX 7:4:1, $((packets / 20)) conversations, $records flow records of ours"
for kind in mixed plain; do
	echo
	if [ $kind = mixed ]; then echo "half of the conversations inside VXLAN (only crosstap sees their tenants)"; else echo "no VXLAN"; fi
	printf '  %-10s %10s %10s %18s %12s\n' tool "CPU s" "least" "Mpackets/CPU-s" "crosstap is"
	own=$(median "$dir/$kind.crosstap")
	for t in $tools; do
		m=$(median "$dir/$kind.$t")
		least=$(least "$dir/$kind.$t")
		awk -v t="$t" -v m="$m" -v l="$least" -v n="$packets" -v own="$own" 'BEGIN {
			printf "  %-10s %10.3f %10.3f %18.2f %10.2f x\n", t, m, l, n / m / 1e6, m / own }'
	done
done
cat <<END

Method: user + system time of the whole process by the shell's time, start included; median of $rounds runs, all tools in turn in each
round; one core (taskset -c $core); the file in the page cache; crosstap --to null:, softflowd sending NetFlow v5 to a closed port
with room for 200,000 flows, nfpcapd writing its files, pmacctd printing its flows, tcpdump copying to /dev/null without any flow.
The capture is written by test/bench/mixedpcap, the same bytes each time.
END
