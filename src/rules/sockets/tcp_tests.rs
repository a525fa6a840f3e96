//! TCP and UDP.

use super::*;
use crate::criu::Host;
use crate::rules::sockets::udp::UDP_CORKED;
use crate::rules::testkit::*;
use crate::rules::Verdict::{self, Refuse, Warn};
use crate::snapshot::{Namespaces, ScanPhase, Snapshot, SocketFacts, SocketTable, Task, TcpFacts};

fn tree(listed: Vec<InetDiag>) -> Snapshot {
    let mut s = snap(vec![socket(3, 1)]);
    s.sockets = vec![SocketTable { inet: listed, ..table() }];
    s
}

fn facts(s: &mut Snapshot, facts: SocketFacts) {
    s.tasks[0].files[0] = socket_with(3, 1, facts);
}

fn tcp_of(state: Option<u8>, netns: Option<u64>) -> SocketFacts {
    SocketFacts {
        domain: Some(2),
        kind: Some(1),
        protocol: Some(6),
        netns,
        ..of_tcp(TcpFacts { state, ..TcpFacts::default() })
    }
}

fn of_tcp(tcp: TcpFacts) -> SocketFacts {
    SocketFacts { tcp, ..SocketFacts::default() }
}

/// One that diag does not list, in this state and with this peer.
fn unlisted(state: u8, peer: Option<SocketAddr>) -> SocketFacts {
    let mut facts = tcp_of(Some(state), None);
    facts.tcp.peer = peer;
    facts
}

fn on(rule: &Rule, s: &Snapshot) -> Option<Verdict> {
    verdict(rule, s, &host())
}

#[test]
fn connections_in_every_state() {
    for state in 1..=12 {
        let s = tree(vec![inet(1, 6, state)]);
        let connected = ![3, 6, 7, 10, 12].contains(&state);
        assert_eq!(on(&TCP_CONNECTED, &s), connected.then_some(Refuse), "{state}");
        assert_eq!(on(&TCP_ODD_STATE, &s), [3, 6, 12].contains(&state).then_some(Refuse), "{state}");
    }
    let s = tree(vec![inet(1, 6, 8)]);
    for opt in [Opt::TcpEstablished, Opt::TcpClose] {
        assert_eq!(verdict(&TCP_CONNECTED, &s, &with(opt)), None);
        assert_eq!(verdict(&TCP_CONNECTED, &s, &unknown(opt)), Some(Warn));
    }
    assert_eq!(verdict(&TCP_CONNECTED, &s, &with(Opt::SkipInFlight)), Some(Refuse));
}

#[test]
fn only_tcp_is_a_connection() {
    for protocol in [17, 136, 255, 262] {
        assert_eq!(on(&TCP_CONNECTED, &tree(vec![inet(1, protocol, 1)])), None, "{protocol}");
    }
    // The first subflow of an MPTCP socket shows as TCP.
    let subflow = InetDiag { ulp: Some("mptcp".into()), ..inet(1, 6, 1) };
    assert_eq!(on(&TCP_CONNECTED, &tree(vec![subflow])), None);
    // Somebody else's connection.
    assert_eq!(on(&TCP_CONNECTED, &tree(vec![inet(2, 6, 1)])), None);
}

#[test]
fn the_other_end_is_found_by_its_addresses() {
    let t = inet(1, 6, 1);
    let back = InetDiag { inode: 9, src: t.dst, dst: t.src, sport: t.dport, dport: t.sport, ..t.clone() };
    let mapped = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => IpAddr::V6(v4.to_ipv6_mapped()),
        v6 => v6,
    };
    let back6 = InetDiag { family: 10, src: mapped(back.src), dst: mapped(back.dst), ..back.clone() };
    for (other, expected) in [
        (back.clone(), Some(Other::Socket(9))),
        (back6, Some(Other::Socket(9))),
        (InetDiag { dport: 81, ..back }, None),
    ] {
        let found = found(&TCP_CONNECTED, &tree(vec![t.clone(), other]), &host());
        assert_eq!(found.first().map(|f| f.other.clone()), Some(expected));
    }
}

