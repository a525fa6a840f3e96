//! What is in the network namespaces that CRIU dumps with the tree, and how it locks them (criu/net.c).

use crate::criu::{externals, Cap, Gate, Hook, Host, LockMethod};
use crate::parse::diag::NetLink;
use crate::rules::{Ctx, Evidence, Finding, Phase, Remedy, Rule, Sink, Value, Versions, When};
use crate::snapshot::{LinkTable, OpenFile};

const ARPHRD_ETHER: u16 = 1;
const ARPHRD_TUNNEL: u16 = 768;
const ARPHRD_LOOPBACK: u16 = 772;
const ARPHRD_SIT: u16 = 776;
const ARPHRD_IPGRE: u16 = 778;
const ARPHRD_NONE: u16 = 65534;
const ARPHRD_VOID: u16 = 65535;

/// A network namespace that CRIU dumps, and what its options say about the contents.
struct Dumped<'a> {
    table: &'a LinkTable,
    /// It is the root task's: the only one that `--empty-ns net` can leave out.
    root: bool,
    /// `--external net[INO]:NAME`.
    external: Gate,
    /// `--empty-ns net`.
    empty: Gate,
}

impl Dumped<'_> {
    fn finding(&self, rule: &Rule, ctx: &Ctx) -> Option<Finding> {
        let task = ctx.index.task(self.table.pid)?;
        Some(Finding::on_task(rule, task).count("netns", self.table.netns))
    }
}

/// The namespaces that `dump_namespaces()` goes into. It skips CRIU's own, and all of them if the root has no namespace of
/// its own (the scan lists none then).
fn dumped<'a>(ctx: &Ctx<'a>) -> Vec<Dumped<'a>> {
    let of_root = ctx.snap.root_task().and_then(|t| t.ns.net);
    let empty = match ctx.host.options.empty_ns {
        None => Gate::OPTION_UNKNOWN,
        Some(bits) if bits & libc::CLONE_NEWNET as u32 != 0 => Gate::Waived,
        Some(_) => Gate::InForce,
    };
    let one = |table: &'a LinkTable| Dumped {
        table,
        root: of_root == Some(table.netns),
        external: ctx.host.gate_named_external(externals::net(table.netns).as_bytes()),
        empty,
    };
    ctx.snap.links.iter().map(one).collect()
}

