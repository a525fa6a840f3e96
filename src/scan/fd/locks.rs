//! Which files may have a lock, so that the fdinfo of a large tree is read only for those.
//!
//! A quick test, never the answer: the fdinfo of the descriptor says which locks belong to it. And a dear one: to make its
//! table, the kernel stops all who lock and waits for a grace period of RCU (`locks_start()` in fs/locks.c,
//! `percpu_down_write`), some 15 ms in which a frozen tree does nothing. A fdinfo is a thousandth of that: the table is read
//! only when there are many. For about one more grace period it can then be read again without waiting
//! (`rcu_sync_exit()`, kernel/rcu/sync.c), so that the early look of a tree with many ends by reading it.

use crate::hash::Set;
use crate::parse::locks;
use crate::scan::proc::Dir;
use crate::scan::sys::Seen;
use crate::snapshot::{Dev, Namespaces};
use std::cell::{Cell, OnceCell};

/// PROC_PID_INIT_INO (include/linux/proc_ns.h): the inode of the first pid namespace.
const INIT_PID_NS: u64 = 0xEFFF_FFFC;

/// The lines of /proc/locks come in pieces of this size; between two pieces the table may move.
const PIECE: usize = 4096;

/// So many fdinfos cost less than the table.
const FEW: usize = 400;

/// The locked files of the system, as far as somebody had to know.
#[derive(Debug)]
pub(crate) struct Locks {
    /// Every lock of the system is in the table.
    whole: bool,
    /// Questions answered without the table, which cost a fdinfo each. (What is read for other reasons is not asked about.)
    asked: Cell<usize>,
    table: OnceCell<Table>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Table {
    inodes: Set<u64>,
    devices: Set<Dev>,
    /// Nothing in it was left out or not understood.
    complete: bool,
    /// Why it could not be read.
    denied: Option<i32>,
}

impl Locks {
    /// `many`: a look before this one has met many descriptors.
    pub(crate) fn new(observer: &Namespaces, many: bool) -> Locks {
        // Outside of the first pid namespace a lock whose taker has no number here is not shown (`locks_show()`,
        // fs/locks.c): an flock inherited from outside. fdinfo shows it all the same, and CRIU counts it.
        let whole = observer.pid == Some(INIT_PID_NS);
        Locks { whole, asked: Cell::new(if many { FEW } else { 0 }), table: OnceCell::new() }
    }

    /// The table, once it is worth its price.
    fn table(&self) -> Option<&Table> {
        if self.table.get().is_none() && self.asked.replace(self.asked.get().saturating_add(1)) < FEW {
            return None;
        }
        Some(self.table.get_or_init(Table::read))
    }

    /// Whether the file may have a lock, by its st_dev and st_ino. `false` is certain.
    ///
    /// The device alone is no test: Btrfs, overlayfs and others show another st_dev than the file system's own s_dev,
    /// which stands in /proc/locks; their inode numbers are equal there.
    ///
    /// `loose`: it lies on a `fuseblk` mount. Inode numbers of FUSE are the server's in statx and FUSE's own in
    /// /proc/locks (`fuse_fill_attr_from_inode`, `fuse_squash_ino` in fs/fuse), so on these any lock of the device counts.
    pub(crate) fn may_hold(&self, dev: Dev, ino: u64, loose: bool) -> bool {
        if !self.whole {
            return true;
        }
        let Some(table) = self.table() else { return true };
        let loose = loose || dev.major == 0;
        !table.complete || table.inodes.contains(&ino) || (loose && table.devices.contains(&dev))
    }

    /// Whether a file that is rarely locked may have one: it does if the table lists its number.
    pub(crate) fn may_list(&self, ino: u64) -> bool {
        self.table().is_none_or(|table| table.inodes.contains(&ino))
    }

    /// Whether there were so many descriptors that the table was read.
    pub(crate) fn many(&self) -> bool {
        self.table.get().is_some()
    }

