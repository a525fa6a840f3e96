//! A process tree made by mkres: its names, and its end.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub struct Tree {
    pub pid: i32,
    /// What mkres reported.
    pub report: Value,
    /// Every process of the tree, as this machine numbers them.
    pub inside: BTreeSet<i32>,
    outside: Vec<i32>,
    /// How each of them was when all was ready.
    conditions: BTreeMap<i32, String>,
    /// Not killed and waited for yet.
    live: bool,
    /// What mkres knew as its directory, if it made cgroups.
    cgroups: Option<String>,
}

/// Why there is no tree.
pub enum NoTree {
    Skip(String),
    Broken(String),
}

/// The factory, built beside this program.
pub fn mkres() -> PathBuf {
    crate::criu::beside("mkres")
}

impl Tree {
    pub fn make(spec: &str, dir: &Path) -> Result<Tree, NoTree> {
        let ready = dir.join("ready");
        let files = dir.join("files");
        let text = std::fs::create_dir_all(&files);
        text.map_err(|e| NoTree::Broken(format!("{}: {e}", files.display())))?;
        let spec = spec.replace("{dir}", &files.to_string_lossy());
        let mut cmd = Command::new(mkres());
        cmd.arg("--ready").arg(&ready).arg("--dir").arg(&files).args(spec.split_whitespace());
        let cgroups = spec.contains("cgroup:").then(|| files.to_string_lossy().into_owned());
        let out = cmd.stdin(Stdio::null()).output().map_err(|e| NoTree::Broken(format!("mkres: {e}")))?;
        let why = String::from_utf8_lossy(&out.stderr).trim().to_string();
        match out.status.code() {
            Some(0) => {}
            Some(77) => return Err(NoTree::Skip(why)),
            _ => return Err(NoTree::Broken(format!("mkres {spec}: {}: {why}", out.status))),
        }
        let text = std::fs::read_to_string(&ready).unwrap_or_default();
        let report: Value = serde_json::from_str(&text).map_err(|e| NoTree::Broken(format!("{text}: {e}")))?;
        let pid = report["pid"].as_i64().unwrap_or(0) as i32;
        let mut outside = Vec::new();
        for node in report["nodes"].as_array().into_iter().flatten() {
            let all = node["outside"].as_object().into_iter().flatten();
            outside.extend(all.filter_map(|(_, p)| p.as_i64()).map(|p| p as i32));
        }
        let inside = descendants(pid);
        let conditions = inside.iter().map(|p| (*p, condition(*p))).collect();
        Ok(Tree { pid, inside, report, outside, conditions, live: true, cgroups })
    }

    /// A tree that is only a report: nothing of it lives.
    #[cfg(test)]
    pub(crate) fn reported(report: Value) -> Tree {
        let pid = report["pid"].as_i64().unwrap_or(0) as i32;
        Tree {
            pid,
            report,
            inside: BTreeSet::new(),
            outside: Vec::new(),
            conditions: BTreeMap::new(),
            live: false,
            cgroups: None,
        }
    }

    /// Processes that mkres has made beside the tree.
    pub fn outside(&self) -> &[i32] {
        &self.outside
    }

    /// (pid, fd) of a place as fixtures write it; no fd for a process or thread. The pid is this machine's number.
    pub fn place(&self, place: &str) -> Option<(i32, Option<i32>)> {
        if place.is_empty() {
            return Some((self.pid, None));
        }
        let (node, name) = match place.split_once('!') {
            Some((n, name)) => (Some(n.parse::<u64>().ok()?), name),
            None => (None, place),
        };
        for n in self.report["nodes"].as_array()? {
            let index = n["node"].as_u64()?;
            if node.is_some_and(|want| want != index) {
                continue;
            }
            let own = if index == 0 { self.pid } else { self.here(n["pid"].as_i64()? as i32) };
            if name.is_empty() {
                return Some((own, None));
            }
            if let Some(fd) = n["fds"][name].as_i64() {
                return Some((own, Some(fd as i32)));
            }
            if let Some(pid) = n["pids"][name].as_i64() {
                return Some((self.here(pid as i32), None));
            }
        }
        None
    }