/// Whether CRIU dumps, or leaves out, this kind of interface (dump_one_link).
fn is_supported(link: &NetLink, host: &Host) -> bool {
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

pub(crate) static TUN_NONPERSIST_UNHELD: Rule = Rule {
    id: "tun-nonpersist-unheld",
    summary: "A tun interface that a program outside of the tree holds.",
    group: "Network namespaces",
    condition: "A network namespace that is dumped with the tree has a tun or tap interface that is not persistent, and no \
           descriptor of the tree belongs to it: a process outside holds it, or one of the tree that opened /dev/net/tun in \
           another network namespace.",
    message: "network namespace {netns} has the tun interface {name}, which lives by a descriptor outside of the tree (or opened \
           in another network namespace)",
    criu: &["No fd info for non persistent tun device %s"],
    source: "criu/tun.c:get_tun_link_fd",
    versions: Versions::All,
    remedies: &[
        Remedy::Workload("dump its holder with the tree, or make it persistent and close its descriptor, or delete it, before the dump"),
        Remedy::Modelled("external", "net[{netns}]:NAME"),
        Remedy::Modelled("empty-ns", "net"),
    ],
    phase: Phase::AfterTasks,
    when: When::Early,
    evidence: Evidence::Tree,
    find: |rule, ctx, sink| unheld(rule, ctx, sink, |l| l.tun_persist == Some(false)),
};

pub(crate) static TUN_PERSISTENT_HELD: Rule = Rule {
    id: "tun-persistent-held",
    summary: "A persistent tun interface that a program outside of the tree uses.",
    group: "Network namespaces",
    condition: "A network namespace that is dumped with the tree has a persistent tun or tap interface with a single queue, and a \
           process outside is attached to it (or one of the tree that opened /dev/net/tun in another network namespace): CRIU \
           attaches itself to a persistent interface that nobody in the tree is attached to. One with multiple queues passes. \
           (If the holder has switched the carrier off by TUNSETCARRIER, it is not seen.)",
    message: "network namespace {netns} has the persistent tun interface {name}, to which a descriptor outside of the tree (or \
           opened in another network namespace) is attached",
    criu: &["Can't create tun device: Device or resource busy"],
    source: "criu/tun.c:get_tun_link_fd, open_tun_dev",
    versions: Versions::All,
    remedies: &[
        Remedy::Workload("dump its holder with the tree, or have it close its descriptor, or delete the interface, before the dump"),
        Remedy::Modelled("external", "net[{netns}]:NAME"),
        Remedy::Modelled("empty-ns", "net"),
    ],
    phase: Phase::AfterTasks,
    when: When::Early,
    evidence: Evidence::Tree,
    find: |rule, ctx, sink| {
        unheld(rule, ctx, sink, |l| {
            (l.tun_persist, l.tun_multi_queue, l.carrier) == (Some(true), Some(false), Some(true))
        });
    },
};

/// The tun interfaces of this kind to which no descriptor of the tree is attached.
fn unheld(rule: &Rule, ctx: &Ctx, sink: &mut Sink, of_kind: fn(&NetLink) -> bool) {
    for ns in dumped(ctx) {
        for link in ns.table.links.iter().filter(|l| of_kind(l) && is_supported(l, ctx.host)) {
            let mut gate = ns.external.or(ns.empty);
            for (_, file) in ctx.files().filter(|(_, f)| crate::rules::files::device::is_tun(f)) {
                gate = gate.or(holds(file, ns.table.netns, &link.name));
            }
            let Some(f) = ns.finding(rule, ctx) else { continue };
            let f =
                f.key(format!("link:{}:{}", ns.table.netns, link.index)).fact("name", Value::Text(link.name.clone()));
            sink.push_unless(gate, f);
        }
    }
}

/// Whether this tun descriptor belongs to that interface.
fn holds(file: &OpenFile, netns: u64, name: &[u8]) -> Gate {
    let known = file.tun().and_then(|t| t.name.as_deref()).or_else(|| file.info.as_ref()?.iff.as_deref());
    match (file.tun(), known) {
        // Of another namespace's interface with the same name.
        (Some(tun), Some(n)) if n == name && tun.netns.is_some_and(|ns| ns != netns) => Gate::InForce,
        (_, Some(n)) if n == name => Gate::Waived,
        // Attached to another interface, or (TUNGETIFF was asked) to none.
        (_, Some(_)) | (Some(_), None) => Gate::InForce,
        (None, None) => Gate::FACT_UNKNOWN,
    }
}

pub(crate) static NETNS_MULTI_EMPTY: Rule = Rule {
    id: "netns-multi-empty",
    summary: "A second network namespace in the tree, with --empty-ns net.",
    group: "Network namespaces",
    condition: "--empty-ns net is given and a process of the tree lives in another network namespace than the root process (and \
           not in CRIU's).",
    message: "network namespace {netns}, which is not that of the root process: --empty-ns net is for that one only",
    criu: &["Unable to dump more than one netns if the --emptyns is set"],
    source: "criu/net.c:dump_net_ns",
    versions: Versions::All,
    remedies: &[
        Remedy::Workload("dump without --empty-ns net, or let the whole tree live in one network namespace"),
        Remedy::Modelled("external", "net[{netns}]:NAME"),
    ],
    phase: Phase::AfterTasks,
    when: When::Early,
    evidence: Evidence::Tree,
    find: |rule, ctx, sink| {
        for ns in dumped(ctx).into_iter().filter(|ns| !ns.root && ns.empty == Gate::Waived) {
            if let Some(f) = ns.finding(rule, ctx) {
                sink.push_unless(ns.external, f.key(format!("netns:{}", ns.table.netns)));
            }
        }
    },
};

pub(crate) static NETNS_LOCK: Rule = Rule {
    id: "netns-lock",
    summary: "A network namespace whose traffic CRIU has to stop with iptables, which is not installed.",
    group: "Network namespaces",
    condition: "The root process has a network namespace of its own, so CRIU locks all of its traffic, by default with \
           iptables-restore and, on a kernel with IPv6, ip6tables-restore, and there is no such program in its PATH. (That \
           they are there does not mean that they work: the kernel may lack a module.)",
    message: "CRIU would lock network namespace {netns} with {tool}, which is not in its PATH",
    criu: &["Locking network failed: iptables-restore returned %d"],
    source: "criu/net.c:network_lock_internal",
    versions: Versions::All,
    remedies: &[
        Remedy::Modelled("network-lock", "nftables"),
        Remedy::Modelled("network-lock", "skip"),
        Remedy::Workload("install {tool} (iptables) where criu runs"),
    ],
    phase: Phase::Collecting,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink: &mut Sink| {
        let criu = &ctx.snap.criu;
        let tool = match (criu.iptables_restore, criu.ip6tables_restore) {
            (Some(false), _) => "iptables-restore",
            (_, Some(false)) if ctx.snap.kernel.ipv6 == Some(true) => "ip6tables-restore",
            _ => return,
        };
        if ctx.snap.root_shares(|ns| ns.net) != Some(false) {
            return;
        }
        let gate = match ctx.host.options.network_lock {
            Some(LockMethod::Iptables) => Gate::InForce,
            Some(LockMethod::Nftables | LockMethod::Skip) => return,
            None => Gate::OPTION_UNKNOWN,
        };
        let Some(root) = ctx.snap.root_task() else { return };
        let netns = root.ns.net.and_then(|ino| i64::try_from(ino).ok());
        let f = Finding::on_task(rule, root).term("tool", tool).fact_opt("netns", netns.map(Value::Num));
        sink.push_unless(gate, f);
    },
};

pub(crate) static NETNS_IP_TOOL: Rule = Rule {
    id: "netns-ip-tool",
    summary: "A network namespace whose addresses CRIU saves with the program ip, which is not installed.",
    group: "Network namespaces",
    condition: "A network namespace is dumped with the tree. CRIU saves its addresses and routes with the program ip (or what the \
           environment variable CR_IP_TOOL names), and there is none in its PATH.",
    message: "CRIU would save the addresses of network namespace {netns} with the program ip, which is not in its PATH",
    criu: &["IP tool failed on addr save"],
    source: "criu/net.c:dump_ifaddr",
    versions: Versions::All,
    remedies: &[
        Remedy::Workload("install ip (iproute2) where criu runs"),
        Remedy::Modelled("external", "net[{netns}]:NAME"),
        Remedy::Modelled("empty-ns", "net"),
    ],
    phase: Phase::AfterTasks,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        if ctx.snap.criu.ip != Some(false) {
            return;
        }
        for ns in dumped(ctx) {
            if let Some(f) = ns.finding(rule, ctx) {
                sink.push_unless(ns.external.or(ns.empty), f.key(format!("netns:{}", ns.table.netns)));
            }
        }
    },
};

