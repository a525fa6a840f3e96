//! Trees that move: what CRIU alone dumps, it dumps with the plugin.
//!
//! ```text
//! race --plugin PLUGIN.so [--criu VERSION|PATH]... [--pairs N] [--seed N] [--warn] [FILTER]...
//! race --list
//! ```
//!
//! A tree that stands still says nothing about one whose files are renamed, whose sockets wander and whose processes fork
//! while it is looked at: two observations of it are of two trees. Each kind in `kinds/` makes such a tree. It is dumped in
//! pairs, without the plugin and with it, now the one first and now the other, each time made anew from the pair's number
//! (`--seed` is told, and gives the same trees again; what they do in which microsecond it cannot give). Nothing is judged by time:
//! counted is what was dumped, what CRIU refuses and why, what the plugin refuses early or frozen and by which rule, who is named, what crashes,
//! what is left stopped. `judge.rs` says when the two sides disagree; any disagreement is a failed test and the exit status.
//!
//! With `--warn` the plugin only warns, and looks at the frozen tree alone: CRIU goes on with that very tree, and says for each dump
//! whether the look was right. A dump that is made though the look would have refused it, or one that is not though nothing was found,
//! is a failure.
//!
//! A test is one kind on one CRIU. FILTER is a part of `VERSION::KIND`; without `--criu` the newest that works here is
//! taken, `--criu all` takes all. Needs root. KEEP=1 leaves the directory, with the logs of all dumps that were not
//! made, and that of a tree that could not be made.
//!
//! **To add a kind**: a function and a line in the table of its group. Its processes are made by [`world::World::worker`]; if CRIU
//! alone refuses it at times, it has a `Claim` for each reason.

mod dump;
mod judge;
mod kinds;
mod root;
mod totals;
mod tree;
mod world;

use criu_tests::criu::Criu;
use criu_tests::soak::Random;
use criu_tests::trial::passcred_refused;
use dump::{dump, End, Place};
use judge::{disagreements, undecided, Side, Sides, MORE};
use kinds::Kind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use totals::{Outcome, Totals};
use tree::NoTree;

struct Asked {
    plugin: PathBuf,
    criu: Vec<String>,
    pairs: usize,
    seed: u64,
    warn: bool,
    filters: Vec<String>,
}

fn asked(args: &[String]) -> Result<Asked, String> {
    let mut a = Asked { plugin: PathBuf::new(), criu: vec![], pairs: 20, seed: now(), warn: false, filters: vec![] };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        let number = |text: &String| text.parse::<u64>().map_err(|e| format!("{arg} {text}: {e}"));
        match arg.as_str() {
            "--plugin" => a.plugin = value()?.into(),
            "--criu" => a.criu.push(value()?.clone()),
            "--pairs" => a.pairs = number(value()?)? as usize,
            "--seed" => a.seed = number(value()?)?,
            "--warn" => a.warn = true,
            o if o.starts_with('-') => return Err(format!("{o}? See the head of race/main.rs")),
            _ => a.filters.push(arg.clone()),
        }
    }
    Ok(a)
}

fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(1, |d| d.as_secs())
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let rest = args.get(1..).unwrap_or_default();
    let within = match args.first().map(String::as_str) {
        Some("--tree") => Some(world::run(rest, false)),
        Some("--rooted") => Some(world::run(rest, true)),
        Some("--again") => Some(kinds::again(rest)),
        Some("--nothing") => return ExitCode::SUCCESS,
        Some("--list") => {
            kinds::all().for_each(|k| println!("{:<20} {}", k.name, k.what));
            return ExitCode::SUCCESS;
        }
        _ => None,
    };
    if within.is_some() {
        return ExitCode::from(1);
    }
    match body(&args) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("race: {e}");
            ExitCode::from(2)
        }
    }
}

fn criu(asked: &[String]) -> Result<Vec<Criu>, String> {
    let mut found = Vec::new();
    for name in asked {
        if name.contains('/') {
            found.push(Criu::at(Path::new(name))?);
            continue;
        }
        let before = found.len();
        found.extend(Criu::provisioned()?.into_iter().filter(|c| name == "all" || c.version == *name));
        if found.len() == before {
            return Err(format!("no CRIU {name} works here; see scripts/provision-criu"));
        }
    }
    if asked.is_empty() {
        found.extend(Criu::provisioned()?.pop());
    }
    if found.is_empty() {
        return Err("no CRIU works here; give --criu PATH".into());
    }
    Ok(found)
}

