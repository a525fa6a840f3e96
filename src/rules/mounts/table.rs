//! Mounts of the dumped mount namespaces.

use crate::criu::{externals, Cap, Gate, Hook, Opt};
use crate::criu_model::mounts::{Model, Node};
use crate::parse::mountinfo::MountInfo;
use crate::rules::{Ctx, Evidence, Finding, Phase, Remedy, Rule, Value, Versions, When};
use crate::snapshot::MountTable;

/// Every mount that CRIU validates, with the model; nothing when it validates none.
pub(crate) fn each(ctx: &Ctx, mut judge: impl FnMut(&Model, &Node)) {
    let model = &ctx.mounts;
    if !model.validated {
        return;
    }
    for node in &model.nodes {
        judge(model, node);
    }
}

pub(crate) fn finding(rule: &Rule, ctx: &Ctx, node: &Node) -> Option<Finding> {
    on_mount(rule, ctx, node.table, node.info)
}

pub(crate) fn on_mount(rule: &Rule, ctx: &Ctx, table: &MountTable, info: &MountInfo) -> Option<Finding> {
    let task = ctx.index.task(table.pid).or_else(|| ctx.snap.root_task())?;
    // Where `--external mnt[...]` counts: in the root task's own namespace, and not for its root.
    let keyed = ctx.snap.root_shares(|n| n.mnt) == Some(false)
        && ctx.snap.root_task().is_some_and(|root| root.ns.mnt == Some(table.ns))
        && *info.mountpoint != *b"/"
        && !info.mountpoint.contains(&b'\n');
    Some(
        Finding::on_task(rule, task)
            .key(format!("mnt:{}", info.mnt_id))
            .fact("mountpoint", Value::Text(info.mountpoint.clone()))
            .fact_opt("path", keyed.then(|| Value::Text(info.mountpoint.clone())))
            .fact("fstype", Value::Text(info.fstype.clone()))
            .fact("source", Value::Text(info.source.clone()))
            .fact("root", Value::Text(info.root.clone()))
            .num("mnt_id", info.mnt_id)
            .term("dev", format!("{}:{}", info.major, info.minor)),
    )
}

