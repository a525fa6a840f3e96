//! Random trees, CRIU's verdict on them and the plugin's: see the program `soak`.

pub mod generate;
mod mounts;
mod random;
pub mod shrink;

use crate::criu::{pages, Criu, Ran};
use crate::fixtures::{self, As, Expect};
use crate::trial::{set, Outcome, Report, Setup, Stage, FROZEN_ONLY};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

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
    /// Dumped, with the plugin looking on.
    Dumped,
    /// Refused by both.
    Refused {
        /// CRIU's reason where no fixture knows it: then nobody has said which rule would be the right one.
        unknown: Option<String>,
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
    let errors = ran.errors();
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
        Outcome::Passed => Verdict::Dumped,
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

fn judge(case: &Case, criu: &Criu, setup: &Setup, dir: &Path) -> Result<Verdict, Outcome> {
    let Some(plugin) = &setup.plugin else { return Err(Outcome::Skipped("no plugin".into())) };
    let (with, alone) = (dir.join("plugin"), dir.join("alone"));
    let stage = set(&case.words.join(" "), setup, &with)?;
    let ran = dump(case, criu, &stage, plugin, &with)?;
    if ran.timed_out {
        return Ok(disagree(Kind::Hang, "with the plugin"));
    }
    let report = match Report::of(&with.join("work/preflight.json"), &ran.log) {
        Ok(report) => report,
        Err(_) if !ran.ok && !ran.log.contains("preflight: ") => {
            return Ok(Verdict::NotMade(format!("CRIU ends before it loads a plugin: {}", ran.reason())));
        }
        Err(e) => return Ok(disagree(Kind::Fault, e)),
    };
    let refused = report.refused_rules();
    if ran.ok {
        let why = format!("dumped, but the report refuses: {}", first(&report.messages()));
        return Ok(if refused.is_empty() { Verdict::Dumped } else { disagree(Kind::FalseRefusal, why) });
    }
    if refused.is_empty() {
        drop(stage);
        let blamed = blamed(&ran, &criu.version);
        let warned = report.rules();
        if blamed.iter().any(|b| warned.contains(b)) {
            return Ok(Verdict::Warned);
        }
        let stage = set(&case.words.join(" "), setup, &alone)?;
        let ran_alone = dump(case, criu, &stage, &setup.no_plugins, &alone)?;
        let (kind, who) =
            if ran_alone.ok { (Kind::Fault, "only with the plugin") } else { (Kind::Miss, "CRIU refuses") };
        return Ok(disagree(kind, format!("{who}: {}", first(&ran.errors()))));
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
    let (blamed, told) = (blamed(&ran, &criu.version), report.rules());
    if blamed.is_empty() {
        return Ok(Verdict::Refused { unknown: Some(format!("{:?}: {}", told, ran.reason())) });
    }
    let unseen = |b: &&str| report.is_early() && FROZEN_ONLY.contains(b);
    Ok(match blamed.iter().any(|b| told.contains(b) || unseen(b)) {
        true => Verdict::Refused { unknown: None },
        false => {
            disagree(Kind::OtherReason, format!("{} | plugin: {}", first(&ran.errors()), first(&report.messages())))
        }
    })
}

fn dump(case: &Case, criu: &Criu, stage: &Stage, libdir: &Path, dir: &Path) -> Result<Ran, Outcome> {
    let mut args = vec!["-t".to_string(), stage.tree.pid.to_string()];
    for o in &case.opts {
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
        for _ in 0..200 {
            if std::fs::remove_dir(&self.at).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}
