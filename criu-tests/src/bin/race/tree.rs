//! A moving tree from outside: its start, who is of it, and its end.

use crate::kinds::Kind;
use crate::world;
use criu_tests::tree::descendants;
use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longer than the two dumps of a pair can take, a hang included.
const LIFE: i64 = 120;

/// Ended when dropped.
pub struct Tree {
    pub pid: i32,
    dir: PathBuf,
    child: Child,
}

pub enum NoTree {
    /// This machine does not allow it.
    Skip(String),
    Broken(String),
}

impl Tree {
    /// Runs PROGRAM, a copy of this one, in DIR.
    pub fn start(kind: &Kind, seed: u64, program: &Path, dir: &Path) -> Result<Tree, NoTree> {
        let io = |e: std::io::Error| NoTree::Broken(format!("{}: {e}", dir.display()));
        std::fs::create_dir_all(dir.join("files")).map_err(io)?;
        let mut child = Command::new(program)
            .args(["--tree", kind.name, &seed.to_string(), &(world::now() + LIFE).to_string()])
            .arg(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(io)?;
        let mut report = child.stdout.take();
        let tree = Tree { pid: child.id() as i32, dir: dir.into(), child };
        let mut text = String::new();
        report.as_mut().map(|r| r.read_to_string(&mut text)).transpose().map_err(io)?;
        match text.strip_prefix('-') {
            Some(why) => Err(NoTree::Skip(why.to_string())),
            None if text == "+" => Ok(tree),
            None => Err(NoTree::Broken(format!("the root process reports “{text}”"))),
        }
    }

    /// What a process of it could not do.
    pub fn broken(&self) -> Option<String> {
        let words = ["broken", "root/broken"].map(|file| std::fs::read_to_string(self.dir.join(file)).ok());
        words.into_iter().flatten().next()
    }

    /// Changes whenever something in the tree has run.
    pub fn pulse(&self) -> BTreeSet<(i32, String)> {
        descendants(self.pid).into_iter().map(|pid| (pid, switches(pid))).collect()
    }

    /// Waits until it moves; a tree in which nothing does is told.
    pub fn moves(&self) -> Result<(), String> {
        let (before, until) = (self.pulse(), Instant::now() + Duration::from_secs(20));
        while Instant::now() < until {
            if self.pulse() != before {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Err("nothing in the tree moves".into())
    }

    /// Who was left stopped or traced after a dump that should leave them running.
    pub fn stopped(&self) -> Option<String> {
        let status = |pid: &i32| std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let held = |s: &String| {
            let field = |key: &str| s.lines().find_map(|l| l.strip_prefix(key)).map(str::trim).unwrap_or_default();
            field("State:").starts_with(['T', 't']) || !["0", ""].contains(&field("TracerPid:"))
        };
        let found = descendants(self.pid).into_iter().find(|pid| held(&status(pid)))?;
        Some(format!("pid {found} is left stopped"))
    }

    /// Whether a process that was named can be of this tree: it is called as its processes are, and if it is still there, it
    /// is below the root.
    pub fn has(&self, pid: i32, comm: &str) -> bool {
        if pid <= 1 || !comm.starts_with("rc-") {
            return false;
        }
        let mut at = pid;
        loop {
            if at == self.pid {
                return true;
            }
            let stat = std::fs::read_to_string(format!("/proc/{at}/stat")).unwrap_or_default();
            // Gone meanwhile.
            let Some((_, rest)) = stat.rsplit_once(") ") else { return true };
            at = rest.split(' ').nth(1).and_then(|p| p.parse().ok()).unwrap_or(0);
            if at <= 1 {
                return false;
            }
        }
    }

    fn end(&mut self) {
        // Not reaped yet, so the number is still its.
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Its processes come to us now, each one a child that only we can reap: no number is another's.
        let until = Instant::now() + Duration::from_secs(20);
        while Instant::now() < until {
            let me = std::process::id();
            let list = std::fs::read_to_string(format!("/proc/self/task/{me}/children")).unwrap_or_default();
            if list.trim().is_empty() {
                return;
            }
            for pid in list.split_whitespace().filter_map(|p| p.parse::<i32>().ok()) {
                // A child of this process of one thread.
                let _ = test_signals::signal(pid, libc::SIGKILL);
                let _ = test_signals::wait(pid, libc::WNOHANG);
            }
        }
        eprintln!("race: the processes of a tree do not end; they do so by themselves within {LIFE} s");
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        self.end();
    }
}

/// How often its threads have been scheduled.
fn switches(pid: i32) -> String {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let status = tasks.map(|t| std::fs::read_to_string(t.path().join("status")).unwrap_or_default());
    status
        .flat_map(|s| s.lines().filter(|l| l.contains("ctxt_switches")).map(String::from).collect::<Vec<_>>())
        .collect()
}
