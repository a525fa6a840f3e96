//! Memory mappings.

use crate::criu::{Cap, Hook, Opt, Release};
use crate::parse::maps::Vma;
use crate::rules::{Ctx, Evidence, Finding, Phase, Remedy, Rule, Sink, Value, Versions, When};
use crate::snapshot::{Dev, Mapping, Task};

fn mappings<'a>(ctx: &'a Ctx) -> impl Iterator<Item = (&'a Task, &'a Mapping)> + 'a {
    ctx.live_tasks().flat_map(|t| t.maps.iter().map(move |m| (t, m)))
}

/// A mapping of something that CRIU finds out to be no file by failing to open it (ENXIO): anonymous inodes and
/// secretmem. Sockets and AIO rings have code of their own.
fn is_anon_object(m: &Mapping) -> bool {
    let vma = &m.vma;
    if vma.path.starts_with(b"anon_inode:") {
        return true;
    }
    // Of no type: a DMA buffer, for one. CRIU goes by the name of a ring, too.
    if m.file.as_ref().is_some_and(|f| f.kind() == 0) {
        return !vma.path.starts_with(b"/[aio]");
    }
    // secretmem has a regular inode of a pseudo file system (mm/secretmem.c), so its name is all there is to go by:
    // it is never linked, and a file of a real file system has a device with a major number or is found by its inode.
    vma.major == 0 && *vma.path == *b"/secretmem (deleted)"
}

pub(crate) static VMA_ANON_INODE: Rule = Rule {
    id: "vma-anon-inode",
    summary: "Mapped memory of a kernel object (io_uring, perf, KVM, BPF, memfd_secret) that cannot be opened again.",
    group: "Mappings",
    condition:
        "A mapping of a kernel object that cannot be opened through map_files: io_uring rings, perf event buffers, KVM \
           vcpus, BPF maps and ring buffers, memfd_secret, DMA buffers. No plugin is asked.",
    message: "mapping {range} of {object}",
    criu: &["Unknown shit %o (%s)", "Can't open %d's mapfile link %lx"],
    source: "criu/proc_parse.c:vma_get_mapfile",
    versions: Versions::All,
    remedies: &[Remedy::Workload("have the program unmap it before the dump, or run it without that interface")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for (task, m) in mappings(ctx).filter(|(_, m)| is_anon_object(m)) {
            let finding = Finding::on_mapping(rule, task, m.vma.start, m.vma.end)
                .key(format!("object:{}:{}", task.pid, m.vma.path.escaped()))
                .fact("object", Value::Text(m.vma.unescaped()));
            sink.push(finding);
        }
    },
};

pub(crate) static VMA_DEVICE: Rule = Rule {
    id: "vma-device",
    summary: "Mapped memory of a device.",
    group: "Mappings",
    condition: "A mapping of a file that is neither regular nor /dev/zero.",
    message: "mapping {range} of {class} {dev}[, driver {driver}], {path}",
    criu: &["handle_device_vma plugin failed: %s", "Can't handle non-regular mapping on %d's map %lx"],
    source: "criu/proc_parse.c:handle_vma",
    versions: Versions::All,
    remedies: &[Remedy::Workload("have the program unmap {path} before the dump"), Remedy::Hook(Hook::HandleDeviceVma)],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for (task, m) in mappings(ctx) {
            let Some(file) = &m.file else { continue };
            let class = match file.kind() {
                libc::S_IFCHR if file.attr.rdev != Dev::ZERO => "character device",
                libc::S_IFBLK => "block device",
                _ => continue,
            };
            let driver = crate::rules::files::device::driver(&ctx.snap.kernel, file.attr.rdev, file.is_blkdev());
            let gate = ctx.host.gate_gpu(driver.as_deref());
            let finding = Finding::on_mapping(rule, task, m.vma.start, m.vma.end)
                .key(format!("map-device:{}:{}:{}", task.pid, file.attr.rdev.major, file.attr.rdev.minor))
                .term("class", class)
                .fact("dev", Value::Dev(file.attr.rdev))
                .fact("path", Value::Text(m.vma.unescaped()))
                .fact_opt("driver", driver.map(Value::Text));
            sink.push_unless(gate, finding);
        }
    },
};

/// The vvar family as this CRIU knows it by name: the kernel maps them VM_IO | VM_PFNMAP, and they alone are exempt.
pub(crate) fn is_known_vvar(ctx: &Ctx, vma: &Vma) -> bool {
    match &*vma.path {
        b"[vvar]" => vma.read,
        b"[vvar_vclock]" => vma.read && ctx.host.has(Cap::VvarVclock),
        _ => false,
    }
}

