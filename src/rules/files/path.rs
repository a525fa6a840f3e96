//! Files, directories, FIFOs and terminals by their path: descriptors, mapped files, exe, cwd and root.

use crate::criu::{Cap, Opt};
use crate::criu_model::paths::{confined, external_key, is_job_terminal, is_same_device, PathProblem, Problem, Role};
use crate::rules::{Ctx, Evidence, Finding, Phase, Remedy, Rule, Sink, TaskLink, Value, Versions, When};
use crate::snapshot::{Mapping, OpenFile, Origin, PathMismatch, Probe, Unchecked};
use std::collections::HashSet;

/// A POSIX message queue by its open descriptor: on a mount of the kernel's own, named by one component, and of the size
/// of the text it is read as (FILENT_SIZE in ipc/mqueue.c).
fn is_mqueue(bad: &PathProblem) -> bool {
    const FILENT_SIZE: u64 = 80;
    let file: &OpenFile = bad.file;
    let name = bad.path.as_deref().and_then(|p| p.strip_prefix(b"/")).unwrap_or_default();
    bad.problem == Problem::MountUnknown
        && file.kind() == libc::S_IFREG
        && file.attr.dev.major == 0
        && file.attr.size == FILENT_SIZE
        && file.origin != Origin::Link
        && !name.is_empty()
        && !name.contains(&b'/')
}

const NOT_HERE: Remedy = Remedy::Workload("start the program with files of its own mount namespace only");

/// The paths that fail this test.
pub(crate) fn paths_with<'a>(ctx: &'a Ctx<'a>, problem: Problem) -> impl Iterator<Item = &'a PathProblem<'a>> + 'a {
    ctx.path_problems.iter().filter(move |bad| bad.problem == problem)
}

impl PathProblem<'_> {
    /// A finding with the facts that all path rules share.
    pub(crate) fn finding(&self, rule: &Rule) -> Finding {
        let mut f = Finding::on_file(rule, self.task, self.file);
        if self.forgotten {
            f = f.unrestorable();
        }
        if self.file.link.is_none() {
            f = f.fact_opt("path", self.path.clone().map(Value::Text));
        }
        let what = match self.role {
            Role::Fd => match self.file.kind() {
                libc::S_IFDIR => "open directory",
                libc::S_IFIFO => "open FIFO",
                libc::S_IFCHR => "open device",
                libc::S_IFLNK => "open symlink",
                _ => "open file",
            },
            Role::Mapping(start, end) => {
                f.addr = Some(start);
                f = f.fact("range", Value::Range(start, end));
                "mapped file"
            }
            Role::Exe => {
                f.link = Some(TaskLink::Exe);
                "executable"
            }
            Role::Cwd => {
                f.link = Some(TaskLink::Cwd);
                "current directory"
            }
            Role::Root => {
                f.link = Some(TaskLink::Root);
                "root directory"
            }
        };
        f.term("what", what)
            .fact_opt("mnt_id", self.file.attr.mnt_id.and_then(|id| i64::try_from(id).ok()).map(Value::Num))
            .fact_opt("key", external_key(self.file).map(|k| Value::Term(k.into())))
    }
}

pub(crate) static FILE_MOUNT_UNKNOWN: Rule = Rule {
    id: "file-mount-unknown",
    summary: "A file on a mount that the tree does not see: of another mount namespace, or lazily unmounted.",
    group: "Paths",
    condition: "A file is open, mapped, or is the exe, cwd or root of a process, and lies on a mount that is not in the mount \
           tables CRIU collects: those of the dumped mount namespaces, or CRIU's own if the root process shares it. Lazily \
           unmounted file systems, files inherited from another mount namespace, mounts of the kernel's own, tracefs. For the \
           exe alone, with no mapping of it left, the dump goes through without the process's mm, and cannot be restored.",
    message: "{what}[ {path}] on mount {mnt_id}, which is in no mount namespace of the tree",
    criu: &["Can't lookup mount=%d for fd=%d path=%s"],
    source: "criu/files-reg.c:dump_one_reg_file",
    versions: Versions::All,
    remedies: &[Remedy::OptionFor(Opt::ShellJob, "tty"), Remedy::External("{key}"), NOT_HERE],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Mounts,
    find: |rule, ctx, sink| {
        for bad in paths_with(ctx, Problem::MountUnknown).filter(|b| !is_mqueue(b)) {
            let tty = is_job_terminal(ctx.host, bad.file, bad.role).then_some(Value::Dev(bad.file.attr.rdev));
            sink.push_unless(bad.unless, bad.finding(rule).fact_opt("tty", tty));
        }
    },
};

