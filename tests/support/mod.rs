//! What the tests of the door share: the built plugin, C programs, processes to dump and the real CRIUs.
#![allow(dead_code)] // Each test file takes what it needs.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{MutexGuard, OnceLock, PoisonError};

/// A directory that goes with its value.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("preflight-{name}-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Scratch(dir)
    }

    pub fn dir(&self, name: &str) -> PathBuf {
        let dir = self.0.join(name);
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The shared object that cargo has built for this very test run.
pub fn plugin() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let path = exe.parent().unwrap().join("libcriu_preflight.so");
    assert!(path.exists(), "{} is not built", path.display());
    path
}

fn source(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if name.contains('/') {
        root.join(name)
    } else {
        root.join("tests/c").join(name)
    }
}

/// Compiles a file of tests/c, or one of a path from the top level, with every warning an error.
pub fn cc(compiler: &str, name: &str, out: &Path, flags: &[&str]) {
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("include");
    let run = Command::new(compiler)
        .args(["-Wall", "-Wextra", "-Werror", "-g", "-I"])
        .arg(include)
        .arg("-o")
        .arg(out)
        .args(flags)
        .arg(source(name))
        .arg("-ldl")
        .output()
        .unwrap();
    assert!(run.status.success(), "{compiler} {name}: {}", String::from_utf8_lossy(&run.stderr));
}

/// A process of its own session that inherits nothing of ours, ended with the value.
pub struct Target(Child);

impl Target {
    /// Sleeps; descriptor 0 is what is given.
    pub fn sleep(stdin: Stdio) -> Self {
        let mut command = Command::new("sleep");
        command.arg("1000");
        Self::start(command, stdin)
    }

    /// A program that does not end by itself; descriptor 0 is what is given.
    pub fn start(mut command: Command, stdin: Stdio) -> Self {
        command.stdin(stdin).stdout(Stdio::null()).stderr(Stdio::null());
        // SAFETY: both are async-signal-safe.
        unsafe {
            command.pre_exec(|| {
                // The caller of the tests may have left us descriptors, of another mount namespace perhaps.
                libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
                nix::unistd::setsid().map(drop).map_err(io::Error::from)
            });
        }
        Target(command.spawn().unwrap())
    }

    /// One that any CRIU dumps.
    pub fn good() -> Self {
        Self::sleep(Stdio::null())
    }

    /// One with a device that no CRIU dumps.
    pub fn with_device() -> Self {
        Self::sleep(File::open("/dev/loop-control").unwrap().into())
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }

    /// It must be as it was: alive, not stopped, not traced.
    pub fn assert_untouched(&mut self) {
        assert_eq!(self.0.try_wait().unwrap(), None, "the process has ended");
        let state = || {
            let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
            let field = |name| status.lines().find_map(|l| l.strip_prefix(name)).unwrap().trim().to_owned();
            (field("State:"), field("TracerPid:"))
        };
        // It sleeps again once it has had its turn.
        let end = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while !state().0.starts_with('S') && std::time::Instant::now() < end {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert_eq!(state(), ("S (sleeping)".to_owned(), "0".to_owned()));
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A real CRIU of this machine.
#[derive(Clone, Debug)]
pub struct Criu {
    pub version: String,
    pub path: PathBuf,
}

impl Criu {
    /// `4.1` of 4.1.1.
    pub fn line(&self) -> &str {
        let dot = self.version.match_indices('.').nth(1).map_or(self.version.len(), |(i, _)| i);
        &self.version[..dot]
    }
}

/// All that work on this kernel. Says for each of the others why it does not.
pub fn criu_all() -> &'static [Criu] {
    static FOUND: OnceLock<Vec<Criu>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/provision-criu");
        let list = Command::new(script).arg("--list").stdin(Stdio::null()).output().unwrap();
        let mut found = Vec::new();
        for line in String::from_utf8_lossy(&list.stdout).lines() {
            let fields: Vec<&str> = line.split('\t').collect();
            match fields[..] {
                [version, path, "works"] => found.push(Criu { version: version.to_owned(), path: path.into() }),
                _ => eprintln!("SKIP {line}"),
            }
        }
        if found.is_empty() {
            eprintln!("SKIP no CRIU works on this machine (scripts/provision-criu)");
        }
        found
    })
}

/// CRIUs share locks, cgroups and ports: one at a time in this process.
pub fn one_at_a_time() -> MutexGuard<'static, ()> {
    static LOCK: std::sync::Mutex<()> = std::sync::Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A command line of CRIU.
pub struct Run {
    pub output: Output,
    pub log: String,
    pub images: PathBuf,
}

impl Run {
    /// The lines of the log without their time stamps.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.log.lines().map(|l| match l.strip_prefix('(').and_then(|r| r.split_once(") ")) {
            Some((_, text)) => text,
            None => l,
        })
    }

    pub fn has(&self, text: &str) -> bool {
        self.log.contains(text)
    }

    /// Our lines that start so.
    pub fn ours(&self, start: &str) -> Vec<&str> {
        self.lines().filter(|l| l.starts_with(start) && l.contains("preflight")).collect()
    }

    /// What the plugin said it is in, as JSON.
    pub fn host(&self) -> serde_json::Value {
        let line = self.lines().find_map(|l| l.strip_prefix("preflight: root ")).expect(&self.log);
        serde_json::from_str(line.split_once(" in ").unwrap().1).unwrap()
    }

    /// Files with memory in them.
    pub fn pages(&self) -> usize {
        let names = std::fs::read_dir(&self.images).unwrap().flatten().map(|e| e.file_name());
        names.filter(|n| n.to_string_lossy().starts_with("pages-")).count()
    }
}

/// `criu dump --leave-running` of the target with the plugins of a directory.
pub fn dump(criu: &Path, target: &Target, libdir: &Path, images: PathBuf, args: &[&str], env: &[(&str, &str)]) -> Run {
    let _ = std::fs::remove_dir_all(&images);
    std::fs::create_dir_all(&images).unwrap();
    // Whatever this machine is configured to do: an empty file.
    let config = images.with_extension("conf");
    if !config.exists() {
        std::fs::write(&config, "").unwrap();
    }
    let output = Command::new(criu)
        .args(["dump", "-t", &target.pid().to_string(), "-v4", "-o", "log", "--leave-running", "-D"])
        .arg(&images)
        .arg("-L")
        .arg(libdir)
        .args(args)
        .env_remove("CRIU_LIBS_DIR")
        .env("CRIU_PREFLIGHT_CONFIG", &config)
        .env("CRIU_PREFLIGHT_SYSLOG", "off")
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&std::fs::read(images.join("log")).unwrap_or_default()).into_owned();
    Run { output, log, images }
}

/// A directory with our plugin under CRIU's usual name for it.
pub fn libdir(scratch: &Scratch) -> PathBuf {
    let dir = scratch.dir("lib");
    std::fs::copy(plugin(), dir.join("preflight_plugin.so")).unwrap();
    dir
}
