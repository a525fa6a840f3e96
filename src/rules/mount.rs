//! Mounts of the dumped mount namespaces.

use super::mount_model::{Model, Node};
use super::{Ctx, Finding, Lift, Phase, Rule, Sink, Value, When};
use crate::host::{Gate, Hook, Opt};

/// Every mount that CRIU validates, with the model; nothing when it validates none.
pub(super) fn each(ctx: &Ctx, mut judge: impl FnMut(&Model, &Node)) {
    let model = Model::new(ctx);
    if !model.validated {
        return;
    }
    for node in &model.nodes {
        judge(&model, node);
    }
}

pub(super) fn finding(rule: &Rule, ctx: &Ctx, node: &Node) -> Option<Finding> {
    let task = ctx.snap.task(node.table.pid).or_else(|| ctx.snap.root_task())?;
    let info = node.info;
    Some(
        Finding::on_task(rule, task)
            .key(format!("mnt:{}", info.mnt_id))
            .fact("mountpoint", Value::Text(info.mountpoint.clone()))
            .fact("fstype", Value::Text(info.fstype.clone()))
            .fact("source", Value::Text(info.source.clone()))
            .fact("root", Value::Text(info.root.clone()))
            .num("mnt_id", info.mnt_id)
            .term("dev", format!("{}:{}", info.major, info.minor)),
    )
}

pub static MNT_UNSUPPORTED_FS: Rule = Rule {
    id: "mnt-unsupported-fs",
    group: "Mounts",
    what: "A file system is mounted whole (its root is /) that CRIU cannot mount again by itself: none of proc, sysfs, \
           devtmpfs, binfmt_misc, tmpfs, devpts, pstore, mqueue, securityfs, fusectl, debugfs, tracefs, cgroup, cgroup2, \
           aufs, fuse, overlay, autofs; it is not the root of the namespace or a bind of it, not external or a bind of \
           an external one, and not named by --enable-fs (which never helps for Btrfs).",
    says: "mount {mnt_id} of {fstype} ({dev}, source {source}) on {mountpoint} is of a file system that CRIU cannot mount again",
    criu: "FS mnt %s dev %#x root %s unsupported id %d",
    source: "criu/mount.c:validate_mounts",
    versions: "all",
    lifts: &[
        Lift::Value("external", "mnt[{mountpoint}]:NAME"),
        Lift::Value("enable-fs", "{fstype}"),
        Lift::Workload("unmount it before the dump"),
    ],
    phase: Phase::P2,
    when: When::Early,
    check: |rule, ctx, sink| {
        each(ctx, |model, node| {
            if node.root != b"/" || model.is_external_bind(node) || model.is_root_bind(node) {
                return;
            }
            let gate = match model.supported(node, ctx.host) {
                Some(true) => return,
                Some(false) => model.gate(),
                None => Gate::Unknown,
            };
            if let Some(f) = finding(rule, ctx, node) {
                sink.push(gate, f);
            }
        });
    },
};

pub static MNT_NO_ROOT_MOUNT: Rule = Rule {
    id: "mnt-no-root-mount",
    group: "Mounts",
    what: "A part of a file system is mounted (a bind mount: its root is not /), no mount of the whole of it is in the \
           dumped namespaces, it is not external, and no plugin takes it.",
    says: "bind mount {mnt_id} of {root} of {fstype} ({dev}, source {source}) on {mountpoint}, which comes from outside of the \
           tree's mount namespace",
    criu: "%d:%s doesn't have a proper root mount",
    source: "criu/mount.c:validate_mounts",
    versions: "all",
    lifts: &[
        Lift::Value("external", "mnt[{mountpoint}]:NAME"),
        Lift::Value("external", "mnt[]"),
        Lift::Workload("unmount it before the dump"),
        Lift::Hook(Hook::DumpExtMount),
    ],
    phase: Phase::P2,
    when: When::Early,
    check: |rule, ctx, sink| {
        each(ctx, |model, node| {
            if node.root == b"/" || model.is_external_bind(node) || model.is_root_bind(node) || model.has_fsroot(node) {
                return;
            }
            if let Some(f) = finding(rule, ctx, node) {
                push_both(sink, model.gate(), ctx.host.gate_hook(Hook::DumpExtMount), f);
            }
        });
    },
};

/// A finding that stands only if neither an unknown option nor a plugin could lift it.
fn push_both(sink: &mut Sink, options: Gate, hook: Gate, f: Finding) {
    sink.push(options.or(hook), f);
}

