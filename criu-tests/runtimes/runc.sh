#!/bin/bash
# runc.sh: the plugin under runc, in its default directory and with nothing configured.
# shellcheck disable=SC2034 # read by the files sourced
runtime=runc oci=runc shows_log=yes C=preflight-runc default_conf_link_remap=no
COMMAND="runc checkpoint"
HINT="pass --file-locks to runc checkpoint .again to the restore., or write .file-locks. in /etc/criu/runc.conf;"
. /t/lib.sh
. /t/oci.sh
unconfigured
prepare
syslog_on
# From 1.3 on it quotes the log; before, its user reads the system log or nothing.
# Before, it does not send link_remap either, so that default.conf decides.
[[ $(runc --version) =~ version\ 1\.[012]\. ]] && shows_log=no default_conf_link_remap=yes

clean
blockers
enough

# Every option that runc can send.
same "a connection" no tcp-pair
same "a connection, --tcp-established" yes tcp-pair -- --tcp-established
same "a lock" no lock:type=flock
same "a lock, --file-locks" yes lock:type=flock -- --file-locks
same "a linked remainder" no file:relinked
same "a linked remainder, --link-remap" yes file:relinked -- --link-remap
same "a connection in flight" no tcp-outside:state=syn_sent
same "a connection in flight, --tcp-skip-in-flight" either tcp-outside:state=syn_sent -- --tcp-skip-in-flight
# CRIU finds the other end only in the network namespace of the container.
with "$(bind /b/outside /outside) | $host_network" external_socket
with "$(bind /b/outside /outside)" same "an outside socket of another network namespace" no \
    unix-connect:path=/outside/log,type=dgram -- --ext-unix-sk
same "a terminal of the container" yes tty-pair
same "a slave alone (orphan_pts_master)" yes tty-slave
same "a slave alone, --shell-job" yes tty-slave -- --shell-job
for mode in soft full strict ignore; do
    same "--manage-cgroups-mode $mode" yes -- --manage-cgroups-mode $mode
done
shell_job
empty_net=yes
own_ways
cures
external_mounts
external_namespaces
configuration
frozen
closing
