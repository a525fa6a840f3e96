//! sock_diag: every socket of the network namespaces that the tree lives in, one dump a namespace and kind, joined with
//! the descriptors later by inode.
//!
//! What is asked is what CRIU's `collect_sockets()` asks (sockets.c, v3.17.1 to v4.3), and MPTCP, which it does not know.

pub(crate) mod links;
mod routes;

use crate::hash::Set;
use crate::parse::diag::{self, Dump};
use crate::parse::sockets::family::{INET, INET6, NETLINK, PACKET, UNIX};
use crate::parse::sockets::protocol::{MPTCP, RAW, TCP, UDP, UDPLITE};
use crate::scan::net::{inside, proc_net};
use crate::scan::passes::PassContext;
use crate::scan::sys::{self, retry};
use crate::snapshot::{Namespaces, Probe, ScanPhase, SocketTable, Task, Unchecked};
use nix::errno::Errno;
use nix::sys::socket::{self, sockopt, AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType};
use nix::sys::time::TimeVal;
use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// For how long one namespace may answer, modprobe not counted. It takes tens of microseconds.
const PATIENCE: Duration = Duration::from_secs(3);

/// The kernel fills at most 32 KiB of a longer buffer (`netlink_dump()`, net/netlink/af_netlink.c).
const DATAGRAM: usize = 64 * 1024;

/// Which kinds of sockets to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Families {
    pub unix: bool,
    /// TCP, UDP, UDP-Lite and raw of both IP versions.
    pub inet: bool,
    pub mptcp: bool,
    pub packet: bool,
    pub netlink: bool,
}

impl Families {
    pub(crate) const ALL: Families = Families { unix: true, inet: true, mptcp: true, packet: true, netlink: true };

    /// Address family and protocol of each request, the dearest last.
    fn requests(self) -> impl Iterator<Item = (u8, u16)> {
        let cheap = [(UNIX, self.unix), (PACKET, self.packet), (NETLINK, self.netlink)];
        let cheap = cheap.into_iter().filter(|(_, wanted)| *wanted).map(|(family, _)| (family, 0));
        let inet = [UDP, UDPLITE, RAW, TCP, MPTCP].into_iter().flat_map(|p| [INET, INET6].map(|family| (family, p)));
        cheap.chain(inet.filter(move |(_, p)| if *p == MPTCP { self.mptcp } else { self.inet }))
    }
}

/// By network namespace: the requests that the kernel has no module for ([`SocketTable::failed`]).
pub(crate) type Refused = HashMap<u64, Vec<(u8, u16, i32)>>;

/// Fills in [`crate::snapshot::Snapshot::sockets`].
pub(crate) fn collect(cx: &mut PassContext) {
    let PassContext { snap, own, cache, log, .. } = cx;
    let files = snap.tasks.iter().flat_map(|t| &t.files);
    let held: Set<u64> = files.filter(|f| own.is_socket(f)).map(|f| f.attr.ino).collect();
    // CRIU lists the sockets of a network namespace that it dumps even if there are none.
    if held.is_empty() && snap.root_shares(|ns| ns.net) == Some(true) {
        return;
    }
    let (sockets, unchecked) = ask(&snap.tasks, &snap.criu.ns, &held, snap.look, &mut cache.refused);
    snap.sockets = sockets;
    log.0.extend(unchecked);
    proc_net::collect(cx, held);
}

/// The tables of a look. What the early one found that the kernel cannot tell stands in `memo`, where the kernel had an answer to
/// every request: the frozen one need not find it out again.
pub(crate) fn ask(
    tasks: &[Task],
    observer: &Namespaces,
    held: &Set<u64>,
    look: ScanPhase,
    memo: &mut Refused,
) -> (Vec<SocketTable>, Vec<Unchecked>) {
    let refused = std::mem::take(memo);
    let refused = if look == ScanPhase::Frozen { refused } else { Refused::default() };
    let (tables, unchecked) = tables(tasks, observer, Families::ALL, Some(held), &refused);
    if look == ScanPhase::Early {
        let certain = |t: &&SocketTable| t.failed.iter().all(|f| matches!(f.2, libc::ENOENT | libc::EINVAL));
        *memo = tables.iter().filter(certain).map(|t| (t.netns, t.failed.clone())).collect();
    }
    (tables, unchecked)
}

