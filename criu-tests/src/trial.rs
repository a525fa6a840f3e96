//! One fixture on one CRIU: without the plugin, then with it.

use crate::criu::{pages, Criu, Ran};
use crate::dry::{DryRun, Refused};
use crate::examples::{Examples, Seen};
use crate::fixtures::{As, Expect, ExpectedFinding, Fixture, Versions};
use crate::mounts::{Bound, Btrfs};
use crate::tree::{NoTree, Tree};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

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
    /// The line of its log with the text that the fixture expects.
    pub line: Option<String>,
}

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
struct Wanted {
    expect: Expect,
    blames: Vec<ExpectedFinding>,
    warns: Vec<ExpectedFinding>,
    /// Another reason that CRIU may give: it stops at the first it meets.
    or_says: Option<&'static str>,
    /// This CRIU calls no plugin at a time when the reason could be seen: it refuses as late as without the plugin.
    unseen: bool,
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
    &["compat-task", "ldt-selector", "unix-queue-reset", "unix-queue-trunc", "unix-queue-tty"];

pub(crate) const NO_PASSCRED: &str = "Can't get 1:16 opt";

impl Wanted {
    fn of(f: &Fixture, criu: &Criu) -> Wanted {
        let expect = f.expect_on(&criu.version);
        let blames = f.blames_on(&criu.version).to_vec();
        let mut w = Wanted { expect, blames, warns: f.warns.to_vec(), or_says: None, unseen: false };
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
                if matches!(expect, Expect::Accept) {
                    w.expect = Expect::Refuse(NO_PASSCRED);
                }
            }
        }
        w
    }

    /// What has to be named, and where: any of those of a rule.
    fn places(&self, tree: &Tree) -> Vec<(&'static str, i32, Option<i32>)> {
        let all = self.blames.iter().chain(&self.warns);
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
                Ok(()) => (Outcome::Passed, Some(r)),
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

fn broken(e: impl ToString) -> Outcome {
    Outcome::Failed(e.to_string())
}

/// A tree, and the mount that is its root directory, if it has one of its own.
pub(crate) struct Stage {
    pub(crate) tree: Tree,
    root: Option<(Bound, String)>,
}

pub(crate) fn make(f: &Fixture, s: &Setup, dir: &Path) -> Result<Stage, Outcome> {
    let stage = set(f.tree, s, dir)?;
    if matches!(f.run_as, As::User(_)) {
        use std::os::unix::fs::PermissionsExt;
        let _ = std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o777));
    }
    Ok(stage)
}

/// Makes the tree that `spec` describes, in a fresh `dir`.
pub(crate) fn set(spec: &str, s: &Setup, dir: &Path) -> Result<Stage, Outcome> {
    let _ = std::fs::remove_dir_all(dir);
    std::fs::create_dir_all(dir).map_err(|e| broken(format!("{}: {e}", dir.display())))?;
    let mut spec = spec.replace("{root}", &dir.join("root").to_string_lossy());
    if spec.contains("{btrfs") {
        let (at, device) = s.btrfs.mounted().map_err(Outcome::Skipped)?;
        spec = spec.replace("{btrfs}", &at.to_string_lossy()).replace("{btrfsdev}", &device);
    }
    let mut words = spec.split_whitespace();
    let own = words.find(|w| *w == "--root").and(words.next());
    let root = own.map(|dir| Bound::at(Path::new(dir)).map(|b| (b, dir.to_string()))).transpose().map_err(broken)?;
    let tree = Tree::make(&spec, dir).map_err(|e| match e {
        NoTree::Skip(why) => Outcome::Skipped(why),
        NoTree::Broken(why) => Outcome::Failed(why),
    })?;
    Ok(Stage { tree, root })
}

pub(crate) fn options(f: &Fixture, criu: &Criu, tree: &Tree) -> Result<Vec<String>, Outcome> {
    let old = Versions::UpTo("3.17").includes(&criu.version);
    let netlock = if old { "--network-lock nftables" } else { "--network-lock skip" };
    tree.fill(&f.opts.replace("{netlock}", netlock)).map_err(broken)
}

/// The process that CRIU is told to dump.
pub(crate) fn dumped(f: &Fixture, tree: &Tree) -> Result<i32, Outcome> {
    tree.place(f.of)
        .map(|(pid, _)| pid)
        .ok_or_else(|| broken(format!("the fixture dumps {}, mkres made no such thing", f.of)))
}

