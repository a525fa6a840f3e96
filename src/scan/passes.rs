//! What is found out when the tree has been walked: a table of passes, each over the whole snapshot, in the order in which they
//! are run.
//!
//! A pass stands behind all whose answers it reads; where another reason decides, it stands beside the pass.

use crate::criu::{Host, Stage};
use crate::scan::kernel::{self, PseudoFsIds};
use crate::scan::proc::{Buffers, Dir};
use crate::scan::{fd, mount, net, task, ScanCache, UncheckedList};
use crate::snapshot::{Regs, ScanPhase, Snapshot};

/// What a pass works with.
pub(crate) struct PassContext<'a> {
    pub snap: &'a mut Snapshot,
    pub proc: &'a Dir,
    pub own: &'a PseudoFsIds,
    pub host: &'a Host,
    /// See [`crate::scan::ScanSession::registers`].
    pub registers: &'a dyn Fn(&[i32]) -> Vec<Option<Regs>>,
    pub cache: &'a mut ScanCache,
    pub b: &'a mut Buffers,
    pub log: &'a mut UncheckedList,
}

/// A part of the snapshot, as far as one pass fills it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// CRIU's ids, namespaces and capabilities; the kernel but for the next two.
    System,
    /// Names of drivers by device number.
    Drivers,
    /// Those of terminals, which share numbers.
    TtyDrivers,
    /// Processes and threads as stat, status, ns and maps show them, exe, cwd and root.
    Tasks,
    /// Descriptors by their attributes, the link and fdinfo where they were needed.
    Files,
    /// Mappings, and the files behind them.
    Maps,
    Mounts,
    Registers,
    /// Who shares memory, handlers, directories, descriptors with whom.
    Shares,
    /// Whether CRIU may attach.
    Attach,
    UserNs,
    Cgroups,
    /// Whether the root task sees itself in its /proc.
    ProcSelf,
    /// The sockets of the network namespaces, as the kernel lists them.
    Sockets,
    /// The interfaces of the network namespaces that are dumped.
    Interfaces,
    /// What only the open file itself tells.
    Details,
    /// Which locked files an earlier task has, too.
    EarlierTask,
    /// Which descriptors of terminals are one open file.
    TtyFiles,
    /// What lies in the queues of sockets.
    Queued,
    /// Which message queue file systems have queues.
    Mqueues,
    Automounters,
    /// Where the paths of open files lead.
    Paths,
    /// Where UNIX sockets are bound again.
    SocketDirs,
    /// Which removed files are of a lower layer of overlayfs.
    LowerLayers,
    /// Watched descriptors that CRIU does not find.
    Epoll,
    /// Whether CRIU finds watched inodes.
    Watches,
    /// What is lost without a word.
    Unsaved,
}

/// In which looks a pass is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Looks {
    All,
    /// That at the running tree.
    Early,
    /// That at the frozen one.
    Frozen,
    /// The one after which there is no other.
    Last,
}

/// One of them. Its name and what it declares are for the tests, which hold the order and each pass to it.
#[cfg_attr(not(test), expect(dead_code))]
pub(crate) struct Pass {
    pub name: &'static str,
    pub looks: Looks,
    pub reads: &'static [Part],
    pub fills: &'static [Part],
    pub run: fn(&mut PassContext),
}

/// What the walk over the tree has filled before the first pass.
#[cfg(test)]
pub(crate) const WALK: &[Part] = &[Part::System, Part::Tasks, Part::Files, Part::Maps, Part::Mounts];

