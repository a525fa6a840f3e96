//! Connections of UNIX sockets that a restore does not make again (criu/sk-unix.c).

use crate::criu::{Gate, Hook};
use crate::criu_model::unix_order::{unresolved, Link, Met};
use crate::parse::sockets::state;
use crate::rules::sockets::unix::{finding, is_datagram, nameless_peer_outside, unix_sockets};
use crate::rules::sockets::unix_queue::may_hold_descriptors;
use crate::rules::{number, Evidence, Phase, Remedy, Rule, Versions, When};
use std::collections::{HashMap, HashSet};

pub(crate) static UNIX_PEER_UNRESOLVED: Rule = Rule {
    id: "unix-peer-unresolved",
    summary: "A UNIX socket whose peer the restore does not find: mostly a connection that waits for accept.",
    group: "Dumped, but not restored",
    condition: "A UNIX socket is connected to one that is not connected back to it, and CRIU writes that one to the images later, or never: \
           then its restore does not find it. That is so of a connection that waits for accept at a listening socket outside of the \
           tree, or at one that CRIU meets after it (its descriptor has a larger number, or its process comes later in the tree); and \
           of a datagram socket, if CRIU meets it before its peer, and that is connected to a third one which is met later still.",
    message: "UNIX {type} socket[ {name}] (inode {ino}): \
           {why?waiting=it waits for accept at inode {peer}, which CRIU writes after it\
           |outside=it waits for accept at inode {peer}, which is outside of the tree and not written\
           |elsewhere=its peer, inode {peer}, is connected to another one, and CRIU writes it after this one}: the restore does not find it",
    criu: &["{at the restore} FATAL: Peer %u unresolved for %u"],
    source: "criu/sk-unix.c:fixup_unix_peer",
    versions: Versions::All,
    remedies: &[
        Remedy::Workload("let the server accept the connection (socket inode {listener}) before the dump"),
        Remedy::Workload("close one of the two sockets before the dump"),
    ],
    phase: Phase::Restore,
    when: When::Volatile,
    evidence: Evidence::Tree,
    find: |rule, ctx, sink| {
        let link = |u: &crate::parse::diag::UnixDiag| match u.peer.filter(|peer| *peer != 0) {
            Some(peer) if ctx.host.service_sk_ino == Some(peer) => Link::None,
            Some(peer) => Link::Connected(peer),
            None if u.state == state::ESTABLISHED && !is_datagram(u) => {
                ctx.socks.listener_of(u.ino).map_or(Link::None, |listener| Link::Waiting(listener.ino))
            }
            None => Link::None,
        };
        let met: Vec<Met> = unix_sockets(ctx).map(|(_, u)| Met { ino: u.ino, peer: link(u) }).collect();
        let lost: HashSet<u32> = unresolved(&met).into_iter().collect();
        if lost.is_empty() {
            return;
        }
        // What lies in a queue is met together with the socket that has it.
        let queued: HashSet<u32> =
            unix_sockets(ctx).filter(|(s, _)| s.file.queued().is_some()).map(|(_, u)| u.ino).collect();
        let links: HashMap<u32, Link> = met.iter().map(|m| (m.ino, m.peer)).collect();
        let peer_of = |ino: u32| links.get(&ino).and_then(|link| link.ino());
        let may_hold = may_hold_descriptors(ctx);
        for (s, u) in unix_sockets(ctx).filter(|(_, u)| lost.contains(&u.ino)) {
            let f = finding(rule, ctx, s, u);
            let f = match link(u) {
                Link::Waiting(ino) => {
                    let why = if links.contains_key(&ino) { "waiting" } else { "outside" };
                    f.peer_socket(ino).term("why", why).num("listener", ino)
                }
                Link::Connected(ino) => f.peer_socket(ino).term("why", "elsewhere"),
                Link::None => continue,
            };
            let peer = peer_of(u.ino);
            let chain = [Some(u.ino), peer, peer.and_then(peer_of)];
            let is_queued = chain.iter().flatten().any(|ino| queued.contains(ino));
            sink.push(if may_hold || is_queued { f.doubt() } else { f });
        }
    },
};

