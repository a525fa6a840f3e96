//! Starting a real CRIU, and reading what it says.

use crate::cgroups;
use crate::fixtures::As;
use crate::given::Given;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A CRIU to test with.
pub struct Criu {
    pub path: PathBuf,
    pub version: String,
}

/// What one CRIU command did.
pub struct Ran {
    pub ok: bool,
    pub code: Option<i32>,
    /// That ended it.
    pub signal: Option<i32>,
    /// Its log; if it wrote none, what it printed.
    pub log: String,
    pub time: Duration,
    pub timed_out: bool,
}

/// Longer than anything a fixture does, CRIU's own 10 s and the kernel's lease-break time included.
const LIMIT: Duration = Duration::from_secs(75);
/// The same for a CRIU that was given a --timeout, which should end after that, and may hang nevertheless.
const LIMIT_AFTER_TIMEOUT: Duration = Duration::from_secs(30);

fn limit(args: &[String]) -> Duration {
    let given = args.iter().skip_while(|arg| *arg != "--timeout").nth(1).and_then(|seconds| seconds.parse().ok());
    given.map_or(LIMIT, |seconds| LIMIT.min(Duration::from_secs(seconds) + LIMIT_AFTER_TIMEOUT))
}

/// A restore of a fixture takes a second at most; CRIU's own limit of 10 s comes before.
const RESTORE_LIMIT: Duration = Duration::from_secs(30);

/// A program that is built beside this one; a test is one directory down.
pub fn beside(name: &str) -> PathBuf {
    let mut p = std::env::current_exe().unwrap_or_default();
    p.set_file_name(name);
    match p.parent() {
        Some(deps) if deps.ends_with("deps") => deps.with_file_name(name),
        _ => p,
    }
}

impl Criu {
    /// A given CRIU.
    pub fn at(path: &Path) -> Result<Criu, String> {
        let out = Command::new(path).arg("--version").output().map_err(|e| format!("{}: {e}", path.display()))?;
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let version = text.lines().find_map(|l| l.strip_prefix("Version:")).map(|v| v.trim().to_string());
        let version = version.ok_or_else(|| format!("{}: states no version", path.display()))?;
        Ok(Criu { path: std::fs::canonicalize(path).unwrap_or(path.into()), version })
    }

    /// Those that work here, by `scripts/provision-criu --list`; reasons for the others go to stderr.
    pub fn provisioned() -> Result<Vec<Criu>, String> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/provision-criu");
        let out = Command::new(script).arg("--list").output().map_err(|e| format!("{script}: {e}"))?;
        let mut all = Vec::new();
        for line in String::from_utf8_lossy(&out.stdout).lines() {
            let mut f = line.split('\t');
            let (Some(version), Some(path), Some(state)) = (f.next(), f.next(), f.next()) else { continue };
            if state == "works" {
                all.push(Criu { path: path.into(), version: version.into() });
            } else {
                eprintln!("CRIU {version} is not tested: {state}");
            }
        }
        Ok(all)
    }

    /// Runs `ACTION -D dir/images -W dir/work -o ACTION.log -v4 -L libdir ARGS`.
    pub fn run(&self, action: &str, dir: &Path, libdir: &Path, args: &[String], who: As) -> Result<Ran, String> {
        let mut cmd = Command::new(&self.path);
        cmd.stdin(Stdio::null());
        self.start(cmd, action, dir, libdir, args, who)
    }

    /// The same with `restore`, and what is handed in. If it fails, none of its processes is left.
    pub fn restore(&self, dir: &Path, libdir: &Path, args: &[String], who: As, given: &Given) -> Result<Ran, String> {
        let mut cmd = Command::new(beside("supervise"));
        cmd.arg(RESTORE_LIMIT.as_secs().to_string()).arg(&self.path);
        given.to(&mut cmd);
        let mut ran = self.start(cmd, "restore", dir, libdir, args, who)?;
        ran.timed_out |= ran.code == Some(124);
        Ok(ran)
    }

    fn start(
        &self,
        mut cmd: Command,
        action: &str,
        dir: &Path,
        libdir: &Path,
        args: &[String],
        who: As,
    ) -> Result<Ran, String> {
        let (images, work) = (dir.join("images"), dir.join("work"));
        let io = |e: std::io::Error| format!("{}: {e}", dir.display());
        std::fs::create_dir_all(&images).map_err(io)?;
        std::fs::create_dir_all(&work).map_err(io)?;
        let log = work.join(format!("{action}.log"));
        let printed = dir.join(format!("{action}.out"));
        let out = File::create(&printed).map_err(io)?;
        cmd.arg(action).arg("-D").arg(&images).arg("-W").arg(&work).arg("-o").arg(format!("{action}.log"));
        cmd.args(["-v4", "-L"]).arg(libdir).args(args).current_dir(&work);
        cmd.env_remove("CRIU_PREFLIGHT_MODE");
        cmd.stdout(out.try_clone().map_err(io)?).stderr(out);
        let group = match who {
            As::OwnCgroupNs => Some(group(dir, "criu")?),
            As::InCgroup => Some(group(dir, "a")?),
            _ => None,
        };
        // SAFETY: only async-signal-safe calls between fork and exec.
        unsafe { cmd.pre_exec(move || prepare(who, group.as_deref())) };
        if who == As::PlainDev {
            let dev = crate::mounts::plain_dev(&dir.join("dev"))?;
            // SAFETY: as above, the string was made before.
            unsafe { cmd.pre_exec(move || crate::mounts::over_dev(&dev)) };
        }
        if let As::Having(programs) = who {
            cmd.env("PATH", path_with(programs, &dir.join("path"))?);
        }
        let (start, limit) = (Instant::now(), limit(args));
        let mut child = cmd.spawn().map_err(|e| format!("{}: {e}", self.path.display()))?;
        let mut timed_out = false;
        let status = loop {
            match child.try_wait().map_err(io)? {
                Some(s) => break s,
                None if start.elapsed() > limit => {
                    timed_out = true;
                    let _ = child.kill();
                    break child.wait().map_err(io)?;
                }
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        };
        let time = start.elapsed();
        let mut text = read(&log);
        text.push_str(&read(&printed));
        Ok(Ran { ok: status.success(), code: status.code(), signal: status.signal(), log: text, time, timed_out })
    }
}

