//! Huge pages on a mount that CRIU has not got to know.

use crate::criu_model::paths::external_key;
use crate::rules::{Ctx, Evidence, Finding, Phase, Remedy, Rule, Value, Versions, When};
use crate::snapshot::{Kernel, OpenFile};

/// The kernel's own hugetlbfs mounts: after that of shared memory in the list.
fn is_huge(kernel: &Kernel, file: &OpenFile) -> bool {
    kernel.shmem.iter().skip(1).any(|dev| *dev == file.attr.dev)
}

pub(crate) static HUGETLB_UNKNOWN: Rule = Rule {
    id: "hugetlb-unknown",
    summary: "Huge pages, while no free one is left by which CRIU could learn to recognise them.",
    group: "Mappings",
    condition: "Huge pages are mapped (MAP_HUGETLB, MFD_HUGETLB, SHM_HUGETLB), and none of that size was free when CRIU started: \
           it maps one to learn on which device of the kernel's they are, and takes what lies there for an ordinary file \
           otherwise. A device it got to know in an earlier run may be in its cache.",
    message: "{what} of huge pages, of which none was free for CRIU to learn where they are",
    criu: &["Can't lookup mount=%d for fd=%d path=%s"],
    source: "criu/kerndat.c:kerndat_get_hugetlb_dev, criu/hugetlb.c:is_hugetlb_dev",
    versions: Versions::All,
    // An external key allows it too, and the memory is lost.
    remedies: &[Remedy::Workload("make one more huge page of that size before the dump (sysctl vm.nr_hugepages)")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx: &Ctx, sink| {
        let Some(known) = &ctx.host.hugetlb else { return };
        let lost = |f: &OpenFile| is_huge(&ctx.snap.kernel, f) && !known.contains(&f.attr.dev.userspace());
        for task in ctx.live_tasks() {
            for m in &task.maps {
                let Some(file) = m.file.as_ref().filter(|f| lost(f)) else { continue };
                let mut f = Finding::on_file(rule, task, file).term("what", "mapping");
                f.addr = Some(m.vma.start);
                push(ctx, sink, file, f.fact("range", Value::Range(m.vma.start, m.vma.end)));
            }
            for file in task.files.iter().filter(|f| lost(f)) {
                push(ctx, sink, file, Finding::on_file(rule, task, file).term("what", "memfd"));
            }
        }
    },
};

fn push(ctx: &Ctx, sink: &mut crate::rules::Sink, file: &OpenFile, f: Finding) {
    let key = external_key(file);
    let gate = ctx.host.gate_external(key.as_deref().unwrap_or_default().as_bytes());
    sink.push_unless(gate, f);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::criu::Host;
    use crate::rules::testkit::*;
    use crate::rules::Verdict;
    use crate::snapshot::{Dev, Mapping, Origin};

    #[test]
    fn what_criu_does_not_know() {
        let dev = |minor| Dev { major: 0, minor };
        let huge = |minor| with_attr(file(3, libc::S_IFREG, 0x2b), |a| (a.dev, a.nlink) = (dev(minor), 0));
        let with = |files: Vec<OpenFile>| {
            let mut s = snap(files);
            s.kernel.shmem = vec![dev(1), dev(17)];
            s
        };
        let knows = |hugetlb| Host { hugetlb, ..host() };
        let mut mapped = with(Vec::new());
        let vma = crate::parse::maps::line_of_maps(b"1000-2000 rw-s 0 00:11 43 /anon_hugepage (deleted)").unwrap();
        mapped.tasks[0].maps = vec![Mapping::new(vma, Some(OpenFile { origin: Origin::Link, ..huge(17) }))];
        for s in [&with(vec![huge(17)]), &mapped] {
            assert_eq!(verdict(&HUGETLB_UNKNOWN, s, &knows(Some(vec![]))), Some(Verdict::Refuse));
            assert_eq!(verdict(&HUGETLB_UNKNOWN, s, &knows(Some(vec![17]))), None);
            assert_eq!(verdict(&HUGETLB_UNKNOWN, s, &knows(None)), None);
            let external = Host { hugetlb: Some(vec![]), ..with_external("file[f:2b]") };
            assert_eq!(verdict(&HUGETLB_UNKNOWN, s, &external), None);
        }
        assert_eq!(verdict(&HUGETLB_UNKNOWN, &with(vec![huge(1)]), &knows(Some(vec![]))), None);
    }
}
