//! Interfaces that CRIU cannot make again.

use super::{dumped, ARPHRD_ETHER};
use crate::criu::{Cap, Hook, Host};
use crate::parse::diag::NetLink;
use crate::rules::{Evidence, Phase, Remedy, Rule, Value, Versions, When};

/// linux/if_arp.h
const ARPHRD_TUNNEL: u16 = 768;
const ARPHRD_LOOPBACK: u16 = 772;
const ARPHRD_SIT: u16 = 776;
const ARPHRD_IPGRE: u16 = 778;
const ARPHRD_NONE: u16 = 65534;
const ARPHRD_VOID: u16 = 65535;

/// Whether CRIU dumps, or leaves out, this kind of interface (dump_one_link).
pub(super) fn is_supported(link: &NetLink, host: &Host) -> bool {
    if link.type_ == ARPHRD_LOOPBACK {
        return true;
    }
    let Some(kind) = link.kind.as_deref() else { return false };
    match (link.type_, kind) {
        (ARPHRD_ETHER, b"veth" | b"tun" | b"bridge" | b"macvlan") => true,
        (ARPHRD_ETHER, b"gretap") => *link.name == *b"gretap0",
        (ARPHRD_NONE, b"tun") | (ARPHRD_VOID, b"venet") | (ARPHRD_SIT, b"sit") => true,
        (ARPHRD_IPGRE, b"gre") => *link.name == *b"gre0",
        (ARPHRD_TUNNEL, b"ipip") => *link.name == *b"tunl0" && host.has(Cap::Tunl0),
        _ => false,
    }
}

pub(crate) static LINK_UNSUPPORTED: Rule = Rule {
    id: "link-unsupported",
    summary: "A network interface CRIU cannot make again: hardware, vlan, vxlan, wireguard, dummy, bond.",
    group: "Network namespaces",
    condition: "A network namespace that is dumped with the tree has an interface that CRIU cannot make again: anything but \
           loopback, veth, bridge, macvlan, tun and tap, sit, venet, and the gre0 and gretap0 (from 4.3 also tunl0) that \
           the kernel puts into every namespace. Hardware, dummy, vlan, vxlan, wireguard, ipvlan, bond, vrf, ifb and \
           ip6tnl0 are refused. The namespaces of all processes of the tree count, but CRIU's own; if the root process \
           has no namespace of its own at all, none does.",
    message: "network namespace {netns} has the interface {name} ([{kind}, ]type {type}), which CRIU cannot make again",
    criu: &["Unsupported link %d (type %d kind %s)"],
    source: "criu/net.c:dump_one_link, dump_unknown_device",
    versions: Versions::Partly("tunl0 up to 4.2"),
    remedies: &[
        Remedy::Workload("delete the interface (ip link del {name} inside) before the dump"),
        Remedy::Modelled("external", "net[{netns}]:NAME"),
        Remedy::Modelled("empty-ns", "net"),
        Remedy::Hook(Hook::DumpExtLink),
    ],
    phase: Phase::AfterTasks,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for ns in dumped(ctx) {
            let gate = ns.external.or(ns.empty);
            for link in ns.table.links.iter().filter(|l| !is_supported(l, ctx.host)) {
                let Some(f) = ns.finding(rule, ctx) else { continue };
                let f = f
                    .key(format!("link:{}:{}", ns.table.netns, link.index))
                    .fact("name", Value::Text(link.name.clone()))
                    .num("type", link.type_)
                    .fact_opt("kind", link.kind.clone().map(Value::Text));
                sink.push_unless(gate, f);
            }
        }
    },
};

#[cfg(test)]
mod tests {
    use super::super::testkit::{nic, own, with_empty_ns};
    use super::*;
    use crate::criu::Release;
    use crate::rules::testkit::*;
    use crate::rules::Verdict;

    #[test]
    fn kinds() {
        for (type_, kind, name) in [
            (772, None, "lo"),
            (1, Some("veth"), "eth0"),
            (1, Some("bridge"), "br0"),
            (1, Some("macvlan"), "m"),
            (1, Some("tun"), "tap0"),
            (65534, Some("tun"), "tun0"),
            (65535, Some("venet"), "venet0"),
            (776, Some("sit"), "sit0"),
            (776, Some("sit"), "other"),
            (778, Some("gre"), "gre0"),
            (1, Some("gretap"), "gretap0"),
        ] {
            assert_eq!(verdict(&LINK_UNSUPPORTED, &own(vec![nic(type_, kind, name)]), &host()), None, "{name}");
        }
        for (type_, kind, name) in [
            (1, None, "eth0"),
            (1, Some("dummy"), "dummy0"),
            (1, Some("vethx"), "v"),
            (65534, Some("wireguard"), "wg0"),
            (65534, Some("veth"), "v"),
            (778, Some("gre"), "gre1"),
            (1, Some("gretap"), "gretap1"),
            (768, Some("ipip"), "tunl0"),
            (769, Some("ip6tnl"), "ip6tnl0"),
        ] {
            let s = own(vec![nic(type_, kind, name)]);
            assert_eq!(verdict(&LINK_UNSUPPORTED, &s, &host()), Some(Verdict::Refuse), "{name}");
        }
        let new = at_release(Release::V4_3);
        assert_eq!(verdict(&LINK_UNSUPPORTED, &own(vec![nic(768, Some("ipip"), "tunl0")]), &new), None);
        assert!(verdict(&LINK_UNSUPPORTED, &own(vec![nic(768, Some("ipip"), "tunl1")]), &new).is_some());
    }

    #[test]
    fn link_is_lifted() {
        let s = own(vec![nic(1, Some("dummy"), "dummy0")]);
        assert_eq!(verdict(&LINK_UNSUPPORTED, &s, &with_external("net[9]:mine")), None);
        assert!(verdict(&LINK_UNSUPPORTED, &s, &with_external("net[9]")).is_some());
        assert!(verdict(&LINK_UNSUPPORTED, &s, &with_external("net[99]:mine")).is_some());
        assert_eq!(verdict(&LINK_UNSUPPORTED, &s, &with_hook(Hook::DumpExtLink)), None);
        assert_eq!(verdict(&LINK_UNSUPPORTED, &s, &with_empty_ns()), None);
        let unknown = Host { externals: None, ..host() };
        assert_eq!(verdict(&LINK_UNSUPPORTED, &s, &unknown), Some(Verdict::Warn));
    }

    #[test]
    fn root_in_crius_namespace() {
        // With a namespace of another kind that is its own the child's is dumped.
        let mut s = own(vec![nic(1, Some("dummy"), "dummy0")]);
        s.tasks.first_mut().unwrap().ns.net = Some(CRIU_NS);
        assert_eq!(verdict(&LINK_UNSUPPORTED, &s, &host()), Some(Verdict::Refuse));
        assert_eq!(verdict(&LINK_UNSUPPORTED, &s, &with_external("net[9]:mine")), None);
    }
}
