//! The two looks at a dump, and what comes of them: look, judge, confirm, enrich, tell.
//!
//! The early look is taken while the tree runs and refuses only what a second look, a moment later, sees again. The frozen
//! look is the last word. All I/O on the tree is `scan/`'s, all words are `report/`'s.

use crate::bytes::Bytes;
use crate::config::Config;
use crate::host::{log, syslog, workdir, Host, Stage};
use crate::report::{json, lines, Outcome, Report};
use crate::rules::{judge, registry, Finding, Phase, Verdict};
use crate::scan::{self, ScanError};
use crate::snapshot::{Look, Snapshot};
use std::collections::HashSet;
use std::os::unix::ffi::OsStringExt;
use std::time::{Duration, Instant};

/// Between the two looks at a running tree: long enough for what is merely in passing to be gone.
const MOMENT: Duration = Duration::from_millis(30);
/// What the search for the other ends of the findings may take. Only a refused dump pays it.
const SEARCH: Duration = Duration::from_millis(500);

/// How a tree is looked at; another one in tests.
pub struct Eyes<'a> {
    /// One picture of the tree below a pid, or why there is none.
    pub scan: &'a dyn Fn(i32, Look, &Host) -> Result<Snapshot, ScanError>,
    /// Fills in the names of files that no rule had to know.
    pub paths: &'a dyn Fn(&mut [Finding], &Snapshot),
    /// Fills in who holds the other ends, as far as the time allows.
    pub holders: &'a dyn Fn(&mut [Finding], &Snapshot, Duration),
}

impl Eyes<'static> {
    /// The real ones.
    pub fn open() -> Self {
        Eyes { scan: &scan::look, paths: &scan::names::fill_in, holders: &scan::holders::resolve }
    }
}

/// Looks at a running tree. A finding refuses only if both of two looks saw the same object in the same state.
pub fn early(eyes: &Eyes, root: i32, host: &Host, config: &Config) -> Result<Report, ScanError> {
    let mut snap = (eyes.scan)(root, Look::Early, host)?;
    let mut findings = judge::judge(&snap, host, config);
    if refuses(&findings) {
        std::thread::sleep(MOMENT);
        snap = (eyes.scan)(root, Look::Early, host)?;
        findings = judge::confirm(&findings, judge::judge(&snap, host, config));
    }
    Ok(enriched(eyes, &snap, findings, config))
}

/// Looks at a tree that CRIU has seized.
pub fn frozen(eyes: &Eyes, root: i32, host: &Host, config: &Config) -> Result<Report, ScanError> {
    let snap = (eyes.scan)(root, Look::Frozen, host)?;
    let findings = judge::judge(&snap, host, config);
    Ok(enriched(eyes, &snap, findings, config))
}

fn refuses(findings: &[Finding]) -> bool {
    findings.iter().any(|f| f.verdict == Verdict::Refuse)
}

fn enriched(eyes: &Eyes, snap: &Snapshot, mut findings: Vec<Finding>, config: &Config) -> Report {
    (eyes.paths)(&mut findings, snap);
    if refuses(&findings) {
        (eyes.holders)(&mut findings, snap, SEARCH);
    }
    Report::new(snap, findings, config)
}

/// One look of a dump, taken and told: what CRIU's hooks ask for.
#[derive(Default)]
pub struct Teller {
    /// Lines already in the log: the frozen look does not repeat what the early one said.
    told: HashSet<String>,
    /// What the early look has left to the frozen one.
    left: Option<(Report, Host)>,
}

