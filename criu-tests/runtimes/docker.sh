#!/bin/bash
# docker.sh: the plugin under Docker's daemon (its own containerd, runc), in its default directory and with nothing configured.
# shellcheck disable=SC2034 # read by the files sourced
runtime=docker shows_log=no C=preflight-docker HINT="write .file-locks. in /etc/criu/runc.conf"
. /t/lib.sh
leave=(--leave-running)
IMAGE=work
EXTRA=()
CHECKPOINTS=0

prepare() {
    mkdir -p /etc/docker /b/docker /b/image /run/docker
    touch /etc/hosts /etc/hostname
    echo '{"experimental":true,"cgroup-parent":"/preflight-docker"}' >/etc/docker/daemon.json
    # Without a network of its own: nothing outside of this tree is touched.
    # Its pid file in a directory that is new each time: one that is left keeps it from starting.
    dockerd --pidfile /run/docker/pid --iptables=false --ip6tables=false --bridge=none --ip-forward=false \
        --data-root /b/docker --exec-root /run/docker </dev/null >/b/dockerd.log 2>&1 &
    DOCKERD=$!
    started_it $DOCKERD
    until_ok 30 docker version >/dev/null || {
        bad "dockerd does not start"
        quote "its log" <(grep -v level=info /b/dockerd.log | tail -8)
        closing
        exit 1
    }
    rootfs /b/image
    tar -C /b/image -c . | docker import - $IMAGE >/dev/null
}
up() {
    down
    docker run -d --name $C --privileged --network host "${EXTRA[@]}" $IMAGE /bin/work "$@"
}
# A name for each: one that was refused may be taken.
ck() {
    CHECKPOINTS=$((CHECKPOINTS + 1))
    rm -f "$(bundle)/criu-dump.log"
    docker checkpoint create "$@" $C "checkpoint$CHECKPOINTS"
}
# Of a checkpoint that was made Docker keeps no log of CRIU's, but the report stays.
looked_frozen() {
    local report
    report=$(find /var/lib/criu-preflight -name '*.json' | sort | tail -1)
    is "the plugin looked at it frozen" jq -e '.verdict == "pass" and .look == "frozen"' "${report:-/nowhere}"
}
# Docker's daemon now and then does not find its own upload of a checkpoint new, with the plugin or without.
restore() {
    local try
    for try in 1 2 3 4 5; do
        docker start --checkpoint "checkpoint$CHECKPOINTS" $C >"$OUT" 2>&1 && return
        grep -q 'commit failed: content .* already exists' "$OUT" || return
        echo "     -- Docker: content already exists (attempt $try)"
        sleep 1
    done
    return 1
}
restore_log() { echo "$(bundle)/criu-restore.log"; }
down() { docker rm -f $C; } >/dev/null 2>&1
id() { docker inspect -f '{{.Id}}' $C; }
bundle() { echo "/run/docker/containerd/daemon/io.containerd.runtime.v2.task/moby/$(id)"; }
counter() { echo "/proc/$(root_pid)/root/tmp/count"; }
criu_log() { echo "$(bundle)/criu-dump.log"; }
root_pid() { docker inspect -f '{{.State.Pid}}' $C; }
state() { docker inspect -f '{{.State.Status}}' $C; }

unconfigured
syslog_on
prepare

clean
blockers
# Docker removes CRIU's work directory.
report=$(sed -n 's#.*; report: \(/[^ ]*\.json\).*#\1#p' $SYSLOG | tail -1)
has "the report of a refusal is where it stays, under the container's id" <(echo "$report") \
    '^/var/lib/criu-preflight/[0-9]+T[0-9]+Z-[0-9a-f]{64}-[0-9]+\.json$'
enough
same "a lock" no lock:type=flock
cured "a lock" lock:type=flock
cured "a connection" tcp-pair
cured "a big file without a name" ghost:alloc=2000000,len=2000000
mkdir -p /b/data
EXTRA=(-v /b/data:/data)
same "a directory of the host mounted" yes file:path=/data/held,size=9
EXTRA=()
down
signal TERM $DOCKERD
wait $DOCKERD 2>/dev/null
closing
