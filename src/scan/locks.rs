//! Which files may have a lock: /proc/locks, read once, so that fdinfo is read only for those.
//!
//! A quick test, never the answer: the fdinfo of the descriptor says which locks belong to it.

use super::proc::Dir;
use super::sys::Seen;
use crate::parse::locks;
use crate::snapshot::{Dev, Namespaces};
use std::collections::HashSet;

/// PROC_PID_INIT_INO (include/linux/proc_ns.h): the inode of the first pid namespace.
const INIT_PID_NS: u64 = 0xEFFF_FFFC;

/// The lines of /proc/locks come in pieces of this size; between two pieces the table may move.
const PIECE: usize = 4096;

/// The locked files of the system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Locks {
    inodes: HashSet<u64>,
    devices: HashSet<Dev>,
    /// Devices of which st_ino is not the kernel's own inode number.
    loose: HashSet<Dev>,
    /// Every lock of the system is in the table.
    complete: bool,
}

impl Locks {
    /// Reads the table of the observer's /proc.
    ///
    /// `loose`: devices of `fuseblk` mounts. Inode numbers of FUSE are the server's in statx and FUSE's own in
    /// /proc/locks (`fuse_fill_attr_from_inode`, `fuse_squash_ino` in fs/fuse), so on these any lock of the device counts.
    ///
    /// On a kernel without the table (CONFIG_FILE_LOCKING) there is no lock.
    pub fn read(proc: &Dir, observer: &Namespaces, loose: impl IntoIterator<Item = Dev>) -> Seen<Locks> {
        let mut all = Locks { loose: loose.into_iter().collect(), ..Locks::default() };
        // Outside of the first pid namespace a lock whose taker has no number here is not shown (`locks_show()`,
        // fs/locks.c): an flock inherited from outside. fdinfo shows it all the same, and CRIU counts it.
        all.complete = observer.pid == Some(INIT_PID_NS);
        let mut text = Vec::new();
        // A table of several pieces may lose an entry while others come and go: it is read again and all is taken.
        for _ in 0..3 {
            match proc.read(c"locks", &mut text) {
                Seen::Seen(text) => all.take_in(text),
                Seen::Gone => return Seen::Seen(Locks { complete: true, ..Locks::default() }),
                Seen::Denied(errno) => return Seen::Denied(errno),
            }
            if text.len() < PIECE {
                break;
            }
        }
        Seen::Seen(all)
    }

    fn take_in(&mut self, text: &[u8]) {
        let parsed = locks::parse(text);
        // A line that was not understood may be about any file.
        self.complete &= parsed.bad == 0;
        for file in parsed.items.into_iter().filter_map(|lock| lock.file) {
            self.inodes.insert(file.ino);
            self.devices.insert(Dev { major: file.major, minor: file.minor });
        }
    }

    /// Whether the file may have a lock, by its st_dev and st_ino. `false` is certain.
    ///
    /// The device alone is no test: Btrfs, overlayfs and others show another st_dev than the file system's own s_dev,
    /// which stands in /proc/locks; their inode numbers are equal there.
    pub fn may_hold(&self, dev: Dev, ino: u64) -> bool {
        let loose = dev.major == 0 || self.loose.contains(&dev);
        !self.complete || self.inodes.contains(&ino) || (loose && self.devices.contains(&dev))
    }

    /// Whether the table has a lock on a file with this number.
    pub fn lists(&self, ino: u64) -> bool {
        self.inodes.contains(&ino)
    }

    /// A table that knows nothing: every file may have a lock.
    pub fn unknown() -> Locks {
        Locks::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::{Flock, FlockArg};
    use std::os::unix::fs::MetadataExt;

    fn init() -> Namespaces {
        Namespaces { pid: Some(INIT_PID_NS), ..Namespaces::default() }
    }

    fn table(text: &str, observer: &Namespaces, loose: &[Dev]) -> Locks {
        let mut locks = Locks {
            loose: loose.iter().copied().collect(),
            complete: observer.pid == Some(INIT_PID_NS),
            ..Locks::default()
        };
        locks.take_in(text.as_bytes());
        locks
    }

    #[test]
    fn a_real_lock_is_seen_and_its_end_too() {
        let (locked, free) = (tempfile(), tempfile());
        let ino = |f: &std::fs::File| f.metadata().unwrap().ino();
        let (locked_ino, free_ino) = (ino(&locked), ino(&free));
        let guard = Flock::lock(locked, FlockArg::LockExclusiveNonblock).map_err(|(_, e)| e).unwrap();
        let proc = Dir::proc().unwrap();
        let Seen::Seen(locks) = Locks::read(&proc, &init(), []) else { panic!("/proc/locks") };
        // A device that no lock is on: what counts is the inode.
        let disk = Dev { major: 254, minor: 77 };
        assert!(locks.may_hold(disk, locked_ino));
        assert!(!locks.may_hold(disk, free_ino));
        drop(guard);
        let Seen::Seen(locks) = Locks::read(&proc, &init(), []) else { panic!("/proc/locks") };
        assert!(!locks.may_hold(disk, locked_ino));
    }

    fn tempfile() -> std::fs::File {
        use nix::fcntl::OFlag;
        let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
        nix::fcntl::open("/tmp", flags, nix::sys::stat::Mode::S_IRUSR).unwrap().into()
    }

    #[test]
    fn numbers_that_do_not_agree() {
        let text = "1: FLOCK  ADVISORY  WRITE 9 fe:00:77 0 EOF\n2: POSIX  ADVISORY  WRITE 9 00:2a:5 0 EOF\n";
        let locks = table(text, &init(), &[]);
        let dev = |major, minor| Dev { major, minor };
        assert!(locks.may_hold(dev(254, 0), 77));
        assert!(locks.may_hold(dev(0, 99), 77), "Btrfs: another st_dev, the same inode");
        assert!(!locks.may_hold(dev(254, 0), 78));
        assert!(locks.lists(77) && !locks.lists(6));
        assert!(locks.may_hold(dev(0, 42), 6), "FUSE: the same device, another inode");
        assert!(!locks.may_hold(dev(0, 43), 6));
        let fuseblk = table(text, &init(), &[dev(254, 0)]);
        assert!(fuseblk.may_hold(dev(254, 0), 78));
    }

    #[test]
    fn what_the_table_may_hide_may_be_anywhere() {
        let disk = Dev { major: 254, minor: 0 };
        assert!(table("", &Namespaces { pid: Some(4026532200), ..Namespaces::default() }, &[]).may_hold(disk, 1));
        assert!(table("1: who knows\n", &init(), &[]).may_hold(disk, 1));
        assert!(!table("", &init(), &[]).may_hold(disk, 1));
        assert!(Locks::unknown().may_hold(disk, 1));
    }
}
