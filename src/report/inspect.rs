//! How a person looks at what a rule is about, without this plugin and without CRIU. Upper-case words stand for what the report
//! names.

use crate::rules::Rule;

type Commands = &'static [&'static str];

const DESCRIPTOR: Commands = &["ls -l /proc/PID/fd/FD", "cat /proc/PID/fdinfo/FD"];
const SYSTEM: Commands = &["uname -r", "criu --version"];
const CAPABILITIES: Commands = &["grep Cap /proc/self/status   # where criu runs"];
const NAMESPACES: Commands = &["ls -l /proc/PID/ns", "lsns -p PID"];
const LINKS: Commands = &["nsenter -t PID -n ip -d link", "lsns -t net"];
const SETTINGS: Commands = &["criu --version", "id   # where criu runs", "grep Cap /proc/self/status"];

/// For the rules of a group.
const OF_GROUP: &[(&str, Commands)] = &[
    ("Devices", &["ls -lL /proc/PID/fd/FD", "readlink /proc/PID/fd/FD"]),
    ("Anonymous inodes", DESCRIPTOR),
    ("Mappings", &["cat /proc/PID/maps", "grep -E '^[0-9a-f]+-|VmFlags' /proc/PID/smaps"]),
    ("System V shared memory", &["grep SYSV /proc/PID/maps", "nsenter -t PID -i ipcs -m -p"]),
    ("File locks", &["grep lock: /proc/PID/fdinfo/*", "lslocks -p PID"]),
    ("UNIX sockets", &["nsenter -t PID -n ss -xape | grep -w INO", "ls -l /proc/PID/fd/FD"]),
    ("TCP sockets", &["nsenter -t PID -n ss -tanpe | grep -w INO"]),
    ("UDP sockets", &["nsenter -t PID -n ss -uanpe | grep -w INO"]),
    ("IP sockets", &["nsenter -t PID -n ss -anpe | grep -w INO", "lsfd -p PID"]),
    ("Netlink sockets", &["nsenter -t PID -n ss -f netlink -ape", "cat /proc/PID/net/netlink"]),
    ("Packet sockets", &["nsenter -t PID -n ss -0ape", "cat /proc/PID/net/packet"]),
    ("Other sockets", &["ls -l /proc/PID/fd/FD", "lsfd -p PID"]),
    ("Mounts", &["findmnt -N PID -o ID,TARGET,SOURCE,FSTYPE,PROPAGATION", "cat /proc/PID/mountinfo"]),
    ("Processes", &["cat /proc/PID/status", "ps -L -o pid,tid,stat,wchan:20,comm -p PID"]),
    (
        "Shared between processes",
        &["strace -f -e trace=clone,clone3,vfork PROGRAM   # at its start: nothing shows it later"],
    ),
    (
        "Tracers and access",
        &["grep -E 'Uid|Gid|Cap' /proc/PID/status", "grep Cap /proc/self/status   # where criu runs"],
    ),
    ("Users and privileges", SETTINGS),
    ("Processor state", &["file -L /proc/PID/exe"]),
    ("Sessions", &["ps -o pid,ppid,pgid,sid,tty,stat,comm -p PID"]),
    ("Terminals", &["ls -l /proc/PID/fd", "ps -o pid,sid,tpgid,tty,comm -p PID"]),
    ("Namespaces", NAMESPACES),
    ("Network namespaces", &["nsenter -t PID -n ip -d link", "lsns -t net"]),
    ("Paths", &["ls -l /proc/PID/fd/FD", "stat -L /proc/PID/fd/FD", "grep mnt_id /proc/PID/fdinfo/FD"]),
    ("Event files", DESCRIPTOR),
    ("Cgroups", &["grep -H . /proc/PID/task/*/cgroup", "readlink /proc/PID/ns/cgroup"]),
];

/// The names of sockets, as they were bound.
const UNIX_NAME: Commands = &["nsenter -t PID -n ss -xape | grep -w INO", "ls -l /proc/PID/fd/FD"];

