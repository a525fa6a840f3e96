//! Fault plans over the look: **a failed call is never a fact.**
//!
//! The look is taken at trees that mkres makes, in a process whose system calls are answered by this one
//! (seccomp_unotify(2)). One look is recorded, then it is taken again for each plan: one call, or each of its kind, fails with
//! one errno. Whatever fails, nothing may be refused that the whole look does not refuse, nothing may crash, hang or be left
//! behind, and a refusal may be missing only if the report says that something could not be looked at.
//!
//! ```text
//! faults [--plugin FILE] [--jobs N] [--sample N] [--tree NAME] [--mode early|frozen|frozen-alone] [--call NAME] [--errno NAME] [--show N]
//! ```
//!
//! `--sample N` takes every Nth plan only. `--plugin`, one that was built with `fault-injection`: then the same is done to CRIU's
//! own side in real dumps ([`dump`]). Needs root.

mod calls;
mod dump;
mod outcome;
mod seccomp;
mod subject;
mod supervise;
mod trees;
mod verdict;

use criu_tests::tree::Tree;
use outcome::Line;
use serde_json::{json, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;
use subject::Mode;
use supervise::Plan;
use verdict::Baseline;

const ERRNOS: [(i32, &str); 10] = [
    (libc::ENOSYS, "ENOSYS"),
    (libc::EPERM, "EPERM"),
    (libc::EACCES, "EACCES"),
    (libc::EMFILE, "EMFILE"),
    (libc::ENFILE, "ENFILE"),
    (libc::ENOMEM, "ENOMEM"),
    (libc::EINTR, "EINTR"),
    (libc::EIO, "EIO"),
    (libc::EAGAIN, "EAGAIN"),
    (libc::EINVAL, "EINVAL"),
];

#[derive(Clone, Default)]
struct Args {
    jobs: usize,
    /// Built with `fault-injection`: dumps are made, too.
    plugin: Option<PathBuf>,
    /// Which of the jobs this process is.
    job: Option<usize>,
    sample: u64,
    tree: Option<String>,
    mode: Option<String>,
    call: Option<String>,
    errno: Option<String>,
    show: usize,
    verbose: bool,
}

fn main() -> ExitCode {
    let args = match arguments() {
        Ok(args) => args,
        Err(why) => {
            eprintln!("faults: {why}");
            return ExitCode::from(2);
        }
    };
    let result = match args.job {
        Some(job) => work(&args, job).map(|()| true),
        None => conduct(&args),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("faults: {why}");
            ExitCode::from(2)
        }
    }
}

fn arguments() -> Result<Args, String> {
    let mut args = Args { jobs: 2, sample: 1, show: 40, ..Args::default() };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if word == "--verbose" {
            args.verbose = true;
            continue;
        }
        let value = words.next().ok_or_else(|| format!("{word}: it wants a value"))?;
        let number = || value.parse::<usize>().map_err(|e| format!("{word}: {e}"));
        match word.as_str() {
            "--jobs" => args.jobs = number()?.max(1),
            "--job" => args.job = Some(number()?),
            "--sample" => args.sample = number()?.max(1) as u64,
            "--show" => args.show = number()?,
            "--plugin" => args.plugin = Some(std::fs::canonicalize(&value).map_err(|e| format!("{value}: {e}"))?),
            "--tree" => args.tree = Some(value),
            "--mode" => args.mode = Some(value),
            "--call" => args.call = Some(value),
            "--errno" => args.errno = Some(value),
            _ => return Err(format!("there is no option {word}")),
        }
    }
    Ok(args)
}

