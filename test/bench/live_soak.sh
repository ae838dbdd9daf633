#!/bin/bash
# test/bench/live_soak.sh: the built binary under load for LONG, at 80 % of the rate up to which nothing is lost. On a host with a bridge run an agent
# with three taps of one port (packet ring, flow table in the kernel, mirror in the kernel), under a server, and a tap of the same port with five destinations. Meanwhile,
# by chance: the server, tools (a TLS receiver, a client of remote capture, a collector) and a second agent are killed with -9 and started again; the links of server and tool
# go down and up; specifications of the first agent change; a netem qdisc delays and loses what goes to the server, where the kernel has it.
#
# The books must agree with what others counted, to the packet: the port itself, a tcpdump beside (all frames, and those of the mirror's filter), and the interface that the
# copies leave by; between the parts of the run, while the taps go on, and at the end. The application loses nothing. Memory does not grow. Of what was killed nothing is left in the
# kernel: programs of TCX at once, those of tc after their lease and the next start.
# As root. LONG (10m), RATE (packets a second; measured unless given), SEED in the environment; CROSSTAP names the binary.
set -euo pipefail
cd "$(dirname "$0")/../.."

source test/bench/live_lab.sh

go build -o "$dir/tcxcount" ./test/bench/tcxcount
long=${LONG:-10m}
case $long in *m) long=$((${long%m} * 60)) ;; *s) long=${long%s} ;; esac
RANDOM=${SEED:-$$}
mkfifo "$dir/silence"
exec 9<>"$dir/silence" # input that never ends, for openssl
declare -A pids=()
faults=0
fault() {
	echo "soak: WRONG: $*" >&2
	faults=$((faults + 1))
}
run() { # NAME SPACE COMMAND…: a process in the background
	(exec ip netns exec "$id$2" "${@:3}") >>"$dir/$1.out" 2>>"$dir/$1.err" <&9 &
	pids[$1]=$!
}
murder() { # NAME: as a crash would
	kill -9 "${pids[$1]}" 2>/dev/null || true
	wait "${pids[$1]}" 2>/dev/null || true
}
more_cleanup() {
	local p
	for p in "${pids[@]}"; do kill -9 "$p" 2>/dev/null || true; done
	wait 2>/dev/null || true
}
eventually() { # SECONDS COMMAND…: until it succeeds
	local end=$((SECONDS + $1))
	until "${@:2}" 2>/dev/null; do
		if [ $SECONDS -ge $end ]; then return 1; fi
		sleep 0.2
	done
}

# The lab: what live_lab.sh has, a link up1 to the server's host s, and a link up2 to more tools in u.
bridge 02:00:00:00:08:08 02:00:00:00:09:09
way() { # INTERFACE NUMBER SPACE: 10.NUMBER.0.1 on the host, 10.NUMBER.0.9 there
	space "$3"
	at h ip link add "$1" type veth peer name eth0 netns "$id$3"
	at h ip link set "$1" up
	at h ip addr add "10.$2.0.1/24" dev "$1"
	at "$3" ip link set eth0 up
	at "$3" ip addr add "10.$2.0.9/24" dev eth0
}
way up1 8 s
way up2 6 u
at a ip addr add 10.9.0.1/24 dev eth0
at b ip addr add 10.9.0.2/24 dev eth0
at a ip neigh replace 10.9.0.2 lladdr 02:00:00:00:09:09 dev eth0 nud permanent
at b ip neigh replace 10.9.0.1 lladdr 02:00:00:00:08:08 dev eth0 nud permanent
at h bridge fdb add 02:00:00:00:08:08 dev p1 master static
at h bridge fdb add 02:00:00:00:09:09 dev p2 master static
at t ip addr flush dev eth0 # it answers nothing

stat() { at "$1" cat "/sys/class/net/$2/statistics/$3"; } # SPACE INTERFACE COUNTER
port() { echo $(($(stat h p1 rx_packets) + $(stat h p1 tx_packets))); }
# What programs at the port see, and rings do not: what the port itself drops behind the hook (its receiver's queue was full).
unsent() { stat h p1 tx_dropped; }

