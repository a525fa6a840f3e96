//! Unread messages of UNIX sockets: CRIU peeks at them and saves them (criu/sk-queue.c), unless they carry what it does not
//! know how to save.

use crate::criu::{Cap, Gate};
use crate::criu_model::sockets::Sock;
use crate::criu_model::ttys::terminals;
use crate::parse::diag::UnixDiag;
use crate::parse::sockets::state;
use crate::rules::sockets::unix::{finding, unix_sockets};
use crate::rules::{number, Ctx, Evidence, Finding, Phase, Remedy, Rule, Versions, When};

// The kinds of control messages (linux/socket.h, asm-generic/socket.h).
const SCM_RIGHTS: i32 = 1;
const SCM_CREDENTIALS: i32 = 2;
const SCM_SECURITY: i32 = 3;
const SCM_PIDFD: i32 = 4;
const SCM_TIMESTAMP: i32 = 29;
const SCM_TIMESTAMPNS: i32 = 35;
const SCM_TIMESTAMP_NEW: i32 = 63;
const SCM_TIMESTAMPNS_NEW: i32 = 64;
const SCM_INQ: i32 = 84;

pub(crate) static UNIX_QUEUE_CMSG: Rule = Rule {
    id: "unix-queue-cmsg",
    summary: "Unread messages of a UNIX socket that come with credentials or other extras.",
    group: "UNIX sockets",
    condition: "A socket has unread messages that are delivered with a control message, and CRIU saves none but descriptors (SCM_RIGHTS), \
           from 4.3 on also credentials and times of arrival, unless those were asked for with 64 bits. The socket has asked for it \
           by SO_PASSCRED, SO_TIMESTAMP or SO_TIMESTAMPNS (datagram and seqpacket), SO_INQ (stream), SO_PASSPIDFD or SO_PASSSEC. \
           What the last three make of a message is known when the tree is frozen, else a warning.",
    message: "UNIX {type} socket[ {name}] (inode {ino}): {bytes} unread bytes that come with {cmsg?credentials=credentials (SO_PASSCRED)\
           |security=security labels (SO_PASSSEC)|pidfd=pidfds (SO_PASSPIDFD)|timestamp=the time of their arrival (SO_TIMESTAMP)\
           |timestamp64=the time of their arrival in 64 bits (SO_TIMESTAMP_NEW)|inq=their number (SO_INQ)\
           |other=a control message of kind {kind}}",
    criu: &["Control messages in queue, not supported"],
    source: "criu/sk-queue.c:dump_packet_cmsg",
    versions: Versions::Partly("credentials and times up to 4.2"),
    remedies: &[Remedy::Workload("let the process read its messages before the dump")],
    phase: Phase::BeforePages,
    when: When::Volatile,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for (s, u) in unix_sockets(ctx) {
            let Some(bytes) = unread(u) else { continue };
            let Some((gate, kind)) = refused_cmsg(ctx, s, u) else { continue };
            sink.push_unless(gate, finding(rule, ctx, s, u).num("bytes", bytes).term("cmsg", cmsg_name(kind)).num("kind", kind));
        }
    },
};

/// A kind of control message that CRIU does not save, and whether it certainly comes with an unread message.
fn refused_cmsg(ctx: &Ctx, s: &Sock, u: &UnixDiag) -> Option<(Gate, i32)> {
    let new = ctx.host.has(Cap::QueuedCredentials);
    let saved = |kind| match kind {
        SCM_RIGHTS => true,
        SCM_CREDENTIALS | SCM_TIMESTAMP | SCM_TIMESTAMPNS => new,
        _ => false,
    };
    let queue = s.queue()?;
    let seen = queue.control.as_ref();
    if let Some(kind) = seen.into_iter().flatten().find(|kind| !saved(**kind)) {
        return Some((Gate::InForce, *kind));
    }
    let datagram = i32::from(u.type_) != libc::SOCK_STREAM;
    // These come with every message, whenever they were asked for.
    let options = [
        (queue.passcred == Some(true), SCM_CREDENTIALS),
        (queue.timestamps == Some(true) && datagram, SCM_TIMESTAMP),
        (queue.timestamps64 == Some(true) && datagram, SCM_TIMESTAMP_NEW),
    ];
    if let Some((_, kind)) = options.into_iter().find(|(set, kind)| *set && !saved(*kind)) {
        return Some((Gate::InForce, kind));
    }
    // Messages may have been sent before it was asked for.
    if queue.passpidfd == Some(true) && !queue.examined {
        return Some((Gate::FACT_UNKNOWN, SCM_PIDFD));
    }
    // Whether there are labels does not differ from message to message.
    (queue.passsec == Some(true) && seen.is_none()).then_some((Gate::FACT_UNKNOWN, SCM_SECURITY))
}

