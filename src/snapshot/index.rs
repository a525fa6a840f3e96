//! Joins over a snapshot, made once per look: inode to socket, inode to the descriptors that hold it.

use crate::hash::Map;
use crate::parse::sockets::protocol::MPTCP;
use crate::snapshot::{OpenFile, Snapshot, Socket, SocketTable, Task, Unchecked};
use std::cell::OnceCell;

/// ScanPhase-up tables over one [`Snapshot`].
pub struct Index<'a> {
    snap: &'a Snapshot,
    sockets: Map<u64, (&'a SocketTable, Socket<'a>)>,
    /// Socket inode -> (task index, file index), in walk order.
    socket_fds: Map<u64, Vec<(usize, usize)>>,
    /// The keys of `socket_fds`, in walk order.
    held: Vec<u64>,
    /// pid -> task index, once somebody has asked.
    tasks: OnceCell<Map<i32, usize>>,
    /// What could not be looked at, by process, likewise.
    unchecked: OnceCell<Map<i32, Vec<usize>>>,
}

impl<'a> Index<'a> {
    /// One pass over the sockets and one over the descriptors.
    pub(crate) fn new(snap: &'a Snapshot) -> Self {
        let mut sockets = Map::default();
        for table in &snap.sockets {
            sockets.extend(table.unix.iter().map(|s| (u64::from(s.ino), (table, Socket::Unix(s)))));
            sockets.extend(table.inet.iter().map(|s| (u64::from(s.inode), (table, Socket::Inet(s)))));
            sockets.extend(table.packet.iter().map(|s| (u64::from(s.ino), (table, Socket::Packet(s)))));
            sockets.extend(table.netlink.iter().map(|s| (u64::from(s.ino), (table, Socket::Netlink(s)))));
        }
        // The kernel lists the first subflow of an MPTCP socket as a TCP socket with the inode of the MPTCP socket
        // (mptcp_subflow_create_socket()), but the descriptor is the MPTCP socket's.
        for table in &snap.sockets {
            let mptcp = table.inet.iter().filter(|s| s.protocol == MPTCP);
            sockets.extend(mptcp.map(|s| (u64::from(s.inode), (table, Socket::Inet(s)))));
        }
        // Inode 0 is what sockets without a file have (TIME_WAIT, not yet accepted): no descriptor ever refers to it.
        sockets.remove(&0);
        let mut socket_fds: Map<u64, Vec<(usize, usize)>> = Map::default();
        let mut held = Vec::new();
        for (t, task) in snap.tasks.iter().enumerate() {
            for (f, file) in task.files.iter().enumerate() {
                // The inode of an O_PATH descriptor is that of a socket file on a disk.
                if file.is_socket() && !file.socket().is_some_and(|s| s.o_path) {
                    let fds = socket_fds.entry(file.attr.ino).or_insert_with(|| {
                        held.push(file.attr.ino);
                        Vec::new()
                    });
                    fds.push((t, f));
                }
            }
        }
        Index { snap, sockets, socket_fds, held, tasks: OnceCell::new(), unchecked: OnceCell::new() }
    }

    /// The inodes of all sockets that a descriptor of the tree refers to, in walk order.
    pub(crate) fn held_sockets(&self) -> &[u64] {
        &self.held
    }

    /// What sock_diag said about the socket with this inode, and in which namespace.
    pub(crate) fn socket(&self, ino: u64) -> Option<(&'a SocketTable, Socket<'a>)> {
        self.sockets.get(&ino).copied()
    }

    /// The task with this pid.
    pub(crate) fn task(&self, pid: i32) -> Option<&'a Task> {
        let numbered = || self.snap.tasks.iter().map(|t| t.pid).zip(0..).collect();
        self.snap.tasks.get(*self.tasks.get_or_init(numbered).get(&pid)?)
    }

    /// What could not be looked at of this process.
    pub(crate) fn unchecked(&self, pid: i32) -> impl Iterator<Item = &'a Unchecked> + '_ {
        let of_all = || {
            let mut all: Map<i32, Vec<usize>> = Map::default();
            self.snap.unchecked.iter().zip(0..).for_each(|(u, nth)| all.entry(u.pid).or_default().push(nth));
            all
        };
        let of_pid = self.unchecked.get_or_init(of_all).get(&pid).into_iter().flatten();
        of_pid.filter_map(|nth| self.snap.unchecked.get(*nth))
    }

    /// Index of the first task, in walk order, with a descriptor that refers to the socket with this inode.
    pub(crate) fn first_holder(&self, ino: u64) -> Option<usize> {
        self.socket_fds.get(&ino)?.first().map(|(task, _)| *task)
    }

    /// Whether a descriptor of the tree refers to the socket with this inode.
    pub(crate) fn holds_socket(&self, ino: u64) -> bool {
        self.socket_fds.contains_key(&ino)
    }

    /// The descriptors of the tree that refer to the socket with this inode.
    pub(crate) fn socket_holders(&self, ino: u64) -> impl Iterator<Item = (&'a Task, &'a OpenFile)> + '_ {
        let snap = self.snap;
        self.socket_fds.get(&ino).into_iter().flatten().filter_map(move |(t, f)| {
            let task = snap.tasks.get(*t)?;
            Some((task, task.files.get(*f)?))
        })
    }
}
