# test/bench/file_lab.sh: what capture_to_flows.sh, dedup.sh, dissect.sh and filter_copy.sh share: capture files, processor time, statistics. They read it
# with "source", after cd to the root of the checkout. CROSSTAP names the binary.
# shellcheck shell=bash
crosstap=${CROSSTAP:-bin/crosstap}
core=$(($(nproc) - 1))
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
go build -o "$dir/mixedpcap" ./test/bench/mixedpcap

capture() { # NAME PACKETS [OPTION…]: the file NAME.pcap, in the page cache
	"$dir/mixedpcap" -packets "$2" "${@:3}" "$dir/$1.pcap"
	cat "$dir/$1.pcap" >/dev/null
}
# cpu COMMAND…: user and system seconds of one run on one core
cpu() {
	local TIMEFORMAT='%3U %3S'
	{ time taskset -c "$core" "$@" >/dev/null 2>"$dir/err" || { cat "$dir/err" >&2; false; }; } 2>&1 | tail -1 | awk '{print $1 + $2}'
}
median() { awk -v c="${2:-1}" '{print $c}' "$1" | sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; } # FILE [COLUMN]
least() { sort -n "$1" | head -1; }                                                                             # FILE
