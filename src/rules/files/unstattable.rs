//! What has a name and nothing else.

use crate::rules::{Evidence, Finding, Phase, Remedy, Rule, Value, Versions, When};

pub(crate) static FD_NO_STAT: Rule = Rule {
    id: "fd-no-stat",
    summary: "An open file that the kernel tells nothing of any more: /proc/PID/fd of a process that has ended.",
    group: "Paths",
    condition: "An open file, or the current directory of a process, cannot be asked for its attributes: fstat says ENOENT. The \
           directory /proc/PID/fd is such a one when the process it was opened of has ended (Linux 6.2 and later).",
    message: "{what?fd=open file|cwd=directory of the process,} {path}, of which the kernel has no attributes any more (fstat: ENOENT)",
    criu: &["Can't stat fd %d: No such file or directory", "Can't fstat exe link"],
    source: "criu/files.c:fill_fd_params, criu/cr-dump.c:dump_task_fs",
    versions: Versions::All,
    remedies: &[Remedy::Workload("have the program close it, or leave the directory, before the dump")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for task in ctx.live_tasks() {
            for s in &task.unstattable {
                let mut f = Finding::on_task(rule, task);
                f.fd = s.fd;
                f.key = format!("unstattable:{}:{:?}:{}", task.pid, s.fd, s.link.escaped());
                let what = if s.fd.is_some() { "fd" } else { "cwd" };
                sink.push(f.term("what", what).fact("path", Value::Text(s.link.clone())));
            }
        }
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testkit::*;
    use crate::rules::Verdict;
    use crate::snapshot::UnstattableFile;

    #[test]
    fn names_without_files() {
        let mut s = snap(vec![]);
        assert_eq!(verdict(&FD_NO_STAT, &s, &host()), None);
        for fd in [Some(5), None] {
            s.tasks[0].unstattable = vec![UnstattableFile { fd, link: "/proc/7/fd".into() }];
            assert_eq!(verdict(&FD_NO_STAT, &s, &host()), Some(Verdict::Refuse));
            assert_eq!(found(&FD_NO_STAT, &s, &host())[0].fd, fd);
        }
    }
}