pub(crate) static VMA_VVAR_VCLOCK: Rule = Rule {
    id: "vma-vvar-vclock",
    summary: "The time page that kernels from 6.13 on map into every process, which CRIU before 4.1 does not know.",
    group: "Mappings",
    condition:
        "The kernel (6.13+) maps the time data of the vdso as two areas, and this CRIU knows only the first: every \
           process is refused.",
    message: "mapping {range} [vvar_vclock], which this CRIU does not know",
    criu: &["Unsupported mapping found %016lx-%016lx"],
    source: "criu/proc_parse.c:handle_vma, vma_list_add",
    versions: Versions::Before(Release::V4_1),
    remedies: &[Remedy::Release(Release::V4_1), Remedy::Workload("boot a kernel older than 6.13")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for (task, m) in mappings(ctx).filter(|(_, m)| *m.vma.path == *b"[vvar_vclock]") {
            let finding = Finding::on_mapping(rule, task, m.vma.start, m.vma.end).key("vvar_vclock".into());
            sink.push(finding);
        }
    },
};

pub(crate) static VMA_IO_PFNMAP: Rule = Rule {
    id: "vma-io-pfnmap",
    summary: "Mapped memory that is not memory: the registers or pages of a device.",
    group: "Mappings",
    condition:
        "A mapping of device memory (`io` or `pf` in its VmFlags) that is not a readable vvar area, not a shared mapping of \
           a file and not the uprobes area. vmsplice cannot read such pages.",
    message: "mapping {range} of device memory (VmFlags io/pf)[, {path}]",
    criu: &["Unsupported mapping found %016lx-%016lx"],
    source: "criu/proc_parse.c:parse_vma_vmflags, vma_list_add",
    versions: Versions::All,
    remedies: &[Remedy::Workload("have the program unmap it before the dump")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink: &mut Sink| {
        for (task, m) in mappings(ctx) {
            let vma = &m.vma;
            // The vvar areas have the flags, and are known by their names only as long as they are readable.
            let vvar = matches!(&*vma.path, b"[vvar]" | b"[vvar_vclock]");
            if !(vma.has_flag(b"io") || vma.has_flag(b"pf") || vvar) {
                continue;
            }
            // These have rules of their own.
            let named = *vma.path == *b"[uprobes]"
                || (*vma.path == *b"[vvar_vclock]" && !ctx.host.has(Cap::VvarVclock));
            let file_shared = vma.shared && (vma.ino != 0 || vma.major != 0 || vma.minor != 0);
            // A device mapping is judged by vma-device, which comes first.
            let device = m.file.as_ref().is_some_and(|f| f.is_chrdev() && f.attr.rdev != Dev::ZERO);
            if named || is_known_vvar(ctx, vma) || file_shared || device || is_anon_object(m) {
                continue;
            }
            let path = (!vma.path.is_empty()).then(|| Value::Text(vma.unescaped()));
            let finding = Finding::on_mapping(rule, task, vma.start, vma.end).fact_opt("path", path);
            sink.push(finding);
        }
    },
};

pub(crate) static VMA_UPROBES: Rule = Rule {
    id: "vma-uprobes",
    summary: "The area that the kernel maps into a process when a uprobe was set in it (perf, bpftrace).",
    group: "Mappings",
    condition:
        "The kernel has put a [uprobes] area into the process, because a uprobe was set in one of its files; the area \
           stays when the probe is removed.",
    message: "mapping {range} [uprobes]: a uprobe was set in this process",
    criu: &[
        "PID %d has uprobes vma. Consider using --allow-uprobes.",
        "{before 4.2} Unsupported mapping found %016lx-%016lx",
    ],
    source: "criu/proc_parse.c:handle_vma",
    versions: Versions::All,
    remedies: &[
        Remedy::Option(Opt::AllowUprobes),
        Remedy::Release(Release::V4_2),
        Remedy::Workload("remove the uprobes and restart the program"),
    ],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for (task, m) in mappings(ctx).filter(|(_, m)| *m.vma.path == *b"[uprobes]") {
            sink.push(Finding::on_mapping(rule, task, m.vma.start, m.vma.end));
        }
    },
};

pub(crate) static GUARD_PAGES_OLD_CRIU: Rule = Rule {
    id: "guard-pages-old-criu",
    summary: "Guard regions of thread stacks (glibc 2.42), which CRIU before 4.2 tries to read.",
    group: "Mappings",
    condition: "A private mapping has a guard region (madvise(MADV_GUARD_INSTALL), Linux 6.13+; glibc 2.42 makes them for thread \
           stacks) and this CRIU does not know them: it tries to read the pages. The kernel tells where they are from 6.15 \
           on; before, nothing is known.",
    message: "guard region {range} (MADV_GUARD_INSTALL), which this CRIU cannot dump",
    criu: &["Can't splice all pages to pipe (%ld/%ld)", "Can't dump page with parasite"],
    source: "criu/page-xfer.c, criu/mem.c:__parasite_dump_pages_seized",
    versions: Versions::Without(Cap::GuardRegions),
    remedies: &[
        Remedy::Release(Release::V4_2),
        Remedy::Workload("run the program with a C library that makes no guard regions (glibc before 2.42)"),
    ],
    phase: Phase::Pages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for task in ctx.live_tasks() {
            if let Some((start, end)) = task.guard {
                sink.push(Finding::on_mapping(rule, task, start, end));
            }
        }
    },
};

