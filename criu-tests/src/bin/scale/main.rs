//! How what the plugin does grows: `scale [--short] [--criu PATH --plugin PLUGIN.so] [--calls] [FILTER]...`
//!
//! For growing numbers of each thing of [`kinds::KINDS`] a tree is made, and both looks are taken at it, by a process of their
//! own: their system calls are counted, and the most memory that they have. From two numbers comes the exponent of growth:
//! 1 is in proportion, 2 is quadratic; from 1,000 to 10,000, n log n is 1.1. It fails if that of a count is above what is
//! allowed. Times are only printed, beside those of lsfd on the same tree and, with `--criu`, those of real dumps.
//!
//! FILTER is the name of a kind, or a part of names.

mod count;
mod kinds;
mod make;
mod measure;
mod table;

use criu_tests::tree::{descendants, end};
use kinds::{Kind, KINDS};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

#[derive(Default)]
struct Asked {
    short: bool,
    /// Print which system calls are made.
    calls: bool,
    criu: Option<PathBuf>,
    plugin: Option<PathBuf>,
    filters: Vec<String>,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["--tree", kind, n, dir] => {
            tree(kind, n, dir);
            Err("the tree could not be made".into())
        }
        ["--measure", pid] => pid.parse().map_err(|e| format!("{pid}: {e}")).and_then(measure::run).map(|()| true),
        _ => asked(&args).and_then(|a| all(&a)),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(e) => {
            eprintln!("scale: {e}");
            ExitCode::from(2)
        }
    }
}

fn asked(args: &[String]) -> Result<Asked, String> {
    let mut a = Asked::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().map(PathBuf::from).ok_or(format!("{arg} needs a value"));
        match arg.as_str() {
            "--short" => a.short = true,
            "--calls" => a.calls = true,
            "--criu" => a.criu = Some(value()?),
            "--plugin" => a.plugin = Some(value()?),
            other if other.starts_with('-') => return Err(format!("unknown option {other}")),
            other => a.filters.push(other.into()),
        }
    }
    Ok(a)
}

/// The program under `--tree`. Returns only if the tree could not be made.
fn tree(kind: &str, n: &str, dir: &str) -> Option<()> {
    let kind = KINDS.iter().find(|k| k.name == kind)?;
    let null = make::open("/dev/null", libc::O_RDWR)?;
    // SAFETY: descriptors of ours.
    let ready = unsafe { libc::fcntl(1, libc::F_DUPFD_CLOEXEC, 3) };
    for fd in [1, 2] {
        // SAFETY: as above.
        unsafe { libc::dup2(null, fd) };
    }
    make::settle();
    // SAFETY: nobody else has it.
    let said = std::fs::File::from(unsafe { <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(ready) });
    (kind.make)(n.parse().ok()?, dir)?;
    std::io::Write::write_all(&mut &said, b"+").ok()?;
    drop(said);
    make::rest()
}

/// Whether nothing grows faster than it may.
fn all(a: &Asked) -> Result<bool, String> {
    // SAFETY: plain prctl; the tasks of a tree that is ended come to us to be reaped.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    let base = std::env::temp_dir().join(format!("preflight-scale-{}", std::process::id()));
    let fits = |k: &Kind, f: &String| k.name == f || (k.name.contains(f.as_str()) && KINDS.iter().all(|k| k.name != f));
    let wanted = |k: &&Kind| a.filters.is_empty() || a.filters.iter().any(|f| fits(k, f));
    let mut table = table::Table::default();
    for kind in KINDS.iter().filter(wanted) {
        let steps = if a.short { &kind.short[..] } else { kind.long };
        for n in std::iter::once(&0).chain(steps) {
            match one(kind, *n, a, &base) {
                Ok(row) => table.row(kind.name, *n, row, a.calls),
                Err(why) => table.skip(kind.name, *n, &why),
            }
            let _ = std::fs::remove_dir_all(&base);
        }
    }
    Ok(table.end())
}

/// One tree, looked at in all ways.
fn one(kind: &Kind, n: usize, a: &Asked, base: &Path) -> Result<table::Row, String> {
    let io = |e: std::io::Error| e.to_string();
    let dir = base.join("files");
    std::fs::create_dir_all(&dir).map_err(io)?;
    let dir = dir.to_string_lossy().into_owned();
    let outside = (kind.outside)(n, &dir).ok_or("what is outside of the tree could not be made")?;
    let mut child = Command::new(std::env::current_exe().map_err(io)?)
        .args(["--tree", kind.name, &n.to_string(), &dir])
        .envs(a.short.then_some((make::SHORT, "")))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(io)?;
    let pid = child.id() as i32;
    let mut ready = [0];
    let made = child.stdout.take().ok_or("no pipe")?.read_exact(&mut ready);
    let looked = match made {
        Ok(()) => look(pid, a, base),
        Err(_) => Err("the tree could not be made".into()),
    };
    end(&descendants(pid));
    drop(outside);
    looked
}

fn look(pid: i32, a: &Asked, base: &Path) -> Result<table::Row, String> {
    let calls = count::calls(pid).map_err(|e| e.to_string())?;
    let out = Command::new(std::env::current_exe().map_err(|e| e.to_string())?)
        .args(["--measure", &pid.to_string()])
        .stdin(Stdio::null())
        .output()
        .map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&out.stdout);
    let mut looks = text.lines().filter_map(measure::Took::read);
    let (Some(early), Some(frozen)) = (looks.next(), looks.next()) else {
        return Err(format!("it did not look: {}", String::from_utf8_lossy(&out.stderr)));
    };
    let lsfd = if a.short { None } else { table::lsfd(&descendants(pid)) };
    let dumps = match (&a.criu, &a.plugin) {
        (Some(criu), plugin) => Some(table::dumps(criu, plugin.as_deref(), pid, base)?),
        _ => None,
    };
    Ok(table::Row { calls, looks: [early, frozen], lsfd, dumps })
}
