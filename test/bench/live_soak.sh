#!/bin/bash
# test/bench/live_soak.sh: a mirror and a flow table in the kernel under load for LONG (10 minutes), while other taps of the same port are killed
# with -9 and the tool's link goes down and up. In the end the books must agree with the ports' own counters, to the packet, nothing of the
# killed may be left, and memory must not have grown. As root. It is TestSoak, which runs for 3 seconds elsewhere.
set -euo pipefail
cd "$(dirname "$0")/../.."

long=${LONG:-10m}
echo "soak: $long, $(nproc) processors, $(uname -r), load$(uptime | sed 's/.*average//')"
CROSSTAP_SOAK=$long CI=true go test -count=1 -timeout 2h -run '^TestSoak$' -v ./internal/kernel
