//! What a plan has done, held against looks without one.

use crate::subject::Mode;
use crate::supervise::{Outcome, Plan};
use serde_json::Value;
use std::collections::BTreeSet;

/// Rule and place.
type Blamed = (String, String);

/// What looks of one mode at one tree find if nothing fails.
#[derive(Default)]
pub struct Baseline {
    faulty: One,
    later: One,
    /// What stays open by intention: closing it could wait for somebody.
    left: BTreeSet<String>,
}

#[derive(Default)]
struct One {
    /// Every refusal, each with all of its places.
    refusals: BTreeSet<Vec<Blamed>>,
    /// The same by rule and resource: who is named first for it may depend on what could be seen.
    keys: BTreeSet<Blamed>,
    unchecked: BTreeSet<String>,
}

/// Errors by which the kernel, or who is in the way, tells CRIU the same for the same reason: the refusal is right then. Call,
/// errno, rules.
const CONDITIONS: &[(i64, &[i32], &[&str])] = &[
    // Only the maker of an eBPF filter may read it.
    (libc::SYS_getsockopt, &[libc::EACCES], &["socket-ebpf-filter"]),
    // No CAP_NET_ADMIN; no file, or none that can be opened.
    (libc::SYS_ioctl, &[libc::EPERM], &["unix-siocunixfile"]),
    (libc::SYS_ioctl, &[libc::EPERM], &["netns-no-net-admin", "tcp-repair"]),
    // No settings.
    (libc::SYS_ioctl, &[libc::EINVAL], &["tty-ioctl"]),
    // No such request in this kernel: CRIU's own probe (`kdat_compatible_cr`, criu/arch/x86/kerndat.c).
    (libc::SYS_arch_prctl, &[libc::EINVAL], &["compat-task"]),
    // The directory is somebody else's.
    (libc::SYS_openat, &[libc::EACCES, libc::EPERM], &["proc-denied"]),
    (libc::SYS_getdents64, &[libc::EACCES, libc::EPERM], &["proc-denied"]),
    // CRIU's own stat.
    (libc::SYS_statx, &[libc::EACCES], &["path-stat-error"]),
    (libc::SYS_openat2, &[libc::EACCES], &["path-stat-error"]),
    // No link.
    (libc::SYS_readlinkat, &[libc::EINVAL], &["proc-fd-denied"]),
    (libc::SYS_pidfd_getfd, &[libc::EPERM], &["ptrace-denied"]),
];

/// In the order of their weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Harm {
    /// What a whole look does not refuse is refused.
    FalseRefusal,
    /// The same in a frozen look in which nothing failed, after an early one in which something did.
    FalseLater,
    Crash,
    Panic,
    Hang,
    /// A descriptor, a child, a mount.
    Left,
    /// A refusal is missing, and neither a warning nor a word about what could not be looked at stands for it.
    Lost,
    /// A refusal is missing in a frozen look in which nothing failed.
    LostLater,
    /// No harm. While tables of descriptors could not be compared, what is refused in one is reported again in another that is the
    /// same table: the descriptor is there, and the report says that it could not compare.
    Again,
}

pub const HARMS: [(Harm, &str); 9] = [
    (Harm::FalseRefusal, "false"),
    (Harm::FalseLater, "false-2nd"),
    (Harm::Crash, "crash"),
    (Harm::Panic, "panic"),
    (Harm::Hang, "hang"),
    (Harm::Left, "left"),
    (Harm::Lost, "lost"),
    (Harm::LostLater, "lost-2nd"),
    (Harm::Again, "again"),
];

impl Harm {
    pub const ALL_HARMFUL: usize = Harm::Again as usize;
}

pub struct Harmed {
    pub kind: Harm,
    /// What alike harms have in common.
    pub about: String,
    pub what: String,
}

fn harmed(kind: Harm, about: &str, what: impl ToString) -> Harmed {
    Harmed { kind, about: about.to_string(), what: what.to_string() }
}

impl Baseline {
    /// Whether it found what the ones before have found.
    pub fn add(&mut self, reported: &Value) -> bool {
        let same = [self.faulty.add(&reported["faulty"]), self.later.add(&reported["later"])] == [true, true];
        self.left.extend(left(reported).map(what));
        same
    }

    pub fn refusals(&self) -> usize {
        self.faulty.refusals.len().max(self.later.refusals.len())
    }

    pub fn rules(&self) -> BTreeSet<&str> {
        let all = self.faulty.refusals.iter().chain(&self.later.refusals);
        all.flatten().map(|(rule, _)| rule.as_str()).collect()
    }

    pub fn unchecked(&self) -> impl Iterator<Item = &String> {
        self.faulty.unchecked.iter().chain(&self.later.unchecked)
    }

    /// Each harm, and what it is about.
    pub fn judge(&self, mode: Mode, plan: &Plan, outcome: &Outcome) -> Vec<Harmed> {
        let mut harms = Vec::new();
        if let Some(why) = &outcome.harm {
            let kind = if why.starts_with("died") { Harm::Crash } else { Harm::Hang };
            return vec![harmed(kind, "", why)];
        }
        if let Some(why) = outcome.reported["panic"].as_str() {
            harms.push(harmed(Harm::Panic, why, ""));
        }
        for left in left(&outcome.reported) {
            if !allowed_to_stay(plan, left, &outcome.reported) && !self.left.contains(&what(left)) {
                harms.push(harmed(Harm::Left, &what(left), left));
            }
        }
        if outcome.reported["panic"].is_null() {
            self.faulty.judge(plan, &outcome.reported["faulty"], Harm::FalseRefusal, Harm::Lost, &mut harms);
        }
        if mode == Mode::Early && !outcome.reported["later"].is_null() {
            self.later.judge(plan, &outcome.reported["later"], Harm::FalseLater, Harm::LostLater, &mut harms);
        }
        harms
    }
}