/// One table per network namespace of the tasks, in the order they are met, and what could not be asked.
///
/// A namespace other than the observer's is reached through a child that makes the socket there and hands it back
/// (see [`crate::scan::net::inside`]). A kind of socket that the kernel does not tell of stands in [`SocketTable::failed`].
///
/// `held`: the inodes of all sockets that the tree has descriptors of. MPTCP is not listed then (the query that borrows the
/// descriptor learns it), and as soon as each is found, the rest of TCP is only asked whether the kernel could tell: both
/// dumps walk hash tables that are large on a large host. `None`: list everything.
///
/// `refused`: where even that is known already. There nothing more is asked once each is found.
fn tables(
    tasks: &[Task],
    observer: &Namespaces,
    wanted: Families,
    held: Option<&Set<u64>>,
    refused: &Refused,
) -> (Vec<SocketTable>, Vec<Unchecked>) {
    let mut missing = held.cloned();
    // Namespace -> the tasks that live there: the first may be gone when it is asked.
    let mut order = Vec::new();
    let mut members: BTreeMap<u64, Vec<i32>> = BTreeMap::new();
    for task in tasks {
        if let Some(net) = task.ns.net {
            let pids = members.entry(net).or_insert_with(|| {
                order.push(net);
                Vec::new()
            });
            pids.push(task.pid);
        }
    }
    let mut tables = Vec::new();
    let mut unchecked = Vec::new();
    for net in order {
        let socket = if Some(net) == observer.net {
            open().map(Some).map_err(|e| (0, e))
        } else {
            let members = members.get(&net).map(Vec::as_slice).unwrap_or_default();
            open_in_netns(net, libc::NETLINK_SOCK_DIAG, members)
        };
        match socket {
            Ok(Some(socket)) => {
                let (table, cut_short) = table(&socket, net, wanted, &mut missing, refused.get(&net));
                // What the kernel cannot list at all is a rule's; what it did not tell is no rule's.
                if let Some(errno) = cut_short {
                    let pid = members.get(&net).and_then(|pids| pids.first()).copied().unwrap_or_default();
                    unchecked.push(not_seen(pid, net, errno));
                }
                tables.push(table);
            }
            // All who lived there have ended.
            Ok(None) => {}
            Err((pid, errno)) => unchecked.push(not_seen(pid, net, errno as i32)),
        }
    }
    (tables, unchecked)
}

fn not_seen(pid: i32, net: u64, errno: i32) -> Unchecked {
    Unchecked { pid, fd: None, probe: Probe::Sockets { net }, errno }
}

fn open() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC;
    socket::socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkSockDiag)
}

/// A netlink socket of this protocol in the namespace `net`, through the first of `pids` that is still there; the error is that of the last.
fn open_in_netns(net: u64, protocol: i32, pids: &[i32]) -> Result<Option<OwnedFd>, (i32, Errno)> {
    let mut failed = None;
    // Few lines of a long list: who is in the way for one (a user namespace) is so for all.
    for pid in pids.iter().take(16) {
        let ns_request = inside::netlink(protocol);
        match inside::open(ns_request, *pid, net)
            .and_then(|ns| ns.map(|ns| inside::make(ns.as_fd(), ns_request, PATIENCE)).transpose())
        {
            Ok(Some(socket)) => return Ok(Some(socket)),
            Ok(None) => {}
            Err(errno) => failed = Some((*pid, errno)),
        }
    }
    failed.map_or(Ok(None), Err)
}

/// Whether we have CAP_NET_ADMIN over the socket's network namespace. `None`: not known (Linux before 4.10).
fn net_admin(socket: &OwnedFd) -> Option<bool> {
    match sys::netns_of(socket.as_raw_fd()) {
        Ok(_) => Some(true),
        Err(Errno::EPERM) => Some(false),
        Err(_) => None,
    }
}

/// Takes what it finds out of `missing`. Also the errno, if an answer did not come to its end.
fn table(
    socket: &OwnedFd,
    netns: u64,
    wanted: Families,
    missing: &mut Option<Set<u64>>,
    refused: Option<&Vec<(u8, u16, i32)>>,
) -> (SocketTable, Option<i32>) {
    let mut table = SocketTable { netns, net_admin: net_admin(socket), ..SocketTable::default() };
    let mut wire = DiagSocket::new(socket);
    for (family, protocol) in wanted.requests() {
        let all_found = missing.as_ref().is_some_and(Set::is_empty);
        if let Some(refused) = refused.filter(|_| all_found && family != UNIX) {
            table.failed.extend(refused.iter().filter(|f| (f.0, f.1) == (family, protocol)));
            continue;
        }
        let end = match (family, protocol) {
            (UNIX, _) => wire.dump(diag::unix_request, diag::unix, |s| s.ino, &mut table.unix, missing),
            (PACKET, _) => wire.dump(diag::packet_request, diag::packet, |s| s.ino, &mut table.packet, missing),
            (NETLINK, _) => wire.dump(diag::netlink_request, diag::netlink, |s| s.ino, &mut table.netlink, missing),
            // Walked even more slowly, and TCP has listed the first subflow of each, with the same inode. (Its
            // INET_DIAG_ULP_INFO does not tell: Linux 6.18 gives none for a listening one. SO_PROTOCOL does.)
            (_, MPTCP) if missing.is_some() => continue,
            (_, TCP) if all_found => {
                wire.once(|seq| diag::inet_probe(seq, family, protocol), |_| None::<()>).and_then(ended)
            }
            _ => {
                let request = |seq| diag::inet_request(seq, family, protocol);
                wire.dump(request, |payload| diag::inet(payload, protocol), |s| s.inode, &mut table.inet, missing)
            }
        };
        if let Err(errno) = end {
            table.failed.push((family, protocol, errno));
        }
    }
    (table, wire.cut_short)
}

