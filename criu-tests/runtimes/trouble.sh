#!/bin/bash
# trouble.sh: what goes wrong around a checkpoint, and what else CRIU does with the plugin in its directory. With runc, and
# with criu itself on the container that runc has made. Closes with what the plugin costs a checkpoint by runc.
# shellcheck disable=SC2034 # read by the files sourced
runtime=trouble oci=runc C=preflight-trouble
. /t/lib.sh
. /t/oci.sh
unconfigured
prepare
syslog_on

# No file of ours is half written: none beside the report, and the report is JSON if it is there.
whole() {
    [ -z "$(find "$1" -name '.preflight*')" ] || return 1
    [ ! -e "$1/preflight.json" ] || jq -e .findings "$1/preflight.json" >/dev/null
}
no_criu() { ! pgrep -x criu >/dev/null; }
untraced() { ! grep -L 'TracerPid:.0' /proc/[0-9]*/status 2>/dev/null | grep -q .; }

# runc is killed at some moment of its checkpoint: CRIU's own fate decides over the dump, and nothing of ours remains.
killed() {
    local spec delay pid
    plugin on
    for spec in "" "lock:type=flock dev:path=/dev/fuse"; do
        for delay in 0.02 0.05 0.08 0.12 0.2; do
            # shellcheck disable=SC2086 # words
            [ "$(state)" = running ] || started "a container" $spec || return 0
            rm -rf /b/images /b/work
            mkdir -p /b/images /b/work
            runc checkpoint --image-path /b/images --work-path /b/work --leave-running $C </dev/null >/dev/null 2>&1 &
            pid=$!
            started_it $pid
            sleep $delay
            signal KILL $pid
            wait $pid 2>/dev/null
            until_ok 20 no_criu || bad "runc killed after $delay s: criu stays"
            is "runc killed after $delay s${spec:+ (blockers)}: whole files only" whole /b/work
            is "runc killed after $delay s${spec:+ (blockers)}: nobody is traced" untraced
            # A criu whose client has gone may leave the freezer shut; so it does without us.
            runc resume $C >/dev/null 2>&1
            counts "runc killed after $delay s${spec:+ (blockers)}: the container counts on"
        done
        down
    done
}

# criu itself on the first process of the container.
pid_of() { runc state $C | jq .pid; }
# A tree of its own that any CRIU dumps: criu's command line knows nothing of a container's mounts.
tree() {
    rm -rf /b/tree
    mkdir -p /b/tree
    /b/mkres --ready /b/tree/ready --dir /b/tree "$@" </dev/null || return 1
    TREE=$(jq .pid /b/tree/ready)
    started_it "$TREE"
}
# Its number is free again.
gone() { until_ok 5 test ! -e "/proc/$TREE"; }
untree() { signal KILL "$TREE"; }

# disk NAME OPTIONS: a work directory on a tmpfs that is full, or read-only.
disk() {
    local name=$1 expect without
    shift
    for expect in good refused; do
        if [ $expect = good ]; then tree pipe; else tree pipe io-uring; fi
        for with in off on; do
            plugin $with
            rm -rf /b/images
            mkdir -p /b/images /b/full
            mount -t tmpfs -o "$1" tmpfs /b/full
            [ -z "${2:-}" ] || dd if=/dev/zero of=/b/full/fill bs=4096 2>/dev/null
            [ -z "${3:-}" ] || mount -o remount,ro /b/full
            rc=0
            criu dump -t "$TREE" -D /b/images -W /b/full -o /b/$with.log -v4 --leave-running </dev/null >"$OUT" 2>&1 || rc=$?
            [ $with = on ] || without=$rc
            [ $with = off ] || is "$name, a $expect dump: no file of ours is left" [ -z "$(find /b/full -name '*preflight*')" ]
            umount /b/full
        done
        is "$name, a $expect dump: $rc as without the plugin" [ "$((rc != 0))" = "$((without != 0))" ]
        is "$name, a $expect dump: the tree lives" signal 0 "$TREE"
        [ $expect = good ] || has "$name: refused all the same, by us" /b/on.log 'Error \(preflight\): fd-io-uring'
        untree
    done
}

syslogs() {
    plugin on
    started "a container" lock:type=flock || return 0
    syslog_off
    checkpoint --leave-running
    is "no system log: refused" [ $rc != 0 ]
    has "no system log: by us" <(ours) lock-not-allowed
    syslog_on
    # It listens, and nobody reads: the queue fills (net.unix.max_dgram_qlen).
    signal STOP "$SYSLOGD"
    local i before=$SECONDS
    for i in 1 2 3 4 5 6 7 8 9 10 11 12; do checkpoint --leave-running; done
    signal CONT "$SYSLOGD"
    is "a system log that does not read: refused, at once ($((SECONDS - before)) s for $i)" [ $rc != 0 ] &&
        is "a system log that does not read: nobody waits" [ $((SECONDS - before)) -lt 60 ]
    counts "the container counts on"
    : >$SYSLOG
    checkpoint --leave-running
    has "a refusal is in the system log" $SYSLOG 'refusing to dump pid'
    : >$SYSLOG
    echo 'syslog off' >/etc/criu/preflight.conf
    checkpoint --leave-running
    has "syslog off: refused all the same" <(ours) lock-not-allowed
    hasnt "syslog off: not a word in the system log" $SYSLOG criu-preflight
    rm -f /etc/criu/preflight.conf
    down
}

