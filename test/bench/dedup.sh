#!/bin/bash
# test/bench/dedup.sh: dropping duplicates of a capture file, beside editcap.
# PACKETS, ROUNDS and WIDE (packets of the file for the widest window) in the environment change the size.
set -euo pipefail
cd "$(dirname "$0")/../.."

packets=${PACKETS:-1000000} rounds=${ROUNDS:-5} wide=${WIDE:-100000}
source test/bench/file_lab.sh
agent=${AGENT:-bin/crosstap-agent}
capture all "$packets"
capture wide "$wide"
taskset -cp "$core" $$ >/dev/null

# spent COMMAND…: user and system seconds of one run, and the seconds it took
spent() {
	local TIMEFORMAT='%3U %3S %3R'
	{ time "$@" >/dev/null 2>"$dir/err" || { cat "$dir/err" >&2; false; }; } 2>&1 | tail -1 | awk '{print $1 + $2, $3}'
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
	local in
	in=$(file "$1")
	case $2 in
	frame | packet) spent "$crosstap" tap -r "$in" --no-progress --groom "$(steps "$1" "$2")" --to null:frames ;;
	agent) spent "$agent" tap -r "$in" --no-progress --groom "$(steps "$1" frame)" --to null:frames ;;
	frame-write) spent "$crosstap" tap -r "$in" --no-progress --groom "$(steps "$1" frame)" --to pcap:/dev/null ;;
	agent-write) spent "$agent" tap -r "$in" --no-progress --groom "$(steps "$1" frame)" --to pcap:/dev/null ;;
	editcap) if [ "$1" = 50ms ]; then spent editcap -F pcap -w 0.05 "$in" /dev/null; else spent editcap -F pcap -D "$1" "$in" /dev/null; fi ;;
	esac
}
windows="5 100 1000 10000 50ms"
tools="frame frame-write packet editcap"
if [ -x "$agent" ]; then tools="agent agent-write $tools"; fi
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

echo "duplicates: IMIX 7:4:1, half in VXLAN, all frames of one copy point; load $(cut -d' ' -f1-3 /proc/loadavg)"
name() {
	case $1 in
	agent) echo "agent, frames, counts the rest" ;;
	agent-write) echo "agent, frames, writes the rest" ;;
	frame) echo "crosstap, frames, counts the rest" ;;
	frame-write) echo "crosstap, frames, writes the rest" ;;
	packet) echo "crosstap, packets, counts the rest" ;;
	editcap) echo "editcap, frames, writes the rest" ;;
	esac
}
for w in $windows; do
	n=$packets
	if [ "$(file "$w")" = "$dir/wide.pcap" ]; then n=$wide; fi
	read -r ours theirs <"$dir/$w.found"
	printf '\n  %-36s %8s %8s %15s %17s %12s\n' "window $w, $n packets" "CPU s" "least" "Mpackets/CPU-s" "editcap's CPU is" "its time is"
	cpu=$(median "$dir/$w.editcap" 1) real=$(median "$dir/$w.editcap" 2)
	for t in $tools; do
		awk -v t="$(name "$t")" -v m="$(median "$dir/$w.$t" 1)" -v l="$(sort -n "$dir/$w.$t" | head -1 | cut -d' ' -f1)" -v r="$(median "$dir/$w.$t" 2)" -v n="$n" -v cpu="$cpu" -v real="$real" 'BEGIN {
			printf "  %-36s %8.3f %8.3f %15.2f %15.1f x %10.1f x\n", t, m, l, n / m / 1e6, cpu / m, real / r }'
	done
	echo "  duplicates found: $ours by crosstap (frames), $theirs by editcap"
done
cat <<END

Method: user + system time of the whole process by the shell's time, start included, and the time it took; median of $rounds runs (editcap with the
windows over 1000 packets: one), all in turn in each round; one core, which the shell is on, too; input in the page cache, on $(df --output=fstype "$dir" | tail -1); what is written goes
to /dev/null, of both. "frames" compares whole frames, as editcap does; "packets" is the default key: IP and transport headers without TTL
and checksums, and the payload. The agent is the small binary of make agent: the same tap, without the libraries of the server, whose
start is a part of the time. editcap hashes each frame with MD5 and compares it with every one in its window, so its time grows with the
window; crosstap's does not. editcap is $(editcap --version 2>/dev/null | head -1 | awk '{print $3}').
The capture is written by test/bench/mixedpcap, the same bytes each time.
END
