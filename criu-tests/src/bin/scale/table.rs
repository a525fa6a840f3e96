//! The figures, and what grows too fast.

use super::count::Calls;
use super::measure::Took;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What one tree cost.
pub struct Row {
    /// Of the early and of the frozen look.
    pub calls: [Calls; 2],
    pub looks: [Took; 2],
    /// Milliseconds of processor time.
    pub lsfd: Option<f64>,
    pub dumps: Option<[Dump; 2]>,
}

/// A real dump, without or with the plugin.
#[derive(Clone, Copy, Default)]
pub struct Dump {
    /// Milliseconds.
    pub total: f64,
    /// How long the tree was frozen, by CRIU's own account.
    pub frozen: Option<f64>,
    /// The frozen look, by the plugin's.
    pub look: Option<f64>,
    pub ok: bool,
}

#[derive(Default)]
pub struct Table {
    kind: &'static str,
    /// n and what it cost, of this kind so far.
    rows: Vec<(usize, Row)>,
    too_fast: Vec<String>,
    good: usize,
    skipped: usize,
}

/// Each is one number of a look, and the greatest exponent that it may grow with. Lists double their room when it is used
/// up, so that memory grows by leaps; times depend on the machine.
type Figure = (&'static str, f64, fn(&Row, usize) -> f64);

const FIGURES: [Figure; 4] = [
    ("calls", 1.2, |r, look| r.calls[look].values().sum::<u64>() as f64),
    ("memory", 1.5, |r, look| r.looks[look].peak),
    ("busy", f64::INFINITY, |r, look| r.looks[look].busy),
    ("clock", f64::INFINITY, |r, look| r.looks[look].clock),
];
const LOOKS: [&str; 2] = ["early", "frozen"];

impl Table {
    pub fn row(&mut self, kind: &'static str, n: usize, row: Row, with_calls: bool) {
        if self.kind != kind {
            self.close();
            self.kind = kind;
            println!("\n{kind}");
        }
        let mut line = format!("  {n:>6}:");
        for (look, name) in LOOKS.iter().enumerate() {
            let took = row.looks[look];
            line += &format!(
                "  {name} {:.1} ms ({:.1} busy), {:.0} calls, {:.2} MB",
                took.clock,
                took.busy,
                (FIGURES[0].2)(&row, look),
                took.peak / 1e6
            );
        }
        let took = row.looks[1];
        line += &format!(";  {} findings, {} unchecked", took.findings, took.unchecked);
        if let Some(ms) = row.lsfd {
            line += &format!(";  lsfd {ms:.0} ms busy");
        }
        for (dump, name) in row.dumps.iter().flatten().zip(["CRIU alone", "with the plugin"]) {
            let ms = |ms: Option<f64>| ms.map_or("-".into(), |ms| format!("{ms:.1}"));
            let end = if dump.ok { "made" } else { "refused" };
            line += &format!("; {name} {:.0} ms, frozen {}, {end}", dump.total, ms(dump.frozen));
            line += &dump.look.map_or(String::new(), |look| format!(", frozen look {look:.1} ms"));
        }
        println!("{line}");
        if with_calls {
            for (calls, look) in row.calls.iter().zip(LOOKS) {
                let mut all: Vec<(u64, u64)> = calls.iter().map(|(nr, n)| (*n, *nr)).collect();
                all.sort_unstable_by(|a, b| b.cmp(a));
                let all: Vec<String> = all.iter().take(8).map(|(n, nr)| format!("{n} of {nr}")).collect();
                println!("          {look}: {}", all.join(", "));
            }
        }
        self.rows.push((n, row));
    }

    pub fn skip(&mut self, kind: &'static str, n: usize, why: &str) {
        println!("\nSKIP {kind} {n}: {why}");
        self.skipped += 1;
    }

    /// The exponents of one kind.
    fn close(&mut self) {
        let rows = std::mem::take(&mut self.rows);
        let [(0, none), some @ .., (many, last)] = &rows[..] else { return };
        // A tree that is refused is looked at twice: it is compared with one that is refused as well.
        let refused = |row: &Row| row.looks[1].findings > 0.0;
        let Some((few, before)) = some.iter().find(|(_, row)| refused(row) == refused(last)) else { return };
        let (mut growth, before_this) = (Vec::new(), self.too_fast.len());
        for (figure, most, value) in FIGURES {
            for (look, name) in LOOKS.iter().enumerate() {
                let of = |row| value(row, look) - value(none, look);
                // What is not there at all, or lost in the rest, grows in no way.
                let rest = if figure == "calls" { value(none, look) / 10.0 } else { value(none, look) };
                let least = of(before).max(rest).max(1e-3);
                let exponent = (of(last).max(least) / least).ln() / (*many as f64 / *few as f64).ln();
                growth.push(format!("{figure} {name} {exponent:.2}"));
                if exponent > most {
                    let line = format!("{}: {figure} of the {name} look, with exponent {exponent:.2}", self.kind);
                    self.too_fast.push(line);
                }
            }
        }
        println!("  growth: {}", growth.join(", "));
        self.good += usize::from(self.too_fast.len() == before_this);
    }

    /// Whether nothing grows too fast.
    pub fn end(mut self) -> bool {
        self.close();
        println!();
        self.too_fast.iter().for_each(|line| println!("FAIL grows too fast: {line}"));
        println!("{} passed, {} failed, {} skipped", self.good, self.too_fast.len(), self.skipped);
        self.too_fast.is_empty() && self.good > 0
    }
}

/// Processor time of `lsfd` on the same processes; `None`: it is not here.
pub fn lsfd(pids: &BTreeSet<i32>) -> Option<f64> {
    let list: Vec<String> = pids.iter().map(|p| p.to_string()).collect();
    let before = of_children();
    let mut child =
        Command::new("lsfd").arg("-p").arg(list.join(",")).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
    wait(&mut child, Duration::from_secs(30));
    Some((of_children() - before) * 1e3)
}

/// Seconds of processor time of all children that have been waited for.
fn of_children() -> f64 {
    // SAFETY: the kernel fills it in.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage) };
    let of = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 * 1e-6;
    of(usage.ru_utime) + of(usage.ru_stime)
}

fn wait(child: &mut std::process::Child, limit: Duration) -> bool {
    let until = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(1)),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return false;
            }
        }
    }
}

