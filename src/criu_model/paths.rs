//! Every path that CRIU records, and the first of its tests that the path fails.
//!
//! Mirrors `dump_one_reg_file` and `check_path_remap` (criu/files-reg.c) of 3.17.1 to 4.2, in their order: external key,
//! mount known, mount visible, path begins with a slash, procfs and devpts, link count, silly name of NFS, stat of the
//! path from the root of the mount namespace. Descriptors, mapped files, exe, cwd and root all go through them.

use crate::bytes::{file_name, Bytes};
use crate::criu::{externals, Cap, Gate, Host, Opt};
use crate::criu_model::devices::{is_accepted, tty_driver, tty_external};
use crate::criu_model::mounts::{Model, Node};
use crate::parse::mountinfo::MountInfo;
use crate::snapshot::{Dev, Mapping, OpenFile, PathMismatch, Probe, Snapshot, Task};
use std::collections::{BTreeMap, HashSet};

/// Why CRIU records the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Fd,
    /// Start and end of the mapping.
    Mapping(u64, u64),
    Exe,
    Cwd,
    Root,
}

/// The test that is failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    MountUnknown,
    Overmounted,
    OddPath,
    /// What CRIU compares with the ghost limit, in bytes.
    Ghost(u64),
    /// No name leads to it any more, but it has one somewhere.
    Unlinked,
    /// The same, and it cannot be given another.
    Unlinkable(Unlinkable),
    /// Nothing leads to it, and where the restore makes it again is a mount that is read-only.
    NoPlace,
    /// The same, in a mount namespace that the restore makes, which takes that mount for a covered one.
    NoVisiblePlace,
    Silly,
    Reused,
    /// errno of the stat.
    Stat(i32),
}

impl Problem {
    /// The dump is made.
    fn is_of_restore(&self) -> bool {
        matches!(self, Problem::NoPlace | Problem::NoVisiblePlace)
    }
}

/// Why no hard link can be made to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unlinkable {
    Kernfs,
    ReadOnly,
    Directory,
    /// A lower layer of overlayfs has it.
    Layer,
    /// The directory it was in is on another mount now.
    Beside,
}

/// One path with its problem.
pub(crate) struct PathProblem<'a> {
    pub task: &'a Task,
    pub file: &'a OpenFile,
    pub role: Role,
    pub path: Option<Bytes>,
    pub problem: Problem,
    /// What else decides whether CRIU looks at the path, besides the remedies of the rules.
    pub unless: Gate,
    /// CRIU forgets that it has failed (`dump_task_mm`): the dump goes through without the process's mm, and no restore does.
    pub forgotten: bool,
}

/// The default of `--ghost-limit` (criu/include/cr_options.h).
const DEFAULT_GHOST_LIMIT: u64 = 1 << 20;

/// Judges every path of the tree.
pub(crate) fn all<'a>(snap: &'a Snapshot, host: &Host, model: &Model) -> Vec<PathProblem<'a>> {
    let confined = confined(snap);
    let mut bad: Vec<PathProblem> = Vec::new();
    let mut removed_dirs = HashSet::new();
    let mut judge = |task: &'a Task, file, role, path: Option<&[u8]>| {
        let found = problem(snap, host, model, file, path);
        if file.attr.nlink == 0 && file.kind() == libc::S_IFDIR && found.is_none() {
            removed_dirs.insert((file.attr.dev, file.attr.ino));
        }
        if let Some((problem, unless)) = found {
            // Seen from a chroot() mounts and paths are others, and CRIU comes to look up none: chroot-root-task.
            let seen_wrong = matches!(
                problem,
                Problem::MountUnknown | Problem::Unlinked | Problem::Unlinkable(_) | Problem::Reused | Problem::Stat(_)
            );
            if seen_wrong && task.ns.mnt.is_some_and(|ns| confined.contains_key(&ns)) {
                return;
            }
            bad.push(PathProblem {
                task,
                file,
                role,
                path: path.map(Bytes::from),
                forgotten: role == Role::Exe && !problem.is_of_restore(),
                problem,
                unless,
            });
        }
    };
    for task in snap.live_tasks() {
        for m in &task.maps {
            let Some(file) = &m.file else { continue };
            if is_path_mapping(snap, m, file) {
                let text = m.vma.unescaped();
                judge(task, file, Role::Mapping(m.vma.start, m.vma.end), file.link.as_deref().or(Some(&text)));
            }
        }
        for file in task.files.iter().filter(|f| is_path_fd(snap, host, f)) {
            judge(task, file, Role::Fd, file.link.as_deref());
        }
        for (link, role) in [(&task.exe, Role::Exe), (&task.cwd, Role::Cwd), (&task.root, Role::Root)] {
            let Some(link) = link else { continue };
            let Some(file) = &link.file else { continue };
            // A program in a memfd has a rule of its own.
            if !is_internal(snap, file, &link.text) {
                judge(task, file, role, (!link.text.is_empty()).then_some(&link.text));
            }
        }
    }
    // A directory is made once, where it was met first, and opened there.
    for bad in bad.iter_mut().filter(|b| b.problem.is_of_restore()) {
        if removed_dirs.contains(&(bad.file.attr.dev, bad.file.attr.ino)) {
            bad.unless = bad.unless.or(Gate::FACT_UNKNOWN);
        }
    }
    bad
}

