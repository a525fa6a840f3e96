//! A network namespace as a whole: whether it can be dumped at all, locked, and by which programs.

use super::dumped;
use crate::criu::{Gate, LockMethod};
use crate::rules::{Evidence, Finding, Phase, Remedy, Rule, Sink, Value, Versions, When};

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
    use super::super::testkit::{own, table, with_empty_ns};
    use super::*;
    use crate::rules::testkit::*;
    use crate::rules::Verdict;

    #[test]
    fn more_than_one_empty() {
        let mut s = own(vec![]);
        assert_eq!(verdict(&NETNS_MULTI_EMPTY, &s, &with_empty_ns()), None);
        let mut child = task(101);
        child.ns.net = Some(10);
        s.tasks.push(child);
        s.links.push(table(10, 101, vec![]));
        assert_eq!(verdict(&NETNS_MULTI_EMPTY, &s, &with_empty_ns()), Some(Verdict::Refuse));
        assert_eq!(verdict(&NETNS_MULTI_EMPTY, &s, &host()), None);
        let mut external = with_external("net[10]:x");
        external.options.empty_ns = with_empty_ns().options.empty_ns;
        assert_eq!(verdict(&NETNS_MULTI_EMPTY, &s, &external), None);
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
