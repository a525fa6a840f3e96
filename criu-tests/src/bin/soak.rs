//! Random trees: CRIU's verdict alone and with the plugin must agree.
//!
//! ```text
//! soak --plugin PLUGIN.so [--criu PATH] [--count N] [--seed N] [--time SECONDS] [--jobs N] [-v]
//! soak --plugin PLUGIN.so [--criu PATH] [--no-shrink] --replay SEED...
//! soak --plugin PLUGIN.so [--criu PATH] [--no-shrink] --tree "WORDS" [--opt "OPTION"]... [--freeze-cgroup]
//! ```
//!
//! The trees hold what the fixtures hold, in company. Each comes of a number, printed with every disagreement; `--replay` makes it
//! again and takes away whatever can go with the disagreement staying. One that both refuse is peeled, see
//! `criu_tests::soak::peel` (`--no-peel` leaves it). Needs root.

use criu_tests::criu::Criu;
use criu_tests::mounts::Btrfs;
use criu_tests::soak::peel::{peel, Peeled};
use criu_tests::soak::{
    check, check_what_can_be_made, generate::case, shrink::shrink, sweep, Case, Disagreement, Fate, Kind, Random,
    Verdict,
};
use criu_tests::tree::mkres;
use criu_tests::trial::Setup;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

struct Asked {
    plugin: PathBuf,
    criu: Option<PathBuf>,
    count: usize,
    seed: u64,
    time: Duration,
    jobs: usize,
    replay: Vec<u64>,
    given: Case,
    shrink: bool,
    peel: bool,
    verbose: bool,
}

fn number(text: &str) -> Result<u64, String> {
    let hex = text.strip_prefix("0x");
    let n = hex.map_or_else(|| text.parse(), |h| u64::from_str_radix(h, 16));
    n.map_err(|e| format!("{text}: {e}"))
}

fn asked() -> Result<Asked, String> {
    let hour = Duration::from_secs(3600);
    let mut a = Asked {
        plugin: PathBuf::new(),
        criu: None,
        count: 1000,
        seed: 1,
        time: hour,
        jobs: 2,
        replay: vec![],
        given: Case { words: vec![], opts: vec![], freeze_cgroup: false },
        shrink: true,
        peel: true,
        verbose: false,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        match arg.as_str() {
            "--plugin" => a.plugin = value()?.into(),
            "--criu" => a.criu = Some(value()?.into()),
            "--count" => a.count = number(&value()?)? as usize,
            "--seed" => a.seed = number(&value()?)?,
            "--time" => a.time = Duration::from_secs(number(&value()?)?),
            "--jobs" => a.jobs = number(&value()?)? as usize,
            "--replay" => a.replay.push(number(&value()?)?),
            "--tree" => a.given.words = value()?.split_whitespace().map(String::from).collect(),
            "--opt" => a.given.opts.push(value()?),
            "--freeze-cgroup" => a.given.freeze_cgroup = true,
            "--no-shrink" => a.shrink = false,
            "--no-peel" => a.peel = false,
            "-v" => a.verbose = true,
            o => return Err(format!("{o}? See the head of soak.rs")),
        }
    }
    Ok(a)
}

fn main() -> ExitCode {
    match body() {
        Ok(code) => code,
        Err(e) => {
            eprintln!("soak: {e}");
            ExitCode::from(2)
        }
    }
}

fn body() -> Result<ExitCode, String> {
    let a = asked()?;
    if unsafe { libc::geteuid() } != 0 {
        return Err("root is needed, to run CRIU".into());
    }
    if !mkres().exists() {
        return Err(format!("no {}: build all of criu-tests first", mkres().display()));
    }
    let criu = match &a.criu {
        Some(path) => Criu::at(path)?,
        None => Criu::provisioned()?.pop().ok_or("no CRIU works here; give --criu PATH")?,
    };
    // As in `differential`: orphans of a tree come to us.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    criu_tests::mounts::own_namespace()?;
    let base = std::env::temp_dir().join(format!("preflight-soak-{}", std::process::id()));
    let setup = prepare(&a.plugin, &base)?;
    let made = |n: u64| (n, case(n));
    let cases: Vec<(u64, Case)> = match (a.given.words.is_empty(), a.replay.is_empty()) {
        (false, _) => vec![(0, a.given.clone())],
        (_, false) => a.replay.iter().copied().map(made).collect(),
        _ => (0..a.count as u64).map(|i| made(seed_of(a.seed, i))).collect(),
    };
    let failed = all(&a, &cases, &criu, &setup);
    drop(setup);
    sweep();
    criu_tests::cgroups::sweep_all(&base.to_string_lossy(), &["mkres", "preflight-soak"]);
    if std::env::var_os("KEEP").is_none() {
        let _ = std::fs::remove_dir_all(&base);
    }
    Ok(ExitCode::from(u8::from(failed)))
}

/// The number of the tree at `index` of a run.
fn seed_of(run: u64, index: u64) -> u64 {
    Random::new(run.wrapping_mul(0x1_0000_0001).wrapping_add(index)).draw()
}

