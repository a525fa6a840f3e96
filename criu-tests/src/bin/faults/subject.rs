//! The process whose calls fail: it looks at a tree as the plugin does, and tells what came of it.

use crate::seccomp::{self, Calls};
use criu_preflight::check::{self, Probes};
use criu_preflight::config::Config;
use criu_preflight::criu::Host;
use criu_preflight::enrich;
use criu_preflight::report::{message, probe_text, Report};
use criu_preflight::rules::Verdict;
use criu_preflight::scan::{self, ScanError, ScanSession};
use serde_json::{json, Value};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::fd::{AsRawFd, OwnedFd};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

/// Which looks are taken, and in which of them calls fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The early one fails; then a frozen one that does not, but has what the other learned.
    Early,
    /// A frozen one after an early one that does not fail.
    Frozen,
    /// A frozen one alone: nothing is learned before.
    FrozenAlone,
}

impl Mode {
    pub const ALL: [Mode; 3] = [Mode::Early, Mode::Frozen, Mode::FrozenAlone];

    pub fn name(self) -> &'static str {
        match self {
            Mode::Early => "early",
            Mode::Frozen => "frozen",
            Mode::FrozenAlone => "frozen-alone",
        }
    }
}

/// What both processes see of each other without a system call.
#[derive(Default)]
#[repr(C)]
pub struct Shared {
    /// The number of the filter's descriptor; 0: not there yet; negative: an errno.
    pub listener: AtomicI32,
    /// 1: calls may fail. 2: no more.
    pub stage: AtomicI32,
}

/// Why a tree could not be seized.
type Unseized = String;

/// What is looked at, and how.
pub struct Asked<'a> {
    pub mode: Mode,
    pub root: i32,
    pub host: &'a Host,
    /// Whether it can be seized.
    pub stops: bool,
}

/// Runs in a process of its own. `answer` is sent a line of JSON.
pub fn run(asked: &Asked, calls: &Calls, shared: &Shared, answer: OwnedFd) -> ! {
    let result = catch_unwind(AssertUnwindSafe(|| looks(asked, calls, shared)));
    let text = match result {
        Ok(value) => value,
        Err(why) => json!({ "panic": panicked(&*why) }),
    };
    shared.stage.store(2, Ordering::SeqCst);
    let mut to = std::fs::File::from(answer);
    let status = i32::from(writeln!(to, "{text}").is_err());
    unsafe { libc::_exit(status) }
}