/// All of them, in their order.
pub(crate) static PASSES: &[Pass] = &[
    Pass {
        name: "registers",
        looks: Looks::Frozen,
        reads: &[Part::Tasks],
        fills: &[Part::Registers],
        run: task::registers::collect,
    },
    Pass {
        name: "drivers",
        looks: Looks::All,
        reads: &[Part::Files, Part::Maps],
        fills: &[Part::Drivers],
        run: kernel::drivers,
    },
    Pass {
        name: "tty drivers",
        looks: Looks::All,
        reads: &[Part::Files],
        fills: &[Part::TtyDrivers],
        run: kernel::ttys,
    },
    // Which sockets there are decides what is asked of their descriptors.
    Pass {
        name: "sockets",
        looks: Looks::All,
        reads: &[Part::System, Part::Tasks, Part::Files],
        fills: &[Part::Sockets],
        run: net::diag::collect,
    },
    Pass {
        name: "interfaces",
        looks: Looks::All,
        reads: &[Part::System, Part::Tasks],
        fills: &[Part::Interfaces],
        run: net::diag::links::collect,
    },
    Pass {
        name: "sharing",
        looks: Looks::All,
        reads: &[Part::Tasks, Part::Files, Part::Maps],
        fills: &[Part::Shares],
        run: task::sharing::collect,
    },
    // Of a frozen tree there is no question: CRIU has attached.
    Pass {
        name: "attach",
        looks: Looks::Early,
        reads: &[Part::Tasks],
        fills: &[Part::Attach],
        run: fd::remote::attach,
    },
    Pass {
        name: "user namespaces",
        looks: Looks::All,
        reads: &[Part::System, Part::Tasks],
        fills: &[Part::UserNs],
        run: task::userns::collect,
    },
    Pass {
        name: "cgroups",
        looks: Looks::All,
        reads: &[Part::System, Part::Tasks],
        fills: &[Part::Cgroups],
        run: task::cgroups::collect,
    },
    Pass {
        name: "details",
        looks: Looks::All,
        reads: &[Part::Tasks, Part::Files, Part::Sockets],
        fills: &[Part::Details],
        run: fd::details::collect,
    },
    // This and the next stand before what lies in queues is put among the files: they are about descriptors.
    Pass {
        name: "inherited locks",
        looks: Looks::All,
        reads: &[Part::Files],
        fills: &[Part::EarlierTask],
        run: fd::inherited_locks::collect,
    },
    Pass {
        name: "terminals",
        looks: Looks::All,
        reads: &[Part::Files, Part::Details],
        fills: &[Part::TtyFiles],
        run: fd::terminals::collect,
    },
    // While the tree runs its messages are its own: they can be looked at only as long as no process takes them.
    Pass {
        name: "queued descriptors",
        looks: Looks::Frozen,
        reads: &[Part::System, Part::Files, Part::Mounts, Part::Sockets, Part::Details],
        fills: &[Part::Queued],
        run: fd::queued::collect,
    },
    Pass {
        name: "message queues",
        looks: Looks::All,
        reads: &[Part::System, Part::Tasks, Part::Mounts],
        fills: &[Part::Mqueues],
        run: mount::mqueues::collect,
    },
    Pass {
        name: "automounters",
        looks: Looks::All,
        reads: &[Part::System, Part::Tasks, Part::Mounts],
        fills: &[Part::Automounters],
        run: mount::autofs::collect,
    },
    Pass {
        name: "own /proc",
        looks: Looks::All,
        reads: &[Part::System, Part::Tasks, Part::Files, Part::Mounts],
        fills: &[Part::ProcSelf],
        run: task::own_proc::collect,
    },
    // What lies in a queue has a path, too.
    Pass {
        name: "paths",
        looks: Looks::All,
        reads: &[Part::System, Part::Tasks, Part::Files, Part::Maps, Part::Mounts, Part::Queued],
        fills: &[Part::Paths],
        run: fd::paths::collect,
    },
    Pass {
        name: "socket directories",
        looks: Looks::All,
        reads: &[Part::System, Part::Tasks, Part::Mounts, Part::Sockets, Part::Details, Part::Queued],
        fills: &[Part::SocketDirs],
        run: fd::socket_dirs::collect,
    },
    // On the way to a layer links are followed, which could lead to a server that is frozen.
    Pass {
        name: "overlay layers",
        looks: Looks::Early,
        reads: &[Part::Files, Part::Maps, Part::Mounts, Part::Paths],
        fills: &[Part::LowerLayers],
        run: fd::overlay::collect,
    },
    // A watched file, or an epoll file itself, may lie in a queue.
    Pass {
        name: "epoll",
        looks: Looks::All,
        reads: &[Part::Files, Part::Details, Part::Queued],
        fills: &[Part::Epoll],
        run: fd::epoll::collect,
    },
    Pass {
        name: "watches",
        looks: Looks::All,
        reads: &[Part::System, Part::Tasks, Part::Files, Part::Mounts, Part::Queued],
        fills: &[Part::Watches],
        run: fd::watches::collect,
    },
    Pass {
        name: "what is not saved",
        looks: Looks::Last,
        reads: &[Part::Tasks, Part::Watches],
        fills: &[Part::Unsaved],
        run: task::unsaved::collect,
    },
];

impl Looks {
    pub(crate) fn have(self, look: ScanPhase, host: &Host) -> bool {
        match self {
            Looks::All => true,
            Looks::Early => look == ScanPhase::Early,
            Looks::Frozen => look == ScanPhase::Frozen,
            Looks::Last => look == ScanPhase::Frozen || !host.caps.checkpoint_hook || host.stage != Stage::Dump,
        }
    }
}

/// Runs those that belong to this look.
pub(crate) fn run(cx: &mut PassContext) {
    for pass in PASSES {
        if pass.looks.have(cx.snap.look, cx.host) {
            (pass.run)(cx);
        }
    }
}

#[cfg(test)]
#[path = "passes_tests.rs"]
mod tests;
