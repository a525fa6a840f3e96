//! Programs executed from a memfd.

use super::path_model::{external_key, is_internal};
use super::{Finding, Lift, Phase, Rule, Value, When};

pub static EXE_MEMFD: Rule = Rule {
    id: "exe-memfd",
    group: "Paths",
    what: "A program was executed from a memfd and neither a mapping nor a descriptor of that memfd is left in it or in a \
           process dumped before it: CRIU records the exe by its path then, which is on a mount of the kernel's own.",
    says: "executable {path} is a memfd of which no mapping is left",
    criu: "Can't lookup mount=%d for fd=%d path=%s",
    source: "criu/files-reg.c:dump_one_reg_file, criu/file-ids.c:fd_id_generate_special",
    versions: "all",
    lifts: &[Lift::Value("external", "{key}"), Lift::Workload("execute it from a file")],
    phase: Phase::P5,
    when: When::Early,
    check: |rule, ctx, sink| {
        // What was recorded before, by device, inode and mount, is not looked at again.
        let mut recorded = std::collections::HashSet::new();
        for task in ctx.live_tasks() {
            let Some((link, exe)) = task.exe.as_ref().and_then(|l| Some((l, l.file.as_ref()?))) else { continue };
            if !is_internal(ctx.snap, exe, &link.text) {
                continue;
            }
            let earlier = ctx.live_tasks().take_while(|t| t.pid != task.pid).chain([task]);
            let known = earlier
                .flat_map(|t| t.files.iter().chain(t.maps.iter().filter_map(|m| m.file.as_ref())))
                .any(|f| (f.dev, f.ino) == (exe.dev, exe.ino));
            if known || !recorded.insert((exe.dev, exe.ino)) {
                continue;
            }
            let key = external_key(exe);
            let gate = ctx.host.gate_external(key.as_deref().unwrap_or_default().as_bytes());
            let f = Finding::on_file(rule, task, exe)
                .fact("path", Value::Text(link.text.clone()))
                .fact_opt("key", key.map(|k| Value::Term(k.into())));
            sink.push(gate, f);
        }
    },
};
