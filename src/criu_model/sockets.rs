//! The sockets of the tree as CRIU meets them: each open socket once, with what sock_diag and the socket itself said about
//! it, and whether CRIU would have collected it. No rules here; those of every socket family stand on it.

use crate::bytes::Bytes;
use crate::criu_model::diag_list::{self, End};
pub(crate) use crate::criu_model::socket::Sock;
use crate::hash::{Map, Set};
use crate::parse::diag::UnixDiag;
use crate::parse::proc_net::SocketQueues;
use crate::snapshot::{Index, Snapshot, SocketTable};
use std::cell::OnceCell;
use std::collections::HashMap;
use std::net::IpAddr;

/// The whole of the tree's sockets.
pub struct Socks<'a> {
    snap: &'a Snapshot,
    /// Each once, in walk order.
    pub all: Vec<Sock<'a>>,
    /// What was listed, by network namespace.
    tables: Map<u64, &'a SocketTable>,
    /// Network namespaces of the tree's processes.
    nets: Set<u64>,
    /// A process's network namespace is not known.
    nets_unknown: bool,
    /// Inode of a connection that waits for accept -> the listening socket.
    waiting: Map<u32, &'a UnixDiag>,
    /// What is listed, but not for CRIU.
    unreached: Map<u64, End>,
    /// See [`Socks::all_unix_listed`].
    unix_listed: OnceCell<bool>,
    /// The first IP socket with these two addresses, once somebody has asked.
    ends: OnceCell<HashMap<(Addr, Addr), u64>>,
}

/// Address and port.
type Addr = (IpAddr, u16);

impl<'a> Socks<'a> {
    pub(crate) fn new(snap: &'a Snapshot, index: &Index<'a>) -> Self {
        let live = || snap.tasks.iter().filter(|t| !t.is_zombie());
        let mut socks = Socks {
            snap,
            all: Vec::new(),
            tables: snap.sockets.iter().map(|t| (t.netns, t)).collect(),
            nets: live().filter_map(|t| t.ns.net).collect(),
            nets_unknown: live().any(|t| t.ns.net.is_none()),
            waiting: Map::default(),
            unreached: diag_list::unreached(&snap.sockets),
            unix_listed: OnceCell::new(),
            ends: OnceCell::new(),
        };
        for table in &snap.sockets {
            if socks.collects(table.netns) == Some(false) {
                continue;
            }
            for listener in table.unix.iter().filter(|l| !socks.unreached.contains_key(&l.ino.into())) {
                socks.waiting.extend(listener.icons.iter().flatten().map(|client| (*client, listener)));
            }
        }
        let unlisted = snap.sockets.iter().flat_map(|table| &table.unlisted);
        let unlisted: Map<u64, SocketQueues> = unlisted.map(|s| (s.ino, *s)).collect();
        for ino in index.held_sockets() {
            let Some((task, file)) = index.socket_holders(*ino).next() else { continue };
            let listed = index.socket(*ino);
            socks.all.push(Sock {
                ino: *ino,
                task,
                file,
                facts: index.socket_holders(*ino).find_map(|(_, file)| file.socket()),
                listed,
                unlisted: unlisted.get(ino).copied(),
                collected: listed.and_then(|(table, _)| socks.collects(table.netns)),
                unreached: socks.unreached.get(ino).copied(),
            });
        }
        socks
    }

    /// The inode of the IP socket with these addresses, in any namespace of the tree.
    pub(crate) fn between(&self, local: Addr, remote: Addr) -> Option<u64> {
        let plain = |(ip, port): Addr| (ip.to_canonical(), port);
        let ends = self.ends.get_or_init(|| {
            let mut ends = HashMap::new();
            for s in self.snap.sockets.iter().flat_map(|table| &table.inet).filter(|s| s.inode != 0) {
                let both = (plain((s.src, s.sport)), plain((s.dst, s.dport)));
                ends.entry(both).or_insert(u64::from(s.inode));
            }
            ends
        });
        ends.get(&(plain(local), plain(remote))).copied()
    }

    /// Whether CRIU lists the sockets of this network namespace: those of the tree's processes, but its own only if the
    /// root task is in it (`walk_namespaces`, criu/namespaces.c). `None`: not known.
    pub(crate) fn collects(&self, netns: u64) -> Option<bool> {
        if !self.nets.contains(&netns) {
            return if self.nets_unknown { None } else { Some(false) };
        }
        match self.snap.criu.ns.net? == netns {
            true => self.snap.root_shares(|ns| ns.net),
            false => Some(true),
        }
    }

