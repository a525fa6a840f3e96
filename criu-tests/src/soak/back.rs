//! The restore of a random tree that CRIU has dumped: with what the hints name for it.

use super::{disagree, Case, Kind, Verdict};
use crate::criu::{Criu, Ran};
use crate::fixtures::As;
use crate::given::Given;
use crate::trial::{Report, Stage};
use std::path::Path;
use std::time::Duration;

/// What became of the dump.
pub enum Fate {
    Restored,
    /// It failed, as the report of the dump says.
    Announced,
    /// It failed, for a reason that no rule announces yet.
    Known(&'static str),
    /// It failed, and on another machine, or by another caller, it would not.
    Harness(String),
}

/// What CRIU's log of a restore says, and why no report announces it yet. A rule for one takes its line out.
const KNOWN: &[(&[&str], &str)] = &[
    (&["Can't restore sub-task in NS"], "a namespace of a child, the root being in CRIU's"),
    (&["unix: Can't change working dir"], "a socket whose directory has gone, in a tree with several mount namespaces"),
];

/// What the log says where another process of this machine is in the way.
const TAKEN: &[&str] = &["File exists", "with specified index", "Address already in use"];

/// What it says where this test cannot do what the restore needs.
const HARNESS: &[&str] = &[
    "Unable to find an external pidns",
    "Unable to restore into an empty PID namespace",
    "iptables-restore",
    // Secret memory cannot be opened again, and a mapped file is not handed in.
    "on restore: No such device or address",
    "Can't open file ile[",
    // Nor is what was open in a file system from outside.
    "Can't open file mnt/file on restore",
    // The directory that is handed in is not like the mount was.
    "File . has bad mode",
    // Nor can it be of a peer group of the tree.
    "Failed to copy sharing",
    // Groups of the freezer are this program's, and taken away.
    "cg: bad cgroup path",
    "cg: Abort restore of existing cgroups",
    "cg: Cgroup dir ",
    // After --empty-ns net somebody has to set the network up before its sockets are restored.
    "Can't connect inet socket back: Network is unreachable",
    "Cannot assign requested address",
];

/// Options of a dump that mean something else, or nothing, to a restore.
const DUMP_ONLY: &[&str] =
    &["--leave-running", "--leave-stopped", "--auto-dedup", "--log-pid", "--timeout", "--cgroup-dump-controller"];

/// What the restore needs, found out while the tree is alive.
pub(super) struct Ready {
    opts: Vec<String>,
    given: Given,
}

impl Ready {
    /// `args`: the options of the dump, filled in.
    pub(super) fn of(case: &Case, stage: &Stage, dir: &Path) -> Result<Ready, String> {
        let place = dir.join("given");
        std::fs::create_dir_all(&place).map_err(|e| e.to_string())?;
        let mut ready = Ready { opts: Vec::new(), given: Given::default() };
        for option in &case.opts {
            if DUMP_ONLY.iter().any(|o| option.starts_with(o)) {
                continue;
            }
            // As in the dump: what it names may not be there any more.
            let Ok(mut words) = stage.tree.fill(option) else { continue };
            // Some options come in company.
            words.retain(|word| !word.starts_with("--leave-"));
            ready.add(&words, stage, &place)?;
        }
        Ok(ready)
    }

