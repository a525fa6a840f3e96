//! What is asked of every socket, netlink and packet sockets.

use super::*;
use crate::criu::Release;
use crate::parse::diag::{InetDiag, NetlinkDiag, PacketDiag, PacketMcList};
use crate::parse::maps;
use crate::rules::sockets::{netlink, packet};
use crate::rules::testkit::*;
use crate::rules::Value;
use crate::rules::Verdict::{self, Refuse, Warn};
use crate::snapshot::{Answer, ScanPhase, Snapshot, SocketFacts};

fn tree(facts: SocketFacts) -> Snapshot {
    let mut s = snap(vec![socket_with(3, 1, facts)]);
    s.sockets = vec![table()];
    s
}

fn of(domain: i32) -> SocketFacts {
    SocketFacts { domain: Some(domain), netns: Some(CRIU_NS), ..SocketFacts::default() }
}

fn on(rule: &Rule, s: &Snapshot) -> Option<Verdict> {
    verdict(rule, s, &host())
}

#[test]
fn families() {
    for (domain, expected) in
        [(1, None), (2, None), (10, None), (16, None), (17, None), (40, Some(Refuse)), (99, Some(Refuse))]
    {
        assert_eq!(on(&SOCKET_FAMILY, &tree(of(domain))), expected, "{domain}");
    }
    assert_eq!(on(&SOCKET_FAMILY, &tree(SocketFacts::default())), None);
}

#[test]
fn an_o_path_descriptor_is_no_socket() {
    // Its inode is a file's, and may be that of somebody's socket.
    let mut s = tree(SocketFacts { o_path: true, ..SocketFacts::default() });
    s.sockets[0].inet = vec![inet(1, 6, 1)];
    assert_eq!(on(&SOCKET_O_PATH, &s), Some(Refuse));
    assert_eq!(on(&crate::rules::sockets::tcp::TCP_CONNECTED, &s), None);
    s.tasks[0].files[0].link = Some("/run/x.sock".into());
    let found = found(&SOCKET_O_PATH, &s, &host());
    assert_eq!(found.first().and_then(|f| f.get("path")), Some(&Value::Text("/run/x.sock".into())));
    assert_eq!(on(&SOCKET_O_PATH, &tree(of(1))), None);
}

#[test]
fn filters() {
    for (filter, expected) in [
        (Answer::Unknown, None),
        (Answer::Is(0), None),
        (Answer::Is(4), None),
        (Answer::Errno(libc::EACCES), Some(Refuse)),
    ] {
        assert_eq!(on(&SOCKET_EBPF_FILTER, &tree(SocketFacts { filter, ..of(17) })), expected, "{filter:?}");
    }
}

#[test]
fn bound_to_an_interface_that_is_gone() {
    let bound = |bound_device| tree(SocketFacts { bound_device, ..of(2) });
    for (device, expected) in [
        (Answer::Unknown, None),
        (Answer::Is("".into()), None),
        (Answer::Is("lo".into()), None),
        (Answer::Errno(libc::ENODEV), Some(Refuse)),
    ] {
        assert_eq!(on(&SOCKET_BOUND_DEV, &bound(device)), expected);
    }
    // A family that is refused in itself.
    let facts = SocketFacts { bound_device: Answer::Errno(libc::ENODEV), ..of(40) };
    assert_eq!(on(&SOCKET_BOUND_DEV, &tree(facts)), None);
    let mut listed = bound(Answer::Errno(libc::ENODEV));
    listed.sockets[0].inet = vec![InetDiag { if_: 7, ..inet(1, 17, 7) }];
    let found = found(&SOCKET_BOUND_DEV, &listed, &host());
    assert_eq!(found.first().and_then(|f| f.get("index")), Some(&Value::Num(7)));
}

#[test]
fn passcred_on_a_new_kernel() {
    let old = at_release(Release::V4_1);
    let mut s = tree(of(2));
    assert_eq!(verdict(&SOCKET_OPT_PASSCRED, &s, &old), None);
    s.kernel.passcred_refused = Some(true);
    assert_eq!((verdict(&SOCKET_OPT_PASSCRED, &s, &old), on(&SOCKET_OPT_PASSCRED, &s)), (Some(Refuse), None));
    let mut backported = old.clone();
    backported.caps.uprobes = true;
    assert_eq!(verdict(&SOCKET_OPT_PASSCRED, &s, &backported), None);
    for domain in [1, 16, 40] {
        let mut s = tree(of(domain));
        s.kernel.passcred_refused = Some(true);
        assert_eq!(verdict(&SOCKET_OPT_PASSCRED, &s, &old), None, "{domain}");
    }
    s.kernel.passcred_refused = None;
    assert_eq!(verdict(&SOCKET_OPT_PASSCRED, &s, &old), None);
}

fn netlink_socket(portid: u32, groups: Option<Vec<u32>>, rmem: Option<u32>) -> Snapshot {
    let mut s = tree(of(16));
    s.sockets[0].netlink = vec![NetlinkDiag {
        type_: 3,
        protocol: 0,
        state: 7,
        portid,
        dst_portid: 0,
        dst_group: 0,
        ino: 1,
        cookie: 1,
        groups,
        rmem,
        flags: None,
    }];
    s
}

