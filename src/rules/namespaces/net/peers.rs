//! Interfaces that CRIU dumps, and makes again as they were only if the restore is given more than the dump was (criu/net.c).

use super::{dumped, ARPHRD_ETHER};
use crate::criu::Runtime;
use crate::parse::diag::NetLink;
use crate::rules::{Ctx, Evidence, Phase, Remedy, Rule, Sink, Value, Versions, When};

pub(crate) static MACVLAN_PARENT: Rule = Rule {
    id: "macvlan-parent",
    summary: "A macvlan interface: the restore needs to be given its lower interface.",
    group: "Dumped, but not restored",
    condition: "A network namespace that is dumped with the tree has a macvlan interface. CRIU does not save what its lower \
           interface is, not even one of the same namespace: the restore has to be given the name of one in the network \
           namespace that criu restore runs in. The macvlan keeps its index, and the kernel refuses it (Operation not \
           supported) if an interface of that namespace has the same. LXC gives this option by itself.",
    message: "network namespace {netns} has the macvlan {name}, which is restored only on a lower interface given to the restore, \
           and if no interface has the index {index} where criu restore runs",
    criu: &["{at the restore} a macvlan parent for %s is required"],
    source: "criu/net.c:restore_one_macvlan",
    versions: Versions::All,
    remedies: &[Remedy::AtRestore("external", "macvlan[{name}]:LOWER")],
    phase: Phase::Restore,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| each(rule, ctx, sink, &["macvlan"], |link, _| is(link, b"macvlan")),
};

pub(crate) static VETH_OUTSIDE: Rule = Rule {
    id: "veth-outside",
    summary: "A veth interface with its peer outside of the tree: the restore needs to be given a name for the peer.",
    group: "Dumped, but not restored",
    condition: "A network namespace that is dumped with the tree has a veth interface, and its peer is in a network namespace that no \
           process of the tree is in. Given a name, the restore makes the peer by that name where criu restore runs. Without, it \
           logs an error and makes the peer inside of the restored namespace, which then has no way out; that fails \
           (Device or resource busy) if the peer takes an index that a saved interface has. LXC gives this option by itself.",
    message: "network namespace {netns} has the veth {name}, whose peer is outside of the tree: without a name for the peer \
           the restore fails, or leaves {name} without connection",
    criu: &["{at the restore} Unknown peer net namespace"],
    source: "criu/net.c:veth_peer_info",
    versions: Versions::All,
    remedies: &[Remedy::AtRestore("external", "veth[{name}]:NAME")],
    phase: Phase::Restore,
    when: When::Early,
    evidence: Evidence::Tree,
    find: |rule, ctx, sink| {
        if has_all_tables(ctx) {
            each(rule, ctx, sink, &["veth", "netdev"], |link, netns| is_outside(link, netns, ctx));
        }
    },
};

fn is(link: &NetLink, kind: &[u8]) -> bool {
    link.type_ == ARPHRD_ETHER && link.kind.as_deref() == Some(kind)
}

/// Whether the interfaces of all network namespaces of the tree are known.
fn has_all_tables(ctx: &Ctx) -> bool {
    ctx.live_tasks().all(|task| ctx.snap.links.iter().any(|table| task.ns.net == Some(table.netns)))
}

/// A veth, and no interface of another namespace of the tree can be its peer. The two name each other by index, and the same
/// indices may be elsewhere by chance: a possible peer is taken for it.
fn is_outside(link: &NetLink, netns: u64, ctx: &Ctx) -> bool {
    let (Some(peer), Some(0..)) = (link.link, link.link_netnsid) else { return false };
    let may_be_peer = |other: &NetLink| is(other, b"veth") && (other.index, other.link) == (peer, Some(link.index));
    let others = ctx.snap.links.iter().filter(|table| table.netns != netns);
    is(link, b"veth") && !others.flat_map(|table| &table.links).any(may_be_peer)
}

