//! What the plugin costs a dump, and saves a doomed one: `bench --plugin PLUGIN.so [--criu PATH] [--runs N] [FILTER]...`
//!
//! Each tree is dumped by the same CRIU with and without the plugin, now the one first and now the other, each time made
//! anew (the second dump of a tree takes longer than its first). Printed are medians: the whole
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
use tree::{Bad, Shape, Tree};

const NONE: Shape = Shape { name: "", tasks: 1, fds: 0, sockets: 0, maps: 0, mib: 0, bad: Bad::Nothing };

const SHAPES: &[Shape] = &[
    Shape { name: "refused: 200 tasks of 1 MiB, a device in the last", tasks: 200, mib: 1, bad: Bad::Device, ..NONE },
    Shape { name: "refused: 1 task of 2 GiB, a lock", mib: 2_048, bad: Bad::Lock, ..NONE },
    Shape { name: "1 task, 10 fds", fds: 10, ..NONE },
    Shape { name: "200 tasks, 20 fds each", tasks: 200, fds: 20, ..NONE },
    Shape { name: "1 task, 1000 fds", fds: 1_000, ..NONE },
    Shape { name: "1 task, 10000 fds", fds: 10_000, ..NONE },
    Shape { name: "1 task, 1 GiB", mib: 1_024, ..NONE },
];

/// The tree with this many of a thing.
type ShapeOf = fn(usize) -> Shape;

/// What grows, and how often it is multiplied by ten.
const GROWTH: &[(&str, ShapeOf)] = &[
    ("growth: fds", |fds| Shape { fds, ..NONE }),
    ("growth: sockets", |sockets| Shape { sockets, ..NONE }),
    ("growth: mappings", |maps| Shape { maps, ..NONE }),
];
const STEPS: [usize; 3] = [100, 1_000, 10_000];

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
    let figures = made.and_then(|()| all(&a, &criu, &base));
    let _ = std::fs::remove_dir_all(&base);
    figures
}

/// Two plugin directories, one with the plugin in it; CRIU loads all that is in the one it is given.
fn prepare(base: &Path, plugin: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(base.join("without"))?;
    std::fs::create_dir_all(base.join("with"))?;
    std::fs::copy(plugin, base.join("with/preflight_plugin.so")).map(|_| ())
}

fn all(a: &Asked, criu: &Criu, base: &Path) -> Result<(), String> {
    println!("CRIU {}, medians of {} dumps each way (spread: middle half)", criu.version, a.runs);
    let wanted = |name: &str| a.filters.is_empty() || a.filters.iter().any(|f| name.contains(f.as_str()));
    let mut table = Vec::new();
    for shape in SHAPES.iter().filter(|s| wanted(s.name)) {
        table.push(one(shape, a.runs, criu, base).unwrap_or_else(|e| format!("{}: not measured: {e}", shape.name)));
    }
    for (name, shape) in GROWTH.iter().filter(|(name, _)| wanted(name)) {
        let figures = growth(name, *shape, a.runs, criu, base);
        table.push(figures.unwrap_or_else(|e| format!("{name}: not measured: {e}")));
    }
    println!("\nIn short");
    table.iter().for_each(|line| println!("  {line}"));
    Ok(())
}

/// What the look costs for each thing of a kind, as their number grows: processor time of the look by its own account, the
/// best of all dumps, less what it costs without any.
fn growth(name: &str, shape: ShapeOf, runs: usize, criu: &Criu, base: &Path) -> Result<String, String> {
    println!("\n{name}");
    let mut none = None;
    let mut figures = [String::new(), String::new()];
    for count in std::iter::once(0).chain(STEPS) {
        let files = base.join("files");
        std::fs::create_dir_all(&files).map_err(|e| e.to_string())?;
        let tree = Tree::start(&shape(count), &files).map_err(|e| e.to_string())?;
        let mut best = [f64::INFINITY; 2];
        for _ in 0..runs.max(3) {
            let looks = dump(criu, tree.pid, base, "with", false)?.looks;
            best = [best[0].min(looks[0]), best[1].min(looks[1])];
        }
        drop(tree);
        std::fs::remove_dir_all(&files).map_err(|e| e.to_string())?;
        let none = *none.get_or_insert(best);
        if count == 0 {
            continue;
        }
        let each = [0, 1].map(|i| (best[i] - none[i]) / count as f64);
        println!("  {count:>6}: early look {:.2} us each, frozen look {:.2} us each", each[0], each[1]);
        for (figures, each) in figures.iter_mut().zip(each) {
            figures.push_str(&format!(" {each:.2}"));
        }
    }
    Ok(format!("{name}, 100 / 1000 / 10000, us of processor time each: early{}, frozen{}", figures[0], figures[1]))
}

/// What one dump did: milliseconds, and bytes of images.
struct Dump {
    total: f64,
    frozen: Option<f64>,
    bytes: u64,
    /// Microseconds of processor time that the early and the frozen look took, if there was one.
    looks: [f64; 2],
}

