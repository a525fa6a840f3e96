//! File systems that CRIU compares with those of its own /dev, to know whether they are the machine's or new instances
//! (`kerndat_fs_virtualized`, criu/kerndat.c).

use crate::criu::Gate;
use crate::criu_model::mounts::{is_skipped, type_of};
use crate::rules::mounts::content::each_looked_into;
use crate::rules::mounts::table::{finding, on_mount, tables_read};
use crate::rules::{Evidence, Phase, Remedy, Rule, Versions, When};

pub(crate) static MNT_OWN_DEVPTS: Rule = Rule {
    id: "mnt-own-devpts",
    summary: "A devpts, while there is none on the /dev/pts of CRIU itself.",
    group: "Mounts",
    condition: "A devpts is in a mount table that CRIU reads, and there is none on CRIU's own /dev/pts to compare it with. The tables \
           are those of the dumped mount namespaces, and CRIU's own if the root process shares it or with --external mnt[].",
    message: "mount {mnt_id} of devpts on {mountpoint}, and the /dev/pts that criu sees is no devpts",
    criu: &["devpts isn't mount on the host", "Failed to parse FS specific data on %s"],
    source: "criu/filesystems.c:devpts_parse",
    versions: Versions::All,
    remedies: &[
        Remedy::Workload("mount one where criu runs: mount -t devpts devpts /dev/pts"),
        Remedy::Workload("unmount it before the dump"),
    ],
    phase: Phase::Collecting,
    when: When::Early,
    evidence: Evidence::Mounts,
    find: |rule, ctx, sink| {
        if ctx.snap.criu.devpts != Some(false) {
            return;
        }
        for (table, gate) in tables_read(ctx) {
            // What is skipped is dropped before.
            let skip = if ctx.host.options.skip_mnt.is_some() { Gate::InForce } else { Gate::OPTION_UNKNOWN };
            for info in table.mounts.iter().filter(|m| type_of(m) == b"devpts" && !is_skipped(ctx.host, m)) {
                if let Some(f) = on_mount(rule, ctx, table, info) {
                    sink.push_unless(gate.or(skip), f);
                }
            }
        }
    },
};

pub(crate) static MNT_OWN_DEVTMPFS: Rule = Rule {
    id: "mnt-own-devtmpfs",
    summary: "A devtmpfs, while the /dev of CRIU itself is none.",
    group: "Mounts",
    condition: "A devtmpfs is mounted in a dumped namespace, is neither external nor a bind of the root or of an external mount, and \
           CRIU's own /dev is no devtmpfs or tmpfs to compare it with.",
    message: "mount {mnt_id} of devtmpfs on {mountpoint}, and the /dev that criu sees is neither a devtmpfs nor a tmpfs",
    criu: &["devtmpfs isn't mount on the host"],
    source: "criu/filesystems.c:devtmpfs_dump",
    versions: Versions::All,
    remedies: &[
        Remedy::Modelled("external", "mnt[{path}]:NAME"),
        Remedy::Workload("unmount it before the dump"),
    ],
    phase: Phase::AfterTasks,
    when: When::Early,
    evidence: Evidence::Mounts,
    find: |rule, ctx, sink| {
        if ctx.snap.criu.devtmpfs != Some(false) {
            return;
        }
        each_looked_into(ctx, &[b"devtmpfs"], |model, node| {
            // Without a mount of the whole CRIU does not look: mnt-unreachable.
            if model.wholes(node).next().is_none() {
                return;
            }
            if let Some(f) = finding(rule, ctx, node) {
                sink.push_unless(model.gate(), f);
            }
        });
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::criu::Opt;
    use crate::rules::testkit::*;
    use crate::rules::Verdict;

    #[test]
    fn nothing_to_compare_with() {
        let refuse = Some(Verdict::Refuse);
        let table =
            |kind: &str| in_mntns(&format!("40 39 0:50 / / rw - overlay o rw\n41 40 0:60 / /x rw - {kind} {kind} rw"));
        let (mut pts, mut dev) = (table("devpts"), table("devtmpfs"));
        for (rule, s) in [(&MNT_OWN_DEVPTS, &pts), (&MNT_OWN_DEVTMPFS, &dev)] {
            assert_eq!(verdict(rule, s, &host()), None, "not known");
        }
        (pts.criu.devpts, dev.criu.devtmpfs) = (Some(true), Some(true));
        assert_eq!(verdict(&MNT_OWN_DEVPTS, &pts, &host()), None);
        assert_eq!(verdict(&MNT_OWN_DEVTMPFS, &dev, &host()), None);
        (pts.criu.devpts, dev.criu.devtmpfs) = (Some(false), Some(false));
        assert_eq!(verdict(&MNT_OWN_DEVPTS, &pts, &host()), refuse);
        assert_eq!(verdict(&MNT_OWN_DEVTMPFS, &dev, &host()), refuse);
        // It is read before it could be known as external.
        assert_eq!(verdict(&MNT_OWN_DEVPTS, &pts, &with_external("mnt[/x]:p")), refuse);
        assert_eq!(verdict(&MNT_OWN_DEVTMPFS, &dev, &with_external("mnt[/x]:d")), None);
        let skips = |list| {
            let mut h = host();
            h.options.skip_mnt = list;
            h
        };
        assert_eq!(verdict(&MNT_OWN_DEVPTS, &pts, &skips(Some(vec!["/x".into()]))), None);
        assert_eq!(verdict(&MNT_OWN_DEVPTS, &pts, &skips(None)), Some(Verdict::Warn));
    }

    #[test]
    fn a_table_of_crius_own_counts_where_it_is_read() {
        let mut s = in_mntns("40 39 0:50 / / rw - overlay o rw");
        s.criu.devpts = Some(false);
        let line = b"23 21 0:24 / /pts rw - devpts devpts rw";
        let own = s.mounts.iter_mut().find(|t| t.ns == CRIU_NS).unwrap();
        own.mounts.extend(crate::parse::mountinfo::line(line));
        assert_eq!(verdict(&MNT_OWN_DEVPTS, &s, &host()), None);
        assert_eq!(verdict(&MNT_OWN_DEVPTS, &s, &with(Opt::AutodetectExtMounts)), Some(Verdict::Refuse));
    }
}
