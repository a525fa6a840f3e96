//! Plans over CRIU's own side: what it learns about itself, how it makes the scanner, asks it and ends it.
//!
//! Real CRIU dumps a tree, with a plugin that was built with `fault-injection`: that one says by a prctl(2) without a meaning
//! where a hook begins and ends, and only in between do calls fail. Whatever fails, the tree is dumped that CRIU dumps, and after
//! the last hook there is no descriptor, no child and no blocked signal that was not there before.

use crate::calls;
use crate::outcome::Line;
use crate::seccomp::{self, Call, Calls, Listener};
use crate::supervise::{pipe, ready, shared, Plan, LIMIT, MOST};
use crate::verdict::{Harm, Harmed};
use criu_tests::criu::Criu;
use criu_tests::tree::{NoTree, Tree};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// What the plugin calls prctl(2) with (`mark()`, src/plugin/panic_guard.rs).
const MARK: u64 = 0x7072_6566;

/// What is dumped, and whether CRIU does.
pub struct Subject {
    pub name: &'static str,
    words: &'static str,
    options: &'static str,
    refused: bool,
}

pub const SUBJECTS: &[Subject] = &[
    // Each of these is dumped for an option that has to be known.
    Subject {
        name: "dump",
        words: "unix-outside:type=dgram,name=path tty-slave inotify:path=/etc [ lock:type=posix ] [ name:how=linked ]",
        options: "--ext-unix-sk --shell-job --file-locks --link-remap --force-irmap",
        refused: false,
    },
    // The command line, and the files that it names, are read anew.
    Subject {
        name: "dump-mnt",
        words: "--root {root} mount:fs=ramfs,to=/mnt mount:fs=tmpfs,to=/m",
        options: "--enable-fs ramfs --skip-mnt /nowhere",
        refused: false,
    },
    Subject { name: "refused", words: "eventfd chr:maj=10,min=237 [ io-uring ]", options: "", refused: true },
];

/// The numbers that are the scanner's own; the rest of its calls are those of a look.
const OF_SCANNER: &[i64] = &[
    libc::SYS_prctl,
    libc::SYS_close_range,
    libc::SYS_prlimit64,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_write,
    libc::SYS_sigaltstack,
];

pub struct Dumps {
    criu: Criu,
    lib: PathBuf,
    dir: PathBuf,
    /// Made so far.
    trees: Cell<usize>,
}

/// One dump.
struct Dumped {
    status: i32,
    log: String,
    failed: usize,
    counted: BTreeMap<(i64, String), usize>,
    /// Killed, and why.
    hangs: Option<String>,
    left: BTreeSet<String>,
    took: Duration,
}

impl Dumps {
    pub fn new(plugin: &Path, dir: &Path) -> Result<Dumps, String> {
        let criu = Criu::provisioned()?.pop().ok_or("no CRIU works here")?;
        let lib = dir.join("lib");
        std::fs::create_dir_all(&lib).map_err(|e| e.to_string())?;
        let copied = std::fs::copy(plugin, lib.join("preflight_plugin.so"));
        copied.map_err(|e| format!("{}: {e}", plugin.display()))?;
        Ok(Dumps { criu, lib, dir: dir.to_path_buf(), trees: Cell::new(0) })
    }

    pub fn tree(&self, subject: &Subject) -> Result<Tree, String> {
        let nth = self.trees.replace(self.trees.get() + 1);
        let dir = self.dir.join(format!("{}-{nth}", subject.name));
        Tree::make(&subject.words.replace("{root}", &dir.join("root").to_string_lossy()), &dir)
            .map_err(|why| match why {
                NoTree::Skip(why) | NoTree::Broken(why) => format!("{}: {why}", subject.name),
            })
    }

    /// What calls there are, by two dumps that have to be as expected.
    pub fn record(&self, subject: &Subject, tree: &Tree) -> Result<BTreeMap<(i64, String), usize>, String> {
        let none = Plan { nr: libc::SYS_sched_yield, class: Some(String::new()), nth: None, errno: 0 };
        let plain = self.run(subject, tree, Some(&none))?;
        let harms = self.judge(subject, &none, &plain, tree);
        let early = plain.log.contains("preflight: early look at");
        let frozen = plain.log.contains("preflight: frozen look at");
        if !harms.is_empty() || !early || frozen == subject.refused || plain.log.contains("Warn  (preflight)") {
            let what: Vec<String> = harms.into_iter().map(|h| format!("{}: {}", h.about, h.what)).collect();
            return Err(format!("{}: without a plan: {what:?}\n{}", subject.name, plain.log));
        }
        Ok(self.run(subject, tree, None)?.counted)
    }

