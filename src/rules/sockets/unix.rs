//! UNIX sockets: who they are connected to, and what CRIU cannot find or place (criu/sk-unix.c).
//!
//! Names are in `unix_name`, unread data in `unix_queue`, connections that wait for accept in `unix_accept`.

use crate::criu::{Gate, Hook, Opt};
use crate::criu_model::sockets::{shown_name, Sock};
use crate::parse::diag::UnixDiag;
use crate::parse::sockets::{state, state_name, type_name};
use crate::rules::sockets::common::list_ends_before;
use crate::rules::{number, Ctx, Evidence, Finding, Phase, Remedy, Rule, Sink, Value, Versions, When};

const BOTH: u8 = 3;
const EXTERNAL_KEY: Remedy = Remedy::External("unix[{ino}]");

pub(crate) static UNIX_EXTERNAL_PEER: Rule = Rule {
    id: "unix-external-peer",
    summary: "A datagram UNIX socket connected to a program outside of the tree: syslog, systemd's notify socket.",
    group: "UNIX sockets",
    condition: "A datagram socket is connected to a named socket that no descriptor of the tree refers to. Options that accept \
           it: --ext-unix-sk, or --external unix[INO] with the inode of the dumped end (the caller of restore then hands in \
           the connected socket). The other end of a connection to CRIU's own RPC socket is exempt. A peer that lies in an \
           SCM_RIGHTS queue of the tree counts as inside; queues are looked into when the tree is frozen, so while one holds \
           descriptors this is a warning before.",
    message: "UNIX {type} socket[ {name}] (inode {ino}): its peer, inode {peer} bound to {peer_name}, is outside of the tree[, {doubt?queue=unless it lies unread in a queue of the tree}]",
    criu: &["External socket is used. Consider using --ext-unix-sk option."],
    source: "criu/sk-unix.c:__dump_external_socket",
    versions: Versions::All,
    remedies: &[
        Remedy::Option(Opt::ExtUnixSk),
        EXTERNAL_KEY,
        Remedy::Hook(Hook::DumpUnixSk),
        Remedy::Workload("close the connection before the dump"),
    ],
    phase: Phase::AfterTasks,
    when: When::Early,
    evidence: Evidence::Peer,
    find: |rule, ctx, sink| external(rule, ctx, sink, Outside::Named),
};

pub(crate) static UNIX_EXTERNAL_STREAM: Rule = Rule {
    id: "unix-external-stream",
    summary: "A stream UNIX socket connected to a program outside of the tree: D-Bus, a database, Docker.",
    group: "UNIX sockets",
    condition: "A stream or seqpacket socket is connected to a socket that no descriptor of the tree refers to. CRIU's first text \
           recommends --ext-unix-sk, but with that option it refuses half of such a connection all the same. Only \
           --external unix[INO] with the inode of the dumped end (the caller of restore then hands in the connected socket) \
           or a plugin makes it pass. CRIU's own RPC socket and queues: see unix-external-peer.",
    message: "UNIX {type} socket[ {name}] (inode {ino}): its peer, inode {peer}[ bound to {peer_name}], is outside of the tree[, {doubt?queue=unless it lies unread in a queue of the tree}]",
    criu: &["External socket is used. Consider using --ext-unix-sk option.", "{with --ext-unix-sk} Can't dump half of stream unix connection."],
    source: "criu/sk-unix.c:__dump_external_socket",
    versions: Versions::All,
    remedies: &[EXTERNAL_KEY, Remedy::Hook(Hook::DumpUnixSk), Remedy::Workload("close the connection before the dump")],
    phase: Phase::AfterTasks,
    when: When::Early,
    evidence: Evidence::Peer,
    find: |rule, ctx, sink| external(rule, ctx, sink, Outside::Stream),
};

pub(crate) static UNIX_EXTERNAL_NAMELESS: Rule = Rule {
    id: "unix-external-nameless",
    summary: "A datagram socketpair whose other end is outside of the tree.",
    group: "UNIX sockets",
    condition:
        "A datagram socket is connected to a socket without a name (one end of a socketpair) that no descriptor of the \
           tree refers to. --ext-unix-sk accepts only peers with a name. --external unix[INO] lets the dump pass, and no \
           restore of that succeeds: CRIU crashes, and with a socket that is handed in it never ends. CRIU's own RPC socket and queues: see \
           unix-external-peer.",
    message: "UNIX {type} socket[ {name}] (inode {ino}): its peer, inode {peer} without a name, is outside of the tree[, {doubt?queue=unless it lies unread in a queue of the tree}]",
    criu: &["External socket is used. Consider using --ext-unix-sk option.", "{with --ext-unix-sk} Can't dump name-less external socket."],
    source: "criu/sk-unix.c:__dump_external_socket",
    versions: Versions::All,
    remedies: &[
        Remedy::ExternalInVain("unix[{ino}]"),
        Remedy::Hook(Hook::DumpUnixSk),
        Remedy::Workload("close the connection before the dump"),
    ],
    phase: Phase::AfterTasks,
    when: When::Early,
    evidence: Evidence::Peer,
    find: |rule, ctx, sink| external(rule, ctx, sink, Outside::Nameless),
};

