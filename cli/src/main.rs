//! `criu-preflight`: the plugin's look at a running tree, by hand. Nothing is frozen, no CRIU is needed.

mod args;
mod container;
mod criu_config;
mod criu_options;
mod driver;
mod elf;
mod file_caps;

use args::{Check, Command, Judge};
use criu_preflight::bytes::escape;
use criu_preflight::check::{early, Probes};
use criu_preflight::config::Mode;
use criu_preflight::criu::{settings, Host};
use criu_preflight::engine::judge;
use criu_preflight::report::{catalogue, explain, json, terminal, trace, Report};
use criu_preflight::rules::registry;
use criu_preflight::saved::{self, SavedCheck};
use criu_preflight::scan::ScanError;
use criu_preflight::snapshot::ScanPhase;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::ExitCode;

/// Also: the question was not understood.
const COULD_NOT_TELL: u8 = 2;
/// It can be dumped, but not restored.
const CANNOT_BE_RESTORED: u8 = 3;

fn main() -> ExitCode {
    match args::parse(std::env::args_os().skip(1)).and_then(run) {
        Ok((text, status)) => match std::io::stdout().write_all(text.as_bytes()) {
            // A reader that closes our output early has read enough.
            Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => failed(&format!("cannot write: {e}")),
            _ => ExitCode::from(status),
        },
        Err(why) => failed(&why),
    }
}

fn failed(why: &str) -> ExitCode {
    // Where even this cannot be written there is no way to report it.
    let _ = writeln!(std::io::stderr(), "criu-preflight: {why}");
    ExitCode::from(COULD_NOT_TELL)
}

/// What to print, and the exit status.
fn run(command: Command) -> Result<(String, u8), String> {
    match command {
        Command::Check(check) => look(&check),
        Command::Judge(asked) => judge_saved(&asked),
        Command::Explain(asked) => Ok((explain::explain(registry::RULES, &asked)?, 0)),
        Command::Rules { json: true } => Ok((catalogue::json(registry::RULES).map_err(|e| e.to_string())?, 0)),
        Command::Rules { json: false } => Ok((catalogue::text(registry::RULES), 0)),
        Command::Version => Ok((concat!("criu-preflight ", env!("CARGO_PKG_VERSION"), "\n").to_owned(), 0)),
        Command::Help => Ok((args::usage(), 0)),
    }
}

fn look(check: &Check) -> Result<(String, u8), String> {
    let (mut config, problems) = settings::load();
    let noted = check.detected.map(|runtime| {
        format!(
            "process {} is in a container of {runtime}: judged as {runtime} would dump it (else give --as criu)",
            check.pid
        )
    });
    for problem in problems.into_iter().chain(noted) {
        let _ = writeln!(std::io::stderr(), "criu-preflight: {problem}");
    }
    // What the plugin would do with its answer does not matter here; what the settings exclude does.
    config.mode = Mode::Enforce;
    let blind = |why: ScanError| format!("process {}: {why}", check.pid);
    // Judged is not this process, but criu as it would be started.
    let scan = |pid, look, host: &Host| {
        let mut seen = (Probes::live().scan)(pid, look, host)?;
        if let Some(caps) = check.file_caps {
            caps.give(&mut seen.criu);
        }
        Ok(seen)
    };
    let probes = Probes { scan: &scan, ..Probes::live() };
    if let Some(rule) = check.trace {
        let seen = (probes.scan)(check.pid, ScanPhase::Early, &check.host).map_err(blind)?;
        return Ok((trace::text(&judge::trace(rule, &seen, &check.host, &config)), 0));
    }
    let report = match &check.save {
        None => early(&probes, check.pid, &check.host, &config).map_err(blind)?,
        Some(path) => {
            // Not after a long look.
            if path.symlink_metadata().is_ok() {
                return Err(format!("{}: it exists already", display(path)));
            }
            let look = |probes: &Probes| early(probes, check.pid, &check.host, &config);
            let (report, snapshots) = saved::record(&probes, look).map_err(blind)?;
            let mut saved = SavedCheck::new(&check.host, &config, snapshots);
            if check.anonymize {
                saved = saved.anonymize().map_err(|why| format!("--anonymize: {why}"))?;
            }
            saved::write_new(&saved, path).map_err(|why| format!("{}: {why}", display(path)))?;
            report
        }
    };
    answer(&report, &check.host, check.json)
}

/// The report of a saved check.
fn judge_saved(asked: &Judge) -> Result<(String, u8), String> {
    let mut saved = saved::read_file(&asked.file).map_err(|why| format!("{}: {why}", display(&asked.file)))?;
    asked.apply(&mut saved.host)?;
    if let Some(rule) = asked.trace {
        let last = saved.snapshots.last().ok_or("no snapshot in the file")?;
        return Ok((trace::text(&judge::trace(rule, &last.snapshot, &saved.host, &saved.config())), 0));
    }
    let report = saved.judge().map_err(|e| format!("{}: {e}", display(&asked.file)))?;
    answer(&report, &saved.host, asked.json)
}

fn answer(report: &Report, host: &Host, as_json: bool) -> Result<(String, u8), String> {
    let text = if as_json {
        let text = json::to_vec(report, host).map_err(|e| e.to_string())?;
        String::from_utf8(text).map_err(|e| e.to_string())?
    } else {
        terminal::text(report, host)
    };
    let status = match terminal::answer(report, host) {
        terminal::Answer::Can => 0,
        terminal::Answer::Cannot => 1,
        terminal::Answer::CannotBeRestored => CANNOT_BE_RESTORED,
        terminal::Answer::CouldNotTell => COULD_NOT_TELL,
    };
    Ok((text, status))
}

fn display(path: &Path) -> String {
    escape(path.as_os_str().as_bytes())
}