# What runs.
server() { run server s "$crosstap" serve --data "$dir/store" --http 127.0.0.1:8474 --flows 10.8.0.9:4739 --flows tcp://10.8.0.9:4739 --agents 10.8.0.9:8475; }
receiver() { # pcapng over TLS with certificates on both sides
	run receiver u openssl s_server -accept 10.6.0.9:9443 -cert "$dir/u.pem" -key "$dir/u.key" -CAfile "$dir/ca.pem" -Verify 1 -verify_return_error -quiet -naccept 100000
}
client() { run client u "$crosstap" capture rpcap://10.6.0.1/p1 udp -w /dev/null; }
collector() { run collector u nfcapd -p 9995 -w "$dir/nfcapd" -t 3600; }
agent() { # NAME PORT
	mkdir -p "$dir/$1"
	run "$1" h "$crosstap" agent --server https://10.8.0.9:8475 --token "$dir/token" --name "$1" --state "$dir/$1" --metrics "127.0.0.1:$2"
}
certificate() { # NAME ADDRESS
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$dir/$1.key" -out "$dir/$1.csr" -subj "/CN=$1" 2>/dev/null
	openssl x509 -req -in "$dir/$1.csr" -CA "$dir/ca.pem" -CAkey "$dir/ca.key" -CAcreateserial -days 2 -out "$dir/$1.pem" -extfile <(echo "subjectAltName=IP:$2") 2>/dev/null
}
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$dir/ca.key" -out "$dir/ca.pem" -days 2 -subj /CN=ca 2>/dev/null
certificate u 10.6.0.9
certificate h 10.6.0.1
mkdir -p "$dir/store" "$dir/nfcapd" "$dir/files"
"$crosstap" token create --data "$dir/store" --role agent-payload >"$dir/token"
"$crosstap" token create --data "$dir/store" --role operator >"$dir/operator"
few='udp src portrange 1024-1123 or tcp'
cat >"$dir/h1.yaml" <<END
taps:
- {name: ring, source: {interfaces: [p1], path: ring}, meter: {idle: 2s, active: 4s}, to: [{url: 'ipfix+tcp://10.8.0.9'}]}
- {name: kernel, source: {interfaces: [p1], path: tcx}, meter: {idle: 2s, active: 5s}, to: [{url: 'ipfix+tcp://10.8.0.9'}]}
- {name: mirror, source: {interfaces: [p1], path: tcx}, filter: '$few', groom: [slice=128], to: [{url: 'vxlan://10.7.0.9?vni=77&probe=no'}]}
END
cat >"$dir/h2.yaml" <<END
taps:
- {name: table, source: {interfaces: [p1], path: clsact}, to: [{url: 'null:'}]}
- {name: copies, source: {interfaces: [p1], path: tcx}, groom: [sample=64], to: [{url: 'vxlan://10.6.0.9?vni=79&probe=no&mtu=slice'}]}
END
sed "s/active: 5s/active: 6s/; s/'udp/'ip and udp/" "$dir/h1.yaml" >"$dir/h1.other" # the same packets, by other specifications
scrape() { at h curl -sS --max-time 20 "http://127.0.0.1:$1/metrics"; }
listens() { [ -n "$(at "$1" ss -Hltn "sport = :$2")" ]; }
given() { at s "$crosstap" agent taps "$1" --server https://10.8.0.9:8475 --token "$dir/operator" -f "$dir/$1.yaml" >/dev/null 2>"$dir/given.err"; }
running() { [ "$(scrape "$1" 2>/dev/null | grep -c '^crosstap_tap_running.* 1$')" = "$2" ]; }
dead() {
	tail -n 20 "$dir"/*.err >&2
	echo "soak: $*" >&2
	exit 1
}

server
eventually 60 listens s 8475 || dead 'no server'
receiver
collector
for n in h1 h2; do eventually 60 given $n || dead "no taps for $n"; done
before=$(port) unsent=$(unsent) up0=$(($(stat h up0 tx_packets) + $(stat h up0 tx_dropped))) far=$(stat t eth0 rx_packets)
agent h1 9475
agent h2 9476
to=(--to 'vxlan://10.7.0.9:4790?vni=78&probe=no&filter=udp src portrange 1200-1249'
	--to "pcapng:$dir/files/f.pcapng?size=4MiB&files=4&budget=40MiB&filter=udp src portrange 1300-1349"
	--to "tls://10.6.0.9:9443?ca=$dir/ca.pem&cert=$dir/h.pem&key=$dir/h.key&filter=udp src portrange 1400-1449"
	--to 'rpcap://10.6.0.1?open=yes' --to 'ipfix://10.6.0.9:9995')
run tap h "$crosstap" tap -i p1 --path ring --idle 2s --active 5s --metrics 127.0.0.1:9474 "${to[@]}"
run tcpdump h tcpdump -i p1 -n -B 65536 -w /dev/null
run few h tcpdump -i p1 -n -B 65536 -w /dev/null "$few"
for n in tcpdump few; do eventually 60 grep -q 'listening on' "$dir/$n.err" || dead "no $n"; done
eventually 60 running 9475 3 || dead 'the taps of h1 do not run'
eventually 60 running 9476 2 || dead 'the taps of h2 do not run'
eventually 60 running 9474 1 || dead 'the tap does not run'
client
run iperf b iperf3 -s
eventually 60 listens b 5201 || dead 'no iperf3'

# Sums of what metrics say.
value() { # FILE NAME LABEL…: the sum of all lines that have the labels
	awk -v name="crosstap_tap_$2" -v labels="${*:3}" '
		BEGIN { n = split(labels, want, " ") }
		index($0, name "{") == 1 { for (i = 1; i <= n; i++) if (!index($0, want[i])) next; sum += $NF }
		END { printf "%.0f", sum }' "$1"
}
unbalanced() { # FILE: stages whose books do not add up
	awk '/^crosstap_tap_stage_/ {
			name = $1; sub(/\{.*/, "", name); sub(/^crosstap_tap_stage_/, "", name); sub(/_total$/, "", name)
			label = $0; sub(/^[^{]*\{/, "", label); sub(/\} [^}]*$/, "", label); sub(/,?reason="[^"]*"/, "", label); sub(/^,/, "", label)
			sum[label] += name == "in" || name == "made" ? $NF : -$NF
		}
		END { for (l in sum) if (sum[l] != 0) printf "%s is off by %.0f\n", l, sum[l] }' "$1"
}
look() { for n in 9474 9475; do scrape $n >"$dir/$n" || return 1; done; }
counted() { # all that passed the port is in all books, which add up
	look || return 1
	local n=$(($(port) - before)) at=$(($(port) - before + $(unsent) - unsent))
	[ "$(value "$dir/9474" stage_in_total 'stage="capture"')" = $n ] && [ "$(value "$dir/9475" stage_in_total 'stage="capture"' 'tap="ring"')" = $n ] &&
		[ "$(value "$dir/9475" stage_in_total 'stage="kernel"' 'tap="kernel"')" = $at ] && [ "$(value "$dir/9475" stage_in_total 'stage="kernel"' 'tap="mirror"')" = $at ] &&
		[ -z "$(unbalanced "$dir/9474")$(unbalanced "$dir/9475")" ]
}
books() { # what the books say, beside the port
	echo "port $(($(port) - before)) and $(($(unsent) - unsent)) dropped by it; tap $(value "$dir/9474" stage_in_total 'stage="capture"'), ring $(value "$dir/9475" stage_in_total 'stage="capture"' 'tap="ring"')," \
		"kernel $(value "$dir/9475" stage_in_total 'stage="kernel"' 'tap="kernel"'), mirror $(value "$dir/9475" stage_in_total 'stage="kernel"' 'tap="mirror"')"
	unbalanced "$dir/9474"
	unbalanced "$dir/9475"
}
lost() { # frames that taps and tcpdump could not take
	look
	kill -USR1 "${pids[tcpdump]}"
	sleep 0.3
	echo $(($(value "$dir/9474" stage_dropped_total 'stage="capture"' dropped) + $(value "$dir/9474" stage_dropped_total queue_full) +
		$(value "$dir/9475" stage_dropped_total 'stage="capture"' dropped) + $(grep -o '[0-9]* packets dropped by kernel' "$dir/tcpdump.err" | tail -1 | grep -o '^[0-9]*' || echo 0)))
}
sent=0
load() { # RATE SECONDS
	"$dir/livegen" -netns "/run/netns/${id}a" -size 0 -rate "$1" -flows 1000 -for "${2}s" >"$dir/gen"
	sent=$((sent + $(jq .sent "$dir/gen")))
}
has() { # WORDS COMMAND…: whether what it prints has them
	local text
	text=$("${@:2}") && [[ $text == *"$1"* ]]
}
resident() { awk '/VmRSS/ {printf "%d", $2 / 1024}' "/proc/${pids[$1]}/status" 2>/dev/null || echo 0; }

rate=${RATE:-0} free=0
if [ "$rate" = 0 ]; then
	for r in 20000 40000 60000 80000 100000 120000 150000 180000 220000 260000 300000; do
		was=$(lost)
		load $r 3
		if [ "$(lost)" != "$was" ] || [ "$(jq "(.sent / .seconds) < 0.95 * $r" "$dir/gen")" = true ]; then break; fi
		free=$r
	done
	if [ $free = 0 ]; then free=12500; fi
	rate=$((free * 8 / 10))
fi
echo "live soak: $long s of $rate packets a second (IMIX 7:4:1), and TCP in super-frames; 1000 flows; loss-free up to $free, $(machine)"

# What happens meanwhile.
declare -A times=()
happen() { # WHAT…: something goes wrong, and comes right again
	times[$1]=$((${times[$1]:-0} + 1))
	case $1 in
	server) murder server && sleep "$(between 1 4)" && server ;;
	tool-link) at t ip link set eth0 down && sleep "$(between 1 3)" && at t ip link set eth0 up ;;
	server-link) at s ip link set eth0 down && sleep "$(between 1 4)" && at s ip link set eth0 up ;;
	netem)
		at h tc qdisc replace dev up1 root netem delay 20ms 10ms loss 2% 2>/dev/null && sleep "$(between 1 4)" && at h tc qdisc del dev up1 root ;;
	receiver) murder receiver && sleep "$(between 0 2)" && receiver ;;
	client) murder client && sleep "$(between 0 2)" && client ;;
	collector) murder collector && sleep "$(between 0 2)" && collector ;;
	upgrade) # of the taps in the kernel: no packet is missed or seen twice
		mv "$dir/h1.yaml" "$dir/h1.now" && mv "$dir/h1.other" "$dir/h1.yaml" && mv "$dir/h1.now" "$dir/h1.other"
		eventually 60 given h1 || fault 'the server takes no specifications'
		;;
	agent)
		local was=${pids[h2]}
		murder h2
		eventually 30 gone "$was" || fault "devices of the killed agent $was are left"
		agent h2 9476
		eventually 60 running 9476 2 || fault 'the killed agent does not come back'
		eventually 60 single || fault 'filters of the killed agent are left'
		;;
	esac || true
}
between() { echo "$(($1 + RANDOM % ($2 - $1 + 1))).$((RANDOM % 10))"; } # seconds
single() { [ "$(at h tc filter show dev p1 ingress | grep -c 'bpf.* handle')" = 1 ]; } # those of the agent that lives
gone() { ! has " xt$1." at h ip -o link; }
what=(server tool-link server-link receiver client collector agent upgrade)
if at h tc qdisc add dev up1 root netem 2>/dev/null; then
	at h tc qdisc del dev up1 root
	what+=(netem)
