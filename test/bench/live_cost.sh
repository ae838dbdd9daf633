#!/bin/bash
# test/bench/live_cost.sh: what a tap costs the application whose packets it sees. A VM sends 200,000 packets of 512 bytes a second through a
# Linux bridge to another one; on virtual links all the work of the way, taps included, is done in the sender's time. Packets go
# in slices of 10 ms by turns through the bridge with the tap and through one like it without: what is shown is by how much the one is dearer
# than the other, less what that is without any tap. Each tap runs ROUNDS times.
#
# The bars are those of a trial, in which the packet without a tap cost 771 ns: they are shown, like what is measured, as a part of that packet. Where the folder TRIAL
# (../shared/prototypes/ebpf) has the trial's own programs, and clang is there, they run by turns with ours: trial-filter and so on.
# As root. ROUNDS, LONG (seconds each), RATE, SIZE, ONLY (names, separated by |), TRIAL in the environment; CROSSTAP names the binary.
set -euo pipefail
cd "$(dirname "$0")/../.."

source test/bench/live_lab.sh

rounds=${ROUNDS:-9} long=${LONG:-2} rate=${RATE:-200000} size=${SIZE:-512} only=${ONLY:-.}
[ "$(nproc)" -ge 2 ] || { echo "live_cost: needs 2 processors: one sends, one taps" >&2; exit 1; }
more_cleanup() {
	local name
	for name in vswitchd ovsdb; do
		if [ -s "$dir/ovs/$name.pid" ]; then kill "$(cat "$dir/ovs/$name.pid")" 2>/dev/null || true; fi
	done
}
bridge 02:00:00:00:08:08 02:00:00:00:09:09
second 02:00:00:00:08:08 02:00:00:00:09:09
for port in p2 q2; do at h bridge fdb add 02:00:00:00:09:09 dev $port master static; done
at h ip link add vx0 type vxlan id 77 remote 10.7.0.9 dstport 4789 dev up0 nolearning
at h ip link set vx0 up

# The programs of the trial, compiled as there.
trial=${TRIAL:-../shared/prototypes/ebpf}/cx.bpf.c untried=
if [ ! -r "$trial" ]; then
	untried="$trial is not there"
elif ! command -v clang >/dev/null || [ ! -r /usr/include/bpf/bpf_helpers.h ]; then
	untried='it needs clang and libbpf-dev'
elif ! clang -O2 -g -mcpu=v3 -target bpf "-I/usr/include/$(uname -m)-linux-gnu" -c "$trial" -o "$dir/trial.o" 2>"$dir/clang.err"; then
	untried="clang: $(head -1 "$dir/clang.err")"
else
	go build -o "$dir/trial" ./test/bench/trial
fi
tried() { # ARGUMENT…: a program of the trial
	exec ip netns exec "${id}h" "$dir/trial" -object "$dir/trial.o" -i p1 "$@"
}

start() { # NAME
	case $1 in
	mirror) tap h -i p1 --path tcx --to "$to_tool" ;;
	mirror-slice) tap h -i p1 --path tcx --groom slice=128 --to "$to_tool" ;;
	erspan2) tap h -i p1 --path tcx --groom slice=128 --to 'erspan2://10.7.0.9?session=7&probe=no' ;;
	ring-96) tap h -i p1 --path ring --snap 96 --to null:frames ;;
	ring) tap h -i p1 --path ring --to null:frames ;;
	ring-vxlan) tap h -i p1 --path ring --to "$to_tool" ;;
	trial-filter) tried -program cx_tap -proto 6 -port 9999 -out vx0 ;;
	trial-metering) tried -program cx_flow ;;
	trial-headers) tried -program cx_ring ;;
	trial-mirror-16) tried -program cx_tap -sample 16 -out vx0 ;;
	trial-mirror) tried -program cx_tap -out vx0 ;;
	*) at_port "$1" ;;
	esac
}
mirred() { # on or off
	if [ "$1" = off ]; then
		at h tc qdisc del dev p1 clsact
		return
	fi
	at h tc qdisc add dev p1 clsact
	for way in ingress egress; do at h tc filter add dev p1 $way protocol all u32 match u32 0 0 action mirred egress mirror dev vx0; done
}
# measure tells by how much the tapped way is dearer, what the other one costs, and the time of the monitor's processes for each packet of the
# tapped way, all in nanoseconds.
measure() { # NAME
	case $1 in
	none) ;;
	mirred) mirred on ;;
	*) begin "$1" start "$1" ;;
	esac
	local before=0 after=0 pid=${monitors[0]:-}
	if [ -n "$pid" ]; then before=$(cputime "$pid"); fi
	taskset -c 0 "$dir/livegen" -netns "/run/netns/${id}a" -beside "/run/netns/${id}c" -size "$size" -rate "$rate" -for "${long}s" -core 0 >"$dir/gen"
	if [ -n "$pid" ]; then after=$(cputime "$pid"); fi
	stop_all
	if [ "$1" = mirred ]; then mirred off; fi
	jq -r --argjson t $((after - before)) '"\(.beside.more_ns) \(.beside.ns_per_packet) \($t / .sent)"' "$dir/gen"
}

