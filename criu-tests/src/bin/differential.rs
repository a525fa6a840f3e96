//! Runs the fixtures: see the crate's documentation.

use criu_tests::criu::Criu;
use criu_tests::dry::DryRun;
use criu_tests::examples::Examples;
use criu_tests::fixtures::{self, Fixture};
use criu_tests::mounts::Btrfs;
use criu_tests::tree::mkres;
use criu_tests::trial::{run, Fate, Outcome, Recorded, Setup};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;

const USAGE: &str =
    "differential [--criu PATH]... [--plugin PATH] [--dry-run COMMAND] [--examples FILE] [--record] [--list] [--jobs N] [FILTER]...";

struct Asked {
    criu: Vec<PathBuf>,
    plugin: Option<PathBuf>,
    dry_run: Option<PathBuf>,
    examples: Option<PathBuf>,
    record: bool,
    list: bool,
    jobs: usize,
    filters: Vec<String>,
}

fn asked() -> Result<Asked, String> {
    let mut a = Asked {
        criu: vec![],
        plugin: None,
        dry_run: None,
        examples: None,
        record: false,
        list: false,
        jobs: 2,
        filters: vec![],
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        match arg.as_str() {
            "--criu" => a.criu.push(value()?.into()),
            "--plugin" => a.plugin = Some(value()?.into()),
            "--dry-run" => a.dry_run = Some(value()?.into()),
            "--examples" => a.examples = Some(value()?.into()),
            "--jobs" => a.jobs = value()?.parse().map_err(|e| format!("--jobs: {e}"))?,
            "--record" => a.record = true,
            "--list" => a.list = true,
            o if o.starts_with('-') => return Err(format!("{o}?\n{USAGE}")),
            _ => a.filters.push(arg),
        }
    }
    Ok(a)
}

fn main() -> ExitCode {
    match body() {
        Ok(code) => code,
        Err(e) => {
            eprintln!("differential: {e}");
            ExitCode::from(2)
        }
    }
}

fn body() -> Result<ExitCode, String> {
    let a = asked()?;
    if a.list {
        fixtures::all().for_each(|f| println!("{:<32} {}  {}", f.name, f.tree, f.opts));
        return Ok(ExitCode::SUCCESS);
    }
    if unsafe { libc::geteuid() } != 0 {
        return Err("root is needed, to run CRIU".into());
    }
    if !mkres().exists() {
        return Err(format!("no {}: build all of criu-tests first (cargo build -p criu-tests)", mkres().display()));
    }
    let criu = match a.criu.is_empty() {
        true => Criu::provisioned()?,
        false => a.criu.iter().map(|p| Criu::at(p)).collect::<Result<_, _>>()?,
    };
    if criu.is_empty() {
        return Err("no CRIU to test with; scripts/provision-criu gets some, or give --criu PATH".into());
    }
    // Processes of a tree that lose their parent come to us, and their numbers are free as soon as we have reaped them.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    criu_tests::mounts::own_namespace()?;
    let base = std::env::temp_dir().join(format!("preflight-differential-{}", std::process::id()));
    let setup = prepare(&a, &base)?;
    let code = all(&a, &criu, &setup);
    if let (Some(examples), Some(path)) = (&setup.examples, &a.examples) {
        examples.write(path)?;
    }
    drop(setup);
    let _ = std::fs::remove_dir(base.join("none"));
    if std::env::var_os("KEEP").is_none() {
        let _ = std::fs::remove_dir_all(&base);
    }
    Ok(code)
}

fn prepare(a: &Asked, base: &Path) -> Result<Setup, String> {
    use std::os::unix::fs::PermissionsExt;
    let io = |e: std::io::Error| format!("{}: {e}", base.display());
    let no_plugins = base.join("none");
    std::fs::create_dir_all(&no_plugins).map_err(io)?;
    std::fs::set_permissions(base, std::fs::Permissions::from_mode(0o755)).map_err(io)?;
    let plugin = match a.record {
        true => None,
        false => {
            let built = mkres().with_file_name("libcriu_preflight.so");
            let from = a.plugin.clone().unwrap_or(built);
            let dir = base.join("plugin");
            std::fs::create_dir_all(&dir).map_err(io)?;
            std::fs::copy(&from, dir.join("preflight_plugin.so")).map_err(|e| format!("{}: {e}", from.display()))?;
            Some(dir)
        }
    };
    let dry_run = a.dry_run.as_deref().map(DryRun::of).transpose()?;
    let examples = a.examples.as_ref().map(|_| Examples::default());
    Ok(Setup { examples, plugin, dry_run, no_plugins, base: base.into(), btrfs: Btrfs::under(base) })
}

