#!/bin/bash
# containerd.sh: the plugin under containerd (ctr) with runc, in its default directory and with nothing configured.
# shellcheck disable=SC2034 # read by the files sourced
runtime=containerd shows_log=no C=preflight-ctr HINT="write .file-locks. in /etc/criu/runc.conf;"
. /t/lib.sh
leave=()
export CONTAINERD_NAMESPACE=preflight
IMAGE=localhost/work:latest
EXTRA=()

# An image without a registry: one layer, in the format that `docker save` writes.
image() {
    local layer id
    rootfs /b/image
    mkdir -p /b/archive
    tar -C /b/image -cf /b/archive/layer.tar .
    layer=$(sha256sum /b/archive/layer.tar | cut -d' ' -f1)
    printf '{"architecture":"%s","os":"linux","config":{"Cmd":["/bin/work"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
        "$(ctr version 2>/dev/null | sed -n 's/.*linux\///p' | head -1 | grep . || uname -m | sed 's/x86_64/amd64/;s/aarch64/arm64/')" \
        "$layer" >/b/archive/config
    id=$(sha256sum /b/archive/config | cut -d' ' -f1)
    mv /b/archive/config "/b/archive/$id.json"
    printf '[{"Config":"%s.json","RepoTags":["%s"],"Layers":["layer.tar"]}]' "$id" "$IMAGE" >/b/archive/manifest.json
    tar -C /b/archive -cf /b/image.tar manifest.json layer.tar "$id.json"
}
prepare() {
    mkdir -p /b/containerd
    printf 'version = 2\nroot = "/b/containerd"\nstate = "/run/containerd"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n' \
        >/b/containerd.toml
    containerd -c /b/containerd.toml </dev/null >/b/containerd.log 2>&1 &
    CONTAINERD=$!
    started_it $CONTAINERD
    until_ok 20 ctr version >/dev/null || {
        bad "containerd does not start"
        quote "its log" <(tail -5 /b/containerd.log)
        closing
        exit 1
    }
    image
    ctr image import /b/image.tar
}
up() {
    down
    ctr run -d --null-io --privileged "${EXTRA[@]}" $IMAGE $C /bin/work "$@"
}
bundle() { echo /run/containerd/io.containerd.runtime.v2.task/$CONTAINERD_NAMESPACE/$C; }
ck() {
    rm -rf /b/images /b/work "$(bundle)/criu-dump.log"
    mkdir -p /b/images /b/work
    ctr tasks checkpoint --image-path /b/images --work-path /b/work "$@" $C
}
down() {
    ctr task kill -s KILL $C
    sleep 0.4
    ctr task rm $C
    ctr container rm $C
    ctr snapshot rm $C
} >/dev/null 2>&1
counter() { echo "$(bundle)/rootfs/tmp/count"; }
criu_log() { if [ -s /b/work/dump.log ]; then echo /b/work/dump.log; else echo "$(bundle)/criu-dump.log"; fi; }
root_pid() { ctr task ls | sed -n "s/^$C  *\([0-9]*\) .*/\1/p"; }
state() { ctr task ls | grep "^$C " | grep -o '[A-Z]*$' | tr '[:upper:]' '[:lower:]'; }

unconfigured
syslog_on
prepare

started "a clean container" && {
    plugin on
    is "the command says that it can be dumped" asked 0
    checkpoint
    is "a clean container is checkpointed" [ $rc = 0 ] || quote "ctr" "$OUT"
    counts "it counts on meanwhile"
    hasnt "nothing of ours is in the log" $LOG '(Error|Warn ) \(preflight\)'
    has "the plugin looked at it frozen" $LOG 'preflight: frozen look at'
    # containerd's own way back: a checkpoint that is an image.
    ctr containers checkpoint --task --image $C localhost/checkpoint:1 >"$OUT" 2>&1
    is "it is checkpointed as an image" [ $? = 0 ] || quote "ctr" "$OUT"
    at=$(count)
    down
    ctr containers restore --live $C localhost/checkpoint:1 >"$OUT" 2>&1
    is "it is restored" [ $? = 0 ] || quote "ctr" "$OUT"
    counts "it counts on"
    is "from where it was ($at)" [ "$(count)" -ge "$at" ]
    down
}
blockers
enough
# ctr has no flag for any of CRIU's options: runc's file is the place.
same "a lock" no lock:type=flock
cured "a lock" lock:type=flock
cured "a connection" tcp-pair
cured "a big file without a name" ghost:alloc=2000000,len=2000000
echo file-locks >/etc/criu/runc.conf
same "a lock, file-locks in runc.conf" yes lock:type=flock
same "a connection, file-locks in runc.conf" no tcp-pair
echo tcp-established >/etc/criu/runc.conf
same "a connection, tcp-established in runc.conf" yes tcp-pair
rm -f /etc/criu/runc.conf
mkdir -p /b/data
EXTRA=(--mount type=bind,src=/b/data,dst=/data,options=rbind:rw)
same "a directory of the host mounted" yes file:path=/data/held,size=9
EXTRA=()
down
signal TERM $CONTAINERD
wait $CONTAINERD 2>/dev/null
closing
