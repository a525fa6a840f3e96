//! The mount table as CRIU builds it before it validates: which file systems it knows, which mounts are external, which
//! are binds of each other, which are hidden.
//!
//! Mirrors criu/mount.c of 3.17.1 to 4.2 (the dump side is the same in all): collect_mnt_namespaces, search_bindmounts,
//! resolve_external_mounts, mnt_is_overmounted; and the table of criu/filesystems.c.

use super::Ctx;
use crate::host::{Gate, Host};
use crate::parse::mountinfo::MountInfo;
use crate::snapshot::MountTable;
use std::cell::OnceCell;
use std::collections::HashMap;

/// File systems CRIU can mount again by itself (`fstypes` in criu/filesystems.c). Btrfs stands in that table too, but
/// only to compare superblocks; tracefs mounts are dropped before anything else.
const SUPPORTED: &[&[u8]] = &[
    b"proc",
    b"sysfs",
    b"devtmpfs",
    b"binfmt_misc",
    b"tmpfs",
    b"devpts",
    b"simfs",
    b"pstore",
    b"mqueue",
    b"securityfs",
    b"fusectl",
    b"debugfs",
    b"cgroup",
    b"cgroup2",
    b"aufs",
    b"fuse",
    b"overlay",
    b"autofs",
];

/// Whether a mount is external, and if that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum External {
    No,
    /// By `--external mnt[...]`, or found by `mnt[]`.
    Mount,
    /// By `--external dev[...]`: does not pass on its sharing.
    Device,
}

/// One mount with what CRIU derives for it.
pub(super) struct Node<'a> {
    pub info: &'a MountInfo,
    pub table: &'a MountTable,
    /// Index of the parent in the same table; `None`: the root of the tree, or no parent was found.
    pub parent: Option<usize>,
    pub children: Vec<usize>,
    /// First mount of the same superblock, the representative of its bind group.
    pub group: usize,
    pub external: External,
    /// The root inside the file system as CRIU takes it ("/" for cgroups seen from another cgroup namespace).
    pub root: &'a [u8],
    /// [`Model::is_overmounted`], once somebody has asked: every open file does, and a host has thousands of mounts.
    overmounted: OnceCell<bool>,
}

/// All mounts that CRIU collects.
pub(super) struct Model<'a> {
    pub nodes: Vec<Node<'a>>,
    /// What CRIU drops while it reads the tables (`should_skip_mount`, criu/proc_parse.c): tracefs and what --skip-mnt names.
    /// What depends on them is noticed later.
    dropped: Vec<(u64, &'a MountInfo)>,
    groups: HashMap<usize, Vec<usize>>,
    by_id: HashMap<i32, usize>,
    root_ns: Option<u64>,
    /// It has a cgroup namespace of its own.
    cgroup_ns: bool,
    /// The root task has a mount namespace of its own: CRIU dumps the mounts, and `--external mnt[...]` counts in it.
    pub dumped: bool,
    /// CRIU validates: some collected namespace is not its own.
    pub validated: bool,
    /// The externals and the skipped mounts are known.
    known: bool,
}

/// `issubpath`/`is_sub_path`: path is below, or the same as, base.
pub(super) fn is_sub_path(path: &[u8], base: &[u8]) -> bool {
    let base = base.strip_suffix(b"/").unwrap_or(base);
    match path.strip_prefix(base) {
        Some(rest) => rest.is_empty() || rest.starts_with(b"/"),
        None => false,
    }
}

/// Whether --skip-mnt names it.
pub(super) fn is_skipped(host: &Host, info: &MountInfo) -> bool {
    host.options.skips(&info.mountpoint)
}

pub(super) fn type_of(info: &MountInfo) -> &[u8] {
    // "fuse.sshfs": the parser may or may not have split the subtype off already.
    info.fstype.split(|b| *b == b'.').next().unwrap_or_default()
}

