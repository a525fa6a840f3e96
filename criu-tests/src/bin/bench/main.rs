//! What the plugin costs a dump, and saves a doomed one: `bench --plugin PLUGIN.so [--criu PATH] [--runs N] [FILTER]...`
//!
//! Each tree is dumped by the same CRIU with and without the plugin, in turn, and left running. Told are medians: the whole
//! dump by the clock, and CRIU's own figure for how long the tree was frozen. *Floor* is the least that looking at every
//! descriptor can take: listing /proc/PID/fd and one statx for each entry, measured here and now. Nothing is judged: the
//! figures of a busy machine prove nothing, and the spread says how busy it was.

mod tree;

use criu_tests::criu::Criu;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;
use tree::{Shape, Tree};

const SHAPES: &[Shape] = &[
    Shape { name: "1 task, 10 fds", tasks: 1, fds: 10, mib: 0, blocked: false },
    Shape { name: "1 task, 1000 fds", tasks: 1, fds: 1_000, mib: 0, blocked: false },
    Shape { name: "1 task, 10000 fds", tasks: 1, fds: 10_000, mib: 0, blocked: false },
    Shape { name: "200 tasks, 20 fds each", tasks: 200, fds: 20, mib: 0, blocked: false },
    Shape { name: "1 task, 10 fds, 1 GiB", tasks: 1, fds: 10, mib: 1_024, blocked: false },
    Shape { name: "refused: lock in the last of 200 tasks", tasks: 200, fds: 20, mib: 0, blocked: true },
    Shape { name: "refused: lock, 1 GiB", tasks: 1, fds: 10, mib: 1_024, blocked: true },
];

struct Asked {
    plugin: PathBuf,
    criu: Option<PathBuf>,
    runs: usize,
    filters: Vec<String>,
}

fn asked(args: &[String]) -> Result<Asked, String> {
    let mut a = Asked { plugin: PathBuf::new(), criu: None, runs: 5, filters: vec![] };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        match arg.as_str() {
            "--plugin" => a.plugin = value()?.into(),
            "--criu" => a.criu = Some(value()?.into()),
            "--runs" => a.runs = value()?.parse().map_err(|e| format!("--runs: {e}"))?,
            _ => a.filters.push(arg.clone()),
        }
    }
    a.plugin = std::fs::canonicalize(&a.plugin).map_err(|e| format!("--plugin {}: {e}", a.plugin.display()))?;
    Ok(a)
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|a| a == "--tree") {
        tree::run(args.get(1..).unwrap_or(&[]));
        return ExitCode::from(1);
    }
    match bench(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bench: {e}");
            ExitCode::from(2)
        }
    }
}

fn bench(args: &[String]) -> Result<(), String> {
    let a = asked(args)?;
    let criu = match &a.criu {
        Some(path) => Criu::at(path)?,
        None => Criu::provisioned()?.pop().ok_or("no CRIU works here; see scripts/provision-criu")?,
    };
    // SAFETY: plain prctl; the tasks of a tree that is ended come to us to be reaped.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    let base = std::env::temp_dir().join(format!("preflight-bench-{}", std::process::id()));
    let made = prepare(&base, &a.plugin).map_err(|e| format!("{}: {e}", base.display()));
    let told = made.and_then(|()| all(&a, &criu, &base));
    let _ = std::fs::remove_dir_all(&base);
    told
}

/// Two plugin directories, one with the plugin in it; CRIU loads all that is in the one it is given.
fn prepare(base: &Path, plugin: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(base.join("without"))?;
    std::fs::create_dir_all(base.join("with"))?;
    std::fs::copy(plugin, base.join("with/preflight_plugin.so")).map(|_| ())
}

fn all(a: &Asked, criu: &Criu, base: &Path) -> Result<(), String> {
    println!("CRIU {}, medians of {} dumps each way (spread: middle half)", criu.version, a.runs);
    for shape in SHAPES.iter().filter(|s| a.filters.is_empty() || a.filters.iter().any(|f| s.name.contains(f))) {
        one(shape, a.runs, criu, base).map_err(|e| format!("{}: {e}", shape.name))?;
    }
    Ok(())
}

/// What one dump did: milliseconds, and bytes of images.
struct Dump {
    total: f64,
    frozen: Option<f64>,
    bytes: u64,
}

