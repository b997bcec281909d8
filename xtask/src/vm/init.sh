#!/bin/busybox sh
# The whole system of the virtual machine: traces one request on each backend, prints what came
# out between markers, and switches off.
/bin/busybox --install -s /bin
export PATH=/bin HOME=/
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tracefs tracefs /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
ip link set lo up
mkdir /sys/fs/cgroup/clients

section() {
    echo
    echo "=== tracer: $1 ==="
}

# wait_for FILE PATTERN: at most a minute.
wait_for() {
    for _ in $(seq 600); do
        grep -q "$2" "$1" 2>/dev/null && return 0
        sleep 0.1
    done
    return 1
}

# trace BACKEND
trace() {
    nginx -e stderr -c /etc/nginx.conf &
    wait_for /run/nginx.pid .
    # shellcheck disable=SC2086
    tracer run $propagate --backend "$1" --pid "$(cat /run/nginx.pid)" --cgroup clients \
        --exporter file:/tmp/spans-"$1" 2>/tmp/log-"$1" &
    agent=$!
    wait_for /tmp/log-"$1" ready
    # A process that is a target before it was seen.
    sh -c 'echo $$ >/sys/fs/cgroup/clients/cgroup.procs; exec "$@"' sh \
        curl -sS -o /dev/null "http://127.0.0.1:8080/hello?q=1"
    # Both spans: two opening braces of a span's kind.
    for _ in $(seq 100); do
        [ "$(grep -o '"kind"' /tmp/spans-"$1" 2>/dev/null | wc -l)" -ge 2 ] && break
        sleep 0.1
    done
    kill -TERM $agent
    wait $agent
    status=$?
    kill -TERM "$(cat /run/nginx.pid)"
    wait
    rm -f /run/nginx.pid
    section "spans $1"
    cat /tmp/spans-"$1"
    section "log $1"
    cat /tmp/log-"$1"
    echo "exit status $status"
}

section kernel
uname -r
section doctor
# Where the verifier refuses everything there is nothing to run.
if tracer doctor --json >/tmp/doctor; then
    cat /tmp/doctor
    propagate=
    grep -q '"works": true' /tmp/doctor && propagate="--propagate proxy --propagate-loopback"
    for backend in $(sed 's/.*tracer.backends=\([^ ]*\).*/\1/; s/,/ /g' /proc/cmdline); do
        trace "$backend"
    done
else
    cat /tmp/doctor
fi
section end
poweroff -f
