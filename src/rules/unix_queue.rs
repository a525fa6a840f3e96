//! Unread messages of UNIX sockets: CRIU peeks at them and saves them (criu/sk-queue.c), unless they carry what it does not
//! know how to save.

use super::sock::state;
use super::unix::{finding, unix_sockets};
use super::{Ctx, Lift, Phase, Rule, When};
use crate::host::{Gate, Release};
use crate::parse::diag::UnixDiag;

pub static QUEUE_CMSG: Rule = Rule {
    id: "unix-queue-cmsg",
    group: "UNIX sockets",
    what: "A socket with unread data has SO_PASSCRED, SO_PASSPIDFD or SO_PASSSEC set, so that every message is delivered with \
           a control message, and CRIU saves none but descriptors (SCM_RIGHTS). From 4.3 on it saves credentials too. \
           Whether SO_PASSSEC makes one depends on the security module: a warning.",
    says: "UNIX {type} socket[ {name}] (inode {ino}): {bytes} unread bytes that come with {cmsg}",
    criu: "Control messages in queue, not supported",
    source: "criu/sk-queue.c:dump_packet_cmsg",
    versions: "all; credentials up to 4.2",
    lifts: &[Lift::Workload("let the process read its messages before the dump")],
    phase: Phase::P3,
    when: When::Volatile,
    check: |rule, ctx, sink| {
        for (s, u) in unix_sockets(ctx) {
            let Some(bytes) = unread(u) else { continue };
            let on = |flag: Option<bool>| flag == Some(true);
            let cmsg = if on(s.fact(|f| f.passcred)) && ctx.host.release < Release::V4_3 {
                "credentials (SO_PASSCRED)"
            } else if on(s.fact(|f| f.passpidfd)) {
                "pidfds (SO_PASSPIDFD)"
            } else if on(s.fact(|f| f.passsec)) {
                "security labels (SO_PASSSEC)"
            } else {
                continue;
            };
            let f = finding(rule, ctx, s, u).num("bytes", bytes).term("cmsg", cmsg);
            let certain = !cmsg.starts_with("security");
            sink.push(if certain { Gate::Stands } else { Gate::Unknown }, f);
        }
    },
};

pub static QUEUE_SCM_FD: Rule = Rule {
    id: "unix-queue-scm-fd",
    group: "UNIX sockets",
    what: "Unread messages of a socket carry descriptors. CRIU dumps them as it dumps those of a process, and refuses for \
           the same reasons; we do not look into queues, so this can only be a warning. A terminal among them is always \
           refused.",
    says: "UNIX {type} socket[ {name}] (inode {ino}): descriptors that lie unread in its queue, not examined: {fds}",
    criu: "No CTL for TTY dump, likely SCM case / the text of whatever the descriptor is",
    source: "criu/sk-queue.c:dump_scm_rights",
    versions: "all",
    lifts: &[Lift::Workload("let the process receive the descriptors before the dump")],
    phase: Phase::P3,
    when: When::Volatile,
    check: |rule, ctx, sink| {
        for (s, u) in unix_sockets(ctx) {
            let Some(fds) = s.fact(|f| f.scm_fds).filter(|n| *n > 0 && unread(u).is_some()) else { continue };
            sink.push(Gate::Unknown, finding(rule, ctx, s, u).num("fds", fds));
        }
    },
};

/// Bytes that CRIU would try to save: it does not look into a queue that sock_diag shows as empty, nor into that of a
/// listening socket.
fn unread(u: &UnixDiag) -> Option<u32> {
    u.rqlen.map(|q| q.rqueue).filter(|n| *n > 0 && u.state != state::LISTEN)
}

/// Whether some socket of the tree may have descriptors in its queue: what nobody holds may lie there.
pub fn may_hold_descriptors(ctx: &Ctx) -> bool {
    unix_sockets(ctx).any(|(s, u)| unread(u).is_some() && s.fact(|f| f.scm_fds) != Some(0))
}
