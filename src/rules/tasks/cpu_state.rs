//! The processor mode and state of the threads.

use crate::criu::{Cap, Gate, Release};
use crate::rules::{Evidence, Finding, Phase, Remedy, Rule, Value, Versions, When};
use crate::snapshot::{Regs, Task};

/// Bytes of NT_PRSTATUS of an x86 task in 32-bit mode (17 registers) and of a 64-bit one (27).
const REGS_32: usize = 68;
const REGS_64: usize = 216;
/// __USER_CS and __USER32_CS (arch/x86/include/asm/segment.h).
const USER_CS: u64 = 0x33;
const USER32_CS: u64 = 0x23;

/// Registers of the thread-group leader, which alone is judged (`arch_can_dump_task`).
fn leader_regs(task: &Task) -> Option<Regs> {
    task.threads.iter().find(|t| t.tid == task.pid)?.regs
}

pub(crate) static COMPAT_TASK: Rule = Rule {
    id: "compat-task",
    summary: "A 32-bit program, which this CRIU or this kernel cannot handle.",
    group: "Processor state",
    condition: "A process runs in 32-bit mode and CRIU cannot handle that: it is built without it, or the kernel lacks it \
           (CONFIG_IA32_EMULATION, before 4.12). What counts is the mode at the moment of the dump: x32 programs are 64-bit.",
    message: "runs in 32-bit mode, and {why?criu=this CRIU is built without 32-bit support\
           |kernel=this kernel does not let CRIU restore such tasks|unknown=it is not known whether this kernel lets CRIU restore such tasks}",
    criu: &["Can't dump task %d running in 32-bit mode"],
    source: "compel/arch/x86/src/lib/infect.c:arch_can_dump_task",
    versions: Versions::All,
    remedies: &[Remedy::Workload("use a CRIU built with 32-bit support on a kernel with CONFIG_IA32_EMULATION, or a 64-bit build of the program")],
    phase: Phase::BeforePages,
    when: When::Frozen,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        let (why, gate) = match (ctx.host.caps.compat, ctx.snap.kernel.compat) {
            (false, _) => ("criu", Gate::InForce),
            (true, Some(false)) => ("kernel", Gate::InForce),
            (true, None) => ("unknown", Gate::FACT_UNKNOWN),
            (true, Some(true)) => return,
        };
        for task in ctx.live_tasks() {
            match (leader_regs(task), task.elf_class) {
                (Some(regs), _) if regs.size == REGS_32 => sink.push_unless(gate, Finding::on_task(rule, task).term("why", why)),
                // The class of an x32 program is 32 as well, and a 32-bit program may have switched.
                (None, Some(1)) => sink.push(Finding::on_task(rule, task).term("why", why).doubt()),
                _ => {}
            }
        }
    },
};

pub(crate) static LDT_SELECTOR: Rule = Rule {
    id: "ldt-selector",
    summary: "A process in the middle of 16-bit code (dosemu, Wine).",
    group: "Processor state",
    condition: "The first thread of a process runs in a code segment of its own making (modify_ldt: dosemu, 16-bit programs under \
           Wine). A local descriptor table that is not in use at that moment is no obstacle.",
    message: "runs in code segment {cs}, one of a local descriptor table",
    criu: &["Can't dump task %d with LDT descriptors"],
    source: "compel/arch/x86/src/lib/infect.c:ldt_task_selectors",
    versions: Versions::All,
    remedies: &[Remedy::Workload("dump while the program is not running 16-bit code")],
    phase: Phase::BeforePages,
    when: When::Frozen,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for task in ctx.live_tasks() {
            let Some(regs) = leader_regs(task).filter(|r| matches!(r.size, REGS_32 | REGS_64)) else { continue };
            if !matches!(regs.cs, USER_CS | USER32_CS) {
                sink.push(Finding::on_task(rule, task).fact("cs", Value::Hex(regs.cs)));
            }
        }
    },
};