fn looks(asked: &Asked, calls: &Calls, shared: &Shared) -> Value {
    let Asked { mode, root, host, stops } = *asked;
    let mut seized: Result<(), Unseized> = Ok(());
    let session = RefCell::new(ScanSession::in_place());
    let look = |frozen| look(root, host, frozen, &session);
    if mode == Mode::Frozen {
        // What it finds is not the question here.
        let _ = look(false);
    }
    if mode != Mode::Early {
        seized = seize(root);
    }
    if let Err(why) = seized {
        return json!({ "broken": why });
    }
    let before = (descriptors(), children(), mounts());
    let listener = match seccomp::install(calls) {
        Ok(fd) => fd,
        Err(e) => return json!({ "broken": format!("no filter: {e}") }),
    };
    shared.listener.store(listener, Ordering::SeqCst);
    while shared.stage.load(Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
    unsafe { libc::close(listener) };
    let mut result = json!({});
    let first = catch_unwind(AssertUnwindSafe(|| look(mode != Mode::Early)));
    shared.stage.store(2, Ordering::SeqCst);
    match first {
        Ok(value) => result["faulty"] = value,
        Err(why) => result["panic"] = json!(panicked(&*why)),
    }
    let after = (descriptors(), children(), mounts());
    let left = |is: &BTreeSet<String>, was: &BTreeSet<String>| is.difference(was).cloned().collect::<Vec<_>>();
    result["left"] = json!([left(&after.0, &before.0), left(&after.1, &before.1)].concat());
    if after.2 != before.2 {
        result["left"] = json!(["a mount"]);
    }
    if mode == Mode::Early && stops {
        match seize(root) {
            Ok(()) => result["later"] = look(true),
            Err(why) => return json!({ "broken": why }),
        }
    }
    result
}

fn panicked(why: &(dyn std::any::Any + Send)) -> String {
    let text = why.downcast_ref::<String>().map(String::as_str).or_else(|| why.downcast_ref::<&str>().copied());
    text.unwrap_or("?").to_string()
}

fn look(root: i32, host: &Host, frozen: bool, session: &RefCell<ScanSession>) -> Value {
    // A search of the whole machine, made shorter.
    let holders = |findings: &mut [_], snap: &_, _: Duration| {
        enrich::holders::resolve(findings, snap, Duration::from_millis(20));
    };
    let scan = |root, phase, host: &_| scan::collect(root, phase, host, &mut session.borrow_mut());
    let probes = Probes { scan: &scan, holders: &holders, ..Probes::live() };
    let config = Config::default();
    let report = match frozen {
        false => check::early(&probes, root, host, &config),
        true => check::frozen(&probes, root, host, &config),
    };
    match report {
        Ok(report) => report_json(&report),
        Err(why) => json!({ "blind": blind(why) }),
    }
}

fn report_json(report: &Report) -> Value {
    let finding = |f: &criu_preflight::rules::Finding| {
        let place = |p: &criu_preflight::rules::Place| json!([p.pid, p.fd, p.queued]);
        let places: Vec<Value> = std::iter::once(place(&f.place())).chain(f.also.iter().map(place)).collect();
        json!({ "rule": f.rule, "key": f.key, "tid": f.tid, "places": places, "says": message(report.rule_of(f), f) })
    };
    let of = |verdict| report.findings.iter().filter(|f| f.verdict == verdict).map(finding).collect::<Vec<_>>();
    let unchecked =
        report.unchecked.iter().map(|u| json!(format!("{} {:?} {} {}", u.pid, u.fd, probe_text(u.probe), u.errno)));
    json!({ "refused": of(Verdict::Refuse), "warned": of(Verdict::Warn), "unchecked": unchecked.collect::<Vec<_>>() })
}

fn blind(why: ScanError) -> String {
    format!("{why:?}")
}

/// Stops every thread of the tree, as CRIU does; they go on when this process ends.
fn seize(root: i32) -> Result<(), Unseized> {
    for pid in criu_tests::tree::descendants(root) {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_err(|e| format!("{pid}: {e}"))?;
        for tid in threads.flatten().filter_map(|t| t.file_name().to_str()?.parse::<i32>().ok()) {
            if is_dead(pid, tid) {
                continue;
            }
            let none = std::ptr::null_mut::<libc::c_void>();
            let failed = |what| format!("{what} {tid}: {}", std::io::Error::last_os_error());
            if unsafe { libc::ptrace(libc::PTRACE_SEIZE, tid, none, none) } != 0 {
                return Err(failed("seize"));
            }
            if unsafe { libc::ptrace(libc::PTRACE_INTERRUPT, tid, none, none) } != 0 {
                return Err(failed("interrupt"));
            }
            let mut status = 0;
            if unsafe { libc::waitpid(tid, &mut status, libc::__WALL) } != tid {
                return Err(failed("wait for"));
            }
        }
    }
    Ok(())
}

fn is_dead(pid: i32, tid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/stat")).unwrap_or_default();
    !stat.rsplit(") ").next().is_some_and(|rest| !rest.starts_with(['Z', 'X']) && !rest.is_empty())
}

fn descriptors() -> BTreeSet<String> {
    let dir = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let link = |e: std::fs::DirEntry| {
        let text = std::fs::read_link(e.path()).ok()?.display().to_string();
        // The listing itself.
        (!text.ends_with("/fd")).then(|| format!("fd {} {text}", e.file_name().display()))
    };
    dir.filter_map(link).collect()
}

fn children() -> BTreeSet<String> {
    let own = unsafe { libc::gettid() };
    let list = std::fs::read_to_string(format!("/proc/self/task/{own}/children")).unwrap_or_default();
    let mut all: BTreeSet<String> = list.split_whitespace().map(|pid| format!("child {pid}")).collect();
    // And the signals that are blocked, which are somebody else's too.
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    all.extend(status.lines().filter(|l| l.starts_with("SigBlk:")).map(String::from));
    all
}

fn mounts() -> usize {
    std::fs::read("/proc/self/mountinfo").unwrap_or_default().iter().filter(|b| **b == b'\n').count()
}

/// Reads what a subject said.
pub fn heard(from: &OwnedFd) -> String {
    let mut text = Vec::new();
    let mut buf = [0u8; 65536];
    loop {
        let n = unsafe { libc::read(from.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len()) };
        match usize::try_from(n) {
            Ok(n) if n > 0 => text.extend_from_slice(&buf[..n]),
            _ => return String::from_utf8_lossy(&text).into_owned(),
        }
    }
}
