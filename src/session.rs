//! The looks of one dump, reported: what CRIU's hooks ask for. Where the words go is an [`Output`]: in the scanner process they
//! are sent to CRIU's.

use crate::bytes::Bytes;
use crate::check::{self, Probes};
use crate::config::{Config, ReportFile};
use crate::criu::log::Level;
use crate::criu::{Host, Stage};
use crate::report::{json, lines, Outcome, Report};
use crate::rules::{registry, Finding, Phase, Verdict};
use crate::scan;
use crate::snapshot::ScanPhase;
use std::collections::HashSet;
use std::time::Instant;

/// Where what is found goes.
pub(crate) trait Output {
    /// A complete line for CRIU's log.
    fn line(&self, level: Level, text: &str);
    /// The report as JSON, to be put into the work directory; its path, or why it was not written.
    fn write_report(&self, json: &[u8]) -> Result<Bytes, String>;
    /// There is nothing to report: a report of an earlier attempt no longer holds.
    fn remove_report(&self);
    /// A line for the system log.
    fn syslog(&self, text: &str);
}

/// Reports the looks of one dump.
#[derive(Default)]
pub(crate) struct Reporter {
    /// Lines already in the log: the frozen look does not repeat what the early one said.
    logged: HashSet<String>,
    /// What the early look has left to the frozen one.
    deferred: Option<(Report, Host)>,
}

impl Reporter {
    /// Takes a look, reports what there is to report, and answers whether the dump is refused. A tree that cannot be looked
    /// at is said once and not refused.
    pub(crate) fn run(
        &mut self,
        probes: &Probes,
        look: ScanPhase,
        root: i32,
        host: &Host,
        config: &Config,
        output: &dyn Output,
    ) -> bool {
        let (start, busy) = (Instant::now(), scan::sys::thread_time());
        self.deferred = None;
        let result = match look {
            ScanPhase::Early => check::early(probes, root, host, config),
            ScanPhase::Frozen => check::frozen(probes, root, host, config),
        };
        let mut report = match result {
            Ok(report) => report,
            Err(why) => {
                self.log_once(Level::Warn, &format!("Warn  (preflight): pid {root} was not checked: {why}"), output);
                return false;
            }
        };
        let debug = format!(
            "preflight: {} look at {} tasks: {} findings, {} things not seen, {} us, {} us of processor time",
            if look == ScanPhase::Early { "early" } else { "frozen" },
            report.tasks,
            report.findings.len(),
            report.unchecked.len(),
            start.elapsed().as_micros(),
            scan::sys::thread_time().saturating_sub(busy).as_micros()
        );
        output.line(Level::Debug, &debug);
        let refused = report.verdict() == Outcome::Refuse;
        // What only may fail is left to the frozen look, which knows better; unless CRIU is going to fail before it.
        let last = look == ScanPhase::Frozen || host.stage != Stage::Dump || !host.caps.checkpoint_hook;
        if refused || last || report.findings.iter().any(|f| f.verdict == Verdict::Refuse) {
            self.emit(&mut report, host, config, output);
        } else {
            // But what keeps CRIU from ever freezing the tree is reported before it tries.
            let lasting = report.findings.iter().filter(|f| f.lasts).cloned().collect();
            let lasting = Report { findings: lasting, unchecked: Vec::new(), ..report.clone() };
            for line in lines::warnings(&lasting, host) {
                self.log_once(Level::Warn, &line, output);
            }
            self.deferred = Some((report, host.clone()));
        }
        refused
    }

    /// The dump is over. If it failed before there was a frozen look, what may have stopped CRIU on the way there is reported.
    pub(crate) fn end(&mut self, failed: bool, config: &Config, output: &dyn Output) {
        let Some((mut report, host)) = self.deferred.take().filter(|_| failed) else { return };
        let early = |f: &Finding| registry::by_id(&f.rule).is_some_and(|rule| rule.phase <= Phase::Freezing);
        report.findings.retain(early);
        if !report.findings.is_empty() {
            self.emit(&mut report, &host, config, output);
        }
    }

    fn emit(&mut self, report: &mut Report, host: &Host, config: &Config, output: &dyn Output) {
        if config.report != ReportFile::Never {
            self.write(report, host, config, output);
        }
        for line in lines::lines(report, host) {
            self.log_once(Level::Error, &line, output);
        }
        for line in lines::warnings(report, host) {
            self.log_once(Level::Warn, &line, output);
        }
        if config.syslog && report.verdict() >= Outcome::Unrestorable {
            output.syslog(&lines::syslog_summary(report, host, report.written.as_deref()));
        }
    }

    fn log_once(&mut self, level: Level, line: &str, output: &dyn Output) {
        if self.logged.insert(line.to_owned()) {
            output.line(level, line);
        }
    }