    pub fn plan(&self, subject: &Subject, tree: &Tree, plan: &Plan) -> Result<Line, String> {
        let dumped = self.run(subject, tree, Some(plan))?;
        let harms = self.judge(subject, plan, &dumped, tree);
        Ok(Line { met: dumped.failed > 0, took: dumped.took, harms })
    }

    fn judge(&self, subject: &Subject, plan: &Plan, dumped: &Dumped, tree: &Tree) -> Vec<Harmed> {
        let mut harms = Vec::new();
        let mut harm = |kind, about: &str, what: &str| {
            harms.push(Harmed { kind, about: about.to_string(), what: what.to_string() });
        };
        let line = |start: &str| dumped.log.lines().find_map(|l| l.find(start).and_then(|at| l.get(at..)));
        let ours = line("Error (preflight)");
        match &dumped.hangs {
            Some(why) => harm(Harm::Hang, "", why),
            None if !libc::WIFEXITED(dumped.status) => harm(Harm::Crash, "", &format!("status {:#x}", dumped.status)),
            None => {}
        }
        if let Some(fault) = line("internal fault in") {
            harm(Harm::Panic, fault, "");
        }
        let dumps = dumped.status == 0;
        match subject.refused {
            false if ours.is_some() => harm(Harm::FalseRefusal, "", ours.unwrap_or_default()),
            false if !dumps && dumped.hangs.is_none() => {
                harm(Harm::FalseRefusal, "not dumped", line("Error (").unwrap_or_default());
            }
            // Then CRIU refuses it, and somebody said that nothing or not all was checked.
            true if dumped.hangs.is_none() && ours.is_none() && line("Warn  (preflight)").is_none() => {
                harm(Harm::Lost, "", &plan_text(plan))
            }
            _ => {}
        }
        for left in &dumped.left {
            // Who cannot be waited for stays.
            if !(left.starts_with("child") && plan.nr == libc::SYS_wait4) {
                harm(Harm::Left, left.split(' ').next().unwrap_or_default(), left);
            }
        }
        if let Some(changed) = tree.disturbed() {
            harm(Harm::Left, "the tree", &changed);
        }
        harms
    }

    fn run(&self, subject: &Subject, tree: &Tree, plan: Option<&Plan>) -> Result<Dumped, String> {
        let start = Instant::now();
        let images = self.dir.join("images");
        let _ = std::fs::remove_dir_all(&images);
        std::fs::create_dir_all(&images).map_err(|e| e.to_string())?;
        let program = Program::new(&self.criu.path, &self.lib, &images, tree.pid, subject.options)?;
        let shared = shared()?;
        let (_from, to) = pipe()?;
        // Of memory only what the keeper stands on; and there is a second way to close all.
        let taken = [libc::SYS_mmap, libc::SYS_munmap, libc::SYS_mprotect, libc::SYS_close_range, libc::SYS_getppid];
        let spared: Vec<i64> = calls::spared().into_iter().filter(|nr| !taken.contains(nr)).collect();
        let only: Vec<i64> = plan.iter().map(|p| p.nr).chain([libc::SYS_prctl]).collect();
        let calls = if plan.is_some() { Calls::Only(&only) } else { Calls::AllBut(&spared) };
        let pid = unsafe { test_signals::fork() }.map_err(|e| format!("fork: {e}"))?;
        if pid == 0 {
            drop(to);
            program.become_it(|| {
                let listener = seccomp::install(&calls).unwrap_or(-1);
                shared.listener.store(listener, Ordering::SeqCst);
                while shared.stage.load(Ordering::SeqCst) == 0 {
                    std::thread::yield_now();
                }
            });
        }
        let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        if pidfd < 0 {
            return Err(format!("pidfd_open: {}", std::io::Error::last_os_error()));
        }
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd as i32) };
        let listener = loop {
            match shared.listener.load(Ordering::SeqCst) {
                0 if ready(&[pidfd.as_raw_fd()], 1)[0] => return Err("CRIU was not started".to_string()),
                0 => {}
                fd => break Listener::take(&pidfd, fd).map_err(|e| format!("listener: {e}"))?,
            }
        };
        shared.stage.store(1, Ordering::SeqCst);
        let mut watch = Watch { criu: pid, plan, met: 0, failed: 0, ..Watch::default() };
        let hangs = watch.answer(&listener, &pidfd, start);
        if hangs.is_some() {
            let _ = test_signals::signal_below(pid, libc::SIGKILL);
        }
        // Who waits for an answer would wait for ever.
        drop(listener);
        let status = wait(pid);
        let mut left = watch.left;
        left.extend(watch.roles.iter().filter(|(pid, _)| stays(**pid)).map(|(_, role)| format!("process {role}")));
        for entry in std::fs::read_dir(&images).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') {
                left.insert(format!("file {name}"));
            }
        }
        let log = std::fs::read(images.join("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log).into_owned();
        unsafe { libc::munmap(std::ptr::from_ref(shared).cast_mut().cast(), size_of_val(shared)) };
        let (failed, counted) = (watch.failed, watch.counted);
        Ok(Dumped { status, log, failed, counted, hangs, left, took: start.elapsed() })
    }
}