/// The mount tables that CRIU reads, its own among them only if the root process shares it or with `--external mnt[]`.
pub(crate) fn tables_read<'c>(ctx: &'c Ctx) -> impl Iterator<Item = (&'c MountTable, Gate)> + 'c {
    let shared = ctx.snap.root_shares(|n| n.mnt);
    // CRIU's own is read before the externals are looked for.
    let auto = match ctx.host.options.autodetect_ext_mounts {
        Some(true) => Gate::InForce,
        Some(false) => Gate::Waived,
        None => Gate::OPTION_UNKNOWN,
    };
    let gate = move |t: &MountTable| if is_own(ctx, t) && shared == Some(false) { auto } else { Gate::InForce };
    ctx.snap.mounts.iter().map(move |t| (t, gate(t)))
}

fn is_own(ctx: &Ctx, table: &MountTable) -> bool {
    Some(table.ns) == ctx.snap.criu.ns.mnt
}

/// CRIU before 4.3 reads the table by lines of that many bytes (`BUF_SIZE` of criu/proc_parse.c, less the newline and the end mark).
pub(super) const LINE_MAX: usize = 4094;

/// What scanf takes for a blank and the kernel does not escape.
fn has_blank(name: &[u8]) -> bool {
    name.iter().any(|b| matches!(b, 0x0b..=0x0d))
}

pub(crate) static MNT_LINE: Rule = Rule {
    id: "mnt-line",
    summary: "A mount whose line in the mount table CRIU cannot read: too long, or an odd character.",
    group: "Mounts",
    condition: "CRIU cannot read a line of a mount table: it is longer than 4094 bytes (an overlay of many layers; up to CRIU 4.2), or the \
           mountpoint or what is mounted there has a carriage return, form feed or vertical tab in its name. The tables are \
           those of the dumped mount namespaces, and CRIU's own if the root process shares it or with --external mnt[].",
    message: "mount {mnt_id} of {fstype} on {mountpoint}[ of {whose} mount namespace] has a line in the mount table {why?length=of {length} bytes, more than CRIU can read\
           |blank=with a character in it that CRIU takes for a blank}",
    criu: &["Bad format in %d mountinfo: '%s'"],
    source: "criu/proc_parse.c:parse_mountinfo",
    versions: Versions::All,
    remedies: &[
        Remedy::Workload("unmount it before the dump"),
        Remedy::Workload("run {apart} in a mount namespace without it"),
    ],
    phase: Phase::Collecting,
    when: When::Early,
    evidence: Evidence::Mounts,
    find: |rule, ctx, sink| {
        for (table, gate) in tables_read(ctx) {
            for info in &table.mounts {
                let why = if info.length > LINE_MAX && !ctx.host.has(Cap::LongLines) {
                    "length"
                } else if has_blank(&info.mountpoint) || has_blank(&info.root) {
                    "blank"
                } else {
                    continue;
                };
                if let Some(f) = on_mount(rule, ctx, table, info) {
                    let f = f.term("why", why).count("length", info.length);
                    let f = if is_own(ctx, table) { f.term("whose", "CRIU's own").term("apart", "criu") } else { f };
                    sink.push_unless(gate, f);
                }
            }
        }
    },
};

pub(crate) static MNT_UNSUPPORTED_FS: Rule = Rule {
    id: "mnt-unsupported-fs",
    summary: "A mounted file system that CRIU cannot mount again: ext4, XFS, NFS and so on.",
    group: "Mounts",
    condition: "A file system is mounted whole (its root is /) that CRIU cannot mount again by itself: none of proc, sysfs, \
           devtmpfs, binfmt_misc, tmpfs, devpts, pstore, mqueue, securityfs, fusectl, debugfs, tracefs, cgroup, cgroup2, \
           aufs, fuse, overlay, autofs; it is not the root of the namespace or a bind of it, not external or a bind of \
           an external one, and not named by --enable-fs (which never helps for Btrfs).",
    message: "mount {mnt_id} of {fstype} ({dev}, source {source}) on {mountpoint} is of a file system that CRIU cannot mount again",
    criu: &["FS mnt %s dev %#x root %s unsupported id %d"],
    source: "criu/mount.c:validate_mounts",
    versions: Versions::All,
    remedies: &[
        Remedy::Modelled("external", "mnt[{path}]:NAME"),
        Remedy::Modelled("external", "dev[{key}]:NAME"),
        Remedy::Modelled("enable-fs", "{enable}"),
        Remedy::Workload("unmount it before the dump"),
    ],
    phase: Phase::Collecting,
    when: When::Early,
    evidence: Evidence::Mounts,
    find: |rule, ctx, sink| {
        each(ctx, |model, node| {
            if node.root != b"/" || model.is_external_bind(node) || model.is_root_bind(node) {
                return;
            }
            let gate = match model.supported(node, ctx.host) {
                Some(true) => return,
                Some(false) => model.gate(),
                None => Gate::FACT_UNKNOWN,
            };
            let Some(mut f) = finding(rule, ctx, node) else { return };
            // Where no mountpoint can be named, the device can.
            if f.get("path").is_none() {
                f = f.term("key", format!("{}/{}", node.info.major, node.info.minor));
            }
            if *node.info.fstype != *b"btrfs" {
                f = f.fact("enable", Value::Text(node.info.fstype.clone()));
            }
            sink.push_unless(gate, f);
        });
    },
};

pub(crate) static MNT_NO_ROOT_MOUNT: Rule = Rule {
    id: "mnt-no-root-mount",
    summary: "A bind mount of something that lies outside of the tree's mount namespace: a volume.",
    group: "Mounts",
    condition: "A part of a file system is mounted (a bind mount: its root is not /), no mount of the whole of it is in the \
           dumped namespaces, it is not external, and no plugin takes it.",
    message: "bind mount {mnt_id} of {root} of {fstype} ({dev}, source {source}) on {mountpoint}, which comes from outside of the \
           tree's mount namespace",
    criu: &["%d:%s doesn't have a proper root mount"],
    source: "criu/mount.c:validate_mounts",
    versions: Versions::All,
    remedies: &[
        Remedy::Modelled("external", "mnt[{path}]:NAME"),
        Remedy::Modelled("external", "{auto}"),
        Remedy::Workload("unmount it before the dump"),
        Remedy::Hook(Hook::DumpExtMount),
    ],
    phase: Phase::Collecting,
    when: When::Early,
    evidence: Evidence::Mounts,
    find: |rule, ctx, sink| {
        each(ctx, |model, node| {
            if node.root == b"/" || model.is_external_bind(node) || model.is_root_bind(node) || model.has_fsroot(node) {
                return;
            }
            if let Some(f) = finding(rule, ctx, node) {
                sink.push_unless(model.gate(), f.fact_opt("auto", auto(ctx, node)));
            }
        });
    },
};

/// What lets CRIU find it by itself in its own mounts, among which it does not look for the root of a namespace.
fn auto(ctx: &Ctx, node: &Node) -> Option<Value> {
    if node.parent.is_none() || *node.info.mountpoint == *b"/" {
        return None;
    }
    let values = externals::auto(ctx.host, node.info.shared.is_some(), node.info.master.is_some());
    values.map(|values| Value::Term(values.into()))
}

pub(crate) static MNT_EXTERNAL_MASTER: Rule = Rule {
    id: "mnt-external-master",
    summary: "A mount that receives mounts from outside (propagation rslave).",
    group: "Mounts",
    condition: "A mount is a slave of a peer group (master:N in mountinfo) that has no member in the dumped namespaces, and no \
           external mount, nor the root, of the same superblock has that master.",
    message: "mount {mnt_id} of {fstype} on {mountpoint} receives mounts from peer group {master}, which is outside of the tree",
    criu: &["Mount %d %s (master_id: %d shared_id: %d) has unreachable sharing. Try --enable-external-masters."],
    source: "criu/mount.c:resolve_shared_mounts",
    versions: Versions::All,
    remedies: &[
        Remedy::Modelled("external", "mnt[{path}]:NAME"),
        Remedy::Modelled("external", "{auto}"),
        Remedy::Workload("make it private (mount --make-private {mountpoint} inside) before the dump"),
    ],
    phase: Phase::Collecting,
    when: When::Early,
    evidence: Evidence::Mounts,
    find: |rule, ctx, sink| {
        each(ctx, |model, node| {
            let Some(master) = node.info.master else { return };
            if model.has_master(node) || model.master_from_outside(node) {
                return;
            }
            if let Some(f) = finding(rule, ctx, node) {
                let gate = model.gate().or(match ctx.host.gate(&[Opt::EnableExternalMasters]) {
                    Gate::Unknown(missing) => Gate::Unknown(missing),
                    _ => Gate::InForce,
                });
                sink.push_unless(gate, f.num("master", master).fact_opt("auto", auto(ctx, node)));
            }
        });
    },
};

pub(crate) static MNT_SAME_POINT_CHILDREN: Rule = Rule {
    id: "mnt-same-point-children",
    summary: "Two mounts side by side on one mountpoint.",
    group: "Mounts",
    condition: "A mount has two child mounts with the same mountpoint.",
    message: "mount {mnt_id} on {mountpoint} has two mounts on {child}: {first} and {second}",
    criu: &["Mount %d has two children with same mountpoint: %d %d"],
    source: "criu/mount.c:validate_children_collision",
    versions: Versions::All,
    remedies: &[Remedy::Workload("unmount one of them before the dump")],
    phase: Phase::Collecting,
    when: When::Early,
    evidence: Evidence::Mounts,
    find: |rule, ctx, sink| {
        each(ctx, |model, node| {
            let mut seen = std::collections::HashMap::new();
            for child in model.children(node) {
                let Some(first) = seen.insert(&child.info.mountpoint, child.info.mnt_id) else { continue };
                if let Some(f) = finding(rule, ctx, node) {
                    let f = f
                        .fact("child", Value::Text(child.info.mountpoint.clone()))
                        .num("first", first)
                        .num("second", child.info.mnt_id);
                    sink.push(f);
                }
            }
        });
    },
};

pub(crate) static MNT_TREE: Rule = Rule {
    id: "mnt-tree",
    summary: "A mount whose parent is not in the table that CRIU builds.",
    group: "Mounts",
    condition: "A mount of the table has no parent in it and is not its root. tracefs mounts are taken out of the table first, \
           so a mount below one of them counts too.",
    message: "mount {mnt_id} of {fstype} on {mountpoint} has no parent in the mount table that CRIU builds",
    criu: &["No parent found for mountpoint %d (@%s)"],
    source: "criu/mount.c:mnt_build_ids_tree",
    versions: Versions::All,
    remedies: &[Remedy::Workload("unmount it before the dump")],
    phase: Phase::Collecting,
    when: When::Early,
    evidence: Evidence::Mounts,
    find: |rule, ctx, sink| {
        each(ctx, |model, node| {
            if node.parent.is_some() {
                return;
            }
            if model.is_namespace_root(node) {
                return;
            }
            if let Some(f) = finding(rule, ctx, node) {
                sink.push(f);
            }
        });
    },
};