#[test]
fn both_ends_in_the_tree_are_one_finding() {
    let t = inet(1, 6, 1);
    let back = InetDiag { inode: 9, src: t.dst, dst: t.src, sport: t.dport, dport: t.sport, ..t.clone() };
    let mut s = tree(vec![t.clone(), back]);
    s.tasks[0].files.push(socket(4, 9));
    let places = |s: &Snapshot, rule: &'static Rule, host: &Host| -> Vec<Vec<Option<i32>>> {
        let found = found(rule, s, host);
        found.iter().map(|f| std::iter::once(f.fd).chain(f.also.iter().map(|p| p.fd)).collect()).collect()
    };
    assert_eq!(places(&s, &TCP_CONNECTED, &host()), [[Some(3), Some(4)]]);
    // Another one with the same addresses, in another network namespace.
    s.tasks[0].files.push(socket(5, 20));
    s.sockets.push(SocketTable { inet: vec![InetDiag { inode: 20, ..t }], ..table() });
    s.sockets[1].netns += 1;
    s.tasks.push(Task { ns: Namespaces { net: Some(s.sockets[1].netns), ..s.tasks[0].ns }, ..task(101) });
    assert_eq!(places(&s, &TCP_CONNECTED, &host()), [vec![Some(3), Some(4)], vec![Some(5)]]);
    for table in &mut s.sockets {
        table.net_admin = Some(false);
    }
    assert_eq!(places(&s, &TCP_REPAIR, &with(Opt::TcpEstablished)), [vec![Some(3), Some(4)], vec![Some(5)]]);
}

#[test]
fn a_backlog() {
    let listener = |rqueue| tree(vec![InetDiag { rqueue, dport: 0, ..inet(1, 6, 10) }]);
    assert_eq!((on(&TCP_INFLIGHT, &listener(0)), on(&TCP_INFLIGHT, &listener(2))), (None, Some(Refuse)));
    let mut s = listener(2);
    assert_eq!(verdict(&TCP_INFLIGHT, &s, &with(Opt::SkipInFlight)), None);
    assert_eq!(verdict(&TCP_INFLIGHT, &s, &unknown(Opt::SkipInFlight)), Some(Warn));
    for opt in [Opt::TcpClose, Opt::TcpEstablished] {
        assert_eq!(verdict(&TCP_INFLIGHT, &s, &with(opt)), Some(Refuse));
    }
    s.look = ScanPhase::Early;
    assert_eq!(on(&TCP_INFLIGHT, &s), Some(Warn));
    // Unread data of a connection is no backlog.
    assert_eq!(on(&TCP_INFLIGHT, &tree(vec![InetDiag { rqueue: 2, ..inet(1, 6, 1) }])), None);
}

#[test]
fn not_in_criu_s_list() {
    let mut s = tree(vec![]);
    for (state, netns, expected) in [
        (Some(1), Some(9), Some(Refuse)),
        (Some(10), Some(9), Some(Refuse)),
        (Some(7), Some(9), None),
        (Some(1), None, Some(Warn)),
        (Some(1), Some(CRIU_NS), None),
        (None, Some(9), None),
    ] {
        facts(&mut s, tcp_of(state, netns));
        assert_eq!(on(&TCP_UNDIAGGED, &s), expected, "{state:?} {netns:?}");
    }
    // ip-netns-external tells that one.
    facts(&mut s, tcp_of(Some(1), Some(9)));
    s.tasks[0].ns = namespaces(7);
    assert_eq!(on(&TCP_UNDIAGGED, &s), None);
    // A process of the tree in CRIU's namespace, the root elsewhere: listed by us, not by CRIU.
    let mut s = tree(vec![inet(1, 6, 10)]);
    s.tasks.push(task(101));
    assert_eq!(on(&TCP_UNDIAGGED, &s), None);
    s.tasks[0].ns = namespaces(7);
    assert_eq!((on(&TCP_UNDIAGGED, &s), on(&TCP_INFLIGHT, &s)), (Some(Refuse), None));
}

