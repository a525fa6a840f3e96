//! Directories that somebody in the tree watches: opening them would be an event.

use crate::hash::Set;
use crate::parse::fdinfo::FanotifyObject;
use crate::snapshot::{Dev, FileAttr, Snapshot};

/// Of which directories a watcher in the tree is notified that they were opened, read or closed.
#[derive(Default)]
pub(super) struct WouldNotify {
    inodes: Set<(Dev, u64)>,
    mounts: Set<u64>,
    devices: Set<Dev>,
}

impl WouldNotify {
    /// `dev`: as mountinfo has it, or stat.
    pub(crate) fn has(&self, dev: Dev, dir: &FileAttr) -> bool {
        self.inodes.contains(&(dev, dir.ino))
            || self.devices.contains(&dev)
            || dir.mnt_id.is_some_and(|id| self.mounts.contains(&id))
    }

    pub(crate) fn of(snap: &Snapshot) -> WouldNotify {
        const TOLD: u32 = libc::IN_OPEN | libc::IN_ACCESS | libc::IN_CLOSE_NOWRITE;
        let infos = || snap.tasks.iter().flat_map(|t| &t.files).filter_map(|f| f.info.as_deref());
        let inotify =
            infos().flat_map(|i| &i.inotify).filter(|w| w.mask & TOLD != 0).map(|w| (Dev::from_sdev(w.sdev), w.ino));
        let fanotify = infos().flat_map(|i| &i.fanotify_marks).filter_map(|m| match m.on {
            FanotifyObject::Inode { ino, sdev, .. } => Some((Dev::from_sdev(sdev), ino)),
            _ => None,
        });
        let mut would_notify = WouldNotify { inodes: inotify.chain(fanotify).collect(), ..WouldNotify::default() };
        for mark in infos().flat_map(|i| &i.fanotify_marks) {
            match mark.on {
                FanotifyObject::Mount { mnt_id } => {
                    would_notify.mounts.insert(u64::from(mnt_id));
                }
                FanotifyObject::Filesystem { sdev } => {
                    would_notify.devices.insert(Dev::from_sdev(sdev));
                }
                _ => {}
            }
        }
        would_notify
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testkit;

    #[test]
    fn a_mark_on_a_mount_or_a_file_system_is_told_of_every_directory_there() {
        let dir = |dev, mnt_id, ino| FileAttr { dev, mnt_id: Some(mnt_id), ino, ..FileAttr::default() };
        let (marked, other) = (Dev { major: 8, minor: 1 }, Dev { major: 8, minor: 2 });
        for (line, there) in [
            ("sdev:800001", dir(marked, 5, 2)),
            ("mnt_id:1b", dir(other, 0x1b, 2)),
            ("ino:9 sdev:800002", dir(other, 5, 9)),
        ] {
            let mut file = testkit::file(3, 0, 1);
            let text = format!("fanotify {line} mflags:0 mask:20 ignored_mask:0\n");
            file.info = Some(Box::new(crate::parse::fdinfo::parse(text.as_bytes())));
            let would_notify = WouldNotify::of(&testkit::snap(vec![file]));
            assert!(would_notify.has(there.dev, &there), "{line}");
            let elsewhere = dir(other, 6, 3);
            assert!(!would_notify.has(elsewhere.dev, &elsewhere), "{line}");
        }
    }
}
