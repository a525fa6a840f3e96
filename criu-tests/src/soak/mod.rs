//! Random trees, CRIU's verdict on them and the plugin's: see the program `soak`.

mod back;
pub mod generate;
mod mounts;
pub mod peel;
mod random;
pub mod shrink;

use crate::criu::{pages, Criu, Ran};
use crate::fixtures::{self, As, Expect, Versions};
use crate::trial::{set, Outcome, Report, Setup, Stage, FROZEN_ONLY, NO_PASSCRED};
use back::Ready;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

pub use back::Fate;
pub use random::Random;

/// A tree and the options it is dumped with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// For mkres.
    pub words: Vec<String>,
    /// Each an option with its value.
    pub opts: Vec<String>,
    /// Frozen by a cgroup instead of ptrace.
    pub freeze_cgroup: bool,
}

/// How CRIU and the plugin got on.
pub enum Verdict {
    /// Dumped, with the plugin looking on; and what came of it then.
    Dumped(Fate),
    /// Refused by both.
    Refused {
        /// CRIU's reason where no fixture knows it: then it is not known which rule would be the right one.
        unknown: Option<String>,
        /// The rules that refused.
        rules: BTreeSet<String>,
    },
    /// The plugin only warned, of what no plugin can be sure of, and CRIU refused.
    Warned,
    /// The kernel or mkres would not have it.
    NotMade(String),
    Disagree(Disagreement),
}

#[derive(Clone, Debug)]
pub struct Disagreement {
    pub kind: Kind,
    pub says: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// CRIU alone dumps it.
    FalseRefusal,
    /// CRIU refuses, the plugin had nothing to say.
    Miss,
    /// Both refuse, but no finding fits CRIU's reason.
    OtherReason,
    /// Both refuse, the plugin after memory was written or leaving the tree changed.
    Trace,
    /// CRIU did not end.
    Hang,
    /// The plugin left no report, or CRIU does not end well only with it.
    Fault,
    /// A resource is refused although the option that was named for it is given.
    Cure,
    /// The dump is not restored, and was not announced.
    Unrestored,
    /// The dump is restored, though the plugin has said that it cannot be.
    Restored,
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let frozen = if self.freeze_cgroup { " --freeze-cgroup" } else { "" };
        write!(f, "{}  criu: {}{frozen}", self.words.join(" "), self.opts.join(" "))
    }
}

/// What CRIU's log says when it refuses, and the rules that name it: as the fixtures have it.
fn known(version: &str) -> Vec<(&'static str, BTreeSet<&'static str>)> {
    let mut all = Vec::new();
    if Versions::UpTo("4.1").includes(version) {
        all.push((NO_PASSCRED, BTreeSet::from(["socket-opt-passcred"])));
    }
    for f in fixtures::all() {
        let Expect::Refuse(says) = f.expect_on(version) else { continue };
        if says.contains("Dumping FAILED") || f.unforeseeable.is_some() {
            continue;
        }
        all.push((says, f.blames_on(version).iter().chain(f.warns).map(|b| b.rule).collect()));
    }
    all
}

/// The rules that the fixtures blame for what stands in this log.
fn blamed(ran: &Ran, version: &str) -> BTreeSet<&'static str> {
    // CRIU goes on without an exe it cannot find, -3 in place of a descriptor.
    let errors: Vec<&str> = ran.errors().into_iter().filter(|e| !e.contains("for fd=-3 path=")).collect();
    let said = |says: &str| errors.iter().any(|e| e.contains(says));
    known(version).into_iter().filter(|(says, _)| said(says)).flat_map(|(_, rules)| rules).collect()
}

/// CRIU says the same of every task; the first few lines tell it.
fn first(lines: &[impl AsRef<str>]) -> String {
    let few: Vec<&str> = lines.iter().take(3).map(AsRef::as_ref).collect();
    let more = if lines.len() > 3 { format!(" | and {} more", lines.len() - 3) } else { String::new() };
    few.join(" | ") + &more
}

fn disagree(kind: Kind, says: impl Into<String>) -> Verdict {
    Verdict::Disagree(Disagreement { kind, says: says.into() })
}

fn outcome(o: Outcome) -> Verdict {
    match o {
        Outcome::Skipped(why) | Outcome::Failed(why) => Verdict::NotMade(why),
        Outcome::Passed => Verdict::NotMade("nothing was tried".into()),
    }
}

/// Dumps it with the plugin; if that fails, without it as well. A dump that passes with the plugin is CRIU's own answer
/// and needs no second one.
pub fn check(case: &Case, criu: &Criu, setup: &Setup, dir: &Path) -> Verdict {
    let verdict = judge(case, criu, setup, dir).unwrap_or_else(outcome);
    if std::env::var_os("KEEP").is_none() {
        let _ = std::fs::remove_dir_all(dir);
    }
    verdict
}

