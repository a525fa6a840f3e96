//! epoll descriptors.

use super::{Finding, Lift, Phase, Rule, Value, When};
use crate::host::Gate;

pub static EPOLL_ESCAPED: Rule = Rule {
    id: "epoll-escaped",
    group: "Event files",
    what: "An epoll descriptor watches an open file that its process has no descriptor of any more (the number was closed \
           while a duplicate keeps the file open in another process or in a socket's queue), or has only in common with \
           a process that is dumped before it and under another number than it was added by.",
    says: "epoll descriptor still watches what was descriptor {tfd}, of which this process has no descriptor of its own left",
    criu: "Dump eventpoll (pid: %d) failed with %d",
    source: "criu/eventpoll.c:flush_eventpoll_dinfo_queue",
    versions: "all",
    lifts: &[Lift::Workload("have the program remove a descriptor from epoll (EPOLL_CTL_DEL) before it closes it")],
    phase: Phase::P3,
    when: When::Early,
    check: |rule, ctx, sink| {
        for (task, file) in ctx.files() {
            for tfd in file.epoll().into_iter().flat_map(|e| &e.escaped) {
                let f = Finding::on_file(rule, task, file)
                    .key(format!("epoll:{}:{}:{tfd}", task.pid, file.fd))
                    .fact("tfd", Value::Num(i64::from(*tfd)));
                sink.push(Gate::Stands, f);
            }
        }
    },
};
