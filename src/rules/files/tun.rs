//! TUN and TAP descriptors in a tree with a network namespace of its own (elsewhere: `tun-host-netns`).

use crate::criu::Gate;
use crate::rules::files::device::is_tun;
use crate::rules::{Ctx, Evidence, Finding, Phase, Remedy, Rule, Sink, Value, Versions, When};
use crate::snapshot::{OpenFile, Task, TunFacts};

/// Every tun descriptor that has answered, unless CRIU refuses all of them anyway.
fn tuns<'a>(ctx: &'a Ctx) -> Vec<(&'a Task, &'a OpenFile, &'a TunFacts)> {
    if ctx.snap.root_shares(|n| n.net) != Some(false) {
        return Vec::new();
    }
    ctx.files().filter(|(_, f)| is_tun(f)).filter_map(|(t, f)| Some((t, f, f.tun()?))).collect()
}

fn finding(rule: &Rule, task: &Task, file: &OpenFile, tun: &TunFacts) -> Finding {
    // All descriptors of /dev/net/tun have one inode.
    Finding::on_file(rule, task, file)
        .key(format!("tun:{}:{}", task.pid, file.origin))
        .fact_opt("name", tun.name.clone().map(Value::Text))
}

pub(crate) static TUN_NETNS_EXTERNAL: Rule = Rule {
    id: "tun-netns-external",
    summary: "An open /dev/net/tun that was opened in a network namespace no process of the tree is in.",
    group: "Devices",
    condition: "The root process has a network namespace of its own, and /dev/net/tun was opened in one that neither a process of \
           the tree nor CRIU is in.",
    message: "TUN/TAP descriptor[ of interface {name}] of network namespace {netns}, which no process of the tree is in",
    criu: &["Unable to dump a socket from an external network namespace", "No net_ns for tun device"],
    source: "criu/tun.c:dump_tunfile, criu/net.c:get_socket_ns",
    versions: Versions::All,
    remedies: &[Remedy::Workload("close the descriptor, or open it in the network namespace of the tree")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Tree,
    find: |rule, ctx, sink: &mut Sink| {
        for (task, file, tun) in tuns(ctx) {
            let Some(netns) = tun.netns else { continue };
            let gate = match ctx.socks.knows(netns) {
                Some(true) => continue,
                Some(false) => Gate::InForce,
                None => Gate::FACT_UNKNOWN,
            };
            sink.push_unless(gate, finding(rule, task, file, tun).count("netns", netns));
        }
    },
};

pub(crate) static TUN_FILTER: Rule = Rule {
    id: "tun-filter",
    summary: "A TAP interface with a packet filter, which the kernel does not give back.",
    group: "Devices",
    condition: "A TAP interface has a socket filter (TUNATTACHFILTER): its program lies in the memory of the process that attached it, and the \
           kernel does not give it back.",
    message: "TAP interface {name} with a socket filter attached",
    criu: &["Can't dump %s with filter on-board"],
    source: "criu/tun.c:__dump_tun_link_fd",
    versions: Versions::All,
    remedies: &[Remedy::Workload("have the program detach the filter (TUNDETACHFILTER) before the dump")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for (task, file, tun) in tuns(ctx) {
            let tap = tun.flags.is_some_and(|f| f & libc::IFF_TAP as u32 != 0);
            if tap && tun.filter == Some(true) {
                sink.push(finding(rule, task, file, tun));
            }
        }
    },
};

pub(crate) static TUN_NOFILTER_INFO: Rule = Rule {
    id: "tun-nofilter-info",
    summary: "A TUN interface on a kernel before 3.11, which does not tell whether there is a filter.",
    group: "Devices",
    condition:
        "A TUN interface, and a kernel that does not say (IFF_NOFILTER, Linux 3.11+) that it has no socket filter.",
    message: "TUN interface {name}, of which this kernel does not say whether it has a filter",
    criu: &["No info about %s filter, kernel is too old"],
    source: "criu/tun.c:__dump_tun_link_fd",
    versions: Versions::All,
    remedies: &[Remedy::Workload("boot a kernel of 3.11 or newer")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for (task, file, tun) in tuns(ctx) {
            let Some(flags) = tun.flags else { continue };
            if flags & (libc::IFF_TAP | libc::IFF_NOFILTER) as u32 == 0 {
                sink.push(finding(rule, task, file, tun));
            }
        }
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testkit::*;
    use crate::rules::Verdict;
    use crate::snapshot::{Detail, Dev, Snapshot};

    const OWN: u64 = 9;
    const NOFILTER: u32 = libc::IFF_NOFILTER as u32;
    const TUN: u32 = libc::IFF_TUN as u32;
    const TAP: u32 = libc::IFF_TAP as u32;

    /// The root in a network namespace of its own.
    fn tree(facts: TunFacts) -> Snapshot {
        let mut f = file(3, libc::S_IFCHR, 77);
        f.attr.rdev = Dev { major: 10, minor: 200 };
        f.detail = Some(Box::new(Detail::Tun(facts)));
        let mut s = snap(vec![f]);
        s.tasks.first_mut().unwrap().ns.net = Some(OWN);
        s
    }

    fn facts(flags: u32, filter: bool) -> TunFacts {
        TunFacts { flags: Some(flags), name: Some("tun0".into()), filter: Some(filter), netns: Some(OWN) }
    }

    #[test]
    fn a_filter_on_a_tap() {
        let refused = tree(facts(TAP, true));
        assert_eq!(verdict(&TUN_FILTER, &refused, &host()), Some(Verdict::Refuse));
        assert_eq!(verdict(&TUN_FILTER, &tree(facts(TAP, false)), &host()), None);
        assert_eq!(verdict(&TUN_FILTER, &tree(TunFacts { filter: None, ..facts(TAP, false) }), &host()), None);
        // In CRIU's own namespace the descriptor is refused before.
        let mut shared = refused;
        shared.tasks.first_mut().unwrap().ns.net = Some(CRIU_NS);
        assert_eq!(verdict(&TUN_FILTER, &shared, &host()), None);
    }

    #[test]
    fn a_tun_of_an_old_kernel() {
        let case = |facts| verdict(&TUN_NOFILTER_INFO, &tree(facts), &host());
        assert_eq!(case(facts(TUN, false)), Some(Verdict::Refuse));
        assert_eq!(case(facts(TUN | NOFILTER, false)), None);
        assert_eq!(case(facts(TAP, false)), None);
        assert_eq!(case(TunFacts::default()), None);
    }

    #[test]
    fn opened_in_a_third_namespace() {
        let of = |netns| tree(TunFacts { netns, ..facts(TUN | NOFILTER, false) });
        let case = |netns| verdict(&TUN_NETNS_EXTERNAL, &of(netns), &host());
        assert_eq!(case(Some(8)), Some(Verdict::Refuse));
        assert_eq!(case(Some(OWN)), None);
        assert_eq!(case(Some(CRIU_NS)), None);
        assert_eq!(case(None), None);
    }
}