fi
run stream a iperf3 -c 10.9.0.2 -t $((long * 2 + 600)) -b 100M
first=$RANDOM happened=0 # each of them once, then by chance
began=$SECONDS part=$((long / 8 > 5 ? long / 8 : 5)) minute=0 memory=
while [ $((SECONDS - began)) -lt "$long" ]; do
	load "$rate" "$part" &
	loading=$!
	while kill -0 $loading 2>/dev/null; do
		if [ $happened -lt ${#what[@]} ]; then happen "${what[$(((first + happened) % ${#what[@]}))]}"; else happen "${what[$((RANDOM % ${#what[@]}))]}"; fi
		happened=$((happened + 1))
		if [ $(((SECONDS - began) / 60)) -gt $minute ]; then
			minute=$(((SECONDS - began) / 60))
			memory+="minute $minute: agent $(resident h1), tap $(resident tap), server $(resident server) MiB"$'\n'
		fi
	done
	wait $loading
	sent=$((sent + $(jq .sent "$dir/gen")))
	kill -STOP "${pids[stream]}"
	if eventually 60 counted; then echo "  after $((SECONDS - began)) s: $(books)"; else fault "while the taps run: $(books)"; fi
	kill -CONT "${pids[stream]}"
done

# The end: nobody sends any more; everything that waits arrives.
kill "${pids[stream]}" "${pids[iperf]}"
wait "${pids[stream]}" "${pids[iperf]}" 2>/dev/null || true
if eventually 60 counted; then echo "  at the end: $(books)"; else fault "at the end: $(books)"; fi
memory+="at the end: agent $(resident h1), tap $(resident tap), server $(resident server) MiB"
for n in tcpdump few; do
	kill -INT "${pids[$n]}"
	wait "${pids[$n]}" 2>/dev/null || true
done
said() { grep -o "[0-9]* packets $2" "$dir/$1.err" | tail -1 | grep -o '^[0-9]*'; } # NAME WORDS: what a tcpdump says at its end
agree() { # WHAT N OTHER N
	if [ "$2" = "$4" ]; then echo "  $1 $2 = $3 $4"; else fault "$1 $2, $3 $4"; fi
}
n=$(($(port) - before))
agree 'port counters' "$n" 'tcpdump' "$(said tcpdump 'received by filter')"
for x in '9474 tap' '9475 ring'; do
	read -r file tap <<<"$x"
	if [ "$file" = 9474 ]; then tap=tap; fi
	agree 'port counters' "$n" "packet ring of $tap" "$(value "$dir/$file" stage_in_total 'stage="capture"' "tap=\"$tap\"")"
done
for tap in kernel mirror; do agree 'port counters, with what it dropped' $((n + $(unsent) - unsent)) "programs of $tap" "$(value "$dir/9475" stage_in_total 'stage="kernel"' "tap=\"$tap\"")"; done
mirror() { value "$dir/9475" "$1" 'stage="kernel"' 'tap="mirror"' "${@:2}"; }
# What the port sends is TCP, all of which the filter takes.
agree "tcpdump with the mirror's filter, and what the port dropped" $(($(said few 'received by filter') + $(unsent) - unsent)) 'mirror less filtered' $(($(mirror stage_in_total) - $(mirror stage_dropped_total filtered)))
ring=$(value "$dir/9474" destination_sent_total 'to="vxlan:')
out=$(($(stat h up0 tx_packets) + $(stat h up0 tx_dropped) - up0))
refused=$(value "$dir/9474" stage_dropped_total no_buffers) # the interface dropped and said so: in its counters, too
agree 'counters of the way to the tool' $out 'copies of mirror and tap, and what was refused there' $(($(mirror stage_out_total) + ring + refused))
agree 'sent into that link' "$(stat h up0 tx_packets)" 'received at its end' $(($(stat t eth0 rx_packets) - far))
agree 'frames of the application at the first port' "$(stat h p1 rx_packets)" 'at the second one' "$(stat h p2 tx_packets)"
if [ "$(stat h p1 rx_packets)" -lt "$sent" ]; then fault "the application sent $sent, the port has $(stat h p1 rx_packets)"; fi
for x in "9474 tap" "9475 agent"; do
	read -r file who <<<"$x"
	echo "  $who, not passed on: $(awk 'function label(name) { match($0, name "=\"[^\"]*"); return substr($0, RSTART + length(name) + 2, RLENGTH - length(name) - 2) }
		/^crosstap_tap_stage_dropped_total/ && $NF > 0 { s = s sprintf(", %.0f %s (%s of %s)", $NF, label("reason"), label("stage"), label("tap")) }
		END { print substr(s, 3) }' "$dir/$file")"