// The path rules ask for a mount by its id and whether it is hidden.
#[allow(dead_code)]
impl<'a> Model<'a> {
    pub fn new(ctx: &Ctx<'a>) -> Model<'a> {
        let snap = ctx.snap;
        let criu_ns = snap.criu.ns.mnt;
        let root_ns = snap.root_task().and_then(|t| t.ns.mnt);
        let cgroup_ns = snap.root_shares(|n| n.cgroup) == Some(false);
        // CRIU's own namespace is in the list only when the root task lives in it.
        let tables = snap.mounts.iter().filter(|t| Some(t.ns) == root_ns || Some(t.ns) != criu_ns);
        let mut model = Model {
            nodes: Vec::new(),
            dropped: Vec::new(),
            groups: HashMap::new(),
            by_id: HashMap::new(),
            root_ns,
            cgroup_ns,
            dumped: snap.root_shares(|n| n.mnt) == Some(false),
            validated: false,
            known: ctx.host.externals.is_some()
                && ctx.host.options.autodetect_ext_mounts.is_some()
                && ctx.host.options.skip_mnt.is_some(),
        };
        for table in tables {
            model.validated |= Some(table.ns) != criu_ns;
            model.add(table, cgroup_ns, ctx.host);
        }
        model.join_binds(cgroup_ns);
        model.find_externals(ctx, cgroup_ns);
        model
    }

    fn add(&mut self, table: &'a MountTable, cgroup_ns: bool, host: &Host) {
        let start = self.nodes.len();
        for info in &table.mounts {
            if type_of(info) == b"tracefs" || is_skipped(host, info) {
                self.dropped.push((table.ns, info));
                continue;
            }
            let root = if cgroup_ns && is_cgroup(info) { b"/".as_slice() } else { root_of(info) };
            self.by_id.insert(info.mnt_id, self.nodes.len());
            self.nodes.push(Node {
                info,
                table,
                parent: None,
                children: Vec::new(),
                group: self.nodes.len(),
                external: External::No,
                root,
                overmounted: OnceCell::new(),
            });
        }
        for i in start..self.nodes.len() {
            let Some(node) = self.nodes.get(i) else { continue };
            let parent = (node.info.parent != node.info.mnt_id).then(|| self.by_id.get(&node.info.parent)).flatten();
            let Some(parent) = parent.copied().filter(|p| *p >= start) else { continue };
            if let Some(n) = self.nodes.get_mut(i) {
                n.parent = Some(parent);
            }
            if let Some(p) = self.nodes.get_mut(parent) {
                p.children.push(i);
            }
        }
    }

    /// search_bindmounts: who shares a superblock.
    fn join_binds(&mut self, cgroup_ns: bool) {
        let mut first: HashMap<(u32, u32), Vec<usize>> = HashMap::new();
        for i in 0..self.nodes.len() {
            let Some(info) = self.nodes.get(i).map(|n| n.info) else { continue };
            let same_dev = first.entry((info.major, info.minor)).or_default();
            let is_same = |g: &usize| self.nodes.get(*g).is_some_and(|n| sb_equal(n.info, info, cgroup_ns));
            let group = same_dev.iter().copied().find(is_same);
            let group = group.unwrap_or_else(|| {
                same_dev.push(i);
                i
            });
            if let Some(n) = self.nodes.get_mut(i) {
                n.group = group;
            }
            self.groups.entry(group).or_default().push(i);
        }
    }

    /// resolve_external_mounts.
    fn find_externals(&mut self, ctx: &Ctx<'a>, cgroup_ns: bool) {
        let auto = ctx.host.options.autodetect_ext_mounts == Some(true);
        let outside = snap_outside(ctx);
        for i in 0..self.nodes.len() {
            let Some(node) = self.nodes.get(i) else { continue };
            if node.parent.is_none() || *node.info.mountpoint == *b"/" {
                continue;
            }
            let found = self.named(node, ctx.host).or_else(|| {
                let known = |list| autodetect(list, node, ctx.host, cgroup_ns);
                (auto && outside.is_some_and(known)).then_some(External::Mount)
            });
            if let (Some(ext), Some(n)) = (found, self.nodes.get_mut(i)) {
                n.external = ext;
            }
        }
    }

    /// try_resolve_ext_mount.
    fn named(&self, node: &Node, host: &Host) -> Option<External> {
        let key = [b"mnt[", &*criu_name(&node.info.mountpoint), b"]"].concat();
        // Only in the root task's own namespace: elsewhere the same path is another mount, and CRIU's is not dumped.
        if self.dumped && Some(node.table.ns) == self.root_ns && has_value(host, &key) {
            return Some(External::Mount);
        }
        let dev = format!("dev[{}/{}]", node.info.major, node.info.minor);
        let unsupported = self.supported(node, host) != Some(true);
        (unsupported && node.root == b"/" && has_value(host, dev.as_bytes())).then_some(External::Device)
    }

    /// Whether CRIU knows the file system, by itself or by `--enable-fs`; `None`: it depends on `--enable-fs`, which is
    /// not known.
    pub fn supported(&self, node: &Node, host: &Host) -> Option<bool> {
        let name = type_of(node.info);
        if SUPPORTED.contains(&name) {
            return Some(true);
        }
        // Btrfs is found in CRIU's table by its name, so --enable-fs is never asked.
        if name == b"btrfs" {
            return Some(false);
        }
        let enabled = host.options.enable_fs.as_ref()?;
        Some(enabled.iter().flat_map(|l| l.split(|b| *b == b',')).any(|n| n == b"all" || n == name))
    }

    /// The mounts of the same superblock, the given one too.
    pub fn binds(&self, node: &Node) -> impl Iterator<Item = &Node<'a>> + '_ {
        self.groups.get(&node.group).into_iter().flatten().filter_map(|i| self.nodes.get(*i))
    }

    /// mnt_is_external_bind: it, or a mount of the same superblock that holds its root, is external.
    pub fn is_external_bind(&self, node: &Node) -> bool {
        self.binds(node).any(|b| b.external != External::No && is_sub_path(node.root, b.root))
    }

    /// mnt_is_root_bind: the same for the root mount of the root task's namespace.
    pub fn is_root_bind(&self, node: &Node) -> bool {
        self.binds(node).any(|b| self.is_tree_root_mount(b) && is_sub_path(node.root, b.root))
    }

    fn is_tree_root_mount(&self, node: &Node) -> bool {
        *node.info.mountpoint == *b"/" && Some(node.table.ns) == self.root_ns
    }

    /// find_fsroot_mount_for: another mount, of the whole or the root of a tree, that this one can be bound from.
    pub fn has_fsroot(&self, node: &Node) -> bool {
        let mut others = self.binds(node).filter(|b| b.info.mnt_id != node.info.mnt_id);
        others.any(|b| b.root == b"/" || (b.parent.is_none() && node.root.starts_with(b.root)))
    }

    /// can_receive_master_from_external, can_receive_master_from_root.
    pub fn master_from_outside(&self, node: &Node) -> bool {
        self.binds(node).any(|b| {
            (b.external == External::Mount || self.is_tree_root_mount(b))
                && b.info.master == node.info.master
                && is_sub_path(node.root, b.root)
        })
    }

    /// Another collected mount is in the peer group that this one is a slave of.
    pub fn has_master(&self, node: &Node) -> bool {
        node.info.master.is_none()
            || self.nodes.iter().any(|t| t.info.mnt_id != node.info.mnt_id && t.info.shared == node.info.master)
    }

    pub fn parent(&self, node: &Node) -> Option<&Node<'a>> {
        self.nodes.get(node.parent?)
    }