fn cmsg_name(kind: i32) -> &'static str {
    match kind {
        SCM_CREDENTIALS => "credentials",
        SCM_SECURITY => "security",
        SCM_PIDFD => "pidfd",
        SCM_TIMESTAMP | SCM_TIMESTAMPNS => "timestamp",
        SCM_TIMESTAMP_NEW | SCM_TIMESTAMPNS_NEW => "timestamp64",
        SCM_INQ => "inq",
        _ => "other",
    }
}

pub(crate) static UNIX_QUEUE_RESET: Rule = Rule {
    id: "unix-queue-reset",
    summary: "Unread messages of a UNIX socket whose other end has gone without reading its own.",
    group: "UNIX sockets",
    condition: "A socket has unread data, and its peer has gone without reading what it was sent (or, of datagram sockets, was \
           connected to another): at the end of the data, or of a datagram or seqpacket socket before it, the kernel reports \
           ECONNRESET. Without unread data CRIU does not look.",
    message: "UNIX {type} socket[ {name}] (inode {ino}): {bytes} unread bytes, and a connection reset by the peer, which has gone \
           without reading what it was sent",
    criu: &["recvmsg fail: error: Connection reset by peer"],
    source: "criu/sk-queue.c:dump_sk_queue",
    versions: Versions::All,
    remedies: &[Remedy::Workload("let the process read its messages, or close the socket, before the dump")],
    phase: Phase::BeforePages,
    when: When::Volatile,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for (s, u) in unix_sockets(ctx) {
            let Some(bytes) = unread(u).filter(|_| s.queue().is_some_and(|q| q.error == Some(true))) else { continue };
            sink.push(finding(rule, ctx, s, u).num("bytes", bytes));
        }
    },
};

/// What the kernel keeps for itself of SO_SNDBUF, as CRIU reckons (`dump_sk_queue`).
const OVERHEAD: i64 = 32;

pub(crate) static UNIX_QUEUE_TRUNC: Rule = Rule {
    id: "unix-queue-trunc",
    summary: "An unread message of a UNIX socket that is longer than CRIU's buffer for it.",
    group: "UNIX sockets",
    condition: "A datagram or seqpacket socket has an unread message that is longer than its own SO_SNDBUF less 32 bytes, all that CRIU \
           has room for: its sender has a larger one. Messages behind the first are looked at if the socket's own SO_SNDBUF is below \
           the usual, or a living sender has more than that in queues.",
    message: "UNIX {type} socket[ {name}] (inode {ino}): an unread message of {length} bytes, where its own SO_SNDBUF of {sndbuf} \
           lets CRIU read {room}",
    criu: &["sys_recvmsg failed: truncated", "{4.3} recvmsg failed: truncated"],
    source: "criu/sk-queue.c:dump_sk_queue",
    versions: Versions::All,
    remedies: &[Remedy::Workload("let the process read its messages, or give its socket a larger SO_SNDBUF, before the dump")],
    phase: Phase::BeforePages,
    when: When::Volatile,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for (s, u) in unix_sockets(ctx) {
            if unread(u).is_none() || i32::from(u.type_) == libc::SOCK_STREAM {
                continue;
            }
            let Some((length, sndbuf)) = s.queue().and_then(|q| q.longest.zip(q.sndbuf)) else { continue };
            let room = i64::from(sndbuf).saturating_sub(OVERHEAD);
            if i64::try_from(length).is_ok_and(|length| length > room) {
                let f = finding(rule, ctx, s, u).fact("length", number(length));
                sink.push(f.num("sndbuf", sndbuf).num("room", room));
            }
        }
    },
};