pub(crate) static MQUEUE_FD: Rule = Rule {
    id: "mqueue-fd",
    summary: "An open POSIX message queue.",
    group: "Paths",
    condition: "A POSIX message queue is open: it lies on a mount of the kernel's own.",
    message: "POSIX message queue {path}",
    criu: &["Can't lookup mount=%d for fd=%d path=%s"],
    source: "criu/files-reg.c:dump_one_reg_file",
    versions: Versions::All,
    remedies: &[Remedy::External("{key}"), Remedy::Workload("close it before the dump")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Mounts,
    find: |rule, ctx, sink| {
        for bad in paths_with(ctx, Problem::MountUnknown).filter(|b| is_mqueue(b)) {
            sink.push_unless(bad.unless, bad.finding(rule));
        }
    },
};

pub(crate) static FILE_OVERMOUNTED: Rule = Rule {
    id: "file-overmounted",
    summary: "A file that lies hidden under another mount.",
    group: "Paths",
    condition:
        "A file lies on a mount that another mount hides: one on the same mountpoint, or one that covers it or a mount \
           below it. For the exe alone, with no mapping of it left, the dump goes through without the process's mm, and cannot be \
           restored.",
    message: "{what}[ {path}] on mount {mnt_id}, which another mount covers",
    criu: &["Open files on overmounted mounts are not supported yet; mount=%d fd=%d path=%s"],
    source: "criu/files-reg.c:dump_one_reg_file",
    versions: Versions::All,
    remedies: &[
        Remedy::External("{key}"),
        Remedy::Workload("unmount what covers it, or close the file, before the dump"),
    ],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Mounts,
    find: |rule, ctx, sink| {
        for bad in paths_with(ctx, Problem::Overmounted) {
            sink.push_unless(bad.unless, bad.finding(rule));
        }
    },
};

pub(crate) static FILE_ODD_PATH: Rule = Rule {
    id: "file-odd-path",
    summary: "A file whose path does not begin with a slash.",
    group: "Paths",
    condition: "The kernel's text for the path does not begin with a slash.",
    message: "{what} {path}, which is no absolute path",
    criu: &["The path [%s] is not supported"],
    source: "criu/files-reg.c:dump_one_reg_file",
    versions: Versions::All,
    remedies: &[Remedy::External("{key}"), Remedy::Workload("close it before the dump")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for bad in paths_with(ctx, Problem::OddPath) {
            sink.push_unless(bad.unless, bad.finding(rule));
        }
    },
};

pub(crate) static PATH_REUSED: Rule = Rule {
    id: "path-reused",
    summary: "An open file whose path leads to another file now.",
    group: "Paths",
    condition: "The path of an open file leads to another file: something is mounted over a part of it, or the mount namespace \
           has changed since. With --evasive-devices another node of the same device is good enough.",
    message: "{what} {path} is inode {need}, but that path leads to inode {found} now",
    criu: &["Unaccessible path opened %u:%u, need %u:%u"],
    source: "criu/files-reg.c:check_path_remap",
    versions: Versions::All,
    remedies: &[
        Remedy::OptionFor(Opt::EvasiveDevices, "rdev"),
        Remedy::External("{key}"),
        Remedy::Workload("close it, or unmount what covers {path}, before the dump"),
    ],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Path,
    find: |rule, ctx, sink| {
        for bad in paths_with(ctx, Problem::Reused) {
            let Some(PathMismatch::Replaced { dev, ino, rdev }) = bad.file.mismatch else { continue };
            let of = |d: crate::snapshot::Dev, ino: u64| format!("{}:{}/{ino}", d.major, d.minor);
            let f = bad
                .finding(rule)
                .term("need", of(bad.file.attr.dev, bad.file.attr.ino))
                .term("found", of(dev, ino))
                .fact_opt("rdev", is_same_device(bad.file, rdev).then_some(Value::Dev(rdev)));
            sink.push_unless(bad.unless, f);
        }
    },
};

pub(crate) static PATH_STAT_ERROR: Rule = Rule {
    id: "path-stat-error",
    summary: "An open file whose path cannot be followed any more.",
    group: "Paths",
    condition:
        "The path of an open file cannot be looked up, for another reason than that it is not there: a directory of it \
           was replaced by a file, or may not be searched.",
    message: "{what} {path} cannot be reached by that path, errno {errno}",
    criu: &["Can't stat path"],
    source: "criu/files-reg.c:check_path_remap",
    versions: Versions::All,
    remedies: &[Remedy::External("{key}"), Remedy::Workload("close it before the dump")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Path,
    find: |rule, ctx, sink| {
        // What is too long has a rule of its own.
        for bad in ctx.path_problems.iter().filter(|b| b.path.as_ref().is_none_or(|p| p.len() < LINK_BUFFER)) {
            if let Problem::Stat(errno) = bad.problem {
                sink.push_unless(bad.unless, bad.finding(rule).num("errno", errno));
            }
        }
    },
};

pub(crate) static CHROOT_ROOT_TASK: Rule = Rule {
    id: "chroot-root-task",
    summary: "A container that was made with chroot instead of pivot_root.",
    group: "Paths",
    condition:
        "The root process, or the first process in walking order of another mount namespace of the tree, is in a mount \
           namespace other than CRIU's and its root directory is not the root of that namespace. Where the root process shares \
           CRIU's namespace, a nested one may be seen through a root directory that is a mountpoint.",
    message: "root directory of the process is {path}, not the root of its mount namespace",
    criu: &["The root task has another root than mntns: %s", "{or before it} Can't parse %d's mountinfo"],
    source: "criu/mount.c:__mntns_get_root_fd",
    versions: Versions::All,
    remedies: &[
        Remedy::Workload("let it pivot_root() instead of chroot(), or chroot() without a mount namespace of its own"),
    ],
    phase: Phase::Collecting,
    when: When::Early,
    evidence: Evidence::Tree,
    find: |rule, ctx, sink: &mut Sink| {
        for (task, path) in confined(ctx.snap).values() {
            let f = crate::rules::Finding::on_task(rule, task).fact("path", Value::Text((*path).clone()));
            sink.push(f);
        }
    },
};

pub(crate) static PATH_TOO_LONG: Rule = Rule {
    id: "path-too-long",
    summary: "A file with a path of about 4096 bytes or more.",
    group: "Paths",
    condition: "The path of an open file, or of the exe, cwd or root of a process, is longer than a page: the kernel does not tell \
           it, or CRIU's buffer is too small by one byte. Up to CRIU 4.2 the path of a mapped file may have no more than 4022 \
           bytes, for the line of smaps has to fit into a page. For the exe alone, with no mapping of it left, the dump goes through \
           without the process's mm, and cannot be restored.",
    message: "{what?fd=descriptor of a file|mapping=mapped file|exe=executable|cwd=current directory|root=root directory} whose path is too long for CRIU[ ({length} bytes)]",
    criu: &["Can't read link of fd %d: File name too long", "Buffer for read link of fd %d is too small", "The bfd buffer is too small"],
    source: "criu/util.c:read_fd_link, criu/bfd.c:breadchr",
    versions: Versions::All,
    remedies: &[Remedy::Workload("have the program close it, unmap it or leave the directory before the dump")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        let path = |f: &OpenFile| {
            matches!(f.kind(), libc::S_IFREG | libc::S_IFDIR | libc::S_IFLNK | libc::S_IFIFO)
                && f.link.as_ref().is_none_or(|l| l.starts_with(b"/"))
        };
        let too_long: HashSet<(i32, Option<i32>)> =
            ctx.snap.unchecked.iter().filter(|u| is_too_long(u, Probe::FdLink)).map(|u| (u.pid, u.fd)).collect();
        for (task, file) in ctx.files().filter(|(_, f)| path(f)) {
            let length = file.link.as_ref().map(|l| l.len()).filter(|l| *l >= LINK_BUFFER);
            // The kernel's refusal to give the link is all there is to see of a longer one.
            if length.is_some() || file.fd().is_some_and(|fd| too_long.contains(&(task.pid, Some(fd)))) {
                let mut f = crate::rules::Finding::on_file(rule, task, file).term("what", "fd");
                f.facts.retain(|(name, _)| name != "path");
                sink.push(f.fact_opt("length", length.map(count)));
            }
        }
        for task in ctx.live_tasks() {
            // 4.3 has more room for a line, and is left with what the link has to fit into.
            let line = cfg!(target_arch = "x86_64") && !ctx.host.has(Cap::LongLines);
            let most = if line { SMAPS_LINE - SMAPS_NAME } else { LINK_BUFFER };
            let long = |m: &&Mapping| m.vma.path.starts_with(b"/") && m.vma.path.len() >= most;
            if let Some(m) = task.maps.iter().find(long) {
                let f = crate::rules::Finding::on_mapping(rule, task, m.vma.start, m.vma.end).term("what", "mapping");
                sink.push(f.fact("length", count(m.vma.path.len())));
            }
            let links = [
                (&task.exe, "exe", Probe::Exe),
                (&task.cwd, "cwd", Probe::Cwd),
                (&task.root, "root", Probe::Root),
            ];
            for (link, what, probe) in links {
                let length = link.as_ref().map(|l| l.text.len()).filter(|l| *l >= LINK_BUFFER);
                if length.is_some() || ctx.index.unchecked(task.pid).any(|u| is_too_long(u, probe)) {
                    let f = crate::rules::Finding::on_task(rule, task).key(format!("{what}:{}", task.pid)).term("what", what);
                    let f = f.fact_opt("length", length.map(count));
                    // As in PathProblem::forgotten.
                    sink.push(if probe == Probe::Exe { f.unrestorable() } else { f });
                }
            }
        }
    },
};

/// `read_fd_link` has a buffer of PATH_MAX - 1 bytes and wants one of them to be left (criu/include/files.h:fd_link).
pub(crate) const LINK_BUFFER: usize = 4095;
/// Where a name begins in a line of smaps (`show_vma_header_prefix`, `seq_pad` in fs/proc/task_mmu.c), and the page that
/// CRIU reads lines into (BUFSIZE, criu/bfd.c); of x86-64.
const SMAPS_NAME: usize = 73;
const SMAPS_LINE: usize = 4096;

fn count(length: usize) -> Value {
    Value::Num(i64::try_from(length).unwrap_or(i64::MAX))
}

/// Whether it is such a link of a process, and the kernel did not tell it for its length.
fn is_too_long(unchecked: &Unchecked, probe: Probe) -> bool {
    unchecked.errno == libc::ENAMETOOLONG && unchecked.probe == probe
}
