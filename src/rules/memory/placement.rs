//! Mappings that are refused for where and how they lie.

use crate::criu::Release;
use crate::parse::maps::Vma;
use crate::rules::memory::mapping::is_known_vvar;
use crate::rules::{Evidence, Finding, Phase, Remedy, Rule, Value, Versions, When};
use crate::snapshot::Probe;

pub(crate) static VMA_VVAR_GAP: Rule = Rule {
    id: "vma-vvar-gap",
    summary: "A program that has moved or unmapped a part of the kernel's time pages (vvar).",
    group: "Mappings",
    condition: "The areas with the time data of the vdso do not lie side by side: the program has moved one of them, or unmapped a \
           part.",
    message: "mapping {range} {name}, apart from the one at {before}",
    criu: &["two nonconsecutive vvar vma-s: %lx-%lx %lx-%lx"],
    source: "criu/proc_parse.c:parse_smaps",
    versions: Versions::Since(Release::V4_1),
    remedies: &[Remedy::Workload("run the program without what moves or unmaps its [vvar]")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for task in ctx.live_tasks() {
            for (before, m) in task.maps.iter().zip(task.maps.iter().skip(1)) {
                let (before, m) = (&before.vma, &m.vma);
                if !is_known_vvar(ctx, before) || !is_known_vvar(ctx, m) || before.end == m.start {
                    continue;
                }
                let finding = Finding::on_mapping(rule, task, m.start, m.end)
                    .fact("name", Value::Text(m.path.clone()))
                    .fact("before", Value::Hex(before.start));
                sink.push(finding);
            }
        }
    },
};

/// One file, as CRIU compares it (`vfi_equal`): it asks about the first of successive mappings of a file only.
fn same_file(a: &Vma, b: &Vma) -> bool {
    (a.major, a.minor, a.ino) == (b.major, b.minor, b.ino)
}

pub(crate) static VMA_SYSV_PRIVATE: Rule = Rule {
    id: "vma-sysv-private",
    summary: "A private mapping of a System V shared memory segment.",
    group: "System V shared memory",
    condition:
        "A System V shared memory segment is mapped privately, by way of /proc/PID/map_files: shmat cannot do it.",
    message: "private mapping {range} of System V shared memory, {path}",
    criu: &["Bogus mapping 0x%lx-0x%lx (flags: %#x vm_file_fd: %d)"],
    source: "criu/proc_parse.c:handle_vma",
    versions: Versions::All,
    remedies: &[Remedy::Workload("have the program unmap it before the dump")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for task in ctx.live_tasks() {
            let before = std::iter::once(None).chain(task.maps.iter().map(Some));
            for (m, before) in task.maps.iter().zip(before) {
                let segment = m.vma.path.starts_with(b"/SYSV")
                    && m.file.as_ref().is_some_and(|f| ctx.snap.kernel.shmem.contains(&f.attr.dev));
                if m.vma.shared || !segment || before.is_some_and(|b| same_file(&b.vma, &m.vma)) {
                    continue;
                }
                let finding = Finding::on_mapping(rule, task, m.vma.start, m.vma.end)
                    .fact("path", Value::Text(m.vma.unescaped()));
                sink.push(finding);
            }
        }
    },
};

/// The `[vsyscall]` page of x86-64 lies in the kernel's half of the addresses.
const KERNEL_HALF: u64 = 1 << 63;

pub(crate) static NO_EXEC_VMA: Rule = Rule {
    id: "no-exec-vma",
    summary: "A process without any executable memory, in which CRIU cannot run its code.",
    group: "Mappings",
    condition: "No mapping of the process is executable: CRIU has no place for its first instructions.",
    message: "none of its {count} mappings is executable",
    criu: &["No suitable VM found"],
    source: "criu/parasite-syscall.c:get_exec_start, parasite_infect_seized",
    versions: Versions::All,
    remedies: &[],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for task in ctx.live_tasks() {
            let maps = &task.maps;
            if maps.is_empty() || maps.iter().any(|m| m.vma.exec && m.vma.start < KERNEL_HALF) {
                continue;
            }
            if ctx.index.unchecked(task.pid).any(|u| u.probe == Probe::Maps) {
                continue;
            }
            sink.push(Finding::on_task(rule, task).num("count", maps.len() as i64));
        }
    },
};

