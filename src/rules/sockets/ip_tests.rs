//! IP sockets of any protocol.

use super::*;
use crate::criu::Release;
use crate::criu::{Caps, Opt};
use crate::rules::testkit::*;
use crate::rules::Verdict::{self, Refuse, Warn};
use crate::snapshot::{Answer, Snapshot, SocketFacts, SocketTable};

fn tree(listed: Vec<InetDiag>, facts: SocketFacts) -> Snapshot {
    let mut s = snap(vec![socket_with(3, 1, facts)]);
    s.sockets = vec![SocketTable { inet: listed, ..table() }];
    s
}

fn of(protocol: i32, kind: i32) -> SocketFacts {
    SocketFacts { domain: Some(2), kind: Some(kind), protocol: Some(protocol), ..SocketFacts::default() }
}

fn on(rule: &Rule, s: &Snapshot) -> Option<Verdict> {
    verdict(rule, s, &host())
}

#[test]
fn protocols() {
    for (protocol, kind, expected) in [
        (6, 1, None),
        (17, 2, None),
        (136, 2, None),
        (1, 2, None),
        (58, 2, None),
        (262, 1, Some(Refuse)),
        (132, 5, Some(Refuse)),
        (33, 6, Some(Refuse)),
        (200, 3, None),
        (262, 3, None),
    ] {
        assert_eq!(on(&IP_PROTO, &tree(vec![], of(protocol, kind))), expected, "{protocol} {kind}");
    }
    let untyped = |protocol| tree(vec![], SocketFacts { kind: None, ..of(protocol, 0) });
    assert_eq!((on(&IP_PROTO, &untyped(200)), on(&IP_PROTO, &untyped(262))), (Some(Warn), Some(Refuse)));
}

#[test]
fn ping_sockets_are_known_from_4_2_on() {
    let s = tree(vec![], of(1, 2));
    let mut old = at_release(Release::V4_1);
    assert_eq!(verdict(&IP_PROTO, &s, &old), Some(Refuse));
    let since = found(&IP_PROTO, &s, &old).first().and_then(|f| f.get("since").cloned());
    assert_eq!(since, Some(crate::rules::Value::Term("4.2".into())));
    // A distributor's backport.
    old.caps = Caps { uprobes: true, ..old.caps };
    assert_eq!(verdict(&IP_PROTO, &s, &old), None);
}

#[test]
fn mptcp_however_it_is_listed() {
    let listed = |listed| tree(listed, SocketFacts::default());
    let subflow = InetDiag { ulp: Some("mptcp".into()), ..inet(1, 6, 1) };
    for s in [
        listed(vec![inet(1, 262, 1)]),
        listed(vec![inet(1, 262, 1), inet(1, 6, 1)]),
        listed(vec![subflow.clone()]),
        tree(vec![inet(1, 6, 1)], of(262, 1)),
    ] {
        let found = found(&IP_PROTO, &s, &host());
        let [f] = found.as_slice() else { panic!("{found:#?}") };
        assert_eq!((f.verdict, f.get("godebug").is_some()), (Refuse, true));
    }
    let tls = InetDiag { ulp: Some("tls".into()), ..subflow };
    assert_eq!(on(&IP_PROTO, &listed(vec![tls])), None);
    assert_eq!(on(&IP_PROTO, &listed(vec![inet(1, 255, 7)])), None);
}

#[test]
fn types() {
    for (protocol, kind, expected) in [(6, 1, None), (0, 5, Some(Refuse)), (132, 5, None), (17, 2, None), (1, 3, None)]
    {
        assert_eq!(on(&IP_TYPE, &tree(vec![], of(protocol, kind))), expected, "{protocol} {kind}");
    }
}

#[test]
fn a_list_that_the_kernel_cannot_make() {
    // In CRIU's own namespace only an open socket counts.
    let mut s = tree(vec![], SocketFacts { netns: Some(CRIU_NS), ..of(6, 1) });
    s.sockets[0].failed = vec![(2, 17, libc::ENOENT), (10, 6, libc::ENOENT)];
    assert_eq!(on(&IP_NOT_COLLECTED, &s), None);
    s.sockets[0].failed.push((2, 6, libc::EPERM));
    assert_eq!(on(&IP_NOT_COLLECTED, &s), None);
    s.sockets[0].failed.push((2, 6, libc::ENOENT));
    assert_eq!(on(&IP_NOT_COLLECTED, &s), Some(Refuse));
    s.tasks[0].files[0] = socket_with(3, 1, SocketFacts { netns: Some(CRIU_NS), ..of(6, 3) });
    assert_eq!(on(&IP_NOT_COLLECTED, &s), None);
    // A dumped one needs them all, but raw and netlink.
    let mut s = snap(vec![]);
    s.tasks[0].ns = namespaces(7);
    for (failed, release, expected) in [
        ((2, 6, libc::ENOENT), Release::V4_2, Some(Refuse)),
        ((1, 0, libc::EINVAL), Release::V4_2, Some(Refuse)),
        ((17, 0, libc::ENOENT), Release::V4_3, Some(Refuse)),
        // CRIU takes it for one about raw sockets.
        ((16, 0, libc::ENOENT), Release::V4_3, None),
        ((16, 0, libc::EINVAL), Release::V4_3, Some(Refuse)),
        ((2, 6, libc::EINVAL), Release::V4_2, None),
        ((2, 255, libc::ENOENT), Release::V4_2, None),
        ((2, 262, libc::ENOENT), Release::V4_2, None),
        ((2, 136, libc::ENOENT), Release::V4_1, Some(Refuse)),
        ((2, 136, libc::ENOENT), Release::V4_2, Some(Warn)),
        ((2, 136, libc::ENOENT), Release::V4_3, None),
    ] {
        s.sockets = vec![SocketTable { netns: 7, failed: vec![failed], ..table() }];
        assert_eq!(verdict(&IP_NOT_COLLECTED, &s, &at_release(release)), expected, "{failed:?} {release:?}");
    }
}