pub static MNT_EXTERNAL_MASTER: Rule = Rule {
    id: "mnt-external-master",
    group: "Mounts",
    what: "A mount is a slave of a peer group (master:N in mountinfo) that has no member in the dumped namespaces, and no \
           external mount, nor the root, of the same superblock has that master.",
    says: "mount {mnt_id} of {fstype} on {mountpoint} receives mounts from peer group {master}, which is outside of the tree",
    criu: "Mount %d %s (master_id: %d shared_id: %d) has unreachable sharing. Try --enable-external-masters.",
    source: "criu/mount.c:resolve_shared_mounts",
    versions: "all",
    lifts: &[
        Lift::Value("external", "mnt[{mountpoint}]:NAME"),
        Lift::Value("external", "mnt[]:m"),
        Lift::Workload("make it private (mount --make-private {mountpoint} inside) before the dump"),
    ],
    phase: Phase::P2,
    when: When::Early,
    check: |rule, ctx, sink| {
        each(ctx, |model, node| {
            let Some(master) = node.info.master else { return };
            if model.has_master(node) || model.master_from_outside(node) {
                return;
            }
            if let Some(f) = finding(rule, ctx, node) {
                let gate = model.gate().or(match ctx.host.gate(&[Opt::EnableExternalMasters]) {
                    Gate::Unknown => Gate::Unknown,
                    _ => Gate::Stands,
                });
                sink.push(gate, f.num("master", master));
            }
        });
    },
};

pub static MNT_SAME_POINT_CHILDREN: Rule = Rule {
    id: "mnt-same-point-children",
    group: "Mounts",
    what: "A mount has two child mounts with the same mountpoint.",
    says: "mount {mnt_id} on {mountpoint} has two mounts on {child}: {first} and {second}",
    criu: "Mount %d has two children with same mountpoint: %d %d",
    source: "criu/mount.c:validate_children_collision",
    versions: "all",
    lifts: &[Lift::Workload("unmount one of them before the dump")],
    phase: Phase::P2,
    when: When::Early,
    check: |rule, ctx, sink| {
        each(ctx, |model, node| {
            let mut seen = std::collections::HashMap::new();
            for child in model.children(node) {
                let Some(first) = seen.insert(&child.info.mountpoint, child.info.mnt_id) else { continue };
                if let Some(f) = finding(rule, ctx, node) {
                    let f = f
                        .fact("child", Value::Text(child.info.mountpoint.clone()))
                        .num("first", first)
                        .num("second", child.info.mnt_id);
                    sink.push(Gate::Stands, f);
                }
            }
        });
    },
};

pub static MNT_TREE: Rule = Rule {
    id: "mnt-tree",
    group: "Mounts",
    what: "A mount of the table has no parent in it and is not its root. tracefs mounts are taken out of the table first, \
           so a mount below one of them counts too.",
    says: "mount {mnt_id} of {fstype} on {mountpoint} has no parent in the mount table that CRIU builds",
    criu: "No parent found for mountpoint %d (@%s)",
    source: "criu/mount.c:mnt_build_ids_tree",
    versions: "all",
    lifts: &[Lift::Workload("unmount it before the dump")],
    phase: Phase::P2,
    when: When::Early,
    check: |rule, ctx, sink| {
        each(ctx, |model, node| {
            if node.parent.is_some() {
                return;
            }
            // The first mount on / without a parent is the root of its tree.
            let root = model
                .nodes
                .iter()
                .find(|n| n.table.ns == node.table.ns && n.parent.is_none() && *n.info.mountpoint == *b"/");
            if root.is_some_and(|r| r.info.mnt_id == node.info.mnt_id) {
                return;
            }
            if let Some(f) = finding(rule, ctx, node) {
                sink.push(Gate::Stands, f);
            }
        });
    },
};