list=(hook filter metering headers mirror-16 mirror mirror-slice erspan2 ring-96 ring ring-flows ring-vxlan tcpdump-96 tcpdump softflowd mirred)
if [ -z "$untried" ]; then list+=(trial-filter trial-metering trial-headers trial-mirror-16 trial-mirror); fi
bars='filter=25 metering=60 headers=100 mirror-16=100 ring=200 ring-flows=200 mirror=750' # ns, of a packet of 771
echo "live cost: $rate packets of $size bytes a second through a Linux bridge, $rounds rounds of $long s each, $(machine)"
for round in $(seq "$rounds"); do
	for name in "${list[@]}"; do
		[[ $name =~ ^($only)$ || $only = . ]] || continue
		read -r uneven base _ < <(measure none)
		read -r more beside cpu < <(measure "$name")
		echo "$name $uneven $base $more $beside $cpu" >>"$dir/all"
	done
done
printf '\n  %-15s %8s %17s %8s %17s %6s %-5s %10s %10s\n' tap 'added ns' 'interval' 'part %' 'interval' 'bar %' '' 'elsewhere' 'reader ns'
touch "$dir/all"
sort "$dir/all" | awk -v order="${list[*]}" -v bars="$bars" "$statistics"'
	BEGIN { m = split(bars, b, " "); for (i = 1; i <= m; i++) { split(b[i], w, "="); bar[w[1]] = bar["trial-" w[1]] = w[2] / 771 * 100 } }
	{ i = ++n[$1]; add[$1, i] = $4 - $2; part[$1, i] = ($4 - $2) / $3 * 100; far[$1, i] = $5 - $3; cpu[$1, i] = $6; all[++total] = $3 }
	# A bar is reached when the median is below it; when the interval is on both sides, the measurement does not say.
	function verdict(middle, lo, hi, most) { return hi <= most ? "holds" : lo > most ? "not" : middle <= most ? "holds?" : "not?" }
	END {
		m = split(order, names, " ")
		for (k = 1; k <= m; k++) {
			x = names[k]
			if (!n[x]) continue
			for (i = 1; i <= n[x]; i++) { a[i] = add[x, i]; p[i] = part[x, i]; f[i] = far[x, i]; c[i] = cpu[x, i] }
			sorted(a, n[x]); sorted(p, n[x]); sorted(f, n[x]); sorted(c, n[x])
			lo = low(n[x]); hi = n[x] + 1 - lo
			limit = word = ""
			if (x in bar) { limit = sprintf("%.1f", bar[x]); word = verdict(median(p, n[x]), p[lo], p[hi], bar[x]) }
			printf "  %-15s %+8.0f %6.0f to %7.0f %8.1f %6.1f to %7.1f %6s %-6s %+9.0f %10.0f\n", x, median(a, n[x]), a[lo], a[hi], median(p, n[x]), p[lo], p[hi], limit, word, median(f, n[x]), median(c, n[x])
		}
		sorted(all, total)
		if (total) printf "\n  without a tap %.0f ns, median of %d\n", median(all, total), total
	}'
