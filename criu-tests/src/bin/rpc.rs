//! Random trees, and random options by RPC: what CRIU says of each without the plugin, the plugin has to say too. A false
//! refusal is the worst defect there is, so both verdicts come from the same tree, alive, one after the other.
//!
//! `rpc --plugin PATH [--criu PATH] [--runs N] [--seed N]`; `RPC_RUNS` and `RPC_SEED` say the same. Every tree is
//! identified by its number alone: `--seed N --runs 1` makes it again.

use criu_tests::criu::Criu;
use criu_tests::soak::Random;
use criu_tests::swrk::{self, Field};
use criu_tests::tree::{NoTree, Tree};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What trees are made of: what every CRIU dumps, what none does, and what options decide on.
const KINDS: &[&str] = &[
    "pipe",
    "pipe:data",
    "eventfd",
    "timerfd",
    "signalfd",
    "memfd",
    "thread",
    "zombie",
    "epoll:target=kept",
    "file:path=plain,size=9",
    "file:path=gone,size=9,unlinked",
    "file:relinked",
    "lock:type=posix",
    "lock:type=flock",
    "lock:type=ofd",
    "lock:type=flock,released",
    "tcp",
    "tcp:bound",
    "tcp-listen",
    "tcp-pair",
    "tcp-outside:state=established",
    "tcp-outside:state=close_wait",
    "udp",
    "netlink",
    "unix-pair:type=stream",
    "unix-pair:type=dgram,data",
    "unix-listen:type=stream,name=path",
    "unix-outside:type=dgram,name=path",
    "unix-outside:type=stream,name=none",
    "unix-outside:type=stream,name=path",
    "tty-pair",
    "tty-slave",
    "dev:path=/dev/null",
    "dev:path=/dev/loop-control",
    "pipe-packet",
    "io-uring",
    "sock:domain=2,type=3,proto=1",
];

/// Flags of `criu_opts`, numbered as in rpc.proto.
const FLAGS: &[(u64, &str)] = &[
    (4, "ext_unix_sk"),
    (5, "tcp_established"),
    (6, "evasive_devices"),
    (7, "shell_job"),
    (8, "file_locks"),
    (18, "link_remap"),
    (21, "force_irmap"),
    (28, "auto_ext_mnt"),
    (29, "ext_sharing"),
    (30, "ext_masters"),
    (46, "tcp_skip_in_flight"),
    (47, "weak_sysctls"),
    (50, "orphan_pts_master"),
    (52, "tcp_close"),
];
const EXT_MNT: u64 = 23;
const SKIP_MNT: u64 = 31;
const ENABLE_FS: u64 = 32;
const UNIX_SK_INO: u64 = 33;
const MANAGE_CGROUPS_MODE: u64 = 34;
const GHOST_LIMIT: u64 = 35;
const EXTERNAL: u64 = 37;
const CONFIG_FILE: u64 = 51;
const NETWORK_LOCK: u64 = 64;
/// CRIU_NETWORK_LOCK_SKIP: the firewall of this machine is not what is tested.
const SKIP: u64 = 3;

/// Mounts of a tree with a mount namespace of its own, and where each is.
const MOUNTS: &[(&str, &str)] = &[
    ("part:to=/part", "/part"),
    ("mount:fs=tmpfs,to=/mnt", "/mnt"),
    ("mount:fs=ramfs,to=/ram", "/ram"),
    ("mount:fs=tmpfs,to=/slave make-slave:at=/slave", "/slave"),
    ("mount:fs=tmpfs,to=/shared make-shared:at=/shared", "/shared"),
];

/// What the file that a request names may hold: it overrules the request.
const CONFIGURED: &[&str] =
    &["file-locks", "tcp-established", "shell-job", "link-remap", "ext-unix-sk", "ghost-limit 2M", "enable-fs ramfs"];

struct Asked {
    plugin: PathBuf,
    criu: Option<PathBuf>,
    runs: u64,
    seed: u64,
}

fn asked() -> Result<Asked, String> {
    let number = |name: &str, default: u64| match std::env::var(name) {
        Ok(v) => v.parse().map_err(|e| format!("{name}={v}: {e}")),
        Err(_) => Ok(default),
    };
    let (mut plugin, mut criu) = (None, None);
    let (mut runs, mut seed) = (number("RPC_RUNS", 12)?, number("RPC_SEED", 1)?);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let value = args.next().ok_or(format!("{arg} needs a value"))?;
        match arg.as_str() {
            "--plugin" => plugin = Some(PathBuf::from(value)),
            "--criu" => criu = Some(PathBuf::from(value)),
            "--runs" => runs = value.parse().map_err(|e| format!("--runs: {e}"))?,
            "--seed" => seed = value.parse().map_err(|e| format!("--seed: {e}"))?,
            _ => return Err(format!("{arg}?")),
        }
    }
    Ok(Asked { plugin: plugin.ok_or("--plugin PATH")?, criu, runs, seed })
}

