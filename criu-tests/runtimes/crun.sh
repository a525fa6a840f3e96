#!/bin/bash
# crun.sh: the plugin under crun, in its default directory and with nothing configured.
# shellcheck disable=SC2034 # read by the files sourced
runtime=crun oci=crun shows_log=yes C=preflight-crun default_conf_link_remap=yes
COMMAND="crun checkpoint"
HINT="pass --file-locks to crun checkpoint .again to the restore., or write .file-locks. in /etc/criu/crun.conf;"
. /t/lib.sh
. /t/oci.sh
unconfigured
prepare
syslog_on
# From 1.28 on it quotes the log; before, its user reads the system log or nothing.
[[ $(crun --version) =~ version\ 1\.(1?[0-9]|2[0-7])[^0-9] ]] && shows_log=no

# It names a configuration file only by libcriu 4.2 or newer.
[[ $(criu --version) =~ Version:\ (3|4\.[01]) ]] && reads_file=no HINT="pass --file-locks to crun checkpoint .again to the restore.;"

# crun hands CRIU one cgroup path, which is wrong for the v1 hierarchies that a machine may have beside cgroup2.
echo 'manage-cgroups=ignore' >/etc/criu/crun.conf
clean
unconfigured
blockers
enough

same "a connection" no tcp-pair
same "a connection, --tcp-established" yes tcp-pair -- --tcp-established
same "a lock" no lock:type=flock
same "a lock, --file-locks" yes lock:type=flock -- --file-locks
same "a linked remainder" no file:relinked
with "$(bind /b/outside /outside) | $host_network" external_socket
same "a terminal of the container" yes tty-pair
same "a slave alone (orphan_pts_master)" yes tty-slave
same "a slave alone, --shell-job" yes tty-slave -- --shell-job
for mode in soft full strict ignore; do
    same "--manage-cgroups-mode=$mode" yes -- --manage-cgroups-mode=$mode
done
shell_job
empty_net=no
own_ways
cures
external_mounts
external_namespaces
configuration
frozen
closing
