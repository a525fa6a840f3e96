//! One socket of the tree, with what sock_diag and the socket itself tell about it.

use crate::criu_model::diag_list::End;
use crate::parse::diag::{InetDiag, NetlinkDiag, PacketDiag, UnixDiag};
use crate::parse::proc_net::SocketQueues;
use crate::snapshot::{Answer, OpenFile, Socket, SocketFacts, SocketTable, Task, UnixQueueFacts};
use std::net::SocketAddr;

/// One open socket of the tree, through the first descriptor that refers to it.
pub struct Sock<'a> {
    pub ino: u64,
    pub task: &'a Task,
    pub file: &'a OpenFile,
    pub(super) facts: Option<&'a SocketFacts>,
    pub(super) listed: Option<(&'a SocketTable, Socket<'a>)>,
    pub(super) unlisted: Option<SocketQueues>,
    /// Whether CRIU collects the namespace it is listed in; `None`: not known, or not listed.
    pub(super) collected: Option<bool>,
    pub(super) unreached: Option<End>,
}

impl<'a> Sock<'a> {
    /// An answer of the socket itself.
    pub(crate) fn fact<T>(&self, pick: impl Fn(&'a SocketFacts) -> Option<T>) -> Option<T> {
        self.facts.and_then(pick)
    }

    pub(crate) fn facts(&self) -> Option<&'a SocketFacts> {
        self.facts
    }

    /// What it tells of its unread messages; `None`: it is no UNIX socket, has none, or was not asked.
    pub(crate) fn queue(&self) -> Option<&'a UnixQueueFacts> {
        self.facts?.unix.queue.as_deref()
    }

    /// What CRIU's own table says about it. `None`: not listed, or only in a namespace that CRIU does not collect.
    pub(crate) fn diag(&self) -> Option<Socket<'a>> {
        self.listed.filter(|_| self.collected != Some(false) && self.unreached.is_none()).map(|(_, s)| s)
    }

    /// The record at which CRIU's list ends, if that is before this one.
    pub(crate) fn unreached(&self) -> Option<End> {
        self.unreached
    }
    pub(crate) fn unix(&self) -> Option<&'a UnixDiag> {
        match self.diag()? {
            Socket::Unix(s) => Some(s),
            _ => None,
        }
    }
    pub(crate) fn inet(&self) -> Option<&'a InetDiag> {
        match self.diag()? {
            Socket::Inet(s) => Some(s),
            _ => None,
        }
    }
    /// What lies in the queues of an IP socket, as the kernel shows it. `None`: not known.
    pub(crate) fn queues(&self) -> Option<SocketQueues> {
        let listed = |s: &InetDiag| SocketQueues { ino: self.ino, unsent: s.wqueue, unread: s.rqueue };
        self.inet().map(listed).or(self.unlisted)
    }
    pub(crate) fn packet(&self) -> Option<&'a PacketDiag> {
        match self.diag()? {
            Socket::Packet(s) => Some(s),
            _ => None,
        }
    }
    pub(crate) fn netlink(&self) -> Option<&'a NetlinkDiag> {
        match self.diag()? {
            Socket::Netlink(s) => Some(s),
            _ => None,
        }
    }

    /// The entry of a namespace that CRIU certainly does not collect.
    pub(crate) fn mismatch(&self) -> Option<(&'a SocketTable, Socket<'a>)> {
        self.listed.filter(|_| self.collected == Some(false))
    }

    /// Its entry among the IP sockets of any namespace, one that CRIU does not collect too.
    fn listed_inet(&self) -> Option<&'a InetDiag> {
        match self.listed?.1 {
            Socket::Inet(s) => Some(s),
            _ => None,
        }
    }

    /// The address and port of an IP socket, as getsockname() tells them.
    pub(crate) fn local(&self) -> Option<SocketAddr> {
        self.listed_inet().map(|s| SocketAddr::new(s.src, s.sport)).or_else(|| self.fact(|f| f.local))
    }

    /// Whether it is bound to an interface; `None`: not known.
    pub(crate) fn has_device(&self) -> Option<bool> {
        let asked = || match &self.facts?.bound_device {
            Answer::Unknown => None,
            device => Some(!device.is().is_some_and(|name| name.is_empty())),
        };
        self.listed_inet().map(|s| s.if_ != 0).or_else(asked)
    }

    /// SO_DOMAIN.
    pub(crate) fn family(&self) -> Option<i32> {
        self.listed.map(|(_, s)| family_of(s)).or_else(|| self.fact(|f| f.domain))
    }
    pub(crate) fn is_ip(&self) -> bool {
        matches!(self.family(), Some(libc::AF_INET | libc::AF_INET6))
    }

    /// SO_TYPE of an IP socket.
    pub(crate) fn ip_type(&self) -> Option<i32> {
        self.fact(|f| f.kind).or_else(|| match self.listed?.1 {
            Socket::Inet(s) => match i32::from(s.protocol) {
                libc::IPPROTO_TCP | libc::IPPROTO_MPTCP => Some(libc::SOCK_STREAM),
                libc::IPPROTO_UDP | libc::IPPROTO_UDPLITE => Some(libc::SOCK_DGRAM),
                libc::IPPROTO_RAW => Some(libc::SOCK_RAW),
                _ => None,
            },
            _ => None,
        })
    }

    /// SO_PROTOCOL of an IP socket that is not raw. An MPTCP socket shows as its first subflow where the kernel cannot list
    /// MPTCP (no mptcp_diag).
    pub(crate) fn ip_protocol(&self) -> Option<i32> {
        if let Some(p) = self.fact(|f| f.protocol) {
            return Some(p);
        }
        match self.listed?.1 {
            Socket::Inet(s) if s.ulp.as_ref().is_some_and(|u| u.0 == b"mptcp") => Some(libc::IPPROTO_MPTCP),
            Socket::Inet(s) => Some(i32::from(s.protocol)),
            _ => None,
        }
    }
    pub(crate) fn is_tcp(&self) -> bool {
        self.is_ip()
            && self.ip_protocol() == Some(libc::IPPROTO_TCP)
            && self.ip_type().is_none_or(|t| t == libc::SOCK_STREAM)
    }

    /// Inode of its network namespace.
    pub(crate) fn netns(&self) -> Option<u64> {
        self.listed.map(|(t, _)| t.netns).or_else(|| self.fact(|f| f.netns))
    }
}

fn family_of(socket: Socket) -> i32 {
    match socket {
        Socket::Unix(_) => libc::AF_UNIX,
        Socket::Inet(s) => i32::from(s.family),
        Socket::Packet(_) => libc::AF_PACKET,
        Socket::Netlink(_) => libc::AF_NETLINK,
    }
}