/// A finding for each such interface, unless a key of one of these kinds is given for it: then a restore with the options of
/// this dump (of a configuration file, mostly) has it, too.
fn each(rule: &Rule, ctx: &Ctx, sink: &mut Sink, keys: &[&str], of_kind: impl Fn(&NetLink, u64) -> bool) {
    if ctx.host.runtime == Runtime::Lxc {
        return;
    }
    for ns in dumped(ctx) {
        let netns = ns.table.netns;
        for link in ns.table.links.iter().filter(|link| of_kind(link, netns)) {
            let Some(f) = ns.finding(rule, ctx) else { continue };
            let f = f.key(format!("link:{netns}:{}", link.index)).num("index", link.index);
            let gate = keys.iter().fold(ns.external.or(ns.empty), |gate, kind| {
                let key = [kind.as_bytes(), b"[", &link.name, b"]"].concat();
                gate.or(ctx.host.gate_named_external(&key))
            });
            sink.push_unless(gate, f.fact("name", Value::Text(link.name.clone())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testkit::{nic, own, table, with_empty_ns};
    use super::*;
    use crate::criu::Host;
    use crate::finding::WarnReason;
    use crate::rules::testkit::*;
    use crate::rules::Verdict;
    use crate::snapshot::Snapshot;

    fn link(kind: &str, index: i32, link: i32, link_netnsid: Option<i32>) -> NetLink {
        NetLink { index, link: Some(link), link_netnsid, ..nic(ARPHRD_ETHER, Some(kind), "eth0") }
    }

    fn of(rule: &'static Rule, s: &Snapshot, host: &Host) -> Vec<(Verdict, Option<WarnReason>)> {
        found(rule, s, host).iter().map(|f| (f.verdict, f.warns)).collect()
    }

    const WARNS: [(Verdict, Option<WarnReason>); 1] = [(Verdict::Warn, Some(WarnReason::RestoreOption))];

    #[test]
    fn not_what_is_left_out_or_given() {
        let veth = (&VETH_OUTSIDE, link("veth", 3, 2, Some(0)));
        let macvlan = (&MACVLAN_PARENT, link("macvlan", 3, 2, None));
        for (rule, link) in [&veth, &macvlan] {
            let s = own(vec![link.clone()]);
            assert_eq!(of(rule, &s, &host()), WARNS, "{}", rule.id);
            assert_eq!(of(rule, &s, &with_external("net[9]:x")), [], "{}", rule.id);
            assert_eq!(of(rule, &s, &with_external("net[8]:x")), WARNS, "{}", rule.id);
            assert_eq!(of(rule, &s, &with_empty_ns()), [], "{}", rule.id);
            assert_eq!(of(rule, &s, &Host { runtime: Runtime::Lxc, ..host() }), [], "{}", rule.id);
            assert_eq!(of(rule, &s, &Host { runtime: Runtime::Crun, ..host() }), WARNS, "{}", rule.id);
        }
        let (veth, macvlan) = (own(vec![veth.1]), own(vec![macvlan.1]));
        for (key, of_veth, of_macvlan) in [
            ("veth[eth0]:out", 0, 1),
            ("netdev[eth0]:out", 0, 1),
            ("macvlan[eth0]:out", 1, 0),
            ("veth[eth1]:out", 1, 1),
            ("veth[eth0]", 1, 1),
        ] {
            let found =
                [of(&VETH_OUTSIDE, &veth, &with_external(key)), of(&MACVLAN_PARENT, &macvlan, &with_external(key))];
            assert_eq!(found.map(|f| f.len()), [of_veth, of_macvlan], "{key}");
        }
    }

    #[test]
    fn a_macvlan_wherever_its_lower_interface_is() {
        assert_eq!(of(&MACVLAN_PARENT, &own(vec![link("macvlan", 3, 2, Some(0))]), &host()), WARNS);
        assert_eq!(of(&MACVLAN_PARENT, &own(vec![link("bridge", 3, 2, None)]), &host()), []);
    }

    #[test]
    fn the_peer_of_a_veth() {
        let one = |link| of(&VETH_OUTSIDE, &own(vec![link]), &host());
        assert_eq!(one(link("veth", 3, 2, None)), [], "in the same namespace");
        assert_eq!(one(link("veth", 3, 2, Some(-1))), [], "CRIU takes it for the same");
        assert_eq!(one(link("bridge", 3, 2, Some(0))), []);
        let child = |index, peer, netns| {
            let mut s = own(vec![link("veth", 3, 2, Some(0))]);
            let mut child = task(101);
            child.ns.net = netns;
            s.tasks.push(child);
            let links = vec![link("veth", index, peer, Some(0))];
            s.links.push(table(10, 101, links));
            of(&VETH_OUTSIDE, &s, &host()).len()
        };
        assert_eq!(child(2, 3, Some(10)), 0, "in the child's namespace");
        assert_eq!(child(2, 4, Some(10)), 2, "another pair");
        assert_eq!(child(2, 4, Some(11)), 0, "one that could not be looked at");
        assert_eq!(child(2, 4, None), 0);
    }
}
