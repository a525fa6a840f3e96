//! Restartable sequences (rseq(2)): memory of each thread that the kernel writes to.

use crate::rules::{Evidence, Finding, Phase, Remedy, Rule, Value, Versions, When};
use crate::snapshot::{Mapping, Task};

pub(crate) static RSEQ_AREA: Rule = Rule {
    id: "rseq-area",
    summary: "A thread whose area for restartable sequences (rseq) is not there, or cannot be written to.",
    group: "Mappings",
    condition: "A thread has registered memory for rseq(2), which the C library does for every thread, and that memory is unmapped or not \
           writable by now. The kernel writes to it whenever the thread comes back to the processor, and ends the process by SIGSEGV if \
           that fails: at the latest when CRIU runs its own code in that thread. It is known from the frozen tree alone.",
    message: "thread {tid}: the memory at {at} that it has registered for rseq is {why?gone=not mapped|read-only=not writable}: the kernel ends \
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
        for task in ctx.live_tasks().filter(|t| !t.maps.is_empty()) {
            for thread in &task.threads {
                let Some(at) = thread.regs.map(|r| r.rseq).filter(|at| *at != 0) else { continue };
                let why = match mapping(task, at) {
                    None => "gone",
                    Some(m) if !m.vma.write => "read-only",
                    Some(_) => continue,
                };
                let f = Finding::on_task(rule, task).key(format!("rseq:{}", thread.tid)).term("why", why);
                sink.push(f.num("tid", thread.tid).fact("at", Value::Hex(at)));
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
    use crate::snapshot::Regs;

    fn judged(at: u64) -> Option<Verdict> {
        let mut s = snap(vec![]);
        let lines = ["1000-2000 r--p 0 00:00 0", "2000-3000 rw-p 0 00:00 0", "5000-6000 ---p 0 00:00 0"];
        s.tasks[0].maps = lines.map(|line| Mapping::new(maps::line_of_maps(line.as_bytes()).unwrap(), None)).to_vec();
        s.tasks[0].threads[0].regs = Some(Regs { size: 216, cs: 0x33, rseq: at });
        verdict(&RSEQ_AREA, &s, &host())
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
}
