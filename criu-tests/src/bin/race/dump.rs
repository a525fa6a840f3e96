//! One dump of one tree, and what became of it.

use crate::kinds::Kind;
use crate::tree::{NoTree, Tree};
use criu_tests::criu::{Criu, Ran};
use criu_tests::fixtures::As;
use criu_tests::soak::Random;
use criu_tests::trial::Report;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Where everything of a run is.
pub struct Place {
    pub base: PathBuf,
    /// A directory with the plugin alone, and an empty one.
    pub plugin: PathBuf,
    pub no_plugins: PathBuf,
    /// The plugin only warns, and looks at the frozen tree alone (`--warn`).
    pub warn: bool,
}

pub enum End {
    Made,
    /// By CRIU, whose reason this is, without its numbers.
    Failed(String),
    /// By the plugin.
    Refused {
        early: bool,
        rules: BTreeSet<String>,
    },
}

pub struct Dump {
    pub end: End,
    pub log: String,
    /// What must not be, in classes: the word before the colon.
    pub harm: Vec<String>,
    /// The plugin's error lines.
    pub lines: Vec<String>,
    /// The frozen look could not see all.
    pub unseen: bool,
}

/// Makes the tree of `seed`, waits a moment that the seed tells as well, dumps it and lets it run on, ends it.
pub fn dump(kind: &Kind, seed: u64, criu: &Criu, with: bool, place: &Place) -> Result<Dump, NoTree> {
    let dir = place.base.join("run");
    let done = within(kind, seed, criu, with, place, &dir);
    if std::env::var_os("KEEP").is_none() || done.is_ok() {
        std::fs::remove_dir_all(&dir).map_err(|e| NoTree::Broken(format!("{}: {e}", dir.display())))?;
    }
    done
}

fn within(kind: &Kind, seed: u64, criu: &Criu, with: bool, place: &Place, dir: &Path) -> Result<Dump, NoTree> {
    let tree = Tree::start(kind, seed, &place.base.join("rc-race"), dir)?;
    let broken = |tree: &Tree| tree.broken().map_or(Ok(()), |why| Err(NoTree::Broken(why)));
    tree.moves().map_err(NoTree::Broken)?;
    std::thread::sleep(std::time::Duration::from_micros(Random::new(!seed).below(20_000) as u64));
    broken(&tree)?;
    let mut args = vec!["-t".to_string(), tree.pid.to_string(), "--leave-running".to_string()];
    args.extend(kind.opts.iter().map(|o| o.to_string()));
    let plugins = if with { &place.plugin } else { &place.no_plugins };
    let ran = criu.run("dump", dir, plugins, &args, As::Root).map_err(NoTree::Broken)?;
    let mut dump = judged(kind, &tree, ran, &dir.join("work/preflight.json"), with, place.warn)?;
    if std::env::var_os("KEEP").is_some() && (!matches!(dump.end, End::Made) || !dump.harm.is_empty()) {
        let kept = place.base.join(format!("{}-{seed:x}-{}.log", kind.name, if with { "with" } else { "alone" }));
        std::fs::write(&kept, &dump.log).map_err(|e| NoTree::Broken(format!("{}: {e}", kept.display())))?;
    }
    dump.harm.extend(tree.stopped().filter(|_| !kind.stops).map(|who| format!("left stopped: {who}")));
    if dump.harm.is_empty() {
        dump.harm.extend(tree.moves().err().map(|e| format!("stands still: {e}")));
    }
    broken(&tree)?;
    Ok(dump)
}