/// How a dump ended, as the kernel's errno.
fn ended<T>(dump: Dump<T>) -> Result<(), i32> {
    match dump.end {
        Some(0) => Ok(()),
        end => Err(end.unwrap_or(libc::EIO)),
    }
}

/// One netlink socket in use.
struct DiagSocket<'a> {
    socket: &'a OwnedFd,
    until: Instant,
    buf: Vec<u8>,
    seq: u32,
    /// The last errno of the socket itself.
    cut_short: Option<i32>,
}

impl<'a> DiagSocket<'a> {
    fn new(socket: &'a OwnedFd) -> Self {
        // Only a net: the first answer is there when send(2) returns, each other one when the one before it is read
        // (`netlink_dump()`, net/netlink/af_netlink.c).
        let patience = TimeVal::new(i64::try_from(PATIENCE.as_secs()).unwrap_or(1), 0);
        let _ = socket::setsockopt(socket, sockopt::ReceiveTimeout, &patience);
        DiagSocket { socket, until: Instant::now() + PATIENCE, buf: vec![0; DATAGRAM], seq: 0, cut_short: None }
    }

    /// One dump, each socket once, into `out`; the error is the kernel's errno.
    ///
    /// A socket without a file has no inode and no descriptor, and is left out: not accepted yet, the kernel's own.
    fn dump<T>(
        &mut self,
        request: impl Fn(u32) -> Vec<u8>,
        decode: impl Fn(&[u8]) -> Option<T>,
        inode: impl Fn(&T) -> u32,
        out: &mut Vec<T>,
        missing: &mut Option<Set<u64>>,
    ) -> Result<(), i32> {
        let mut dump = self.once(&request, &decode)?;
        if dump.interrupted {
            // The namespace changed meanwhile: what one dump misses the other has.
            let again = self.once(&request, &decode)?;
            dump.sockets.extend(again.sockets);
        }
        let mut seen = Set::from_iter([0]);
        for socket in std::mem::take(&mut dump.sockets) {
            let ino = inode(&socket);
            if seen.insert(ino) {
                if let Some(missing) = missing {
                    missing.remove(&u64::from(ino));
                }
                out.push(socket);
            }
        }
        ended(dump)
    }

    fn once<T>(
        &mut self,
        request: impl Fn(u32) -> Vec<u8>,
        decode: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Dump<T>, i32> {
        self.first(request, decode, usize::MAX)
    }

    /// As much of a dump as comes in this many datagrams. After one that is cut short the socket is of no further use: the kernel
    /// makes no second dump while one is not read to its end.
    fn first<T>(
        &mut self,
        request: impl Fn(u32) -> Vec<u8>,
        decode: impl Fn(&[u8]) -> Option<T>,
        datagrams: usize,
    ) -> Result<Dump<T>, i32> {
        self.seq = self.seq.wrapping_add(1);
        let request = request(self.seq);
        let asked = Instant::now();
        let sent = retry(|| socket::send(self.socket.as_raw_fd(), &request, MsgFlags::empty()));
        // There the kernel looks for its module, once for each kind where there is none.
        self.until += asked.elapsed();
        sent.map_err(|e| self.fail(e))?;
        let mut dump = Dump::new(self.seq);
        for _ in 0..datagrams {
            if Instant::now() >= self.until {
                return Err(self.fail(Errno::ETIMEDOUT));
            }
            let (socket, buf) = (self.socket.as_raw_fd(), &mut self.buf);
            let n = retry(|| socket::recv(socket, buf, MsgFlags::empty())).map_err(|e| self.fail(e))?;
            if dump.feed(self.buf.get(..n).unwrap_or_default(), &decode) {
                break;
            }
        }
        Ok(dump)
    }

    /// Notes an error of send(2) or recv(2), which is no answer: never an errno by which the kernel says that it cannot list
    /// sockets of a kind.
    fn fail(&mut self, errno: Errno) -> i32 {
        let errno = match errno {
            Errno::EAGAIN => Errno::ETIMEDOUT,
            Errno::ENOENT | Errno::EINVAL => Errno::EIO,
            other => other,
        };
        self.cut_short = Some(errno as i32);
        errno as i32
    }
}

#[cfg(test)]
mod tests;
