//! Programs executed from a memfd.

use crate::criu_model::paths::is_internal;
use crate::rules::{Evidence, Finding, Phase, Remedy, Rule, Value, Versions, When};

pub(crate) static EXE_MEMFD: Rule = Rule {
    id: "exe-memfd",
    summary: "A program executed from memory (a memfd): the dump is made and cannot be restored.",
    group: "Dumped, but not restored",
    condition: "A program was executed from a memfd. CRIU dumps it, and what it has written cannot be restored: with a mapping of the \
           memfd left the exe is a memfd where a file is looked for (No entry for reg-file-ID), without one the dump logs that \
           it cannot record the exe, goes on and leaves out the process's mm.",
    message: "runs from memfd {path}, which CRIU dumps and cannot restore",
    criu: &["{nothing, or as a note, and the dump goes through} Can't lookup mount=%d for fd=%d path=%s"],
    source: "criu/cr-dump.c:dump_task_mm, dump_task_exe_link",
    versions: Versions::All,
    remedies: &[Remedy::Workload("execute it from a file")],
    phase: Phase::Restore,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for task in ctx.live_tasks() {
            let Some((link, exe)) = task.exe.as_ref().and_then(|l| Some((l, l.file.as_ref()?))) else { continue };
            if is_internal(ctx.snap, exe, &link.text) {
                let f = Finding::on_file(rule, task, exe).fact("path", Value::Text(link.text.clone()));
                sink.push(f);
            }
        }
    },
};
