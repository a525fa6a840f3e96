//! Saved checks, taken and judged again.
//!
//! ```text
//! snapshots take DIR [--command CRIU-PREFLIGHT] [--random N] [--seed N] [FILTER]...
//! snapshots report DIR      write the reports of each *.json anew, beside it
//! snapshots compare DIR [--without MEMBER]...
//!                           judge each *.json and compare with the reports beside it, but for these members of the JSON
//! snapshots anonymize DIR   with other names
//! snapshots reduce DIR      without whatever the report does not depend on
//! ```
//!
//! `take` makes the tree of each fixture and of N random ones, saves a check of it as each CRIU that works here, and one of the
//! tree held by ptrace, and writes the reports. Needs root; the others need nothing.

use criu_preflight::saved;
use criu_tests::criu::Criu;
use criu_tests::fixtures;
use criu_tests::mounts::Btrfs;
use criu_tests::snapshots::{difference, kept, reduced, reports, Taken, Taker};
use criu_tests::soak::generate::case;
use criu_tests::tree::mkres;
use criu_tests::trial::Setup;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;

struct Asked {
    what: String,
    dir: PathBuf,
    command: PathBuf,
    random: u64,
    seed: u64,
    without: Vec<String>,
    filters: Vec<String>,
}

fn asked() -> Result<Asked, String> {
    let command = mkres().with_file_name("criu-preflight");
    let mut a = Asked {
        what: String::new(),
        dir: PathBuf::new(),
        command,
        random: 0,
        seed: 1,
        without: vec![],
        filters: vec![],
    };
    let mut args = std::env::args().skip(1);
    let usage = "see the head of snapshots.rs";
    a.what = args.next().ok_or(usage)?;
    a.dir = args.next().ok_or(usage)?.into();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        match arg.as_str() {
            "--command" => a.command = value()?.into(),
            "--random" => a.random = value()?.parse().map_err(|e| format!("{arg}: {e}"))?,
            "--without" => a.without.push(format!("\"{}\": ", value()?)),
            "--seed" => a.seed = value()?.parse().map_err(|e| format!("{arg}: {e}"))?,
            o if o.starts_with('-') => return Err(format!("{o}? {usage}")),
            _ => a.filters.push(arg),
        }
    }
    Ok(a)
}

fn main() -> ExitCode {
    let done = asked().and_then(|a| match a.what.as_str() {
        "take" => take(&a),
        "report" => each(&a.dir, |path| {
            std::fs::write(kept(path), reports(path)?)
                .map(|()| None)
                .map_err(|e| format!("{}: {e}", kept(path).display()))
        }),
        "compare" => each(&a.dir, |path| {
            let was = std::fs::read_to_string(kept(path)).map_err(|e| format!("{}: {e}", kept(path).display()))?;
            let kept = |text: &str| -> String {
                let line = |l: &&str| !a.without.iter().any(|member| l.trim_start().starts_with(member));
                text.lines().filter(line).flat_map(|l| [l, "\n"]).collect()
            };
            Ok(difference(&kept(&was), &kept(&reports(path)?)))
        }),
        "anonymize" => each(&a.dir, |path| {
            let other = saved::read_file(path)?.anonymize()?;
            std::fs::remove_file(path).map_err(|e| e.to_string())?;
            saved::write_new(&other, path).map(|()| None)
        }),
        "reduce" => each(&a.dir, |path| {
            let small = reduced(&saved::read_file(path)?)?;
            std::fs::write(path, format!("{small}\n")).map(|()| None).map_err(|e| e.to_string())
        }),
        other => Err(format!("{other}? see the head of snapshots.rs")),
    });
    match done {
        Ok(code) => code,
        Err(e) => {
            eprintln!("snapshots: {e}");
            ExitCode::from(2)
        }
    }
}

fn take(a: &Asked) -> Result<ExitCode, String> {
    use std::os::unix::fs::PermissionsExt;
    let io = |e: std::io::Error| e.to_string();
    if unsafe { libc::geteuid() } != 0 {
        return Err("root is needed, to make trees".into());
    }
    for program in [mkres(), a.command.clone()] {
        if !program.exists() {
            return Err(format!("no {}: build it first", program.display()));
        }
    }
    std::fs::create_dir_all(&a.dir).map_err(io)?;
    // As in `differential`: orphans of a tree come to us.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    criu_tests::mounts::own_namespace()?;
    let base = std::env::temp_dir().join(format!("preflight-snapshots-{}", std::process::id()));
    let no_plugins = base.join("none");
    std::fs::create_dir_all(&no_plugins).map_err(io)?;
    std::fs::set_permissions(&base, std::fs::Permissions::from_mode(0o755)).map_err(io)?;
    let setup = Setup {
        plugin: None,
        dry_run: None,
        examples: None,
        no_plugins,
        base: base.clone(),
        btrfs: Btrfs::under(&base),
    };
    let taker = Taker { command: a.command.clone(), criu: &Criu::provisioned()?, setup: &setup, into: a.dir.clone() };
    let (mut taken, mut skipped) = (0, 0);
    let mut tell = |name: &str, one: Taken| match one {
        Ok(n) => taken += n,
        Err(why) => {
            skipped += 1;
            println!("skipped {name}: {why}");
        }
    };
    let chosen = |name: &str| a.filters.is_empty() || a.filters.iter().any(|w| name.contains(w));
    for f in fixtures::all().filter(|f| chosen(f.name)) {
        tell(f.name, taker.fixture(f));
    }
    for seed in (0..a.random).map(|i| a.seed.wrapping_add(i)) {
        tell(&format!("random {seed:#x}"), taker.random(seed, &case(seed)));
    }
    drop(setup);
    if std::env::var_os("KEEP").is_none() {
        let _ = std::fs::remove_dir_all(&base);
    }
    println!("{taken} taken, {skipped} trees skipped");
    Ok(ExitCode::from(u8::from(taken == 0)))
}

/// Does this with every snapshot; what it finds wrong is printed.
fn each(dir: &Path, what: impl Fn(&Path) -> Result<Option<String>, String> + Sync) -> Result<ExitCode, String> {
    let entries = std::fs::read_dir(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "json"));
    paths.sort();
    let (queue, wrong) = (Mutex::new(paths.iter()), Mutex::new(Vec::new()));
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|s| {
        for _ in 0..jobs {
            s.spawn(|| loop {
                let Some(path) = queue.lock().map_or(None, |mut q| q.next()) else { return };
                let found = match what(path) {
                    Ok(None) => continue,
                    Ok(Some(difference)) => difference,
                    Err(why) => why,
                };
                if let Ok(mut wrong) = wrong.lock() {
                    wrong.push(format!("{}: {found}", path.display()));
                }
            });
        }
    });
    let mut wrong = wrong.into_inner().unwrap_or_default();
    wrong.sort();
    wrong.iter().for_each(|w| println!("{w}"));
    println!("{} judged, {} wrong", paths.len(), wrong.len());
    Ok(ExitCode::from(u8::from(!wrong.is_empty() || paths.is_empty())))
}
