#!/bin/bash
# test/bench/dedup.sh: dropping duplicates of a capture file, beside editcap.
# PACKETS, ROUNDS and WIDE (packets of the file for the widest window) in the environment change the size.
set -euo pipefail
cd "$(dirname "$0")/../.."

packets=${PACKETS:-1000000} rounds=${ROUNDS:-5} wide=${WIDE:-100000}
crosstap=${CROSSTAP:-bin/crosstap}
core=$(($(nproc) - 1))
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
go build -o "$dir/mixedpcap" ./test/bench/mixedpcap
"$dir/mixedpcap" -packets "$packets" "$dir/all.pcap"
"$dir/mixedpcap" -packets "$wide" "$dir/wide.pcap"
cat "$dir/all.pcap" "$dir/wide.pcap" >/dev/null # into the page cache

# cpu COMMAND…: user and system seconds of one run on one core
cpu() {
	local TIMEFORMAT='%3U %3S'
	{ time taskset -c "$core" "$@" >/dev/null 2>"$dir/err" || { cat "$dir/err" >&2; false; }; } 2>&1 | tail -1 | awk '{print $1 + $2}'
}
# A window of N packets for editcap counts the packet itself.
steps() { # WINDOW FORM
	local w="dedup=1h/same-point"
	case $1 in
	50ms) w="dedup=50ms/same-point" ;;
	*) w="$w/packets=$(($1 - 1))" ;;
	esac
	if [ "$2" = frame ]; then w="$w/frame"; fi
	echo "$w"
}
file() { if [ "$1" = 50ms ] || [ "$1" -gt 1000 ]; then echo "$dir/wide.pcap"; else echo "$dir/all.pcap"; fi; }
run() { # WINDOW TOOL
	rm -f "$dir/out"
	local in
	in=$(file "$1")
	case $2 in
	frame | packet) cpu "$crosstap" tap -r "$in" --no-progress --groom "$(steps "$1" "$2")" --to null:frames ;;
	frame-write) cpu "$crosstap" tap -r "$in" --no-progress --groom "$(steps "$1" frame)" --to pcap:"$dir/out" ;;
	editcap) if [ "$1" = 50ms ]; then cpu editcap -F pcap -w 0.05 "$in" "$dir/out"; else cpu editcap -F pcap -D "$1" "$in" "$dir/out"; fi ;;
	esac
}
windows="5 1000 10000 50ms"
tools="frame-write frame packet editcap"
for ((i = 0; i < rounds; i++)); do
	for w in $windows; do
		for t in $tools; do
			if [ "$i" -eq 0 ] || [ "$t" != editcap ] || [ "$(file "$w")" = "$dir/all.pcap" ]; then run "$w" "$t" >>"$dir/$w.$t"; fi
		done
	done
done

# The same duplicates?
for w in $windows; do
	ours=$("$crosstap" tap -r "$(file "$w")" --no-progress --groom "$(steps "$w" frame)" --to null:frames 2>&1 | sed -n 's/.*dedup: \([0-9]*\) frames duplicate.*/\1/p')
	if [ "$w" = 50ms ]; then set -- -w 0.05; else set -- -D "$w"; fi
	theirs=$(editcap "$@" "$(file "$w")" /dev/null 2>&1 | sed -n 's/.*, \([0-9]*\) packets skipped.*/\1/p')
	echo "${ours:-0} $theirs" >"$dir/$w.found"
done

median() { sort -n "$1" | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }
echo "duplicates: IMIX 7:4:1, half in VXLAN, all frames of one copy point"
name() {
	case $1 in
	frame-write) echo "crosstap, frames, writes the rest" ;;
	frame) echo "crosstap, frames, counts the rest" ;;
	packet) echo "crosstap, packets, counts the rest" ;;
	editcap) echo "editcap, frames, writes the rest" ;;
	esac
}
for w in $windows; do
	n=$packets
	if [ "$(file "$w")" = "$dir/wide.pcap" ]; then n=$wide; fi
	read -r ours theirs <"$dir/$w.found"
	printf '\n  %-40s %10s %10s %16s %14s\n' "window $w, $n packets" "CPU s" "least" "Mpackets/CPU-s" "beside editcap"
	peer=$(median "$dir/$w.editcap")
	for t in $tools; do
		awk -v t="$(name "$t")" -v m="$(median "$dir/$w.$t")" -v l="$(sort -n "$dir/$w.$t" | head -1)" -v n="$n" -v peer="$peer" 'BEGIN {
			printf "  %-40s %10.3f %10.3f %16.2f %12.1f x\n", t, m, l, n / m / 1e6, peer / m }'
	done
	echo "  duplicates found: $ours by crosstap (frames), $theirs by editcap"
done
cat <<END

Method: user + system time of the whole process by the shell's time, start included; median of $rounds runs (editcap with the windows over
1000 packets: one), all in turn in each round; one core (taskset -c $core); input in the page cache, output on $(df --output=fstype "$dir" | tail -1), removed before each run.
"frames" compares whole frames, as editcap does; "packets" is the default key: IP and transport headers without TTL and checksums,
and the payload. crosstap syncs a file to the disk at its end, which editcap does not. editcap hashes each frame with MD5 and compares it with every one in its
window, so its time grows with the window; crosstap's does not. editcap is $(editcap --version 2>/dev/null | head -1 | awk '{print $3}').
The capture is written by test/bench/mixedpcap, the same bytes each time.
END