    /// Whether CRIU knows this network namespace at all: the tree's and its own (`lookup_ns_by_kid`).
    pub(crate) fn knows(&self, netns: u64) -> Option<bool> {
        if self.nets.contains(&netns) || self.snap.criu.ns.net? == netns {
            return Some(true);
        }
        if self.nets_unknown {
            None
        } else {
            Some(false)
        }
    }

    /// Whether our own list of these sockets in this namespace is there and whole.
    pub(crate) fn listed_whole(&self, netns: u64, family: i32, protocol: i32) -> bool {
        self.tables.get(&netns).is_some_and(|t| !t.failed.iter().any(|f| is(f, family, protocol)))
    }

    /// Whether the kernel has listed in full what there is of these sockets in this namespace, or that it cannot list them; or
    /// CRIU does not ask.
    pub(crate) fn is_answered(&self, netns: u64, family: i32) -> bool {
        self.collects(netns) == Some(false)
            || self.listed_whole(netns, family, 0)
            || self.diag_missing(netns, family, 0).is_some()
    }

    /// Whether that list has not a single UNIX or packet socket.
    pub(crate) fn lists_none(&self, netns: u64, family: i32) -> bool {
        self.tables.get(&netns).is_none_or(|t| match family {
            libc::AF_UNIX => t.unix.is_empty(),
            _ => t.packet.is_empty(),
        })
    }

    /// Whether CRIU's list lacks this socket, though the kernel's has it.
    pub(crate) fn is_unreached(&self, ino: u64) -> bool {
        self.unreached.contains_key(&ino)
    }

    /// Whether our list of the UNIX sockets of every namespace that CRIU collects is there and whole.
    pub(crate) fn all_unix_listed(&self) -> bool {
        let listed = || {
            let collected = self.nets.iter().filter(|ns| self.collects(**ns) != Some(false));
            !self.nets_unknown && collected.into_iter().all(|ns| self.listed_whole(*ns, libc::AF_UNIX, 0))
        };
        *self.unix_listed.get_or_init(listed)
    }

    /// Whether the kernel has listed the UNIX sockets of every namespace of the tree, or that it cannot list them.
    pub(crate) fn all_unix_answered(&self) -> bool {
        !self.nets_unknown && self.nets.iter().all(|ns| self.is_answered(*ns, libc::AF_UNIX))
    }

    /// The errno with which the kernel refused to list sockets of this kind in the namespace, if CRIU would be refused the
    /// same way: the module is missing (`collect_err`, criu/sockets.c).
    pub(crate) fn diag_missing(&self, netns: u64, family: i32, protocol: i32) -> Option<i32> {
        let table = self.tables.get(&netns)?;
        table.failed.iter().find(|f| is(f, family, protocol) && module_missing(f)).map(|f| f.2)
    }

    /// Whether CRIU has CAP_NET_ADMIN over the socket's network namespace; of one in no list, over all that the tree is in.
    pub(crate) fn net_admin(&self, s: &Sock) -> Option<bool> {
        match s.netns() {
            Some(netns) => self.tables.get(&netns)?.net_admin,
            None => {
                self.snap.sockets.iter().map(|t| t.net_admin).reduce(|a, b| if a == b { a } else { None }).flatten()
            }
        }
    }

    /// The listening socket at which this connection waits to be accepted.
    pub(crate) fn listener_of(&self, client: u32) -> Option<&'a UnixDiag> {
        self.waiting.get(&client).copied()
    }
}

fn is(failed: &(u8, u16, i32), family: i32, protocol: i32) -> bool {
    let ip = matches!(family, libc::AF_INET | libc::AF_INET6);
    i32::from(failed.0) == family && (!ip || i32::from(failed.1) == protocol)
}

/// A refused request (family, protocol, errno) that CRIU takes for a missing module.
///
/// It goes on where raw sockets cannot be listed, by their number, 255 (`collect_err`, criu/sockets.c); which is also how all
/// protocols of netlink are asked for.
pub(crate) fn module_missing(failed: &(u8, u16, i32)) -> bool {
    let family = i32::from(failed.0);
    let by_family = matches!(family, libc::AF_UNIX | libc::AF_PACKET | libc::AF_NETLINK);
    (failed.2 == libc::ENOENT && family != libc::AF_NETLINK) || (by_family && failed.2 == libc::EINVAL)
}

/// A UNIX name as people write it: an abstract one with `@` in place of its NUL.
pub(crate) fn shown_name(name: &Bytes) -> Bytes {
    match name.0.split_first() {
        Some((0, rest)) => Bytes([b"@", rest].concat()),
        _ => name.clone(),
    }
}