/// The long version is printed, the short one returned.
fn one(shape: &Shape, runs: usize, criu: &Criu, base: &Path) -> Result<String, String> {
    let io = |e: std::io::Error| e.to_string();
    let files = base.join("files");
    std::fs::create_dir_all(&files).map_err(io)?;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    // The first dump of each kind warms caches and is not counted.
    for run in 0..=runs {
        let mut turns = [("without", &mut without), ("with", &mut with)];
        if run % 2 == 1 {
            turns.reverse();
        }
        for (kind, list) in turns {
            // A new one: what was dumped before is slower to dump.
            let tree = Tree::start(shape, &files).map_err(io)?;
            let d = dump(criu, tree.pid, base, kind, shape.bad != Bad::Nothing)?;
            if run > 0 {
                list.push(d);
            }
        }
    }
    println!("\n{}", shape.name);
    tell("dump without", &without, |d| Some(d.total));
    tell("dump with", &with, |d| Some(d.total));
    let total = |l: &[Dump]| middle(l.iter().map(|d| d.total).collect()).1;
    let (slow, fast) = (total(&without), total(&with));
    let figures = if shape.bad != Bad::Nothing {
        let kib = |l: &[Dump]| l.last().map_or(0, |d| d.bytes >> 10);
        let (kept, left) = (kib(&without), kib(&with));
        println!("  images left: {kept} KiB without, {left} KiB with");
        let look = least(&with, 0) / 1e3;
        println!(
            "  refused {:.1} times sooner; the looks that refuse took {look:.1} ms of processor time",
            slow / fast
        );
        format!(
            "{}: {slow:.0} ms and {kept} KiB of images without, {fast:.0} ms and {left} KiB with: {:.1} times sooner",
            shape.name,
            slow / fast
        )
    } else {
        tell("frozen without", &without, |d| d.frozen);
        tell("frozen with", &with, |d| d.frozen);
        let floor = Tree::start(shape, &files).and_then(|tree| floor(&tree)).map_err(io)?;
        let frozen = |l: &[Dump]| middle(l.iter().filter_map(|d| d.frozen).collect()).1;
        let (alone, ours) = (frozen(&without), frozen(&with));
        println!("  frozen longer: {:.2} ms, {:.1} %", ours - alone, (ours / alone - 1.0) * 100.0);
        let (early, look) = (least(&with, 0) / 1e3, least(&with, 1) / 1e3);
        let (share, ratio) = (look / alone * 100.0, look / floor);
        println!("  processor time of the looks: early {early:.2} ms, frozen {look:.2} ms; floor {floor:.2} ms");
        format!(
            "{}: dump {slow:.0} -> {fast:.0} ms, frozen {alone:.1} -> {ours:.1} ms ({:+.1} %); the frozen look {look:.2} ms \
             ({share:.1} % of it, {ratio:.2} times the floor), the early one {early:.2} ms",
            shape.name,
            (ours / alone - 1.0) * 100.0
        )
    };
    std::fs::remove_dir_all(&files).map_err(io)?;
    Ok(figures)
}

/// The least that a look took in any of the dumps, in microseconds.
fn least(dumps: &[Dump], look: usize) -> f64 {
    dumps.iter().filter_map(|d| d.looks.get(look)).copied().fold(f64::INFINITY, f64::min)
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
    cmd.args(["dump", "--leave-running", "--display-stats", "-v4", "-o", "dump.log", "-t"]).arg(pid.to_string());
    cmd.arg("-D").arg(&images).arg("-L").arg(base.join(kind));
    let start = Instant::now();
    let out = cmd.stdin(Stdio::null()).stderr(Stdio::null()).output().map_err(|e| e.to_string())?;
    let total = start.elapsed().as_secs_f64() * 1e3;
    if out.status.success() == blocked {
        let log = std::fs::read_to_string(images.join("dump.log")).unwrap_or_default();
        let errors: Vec<&str> = log.lines().filter(|l| l.contains("Error")).collect();
        std::fs::remove_dir_all(&images).map_err(|e| e.to_string())?;
        return Err(format!("{kind} the plugin: {}, not as it should be:\n{}", out.status, errors.join("\n")));
    }
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let frozen = text.lines().find_map(|l| l.strip_prefix("Frozen time: ")?.strip_suffix(" us")?.parse::<f64>().ok());
    let log = std::fs::read_to_string(images.join("dump.log")).unwrap_or_default();
    let looks = ["early look at ", "frozen look at "].map(|which| busy(&log, which).unwrap_or(f64::INFINITY));
    // The log is no image.
    std::fs::remove_file(images.join("dump.log")).map_err(|e| e.to_string())?;
    let files = std::fs::read_dir(&images).into_iter().flatten().flatten();
    let bytes = files.filter_map(|f| f.metadata().ok()).map(|m| m.len()).sum();
    std::fs::remove_dir_all(&images).map_err(|e| e.to_string())?;
    Ok(Dump { total, frozen: frozen.map(|us| us / 1e3), bytes, looks })
}

/// What the plugin's own log line about one of its looks says.
fn busy(log: &str, which: &str) -> Option<f64> {
    let line = log.lines().find(|l| l.contains("preflight: ") && l.contains(which))?;
    line.strip_suffix(" us of processor time")?.rsplit(' ').next()?.parse().ok()
}

/// Seconds of processor time that this thread has had.
fn busy_so_far() -> f64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut t) };
    t.tv_sec as f64 + t.tv_nsec as f64 * 1e-9
}

/// Milliseconds of processor time for one listing and one statx of every descriptor of the tree; the best of three.
fn floor(tree: &Tree) -> std::io::Result<f64> {
    let tasks = criu_tests::tree::descendants(tree.pid);
    let mut best = f64::INFINITY;
    for _ in 0..3 {
        let start = busy_so_far();
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
        best = best.min((busy_so_far() - start) * 1e3);
    }
    Ok(best)
}
