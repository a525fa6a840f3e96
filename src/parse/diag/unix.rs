//! AF_UNIX: `sk_diag_fill()` in net/unix/diag.c, linux/unix_diag.h.
use crate::bytes::Bytes;
use crate::parse::diag::{u32s, Queues, Reader};

/// One unix socket.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct UnixDiag {
    /// SOCK_STREAM 1, SOCK_DGRAM 2, SOCK_SEQPACKET 5.
    pub type_: u8,
    /// TCP_ESTABLISHED 1, TCP_CLOSE 7, TCP_LISTEN 10.
    pub state: u8,
    pub ino: u32,
    pub cookie: u64,
    /// As bound, without the final NUL of a path; a leading NUL marks an abstract name. `None`: not bound.
    pub name: Option<Bytes>,
    /// The socket file of a path, if it was bound to one.
    pub vfs: Option<UnixVfs>,
    /// Inode of the peer; 0 for a peer that has none (a connection that is not accepted yet).
    pub peer: Option<u32>,
    /// Listening: for each connection waiting to be accepted the inode of its client's end (0 if closed).
    pub icons: Option<Vec<u32>>,
    pub rqlen: Option<Queues>,
    /// RCV_SHUTDOWN 1, SEND_SHUTDOWN 2.
    pub shutdown: Option<u8>,
    /// Linux 5.3+.
    pub uid: Option<u32>,
    /// Bytes of the whole record when [`Self::uid`] is not asked for.
    #[serde(default)]
    pub length: u32,
}

/// UNIX_DIAG_VFS
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct UnixVfs {
    pub ino: u32,
    /// Kernel form: major << 20 | minor.
    pub dev: u32,
}

impl UnixDiag {
    /// The name if it is a path.
    pub(crate) fn path(&self) -> Option<&[u8]> {
        self.name.as_deref().filter(|name| !name.starts_with(b"\0"))
    }
}

/// Decodes `struct unix_diag_msg` and its attributes; `None` if it is not of that form.
pub fn unix(payload: &[u8]) -> Option<UnixDiag> {
    let mut msg = Reader(payload);
    let (_family, type_, state, _pad) = (msg.u8()?, msg.u8()?, msg.u8()?, msg.u8()?);
    let mut socket = UnixDiag {
        type_,
        state,
        ino: msg.u32()?,
        cookie: msg.cookie()?,
        name: None,
        vfs: None,
        peer: None,
        icons: None,
        rqlen: None,
        shutdown: None,
        uid: None,
        length: crate::parse::diag::length(payload),
    };
    for (kind, value) in msg.attributes()? {
        let mut v = Reader(value);
        match kind {
            0 => socket.name = Some(name(value)),
            1 => socket.vfs = Some(UnixVfs { ino: v.u32()?, dev: v.u32()? }),
            2 => socket.peer = Some(v.u32()?),
            3 => socket.icons = Some(u32s(value)?),
            4 => socket.rqlen = Some(Queues { rqueue: v.u32()?, wqueue: v.u32()? }),
            6 => socket.shutdown = Some(v.u8()?),
            7 => {
                socket.uid = Some(v.u32()?);
                socket.length = socket.length.saturating_sub(8);
            }
            _ => {}
        }
    }
    Some(socket)
}

fn name(value: &[u8]) -> Bytes {
    match value {
        // Every byte of an abstract name counts.
        [0, ..] => value.into(),
        [path @ .., 0] => path.into(),
        path => path.into(),
    }
}