/// What is said of a process that hangs in the kernel, if one does.
fn hanging(f: &Fixture, tree: &Tree) -> Result<Option<String>, Outcome> {
    let Some(place) = f.hangs else { return Ok(None) };
    let (pid, _) = tree.place(place).ok_or_else(|| broken(format!("{place} shall hang, mkres made no such thing")))?;
    Ok(Some(format!("thread {pid} of process {pid} hangs in the kernel")))
}

fn dump(f: &Fixture, criu: &Criu, tree: &Tree, libdir: &Path, dir: &Path) -> Result<Ran, Outcome> {
    let mut args = vec!["-t".to_string(), dumped(f, tree)?.to_string()];
    args.extend(options(f, criu, tree)?);
    criu.run("dump", dir, libdir, &args, f.run_as).map_err(broken)
}

/// Restores what was dumped, asks it whether it lives, and ends it. An error is CRIU's or the tree's reason.
fn restore(
    f: &Fixture,
    criu: &Criu,
    stage: &mut Stage,
    libdir: &Path,
    dir: &Path,
    opts: &[String],
) -> Result<(), String> {
    let tree = &mut stage.tree;
    tree.end_inside();
    let pidfile = dir.join("restored.pid");
    let mut args = vec!["-d".to_string(), "--pidfile".into(), pidfile.to_string_lossy().into_owned()];
    if let Some((_, root)) = &stage.root {
        args.extend(["--root".to_string(), root.clone()]);
    }
    args.extend(opts.iter().cloned());
    args.extend(tree.fill(f.restore_opts)?);
    let ran = criu.run("restore", dir, libdir, &args, f.run_as)?;
    if !ran.ok {
        return Err(ran.reason());
    }
    let pid = std::fs::read_to_string(&pidfile).unwrap_or_default().trim().parse().unwrap_or(0);
    tree.pid = pid;
    tree.answers(pid)
}

/// CRIU without the plugin against the fixture's expectation. `Some` text: where it differs.
fn alone(f: &Fixture, criu: &Criu, w: &Wanted, s: &Setup, dir: &Path) -> Result<(Option<String>, Recorded), Outcome> {
    let mut stage = make(f, s, dir)?;
    let opts = options(f, criu, &stage.tree)?;
    let ran = dump(f, criu, &stage.tree, &s.no_plugins, dir)?;
    let mut record = Recorded {
        verdict: if ran.ok { "accepts" } else { "refuses" },
        pages: pages(dir),
        says: if ran.ok { String::new() } else { ran.reason() },
        millis: ran.time.as_millis(),
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
    // The restore is CRIU's own affair; asked only where it alone is looked at, so that a fixture says the truth.
    if ran.ok && wrong.is_none() && s.plugin.is_none() {
        let back = restore(f, criu, &mut stage, &s.no_plugins, dir, &opts);
        record.says = match (&back, f.no_restore) {
            (Ok(()), _) => "restored".into(),
            (Err(e), Some(_)) => format!("not restored, as expected: {e}"),
            (Err(e), None) => format!("not restored: {e}"),
        };
        if back.is_err() && f.no_restore.is_none() {
            return Ok((Some(record.says.clone()), record));
        }
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
) -> Result<(), Outcome> {
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
            let back = restore(f, criu, &mut stage, plugin, dir, &opts);
            match (back, f.no_restore) {
                (Err(e), None) => Err(broken(format!("dumped, but not restored with the plugin loaded: {e}"))),
                _ => Ok(()),
            }
        }
        Expect::Refuse(says) => {
            if ran.ok {
                return Err(broken("CRIU alone refuses, with the plugin it accepts"));
            }
            if f.unforeseeable.is_some() {
                // CRIU may end before it loads the plugin.
                let refused = report.as_ref().map(Report::refused_rules).unwrap_or_default();
                if !refused.is_empty() || !ran.log.contains(says) {
                    let reason = ran.reason();
                    return Err(broken(format!(
                        "not left to CRIU (“{says}”): {refused:?} are refused; CRIU: {reason}"
                    )));
                }
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
            }
            match stage.tree.disturbed() {
                Some(how) => Err(broken(format!("refused, but the tree was not left as it was: {how}"))),
                None => stage.tree.answers(stage.tree.pid).map_err(broken),
            }
        }
        Expect::Skip(_) => Ok(()),
    }
}

/// The plugin's preflight.json.
pub struct Report(Value);

impl Report {
    /// Without anything to say the plugin writes no file; that it has looked then stands in CRIU's log.
    pub fn of(path: &Path, log: &str) -> Result<Report, String> {
        let looked = |l: &str| l.contains("preflight: ") && l.contains(" look at ");
        if !path.exists() && log.lines().any(looked) {
            return Ok(Report(serde_json::json!({ "findings": [] })));
        }
        let text = std::fs::read_to_string(path).map_err(|e| format!("no {}: {e}", path.display()))?;
        serde_json::from_str(&text).map(Report).map_err(|e| format!("preflight.json: {e}: {text}"))
    }

