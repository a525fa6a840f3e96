//! The rules about terminals.

use crate::criu::{Gate, Opt};
use crate::criu_model::devices::tty_key;
use crate::criu_model::ttys::{driver, index, is_terminal, terminals, Driver, Session, Terminal};
use crate::rules::{Ctx, Evidence, Finding, Other, Phase, Remedy, Rule, Sink, Verdict, Versions, When};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// `MAX_PTY_INDEX` (criu/tty.c).
const MAX_PTY_INDEX: i64 = 1000;
/// `ETTY_INDEX_MAX` - `ETTY_INDEX` (criu/tty.c).
const MAX_EXTERNAL: usize = 64;

/// Name it as a terminal that is handed in at the restore.
const EXTERNAL: Remedy = Remedy::External("{key}");

fn finding(rule: &Rule, t: &Terminal) -> Finding {
    Finding::on_file(rule, t.task, t.file).term("key", tty_key(t.file))
}

pub(crate) static TTY_INDEX: Rule = Rule {
    id: "tty-index",
    summary: "A pseudoterminal with a number above 1000.",
    group: "Terminals",
    condition:
        "A pseudoterminal with a number above 1000 is open. (For a slave CRIU takes the number at the end of its path.)",
    message: "{side} of pseudoterminal {index}: CRIU counts them only up to 1000",
    criu: &["Index %d on pts is too big", "Index %d on ptmx is too big"],
    source: "criu/tty.c:pts_fd_get_index, ptm_fd_get_index",
    versions: Versions::All,
    remedies: &[EXTERNAL, Remedy::Workload("start the program in a fresh terminal when fewer are open")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for (task, file) in ctx.files().filter(|(_, f)| is_terminal(ctx.host, f)) {
            let (driver, gate) = driver(ctx.host, file);
            let Some(index) = index(driver, file).filter(|i| *i > MAX_PTY_INDEX) else { continue };
            let side = if driver == Driver::Master { "master" } else { "slave" };
            let f = Finding::on_file(rule, task, file)
                .key(format!("{side}:{index}"))
                .term("key", tty_key(file))
                .term("side", side)
                .num("index", index);
            sink.push_unless(gate, f);
        }
    },
};

pub(crate) static TTY_IOCTL: Rule = Rule {
    id: "tty-ioctl",
    summary: "A terminal that cannot be asked for its settings.",
    group: "Terminals",
    condition:
        "A terminal is open as a mere path (O_PATH): it cannot be asked for its session and settings. Or it has a line \
           discipline (TIOCSETD) that does not tell its settings, N_NULL.",
    message: "terminal[ {path}]: {fault?o-path=an O_PATH descriptor, which answers nothing\
           |line-discipline=its line discipline does not tell its settings (TCGETS)}",
    criu: &[
        "tty: Can't fetch params: err = %d",
        "Can't obtain ptmx index: Bad file descriptor",
        "Can't get tty params on %#x",
    ],
    source: "criu/pie/parasite.c:parasite_dump_tty, criu/tty.c:ptm_fd_get_index",
    versions: Versions::All,
    remedies: &[Remedy::Workload("have the program close it before the dump")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for t in terminals(ctx.snap, ctx.host) {
            let flags = t.file.flags.or_else(|| t.file.info.as_ref()?.flags);
            let fault = if flags.is_some_and(|f| f & libc::O_PATH as u32 != 0) {
                "o-path"
            } else if t.hung_up != Some(true) && t.file.tty().is_some_and(|f| f.unset.is_some()) {
                "line-discipline"
            } else {
                continue;
            };
            sink.push(finding(rule, &t).term("fault", fault));
        }
    },
};

