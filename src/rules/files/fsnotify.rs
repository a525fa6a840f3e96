//! inotify and fanotify descriptors.

use crate::criu::{Cap, Gate, Opt};
use crate::criu_model::watches::{resolution, WatchResolution};
use crate::parse::fdinfo::FanotifyObject;
use crate::parse::mountinfo::MountInfo;
use crate::rules::{Ctx, Evidence, Finding, Phase, Remedy, Rule, Sink, Value, Versions, When};
use crate::snapshot::{OpenFile, Task, Watch};

/// What is known about one watch.
struct Lost<'a> {
    task: &'a Task,
    file: &'a OpenFile,
    watch: &'a Watch,
    resolution: WatchResolution,
    /// First mount of that superblock which CRIU collects.
    mount: Option<&'a MountInfo>,
}

/// Every watch of the tree that CRIU might not find.
fn lost<'a>(ctx: &Ctx<'a>, mut judge: impl FnMut(Lost<'a>)) {
    for (task, file) in ctx.files() {
        for watch in file.watches().into_iter().flat_map(|facts| &facts.watches) {
            let resolution = resolution(watch, ctx.host);
            if matches!(resolution, WatchResolution::Path | WatchResolution::Irmap) {
                continue;
            }
            let mount = ctx.mounts.first_of_device(watch.dev).map(|n| n.info);
            judge(Lost { task, file, watch, resolution, mount });
        }
    }
}

impl Lost<'_> {
    fn fstype(&self) -> &[u8] {
        self.mount.map(|m| &*m.fstype.0).unwrap_or_default()
    }

    fn is_volatile_tmpfs(&self) -> bool {
        matches!(self.fstype(), b"tmpfs" | b"devtmpfs")
    }

    fn finding(&self, rule: &Rule) -> Finding {
        let Watch { dev, ino, .. } = *self.watch;
        let kind = if self.file.info.as_ref().is_some_and(|i| i.inotify.is_empty()) { "fanotify" } else { "inotify" };
        Finding::on_file(rule, self.task, self.file)
            .key(format!("watch:{}:{}:{}:{}:{ino}", self.task.pid, self.file.origin, dev.major, dev.minor))
            .term("class", kind)
            .fact("dev", Value::Dev(dev))
            .count("ino", ino)
            .fact_opt("fstype", self.mount.map(|m| Value::Text(m.fstype.clone())))
            .fact_opt("mountpoint", self.mount.map(|m| Value::Text(m.mountpoint.clone())))
    }
}

pub(crate) static INOTIFY_HANDLE: Rule = Rule {
    id: "inotify-handle",
    summary: "A watched file or directory to which CRIU finds no way back.",
    group: "Event files",
    condition: "A watched inode cannot be opened by its file handle on any collected mount of its device (file systems like \
           procfs, sysfs and, up to CRIU 4.2, overlayfs), and is not found below the directories that CRIU searches: \
           /etc, /var/spool, /var/log, those of dbus, polkit and udev, and each --irmap-scan-path. Where these have more than \
           100,000 names, the search is given up, and this is a warning.",
    message: "{class} watch of inode {ino} on {dev}[, {fstype} mounted on {mountpoint}], which cannot be opened by its handle",
    criu: &["Handle 0x%x:0x%lx cannot be opened", "Can't dump that handle"],
    source: "criu/fsnotify.c:check_open_handle",
    versions: Versions::All,
    remedies: &[
        Remedy::Modelled("irmap-scan-path", "{dir}"),
        Remedy::Workload("have the program remove the watch before the dump"),
    ],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Tree,
    find: |rule, ctx, sink| {
        lost(ctx, |l| {
            // 4.3 walks an overlayfs for the inode.
            if ctx.host.has(Cap::OverlayWatches) && l.fstype() == b"overlay" {
                return;
            }
            let gate = match l.resolution {
                WatchResolution::Nowhere => Gate::InForce,
                // CRIU cannot even parse such a line.
                _ if l.watch.handle.is_none() => Gate::InForce,
                // The rules below.
                WatchResolution::Lost => return,
                WatchResolution::NoPath if l.is_volatile_tmpfs() => return,
                WatchResolution::NoPath => match ctx.host.gate(&[Opt::ForceIrmap]) {
                    // Without the option CRIU is content with a handle that opens; the search was not made for it.
                    Gate::InForce => return,
                    _ => Gate::OPTION_UNKNOWN,
                },
                WatchResolution::Unknown => Gate::FACT_UNKNOWN,
                WatchResolution::Path | WatchResolution::Irmap | WatchResolution::Later => return,
            };
            let dir = l.mount.filter(|m| *m.fstype == *b"overlay").map(|_| Value::Term("DIR".into()));
            sink.push_unless(gate, l.finding(rule).fact_opt("dir", dir));
        });
    },
};

