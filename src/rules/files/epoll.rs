//! epoll descriptors.

use crate::criu_model::epoll::{unresolved, UnresolvedEpollTarget, UnresolvedReason};
use crate::criu_model::queued::met_in_queues;
use crate::rules::sockets::unix_queue;
use crate::rules::{Evidence, Finding, Other, Phase, Remedy, Rule, Value, Versions, When};
use std::cell::LazyCell;

pub(crate) static EPOLL_ESCAPED: Rule = Rule {
    id: "epoll-escaped",
    summary: "An epoll that still watches a file whose descriptor was closed.",
    group: "Event files",
    condition: "An epoll descriptor watches an open file that its process has no descriptor of any more (the number was closed \
           while a duplicate keeps the file open in another process or in a socket's queue). If all that was closed are \
           numbers, and each file is open under another, CRIU looks for every watched file, and does not find one that a \
           process has which is dumped before, or that lies in the queue of a socket dumped before, nor a FIFO or device node on a \
           file system whose device number has a major part. An epoll descriptor that is met in a socket's queue first is not \
           verified: while queues have not been looked into, this is a warning.",
    message: "epoll descriptor still watches what was descriptor {tfd}{fault?closed=, of which this process has no descriptor of its own left\
           |renumbered= and has another number now|sought=}[, {missed?earlier=which a process that is dumped before this one has, too\
           |queued=which CRIU meets in a socket's queue before\
           |device=which CRIU does not find on a file system with that device number}]\
           [; it looks for it because what was descriptor {moved} has another number now]",
    criu: &["Dump eventpoll (pid: %d) failed with %d"],
    source: "criu/eventpoll.c:flush_eventpoll_dinfo_queue",
    versions: Versions::All,
    remedies: &[
        Remedy::Workload("have the program remove a descriptor from epoll (EPOLL_CTL_DEL) before it closes it"),
        Remedy::Workload(
            "{fault?closed=if it has inherited the epoll descriptor, start it without (in a shell: PROGRAM {fd}>&-)}",
        ),
    ],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Tree,
    find: |rule, ctx, sink| {
        let mut may_hold = None;
        let queued = LazyCell::new(|| met_in_queues(ctx.snap));
        for (task, file) in ctx.files().filter(|(_, f)| f.epoll().is_some()) {
            for escape in unresolved(task, file, &queued) {
                let f = Finding::on_file(rule, task, file)
                    .key(format!("epoll:{}:{}:{}", task.pid, file.origin, escape.tfd))
                    .fact("tfd", Value::Num(i64::from(escape.tfd)));
                let f = with_fault(f, &escape);
                let in_queue = *may_hold.get_or_insert_with(|| unix_queue::may_hold_descriptors(ctx));
                sink.push(if in_queue { f.doubt() } else { f });
            }
        }
    },
};

fn with_fault(f: Finding, escape: &UnresolvedEpollTarget) -> Finding {
    let missed = match escape.reason {
        UnresolvedReason::Closed => return f.term("fault", "closed").other(Other::OpenFile),
        UnresolvedReason::Earlier => "earlier",
        UnresolvedReason::Queued => "queued",
        UnresolvedReason::Device => "device",
    };
    let f = f.term("missed", missed);
    match escape.moved {
        None => f.term("fault", "renumbered"),
        Some(moved) => f.term("fault", "sought").num("moved", moved),
    }
}