pub(crate) static UNIX_QUEUE_SCM_FD: Rule = Rule {
    id: "unix-queue-scm-fd",
    summary: "Descriptors sent over a UNIX socket and not received yet, which could not be examined.",
    group: "UNIX sockets",
    condition: "Unread messages of a socket carry descriptors. CRIU dumps them as it dumps those of a process, and refuses for \
           the same reasons. They are looked at when the tree is frozen, and the rules name what is refused; this is said where they \
           could not be looked at: before CRIU 4.0, which has no frozen look, if CRIU has no number left for them, or where more than 64 \
           queues lie one in the other.",
    message: "UNIX {type} socket[ {name}] (inode {ino}): descriptors that lie unread in its queue, not examined: {fds}",
    criu: &["{the text of whatever the descriptor is}"],
    source: "criu/sk-queue.c:dump_scm_rights",
    versions: Versions::All,
    remedies: &[Remedy::Workload("let the process receive the descriptors before the dump")],
    phase: Phase::BeforePages,
    when: When::Volatile,
    evidence: Evidence::Tree,
    find: |rule, ctx, sink| {
        for (s, u) in unix_sockets(ctx).filter(|(s, _)| !is_examined(s)) {
            let Some(fds) = s.queue().and_then(|q| q.scm_fds).filter(|n| *n > 0 && unread(u).is_some()) else { continue };
            sink.push(finding(rule, ctx, s, u).num("fds", fds).doubt());
        }
    },
};

pub(crate) static UNIX_QUEUE_TTY: Rule = Rule {
    id: "unix-queue-tty",
    summary: "A terminal sent over a UNIX socket and not received yet.",
    group: "UNIX sockets",
    condition: "A terminal lies in the queue of a socket, and CRIU meets no descriptor of it before, neither in a process nor in \
           another queue: it asks a terminal from within the process that has it, and a queue is none. External and inherited \
           terminals too.",
    message: "terminal {path}, which no process that is dumped before has open",
    criu: &["No CTL for TTY dump, likely SCM case"],
    source: "criu/tty.c:dump_tty_info",
    versions: Versions::All,
    remedies: &[Remedy::Workload("let the process receive the descriptor before the dump")],
    phase: Phase::BeforePages,
    when: When::Frozen,
    evidence: Evidence::Tree,
    find: |rule, ctx, sink| {
        for t in terminals(ctx.snap, ctx.host).iter().filter(|t| t.file.queued().is_some()) {
            sink.push(Finding::on_file(rule, t.task, t.file));
        }
    },
};

fn is_examined(s: &Sock) -> bool {
    s.queue().is_some_and(|q| q.examined)
}

/// Bytes that CRIU would try to save: it does not look into a queue that sock_diag shows as empty, nor into that of a
/// listening socket.
fn unread(u: &UnixDiag) -> Option<u32> {
    u.rqlen.map(|q| q.rqueue).filter(|n| *n > 0 && u.state != state::LISTEN)
}

/// Whether some socket of the tree may have descriptors in its queue that were not looked at: what no process holds may lie there.
/// Where they could not be listed, that is so of any that is in no list.
pub(crate) fn may_hold_descriptors(ctx: &Ctx) -> bool {
    let unlisted = |s: &Sock| s.diag().is_none() && s.family().is_none_or(|family| family == libc::AF_UNIX);
    (!ctx.socks.all_unix_answered() && ctx.socks.all.iter().any(unlisted))
        || unix_sockets(ctx)
            .any(|(s, u)| unread(u).is_some() && !is_examined(s) && s.queue().and_then(|q| q.scm_fds) != Some(0))
}