/// Real dumps of the tree, without and with the plugin.
pub fn dumps(criu: &Path, plugin: Option<&Path>, pid: i32, base: &Path) -> Result<[Dump; 2], String> {
    let io = |e: std::io::Error| e.to_string();
    let mut all = [Dump::default(); 2];
    for (dump, plugin) in all.iter_mut().zip([None, plugin]) {
        let (images, plugins) = (base.join("images"), base.join("plugins"));
        [&images, &plugins].into_iter().try_for_each(std::fs::create_dir_all).map_err(io)?;
        if let Some(plugin) = plugin {
            std::fs::copy(plugin, plugins.join("preflight_plugin.so")).map_err(io)?;
        }
        let printed = base.join("printed");
        let start = Instant::now();
        let mut child = Command::new(criu)
            .args([
                "dump",
                "--leave-running",
                "--display-stats",
                "--file-locks",
                "--shell-job",
                "-v4",
                "-o",
                "dump.log",
                "-t",
            ])
            .arg(pid.to_string())
            .args(["--ghost-limit", "1M", "--tcp-established", "--skip-in-flight", "--ext-unix-sk"])
            .arg("-D")
            .arg(&images)
            .arg("-L")
            .arg(&plugins)
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(&printed).map_err(io)?)
            .stderr(Stdio::null())
            .spawn()
            .map_err(io)?;
        dump.ok = wait(&mut child, Duration::from_secs(120));
        dump.total = start.elapsed().as_secs_f64() * 1e3;
        let printed = std::fs::read_to_string(&printed).unwrap_or_default();
        let us = |line: &str| line.strip_prefix("Frozen time: ")?.strip_suffix(" us")?.parse::<f64>().ok();
        dump.frozen = printed.lines().find_map(us).map(|us| us / 1e3);
        let log = std::fs::read(images.join("dump.log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let look = log.lines().find(|l| l.contains("preflight: ") && l.contains("frozen look at "));
        let us = |line: &str| line.split(" us,").next()?.rsplit(' ').next()?.parse::<f64>().ok();
        dump.look = look.and_then(us).map(|us| us / 1e3);
        [&images, &plugins].into_iter().try_for_each(std::fs::remove_dir_all).map_err(io)?;
    }
    Ok(all)
}
