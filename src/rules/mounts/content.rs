//! What CRIU writes of a mount after all memory (`dump_one_fs`, criu/mount.c): of those of the dumped namespaces alone, not
//! if the root task shares CRIU's and only a child does not.

use crate::criu_model::mounts::{Model, Node};
use crate::rules::mounts::table::finding;
use crate::rules::{Ctx, Evidence, Phase, Remedy, Rule, Versions, When};

/// Every mount that CRIU dumps, with the model.
pub(crate) fn each_dumped(ctx: &Ctx, mut judge: impl FnMut(&Model, &Node)) {
    crate::rules::mounts::table::each(ctx, |model, node| {
        if model.dumped {
            judge(model, node);
        }
    });
}

/// The same of file systems that CRIU looks into.
pub(crate) fn each_looked_into(ctx: &Ctx, types: &[&[u8]], mut judge: impl FnMut(&Model, &Node)) {
    each_dumped(ctx, |model, node| {
        // The root's and the external ones are not its own to make again; neither is a part that only a plugin can take.
        let skipped = model.is_external_bind(node) || model.is_root_bind(node);
        let taken = node.root != b"/" && !model.has_fsroot(node);
        if types.contains(&&*node.info.fstype.0) && !skipped && !taken {
            judge(model, node);
        }
    });
}

pub(crate) static MNT_FUSE: Rule = Rule {
    id: "mnt-fuse",
    summary: "A mounted FUSE file system: sshfs, gvfs, lxcfs, s3fs.",
    group: "Mounts",
    condition:
        "A FUSE file system is mounted in a dumped namespace and is neither external nor a bind of the root or of an \
           external mount.",
    message: "mount {mnt_id} of {fstype} (source {source}) on {mountpoint}",
    criu: &["failed to dump fs %s (fuse): always fail"],
    source: "criu/filesystems.c:always_fail",
    versions: Versions::All,
    remedies: &[Remedy::Modelled("external", "mnt[{path}]:NAME"), Remedy::Workload("unmount it before the dump")],
    phase: Phase::AfterTasks,
    when: When::Early,
    evidence: Evidence::Mounts,
    find: |rule, ctx, sink| {
        each_looked_into(ctx, &[b"fuse"], |model, node| {
            if node.root != b"/" {
                return;
            }
            if let Some(f) = finding(rule, ctx, node) {
                sink.push_unless(model.gate(), f);
            }
        });
    },
};

pub(crate) static MNT_UNREACHABLE: Rule = Rule {
    id: "mnt-unreachable",
    summary: "A tmpfs or the like whose contents CRIU cannot reach.",
    group: "Mounts",
    condition: "CRIU looks into a tmpfs, mqueue, pstore, fusectl, devtmpfs, autofs or FUSE file system to dump it, and cannot: it is \
           mounted only in part, as the root of a nested mount namespace, or the mountpoint of every mount of the whole has \
           a newline in its name, which CRIU does not know from the kernel's text for it, or is hidden by a mount that CRIU \
           does not collect, tracefs or one that --skip-mnt names. In a user namespace, in which CRIU unmounts what covers it, the kernel \
           denies that for mounts that were there before the namespace. It does not show which were: a warning.",
    message: "{fstype} ({dev}, source {source}) on {mountpoint}, whose contents CRIU cannot reach{why?part=: it is mounted only in part\
           |hidden=: a mount that CRIU leaves out of its table, tracefs or one of --skip-mnt, hides it\
           |locked= if the mount that covers it was there before the user namespace: the kernel denies to unmount that\
           |newline=: a newline in the name of the mountpoint}",
    criu: &["Unable to dump a file system for %d:%s"],
    source: "criu/mount.c:dump_one_fs",
    versions: Versions::All,
    remedies: &[Remedy::Modelled("external", "mnt[{path}]:NAME"), Remedy::Workload(
        "{why?part=mount the whole of it somewhere in the namespace, or unmount it,|hidden=unmount one of the two|locked=unmount one of the two\
           |newline=mount it on a directory without a newline in its name, or unmount it,} before the dump",
    )],
    phase: Phase::AfterTasks,
    when: When::Early,
    evidence: Evidence::Mounts,
    find: |rule, ctx, sink| {
        let own_users = ctx.snap.root_shares(|n| n.user) == Some(false);
        const LOOKED_INTO: &[&[u8]] = &[b"tmpfs", b"mqueue", b"pstore", b"fusectl", b"devtmpfs", b"autofs", b"fuse"];
        each_looked_into(ctx, LOOKED_INTO, |model, node| {
            let opened = matches!(&*node.info.fstype.0, b"tmpfs" | b"mqueue" | b"pstore" | b"fusectl");
            let wholes = || model.wholes(node);
            let hidden = |b: &Node| model.is_hidden(b);
            let unreachable = |b: &Node| hidden(b) || b.info.mountpoint.contains(&b'\n');
            // MNT_LOCKED (lock_mnt_tree, fs/namespace.c; umount_overmounts, criu/mount.c).
            let locked = |b: &Node| unreachable(b) || model.is_overmounted(b);
            let why = if wholes().next().is_none() {
                "part"
            } else if !opened {
                return;
            } else if !model.of_superblock(node, |b| &b.unreachable, || wholes().all(unreachable)) {
                if !own_users || !model.of_superblock(node, |b| &b.covered, || wholes().all(locked)) {
                    return;
                }
                "locked"
            } else if wholes().all(hidden) {
                "hidden"
            } else {
                "newline"
            };
            if let Some(f) = finding(rule, ctx, node) {
                let f = f.key(format!("sb:{}:{}", node.info.major, node.info.minor));
                let f = f.term("why", why);
                sink.push_unless(model.gate(), if why == "locked" { f.doubt() } else { f });
            }
        });
    },
};

