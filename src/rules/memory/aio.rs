//! Rings of the kernel's asynchronous I/O (io_setup), whose heads CRIU looks at in the memory of the process.

use crate::rules::{Evidence, Finding, Phase, Remedy, Rule, Versions, When};
use crate::snapshot::{AioHead, Mapping};

/// fs/aio.c
const MAGIC: u32 = 0xa10a_10a1;
const HEAD: u64 = 32;
const EVENT: u64 = 32;

/// What CRIU finds wrong with it (`sane_ring`, criu/pie/parasite.c).
fn fault(m: &Mapping) -> Option<&'static str> {
    // The processor allows no writing or executing of what may not be read, but for protection keys.
    if !m.vma.read && !m.vma.write && !m.vma.exec {
        return Some("protected");
    }
    let head = m.aio_head?;
    let right = AioHead { nr: head.nr, magic: MAGIC, compat: 1, incompat: 0, header_length: HEAD as u32 };
    if head != right {
        return Some("head");
    }
    // In 32 bits, as CRIU has it.
    let events = m.vma.len().saturating_sub(HEAD).checked_div(EVENT).and_then(|n| u32::try_from(n).ok());
    (events != Some(head.nr)).then_some("size")
}

pub(crate) static AIO_RING_BAD: Rule = Rule {
    id: "aio-ring-bad",
    summary: "The ring of a libaio context, which the program has overwritten, unmapped in part or protected.",
    group: "Mappings",
    condition: "A ring of asynchronous I/O (io_setup, libaio) is not as the kernel has made it: its head was overwritten, a part of it \
           was unmapped or got another protection, or all of it may not be read.",
    message: "AIO ring {range}, {fault?protected=protected (PROT_NONE), where CRIU reads its head\
           |head=without a head of the kernel's: overwritten, or unmapped with the first page\
           |size=of another size than its head says: a part is unmapped, or protected in another way}",
    criu: &["Not valid ring #%d", "%d was stopped by 11 unexpectedly"],
    source: "criu/pie/parasite.c:parasite_check_aios",
    versions: Versions::All,
    remedies: &[Remedy::Workload("have the program end that context (io_destroy) before the dump, or leave the ring's memory alone")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for task in ctx.live_tasks() {
            for m in task.maps.iter().filter(|m| m.is_aio_ring()) {
                let Some(fault) = fault(m) else { continue };
                let f = Finding::on_mapping(rule, task, m.vma.start, m.vma.end);
                sink.push(f.term("fault", fault));
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
    use crate::snapshot::FileAttr;
    use crate::snapshot::OpenFile;

    #[test]
    fn rings_and_their_heads() {
        let good = AioHead { nr: 255, magic: MAGIC, compat: 1, incompat: 0, header_length: 32 };
        let of = |line: &str, mode: u32, head: Option<AioHead>| {
            let mut s = snap(vec![]);
            let vma = maps::line_of_maps(line.as_bytes()).unwrap();
            let file = Some(OpenFile::linked(FileAttr { mode, ..FileAttr::default() }));
            s.tasks[0].maps = vec![Mapping { aio_head: head, ..Mapping::new(vma, file) }];
            verdict(&AIO_RING_BAD, &s, &host())
        };
        let (ring, refuse) = ("10000-12000 rw-s 00000000 00:11 7 /[aio] (deleted)", Some(Verdict::Refuse));
        assert_eq!(of(ring, 0, Some(good)), None);
        assert_eq!(of(ring, 0, None), None, "not readable to us");
        assert_eq!(of(ring, libc::S_IFREG, None), None, "a file with that name");
        assert_eq!(of(&ring.replace("rw-s", "---s"), 0, None), refuse);
        assert_eq!(of(&ring.replace("rw-s", "-w-s"), 0, Some(good)), None);
        assert_eq!(of(&ring.replace("12000", "11000"), 0, Some(good)), refuse);
        let bads = [
            AioHead { nr: 254, ..good },
            AioHead { magic: 0, ..good },
            AioHead { compat: 2, ..good },
            AioHead { incompat: 1, ..good },
            AioHead { header_length: 0, ..good },
        ];
        for bad in bads {
            assert_eq!(of(ring, 0, Some(bad)), refuse, "{bad:?}");
        }
    }
}