pub(crate) static EXEC_VMA_SHARED: Rule = Rule {
    id: "exec-vma-shared",
    summary: "A process whose first executable memory is shared and read-only, as that of PHP with the JIT of opcache.",
    group: "Mappings",
    condition: "The executable mapping with the lowest address is shared (MAP_SHARED) and not writable. CRIU puts its first system call \
           there by ptrace, and the kernel makes a private copy for that of private mappings only. The memory behind it is a \
           regular file, a memfd or anonymous.",
    message: "its first executable mapping, {range}, {path}, is shared and not writable: CRIU cannot put its system calls there",
    criu: &["POKEDATA failed", "Can't inject memfd args (pid: %d)", "Can't inject syscall blob (pid: %d)"],
    source: "criu/parasite-syscall.c:get_exec_start, compel/src/lib/infect.c:parasite_memfd_exchange, \
             compel/src/lib/ptrace.c:ptrace_poke_area",
    versions: Versions::All,
    remedies: &[
        Remedy::Workload("run PHP without the JIT of opcache (opcache.jit=disable and opcache.jit_buffer_size=0)"),
        Remedy::Workload("have the program map its generated code above its own, or privately"),
    ],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Process,
    find: |rule, ctx, sink| {
        for task in ctx.live_tasks() {
            let first = task.maps.iter().find(|m| m.vma.exec && m.vma.start < KERNEL_HALF);
            let Some(m) = first.filter(|m| m.vma.shared && !m.vma.write) else { continue };
            // A driver may let ptrace write to its mapping.
            let memory = m.file.as_ref().is_some_and(|f| f.kind() == libc::S_IFREG);
            if !memory || m.vma.has_flag(b"io") || m.vma.has_flag(b"pf") {
                continue;
            }
            let finding = Finding::on_mapping(rule, task, m.vma.start, m.vma.end)
                .fact("path", Value::Text(m.vma.unescaped()));
            let whole = !ctx.index.unchecked(task.pid).any(|u| u.probe == Probe::Maps);
            sink.push(if whole { finding } else { finding.doubt() });
        }
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::maps;
    use crate::rules::testkit::*;
    use crate::rules::Verdict;
    use crate::snapshot::{Dev, Mapping, Snapshot, Unchecked};

    const SHMEM: Dev = Dev { major: 0, minor: 1 };

    fn mapped(lines: &[&str]) -> Snapshot {
        let mut s = snap(vec![]);
        s.kernel.shmem = vec![SHMEM];
        let maps = lines.iter().map(|line| {
            let vma = maps::line_of_maps(line.as_bytes()).unwrap();
            let file = (vma.ino != 0).then(|| {
                let mut f = linked(libc::S_IFREG, vma.ino);
                f.attr.dev = Dev { major: vma.major, minor: vma.minor };
                f
            });
            Mapping::new(vma, file)
        });
        s.tasks.first_mut().unwrap().maps = maps.collect();
        s
    }

    #[test]
    fn vvar_areas_apart() {
        let lie = |lines: &[&str]| verdict(&VMA_VVAR_GAP, &mapped(lines), &host());
        let first = "7000-a000 r--p 0 00:00 0 [vvar]";
        assert_eq!(lie(&[first, "b000-c000 r--p 0 00:00 0 [vvar]"]), Some(Verdict::Refuse));
        assert_eq!(lie(&[first, "b000-c000 r--p 0 00:00 0 [vvar_vclock]"]), Some(Verdict::Refuse));
        assert_eq!(lie(&[first, "a000-c000 r--p 0 00:00 0 [vvar_vclock]"]), None);
        // Only neighbours in the list are compared.
        let between = [first, "b000-c000 rw-p 0 00:00 0", "d000-e000 r--p 0 00:00 0 [vvar_vclock]"];
        assert_eq!(lie(&between), None);
        let apart = mapped(&[first, "b000-c000 r--p 0 00:00 0 [vvar]"]);
        assert_eq!(verdict(&VMA_VVAR_GAP, &apart, &at_release(Release::V4_0)), None);
    }

    #[test]
    fn a_segment_mapped_privately() {
        let lie = |lines: &[&str]| verdict(&VMA_SYSV_PRIVATE, &mapped(lines), &host());
        let private = "8000-9000 rw-p 0 00:01 5 /SYSV00000000 (deleted)";
        assert_eq!(lie(&[private]), Some(Verdict::Refuse));
        assert_eq!(lie(&["7000-8000 rw-p 0 00:00 0", private]), Some(Verdict::Refuse));
        assert_eq!(lie(&["7000-8000 rw-s 0 00:01 5 /SYSV00000000 (deleted)", private]), None);
        assert_eq!(lie(&["8000-9000 rw-s 0 00:01 5 /SYSV00000000 (deleted)"]), None);
        assert_eq!(lie(&["8000-9000 rw-p 0 08:01 5 /SYSV00000000"]), None);
    }

    #[test]
    fn the_first_executable_mapping_has_to_be_writable_for_a_tracer() {
        let lie = |lines: &[&str]| verdict(&EXEC_VMA_SHARED, &mapped(lines), &host());
        let program = "7000-8000 r-xp 0 08:01 9 /bin/php";
        let jit = "5000-6000 r-xs 0 00:01 5 /dev/zero (deleted)";
        assert_eq!(lie(&[jit, program]), Some(Verdict::Refuse));
        assert_eq!(lie(&["4000-5000 rw-s 0 00:01 5 /dev/zero (deleted)", jit, program]), Some(Verdict::Refuse));
        assert_eq!(lie(&[&jit.replace("r-xs", "--xs"), program]), Some(Verdict::Refuse));
        assert_eq!(lie(&[&jit.replace("r-xs", "rwxs"), program]), None);
        assert_eq!(lie(&[&jit.replace("r-xs", "r-xp"), program]), None);
        assert_eq!(lie(&[&jit.replace("r-xs", "r--s"), program]), None);
        assert_eq!(lie(&["4000-5000 r-xp 0 08:01 9 /bin/php", jit]), None);
        let mut s = mapped(&[jit, program]);
        s.unchecked.push(Unchecked { pid: 100, fd: None, probe: Probe::Maps, errno: 0 });
        assert_eq!(verdict(&EXEC_VMA_SHARED, &s, &host()), Some(Verdict::Warn), "one may lie before it");
        let mut device = mapped(&[jit, program]);
        device.tasks[0].maps[0].file = None;
        assert_eq!(verdict(&EXEC_VMA_SHARED, &device, &host()), None, "not known what it is");
    }

    #[test]
    fn nothing_executable() {
        let data = "7000-8000 rw-p 0 00:00 0";
        let vsyscall = "ffffffffff600000-ffffffffff601000 --xp 0 00:00 0 [vsyscall]";
        let s = mapped(&[data, vsyscall]);
        assert_eq!(verdict(&NO_EXEC_VMA, &s, &host()), Some(Verdict::Refuse));
        assert_eq!(verdict(&NO_EXEC_VMA, &mapped(&[data, "8000-9000 r-xp 0 00:00 0 [vdso]"]), &host()), None);
        assert_eq!(verdict(&NO_EXEC_VMA, &mapped(&[]), &host()), None);
        let mut partly = s;
        partly.unchecked.push(Unchecked { pid: 100, fd: None, probe: Probe::Maps, errno: 0 });
        assert_eq!(verdict(&NO_EXEC_VMA, &partly, &host()), None);
    }
}