impl Teller {
    /// Takes a look, tells what there is to tell, and answers whether the dump is refused. A tree that cannot be looked
    /// at is said once and not refused.
    pub fn run(&mut self, eyes: &Eyes, look: Look, root: i32, host: &Host, config: &Config) -> bool {
        let (start, busy) = (Instant::now(), scan::sys::thread_time());
        self.left = None;
        let result = match look {
            Look::Early => early(eyes, root, host, config),
            Look::Frozen => frozen(eyes, root, host, config),
        };
        let mut report = match result {
            Ok(report) => report,
            Err(why) => {
                self.tell(log::Level::Warn, &format!("Warn  (preflight): pid {root} was not checked: {}", blind(why)));
                return false;
            }
        };
        log::debug(&format!(
            "{} look at {} tasks: {} findings, {} things not seen, {} us, {} us of processor time",
            if look == Look::Early { "early" } else { "frozen" },
            report.tasks,
            report.findings.len(),
            report.unchecked.len(),
            start.elapsed().as_micros(),
            scan::sys::thread_time().saturating_sub(busy).as_micros()
        ));
        let refused = report.verdict() == Outcome::Refuse;
        // What only may fail is left to the frozen look, which knows better; unless CRIU is going to fail before it.
        let last = look == Look::Frozen || host.stage != Stage::Dump || !host.caps.checkpoint_hook;
        if refused || last || refuses(&report.findings) {
            self.all(&mut report, host, config);
        } else {
            self.left = Some((report, host.clone()));
        }
        refused
    }

    /// The dump is over. If it failed before there was a frozen look, what may have stopped CRIU on the way there is told.
    pub fn end(&mut self, failed: bool, config: &Config) {
        let Some((mut report, host)) = self.left.take().filter(|_| failed) else { return };
        let early = |f: &Finding| registry::by_id(&f.rule).is_some_and(|rule| rule.phase <= Phase::P1);
        report.findings.retain(early);
        if !report.findings.is_empty() {
            self.all(&mut report, &host, config);
        }
    }

    fn all(&mut self, report: &mut Report, host: &Host, config: &Config) {
        if config.report {
            write(report, host);
        }
        for line in lines::lines(report, host) {
            self.tell(log::Level::Error, &line);
        }
        for line in lines::warnings(report, host) {
            self.tell(log::Level::Warn, &line);
        }
        if config.syslog && report.verdict() == Outcome::Refuse {
            syslog::send(&lines::syslog_summary(report, host, report.written.as_deref()));
        }
    }

    fn tell(&mut self, level: log::Level, line: &str) {
        if self.told.insert(line.to_owned()) {
            log::line(level, line);
        }
    }
}

/// Why a tree could not be looked at.
fn blind(why: ScanError) -> String {
    match why {
        ScanError::NoSuchTask => "there is no such process".to_owned(),
        ScanError::NoProc(errno) => format!("/proc cannot be used ({})", std::io::Error::from_raw_os_error(errno)),
        ScanError::NoChildren => "this kernel has no /proc/PID/task/TID/children".to_owned(),
        ScanError::Stuck { pid, tid } => format!("thread {tid} of process {pid} {}", lines::STUCK),
    }
}

