//! TCP: connections need an option, a backlog needs another, and locking a connection needs a tool on the host
//! (criu/sk-inet.c:can_dump_inet_sk, criu/sk-tcp.c).

use crate::criu::{Gate, LockMethod, Opt};
use crate::criu_model::sockets::Sock;
use crate::parse::diag::InetDiag;
use crate::parse::sockets::{state, state_name};
use crate::rules::{number, Ctx, Evidence, Finding, Other, Phase, Remedy, Rule, Sink, Value, Versions, When};
use std::net::{IpAddr, SocketAddr};

/// The states that CRIU asks sock_diag for, besides LISTEN (criu/sockets.c:collect_sockets).
const CONNECTED: &[u8] = &[1, 2, 4, 5, 8, 9, 11];

pub(crate) static TCP_CONNECTED: Rule = Rule {
    id: "tcp-connected",
    summary: "A TCP connection, which CRIU saves only with an option.",
    group: "TCP sockets",
    condition: "A TCP socket has a connection in whatever state: SYN_SENT, ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK \
           or CLOSING. Connections over loopback and with both ends in the tree count too. With --tcp-established the \
           connection is saved and restored; with --tcp-close it is restored as closed.",
    message: "TCP {local} <-> {remote} {state}",
    criu: &["Connected TCP socket, consider using --tcp-established option."],
    source: "criu/sk-inet.c:can_dump_inet_sk",
    versions: Versions::All,
    remedies: &accepted_by_option("close the connection before the dump"),
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        let connected = tcp_sockets(ctx).filter(|(_, t)| CONNECTED.contains(&t.state));
        connected.map(|(s, t)| connection(rule, ctx, s, t)).for_each(|f| sink.push(f));
    },
};

/// What makes CRIU take a connection, or what it takes for one; `words`: what does without.
pub(crate) const fn accepted_by_option(words: &'static str) -> [Remedy; 3] {
    [Remedy::Option(Opt::TcpEstablished), Remedy::Option(Opt::TcpClose), Remedy::Workload(words)]
}

pub(crate) static TCP_INFLIGHT: Rule = Rule {
    id: "tcp-inflight",
    summary: "TCP connections that a server has not accepted yet.",
    group: "TCP sockets",
    condition:
        "A listening TCP socket has connections in its backlog that the process has not accepted yet. --skip-in-flight \
           drops them; neither --tcp-established nor --tcp-close does. It comes and goes with the traffic.",
    message: "TCP {local} LISTEN, connections not accepted yet: {backlog}",
    criu: &[
        "In-flight connection (l) for %x",
        "In-flight connections can be ignored with the --skip-in-flight option.",
    ],
    source: "criu/sk-inet.c:can_dump_inet_sk",
    versions: Versions::All,
    remedies: &[
        Remedy::Option(Opt::SkipInFlight),
        Remedy::Workload("keep new connections away and let the process accept the waiting ones before the dump"),
    ],
    phase: Phase::BeforePages,
    when: When::Volatile,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for (s, t) in tcp_sockets(ctx).filter(|(_, t)| t.state == state::LISTEN && t.rqueue != 0) {
            sink.push(s.finding(rule, &ctx.index).fact("local", local(t)).fact("backlog", number(t.rqueue)));
        }
    },
};

pub(crate) static TCP_ODD_STATE: Rule = Rule {
    id: "tcp-odd-state",
    summary: "A TCP connection in the middle of its handshake, or at its very end.",
    group: "TCP sockets",
    condition:
        "An open TCP socket is in a state that CRIU knows nothing of: SYN_RECV (accepted by TCP Fast Open before the \
           handshake was over), TIME_WAIT or NEW_SYN_RECV.",
    message: "TCP {local} <-> {remote} {state}",
    criu: &["Socket state %d obtained but expected %d", "Unknown inet socket %x state %d"],
    source: "criu/sk-inet.c:gen_uncon_sk, can_dump_inet_sk",
    versions: Versions::All,
    remedies: &[Remedy::Workload("wait until the handshake is over, or close the connection, before the dump")],
    phase: Phase::BeforePages,
    when: When::Volatile,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        let odd = [state::SYN_RECV, state::TIME_WAIT, state::NEW_SYN_RECV];
        for (s, t) in tcp_sockets(ctx).filter(|(_, t)| odd.contains(&t.state)) {
            sink.push(connection(rule, ctx, s, t));
        }
    },
};