    pub fn children(&self, node: &Node) -> impl Iterator<Item = &Node<'a>> + '_ {
        self.nodes.get(node_index(self, node)).into_iter().flat_map(|n| &n.children).filter_map(|i| self.nodes.get(*i))
    }

    /// The mount with this id, if CRIU collects it.
    pub fn by_id(&self, mnt_id: u64) -> Option<&Node<'a>> {
        self.nodes.get(*self.by_id.get(&i32::try_from(mnt_id).ok()?)?)
    }

    /// mnt_is_overmounted: covered by a sibling of it or of an ancestor, or by a child on the same mountpoint.
    pub fn is_overmounted(&self, node: &Node) -> bool {
        *node.overmounted.get_or_init(|| self.overmounted(node))
    }

    fn overmounted(&self, node: &Node) -> bool {
        let mut at = node;
        while let Some(parent) = self.parent(at) {
            let covered = self
                .children(parent)
                .any(|t| t.info.mnt_id != at.info.mnt_id && is_sub_path(&at.info.mountpoint, &t.info.mountpoint));
            if covered {
                return true;
            }
            at = parent;
        }
        self.children(node).any(|c| c.info.mountpoint == node.info.mountpoint)
    }

    /// A dropped mount that hides this one: CRIU opens the mountpoint of a mount without children that no other one covers,
    /// as far as it knows, and finds what is on top (`open_mountpoint`, criu/mount.c). It does not notice if that is of the
    /// same device.
    pub fn hidden_by(&self, node: &Node) -> Option<&'a MountInfo> {
        if self.dropped.is_empty() || !node.children.is_empty() || self.is_overmounted(node) {
            return None;
        }
        let dev = (node.info.major, node.info.minor);
        let here = |(ns, info): &&(u64, &MountInfo)| *ns == node.table.ns && (info.major, info.minor) != dev;
        let dropped = || self.dropped.iter().filter(here).map(|(_, info)| *info);
        let on_it = |t: &&MountInfo| t.parent == node.info.mnt_id && t.mountpoint == node.info.mountpoint;
        if let Some(found) = dropped().find(on_it) {
            return Some(found);
        }
        let mut at = Some(node);
        while let Some(n) = at {
            let beside = |t: &&MountInfo| t.parent == n.info.parent && is_sub_path(&n.info.mountpoint, &t.mountpoint);
            if let Some(found) = dropped().find(beside) {
                return Some(found);
            }
            at = self.parent(n);
        }
        None
    }

    /// mounts_equal, once the external ones are known: their types and sources do not count any more.
    pub fn same_mount(&self, a: &Node, b: &Node) -> bool {
        let external = a.external != External::No || b.external != External::No;
        let same_dev = (a.info.major, a.info.minor) == (b.info.major, b.info.minor);
        let same = if external { same_options(a.info, b.info) } else { sb_equal(a.info, b.info, self.cgroup_ns) };
        same_dev && same && a.root == b.root
    }

    /// What a finding about a mount is worth when the externals or the skipped mounts are not known.
    pub fn gate(&self) -> Gate {
        if self.known {
            Gate::Stands
        } else {
            Gate::Unknown
        }
    }
}

