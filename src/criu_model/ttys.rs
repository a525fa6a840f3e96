//! Terminals: the records of them that CRIU's checks work on.
//!
//! CRIU keeps one record for each terminal *id*, made from the first descriptor it meets: for a pseudoterminal the id is
//! its index and side, without the devpts instance; all virtual consoles share one, all /dev/tty another, and so on
//! (`tty_gen_id`, `dump_one_tty`, criu/tty.c, the same in 3.17.1 to 4.2). What the checks at the end see are these records.

use crate::bytes::file_name;
use crate::criu::{Gate, Host};
pub(crate) use crate::criu_model::devices::Driver;
use crate::criu_model::devices::{tty_driver, tty_external};
use crate::snapshot::device::major;
use crate::snapshot::{Dev, OpenFile, Snapshot, Task};
use std::collections::{HashMap, HashSet};

/// What the task would get from TIOCGSID and TIOCGPGRP, numbers in our pid namespace, 0 for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub sid: i32,
    pub pgrp: i32,
}

const NO_SESSION: Session = Session { sid: 0, pgrp: 0 };

/// The first descriptor of a terminal, as CRIU records it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terminal<'a> {
    pub task: &'a Task,
    pub file: &'a OpenFile,
    pub driver: Driver,
    /// Of a pseudoterminal.
    pub index: Option<i64>,
    /// `Unknown`: it may be named as external, we do not know the options. (`Lifted` ones have the driver External.)
    pub gate: Gate,
    /// The other side is closed; `None`: not known.
    pub hung_up: Option<bool>,
    /// `None`: not known.
    pub session: Option<Session>,
    /// Of /dev/tty: it is not known which terminal it is; the session is that of the task's own.
    pub guessed: bool,
}

impl Terminal<'_> {
    /// The first descriptor's open file, by which CRIU reads what is queued, cannot be read.
    pub(crate) fn is_write_only(&self) -> bool {
        let flags = self.file.flags.or_else(|| self.file.info.as_ref()?.flags);
        flags.is_some_and(|f| f as i32 & libc::O_ACCMODE == libc::O_WRONLY)
    }

    pub(crate) fn is_pty(&self) -> bool {
        matches!(self.driver, Driver::Master | Driver::Slave)
    }
}

/// A terminal device that CRIU takes as one, whatever its state.
pub(crate) fn is_terminal(host: &Host, file: &OpenFile) -> bool {
    file.is_chrdev() && (tty_driver(file.attr.rdev).is_some() || tty_external(host, file) == Gate::Waived)
}

/// The driver, and whether it is certain that the terminal is not named as external.
pub(crate) fn driver(host: &Host, file: &OpenFile) -> (Driver, Gate) {
    match tty_external(host, file) {
        Gate::Waived => (Driver::External, Gate::Waived),
        gate => (tty_driver(file.attr.rdev).unwrap_or(Driver::Serial), gate),
    }
}

/// Every descriptor of the tree, in CRIU's order.
fn files(snap: &Snapshot) -> impl Iterator<Item = (&Task, &OpenFile)> {
    snap.tasks.iter().flat_map(|t| t.files.iter().map(move |f| (t, f)))
}

/// The index CRIU gives a pseudoterminal. For a slave it reads the last part of the *path*, so that /dev/console of a
/// container has index 0 whatever its number is (`pts_fd_get_index`).
pub(crate) fn index(driver: Driver, file: &OpenFile) -> Option<i64> {
    match driver {
        Driver::Slave => {
            let name = file_name(file.link.as_ref()?);
            // atoi(3)
            let digits = name.iter().take_while(|b| b.is_ascii_digit());
            Some(digits.fold(0i64, |n, d| n.saturating_mul(10).saturating_add(i64::from(d - b'0'))))
        }
        Driver::Master => {
            let borrowed = file.tty().and_then(|t| t.index);
            borrowed.or_else(|| file.info.as_ref()?.tty_index).map(i64::from)
        }
        _ => None,
    }
}

/// CRIU's records, in its order.
pub(crate) fn terminals<'a>(snap: &'a Snapshot, host: &Host) -> Vec<Terminal<'a>> {
    let instances = ambiguous_slaves(snap);
    let mut seen = HashSet::new();
    let mut list = Vec::new();
    for (task, file) in files(snap).filter(|(_, f)| is_terminal(host, f)) {
        let (driver, gate) = driver(host, file);
        let index = index(driver, file);
        if driver != Driver::External && !seen.insert((driver, index)) {
            continue;
        }
        let hung_up = hung_up(driver, file);
        let session = match hung_up {
            Some(true) => Some(NO_SESSION),
            _ => session(task, file).filter(|_| !instances.contains(&file.attr.rdev)),
        };
        let guessed = tty_driver(file.attr.rdev) == Some(Driver::Ctty) && file.tty().and_then(|t| t.device).is_none();
        list.push(Terminal { task, file, driver, index, gate, hung_up, session, guessed });
    }
    list
}

/// Slave numbers that stand for terminals of several devpts instances: a task's `tty_nr` does not tell which is meant.
fn ambiguous_slaves(snap: &Snapshot) -> HashSet<Dev> {
    let mut instance: HashMap<Dev, Dev> = HashMap::new();
    let mut several = HashSet::new();
    for (_, file) in files(snap).filter(|(_, f)| f.is_chrdev() && f.attr.rdev.major == major::UNIX98_PTY_SLAVE) {
        if *instance.entry(file.attr.rdev).or_insert(file.attr.dev) != file.attr.dev {
            several.insert(file.attr.rdev);
        }
    }
    several
}

fn hung_up(driver: Driver, file: &OpenFile) -> Option<bool> {
    let known = file.tty().and_then(|t| t.hung_up);
    match driver {
        // Closing the master removes the slave's node (`devpts_pty_kill`). One that has it may have been hung up (vhangup).
        Driver::Slave => known.or((file.attr.nlink == 0).then_some(true)),
        Driver::Master => Some(false),
        _ => known,
    }
}

/// Asked of external terminals as well.
fn session(task: &Task, file: &OpenFile) -> Option<Session> {
    let controlling = Dev::from_tty_nr(task.tty_nr);
    let own = Session { sid: task.sid, pgrp: task.tpgid.max(0) };
    match tty_driver(file.attr.rdev) {
        // Only a master answers an outsider.
        Some(Driver::Master) => file.tty().and_then(|t| Some(Session { sid: t.sid?, pgrp: t.pgrp? })),
        _ if task.tty_nr == 0 => Some(NO_SESSION),
        // A second name, of the terminal that controlled the process when it was opened, or of the system's console.
        second @ Some(Driver::Ctty | Driver::Console) => match file.tty().and_then(|t| t.device) {
            Some(device) => Some(if device == controlling { own } else { NO_SESSION }),
            None if second == Some(Driver::Ctty) => Some(own),
            None => (controlling.major == major::UNIX98_PTY_SLAVE).then_some(NO_SESSION),
        },
        _ if controlling == file.attr.rdev => Some(own),
        _ => Some(NO_SESSION),
    }
}
