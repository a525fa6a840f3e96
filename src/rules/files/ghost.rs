//! Files whose name is gone.

use crate::criu::{Gate, Opt};
use crate::criu_model::paths::{Problem, Unlinkable};
use crate::rules::files::path::paths_with;
use crate::rules::{Evidence, Phase, Remedy, Rule, Value, Versions, When};

pub(crate) static GHOST_TOO_BIG: Rule = Rule {
    id: "ghost-too-big",
    summary: "An open file that was deleted, and is too big to be saved with the process.",
    group: "Paths",
    condition:
        "A file without any name left (link count 0) is open, mapped, or is exe, cwd or root, and is bigger than \
           --ghost-limit (1 MiB if not given): the blocks allocated to it from CRIU 3.18 on, its length before. With \
           --link-remap the removed files of the lower layers of an overlayfs on / are among them, whose link count is \
           not 0.",
    message: "{what}[ {path}] has no name left and {size} bytes, more than the limit for such files[ of {limit}]",
    criu: &["Can't dump ghost file %s of %lu size, increase limit"],
    source: "criu/files-reg.c:dump_ghost_remap",
    versions: Versions::All,
    remedies: &[
        Remedy::Modelled("ghost-limit", "{size}"),
        Remedy::External("{key}"),
        Remedy::Workload("have the program close or truncate it before the dump"),
    ],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Path,
    find: |rule, ctx, sink| {
        for bad in &ctx.path_problems {
            let Problem::Ghost(size) = bad.problem else { continue };
            let limit = ctx.host.options.ghost_limit.and_then(|l| i64::try_from(l).ok());
            let f = bad.finding(rule).count("size", size).fact_opt("limit", limit.map(Value::Num));
            sink.push_unless(bad.unless, f);
        }
    },
};

pub(crate) static RO_MOUNT_DELETED: Rule = Rule {
    id: "ro-mount-deleted",
    summary: "An open file that was deleted, on a mount that is read-only by now: the dump is made and cannot be restored.",
    group: "Dumped, but not restored",
    condition: "A file, FIFO or directory without any name left (link count 0) is open, mapped, or is exe, cwd or root, and its path \
           lies on a mount that is read-only, in a mount namespace that the root process shares with CRIU. The restore makes it \
           again at that path; mounts of a namespace that it makes itself are writable for that time, others are not. Nothing \
           is said if another mount covers the path. A directory that is open by a writable mount, too, is only a warning: it \
           may be made there. A restore on a machine where the mount is writable succeeds.",
    message: "{what}[ {path}] has no name left, and cannot be made again on a mount that is read-only",
    criu: &[
        "{at the restore} Can't create ghost regfile: Read-only file system",
        "{at the restore, of a FIFO} Can't create node for ghost file: Read-only file system",
        "{at the restore, of a directory} couldn't mkdirpat directory %s: Read-only file system",
        "{at the restore, if it is also open by a writable mount} Can't link %s -> %s: Read-only file system",
    ],
    source: "criu/files-reg.c:nomntns_create_ghost",
    versions: Versions::All,
    remedies: &[
        Remedy::External("{key}"),
        Remedy::Workload("have the program close it, or leave the directory, before the dump"),
        Remedy::Workload("remount it read-write (mount -o remount,bind,rw) for the restore"),
    ],
    phase: Phase::Restore,
    when: When::Early,
    evidence: Evidence::Mounts,
    find: |rule, ctx, sink| {
        for bad in paths_with(ctx, Problem::NoPlace) {
            sink.push_unless(bad.unless, bad.finding(rule));
        }
    },
};

pub(crate) static RO_MOUNT_STACKED: Rule = Rule {
    id: "ro-mount-stacked",
    summary: "An open file that was deleted, on a read-only mount of a stack: the dump is made and cannot be restored.",
    group: "Dumped, but not restored",
    condition: "A file, FIFO or directory without any name left (link count 0) is open, mapped, or is exe, cwd or root, on a mount that \
           is read-only by now, in a mount namespace of the tree; that mount, or one above it, was mounted on the root of another, so that two \
           lie on one mountpoint. The restore makes the mount writable for a moment to make the file again, but not one that another covers, \
           and it takes all that is mounted on a covered mount for covered, too.",
    message: "{what}[ {path}] has no name left, and its mount {mnt_id}, which is read-only, lies on a stack of mounts: the restore takes it for \
           a covered one, and does not make the file again",
    criu: &["{at the restore} The mount %d is overmounted so paths are invisible"],
    source: "criu/mount.c:mnt_is_overmounted, try_remount_writable",
    versions: Versions::All,
    remedies: &[
        Remedy::External("{key}"),
        Remedy::Workload("have the program close it, or leave the directory, before the dump"),
        Remedy::Workload("remount it read-write (mount -o remount,bind,rw) before the dump"),
    ],
    phase: Phase::Restore,
    when: When::Early,
    evidence: Evidence::Mounts,
    find: |rule, ctx, sink| {
        for bad in paths_with(ctx, Problem::NoVisiblePlace) {
            sink.push_unless(bad.unless, bad.finding(rule));
        }
    },
};