fn one(shape: &Shape, runs: usize, criu: &Criu, base: &Path) -> Result<(), String> {
    let io = |e: std::io::Error| e.to_string();
    let files = base.join("files");
    std::fs::create_dir_all(&files).map_err(io)?;
    let tree = Tree::start(shape, &files).map_err(io)?;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    // The first dump of each kind warms caches and is not counted.
    for run in 0..=runs {
        for (kind, list) in [("without", &mut without), ("with", &mut with)] {
            let d = dump(criu, tree.pid, base, kind, shape.blocked)?;
            if run > 0 {
                list.push(d);
            }
        }
    }
    println!("\n{}", shape.name);
    tell("dump without", &without, |d| Some(d.total));
    tell("dump with", &with, |d| Some(d.total));
    if shape.blocked {
        let bytes = |l: &[Dump]| l.last().map_or(0, |d| d.bytes >> 10);
        println!("  images left, KiB: {} without, {} with", bytes(&without), bytes(&with));
    } else {
        tell("frozen without", &without, |d| d.frozen);
        tell("frozen with", &with, |d| d.frozen);
        let floor = floor(&tree).map_err(io)?;
        let frozen = |l: &[Dump]| middle(l.iter().filter_map(|d| d.frozen).collect()).1;
        let (alone, ours) = (frozen(&without), frozen(&with));
        println!("  frozen longer: {:.2} ms, {:.1} %; floor {floor:.2} ms", ours - alone, (ours / alone - 1.0) * 100.0);
    }
    drop(tree);
    std::fs::remove_dir_all(&files).map_err(io)
}

fn tell(what: &str, dumps: &[Dump], value: impl Fn(&Dump) -> Option<f64>) {
    let (low, median, high) = middle(dumps.iter().filter_map(value).collect());
    println!("  {what:<15} {median:>9.1} ms  ({low:.1} .. {high:.1})");
}

/// Lower quartile, median, upper quartile.
fn middle(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = |quarter: usize| values.get(values.len().saturating_sub(1) * quarter / 4).copied().unwrap_or(f64::NAN);
    (at(1), at(2), at(3))
}

fn dump(criu: &Criu, pid: i32, base: &Path, kind: &str, blocked: bool) -> Result<Dump, String> {
    let images = base.join("images");
    std::fs::create_dir(&images).map_err(|e| e.to_string())?;
    let mut cmd = Command::new(&criu.path);
    cmd.args(["dump", "--leave-running", "--display-stats", "-o", "dump.log", "-t"]).arg(pid.to_string());
    cmd.arg("-D").arg(&images).arg("-L").arg(base.join(kind));
    let start = Instant::now();
    let out = cmd.stdin(Stdio::null()).stderr(Stdio::null()).output().map_err(|e| e.to_string())?;
    let total = start.elapsed().as_secs_f64() * 1e3;
    if out.status.success() == blocked {
        let log = std::fs::read_to_string(images.join("dump.log")).unwrap_or_default();
        return Err(format!("{kind} the plugin: {}, not as it should be:\n{log}", out.status));
    }
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let frozen = text.lines().find_map(|l| l.strip_prefix("Frozen time: ")?.strip_suffix(" us")?.parse::<f64>().ok());
    let files = std::fs::read_dir(&images).into_iter().flatten().flatten();
    let bytes = files.filter_map(|f| f.metadata().ok()).map(|m| m.len()).sum();
    std::fs::remove_dir_all(&images).map_err(|e| e.to_string())?;
    Ok(Dump { total, frozen: frozen.map(|us| us / 1e3), bytes })
}

/// Milliseconds for one listing and one statx of every descriptor of the tree; the best of three.
fn floor(tree: &Tree) -> std::io::Result<f64> {
    let tasks = criu_tests::tree::descendants(tree.pid);
    let mut best = f64::INFINITY;
    for _ in 0..3 {
        let start = Instant::now();
        for pid in &tasks {
            for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
                let path = CString::new(entry?.path().as_os_str().as_bytes())?;
                // SAFETY: the path and the buffer live through the call; what it answers does not matter here.
                unsafe {
                    let mut buffer: libc::statx = std::mem::zeroed();
                    libc::statx(libc::AT_FDCWD, path.as_ptr(), 0, libc::STATX_BASIC_STATS, &mut buffer);
                }
            }
        }
        best = best.min(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(best)
}