#[test]
fn unread_netlink_data() {
    assert_eq!(on(&netlink::NETLINK_DATA, &netlink_socket(1, None, None)), None);
    assert_eq!(on(&netlink::NETLINK_DATA, &netlink_socket(1, None, Some(0))), None);
    let mut s = netlink_socket(1, None, Some(768));
    assert_eq!(on(&netlink::NETLINK_DATA, &s), Some(Refuse));
    s.look = ScanPhase::Early;
    assert_eq!(on(&netlink::NETLINK_DATA, &s), Some(Warn));
    // The socket's own answer counts more, and alone if it is not listed.
    s = netlink_socket(1, None, Some(768));
    s.tasks[0].files[0] = socket_with(3, 1, SocketFacts { readable: Some(false), ..of(16) });
    assert_eq!(on(&netlink::NETLINK_DATA, &s), None);
    assert_eq!(on(&netlink::NETLINK_DATA, &tree(SocketFacts { readable: Some(true), ..of(16) })), Some(Refuse));
}

#[test]
fn netlink_groups() {
    for (portid, groups, many, no_port) in [
        (1, None, None, None),
        (0, None, None, None),
        (1, Some(vec![5, 0]), None, None),
        (1, Some(vec![5]), None, None),
        (1, Some(vec![0, 2]), Some(Refuse), None),
        (0, Some(vec![0, 2]), Some(Refuse), None),
        (1, Some(vec![5, 0, 0, 0]), Some(Refuse), None),
        (0, Some(vec![5, 0]), None, Some(Refuse)),
        (0, Some(vec![0, 0]), None, Some(Refuse)),
    ] {
        let s = netlink_socket(portid, groups.clone(), None);
        assert_eq!(
            (on(&netlink::NETLINK_GROUPS32, &s), on(&netlink::NETLINK_GROUP_NO_PORT, &s)),
            (many, no_port),
            "{portid} {groups:?}"
        );
    }
    let found = found(&netlink::NETLINK_GROUPS32, &netlink_socket(1, Some(vec![1, 2]), None), &host());
    assert_eq!(found.first().and_then(|f| f.get("groups")), Some(&Value::Term("1, 34".into())));
}

#[test]
fn packet_sockets() {
    let mut s = tree(of(17));
    assert_eq!(on(&packet::PACKET_MISSING, &s), Some(Refuse), "an empty list");
    // Not listed with others: it may have come while we looked.
    let other = |length| PacketDiag { ino: 7, length, ..listed() };
    s.sockets[0].packet = vec![other(16384)];
    assert_eq!(on(&packet::PACKET_MISSING, &s), Some(Warn));
    s.sockets[0].packet = vec![listed(), other(16388)];
    assert_eq!(on(&packet::PACKET_MISSING, &s), None);
    s.sockets[0].packet = vec![other(16388), listed()];
    assert_eq!(on(&packet::PACKET_MISSING, &s), Some(Refuse));
    s.sockets[0].packet.clear();
    s.sockets[0].failed.push((17, 0, libc::ENOENT));
    assert_eq!(on(&packet::PACKET_MISSING, &s), Some(Refuse));
    assert_eq!(on(&packet::PACKET_MISSING, &tree(SocketFacts { netns: Some(9), ..of(17) })), Some(Refuse));
    assert_eq!(on(&packet::PACKET_MISSING, &tree(SocketFacts { netns: None, ..of(17) })), Some(Warn));
    let member = |count, type_| {
        let mclist = Some(vec![PacketMcList { index: 2, count, type_, alen: 6 }]);
        let p = PacketDiag { mclist, ..listed() };
        let mut s = tree(SocketFacts::default());
        s.sockets[0].packet = vec![p];
        (on(&packet::PACKET_MCLIST, &s), on(&packet::PACKET_MISSING, &s))
    };
    assert_eq!(member(1, 0), (None, None));
    assert_eq!(member(1, 3), (None, None));
    assert_eq!(member(2, 1), (Some(Refuse), None));
    assert_eq!(member(1, 4), (Some(Refuse), None));
}

/// A packet socket, inode 1.
fn listed() -> PacketDiag {
    PacketDiag {
        type_: 3,
        num: 3,
        ino: 1,
        cookie: 1,
        info: None,
        mclist: Some(vec![]),
        rx_ring: None,
        tx_ring: None,
        fanout: None,
        length: 100,
    }
}

#[test]
fn a_ring_needs_a_descriptor_opened_before() {
    let ring = || {
        let vma = maps::parse(b"1000-2000 rw-s 00000000 00:08 1      socket:[1]\n").items.remove(0);
        crate::snapshot::Mapping::new(vma, Some(socket(-1, 1)))
    };
    let mut s = tree(SocketFacts::default());
    s.sockets[0].packet = vec![listed()];
    s.tasks[0].maps = vec![ring()];
    assert_eq!(on(&packet::PACKET_RING_UNOPENED, &s), None);
    s.sockets[0].packet.clear();
    assert_eq!(on(&packet::PACKET_RING_UNOPENED, &s), Some(Refuse));
    s.sockets[0].packet = vec![listed()];
    // In a child that inherited the mapping only.
    s.tasks.push(crate::snapshot::Task { maps: vec![ring()], ..task(101) });
    assert_eq!(on(&packet::PACKET_RING_UNOPENED, &s), None);
    assert_eq!(on(&packet::PACKET_RING_INHERITED, &s), Some(Verdict::Unrestorable));
    s.tasks[1].files = vec![socket(3, 1)];
    assert_eq!(on(&packet::PACKET_RING_INHERITED, &s), None);
    s.tasks[1].files.clear();
    // The descriptor is in a later process.
    let files = std::mem::take(&mut s.tasks[0].files);
    s.tasks[1].files = files;
    s.tasks[1].maps.clear();
    assert_eq!(on(&packet::PACKET_RING_UNOPENED, &s), Some(Refuse));
    assert_eq!(on(&packet::PACKET_RING_INHERITED, &s), None, "it is refused");
    s.tasks[1].files.clear();
    assert_eq!(on(&packet::PACKET_RING_UNOPENED, &s), Some(Refuse));
}
