//! One fixture on one CRIU: without the plugin, then with it.

mod answer;
mod report;
mod restore;
mod stage;
mod wanted;

use crate::criu::{pages, Criu};
use crate::dry::DryRun;
use crate::examples::{Examples, Seen};
use crate::fixtures::{As, Expect, Fixture};
use crate::mounts::Btrfs;
use restore::{fate, restore, Before, Restored};
use stage::{dump, hanging};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use wanted::Wanted;

pub(crate) use report::names;
pub use report::Report;
pub use restore::Fate;
pub(crate) use stage::{dumped, make, options, set, Stage};
pub use wanted::passcred_refused;
pub(crate) use wanted::{FROZEN_ONLY, NO_PASSCRED};

pub enum Outcome {
    Passed,
    Failed(String),
    Skipped(String),
}

/// What a trial runs with.
pub struct Setup {
    /// A directory with preflight_plugin.so alone, or none to ask CRIU only.
    pub plugin: Option<PathBuf>,
    /// The command whose answer must be the plugin's, if it is asked as well.
    pub dry_run: Option<DryRun>,
    /// A directory with nothing in it.
    pub no_plugins: PathBuf,
    /// Where directories of runs are made.
    pub base: PathBuf,
    pub btrfs: Btrfs,
    /// Keeps what is printed, if asked for.
    pub examples: Option<Examples>,
}

/// What CRIU alone did, for the table.
pub struct Recorded {
    pub verdict: &'static str,
    pub pages: usize,
    pub says: String,
    pub millis: u128,
    /// What became of the dump.
    pub fate: Option<Fate>,
    /// The line of its log with the text that the fixture expects.
    pub line: Option<String>,
}

/// Runs everything; the record is there as soon as CRIU alone has answered.
pub fn run(f: &Fixture, criu: &Criu, setup: &Setup) -> (Outcome, Option<Recorded>) {
    let wanted = Wanted::of(f, criu);
    if let Expect::Skip(why) = wanted.expect {
        return (Outcome::Skipped(why.into()), None);
    }
    if let Some(why) = missing(f.run_as, &setup.base) {
        return (Outcome::Skipped(why), None);
    }
    if let Some(why) = f.copies_mounts.then(crate::mounts::foreign).flatten() {
        return (Outcome::Skipped(why), None);
    }
    let dir = setup.base.join(format!("{}-{}", criu.version, f.name));
    let once = || once(f, criu, &wanted, setup, &dir);
    let (mut outcome, mut record) = once();
    for _ in 0..2 {
        // Somebody else on this machine was given the number that the restore needs.
        let taken = |why: &str| why.contains("with specified index") || why.contains("File exists");
        if matches!(&outcome, Outcome::Failed(why) if taken(why)) {
            (outcome, record) = once();
        }
    }
    if matches!(outcome, Outcome::Failed(_)) && std::env::var_os("KEEP").is_some() {
        eprintln!("kept: {}", dir.display());
    } else {
        let _ = std::fs::remove_dir_all(&dir);
    }
    (outcome, record)
}

fn once(f: &Fixture, criu: &Criu, wanted: &Wanted, setup: &Setup, dir: &Path) -> (Outcome, Option<Recorded>) {
    let (outcome, record) = match alone(f, criu, wanted, setup, &dir.join("alone")) {
        Err(e) => (e, None),
        Ok((Some(wrong), r)) => (Outcome::Failed(wrong), Some(r)),
        Ok((None, r)) => match &setup.plugin {
            None => (Outcome::Passed, Some(r)),
            Some(p) => match with_plugin(f, criu, wanted, setup, p, &dir.join("plugin"), r.line.as_deref()) {
                Ok(fate) => (Outcome::Passed, Some(Recorded { fate, ..r })),
                Err(e) => (e, Some(r)),
            },
        },
    };
    (outcome, record)
}

