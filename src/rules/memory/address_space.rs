//! Room for CRIU's own code in the process.

use crate::rules::{Evidence, Finding, Phase, Remedy, Rule, Versions, When};
use crate::snapshot::Task;

/// What CRIU maps into each process is the parasite, its stacks and its arguments: seen to be 64 to 72 KiB without the part that
/// grows (4.1.1 to 4.3, x86-64). A build may be smaller or greater by some pages.
const AT_LEAST: u64 = 40 * 1024;
const AT_MOST: u64 = 112 * 1024;
/// `sizeof(struct iovec)`, one for each private page (`dump_pages_args_size`, criu/mem.c).
const IOVEC: u64 = 16;
/// The largest of any architecture but x86, where there is one only.
const PAGE: u64 = if cfg!(target_arch = "x86_64") { 4096 } else { 65536 };

/// Bytes of the part that grows with the memory of the process.
fn arguments(task: &Task) -> u64 {
    let private = task.maps.iter().map(|m| &m.vma).filter(|v| !v.shared && !v.path.starts_with(b"[v"));
    private.fold(0u64, |sum, vma| sum.saturating_add(vma.len() / PAGE)).saturating_mul(IOVEC)
}

pub(crate) static ADDRESS_SPACE_FULL: Rule = Rule {
    id: "address-space-full",
    summary: "A process whose limit of address space (RLIMIT_AS, ulimit -v) leaves no room for CRIU's code.",
    group: "Processes",
    condition: "The soft RLIMIT_AS of the process leaves less address space than CRIU maps into it: 40 KiB at least, and 16 bytes for \
           each page of its private mappings, touched or not. Up to 72 KiB more it is a warning, for the size of CRIU's code depends \
           on how it was built.",
    message: "{size} bytes of address space are left below its soft RLIMIT_AS, CRIU needs {enough}[{doubt?more= or some pages more}]",
    criu: &["remote mmap() failed: Cannot allocate memory", "Can't rmap memfd for parasite blob"],
    source: "compel/src/lib/infect.c:compel_infect_no_daemon, parasite_memfd_exchange, criu/mem.c:dump_pages_args_size",
    versions: Versions::All,
    remedies: &[Remedy::Workload("raise the limit of the running process: prlimit --pid {pid} --as=unlimited")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Process,
    find: |rule, ctx, sink| {
        for task in ctx.live_tasks() {
            let Some(left) = task.free_address_space else { continue };
            let needed = AT_LEAST.saturating_add(arguments(task));
            let f = Finding::on_task(rule, task).count("size", left).count("enough", needed);
            if left < needed {
                sink.push(f);
            } else if left < needed.saturating_add(AT_MOST - AT_LEAST) {
                sink.push(f.term("doubt", "more").doubt());
            }
        }
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::maps;
    use crate::rules::testkit::*;
    use crate::rules::Verdict;
    use crate::snapshot::Mapping;

    #[test]
    fn what_is_left_and_what_criu_maps() {
        let with = |left: Option<u64>, lines: &[&str]| {
            let mut s = snap(vec![]);
            let of_line = |line: &&str| Mapping::new(maps::line_of_maps(line.as_bytes()).unwrap(), None);
            s.tasks[0].maps = lines.iter().map(of_line).collect();
            s.tasks[0].free_address_space = left;
            verdict(&ADDRESS_SPACE_FULL, &s, &host())
        };
        assert_eq!(with(None, &[]), None, "unlimited");
        assert_eq!(with(Some(AT_LEAST - 1), &[]), Some(Verdict::Refuse));
        assert_eq!(with(Some(AT_LEAST), &[]), Some(Verdict::Warn));
        assert_eq!(with(Some(AT_MOST), &[]), None);
        // 4 GiB that are private make 16 MiB of arguments.
        let private = "100000000-200000000 ---p 0 00:00 0";
        if cfg!(target_arch = "x86_64") {
            assert_eq!(with(Some(16 << 20), &[private]), Some(Verdict::Refuse));
            assert_eq!(with(Some(17 << 20), &[private]), None);
            assert_eq!(with(Some(AT_MOST), &[&private.replace("--p", "--s")]), None);
        }
    }
}