#[derive(Default)]
struct Count {
    passed: usize,
    failed: Vec<String>,
    skipped: usize,
    fates: Fates,
}

/// What became of the dumps that CRIU made, as expected.
#[derive(Default)]
struct Fates {
    same: usize,
    changed: usize,
    announced: usize,
    /// By the reason.
    unannounced: BTreeMap<&'static str, usize>,
    doubted: BTreeMap<&'static str, usize>,
    harness: BTreeMap<&'static str, usize>,
}

impl Fates {
    fn add(&mut self, fate: Fate) {
        match fate {
            Fate::Same => self.same += 1,
            Fate::Changed => self.changed += 1,
            Fate::Announced => self.announced += 1,
            Fate::Unannounced(why) => *self.unannounced.entry(why).or_default() += 1,
            Fate::Doubted(why) => *self.doubted.entry(why).or_default() += 1,
            Fate::Harness(why) => *self.harness.entry(why).or_default() += 1,
        }
    }

    fn print(&self) {
        let sum = |of: &BTreeMap<&str, usize>| of.values().sum::<usize>();
        let (unannounced, doubted, harness) = (sum(&self.unannounced), sum(&self.doubted), sum(&self.harness));
        let all = [
            ("unannounced", &self.unannounced),
            ("warned of and not certain", &self.doubted),
            ("for the sake of the test", &self.harness),
        ];
        for (what, reasons) in all {
            reasons.iter().for_each(|(why, n)| println!("not restored, {what}, {n} times: {why}"));
        }
        println!(
            "dumps: {} restored as they were, {} with losses; not restored: {} announced, {doubted} warned of, \
             {unannounced} unannounced, {harness} for the sake of the test",
            self.same, self.changed, self.announced
        );
    }
}

fn all(a: &Asked, criu: &[Criu], setup: &Setup) -> ExitCode {
    let count = Mutex::new(Count::default());
    for c in criu {
        let name = |f: &Fixture| format!("{}::{}", c.version, f.name);
        let chosen = fixtures::all().filter(|f| a.filters.is_empty() || a.filters.iter().any(|w| name(f).contains(w)));
        // One version at a time: they share a cache of kernel features in /run.
        let (alone, beside): (Vec<&Fixture>, Vec<&Fixture>) = chosen.partition(|f| f.alone);
        let queue = Mutex::new(beside.into_iter());
        let next = || queue.lock().map_or(None, |mut q| q.next());
        let one = |f: &Fixture| {
            let (outcome, record) = run(f, c, setup);
            tell(&name(f), &outcome, record, a.record, &count);
        };
        std::thread::scope(|s| {
            for _ in 0..a.jobs.max(1) {
                s.spawn(|| {
                    while let Some(f) = next() {
                        one(f);
                    }
                });
            }
        });
        setup.btrfs.unmount();
        alone.into_iter().for_each(one);
    }
    let count = count.into_inner().unwrap_or_default();
    for f in &count.failed {
        println!("FAILED {f}");
    }
    count.fates.print();
    println!("{} passed, {} failed, {} skipped", count.passed, count.failed.len(), count.skipped);
    if count.passed + count.failed.len() + count.skipped == 0 {
        eprintln!("no fixture has {:?} in VERSION::NAME: fixtures are named, not rules", a.filters);
    }
    // Nothing run is nothing shown.
    ExitCode::from(u8::from(!count.failed.is_empty() || count.passed == 0))
}

fn tell(name: &str, outcome: &Outcome, record: Option<Recorded>, print: bool, count: &Mutex<Count>) {
    let Ok(mut n) = count.lock() else { return };
    match outcome {
        Outcome::Passed => {
            n.passed += 1;
            println!("ok      {name}");
        }
        Outcome::Skipped(why) => {
            n.skipped += 1;
            println!("skipped {name}: {why}");
        }
        Outcome::Failed(why) => {
            println!("FAILED  {name}: {why}");
            n.failed.push(format!("{name}: {why}"));
        }
    }
    if let Some(fate) = record.as_ref().and_then(|r| r.fate) {
        n.fates.add(fate);
    }
    if let Some(r) = record.filter(|_| print) {
        println!("        {}, pages {}, {} ms: {}", r.verdict, r.pages, r.millis, r.says);
    }
}
