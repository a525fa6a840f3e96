//! sock_diag: what the kernel answers on a NETLINK_SOCK_DIAG socket, and the requests for it.
//!
//! Own code because netlink-packet-sock-diag refuses unix names that are not UTF-8 and knows neither packet nor netlink
//! sockets nor the protocol attribute that MPTCP needs. Layouts: linux/netlink.h, linux/*_diag.h. Numbers are in host
//! order except ports and addresses.
//!
//! A dump is a sequence of datagrams; feed each to [`messages`] until [`Message::Done`] or [`Message::Error`] comes.
mod inet;
mod link;
mod netlink;
mod packet;
mod request;
mod route;
mod unix;

pub use inet::{inet, InetDiag};
use link::RTM_NEWLINK;
pub use link::{link, NetLink};
pub use netlink::{netlink, NetlinkDiag};
pub use packet::{packet, PacketDiag, PacketInfo, PacketMcList, PacketRing};
use request::SOCK_DIAG_BY_FAMILY;
pub(crate) use request::{
    inet_probe, inet_request, link_request, netlink_request, packet_request, route_request, unix_request,
};
use route::RTM_NEWROUTE;
pub use route::{route, Route};
pub use unix::{unix, UnixDiag, UnixVfs};

/// Bytes waiting in a socket. For a listening unix stream socket: connections waiting to be accepted, and the backlog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Queues {
    pub rqueue: u32,
    pub wqueue: u32,
}

/// One netlink message.
#[derive(Clone, Debug, PartialEq)]
pub enum Message<'a> {
    /// SOCK_DIAG_BY_FAMILY: one socket, for [`unix()`], [`inet()`], [`packet()`] or [`netlink()`]; or, on a route socket,
    /// RTM_NEWLINK: one interface, for [`link()`], RTM_NEWROUTE: one route, for [`route()`].
    Socket {
        /// The request it answers.
        seq: u32,
        /// NLM_F_DUMP_INTR: the table changed while it was dumped, an entry may be missing or twice.
        interrupted: bool,
        payload: &'a [u8],
    },
    /// NLMSG_DONE: the dump is over. `errno` is 0 or why it ended early (positive; ENOENT: the kernel has no diag module
    /// for this protocol).
    Done { seq: u32, errno: i32 },
    /// NLMSG_ERROR: the request was refused (positive errno), or acknowledged (0).
    Error { seq: u32, errno: i32 },
    /// NLMSG_NOOP, NLMSG_OVERRUN or a message of another protocol.
    Other { kind: u16 },
    /// Bytes that are no message; the rest of the datagram is lost.
    Garbage,
}

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLMSG_HDRLEN: usize = 16;

/// The messages in one received datagram.
pub fn messages(datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        match message(rest) {
            Some((message, tail)) => {
                rest = tail;
                Some(message)
            }
            None => {
                rest = &[];
                Some(Message::Garbage)
            }
        }
    })
}

fn message(data: &[u8]) -> Option<(Message<'_>, &[u8])> {
    let mut header = Reader(data);
    let len = usize::try_from(header.u32()?).ok()?;
    let (kind, flags, seq, _portid) = (header.u16()?, header.u16()?, header.u32()?, header.u32()?);
    let payload = data.get(NLMSG_HDRLEN..len)?;
    // The last message need not be padded.
    let tail = data.get(align(len)?..).unwrap_or_default();
    let errno = || Reader(payload).i32().map(i32::saturating_neg);
    let message = match kind {
        SOCK_DIAG_BY_FAMILY | RTM_NEWLINK | RTM_NEWROUTE => {
            Message::Socket { seq, interrupted: flags & NLM_F_DUMP_INTR != 0, payload }
        }
        // Kernels always send the int; treat its absence as success.
        NLMSG_DONE => Message::Done { seq, errno: errno().unwrap_or(0) },
        NLMSG_ERROR => Message::Error { seq, errno: errno()? },
        kind => Message::Other { kind },
    };
    Some((message, tail))
}

/// Bytes of the message with this payload.
fn length(payload: &[u8]) -> u32 {
    u32::try_from(payload.len().saturating_add(NLMSG_HDRLEN)).unwrap_or(u32::MAX)
}

/// Netlink's padding: to the next multiple of 4.
fn align(len: usize) -> Option<usize> {
    len.checked_add(3).map(|n| n & !3)
}

/// Takes fixed-size numbers off the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk::<N>()?;
        self.0 = tail;
        Some(*head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_ne_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_ne_bytes)
    }

    /// Network order.
    fn be16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_ne_bytes)
    }

    fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_ne_bytes)
    }

    fn cookie(&mut self) -> Option<u64> {
        let (low, high) = (self.u32()?, self.u32()?);
        Some(u64::from(high) << 32 | u64::from(low))
    }

    /// The attributes that fill the rest: (type without its flag bits, value). `None` if they do not fit.
    fn attributes(self) -> Option<Vec<(u16, &'a [u8])>> {
        let mut rest = self.0;
        let mut found = Vec::new();
        while !rest.is_empty() {
            let mut header = Reader(rest);
            let len = usize::from(header.u16()?);
            // NLA_F_NESTED and NLA_F_NET_BYTEORDER
            let kind = header.u16()? & 0x3fff;
            found.push((kind, rest.get(4..len)?));
            rest = rest.get(align(len)?..).unwrap_or_default();
        }
        Some(found)
    }
}

/// All numbers of an attribute that is an array of them.
fn u32s(value: &[u8]) -> Option<Vec<u32>> {
    value.chunks(4).map(|chunk| chunk.try_into().ok().map(u32::from_ne_bytes)).collect()
}

/// The sockets of one dump, which arrives in several datagrams.
#[derive(Clone, Debug, PartialEq)]
pub struct Dump<T> {
    seq: u32,
    pub sockets: Vec<T>,
    /// Entries that were not understood.
    pub bad: usize,
    /// NLM_F_DUMP_INTR was seen: an entry may be missing or twice.
    pub interrupted: bool,
    /// `None` while more is to come, then the errno it ended with: 0 for a whole dump.
    pub end: Option<i32>,
}

impl<T> Dump<T> {
    /// Nothing yet of the answer to the request numbered `seq`.
    pub(crate) fn new(seq: u32) -> Self {
        Dump { seq, sockets: Vec::new(), bad: 0, interrupted: false, end: None }
    }

    /// Takes in one datagram; `decode` is [`unix()`], [`inet()`], [`packet()`] or [`netlink()`]. True once the dump is over.
    pub(crate) fn feed(&mut self, datagram: &[u8], decode: impl Fn(&[u8]) -> Option<T>) -> bool {
        for message in messages(datagram) {
            match message {
                Message::Socket { seq, interrupted, payload } if seq == self.seq => {
                    self.interrupted |= interrupted;
                    match decode(payload) {
                        Some(socket) => self.sockets.push(socket),
                        None => self.bad = self.bad.saturating_add(1),
                    }
                }
                Message::Done { seq, errno } | Message::Error { seq, errno } if seq == self.seq => {
                    self.end = Some(errno);
                    break;
                }
                Message::Garbage => self.bad = self.bad.saturating_add(1),
                // Answers to an earlier request that was given up.
                _ => {}
            }
        }
        self.end.is_some()
    }
}

#[cfg(test)]
mod tests;
