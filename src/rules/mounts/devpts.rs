//! Terminals that are bind mounted: the console of a container (criu/tty.c:devpts_check_bindmount).

use crate::criu::{Gate, Opt};
use crate::rules::mounts::{content, table};
use crate::rules::{Ctx, Evidence, Phase, Remedy, Rule, Versions, When};
use crate::snapshot::Dev;

/// The number of a terminal as a root inside of devpts: as sscanf reads it, digits up to anything else.
fn index(root: &[u8]) -> Option<u32> {
    let digits = root.strip_prefix(b"/")?;
    let end = digits.iter().position(|b| !b.is_ascii_digit()).unwrap_or(digits.len());
    std::str::from_utf8(digits.get(..end)?).ok()?.parse().ok()
}

/// Whether a descriptor of the tree is the master of that number. CRIU compares nothing else, so another instance's counts.
fn has_master(ctx: &Ctx, wanted: u32) -> Gate {
    let mut gate = Gate::InForce;
    for (_, file) in ctx.files().filter(|(_, f)| f.is_chrdev() && f.attr.rdev == Dev::PTMX) {
        match file.tty().and_then(|t| t.index) {
            Some(index) if index == wanted => return Gate::Waived,
            Some(_) => {}
            None => gate = Gate::FACT_UNKNOWN,
        }
    }
    gate
}

pub(crate) static MNT_DEVPTS_BIND: Rule = Rule {
    id: "mnt-devpts-bind",
    summary: "A bind mounted terminal, as /dev/console of a container is.",
    group: "Mounts",
    condition: "A single terminal of a devpts that is mounted in the tree's mount namespaces is bind mounted somewhere (as /dev/console \
           of a container is), it is not external, and no process of the tree has the master with its number open.",
    message: "mount {mnt_id} on {mountpoint} is the terminal {root} of a devpts, whose master is outside of the tree",
    criu: &["Unable to find a master for %s"],
    source: "criu/tty.c:devpts_check_bindmount",
    versions: Versions::All,
    remedies: &[
        Remedy::Modelled("external", "mnt[{path}]:NAME"),
        Remedy::Option(Opt::OrphanPtsMaster),
        Remedy::Workload("unmount it before the dump"),
    ],
    phase: Phase::AfterTasks,
    when: When::Early,
    evidence: Evidence::Mounts,
    find: |rule, ctx, sink| {
        content::each_dumped(ctx, |model, node| {
            // A part of a devpts that is not mounted whole is refused long before: mnt-no-root-mount.
            if *node.info.fstype != *b"devpts" || model.is_external_bind(node) || !model.has_fsroot(node) {
                return;
            }
            let Some(index) = index(node.root) else { return };
            let gate = model.gate().or(has_master(ctx, index));
            if let Some(f) = table::finding(rule, ctx, node) {
                sink.push_unless(gate, f);
            }
        });
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testkit::*;
    use crate::rules::Verdict;
    use crate::snapshot::{Detail, Snapshot, TtyFacts};

    fn console(root: &str) -> Snapshot {
        let text = format!(
            "40 39 0:50 / / rw - overlay overlay rw,lowerdir=/l\n\
             41 40 0:60 / /dev/pts rw - devpts devpts rw,mode=620\n\
             42 40 0:60 {root} /dev/console rw - devpts devpts rw,mode=620"
        );
        in_mntns(&text)
    }

    #[test]
    fn master_in_the_tree_or_not() {
        let mut s = console("/3");
        assert_eq!(verdict(&MNT_DEVPTS_BIND, &s, &host()), Some(Verdict::Refuse));
        assert_eq!(verdict(&MNT_DEVPTS_BIND, &s, &with_external("mnt[/dev/console]:tty")), None);
        assert_eq!(verdict(&MNT_DEVPTS_BIND, &s, &with(Opt::OrphanPtsMaster)), None);
        for (index, expected) in [(Some(3), None), (Some(4), Some(Verdict::Refuse)), (None, Some(Verdict::Warn))] {
            let mut f = file(3, libc::S_IFCHR, 2);
            f.attr.rdev = Dev::PTMX;
            f.detail = Some(Box::new(Detail::Tty(TtyFacts { index, master: true, ..TtyFacts::default() })));
            s.tasks.first_mut().unwrap().files = vec![f];
            assert_eq!(verdict(&MNT_DEVPTS_BIND, &s, &host()), expected);
        }
    }

    #[test]
    fn not_a_terminal() {
        for root in ["/", "/ptmx"] {
            assert_eq!(verdict(&MNT_DEVPTS_BIND, &console(root), &host()), None);
        }
    }
}