/// The same without what this machine cannot make, each word with the reason.
pub fn check_what_can_be_made(
    case: &mut Case,
    criu: &Criu,
    setup: &Setup,
    dir: &Path,
) -> (Verdict, Vec<(String, String)>) {
    let mut left_out = Vec::new();
    loop {
        let verdict = check(case, criu, setup, dir);
        let Verdict::NotMade(why) = &verdict else { return (verdict, left_out) };
        let Some((word, why)) = unmade(case, why) else { return (verdict, left_out) };
        case.words.retain(|w| *w != word);
        left_out.push((word, why));
    }
}

/// The word that mkres names as what it could not make, and why.
pub(crate) fn unmade(case: &Case, why: &str) -> Option<(String, String)> {
    let (_, reason) = why.rsplit_once("mkres: ")?;
    let named = |w: &&String| reason.strip_prefix(w.as_str()).is_some_and(|rest| rest.starts_with(": "));
    let word = case.words.iter().filter(named).max_by_key(|w| w.len())?;
    Some((word.clone(), reason.get(word.len() + 2..)?.to_string()))
}

fn judge(case: &Case, criu: &Criu, setup: &Setup, dir: &Path) -> Result<Verdict, Outcome> {
    let Some(plugin) = &setup.plugin else { return Err(Outcome::Skipped("no plugin".into())) };
    let (with, alone) = (dir.join("plugin"), dir.join("alone"));
    let mut stage = set(&case.words.join(" "), setup, &with)?;
    let ready = Ready::of(case, &stage, &with).map_err(Outcome::Failed)?;
    let ran = dump(case, criu, &stage, plugin, &with)?;
    let report = match answer(&ran, &with) {
        Ok(report) => report,
        Err(verdict) => return Ok(verdict),
    };
    let refused = report.refused_rules();
    if ran.ok {
        return Ok(passed(&report, || back::restore(case, &ready, criu, &mut stage, plugin, &with, &report)));
    }
    if refused.is_empty() {
        drop(stage);
        if warned(&report, &ran, criu) {
            return Ok(Verdict::Warned);
        }
        let stage = set(&case.words.join(" "), setup, &alone)?;
        let ran_alone = dump(case, criu, &stage, &setup.no_plugins, &alone)?;
        return Ok(missed(&ran, &ran_alone));
    }
    if pages(&with) > 0 {
        return Ok(disagree(Kind::Trace, format!("memory was written before {refused:?}")));
    }
    if let Some(how) = stage.tree.disturbed() {
        return Ok(disagree(Kind::Trace, format!("{how}; {refused:?}")));
    }
    let ran = dump(case, criu, &stage, &setup.no_plugins, &alone)?;
    if ran.ok {
        return Ok(disagree(Kind::FalseRefusal, first(&report.messages())));
    }
    let rules = refused.iter().map(|r| r.to_string()).collect();
    let (blamed, named) = (blamed(&ran, &criu.version), report.rules());
    if blamed.is_empty() {
        return Ok(Verdict::Refused { unknown: Some(format!("{:?}: {}", named, ran.reason())), rules });
    }
    // SO_INQ does not show before the frozen look peeks.
    let peeked = |b: &&str| FROZEN_ONLY.contains(b) || **b == *"unix-queue-cmsg";
    // Nor is what lies in queues seen before.
    let queued = case.words.iter().any(|w| w.starts_with("in-queue") || w.starts_with("unix-queued"));
    let unseen = |b: &&str| report.is_early() && (queued || peeked(b));
    Ok(match blamed.iter().any(|b| named.contains(b) || unseen(b)) {
        true => Verdict::Refused { unknown: None, rules },
        false => {
            disagree(Kind::OtherReason, format!("{} | plugin: {}", first(&ran.errors()), first(&report.messages())))
        }
    })
}

/// What the plugin said of a dump; or the verdict, where it cannot have said anything.
fn answer(ran: &Ran, dir: &Path) -> Result<Report, Verdict> {
    if ran.timed_out {
        return Err(disagree(Kind::Hang, "with the plugin"));
    }
    Report::of(&dir.join("work/preflight.json"), &ran.log).map_err(|e| {
        match ran.ok || ran.log.contains("preflight: ") {
            true => disagree(Kind::Fault, e),
            false => Verdict::NotMade(format!("CRIU ends before it loads a plugin: {}", ran.reason())),
        }
    })
}

