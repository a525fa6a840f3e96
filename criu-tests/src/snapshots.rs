//! Saved checks of the trees of fixtures and of random ones, with what became of them under many hosts: the program `snapshots`.
//!
//! A check that is judged again must come to the same, whatever was rebuilt meanwhile: the tree is not needed, nor CRIU.

use crate::criu::Criu;
use crate::fixtures::Fixture;
use crate::soak::Case;
use crate::trial::{dumped, make, options, set, Outcome, Setup};
use criu_preflight::check::{frozen, Probes};
use criu_preflight::config::Config;
use criu_preflight::criu::{Host, Release, Stage as Command};
use criu_preflight::report::{json, terminal};
use criu_preflight::saved::{self, SavedCheck};
use serde_json::{json, Value};
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Where the snapshots go and what takes them.
pub struct Taker<'a> {
    /// The `criu-preflight` command.
    pub command: PathBuf,
    pub criu: &'a [Criu],
    pub setup: &'a Setup,
    pub into: PathBuf,
}

/// What was taken of one tree, or why nothing.
pub type Taken = Result<usize, String>;

impl Taker<'_> {
    pub fn fixture(&self, f: &Fixture) -> Taken {
        let dir = self.setup.base.join(f.name);
        let made = make(f, self.setup, &dir).map_err(why);
        let taken = made.and_then(|stage| {
            let pid = dumped(f, &stage.tree).map_err(why)?;
            self.tree(f.name, pid, &|criu| options(f, criu, &stage.tree).map_err(why), f.hangs.is_none() && !f.dies)
        });
        let _ = std::fs::remove_dir_all(&dir);
        taken
    }

    /// Without what cannot be made here.
    pub fn random(&self, seed: u64, case: &Case) -> Taken {
        let dir = self.setup.base.join(format!("{seed:x}"));
        let mut case = case.clone();
        let stage = loop {
            match set(&case.words.join(" "), self.setup, &dir).map_err(why) {
                Ok(stage) => break stage,
                Err(why) => match crate::soak::unmade(&case, &why) {
                    Some((word, _)) => case.words.retain(|w| *w != word),
                    None => return Err(why),
                },
            }
        };
        let given = |_: &Criu| stage.tree.fill(&case.opts.join(" "));
        let taken = self.tree(&format!("random-{seed:x}"), stage.tree.pid, &given, true);
        drop(stage);
        let _ = std::fs::remove_dir_all(&dir);
        taken
    }

    fn tree(
        &self,
        name: &str,
        pid: i32,
        given: &dyn Fn(&Criu) -> Result<Vec<String>, String>,
        seizable: bool,
    ) -> Taken {
        let mut taken = 0;
        for criu in self.criu {
            let path = self.into.join(format!("{name}.{}.json", criu.version));
            let printed = self.check(pid, &given(criu)?, criu, &path)?;
            let again = shown(&saved::read_file(&path)?)?;
            if again != printed {
                return Err(format!("{}: judged it is another report", path.display()));
            }
            taken += 1;
        }
        if let (true, Some(newest)) = (seizable, self.criu.last()) {
            let path = self.into.join(format!("{name}.frozen.json"));
            let _ = std::fs::remove_file(&path);
            if let Some(check) = look_at_frozen(pid, &self.into.join(format!("{name}.{}.json", newest.version)))? {
                saved::write_new(&check, &path)?;
                taken += 1;
            }
        }
        Ok(taken)
    }

    fn check(&self, pid: i32, given: &[String], criu: &Criu, path: &Path) -> Result<String, String> {
        let _ = std::fs::remove_file(path);
        let mut cmd = std::process::Command::new(&self.command);
        cmd.arg("check").arg(pid.to_string()).args(given).args(["--no-default-config", "--criu", &criu.version]);
        let out = cmd.arg("--save").arg(path).stdin(Stdio::null()).output().map_err(|e| e.to_string())?;
        match path.exists() {
            true => String::from_utf8(out.stdout).map_err(|e| e.to_string()),
            false => Err(String::from_utf8_lossy(&out.stderr).trim().to_owned()),
        }
    }
}

fn why(outcome: Outcome) -> String {
    match outcome {
        Outcome::Passed => String::new(),
        Outcome::Failed(why) | Outcome::Skipped(why) => why,
    }
}

/// The last word on a tree that this process has seized, for the CRIU of an early check of it. `None`: it cannot be seized whole.
fn look_at_frozen(pid: i32, early: &Path) -> Result<Option<SavedCheck>, String> {
    let mut host = saved::read_file(early)?.host;
    host.stage = Command::Dump;
    let Some(_held) = seize::Held::tree(pid) else { return Ok(None) };
    let config = Config::default();
    let look = |probes: &Probes| frozen(probes, pid, &host, &config);
    let (_, snapshots) = saved::record(&Probes::live(), look).map_err(|e| e.to_string())?;
    Ok(Some(SavedCheck::new(&host, &config, snapshots)))
}

