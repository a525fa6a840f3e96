//! The process that looks: this same program, started again as `--measure PID`. Both looks, one after the other, as a dump
//! takes them; between them it stops itself, for whoever counts its system calls.

use criu_preflight::check::{self, Probes};
use criu_preflight::config::Config;
use criu_preflight::criu::{Caps, Host, Release, Stage};
use criu_preflight::report::{json, lines, Report};
use criu_preflight::scan::{self, ScanSession};
use criu_preflight::snapshot::ScanPhase;
use std::cell::RefCell;
use std::time::Instant;

/// What one look took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Took {
    /// Milliseconds of processor time, and by the clock.
    pub busy: f64,
    pub clock: f64,
    /// Bytes of memory at the most.
    pub peak: f64,
    pub findings: f64,
    pub unchecked: f64,
}

impl Took {
    pub fn read(line: &str) -> Option<Took> {
        let mut words = line.split_whitespace().map(|w| w.parse().ok());
        let mut word = || words.next()?;
        Some(Took { busy: word()?, clock: word()?, peak: word()?, findings: word()?, unchecked: word()? })
    }
}

/// Ends with one line for each look.
pub fn run(pid: i32) -> Result<(), String> {
    let release = Release::V4_3;
    let host = Host { stage: Stage::Dump, caps: Caps::of(release), ..Host::dry_run(release) };
    let (mut figures, before) = (Vec::new(), memory("VmRSS:"));
    let session = RefCell::new(ScanSession::in_place());
    for look in [ScanPhase::Early, ScanPhase::Frozen] {
        stop();
        figures.push(one(look, pid, &host, &session, before)?);
    }
    stop();
    for t in figures {
        println!("{} {} {} {} {}", t.busy, t.clock, t.peak, t.findings, t.unchecked);
    }
    Ok(())
}

fn one(look: ScanPhase, pid: i32, host: &Host, session: &RefCell<ScanSession>, before: f64) -> Result<Took, String> {
    let scan = |root: i32, look: ScanPhase, host: &Host| scan::collect(root, look, host, &mut session.borrow_mut());
    let (probes, config) = (Probes { scan: &scan, ..Probes::live() }, Config::default());
    // The peak begins anew (`clear_refs_write()`, fs/proc/task_mmu.c).
    std::fs::write("/proc/self/clear_refs", "5").map_err(|e| e.to_string())?;
    let (busy, clock) = (busy(), Instant::now());
    let report = match look {
        ScanPhase::Early => check::early(&probes, pid, host, &config),
        ScanPhase::Frozen => check::frozen(&probes, pid, host, &config),
    };
    let report = report.map_err(|e| format!("{e:?}"))?;
    tell(&report, host)?;
    Ok(Took {
        busy: (self::busy() - busy) * 1e3,
        clock: clock.elapsed().as_secs_f64() * 1e3,
        peak: memory("VmHWM:") - before,
        findings: report.findings.len() as f64,
        unchecked: report.unchecked.len() as f64,
    })
}

/// What a dump writes of a look, into nothing.
fn tell(report: &Report, host: &Host) -> Result<(), String> {
    let text = json::to_vec(report, host).map_err(|e| e.to_string())?;
    let lines = [lines::lines(report, host), lines::warnings(report, host)];
    std::hint::black_box((text, lines));
    Ok(())
}

/// Bytes, from this process's status.
fn memory(field: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let value = status.lines().find_map(|l| l.strip_prefix(field)?.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    value.unwrap_or(f64::NAN) * 1024.0
}

/// Only where somebody counts.
fn stop() {
    if std::env::var_os(super::count::COUNTED).is_some() {
        test_signals::signal_self(libc::SIGSTOP).expect("a process may stop itself");
    }
}

/// Seconds of processor time of this process so far.
fn busy() -> f64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut t) };
    t.tv_sec as f64 + t.tv_nsec as f64 * 1e-9
}