pub(crate) static INOTIFY_TMPFS: Rule = Rule {
    id: "inotify-tmpfs",
    summary: "A watched file or directory on tmpfs that was deleted or is hidden.",
    group: "Event files",
    condition: "A watched inode on tmpfs or devtmpfs opens by its handle, but no path leads to it: it was removed, or is hidden \
           by a mount.",
    message: "{class} watch of inode {ino} on {dev}[, {fstype} mounted on {mountpoint}], to which no path leads any more",
    criu: &["Can't find suitable path for handle (dev %#x ino %#lx): %d"],
    source: "criu/fsnotify.c:check_open_handle",
    versions: Versions::All,
    remedies: &[Remedy::Workload("have the program remove the watch before the dump")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Tree,
    find: |rule, ctx, sink| {
        lost(ctx, |l| {
            if matches!(l.resolution, WatchResolution::NoPath | WatchResolution::Lost) && l.is_volatile_tmpfs() {
                sink.push(l.finding(rule));
            }
        });
    },
};

pub(crate) static INOTIFY_FORCE_IRMAP: Rule = Rule {
    id: "inotify-force-irmap",
    summary: "A watched file or directory that was deleted or is hidden, with --force-irmap.",
    group: "Event files",
    condition: "--force-irmap is given, and a watched inode opens by its handle but no path leads to it: it was removed, or is \
           hidden by a mount. CRIU searches for it then, below the same directories as for one that does not open, and does \
           not find it. Without the option it is content with the handle.",
    message: "{class} watch of inode {ino} on {dev}[, {fstype} mounted on {mountpoint}], to which no path leads any more, under \
           --force-irmap",
    criu: &["Handle 0x%x:0x%lx cannot be opened", "Can't dump that handle"],
    source: "criu/fsnotify.c:check_open_handle",
    versions: Versions::All,
    remedies: &[
        Remedy::Workload("dump without --force-irmap"),
        Remedy::Workload("have the program remove the watch before the dump"),
    ],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Tree,
    find: |rule, ctx, sink| {
        lost(ctx, |l| {
            if l.resolution == WatchResolution::Lost && !l.is_volatile_tmpfs() {
                sink.push(l.finding(rule));
            }
        });
    },
};

pub(crate) static FANOTIFY_MOUNT: Rule = Rule {
    id: "fanotify-mount",
    summary: "A fanotify mark on a mount that the tree does not see.",
    group: "Event files",
    condition: "A fanotify mark is on a mount that is not in the mount tables CRIU collects.",
    message: "fanotify mark on mount {mnt_id}, which is in no mount namespace of the tree",
    criu: &["Can't find mnt_id 0x%x"],
    source: "criu/fsnotify.c:check_one_mark",
    versions: Versions::All,
    remedies: &[Remedy::Workload("have the program remove the mark before the dump")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Mounts,
    find: |rule, ctx, sink: &mut Sink| {
        if ctx.snap.mounts.is_empty() {
            return;
        }
        for (task, file) in ctx.files() {
            for mark in file.info.iter().flat_map(|i| &i.fanotify_marks) {
                let FanotifyObject::Mount { mnt_id } = mark.on else { continue };
                if ctx.mounts.by_id(u64::from(mnt_id)).is_none() {
                    let f = Finding::on_file(rule, task, file)
                        .key(format!("mark:{}:{}:{mnt_id}", task.pid, file.origin))
                        .num("mnt_id", mnt_id);
                    sink.push(if ctx.snap.knows_mounts() { f } else { f.doubt() });
                }
            }
        }
    },
};
