//! What CRIU refuses, one small item per rule, one file per kind of resource.
//!
//! Rules are pure functions of (snapshot, host): no I/O, no words. A rule's item carries its documentation and the
//! template of its sentence; [`crate::report`] renders both. To add a rule: its item and check in the file of its
//! resource, a line in [`registry::RULES`], a fixture in `criu-tests/`.

pub(crate) mod files;
pub(crate) mod lossy;
pub(crate) mod memory;
pub(crate) mod mounts;
pub(crate) mod namespaces;
pub mod registry;
pub(crate) mod sockets;
pub(crate) mod tasks;
#[cfg(test)]
pub(crate) mod testkit;
mod versions;

use crate::criu::{Hook, Host, Opt, Release};
pub(crate) use crate::engine::evidence::Evidence;
pub(crate) use crate::engine::sink::Sink;
pub(crate) use crate::finding::{number, Holder, Other, Proof, TaskLink, Value, WarnReason};
pub use crate::finding::{Finding, Place, Verdict};
use crate::snapshot::{Index, OpenFile, ScanPhase, Snapshot, Task};
pub(crate) use versions::Versions;

/// When CRIU itself would find out, and how much is lost by then (phases of criu/cr-dump.c).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Options, capabilities, kernel features: the tree runs.
    BeforeFreeze,
    /// Freezing and seizing.
    Freezing,
    /// Global collection: all seized, no pages written.
    Collecting,
    /// A task before its pages: those of all earlier tasks are written.
    BeforePages,
    /// A task's pages.
    Pages,
    /// A task after its pages.
    AfterPages,
    /// After the last task: everything is written.
    AfterTasks,
    /// Never: the dump goes through, and its restore fails.
    Restore,
    /// Never, not even at the restore: the dump goes through, and something is lost or comes back changed. Such a rule only
    /// warns, in `preflight.json` alone.
    Never,
}

/// How early the condition can be known with certainty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// On the running tree: a second look confirms.
    Early,
    /// It changes by itself (queues, exiting threads): the frozen look decides; where there is none (CRIU before 4.0)
    /// it is a warning.
    Volatile,
    /// Only a tracer can see it.
    Frozen,
}

/// What would make the dump pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// A boolean option of CRIU.
    Option(Opt),
    /// The same, but it allows only a finding that has the fact of this name.
    OptionFor(Opt, &'static str),
    /// `--external` with exactly this string, a template with the finding's facts in braces (`unix[{ino}]`).
    External(&'static str),
    /// The same, but no restore of that dump succeeds: it is taken into account and never advised.
    ExternalInVain(&'static str),
    /// An option with a value that a model of CRIU, or `find` itself, takes into account: its name and a template of the
    /// value (`("ghost-limit", "{size}")`, `("external", "mnt[{path}]:NAME")`). The engine does not apply it.
    Modelled(&'static str, &'static str),
    /// A hook another plugin can implement.
    Hook(Hook),
    /// A newer CRIU.
    Release(Release),
    /// An option with a value that the restore has to be given, its name and a template of the value. Without it the restore
    /// fails (rules of [`Phase::Restore`] only).
    AtRestore(&'static str, &'static str),
    /// What the workload, or its administrator, can change: a short imperative clause, a template.
    Workload(&'static str),
}

/// One refusal of CRIU.
pub struct Rule {
    /// Stable, never reused: `tcp-connected`.
    pub id: &'static str,
    /// What the thing is, in one plain sentence of at most 120 characters.
    pub summary: &'static str,
    /// The kind of resource, a heading of the documentation.
    pub group: &'static str,
    /// The exact condition under which CRIU refuses, for the documentation and `explain`. Plain text.
    pub condition: &'static str,
    /// What a finding says: a template over its facts ([`crate::report::template`]). `{name}` is replaced; a part in
    /// `[...]` is dropped when one of its facts is absent; `\[` is a bracket. Process, descriptor, other end and cure
    /// stand around it already.
    pub message: &'static str,
    /// CRIU's own texts for it, as in its sources, any of which may stand in its log. `{when} text`: it does so on a
    /// condition; `{words}` alone tells what no text of CRIU's does.
    pub criu: &'static [&'static str],
    /// Where CRIU does it: file:function.
    pub source: &'static str,
    /// The releases that refuse.
    pub versions: Versions,
    /// In the order a reader should try them.
    pub remedies: &'static [Remedy],
    pub phase: Phase,
    pub when: When,
    pub evidence: Evidence,
    /// Pushes a finding for every offending resource. Which releases and options allow it is the engine's to say, from
    /// `versions` and `remedies`.
    pub find: fn(&Rule, &Ctx, &mut Sink),
}

/// What a rule may look at.
pub struct Ctx<'a> {
    pub snap: &'a Snapshot,
    pub host: &'a Host,
    pub index: Index<'a>,
    pub socks: crate::criu_model::sockets::Socks<'a>,
    /// The mounts as CRIU has them.
    pub(crate) mounts: crate::criu_model::mounts::Model<'a>,
    /// Every path that fails one of CRIU's tests.
    pub(crate) path_problems: Vec<crate::criu_model::paths::PathProblem<'a>>,
}

impl<'a> Ctx<'a> {
    pub(crate) fn new(snap: &'a Snapshot, host: &'a Host) -> Self {
        let index = Index::new(snap);
        let socks = crate::criu_model::sockets::Socks::new(snap, &index);
        let mounts = crate::criu_model::mounts::Model::new(snap, host);
        let path_problems = crate::criu_model::paths::all(snap, host, &mounts);
        Ctx { snap, host, index, socks, mounts, path_problems }
    }

    /// Every descriptor of the tree. A table shared with an earlier task is walked once, as CRIU does.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&'a Task, &'a OpenFile)> + '_ {
        self.snap.tasks.iter().flat_map(|t| t.files.iter().map(move |f| (t, f)))
    }

    /// Every process that is not dead.
    pub(crate) fn live_tasks(&self) -> impl Iterator<Item = &'a Task> + '_ {
        self.snap.live_tasks()
    }

    /// Whether the whole tree is stopped and we are its tracer.
    pub(crate) fn frozen(&self) -> bool {
        self.snap.look == ScanPhase::Frozen
    }
}