pub(crate) static MNT_MQUEUE: Rule = Rule {
    id: "mnt-mqueue",
    summary: "POSIX message queues, which CRIU does not save.",
    group: "Mounts",
    condition: "A file system of POSIX message queues is mounted in a dumped namespace, is not external, and there is a queue in it, \
           opened by a process or not.",
    message: "message queues in the mqueue file system on {mountpoint}",
    criu: &["mqueue isn't empty"],
    source: "criu/filesystems.c:dump_empty_fs",
    versions: Versions::All,
    remedies: &[
        Remedy::Modelled("external", "mnt[{path}]:NAME"),
        Remedy::Workload("remove the queues (ls {mountpoint}, mq_unlink), or unmount it, before the dump"),
    ],
    phase: Phase::AfterTasks,
    when: When::Early,
    evidence: Evidence::Mounts,
    find: |rule, ctx, sink| {
        each_looked_into(ctx, &[b"mqueue"], |model, node| {
            let filled = || model.wholes(node).any(|b| b.table.filled.contains(&b.info.mnt_id));
            if !model.of_superblock(node, |b| &b.filled, filled) {
                return;
            }
            if let Some(f) = finding(rule, ctx, node) {
                let key = format!("sb:{}:{}", node.info.major, node.info.minor);
                sink.push_unless(model.gate(), f.key(key));
            }
        });
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::Bytes;
    use crate::rules::testkit::*;
    use crate::rules::Verdict;
    use crate::snapshot::Snapshot;

    fn case(lines: &str) -> Snapshot {
        in_mntns(&format!("40 39 0:50 / / rw - overlay overlay rw,lowerdir=/l\n{lines}"))
    }

    /// The same with the root task in CRIU's namespace, whose table it becomes, and a child elsewhere.
    fn shared(mut s: Snapshot) -> Snapshot {
        s.tasks[0].ns.mnt = Some(CRIU_NS);
        let mut child = task(101);
        child.ns.mnt = Some(7);
        s.tasks.push(child);
        s
    }

    #[test]
    fn fuse() {
        let s = case("41 40 0:60 / /x rw - fuse.sshfs host: rw,user_id=0");
        assert!(verdict(&MNT_FUSE, &s, &host()).is_some());
        assert_eq!(verdict(&MNT_FUSE, &s, &with_external("mnt[/x]:v")), None);
        let names: Vec<Bytes> = found(&MNT_FUSE, &s, &host()).iter().map(|f| f.comm.clone()).collect();
        assert_eq!(names, [Bytes::from("app")]);
        assert_eq!(verdict(&MNT_FUSE, &shared(s), &host()), None);
    }

    #[test]
    fn parts_and_newlines() {
        let newline = case("41 40 0:60 / /a\\012b rw - tmpfs t rw");
        assert_eq!(verdict(&MNT_UNREACHABLE, &newline, &host()), Some(Verdict::Refuse));
        assert_eq!(verdict(&MNT_UNREACHABLE, &newline, &with_external("mnt[/a\\012b]:t")), None);
        assert!(verdict(&MNT_UNREACHABLE, &newline, &with_external("mnt[/a\nb]:t")).is_some());
        assert_eq!(verdict(&MNT_UNREACHABLE, &shared(newline), &host()), None);
        // What CRIU does not collect hides it.
        let hidden = "41 40 0:60 / /t rw - tmpfs t rw\n42 41 0:61 / /t rw - tracefs t rw";
        assert_eq!(verdict(&MNT_UNREACHABLE, &case(hidden), &host()), Some(Verdict::Refuse));
        // CRIU unmounts one, and that is the one on top, which it does not know.
        let twice = |dev: u32| {
            format!(
                "41 40 0:60 / /t rw - tmpfs t rw\n42 41 0:{dev} / /t rw - tmpfs u rw\n\
                 43 42 0:62 / /t rw - tracefs t rw\n44 40 0:{dev} / /u rw - tmpfs u rw"
            )
        };
        assert_eq!(found(&MNT_UNREACHABLE, &case(&twice(61)), &host()).len(), 1);
        assert_eq!(verdict(&MNT_UNREACHABLE, &case(&twice(60)), &host()), None);
        let known = twice(61).replace("tracefs", "tmpfs");
        assert_eq!(verdict(&MNT_UNREACHABLE, &case(&known), &host()), None);
        let beside = "41 40 0:60 / /t/x rw - tmpfs t rw\n42 40 0:61 / /t rw - tmpfs u rw";
        assert_eq!(verdict(&MNT_UNREACHABLE, &case(beside), &host()), None);
        let mut skipping = host();
        skipping.options.skip_mnt = Some(vec![Bytes::from("/t")]);
        assert_eq!(verdict(&MNT_UNREACHABLE, &case(beside), &skipping), Some(Verdict::Refuse));
        let same = "41 40 0:60 / /t/x rw - tmpfs t rw\n42 40 0:60 / /t rw - tmpfs t rw";
        assert_eq!(verdict(&MNT_UNREACHABLE, &case(same), &skipping), None, "CRIU takes the one for the other");
        for ok in [
            "41 40 0:60 / /t rw - tmpfs t rw\n42 40 0:60 / /u rw - tmpfs t rw\n43 41 0:61 / /t rw - tracefs t rw",
            "41 40 0:60 / /t rw - proc t rw\n42 41 0:61 / /t rw - tracefs t rw",
            "41 40 0:60 / /t rw - tmpfs t rw\n42 41 0:61 / /t/x rw - tracefs t rw",
            "41 40 0:60 / /a\\012b rw - proc t rw",
            "41 40 0:60 / /a\\012b rw - tmpfs t rw\n42 40 0:60 / /c rw - tmpfs t rw",
            "41 40 0:60 /part /x rw - tmpfs t rw",
        ] {
            assert_eq!(verdict(&MNT_UNREACHABLE, &case(ok), &host()), None, "{ok}");
        }
        // Two nested namespaces on one part vouch for each other until their contents are wanted.
        let mut s = case("");
        for (ns, pid) in [(8, 101), (9, 102)] {
            let line = format!("{pid} 39 0:60 /part / rw - tmpfs t rw");
            s.mounts.push(mount_table(ns, pid, &line));
        }
        assert_eq!(verdict(&MNT_UNREACHABLE, &s, &host()), Some(Verdict::Refuse));
        s.mounts.pop();
        assert_eq!(verdict(&MNT_UNREACHABLE, &s, &host()), None, "mnt-no-root-mount has it");
    }

    #[test]
    fn covered_in_a_user_namespace() {
        let judged = |lines: &str, user: Option<u64>| {
            let mut s = case(lines);
            s.criu.ns.user = Some(1);
            s.tasks[0].ns.user = user;
            verdict(&MNT_UNREACHABLE, &s, &host())
        };
        let on_it = "41 40 0:60 / /t rw - tmpfs t rw\n42 41 0:61 / /t rw - proc p rw";
        let above = "41 40 0:60 / /t/x rw - tmpfs t rw\n42 40 0:61 / /t rw - tmpfs u rw";
        for covered in [on_it, above] {
            assert_eq!(judged(covered, Some(9)), Some(Verdict::Warn), "{covered}");
            assert_eq!(judged(covered, Some(1)), None, "{covered}");
            assert_eq!(judged(covered, None), None, "{covered}");
        }
        for reached in [
            "41 40 0:60 / /t rw - tmpfs t rw\n42 41 0:61 / /t/x rw - proc p rw",
            "41 40 0:60 / /t rw - tmpfs t rw\n42 41 0:61 / /t rw - proc p rw\n43 40 0:60 / /u rw - tmpfs t rw",
            "41 40 0:60 / /t rw - sysfs t rw\n42 41 0:61 / /t rw - proc p rw",
        ] {
            assert_eq!(judged(reached, Some(9)), None, "{reached}");
        }
    }

    #[test]
    fn queues() {
        let mut s = case("41 40 0:60 / /dev/mqueue rw - mqueue m rw");
        assert_eq!(verdict(&MNT_MQUEUE, &s, &host()), None);
        s.mounts[0].filled.push(41);
        assert_eq!(verdict(&MNT_MQUEUE, &s, &host()), Some(Verdict::Refuse));
        assert_eq!(verdict(&MNT_MQUEUE, &s, &with_external("mnt[/dev/mqueue]:q")), None);
        assert_eq!(verdict(&MNT_MQUEUE, &shared(s), &host()), None);
    }
}