#[test]
fn a_connection_that_cannot_be_locked() {
    let mut s = tree(vec![inet(1, 6, 1)]);
    s.criu.ip6tables = Some(true);
    let established = with(Opt::TcpEstablished);
    let by = |network_lock| {
        let mut h = with(Opt::TcpEstablished);
        h.options.network_lock = network_lock;
        h
    };
    assert_eq!(verdict(&TCP_LOCK, &s, &established), None);
    s.criu.iptables = Some(true);
    assert_eq!(verdict(&TCP_LOCK, &s, &established), None);
    s.criu.iptables = Some(false);
    assert_eq!(verdict(&TCP_LOCK, &s, &established), Some(Refuse));
    assert_eq!(verdict(&TCP_LOCK, &s, &by(None)), Some(Warn));
    assert_eq!(verdict(&TCP_LOCK, &s, &by(Some(LockMethod::Skip))), None);
    assert_eq!(verdict(&TCP_LOCK, &s, &by(Some(LockMethod::Nftables))), None);
    // tcp-connected tells that one.
    assert_eq!(on(&TCP_LOCK, &s), None);
    let v6 = InetDiag { src: [0; 16].into(), dst: [9; 16].into(), family: 10, ..inet(1, 6, 1) };
    s.sockets[0].inet = vec![v6];
    assert_eq!(verdict(&TCP_LOCK, &s, &established), None);
    let mut close = established.clone();
    close.options.tcp_close = Some(true);
    s.sockets[0].inet = vec![inet(1, 6, 1)];
    assert_eq!(verdict(&TCP_LOCK, &s, &close), None);
    // A namespace of its own is locked as a whole.
    s.tasks[0].ns = namespaces(7);
    s.sockets[0].netns = 7;
    assert_eq!(verdict(&TCP_LOCK, &s, &established), None);
}

#[test]
fn a_closed_socket_that_remembers_its_peer() {
    let peer = |port| Some(SocketAddr::from(([10, 0, 0, 9], port)));
    let closed = |peer| unlisted(7, peer);
    let mut s = tree(vec![]);
    s.criu.iptables = Some(false);
    for (facts_now, expected) in
        [(closed(peer(80)), Some(Refuse)), (closed(peer(0)), None), (closed(None), None), (unlisted(1, peer(80)), None)]
    {
        facts(&mut s, facts_now.clone());
        assert_eq!(on(&TCP_CLOSED_LOCKED, &s), expected, "{facts_now:?}");
    }
    facts(&mut s, closed(peer(80)));
    assert_eq!(verdict(&TCP_CLOSED_LOCKED, &s, &with(Opt::TcpClose)), None);
    assert_eq!(verdict(&TCP_CLOSED_LOCKED, &s, &unknown(Opt::TcpClose)), Some(Warn));
    assert_eq!(verdict(&TCP_CLOSED_LOCKED, &s, &with(Opt::TcpEstablished)), Some(Refuse));
    let mut skip = host();
    skip.options.network_lock = Some(LockMethod::Skip);
    assert_eq!(verdict(&TCP_CLOSED_LOCKED, &s, &skip), None);
    s.criu.iptables = None;
    assert_eq!(on(&TCP_CLOSED_LOCKED, &s), None);
}