fn judged(kind: &Kind, tree: &Tree, ran: Ran, json: &Path, with: bool, warn: bool) -> Result<Dump, NoTree> {
    let (mut harm, mut unseen) = (Vec::new(), false);
    if let Some(signal) = ran.signal {
        harm.push(if ran.timed_out { "hang: no end".into() } else { format!("crash: CRIU ended by signal {signal}") });
    }
    harm.extend(ran.log.lines().find(|l| l.contains("internal fault")).map(|l| format!("crash: {l}")));
    let ours = |l: &&str| l.starts_with("Error (preflight)") || l.contains(") Error (preflight)");
    let lines: Vec<String> = ran.log.lines().filter(ours).map(String::from).collect();
    let mut end = match ran.ok {
        true => End::Made,
        false => End::Failed(without_numbers(&ran.reason())),
    };
    if with {
        // CRIU may have failed before the plugin had a word.
        let report = match Report::of(json, &ran.log) {
            Err(_) if !ran.ok && lines.is_empty() => return Ok(Dump { end, log: ran.log, harm, lines, unseen: false }),
            other => other.map_err(|e| NoTree::Broken(format!("{e}; CRIU: {}", ran.reason())))?,
        };
        let looks = ["early look at ", "frozen look at "].map(|look| ran.log.lines().find(|l| l.contains(look)));
        let looked = looks[1].is_some() && (warn || looks[0].is_some());
        if ran.ok && !looked {
            let why = ran.log.lines().filter(|l| l.contains("preflight)")).collect::<Vec<_>>();
            harm.push(format!("not looked: a dump was made without the early or the frozen look: {why:?}"));
        }
        unseen = looks[1].is_some_and(|l| !l.contains(" 0 things not seen"));
        harm.extend(wrong_names(kind, tree, &report, &lines));
        let rules: BTreeSet<String> = report.refused_rules().into_iter().map(String::from).collect();
        if !rules.is_empty() && ran.ok {
            harm.push(format!("report: refuses {rules:?}, and the dump was made"));
        } else if !warn && rules.is_empty() != lines.is_empty() {
            harm.push(format!("report: refuses {rules:?}, the log says {lines:?}"));
        }
        // The tree does not move between that look and what CRIU finds.
        if let (End::Failed(why), Some(_)) = (&end, looks[1].filter(|_| rules.is_empty())) {
            harm.push(format!("missed: the frozen look lets pass what CRIU refuses: {why}"));
        }
        if !rules.is_empty() && !ran.ok {
            end = End::Refused { early: report.is_early(), rules };
        }
    } else if !lines.is_empty() {
        return Err(NoTree::Broken(format!("without the plugin: {lines:?}")));
    }
    Ok(Dump { end, log: ran.log, harm, lines, unseen })
}

/// Whoever is named and is not of the tree, or is not who can have it.
fn wrong_names(kind: &Kind, tree: &Tree, report: &Report, lines: &[String]) -> Vec<String> {
    let mut wrong = Vec::new();
    for f in report.findings() {
        let (pid, comm) = (f["pid"].as_i64().unwrap_or(0) as i32, f["comm"].as_str().unwrap_or(""));
        let who = kind.claims.iter().find(|c| f["rule"] == c.rule && f["verdict"] == "refuse").map(|c| c.who);
        let other = who.is_some_and(|who| !comm.starts_with(&format!("rc-{who}")));
        if !tree.has(pid, comm) || other {
            wrong.push(format!("wrong name: {}: pid {pid} ({comm})", f["rule"]));
        }
        for also in f["also"].as_array().into_iter().flatten().filter_map(|p| p["pid"].as_i64()) {
            if !tree.has(also as i32, "rc-") {
                wrong.push(format!("wrong name: {}: also pid {also}", f["rule"]));
            }
        }
    }
    // The first place that a line tells is the offender's; of the summary, the root's.
    for line in lines {
        let named = line.split_once("pid ").and_then(|(_, rest)| rest.split_once(" (")).and_then(|(pid, rest)| {
            let (comm, _) = rest.split_once(')')?;
            Some((pid.parse().ok()?, comm))
        });
        // "and N more" and folded lines begin with a number.
        let folded = line.contains(": and ") || line.contains(" more");
        let right =
            named.is_some_and(|(pid, comm)| tree.has(pid, comm) && (!line.contains("refusing") || pid == tree.pid));
        let nobody = folded && named.is_none();
        if !(right || nobody) {
            wrong.push(format!("wrong name: {line}"));
        }
    }
    wrong
}

/// So that the same reason is the same text each time.
fn without_numbers(reason: &str) -> String {
    let mut out = String::new();
    for word in reason.split(' ') {
        let hex = word.len() > 4 && word.chars().all(|c| c.is_ascii_hexdigit());
        let number = hex || word.starts_with(|c: char| c.is_ascii_digit());
        out.push_str(if number { "N" } else { word });
        out.push(' ');
    }
    out.trim_end().to_string()
}
