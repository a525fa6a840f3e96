//! The capabilities that criu's executable gives the process that runs it (capabilities(7), `setcap cap_checkpoint_restore+eip`).

use criu_preflight::snapshot::Observer;
use rustix::fs::{getxattr, statvfs, StatVfsMountFlags};
use std::path::Path;

/// `struct vfs_cap_data` (include/uapi/linux/capability.h), of revision 2 and 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileCaps {
    permitted: u64,
    inheritable: u64,
    effective: bool,
}

/// This process, as far as execve(2) asks.
#[derive(Clone, Copy, Debug)]
struct Rights {
    inheritable: u64,
    bounding: u64,
}

const XATTR: &str = "security.capability";
const REVISION_2: u32 = 0x0200_0000;
const EFFECTIVE: u32 = 1;

/// `None`: it gives none, or the kernel would not heed them.
pub fn of(path: &Path) -> Option<FileCaps> {
    let mut value = [0_u8; 64];
    let len = getxattr(path, XATTR, value.as_mut_slice()).ok()?;
    let ignored = statvfs(path).is_ok_and(|fs| fs.f_flag.contains(StatVfsMountFlags::NOSUID));
    parse(value.get(..len)?).filter(|_| !ignored)
}

fn parse(value: &[u8]) -> Option<FileCaps> {
    let word = |n: usize| Some(u32::from_le_bytes(value.get(n * 4..n * 4 + 4)?.try_into().ok()?));
    let magic = word(0)?;
    // Revision 3 is that of a user namespace's own files, whose root the fifth word names: the kernel shows it as 2 there.
    if magic & !EFFECTIVE != REVISION_2 {
        return None;
    }
    let wide = |low, high| Some(u64::from(word(low)?) | u64::from(word(high)?) << 32);
    Some(FileCaps { permitted: wide(1, 3)?, inheritable: wide(2, 4)?, effective: magic & EFFECTIVE != 0 })
}

impl FileCaps {
    /// Whom criu runs as when this process starts it.
    pub fn give(self, observer: &mut Observer) {
        let [real, effective, ..] = observer.uid;
        // The file's are not asked for root.
        if real == 0 || effective == 0 {
            return;
        }
        let Some(rights) = std::fs::read_to_string("/proc/self/status").ok().and_then(|text| rights(&text)) else {
            return;
        };
        observer.cap_eff = Some(self.after_exec(rights));
    }

    fn after_exec(self, own: Rights) -> u64 {
        let permitted = (own.inheritable & self.inheritable) | (self.permitted & own.bounding);
        if self.effective {
            permitted
        } else {
            0
        }
    }
}

/// `None`: it could not be read, or the process may gain none by execve.
fn rights(status: &str) -> Option<Rights> {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let mask = |name| u64::from_str_radix(field(name)?, 16).ok();
    (field("NoNewPrivs:") == Some("0")).then_some(())?;
    Some(Rights { inheritable: mask("CapInh:")?, bounding: mask("CapBnd:")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `setcap cap_checkpoint_restore+eip` writes.
    const SETCAP: [u8; 20] = [1, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0];
    const CHECKPOINT_RESTORE: u64 = 1 << 40;

    #[test]
    fn the_attribute_is_read_as_the_kernel_reads_it() {
        let caps = FileCaps { permitted: CHECKPOINT_RESTORE, inheritable: CHECKPOINT_RESTORE, effective: true };
        assert_eq!(parse(&SETCAP), Some(caps));
        for cut in 0..SETCAP.len() {
            assert_eq!(parse(&SETCAP[..cut]), None);
        }
        let mut other = SETCAP;
        other[3] = 3;
        assert_eq!(parse(&other), None);
    }

    #[test]
    fn what_execve_leaves_of_them() {
        let all = Rights { inheritable: 0, bounding: u64::MAX };
        let caps = parse(&SETCAP).unwrap();
        assert_eq!(caps.after_exec(all), CHECKPOINT_RESTORE);
        assert_eq!(caps.after_exec(Rights { bounding: 0, ..all }), 0);
        assert_eq!(FileCaps { effective: false, ..caps }.after_exec(all), 0);
    }

    #[test]
    fn a_process_that_may_gain_nothing_gains_nothing() {
        let status = "CapInh:\t0000000000000000\nCapBnd:\t000001ffffffffff\nNoNewPrivs:\t0\n";
        assert_eq!(rights(status).unwrap().bounding, 0x1ff_ffff_ffff);
        assert!(rights(&status.replace("s:\t0\n", "s:\t1\n")).is_none());
        assert!(rights("CapInh:\t0\n").is_none());
    }
}
