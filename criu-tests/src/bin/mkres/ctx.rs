//! What a kind is made with: its arguments, where it may put files, what it made, and processes beside it.

use crate::sys;
use std::fmt;

pub type Res<T = ()> = Result<T, Fail>;

/// Why a resource could not be made.
pub enum Fail {
    /// The kernel, or a missing right, does not allow it: a test that needs it is skipped with this reason.
    Skip(String),
    /// The specification or the factory is wrong.
    Broken(String),
}

impl Fail {
    pub fn status(&self) -> i32 {
        match self {
            Fail::Skip(_) => 77,
            Fail::Broken(_) => 2,
        }
    }

    /// With the word of the SPEC that it is about.
    pub fn of(self, word: &str) -> Fail {
        match self {
            Fail::Skip(why) => Fail::Skip(format!("{word}: {why}")),
            Fail::Broken(why) => Fail::Broken(format!("{word}: {why}")),
        }
    }
}

impl fmt::Display for Fail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fail::Skip(s) | Fail::Broken(s) => f.write_str(s),
        }
    }
}

/// `arg=value,flag` of one kind.
pub struct Args(Vec<(String, String)>);

impl Args {
    pub fn parse(s: &str) -> Self {
        let pair = |p: &str| {
            let (k, v) = p.split_once('=').unwrap_or((p, ""));
            (k.to_string(), v.to_string())
        };
        Args(s.split(',').filter(|p| !p.is_empty()).map(pair).collect())
    }
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }
    pub fn has(&self, flag: &str) -> bool {
        self.get(flag).is_some()
    }
    pub fn flags(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(k, _)| k.as_str())
    }
    pub fn num(&self, key: &str, default: i64) -> Res<i64> {
        let Some(v) = self.get(key) else { return Ok(default) };
        v.parse().map_err(|_| Fail::Broken(format!("{key}={v} is no number")))
    }
    pub fn need(&self, key: &str) -> Res<&str> {
        self.get(key).ok_or_else(|| Fail::Broken(format!("{key}=... is needed")))
    }
}

pub struct Ctx {
    pub dir: String,
    pub node: usize,
    /// The kind being made: the first part of every name it reports.
    pub kind: String,
    pub fds: Vec<(String, i32)>,
    pub pids: Vec<(String, i32)>,
    pub outside: Vec<(String, i32)>,
    pub facts: Vec<(String, String)>,
}

impl Ctx {
    pub fn new(dir: &str, node: usize) -> Self {
        Ctx {
            dir: dir.into(),
            node,
            kind: String::new(),
            fds: Vec::new(),
            pids: Vec::new(),
            outside: Vec::new(),
            facts: Vec::new(),
        }
    }

    fn name(&self, part: &str) -> String {
        if part.is_empty() {
            self.kind.clone()
        } else {
            format!("{}.{part}", self.kind)
        }
    }

    /// Reports a descriptor under `KIND.part` (`KIND` alone if `part` is empty).
    pub fn fd(&mut self, part: &str, fd: i32) {
        let n = self.name(part);
        self.fds.push((n, fd));
    }

    /// Reports anything else worth knowing: an address, a path.
    pub fn fact(&mut self, part: &str, value: impl ToString) {
        let n = self.name(part);
        self.facts.push((n, value.to_string()));
    }

    /// A path for a file of this kind, in the directory of this run.
    pub fn path(&self, tail: &str) -> String {
        format!("{}/{}-{}-{tail}", self.dir, self.node, self.kind)
    }

    /// A child of this process inside the tree, holding only `keep`. `f` runs in it, then it waits.
    pub fn child(&mut self, part: &str, keep: &[i32], f: impl FnOnce() -> Res) -> Res<i32> {
        let (r, w) = sys::pipe()?;
        let pid = sys::fork()?;
        if pid == 0 {
            sys::close(r);
            let w = sys::move_high(w);
            settle(keep, w);
            finish(f, w)
        }
        sys::close(w);
        heard(r)?;
        let n = self.name(part);
        self.pids.push((n, pid));
        Ok(pid)
    }

    /// A process outside the tree, in a session of its own, holding only `keep`. `f` runs in it, then it waits until it
    /// is killed (at most 20 minutes).
    pub fn outsider(&mut self, part: &str, keep: &[i32], f: impl FnOnce() -> Res) -> Res<i32> {
        let (r, w) = sys::pipe()?;
        let middle = sys::fork()?;
        if middle == 0 {
            sys::close(r);
            let middle = unsafe { libc::getpid() };
            match sys::fork() {
                Ok(0) => {
                    let w = sys::move_high(w);
                    unsafe { libc::setsid() };
                    // What ends below a process that is traced stops that (SIGCHLD): a tracer begins when the end is over. (The
                    // kernel gives us another parent and sends the signal under one lock, exit_notify() in kernel/exit.c.)
                    while unsafe { libc::getppid() } == middle {
                        std::thread::sleep(std::time::Duration::from_micros(100));
                    }
                    settle(keep, w);
                    unsafe { libc::alarm(1200) };
                    finish(f, w)
                }
                _ => unsafe { libc::_exit(0) },
            }
        }
        sys::close(w);
        sys::wait(middle);
        let pid = heard(r)?;
        // A second one of the same name would be forgotten, and outlive the tree.
        let mut n = self.name(part);
        while self.outside.iter().any(|(other, _)| *other == n) {
            n.push('+');
        }
        self.outside.push((n, pid));
        Ok(pid)
    }

    /// Waits for ever; on SIGUSR1 looks at the reported descriptors again.
    pub fn wait(self) -> ! {
        let fds: Vec<i32> = self.fds.iter().map(|(_, fd)| *fd).collect();
        wait_with(&fds)
    }
}

fn settle(keep: &[i32], w: i32) {
    let mut keep = keep.to_vec();
    keep.extend([0, 1, 2, w]);
    sys::close_all_but(&keep);
}

fn finish(f: impl FnOnce() -> Res, w: i32) -> ! {
    match f() {
        Ok(()) => {
            sys::write_all(w, format!("pid {}\n", unsafe { libc::getpid() }).as_bytes());
            sys::close(w);
            wait_with(&[])
        }
        Err(e) => {
            let word = if matches!(e, Fail::Skip(_)) { "skip" } else { "broken" };
            sys::write_all(w, format!("{word} {e}\n").as_bytes());
            unsafe { libc::_exit(1) }
        }
    }
}

fn heard(r: i32) -> Res<i32> {
    let text = sys::read_all(r);
    match text.trim_end().split_once(' ') {
        Some(("pid", n)) => n.parse().map_err(|_| Fail::Broken(text.clone())),
        Some(("skip", why)) => Err(Fail::Skip(why.into())),
        Some((_, why)) => Err(Fail::Broken(why.into())),
        None => Err(Fail::Broken("a helper process died".into())),
    }
}

/// Blocks SIGUSR1 and returns the set it alone is in.
pub fn block_usr1() -> libc::sigset_t {
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    unsafe {
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGUSR1);
        libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
    }
    set
}

/// Waits for ever; on SIGUSR1 checks that `fds` are open and says so in the process's name.
pub fn wait_with(fds: &[i32]) -> ! {
    let set = block_usr1();
    loop {
        let got = unsafe { libc::sigwaitinfo(&set, std::ptr::null_mut()) };
        if got == libc::SIGUSR1 {
            let all = fds.iter().all(|fd| unsafe { libc::fcntl(*fd, libc::F_GETFD) } >= 0);
            let name = if all { c"mkres-ok" } else { c"mkres-bad" };
            unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) };
        }
    }
}
