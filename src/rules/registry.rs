//! The one table of rules, in the order the documentation lists them.

use super::{files, lossy, memory, mounts, namespaces, sockets, tasks, Rule};

/// Every rule.
pub static RULES: &[&Rule] = &[
    &files::device::FD_CHRDEV,
    &files::device::FD_BLKDEV,
    &files::device::TUN_HOST_NETNS,
    &files::tun::TUN_NETNS_EXTERNAL,
    &files::tun::TUN_FILTER,
    &files::tun::TUN_NOFILTER_INFO,
    &files::anon_inode::FD_ANON,
    &files::anon_inode::FD_ANON_LONG_NAME,
    &files::anon_inode::FD_IO_URING,
    &files::unknown_type::FD_REG_NONAME,
    &files::unknown_type::FD_UNKNOWN,
    &files::anon_inode::PIDFD_OLD,
    &files::anon_inode::PIDFD_THREAD,
    &files::anon_inode::PIDFD_OUTSIDE,
    &memory::mapping::VMA_ANON_INODE,
    &memory::mapping::VMA_DEVICE,
    &memory::mapping::VMA_IO_PFNMAP,
    &memory::mapping::VMA_VVAR_VCLOCK,
    &memory::mapping::VMA_UPROBES,
    &memory::aio::AIO_RING_BAD,
    &memory::hugetlb::HUGETLB_UNKNOWN,
    &memory::placement::VMA_VVAR_GAP,
    &memory::placement::NO_EXEC_VMA,
    &memory::placement::EXEC_VMA_SHARED,
    &memory::mapping::GUARD_PAGES_OLD_CRIU,
    &memory::mapping::SYSV_SHM_NO_IPCNS,
    &memory::placement::VMA_SYSV_PRIVATE,
    &files::pipe::PIPE_PACKET,
    &files::pipe::PIPE_TOO_MANY,
    &files::o_path::FD_O_PATH,
    &files::lock::LOCK_NOT_ALLOWED,
    &files::lock::LOCK_KIND,
    &sockets::unix::UNIX_EXTERNAL_PEER,
    &sockets::unix::UNIX_EXTERNAL_STREAM,
    &sockets::unix::UNIX_EXTERNAL_NAMELESS,
    &sockets::unix::UNIX_NOT_COLLECTED,
    &sockets::unix::UNIX_PEER_UNCOLLECTED,
    &sockets::unix::UNIX_UNREACHABLE_PEER,
    &sockets::unix::UNIX_DANGLING,
    &sockets::unix::UNIX_TYPE,
    &sockets::unix::UNIX_STATE,
    &sockets::unix_accept::UNIX_ICON_NOT_LISTENING,
    &sockets::unix_accept::UNIX_ICON_DATA,
    &sockets::unix_accept::UNIX_ICON_CLOSED,
    &sockets::unix_name::UNIX_NAME_UNRESOLVED,
    &sockets::unix_name::UNIX_SIOCUNIXFILE,
    &sockets::unix_name::UNIX_PATH_NOT_SUFFIX,
    &sockets::unix_queue::UNIX_QUEUE_CMSG,
    &sockets::unix_queue::UNIX_QUEUE_RESET,
    &sockets::unix_queue::UNIX_QUEUE_TRUNC,
    &sockets::unix_queue::UNIX_QUEUE_SCM_FD,
    &sockets::unix_queue::UNIX_QUEUE_TTY,
    &sockets::tcp::TCP_CONNECTED,
    &sockets::tcp::TCP_INFLIGHT,
    &sockets::tcp::TCP_ODD_STATE,
    &sockets::tcp::TCP_UNDIAGGED,
    &sockets::tcp::TCP_LOCK,
    &sockets::tcp::TCP_CLOSED_LOCKED,
    &sockets::tcp::TCP_RECV_QUEUE,
    &sockets::tcp::TCP_REPAIR,
    &sockets::udp::UDP_CORKED,
    &sockets::ip::IP_PROTO,
    &sockets::ip::IP_TYPE,
    &sockets::ip::RAW_CONNECTED,
    &sockets::ip::IP_NOT_COLLECTED,
    &sockets::ip::IP_NETNS_EXTERNAL,
    &sockets::ip::IP6_NO_SCOPE_DEV,
    &sockets::netlink::NETLINK_DATA,
    &sockets::netlink::NETLINK_GROUPS32,
    &sockets::netlink::NETLINK_GROUP_NO_PORT,
    &sockets::packet::PACKET_MISSING,
    &sockets::packet::PACKET_MCLIST,
    &sockets::packet::PACKET_RING_UNOPENED,
    &sockets::common::SOCKET_FAMILY,
    &sockets::common::SOCKET_O_PATH,
    &sockets::common::SOCKET_EBPF_FILTER,
    &sockets::common::SOCKET_BOUND_DEV,
    &sockets::common::SOCKET_OPT_PASSCRED,
    &mounts::table::MNT_LINE,
    &mounts::table::MNT_UNSUPPORTED_FS,
    &mounts::table::MNT_NO_ROOT_MOUNT,
    &mounts::table::MNT_EXTERNAL_MASTER,
    &mounts::peer_groups::MNT_PROPAGATED,
    &mounts::table::MNT_SAME_POINT_CHILDREN,
    &mounts::table::MNT_TREE,
    &mounts::dev_instances::MNT_OWN_DEVPTS,
    &mounts::dev_instances::MNT_OWN_DEVTMPFS,
    &mounts::content::MNT_FUSE,
    &mounts::autofs::MNT_AUTOFS,
    &mounts::content::MNT_UNREACHABLE,
    &mounts::content::MNT_MQUEUE,
    &mounts::devpts::MNT_DEVPTS_BIND,
    &tasks::state::ROOT_IS_DEAD,
    &tasks::state::LEADER_ZOMBIE_THREADS,
    &tasks::state::THREAD_ZOMBIE,
    &tasks::state::ZOMBIE_WITH_CHILDREN,
    &tasks::state::PENDING_SIGTRAP,
    &tasks::state::STOP_SIGNAL_UNSUPPORTED,
    &tasks::state::FD_TABLE_FULL,
    &memory::address_space::ADDRESS_SPACE_FULL,
    &memory::leftover::CRIU_LEFTOVER,
    &memory::rseq::RSEQ_AREA,
    &tasks::shared::SHARED_MM,
    &tasks::shared::SHARED_FS,
    &tasks::shared::SHARED_SIGHAND,
    &tasks::shared::SHARED_FILES_NOT_PARENT,
    &tasks::shared::VFORK_IN_FLIGHT,
    &tasks::tracer::TASK_TRACED,
    &tasks::tracer::SELF_IN_TREE,
    &tasks::tracer::PTRACE_DENIED,
    &tasks::tracer::PROC_DENIED,
    &tasks::tracer::SECCOMP_SUSPEND,
    &tasks::credentials::RLIMIT_DENIED,
    &tasks::credentials::UNPRIVILEGED_NEEDS_OPTION,
    &tasks::credentials::UNPRIVILEGED_NO_CAP,
    &tasks::lsm::LSM_PROFILE_MALFORMED,
    &tasks::credentials::STATUS_PARSE,
    &tasks::credentials::GROUPS_TOO_MANY,
    &tasks::cpu_state::COMPAT_TASK,
    &tasks::cpu_state::LDT_SELECTOR,
    &tasks::cpu_state::SHSTK,
    &tasks::session::ROOT_NOT_SESSION_LEADER,
    &tasks::session::SESSION_OUTSIDE_PIDNS,
    &tasks::session::ZOMBIE_SESSION_OUTSIDE,
    &files::tty::TTY_INDEX,
    &files::tty::TTY_IOCTL,
    &files::tty::TTY_EXT_TOO_MANY,
    &files::tty::TTY_DANGLING_SID,
    &files::tty::TTY_SLAVE_UNPAIRED,
    &files::tty::TTY_TWO_UNPAIRED,
    &files::tty::TTY_WRITE_ONLY,
    &files::tty::TTY_CTTY_INHERIT,
    &namespaces::other::NS_NESTED,
    &namespaces::other::NS_TIME_CHILDREN,
    &namespaces::own_proc::PROC_FD_DENIED,
    &namespaces::other::PIDNS_WITHOUT_INIT,
    &namespaces::other::NS_USER_OWNER,
    &namespaces::other::USERNS_BINFMT,
    &namespaces::net::links::LINK_UNSUPPORTED,
    &namespaces::net::tun::TUN_NONPERSIST_UNHELD,
    &namespaces::net::tun::TUN_PERSISTENT_HELD,
    &namespaces::net::netns::NETNS_MULTI_EMPTY,
    &namespaces::net::netns::NETNS_LOCK,
    &namespaces::net::netns::NETNS_IP_TOOL,
    &namespaces::net::netns::NETNS_NO_NET_ADMIN,
    &sockets::tcp_reset::TCP_RESET,
    &sockets::packet::PACKET_RING_INHERITED,
    &namespaces::net::peers::MACVLAN_PARENT,
    &namespaces::net::peers::VETH_OUTSIDE,
    &namespaces::net::routes::ROUTE_LINKDOWN,
    &namespaces::net::routes::ROUTE_NEXTHOP,
    &namespaces::net::routes::LOST_ROUTE_TABLE,
    &sockets::options::LOST_SOCKET_OPTION,
    &files::unstattable::FD_NO_STAT,
    &files::path::FILE_MOUNT_UNKNOWN,
    &files::path::MQUEUE_FD,
    &files::path::FILE_OVERMOUNTED,
    &files::path::FILE_ODD_PATH,
    &files::ghost::GHOST_TOO_BIG,
    &files::ghost::LINK_REMAP_NEEDED,
    &files::ghost::LINK_REMAP_FAILED,
    &files::ghost::NFS_SILLY,
    &files::path::PATH_REUSED,
    &files::path::PATH_STAT_ERROR,
    &files::path::PATH_TOO_LONG,
    &files::buildid::BUILDID_OPEN,
    &files::path::CHROOT_ROOT_TASK,
    &files::memfd::EXE_MEMFD,
    &files::proc_thread::PROC_THREAD_FD,
    &files::proc_outer::PROC_OUTER_FD,
    &files::fifo::FIFO_PACKET,
    &files::ghost::RO_MOUNT_DELETED,
    &files::ghost::RO_MOUNT_STACKED,
    &files::ghost::LINK_REMAP_LEFT,
    &mounts::mountpoint::MNT_NEWLINE,
    &mounts::overlay::MNT_OVERLAY,
    &namespaces::user_proc::USERNS_PROC,
    &namespaces::ns_fd::NSFD_OUTSIDE,
    &files::epoll::EPOLL_ESCAPED,
    &files::timerfd::TIMERFD_CLOCK,
    &files::fsnotify::INOTIFY_HANDLE,
    &files::fsnotify::INOTIFY_TMPFS,
    &files::fsnotify::INOTIFY_FORCE_IRMAP,
    &files::fsnotify::FANOTIFY_MOUNT,
    &tasks::cgroup::CG_SUFFIX,
    &tasks::cgroup::CG_SHORT,
    &tasks::cgroup::CG_TOO_LONG,
    &tasks::cgroup::FREEZE_OUTSIDE,
    &tasks::cgroup::FREEZE_TRACED,
    &tasks::freezer::FREEZE_CGROUP_MISSING,
    &tasks::freezer::FREEZE_STOPPED,
    &lossy::LOST_RECEIVE_QUEUE,
    &lossy::LOST_SEND_QUEUE,
    &lossy::LOST_WATCH_EVENTS,
    &lossy::LOST_SIGNAL_OWNER,
    &files::pressure::LOST_PRESSURE_TRIGGER,
    &lossy::LOST_DEADLINE,
    &lossy::LOST_IO_PRIORITY,
    &lossy::LOST_THREAD_OWN,
    &lossy::LOST_NS_NESTED,
    &tasks::cgroup_restore::CG_CRIU_SET,
    &sockets::unix_dir::UNIX_DIR_GONE,
    &sockets::unix_dir::UNIX_DIR_RENAMED,
    &sockets::unix_dir::UNIX_MOUNT_OUTSIDE,
    &sockets::unix_dir::RO_MOUNT_UNIX,
    &sockets::unix_dir::LOST_UNIX_RENAMED,
    &sockets::unix_restore::UNIX_PEER_UNRESOLVED,
    &sockets::unix_restore::UNIX_EXTERNAL_IN_VAIN,
    &files::queue_only::QUEUE_ONLY_FD,
    &files::tty_restore::TTY_SESSION_LOST,
    &files::tty_restore::TTY_O_PATH,
    &tasks::cgroup_restore::LOST_CGROUP_NS,
    &files::lock::LOST_FILE_LOCK,
];