fn prepare(plugin: &Path, base: &Path) -> Result<Setup, String> {
    use std::os::unix::fs::PermissionsExt;
    let (no_plugins, dir) = (base.join("none"), base.join("plugin"));
    for d in [&no_plugins, &dir] {
        std::fs::create_dir_all(d).map_err(|e| format!("{}: {e}", d.display()))?;
    }
    std::fs::set_permissions(base, std::fs::Permissions::from_mode(0o755)).map_err(|e| e.to_string())?;
    std::fs::copy(plugin, dir.join("preflight_plugin.so"))
        .map_err(|e| format!("--plugin {}: {e}", plugin.display()))?;
    Ok(Setup {
        plugin: Some(dir),
        no_plugins,
        base: base.into(),
        btrfs: Btrfs::under(base),
        dry_run: None,
        examples: None,
    })
}

/// What came of the dumps.
#[derive(Default)]
struct Fates {
    restored: usize,
    announced: usize,
    unannounced: BTreeMap<&'static str, usize>,
    harness: BTreeMap<String, usize>,
}

impl Fates {
    fn add(&mut self, fate: Fate) {
        match fate {
            Fate::Restored => self.restored += 1,
            Fate::Announced => self.announced += 1,
            Fate::Known(why) => *self.unannounced.entry(why).or_default() += 1,
            Fate::Harness(why) => *self.harness.entry(why).or_default() += 1,
        }
    }

    fn print(&self) {
        self.unannounced.iter().for_each(|(why, n)| println!("not restored, unannounced, {n} times: {why}"));
        self.harness.iter().for_each(|(why, n)| println!("not restored, for the sake of the test, {n} times: {why}"));
        println!(
            "of all dumps: {} restored; not restored: {} announced, {} for a known reason that no rule announces, {} for the sake of \
             the test",
            self.restored,
            self.announced,
            self.unannounced.values().sum::<usize>(),
            self.harness.values().sum::<usize>()
        );
    }
}

#[derive(Default)]
struct Count {
    fates: Fates,
    dumped: usize,
    refused: usize,
    warned: usize,
    disagreed: usize,
    not_made: BTreeMap<String, usize>,
    /// What this machine cannot make, and why: the trees were made without it.
    left_out: BTreeMap<String, usize>,
    peeled: PeeledCount,
    /// CRIU's reasons that no fixture has.
    unknown: BTreeMap<String, (usize, u64)>,
}

/// What became of the refused ones.
#[derive(Default)]
struct PeeledCount {
    dumped: usize,
    by_options: usize,
    lifted: usize,
    taken: usize,
    warned: usize,
    not_made: BTreeMap<String, usize>,
    one_refused: usize,
    one_dumped: usize,
    one_warned: usize,
    one_not_made: usize,
}

fn all(a: &Asked, cases: &[(u64, Case)], criu: &Criu, setup: &Setup) -> bool {
    let (count, queue) = (Mutex::new(Count::default()), Mutex::new(cases.iter()));
    let start = Instant::now();
    let next = || queue.lock().map_or(None, |mut q| q.next());
    std::thread::scope(|s| {
        for _ in 0..a.jobs.max(1) {
            s.spawn(|| {
                while start.elapsed() < a.time {
                    let Some((seed, case)) = next() else { return };
                    one(a, *seed, case, criu, setup, &count);
                }
            });
        }
    });
    let c = count.into_inner().unwrap_or_default();
    for (why, n) in &c.left_out {
        println!("left out, {n} times: {why}");
    }
    for (why, n) in &c.not_made {
        println!("not made, {n} times: {why}");
    }
    for (why, (n, seed)) in &c.unknown {
        println!("reason that no fixture has, {n} times, first {seed:#x}: {why}");
    }
    println!("CRIU {}, seed {}, {:.0} s", criu.version, a.seed, start.elapsed().as_secs_f64());
    println!("{} dumped, {} refused by both, {} warned of and refused by CRIU", c.dumped, c.refused, c.warned);
    let p = &c.peeled;
    for (why, n) in &p.not_made {
        println!("not peeled, {n} times: {why}");
    }
    println!(
        "peeled until CRIU dumps them: {} of those ({} by options alone), {} warned of, {} not; {} options, {} resources",
        p.dumped,
        p.by_options,
        p.warned,
        p.not_made.values().sum::<usize>(),
        p.lifted,
        p.taken
    );
    println!(
        "one of it put back: {} refused by both, {} dumped, {} warned of, {} not made",
        p.one_refused, p.one_dumped, p.one_warned, p.one_not_made
    );
    c.fates.print();
    let agreed = c.dumped + c.refused + c.warned;
    println!("{agreed} passed, {} failed, {} skipped", c.disagreed, c.not_made.values().sum::<usize>());
    c.disagreed > 0 || agreed == 0
}

