//! Sockets: those of one network namespace, as sock_diag listed them, and what one tells itself.

use crate::bytes::Bytes;
use crate::parse::diag::{InetDiag, NetlinkDiag, PacketDiag, UnixDiag};
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
    /// We have CAP_NET_ADMIN over the namespace.
    #[serde(default)]
    pub net_admin: Option<bool>,
    /// Requests the kernel refused: address family, protocol, errno.
    pub failed: Vec<(u8, u16, i32)>,
}

/// One socket of any kind.
#[derive(Clone, Copy, Debug)]
pub enum Socket<'a> {
    Unix(&'a UnixDiag),
    Inet(&'a InetDiag),
    Packet(&'a PacketDiag),
    Netlink(&'a NetlinkDiag),
}

/// getsockopt and ioctl answers; `None`: not asked or not answered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SocketFacts {
    /// An O_PATH descriptor of a socket file: every getsockopt fails with EBADF.
    pub o_path: bool,
    /// SO_DOMAIN, SO_TYPE, SO_PROTOCOL.
    pub domain: Option<i32>,
    pub kind: Option<i32>,
    pub protocol: Option<i32>,
    /// UDP_CORK (UDP and UDP-Lite).
    pub udp_cork: Option<bool>,
    /// tcpi_state of TCP_INFO, for a TCP socket that diag lists in no state, or in TCP_CLOSE.
    pub tcp_state: Option<u8>,
    /// SO_PEERNAME of such a socket: unlike getpeername() it still tells the peer of a closed connection. A port of 0 (or
    /// ENOTCONN) means that there never was one, or that it was dissolved.
    pub peer: Option<SocketAddr>,
    /// SO_PEEK_OFF above 0 of a TCP socket with unread data (Linux 6.10+).
    #[serde(default)]
    pub peek_off: Option<i32>,
    /// SO_OOBINLINE is set on a TCP socket, and an urgent byte lies behind other unread data.
    #[serde(default)]
    pub urgent_inline: Option<bool>,
    /// The kernel decrypts what a TCP socket receives (kTLS): bytes of FIONREAD, records as they came.
    #[serde(default)]
    pub tls_unread: Option<u32>,
    /// Inode of the socket's network namespace (SIOCGSKNS), for a socket that no diag table lists.
    pub netns: Option<u64>,
    /// SO_PEERCRED pid in our pid namespace, for a connected UNIX socket with a peer outside the tree.
    pub peer_pid: Option<i32>,
    /// A netlink socket: poll() for POLLIN reports anything, an error included (CRIU: `fd_has_data`).
    pub readable: Option<bool>,
    /// SIOCUNIXFILE: the link text of the bound path's file, for a relative name; Err is the errno.
    pub unix_file: Option<Result<Bytes, i32>>,
    /// SO_GET_FILTER length; Err is the errno (EACCES for an eBPF filter).
    pub filter: Option<Result<u32, i32>>,
    /// SO_BINDTODEVICE, empty for none; Err is the errno (ENODEV: the interface is gone).
    pub bound_device: Option<Result<Bytes, i32>>,
    /// getsockname() of an IP socket that no diag table lists.
    #[serde(default)]
    pub local: Option<SocketAddr>,
    /// SO_PASSCRED, SO_PASSSEC, SO_PASSPIDFD of a UNIX socket with unread data: its messages come with control messages.
    pub passcred: Option<bool>,
    pub passsec: Option<bool>,
    pub passpidfd: Option<bool>,
    /// SO_TIMESTAMP or SO_TIMESTAMPNS of such a socket, and their like with 64 bits (Linux 5.1+).
    pub timestamps: Option<bool>,
    pub timestamps64: Option<bool>,
    /// poll() reports an error of such a socket: the peer has gone without reading what it was sent.
    pub error: Option<bool>,
    /// SO_SNDBUF of such a socket.
    pub sndbuf: Option<i32>,
    /// Length of the longest message of those looked at: the first, or more where that can tell more; only when the tree is
    /// frozen.
    pub longest: Option<u64>,
    /// The kinds of control messages (SCM_*) that come with these.
    pub control: Option<Vec<i32>>,
    /// All that CRIU will see of the queue was looked at, and every descriptor in it.
    #[serde(default)]
    pub examined: bool,
    /// `scm_fds:` of the fdinfo of a UNIX socket with unread data: descriptors that lie in its queue (Linux 5.8+).
    pub scm_fds: Option<u32>,
}