pub(crate) static LINK_REMAP_NEEDED: Rule = Rule {
    id: "link-remap-needed",
    summary: "An open file whose name was deleted while it has another name (a hard link).",
    group: "Paths",
    condition: "An open file has lost the name it was opened by, but has another one (its link count is not 0): CRIU would have \
           to make a temporary hard link. For the exe alone, with no mapping of it left, the dump goes through without the \
           process's mm, and cannot be restored.",
    message: "{what} {path}: that name is gone, but the file still has another ({nlink} hard links)[; {left?gone=a dump with \
           --leave-running takes the link of --link-remap away again, and cannot be restored}]",
    criu: &["Can't create link remap for %s. Use link-remap option."],
    source: "criu/files-reg.c:create_link_remap",
    versions: Versions::All,
    remedies: &[
        Remedy::OptionFor(Opt::LinkRemap, "kept"),
        Remedy::External("{key}"),
        Remedy::Workload("have the program close or reopen it before the dump"),
    ],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Path,
    find: |rule, ctx, sink| {
        let runs_on = ctx.host.options.leave_running == Some(true);
        // With the link that dump is made: LINK_REMAP_LEFT.
        let link = if runs_on { ctx.host.gate(&[Opt::LinkRemap]) } else { Gate::InForce };
        for bad in paths_with(ctx, Problem::Unlinked) {
            let f = bad.finding(rule).num("nlink", bad.file.attr.nlink);
            let f = if runs_on { f.term("left", "gone") } else { f.term("kept", "link") };
            sink.push_unless(bad.unless.or(link), f);
        }
    },
};

pub(crate) static LINK_REMAP_LEFT: Rule = Rule {
    id: "link-remap-left",
    summary: "An open file whose name was deleted, with --link-remap and --leave-running: the dump cannot be restored.",
    group: "Dumped, but not restored",
    condition: "An open file has lost the name it was opened by, but has another one, as in link-remap-needed, and both --link-remap \
           and --leave-running are given. The images name the temporary hard link, which CRIU takes away when the tree runs on. \
           --leave-stopped leaves it there.",
    message: "{what} {path}: the images need the link that --link-remap makes, which --leave-running takes away again",
    criu: &["{at the restore} Can't link %s -> %s: No such file or directory"],
    source: "criu/cr-dump.c:cr_dump_finish, criu/files-reg.c:delete_link_remaps",
    versions: Versions::All,
    remedies: &[
        Remedy::External("{key}"),
        Remedy::Workload("dump without --leave-running"),
        Remedy::Workload("have the program close or reopen it before the dump"),
    ],
    phase: Phase::Restore,
    when: When::Early,
    evidence: Evidence::Path,
    find: |rule, ctx, sink| {
        let options = &ctx.host.options;
        if options.link_remap != Some(true) || options.leave_running == Some(false) {
            return;
        }
        let known = if options.leave_running.is_some() { Gate::InForce } else { Gate::OPTION_UNKNOWN };
        for bad in paths_with(ctx, Problem::Unlinked) {
            sink.push_unless(bad.unless.or(known), bad.finding(rule));
        }
    },
};

pub(crate) static LINK_REMAP_FAILED: Rule = Rule {
    id: "link-remap-failed",
    summary: "An open file or directory whose name was deleted, and to which no hard link can be made.",
    group: "Paths",
    condition: "An open file has lost the name it was opened by although its link count is not 0, and no hard link can be made \
           to it: it is a directory, lies on a read-only mount, or on cgroupfs or sysfs, which keep the link count of what \
           was removed, or the directory it was in is hidden by another mount, or it is of a lower layer of an overlayfs that \
           is not mounted on /: that shows the link count of the layer. CRIU is refused by the kernel when it tries, with \
           --link-remap; without the option it does not even try. Where the layers of an overlayfs cannot be looked at, a \
           removed file with a name left is only a warning, and only with --link-remap.",
    message: "{what} {path}: that name is gone, and no hard link can be made to {object?kernfs=what was removed from this file system\
           |read-only=a file on a mount that is read-only|directory=a directory|layer=a file of a lower layer of overlayfs\
           |hidden=a file on a mount that another one hides there}",
    criu: &["Can't link remap to %s: Operation not permitted", "{without --link-remap} Can't create link remap for %s. Use link-remap option."],
    source: "criu/files-reg.c:create_link_remap",
    versions: Versions::All,
    remedies: &[
        Remedy::External("{key}"),
        Remedy::Workload("have the program close it, or leave the directory, before the dump"),
    ],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Path,
    find: |rule, ctx, sink| {
        for bad in &ctx.path_problems {
            let object = match bad.problem {
                Problem::Unlinkable(Unlinkable::Kernfs) => "kernfs",
                Problem::Unlinkable(Unlinkable::ReadOnly) => "read-only",
                Problem::Unlinkable(Unlinkable::Directory) => "directory",
                Problem::Unlinkable(Unlinkable::Layer) => "layer",
                Problem::Unlinkable(Unlinkable::Beside) => "hidden",
                _ => continue,
            };
            sink.push_unless(bad.unless, bad.finding(rule).term("object", object));
        }
    },
};

pub(crate) static NFS_SILLY: Rule = Rule {
    id: "nfs-silly",
    summary: "An open file that was deleted on NFS (.nfs and a long number).",
    group: "Paths",
    condition:
        "A file on NFS is named .nfs and 24 hexadecimal digits: what is left there of a removed file that is open. Any \
           file with such a name counts.",
    message: "{what} {path}, a removed file on NFS",
    criu: &["Can't create link remap for %s. Use link-remap option."],
    source: "criu/files-reg.c:nfs_silly_rename",
    versions: Versions::All,
    remedies: &[
        Remedy::Option(Opt::LinkRemap),
        Remedy::External("{key}"),
        Remedy::Workload("have the program close it before the dump"),
    ],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for bad in paths_with(ctx, Problem::Silly) {
            sink.push_unless(bad.unless, bad.finding(rule));
        }
    },
};