    /// Whether it was made before the tree was frozen.
    pub fn is_early(&self) -> bool {
        self.0["look"] == "early"
    }

    pub fn findings(&self) -> impl Iterator<Item = &Value> {
        self.0["findings"].as_array().into_iter().flatten()
    }

    pub(crate) fn refusals(&self) -> impl Iterator<Item = &Value> {
        self.findings().filter(|f| f["verdict"] == "refuse")
    }

    pub fn refused_rules(&self) -> BTreeSet<&str> {
        self.refusals().filter_map(|f| f["rule"].as_str()).collect()
    }

    /// `in_queue`: what else is refused follows from what lies there.
    fn refused_where(&self, in_queue: bool) -> Refused<'_> {
        let lies_outside = |f: &&Value| !in_queue && f["queued"].as_array().is_none_or(Vec::is_empty);
        let outside = self.refusals().filter(lies_outside);
        Refused { all: self.refused_rules(), outside_queues: outside.filter_map(|f| f["rule"].as_str()).collect() }
    }

    pub(crate) fn rules(&self) -> BTreeSet<&str> {
        self.findings().filter_map(|f| f["rule"].as_str()).collect()
    }

    /// The refusing findings, in the words of the log.
    pub(crate) fn messages(&self) -> Vec<String> {
        let line = |f: &Value| Some(format!("{}: {}", f["rule"].as_str()?, f["message"].as_str()?));
        self.refusals().filter_map(line).collect()
    }

    /// Warnings that are not there.
    fn silent(&self, wanted: &[ExpectedFinding], tree: &Tree) -> Vec<String> {
        let all = self.0["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
        let warns = |b: &&ExpectedFinding| {
            let place = tree.place(b.place);
            let of_rule = |f: &&Value| f["rule"] == b.rule && f["verdict"] == "warn";
            place.is_some_and(|(pid, fd)| all.iter().filter(of_rule).any(|f| names(f, pid, fd)))
        };
        wanted.iter().filter(|b| !warns(b)).map(|b| format!("{} does not warn of {}", b.rule, b.place)).collect()
    }

    /// What is missing, and what is too much.
    fn differs(&self, w: &Wanted, tree: &Tree) -> Vec<String> {
        let mut wrong = Vec::new();
        let named = self.refused_rules();
        // What may change by itself only warns before the freeze; beside a refusal that ends the dump there, it stays so.
        let early = self.is_early() && !named.is_empty();
        let counts = |f: &&Value| f["verdict"] == "refuse" || (early && f["verdict"] == "warn");
        let told = || self.findings().filter(counts);
        for b in &w.blames {
            let places: Vec<_> = b.place.split('|').map(|p| tree.place(p)).collect();
            if places.contains(&None) {
                wrong.push(format!("the fixture names {}, mkres made no such thing", b.place));
            } else if !told().any(|f| f["rule"] == b.rule) {
                wrong.push(format!("{} is not reported", b.rule));
            } else {
                let mut of_rule = told().filter(|f| f["rule"] == b.rule);
                if !of_rule.any(|f| places.iter().flatten().any(|(pid, fd)| names(f, *pid, *fd))) {
                    wrong.push(format!("{} does not name {:?} (pid, fd of “{}”)", b.rule, places, b.place));
                }
            }
        }
        let expected: BTreeSet<&str> = w.blames.iter().map(|b| b.rule).collect();
        for extra in named.difference(&expected) {
            let which = self.refusals().find(|f| f["rule"] == *extra).map(Value::to_string).unwrap_or_default();
            wrong.push(format!("not expected: {which}"));
        }
        wrong
    }
}