/// Why this machine cannot run CRIU so.
fn missing(who: As, base: &Path) -> Option<String> {
    if who == As::PlainDev && crate::mounts::is_on_tmpfs(base) {
        return Some(format!("{} is on a tmpfs, which CRIU takes for a devtmpfs", base.display()));
    }
    let As::With(caps) = who else { return None };
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let eff = status.lines().find_map(|l| l.strip_prefix("CapEff:")).unwrap_or("0").trim();
    let eff = u64::from_str_radix(eff, 16).unwrap_or(0);
    let lacking: Vec<String> = caps.iter().filter(|c| eff >> **c & 1 == 0).map(|c| c.to_string()).collect();
    (!lacking.is_empty()).then(|| format!("this machine has no capability number {}", lacking.join(", ")))
}

/// In one line.
fn said(restored: &Restored) -> String {
    match restored {
        Restored::Failed(why) => format!("not restored: {why}"),
        Restored::Back(differences) if differences.is_empty() => "restored as it was".into(),
        Restored::Back(differences) => {
            let all: Vec<String> = differences.iter().map(ToString::to_string).collect();
            format!("restored, changed: {}", all.join(" ¦ "))
        }
    }
}

fn broken(e: impl ToString) -> Outcome {
    Outcome::Failed(e.to_string())
}

/// What the restore needs to know of a tree that is expected to be dumped.
fn before(f: &Fixture, criu: &Criu, w: &Wanted, stage: &Stage, dir: &Path) -> Result<Option<Before>, Outcome> {
    let accepted = matches!(w.expect, Expect::Accept);
    accepted.then(|| Before::of(f, &criu.version, stage, dir)).transpose().map_err(broken)
}

/// CRIU without the plugin against the fixture's expectation. `Some` text: where it differs.
fn alone(f: &Fixture, criu: &Criu, w: &Wanted, s: &Setup, dir: &Path) -> Result<(Option<String>, Recorded), Outcome> {
    let mut stage = make(f, s, dir)?;
    let opts = options(f, criu, &stage.tree)?;
    let before = before(f, criu, w, &stage, dir)?;
    let ran = dump(f, criu, &stage.tree, &s.no_plugins, dir)?;
    let mut record = Recorded {
        verdict: if ran.ok { "accepts" } else { "refuses" },
        pages: pages(dir),
        says: if ran.ok { String::new() } else { ran.reason() },
        millis: ran.time.as_millis(),
        fate: None,
        line: match w.expect {
            Expect::Refuse(says) => ran.log.lines().find(|line| line.contains(says)).map(String::from),
            _ => None,
        },
    };
    let wrong = match w.expect {
        Expect::Accept if !ran.ok => Some(format!("expected to be accepted, CRIU refuses: {}", ran.reason())),
        Expect::Refuse(_) if ran.ok => Some("expected to be refused, CRIU accepts".into()),
        Expect::Refuse(says) if ![Some(says), w.or_says].iter().flatten().any(|s| ran.log.contains(*s)) => {
            Some(format!("CRIU refuses, but not with “{says}”: {}", ran.errors().join(" | ")))
        }
        _ => None,
    };
    // With the plugin the restore is asked there.
    if let (true, None, None, Some(before)) = (ran.ok, &wrong, &s.plugin, before) {
        let restored = restore(f, criu, &mut stage, &s.no_plugins, dir, &opts, &before).map_err(broken)?;
        record.says = said(&restored);
        return Ok(match fate(f, &criu.version, &before, &restored, None) {
            Ok(fate) => (None, Recorded { fate: Some(fate), ..record }),
            Err(how) => (Some(how), record),
        });
    }
    Ok((wrong, record))
}