/// The report as `judge` prints it.
fn shown(check: &SavedCheck) -> Result<String, String> {
    Ok(terminal::text(&check.judge().map_err(|e| e.to_string())?, &check.host))
}

/// Names of hosts that a check is judged under, and what is other there than where it was taken: replaced in its JSON.
fn hosts(check: &SavedCheck) -> Result<Vec<(String, Host)>, String> {
    let taken = serde_json::to_value(&check.host).map_err(|e| e.to_string())?;
    let mut out = vec![("as taken".to_owned(), check.host.clone())];
    let mut with = |name: String, change: &dyn Fn(&mut Value)| {
        let mut host = taken.clone();
        change(&mut host);
        if host != taken {
            if let Ok(host) = serde_json::from_value(host) {
                out.push((name, host));
            }
        }
    };
    let releases =
        [Release::V3_17, Release::V3_18, Release::V4_0, Release::V4_1, Release::V4_2, Release::V4_3, Release::Unknown];
    for release in releases {
        let like = serde_json::to_value(Host::dry_run(release)).map_err(|e| e.to_string())?;
        with(format!("release {}", release.name()), &|host| {
            host["release"] = like["release"].clone();
            host["caps"] = like["caps"].clone();
        });
    }
    for stage in ["dump", "pre-dump", "dry-run"] {
        with(format!("stage {stage}"), &|host| host["stage"] = stage.into());
    }
    for (name, value) in taken["options"].as_object().into_iter().flatten() {
        if let Some(on) = value.as_bool() {
            with(format!("{name}={}", !on), &|host| host["options"][name] = (!on).into());
        }
        with(format!("{name} not known"), &|host| host["options"][name] = Value::Null);
    }
    for (name, on) in taken["caps"].as_object().into_iter().flatten().filter_map(|(n, v)| Some((n, v.as_bool()?))) {
        with(format!("caps.{name}={}", !on), &|host| host["caps"][name] = (!on).into());
    }
    let all = |on: Value| {
        move |host: &mut Value| {
            let options = host["options"].as_object_mut().into_iter().flatten();
            options.filter(|(_, v)| v.is_boolean()).for_each(|(_, v)| *v = on.clone());
        }
    };
    with("every flag".into(), &all(true.into()));
    with("no flag".into(), &all(false.into()));
    with("nothing known".into(), &|host| {
        host["options"].as_object_mut().into_iter().flatten().for_each(|(_, v)| *v = Value::Null);
        for list in ["externals", "inherit_ids", "service_sk_ino"] {
            host[list] = Value::Null;
        }
    });
    with("ghost_limit=1".into(), &|host| host["options"]["ghost_limit"] = 1.into());
    with("network_lock=nftables".into(), &|host| host["options"]["network_lock"] = "nftables".into());
    with("plugins pending".into(), &|host| host["siblings"]["pending"] = true.into());
    with("enable_fs=all".into(), &|host| host["options"]["enable_fs"] = json!(["all"]));
    for runtime in ["runc", "crun", "lxc"] {
        with(format!("runtime {runtime}"), &|host| host["runtime"] = runtime.into());
    }
    Ok(out)
}

/// The reports of a saved check: as it was taken, also as JSON, and under every other host where it differs.
pub fn reports(path: &Path) -> Result<String, String> {
    let mut check = saved::read_file(path)?;
    let mut out = String::new();
    let taken = shown(&check)?;
    for (name, host) in hosts(&check)? {
        check.host = host;
        let text = shown(&check)?;
        if name == "as taken" {
            let report = check.judge().map_err(|e| e.to_string())?;
            let json = json::to_vec(&report, &check.host).map_err(|e| e.to_string())?;
            out.push_str(&format!("== {name}\n{text}{}", String::from_utf8_lossy(&json)));
        } else if text == taken {
            out.push_str(&format!("== {name}: the same\n"));
        } else {
            out.push_str(&format!("== {name}\n{text}"));
        }
    }
    Ok(out)
}