/// The finding, or one of the places it says are of the same kind.
pub(crate) fn names(finding: &Value, pid: i32, fd: Option<i32>) -> bool {
    let fits = |v: &Value| (v["pid"] == pid || v["tid"] == pid) && fd.is_none_or(|fd| v["fd"] == fd);
    fits(finding) || finding["also"].as_array().into_iter().flatten().any(fits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::at;
    use serde_json::json;

    fn tree() -> Tree {
        let nodes = json!([
            {"node": 0, "pid": 10, "fds": {"pipe.r": 3}, "pids": {}, "outside": {}},
            {"node": 1, "pid": 11, "fds": {"pipe.r": 5}, "pids": {"traced.tid": 12}, "outside": {}},
        ]);
        Tree::reported(json!({"pid": 10, "nodes": nodes}))
    }

    fn differences(findings: Value, blames: &[ExpectedFinding]) -> Vec<String> {
        let report = Report(json!({ "findings": findings }));
        let (expect, blames) = (Expect::Refuse(""), blames.to_vec());
        let wanted = Wanted { expect, blames, warns: Vec::new(), or_says: None, unseen: false };
        report.differs(&wanted, &tree())
    }

    #[test]
    fn a_report_that_names_all_places_fits() {
        let findings = json!([
            {"rule": "a", "verdict": "refuse", "pid": 10, "fd": 3, "also": [{"pid": 11, "fd": 5}]},
            {"rule": "b", "verdict": "refuse", "pid": 12, "fd": null},
            {"rule": "c", "verdict": "warn", "pid": 10, "fd": 4},
        ]);
        let blames = [at("a", "pipe.r"), at("a", "1!pipe.r"), at("b", "traced.tid"), at("b", "|traced.tid")];
        assert_eq!(differences(findings, &blames), Vec::<String>::new());
    }

    #[test]
    fn every_lack_and_every_excess_is_told() {
        let wrong_fd = json!([{"rule": "a", "verdict": "refuse", "pid": 10, "fd": 4}]);
        assert_eq!(differences(wrong_fd.clone(), &[at("a", "pipe.r")]).len(), 1);
        assert_eq!(differences(wrong_fd.clone(), &[at("a", "")]).len(), 0);
        assert_eq!(differences(wrong_fd.clone(), &[at("a", "1!")]).len(), 1);
        assert_eq!(differences(wrong_fd.clone(), &[]).len(), 1);
        assert_eq!(differences(wrong_fd, &[at("a", ""), at("b", "")]).len(), 1);
        let warned = json!([{"rule": "a", "verdict": "warn", "pid": 10, "fd": 3}]);
        assert_eq!(differences(warned, &[at("a", "pipe.r")]).len(), 1);
        assert_eq!(differences(json!([]), &[at("a", "no-such")]).len(), 1);
    }

    #[test]
    fn fixtures_have_one_name_each_and_refusals_have_someone_to_blame() {
        let mut seen = BTreeSet::new();
        for f in crate::fixtures::all() {
            assert!(seen.insert(f.name), "{} is there twice", f.name);
            let refuses = matches!(f.expect, Expect::Refuse(_));
            assert!(
                !refuses || f.unforeseeable.is_some() || !f.blames.is_empty() || !f.warns.is_empty(),
                "{}: refused, but no rule is blamed",
                f.name
            );
            assert!(refuses || f.blames.is_empty(), "{}: accepted, but a rule is blamed", f.name);
            let some_refuse = f.other.iter().any(|(_, e)| matches!(e, Expect::Refuse(_)));
            assert!(
                refuses || !some_refuse || f.unforeseeable.is_some() || !f.other_blames.is_empty(),
                "{}: refused by some, no rule is blamed",
                f.name
            );
        }
    }

    #[test]
    fn versions_are_ordered_by_their_numbers() {
        let upto = |v| Versions::UpTo("4.2").includes(v);
        assert!(upto("3.17.1") && upto("4.2") && upto("4.2.1") && !upto("4.3") && !upto("4.10"));
        assert!(Versions::From("4.2").includes("4.10") && !Versions::From("4.2").includes("4.1.1"));
    }

    #[test]
    fn a_warning_has_to_be_one_and_name_its_place() {
        let warned = |verdict: &str, fd: i32| {
            let report = Report(json!({ "findings": [{"rule": "a", "verdict": verdict, "pid": 10, "fd": fd}] }));
            report.silent(&[at("a", "pipe.r")], &tree()).is_empty()
        };
        assert!(warned("warn", 3));
        assert!(!warned("refuse", 3) && !warned("warn", 99));
    }

    #[test]
    fn before_4_0_only_what_comes_and_goes_is_a_warning() {
        let rules = |b: &[ExpectedFinding]| b.iter().map(|b| b.rule).collect::<Vec<_>>();
        let expect = Expect::Refuse("");
        let blames = vec![at("tcp-inflight", "a"), at("tcp-connected", "b")];
        let mut w = Wanted { expect, blames, warns: Vec::new(), or_says: None, unseen: false };
        w.only_warn();
        assert_eq!((rules(&w.blames), rules(&w.warns)), (vec!["tcp-connected"], vec!["tcp-inflight"]));
        assert!(!w.unseen);
        let blames = vec![at("ldt-selector", "a")];
        let mut w = Wanted { expect, blames, warns: Vec::new(), or_says: None, unseen: false };
        w.only_warn();
        assert_eq!((w.blames.len(), w.warns.len(), w.unseen), (0, 0, true));
    }
}