/// The rule with this id.
pub fn by_id(id: &str) -> Option<&'static Rule> {
    RULES.iter().copied().find(|r| r.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    fn sources(dir: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
        entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
    }

    /// One that is not in the table is never asked, and nothing else would notice.
    #[test]
    fn every_rule_is_in_the_table_and_named_as_its_id() {
        let mut written = BTreeSet::new();
        for path in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/rules")) {
            let text = std::fs::read_to_string(&path).unwrap();
            for item in text.split("\npub(crate) static ").skip(1) {
                let Some((name, rest)) = item.split_once(": Rule = Rule {") else { continue };
                let Some(id) = rest.split_once("id: \"").and_then(|(_, rest)| rest.split('"').next()) else { continue };
                assert_eq!(name, id.to_uppercase().replace('-', "_"), "{}", path.display());
                assert!(written.insert(id.to_owned()), "{id} is there twice");
            }
        }
        let registered: Vec<String> = RULES.iter().map(|rule| rule.id.to_owned()).collect();
        let as_set: BTreeSet<String> = registered.iter().cloned().collect();
        assert_eq!(as_set.len(), registered.len(), "a rule is in the table twice");
        assert_eq!(written, as_set);
        assert!(written.len() > 150, "{}", written.len());
    }

    /// As a line that was broken without a backslash would have it.
    #[test]
    fn no_text_has_two_spaces() {
        for rule in RULES {
            for text in [rule.summary, rule.condition, rule.message] {
                assert!(!text.contains("  ") && !text.contains('\n'), "{}: {text}", rule.id);
            }
        }
    }

    /// What stands in a rule's file beside its items and comments and has three words is a sentence that no template knows.
    #[test]
    fn no_rule_speaks_but_through_its_templates() {
        let is_word = |w: &&str| w.contains(|c: char| c.is_ascii_lowercase()) && !w.contains('{');
        let mut spoken = Vec::new();
        for path in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/rules")) {
            let text = std::fs::read_to_string(&path).unwrap();
            let name = path.file_name().unwrap().to_str().unwrap();
            if name.ends_with("_tests.rs") || ["testkit.rs", "registry.rs", "versions.rs"].contains(&name) {
                continue;
            }
            let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
            let without_items: String = code
                .split("\npub(crate) static ")
                .map(|item| match item.split_once(": Rule = Rule {") {
                    Some((_, item)) => item.split_once("\n    find: ").map_or("", |(_, find)| find),
                    None => item,
                })
                .collect();
            // The constants that items are made of: remedies that several have.
            let statements = without_items.split("\n}").filter(|part| !part.contains("Remedy::Workload"));
            for line in statements.flat_map(str::lines).filter_map(|line| line.split("//").next()) {
                let literals = line.split('"').skip(1).step_by(2);
                let sentences = literals
                    .filter(|l| !l.starts_with("AF_") && l.split_whitespace().filter(|w| is_word(w)).count() > 2);
                spoken.extend(sentences.map(|l| format!("{}: {l}", path.display())));
            }
        }
        assert!(spoken.is_empty(), "{spoken:#?}");
    }
}
