//! Which paths the frozen look need not ask for again.

use crate::hash::{Map, Set};
use crate::scan::fd::paths::Key;
use crate::snapshot::{MountTable, OpenFile};
use std::hash::{BuildHasher, Hash, Hasher};

/// So many are kept from one look for the next.
const MAX: usize = 1 << 18;

/// Files whose paths a look at the running tree saw to be right. The frozen look asks again only what has changed, and all
/// if a mount has: what is mounted over a directory changes nothing of the files below.
#[derive(Debug, Default)]
pub(crate) struct Right {
    files: Set<Key>,
    /// Of the mounts as they were: [`Right::hash`].
    mounts: u64,
    hasher: foldhash::fast::RandomState,
}

impl Right {
    /// What is still right, with these mounts.
    pub(crate) fn take(&mut self, tables: &[MountTable]) -> Set<Key> {
        let files = std::mem::take(&mut self.files);
        if self.hash(tables) == self.mounts {
            files
        } else {
            Set::default()
        }
    }

    pub(crate) fn keep(&mut self, files: impl Iterator<Item = Key>, tables: &[MountTable]) {
        (self.files, self.mounts) = (files.take(MAX).collect(), self.hash(tables));
    }

    fn hash(&self, tables: &[MountTable]) -> u64 {
        let mut hash = self.hasher.build_hasher();
        for table in tables {
            table.ns.hash(&mut hash);
            for m in &table.mounts {
                (m.mnt_id, m.parent, m.major, m.minor, &m.root, &m.mountpoint).hash(&mut hash);
            }
        }
        hash.finish()
    }
}

/// What the mounts, as they were read, leave in sight.
///
/// A path that was right although they cover it was looked up when they had changed; should they be the same again in the frozen
/// look (the kernel gives a mount the number of one that has gone), they cover it.
pub(crate) struct Covers<'a>(Map<u64, (usize, u64)>, Vec<Map<&'a [u8], Vec<u64>>>);

impl<'a> Covers<'a> {
    pub(crate) fn of(tables: &'a [MountTable]) -> Self {
        let (mut parents, mut points) = (Map::default(), Vec::new());
        for (index, table) in tables.iter().enumerate() {
            let mut at: Map<&[u8], Vec<u64>> = Map::default();
            for m in &table.mounts {
                let (Ok(id), Ok(parent)) = (u64::try_from(m.mnt_id), u64::try_from(m.parent)) else { continue };
                parents.insert(id, (index, parent));
                at.entry(m.mountpoint.strip_suffix(b"/").unwrap_or(&m.mountpoint)).or_default().push(id);
            }
            points.push(at);
        }
        Covers(parents, points)
    }

    /// Whether nothing is mounted on the way to the file but its own mount and those that this is mounted on.
    pub(crate) fn leave(&self, file: &OpenFile, path: &[u8]) -> bool {
        let Some(own) = file.attr.mnt_id else { return false };
        let Some(points) = self.0.get(&own).and_then(|(table, _)| self.1.get(*table)) else { return false };
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let mut on_the_way = ends.chain([path.len()]).filter_map(|end| points.get(path.get(..end)?)).flatten();
        on_the_way.all(|mount| self.is_above(*mount, own))
    }

    /// Whether `mount` is `below`, or what that is mounted on.
    fn is_above(&self, mount: u64, below: u64) -> bool {
        let mut at = below;
        // A table is read while it changes: its parents may lead in a circle.
        for _ in 0..64 {
            if at == mount {
                return true;
            }
            match self.0.get(&at) {
                Some((_, parent)) if *parent != at => at = *parent,
                _ => return false,
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testkit;
    use crate::scan::fd::paths::Name;
    use crate::snapshot::Dev;

    const ROOT: &str = "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n";
    const OVER: &str = "30 21 0:40 / /files rw - tmpfs none rw\n";

    fn tables(text: &str) -> Vec<MountTable> {
        let mounts = crate::parse::mountinfo::parse(text.as_bytes()).items;
        vec![MountTable { ns: 1, pid: 1, mounts, filled: Vec::new(), masters: Vec::new(), bad: 0 }]
    }

    #[test]
    fn nothing_is_known_to_be_right_any_more_when_something_was_mounted() {
        let over = format!("{ROOT}{OVER}");
        let key: Key = (Name::Fd(3), Dev { major: 8, minor: 1 }, 12, 21, (0, 0));
        let left = |before: &str, now: &str| {
            let mut right = Right::default();
            right.keep([key].into_iter(), &tables(before));
            right.take(&tables(now)).len()
        };
        assert_eq!((left(ROOT, ROOT), left(ROOT, &over), left(&over, ROOT)), (1, 0, 0));
        assert_eq!(Right::default().take(&tables(ROOT)).len(), 0);
    }

    #[test]
    fn what_is_mounted_on_the_way_covers_a_path() {
        let tables = tables(&format!("{ROOT}{OVER}31 30 0:41 / /files/a/b rw - tmpfs none rw\n"));
        let covers = Covers::of(&tables);
        let leave = |mount: Option<u64>, path: &str| {
            let file = testkit::with_attr(testkit::file(3, libc::S_IFREG, 9), |a| a.mnt_id = mount);
            covers.leave(&file, path.as_bytes())
        };
        assert!(leave(Some(21), "/other") && leave(Some(21), "/filesystem/a") && leave(Some(21), "/"));
        assert!(leave(Some(30), "/files/a") && leave(Some(30), "/files") && leave(Some(31), "/files/a/b/c"));
        assert!(!leave(Some(21), "/files") && !leave(Some(21), "/files/a") && !leave(Some(30), "/files/a/b"));
        assert!(!leave(Some(99), "/other") && !leave(None, "/other"));
    }
}
