//! Triggers of pressure stall information (kernel/sched/psi.c), which an open file has by what was written to it.

use crate::parse::pressure::is_pressure;
use crate::rules::{Evidence, Finding, Phase, Remedy, Rule, Versions, When};
use crate::snapshot::OpenFile;

/// Nothing but a trigger is written to it.
fn has_trigger(file: &OpenFile) -> bool {
    let mode = file.flags.map(|flags| flags as i32 & libc::O_ACCMODE);
    mode.is_some_and(|mode| mode != libc::O_RDONLY) && file.kind() == libc::S_IFREG
}

pub(crate) static LOST_PRESSURE_TRIGGER: Rule = Rule {
    id: "lost-pressure-trigger",
    summary: "A trigger of pressure stall information, as systemd sets it for memory: it is lost, and the program may spin.",
    group: "Dumped, and lost",
    condition: "A file of pressures (/proc/pressure/memory, memory.pressure of a cgroup, and the same of cpu, io and irq) is open for \
           writing: what is written to it is a trigger, which the kernel keeps with the open file. The restore opens the file and \
           sets none; then poll and epoll report an error and an event (POLLERR | POLLPRI) at once and for ever.",
    message: "trigger of {path}, which is lost: poll then reports an event at once and for ever",
    criu: &[],
    source: "criu/files-reg.c:open_path",
    versions: Versions::All,
    remedies: &[Remedy::Workload(
        "start the program without it (of systemd and its services: MEMORY_PRESSURE_WATCH=/dev/null in the environment, and the \
         same of CPU_PRESSURE_WATCH and IO_PRESSURE_WATCH), or have it set the trigger again after the restore",
    )],
    phase: Phase::Never,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for (task, file) in ctx.files().filter(|(_, f)| has_trigger(f)) {
            let Some(path) = file.link.as_ref().filter(|link| is_pressure(link)) else { continue };
            let Some(node) = file.attr.mnt_id.and_then(|id| ctx.mounts.by_id(id)) else { continue };
            if matches!(&*node.info.fstype.0, b"proc" | b"cgroup2") {
                // Each open file has one of its own.
                let key = format!("fd:{}:{}", task.pid, file.origin);
                sink.push(Finding::on_file(rule, task, file).key(key).text("path", path.clone()));
            }
        }
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testkit::*;
    use crate::rules::Verdict;
    use crate::snapshot::Snapshot;

    fn case(fstype: &str, path: &str, flags: Option<i32>) -> Snapshot {
        let mut s = in_mntns(&format!("40 39 0:50 / / rw - overlay overlay rw\n41 40 0:60 / /x rw - {fstype} x rw"));
        let mut open = with_attr(file(3, libc::S_IFREG, 7), |a| a.mnt_id = Some(41));
        open.link = Some(path.into());
        open.flags = flags.map(|f| f as u32);
        s.tasks[0].files = vec![open];
        s
    }

    #[test]
    fn open_for_writing() {
        let lost = |fstype, path, flags| verdict(&LOST_PRESSURE_TRIGGER, &case(fstype, path, flags), &host());
        let (rw, ro) = (Some(libc::O_RDWR), Some(libc::O_RDONLY));
        assert_eq!(lost("proc", "/proc/pressure/memory", rw), Some(Verdict::Warn));
        assert_eq!(lost("cgroup2", "/sys/fs/cgroup/a.slice/cpu.pressure", rw), Some(Verdict::Warn));
        assert_eq!(lost("cgroup2", "/sys/fs/cgroup/io.pressure", Some(libc::O_WRONLY)), Some(Verdict::Warn));
        assert_eq!(lost("cgroup2", "/sys/fs/cgroup/io.pressure", ro), None);
        assert_eq!(lost("cgroup2", "/sys/fs/cgroup/io.pressure", None), None, "not known");
        assert_eq!(lost("cgroup2", "/sys/fs/cgroup/cgroup.pressure", rw), None, "switches the accounting");
        assert_eq!(lost("tmpfs", "/tmp/memory.pressure", rw), None);
    }
}