/// For rules that are looked at in another way than their group.
const OF_RULE: &[(&str, Commands)] = &[
    ("tun-host-netns", &["cat /proc/PID/fdinfo/FD", "readlink /proc/PID/ns/net /proc/self/ns/net"]),
    ("tun-netns-external", &["cat /proc/PID/fdinfo/FD", "lsns -t net"]),
    ("tun-filter", &["cat /proc/PID/fdinfo/FD", "nsenter -t PID -n ip -d link"]),
    ("tun-nofilter-info", SYSTEM),
    ("pidfd-old", &["grep Pid /proc/PID/fdinfo/FD", "criu --version"]),
    ("pidfd-thread", &["grep -E 'Pid|flags' /proc/PID/fdinfo/FD"]),
    ("pidfd-outside", &["grep Pid /proc/PID/fdinfo/FD"]),
    ("vma-vvar-vclock", &["grep -F '[v' /proc/PID/maps", "criu --version"]),
    ("vma-uprobes", &["grep -F '[uprobes]' /proc/PID/maps", "criu --version"]),
    ("aio-ring-bad", &["grep aio /proc/PID/maps"]),
    ("hugetlb-unknown", &["grep -H . /sys/kernel/mm/hugepages/*/free_hugepages", "grep -i huge /proc/PID/maps"]),
    ("vma-vvar-gap", &["grep -F '[v' /proc/PID/maps"]),
    ("no-exec-vma", &["grep x /proc/PID/maps"]),
    ("exec-vma-shared", &["grep ' [-rw]*x[ps] ' /proc/PID/maps | head -1"]),
    ("address-space-full", &["grep 'address space' /proc/PID/limits", "grep VmSize /proc/PID/status"]),
    ("rseq-area", &["grep -n . /proc/PID/maps   # rw at the address"]),
    ("criu-leftover", &["ls -l /proc/PID/fd | grep -i criumfd", "grep -i criumfd /proc/PID/maps"]),
    ("freeze-stopped", &["ps -o pid,stat,comm -p PID", "grep freezer /proc/PID/cgroup"]),
    ("lsm-profile-malformed", &["grep lsm-profile /etc/criu/*.conf"]),
    ("guard-pages-old-criu", &["ldd --version   # of the program's C library", "uname -r", "criu --version"]),
    ("pipe-packet", &["grep flags /proc/PID/fdinfo/FD   # 040000: O_DIRECT"]),
    ("pipe-too-many", &["ls -l /proc/PID/fd | grep -c pipe:"]),
    ("fd-o-path", &["grep flags /proc/PID/fdinfo/FD   # 010000000: O_PATH", "ls -l /proc/PID/fd/FD"]),
    ("unix-not-collected", &["nsenter -t PID -n ss -xape | grep -w INO", "lsmod | grep unix_diag", "lsns -t net"]),
    ("unix-peer-uncollected", &["nsenter -t PID -n ss -xape | grep -w INO", "lsns -t net"]),
    ("tcp-undiagged", &["grep -w INO /proc/PID/net/tcp /proc/PID/net/tcp6", "lsns -t net"]),
    ("tcp-lock", &["command -v iptables ip6tables nft   # where criu runs"]),
    ("tcp-closed-locked", &["command -v iptables ip6tables nft   # where criu runs"]),
    ("tcp-repair", CAPABILITIES),
    ("ip-proto", &["nsenter -t PID -n ss -Manpe   # MPTCP", "nsenter -t PID -n ss -Sanpe   # SCTP", "lsfd -p PID"]),
    ("raw-connected", &["nsenter -t PID -n ss -wanpe | grep -w INO"]),
    ("ip-not-collected", &["lsmod | grep _diag", "zgrep _DIAG /proc/config.gz"]),
    ("ip-netns-external", &["lsfd -p PID", "lsns -t net"]),
    ("packet-missing", &["lsmod | grep af_packet_diag", "lsns -t net"]),
    ("packet-ring-unopened", &["grep socket: /proc/PID/maps", "ls -l /proc/PID/fd"]),
    ("socket-o-path", &["grep flags /proc/PID/fdinfo/FD   # 010000000: O_PATH", "ls -l /proc/PID/fd/FD"]),
    ("socket-bound-dev", &["nsenter -t PID -n ip link", "nsenter -t PID -n ss -anpe | grep -w INO"]),
    ("socket-opt-passcred", SYSTEM),
    ("mnt-own-devpts", &["findmnt /dev/pts   # where criu runs"]),
    ("mnt-own-devtmpfs", &["findmnt /dev   # where criu runs"]),
    ("mnt-mqueue", &["findmnt -N PID -t mqueue", "nsenter -t PID -m ls -l MOUNTPOINT"]),
    ("pending-sigtrap", &["grep -H -E 'SigPnd|ShdPnd|SigBlk' /proc/PID/task/*/status   # 10: SIGTRAP"]),
    ("fd-table-full", &["ls /proc/PID/fd | wc -l", "grep files /proc/PID/limits"]),
    ("proc-fd-denied", &["ls -l /proc/PID/root/proc/self", "lsns -p PID"]),
    ("vfork-in-flight", &["ps -o pid,stat,wchan:20,comm -p PID", "cat /proc/PID/stack"]),
    ("shared-files-not-parent", &["ls -l /proc/PID/fd   # the same in both processes", "ps -o pid,ppid,comm -p PID"]),
    ("task-traced", &["grep -H TracerPid /proc/PID/task/*/status"]),
    ("self-in-tree", &["ps -e -o pid,ppid,comm --forest"]),
    ("proc-denied", &["ls -ld /proc/PID/map_files /proc/PID/fd", "grep Cap /proc/self/status   # where criu runs"]),
    (
        "seccomp-suspend",
        &["grep -H Seccomp /proc/PID/task/*/status", "grep -E 'Seccomp|Cap' /proc/self/status   # where criu runs"],
    ),
    ("rlimit-denied", &["grep -E 'Uid|Gid' /proc/PID/status", "grep Cap /proc/self/status   # where criu runs"]),
    ("status-parse", &["grep Groups /proc/PID/status | wc -c", "criu --version"]),
    ("groups-too-many", &["grep Groups /proc/PID/status | wc -w"]),
    ("shstk", &["grep x86_Thread_features /proc/PID/status", "criu --version"]),
    ("netns-lock", &["command -v iptables-restore ip6tables-restore nft   # where criu runs"]),
    ("netns-ip-tool", &["command -v ip   # where criu runs"]),
    ("netns-no-net-admin", CAPABILITIES),
    ("netns-multi-empty", NAMESPACES),
    ("file-mount-unknown", &["ls -l /proc/PID/fd/FD", "grep mnt_id /proc/PID/fdinfo/FD", "cat /proc/PID/mountinfo"]),
    ("file-overmounted", &["grep mnt_id /proc/PID/fdinfo/FD", "cat /proc/PID/mountinfo"]),
    ("path-too-long", &["readlink /proc/PID/fd/FD | wc -c"]),
    ("chroot-root-task", &["readlink /proc/PID/root", "cat /proc/PID/mountinfo"]),
    ("exe-memfd", &["readlink /proc/PID/exe"]),
    ("proc-thread-fd", &["ls -l /proc/PID/fd/FD", "readlink /proc/PID/cwd", "ls /proc/PID/task"]),
    ("userns-proc", NAMESPACES),
    (
        "proc-outer-fd",
        &["ls -l /proc/PID/fd/FD", "readlink /proc/PID/root/proc/self   # a number, where it is not the tree's own"],
    ),
    ("mnt-newline", &["grep -F '\\012' /proc/PID/mountinfo"]),
    ("mnt-overlay", &["findmnt -N PID -t overlay -o ID,TARGET,OPTIONS"]),
    ("link-remap-left", &["ls -l /proc/PID/fd/FD", "stat -L /proc/PID/fd/FD   # Links"]),
    ("ro-mount-deleted", &["ls -l /proc/PID/fd/FD", "findmnt -N PID -o ID,TARGET,OPTIONS   # ro"]),
    (
        "ro-mount-stacked",
        &["ls -l /proc/PID/fd/FD", "findmnt -N PID -o ID,PARENT,TARGET,OPTIONS   # ro, and two on one mountpoint"],
    ),
    ("fifo-packet", &["ls -l /proc/PID/fd/FD", "grep flags /proc/PID/fdinfo/FD   # 040000: O_DIRECT"]),
    ("lost-receive-queue", &["nsenter -t PID -n ss -uwanpe | grep -w INO   # Recv-Q"]),
    ("lost-send-queue", &["nsenter -t PID -n ss -uwanpe | grep -w INO   # Send-Q"]),
    ("lost-watch-events", DESCRIPTOR),
    ("lost-signal-owner", &["grep flags /proc/PID/fdinfo/FD   # 020000: O_ASYNC"]),
    (
        "lost-pressure-trigger",
        &["ls -l /proc/PID/fd/FD", "grep flags /proc/PID/fdinfo/FD   # 02: O_RDWR, 01: O_WRONLY"],
    ),
    ("lost-deadline", &["chrt -a -p PID"]),
    ("lost-io-priority", &["ionice -p PID"]),
    ("lost-thread-own", &["ls -l /proc/PID/task/*/fd", "readlink /proc/PID/task/*/root /proc/PID/task/*/cwd"]),
    ("lost-ns-nested", NAMESPACES),
    ("macvlan-parent", LINKS),
    ("veth-outside", LINKS),
    ("tcp-reset", &["ls -l /proc/PID/fd   # ss does not show it"]),
    ("packet-ring-inherited", &["grep socket: /proc/PID/maps", "ls -l /proc/PID/fd"]),
    ("unix-dir-gone", UNIX_NAME),
    ("unix-dir-renamed", UNIX_NAME),
    ("unix-mount-outside", UNIX_NAME),
    ("lost-unix-renamed", UNIX_NAME),
    (
        "ro-mount-unix",
        &["nsenter -t PID -n ss -xlpe | grep -w INO", "findmnt -N PID -o ID,TARGET,OPTIONS   # ro: OPTIONS"],
    ),
    ("unix-peer-unresolved", &["nsenter -t PID -n ss -xape | grep -w INO", "ls -l /proc/PID/fd/FD"]),
    ("unix-external-in-vain", &["nsenter -t PID -n ss -xape | grep -w INO", "ls -l /proc/PID/fd/FD"]),
    ("tty-session-lost", &["ls -l /proc/PID/fd", "ps -eo pid,sid,tty,comm"]),
    ("tty-o-path", &["grep flags /proc/PID/fdinfo/FD   # 010000000: O_PATH", "ls -l /proc/PID/fd"]),
    ("queue-only-fd", &["cat /proc/PID/fdinfo/FD   # scm_fds: descriptors in its queue"]),
    ("cg-criu-set", &["grep -H . /proc/self/cgroup /proc/PID/task/*/cgroup   # where criu runs"]),
    ("lost-cgroup-ns", &["readlink /proc/PID/ns/cgroup /proc/self/ns/cgroup", "cat /proc/PID/cgroup"]),
    ("route-linkdown", &["nsenter -t PID -n ip route   # linkdown, dead", "nsenter -t PID -n ip link"]),
    ("route-nexthop", &["nsenter -t PID -n ip -d route", "nsenter -t PID -n ip nexthop"]),
    ("lost-route-table", &["nsenter -t PID -n ip rule", "nsenter -t PID -n ip route show table all"]),
    ("lost-socket-option", &["strace -e trace=setsockopt PROGRAM   # at its start: nothing shows it later"]),
    ("lost-file-lock", &["grep lock: /proc/PID/fdinfo/*", "lslocks -p PID"]),
];

