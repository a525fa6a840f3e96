//! The mount tables of the namespaces that are met, and what the look needs to know about a mount.

use crate::hash::{Map, Set};
use crate::parse::mountinfo;
use crate::scan::proc::{Buffers, Dir};
use crate::scan::UncheckedList;
use crate::snapshot::{Dev, MountTable, Probe};

/// File systems on which an ordinary file's link text decides something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fs {
    /// A path may belong to a dead process.
    Proc,
    /// A removed file that is open lives on as `.nfsXXXX`.
    Nfs,
    /// A bind mount of a namespace.
    Ns,
    /// The file may be one of a pressure, as may one of /proc.
    Cgroup,
    Other,
}

/// The tables read so far.
#[derive(Debug, Default)]
pub(crate) struct Mounts {
    pub tables: Vec<MountTable>,
    ids: Map<u64, Fs>,
    /// Devices of fuseblk mounts (see [`crate::scan::fd::locks::Locks::may_hold`]).
    pub loose: Set<Dev>,
}

impl Mounts {
    /// Whether the table of this namespace was read already.
    pub(crate) fn knows(&self, ns: Option<u64>) -> bool {
        ns.is_some_and(|ns| self.tables.iter().any(|t| t.ns == ns))
    }

    /// Reads the table of a namespace through the first process met in it.
    pub(crate) fn meet(&mut self, ns: Option<u64>, dir: &Dir, b: &mut Buffers, log: &mut UncheckedList) {
        let Some(ns) = ns.filter(|_| !self.knows(ns)) else { return };
        let Some(text) = dir.read_or_log(c"mountinfo", Probe::Mountinfo, &mut b.text, log) else { return };
        let table = mountinfo::parse(text);
        // A process that died meanwhile shows an empty table: the next one of the namespace is asked.
        if table.items.is_empty() {
            return;
        }
        for m in &table.items {
            let fs = match m.fstype.0.as_slice() {
                b"proc" => Fs::Proc,
                b"nfs" | b"nfs4" => Fs::Nfs,
                b"nsfs" => Fs::Ns,
                b"cgroup2" => Fs::Cgroup,
                _ => Fs::Other,
            };
            if let Ok(id) = u64::try_from(m.mnt_id) {
                self.ids.insert(id, fs);
            }
            if m.fstype.0 == b"fuseblk" {
                self.loose.insert(Dev { major: m.major, minor: m.minor });
            }
        }
        if table.bad > 0 {
            log.deny(dir.pid, None, Probe::Mountinfo, 0);
        }
        self.tables.push(MountTable {
            ns,
            pid: dir.pid,
            mounts: table.items,
            filled: Vec::new(),
            masters: Vec::new(),
            bad: table.bad,
        });
    }

    /// The file system of a mount; `None`: it is in none of the tables.
    pub(crate) fn fs(&self, mnt_id: u64) -> Option<Fs> {
        self.ids.get(&mnt_id).copied()
    }
}