/// The smallest check that can be found by leaving out entries of its lists, with the same report; null members go, too.
pub fn reduced(check: &SavedCheck) -> Result<Value, String> {
    let mut value = serde_json::to_value(check).map_err(|e| e.to_string())?;
    let full = |check: &SavedCheck| {
        let report = check.judge().map_err(|e| e.to_string())?;
        json::to_vec(&report, &check.host).map_err(|e| e.to_string())
    };
    let wanted = full(check)?;
    let same = |value: &Value| {
        let check = serde_json::from_value::<SavedCheck>(value.clone());
        check.is_ok_and(|check| full(&check).as_ref() == Ok(&wanted))
    };
    let mut todo = vec![String::new()];
    while let Some(at) = todo.pop() {
        let mut chunk = value.pointer(&at).map_or(0, entries);
        while chunk > 0 {
            let mut from = 0;
            while from < value.pointer(&at).map_or(0, entries) {
                let mut smaller = value.clone();
                smaller.pointer_mut(&at).into_iter().for_each(|list| leave_out(list, from, chunk));
                if same(&smaller) {
                    value = smaller;
                } else {
                    from += chunk;
                }
            }
            chunk /= 2;
        }
        match value.pointer(&at) {
            Some(Value::Array(list)) => todo.extend((0..list.len()).map(|nth| format!("{at}/{nth}"))),
            Some(Value::Object(members)) => {
                let key = |k: &String| k.replace('~', "~0").replace('/', "~1");
                todo.extend(members.keys().map(|k| format!("{at}/{}", key(k))));
            }
            _ => {}
        }
    }
    Ok(without_null(value))
}

/// Of a list, or a table whose keys are numbers.
fn entries(value: &Value) -> usize {
    match value {
        Value::Array(list) => list.len(),
        Value::Object(table) if table.keys().all(|k| k.parse::<u32>().is_ok()) => table.len(),
        _ => 0,
    }
}

fn leave_out(value: &mut Value, from: usize, count: usize) {
    match value {
        Value::Array(list) => drop(list.drain(from..(from + count).min(list.len()))),
        Value::Object(table) => {
            let keys: Vec<String> = table.keys().skip(from).take(count).cloned().collect();
            keys.iter().for_each(|k| drop(table.remove(k)));
        }
        _ => {}
    }
}

fn without_null(value: Value) -> Value {
    match value {
        Value::Array(list) => list.into_iter().map(without_null).collect(),
        Value::Object(members) => Value::Object(
            members.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, without_null(v))).collect(),
        ),
        other => other,
    }
}

/// Where the kept reports of a saved check are.
pub fn kept(path: &Path) -> PathBuf {
    path.with_extension("reports")
}

/// The first line that differs, with the heading above it.
pub fn difference(was: &str, is: &str) -> Option<String> {
    let mut heading = "";
    let (mut a, mut b) = (was.lines(), is.lines());
    loop {
        match (a.next(), b.next()) {
            (None, None) => return None,
            (x, y) if x == y => heading = x.filter(|l| l.starts_with("== ")).unwrap_or(heading),
            (x, y) => {
                let shown = |l: Option<&str>| l.unwrap_or("(no more)").to_owned();
                return Some(format!("{heading}\n    was: {}\n    is:  {}", shown(x), shown(y)));
            }
        }
    }
}

/// Stops every thread of a tree as CRIU does.
mod seize {
    use crate::tree::descendants;
    use std::time::{Duration, Instant};

    /// Threads that this thread traces, until it is dropped.
    pub struct Held(Vec<i32>);

    impl Held {
        /// `None`: one of them has another tracer, or does not stop.
        pub fn tree(root: i32) -> Option<Held> {
            let mut held = Held(Vec::new());
            for pid in descendants(root) {
                for tid in threads(pid) {
                    if is_dead(tid) {
                        continue;
                    }
                    let seized = unsafe { libc::ptrace(libc::PTRACE_SEIZE, tid, 0, 0) } == 0;
                    let seized = seized && {
                        held.0.push(tid);
                        unsafe { libc::ptrace(libc::PTRACE_INTERRUPT, tid, 0, 0) == 0 }
                    };
                    if !seized || !stops(tid) {
                        return None;
                    }
                }
            }
            Some(held)
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            for tid in &self.0 {
                unsafe { libc::ptrace(libc::PTRACE_DETACH, *tid, 0, 0) };
            }
        }
    }

    fn threads(pid: i32) -> Vec<i32> {
        let dir = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        dir.filter_map(|t| t.file_name().to_str()?.parse().ok()).collect()
    }

    fn is_dead(tid: i32) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{tid}/stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['Z', 'X']))
    }

    fn stops(tid: i32) -> bool {
        let until = Instant::now() + Duration::from_secs(2);
        while Instant::now() < until {
            match test_signals::wait(tid, libc::WNOHANG | libc::__WALL) {
                Ok(None) => std::thread::sleep(Duration::from_millis(1)),
                Ok(Some(_)) => return true,
                Err(_) => return false,
            }
        }
        false
    }
}
