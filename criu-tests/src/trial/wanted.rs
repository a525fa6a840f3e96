//! What is expected of a fixture here.

use crate::criu::Criu;
use crate::fixtures::{Expect, ExpectedFinding, Fixture, NoRestore, Versions};
use crate::tree::Tree;

/// Kernels from 6.16 answer SO_PASSCRED on UNIX, netlink and Bluetooth sockets only, and CRIU up to 4.1.1 asks it of
/// every socket: there it refuses every IP and packet socket.
pub fn passcred_refused() -> bool {
    let s = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0) };
    let (mut v, mut len) = (0i32, 4u32);
    let at = (&raw mut v).cast();
    let r = unsafe { libc::getsockopt(s, libc::SOL_SOCKET, libc::SO_PASSCRED, at, &mut len) };
    let refused = r != 0;
    unsafe { libc::close(s) };
    refused
}

/// What is expected here: the fixture's word, and what this kernel adds to it.
pub(super) struct Wanted {
    pub(super) expect: Expect,
    pub(super) blames: Vec<ExpectedFinding>,
    pub(super) warns: Vec<ExpectedFinding>,
    /// What says that the dump cannot be restored.
    announces: Option<ExpectedFinding>,
    /// Another reason that CRIU may give: it stops at the first it meets.
    pub(super) or_says: Option<&'static str>,
    /// This CRIU calls no plugin at a time when the reason could be seen: it refuses as late as without the plugin.
    pub(super) unseen: bool,
}

/// Rules about what comes and goes by itself: they refuse only once the tree is frozen, which the plugin does not see before
/// CRIU 4.0. Until then they warn.
const VOLATILE: &[&str] = &[
    "netlink-data",
    "tcp-inflight",
    "tcp-odd-state",
    "tcp-recv-queue",
    "thread-zombie",
    "unix-icon-closed",
    "unix-icon-data",
    "unix-queue-cmsg",
    "vfork-in-flight",
    "zombie-with-children",
];

/// Rules about what only a tracer is shown, or what is peeked at in a frozen tree only: nothing is said of it before CRIU 4.0, nor
/// where the early look has refused already.
pub(crate) const FROZEN_ONLY: &[&str] =
    &["compat-task", "ldt-selector", "rseq-area", "unix-queue-reset", "unix-queue-trunc", "unix-queue-tty"];

/// Rules about what is looked at in the last look only, which is not taken where the early one refuses.
const LAST_LOOK: &[&str] = &["lost-socket-option"];

pub(crate) const NO_PASSCRED: &str = "Can't get 1:16 opt";

impl Wanted {
    pub(super) fn new(expect: Expect, blames: Vec<ExpectedFinding>) -> Wanted {
        Wanted { expect, blames, warns: Vec::new(), announces: None, or_says: None, unseen: false }
    }

    pub(super) fn of(f: &Fixture, criu: &Criu) -> Wanted {
        let expect = f.expect_on(&criu.version);
        let blames = f.blames_on(&criu.version).to_vec();
        let announces = match f.no_restore_on(&criu.version) {
            Some(NoRestore::Rule(finding)) => Some(finding),
            _ => None,
        };
        let mut w = Wanted { announces, warns: f.warns.to_vec(), ..Wanted::new(expect, blames) };
        if Versions::UpTo("3.19").includes(&criu.version) {
            if f.in_queue && !w.blames.is_empty() {
                // What a process has as well, is doubted there.
                let held = |b: ExpectedFinding| {
                    if b.place.ends_with(".holder") {
                        ExpectedFinding { rule: "unix-queue-scm-fd", ..b }
                    } else {
                        b
                    }
                };
                w.warns = w.blames.drain(..).map(held).collect();
                w.unseen = true;
            } else if f.in_queue {
                // What follows from what lies there is not known.
                w.warns.clear();
            } else {
                w.only_warn();
            }
        }
        if matches!(expect, Expect::Accept) {
            w.blames.clear();
            // On these versions only; where all accept it, that is what is warned of.
            if !matches!(f.expect, Expect::Accept) {
                w.warns.clear();
            }
        }
        if let Some(place) = f.inet {
            let old = Versions::UpTo("4.1").includes(&criu.version);
            if old && passcred_refused() {
                w.blames.push(ExpectedFinding { rule: "socket-opt-passcred", place });
                w.or_says = Some(NO_PASSCRED);
                w.warns.retain(|b| !LAST_LOOK.contains(&b.rule));
                if matches!(expect, Expect::Accept) {
                    w.expect = Expect::Refuse(NO_PASSCRED);
                }
            }
        }
        w
    }

    /// What has to be named, and where: any of those of a rule.
    pub(super) fn places(&self, tree: &Tree) -> Vec<(&'static str, i32, Option<i32>)> {
        let all = self.blames.iter().chain(&self.warns).chain(&self.announces);
        let places = |b: &ExpectedFinding| {
            let rule = b.rule;
            b.place.split('|').filter_map(|p| tree.place(p)).map(|(pid, fd)| (rule, pid, fd)).collect::<Vec<_>>()
        };
        all.flat_map(places).collect()
    }

    /// There is no frozen look.
    fn only_warn(&mut self) {
        let volatile = |b: &ExpectedFinding| VOLATILE.contains(&b.rule);
        self.warns.extend(self.blames.iter().copied().filter(volatile));
        self.blames.retain(|b| !volatile(b));
        let all = self.blames.len();
        self.blames.retain(|b| !FROZEN_ONLY.contains(&b.rule));
        self.unseen = self.blames.len() != all;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::at;

    #[test]
    fn before_4_0_only_what_comes_and_goes_is_a_warning() {
        let rules = |b: &[ExpectedFinding]| b.iter().map(|b| b.rule).collect::<Vec<_>>();
        let expect = Expect::Refuse("");
        let blames = vec![at("tcp-inflight", "a"), at("tcp-connected", "b")];
        let mut w = Wanted::new(expect, blames);
        w.only_warn();
        assert_eq!((rules(&w.blames), rules(&w.warns)), (vec!["tcp-connected"], vec!["tcp-inflight"]));
        assert!(!w.unseen);
        let blames = vec![at("ldt-selector", "a")];
        let mut w = Wanted::new(expect, blames);
        w.only_warn();
        assert_eq!((w.blames.len(), w.warns.len(), w.unseen), (0, 0, true));
    }
}