fn with_plugin(
    f: &Fixture,
    criu: &Criu,
    w: &Wanted,
    s: &Setup,
    plugin: &Path,
    dir: &Path,
    alone: Option<&str>,
) -> Result<Option<Fate>, Outcome> {
    let mut stage = make(f, s, dir)?;
    let opts = options(f, criu, &stage.tree)?;
    let hangs = hanging(f, &stage.tree)?;
    let dry = match &s.dry_run {
        Some(dry) if hangs.is_some() => {
            let said = dry.blind(dumped(f, &stage.tree)?, &opts, criu).map_err(broken)?;
            match hangs.as_ref().is_some_and(|words| said.contains(words)) {
                true => None,
                false => return Err(broken(format!("the dry run does not say “{hangs:?}”: {said}"))),
            }
        }
        // CRIU with fewer rights is refused for want of them; the command is run by root. And some things CRIU alone knows.
        Some(dry) if f.run_as == As::Root && f.inside_criu.is_none() => {
            Some((dry, dry.look(dumped(f, &stage.tree)?, &opts, criu).map_err(broken)?))
        }
        _ => None,
    };
    let read = match (&s.examples, &dry) {
        (Some(_), Some((dry, _))) => dry.text(dumped(f, &stage.tree)?, &opts, criu).map_err(broken)?,
        _ => String::new(),
    };
    let before = before(f, criu, w, &stage, dir)?;
    let ran = dump(f, criu, &stage.tree, plugin, dir)?;
    let report = Report::of(&dir.join("work/preflight.json"), &ran.log);
    if let (Some(examples), Ok(report)) = (&s.examples, &report) {
        let text = format!("{}\n{read}", ran.log);
        let findings = report.findings().collect();
        let seen = Seen { fixture: f, criu, tree: &stage.tree, dir, alone, text: &text, findings };
        examples.take(&seen, &w.places(&stage.tree));
    }
    if let (Some((dry, answer)), Ok(report)) = (&dry, &report) {
        if let Some(how) = dry.differs(answer, &report.refused_where(f.in_queue)) {
            return Err(broken(how));
        }
    }
    if let Some(words) = hangs.filter(|words| !ran.log.contains(words)) {
        return Err(broken(format!("“{words}” is not in the log")));
    }
    match w.expect {
        Expect::Accept => {
            if !ran.ok {
                return Err(broken(format!("CRIU alone accepts, with the plugin it refuses: {}", ran.reason())));
            }
            let report = report.map_err(broken)?;
            let false_alarms = report.refused_rules();
            if !false_alarms.is_empty() {
                return Err(broken(format!("the dump went through, but the report refuses: {false_alarms:?}")));
            }
            let silent = report.silent(&w.warns, &stage.tree);
            if !silent.is_empty() {
                return Err(broken(silent.join("; ")));
            }
            let Some(before) = before else { return Ok(None) };
            let restored = restore(f, criu, &mut stage, plugin, dir, &opts, &before).map_err(broken)?;
            if std::env::var_os("COMPARE").is_some() {
                eprintln!("RESTORED {}::{} {}", criu.version, f.name, said(&restored));
            }
            fate(f, &criu.version, &before, &restored, Some(&report)).map(Some).map_err(broken)
        }
        Expect::Refuse(says) => {
            if ran.ok {
                return Err(broken("CRIU alone refuses, with the plugin it accepts"));
            }
            let refused = if f.unforeseeable.is_some() {
                // CRIU may end before it loads the plugin.
                let refused = report.as_ref().map(Report::refused_rules).unwrap_or_default();
                if !refused.is_empty() || !ran.log.contains(says) {
                    let reason = ran.reason();
                    return Err(broken(format!(
                        "not left to CRIU (“{says}”): {refused:?} are refused; CRIU: {reason}"
                    )));
                }
                None
            } else {
                let report = report.map_err(|e| broken(format!("{e}; CRIU: {}", ran.reason())))?;
                let mut wrong = report.differs(w, &stage.tree);
                wrong.extend(report.silent(&w.warns, &stage.tree));
                if !wrong.is_empty() {
                    return Err(broken(wrong.join("; ")));
                }
                if pages(dir) > 0 && w.warns.is_empty() && !w.unseen {
                    return Err(broken("refused, but only after memory was written"));
                }
                Some(report)
            };
            if f.dies {
                let until = Instant::now() + Duration::from_secs(5);
                while stage.tree.disturbed().is_none() {
                    if Instant::now() > until {
                        return Err(broken("refused, and no process of the tree has ended"));
                    }
                    std::thread::sleep(Duration::from_millis(2));
                }
                return Ok(None);
            }
            match stage.tree.disturbed() {
                Some(how) => return Err(broken(format!("refused, but the tree was not left as it was: {how}"))),
                None => stage.tree.answers(stage.tree.pid).map_err(broken)?,
            }
            match refused {
                Some(report) => {
                    let pid = dumped(f, &stage.tree)?;
                    answer::follow(f, criu, plugin, &dir.join("answer"), pid, &opts, &report).map(|()| None)
                }
                None => Ok(None),
            }
        }
        Expect::Skip(_) => Ok(None),
    }
}
