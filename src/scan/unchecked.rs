//! What could not be looked at.

use crate::scan::Seen;
use crate::snapshot::{Probe, Unchecked};

/// Collects what could not be looked at.
#[derive(Debug, Default)]
pub(crate) struct UncheckedList(pub Vec<Unchecked>);

impl UncheckedList {
    /// Notes one refusal of the kernel, or (errno 0) text that was not understood. Repeats about one process in a row
    /// are noted once.
    pub(crate) fn deny(&mut self, pid: i32, fd: Option<i32>, probe: Probe, errno: i32) {
        let entry = Unchecked { pid, fd, probe, errno };
        if self.0.last() != Some(&entry) {
            self.0.push(entry);
        }
    }

    /// Whether no list of tasks or descriptors was denied, in whole or in part. What is wrong with the file behind a single
    /// descriptor (a dead server) says nothing of the others. EIO may have other reasons.
    pub(crate) fn is_whole(&self) -> bool {
        let of_file = |errno| matches!(errno, libc::ENOTCONN | libc::ESTALE | libc::EHOSTDOWN | libc::ETIMEDOUT);
        !self.0.iter().any(|u| u.probe.is_list() && !(u.fd.is_some() && of_file(u.errno)))
    }

    /// The value if it was seen; a refusal is noted.
    pub(crate) fn take<T>(&mut self, seen: Seen<T>, pid: i32, fd: Option<i32>, probe: Probe) -> Option<T> {
        match seen {
            Seen::Seen(value) => Some(value),
            Seen::Gone => None,
            Seen::Denied(errno) => {
                self.deny(pid, fd, probe, errno);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::UncheckedList;
    use crate::snapshot::Probe;

    #[test]
    fn a_list_that_was_denied_is_not_whole() {
        let whole = |fd, probe, errno| {
            let mut log = UncheckedList::default();
            log.deny(100, fd, probe, errno);
            log.is_whole()
        };
        assert!(UncheckedList::default().is_whole());
        assert!(!whole(None, Probe::Descriptors, libc::EACCES) && !whole(None, Probe::Descriptors, libc::EMFILE));
        assert!(!whole(None, Probe::Children, libc::ENOMEM) && !whole(None, Probe::Status, 0));
        assert!(!whole(Some(3), Probe::Descriptors, libc::ENOMEM));
        // A dead server below one file.
        assert!(whole(Some(3), Probe::Descriptors, libc::ENOTCONN) && whole(None, Probe::Maps, libc::EACCES));
    }
}