    /// Has `preflight.json` written into the work directory. If it is to be written for findings only and there is none, the
    /// report of an earlier attempt is taken away, for it no longer holds.
    fn write(&mut self, report: &mut Report, host: &Host, config: &Config, output: &dyn Output) {
        if report.verdict() == Outcome::Pass && config.report == ReportFile::Findings {
            output.remove_report();
            return;
        }
        let text = json::to_vec(report, host).map_err(|e| e.to_string());
        match text.and_then(|text| output.write_report(&text)) {
            Ok(path) => report.written = Some(path),
            Err(why) => {
                self.log_once(Level::Warn, &format!("Warn  (preflight): no preflight.json was written: {why}"), output);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testkit;
    use crate::scan::ScanError;
    use crate::snapshot::{Dev, Snapshot};
    use std::cell::RefCell;

    /// Keeps the lines.
    #[derive(Default)]
    struct Kept(RefCell<Vec<String>>);

    impl Output for Kept {
        fn line(&self, level: Level, text: &str) {
            if level != Level::Debug {
                self.0.borrow_mut().push(text.to_owned());
            }
        }

        fn write_report(&self, _json: &[u8]) -> Result<Bytes, String> {
            Err("no place".to_owned())
        }

        fn remove_report(&self) {}

        fn syslog(&self, _text: &str) {}
    }

    fn quiet() -> Config {
        Config { report: ReportFile::Never, syslog: false, ..Config::default() }
    }

    #[test]
    fn what_is_deferred_to_the_frozen_look_is_reported_if_that_never_comes() {
        let (host, config) = (testkit::host(), quiet());
        let stopped = |look, tpgid| {
            let mut s = Snapshot { look, ..testkit::snap(Vec::new()) };
            (s.tasks[0].state, s.tasks[0].tty_nr, s.tasks[0].tpgid) = ('T', 0x8800, tpgid);
            s
        };
        let probes = |tpgid| check::probes(Box::leak(Box::new(move |_, look, _: &Host| Ok(stopped(look, tpgid)))));
        for (tpgid, frozen, failed, reported) in
            [(7, false, true, true), (7, false, false, false), (7, true, true, false), (100, false, true, false)]
        {
            let (mut reporter, kept) = (Reporter::default(), Kept::default());
            assert!(!reporter.run(&probes(tpgid), ScanPhase::Early, 100, &host, &config, &kept));
            if frozen {
                assert!(!reporter.run(&probes(tpgid), ScanPhase::Frozen, 100, &host, &config, &kept));
            }
            assert!(kept.0.borrow().is_empty());
            reporter.end(failed, &config, &kept);
            let lines = kept.0.take();
            assert_eq!(lines.iter().any(|l| l.contains("stop-signal-unsupported: pid 100")), reported, "{tpgid}");
        }
    }

    #[test]
    fn what_keeps_criu_from_freezing_the_tree_is_reported_before_it_tries() {
        let (host, config) = (testkit::host(), quiet());
        // Of an age of one second, and of none.
        for (uptime, at_once) in [(1100, true), (1050, false)] {
            let scan = |_, look, _: &Host| {
                let mut s = Snapshot { look, uptime, ..testkit::snap(Vec::new()) };
                let mut child = testkit::task(101);
                (child.ppid, child.shares.mm) = (100, Some(100));
                s.tasks[0].threads[0].state = 'D';
                s.tasks.push(child);
                Ok(s)
            };
            let (mut reporter, kept) = (Reporter::default(), Kept::default());
            assert!(!reporter.run(&check::probes(&scan), ScanPhase::Early, 100, &host, &config, &kept));
            let count = |lines: Vec<String>| lines.iter().filter(|l| l.contains("vfork-in-flight: pid 100")).count();
            assert_eq!(count(kept.0.take()), usize::from(at_once));
            // When it has failed, it is not said again.
            reporter.end(true, &config, &kept);
            assert_eq!(count(kept.0.take()), usize::from(!at_once));
        }
    }

    #[test]
    fn a_tree_that_cannot_be_seen_or_may_not_be_refused_is_not() {
        let (host, mut config) = (testkit::host(), quiet());
        let run = |probes: &Probes, host: &Host, config: &Config| {
            let kept = Kept::default();
            let refused = Reporter::default().run(probes, ScanPhase::Early, 100, host, config, &kept);
            (refused, kept.0.take())
        };
        let gone = check::probes(&|_, _, _| Err(ScanError::NoSuchTask));
        let not_checked = "Warn  (preflight): pid 100 was not checked: there is no such process";
        assert_eq!(run(&gone, &host, &config), (false, vec![not_checked.to_owned()]));
        let tree = |look| {
            let mut file = testkit::file(3, libc::S_IFCHR, 9);
            file.attr.rdev = Dev { major: 10, minor: 237 };
            file.link = Some("/dev/loop-control".into());
            Snapshot { look, ..testkit::snap(vec![file]) }
        };
        let scan = |_, look, _: &Host| Ok(tree(look));
        let device = check::probes(&scan);
        assert!(run(&device, &host, &config).0);
        assert!(!run(&device, &Host { stage: Stage::PreDump, ..host.clone() }, &config).0);
        config.mode = crate::config::Mode::Warn;
        assert!(!run(&device, &host, &config).0);
    }
}