pub static MNT_FUSE: Rule = Rule {
    id: "mnt-fuse",
    group: "Mounts",
    what:
        "A FUSE file system is mounted in a dumped namespace and is neither external nor a bind of the root or of an \
           external mount.",
    says: "mount {mnt_id} of {fstype} (source {source}) on {mountpoint}",
    criu: "failed to dump fs %s (fuse): always fail",
    source: "criu/filesystems.c:always_fail",
    versions: "all",
    lifts: &[Lift::Value("external", "mnt[{mountpoint}]:NAME"), Lift::Workload("unmount it before the dump")],
    phase: Phase::P6,
    when: When::Early,
    check: |rule, ctx, sink| {
        each(ctx, |model, node| {
            let fuse = *node.info.fstype == *b"fuse" || node.info.fstype.starts_with(b"fuse.");
            if !fuse || node.root != b"/" || model.is_external_bind(node) || model.is_root_bind(node) {
                return;
            }
            if let Some(f) = finding(rule, ctx, node) {
                sink.push(model.gate(), f);
            }
        });
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::Bytes;
    use crate::parse::mountinfo;
    use crate::rules::testkit::*;
    use crate::rules::Verdict;
    use crate::snapshot::{MountTable, Snapshot};

    /// The root task in a mount namespace of its own with this table; CRIU's own table is there for `mnt[]`.
    fn mounts(lines: &str) -> Snapshot {
        let mut s = snap(vec![]);
        s.tasks.first_mut().unwrap().ns.mnt = Some(7);
        s.mounts.push(table(7, 100, lines));
        s.mounts.push(table(
            CRIU_NS,
            50,
            "21 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n22 21 8:2 / /srv rw shared:2 - xfs /dev/sda2 rw",
        ));
        s
    }

    fn table(ns: u64, pid: i32, lines: &str) -> MountTable {
        let mounts = lines.lines().map(|l| mountinfo::line(l.as_bytes()).unwrap()).collect();
        MountTable { ns, pid, mounts, bad: 0 }
    }

    const ROOT: &str = "40 39 0:50 / / rw - overlay overlay rw,lowerdir=/l\n";

    fn case(line: &str) -> Snapshot {
        mounts(&format!("{ROOT}{line}"))
    }

    #[test]
    fn unsupported_and_what_lifts_it() {
        for ok in ["tmpfs", "proc", "cgroup2", "mqueue", "fuse.sshfs", "autofs"] {
            assert_eq!(
                verdict(&MNT_UNSUPPORTED_FS, &case(&format!("41 40 0:60 / /x rw - {ok} none rw")), &host()),
                None
            );
        }
        let nfs = case("41 40 0:60 / /x rw - nfs4 srv:/ rw");
        assert_eq!(verdict(&MNT_UNSUPPORTED_FS, &nfs, &host()), Some(Verdict::Refuse));
        assert_eq!(verdict(&MNT_UNSUPPORTED_FS, &nfs, &with_external("mnt[/x]:data")), None);
        assert_eq!(verdict(&MNT_UNSUPPORTED_FS, &nfs, &with_external("dev[0/60]:d")), None);
        // A key without a value is none.
        assert!(verdict(&MNT_UNSUPPORTED_FS, &nfs, &with_external("mnt[/x]")).is_some());
        let mut enabled = host();
        enabled.options.enable_fs = Some(vec!["hugetlbfs,nfs4".into()]);
        assert_eq!(verdict(&MNT_UNSUPPORTED_FS, &nfs, &enabled), None);
        enabled.options.enable_fs = None;
        assert_eq!(verdict(&MNT_UNSUPPORTED_FS, &nfs, &enabled), Some(Verdict::Warn));
    }

    #[test]
    fn btrfs() {
        let line = "41 40 0:44 / /x rw - btrfs /dev/sdb rw,subvolid=5,subvol=/";
        let mut all = host();
        all.options.enable_fs = Some(vec!["all".into()]);
        assert_eq!(verdict(&MNT_UNSUPPORTED_FS, &case(line), &all), Some(Verdict::Refuse));
        // The root of the namespace, and another subvolume of the same superblock.
        let root = "40 39 0:44 /@ / rw - btrfs /dev/sdb rw,subvolid=256,subvol=/@\n\
                    41 40 0:44 /@/home /home rw - btrfs /dev/sdb rw,subvolid=256,subvol=/@";
        for rule in [&MNT_UNSUPPORTED_FS, &MNT_NO_ROOT_MOUNT] {
            assert_eq!(verdict(rule, &mounts(root), &host()), None);
        }
    }

    #[test]
    fn nothing_is_validated_in_crius_own_namespace() {
        let mut s = case("41 40 0:60 / /x rw - nfs4 srv:/ rw");
        s.tasks.first_mut().unwrap().ns.mnt = Some(CRIU_NS);
        s.mounts.remove(0);
        assert_eq!(verdict(&MNT_UNSUPPORTED_FS, &s, &host()), None);
    }

    #[test]
    fn binds_from_outside() {
        let s = case("41 40 8:2 /vol /data rw - xfs /dev/sda2 rw");
        assert_eq!(verdict(&MNT_NO_ROOT_MOUNT, &s, &host()), Some(Verdict::Refuse));
        assert_eq!(verdict(&MNT_NO_ROOT_MOUNT, &s, &with_external("mnt[/data]:v")), None);
        assert_eq!(verdict(&MNT_NO_ROOT_MOUNT, &s, &with_hook(Hook::DumpExtMount)), None);
        assert_eq!(verdict(&MNT_NO_ROOT_MOUNT, &s, &with(Opt::AutodetectExtMounts)), None);
        // A bind of an external mount of the same superblock.
        let two = case("41 40 8:2 / /a rw - xfs /dev/sda2 rw\n42 40 8:2 /vol /b rw - xfs /dev/sda2 rw");
        assert_eq!(verdict(&MNT_NO_ROOT_MOUNT, &two, &with_external("mnt[/a]:v")), None);
        assert_eq!(verdict(&MNT_UNSUPPORTED_FS, &two, &with_external("mnt[/a]:v")), None);
        // A bind of a file system that is mounted whole.
        let inner = case("41 40 0:61 / /tmp rw - tmpfs t rw\n42 40 0:61 /d /m rw - tmpfs t rw");
        assert_eq!(verdict(&MNT_NO_ROOT_MOUNT, &inner, &host()), None);
    }

    #[test]
    fn masters_outside() {
        let s = case("41 40 8:2 / /srv rw master:2 - tmpfs t rw");
        assert_eq!(verdict(&MNT_EXTERNAL_MASTER, &s, &host()), Some(Verdict::Refuse));
        assert_eq!(verdict(&MNT_EXTERNAL_MASTER, &s, &with_external("mnt[/srv]:v")), None);
        let inside = case("41 40 0:60 / /a rw shared:9 - tmpfs t rw\n42 40 0:60 / /b rw master:9 - tmpfs t rw");
        assert_eq!(verdict(&MNT_EXTERNAL_MASTER, &inside, &host()), None);
        // What is found by itself is external only with its own option.
        let auto = case("41 40 8:2 / /srv rw master:2 - xfs /dev/sda2 rw");
        let mut h = with(Opt::AutodetectExtMounts);
        assert!(verdict(&MNT_EXTERNAL_MASTER, &auto, &h).is_some());
        *flag(&mut h.options, Opt::EnableExternalMasters) = Some(true);
        assert_eq!(verdict(&MNT_EXTERNAL_MASTER, &auto, &h), None);
    }

    #[test]
    fn shape_of_the_tree() {
        let twins = case("41 40 0:60 / /x rw - tmpfs a rw\n42 40 0:61 / /x rw - tmpfs b rw");
        assert!(verdict(&MNT_SAME_POINT_CHILDREN, &twins, &host()).is_some());
        let stacked = case("41 40 0:60 / /x rw - tmpfs a rw\n42 41 0:61 / /x rw - tmpfs b rw");
        assert_eq!(verdict(&MNT_SAME_POINT_CHILDREN, &stacked, &host()), None);
        assert_eq!(verdict(&MNT_TREE, &stacked, &host()), None);
        assert!(verdict(&MNT_TREE, &case("41 99 0:60 / /x rw - tmpfs a rw"), &host()).is_some());
        let below = case("41 40 0:60 / /t rw - tracefs t rw\n42 41 0:61 / /t/x rw - tmpfs b rw");
        assert!(verdict(&MNT_TREE, &below, &host()).is_some());
    }

    #[test]
    fn fuse() {
        let s = case("41 40 0:60 / /x rw - fuse.sshfs host: rw,user_id=0");
        assert!(verdict(&MNT_FUSE, &s, &host()).is_some());
        assert_eq!(verdict(&MNT_FUSE, &s, &with_external("mnt[/x]:v")), None);
        let names: Vec<Bytes> = found(&MNT_FUSE, &s, &host()).iter().map(|f| f.comm.clone()).collect();
        assert_eq!(names, [Bytes::from("app")]);
    }

    #[test]
    fn overmounts() {
        let s = mounts(&format!(
            "{ROOT}41 40 0:60 / /a rw - tmpfs a rw\n42 40 0:61 / /a/b rw - tmpfs b rw\n43 42 0:62 / /a/b rw - tmpfs c rw\n44 40 0:63 / /c rw - tmpfs d rw"
        ));
        let (snap, host) = (s, host());
        let ctx = Ctx::new(&snap, &host);
        let model = Model::new(&ctx);
        let hidden = |id| model.is_overmounted(model.by_id(id).unwrap());
        // 42 lies under 41 (a sibling on a prefix of its path), 43 with it; 41 and 44 are seen.
        assert_eq!([41, 42, 43, 44].map(hidden), [false, true, true, false]);
    }
}