# both NAME COMMAND...: the same status with the plugin and without, and not a word of ours.
both() {
    local name=$1 without
    shift
    plugin off
    without=0
    "$@" >/b/without 2>&1 </dev/null || without=$?
    plugin on
    rc=0
    "$@" >"$OUT" 2>&1 </dev/null || rc=$?
    if [ $rc = $without ] && [ $rc != 0 ]; then
        skip "$name: fails with the plugin and without, status $rc: $(grep -m1 Error /b/without || tail -1 /b/without)"
    elif [ $rc = $without ]; then
        ok "$name: status $rc with the plugin and without"
    else
        bad "$name: status $without without the plugin, $rc with it"
        quote "without" /b/without 8
        quote "with" "$OUT" 8
    fi
    hasnt "$name: not a word of ours" "$OUT" '(Error|Warn ) \(preflight\)'
}

page_server() {
    local server
    tree pipe file:path=held,size=9 || return 1
    rm -rf /b/images /b/pages
    mkdir -p /b/images /b/pages
    criu page-server -D /b/pages -o /b/server.log -v4 --address 127.0.0.1 --port 9417 </dev/null >/dev/null 2>&1 &
    server=$!
    until_ok 5 grep -q 9417 <(ss -ltn 2>/dev/null || cat /proc/net/tcp)
    sleep 0.3
    criu dump -t "$TREE" -D /b/images -v1 --page-server --address 127.0.0.1 --port 9417 || return 2
    wait $server || return 3
    [ -n "$(find /b/pages -name 'pages-*')" ] || return 4
    cp /b/pages/page* /b/images/
    gone
    criu restore -D /b/images -v1 --restore-detached || return 5
    # The same number, and another process.
    started_it "$TREE" || return 6
    untree
}

lazy_pages() {
    local server daemon
    tree pipe || return 1
    rm -rf /b/images
    mkdir -p /b/images
    # It serves the pages until somebody has fetched them.
    criu dump -t "$TREE" -D /b/images -v1 --lazy-pages --address 127.0.0.1 --port 9418 &
    server=$!
    started_it $server
    sleep 1.5
    criu lazy-pages -D /b/images -v1 --page-server --address 127.0.0.1 --port 9418 &
    daemon=$!
    started_it $daemon
    sleep 0.5
    # The tree goes when its last page is fetched, the restored one needs its numbers.
    timeout 20 unshare --pid --fork --mount-proc criu restore -D /b/images -v1 --lazy-pages --restore-detached || {
        signal TERM $server $daemon
        return 2
    }
    wait $daemon || return 3
    wait $server || return 4
}

restores() {
    tree pipe || return 1
    rm -rf /b/images
    mkdir -p /b/images
    criu dump -t "$TREE" -D /b/images -v1 || return 2
    gone
    # Where it is restored there may be no plugin.
    [ "${1:-}" != elsewhere ] || rm -rf $PLUGIN_DIR
    criu restore -D /b/images -v1 --restore-detached || return 3
    grep -l preflight /b/images/* && return 4
    started_it "$TREE" || return 5
    untree
}

nth() { sort -n "$1" | sed -n "$2p"; }
median() { nth "$1" $((($(wc -l <"$1") + 1) / 2)); }
speed() {
    local i pairs=${SPEED_PAIRS:-15} start with
    : >/b/off
    : >/b/on
    : >/b/off.cpu
    : >/b/on.cpu
    TIMEFORMAT='%U %S'
    plugin off
    started "a small container" || return 0
    for i in $(seq "$pairs"); do
        # Each first in turn.
        for with in $([ $((i % 2)) = 0 ] && echo on off || echo off on); do
            plugin "$with"
            rm -rf /b/images /b/work
            mkdir -p /b/images /b/work
            start=$(date +%s%N)
            # runc waits for criu: its time is in runc's.
            { time runc checkpoint --image-path /b/images --work-path /b/work --leave-running $C </dev/null >/dev/null 2>&1; } \
                2>/b/cpu || {
                # The freezer's ten seconds again, see checkpoint: no measure of anything.
                grep -q 'Timeout reached. Try to interrupt' /b/work/dump.log ||
                    bad "speed: a checkpoint failed: $(grep -m1 'Error (' /b/work/dump.log)"
                continue
            }
            echo $((($(date +%s%N) - start) / 1000)) >>"/b/$with"
            tr -d . </b/cpu | { read -r user system && echo $(((10#$user + 10#$system) * 1000)); } >>"/b/$with.cpu"
        done
    done
    down
    [ "$(wc -l </b/on)" -ge 5 ] && [ "$(wc -l </b/off)" -ge 5 ] || {
        skip "speed: fewer than five checkpoints came to an end"
        return
    }
    local off on cpu_off cpu_on
    off=$(median /b/off) on=$(median /b/on) cpu_off=$(median /b/off.cpu) cpu_on=$(median /b/on.cpu)
    echo "     -- $pairs pairs, wall: median $off us without, $on us with ($((on - off)) us, $(((on - off) * 1000 / off)) permille)"
    echo "     -- the fastest: $(nth /b/off 1) us without, $(nth /b/on 1) us with"
    echo "     -- processor: median $cpu_off us without, $cpu_on us with ($((cpu_on - cpu_off)) us)"
    # Where others use the machine the wall's time says little: then what the processor did is held against the wall's.
    is "a checkpoint of a small container takes less than 5 % longer" \
        [ $(((on - off) * 20 < off || (cpu_on - cpu_off) * 20 < off)) = 1 ]
}

killed
disk "a full disk" size=64k full
disk "no inode left" nr_inodes=1,size=1m
disk "a read-only directory" size=1m "" ro
syslogs
both "criu check" criu check
both "criu check --all" criu check --all
both "dump, restore" restores
both "dump, restore where no plugin is" restores elsewhere
both "page server" page_server
both "lazy pages" lazy_pages
speed
closing