#[test]
fn a_queue_that_cannot_be_peeked_at_whole() {
    let of = |peek_off, urgent_inline| {
        let mut facts = tcp_of(None, None);
        (facts.tcp.peek_off, facts.tcp.urgent_inline) = (peek_off, urgent_inline);
        facts
    };
    let established = with(Opt::TcpEstablished);
    let mut s = tree(vec![inet(1, 6, 1)]);
    for (peek_off, urgent, expected) in [
        (None, None, None),
        (None, Some(false), None),
        (None, Some(true), Some(Refuse)),
        (Some(3), Some(false), Some(Refuse)),
    ] {
        facts(&mut s, of(peek_off, urgent));
        assert_eq!(verdict(&TCP_RECV_QUEUE, &s, &established), expected, "{peek_off:?} {urgent:?}");
    }
    // kTLS: what lies there, and what was sent and may be acknowledged.
    for (tls_unread, wqueue, expected) in
        [(Some(40), 0, Some(Refuse)), (Some(0), 0, None), (Some(0), 9, Some(Warn)), (None, 9, None)]
    {
        let mut tls = of(None, Some(false));
        tls.tcp.tls_unread = tls_unread;
        facts(&mut s, tls);
        s.sockets[0].inet[0].wqueue = wqueue;
        assert_eq!(verdict(&TCP_RECV_QUEUE, &s, &established), expected, "{tls_unread:?} {wqueue}");
    }
    facts(&mut s, of(Some(3), Some(false)));
    // tcp-connected tells that one.
    assert_eq!(on(&TCP_RECV_QUEUE, &s), None);
    assert_eq!(verdict(&TCP_RECV_QUEUE, &s, &unknown(Opt::TcpEstablished)), Some(Warn));
    let mut close = established.clone();
    close.options.tcp_close = Some(true);
    assert_eq!(verdict(&TCP_RECV_QUEUE, &s, &close), None);
    // Reset: whatever the options.
    let peer = Some(SocketAddr::from(([10, 0, 0, 9], 80)));
    for (closed, expected) in [(peer, Some(Refuse)), (None, None)] {
        s.sockets[0].inet.clear();
        let mut reset = unlisted(7, closed);
        reset.tcp.peek_off = Some(3);
        facts(&mut s, reset);
        assert_eq!(on(&TCP_RECV_QUEUE, &s), expected);
    }
    let mut reset = unlisted(7, peer);
    reset.tcp.peek_off = Some(3);
    facts(&mut s, reset);
    assert_eq!(verdict(&TCP_RECV_QUEUE, &s, &with(Opt::TcpClose)), None);
    assert_eq!(verdict(&TCP_RECV_QUEUE, &s, &unknown(Opt::TcpClose)), Some(Warn));
}

#[test]
fn a_connection_that_criu_may_not_save() {
    let mut s = tree(vec![inet(1, 6, 1)]);
    let established = with(Opt::TcpEstablished);
    for (net_admin, expected) in [(None, None), (Some(true), None), (Some(false), Some(Refuse))] {
        s.sockets[0].net_admin = net_admin;
        assert_eq!(verdict(&TCP_REPAIR, &s, &established), expected);
    }
    assert_eq!(on(&TCP_REPAIR, &s), None, "that is tcp-connected");
    // In no list; of its namespace the kernel does not tell us either.
    s.sockets[0].inet.clear();
    let peer = Some(SocketAddr::from(([10, 0, 0, 9], 80)));
    facts(&mut s, unlisted(7, peer));
    assert_eq!(on(&TCP_REPAIR, &s), Some(Refuse));
    assert_eq!(verdict(&TCP_REPAIR, &s, &with(Opt::TcpClose)), None);
    s.sockets.push(SocketTable { netns: 9, net_admin: Some(true), ..table() });
    assert_eq!(on(&TCP_REPAIR, &s), None, "which it is, is not known");
}

#[test]
fn a_cork() {
    let mut s = tree(vec![inet(1, 17, 7)]);
    for (udp_cork, expected) in [(None, None), (Some(false), None), (Some(true), Some(Refuse))] {
        facts(&mut s, SocketFacts { udp_cork, ..SocketFacts::default() });
        assert_eq!(on(&UDP_CORKED, &s), expected);
    }
    let lite = SocketFacts { domain: Some(10), kind: Some(2), protocol: Some(136), ..SocketFacts::default() };
    s.sockets.clear();
    facts(&mut s, SocketFacts { udp_cork: Some(true), ..lite });
    assert_eq!(on(&UDP_CORKED, &s), Some(Refuse));
}