    /// Why the table could not be read, if it could not: then every file may have a lock.
    pub(crate) fn denied(&self) -> Option<i32> {
        self.table.get()?.denied
    }
}

/// At the end of a look before freezing that has met many descriptors: the frozen one is near.
pub(crate) fn again() {
    Table::read();
}

impl Table {
    /// Reads the table of the observer's /proc. On a kernel without it (CONFIG_FILE_LOCKING) there is no lock.
    fn read() -> Table {
        let mut all = Table { complete: true, ..Table::default() };
        let proc = match Dir::proc() {
            Ok(proc) => proc,
            Err(errno) => return Table { denied: Some(errno as i32), ..Table::default() },
        };
        let mut text = Vec::new();
        // A table of several pieces may lose an entry while others come and go: it is read again and all is taken.
        for _ in 0..3 {
            match proc.read(c"locks", &mut text) {
                Seen::Seen(text) => all.take_in(text),
                Seen::Gone => return Table { complete: true, ..Table::default() },
                Seen::Denied(errno) => return Table { denied: Some(errno), ..Table::default() },
            }
            if text.len() < PIECE {
                break;
            }
        }
        all
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::{Flock, FlockArg};
    use std::os::unix::fs::MetadataExt;

    const DISK: Dev = Dev { major: 254, minor: 77 };

    fn of_pid_ns(pid: u64) -> Locks {
        Locks::new(&Namespaces { pid: Some(pid), ..Namespaces::default() }, false)
    }

    /// As after many questions.
    fn dear(locks: Locks) -> Locks {
        locks.asked.set(FEW);
        locks
    }

    fn with(pid_ns: u64, text: &str) -> Locks {
        let mut table = Table { complete: true, ..Table::default() };
        table.take_in(text.as_bytes());
        Locks { table: OnceCell::from(table), ..of_pid_ns(pid_ns) }
    }

    #[test]
    fn a_real_lock_is_seen_and_its_end_too() {
        let (locked, free) = (tempfile(), tempfile());
        let ino = |f: &std::fs::File| f.metadata().unwrap().ino();
        let (locked_ino, free_ino) = (ino(&locked), ino(&free));
        let guard = Flock::lock(locked, FlockArg::LockExclusiveNonblock).map_err(|(_, e)| e).unwrap();
        let locks = dear(of_pid_ns(INIT_PID_NS));
        // A device that no lock is on: what counts is the inode.
        assert!(locks.may_hold(DISK, locked_ino, false));
        assert!(!locks.may_hold(DISK, free_ino, false));
        drop(guard);
        assert!(!dear(of_pid_ns(INIT_PID_NS)).may_hold(DISK, locked_ino, false));
    }

    fn tempfile() -> std::fs::File {
        use nix::fcntl::OFlag;
        let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
        nix::fcntl::open("/tmp", flags, nix::sys::stat::Mode::S_IRUSR).unwrap().into()
    }

    #[test]
    fn numbers_that_do_not_agree() {
        let text = "1: FLOCK  ADVISORY  WRITE 9 fe:00:77 0 EOF\n2: POSIX  ADVISORY  WRITE 9 00:2a:5 0 EOF\n";
        let locks = with(INIT_PID_NS, text);
        let dev = |major, minor| Dev { major, minor };
        assert!(locks.may_hold(dev(254, 0), 77, false));
        assert!(locks.may_hold(dev(0, 99), 77, false), "Btrfs: another st_dev, the same inode");
        assert!(!locks.may_hold(dev(254, 0), 78, false));
        assert!(locks.may_list(77) && !locks.may_list(6));
        assert!(locks.may_hold(dev(0, 42), 6, false), "FUSE: the same device, another inode");
        assert!(!locks.may_hold(dev(0, 43), 6, false));
        assert!(locks.may_hold(dev(254, 0), 78, true), "fuseblk");
    }

    #[test]
    fn what_the_table_may_hide_may_be_anywhere() {
        assert!(with(4026532200, "").may_hold(DISK, 1, false));
        assert!(!with(4026532200, "").may_list(1));
        assert!(with(INIT_PID_NS, "1: who knows\n").may_hold(DISK, 1, false));
        assert!(!with(INIT_PID_NS, "").may_hold(DISK, 1, false));
    }

    #[test]
    fn the_table_is_read_for_many_questions_only() {
        let locks = of_pid_ns(INIT_PID_NS);
        // No inode of a file system.
        let none = u64::MAX;
        assert!((0..FEW).all(|i| if i % 2 == 0 { locks.may_hold(DISK, none, false) } else { locks.may_list(none) }));
        assert!(locks.table.get().is_none());
        assert!(!locks.may_hold(DISK, none, false) && !locks.may_list(none));
        assert_eq!(locks.denied(), None);
    }
}
