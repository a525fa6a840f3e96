//! Network namespaces for the tests of the rules about them.

use crate::criu::Host;
use crate::parse::diag::NetLink;
use crate::rules::testkit::{host, snap};
use crate::snapshot::{LinkTable, RouteTables, Snapshot};

pub(super) fn nic(type_: u16, kind: Option<&str>, name: &str) -> NetLink {
    NetLink {
        index: 2,
        type_,
        name: name.into(),
        kind: kind.map(Into::into),
        carrier: None,
        link: None,
        link_netnsid: None,
        tun_persist: None,
        tun_multi_queue: None,
    }
}

/// The root task in a network namespace of its own, number 9.
pub(super) fn own(links: Vec<NetLink>) -> Snapshot {
    let mut s = snap(vec![]);
    s.tasks.first_mut().unwrap().ns.net = Some(9);
    s.links.push(table(9, 100, links));
    s
}

pub(super) fn with_empty_ns() -> Host {
    let mut h = host();
    h.options.empty_ns = Some(libc::CLONE_NEWNET as u32);
    h
}

pub(super) fn table(netns: u64, pid: i32, links: Vec<NetLink>) -> LinkTable {
    LinkTable { netns, pid, links, routes: RouteTables::default(), net_admin: Some(true) }
}
