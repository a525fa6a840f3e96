//! Files, directories, FIFOs and terminals by their path: descriptors, mapped files, exe, cwd and root.

use super::path_model::{confined, Bad, Problem};
use super::{Ctx, Lift, Phase, Rule, Sink, Value, When};
use crate::host::{Gate, Opt};
use crate::snapshot::{OpenFile, Stray};

fn each<'a>(ctx: &'a Ctx<'a>, wanted: impl Fn(&Problem) -> bool + 'a) -> impl Iterator<Item = &'a Bad<'a>> + 'a {
    ctx.bad_paths.iter().filter(move |b| wanted(&b.problem))
}

/// A POSIX message queue by its open descriptor: on a mount of the kernel's own, named by one component, and of the size
/// of the text it is read as (FILENT_SIZE in ipc/mqueue.c).
fn is_mqueue(bad: &Bad) -> bool {
    const FILENT_SIZE: u64 = 80;
    let file: &OpenFile = bad.file;
    let name = bad.path.as_deref().and_then(|p| p.strip_prefix(b"/")).unwrap_or_default();
    bad.problem == Problem::MountUnknown
        && file.kind() == libc::S_IFREG
        && file.dev.major == 0
        && file.size == FILENT_SIZE
        && file.fd >= 0
        && !name.is_empty()
        && !name.contains(&b'/')
}

const NOT_HERE: Lift = Lift::Workload("start the program with files of its own mount namespace only");

pub static FILE_MOUNT_UNKNOWN: Rule = Rule {
    id: "file-mount-unknown",
    group: "Paths",
    what: "A file is open, mapped, or is the exe, cwd or root of a process, and lies on a mount that is not in the mount \
           tables CRIU collects: those of the dumped mount namespaces, or CRIU's own if the root process shares it. Lazily \
           unmounted file systems, files inherited from another mount namespace, mounts of the kernel's own, tracefs.",
    says: "{what}[ {path}] on mount {mnt_id}, which is in no mount namespace of the tree",
    criu: "Can't lookup mount=%d for fd=%d path=%s",
    source: "criu/files-reg.c:dump_one_reg_file",
    versions: "all",
    lifts: &[Lift::Option(Opt::ShellJob), Lift::Value("external", "{key}"), NOT_HERE],
    phase: Phase::P3,
    when: When::Early,
    check: |rule, ctx, sink| {
        for bad in each(ctx, |p| *p == Problem::MountUnknown).filter(|b| !is_mqueue(b)) {
            sink.push(bad.gate, bad.finding(rule));
        }
    },
};

pub static MQUEUE_FD: Rule = Rule {
    id: "mqueue-fd",
    group: "Paths",
    what: "A POSIX message queue is open: it lies on a mount of the kernel's own.",
    says: "POSIX message queue {path}",
    criu: "Can't lookup mount=%d for fd=%d path=%s",
    source: "criu/files-reg.c:dump_one_reg_file",
    versions: "all",
    lifts: &[Lift::Value("external", "{key}"), Lift::Workload("close it before the dump")],
    phase: Phase::P3,
    when: When::Early,
    check: |rule, ctx, sink| {
        for bad in each(ctx, |p| *p == Problem::MountUnknown).filter(|b| is_mqueue(b)) {
            sink.push(bad.gate, bad.finding(rule));
        }
    },
};

pub static FILE_OVERMOUNTED: Rule = Rule {
    id: "file-overmounted",
    group: "Paths",
    what:
        "A file lies on a mount that another mount hides: one on the same mountpoint, or one that covers it or a mount \
           below it.",
    says: "{what}[ {path}] on mount {mnt_id}, which another mount covers",
    criu: "Open files on overmounted mounts are not supported yet; mount=%d fd=%d path=%s",
    source: "criu/files-reg.c:dump_one_reg_file",
    versions: "all",
    lifts: &[
        Lift::Value("external", "{key}"),
        Lift::Workload("unmount what covers it, or close the file, before the dump"),
    ],
    phase: Phase::P3,
    when: When::Early,
    check: |rule, ctx, sink| {
        for bad in each(ctx, |p| *p == Problem::Overmounted) {
            sink.push(bad.gate, bad.finding(rule));
        }
    },
};

pub static FILE_ODD_PATH: Rule = Rule {
    id: "file-odd-path",
    group: "Paths",
    what: "The kernel's text for the path does not begin with a slash.",
    says: "{what} {path}, which is no absolute path",
    criu: "The path [%s] is not supported",
    source: "criu/files-reg.c:dump_one_reg_file",
    versions: "all",
    lifts: &[Lift::Value("external", "{key}"), Lift::Workload("close it before the dump")],
    phase: Phase::P3,
    when: When::Early,
    check: |rule, ctx, sink| {
        for bad in each(ctx, |p| *p == Problem::OddPath) {
            sink.push(bad.gate, bad.finding(rule));
        }
    },
};