pub(crate) static UNIX_NOT_COLLECTED: Rule = Rule {
    id: "unix-not-collected",
    summary: "A UNIX socket that the kernel did not list to CRIU, mostly one of another network namespace.",
    group: "UNIX sockets",
    condition: "An open UNIX socket is not among those that CRIU has listed: it belongs to a network namespace that no process \
           of the tree is in (CRIU's own counts only if the root process is in it), the kernel cannot list UNIX sockets \
           (unix_diag), it is bound to a path whose inode the kernel does not tell, or the kernel's list, for which CRIU has \
           room in pieces of 16384 bytes, ends before it: at a socket of that namespace, of any process, at which some 4,000 \
           connections wait for accept.",
    message: "UNIX socket[ {name}] (inode {ino})[ of network namespace {netns}]: {why?no-inode=the kernel tells no inode for the path it \
           is bound to|netns-unknown=not listed by sock_diag, and its network namespace is not known\
           |netns=no process of the tree is in that namespace|netns-outside=perhaps no process of the tree is in that namespace\
           |module=this kernel cannot list UNIX sockets|list-ends=the kernel's list ends for CRIU at a record that is longer than 16384 bytes\
           |list-empty=the kernel's list is empty, its first record being too long for a first answer|list-lacks=the kernel's list lacks it}\
           [ (inode {record}: {length} bytes)]",
    criu: &["Unix socket %d not found", "Sockets (family 1 proto 0) are not collected", "Bound socket w/o inode %d"],
    source: "criu/sk-unix.c:dump_one_unix_fd",
    versions: Versions::All,
    remedies: &[
        Remedy::Workload("load the kernel module {module}"),
        Remedy::Workload("let the server of socket inode {record} accept connections before the dump"),
        Remedy::Workload("close the socket before the dump"),
    ],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Tree,
    find: not_collected,
};