/// Whether the file lies on a tmpfs or hugetlbfs of the kernel's own: memfds, System V segments, shared anonymous memory.
/// They have no path rules.
pub(crate) fn is_internal(snap: &Snapshot, file: &OpenFile, text: &[u8]) -> bool {
    if !snap.kernel.shmem.is_empty() {
        return snap.kernel.shmem.contains(&file.attr.dev);
    }
    const NAMES: [&[u8]; 4] = [b"/memfd:", b"/SYSV", b"/dev/zero (deleted)", b"/anon_hugepage (deleted)"];
    file.attr.dev.major == 0 && NAMES.iter().any(|n| text.starts_with(n))
}

fn is_path_fd(snap: &Snapshot, host: &Host, file: &OpenFile) -> bool {
    let text = file.link.as_deref();
    match file.kind() {
        libc::S_IFREG | libc::S_IFDIR | libc::S_IFLNK => {
            // Without a leading slash it is a namespace, or a file of no kind CRIU knows.
            !is_internal(snap, file, text.unwrap_or_default()) && text.is_none_or(|t| t.starts_with(b"/"))
        }
        // A pipe has no path.
        libc::S_IFIFO => text.is_some_and(|t| t.starts_with(b"/")),
        // Other devices are refused, or taken by a plugin, before their path is looked at; an external terminal's never is.
        libc::S_IFCHR => is_accepted(file.attr.rdev) && tty_external(host, file) != Gate::Waived,
        _ => false,
    }
}

fn is_path_mapping(snap: &Snapshot, m: &Mapping, file: &OpenFile) -> bool {
    let text: &[u8] = &m.vma.path;
    // AIO rings have code of their own, and secretmem cannot be opened.
    let special = m.vma.major == 0 && (text.starts_with(b"/[aio]") || text == b"/secretmem (deleted)");
    let dev_zero = file.is_chrdev() && file.attr.rdev == Dev::ZERO;
    (file.kind() == libc::S_IFREG || dev_zero) && !special && !is_internal(snap, file, text)
}

/// The key that makes a path no matter of CRIU's.
pub(crate) fn external_key(file: &OpenFile) -> Option<String> {
    // fdinfo's mnt_id is an int, and CRIU prints it as one.
    Some(externals::file(u32::try_from(file.attr.mnt_id?).ok()?, file.attr.ino))
}

