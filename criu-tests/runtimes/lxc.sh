#!/bin/bash
# lxc.sh: the plugin under lxc-checkpoint, in its default directory and with nothing configured.
# shellcheck disable=SC2034 # read by the files sourced
runtime=lxc shows_log=no C=preflight-lxc HINT="fd-io-uring: .*run the program without io_uring"
. /t/lib.sh
# Without -s the container goes on.
leave=()
P=/b/lxc
NET=empty

prepare() { rootfs $P/rootfs; }
up() {
    down
    rm -rf $P/rootfs/tmp/* "${P:?}/$C"
    mkdir -p $P/$C
    cat >$P/$C/config <<X
lxc.uts.name = $C
lxc.rootfs.path = dir:$P/rootfs
lxc.init.cmd = /bin/work $*
lxc.net.0.type = $NET
lxc.tty.max = 0
lxc.pty.max = 1
lxc.console.path = none
lxc.mount.auto = proc:mixed sys:ro
lxc.autodev = 1
lxc.hook.autodev = /b/autodev
lxc.mount.entry = /b/outside outside none bind,create=dir 0 0
X
    printf '#!/bin/sh\nmknod -m 666 "$LXC_ROOTFS_MOUNT/dev/fuse" c 10 229\n' >/b/autodev
    chmod 755 /b/autodev
    lxc-start -P $P -n $C -d -o /b/lxc.log || {
        tail -5 /b/lxc.log
        return 1
    }
}
ck() {
    rm -rf /b/images
    mkdir -p /b/images
    lxc-checkpoint -P $P -n $C -D /b/images -v "$@"
}
restore() { lxc-checkpoint -P $P -n $C -D /b/images -v -r >"$OUT" 2>&1 </dev/null; }
down() { lxc-stop -P $P -n $C -k; } >/dev/null 2>&1
counter() { echo $P/rootfs/tmp/count; }
criu_log() { echo /b/images/dump.log; }
restore_log() { echo /b/images/restore.log; }
root_pid() { lxc-info -P $P -n $C -pH; }
state() { lxc-info -P $P -n $C -s | sed -n 's/State: *//p' | tr '[:upper:]' '[:lower:]'; }

unconfigured
prepare
syslog_on
clean_flags=(-s)
clean
# LXC passes --tcp-established, --file-locks and --link-remap itself: not one of what they let through is a blocker.
BLOCKERS=(pipe-packet io-uring dev:path=/dev/fuse)
BLOCKED=('[Pp]acketized|O_DIRECT' 'io_uring' '/dev/fuse')
blockers
enough
same "a connection, a lock and a linked remainder" yes tcp-pair lock:type=flock file:relinked
same "a terminal of the container" yes tty-pair
# What LXC does not pass can be written where its hint says.
NET=none
same "an outside socket" no unix-connect:path=/outside/log,type=dgram
has "the hint names the file that LXC's user has" <(ours) "write .*'ext-unix-sk'.* in /etc/criu/default.conf"
cured "an outside socket" unix-connect:path=/outside/log,type=dgram
cured "a big file without a name" ghost:alloc=2000000,len=2000000
echo ext-unix-sk >/etc/criu/default.conf
same "an outside socket, ext-unix-sk in default.conf" yes unix-connect:path=/outside/log,type=dgram
closing