fn body(args: &[String]) -> Result<ExitCode, String> {
    let a = asked(args)?;
    // SAFETY: plain system calls; the processes of a tree that is ended come to us to be reaped.
    unsafe {
        if libc::geteuid() != 0 {
            return Err("root is needed, to run CRIU".into());
        }
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    }
    let all = criu(&a.criu)?;
    let base = std::env::temp_dir().join(format!("preflight-race-{}", std::process::id()));
    let place = prepare(&a.plugin, &base, a.warn).map_err(|e| format!("{}: {e}", base.display()))?;
    println!("seed {}, {} pairs of each kind", a.seed, a.pairs);
    let mut totals = Totals::default();
    for criu in &all {
        for kind in kinds::all() {
            let name = format!("{}::{}", criu.version, kind.name);
            if a.filters.is_empty() || a.filters.iter().any(|f| name.contains(f.as_str())) {
                totals.add(&name, trial(&a, kind, criu, &place));
            }
        }
        totals.together(&criu.version);
    }
    if std::env::var_os("KEEP").is_none() {
        std::fs::remove_dir_all(&base).map_err(|e| format!("{}: {e}", base.display()))?;
    }
    Ok(ExitCode::from(u8::from(totals.tell())))
}

fn prepare(plugin: &Path, base: &Path, warn: bool) -> std::io::Result<Place> {
    let place = Place { base: base.into(), plugin: base.join("plugin"), no_plugins: base.join("none"), warn };
    std::fs::create_dir_all(&place.plugin)?;
    std::fs::create_dir_all(&place.no_plugins)?;
    let settings = base.join("settings");
    std::fs::write(&settings, if warn { "mode warn\nearly off\n" } else { "" })?;
    std::env::set_var("CRIU_PREFLIGHT_CONFIG", settings);
    std::fs::copy(plugin, place.plugin.join("preflight_plugin.so"))?;
    // Copies, which no build replaces meanwhile: what a tree runs from has to stay.
    for name in ["rc-race", "rc-other"] {
        std::fs::copy(std::env::current_exe()?, base.join(name))?;
    }
    Ok(place)
}

/// A new network namespace for this process and all it starts, so that what others of the machine do, or did the tree
/// before, is not seen in it.
fn own_network() -> Result<(), String> {
    let failed = |what: &str| format!("{what}: {}", std::io::Error::last_os_error());
    // SAFETY: plain system calls; zeroes are an ifreq, and it lives through the calls.
    unsafe {
        if libc::unshare(libc::CLONE_NEWNET) != 0 {
            return Err(failed("a network namespace"));
        }
        let socket = libc::socket(libc::AF_UNIX, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        let mut lo: libc::ifreq = std::mem::zeroed();
        (lo.ifr_name[0], lo.ifr_name[1]) = (b'l' as _, b'o' as _);
        lo.ifr_ifru.ifru_flags = libc::IFF_UP as _;
        let up = libc::ioctl(socket, libc::SIOCSIFFLAGS as _, &lo) == 0;
        libc::close(socket);
        up.then_some(()).ok_or_else(|| failed("lo"))
    }
}

/// All pairs of one kind on one CRIU.
fn trial(a: &Asked, kind: &Kind, criu: &Criu, place: &Place) -> Outcome {
    let old = ["3.", "4.0", "4.1"].iter().any(|v| criu.version.starts_with(v));
    if kind.inet && old && passcred_refused() {
        return Outcome::Skipped("this CRIU dumps no IP socket on this kernel".into());
    }
    if let Err(why) = own_network() {
        return Outcome::Skipped(why);
    }
    match pairs(a, kind, criu, place) {
        Ok(sides) => Outcome::Done { wrong: disagreements(kind, &sides.alone, &sides.with), sides: Box::new(sides) },
        Err(NoTree::Skip(why)) => Outcome::Skipped(why),
        Err(NoTree::Broken(why)) => Outcome::Broken(why),
    }
}

fn pairs(a: &Asked, kind: &Kind, criu: &Criu, place: &Place) -> Result<Sides, NoTree> {
    let mut sides = Sides { alone: Side::of(kind), with: Side::of(kind), one_failed: [0, 0] };
    let seed = |pair: usize| Random::new(a.seed.wrapping_mul(0x1_0000_0001).wrapping_add(pair as u64)).draw();
    for pair in 0..a.pairs {
        let mut made = [false, false];
        for with in [pair % 2 == 0, pair % 2 != 0] {
            let dump = dump(kind, seed(pair), criu, with, place)?;
            made[usize::from(with)] = matches!(dump.end, End::Made);
            let side = if with { &mut sides.with } else { &mut sides.alone };
            side.add(kind, &dump);
        }
        match made {
            [false, true] => sides.one_failed[0] += 1,
            [true, false] => sides.one_failed[1] += 1,
            _ => {}
        }
    }
    for pair in a.pairs..a.pairs + MORE {
        if !undecided(kind, &sides.alone, &sides.with) {
            break;
        }
        sides.alone.add(kind, &dump(kind, seed(pair), criu, false, place)?);
    }
    Ok(sides)
}