fn problem(
    snap: &Snapshot,
    host: &Host,
    model: &Model,
    file: &OpenFile,
    path: Option<&[u8]>,
) -> Option<(Problem, Gate)> {
    let mnt_id = file.attr.mnt_id?;
    let ordinary = file.attr.nlink > 0 && file.mismatch.is_none();
    let node = model.by_id(mnt_id);
    if let (true, Some(node)) = (ordinary, node) {
        let silly = is_nfs(&node.info.fstype) && path.is_some_and(is_silly_name);
        if !silly && path.is_none_or(|p| p.starts_with(b"/")) && !model.is_overmounted(node) {
            return None;
        }
    }
    // No table at all was read: nothing is known about mounts.
    if snap.mounts.is_empty() {
        return None;
    }
    // Without it there is no mount id that CRIU could look up.
    external_key(file)?;
    let unless = if file.is_chrdev() { tty_external(host, file) } else { Gate::InForce };
    let Some(node) = node else {
        // A regular file without its link may be a memfd or a segment of shared memory, which CRIU does not look up. The
        // link of a device is not read.
        let looked_up = path.is_some() || file.kind() != libc::S_IFREG;
        let seen = if looked_up { Gate::InForce } else { Gate::FACT_UNKNOWN };
        return Some((Problem::MountUnknown, unless.or(table_gate(snap)).or(seen)));
    };
    if model.is_overmounted(node) {
        // --skip-mnt takes mounts away, those that cover too; the model knows the rest.
        let skip = if host.options.skip_mnt.is_some() { Gate::InForce } else { Gate::OPTION_UNKNOWN };
        return Some((Problem::Overmounted, unless.or(skip)));
    }
    if path.is_some_and(|p| !p.starts_with(b"/")) {
        return Some((Problem::OddPath, unless));
    }
    if matches!(&*node.info.fstype.0, b"proc" | b"devpts") {
        return None;
    }
    if file.attr.nlink == 0 {
        if let Some((problem, known)) = too_big(host, file) {
            return Some((problem, unless.or(known)));
        }
        return no_place(snap, model, node, path?).map(|problem| (problem, unless));
    }
    let remap = host.gate(&[Opt::LinkRemap]);
    if is_nfs(&node.info.fstype) && path.is_some_and(is_silly_name) {
        return Some((Problem::Silly, unless));
    }
    match file.mismatch? {
        PathMismatch::NoEntry { above } if is_beside(file, above) => {
            Some((Problem::Unlinkable(unlinkable(file, node.info).unwrap_or(Unlinkable::Beside)), unless))
        }
        PathMismatch::NoEntry { .. } => {
            if let Some(why) = unlinkable(file, node.info) {
                return Some((Problem::Unlinkable(why), unless));
            }
            // It may be of a layer that could not be looked at.
            if remap == Gate::Waived && may_be_a_layers(file, node.info) {
                let found = of_a_layer(host, file, node.info);
                return found.map(|(problem, known)| (problem, unless.or(known).or(Gate::FACT_UNKNOWN)));
            }
            Some((Problem::Unlinked, unless))
        }
        PathMismatch::LowerLayer => match of_a_layer(host, file, node.info) {
            Some((problem @ Problem::Unlinkable(_), _)) => Some((problem, unless)),
            found if remap == Gate::Waived => found.map(|(problem, known)| (problem, unless.or(known))),
            _ => Some((Problem::Unlinked, unless)),
        },
        PathMismatch::Errno(errno) => Some((Problem::Stat(errno), unless)),
        PathMismatch::Replaced { .. } => Some((Problem::Reused, unless)),
    }
}

/// The mount namespaces, other than CRIU's, that CRIU would see through a process in a chroot(): its first process in
/// walking order, and that one's root directory.
pub(crate) fn confined(snap: &Snapshot) -> BTreeMap<u64, (&Task, &Bytes)> {
    let mut found = BTreeMap::new();
    let Some(shared) = snap.root_shares(|n| n.mnt) else { return found };
    let mut met = HashSet::new();
    for task in snap.live_tasks() {
        let Some(ns) = task.ns.mnt.filter(|ns| Some(*ns) != snap.criu.ns.mnt && met.insert(*ns)) else { continue };
        let Some(root) = task.root.as_ref().filter(|r| !r.text.is_empty() && *r.text != *b"/") else { continue };
        // Where no mounts are dumped, it is enough if they can be read.
        if !shared || !shows_a_root(snap, task) {
            found.insert(ns, (task, &root.text));
        }
    }
    found
}

/// Whether the mount table that CRIU reads through this process has a root, as far as could be seen.
fn shows_a_root(snap: &Snapshot, task: &Task) -> bool {
    let denied = snap.unchecked.iter().any(|u| u.pid == task.pid && u.probe == Probe::Mountinfo);
    let table = snap.mounts.iter().find(|t| t.pid == task.pid && Some(t.ns) == task.ns.mnt);
    denied || table.is_some_and(|t| t.mounts.iter().any(|m| *m.mountpoint == *b"/"))
}

/// From 3.18 on a terminal of elsewhere is fine with --shell-job.
pub(crate) fn is_job_terminal(host: &Host, file: &OpenFile, role: Role) -> bool {
    role == Role::Fd && file.is_chrdev() && tty_driver(file.attr.rdev).is_some() && host.has(Cap::JobTerminals)
}