/// Starts the jobs and adds up what they tell.
fn conduct(args: &Args) -> Result<bool, String> {
    let start = Instant::now();
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    let passed: Vec<String> = std::env::args().skip(1).collect();
    let mut workers = Vec::new();
    for job in 0..args.jobs {
        let mut child = Command::new(&own)
            .args(&passed)
            .args(["--job", &job.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| e.to_string())?;
        let lines = BufReader::new(child.stdout.take().ok_or("no pipe")?);
        let read = std::thread::spawn(move || {
            let seen = |line: String| {
                let reported: Value = serde_json::from_str(&line).unwrap_or_default();
                // All of them are counted at the end; whoever waits for that sees what there is.
                if reported["harms"].as_array().is_some_and(|harms| !harms.is_empty()) || !reported["note"].is_null() {
                    eprintln!("{line}");
                }
                reported
            };
            lines.lines().map_while(Result::ok).map(seen).collect::<Vec<Value>>()
        });
        workers.push((child, read));
    }
    let (mut all, mut broken) = (Vec::new(), 0);
    for (mut child, read) in workers {
        all.extend(read.join().map_err(|_| "a reader panicked")?);
        if !child.wait().map_err(|e| e.to_string())?.success() {
            broken += 1;
        }
    }
    let harmless = outcome::tell(&all, args.show);
    println!("{:.1} s", start.elapsed().as_secs_f64());
    if broken > 0 {
        return Err(format!("{broken} of the jobs did not come to their end"));
    }
    Ok(harmless)
}

/// One job: makes its own trees and carries out its share of the plans.
fn work(args: &Args, job: usize) -> Result<(), String> {
    // All orphans of the trees come to us.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    criu_tests::mounts::own_namespace()?;
    // A panic is reported by the subject.
    if !args.verbose {
        std::panic::set_hook(Box::new(|_| ()));
    }
    let dir = std::env::temp_dir().join(format!("preflight-faults-{}", std::process::id()));
    let result = trees::SUBJECTS
        .iter()
        .filter(|s| args.tree.as_deref().is_none_or(|name| name == s.name))
        .try_for_each(|subject| on_tree(args, job, subject, &dir))
        .and_then(|()| args.plugin.iter().try_for_each(|plugin| dumps(args, job, plugin, &dir)));
    let _ = std::fs::remove_dir_all(&dir);
    result
}

fn on_tree(args: &Args, job: usize, subject: &trees::Subject, dir: &Path) -> Result<(), String> {
    let (mut tree, left_out) = subject.make(dir).map_err(|why| format!("{}: {why}", subject.name))?;
    let note = |text: String| println!("{}", json!({ "note": format!("{}: {text}", subject.name) }));
    if job == 0 {
        left_out.into_iter().for_each(|why| note(format!("left out: {why}")));
    }
    let wanted = |mode: &Mode| args.mode.as_deref().is_none_or(|name| name == mode.name());
    let mut known = BTreeSet::new();
    let mut done = Ok(());
    for mode in Mode::ALL.into_iter().filter(|mode| subject.stops || *mode == Mode::Early).filter(wanted) {
        done = done.and_then(|()| in_mode(args, job, subject, &tree, mode, &mut known, &note));
    }
    tree.end();
    done
}

fn dumps(args: &Args, job: usize, plugin: &Path, dir: &Path) -> Result<(), String> {
    let dumps = dump::Dumps::new(plugin, dir)?;
    for subject in dump::SUBJECTS.iter().filter(|s| args.tree.as_deref().is_none_or(|name| name == s.name)) {
        let mut tree = dumps.tree(subject)?;
        let counted = dumps.record(subject, &tree)?;
        if job == 0 {
            let calls: usize = counted.values().sum();
            println!("{}", json!({ "note": format!("{}: {calls} calls of {} kinds", subject.name, counted.len()) }));
            if args.verbose {
                counted.iter().for_each(|((_, c), n)| println!("{}", json!({ "note": format!("{n:>7} {c}") })));
            }
        }
        for plan in plans(&counted, args).into_iter().filter(|plan| is_mine(args, job, (subject.name, plan))) {
            let line = dumps.plan(subject, &tree, &plan)?;
            let broken = !line.harms.is_empty();
            tell(subject.name, "", &plan, line);
            if broken {
                tree.end();
                tree = dumps.tree(subject)?;
            }
        }
        tree.end();
    }
    Ok(())
}

fn in_mode(
    args: &Args,
    job: usize,
    subject: &trees::Subject,
    tree: &Tree,
    mode: Mode,
    known: &mut BTreeSet<(i64, String)>,
    note: &dyn Fn(String),
) -> Result<(), String> {
    let asked = subject::Asked { mode, root: tree.pid, host: &subject.host(), stops: subject.stops };
    let mut baseline = Baseline::default();
    let none = Plan { nr: libc::SYS_sched_yield, class: Some(String::new()), nth: None, errno: 0 };
    for _ in 0..3 {
        let outcome = supervise::run(&asked, Some(&none))?;
        sound(&outcome.reported, &outcome.harm)?;
        if !baseline.add(&outcome.reported) {
            note(format!("{}: looks without a fault differ", mode.name()));
        }
    }
    let recorded = supervise::run(&asked, None)?;
    sound(&recorded.reported, &recorded.harm)?;
    baseline.add(&recorded.reported);
    if subject.clean && baseline.refusals() > 0 {
        return Err(format!("{}: the clean tree is refused: {:?}", subject.name, baseline.rules()));
    }
    if job == 0 {
        let calls: usize = recorded.counted.values().sum();
        let found = format!("{} refusals of {} rules", baseline.refusals(), baseline.rules().len());
        note(format!("{}: {calls} calls of {} kinds, {found}", mode.name(), recorded.counted.len()));
        baseline.unchecked().for_each(|u| note(format!("{}: not looked at in any case: {u}", mode.name())));
        if args.verbose {
            note(format!("{:?}", baseline.rules()));
            recorded.counted.iter().for_each(|((_, class), n)| note(format!("{n:>7} {class}")));
        }
    }
    // Frozen looks differ in what is learned anew.
    let mut counted = recorded.counted;
    if mode == Mode::FrozenAlone {
        counted.retain(|class, _| !known.contains(class));
    }
    if mode == Mode::Frozen {
        known.extend(counted.keys().cloned());
    }
    for plan in plans(&counted, args) {
        if !is_mine(args, job, (subject.name, mode, &plan)) {
            continue;
        }
        let outcome = supervise::run(&asked, Some(&plan))?;
        if let Some(why) = outcome.reported["broken"].as_str() {
            return Err(format!("{}: {why}", subject.name));
        }
        let harms = baseline.judge(mode, &plan, &outcome);
        tell(subject.name, mode.name(), &plan, Line { met: outcome.failed > 0, took: outcome.took, harms });
    }
    Ok(())
}

/// Whether the plan is one of those that are taken, and this job's.
fn is_mine(args: &Args, job: usize, plan: impl Hash) -> bool {
    let mut hash = DefaultHasher::new();
    plan.hash(&mut hash);
    let hash = hash.finish();
    let (turn, rest) = (hash / args.sample, hash % args.sample);
    (rest, turn % args.jobs as u64) == (0, job as u64)
}

fn tell(tree: &str, mode: &str, plan: &Plan, line: Line) {
    let harms = line.harms.into_iter().map(|h| json!([h.kind as usize, h.about, h.what]));
    let errno = ERRNOS.iter().find(|(n, _)| *n == plan.errno).map_or("", |(_, name)| name);
    let call = plan.class.clone().unwrap_or_else(|| calls::name(plan.nr));
    println!(
        "{}",
        json!({ "met": line.met, "tree": tree, "mode": mode, "call": call, "nth": plan.nth, "errno": errno,
            "ms": line.took.as_millis() as u64, "harms": harms.collect::<Vec<_>>() })
    );
}

fn sound(reported: &Value, harm: &Option<String>) -> Result<(), String> {
    if let Some(why) = harm.as_deref().or(reported["broken"].as_str()).or(reported["panic"].as_str()) {
        return Err(format!("without a plan: {why}"));
    }
    Ok(())
}

/// The first, the second, the middle and the last call of each class, all of a class, and all of a number.
fn plans(counted: &BTreeMap<(i64, String), usize>, args: &Args) -> Vec<Plan> {
    let mut plans = Vec::new();
    let wanted = |name: &String| args.call.as_ref().is_none_or(|call| name.starts_with(call.as_str()));
    let errnos = || ERRNOS.iter().filter(|(_, name)| args.errno.as_deref().is_none_or(|e| e == *name));
    let mut numbers: BTreeMap<i64, usize> = BTreeMap::new();
    for ((nr, class), n) in counted.iter().filter(|((nr, class), _)| wanted(class) || wanted(&calls::name(*nr))) {
        *numbers.entry(*nr).or_default() += 1;
        let nths: BTreeSet<usize> = [0, 1, n / 2, n - 1].into_iter().filter(|i| i < n).collect();
        let all = (*n > 1).then_some(None);
        for nth in nths.into_iter().map(Some).chain(all) {
            plans.extend(errnos().map(|(errno, _)| Plan { nr: *nr, class: Some(class.clone()), nth, errno: *errno }));
        }
    }
    for (nr, _) in numbers.into_iter().filter(|(_, classes)| *classes > 1) {
        plans.extend(errnos().map(|(errno, _)| Plan { nr, class: None, nth: None, errno: *errno }));
    }
    plans
}
