//! Sockets: those of one network namespace, as sock_diag listed them, and what one tells itself.

use crate::bytes::Bytes;
use crate::parse::diag::{InetDiag, NetlinkDiag, PacketDiag, UnixDiag};
use crate::parse::proc_net::SocketQueues;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// All answers of sock_diag in one network namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SocketTable {
    /// Inode of the namespace.
    pub netns: u64,
    pub unix: Vec<UnixDiag>,
    /// TCP, UDP, UDP-Lite, raw and MPTCP of both families; the entry says which.
    pub inet: Vec<InetDiag>,
    pub packet: Vec<PacketDiag>,
    pub netlink: Vec<NetlinkDiag>,
    /// Those of the tree among the raw and ICMP sockets that the kernel does not list: what /proc/PID/net tells of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unlisted: Vec<SocketQueues>,
    /// We have CAP_NET_ADMIN over the namespace.
    #[serde(default)]
    pub net_admin: Option<bool>,
    /// Requests the kernel refused: address family, protocol, errno.
    pub failed: Vec<(u8, u16, i32)>,
}

/// One socket of any kind.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Socket<'a> {
    Unix(&'a UnixDiag),
    Inet(&'a InetDiag),
    Packet(&'a PacketDiag),
    Netlink(&'a NetlinkDiag),
}

/// The answer to a question whose errno is one, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer<T> {
    /// Not asked, or not answered: that stands under `unchecked`.
    #[default]
    Unknown,
    Is(T),
    /// The errno by which the kernel says that there is none.
    Errno(i32),
}

impl<T> Answer<T> {
    fn is_unknown(&self) -> bool {
        matches!(self, Answer::Unknown)
    }
    pub(crate) fn is(&self) -> Option<&T> {
        match self {
            Answer::Is(value) => Some(value),
            _ => None,
        }
    }
    pub(crate) fn errno(&self) -> Option<i32> {
        match self {
            Answer::Errno(errno) => Some(*errno),
            _ => None,
        }
    }
}

/// What a socket answers to getsockopt and ioctl. `None`: not asked, as not of this family or not needed, or not answered: that
/// stands under `unchecked`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SocketFacts {
    /// An O_PATH descriptor of a socket file: every getsockopt fails with EBADF.
    pub o_path: bool,
    /// SO_DOMAIN, SO_TYPE, SO_PROTOCOL.
    pub domain: Option<i32>,
    pub kind: Option<i32>,
    pub protocol: Option<i32>,
    /// Inode of the socket's network namespace (SIOCGSKNS), for a socket that no diag table lists.
    pub netns: Option<u64>,
    /// SO_GET_FILTER: the length. EACCES: an eBPF filter.
    #[serde(default, skip_serializing_if = "Answer::is_unknown")]
    pub filter: Answer<u32>,
    /// SO_BINDTODEVICE: the name, empty for none. ENODEV: the interface is gone.
    #[serde(default, skip_serializing_if = "Answer::is_unknown")]
    pub bound_device: Answer<Bytes>,
    /// getsockname() of an IP socket that no diag table lists.
    #[serde(default)]
    pub local: Option<SocketAddr>,
    pub tcp: TcpFacts,
    /// UDP_CORK (UDP and UDP-Lite).
    pub udp_cork: Option<bool>,
    /// A netlink socket: poll() for POLLIN reports anything, an error included (CRIU: `fd_has_data`).
    pub readable: Option<bool>,
    pub unix: UnixFacts,
    /// Level and number of the options of [`crate::criu_model::socket_options`] that have not their default value; only in the last
    /// look of a dump, and of the first sockets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unsaved_options: Vec<(i32, i32)>,
}

/// Of a TCP socket.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TcpFacts {
    /// tcpi_state of TCP_INFO, for a socket that diag lists in no state, or in TCP_CLOSE.
    pub state: Option<u8>,
    /// SO_PEERNAME of such a socket: unlike getpeername() it still tells the peer of a closed connection. A port of 0 (or
    /// ENOTCONN) means that there never was one, or that it was dissolved.
    pub peer: Option<SocketAddr>,
    /// SO_PEEK_OFF above 0, with unread data (Linux 6.10+).
    pub peek_off: Option<i32>,
    /// SO_OOBINLINE is set, and an urgent byte lies behind other unread data.
    pub urgent_inline: Option<bool>,
    /// The kernel decrypts what it receives (kTLS): bytes of FIONREAD, records as they came.
    pub tls_unread: Option<u32>,
}

/// Of a UNIX socket.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UnixFacts {
    /// SO_PEERCRED pid in our pid namespace, for a connected one with a peer outside the tree.
    pub peer_pid: Option<i32>,
    /// SIOCUNIXFILE: the link text of the bound path's file, for a relative name.
    #[serde(default, skip_serializing_if = "Answer::is_unknown")]
    pub file: Answer<Bytes>,
    /// The mount that file is on; `None`: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_mount: Option<u64>,
    /// The mount of the directory in which a restore binds it, or why that is not there: ENOENT, ENOTDIR.
    #[serde(default, skip_serializing_if = "Answer::is_unknown")]
    pub dir: Answer<u64>,
    /// Of one with unread data.
    pub queue: Option<Box<UnixQueueFacts>>,
}

/// Of the unread messages of a UNIX socket.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UnixQueueFacts {
    /// SO_PASSCRED, SO_PASSSEC, SO_PASSPIDFD: its messages come with control messages.
    pub passcred: Option<bool>,
    pub passsec: Option<bool>,
    pub passpidfd: Option<bool>,
    /// SO_TIMESTAMP or SO_TIMESTAMPNS, and their like with 64 bits (Linux 5.1+).
    pub timestamps: Option<bool>,
    pub timestamps64: Option<bool>,
    /// poll() reports an error: the peer has gone without reading what it was sent.
    pub error: Option<bool>,
    /// SO_SNDBUF.
    pub sndbuf: Option<i32>,
    /// `scm_fds:` of the fdinfo: descriptors that lie in it (Linux 5.8+).
    pub scm_fds: Option<u32>,
    /// Length of the longest message of those looked at: the first, or more where that can tell more; only when the tree is
    /// frozen.
    pub longest: Option<u64>,
    /// The kinds of control messages (SCM_*) that come with these.
    pub control: Option<Vec<i32>>,
    /// All that CRIU will see of the queue was looked at, and every descriptor in it.
    #[serde(default)]
    pub examined: bool,
}