/// Whether another node of the same device was found by the path, which is enough for --evasive-devices.
pub(crate) fn is_same_device(file: &OpenFile, found: Dev) -> bool {
    (file.is_chrdev() || file.is_blkdev()) && found == file.attr.rdev
}

/// A mount may be unknown only because a table is not complete.
fn table_gate(snap: &Snapshot) -> Gate {
    if snap.knows_mounts() {
        Gate::InForce
    } else {
        Gate::FACT_UNKNOWN
    }
}

/// Whether it could be a file of a lower layer of overlayfs that has no name any more. With an index the names count.
fn may_be_a_layers(file: &OpenFile, mount: &MountInfo) -> bool {
    let index = || mount.super_value(b"index").is_some_and(|v| *v == *b"on");
    *mount.fstype == *b"overlay" && (file.attr.nlink == 1 || !index())
}

/// Whether the directory in which CRIU would make a new name for a file (the first there is of those that were above it,
/// `create_link_remap`) is on another mount than the file: no hard link leads from one mount to another (EXDEV, fs/namei.c).
pub(crate) fn is_beside(file: &OpenFile, above: Option<u64>) -> bool {
    above.is_some_and(|id| file.attr.mnt_id.is_some_and(|of| of != id))
}

/// Whether the restore cannot make a file again whose last name was this: that is on a mount that is read-only. In a mount
/// namespace that CRIU makes it is not, if CRIU takes the mount for a visible one (`try_remount_writable`), in its own CRIU leaves it
/// as it is (`nomntns_create_ghost`).
fn no_place(snap: &Snapshot, model: &Model, node: &Node, path: &[u8]) -> Option<Problem> {
    match snap.root_shares(|n| n.mnt)? {
        true => {
            let fails = is_read_only(node.info)
                && Some(node.table.ns) == snap.criu.ns.mnt
                // The path leads to another mount now.
                && !model.leads_below(node, path);
            fails.then_some(Problem::NoPlace)
        }
        false => {
            let fails = node.info.has_option(b"ro") && model.is_overmounted_at_restore(node);
            fails.then_some(Problem::NoVisiblePlace)
        }
    }
}

fn is_read_only(mount: &MountInfo) -> bool {
    mount.has_option(b"ro") || mount.super_option(b"ro").is_some()
}

/// Whether linkat would fail for certain (`create_link_remap`).
fn unlinkable(file: &OpenFile, mount: &MountInfo) -> Option<Unlinkable> {
    match &*mount.fstype.0 {
        // kernfs keeps the link count of what was removed, and has no hard links.
        b"cgroup" | b"cgroup2" | b"sysfs" => Some(Unlinkable::Kernfs),
        _ if is_read_only(mount) => Some(Unlinkable::ReadOnly),
        _ if file.kind() == libc::S_IFDIR => Some(Unlinkable::Directory),
        _ => None,
    }
}

/// What becomes of a removed file of a lower layer of overlayfs with --link-remap. CRIU tries the directories above one after
/// the other, in vain. When it has come to the root, it takes the file for one without a name; where another mount is on the
/// way, it is refused before (`create_link_remap`, `check_overlayfs_fallback`).
fn of_a_layer(host: &Host, file: &OpenFile, mount: &MountInfo) -> Option<(Problem, Gate)> {
    if *mount.mountpoint == *b"/" {
        return too_big(host, file);
    }
    Some((Problem::Unlinkable(Unlinkable::Layer), Gate::InForce))
}

/// A file that CRIU saves with its content.
fn too_big(host: &Host, file: &OpenFile) -> Option<(Problem, Gate)> {
    let size = if host.has(Cap::GhostBlocks) { file.attr.blocks.saturating_mul(512) } else { file.attr.size };
    let limit = host.options.ghost_limit;
    let known = if limit.is_some() { Gate::InForce } else { Gate::OPTION_UNKNOWN };
    (size > limit.unwrap_or(DEFAULT_GHOST_LIMIT)).then_some((Problem::Ghost(size), known))
}

fn is_nfs(fstype: &[u8]) -> bool {
    matches!(fstype, b"nfs" | b"nfs4")
}

/// `.nfs` and 24 hexadecimal digits (is_sillyrename_name): what follows them does not matter.
fn is_silly_name(path: &[u8]) -> bool {
    let Some(digits) = file_name(path).strip_prefix(b".nfs").and_then(|d| d.get(..24)) else { return false };
    digits.iter().all(u8::is_ascii_hexdigit)
}
