//! Sockets of one network namespace, as sock_diag listed them.

use crate::parse::diag::{InetDiag, NetlinkDiag, PacketDiag, UnixDiag};
use serde::{Deserialize, Serialize};

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