pub(crate) static TCP_UNDIAGGED: Rule = Rule {
    id: "tcp-undiagged",
    summary: "A TCP socket of a network namespace that CRIU does not look into.",
    group: "TCP sockets",
    condition: "A TCP socket that is not closed is missing from the list that CRIU made with sock_diag, because it belongs to a \
           network namespace that CRIU does not list: one that no process of the tree is in, or CRIU's own while the root \
           process has another. No option is asked, not even for a socket that only listens.",
    message: "TCP socket (inode {ino})[ {local}][ <-> {remote}] {state}[ of network namespace {netns}], which CRIU does not list",
    criu: &["Socket state %d obtained but expected %d"],
    source: "criu/sk-inet.c:gen_uncon_sk",
    versions: Versions::All,
    remedies: &[Remedy::Workload("close the socket before the dump")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: undiagged,
};

pub(crate) static TCP_LOCK: Rule = Rule {
    id: "tcp-lock",
    summary: "A TCP connection that CRIU has to block with iptables, which is not installed.",
    group: "TCP sockets",
    condition: "With --tcp-established CRIU blocks the traffic of each connection, in a network namespace that is not dumped with \
           the tree by iptables or ip6tables, and there is no such program in its PATH.",
    message: "TCP {local} <-> {remote} {state}: CRIU would lock the connection with {tool}, which is not in its PATH",
    criu: &["Iptables configuration failed", "Failed to lock TCP connection %x"],
    source: "criu/sk-tcp.c:lock_connection, criu/netfilter.c:iptables_connection_switch_raw",
    versions: Versions::All,
    remedies: LOCK_LIFTS,
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        if ctx.host.options.tcp_established != Some(true) {
            return;
        }
        for (s, t) in tcp_sockets(ctx).filter(|(_, t)| CONNECTED.contains(&t.state) && t.dport != 0) {
            if let Some((gate, tool)) = missing_lock(ctx, s, t.dst) {
                sink.push_unless(gate, connection(rule, ctx, s, t).term("tool", tool));
            }
        }
    },
};

pub(crate) static TCP_CLOSED_LOCKED: Rule = Rule {
    id: "tcp-closed-locked",
    summary: "A TCP connection that is closed by now, which CRIU blocks with iptables all the same.",
    group: "TCP sockets",
    condition: "A TCP socket in CLOSE that once was connected (the other side has reset it, or both have shut it) still knows its \
           peer, and CRIU locks it like a connection, whatever the options but --tcp-close; the program for it is not in its \
           PATH. A socket that never was connected is no matter.",
    message: "TCP socket (inode {ino}), closed, once connected to {remote}: CRIU would lock it with {tool}, which is not in its PATH",
    criu: &["Iptables configuration failed", "Failed to lock TCP connection %x"],
    source: "criu/sk-tcp.c:dump_one_tcp, lock_connection",
    versions: Versions::All,
    remedies: &[
        Remedy::Option(Opt::TcpClose),
        Remedy::Modelled("network-lock", "nftables"),
        Remedy::Workload("install {tool} where criu runs"),
        Remedy::Workload("close the socket before the dump"),
    ],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for s in ctx.socks.all.iter().filter(|s| s.is_tcp()) {
            let Some(remote) = closed_peer(s) else { continue };
            if let Some((gate, tool)) = missing_lock(ctx, s, remote.ip()) {
                let f = s.finding(rule, &ctx.index).fact("remote", Value::Addr(remote)).term("tool", tool);
                sink.push_unless(gate, f);
            }
        }
    },
};