pub(crate) static TTY_EXT_TOO_MANY: Rule = Rule {
    id: "tty-ext-too-many",
    summary: "More than 64 open files of terminals that were declared external.",
    group: "Terminals",
    condition: "More than 64 open files are terminals named by an external or inherited tty[...] key. Each open file counts, also \
           of the same terminal; descriptors that share one (dup, fork) count once.",
    message: "{count} open files of external terminals, CRIU has room for 64",
    criu: &["Too many external terminals"],
    source: "criu/tty.c:ext_fd_get_index",
    versions: Versions::All,
    remedies: &[Remedy::Workload("dump a smaller tree")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Tree,
    find: |rule, ctx, sink| {
        let mut files = HashSet::new();
        // Of those that could not be compared, each inode is one at least and each descriptor one at most.
        let mut at_most = 0usize;
        let mut over = None;
        for (task, file) in ctx.files().filter(|(_, f)| is_terminal(ctx.host, f)) {
            if driver(ctx.host, file).0 != Driver::External {
                continue;
            }
            let which = file.tty().and_then(|t| t.open_file);
            if files.insert((file.attr.dev, file.attr.ino, which)) || which.is_none() {
                at_most = at_most.saturating_add(1);
                if at_most == MAX_EXTERNAL + 1 {
                    over = Some((task, file));
                }
            }
        }
        if let Some((task, file)) = over {
            let f = Finding::on_file(rule, task, file).key("many".into());
            let f = f.count("count", at_most);
            sink.push(if files.len() > MAX_EXTERNAL { f } else { f.doubt() });
        }
    },
};

/// The first process of each session.
fn first_of_sessions(ctx: &Ctx) -> HashMap<i32, i32> {
    ctx.snap.tasks.iter().rev().filter(|t| !t.is_zombie()).map(|t| (t.sid, t.pid)).collect()
}

/// What is wrong with a session that a terminal belongs to; `None`: nothing (`find_first_sid`, criu/tty.c).
fn dangling(ctx: &Ctx, firsts: &HashMap<i32, i32>, sid: i32) -> Option<&'static str> {
    match firsts.get(&sid) {
        Some(first) if *first == sid => None,
        // Sessions of the dead are not known yet when CRIU looks.
        _ => match ctx.index.task(sid) {
            None => Some("outside"),
            Some(leader) if leader.is_zombie() => Some("exited"),
            Some(_) => Some("later"),
        },
    }
}

pub(crate) static TTY_DANGLING_SID: Rule = Rule {
    id: "tty-dangling-sid",
    summary: "A terminal of a shell's session, with the shell outside of the tree.",
    group: "Terminals",
    condition: "A terminal of the tree controls a session whose leader is not in the tree (a program started from a shell), and \
           --shell-job is not given. Naming the terminal as external does not help.",
    message: "terminal[ {path}] of session {sid}, whose leader {fault?outside=is not in the tree|exited=has exited|later=does not come first in the tree}",
    criu: &["Found dangling tty with sid %d pgid %d (%s) on peer fd %d."],
    source: "criu/tty.c:dump_verify_tty_sids",
    versions: Versions::All,
    remedies: &[
        Remedy::Option(Opt::ShellJob),
        Remedy::Workload("start the program detached from the terminal: setsid PROGRAM </dev/null >log 2>&1"),
    ],
    phase: Phase::AfterTasks,
    when: When::Early,
    evidence: Evidence::Outsider,
    find: |rule, ctx, sink| {
        for Dangling { terminal, sid, fault, doubt } in dangling_sessions(ctx) {
            let f = finding(rule, &terminal).num("sid", sid).term("fault", fault).other(Other::Process(sid));
            sink.push(if doubt { f.doubt() } else { f });
        }
    },
};

/// A terminal that controls a session whose leader CRIU does not find.
pub(super) struct Dangling<'a> {
    pub terminal: Terminal<'a>,
    pub sid: i32,
    pub fault: &'static str,
    /// Something that decides is not known.
    pub doubt: bool,
}

pub(super) fn dangling_sessions<'a>(ctx: &Ctx<'a>) -> Vec<Dangling<'a>> {
    let foreign_pidns = ctx.snap.root_shares(|n| n.pid) != Some(true);
    let firsts = first_of_sessions(ctx);
    let one = |t: Terminal<'a>| {
        let Session { sid, .. } = t.session.filter(|s| s.sid > 0)?;
        let fault = dangling(ctx, &firsts, sid)?;
        // To its own pid namespace a leader outside has no number, and that passes.
        if t.task.own_sid() == 0 && t.driver != Driver::Master {
            return None;
        }
        let mut doubt = t.guessed && t.hung_up != Some(true);
        if t.driver == Driver::Master && foreign_pidns {
            // Whether the leader has a number in the tree's pid namespace. Ours is above it.
            let leader = t.file.tty().and_then(|tty| tty.sid_pidns);
            if leader.is_some() && leader == ctx.snap.criu.ns.pid {
                return None;
            }
            doubt |= leader.is_none() || leader != ctx.snap.root_task().and_then(|r| r.ns.pid);
        }
        Some(Dangling { terminal: t, sid, fault, doubt })
    };
    terminals(ctx.snap, ctx.host).into_iter().filter_map(one).collect()
}

