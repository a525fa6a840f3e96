# shellcheck shell=bash
# runc and crun, which have nearly the same command line: $oci is the one.

leave=(--leave-running)
bundle=/b/$oci
EXTRA='.'
# Whether the runtime names a configuration file to CRIU.
reads_file=yes

# EXTRA is one more jq filter over config.json.
prepare() {
    [ -d "$bundle/rootfs" ] || {
        rootfs "$bundle/rootfs"
        (cd "$bundle" && $oci spec && mv config.json spec.json)
    }
}
rt() { $oci "$@"; }
up() {
    rm -rf "${bundle:?}"/rootfs/tmp/* /b/work
    jq ".process.terminal=false | .root.readonly=false | .process.args=[\"/bin/work\"] + \$ARGS.positional
        | .linux.resources.devices=[{allow:true,access:\"rwm\"}]
        | .linux.devices=[{path:\"/dev/fuse\",type:\"c\",major:10,minor:229,fileMode:438,uid:0,gid:0}]
        | $EXTRA" "$bundle/spec.json" --args "$@" >"$bundle/config.json" || return 1
    # A file outside of the container as its output would be a blocker of its own.
    rm -f /b/run.log
    if [ -n "${ON_TERMINAL:-}" ]; then
        # In the foreground, where it passes on what the terminal says.
        script -qc "$oci --log /b/run.log run --bundle $bundle $C" /dev/null </dev/null >/dev/null 2>&1 &
        started_it $!
        return
    fi
    $oci --log /b/run.log run -d --bundle "$bundle" "$C" </dev/null >/dev/null 2>&1 || {
        cat /b/run.log
        return 1
    }
}
ck() {
    rm -rf /b/images /b/work
    mkdir -p /b/images /b/work
    rt checkpoint --image-path /b/images --work-path /b/work "$@" "$C"
}
restore() {
    rt restore -d --bundle "$bundle" --image-path /b/images --work-path /b/work "$@" "$C" </dev/null >"$OUT" 2>&1
}
down() {
    rt kill "$C" KILL >/dev/null 2>&1
    sleep 0.2
    rt delete -f "$C" >/dev/null 2>&1
}
counter() { echo "$bundle/rootfs/tmp/count"; }
criu_log() { echo /b/work/dump.log; }
state() { rt state "$C" 2>/dev/null | jq -r .status; }
root_pid() { rt state "$C" | jq .pid; }
restore_log() { echo /b/work/restore.log; }

# with FILTER COMMAND...: COMMAND with containers changed by one more jq filter over their config.json.
with() {
    local before=$EXTRA
    EXTRA="$EXTRA | $1"
    shift
    "$@"
    EXTRA=$before
}
bind() { echo ".mounts += [{destination:\"$2\",source:\"$1\",type:\"bind\",options:[\"rbind\",\"${3:-rw}\"]}]"; }

# shellcheck disable=SC2034 # for those who source this
host_network='.linux.namespaces = [.linux.namespaces[] | select(.type != "network")]'

external_mounts() {
    mkdir -p /b/data
    mount -t tmpfs tmpfs /b/data
    mkdir -p /b/data/below
    mount -t tmpfs tmpfs /b/data/below
    echo text >/b/data/file
    with "$(bind /b/data/file /etc/hosts)" same "a file of the host mounted" yes
    with "$(bind /b/data /data)" same "a file system of the host, and one on it" yes file:path=/data/held,size=9
    with "$(bind /b/data /data ro)" same "the same, read-only" yes
    with "$(bind /dev/fuse /dev/fuse2)" same "a device node mounted" yes
    umount -R /b/data
}

external_namespaces() {
    : >/run/preflight-ns
    unshare --net=/run/preflight-ns ip link set lo up
    local set='.linux.namespaces = [.linux.namespaces[] | if .type == "network" then .path = "/run/preflight-ns" else . end]'
    with "$set" same "a network namespace given by path" yes
    with "$set" same "the same, and a lock in it" no lock:type=flock
    umount /run/preflight-ns
    with "$host_network" same "the network of the host" yes
    with '.linux.namespaces = [.linux.namespaces[] | select(.type != "ipc" and .type != "uts")] | del(.hostname)' \
        same "the host's ipc and uts namespaces" yes
    with '.linux.namespaces += [{type:"cgroup"}] | .linux.namespaces |= unique' same "a cgroup namespace" yes
}

# What --shell-job lets through: a terminal of the tree whose session is that of a program outside of it. A container's
# first process leads its own session, but people start others beside it.
shell_job() {
    export EXEC="sleep 1000"
    same "a program started in the container" yes
    same "the same, and a lock" no lock:type=flock
    EXEC=/bin/attach
    same "a terminal that such a program has for its own" no tty-master:slave=none
    same "the same, --shell-job" yes tty-master:slave=none -- --shell-job
    cured "the same" tty-master:slave=none
    unset EXEC
}

# What such a runtime allows by itself, and the command, which has to find that out: it leaves the terminal of the container
# to the one who has its other end, and runc the interfaces to the one who has made them ($empty_net).
own_ways() {
    local LINK
    for LINK in ifb "vxlan id 5 dstport 4789 local 127.0.0.1"; do
        same "a link of ${LINK%% *}" "$empty_net"
        same "a link of ${LINK%% *}, and a lock" no lock:type=flock
    done
    LINK=
    ON_TERMINAL=yes with '.process.terminal=true' same "a terminal of its own" yes
    ON_TERMINAL=yes with '.process.terminal=true' same "a terminal of its own, and a lock" no lock:type=flock
}

# What the hints say, done.
cures() {
    cured "a lock" lock:type=flock
    cured "a connection" tcp-pair
    cured "a big file without a name" ghost:alloc=2000000,len=2000000
    # --leave-running, which is given here, takes away again what --link-remap makes.
    hinted "a linked remainder" 'a dump with --leave-running takes the link of --link-remap away' file:relinked
    with "$(bind /b/outside /outside) | $host_network" cured "an outside socket" unix-connect:path=/outside/log,type=dgram
    # Neither is runc.conf read where a container has an annotation,
    : >/b/annotated.conf
    with '.annotations={"org.criu.config":"/b/annotated.conf"}' cured "a lock, annotated" lock:type=flock
    [ "$reads_file" = yes ] || return 0
    # nor crun.conf by crun, which is not there, when runc.conf is.
    echo tcp-established >/etc/criu/runc.conf
    cured "a lock and a connection, tcp-established in runc.conf" lock:type=flock tcp-pair
    rm -f /etc/criu/*.conf
}

# The files of CRIU that the runtime makes it read, and what it does with them.
configuration() {
    echo file-locks >"/etc/criu/$oci.conf"
    same "a lock, file-locks in $oci.conf" "$reads_file" lock:type=flock
    same "a connection, file-locks in $oci.conf" no tcp-pair
    rm -f "/etc/criu/$oci.conf"
    printf 'link-remap\n' >/etc/criu/default.conf
    # Whether a runc sends that depends on its version, which the command does not ask.
    NOT_ASKED=yes same "a linked remainder, link-remap in default.conf" "$default_conf_link_remap" file:relinked
    rm -f /etc/criu/default.conf
    printf 'tcp-established\nfile-locks\n' >/etc/criu/default.conf
    same "a lock, file-locks in default.conf, which the request overrules" no lock:type=flock
    rm -f /etc/criu/default.conf
    printf 'tcp-established\n' >/b/annotated.conf
    # Nor does it look for annotations.
    NOT_ASKED=yes with '.annotations={"org.criu.config":"/b/annotated.conf"}' \
        same "a connection, tcp-established in the file of the annotation" "$reads_file" tcp-pair
    with '.annotations={"org.criu.config":"/b/annotated.conf"}' \
        same "a lock, the same file" no lock:type=flock
}

frozen_cgroup() {
    case $CGROUPS in
    v1) sed -n 's#^[0-9]*:freezer:#/sys/fs/cgroup/freezer#p' "/proc/$1/cgroup" ;;
    v2) sed -n 's#^0::#/sys/fs/cgroup#p' "/proc/$1/cgroup" ;;
    esac
}
frozen_state() { cat "$1/freezer.state" 2>/dev/null || sed 's/1/FROZEN/;s/0/THAWED/' "$1/cgroup.freeze"; }

# The cgroup that CRIU is told to freeze is frozen already: the container is left as it was found.
frozen() {
    local spec pid cg
    for spec in "" lock:type=flock; do
        # shellcheck disable=SC2086 # none or one
        started "paused" $spec || return 0
        plugin on
        pid=$(rt state "$C" | jq .pid)
        cg=$(frozen_cgroup "$pid")
        rt pause "$C"
        is "paused: it stands" stands_still
        checkpoint "${leave[@]}"
        if [ -z "$spec" ]; then
            is "paused: the checkpoint is made" [ $rc = 0 ]
            [ $rc = 0 ] || quote "the log" <(grep -E 'Error|preflight' $LOG)
        else
            is "paused, with a lock: refused" [ $rc != 0 ]
            has "paused, with a lock: by us" <(ours) 'lock-not-allowed'
        fi
        is "paused${spec:+, with a lock}: frozen as it was ($cg)" [ "$(frozen_state "$cg")" = FROZEN ]
        is "paused${spec:+, with a lock}: $(state)" [ "$(state)" = paused ]
        is "paused${spec:+, with a lock}: it still stands" stands_still
        rt resume "$C"
        counts "paused${spec:+, with a lock}: resumed, it counts on"
        down
    done
}