if [ -n "$untried" ]; then echo "  the programs of the trial did not run: $untried"; fi
# Open vSwitch moves packets in a process of its own: what a mirror adds is there.
switch() {
	local o=$dir/ovs
	mkdir -p "$o"
	export OVS_RUNDIR=$o OVS_LOGDIR=$o OVS_DBDIR=$o OVS_SYSCONFDIR=$o
	space o e f m
	for n in e f m; do
		at o ip link add "s$n" type veth peer name eth0 netns "$id$n"
		at o ip link set "s$n" up
		at $n ip link set eth0 up
	done
	ovsdb-tool create "$o/conf.db" /usr/share/openvswitch/vswitch.ovsschema
	ip netns exec "${id}o" ovsdb-server "$o/conf.db" --remote="punix:$o/db.sock" --unixctl="$o/ovsdb.ctl" --pidfile="$o/ovsdb.pid" --no-chdir -vconsole:off --detach
	ovs-vsctl --db="unix:$o/db.sock" --no-wait init
	ip netns exec "${id}o" ovs-vswitchd "unix:$o/db.sock" --unixctl="$o/vswitchd.ctl" --pidfile="$o/vswitchd.pid" --no-chdir -vconsole:off --log-file="$o/vswitchd.log" --detach
	vsctl add-br br0 -- set bridge br0 datapath_type=netdev -- add-port br0 se -- add-port br0 sf -- add-port br0 sm
	ovs-ofctl add-flow "unix:$o/br0.mgmt" 'in_port=se,actions=output:sf' 2>/dev/null || true
}
vsctl() { ovs-vsctl --db="unix:$dir/ovs/db.sock" "$@"; }
mirrored() { # yes or no: microseconds of the switch for each packet
	if [ "$1" = yes ]; then
		vsctl -- --id=@p get port sm -- --id=@m create mirror name=m select-all=true output-port=@p -- set bridge br0 mirrors=@m >/dev/null
	else
		vsctl clear bridge br0 mirrors
	fi
	ovs-appctl -t "$dir/ovs/vswitchd.ctl" revalidator/purge
	local pid before after
	pid=$(cat "$dir/ovs/vswitchd.pid")
	before=$(ticks "$pid")
	"$dir/livegen" -netns "/run/netns/${id}e" -dst 02:00:00:00:00:0f -size "$size" -rate "${OVS_RATE:-30000}" -for "${long}s" -core 0 >"$dir/gen"
	after=$(ticks "$pid")
	jq -r --argjson t $((after - before)) --argjson hz "$(getconf CLK_TCK)" '$t / $hz * 1e6 / .sent' "$dir/gen"
}
if [[ ovs =~ ^($only) ]] && command -v ovs-vswitchd >/dev/null; then
	switch
	for round in $(seq "$rounds"); do
		echo "$(mirrored no) $(mirrored yes)" >>"$dir/ovs.all"
	done
	for name in vswitchd ovsdb; do kill "$(cat "$dir/ovs/$name.pid")" 2>/dev/null || true; done
	awk "$statistics"'
		{ n++; base[n] = $1; d[n] = $2 - $1 }
		END { sorted(base, n); sorted(d, n); printf "\n  Open vSwitch (user space), all packets mirrored to a port: ovs-vswitchd %.2f us a packet, and %+.2f us with the mirror (%.2f to %.2f)\n", median(base, n), median(d, n), d[1], d[n] }' "$dir/ovs.all"
fi
cat <<END

Method: processor time of the sending thread for each packet, which on virtual links has in it all that the kernel does for the packet, taps
included. "added" is by how much a packet of the tapped bridge is dearer than one of the other, which is sent in the same run by turns, less the same
without a tap: median of the rounds with the interval that a sign test gives it. "part" is that as a part of what a packet costs without a tap, on this machine and in the
same round, and "bar" the same of the trial: 25, 60, 100, 200 and 750 ns of a packet that cost 771 there. A machine whose kernel needs five times as long for a packet (calls and
returns that guard against speculation) needs so much longer for a program, too; trial-filter to trial-mirror are the programs with which those 771 ns were measured, here and now: the
metering has a table of the kernel, headers a ring buffer of the kernel that is read fifty times a second, copies go to a kernel VXLAN device. "elsewhere" is what packets of the other bridge cost more while the tap runs
(a packet socket has the kernel stamp the time on the packets of all interfaces); it is not in "added", and as uncertain as the machine is quiet. The
sender has processor 0 to itself, taps run where the kernel puts them. "reader" is processor time of the tap's own process for each packet that it sees.
hook: a program at the TCX hooks that does nothing, which is the least that any program there costs on this kernel. filter: no packet
matches. mirror-16: one packet in 16, VXLAN. mirror, mirror-slice, erspan2: all, the latter two cut to 128 bytes.
$(tcpdump --version 2>&1 | head -1), softflowd $(dpkg-query -W -f '${Version}' softflowd 2>/dev/null || echo none), mirred: tc u32 and mirred to a kernel VXLAN device.
END