pub(crate) static NETNS_NO_NET_ADMIN: Rule = Rule {
    id: "netns-no-net-admin",
    summary: "A network namespace, and CRIU without the right to save any (CAP_NET_ADMIN).",
    group: "Network namespaces",
    condition: "A network namespace is dumped with the tree, and CRIU has no CAP_NET_ADMIN in the user namespace that it belongs to: \
           it may neither lock its traffic nor read its packet filters and connection tracking, which it reads of an \
           external and of an empty one too.",
    message: "network namespace {netns}, which CRIU may not dump without CAP_NET_ADMIN",
    criu: &["Locking network failed", "cache initialization failed: Operation not permitted", "Namespaces dumping finished with error %d"],
    source: "criu/net.c:dump_net_ns, network_lock_internal",
    versions: Versions::All,
    remedies: &[Remedy::Workload("give criu CAP_NET_ADMIN (a container or sandbox may have dropped it)")],
    phase: Phase::AfterTasks,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for ns in dumped(ctx).into_iter().filter(|ns| ns.table.net_admin == Some(false)) {
            if let Some(f) = ns.finding(rule, ctx) {
                sink.push(f.key(format!("netns:{}", ns.table.netns)));
            }
        }
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::criu::Release;
    use crate::rules::testkit::*;
    use crate::rules::Verdict;
    use crate::snapshot::{Detail, Dev, Snapshot, TunFacts};

    fn nic(type_: u16, kind: Option<&str>, name: &str) -> NetLink {
        NetLink {
            index: 2,
            type_,
            name: name.into(),
            kind: kind.map(Into::into),
            carrier: None,
            tun_persist: None,
            tun_multi_queue: None,
        }
    }

    /// The root task in a network namespace of its own, number 9.
    fn own(links: Vec<NetLink>) -> Snapshot {
        let mut s = snap(vec![]);
        s.tasks.first_mut().unwrap().ns.net = Some(9);
        s.links.push(LinkTable { netns: 9, pid: 100, links, net_admin: Some(true) });
        s
    }

    fn with_empty_ns() -> Host {
        let mut h = host();
        h.options.empty_ns = Some(libc::CLONE_NEWNET as u32);
        h
    }

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

    #[test]
    fn more_than_one_empty() {
        let mut s = own(vec![]);
        assert_eq!(verdict(&NETNS_MULTI_EMPTY, &s, &with_empty_ns()), None);
        let mut child = task(101);
        child.ns.net = Some(10);
        s.tasks.push(child);
        s.links.push(LinkTable { netns: 10, pid: 101, links: vec![], net_admin: Some(true) });
        assert_eq!(verdict(&NETNS_MULTI_EMPTY, &s, &with_empty_ns()), Some(Verdict::Refuse));
        assert_eq!(verdict(&NETNS_MULTI_EMPTY, &s, &host()), None);
        let mut external = with_external("net[10]:x");
        external.options.empty_ns = with_empty_ns().options.empty_ns;
        assert_eq!(verdict(&NETNS_MULTI_EMPTY, &s, &external), None);
    }

    #[test]
    fn tun_without_its_holder() {
        let tun = |persist| NetLink { tun_persist: persist, ..nic(65534, Some("tun"), "tun0") };
        assert_eq!(verdict(&TUN_NONPERSIST_UNHELD, &own(vec![tun(Some(false))]), &host()), Some(Verdict::Refuse));
        assert_eq!(verdict(&TUN_NONPERSIST_UNHELD, &own(vec![tun(Some(true))]), &host()), None);
        assert_eq!(verdict(&TUN_NONPERSIST_UNHELD, &own(vec![tun(None)]), &host()), None);
        let held = |facts: Option<TunFacts>| {
            let mut s = own(vec![tun(Some(false))]);
            let mut f = file(3, libc::S_IFCHR, 7);
            f.attr.rdev = Dev { major: 10, minor: 200 };
            f.detail = facts.map(|t| Box::new(Detail::Tun(t)));
            s.tasks.first_mut().unwrap().files.push(f);
            verdict(&TUN_NONPERSIST_UNHELD, &s, &host())
        };
        let facts = |name: Option<&str>, netns| TunFacts { name: name.map(Into::into), netns, ..TunFacts::default() };
        assert_eq!(held(Some(facts(Some("tun0"), Some(9)))), None);
        assert_eq!(held(Some(facts(Some("tun0"), Some(10)))), Some(Verdict::Refuse));
        assert_eq!(held(Some(facts(Some("tun1"), Some(9)))), Some(Verdict::Refuse));
        assert_eq!(held(Some(facts(None, None))), Some(Verdict::Refuse));
        assert_eq!(held(None), Some(Verdict::Warn));
    }

    #[test]
    fn a_persistent_tun_that_somebody_else_has() {
        let tun = |persist, multi, carrier| NetLink {
            tun_persist: Some(persist),
            tun_multi_queue: Some(multi),
            carrier: Some(carrier),
            ..nic(1, Some("tun"), "tap0")
        };
        for (link, expected) in [
            (tun(true, false, true), Some(Verdict::Refuse)),
            (tun(true, false, false), None),
            (tun(true, true, true), None),
            (tun(false, false, true), None),
            (NetLink { carrier: None, ..tun(true, false, true) }, None),
        ] {
            assert_eq!(verdict(&TUN_PERSISTENT_HELD, &own(vec![link.clone()]), &host()), expected, "{link:?}");
        }
        let held = |netns| {
            let mut s = own(vec![tun(true, false, true)]);
            let facts = TunFacts { name: Some("tap0".into()), netns: Some(netns), ..TunFacts::default() };
            let mut f = file(3, libc::S_IFCHR, 7);
            f.attr.rdev = Dev { major: 10, minor: 200 };
            f.detail = Some(Box::new(Detail::Tun(facts)));
            s.tasks.first_mut().unwrap().files.push(f);
            verdict(&TUN_PERSISTENT_HELD, &s, &host())
        };
        assert_eq!((held(9), held(10)), (None, Some(Verdict::Refuse)));
    }

    #[test]
    fn lock_of_the_namespace() {
        let mut s = own(vec![]);
        assert_eq!(verdict(&NETNS_LOCK, &s, &host()), None);
        s.criu.iptables_restore = Some(true);
        s.criu.ip6tables_restore = Some(false);
        assert_eq!(verdict(&NETNS_LOCK, &s, &host()), None);
        s.kernel.ipv6 = Some(true);
        let found = found(&NETNS_LOCK, &s, &host());
        assert_eq!(found.first().and_then(|f| f.get("tool")), Some(&Value::Term("ip6tables-restore".into())));
        s.kernel.ipv6 = Some(false);
        assert_eq!(verdict(&NETNS_LOCK, &s, &host()), None);
        s.criu.iptables_restore = Some(false);
        assert_eq!(verdict(&NETNS_LOCK, &s, &host()), Some(Verdict::Refuse));
        let mut h = host();
        for method in [LockMethod::Skip, LockMethod::Nftables] {
            h.options.network_lock = Some(method);
            assert_eq!(verdict(&NETNS_LOCK, &s, &h), None);
        }
        h.options.network_lock = None;
        assert_eq!(verdict(&NETNS_LOCK, &s, &h), Some(Verdict::Warn));
        s.tasks.first_mut().unwrap().ns.net = Some(CRIU_NS);
        assert_eq!(verdict(&NETNS_LOCK, &s, &host()), None);
    }

    #[test]
    fn the_tool_for_addresses() {
        let mut s = own(vec![]);
        assert_eq!(verdict(&NETNS_IP_TOOL, &s, &host()), None);
        s.criu.ip = Some(true);
        assert_eq!(verdict(&NETNS_IP_TOOL, &s, &host()), None);
        s.criu.ip = Some(false);
        assert_eq!(verdict(&NETNS_IP_TOOL, &s, &host()), Some(Verdict::Refuse));
        assert_eq!(verdict(&NETNS_IP_TOOL, &s, &with_external("net[9]:mine")), None);
        assert_eq!(verdict(&NETNS_IP_TOOL, &s, &with_empty_ns()), None);
        s.links.clear();
        assert_eq!(verdict(&NETNS_IP_TOOL, &s, &host()), None, "no namespace is dumped");
    }

    #[test]
    fn the_right_over_a_namespace() {
        let mut s = own(vec![]);
        for (net_admin, expected) in [(Some(true), None), (None, None), (Some(false), Some(Verdict::Refuse))] {
            s.links[0].net_admin = net_admin;
            assert_eq!(verdict(&NETNS_NO_NET_ADMIN, &s, &host()), expected);
        }
        assert!(verdict(&NETNS_NO_NET_ADMIN, &s, &with_external("net[9]:mine")).is_some());
        assert!(verdict(&NETNS_NO_NET_ADMIN, &s, &with_empty_ns()).is_some());
    }
}