pub(crate) static SHSTK: Rule = Rule {
    id: "shstk",
    summary: "A process with a shadow stack, which CRIU before 4.0 breaks.",
    group: "Processor state",
    condition: "A process has a shadow stack (x86 user shadow stacks, `x86_Thread_features: shstk` in its status), and this CRIU \
           does not know them: it does not refuse, but the code it puts into the process for the dump breaks on them.",
    message: "has a shadow stack, which this CRIU does not know: the dump may kill it",
    criu: &[],
    source: "compel/arch/x86/src/lib/infect.c (parasite_setup_shstk is there since 4.0)",
    versions: Versions::Without(Cap::ShadowStacks),
    remedies: &[Remedy::Release(Release::V4_0), Remedy::Workload("run the program without shadow stacks (GLIBC_TUNABLES=glibc.cpu.x86_shstk=off)")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for task in ctx.live_tasks().filter(|t| t.thread_features.iter().any(|f| **f == *b"shstk")) {
            sink.push(Finding::on_task(rule, task).doubt());
        }
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::criu::{Host, Release};
    use crate::rules::testkit::*;
    use crate::rules::Verdict;
    use crate::snapshot::{ScanPhase, Snapshot};

    fn with_regs(size: usize, cs: u64) -> Snapshot {
        let mut s = snap(vec![]);
        s.tasks[0].threads[0].regs = Some(Regs { size, cs, rseq: 0 });
        s
    }

    #[test]
    fn the_mode_is_what_counts() {
        let plain = host();
        let mut without = host();
        without.caps.compat = false;
        for (regs, class, criu, expect) in [
            (Some(68), 1, &without, Some(Verdict::Refuse)),
            (Some(68), 2, &without, Some(Verdict::Refuse)),
            (Some(216), 1, &without, None),
            (Some(216), 2, &without, None),
            (None, 1, &without, Some(Verdict::Warn)),
            (None, 2, &without, None),
            (Some(68), 1, &plain, None),
            (None, 1, &plain, None),
        ] {
            let mut s = with_regs(regs.unwrap_or(0), USER32_CS);
            s.tasks[0].threads[0].regs = s.tasks[0].threads[0].regs.filter(|_| regs.is_some());
            s.tasks[0].elf_class = Some(class);
            assert_eq!(verdict(&COMPAT_TASK, &s, criu), expect, "{regs:?} {class}");
        }
        let mut s = with_regs(68, USER32_CS);
        s.kernel.compat = Some(false);
        assert_eq!(verdict(&COMPAT_TASK, &s, &plain), Some(Verdict::Refuse));
        s.kernel.compat = None;
        assert_eq!(verdict(&COMPAT_TASK, &s, &plain), Some(Verdict::Warn));
    }

    #[test]
    fn code_segments() {
        for (size, cs, refused) in [
            (216, 0x33, false),
            (216, 0x23, false),
            (68, 0x23, false),
            (68, 0x7, true),
            (216, 0xf, true),
            (272, 0, false),
        ] {
            assert_eq!(verdict(&LDT_SELECTOR, &with_regs(size, cs), &host()).is_some(), refused, "{size} {cs:x}");
        }
        // Without a frozen look it is not known.
        let early = Snapshot { look: ScanPhase::Early, ..snap(vec![]) };
        assert_eq!(verdict(&LDT_SELECTOR, &early, &host()), None);
    }

    #[test]
    fn shadow_stacks_and_an_old_criu() {
        let mut s = snap(vec![]);
        let old: Host = at_release(Release::V3_18);
        assert_eq!(verdict(&SHSTK, &s, &old), None);
        s.tasks[0].thread_features = vec!["shstk".into(), "wrss".into()];
        assert_eq!(verdict(&SHSTK, &s, &old), Some(Verdict::Warn));
        assert_eq!(verdict(&SHSTK, &s, &host()), None);
    }
}
