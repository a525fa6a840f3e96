//! `mkres`, the resource factory: makes kernel resources in a small process tree and waits.
//!
//! ```text
//! mkres [--ready FILE] [--dir DIR] [--root DIR [--userns MODE] [--volume HOW]] [--joined alive|dead] SPEC...
//!                                                                             (mkres --list names the kinds)
//!
//! --root DIR gives the tree a mount namespace of its own with DIR, furnished with what mkres needs, as its root.
//! --volume private|shared|slave|shared-slave mounts a part of a tmpfs of outside on /mnt, with this propagation;
//! --userns MODE gives it a user namespace, too, and a tmpfs on /foreign with a file, of these permissions, of somebody who
//! has no number there (MODE none: without that tmpfs).
//! --joined alive|dead puts one more process into the pid namespace of the root, as `docker exec` does: its session is
//! outside, and the first process of the namespace is its parent (and does not wait for it). It is reported as `joined`.
//!
//! SPEC   KIND | KIND:arg=value,flag,...         made in this process, in the order given
//!        [ SPEC... ]                            a child process of this one, holding these
//! ```
//!
//! The tree's root is its own session leader, with `/dev/null` as standard streams, no other descriptor, no terminal and
//! `/` as working directory, whatever it was started from. Processes that have to be outside the tree (the other end of
//! a socket, a debugger) are made too; they are orphans in sessions of their own.
//!
//! When everything stands, one line of JSON goes to FILE (or stdout) and the process started here ends with status 0,
//! leaving the tree to the process that adopts orphans. Status 77: the kernel (or a missing right) does not let one of the kinds be
//! made; the reason is on stderr and nothing is left behind. Any other status is a defect of the factory or of the SPEC.
//!
//! SIGUSR1 makes a process of the tree look at its descriptors again: it renames itself `mkres-ok` if all are still
//! there, and `mkres-bad` otherwise.

mod base;
mod ctx;
mod joined;
mod report;
mod root;
mod spec;
mod sys;

mod cgroups;
mod compat;
mod devices;
mod eventfiles;
mod fastopen;
mod files;
mod fuse;
mod hidden;
mod inqueue;
mod kernelfds;
mod links;
mod locks;
mod memory;
mod mounts;
mod netdev;
mod netlink;
mod othernet;
mod paths;
mod pipes;
mod readonly;
mod shm;
mod sockets;
mod sockopts;
mod task;
mod tcp;
mod tracer;
mod tty;
mod udp;
mod unix;
mod unixdir;

use ctx::{Args, Ctx, Fail, Res};
use spec::{Item, Node};

/// A kind of resource.
pub struct Kind {
    pub name: &'static str,
    /// Its arguments and what it is, one line.
    pub help: &'static str,
    pub make: fn(&mut Ctx, &Args) -> Res,
}

/// All kinds, by family. A new family adds its `mod` above and its table here.
const FAMILIES: &[&[Kind]] = &[
    base::KINDS,
    cgroups::KINDS,
    compat::KINDS,
    devices::KINDS,
    eventfiles::KINDS,
    fastopen::KINDS,
    files::KINDS,
    fuse::KINDS,
    hidden::KINDS,
    inqueue::KINDS,
    kernelfds::KINDS,
    links::KINDS,
    locks::KINDS,
    memory::KINDS,
    mounts::KINDS,
    netdev::KINDS,
    netlink::KINDS,
    othernet::KINDS,
    paths::KINDS,
    pipes::KINDS,
    readonly::KINDS,
    shm::KINDS,
    sockets::KINDS,
    sockopts::KINDS,
    task::KINDS,
    tcp::KINDS,
    tracer::KINDS,
    tty::KINDS,
    udp::KINDS,
    unix::KINDS,
    unixdir::KINDS,
];

fn find(name: &str) -> Option<&'static Kind> {
    FAMILIES.iter().flat_map(|f| f.iter()).find(|k| k.name == name)
}

/// Where the report pipe sits in every process of the tree until it is ready: high, so that resources get the numbers
/// they would get anywhere.
const REPORT_FD: i32 = 900;