pub static PATH_REUSED: Rule = Rule {
    id: "path-reused",
    group: "Paths",
    what: "The path of an open file leads to another file: something is mounted over a part of it, or the mount namespace \
           has changed since. With --evasive-devices another node of the same device is good enough.",
    says: "{what} {path} is inode {need}, but that path leads to inode {found} now",
    criu: "Unaccessible path opened %u:%u, need %u:%u",
    source: "criu/files-reg.c:check_path_remap",
    versions: "all",
    lifts: &[
        Lift::Option(Opt::EvasiveDevices),
        Lift::Value("external", "{key}"),
        Lift::Workload("close it, or unmount what covers {path}, before the dump"),
    ],
    phase: Phase::P3,
    when: When::Early,
    check: |rule, ctx, sink| {
        for bad in each(ctx, |p| *p == Problem::Reused) {
            let Some(Stray::Other { dev, ino, .. }) = bad.file.stray else { continue };
            let of = |d: crate::snapshot::Dev, ino: u64| format!("{}:{}/{ino}", d.major, d.minor);
            let f = bad.finding(rule).term("need", of(bad.file.dev, bad.file.ino)).term("found", of(dev, ino));
            sink.push(bad.gate, f);
        }
    },
};

pub static PATH_STAT_ERROR: Rule = Rule {
    id: "path-stat-error",
    group: "Paths",
    what:
        "The path of an open file cannot be looked up, for another reason than that it is not there: a directory of it \
           was replaced by a file, or may not be searched.",
    says: "{what} {path} cannot be reached by that path, errno {errno}",
    criu: "Can't stat path",
    source: "criu/files-reg.c:check_path_remap",
    versions: "all",
    lifts: &[Lift::Value("external", "{key}"), Lift::Workload("close it before the dump")],
    phase: Phase::P3,
    when: When::Early,
    check: |rule, ctx, sink| {
        for bad in &ctx.bad_paths {
            if let Problem::Stat(errno) = bad.problem {
                sink.push(bad.gate, bad.finding(rule).num("errno", errno));
            }
        }
    },
};

pub static CHROOT_ROOT_TASK: Rule = Rule {
    id: "chroot-root-task",
    group: "Paths",
    what:
        "The root process, or the first process in walking order of another mount namespace of the tree, is in a mount \
           namespace other than CRIU's and its root directory is not the root of that namespace. Where the root process shares \
           CRIU's namespace, a nested one may be seen through a root directory that is a mountpoint.",
    says: "root directory of the process is {path}, not the root of its mount namespace",
    criu: "The root task has another root than mntns: %s (or before it: Can't parse %d's mountinfo)",
    source: "criu/mount.c:__mntns_get_root_fd",
    versions: "all",
    lifts: &[
        Lift::Workload("let it pivot_root() instead of chroot(), or chroot() without a mount namespace of its own"),
    ],
    phase: Phase::P2,
    when: When::Early,
    check: |rule, ctx, sink: &mut Sink| {
        for (task, path) in confined(ctx).values() {
            let f = super::Finding::on_task(rule, task).fact("path", Value::Text((*path).clone()));
            sink.push(Gate::Stands, f);
        }
    },
};

pub static PATH_TOO_LONG: Rule = Rule {
    id: "path-too-long",
    group: "Paths",
    what: "The path of an open file is longer than a page, so that the kernel does not tell it.",
    says: "descriptor of a file whose path is longer than a page",
    criu: "Can't read link of fd %d: File name too long",
    source: "criu/util.c:read_fd_link",
    versions: "all",
    lifts: &[Lift::Workload("close it before the dump")],
    phase: Phase::P3,
    when: When::Early,
    check: |rule, ctx, sink| {
        // The kernel's refusal to tell the link is all there is to see.
        for u in ctx.snap.unchecked.iter().filter(|u| u.errno == libc::ENAMETOOLONG && *u.what == *b"fd link") {
            let Some(task) = ctx.snap.task(u.pid) else { continue };
            let Some(file) = task.files.iter().find(|f| Some(f.fd) == u.fd) else { continue };
            if matches!(file.kind(), libc::S_IFREG | libc::S_IFDIR | libc::S_IFLNK | libc::S_IFIFO) {
                sink.push(Gate::Stands, super::Finding::on_file(rule, task, file));
            }
        }
    },
};