pub(crate) static UNIX_PEER_UNCOLLECTED: Rule = Rule {
    id: "unix-peer-uncollected",
    summary: "A UNIX socket connected to one that the kernel did not list to CRIU.",
    group: "UNIX sockets",
    condition: "A socket is connected to one that CRIU has not listed, because it belongs to a network namespace that no process \
           of the tree is in (a socket bound to a path can be reached from any namespace), or the list ends before it (see \
           unix-not-collected). No option is asked.",
    message: "UNIX {type} socket[ {name}] (inode {ino}): its peer, inode {peer}, is {where?unreached=not in the list of UNIX sockets, as far as CRIU can read it\
           |netns=in a network namespace that is not dumped}",
    criu: &["Unix socket %u without peer %u"],
    source: "criu/sk-unix.c:dump_one_unix_fd",
    versions: Versions::All,
    remedies: &[Remedy::Workload("close the connection before the dump")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Tree,
    find: peer_uncollected,
};

pub(crate) static UNIX_UNREACHABLE_PEER: Rule = Rule {
    id: "unix-unreachable-peer",
    summary: "A datagram UNIX socket connected to a nameless one that is not connected back.",
    group: "UNIX sockets",
    condition:
        "A datagram socket is connected to a socket that is not connected back and has no name to connect to again.",
    message: "UNIX {type} socket[ {name}] (inode {ino}): its peer, inode {peer}, has no name and is not connected \
           back[ but to inode {peer_peer}]",
    criu: &["Unix socket %u with unreachable peer %u (%u)"],
    source: "criu/sk-unix.c:dump_one_unix_fd",
    versions: Versions::All,
    remedies: &[Remedy::Workload("close one of the two sockets before the dump")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Tree,
    find: unreachable_peer,
};

pub(crate) static UNIX_DANGLING: Rule = Rule {
    id: "unix-dangling",
    summary: "A UNIX connection that a server outside of CRIU's sight has not accepted yet.",
    group: "UNIX sockets",
    condition: "A stream or seqpacket socket is ESTABLISHED without a peer, waits at no listening socket that CRIU lists, and is not \
           shut down both ways: it waits for accept at a socket of a network namespace that is not dumped (a path can be reached \
           from any), or at one before which the list ends (see unix-not-collected). Closing the other end does not make one: the kernel then shuts our end both ways.",
    message: "UNIX {type} socket[ {name}] (inode {ino}): not accepted yet, by a socket that CRIU does not list",
    criu: &["Dangling connection %d"],
    source: "criu/sk-unix.c:dump_one_unix_fd",
    versions: Versions::All,
    remedies: &[Remedy::Workload("let the server accept the connection, or close it, before the dump")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Tree,
    find: dangling,
};

pub(crate) static UNIX_TYPE: Rule = Rule {
    id: "unix-type",
    summary: "A UNIX socket of an unknown type.",
    group: "UNIX sockets",
    condition: "A UNIX socket that is neither stream nor datagram nor seqpacket.",
    message: "UNIX socket[ {name}] (inode {ino}) of {type}",
    criu: &["Unsupported type (%d) on socket %d.", "Only stream/dgram/seqpacket are supported."],
    source: "criu/sk-unix.c:can_dump_unix_sk",
    versions: Versions::All,
    remedies: &[Remedy::Workload("close the socket before the dump")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for (s, u) in unix_sockets(ctx) {
            let known = [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_SEQPACKET];
            if !known.contains(&i32::from(u.type_)) {
                sink.push(finding(rule, ctx, s, u));
            }
        }
    },
};

pub(crate) static UNIX_STATE: Rule = Rule {
    id: "unix-state",
    summary: "A UNIX socket in an unknown state.",
    group: "UNIX sockets",
    condition: "A UNIX socket that is neither listening nor connected nor unconnected.",
    message: "UNIX {type} socket[ {name}] (inode {ino}) in state {state}",
    criu: &["Unknown state %d for unix socket %d"],
    source: "criu/sk-unix.c:can_dump_unix_sk",
    versions: Versions::All,
    remedies: &[Remedy::Workload("close the socket before the dump")],
    phase: Phase::BeforePages,
    when: When::Volatile,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for (s, u) in unix_sockets(ctx) {
            if ![state::LISTEN, state::ESTABLISHED, state::CLOSE].contains(&u.state) {
                sink.push(finding(rule, ctx, s, u).term("state", state_name(u.state)));
            }
        }
    },
};

/// The tree's UNIX sockets that CRIU has listed.
pub(crate) fn unix_sockets<'c, 'a>(ctx: &'c Ctx<'a>) -> impl Iterator<Item = (&'c Sock<'a>, &'a UnixDiag)> {
    ctx.socks.all.iter().filter_map(|s| s.unix().map(|u| (s, u)))
}

/// A finding with the socket's type and name.
pub(crate) fn finding<'a>(rule: &Rule, ctx: &Ctx<'a>, s: &Sock<'a>, u: &'a UnixDiag) -> Finding {
    s.finding(rule, &ctx.index)
        .term("type", type_name(u.type_.into()))
        .fact_opt("name", u.name.as_ref().map(|n| Value::Text(shown_name(n))))
}

pub(super) fn is_datagram(u: &UnixDiag) -> bool {
    i32::from(u.type_) == libc::SOCK_DGRAM
}

/// What CRIU makes of the peer, in the order of its own questions.
enum Peer<'a> {
    /// None, or CRIU's RPC socket, which it treats as none.
    None,
    Service,
    Uncollected(u32),
    Unreachable(u32, &'a UnixDiag),
    Inside,
    Outside(u32, &'a UnixDiag),
}

fn peer_of<'a>(ctx: &Ctx<'a>, u: &UnixDiag) -> Peer<'a> {
    let Some(ino) = u.peer.filter(|p| *p != 0) else { return Peer::None };
    if ctx.host.service_sk_ino == Some(ino) {
        return Peer::Service;
    }
    let listed = ctx.index.socket(ino.into()).filter(|(t, _)| ctx.socks.collects(t.netns) != Some(false));
    let listed = listed.filter(|_| !ctx.socks.is_unreached(ino.into()));
    let Some((_, crate::snapshot::Socket::Unix(peer))) = listed else { return Peer::Uncollected(ino) };
    if peer.peer != Some(u.ino) && peer.name.is_none() {
        Peer::Unreachable(ino, peer)
    } else if ctx.index.holds_socket(ino.into()) {
        Peer::Inside
    } else {
        Peer::Outside(ino, peer)
    }
}