fn main() {
    // Whoever started us waits. The processes of the tree do not inherit it.
    unsafe { libc::alarm(150) };
    let mut args = std::env::args().skip(1);
    let (mut ready, mut dir, mut inside, mut join, mut words) = (None, None, None, None, Vec::new());
    let mut with = root::With::default();
    while let Some(a) = args.next() {
        match a.as_str() {
            "--ready" => ready = args.next(),
            "--dir" => dir = args.next(),
            "--root" => inside = args.next(),
            "--userns" => with.foreign = args.next(),
            "--volume" => with.volume = args.next(),
            // Given by the one that was given --root.
            "--rooted" => base::now_own(libc::CLONE_NEWNS),
            // What runs inside of the root directory is reported.
            "--joined" if inside.is_none() => join = args.next(),
            "--list" => return list(),
            _ => words.push(a),
        }
    }
    if let Some(inside) = inside {
        match root::run(&inside, ready.as_deref(), &with, &words) {
            Ok(status) => std::process::exit(status),
            Err(e) => die(e.status(), &e.to_string()),
        }
    }
    let root = spec::parse(&words).unwrap_or_else(|e| die(2, &e));
    let dir = dir.unwrap_or_else(|| sys::temp_dir().unwrap_or_else(|e| die(2, &e)));
    // Before any thread is made: SIGUSR1 is only ever waited for.
    ctx::block_usr1();
    if no_setsid(&root) {
        // The session we were started in may be another pid namespace's, and then none that CRIU can see: the tree gets
        // ours. (A shell with job control makes us the leader of a group, who cannot do this and need not.)
        unsafe { libc::setsid() };
    }
    // A process that fails below leaves orphans; they come to us and are ended here.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    let (r, w) = sys::pipe().unwrap_or_else(|e| die(2, &e.to_string()));
    let pid = match start(&root, 0, &dir, w) {
        Ok(pid) => pid,
        Err(e) => die(e.status(), &e.to_string()),
    };
    sys::close(w);
    let mut lines = sys::read_all_within(r, 60);
    if let Some(how) = join {
        lines.push_str(&joined::line(pid, &how));
    }
    match report::assemble(&lines, pid, &words.join(" ")) {
        Ok(json) => match ready {
            None => print!("{json}"),
            Some(f) => {
                // Renamed into place: a reader that sees the file sees all of it.
                let part = format!("{f}.part");
                if let Err(e) = std::fs::write(&part, json).and_then(|()| std::fs::rename(&part, &f)) {
                    sys::kill_descendants();
                    die(2, &format!("{f}: {e}"));
                }
            }
        },
        Err(e) => {
            sys::kill_descendants();
            criu_tests::cgroups::sweep(&dir);
            die(e.status(), &e.to_string());
        }
    }
}

fn list() {
    for f in FAMILIES {
        for k in f.iter() {
            println!("{:<20} {}", k.name, k.help);
        }
    }
}

fn die(status: i32, why: &str) -> ! {
    eprintln!("mkres: {why}");
    std::process::exit(status)
}

fn no_setsid(root: &Node) -> bool {
    root.items.first().is_some_and(|i| i.is("no-setsid"))
}

/// Forks the process of one node and everything below it. Returns its pid as the caller sees it.
fn start(node: &Node, depth: usize, dir: &str, report: i32) -> Result<i32, Fail> {
    if base::wants_pid_ns(node) {
        sys::ok("unshare(CLONE_NEWPID)", unsafe { libc::unshare(libc::CLONE_NEWPID) })?;
    }
    let pid = sys::fork()?;
    if pid != 0 {
        return Ok(pid);
    }
    let inherit = depth > 0 && node.items.first().is_some_and(|i| i.is("inherit"));
    if !inherit && (report != REPORT_FD) {
        unsafe { libc::dup2(report, REPORT_FD) };
    }
    if !inherit {
        sys::close_all_but(&[0, 1, 2, REPORT_FD]);
        sys::null_stdio();
    }
    unsafe { libc::chdir(c"/".as_ptr()) };
    if depth == 0 {
        if no_setsid(node) {
            unsafe { libc::setpgid(0, 0) };
        } else {
            unsafe { libc::setsid() };
        }
    }
    let mut cx = Ctx::new(dir, node.index);
    match make_all(&mut cx, node, depth, dir) {
        Ok(()) => {
            report::send(REPORT_FD, &cx);
            sys::close(REPORT_FD);
            cx.wait()
        }
        Err(e) => {
            report::send_failure(REPORT_FD, &e);
            unsafe { libc::_exit(e.status()) }
        }
    }
}

fn make_all(cx: &mut Ctx, node: &Node, depth: usize, dir: &str) -> Res {
    for item in &node.items {
        match item {
            Item::Child(child) => {
                start(child, depth + 1, dir, REPORT_FD)?;
            }
            Item::Kind { name, args, word } => {
                let kind = find(name).ok_or_else(|| Fail::Broken(format!("no kind named {name}")))?;
                cx.kind = name.clone();
                (kind.make)(cx, args).map_err(|e| e.of(word))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use criu_tests::soak::generate::case;
    use std::collections::BTreeSet;

    /// Kinds that no random tree has, and why.
    const NOT_DRAWN: &[(&str, &str)] = &[
        ("unix-connect", "needs a socket that is there before"),
        ("vfork", "what becomes of it can never be foreseen"),
    ];

    #[test]
    fn random_trees_hold_every_kind() {
        let excused = |name: &str| NOT_DRAWN.iter().any(|(other, _)| *other == name);
        let all = FAMILIES.iter().flat_map(|f| f.iter()).map(|kind| kind.name);
        let mut missing: BTreeSet<&str> = all.filter(|name| !excused(name)).collect();
        // Some are one fixture's only, of a thousand.
        for word in (0..50_000).flat_map(|seed| case(seed).words) {
            let kind = word.split(':').next().unwrap_or(&word);
            assert!(!excused(kind), "{kind} is drawn");
            missing.remove(kind);
            if missing.is_empty() {
                return;
            }
        }
        panic!("not drawn: {missing:?}");
    }
}
