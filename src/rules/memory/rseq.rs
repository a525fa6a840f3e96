//! Restartable sequences (rseq(2)): memory of each thread that the kernel writes to.

use crate::rules::{Evidence, Finding, Phase, Remedy, Rule, Value, Versions, When};
use crate::snapshot::{Mapping, Probe, Task};

/// From this release on the kernel writes there only if the thread has come to another processor, or was interrupted outside of a
/// system call (`rseq_sched_switch_event`, include/linux/rseq.h). Up to the one before it does whenever the thread was off the
/// processor (`__rseq_handle_notify_resume`, kernel/rseq.c).
const WRITES_LESS_SINCE: (u32, u32) = (6, 19);

pub(crate) static RSEQ_AREA: Rule = Rule {
    id: "rseq-area",
    summary: "A thread whose area for restartable sequences (rseq) is not there, or cannot be written to.",
    group: "Mappings",
    condition: "A thread has registered memory for rseq(2), which the C library does for every thread, and that memory is unmapped or not \
           writable by now. The kernel writes to it whenever the thread comes back to the processor, and ends the process by SIGSEGV if \
           that fails: at the latest when CRIU runs its own code in that thread. It is known from the frozen tree alone. Kernels from 6.19 write less \
           often: there it is a warning.",
    message: "the memory at {at} that this thread has registered for rseq is {why?gone=not mapped|read-only=not writable}: the kernel ends \
           the process when that thread runs next, in the dump or after it",
    criu: &[
        "Unexpected %d task interruption, aborting",
        "Can't init thread in parasite %d",
        "Can't handle rseq (pid: %d)",
    ],
    source: "criu/parasite-syscall.c:parasite_dump_thread_seized, compel/src/lib/infect.c:compel_prepare_rseq",
    versions: Versions::All,
    remedies: &[
        Remedy::Workload("have the program leave the memory of its threads as it is"),
        Remedy::Workload("start it with GLIBC_TUNABLES=glibc.pthread.rseq=0 in its environment"),
    ],
    phase: Phase::BeforePages,
    when: When::Frozen,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        let unread = |t: &&Task| t.maps.is_empty() || ctx.index.unchecked(t.pid).any(|u| u.probe == Probe::Maps);
        for task in ctx.live_tasks().filter(|t| !unread(t)) {
            for thread in &task.threads {
                let Some(at) = thread.regs.map(|r| r.rseq).filter(|at| *at != 0) else { continue };
                let why = match mapping(task, at) {
                    None => "gone",
                    Some(m) if !m.vma.write => "read-only",
                    Some(_) => continue,
                };
                let f = Finding::on_task(rule, task).key(format!("rseq:{}", thread.tid)).tid(thread.tid).term("why", why);
                let f = f.fact("at", Value::Hex(at));
                sink.push(if ctx.snap.kernel.version < WRITES_LESS_SINCE { f } else { f.doubt() });
            }
        }
    },
};

/// The mapping that has this address; they are in order.
fn mapping(task: &Task, at: u64) -> Option<&Mapping> {
    let next = task.maps.partition_point(|m| m.vma.end <= at);
    task.maps.get(next).filter(|m| m.vma.start <= at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::maps;
    use crate::rules::testkit::*;
    use crate::rules::Verdict;
    use crate::snapshot::{Regs, Snapshot, Unchecked};

    fn with_area(at: u64) -> Snapshot {
        let mut s = snap(vec![]);
        s.kernel.version = (6, 18);
        let lines = ["1000-2000 r--p 0 00:00 0", "2000-3000 rw-p 0 00:00 0", "5000-6000 ---p 0 00:00 0"];
        s.tasks[0].maps = lines.map(|line| Mapping::new(maps::line_of_maps(line.as_bytes()).unwrap(), None)).to_vec();
        s.tasks[0].threads[0].regs = Some(Regs { size: 216, cs: 0x33, rseq: at });
        s
    }

    fn judged(at: u64) -> Option<Verdict> {
        verdict(&RSEQ_AREA, &with_area(at), &host())
    }

    #[test]
    fn an_area_that_the_kernel_cannot_write_to() {
        for fails in [0x1000, 0x1fe0, 0x3000, 0x4000, 0x5020, 0x6000, 0x40] {
            assert_eq!(judged(fails), Some(Verdict::Refuse), "{fails:x}");
        }
        for fine in [0, 0x2000, 0x2fe0] {
            assert_eq!(judged(fine), None, "{fine:x}");
        }
    }

    #[test]
    fn an_area_of_which_less_is_known() {
        let mut newer = with_area(0x3000);
        newer.kernel.version = (6, 19);
        assert_eq!(verdict(&RSEQ_AREA, &newer, &host()), Some(Verdict::Warn));
        let mut unread = with_area(0x3000);
        unread.unchecked.push(Unchecked { pid: 100, fd: None, probe: Probe::Maps, errno: 0 });
        assert_eq!(verdict(&RSEQ_AREA, &unread, &host()), None);
        let mut none = with_area(0x3000);
        none.tasks[0].maps.clear();
        assert_eq!(verdict(&RSEQ_AREA, &none, &host()), None);
    }
}
