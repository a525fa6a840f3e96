//! The mount table as CRIU builds it before it validates: which file systems it knows, which mounts are external, which
//! are binds of each other, which are hidden.
//!
//! Mirrors criu/mount.c of 3.17.1 to 4.2 (the dump side is the same in all): collect_mnt_namespaces, search_bindmounts,
//! resolve_external_mounts, mnt_is_overmounted; and the table of criu/filesystems.c.

use crate::criu::{externals, Gate, Host};
use crate::criu_model::mount_binds::Binds;
use crate::criu_model::outside_mounts::{own_table, Outside};
use crate::criu_model::prefixes::{as_directory, Prefixes};
pub(crate) use crate::criu_model::superblock::type_of;
use crate::criu_model::superblock::{is_cgroup, root_of, same_options, sb_equal, superblock, Superblock};
use crate::parse::mountinfo::MountInfo;
use crate::snapshot::{Dev, MountTable, Snapshot};
use std::cell::OnceCell;
use std::collections::HashMap;

/// So many mounts on top of each other are looked through for each: of more nothing is said.
const MAX_STACK: usize = 64;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum External {
    No,
    /// By `--external mnt[...]`, or found by `mnt[]`.
    Mount,
    /// By `--external dev[...]`: does not pass on its sharing.
    Device,
}

/// One mount with what CRIU derives for it.
pub(crate) struct Node<'a> {
    pub info: &'a MountInfo,
    pub table: &'a MountTable,
    /// Index of the parent in the same table; `None`: the root of the tree, or no parent was found.
    pub parent: Option<usize>,
    pub children: Vec<usize>,
    /// Index of its [`Binds`].
    group: usize,
    pub external: External,
    /// The root inside the file system as CRIU takes it ("/" for cgroups seen from another cgroup namespace).
    pub root: &'a [u8],
    /// Covered by a sibling of it or of an ancestor.
    covered: bool,
    /// What is asked for each file that lies on it, and takes all its children, or parents, to answer.
    asked: Asked,
}

#[derive(Default)]
struct Asked {
    has_child_on_it: OnceCell<bool>,
    covered_at_restore: OnceCell<bool>,
    below: OnceCell<Prefixes>,
    hidden: OnceCell<bool>,
}

/// All mounts that CRIU collects.
pub(crate) struct Model<'a> {
    pub nodes: Vec<Node<'a>>,
    /// What CRIU drops while it reads the tables (`should_skip_mount`, criu/proc_parse.c), by namespace and parent: tracefs
    /// and what --skip-mnt names. What depends on them is noticed later.
    dropped: HashMap<(u64, i32), Vec<&'a MountInfo>>,
    /// The mounts of each superblock.
    groups: Vec<Binds>,
    by_id: HashMap<i32, usize>,
    /// The first of each device.
    by_device: HashMap<Dev, usize>,
    /// How many mounts are members of a peer group.
    peers: HashMap<u32, usize>,
    /// By namespace, the first mount on / without a parent.
    roots: HashMap<u64, i32>,
    root_ns: Option<u64>,
    /// It has a cgroup namespace of its own.
    cgroup_ns: bool,
    /// The root task has a mount namespace of its own: CRIU dumps the mounts, and `--external mnt[...]` counts in it.
    pub dumped: bool,
    /// CRIU validates: some collected namespace is not its own.
    pub validated: bool,
    /// The mounts, the externals and the skipped mounts are known.
    known: bool,
}

/// `issubpath`/`is_sub_path`: path is below, or the same as, base.
pub(crate) fn is_sub_path(path: &[u8], base: &[u8]) -> bool {
    let base = base.strip_suffix(b"/").unwrap_or(base);
    match path.strip_prefix(base) {
        Some(rest) => rest.is_empty() || rest.starts_with(b"/"),
        None => false,
    }
}

/// Whether --skip-mnt names it.
pub(crate) fn is_skipped(host: &Host, info: &MountInfo) -> bool {
    host.options.skips(&info.mountpoint)
}

