#!/bin/bash
# test/kernels.sh KERNEL.deb…: what the agent does on other kernels and under control groups v2, in a virtual machine of each. By hand, not in CI: it takes qemu, a minute
# for each kernel, and packages that change. A kernel is a Debian package (apt-get download linux-image-6.1.0-56-cloud-amd64). Programs must pass the verifier of each of them;
# the group of an agent must be made, limited, left by its end and by kill -9, and swept; one that is in a group of others stays there. A qdisc that a kill -9 leaves must
# have its mark, and be swept; that of others stays.
# Needs qemu-system-x86, busybox-static, cpio, kmod, iproute2; BINARY (bin/crosstap-agent, static) in the environment.
set -euo pipefail
cd "$(dirname "$0")/.."
binary=$(realpath "${BINARY:-bin/crosstap-agent}")
for tool in qemu-system-x86_64 busybox cpio depmod dpkg ip tc; do
	command -v $tool >/dev/null || { echo "kernels: $tool is not installed" >&2; exit 2; }
done
[ $# -gt 0 ] || { echo "kernels: no packages: apt-get download linux-image-VERSION-cloud-amd64" >&2; exit 2; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

put() { # PROGRAM ROOT: with its libraries
	local file
	install -D "$(readlink -f "$1")" "$2/bin/$(basename "$1")"
	for file in $(ldd "$1" 2>/dev/null | grep -o '/[^ ]*'); do install -D "$(readlink -f "$file")" "$2$file"; done
}
make_root() { # PACKAGE ROOT
	local files=$2.files modules version name
	dpkg -x "$1" "$files"
	modules=$(find "$files" -type d -path '*/lib/modules/*' -prune -print -quit) version=$(basename "$modules")
	mkdir -p "$2"/{bin,sbin,dev,proc,sys,tmp,run,etc} "$2/lib/modules/$version"
	cp "$files/boot/vmlinuz-$version" "$2.vmlinuz"
	(cd "$modules" && find kernel/net kernel/lib kernel/drivers/net modules.order modules.builtin* \( -path '*/ethernet/*' -o -path '*/wireless/*' \) -prune -o -type f -print | cpio -pdm --quiet "$2/lib/modules/$version")
	find "$2/lib/modules" -name '*.xz' -exec xz -d {} +
	depmod -b "$2" "$version"
	install "$(command -v busybox)" "$2/bin/busybox"
	for name in $(busybox --list); do [ -e "$2/bin/$name" ] || ln -s busybox "$2/bin/$name"; done
	ln -s ../bin/busybox "$2/sbin/modprobe"
	rm "$2/bin/ip"
	put "$(command -v ip)" "$2"
	put "$(command -v tc)" "$2"
	cp "$binary" "$2/bin/crosstap-agent"
	cp "$dir/inside" "$2/init"
	chmod 755 "$2" "$2/init"
	# Nobody answers for it: an agent without its server is enough here.
	echo "crosstap1.000000000000.$(printf 'A%.0s' {1..43}).$(printf 'A%.0s' {1..43})" >"$2/etc/token"
}

# What runs inside. Each line that begins with "wrong" is one thing that is not as it should be.
cat >"$dir/inside" <<'END'
#!/bin/sh
export PATH=/bin:/sbin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t tmpfs tmp /tmp
echo 'root:x:0:0::/:/bin/sh' >/etc/passwd
ip link set lo up
modprobe tun
groups=/sys/fs/cgroup own=/sys/fs/cgroup/crosstap-agent
wrong() { echo "wrong: $*"; }
finding() { crosstap-agent doctor | grep "$1: "; }
holds() { [ "$(cat "$own/$1" 2>/dev/null)" = "$2" ] || wrong "$1 is $(cat "$own/$1" 2>&1), not $2"; }
eventually() { # COMMAND…: within two minutes
	local n=0
	until "$@"; do n=$((n + 1)); [ $n -lt 240 ] || return 1; sleep 0.5; done
}
empty() { [ -z "$(cat "$own/cgroup.procs")" ]; }
agent() { # GROUP: an agent that is started in a group
	rm -f /tmp/log
	sh -c "echo \$\$ >$1/cgroup.procs; exec crosstap-agent agent --server https://127.0.0.1:8475 --token /etc/token --state /tmp/state --budget cpu=20%,memory=200MiB" >/tmp/log 2>&1 &
	pid=$!
	eventually grep -qs 'cannot be asked' /tmp/log || wrong "the agent does not run: $(cat /tmp/log)"
}
end() { kill "-$1" $pid; wait $pid; } 2>/dev/null

uname -r
finding 'control groups' | grep -q 'neither' || wrong 'doctor finds groups where none are mounted'
mount -t cgroup2 groups $groups
echo "controllers: $(cat $groups/cgroup.controllers)"
finding 'control groups' | grep 'ok .*v2: .* limits cpu and memory' || wrong "doctor: $(finding 'control groups')"
for how in TERM KILL; do
	agent $groups
	holds cgroup.procs $pid; holds cpu.max '40000 100000'; holds memory.max 419430400; holds cpu.weight 10
	end $how
	eventually empty || wrong "processes are left after $how"
	[ "$(crosstap-agent agent sweep)" = "removed $own" ] || wrong "the group is not swept after $how"
	[ ! -e $own ] || wrong "the group is left after $how"
done
mkdir -p $groups/others.slice/box
agent $groups/others.slice/box
grep -q '/others.slice/box, which others have made' /tmp/log || wrong "in a group of others: $(cat /tmp/log)"
[ ! -e $own ] || wrong 'a group was made for an agent that others have put into one'
end TERM
mount -o remount,bind,ro $groups
finding 'control groups' | grep 'read-only' || wrong 'doctor does not see that groups cannot be made'

finding 'path of taps'
for x in 'eBPF flow table and ring' 'eBPF copies' 'eBPF at clsact'; do finding "$x" | grep 'works' || wrong "$(crosstap-agent doctor | grep -A1 "$x: ")"; done
/bin/ip link add p1 type veth peer name p2 && /bin/ip addr add 192.0.2.1/24 dev p1 && /bin/ip link set p1 up && /bin/ip link set p2 up # and not the shell's own ip
crosstap-agent tap -i p1 --path clsact --to null: >/tmp/log 2>&1 &
pid=$!
eventually grep -q 'program attached' /tmp/log || wrong "no program: $(cat /tmp/log)"
arping -q -c 3 -I p1 192.0.2.9
end TERM
grep 'tap: [1-9][0-9]* frames' /tmp/log || wrong "nothing was seen: $(cat /tmp/log)"

# What a kill -9 leaves says itself whose it is: it goes, and a qdisc of others stays.
/bin/tc qdisc add dev p2 clsact
crosstap-agent tap -i p1 --path clsact --to null: >/tmp/log 2>&1 &
pid=$!
eventually grep -q 'program attached' /tmp/log || wrong "no program: $(cat /tmp/log)"
killall -9 crosstap-agent; wait $pid 2>/dev/null # with the process that would clean up behind it
/bin/tc -d qdisc show dev p1 | tr '\n' ' ' | grep 'clsact.* linklayer ethernet overhead ' || wrong "the qdisc has no mark: $(/bin/tc -d qdisc show dev p1)"
swept() { crosstap-agent agent sweep; ! /bin/tc qdisc show dev p1 | grep -q clsact; }
eventually swept || wrong "the qdisc is left: $(/bin/tc -d qdisc show dev p1)"
/bin/tc qdisc show dev p2 | grep -q clsact || wrong "the qdisc of others is gone"
echo finished
poweroff -f
END

faults=0
for package in "$@"; do
	root=$dir/$(basename "$package" .deb)
	make_root "$(realpath "$package")" "$root"
	(cd "$root" && find . | cpio -o -H newc --quiet >"$root.cpio")
	echo "== $(basename "$package")"
	timeout 900 qemu-system-x86_64 -accel tcg -cpu max -m 1024 -smp 2 -nic none -nographic -no-reboot -kernel "$root.vmlinuz" -initrd "$root.cpio" \
		-append 'console=ttyS0 quiet panic=-1' </dev/null 2>&1 | tr -d '\r' | sed '1,/^Booting/d' | tee "$root.out" || true
	if grep -q '^wrong' "$root.out" || ! grep -q '^finished' "$root.out"; then faults=$((faults + 1)); fi
	rm -rf "$root" "$root.files" "$root.cpio"
done
[ $faults = 0 ] || { echo "kernels: $faults of $# are not as they should be" >&2; exit 1; }
echo "kernels: all as it should be"