    fn add(&mut self, words: &[String], stage: &Stage, place: &Path) -> Result<(), String> {
        self.opts.extend(words.iter().cloned());
        for word in words {
            if word == "--shell-job" {
                self.given.terminal()?;
            }
            let Some((kind, rest)) = word.split_once('[') else { continue };
            let (key, name) = rest.split_once("]:").unwrap_or((rest.trim_end_matches(']'), ""));
            match kind {
                "mnt" if !key.is_empty() => {
                    // Of the kind that is mounted there: a directory, or a file.
                    let mut given = place.to_path_buf();
                    let at = format!("/proc/{}/root{key}", stage.tree.pid);
                    if std::fs::metadata(at).is_ok_and(|mounted| !mounted.is_dir()) {
                        given.push("file");
                        std::fs::File::create(&given).map_err(|e| e.to_string())?;
                    }
                    self.opts.extend(["--external".to_string(), format!("mnt[{name}]:{}", given.display())]);
                }
                "net" => self.inherit("ns=net", name)?,
                "unix" => self.unix(key, stage)?,
                "file" | "tty" => self.same(kind, key, stage)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn inherit(&mut self, kind: &str, key: &str) -> Result<(), String> {
        let fd = self.given.descriptor(kind)?;
        self.opts.extend(["--inherit-fd".to_string(), format!("fd[{fd}]:{key}")]);
        Ok(())
    }

    /// A peer that has a name is found again; for one without it another has to be handed in.
    fn unix(&mut self, key: &str, stage: &Stage) -> Result<(), String> {
        if stage.tree.inside.iter().any(|pid| crate::given::has_named_peer(*pid, key)) {
            self.opts.push("--ext-unix-sk".into());
            return Ok(());
        }
        self.inherit("stream", &format!("socket:[{key}]"))
    }

    /// The very file that has the key, or terminal, by a duplicate.
    fn same(&mut self, kind: &str, key: &str, stage: &Stage) -> Result<(), String> {
        let Some(fd) = stage.tree.inside.iter().find_map(|pid| self.given.duplicate(*pid, kind, key)) else {
            return Ok(());
        };
        self.opts.extend(["--inherit-fd".to_string(), format!("fd[{fd}]:{kind}[{key}]")]);
        Ok(())
    }
}

/// Restores it; what came of it is right, or a disagreement.
pub(super) fn restore(
    case: &Case,
    ready: &Ready,
    criu: &Criu,
    stage: &mut Stage,
    libdir: &Path,
    dir: &Path,
    report: &Report,
) -> Verdict {
    stage.tree.end_inside();
    let pidfile = dir.join("restored.pid");
    let mut args = vec!["-d".to_string(), "--pidfile".into(), pidfile.to_string_lossy().into_owned()];
    args.extend(stage.root_option());
    args.extend(ready.opts.iter().cloned());
    if report.rules().contains("cg-criu-set") {
        args.push("--manage-cgroups=ignore".into());
    }
    let mut last = None;
    // Somebody else on this machine may have the numbers for a moment.
    for _ in 0..3 {
        match criu.restore(dir, libdir, &args, As::Root, &ready.given) {
            Ok(ran) if !ran.ok && TAKEN.iter().any(|says| said(&ran, says)) => last = Some(ran),
            Ok(ran) => {
                last = Some(ran);
                break;
            }
            Err(e) => return Verdict::NotMade(e),
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    let Some(ran) = last else { return Verdict::NotMade("no restore".into()) };
    let announced = report.unrestorable();
    if !ran.ok {
        if announced.is_empty() && report.restore_options().is_empty() && report.doubts_restore(&ran.errors()) {
            return Verdict::Dumped(Fate::Known("warned of, and not certain"));
        }
        return failed(case, &ran, !announced.is_empty() || !report.restore_options().is_empty());
    }
    let pid = std::fs::read_to_string(&pidfile).unwrap_or_default().trim().parse().unwrap_or(0);
    stage.tree.pid = pid;
    match (announced.is_empty(), stage.tree.answers(pid)) {
        (false, _) => disagree(Kind::Restored, format!("restored, though {announced:?} say that it cannot be")),
        (true, Err(e)) => disagree(Kind::Unrestored, e),
        (true, Ok(())) => Verdict::Dumped(Fate::Restored),
    }
}

fn said(ran: &Ran, says: &str) -> bool {
    ran.errors().iter().any(|e| e.contains(says))
}

fn said_any(ran: &Ran, says: &[&str]) -> bool {
    says.iter().any(|says| said(ran, says))
}

fn failed(case: &Case, ran: &Ran, announced: bool) -> Verdict {
    if announced {
        return Verdict::Dumped(Fate::Announced);
    }
    let is = |parts: &[&str]| ran.errors().iter().any(|e| parts.iter().all(|p| e.contains(p)));
    if let Some((_, why)) = KNOWN.iter().find(|(parts, _)| is(parts)) {
        return Verdict::Dumped(Fate::Known(why));
    }
    // What is made "outside" by the first process of a pid namespace is in the tree: both ends are, and one is handed in.
    let in_pidns = case.words.iter().any(|w| w.starts_with("newns:") && w.contains("pid"));
    if ran.timed_out && in_pidns && case.opts.iter().any(|o| o.contains("unix[")) {
        return Verdict::Dumped(Fate::Harness("one end of a pair in the tree is handed in".into()));
    }
    // What is handed in for a mount has not the directories on which the tree has others.
    if case.opts.iter().any(|o| o.starts_with("--external mnt[/"))
        && said_any(ran, &["mnt-v2: Can't stat mountpoint", "mnt: Can't mount at"])
    {
        return Verdict::Dumped(Fate::Harness("the mount that is handed in is empty".into()));
    }
    // The process outside that has the same open file still has its lock.
    if case.words.iter().any(|w| w.contains("type=ofd,by=outside")) && said(ran, "Can not set ofd lock") {
        return Verdict::Dumped(Fate::Harness("the lock is still held outside".into()));
    }
    match HARNESS.iter().chain(TAKEN).find(|says| said(ran, says)) {
        Some(says) => Verdict::Dumped(Fate::Harness(says.to_string())),
        None => disagree(Kind::Unrestored, format!("{}: {}", ran.reason(), super::first(&ran.errors()))),
    }
}
