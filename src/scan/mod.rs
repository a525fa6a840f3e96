//! The look: the only room that does I/O on the tree.
//!
//! Everything is asked through a held /proc/PID directory, nothing of the tree is opened, nothing that can wait for a
//! file server is called, and no trace is left behind. What has gone meanwhile is left out without a word; what the
//! kernel denies stands in [`Snapshot::unchecked`].

pub mod borrow;
pub mod diag;
pub mod holders;
pub mod kcmp;
pub mod locks;
pub mod proc;
pub mod sys;

use crate::snapshot::Unchecked;
pub use sys::Seen;

/// Collects what could not be looked at.
#[derive(Debug, Default)]
pub struct Log(pub Vec<Unchecked>);

impl Log {
    /// Notes one refusal of the kernel, or (errno 0) text that was not understood. Repeats about one process in a row
    /// are noted once.
    pub fn deny(&mut self, pid: i32, fd: Option<i32>, what: &[u8], errno: i32) {
        let entry = Unchecked { pid, fd, what: what.into(), errno };
        if self.0.last() != Some(&entry) {
            self.0.push(entry);
        }
    }

    /// The value if it was seen; a refusal is noted.
    pub fn take<T>(&mut self, seen: Seen<T>, pid: i32, fd: Option<i32>, what: &[u8]) -> Option<T> {
        match seen {
            Seen::Seen(value) => Some(value),
            Seen::Gone => None,
            Seen::Denied(errno) => {
                self.deny(pid, fd, what, errno);
                None
            }
        }
    }
}