pub(crate) static SYSV_SHM_NO_IPCNS: Rule = Rule {
    id: "sysv-shm-no-ipcns",
    summary: "System V shared memory in a tree that uses the host's IPC namespace.",
    group: "System V shared memory",
    condition: "A System V shared memory segment is attached and the root task lives in CRIU's own IPC namespace: the segment \
           could only be recreated in a namespace of its own.",
    message: "mapping {range} of System V shared memory, key {key}, id {shmid}, in a tree that shares CRIU's IPC namespace",
    criu: &["Task %d with SysVIPC shmem map @%lx doesn't live in IPC ns"],
    source: "criu/cr-dump.c:check_sysvipc_map_dump",
    versions: Versions::All,
    remedies: &[Remedy::Workload(
        "run the tree in an IPC namespace of its own (podman, docker: without --ipc=host), or detach the segment before the dump",
    )],
    phase: Phase::AfterPages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        if ctx.snap.root_shares(|n| n.ipc) != Some(true) {
            return;
        }
        for (task, m) in mappings(ctx) {
            // The kernel names the file of a segment after its key and gives it the id as its inode (ipc/shm.c:newseg),
            // on the internal shmem mount, which has no major number.
            let Some(key) = m.vma.path.strip_prefix(b"/SYSV") else { continue };
            // A private one is refused before, see vma-sysv-private.
            if m.vma.major != 0 || !m.vma.shared {
                continue;
            }
            let key = key.get(..8).unwrap_or(key);
            let finding = Finding::on_mapping(rule, task, m.vma.start, m.vma.end)
                .key(format!("sysv:{}", m.vma.ino))
                .fact("key", Value::Text(key.into()))
                .fact("shmid", Value::Num(m.vma.ino as i64));
            sink.push(finding);
        }
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::maps::{self, VmFlags};
    use crate::rules::testkit::*;
    use crate::rules::Verdict;
    use crate::snapshot::Snapshot;

    fn mapped(line: &str, flags: &[&[u8; 2]], file: Option<(u32, Dev)>) -> Snapshot {
        let mut vma = maps::line_of_maps(line.as_bytes()).unwrap();
        vma.flags = Some(VmFlags(flags.iter().map(|f| **f).collect()));
        let file = file.map(|(kind, rdev)| {
            let mut f = crate::rules::testkit::linked(kind, 5);
            f.attr.rdev = rdev;
            f
        });
        let mut s = snap(vec![]);
        s.tasks.first_mut().unwrap().maps.push(Mapping::new(vma, file));
        s
    }

    #[test]
    fn anonymous_objects() {
        for path in
            ["anon_inode:[io_uring]", "anon_inode:[perf_event]", "anon_inode:kvm-vcpu:0", "/secretmem (deleted)"]
        {
            let s = mapped(&format!("7f0000000000-7f0000001000 rw-s 00000000 00:10 12 {path}"), &[], None);
            assert!(verdict(&VMA_ANON_INODE, &s, &host()).is_some(), "{path}");
            assert_eq!(verdict(&VMA_IO_PFNMAP, &s, &host()), None, "{path}");
        }
        let typed = |path, kind| {
            let line = format!("7f0000000000-7f0000001000 rw-s 00000000 00:0c 3 {path}");
            mapped(&line, &[b"io", b"pf"], Some((kind, Dev::default())))
        };
        let dmabuf = typed("/dmabuf:", 0);
        assert_eq!(verdict(&VMA_ANON_INODE, &dmabuf, &host()), Some(Verdict::Refuse));
        assert_eq!(verdict(&VMA_IO_PFNMAP, &dmabuf, &host()), None);
        assert_eq!(verdict(&VMA_ANON_INODE, &typed("/dmabuf:", libc::S_IFREG), &host()), None);
        assert_eq!(verdict(&VMA_ANON_INODE, &typed("/[aio] (deleted)", 0), &host()), None);
        for ok in ["/tmp/anon_inode:[io_uring]", "/[aio] (deleted)", "[heap]", ""] {
            let s = mapped(&format!("7f0000000000-7f0000001000 rw-s 00000000 08:10 12 {ok}"), &[], None);
            assert_eq!(verdict(&VMA_ANON_INODE, &s, &host()), None, "{ok}");
        }
    }

    #[test]
    fn devices_but_zero() {
        let map = |major, minor, kind| {
            mapped(
                "7f0000000000-7f0000001000 rw-s 00000000 00:06 12 /dev/x",
                &[b"io", b"pf"],
                Some((kind, Dev { major, minor })),
            )
        };
        let mem = map(1, 1, libc::S_IFCHR);
        assert_eq!(verdict(&VMA_DEVICE, &mem, &host()), Some(Verdict::Refuse));
        assert_eq!(verdict(&VMA_DEVICE, &mem, &with_hook(Hook::HandleDeviceVma)), None);
        assert!(verdict(&VMA_DEVICE, &map(7, 0, libc::S_IFBLK), &host()).is_some());
        assert_eq!(verdict(&VMA_DEVICE, &map(1, 5, libc::S_IFCHR), &host()), None);
        assert_eq!(verdict(&VMA_DEVICE, &map(0, 0, libc::S_IFREG), &host()), None);
    }

    #[test]
    fn pfnmap_and_its_exceptions() {
        let io: &[&[u8; 2]] = &[b"rd", b"io"];
        let case =
            |line: &str, host: &crate::criu::Host| verdict(&VMA_IO_PFNMAP, &mapped(line, io, None), host).is_some();
        let h = host();
        assert!(case("7f00-8f00 rw-p 00000000 00:00 0 ", &h));
        assert!(case("7f00-8f00 rw-p 00000000 08:01 5 /x", &h));
        assert!(!case("7f00-8f00 rw-s 00000000 08:01 5 /sys/x/resource0", &h));
        assert!(!case("7f00-8f00 r--p 00000000 00:00 0 [vvar]", &h));
        assert!(case("7f00-8f00 ---p 00000000 00:00 0 [vvar]", &h));
        assert!(!case("7f00-8f00 r--p 00000000 00:00 0 [vvar_vclock]", &h));
        assert!(case("7f00-8f00 ---p 00000000 00:00 0 [vvar_vclock]", &h));
        assert!(!case("7f00-8f00 ---p 00000000 00:00 0 [vvar_vclock]", &at_release(Release::V4_0)));
        let no_flags = |line: &str| verdict(&VMA_IO_PFNMAP, &mapped(line, &[], None), &h);
        assert!(no_flags("7f00-8f00 ---p 00000000 00:00 0 [vvar]").is_some());
        assert_eq!(no_flags("7f00-8f00 r--p 00000000 00:00 0 [vvar]"), None);
        assert_eq!(verdict(&VMA_IO_PFNMAP, &mapped("7f00-8f00 rw-p 00000000 00:00 0 ", &[b"rd"], None), &h), None);
    }

    #[test]
    fn names_of_newer_kernels() {
        let s = mapped("7f00-8f00 r--p 00000000 00:00 0 [vvar_vclock]", &[b"io"], None);
        assert!(verdict(&VMA_VVAR_VCLOCK, &s, &at_release(Release::V4_0)).is_some());
        assert_eq!(verdict(&VMA_VVAR_VCLOCK, &s, &at_release(Release::V4_1)), None);
        let u = mapped("7fffffffe000-7ffffffff000 --xp 00000000 00:00 0 [uprobes]", &[b"io"], None);
        assert!(verdict(&VMA_UPROBES, &u, &host()).is_some());
        assert_eq!(verdict(&VMA_UPROBES, &u, &with(Opt::AllowUprobes)), None);
        assert_eq!(verdict(&VMA_UPROBES, &u, &unknown(Opt::AllowUprobes)), Some(Verdict::Warn));
        assert_eq!(verdict(&VMA_UPROBES, &u, &at_release(Release::V4_1)), Some(Verdict::Refuse));
    }

    #[test]
    fn guard_regions() {
        let mut s = snap(vec![]);
        s.tasks.first_mut().unwrap().guard = Some((0x7f00_0000_0000, 0x7f00_0000_1000));
        assert_eq!(verdict(&GUARD_PAGES_OLD_CRIU, &s, &at_release(Release::V4_1)), Some(Verdict::Refuse));
        assert_eq!(verdict(&GUARD_PAGES_OLD_CRIU, &s, &host()), None);
    }

    #[test]
    fn sysv_segments() {
        let mut s = mapped("7f00-8f00 rw-s 00000000 00:01 32769 /SYSV0000beef (deleted)", &[], None);
        assert!(verdict(&SYSV_SHM_NO_IPCNS, &s, &host()).is_some());
        s.tasks.first_mut().unwrap().ns.ipc = Some(7);
        assert_eq!(verdict(&SYSV_SHM_NO_IPCNS, &s, &host()), None);
        let file = mapped("7f00-8f00 rw-s 00000000 08:01 5 /SYSVx", &[], None);
        assert_eq!(verdict(&SYSV_SHM_NO_IPCNS, &file, &host()), None);
    }
}