/// The commands for what the rule is about; none for a rule of no known group.
pub(crate) fn commands(rule: &Rule) -> Commands {
    let of = |table: &[(&str, Commands)], name| table.iter().find(|(n, _)| *n == name).map(|(_, commands)| *commands);
    of(OF_RULE, rule.id).or_else(|| of(OF_GROUP, rule.group)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::registry::RULES;

    #[test]
    fn every_rule_can_be_looked_at_and_every_row_is_of_use() {
        for rule in RULES {
            assert!(!commands(rule).is_empty(), "{}", rule.id);
        }
        for (group, _) in OF_GROUP {
            let used = |r: &&&Rule| r.group == *group && OF_RULE.iter().all(|(id, _)| *id != r.id);
            assert!(RULES.iter().any(|r| used(&r)), "{group}");
        }
        for (id, _) in OF_RULE {
            assert!(RULES.iter().any(|r| r.id == *id), "{id}");
            assert_eq!(OF_RULE.iter().filter(|(other, _)| other == id).count(), 1, "{id}");
        }
    }

    #[test]
    fn what_stands_for_something_else_is_in_upper_case_and_explained() {
        for (name, commands) in OF_GROUP.iter().chain(OF_RULE) {
            for command in *commands {
                let before_comment = command.split("   #").next().unwrap();
                for word in before_comment.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| w.len() > 1) {
                    let known = ["PID", "FD", "INO", "MOUNTPOINT", "PROGRAM"];
                    let names =
                        ["ID", "PARENT", "TARGET", "SOURCE", "FSTYPE", "PROPAGATION", "OPTIONS", "SYSV", "DIAG"];
                    let placeholder = word.chars().all(|c| c.is_ascii_uppercase());
                    assert!(
                        !placeholder || known.contains(&word) || names.contains(&word),
                        "{name}: {command}: {word}"
                    );
                }
            }
        }
    }
}
