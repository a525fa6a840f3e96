//! Which devices CRIU takes, and as what: `dump_chrdev` (criu/files.c) and `get_tty_driver` (criu/tty.c), the same in 3.17.1
//! to 4.2; x86.

use crate::criu::{externals, Gate, Host};
use crate::snapshot::device::major;
use crate::snapshot::{Dev, OpenFile};

/// CRIU's drivers of terminals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Driver {
    Master,
    Slave,
    /// /dev/tty
    Ctty,
    Console,
    Vt,
    Serial,
    /// Named by `--external tty[...]` or an inherited descriptor.
    External,
}

/// The driver of a character device number; `None`: no terminal of a kind that CRIU knows. Note what is missing: /dev/tty0
/// (4:0), the UARTs (4:64 and up), the majors 137 to 143.
pub(crate) fn tty_driver(rdev: Dev) -> Option<Driver> {
    const PTY_MASTERS: std::ops::Range<u32> =
        major::UNIX98_PTY_MASTER..major::UNIX98_PTY_MASTER + major::UNIX98_PTY_COUNT;
    Some(match (rdev.major, rdev.minor) {
        (major::TTYAUX, 0) => Driver::Ctty,
        (major::TTYAUX, 1) => Driver::Console,
        (major::TTYAUX, 2) => Driver::Master,
        (major::TTY, 1..=63) => Driver::Vt,
        (major::UNIX98_PTY_SLAVE, _) => Driver::Slave,
        (major::USB_SERIAL | major::LOW_DENSE_SERIAL, _) => Driver::Serial,
        (master, _) if PTY_MASTERS.contains(&master) => Driver::Master,
        _ => return None,
    })
}

/// Whether CRIU takes the character device without asking a plugin.
pub(crate) fn is_accepted(rdev: Dev) -> bool {
    // Of memory devices every minor: memory, port and kmsg as well.
    rdev.major == major::MEM || matches!(rdev, Dev::TUN | Dev::AUTOFS) || tty_driver(rdev).is_some()
}

/// The key that makes any character device an external terminal.
pub(crate) fn tty_key(file: &OpenFile) -> String {
    externals::tty(file.attr.rdev.userspace(), file.attr.dev.userspace())
}

/// Whether the device is named by `--external tty[...]` or an inherit-fd key.
pub(crate) fn tty_external(host: &Host, file: &OpenFile) -> Gate {
    host.gate_external_or_inherited(b"tty[", || tty_key(file))
}