/// A tree, and what is asked for it.
struct Drawn {
    spec: String,
    fields: Vec<Field>,
    /// The options by name.
    names: Vec<String>,
    /// Lines of the file that the request names.
    config: Vec<&'static str>,
    /// How a socket with its other end outside is named: as external, or by the older field.
    unix: Option<u64>,
}

fn draw(seed: u64) -> Drawn {
    let mut r = Random::new(seed);
    let mut kinds = Vec::new();
    let mut mounted = Vec::new();
    if r.chance(35) {
        kinds.push("--root {root}");
        for _ in 0..=r.below(2) {
            let (kind, at) = MOUNTS[r.below(MOUNTS.len())];
            if !kinds.contains(&kind) {
                kinds.push(kind);
                mounted.push(at);
            }
        }
    }
    if r.chance(12) {
        kinds.push("no-setsid");
    }
    for _ in 0..=r.below(3) {
        // Twice the same in one process would want the same names.
        let kind = KINDS[r.below(KINDS.len())];
        // A root of its own has no device but null.
        if !mounted.is_empty() && (kind.contains("/dev/loop") || kind.starts_with("tty")) {
            continue;
        }
        if !kinds.iter().any(|k| k.split(':').next() == kind.split(':').next()) {
            kinds.push(kind);
        }
    }
    if r.chance(50) && mounted.is_empty() {
        kinds.extend(["[", KINDS[r.below(KINDS.len())], "]"]);
    }
    let mut fields = vec![Field::Num(NETWORK_LOCK, SKIP)];
    let mut names: Vec<String> = Vec::new();
    for (number, name) in FLAGS {
        match r.below(5) {
            0 | 1 => {
                fields.push(Field::Num(*number, 1));
                names.push(name.to_string());
            }
            // A client that sends all it knows.
            2 => fields.push(Field::Num(*number, 0)),
            _ => {}
        }
    }
    if r.chance(25) {
        fields.push(Field::Num(GHOST_LIMIT, 4));
        names.push("ghost_limit=4".into());
    }
    // As runc and crun name the mounts they have made, as somebody else does, or not at all.
    for at in mounted {
        match r.below(4) {
            0 => {
                fields.push(Field::Message(EXT_MNT, vec![Field::Text(1, at.into()), Field::Text(2, at.into())]));
                names.push(format!("ext_mnt={at}"));
            }
            1 => {
                fields.push(Field::Text(EXTERNAL, format!("mnt[{at}]:key")));
                names.push(format!("external=mnt[{at}]:key"));
            }
            2 if r.chance(50) => {
                fields.push(Field::Text(SKIP_MNT, at.into()));
                names.push(format!("skip_mnt={at}"));
            }
            _ => {}
        }
    }
    if r.chance(25) {
        fields.push(Field::Text(ENABLE_FS, "ramfs".into()));
        names.push("enable_fs=ramfs".into());
    }
    if r.chance(40) {
        let mode = r.below(7) as u64;
        fields.push(Field::Num(MANAGE_CGROUPS_MODE, mode));
        names.push(format!("manage_cgroups_mode={mode}"));
    }
    let mut config = Vec::new();
    if r.chance(30) {
        config.extend((0..=r.below(2)).map(|_| CONFIGURED[r.below(CONFIGURED.len())]));
        names.push(format!("config_file=[{}]", config.join(", ")));
    }
    let unix = r.chance(40).then(|| if r.chance(50) { EXTERNAL } else { UNIX_SK_INO });
    Drawn { spec: kinds.join(" "), fields, names, config, unix }
}

/// The inode of the first socket that was made with its other end outside, and its name as external.
fn outside_socket(tree: &Tree) -> Option<(u64, String)> {
    let (pid, fd) = tree.place("unix-outside")?;
    let link = std::fs::read_link(format!("/proc/{pid}/fd/{}", fd?)).ok()?;
    let ino = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()?;
    Some((ino, format!("unix[{ino}]")))
}

enum Said {
    Same(String),
    Differs(String),
    Skipped(String),
}