fn plan_text(plan: &Plan) -> String {
    format!("{} {:?}", plan.class.clone().unwrap_or_else(|| calls::name(plan.nr)), plan.nth)
}

fn wait(pid: i32) -> i32 {
    let mut status = 0;
    unsafe { libc::waitpid(pid, &raw mut status, 0) };
    status
}

/// Whether the process is still there after a while. Orphans come to us.
fn stays(pid: i32) -> bool {
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        let _ = test_signals::wait(pid, libc::WNOHANG);
        if !Path::new(&format!("/proc/{pid}")).exists() {
            return false;
        }
        if Instant::now() > until {
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A command line of CRIU, made before the fork.
struct Program {
    path: CString,
    args: Vec<CString>,
    env: Vec<CString>,
    printed: CString,
}

impl Program {
    fn new(criu: &Path, lib: &Path, images: &Path, pid: i32, options: &str) -> Result<Program, String> {
        let text = |s: &OsStr| CString::new(s.as_bytes()).map_err(|e| e.to_string());
        let pid = pid.to_string();
        let mut args = vec![criu.as_os_str(), OsStr::new("dump"), OsStr::new("-t"), OsStr::new(&pid), OsStr::new("-D")];
        args.extend([images.as_os_str(), OsStr::new("-L"), lib.as_os_str()]);
        args.extend(["-v4", "-o", "log", "--leave-running"].map(OsStr::new));
        args.extend(options.split_whitespace().map(OsStr::new));
        let args = args.into_iter().map(text).collect::<Result<Vec<_>, _>>()?;
        let mut path = OsString::from("PATH=");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let mut env = vec![path];
        env.extend(["CRIU_PREFLIGHT_CONFIG=/dev/null", "CRIU_PREFLIGHT_SYSLOG=off", "HOME=/"].map(Into::into));
        // Both of them are less than what is waited for here.
        env.extend(["CRIU_PREFLIGHT_EARLY_LIMIT=5s", "CRIU_PREFLIGHT_FROZEN_LIMIT=5s"].map(Into::into));
        let env = env.iter().map(|e| text(e)).collect::<Result<Vec<_>, _>>()?;
        let printed = text(images.join("printed").as_os_str())?;
        Ok(Program { path: text(criu.as_os_str())?, args, env, printed })
    }

    /// In the forked child.
    fn become_it(&self, prepare: impl FnOnce()) -> ! {
        let list = |texts: &[CString]| -> Vec<*const libc::c_char> {
            texts.iter().map(|t| t.as_ptr()).chain([std::ptr::null()]).collect()
        };
        let (args, env) = (list(&self.args), list(&self.env));
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            libc::setsid();
            let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY);
            let printed = libc::open(self.printed.as_ptr(), libc::O_WRONLY | libc::O_CREAT, 0o600);
            for (from, to) in [(null, 0), (printed, 1), (printed, 2)] {
                libc::dup2(from, to);
            }
            libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0);
            prepare();
            libc::execve(self.path.as_ptr(), args.as_ptr(), env.as_ptr());
            libc::_exit(127)
        }
    }
}