/// The list of a cgroup for CRIU among those of the tree in `dir`, which goes with them.
fn group(dir: &Path, name: &str) -> Result<CString, String> {
    let (at, ..) = cgroups::mounts().into_iter().find(|(_, fs, _)| fs == "cgroup2").ok_or("no cgroup v2")?;
    let group = at.join(cgroups::name(&dir.join("files").to_string_lossy())).join(name);
    std::fs::create_dir_all(&group).map_err(|e| format!("{}: {e}", group.display()))?;
    CString::new(group.join("cgroup.procs").into_os_string().into_encoded_bytes()).map_err(|e| e.to_string())
}

/// A directory with links to these programs of this machine and to a shell.
fn path_with(programs: &[&str], dir: &Path) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::fs::create_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    for program in programs.iter().chain(&["sh"]) {
        let (name, wanted) = program.strip_suffix('!').map_or((*program, *program), |name| (name, "true"));
        let found = std::env::split_paths(&path).map(|d| d.join(wanted)).find(|f| f.exists());
        let link = dir.join(name);
        if !link.exists() {
            let to = found.ok_or_else(|| format!("{wanted} is not in PATH"))?;
            std::os::unix::fs::symlink(to, link).map_err(|e| format!("{name}: {e}"))?;
        }
    }
    Ok(dir.to_path_buf())
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// In the child: its own session (CRIU must not be in a session of the tree), and only the rights it shall have.
fn prepare(who: As, group: Option<&CStr>) -> std::io::Result<()> {
    unsafe {
        libc::setsid();
        if let Some(group) = group {
            let list = libc::open(group.as_ptr(), libc::O_WRONLY);
            let moved = libc::write(list, c"0".as_ptr().cast(), 1) == 1;
            libc::close(list);
            if !moved || (who == As::OwnCgroupNs && libc::unshare(libc::CLONE_NEWCGROUP) != 0) {
                return Err(std::io::Error::last_os_error());
            }
        }
        if let As::Without(caps) = who {
            for c in caps {
                if libc::prctl(libc::PR_CAPBSET_DROP, *c, 0, 0, 0) != 0 {
                    return Err(std::io::Error::last_os_error());
                }
            }
        }
        if who == As::WithoutPts {
            crate::mounts::without_pts()?;
        }
        if let As::User(uid) = who {
            if libc::setgroups(0, std::ptr::null()) != 0
                || libc::setresgid(uid, uid, uid) != 0
                || libc::setresuid(uid, uid, uid) != 0
            {
                return Err(std::io::Error::last_os_error());
            }
        }
    }
    Ok(())
}

impl Ran {
    /// CRIU's error lines, without the ones it writes into every log of a healthy run.
    pub fn errors(&self) -> Vec<&str> {
        let harmless =
            ["Can't setup RLIMIT_NOFILE for self", "shutdown state of inet socket", "No socket shutdown info"];
        let is_error = |l: &&str| l.contains("Error (") && !harmless.iter().any(|h| l.contains(h));
        self.log.lines().filter(is_error).collect()
    }

    /// The first of them, without its timestamp.
    pub fn reason(&self) -> String {
        if self.timed_out {
            return format!("no end after {:?}", self.time);
        }
        let line = self.errors().first().copied().or(self.log.lines().last()).unwrap_or("no log");
        line.find("Error (").map_or(line, |i| &line[i..]).to_string()
    }
}

/// Memory images in the directory of a dump.
pub fn pages(dir: &Path) -> usize {
    let list = std::fs::read_dir(dir.join("images")).into_iter().flatten().flatten();
    list.filter(|e| e.file_name().to_string_lossy().starts_with("pages-")).count()
}
