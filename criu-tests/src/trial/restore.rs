//! The restore of what was dumped, held against what was there before.

use super::{dumped, Report, Stage};
use crate::compare::{Difference, State};
use crate::criu::Criu;
use crate::fixtures::{Fixture, Loss, Lost, NoRestore};
use crate::given::Given;
use std::path::Path;

/// What is known before the dump and needed after it.
pub(super) struct Before {
    state: State,
    /// For the restore alone, filled in while the tree was alive.
    opts: Vec<String>,
    given: Given,
    /// Where the report has to say that it cannot be restored, if it cannot.
    places: Vec<(i32, Option<i32>)>,
}

/// What came of a restore.
pub enum Restored {
    /// It lives, and differs so from what it was.
    Back(Vec<Difference>),
    /// CRIU's reason, or the tree's.
    Failed(String),
}

impl Before {
    pub(super) fn of(f: &Fixture, version: &str, stage: &Stage, dir: &Path) -> Result<Before, String> {
        let tree = &stage.tree;
        let pid = dumped(f, tree).map_err(|_| format!("no {} to look at", f.of))?;
        let mut given = Given::default();
        if f.terminal {
            given.terminal()?;
        }
        let place = dir.join("given");
        std::fs::create_dir_all(&place).map_err(|e| e.to_string())?;
        let mut opts = f.restore_opts.replace("{given}", &place.to_string_lossy());
        if let Some((head, (size, tail))) = opts.split_once("{given:").and_then(|(h, t)| Some((h, t.split_once('}')?)))
        {
            let size = size.parse().map_err(|e| format!("{size}: {e}"))?;
            let made = std::fs::File::create(place.join("file")).and_then(|file| file.set_len(size));
            made.map_err(|e| e.to_string())?;
            opts = format!("{head}{}{tail}", place.display());
        }
        let opts = hand_in(&tree.fill(&opts)?, &mut given)?;
        let places = match f.no_restore_on(version) {
            Some(NoRestore::Rule(finding)) => finding.place.split('|').filter_map(|p| tree.place(p)).collect(),
            _ => Vec::new(),
        };
        Ok(Before { state: State::of(pid), opts, given, places })
    }
}

/// `<KIND>` becomes the number of a descriptor of that kind that is handed in.
fn hand_in(opts: &[String], given: &mut Given) -> Result<Vec<String>, String> {
    let one = |opt: &String| {
        let Some((head, rest)) = opt.split_once('<') else { return Ok(opt.clone()) };
        let (kind, tail) = rest.split_once('>').ok_or_else(|| format!("{opt}: no >"))?;
        Ok(format!("{head}{}{tail}", given.descriptor(kind)?))
    };
    opts.iter().map(one).collect()
}

/// Restores what was dumped, compares it, and asks it whether it lives.
pub(super) fn restore(
    f: &Fixture,
    criu: &Criu,
    stage: &mut Stage,
    libdir: &Path,
    dir: &Path,
    opts: &[String],
    before: &Before,
) -> Result<Restored, String> {
    let root = stage.root_option();
    let tree = &mut stage.tree;
    tree.end_inside();
    let pidfile = dir.join("restored.pid");
    let mut args = vec!["-d".to_string(), "--pidfile".into(), pidfile.to_string_lossy().into_owned()];
    args.extend(root);
    // To a restore it would say that the tree is to be left stopped.
    args.extend(opts.iter().filter(|opt| *opt != "--leave-stopped").cloned());
    args.extend(before.opts.iter().cloned());
    let ran = criu.restore(dir, libdir, &args, f.run_as, &before.given)?;
    if !ran.ok {
        return Ok(Restored::Failed(ran.reason()));
    }
    let pid = std::fs::read_to_string(&pidfile).unwrap_or_default().trim().parse().unwrap_or(0);
    tree.pid = pid;
    let differences = before.state.differences(&State::of(pid));
    Ok(match tree.answers(pid) {
        Ok(()) => Restored::Back(differences),
        Err(e) => Restored::Failed(e),
    })
}

/// What became of a dump that CRIU made, as the fixture expects it.
#[derive(Clone, Copy)]
pub enum Fate {
    /// Restored, and nothing that is looked at has changed.
    Same,
    /// Restored, and something is lost.
    Changed,
    /// Not restored, as the report of the dump says.
    Announced,
    /// Not restored, and no rule says so.
    Unannounced(&'static str),
    /// Not restored, and the report is not certain of it.
    Doubted(&'static str),
    /// Not restored, for the sake of the test.
    Harness(&'static str),
}

/// What became of it; an error where that, or what the plugin said of it, is not what the fixture expects.
pub(super) fn fate(
    f: &Fixture,
    version: &str,
    before: &Before,
    restored: &Restored,
    report: Option<&Report>,
) -> Result<Fate, String> {
    let said = report.map(Report::unrestorable).unwrap_or_default();
    let expected = f.no_restore_on(version);
    match (restored, expected) {
        (Restored::Failed(why), None) => Err(format!("dumped, but not restored: {why}; announced by {said:?}")),
        (Restored::Failed(_), Some(NoRestore::Rule(finding))) => match report
            .map(|r| r.announces(finding.rule, &before.places))
        {
            Some(false) => Err(format!("not restored, and {} does not say so of “{}”", finding.rule, finding.place)),
            _ => Ok(Fate::Announced),
        },
        (Restored::Failed(_), Some(_)) if !said.is_empty() => Err(format!("not restored, and announced by {said:?}")),
        (Restored::Failed(_), Some(NoRestore::Unannounced(why))) => Ok(Fate::Unannounced(why)),
        (Restored::Failed(_), Some(NoRestore::Doubted(why))) => Ok(Fate::Doubted(why)),
        (Restored::Failed(_), Some(NoRestore::Harness(why))) => Ok(Fate::Harness(why)),
        (Restored::Back(_), Some(_)) => Err("restored, though that is expected to fail".into()),
        (Restored::Back(_), None) if !said.is_empty() => {
            Err(format!("restored, though {said:?} say that it cannot be"))
        }
        (Restored::Back(differences), None) => match changed(f.lost, version, differences) {
            Some(how) => Err(how),
            None if differences.is_empty() => Ok(Fate::Same),
            None => Ok(Fate::Changed),
        },
    }
}

/// Changes that are not expected, and expected ones that have not come.
fn changed(lost: &[Lost], version: &str, differences: &[Difference]) -> Option<String> {
    let lost: Vec<&Lost> = lost.iter().filter(|l| l.versions.is_none_or(|v| v.includes(version))).collect();
    let known = |d: &&Difference| lost.iter().any(|l| d.at.contains(l.what));
    let mut wrong: Vec<String> =
        differences.iter().filter(|d| !known(d)).map(|d| format!("comes back changed: {d}")).collect();
    let came = |l: &&&Lost| differences.iter().any(|d| d.at.contains(l.what));
    wrong.extend(
        lost.iter()
            .filter(|l| l.why != Loss::Sometimes && !came(l))
            .map(|l| format!("comes back as it was, though it is said to be lost: {}", l.what)),
    );
    (!wrong.is_empty()).then(|| wrong.join("; "))
}