impl<'a> Model<'a> {
    pub(crate) fn new(snap: &'a Snapshot, host: &Host) -> Model<'a> {
        let criu_ns = snap.criu.ns.mnt;
        let root_ns = snap.root_task().and_then(|t| t.ns.mnt);
        let cgroup_ns = snap.root_shares(|n| n.cgroup) == Some(false);
        // CRIU's own namespace is in the list only when the root task lives in it.
        let tables = snap.mounts.iter().filter(|t| Some(t.ns) == root_ns || Some(t.ns) != criu_ns);
        let mut model = Model {
            nodes: Vec::new(),
            dropped: HashMap::new(),
            groups: Vec::new(),
            by_id: HashMap::new(),
            by_device: HashMap::new(),
            peers: HashMap::new(),
            roots: HashMap::new(),
            root_ns,
            cgroup_ns,
            dumped: snap.root_shares(|n| n.mnt) == Some(false),
            validated: false,
            known: snap.knows_mounts()
                && host.externals.is_some()
                && host.options.autodetect_ext_mounts.is_some()
                && host.options.skip_mnt.is_some(),
        };
        for table in tables {
            model.validated |= Some(table.ns) != criu_ns;
            model.add(table, cgroup_ns, host);
        }
        for node in &model.nodes {
            if let Some(peers) = node.info.shared {
                let members = model.peers.entry(peers).or_default();
                *members = members.saturating_add(1);
            }
            if node.parent.is_none() && *node.info.mountpoint == *b"/" {
                model.roots.entry(node.table.ns).or_insert(node.info.mnt_id);
            }
        }
        model.find_covered();
        let groups = model.join_binds();
        model.find_externals(snap, host);
        model.groups = groups.into_iter().map(|members| Binds::new(&model, members)).collect();
        model
    }

    fn add(&mut self, table: &'a MountTable, cgroup_ns: bool, host: &Host) {
        let start = self.nodes.len();
        for info in &table.mounts {
            if type_of(info) == b"tracefs" || is_skipped(host, info) {
                self.dropped.entry((table.ns, info.parent)).or_default().push(info);
                continue;
            }
            let root = if cgroup_ns && is_cgroup(info) { b"/".as_slice() } else { root_of(info) };
            self.by_id.insert(info.mnt_id, self.nodes.len());
            self.by_device.entry(Dev { major: info.major, minor: info.minor }).or_insert(self.nodes.len());
            self.nodes.push(Node {
                info,
                table,
                parent: None,
                children: Vec::new(),
                group: 0,
                external: External::No,
                root,
                covered: false,
                asked: Asked::default(),
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
    fn join_binds(&mut self) -> Vec<Vec<usize>> {
        let mut groups: Vec<Vec<usize>> = Vec::new();
        let mut first: HashMap<Superblock, usize> = HashMap::new();
        for (i, node) in self.nodes.iter_mut().enumerate() {
            let group = superblock(node.info, self.cgroup_ns).map(|sb| *first.entry(sb).or_insert(groups.len()));
            node.group = group.unwrap_or(groups.len());
            match groups.get_mut(node.group) {
                Some(members) => members.push(i),
                None => groups.push(vec![i]),
            }
        }
        groups
    }

    /// Which mounts a sibling of theirs or of an ancestor covers: each after its parent. (In a table that was read while
    /// mounts moved, a mount may be its own ancestor; it is left as it is.)
    fn find_covered(&mut self) {
        let mut todo: Vec<usize> = (0..self.nodes.len()).collect();
        todo.retain(|i| self.nodes.get(*i).is_some_and(|n| n.parent.is_none()));
        while let Some(parent) = todo.pop().and_then(|i| self.nodes.get(i)) {
            let point = |i: &usize| Some(as_directory(&self.nodes.get(*i)?.info.mountpoint));
            let points = Prefixes::of(parent.children.iter().filter_map(point));
            let mut equal: HashMap<Vec<u8>, usize> = HashMap::new();
            for point in parent.children.iter().filter_map(point) {
                let number = equal.entry(point).or_default();
                *number = number.saturating_add(1);
            }
            let inherited = parent.covered;
            let covers = |point: Vec<u8>| {
                points.shortest(&point).is_some_and(|p| p != point) || equal.get(&point).is_some_and(|n| *n > 1)
            };
            let covered: Vec<(usize, bool)> =
                parent.children.iter().filter_map(|i| Some((*i, inherited || covers(point(i)?)))).collect();
            for (i, covered) in covered {
                if let Some(node) = self.nodes.get_mut(i) {
                    node.covered = covered;
                }
                todo.push(i);
            }
        }
    }

    /// resolve_external_mounts.
    fn find_externals(&mut self, snap: &'a Snapshot, host: &Host) {
        let auto = host.options.autodetect_ext_mounts == Some(true);
        let outside = Some(snap).filter(|_| auto).and_then(own_table).map(|t| Outside::new(t, self.cgroup_ns));
        for i in 0..self.nodes.len() {
            let Some(node) = self.nodes.get(i) else { continue };
            if node.parent.is_none() || *node.info.mountpoint == *b"/" {
                continue;
            }
            let found = self.named(node, host).or_else(|| {
                let known = |outside: &Outside| outside.has(node, host);
                outside.as_ref().is_some_and(known).then_some(External::Mount)
            });
            if let (Some(ext), Some(n)) = (found, self.nodes.get_mut(i)) {
                n.external = ext;
            }
        }
    }

    /// try_resolve_ext_mount.
    fn named(&self, node: &Node, host: &Host) -> Option<External> {
        let given = |key: &[u8]| host.gate_named_external(key) == Gate::Waived;
        // Only in the root task's own namespace: elsewhere the same path is another mount, and CRIU's is not dumped.
        if self.dumped
            && Some(node.table.ns) == self.root_ns
            && given(&externals::mnt(&criu_name(&node.info.mountpoint)))
        {
            return Some(External::Mount);
        }
        let unsupported = self.supported(node, host) != Some(true);
        let named = || given(externals::dev(node.info.major, node.info.minor).as_bytes());
        (unsupported && node.root == b"/" && named()).then_some(External::Device)
    }

    /// Whether CRIU knows the file system, by itself or by `--enable-fs`; `None`: it depends on `--enable-fs`, which is
    /// not known.
    pub(crate) fn supported(&self, node: &Node, host: &Host) -> Option<bool> {
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
    fn binds(&self, node: &Node) -> Option<&Binds> {
        self.groups.get(node.group)
    }

    /// mnt_is_external_bind: it, or a mount of the same superblock that holds its root, is external.
    pub(crate) fn is_external_bind(&self, node: &Node) -> bool {
        self.binds(node).is_some_and(|b| b.external.hold(node.root))
    }

    /// mnt_is_root_bind: the same for the root mount of the root task's namespace.
    pub(crate) fn is_root_bind(&self, node: &Node) -> bool {
        self.binds(node).is_some_and(|b| b.tree_root.hold(node.root))
    }

    pub(crate) fn is_tree_root_mount(&self, node: &Node) -> bool {
        *node.info.mountpoint == *b"/" && Some(node.table.ns) == self.root_ns
    }

    /// find_fsroot_mount_for: another mount, of the whole or the root of a tree, that this one can be bound from.
    pub(crate) fn has_fsroot(&self, node: &Node) -> bool {
        self.binds(node).is_some_and(|b| b.has_fsroot_for(node))
    }

    /// can_receive_master_from_external, can_receive_master_from_root.
    pub(crate) fn master_from_outside(&self, node: &Node) -> bool {
        self.binds(node).and_then(|b| b.masters.get(&node.info.master)).is_some_and(|roots| roots.hold(node.root))
    }

    /// The mounts of the whole of its superblock.
    pub(crate) fn wholes(&self, node: &Node) -> impl Iterator<Item = &Node<'a>> + '_ {
        self.binds(node).into_iter().flat_map(|b| &b.wholes).filter_map(|i| self.nodes.get(*i))
    }

    /// Something that is the same for all mounts of a superblock.
    pub(crate) fn of_superblock(
        &self,
        node: &Node,
        pick: fn(&Binds) -> &OnceCell<bool>,
        find: impl FnOnce() -> bool,
    ) -> bool {
        self.binds(node).is_some_and(|b| *pick(b).get_or_init(find))
    }

    /// Another collected mount is in the peer group that this one is a slave of.
    pub(crate) fn has_master(&self, node: &Node) -> bool {
        let Some(master) = node.info.master else { return true };
        let itself = usize::from(node.info.shared == Some(master));
        self.peers.get(&master).is_some_and(|members| *members > itself)
    }

    /// The root of the tree of mounts in its namespace.
    pub(crate) fn is_namespace_root(&self, node: &Node) -> bool {
        self.roots.get(&node.table.ns) == Some(&node.info.mnt_id)
    }

    /// The first mount of a device that CRIU collects.
    pub(crate) fn first_of_device(&self, dev: Dev) -> Option<&Node<'a>> {
        self.nodes.get(*self.by_device.get(&dev)?)
    }

    pub(crate) fn parent(&self, node: &Node) -> Option<&Node<'a>> {
        self.nodes.get(node.parent?)
    }

    pub(crate) fn children(&self, node: &Node) -> impl Iterator<Item = &Node<'a>> + '_ {
        self.nodes.get(node_index(self, node)).into_iter().flat_map(|n| &n.children).filter_map(|i| self.nodes.get(*i))
    }

    /// The mount with this id, if CRIU collects it.
    pub(crate) fn by_id(&self, mnt_id: u64) -> Option<&Node<'a>> {
        self.nodes.get(*self.by_id.get(&i32::try_from(mnt_id).ok()?)?)
    }

    /// mnt_is_overmounted: covered by a sibling of it or of an ancestor, or by a child on the same mountpoint.
    pub(crate) fn is_overmounted(&self, node: &Node) -> bool {
        let on_it = || self.children(node).any(|c| c.info.mountpoint == node.info.mountpoint);
        node.covered || *node.asked.has_child_on_it.get_or_init(on_it)
    }

    /// Whether the path leads to another mount, which is below this one.
    pub(crate) fn leads_below(&self, node: &Node, path: &[u8]) -> bool {
        let children = || Prefixes::of_directories(self.children(node).map(|c| &*c.info.mountpoint));
        node.asked.below.get_or_init(children).hold(path)
    }

    /// Whether the restore takes this mount for a covered one, though it is visible: there each mount is looked at after its parent,
    /// and one whose parent is covered counts as covered, too, also if it is what covers it (`mnt_is_overmounted`, called by
    /// `prepare_is_overmounted`, criu/mount.c, 3.17.1 to 4.3).
    pub(crate) fn is_overmounted_at_restore(&self, node: &Node) -> bool {
        let parents = std::iter::successors(Some(node), |n| self.parent(n)).take(self.nodes.len());
        let mut open = Vec::new();
        let known = parents.into_iter().find_map(|n| {
            open.push(n);
            n.asked.covered_at_restore.get().copied()
        });
        let covered = |above, n: &&Node| *n.asked.covered_at_restore.get_or_init(|| above || self.is_overmounted(n));
        open.iter().rev().fold(known.unwrap_or(false), covered)
    }

    /// Whether a dropped mount hides this one: CRIU opens the mountpoint of a mount without children that no other one covers,
    /// as far as it knows, and finds what is on top (`open_mountpoint`, criu/mount.c). It does not notice if that is of the
    /// same device.
    pub(crate) fn is_hidden(&self, node: &Node<'a>) -> bool {
        *node.asked.hidden.get_or_init(|| self.finds_dropped(node) || self.unmounts_dropped(node))
    }

    /// Whether CRIU, which unmounts as many as it knows to cover this one from the mountpoint, takes away dropped ones that lie on
    /// top, and finds one that it meant to unmount (`ns_open_mountpoint`, criu/mount.c).
    fn unmounts_dropped(&self, node: &Node<'a>) -> bool {
        if self.dropped.is_empty() || node.covered {
            return false;
        }
        let here = |info: &&MountInfo| info.mountpoint == node.info.mountpoint;
        let on = |n: &Node<'a>| self.children(n).find(|c| here(&c.info));
        let known: Vec<&Node> = std::iter::successors(on(node), |n| on(n)).take(MAX_STACK).collect();
        let Some(top) = known.last() else { return false };
        let on = |id: i32| self.dropped.get(&(node.table.ns, id)).into_iter().flatten().copied().find(here);
        let unknown = std::iter::successors(on(top.info.mnt_id), |info| on(info.mnt_id)).take(MAX_STACK);
        let unknown: Vec<&MountInfo> = unknown.collect();
        if known.len().max(unknown.len()) == MAX_STACK {
            return false;
        }
        let mut stack = known.iter().map(|n| n.info).chain(unknown.iter().copied());
        let left = unknown.len().checked_sub(1).and_then(|last| stack.nth(last));
        left.is_some_and(|info| (info.major, info.minor) != (node.info.major, node.info.minor))
    }

    fn finds_dropped(&self, node: &Node) -> bool {
        if self.dropped.is_empty() || !node.children.is_empty() || self.is_overmounted(node) {
            return false;
        }
        let dev = (node.info.major, node.info.minor);
        let dropped = |parent: i32| {
            let here = self.dropped.get(&(node.table.ns, parent)).into_iter().flatten();
            here.filter(move |info| (info.major, info.minor) != dev)
        };
        if dropped(node.info.mnt_id).any(|t| t.mountpoint == node.info.mountpoint) {
            return true;
        }
        let mut above = std::iter::successors(Some(node), |n| self.parent(n));
        above.any(|n| dropped(n.info.parent).any(|t| is_sub_path(&n.info.mountpoint, &t.mountpoint)))
    }

    /// What [`Model::same_mount`] compares.
    pub(crate) fn identity(&self, node: &Node<'a>) -> Option<impl Eq + std::hash::Hash + use<'a>> {
        Some((superblock(node.info, self.cgroup_ns)?, node.root, node.external))
    }

    /// mounts_equal, once the external ones are known: their types and sources do not count any more.
    pub(crate) fn same_mount(&self, a: &Node, b: &Node) -> bool {
        let external = a.external != External::No || b.external != External::No;
        let same_dev = (a.info.major, a.info.minor) == (b.info.major, b.info.minor);
        let same = if external { same_options(a.info, b.info) } else { sb_equal(a.info, b.info, self.cgroup_ns) };
        same_dev && same && a.root == b.root
    }

    /// What a finding about a mount is worth when the mounts, the externals or the skipped mounts are not known.
    pub(crate) fn gate(&self) -> Gate {
        if self.known {
            Gate::InForce
        } else {
            Gate::FACT_UNKNOWN
        }
    }
}

/// A name of the table as CRIU has it (`cure_path`, criu/proc_parse.c): it knows the kernel's escapes for blank, tab and
/// backslash, but not the one for newline.
pub(crate) fn criu_name(name: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    if !name.contains(&b'\n') {
        return name.into();
    }
    let parts: Vec<&[u8]> = name.split(|b| *b == b'\n').collect();
    parts.join(b"\\012".as_slice()).into()
}

fn node_index(model: &Model, node: &Node) -> usize {
    model.by_id.get(&node.info.mnt_id).copied().unwrap_or(usize::MAX)
}