#[test]
fn a_socket_of_a_third_namespace() {
    let of_ns = |netns| tree(vec![], SocketFacts { netns, ..of(17, 2) });
    let mut s = of_ns(Some(9));
    assert_eq!(on(&IP_NETNS_EXTERNAL, &s), None);
    s.tasks[0].ns = namespaces(7);
    assert_eq!(on(&IP_NETNS_EXTERNAL, &s), Some(Refuse));
    for (domain, expected) in [(16, Some(Refuse)), (10, Some(Refuse)), (1, None), (17, None)] {
        let mut s = tree(vec![], SocketFacts { domain: Some(domain), netns: Some(9), ..SocketFacts::default() });
        s.tasks[0].ns = namespaces(7);
        assert_eq!(on(&IP_NETNS_EXTERNAL, &s), expected, "{domain}");
    }
    s.criu.ns.net = None;
    assert_eq!(on(&IP_NETNS_EXTERNAL, &s), Some(Warn));
    for netns in [None, Some(7), Some(CRIU_NS)] {
        let mut s = of_ns(netns);
        s.tasks[0].ns = namespaces(7);
        assert_eq!(on(&IP_NETNS_EXTERNAL, &s), None, "{netns:?}");
    }
}

#[test]
fn link_local_without_an_interface() {
    let bound = |src: &str, if_, sport| {
        let src = src.parse().unwrap();
        let s = tree(vec![InetDiag { family: 10, src, if_, sport, ..inet(1, 17, 7) }], SocketFacts::default());
        on(&IP6_NO_SCOPE_DEV, &s)
    };
    assert_eq!(bound("fe80::1", 0, 80), Some(Refuse));
    assert_eq!(bound("febf::1", 0, 80), Some(Refuse));
    assert_eq!(bound("fe80::1", 2, 80), None);
    assert_eq!(bound("fe80::1", 0, 0), None);
    assert_eq!(bound("fec0::1", 0, 80), None);
    assert_eq!(bound("ff02::1", 0, 80), None);
    assert_eq!(bound("::1", 0, 80), None);
}

#[test]
fn link_local_in_no_list() {
    let facts = |address: &str, device: &str| SocketFacts {
        local: Some(address.parse().unwrap()),
        bound_device: Answer::Is(device.into()),
        ..of(58, 2)
    };
    for (address, device, expected) in [
        ("[fe80::1]:5", "", Some(Refuse)),
        ("[fe80::1]:5", "lo", None),
        ("[fe80::1]:0", "", None),
        ("[::1]:5", "", None),
        ("127.0.0.1:5", "", None),
    ] {
        assert_eq!(on(&IP6_NO_SCOPE_DEV, &tree(vec![], facts(address, device))), expected, "{address} {device}");
    }
    let unknown = SocketFacts { bound_device: Answer::Unknown, ..facts("[fe80::1]:5", "") };
    assert_eq!(on(&IP6_NO_SCOPE_DEV, &tree(vec![], unknown)), None);
}

#[test]
fn a_connected_raw_socket() {
    let raw = |state| InetDiag { sport: 1, dport: 0, raw_protocol: Some(1), ..inet(1, 255, state) };
    for (listed, expected) in
        [(vec![raw(1)], Some(Refuse)), (vec![raw(7)], None), (vec![], None), (vec![inet(1, 17, 1)], None)]
    {
        assert_eq!(on(&RAW_CONNECTED, &tree(listed, of(1, 3))), expected);
    }
    let s = tree(vec![raw(1)], of(1, 3));
    for opt in [Opt::TcpEstablished, Opt::TcpClose] {
        assert_eq!(verdict(&RAW_CONNECTED, &s, &with(opt)), None);
        assert_eq!(verdict(&RAW_CONNECTED, &s, &unknown(opt)), Some(Warn));
    }
}
