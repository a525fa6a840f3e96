//! Tun and tap interfaces, which live by a descriptor.

use super::dumped;
use super::links::is_supported;
use crate::criu::Gate;
use crate::parse::diag::NetLink;
use crate::rules::{Ctx, Evidence, Phase, Remedy, Rule, Sink, Value, Versions, When};
use crate::snapshot::OpenFile;

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
           attaches itself to a persistent interface that no process of the tree is attached to. One with multiple queues passes. \
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

#[cfg(test)]
mod tests {
    use super::super::testkit::{nic, own};
    use super::*;
    use crate::rules::testkit::*;
    use crate::rules::Verdict;
    use crate::snapshot::{Detail, Dev, TunFacts};

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
}