/// A name of the table as CRIU has it (`cure_path`, criu/proc_parse.c): it knows the kernel's escapes for blank, tab and
/// backslash, but not the one for newline.
pub(super) fn criu_name(name: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    if !name.contains(&b'\n') {
        return name.into();
    }
    let parts: Vec<&[u8]> = name.split(|b| *b == b'\n').collect();
    parts.join(b"\\012".as_slice()).into()
}

fn node_index(model: &Model, node: &Node) -> usize {
    model.by_id.get(&node.info.mnt_id).copied().unwrap_or(usize::MAX)
}

/// The root without the mark of a deleted one (parse_mountinfo_ent strips it).
fn root_of(info: &MountInfo) -> &[u8] {
    let root: &[u8] = &info.root;
    match root.strip_suffix(b"//deleted") {
        Some(stripped) => stripped,
        None => root.strip_suffix(b" (deleted)").unwrap_or(root),
    }
}

/// external_lookup_by_key with a value: an entry without one counts as absent here.
fn has_value(host: &Host, key: &[u8]) -> bool {
    let Some(list) = &host.externals else { return false };
    let entry = list.iter().find_map(|e| match e.strip_prefix(key) {
        Some([]) => Some(false),
        Some([b':', ..]) => Some(true),
        _ => None,
    });
    entry == Some(true)
}

fn is_cgroup(info: &MountInfo) -> bool {
    matches!(type_of(info), b"cgroup" | b"cgroup2")
}

/// mounts_sb_equal at the time of search_bindmounts, when nothing is external yet. The devices are equal already.
fn sb_equal(a: &MountInfo, b: &MountInfo, cgroup_ns: bool) -> bool {
    if a.source != b.source || type_of(a) != type_of(b) {
        return false;
    }
    // Whose root is taken for "/" is known by the true one (cgroup_sb_equal).
    if cgroup_ns && is_cgroup(a) && a.root != b.root {
        return false;
    }
    same_options(a, b)
}

/// The rest of mounts_sb_equal: what the type compares, or the options.
fn same_options(a: &MountInfo, b: &MountInfo) -> bool {
    match type_of(a) {
        b"btrfs" => match (without_subvol(&a.super_options), without_subvol(&b.super_options)) {
            (Some(a), Some(b)) => a == b,
            _ => false,
        },
        _ => options(a) == options(b),
    }
}

/// The super options but for those that are flags of CRIU's (parse_sb_opt).
fn options(info: &MountInfo) -> Vec<&[u8]> {
    let flags: &[&[u8]] = &[b"rw", b"ro", b"sync", b"dirsync"];
    info.super_options.split(|b| *b == b',').filter(|o| !flags.contains(o)).collect()
}

/// btrfs_sb_equal: what stands before `subvol=` and after its value; `None` without it.
fn without_subvol(options: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = options.windows(7).position(|w| w == b"subvol=")?;
    let (head, tail) = options.split_at_checked(at)?;
    let rest = tail.iter().position(|b| *b == b',').and_then(|c| tail.get(c..)).unwrap_or_default();
    Some((head, rest))
}

/// CRIU's own mounts, for `--external mnt[]`.
fn snap_outside<'a>(ctx: &Ctx<'a>) -> Option<&'a MountTable> {
    let ns = ctx.snap.criu.ns.mnt?;
    ctx.snap.mounts.iter().find(|t| t.ns == ns)
}

/// find_best_external_match and what resolve_external_mounts makes of the match.
fn autodetect(outside: &MountTable, node: &Node, host: &Host, cgroup_ns: bool) -> bool {
    let mount = node.info;
    let mut candidate = None;
    // CRIU's list of a table begins with its last line, and the last candidate counts.
    for it in outside.mounts.iter().rev() {
        let same = (it.major, it.minor) == (mount.major, mount.minor) && sb_equal(it, mount, cgroup_ns);
        let root = if cgroup_ns && is_cgroup(it) { b"/" } else { root_of(it) };
        if !same || !is_sub_path(node.root, root) {
            continue;
        }
        candidate = Some(it);
        let shared = mount.shared.is_some() && mount.shared == it.shared;
        let slave = mount.master.is_some() && mount.master == it.shared;
        if shared || slave {
            break;
        }
    }
    let Some(matched) = candidate else { return false };
    if mount.shared.is_some() && host.options.enable_external_sharing != Some(true) {
        return false;
    }
    if mount.master.is_some() {
        if host.options.enable_external_masters != Some(true) {
            return false;
        }
        return mount.master == matched.shared || mount.master == matched.master;
    }
    true
}