pub(crate) static TCP_RECV_QUEUE: Rule = Rule {
    id: "tcp-recv-queue",
    summary: "Received TCP data that CRIU cannot read without taking it: SO_PEEK_OFF, urgent data, kTLS.",
    group: "TCP sockets",
    condition: "CRIU saves the unread data of a connection (with --tcp-established; of one that was reset, whatever the options \
           but --tcp-close) by peeking at it, and the kernel stops short: the socket has SO_PEEK_OFF set to more than 0, or \
           it has SO_OOBINLINE set and an urgent byte lies behind other unread data, or the kernel decrypts what it receives \
           (kTLS) and gives less than lay in its queue. (A dump that leaves the process running moves SO_PEEK_OFF itself; and of \
           kTLS the kernel takes what was peeked at out of the queue, so that the next dump passes, without it.) What such a \
           socket of kTLS has sent cannot be read back either, until the other side has acknowledged it: a warning.",
    message: "TCP [{local} <-> ]{remote} {state}: its {queue?unread=unread|sent=sent and unacknowledged} data cannot be peeked at whole, {why?peek-off=SO_PEEK_OFF is {offset}\
           |urgent=an urgent byte is in it and SO_OOBINLINE is set|ktls=the kernel decrypts what the socket receives (kTLS)}",
    criu: &["recv failed (%d, want %d)", "libsoccr_save() failed with -5"],
    source: "soccr/soccr.c:get_queue",
    versions: Versions::All,
    remedies: &[
        Remedy::Option(Opt::TcpClose),
        Remedy::Workload("let the process read its data{why?peek-off=, or clear the socket's SO_PEEK_OFF (set it to -1),|urgent=, or clear the \
           socket's SO_OOBINLINE,|ktls=} before the dump"),
    ],
    phase: Phase::BeforePages,
    when: When::Volatile,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for s in ctx.socks.all.iter().filter(|s| s.is_tcp()) {
            let offset = s.fact(|f| f.tcp.peek_off);
            let sent = s.inet().is_some_and(|t| t.wqueue != 0 && t.state != state::CLOSE);
            let (queue, why) = match (offset, s.fact(|f| f.tcp.urgent_inline), s.fact(|f| f.tcp.tls_unread)) {
                (Some(_), ..) => ("unread", "peek-off"),
                (None, Some(true), _) => ("unread", "urgent"),
                (.., Some(1..)) => ("unread", "ktls"),
                (.., Some(0)) if sent => ("sent", "ktls"),
                _ => continue,
            };
            let Some((gate, f)) = saved(rule, ctx, s) else { continue };
            let f = f.term("queue", queue).term("why", why).fact_opt("offset", offset.map(number));
            // What was sent may be acknowledged at any moment.
            sink.push_unless(gate, if queue == "unread" { f } else { f.doubt() });
        }
    },
};

pub(crate) static TCP_REPAIR: Rule = Rule {
    id: "tcp-repair",
    summary: "A TCP connection, and CRIU without the right to save any (CAP_NET_ADMIN).",
    group: "TCP sockets",
    condition: "CRIU saves a connection (with --tcp-established; one that was reset, whatever the options but --tcp-close) and has no \
           CAP_NET_ADMIN in the user namespace that the socket's network namespace belongs to: the kernel does not let it turn \
           on TCP_REPAIR, nor lock the connection.",
    message: "TCP [{local} <-> ]{remote} {state}: CRIU may not save it without CAP_NET_ADMIN",
    criu: &["Can't turn TCP repair mode ON: Operation not permitted", "Failed to lock TCP connection %x"],
    source: "soccr/soccr.c:tcp_repair_on",
    versions: Versions::All,
    remedies: &[
        Remedy::Option(Opt::TcpClose),
        Remedy::Workload("give criu CAP_NET_ADMIN (a container or sandbox may have dropped it)"),
    ],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for s in ctx.socks.all.iter().filter(|s| s.is_tcp() && ctx.socks.net_admin(s) == Some(false)) {
            if let Some((gate, f)) = saved(rule, ctx, s) {
                let connected = s.inet().filter(|t| t.state != state::CLOSE);
                sink.push_unless(gate, if let Some(t) = connected { both_ends(f, ctx, t) } else { f });
            }
        }
    },
};

/// A finding about a TCP socket whose connection CRIU would save, and whether it would (`dump_one_tcp`, criu/sk-tcp.c).
fn saved(rule: &Rule, ctx: &Ctx, s: &Sock) -> Option<(Gate, Finding)> {
    let connection = s.inet().filter(|t| CONNECTED.contains(&t.state) && t.dport != 0);
    let (gate, remote, now) = match (connection, closed_peer(s)) {
        // Without either option it is tcp-connected.
        (Some(t), _) => match ctx.host.options.tcp_established {
            Some(true) => (Gate::InForce, remote(t), t.state),
            Some(false) => return None,
            None => (Gate::OPTION_UNKNOWN, remote(t), t.state),
        },
        (None, peer) => (Gate::InForce, Value::Addr(peer?), state::CLOSE),
    };
    let f = s
        .finding(rule, &ctx.index)
        .fact_opt("local", connection.map(local))
        .fact("remote", remote)
        .term("state", state_name(now));
    Some((gate, f))
}

/// The peer that a TCP socket in CLOSE once had and still knows.
pub(super) fn closed_peer(s: &Sock) -> Option<SocketAddr> {
    let closed = match s.inet() {
        Some(t) => t.state == state::CLOSE,
        None => s.fact(|f| f.tcp.state) == Some(state::CLOSE),
    };
    s.fact(|f| f.tcp.peer).filter(|p| closed && p.port() != 0)
}

const LOCK_LIFTS: &[Remedy] = &[
    Remedy::Modelled("network-lock", "nftables"),
    Remedy::Option(Opt::TcpClose),
    Remedy::Workload("install {tool} where criu runs"),
];