pub(crate) static UNIX_EXTERNAL_IN_VAIN: Rule = Rule {
    id: "unix-external-in-vain",
    summary: "A datagram socketpair whose other end is outside of the tree, with --external unix[INODE].",
    group: "Dumped, but not restored",
    condition: "--external unix[INODE] is given for a datagram socket that is connected to a socket without a name (one end of a socketpair) \
           outside of the tree. CRIU crashes at the restore, and with a socket that is handed in for it (--inherit-fd) it never \
           ends.",
    message: "UNIX {type} socket[ {name}] (inode {ino}): its peer, inode {peer} without a name, is outside of the tree: \
           --external unix\\[{ino}\\] lets it be dumped, and no restore succeeds",
    criu: &["{at the restore CRIU crashes}"],
    source: "criu/sk-unix.c:post_open_standalone",
    versions: Versions::All,
    remedies: &[
        Remedy::Hook(Hook::DumpUnixSk),
        Remedy::Workload("close the connection before the dump, without --external unix\\[{ino}\\]"),
    ],
    phase: Phase::Restore,
    when: When::Early,
    evidence: Evidence::Peer,
    find: |rule, ctx, sink| {
        for (s, u) in unix_sockets(ctx) {
            let Some(peer) = nameless_peer_outside(ctx, u) else { continue };
            if ctx.host.gate_external(format!("unix[{}]", u.ino).as_bytes()) != Gate::Waived {
                continue;
            }
            let f = finding(rule, ctx, s, u).fact("peer", number(peer));
            sink.push(if may_hold_descriptors(ctx) { f.doubt() } else { f });
        }
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::diag::UnixDiag;
    use crate::rules::testkit::{host, snap, socket, table, unix, verdict, with_external, with_hook};
    use crate::rules::Verdict;
    use crate::snapshot::{Snapshot, SocketTable};

    /// The root process has all of these but those that are `outside`, in their order.
    fn tree(sockets: Vec<UnixDiag>, outside: Vec<UnixDiag>) -> Snapshot {
        let fds = sockets.iter().enumerate().map(|(n, s)| socket(n as i32 + 3, s.ino.into())).collect();
        let mut s = snap(fds);
        s.sockets.push(SocketTable { unix: [sockets, outside].concat(), ..table() });
        s
    }

    #[test]
    fn a_connection_that_is_written_before_its_listener() {
        let client = || UnixDiag { peer: None, ..unix(5, 0) };
        let listener =
            || UnixDiag { state: 10, peer: None, icons: Some(vec![5]), name: Some("\0x".into()), ..unix(6, 0) };
        assert_eq!(
            verdict(&UNIX_PEER_UNRESOLVED, &tree(vec![client(), listener()], vec![]), &host()),
            Some(Verdict::Unrestorable)
        );
        assert_eq!(verdict(&UNIX_PEER_UNRESOLVED, &tree(vec![listener(), client()], vec![]), &host()), None);
        assert_eq!(verdict(&UNIX_PEER_UNRESOLVED, &tree(vec![unix(5, 6), unix(6, 5)], vec![]), &host()), None);
        let outside = tree(vec![client()], vec![listener()]);
        assert_eq!(verdict(&UNIX_PEER_UNRESOLVED, &outside, &host()), Some(Verdict::Unrestorable));
    }

    #[test]
    fn what_lies_in_a_queue_is_of_no_account_elsewhere() {
        let dgram = |ino, peer| UnixDiag { type_: 2, name: Some("\0x".into()), ..unix(ino, peer) };
        let with_queued = |ino: u32| {
            let mut s = tree(vec![dgram(5, 6), dgram(6, 7), dgram(7, 0), dgram(8, 0)], vec![]);
            let at = crate::snapshot::Queued { fd: 9, path: vec![1], ..Default::default() };
            let files = &mut s.tasks[0].files;
            files.retain(|f| f.attr.ino != u64::from(ino));
            let origin = crate::snapshot::Origin::Queued(Box::new(at));
            files.push(crate::snapshot::OpenFile { origin, ..socket(0, ino.into()) });
            verdict(&UNIX_PEER_UNRESOLVED, &s, &host())
        };
        assert_eq!(with_queued(8), Some(Verdict::Unrestorable));
        assert_eq!(with_queued(7), Some(Verdict::Warn));
    }

    #[test]
    fn a_peer_that_is_connected_elsewhere() {
        let dgram = |ino, peer| UnixDiag { type_: 2, name: Some("\0x".into()), ..unix(ino, peer) };
        let s = tree(vec![dgram(5, 6), dgram(6, 7), dgram(7, 0)], vec![]);
        assert_eq!(verdict(&UNIX_PEER_UNRESOLVED, &s, &host()), Some(Verdict::Unrestorable));
        let s = tree(vec![dgram(7, 0), dgram(6, 7), dgram(5, 6)], vec![]);
        assert_eq!(verdict(&UNIX_PEER_UNRESOLVED, &s, &host()), None);
    }

    #[test]
    fn a_key_that_no_restore_can_use() {
        let dgram =
            |ino, peer, name: Option<&str>| UnixDiag { type_: 2, name: name.map(Into::into), ..unix(ino, peer) };
        let s = |name| tree(vec![dgram(5, 6, None)], vec![dgram(6, 5, name)]);
        assert_eq!(verdict(&UNIX_EXTERNAL_IN_VAIN, &s(None), &host()), None);
        assert_eq!(verdict(&UNIX_EXTERNAL_IN_VAIN, &s(None), &with_external("unix[5]")), Some(Verdict::Unrestorable));
        assert_eq!(verdict(&UNIX_EXTERNAL_IN_VAIN, &s(Some("\0x")), &with_external("unix[5]")), None);
        assert_eq!(verdict(&UNIX_EXTERNAL_IN_VAIN, &s(None), &with_external("unix[6]")), None);
        let hooked = crate::criu::Host { externals: Some(vec!["unix[5]".into()]), ..with_hook(Hook::DumpUnixSk) };
        assert_eq!(verdict(&UNIX_EXTERNAL_IN_VAIN, &s(None), &hooked), None);
    }
}
