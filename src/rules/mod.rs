//! What CRIU refuses, one small item per rule, one file per kind of resource.
//!
//! Rules are pure functions of (snapshot, host): no I/O, no words. A rule's item carries its documentation and the
//! template of its sentence; [`crate::report`] renders both. To add a rule: its item and check in the file of its
//! resource, a line in [`registry::RULES`], a fixture in `criu-tests/`.

pub mod aio;
pub mod anon;
pub mod arch;
pub mod autofs;
pub mod buildid;
pub mod cgroup;
pub mod confirm;
pub mod device;
pub mod devpts;
pub mod epoll;
pub mod evidence;
pub mod family;
pub mod finding;
pub mod fsnotify;
pub mod ghost;
pub mod hugetlb;
pub mod ip;
pub mod judge;
pub mod layout;
pub mod lock;
pub mod lost;
pub mod mapping;
pub mod memfd;
pub mod mount;
mod mount_binds;
pub mod mount_content;
pub mod mount_groups;
mod mount_model;
pub mod namespace;
pub mod net;
pub mod netlink;
pub mod nsfd;
pub mod o_path;
pub mod own_dev;
pub mod own_proc;
pub mod packet;
pub mod path;
mod path_model;
#[cfg(test)]
mod path_tests;
pub mod pipe;
mod prefixes;
pub mod registry;
pub mod room;
pub mod session;
pub mod shared;
pub mod sock;
pub mod statless;
pub mod task;
pub mod tcp;
#[cfg(test)]
pub mod testkit;
pub mod timerfd;
pub mod tracer;
mod tty;
pub mod tty_rules;
pub mod tun;
pub mod udp;
pub mod unix;
pub mod unix_accept;
pub mod unix_name;
pub mod unix_queue;
pub mod unknown;
pub mod user;

use crate::host::{Hook, Host, Opt};
use crate::snapshot::{Index, Look, OpenFile, Snapshot, Task};
pub use evidence::Evidence;
pub use finding::{Finding, Holder, Other, Place, Proof, Sink, TaskLink, Value, Verdict};

/// When CRIU itself would find out, and how much is lost by then (phases of criu/cr-dump.c).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Options, capabilities, kernel features: the tree runs.
    P0,
    /// Freezing and seizing.
    P1,
    /// Global collection: all seized, no pages written.
    P2,
    /// A task before its pages: those of all earlier tasks are written.
    P3,
    /// A task's pages.
    P4,
    /// A task after its pages.
    P5,
    /// After the last task: everything is written.
    P6,
    /// Never: the dump goes through, and something is lost or cannot be restored. Such a rule only warns, in
    /// `preflight.json` alone.
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
pub enum Lift {
    /// A boolean option of CRIU.
    Option(Opt),
    /// The same, but it lifts only a finding that has the fact of this name.
    OptionFor(Opt, &'static str),
    /// An option with a value: its name and a template of the value, with the finding's facts in braces
    /// (`("external", "unix[{ino}]")`, `("ghost-limit", "{size}")`).
    Value(&'static str, &'static str),
    /// A hook another plugin can implement.
    Hook(Hook),
    /// A newer CRIU.
    Release(&'static str),
    /// What the workload, or whoever runs it, can change: a short imperative clause, a template.
    Workload(&'static str),
}

/// One refusal of CRIU.
pub struct Rule {
    /// Stable, never reused: `tcp-connected`.
    pub id: &'static str,
    /// The kind of resource, a heading of the documentation.
    pub group: &'static str,
    /// The exact condition under which CRIU refuses, for the documentation and `explain`. Plain text.
    pub what: &'static str,
    /// What a finding says: a template over its facts ([`crate::report::template`]). `{name}` is replaced; a part in
    /// `[...]` is dropped when one of its facts is absent; `\[` is a bracket. Process, descriptor, other end and cure
    /// stand around it already.
    pub says: &'static str,
    /// CRIU's own texts for it, as in its sources, any of which may stand in its log. `{when} text`: it does so on a
    /// condition; `{words}` alone tells what no text of CRIU's does.
    pub criu: &'static [&'static str],
    /// Where CRIU does it: file:function.
    pub source: &'static str,
    /// Versions that refuse: `all`, `3.17.1-4.1.1`, `4.1+`.
    pub versions: &'static str,
    /// In the order a reader should try them.
    pub lifts: &'static [Lift],
    pub phase: Phase,
    pub when: When,
    pub evidence: Evidence,
    /// Pushes a finding for every offending resource.
    pub check: fn(&Rule, &Ctx, &mut Sink),
}

/// What a rule may look at.
pub struct Ctx<'a> {
    pub snap: &'a Snapshot,
    pub host: &'a Host,
    pub index: Index<'a>,
    pub socks: sock::Socks<'a>,
    /// The mounts as CRIU has them.
    mounts: mount_model::Model<'a>,
    /// Every path that fails one of CRIU's tests.
    bad_paths: Vec<path_model::Bad<'a>>,
}

impl<'a> Ctx<'a> {
    pub fn new(snap: &'a Snapshot, host: &'a Host) -> Self {
        let index = Index::new(snap);
        let socks = sock::Socks::new(snap, &index);
        let mut ctx =
            Ctx { snap, host, index, socks, mounts: mount_model::Model::new(snap, host), bad_paths: Vec::new() };
        ctx.bad_paths = path_model::all(&ctx);
        ctx
    }

    /// Every descriptor of the tree. A table shared with an earlier task is walked once, as CRIU does.
    pub fn files(&self) -> impl Iterator<Item = (&'a Task, &'a OpenFile)> + '_ {
        self.snap.tasks.iter().flat_map(|t| t.files.iter().map(move |f| (t, f)))
    }

    /// Every process that is not dead.
    pub fn live_tasks(&self) -> impl Iterator<Item = &'a Task> + '_ {
        self.snap.tasks.iter().filter(|t| !t.is_zombie())
    }

    /// Whether the whole tree is stopped and we are its tracer.
    pub fn frozen(&self) -> bool {
        self.snap.look == Look::Frozen
    }
}