done
echo "  tcpdump, not taken: $(said tcpdump 'dropped by kernel') and $(said few 'dropped by kernel')"
kill "${pids[tap]}"
wait "${pids[tap]}" || fault "the tap ended with $?"
sed -n 's/^crosstap: tap: \(ledger\|to\|collector\): /  tap: /p' "$dir/tap.err" | cut -c1-240
du=$(du -sm "$dir/files" | cut -f1)
if [ "$du" -gt 41 ]; then fault "capture files take $du MiB of 40"; fi

# What is left when all is killed.
if ! has bpf at h tc filter show dev p1 ingress; then fault 'no filter of tc to look for'; fi
for x in h1 h2; do
	was=${pids[$x]}
	murder $x
	eventually 30 gone "$was" || fault "devices of $x are left"
done
none() { [ "$("$dir/tcxcount" -netns "/run/netns/${id}h" -i p1)" = 0 ]; }
eventually 30 none || fault 'programs of TCX are left'
clean() { ! has clsact at h tc qdisc show dev p1; } # the process beside the one that was killed sees to that
eventually 90 clean || fault "filters of tc are left: $(at h tc filter show dev p1 ingress)"
has clsact at h tc qdisc show dev p2 && fault 'a qdisc of the tap that ended is left'

echo "$memory" | awk 'NF { print "  " $0 }'
grown=$(echo "$memory" | awk -F'[ ,]+' 'NF { for (i = 1; i <= NF; i++) if ($i == "agent" || $i == "tap" || $i == "server") { n[$i]++; m[$i, n[$i]] = $(i + 1) } }
	END { for (x in n) { # the most of each half: what was started again a moment before is small
		split("", most)
		for (i = 1; i <= n[x]; i++) { half = 1 + (2 * i > n[x] + 1); if (m[x, i] > most[half]) most[half] = m[x, i] }
		if (n[x] >= 4 && most[2] > most[1] * 1.25 + 16) printf "%s from %d to %d MiB ", x, most[1], most[2] } }')
if [ -n "$grown" ]; then fault "memory grows: $grown"; fi
printf '  '
for x in "${!times[@]}"; do printf '%s %d, ' "$x" "${times[$x]}"; done | sed 's/, $/\n/'
if [ $faults != 0 ]; then
	echo "soak: $faults things do not agree" >&2
	exit 1
fi
echo "  all agree"