    /// The process of the SPEC that `pid` is or came from, and what mkres calls `pid` or its descriptor.
    pub fn named(&self, pid: i32, fd: Option<i32>) -> Option<(u64, Option<String>)> {
        let nodes = self.report["nodes"].as_array()?;
        let key = |all: &Value, is: &dyn Fn(i32) -> bool| {
            let found = all.as_object()?.iter().find(|(_, v)| v.as_i64().is_some_and(|v| is(v as i32)));
            found.map(|(name, _)| name.clone())
        };
        for n in nodes {
            let index = n["node"].as_u64()?;
            let own = if index == 0 { self.pid } else { self.here(n["pid"].as_i64()? as i32) };
            if own == pid {
                return Some((index, fd.and_then(|fd| key(&n["fds"], &|v| v == fd))));
            }
            if let Some(name) = key(&n["pids"], &|v| self.here(v) == pid) {
                return Some((index, Some(name)));
            }
        }
        // A child that mkres does not name.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let parent: i32 = stat.rsplit(") ").next()?.split(' ').nth(1)?.parse().ok()?;
        (self.inside.contains(&parent)).then(|| self.named(parent, None)).flatten()
    }

    /// This machine's number of a process of the tree that sees itself as `own`. (Each number is there once: no tree of
    /// the fixtures has two pid namespaces.)
    fn here(&self, own: i32) -> i32 {
        let is = |pid: &&i32| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = status.lines().find_map(|l| l.strip_prefix("NSpid:")).unwrap_or_default();
            let numbers: Vec<&str> = line.split_whitespace().collect();
            numbers.len() > 1 && numbers.last().and_then(|n| n.parse().ok()) == Some(own)
        };
        self.inside.iter().find(is).copied().unwrap_or(own)
    }

    /// `opts` with its `{...}` filled in.
    pub fn fill(&self, opts: &str) -> Result<Vec<String>, String> {
        let one = |o: &str| match o.strip_prefix("@ttys:") {
            Some(name) => Ok(self.externals(name)),
            None => self.fill_one(o).map(|filled| vec![filled]),
        };
        Ok(opts.split_whitespace().map(one).collect::<Result<Vec<_>, _>>()?.concat())
    }

    /// `--external tty[...]` for each descriptor that mkres reports as NAME.something.
    fn externals(&self, name: &str) -> Vec<String> {
        let nodes = self.report["nodes"].as_array().into_iter().flatten();
        let fds = nodes.flat_map(|n| n["fds"].as_object().into_iter().flatten().map(|(name, _)| name));
        let of = fds.filter(|fd| fd.split_once('.').is_some_and(|(kind, _)| kind == name));
        let key = |fd: &String| self.fill_one(&format!("tty[{{rdev16:{fd}}}:{{dev16:{fd}}}]")).ok();
        of.filter_map(key).flat_map(|key| ["--external".to_string(), key]).collect()
    }

    fn fill_one(&self, opt: &str) -> Result<String, String> {
        let mut out = String::new();
        let mut rest = opt;
        while let Some((head, tail)) = rest.split_once('{') {
            let (var, after) = tail.split_once('}').ok_or_else(|| format!("{opt}: no }}"))?;
            out.push_str(head);
            out.push_str(&self.value(var).ok_or_else(|| format!("{opt}: {var} is not known"))?);
            rest = after;
        }
        out.push_str(rest);
        Ok(out)
    }

    fn value(&self, var: &str) -> Option<String> {
        use std::os::unix::fs::MetadataExt;
        let (what, name) = var.split_once(':')?;
        if what == "fact" {
            let nodes = self.report["nodes"].as_array()?;
            return nodes.iter().find_map(|n| n["facts"][name].as_str()).map(String::from);
        }
        let (pid, fd) = self.place(name)?;
        if let Some(kind) = what.strip_suffix("ns") {
            return std::fs::metadata(format!("/proc/{pid}/ns/{kind}")).ok().map(|ns| ns.ino().to_string());
        }
        let path = format!("/proc/{pid}/fd/{}", fd?);
        let st = std::fs::metadata(&path);
        Some(match what {
            "ino" => st.ok()?.ino().to_string(),
            "ino16" => format!("{:x}", st.ok()?.ino()),
            "rdev16" => format!("{:x}", st.ok()?.rdev()),
            "dev16" => format!("{:x}", st.ok()?.dev()),
            "mnt16" => {
                let info = std::fs::read_to_string(path.replace("/fd/", "/fdinfo/")).ok()?;
                let id = info.lines().find_map(|l| l.strip_prefix("mnt_id:"))?;
                format!("{:x}", id.trim().parse::<u32>().ok()?)
            }
            _ => return None,
        })
    }

    /// Who is not as they were when the tree was made: gone, stopped, traced.
    pub fn disturbed(&self) -> Option<String> {
        let changed = |pid: &&i32| condition(**pid) != self.conditions.get(pid).cloned().unwrap_or_default();
        let pid = self.inside.iter().find(changed)?;
        Some(format!("pid {pid} was “{}”, is “{}”", self.conditions.get(pid)?, condition(*pid)))
    }

    /// Asks the root to look at its descriptors again (see mkres).
    pub fn answers(&self, pid: i32) -> Result<(), String> {
        test_signals::signal_below(pid, libc::SIGUSR1).map_err(|e| e.to_string())?;
        let until = Instant::now() + Duration::from_secs(5);
        loop {
            let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            match comm.trim() {
                "mkres-ok" => return Ok(()),
                "mkres-bad" => return Err(format!("pid {pid}: a descriptor is gone")),
                "" => return Err(format!("pid {pid} is gone")),
                _ if Instant::now() > until => return Err(format!("pid {pid} does not answer")),
                _ => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    /// Ends the tree's processes and waits until their numbers are free; the ones outside live on.
    pub fn end_inside(&mut self) {
        self.inside.extend(descendants(self.pid));
        end(&self.inside);
    }

    /// Ends everything.
    pub fn end(&mut self) {
        if std::mem::replace(&mut self.live, false) {
            // All at once: a debugger outside keeps what it traces from being reaped.
            let mut all = std::mem::take(&mut self.inside);
            all.extend(descendants(self.pid));
            all.extend(&self.outside);
            self.cgroups.iter().for_each(|dir| crate::cgroups::thaw(dir));
            end(&all);
            self.cgroups.iter().for_each(|dir| crate::cgroups::sweep(dir));
        }
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        self.end();
    }
}

/// Running (or sleeping), stopped, dead; and who traces it.
fn condition(pid: i32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |k: &str| status.lines().find_map(|l| l.strip_prefix(k)).unwrap_or("").trim().to_string();
    let state = match field("State:").chars().next() {
        Some('S' | 'R' | 'D' | 'I') => "runs".to_string(),
        Some(c) => c.to_string(),
        None => "gone".into(),
    };
    format!("{state}, tracer {}", field("TracerPid:"))
}

/// `pid` and everything below it.
pub fn descendants(pid: i32) -> BTreeSet<i32> {
    let mut all = BTreeSet::from([pid]);
    let mut todo = vec![pid];
    while let Some(p) = todo.pop() {
        for task in std::fs::read_dir(format!("/proc/{p}/task")).into_iter().flatten().flatten() {
            let list = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            for child in list.split_whitespace().filter_map(|c| c.parse().ok()) {
                if all.insert(child) {
                    todo.push(child);
                }
            }
        }
    }
    all
}

/// Kills and reaps; this program is a subreaper, so all orphans come to it.
pub fn end(pids: &BTreeSet<i32>) {
    // Of those that have ended before, the numbers may be others' by now.
    let killed = |p: &&i32| test_signals::signal_below(**p, libc::SIGKILL).is_ok();
    let killed: Vec<i32> = pids.iter().filter(killed).copied().collect();
    let until = Instant::now() + Duration::from_secs(10);
    for p in killed.iter().rev() {
        while Instant::now() < until {
            let _ = test_signals::wait(*p, libc::WNOHANG);
            if test_signals::signal_below(*p, 0).is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