/// Both verdicts on one tree.
fn compare(criu: &Criu, seed: u64, base: &Path) -> Result<Said, String> {
    let Drawn { spec, mut fields, mut names, config, unix } = draw(seed);
    let dir = base.join(format!("{}-{seed}", criu.version));
    let made = Tree::make(&spec.replace("{root}", &dir.join("root").to_string_lossy()), &dir);
    let tree = match made {
        Ok(tree) => tree,
        Err(NoTree::Skip(why)) => return Ok(Said::Skipped(format!("seed {seed}: [{spec}]: {why}"))),
        Err(NoTree::Broken(why)) => return Err(why),
    };
    if let (Some(number), Some((ino, name))) = (unix, outside_socket(&tree)) {
        names.push(format!("{} of field {number}", name));
        fields.push(match number {
            UNIX_SK_INO => Field::Message(number, vec![Field::Num(1, ino)]),
            _ => Field::Text(number, name),
        });
    }
    if !config.is_empty() {
        let file = dir.join("criu.conf");
        std::fs::write(&file, config.join("\n") + "\n").map_err(|e| format!("{}: {e}", file.display()))?;
        fields.push(Field::Text(CONFIG_FILE, file.to_string_lossy().into()));
    }
    let what = format!("seed {seed}: [{spec}] {}", names.join(" "));
    let (none, ours) = (base.join("none"), base.join("ours"));
    let ask = |lib: &Path, name: &str| {
        let images = dir.join(name);
        let answer = swrk::dump(criu, tree.pid, &fields, lib, &images, false);
        let _ = std::fs::remove_dir_all(&images);
        answer
    };
    let reason = |log: &str| {
        let known = ["RLIMIT_NOFILE", "shutdown state", "socket shutdown info"];
        let mut errors = log.lines().filter(|l| l.contains("Error (") && !known.iter().any(|k| l.contains(k)));
        errors.next().unwrap_or("no error").to_string()
    };
    // A tree whose name somebody has taken meanwhile, or that CRIU took ten seconds to freeze: asked again.
    for last in [false, true] {
        let alone = ask(&none, "alone")?;
        let with = ask(&ours, "with")?;
        let refused = with.log.contains("Error (preflight)");
        let verdict = if alone.success { "dumped" } else { "refused" };
        // Which mounts are skipped and which file systems enabled is not known of a request (criu/cmdline.rs).
        let warned = with.log.contains("Warn  (preflight): mnt-") && reason(&alone.log).contains("mnt:");
        let differs = if with.success != alone.success {
            Some(format!("CRIU alone: {verdict} ({}), with the plugin: {}", reason(&alone.log), reason(&with.log)))
        } else if alone.success && refused {
            Some(format!("dumped, and the plugin writes an error: {}", reason(&with.log)))
        } else if !alone.success && !refused && !warned {
            Some(format!("refused ({}), and not by the plugin", reason(&alone.log)))
        } else {
            tree.disturbed()
        };
        match differs {
            None => return Ok(Said::Same(format!("{what}: {verdict}"))),
            Some(why) if last => return Ok(Said::Differs(format!("{what}\n       {why}"))),
            Some(_) => {}
        }
    }
    unreachable!("the last round says something")
}

/// A client that asks and goes: CRIU's own fate decides, the tree is as it was, no file of ours is half written.
fn hang_up(criu: &Criu, base: &Path) -> Result<Said, String> {
    let dir = base.join(format!("{}-gone", criu.version));
    let tree = match Tree::make("pipe io-uring lock:type=flock", &dir) {
        Ok(tree) => tree,
        Err(NoTree::Skip(why)) => return Ok(Said::Skipped(why)),
        Err(NoTree::Broken(why)) => return Err(why),
    };
    let images = dir.join("images");
    let answer = swrk::dump(criu, tree.pid, &[], &base.join("ours"), &images, true)?;
    let names = std::fs::read_dir(&images).into_iter().flatten().flatten().map(|e| e.file_name());
    let half = names.filter(|n| n.to_string_lossy().starts_with(".preflight")).count();
    let report = std::fs::read_to_string(images.join("preflight.json"));
    let whole = report.as_ref().map_or(true, |r| serde_json::from_str::<serde_json::Value>(r).is_ok());
    Ok(match tree.disturbed() {
        Some(change) => Said::Differs(format!("a client that hangs up: {change}")),
        None if half > 0 || !whole => Said::Differs("a client that hangs up: half a file is left".into()),
        None if !answer.log.contains("Error (preflight)") => {
            Said::Skipped("a client that hangs up: CRIU did not come to load a plugin".into())
        }
        None => Said::Same("a client that hangs up: refused, reported whole, the tree goes on".into()),
    })
}

fn body() -> Result<ExitCode, String> {
    let a = asked()?;
    // Orphans of the trees come to us and are ended here.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    let all = match &a.criu {
        Some(path) => vec![Criu::at(path)?],
        None => Criu::provisioned()?,
    };
    let base = std::env::temp_dir().join(format!("preflight-rpc-{}", std::process::id()));
    let io = |e: std::io::Error| format!("{}: {e}", base.display());
    for d in ["none", "ours"] {
        std::fs::create_dir_all(base.join(d)).map_err(io)?;
    }
    std::fs::copy(&a.plugin, base.join("ours/preflight_plugin.so")).map_err(io)?;
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for criu in &all {
        let trials = (a.seed..a.seed + a.runs).map(|seed| compare(criu, seed, &base));
        for said in trials.chain(std::iter::once_with(|| hang_up(criu, &base))) {
            match said? {
                Said::Same(what) => {
                    passed += 1;
                    println!("ok   {} {what}", criu.version);
                }
                Said::Differs(what) => {
                    failed += 1;
                    println!("FAIL {} {what}", criu.version);
                }
                Said::Skipped(what) => {
                    skipped += 1;
                    println!("skip {} {what}", criu.version);
                }
            }
        }
    }
    let _ = std::fs::remove_dir_all(&base);
    println!("rpc: {passed} passed, {failed} failed, {skipped} skipped");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn main() -> ExitCode {
    body().unwrap_or_else(|e| {
        eprintln!("rpc: {e}");
        ExitCode::from(2)
    })
}
