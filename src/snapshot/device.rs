//! Device numbers, and those that have a fixed meaning (include/uapi/linux/major.h, include/linux/miscdevice.h).

use serde::{Deserialize, Serialize};

/// A device number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Dev {
    pub major: u32,
    pub minor: u32,
}

/// Majors of character devices.
pub(crate) mod major {
    /// Memory: null, zero, random, mem, kmsg.
    pub(crate) const MEM: u32 = 1;
    /// Virtual consoles, and the first serial ports.
    pub(crate) const TTY: u32 = 4;
    /// /dev/tty, /dev/console, /dev/ptmx.
    pub(crate) const TTYAUX: u32 = 5;
    pub(crate) const MISC: u32 = 10;
    pub(crate) const UNIX98_PTY_MASTER: u32 = 128;
    pub(crate) const UNIX98_PTY_COUNT: u32 = 8;
    pub(crate) const UNIX98_PTY_SLAVE: u32 = 136;
    pub(crate) const USB_SERIAL: u32 = 188;
    pub(crate) const LOW_DENSE_SERIAL: u32 = 204;
}

impl Dev {
    /// /dev/zero, the only device whose mapping CRIU takes by itself.
    pub(crate) const ZERO: Dev = Dev { major: major::MEM, minor: 5 };
    /// /dev/ptmx, and the ptmx of every devpts instance.
    pub(crate) const PTMX: Dev = Dev { major: major::TTYAUX, minor: 2 };
    pub(crate) const TUN: Dev = Dev { major: major::MISC, minor: 200 };
    pub(crate) const AUTOFS: Dev = Dev { major: major::MISC, minor: 235 };

    /// The number glibc's `stat` shows, which CRIU prints in hex in its `tty[rdev:dev]` keys.
    pub(crate) fn userspace(self) -> u64 {
        libc::makedev(self.major, self.minor)
    }

    /// The slave of a pseudoterminal, of which TIOCGDEV tells for either side.
    pub(crate) fn is_unix98_pty(self) -> bool {
        (major::UNIX98_PTY_SLAVE..major::UNIX98_PTY_SLAVE + major::UNIX98_PTY_COUNT).contains(&self.major)
    }

    /// `sdev` in fdinfo: MKDEV of the kernel and MKKDEV of CRIU, 12 and 20 bits.
    pub(crate) fn from_sdev(sdev: u32) -> Dev {
        Dev { major: sdev >> 20, minor: sdev & 0xf_ffff }
    }

    /// Field 7 of /proc/PID/stat and TIOCGDEV (`new_encode_dev`).
    pub(crate) fn from_tty_nr(tty_nr: i32) -> Dev {
        let n = tty_nr as u32;
        Dev { major: (n >> 8) & 0xfff, minor: (n & 0xff) | ((n >> 12) & 0xfff00) }
    }
}
