//! Mounts that CRIU finds in its own table, and takes for external, with `--external mnt[]` (criu/mount.c).

use crate::criu::Host;
use crate::criu_model::mounts::{is_sub_path, Node};
use crate::criu_model::superblock::{is_cgroup, root_of, superblock, Superblock};
use crate::parse::mountinfo::MountInfo;
use crate::snapshot::{MountTable, Snapshot};
use std::collections::HashMap;

/// CRIU's own mounts, for `--external mnt[]`.
pub(crate) fn own_table(snap: &Snapshot) -> Option<&MountTable> {
    let ns = snap.criu.ns.mnt?;
    snap.mounts.iter().find(|t| t.ns == ns)
}

/// The same by superblock.
pub(crate) struct Outside<'a> {
    cgroup_ns: bool,
    /// CRIU's list of a table begins with its last line.
    mounts: HashMap<Superblock<'a>, Vec<&'a MountInfo>>,
}

impl<'a> Outside<'a> {
    pub(crate) fn new(table: &'a MountTable, cgroup_ns: bool) -> Self {
        let mut mounts: HashMap<_, Vec<_>> = HashMap::new();
        for info in table.mounts.iter().rev() {
            if let Some(sb) = superblock(info, cgroup_ns) {
                mounts.entry(sb).or_default().push(info);
            }
        }
        Outside { cgroup_ns, mounts }
    }

    pub(crate) fn has(&self, node: &Node, host: &Host) -> bool {
        let same = superblock(node.info, self.cgroup_ns).and_then(|sb| self.mounts.get(&sb));
        autodetect(same.map(Vec::as_slice).unwrap_or_default(), node, host, self.cgroup_ns)
    }
}

/// find_best_external_match and what resolve_external_mounts makes of the match.
fn autodetect(same: &[&MountInfo], node: &Node, host: &Host, cgroup_ns: bool) -> bool {
    let mount = node.info;
    let mut candidate = None;
    // The last candidate counts.
    for it in same {
        let root = if cgroup_ns && is_cgroup(it) { b"/" } else { root_of(it) };
        if !is_sub_path(node.root, root) {
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