/// Slaves that are alive and whose master is not in the tree, by index, as CRIU counts them.
fn unpaired<'a>(ctx: &Ctx<'a>) -> BTreeMap<i64, Terminal<'a>> {
    let list = terminals(ctx.snap, ctx.host);
    let masters: BTreeSet<i64> = list.iter().filter(|t| t.driver == Driver::Master).filter_map(|t| t.index).collect();
    // A master whose index could not be read may be that of any slave.
    let blind = list.iter().any(|t| t.driver == Driver::Master && t.index.is_none());
    let slaves = list.into_iter().filter(|t| t.driver == Driver::Slave && t.hung_up != Some(true));
    let gate = |t: &Terminal| if blind || t.hung_up.is_none() { Gate::FACT_UNKNOWN } else { t.gate };
    slaves
        .filter_map(|t| Some((t.index?, t)))
        .filter(|(index, _)| !masters.contains(index))
        .map(|(index, t)| (index, Terminal { gate: gate(&t), ..t }))
        .collect()
}

const SLAVE_OPTIONS: [Opt; 2] = [Opt::ShellJob, Opt::OrphanPtsMaster];

pub(crate) static TTY_SLAVE_UNPAIRED: Rule = Rule {
    id: "tty-slave-unpaired",
    summary: "A terminal whose other side, the terminal emulator or sshd, is outside of the tree.",
    group: "Terminals",
    condition: "The slave of a pseudoterminal is open and its master is not in the tree (it is the terminal emulator's, sshd's or \
           the container runtime's). --shell-job, or orphan_pts_master of an RPC request, lets one such terminal pass. A \
           slave whose master is closed everywhere passes by itself.",
    message: "slave of pseudoterminal {index}[, {path}], whose master is outside of the tree",
    criu: &["Found slave peer index %d without correspond master peer"],
    source: "criu/tty.c:tty_verify_active_pairs",
    versions: Versions::All,
    remedies: &[
        Remedy::Option(Opt::ShellJob),
        Remedy::Option(Opt::OrphanPtsMaster),
        EXTERNAL,
        Remedy::Workload("start the program detached from the terminal: setsid PROGRAM </dev/null >log 2>&1"),
    ],
    phase: Phase::AfterTasks,
    when: When::Early,
    evidence: Evidence::Tree,
    find: |rule, ctx, sink| {
        for (index, t) in unpaired(ctx) {
            sink.push_unless(t.gate, finding(rule, &t).key(format!("pts:{index}")).num("index", index));
        }
    },
};

pub(crate) static TTY_WRITE_ONLY: Rule = Rule {
    id: "tty-write-only",
    summary: "A terminal opened for writing only, with its other side in the tree.",
    group: "Terminals",
    condition: "Both sides of a pseudoterminal are open in the tree, and the first descriptor that CRIU meets of one of them was opened \
           for writing only (`program >/dev/pts/N`): CRIU cannot read what is queued there. A side whose other is outside is \
           not read.",
    message: "{side} of pseudoterminal {index}[, {path}], opened for writing only, and the other side is in the tree",
    criu: &["Can't read data from tty (%s %#x): Bad file descriptor"],
    source: "criu/tty.c:tty_do_dump_queued_data",
    versions: Versions::All,
    remedies: &[
        EXTERNAL,
        Remedy::Workload("have the program open it for reading, too, or close this descriptor before the dump"),
    ],
    phase: Phase::AfterTasks,
    when: When::Early,
    evidence: Evidence::Tree,
    find: |rule, ctx, sink| {
        let list = terminals(ctx.snap, ctx.host);
        // Of each side and index there is one.
        let ptys: HashMap<(bool, i64), &Terminal> = list
            .iter()
            .filter(|t| t.is_pty())
            .filter_map(|t| Some(((t.driver == Driver::Master, t.index?), t)))
            .collect();
        for t in list.iter().filter(|t| t.is_pty() && t.is_write_only()) {
            let Some(index) = t.index else { continue };
            let Some(other) = ptys.get(&(t.driver != Driver::Master, index)).copied() else { continue };
            // Without the slave, a master is left alone.
            let (side, slave) = if t.driver == Driver::Master { ("master", other) } else { ("slave", t) };
            let f = Finding::on_file(rule, t.task, t.file)
                .key(format!("{side}:{index}"))
                .term("key", tty_key(slave.file))
                .term("side", side)
                .num("index", index);
            sink.push_unless(t.gate.or(other.gate), f);
        }
    },
};