/// CRIU has dumped it, the plugin looking on.
fn passed(report: &Report, restore: impl FnOnce() -> Verdict) -> Verdict {
    match report.refused_rules().is_empty() {
        true => restore(),
        false => disagree(Kind::FalseRefusal, format!("dumped, but the report refuses: {}", first(&report.messages()))),
    }
}

/// Whether the plugin warned of what CRIU then refused.
fn warned(report: &Report, ran: &Ran, criu: &Criu) -> bool {
    let warned = report.rules();
    blamed(ran, &criu.version).iter().any(|b| warned.contains(b))
}

fn missed(ran: &Ran, alone: &Ran) -> Verdict {
    let (kind, who) = if alone.ok { (Kind::Fault, "only with the plugin") } else { (Kind::Miss, "CRIU refuses") };
    disagree(kind, format!("{who}: {}", first(&ran.errors())))
}

fn dump(case: &Case, criu: &Criu, stage: &Stage, libdir: &Path, dir: &Path) -> Result<Ran, Outcome> {
    // Only the last answer counts.
    for old in ["work/preflight.json", "work/dump.log"] {
        let _ = std::fs::remove_file(dir.join(old));
    }
    let mut args = vec!["-t".to_string(), stage.tree.pid.to_string()];
    let old = Versions::UpTo("4.1").includes(&criu.version);
    for o in case.opts.iter().filter(|o| !old || *o != "--allow-uprobes") {
        // What an option names may not be there any more in a smaller tree.
        args.extend(stage.tree.fill(o).unwrap_or_default());
    }
    std::fs::create_dir_all(dir).map_err(|e| Outcome::Failed(format!("{}: {e}", dir.display())))?;
    let cgroup =
        case.freeze_cgroup.then(|| Cgroup::of(&stage.tree.inside, dir)).transpose().map_err(Outcome::Skipped)?;
    if let Some(c) = &cgroup {
        args.extend(["--freeze-cgroup".to_string(), c.at.to_string_lossy().into_owned()]);
    }
    criu.run("dump", dir, libdir, &args, As::Root).map_err(Outcome::Failed)
}

/// A cgroup that can be frozen, with the tree in it.
struct Cgroup {
    at: PathBuf,
    up: PathBuf,
    pids: BTreeSet<i32>,
}

impl Cgroup {
    fn of(pids: &BTreeSet<i32>, dir: &Path) -> Result<Cgroup, String> {
        let v1 = Path::new("/sys/fs/cgroup/freezer");
        let up = if v1.exists() { v1 } else { Path::new("/sys/fs/cgroup") };
        let name: String = dir.to_string_lossy().chars().map(|c| if c == '/' { '-' } else { c }).collect();
        let at = up.join(format!("preflight-soak{name}"));
        std::fs::create_dir(&at).map_err(|e| format!("{}: {e}", at.display()))?;
        let c = Cgroup { at, up: up.into(), pids: pids.clone() };
        c.pids.iter().try_for_each(|p| enter(&c.at, *p))?;
        Ok(c)
    }
}

fn enter(at: &Path, pid: i32) -> Result<(), String> {
    match std::fs::write(at.join("cgroup.procs"), pid.to_string()) {
        // A dead one is in none.
        Err(e) if e.raw_os_error() != Some(libc::ESRCH) => Err(format!("{}: {e}", at.display())),
        _ => Ok(()),
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for p in &self.pids {
            let _ = enter(&self.up, *p);
        }
        for _ in 0..20 {
            if std::fs::remove_dir(&self.at).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        // The dead of the tree have not been waited for yet.
        LEFT.lock().unwrap_or_else(PoisonError::into_inner).push(self.at.clone());
    }
}

static LEFT: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Removes cgroups that could not be removed before.
pub fn sweep() {
    LEFT.lock().unwrap_or_else(PoisonError::into_inner).retain(|at| std::fs::remove_dir(at).is_err());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_made_is_known_by_its_word() {
        let words = ["raw", "raw:diag=yes", "dev"].map(String::from).to_vec();
        let case = Case { words, opts: vec![], freeze_cgroup: false };
        let of = |why: &str| unmade(&case, why).map(|(word, why)| format!("{word} = {why}"));
        assert_eq!(of("mkres: raw:diag=yes: it cannot: 4").as_deref(), Some("raw:diag=yes = it cannot: 4"));
        let broken = "mkres raw dev: exit status: 2: mkres: dev: path=... is needed";
        assert_eq!(of(broken).as_deref(), Some("dev = path=... is needed"));
        assert_eq!(of("mkres: unshare(CLONE_NEWPID): no"), None);
    }
}