/// The peer of a datagram socket that has no name and is outside of the tree.
pub(super) fn nameless_peer_outside(ctx: &Ctx, u: &UnixDiag) -> Option<u32> {
    match peer_of(ctx, u) {
        Peer::Outside(ino, peer) if is_datagram(peer) && peer.name.is_none() => Some(ino),
        _ => None,
    }
}

#[derive(PartialEq)]
enum Outside {
    Named,
    Nameless,
    Stream,
}

fn external(rule: &Rule, ctx: &Ctx, sink: &mut Sink, wanted: Outside) {
    let mut hidden = None;
    for (s, u) in unix_sockets(ctx) {
        let Peer::Outside(ino, peer) = peer_of(ctx, u) else { continue };
        let kind = match (is_datagram(peer), &peer.name) {
            (false, _) => Outside::Stream,
            (true, None) => Outside::Nameless,
            (true, Some(_)) => Outside::Named,
        };
        if kind != wanted {
            continue;
        }
        let mut f = finding(rule, ctx, s, u)
            .peer_socket(ino)
            .fact_opt("peer_name", peer.name.as_ref().map(|n| Value::Text(shown_name(n))));
        if *hidden.get_or_insert_with(|| crate::rules::sockets::unix_queue::may_hold_descriptors(ctx)) {
            f = f.doubt().term("doubt", "queue");
        }
        sink.push(f);
    }
}

fn not_collected(rule: &Rule, ctx: &Ctx, sink: &mut Sink) {
    for s in &ctx.socks.all {
        if s.family() != Some(libc::AF_UNIX) {
            continue;
        }
        let found = || s.finding(rule, &ctx.index);
        if let Some(u) = s.unix() {
            if u.path().is_some() && u.vfs.is_none() {
                let f = found().fact_opt("name", u.name.clone().map(Value::Text));
                sink.push(f.term("why", "no-inode"));
            }
            continue;
        }
        let Some(netns) = s.netns() else {
            sink.push(found().term("why", "netns-unknown").doubt());
            continue;
        };
        let f = found().fact("netns", number(netns));
        match ctx.socks.collects(netns) {
            Some(false) => sink.push(f.term("why", "netns")),
            None => sink.push(f.term("why", "netns-outside").doubt()),
            Some(true) => {
                if ctx.socks.diag_missing(netns, libc::AF_UNIX, 0).is_some() {
                    let f = f.term("module", "unix_diag");
                    sink.push(f.term("why", "module"));
                } else if let Some((gate, f)) = list_ends_before(f, &ctx.socks, s, netns, libc::AF_UNIX) {
                    sink.push_unless(gate, f);
                }
            }
        }
    }
}

fn peer_uncollected(rule: &Rule, ctx: &Ctx, sink: &mut Sink) {
    for (s, u) in unix_sockets(ctx) {
        if let Peer::Uncollected(ino) = peer_of(ctx, u) {
            let gate = if ctx.socks.all_unix_listed() { Gate::InForce } else { Gate::FACT_UNKNOWN };
            let place = match ctx.socks.is_unreached(ino.into()) {
                true => "unreached",
                false => "netns",
            };
            sink.push_unless(gate, finding(rule, ctx, s, u).peer_socket(ino).term("where", place));
        }
    }
}

fn unreachable_peer(rule: &Rule, ctx: &Ctx, sink: &mut Sink) {
    for (s, u) in unix_sockets(ctx) {
        if let Peer::Unreachable(ino, peer) = peer_of(ctx, u) {
            let back = peer.peer.filter(|p| *p != 0).map(number);
            sink.push(finding(rule, ctx, s, u).peer_socket(ino).fact_opt("peer_peer", back));
        }
    }
}

fn dangling(rule: &Rule, ctx: &Ctx, sink: &mut Sink) {
    for (s, u) in unix_sockets(ctx) {
        let connected = u.state == state::ESTABLISHED && !is_datagram(u);
        if connected
            && matches!(peer_of(ctx, u), Peer::None)
            && ctx.socks.listener_of(u.ino).is_none()
            && u.shutdown.is_some_and(|how| how != BOTH)
        {
            // A listening socket of a list that we lack could be the one it waits at.
            let gate = if ctx.socks.all_unix_listed() { Gate::InForce } else { Gate::FACT_UNKNOWN };
            sink.push_unless(gate, finding(rule, ctx, s, u));
        }
    }
}

#[cfg(test)]
#[path = "unix_tests.rs"]
mod tests;