pub(crate) static TTY_TWO_UNPAIRED: Rule = Rule {
    id: "tty-two-unpaired",
    summary: "A second terminal whose other side is outside of the tree.",
    group: "Terminals",
    condition:
        "Slaves of two or more pseudoterminals are open whose masters are not in the tree. Even with --shell-job or \
           orphan_pts_master only one such terminal passes.",
    message: "slave of pseudoterminal {index}[, {path}], the second or later whose master is outside of the tree",
    criu: &["Only one slave external peer is allowed (index %d)"],
    source: "criu/tty.c:tty_verify_active_pairs",
    versions: Versions::All,
    remedies: &[EXTERNAL, Remedy::Workload("have the program close all but one of them before the dump")],
    phase: Phase::AfterTasks,
    when: When::Early,
    evidence: Evidence::Tree,
    find: |rule, ctx, sink: &mut Sink| {
        // Without an option the rule above tells them all; with options not known this one holds all the same.
        if ctx.host.gate(&SLAVE_OPTIONS) == Gate::InForce {
            return;
        }
        // Of which it is not certain, none may be one.
        let mut certain = Gate::FACT_UNKNOWN;
        for (nth, (index, t)) in unpaired(ctx).into_iter().enumerate() {
            if nth > 0 {
                sink.push_unless(t.gate.or(certain), finding(rule, &t).key(format!("pts:{index}")).num("index", index));
            }
            if t.gate == Gate::InForce {
                certain = Gate::InForce;
            }
        }
    },
};

pub(crate) static TTY_CTTY_INHERIT: Rule = Rule {
    id: "tty-ctty-inherit",
    summary: "An open /dev/tty, as sudo and ssh keep it, without the terminal itself.",
    group: "Terminals",
    condition: "/dev/tty is open (programs like sudo and ssh keep it), and no pseudoterminal of the same session is open in the \
           tree with the session leader's process group in its foreground, or the one there is was first met in another \
           process. Either side of it counts. No option helps, --shell-job included.",
    message: "/dev/tty of session {sid}: {lack?none=the tree has no pseudoterminal of that session open with the session leader's group in \
           its foreground|elsewhere=the pseudoterminal of that session was first met in another process, namely {met}}",
    criu: &["ctty inheritance detected sid/pgrp %d, no PTY peer with sid/pgrp needed", "ctty inheritance detected sid/pgrp %d (ctty pid_real %d pty pid_real %d)"],
    source: "criu/tty.c:tty_verify_ctty",
    versions: Versions::All,
    remedies: &[Remedy::Workload("have the program close /dev/tty before the dump")],
    phase: Phase::AfterTasks,
    when: When::Early,
    evidence: Evidence::Tree,
    find: |rule, ctx, sink| {
        let list = terminals(ctx.snap, ctx.host);
        // All of them share one record, that of the first.
        for t in list.iter().filter(|t| t.driver == Driver::Ctty) {
            let Some(Session { sid, .. }) = t.session else { continue };
            let (verdict, met) = inherits(t, sid, &list);
            let Some(verdict) = verdict else { continue };
            let mut f = finding(rule, t).num("sid", sid);
            f = match met {
                None => f.term("lack", "none"),
                Some(pid) => f.term("lack", "elsewhere").num("met", pid),
            };
            if verdict == Verdict::Warn || (t.guessed && t.hung_up != Some(true)) {
                f = f.doubt();
            }
            sink.push_unless(t.gate, f);
        }
    },
};

/// The verdict on a /dev/tty of session `sid`, and the other process that a fitting pseudoterminal was first met in.
fn inherits(ctty: &Terminal, sid: i32, list: &[Terminal]) -> (Option<Verdict>, Option<i32>) {
    let mut good = false;
    let mut bad = None;
    let mut certain = false;
    for pty in list.iter().filter(|t| t.is_pty()) {
        let fits = pty.session.map(|s| s.sid == sid && s.pgrp == sid);
        if fits == Some(false) {
            continue;
        }
        if pty.task.pid == ctty.task.pid {
            good = true;
        } else {
            bad = bad.or(Some(pty.task.pid));
        }
        if fits == Some(true) && pty.gate == Gate::InForce {
            certain = true;
            break;
        }
    }
    // None that fits for certain: it could be that none fits.
    let fails = bad.is_some() || !certain;
    match (good, fails) {
        (true, false) => (None, None),
        (true, true) => (Some(Verdict::Warn), bad),
        (false, _) => (Some(Verdict::Refuse), bad),
    }
}

#[cfg(test)]
#[path = "tty_tests.rs"]
mod tests;