/// The tree's TCP sockets that sock_diag lists, in any state.
fn tcp_sockets<'c, 'a>(ctx: &'c Ctx<'a>) -> impl Iterator<Item = (&'c Sock<'a>, &'a InetDiag)> {
    ctx.socks.all.iter().filter(|s| s.is_tcp()).filter_map(|s| s.inet().map(|t| (s, t)))
}

pub(crate) fn local(t: &InetDiag) -> Value {
    Value::Addr(SocketAddr::new(t.src, t.sport))
}
pub(crate) fn remote(t: &InetDiag) -> Value {
    Value::Addr(SocketAddr::new(t.dst, t.dport))
}

/// A finding about a connection: both addresses, its state and, if it was listed too, the other end.
fn connection(rule: &Rule, ctx: &Ctx, s: &Sock, t: &InetDiag) -> Finding {
    let f = s
        .finding(rule, &ctx.index)
        .fact("local", local(t))
        .fact("remote", remote(t))
        .term("state", state_name(t.state));
    both_ends(f, ctx, t)
}

/// Names the other end, if it was listed too: both ends in the tree are one finding with two places.
fn both_ends(f: Finding, ctx: &Ctx, t: &InetDiag) -> Finding {
    let Some(other) = other_end(ctx, t) else { return f };
    let own = u64::from(t.inode);
    // In another namespace there may be a connection with the same addresses.
    let mutual = ctx.socks.between((t.src, t.sport), (t.dst, t.dport)) == Some(own);
    let f = if mutual { f.key(format!("socket:{}", own.min(other))) } else { f };
    f.other(Other::Socket(other))
}

/// The inode of the socket with the same two addresses the other way round, in any namespace of the tree.
fn other_end(ctx: &Ctx, t: &InetDiag) -> Option<u64> {
    ctx.socks.between((t.dst, t.dport), (t.src, t.sport)).filter(|ino| *ino != u64::from(t.inode))
}

/// The program that CRIU would run to lock a connection with this peer and does not find, and how sure that is. `None`: it
/// needs none, or has it.
fn missing_lock(ctx: &Ctx, s: &Sock, peer: IpAddr) -> Option<(Gate, &'static str)> {
    let (tool, there) = match peer.to_canonical() {
        IpAddr::V4(_) => ("iptables", ctx.snap.criu.iptables),
        IpAddr::V6(_) => ("ip6tables", ctx.snap.criu.ip6tables),
    };
    if there != Some(false) {
        return None;
    }
    // A namespace that is dumped is locked as a whole; what CRIU does not list it refuses for other reasons.
    let shared = match ctx.snap.root_shares(|ns| ns.net) {
        Some(true) => Gate::InForce,
        Some(false) => Gate::Waived,
        None => Gate::FACT_UNKNOWN,
    };
    let method = match ctx.host.options.network_lock {
        Some(LockMethod::Iptables) => Gate::InForce,
        Some(LockMethod::Nftables | LockMethod::Skip) => Gate::Waived,
        None => Gate::OPTION_UNKNOWN,
    };
    let known = s.netns().is_none_or(|ns| ctx.socks.knows(ns) == Some(true));
    let gate = shared.or(method);
    (gate != Gate::Waived && known).then_some((gate, tool))
}

fn undiagged(rule: &Rule, ctx: &Ctx, sink: &mut Sink) {
    for s in ctx.socks.all.iter().filter(|s| s.is_tcp() && s.inet().is_none()) {
        let listed = match s.mismatch() {
            Some((_, crate::snapshot::Socket::Inet(t))) => Some(t),
            _ => None,
        };
        let Some(now) = listed.map(|t| t.state).or_else(|| s.fact(|f| f.tcp.state)) else { continue };
        if now == state::CLOSE {
            continue;
        }
        let netns = s.netns();
        // CRIU stops at the namespace before: ip-netns-external.
        let external = ctx.snap.root_shares(|ns| ns.net) == Some(false);
        if external && netns.and_then(|ns| ctx.socks.knows(ns)) == Some(false) {
            continue;
        }
        let gate = match netns.and_then(|ns| ctx.socks.collects(ns)) {
            Some(false) => Gate::InForce,
            // Should have been listed: it came while we looked, or the list could not be made.
            Some(true) => continue,
            None => Gate::FACT_UNKNOWN,
        };
        let f = s
            .finding(rule, &ctx.index)
            .term("state", state_name(now))
            .fact_opt("local", listed.map(local))
            .fact_opt("remote", listed.filter(|t| t.dport != 0).map(remote))
            .fact_opt("netns", netns.map(number));
        sink.push_unless(gate, f);
    }
}

#[cfg(test)]
#[path = "tcp_tests.rs"]
mod tests;
