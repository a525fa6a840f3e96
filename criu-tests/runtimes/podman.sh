#!/bin/bash
# podman.sh: the plugin under podman, with crun and with runc, in its default directory and with nothing configured.
# shellcheck disable=SC2034 # read by the files sourced
C=preflight-podman
. /t/lib.sh
mkdir -p /b/outside
leave=(--leave-running)
OPTIONS=()
EXTRA=()
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
up() {
    podman rm -f -t 0 $C >/dev/null 2>&1
    podman run -d --name $C --network none --privileged --device /dev/fuse --security-opt seccomp=unconfined \
        "${EXTRA[@]}" localhost/work /bin/work "$@"
}
place() { podman inspect $C --format '{{.StaticDir}}'; }
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
# podman deletes the log of a good checkpoint unless it is told to keep it.
leave+=(--keep)

# What a machine with the v1 hierarchies beside cgroup2 needs for a restore; nothing about the plugin.
cgroups_ignored() { echo 'manage-cgroups=ignore' >/etc/criu/$oci.conf; }

for oci in crun runc; do
    runtime="podman with $oci"
    HINT="pass --file-locks to podman container checkpoint, or write .file-locks. in /etc/criu/$oci.conf \(or"
    unconfigured
    cgroups_ignored
    prepare
    syslog_on
    clean_flags=(--keep)
    clean
    blockers
    same "a connection" no tcp-pair
    same "a connection, --tcp-established" yes tcp-pair -- --tcp-established
    same "a lock" no lock:type=flock
    same "a lock, --file-locks" yes lock:type=flock -- --file-locks
    EXTRA=(-v /b/outside:/outside)
    same "a volume" yes file:path=/outside/held,size=9
    EXTRA=(-t)
    same "a terminal (orphan_pts_master)" yes
    printf 'manage-cgroups=ignore\nfile-locks\n' >/b/annotated.conf
    EXTRA=(--annotation org.criu.config=/b/annotated.conf)
    same "a lock, file-locks in the file of the annotation" yes lock:type=flock
    EXTRA=()
    echo file-locks >>/etc/criu/$oci.conf
    same "a lock, file-locks in $oci.conf" yes lock:type=flock
    podman rm -fa -t 0 >/dev/null 2>&1
    syslog_off
done
closing
