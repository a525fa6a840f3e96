//! UNIX connections that no process has accepted yet. CRIU finds them by the inodes that sock_diag lists with the listening
//! socket; what was sent over one of them lies where CRIU cannot reach it (criu/sk-unix.c:dump_one_unix_fd).

use crate::criu::Release;
use crate::criu_model::sockets::shown_name;
use crate::parse::sockets::state;
use crate::rules::sockets::unix::{finding, unix_sockets};
use crate::rules::{number, Evidence, Phase, Remedy, Rule, Value, Versions, When};

pub(crate) static UNIX_ICON_NOT_LISTENING: Rule = Rule {
    id: "unix-icon-not-listening",
    summary: "A UNIX connection waiting at a socket that does not listen.",
    group: "UNIX sockets",
    condition: "A connection waits for accept at a socket that does not listen.",
    message: "UNIX {type} socket[ {name}] (inode {ino}): waits for accept at inode {listener}, which does not listen",
    criu: &["In-flight connection on non-listening socket %d"],
    source: "criu/sk-unix.c:dump_one_unix_fd",
    versions: Versions::All,
    remedies: &[Remedy::Workload("close the connection before the dump")],
    phase: Phase::BeforePages,
    when: When::Volatile,
    evidence: Evidence::Tree,
    find: |rule, ctx, sink| {
        for (s, u) in unix_sockets(ctx).filter(|(_, u)| is_waiting(u)) {
            if let Some(listener) = ctx.socks.listener_of(u.ino).filter(|l| l.state != state::LISTEN) {
                sink.push(finding(rule, ctx, s, u).num("listener", listener.ino));
            }
        }
    },
};

pub(crate) static UNIX_ICON_DATA: Rule = Rule {
    id: "unix-icon-data",
    summary: "A UNIX connection that is not accepted yet, and over which something was sent already.",
    group: "UNIX sockets",
    condition: "A connection waits for accept and its client, in the tree, has already sent something. CRIU 3.17.1 loses the data \
           without a word.",
    message: "UNIX {type} socket (inode {ino}): has sent data to inode {listener}[ bound to {listener_name}], which has not \
           accepted the connection yet",
    criu: &["Non-empty write queue on an in-flight socket %#x"],
    source: "criu/sk-unix.c:dump_one_unix_fd",
    versions: Versions::Since(Release::V3_18),
    remedies: &[Remedy::Workload("let the server accept the connection, or close it, before the dump")],
    phase: Phase::BeforePages,
    when: When::Volatile,
    evidence: Evidence::Tree,
    find: |rule, ctx, sink| {
        for (s, u) in unix_sockets(ctx).filter(|(_, u)| is_waiting(u)) {
            let Some(listener) = ctx.socks.listener_of(u.ino).filter(|l| l.state == state::LISTEN) else { continue };
            if u.rqlen.is_some_and(|q| q.wqueue != 0) {
                let f = finding(rule, ctx, s, u)
                    .num("listener", listener.ino)
                    .fact_opt("listener_name", listener.name.as_ref().map(|n| Value::Text(shown_name(n))));
                sink.push(f);
            }
        }
    },
};

pub(crate) static UNIX_ICON_CLOSED: Rule = Rule {
    id: "unix-icon-closed",
    summary: "A UNIX connection that is not accepted yet, and whose client has gone again.",
    group: "UNIX sockets",
    condition: "A listening socket has a connection in its queue whose client has already gone. CRIU cannot tell whether the \
           client had sent something, and refuses; 3.17.1 loses it without a word.",
    message: "UNIX {type} socket[ {name}] (inode {ino}): connections waiting for accept: {waiting}, of them already closed by \
           the client: {closed}",
    criu: &["Found a closed in-flight socket to %#x"],
    source: "criu/sk-unix.c:dump_one_unix_fd",
    versions: Versions::Since(Release::V3_18),
    remedies: &[Remedy::Workload("let the server accept the waiting connections before the dump")],
    phase: Phase::BeforePages,
    when: When::Volatile,
    evidence: Evidence::Tree,
    find: |rule, ctx, sink| {
        for (s, u) in unix_sockets(ctx).filter(|(_, u)| u.state == state::LISTEN) {
            let waiting = u.icons.as_deref().unwrap_or_default();
            let closed = waiting.iter().filter(|client| **client == 0).count();
            if closed > 0 {
                let f = finding(rule, ctx, s, u);
                sink.push(f.fact("closed", number(closed)).fact("waiting", number(waiting.len())));
            }
        }
    },
};

/// CRIU looks for the listening socket only then.
fn is_waiting(u: &crate::parse::diag::UnixDiag) -> bool {
    u.state == state::ESTABLISHED && i32::from(u.type_) != libc::SOCK_DGRAM && u.peer.is_none_or(|p| p == 0)
}
