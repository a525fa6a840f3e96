//! What an earlier CRIU has left behind in a process.

use crate::rules::{Evidence, Finding, Phase, Remedy, Rule, Versions, When};

/// The file that CRIU makes in a process for its code (`parasite_memfd_exchange`), and unmaps and closes when it is done.
const PARASITE: &[u8] = b"/memfd:CRIUMFD (deleted)";

pub(crate) static CRIU_LEFTOVER: Rule = Rule {
    id: "criu-leftover",
    summary: "What an earlier CRIU has left in a process in which its code could not work.",
    group: "Processes",
    condition: "A process has a descriptor or a mapping of the memfd CRIUMFD, in which CRIU puts its own code: an earlier dump has failed \
           in this process, or was killed, while its code was there. CRIU dumps the leftover like any memfd. What made it fail then \
           may be there still: Landlock or a security module that denies the process to connect to CRIU's socket. So it is a \
           warning.",
    message: "{what?fd=a descriptor|map=mapping {range}} of CRIU's own code (memfd CRIUMFD), left by an earlier dump that has failed \
           in this process or was killed: this one may fail for the same reason",
    criu: &["Unable to connect a transport socket"],
    source: "compel/src/lib/infect.c:parasite_memfd_exchange, parasite_init_daemon",
    versions: Versions::All,
    remedies: &[Remedy::Workload("look into the log of that dump, and restart the program")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        let key = |pid: i32| format!("leftover:{pid}");
        for (task, file) in ctx.files().filter(|(_, f)| f.link.as_ref().is_some_and(|link| **link == *PARASITE)) {
            sink.push(Finding::on_file(rule, task, file).key(key(task.pid)).term("what", "fd").doubt());
        }
        for task in ctx.live_tasks() {
            for m in task.maps.iter().filter(|m| *m.vma.path == *PARASITE) {
                let f = Finding::on_mapping(rule, task, m.vma.start, m.vma.end).key(key(task.pid));
                sink.push(f.term("what", "map").doubt());
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
    use crate::snapshot::{Mapping, OpenFile};

    #[test]
    fn a_descriptor_or_a_mapping() {
        let memfd = |name: &str| OpenFile { link: Some(name.into()), ..file(3, libc::S_IFREG, 5) };
        let fds = |name| verdict(&CRIU_LEFTOVER, &snap(vec![memfd(name)]), &host());
        assert_eq!(fds("/memfd:CRIUMFD (deleted)"), Some(Verdict::Warn));
        assert_eq!(fds("/memfd:x (deleted)"), None);
        let mut s = snap(vec![]);
        let line = b"7000-8000 r-xs 0 00:01 5 /memfd:CRIUMFD (deleted)";
        s.tasks[0].maps = vec![Mapping::new(maps::line_of_maps(line).unwrap(), None)];
        assert_eq!(verdict(&CRIU_LEFTOVER, &s, &host()), Some(Verdict::Warn));
    }
}