/// Answers the calls of one CRIU.
#[derive(Default)]
struct Watch<'a> {
    criu: i32,
    plan: Option<&'a Plan>,
    /// Calls of the plan's kind so far.
    met: usize,
    failed: usize,
    counted: BTreeMap<(i64, String), usize>,
    /// As it was when the hook began; `None`: outside of the hooks.
    before: Option<State>,
    /// By what hooks so far have left.
    left: BTreeSet<String>,
    roles: BTreeMap<i32, &'static str>,
}

/// Descriptors, children and blocked signals.
type State = BTreeSet<String>;

impl Watch<'_> {
    /// Until CRIU has ended; why it has to be.
    fn answer(&mut self, listener: &Listener, pidfd: &OwnedFd, start: Instant) -> Option<String> {
        loop {
            let [call, ended] = ready(&[listener.fd(), pidfd.as_raw_fd()], 200);
            if call {
                let Some(call) = listener.next() else { continue };
                if (call.nr, call.args[0], call.pid) == (libc::SYS_prctl, MARK, self.criu) {
                    self.mark(call.args[1] != 0);
                } else if self.before.is_some() && self.fails(&call) {
                    self.failed += 1;
                    listener.fail(&call, self.plan.map_or(0, |p| p.errno));
                    if self.failed > MOST {
                        return Some(format!("never gives up: {} times", self.failed));
                    }
                    continue;
                }
                listener.go_on(&call);
            } else if ended {
                return None;
            }
            if start.elapsed() > LIMIT {
                return Some("hangs".to_string());
            }
        }
    }

    fn mark(&mut self, begins: bool) {
        let now = state(self.criu);
        if begins {
            self.before = Some(now);
            return;
        }
        let Some(before) = self.before.take() else { return };
        self.left.extend(now.difference(&before).cloned());
        self.left.retain(|left| now.contains(left));
    }

    fn fails(&mut self, call: &Call) -> bool {
        let role = self.role(call.pid);
        let known = match role {
            "criu" | "keeper" => true,
            "scanner" => OF_SCANNER.contains(&call.nr),
            _ => false,
        };
        let Some(class) = known.then(|| class(call)).flatten() else { return false };
        let class = format!("{role} {class}");
        let Some(plan) = self.plan else {
            *self.counted.entry((call.nr, class)).or_default() += 1;
            return false;
        };
        if plan.nr != call.nr || plan.class.as_ref().is_some_and(|wanted| *wanted != class) {
            return false;
        }
        self.met += 1;
        plan.nth.is_none_or(|nth| nth + 1 == self.met)
    }

    fn role(&mut self, pid: i32) -> &'static str {
        if pid == self.criu {
            return "criu";
        }
        if let Some(role) = self.roles.get(&pid) {
            return role;
        }
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let parent = status.lines().find_map(|l| l.strip_prefix("PPid:")?.trim().parse::<i32>().ok()).unwrap_or(0);
        let role = match self.roles.get(&parent) {
            _ if parent == self.criu => "keeper",
            Some(&"keeper") => "scanner",
            _ => "child",
        };
        self.roles.insert(pid, role);
        role
    }
}

/// `None`: memory of the heap, or a line for CRIU's log.
fn class(call: &Call) -> Option<String> {
    let class = calls::class(call, call.pid);
    match call.nr {
        libc::SYS_mmap if call.args[3] & libc::MAP_STACK as u64 == 0 => None,
        libc::SYS_write => {
            let link = std::fs::read_link(format!("/proc/{}/fd/{}", call.pid, call.args[0] as i32)).unwrap_or_default();
            (!link.ends_with("log") && !link.ends_with("printed")).then_some(class)
        }
        _ => Some(class),
    }
}

fn state(pid: i32) -> State {
    let mut state = State::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
        let link = std::fs::read_link(entry.path()).unwrap_or_default();
        state.insert(format!("fd {} {}", entry.file_name().display(), link.display()));
    }
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    state.extend(children.split_whitespace().map(|child| format!("child {child}")));
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    state.extend(status.lines().filter(|l| l.starts_with("SigBlk:")).map(String::from));
    state
}
