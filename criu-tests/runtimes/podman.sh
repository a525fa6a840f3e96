#!/bin/bash
# podman.sh: the plugin under podman, with crun and with runc, in its default directory and with nothing configured.
# shellcheck disable=SC2034 # read by the files sourced
C=preflight-podman
. /t/lib.sh
mkdir -p /b/outside
leave=(--leave-running)
OPTIONS=()
EXTRA=()
NETWORK=none
runtime="podman with crun" oci=crun shows_log=yes

# The storage is no part of the tree: it goes with the scratch directory. No registry is asked.
prepare() {
    mkdir -p /etc/containers /b/storage /b/image
    printf '[storage]\ndriver = "vfs"\ngraphroot = "/b/storage"\nrunroot = "/run/storage"\n' >/etc/containers/storage.conf
    printf '[containers]\npids_limit = 0\n[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\nruntime = "%s"\n' \
        $oci >/etc/containers/containers.conf
    echo '{"default":[{"type":"insecureAcceptAnything"}]}' >/etc/containers/policy.json
    podman image exists localhost/work && return
    rootfs /b/image
    tar -C /b/image -c . | podman import - work >/dev/null 2>&1
}
# shellcheck disable=SC2120 # of started, too
up() {
    podman rm -f -t 0 $C >/dev/null 2>&1
    podman run -d --name $C --network $NETWORK --privileged --device /dev/fuse --security-opt seccomp=unconfined \
        "${EXTRA[@]}" localhost/work /bin/work "$@"
}
root_pid() { podman inspect $C --format '{{.State.Pid}}'; }
place() { podman inspect $C --format '{{.StaticDir}}'; }
rt() { podman "$@"; }
ck() { podman container checkpoint "$@" $C; }
restore() { podman container restore "$@" $C >"$OUT" 2>&1 </dev/null; }
down() { podman rm -f -t 0 $C >/dev/null 2>&1; }
# As this tree sees it: through the root of the container's first process.
counter() {
    local pid
    pid=$(podman inspect $C --format '{{.State.Pid}}' 2>/dev/null)
    echo "/proc/${pid:-0}/root/tmp/count"
}
criu_log() { echo "$(place)/dump.log"; }
restore_log() { echo "$(place)/restore.log"; }
state() { podman inspect $C --format '{{.State.Status}}'; }
# podman deletes the log of a good checkpoint unless it is asked to keep it.
leave+=(--keep)

# podman makes the network namespace itself and has it named to CRIU as external.
bridge() {
    local link
    NETWORK=bridge
    if ! up >"$OUT" 2>&1; then
        skip "a bridge network: $(tail -1 "$OUT")"
    else
        same "a bridge network" yes
        same "a bridge network, and a lock" no lock:type=flock
        clean
    fi
    NETWORK=none
    for link in $(ip -o link show type bridge | grep -o 'podman[0-9]*'); do ip link del "$link"; done
}

# A checkpoint that is a file, and a container made of it.
archive() {
    started "an exported container" || return 0
    plugin on
    local at
    at=$(count)
    podman container checkpoint -e /b/checkpoint.tar $C >"$OUT" 2>&1 </dev/null
    is "it is exported" [ $? = 0 ] || quote "podman" "$OUT"
    podman rm -f -t 0 $C >/dev/null 2>&1
    hasnt "nothing of ours is in the file" <(tar -tf /b/checkpoint.tar) preflight
    podman container restore -i /b/checkpoint.tar >"$OUT" 2>&1 </dev/null
    is "it is imported" [ $? = 0 ] || quote "podman" "$OUT"
    counts "it counts on"
    is "from where it was ($at)" [ "$(count)" -ge "$at" ]
    down
    started "an exported container with a lock" lock:type=flock || return 0
    : >$SYSLOG
    podman container checkpoint -e /b/refused.tar $C >"$OUT" 2>&1 </dev/null
    is "an export is refused, too" [ $? != 0 ]
    has "an export is refused: the system log says by us" $SYSLOG 'refusing to dump pid .*lock-not-allowed x1; report: '
    is "no file is left of it" [ ! -s /b/refused.tar ]
    counts "the container goes on"
    down
}

# What a machine with the v1 hierarchies beside cgroup2 needs for a restore; nothing about the plugin.
cgroups_ignored() { echo 'manage-cgroups=ignore' >/etc/criu/$oci.conf; }

for oci in crun runc; do
    runtime="podman with $oci"
    COMMAND="podman container checkpoint"
    HINT="pass --file-locks to podman container checkpoint .again to the restore., or write .file-locks. in /etc/criu/$oci.conf \(or"
    unconfigured
    cgroups_ignored
    prepare
    syslog_on
    clean_flags=(--keep)
    clean
    blockers
    [ -z "${QUICK:-}" ] || continue
    same "a connection" no tcp-pair
    same "a connection, --tcp-established" yes tcp-pair -- --tcp-established
    same "a lock" no lock:type=flock
    same "a lock, --file-locks" yes lock:type=flock -- --file-locks
    EXTRA=(-v /b/outside:/outside)
    same "a volume" yes file:path=/outside/held,size=9
    EXTRA=(-t)
    same "a terminal (orphan_pts_master)" yes
    same "a terminal, and a lock" no lock:type=flock
    printf 'manage-cgroups=ignore\nfile-locks\n' >/b/annotated.conf
    EXTRA=(--annotation org.criu.config=/b/annotated.conf)
    NOT_ASKED=yes same "a lock, file-locks in the file of the annotation" yes lock:type=flock
    echo manage-cgroups=ignore >/b/annotated.conf
    cured "a lock, annotated" lock:type=flock
    EXTRA=()
    LINK=ifb same "a link of ifb" "$([ $oci = runc ] && echo yes || echo no)"
    LINK=ifb same "a link of ifb, and a lock" no lock:type=flock
    cured "a lock" lock:type=flock
    cured "a big file without a name" ghost:alloc=2000000,len=2000000
    bridge
    archive
    echo file-locks >>/etc/criu/$oci.conf
    same "a lock, file-locks in $oci.conf" yes lock:type=flock
    podman rm -fa -t 0 >/dev/null 2>&1
    syslog_off
done
closing