fn left(reported: &Value) -> impl Iterator<Item = &str> {
    findings(&reported["left"]).filter_map(Value::as_str)
}

/// Whether the kernel says that two processes have one table of descriptors.
fn one_table(a: i32, b: i32) -> bool {
    const KCMP_FILES: libc::c_int = 2;
    unsafe { libc::syscall(libc::SYS_kcmp, a, b, KCMP_FILES, 0, 0) == 0 }
}

/// A descriptor of the same number, refused for the same in another process that has the very same table.
fn again(known: &BTreeSet<&Blamed>, finding: &Value) -> bool {
    let number =
        |place: &Value| Some((i32::try_from(place[0].as_i64()?).ok()?, i32::try_from(place[1].as_i64()?).ok()?));
    let same = |place: &Value| {
        let Some((pid, fd)) = number(place).filter(|_| finding["tid"].is_null()) else { return false };
        known.iter().filter(|(rule, _)| finding["rule"] == rule.as_str()).any(|(_, known)| {
            let known: Value =
                known.strip_suffix(" null").and_then(|k| serde_json::from_str(k).ok()).unwrap_or_default();
            number(&known).is_some_and(|(of, number)| number == fd && of != pid && one_table(of, pid))
                && known[2] == place[2]
        })
    };
    findings(&finding["places"]).next().is_some() && findings(&finding["places"]).all(same)
}

/// Without the number of the descriptor, and of what has no name.
fn what(left: &str) -> String {
    let what = left.rsplit(' ').next().unwrap_or_default();
    what.split('[').next().unwrap_or_default().to_string()
}

/// A child that cannot be waited for stays; and what was taken from a queue if it is not known whether closing it waits.
fn allowed_to_stay(plan: &Plan, left: &str, reported: &Value) -> bool {
    // The mounts of a namespace that is not known are not known.
    let doubts = ["unread message", "mountinfo", "None ns "];
    let queue = || unchecked(&reported["faulty"]).any(|u| doubts.iter().any(|doubt| u.contains(doubt)));
    (left.starts_with("child") && plan.nr == libc::SYS_wait4) || (left.starts_with("fd") && queue())
}

impl One {
    fn add(&mut self, look: &Value) -> bool {
        let found: BTreeSet<Vec<Blamed>> = findings(&look["refused"]).map(|f| blamed(f).collect()).collect();
        let same = self.refusals.is_empty() || self.refusals == found;
        self.refusals.extend(found);
        self.keys.extend(findings(&look["refused"]).map(key));
        self.unchecked.extend(unchecked(look));
        same
    }

    fn judge(&self, plan: &Plan, look: &Value, wrong: Harm, missing: Harm, harms: &mut Vec<Harmed>) {
        let known: BTreeSet<&Blamed> = self.refusals.iter().flatten().collect();
        let words = !look["blind"].is_null() || unchecked(look).any(|u| !self.unchecked.contains(&u));
        // Places that are refused for what failed.
        let mut instead: BTreeSet<String> = BTreeSet::new();
        for f in findings(&look["refused"]) {
            let condition = |(nr, errnos, rules): &(i64, &[i32], &[&str])| {
                *nr == plan.nr && errnos.contains(&plan.errno) && f["rule"].as_str().is_some_and(|r| rules.contains(&r))
            };
            if CONDITIONS.iter().any(condition) {
                instead.extend(blamed(f).map(|(_, place)| place));
                continue;
            }
            if !self.keys.contains(&key(f)) && blamed(f).any(|b| !known.contains(&b)) {
                let compared = plan.nr != libc::SYS_kcmp || !words;
                let kind = if !compared && again(&known, f) { Harm::Again } else { wrong };
                harms.push(harmed(kind, f["rule"].as_str().unwrap_or_default(), &f["says"]));
            }
        }
        // A look without a failure has nothing to excuse.
        if words && missing == Harm::Lost {
            return;
        }
        let reported: BTreeSet<Blamed> =
            findings(&look["refused"]).chain(findings(&look["warned"])).flat_map(blamed).collect();
        let is_told = |b: &Blamed| reported.contains(b) || instead.contains(&b.1);
        for lost in self.refusals.iter().filter(|places| !places.iter().any(is_told)) {
            let Some((rule, place)) = lost.first() else { continue };
            harms.push(harmed(missing, rule, place));
        }
    }
}

fn findings(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// Rule and resource.
fn key(finding: &Value) -> Blamed {
    let text = |name: &str| finding[name].as_str().unwrap_or_default().to_string();
    (text("rule"), text("key"))
}

fn blamed(finding: &Value) -> impl Iterator<Item = Blamed> + '_ {
    let rule = finding["rule"].as_str().unwrap_or_default();
    findings(&finding["places"]).map(move |place| (rule.to_string(), format!("{place} {}", finding["tid"])))
}

fn unchecked(look: &Value) -> impl Iterator<Item = String> + '_ {
    findings(&look["unchecked"]).filter_map(|u| u.as_str()).map(String::from)
}