/// Writes `preflight.json` into the work directory, which is the current one of CRIU. With nothing to say the report of
/// an earlier attempt is taken away, for it no longer holds.
fn write(report: &mut Report, host: &Host) {
    if report.verdict() == Outcome::Pass {
        workdir::remove(workdir::REPORT);
        return;
    }
    let path = std::env::current_dir().map(|d| d.join(workdir::REPORT).into_os_string().into_vec());
    report.written = path.ok().map(Bytes);
    let result = match json::to_vec(report, host) {
        Ok(text) => workdir::replace(workdir::REPORT, &text).map_err(|e| e.to_string()),
        Err(e) => Err(e.to_string()),
    };
    if let Err(why) = result {
        report.written = None;
        log::warn(&format!("no {} was written: {why}", workdir::REPORT));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testkit;
    use crate::snapshot::Dev;
    use std::cell::{Cell, RefCell};

    /// A tree with or without a device in descriptor 3.
    fn tree(look: Look, device: bool) -> Snapshot {
        let mut file = testkit::file(3, libc::S_IFCHR, 9);
        file.rdev = Dev { major: 10, minor: 237 };
        file.link = Some("/dev/loop-control".into());
        Snapshot { look, ..testkit::snap(if device { vec![file] } else { Vec::new() }) }
    }

    /// Plays these trees one after another; the looks taken and the searches made.
    fn play(trees: &[bool], body: impl FnOnce(&Eyes) -> Result<Report, ScanError>) -> (Outcome, usize, usize) {
        let (left, searched) = (RefCell::new(trees.iter()), Cell::new(0));
        let eyes = Eyes {
            scan: &|_, look, _| left.borrow_mut().next().map(|d| tree(look, *d)).ok_or(ScanError::NoSuchTask),
            paths: &|_, _| (),
            holders: &|_, _, _| searched.set(searched.get() + 1),
        };
        let verdict = body(&eyes).unwrap().verdict();
        let looks = trees.len() - left.borrow().len();
        (verdict, looks, searched.get())
    }

    #[test]
    fn an_early_refusal_needs_two_looks_and_a_clean_tree_one() {
        let (host, config) = (testkit::host(), Config::default());
        let early = |trees: &[bool]| play(trees, |eyes| early(eyes, 100, &host, &config));
        assert_eq!(early(&[true, true, true]), (Outcome::Refuse, 2, 1));
        assert_eq!(early(&[false, true]), (Outcome::Pass, 1, 0));
        // It was only in passing.
        assert_eq!(early(&[true, false]), (Outcome::Pass, 2, 0));
    }

    #[test]
    fn the_frozen_look_is_the_last_word() {
        let (host, config) = (testkit::host(), Config::default());
        assert_eq!(play(&[true, true], |eyes| frozen(eyes, 100, &host, &config)), (Outcome::Refuse, 1, 1));
        assert_eq!(play(&[false, true], |eyes| frozen(eyes, 100, &host, &config)), (Outcome::Pass, 1, 0));
    }

    #[test]
    fn what_is_left_to_the_frozen_look_is_told_if_that_never_comes() {
        let (host, config) = (testkit::host(), Config { report: false, syslog: false, ..Config::default() });
        let stopped = |look, tpgid| {
            let mut s = Snapshot { look, ..testkit::snap(Vec::new()) };
            (s.tasks[0].state, s.tasks[0].tty_nr, s.tasks[0].tpgid) = ('T', 0x8800, tpgid);
            s
        };
        let eyes = |tpgid| Eyes {
            scan: Box::leak(Box::new(move |_, look, _: &Host| Ok(stopped(look, tpgid)))),
            paths: &|_, _| (),
            holders: &|_, _, _| (),
        };
        for (tpgid, frozen, failed, told) in
            [(7, false, true, true), (7, false, false, false), (7, true, true, false), (100, false, true, false)]
        {
            let mut teller = Teller::default();
            assert!(!teller.run(&eyes(tpgid), Look::Early, 100, &host, &config));
            if frozen {
                assert!(!teller.run(&eyes(tpgid), Look::Frozen, 100, &host, &config));
            }
            assert!(teller.told.is_empty());
            teller.end(failed, &config);
            assert_eq!(teller.told.iter().any(|l| l.contains("stop-signal-unsupported: pid 100")), told, "{tpgid}");
        }
    }

    #[test]
    fn a_tree_that_cannot_be_seen_or_may_not_be_refused_is_not() {
        let (host, mut config) = (testkit::host(), Config { report: false, syslog: false, ..Config::default() });
        let run = |eyes: &Eyes, host: &Host, config: &Config| {
            let mut teller = Teller::default();
            teller.run(eyes, Look::Early, 100, host, config)
        };
        let gone = Eyes { scan: &|_, _, _| Err(ScanError::NoSuchTask), paths: &|_, _| (), holders: &|_, _, _| () };
        assert!(!run(&gone, &host, &config));
        let device = Eyes { scan: &|_, look, _| Ok(tree(look, true)), paths: &|_, _| (), holders: &|_, _, _| () };
        assert!(run(&device, &host, &config));
        assert!(!run(&device, &Host { stage: Stage::PreDump, ..host.clone() }, &config));
        config.mode = crate::config::Mode::Warn;
        assert!(!run(&device, &host, &config));
    }
}