fn one(a: &Asked, seed: u64, case: &Case, criu: &Criu, setup: &Setup, count: &Mutex<Count>) {
    let dir = setup.base.join(format!("{seed:x}"));
    let began = Instant::now();
    let mut made = case.clone();
    let (verdict, left_out) = check_what_can_be_made(&mut made, criu, setup, &dir);
    let case = &made;
    let took = began.elapsed().as_millis();
    let show = |what: &str| {
        if a.verbose {
            println!("{seed:#x} {what} in {took} ms: {case}");
        }
    };
    let Ok(mut n) = count.lock() else { return };
    for (word, why) in left_out {
        *n.left_out.entry(format!("{word}: {}", without_numbers(&why))).or_default() += 1;
    }
    match verdict {
        Verdict::Dumped(fate) => {
            show("dumped");
            n.dumped += 1;
            n.fates.add(fate);
        }
        Verdict::Refused { unknown, rules } => {
            show(&format!("refused {rules:?}"));
            n.refused += 1;
            note(&mut n, unknown, seed);
            drop(n);
            if a.peel {
                further(a, seed, case, criu, setup, count);
            }
        }
        Verdict::Warned => {
            show("warned");
            n.warned += 1;
        }
        Verdict::NotMade(why) => {
            show(&format!("not made: {why}"));
            *n.not_made.entry(without_numbers(&why)).or_default() += 1;
        }
        Verdict::Disagree(d) => {
            n.disagreed += 1;
            drop(n);
            failed(a, seed, case, &d, criu, setup);
        }
    }
}

fn note(n: &mut Count, unknown: Option<String>, seed: u64) {
    if let Some(why) = unknown {
        n.unknown.entry(without_numbers(&why)).or_insert((0, seed)).0 += 1;
    }
}

fn failed(a: &Asked, seed: u64, case: &Case, d: &Disagreement, criu: &Criu, setup: &Setup) {
    println!("FAILED {seed:#x} {:?}: {}\n    {case}", d.kind, d.says);
    // What an option lifts is seen in peeling only.
    if a.shrink && d.kind != Kind::Cure {
        smallest(case, d, criu, setup, &setup.base.join(format!("{seed:x}")));
    }
}

/// Peels what both refuse.
fn further(a: &Asked, seed: u64, case: &Case, criu: &Criu, setup: &Setup, count: &Mutex<Count>) {
    let began = Instant::now();
    let dir = setup.base.join(format!("{seed:x}"));
    let Peeled { rest, one, lifted, taken } = peel(case, &mut Random::new(!seed), criu, setup, &dir);
    let show = |what: &str, case: &Case| {
        if a.verbose {
            println!("{seed:#x} {what} in {} ms: {case}", began.elapsed().as_millis());
        }
    };
    let Ok(mut n) = count.lock() else { return };
    let mut wrong = Vec::new();
    n.peeled.lifted += lifted;
    n.peeled.taken += taken;
    match rest.1 {
        Verdict::Dumped(fate) => {
            show("  peeled, dumped", &rest.0);
            n.fates.add(fate);
            n.peeled.dumped += 1;
            n.peeled.by_options += usize::from(taken == 0);
        }
        Verdict::Warned => n.peeled.warned += 1,
        Verdict::NotMade(why) => {
            show(&format!("  not peeled: {why}"), &rest.0);
            *n.peeled.not_made.entry(without_numbers(&why)).or_default() += 1;
        }
        Verdict::Refused { .. } => {}
        Verdict::Disagree(d) => wrong.push((rest.0, d)),
    }
    match one {
        None => {}
        Some((case, Verdict::Refused { unknown, rules })) => {
            show(&format!("  one put back, refused {rules:?}"), &case);
            n.peeled.one_refused += 1;
            note(&mut n, unknown, seed);
        }
        Some((case, Verdict::Dumped(fate))) => {
            show("  one put back, dumped", &case);
            n.fates.add(fate);
            n.peeled.one_dumped += 1;
        }
        Some((_, Verdict::Warned)) => n.peeled.one_warned += 1,
        Some((_, Verdict::NotMade(_))) => n.peeled.one_not_made += 1,
        Some((case, Verdict::Disagree(d))) => wrong.push((case, d)),
    }
    n.disagreed += wrong.len();
    drop(n);
    for (case, d) in wrong {
        failed(a, seed, &case, &d, criu, setup);
    }
}

fn smallest(case: &Case, d: &Disagreement, criu: &Criu, setup: &Setup, dir: &Path) {
    match check(case, criu, setup, dir) {
        Verdict::Disagree(again) if again.kind == d.kind => {}
        _ => return println!("    not again: it depends on time"),
    }
    let small = shrink(case, d.kind, criu, setup, dir);
    match check(&small, criu, setup, dir) {
        Verdict::Disagree(d) => println!("    smallest: {small}\n    {:?}: {}", d.kind, d.says),
        _ => println!("    smallest, not every time: {small}"),
    }
}

/// The same reason on two processes is one reason.
fn without_numbers(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c.is_ascii_digit() {
            true if out.ends_with('N') => {}
            true => out.push('N'),
            false => out.push(c),
        }
    }
    out
}
