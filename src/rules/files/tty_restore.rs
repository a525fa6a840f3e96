//! Terminals that are dumped and cannot be restored (criu/tty.c).

use crate::criu::{Gate, Opt};
use crate::criu_model::ttys::{driver, index, is_terminal, terminals, Driver};
use crate::rules::files::tty::dangling_sessions;
use crate::rules::{Evidence, Finding, Other, Phase, Remedy, Rule, Value, Versions, When};

pub(crate) static TTY_SESSION_LOST: Rule = Rule {
    id: "tty-session-lost",
    summary: "A terminal whose session is outside of the tree, with --shell-job: its master, or one that is named as external.",
    group: "Dumped, but not restored",
    condition: "The master of a pseudoterminal, or a terminal that --external names, is open in the tree, it controls a session whose leader is \
           not in the tree, no other terminal of that session is open in the tree, and --shell-job is given: that lets the dump pass, and the restore \
           looks for the leader all the same.",
    message: "{side?master=master of pseudoterminal {index}|external=external terminal {path}} of session {sid}, whose leader is not in the tree: --shell-job lets it be dumped, and the \
           restore looks for the leader",
    criu: &["{at the restore} No task found with sid %d"],
    source: "criu/tty.c:tty_find_restoring_task",
    versions: Versions::All,
    remedies: &[Remedy::Workload("dump the tree with the leader of session {sid}, or end that session, or close the master, before the dump")],
    phase: Phase::Restore,
    when: When::Early,
    evidence: Evidence::Outsider,
    find: |rule, ctx, sink| {
        // Without it the dump is refused.
        if ctx.host.gate(&[Opt::ShellJob]) != Gate::Waived {
            return;
        }
        let list = terminals(ctx.snap, ctx.host);
        for found in dangling_sessions(ctx) {
            let of_session = list.iter().filter(|t| t.session.is_none_or(|s| s.sid == found.sid)).count();
            let t = found.terminal;
            // An external one counts as a master, whatever it is (`__tty_is_master`).
            let (is_master, gate) = match t.driver {
                Driver::External => (true, Gate::InForce),
                driver => (driver == Driver::Master, t.gate),
            };
            if found.doubt || found.fault != "outside" || !is_master || of_session != 1 {
                continue;
            }
            let side = if t.driver == Driver::Master { "master" } else { "external" };
            let f = Finding::on_file(rule, t.task, t.file).num("sid", found.sid).term("side", side);
            sink.push_unless(gate, f.fact_opt("index", t.index.map(Value::Num)).other(Other::Process(found.sid)));
        }
    },
};

pub(crate) static TTY_O_PATH: Rule = Rule {
    id: "tty-o-path",
    summary: "An O_PATH descriptor of a terminal that is open otherwise, too.",
    group: "Dumped, but not restored",
    condition: "The slave of a pseudoterminal is open with O_PATH, and CRIU meets another descriptor of it first (if not, or if the terminal is \
           named as external, it refuses the dump). The restore opens it with O_PATH again, and cannot give it its owner and settings.",
    message: "an O_PATH descriptor of the slave of pseudoterminal {index}[, {path}], which is open otherwise as well",
    criu: &["{at the restore} Can't setup uid %d gid %d on %#x"],
    source: "criu/tty.c:restore_tty_params",
    versions: Versions::All,
    remedies: &[Remedy::Workload("have the program close it before the dump")],
    phase: Phase::Restore,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        let list = terminals(ctx.snap, ctx.host);
        for (task, file) in ctx.files().filter(|(_, f)| is_terminal(ctx.host, f)) {
            let flags = file.flags.or_else(|| file.info.as_ref()?.flags);
            let (Driver::Slave, gate) = driver(ctx.host, file) else { continue };
            if flags.is_none_or(|f| f & libc::O_PATH as u32 == 0) {
                continue;
            }
            let index = index(Driver::Slave, file);
            let first = list.iter().find(|t| t.driver == Driver::Slave && t.index == index);
            let Some(first) = first.filter(|t| !std::ptr::eq(t.file, file) && t.hung_up != Some(true)) else { continue };
            let f = Finding::on_file(rule, task, file);
            sink.push_unless(first.gate.or(gate), f.fact_opt("index", index.map(Value::Num)));
        }
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::criu::Host;
    use crate::criu_model::devices::tty_key;
    use crate::rules::testkit::{file, host, snap, verdict, with};
    use crate::rules::Verdict;
    use crate::snapshot::{Detail, Dev, OpenFile, TtyFacts};

    fn terminal(fd: i32, rdev: (u32, u32), link: &str, facts: TtyFacts) -> OpenFile {
        let mut f = file(fd, libc::S_IFCHR, u64::from(rdev.1) + 3);
        f.attr.rdev = Dev { major: rdev.0, minor: rdev.1 };
        f.link = Some(link.into());
        f.detail = Some(Box::new(Detail::Tty(facts)));
        f
    }

    fn slave(fd: i32) -> OpenFile {
        terminal(fd, (136, 4), "/dev/pts/4", TtyFacts { hung_up: Some(false), ..TtyFacts::default() })
    }

    fn master(fd: i32, sid: i32) -> OpenFile {
        let (index, sid, pgrp) = (Some(4), Some(sid), Some(sid));
        let facts = TtyFacts { index, master: true, sid, pgrp, hung_up: Some(false), ..TtyFacts::default() };
        terminal(fd, (5, 2), "/dev/ptmx", facts)
    }

    #[test]
    fn a_master_of_a_session_outside() {
        let job = with(Opt::ShellJob);
        let outside = snap(vec![master(3, 70)]);
        assert_eq!(verdict(&TTY_SESSION_LOST, &outside, &host()), None, "refused");
        assert_eq!(verdict(&TTY_SESSION_LOST, &outside, &job), Some(Verdict::Unrestorable));
        for fine in [master(3, 0), master(3, 100)] {
            assert_eq!(verdict(&TTY_SESSION_LOST, &snap(vec![fine]), &job), None);
        }
        let external = Host { externals: Some(vec![tty_key(&master(3, 70)).into_bytes().into()]), ..job.clone() };
        assert_eq!(verdict(&TTY_SESSION_LOST, &outside, &external), Some(Verdict::Unrestorable));
        // The restore sets the session through another terminal of it.
        let mut s = snap(vec![slave(4), master(3, 70)]);
        (s.tasks[0].tty_nr, s.tasks[0].tpgid, s.tasks[0].sid) = (136 << 8 | 4, 100, 70);
        assert_eq!(verdict(&TTY_SESSION_LOST, &s, &job), None);
    }

    #[test]
    fn an_o_path_descriptor_of_a_terminal() {
        let path = || OpenFile { flags: Some(libc::O_PATH as u32), ..slave(5) };
        assert_eq!(verdict(&TTY_O_PATH, &snap(vec![slave(3), path()]), &host()), Some(Verdict::Unrestorable));
        // It is met first, and refused; or handed in.
        assert_eq!(verdict(&TTY_O_PATH, &snap(vec![path(), slave(6)]), &host()), None);
        assert_eq!(verdict(&TTY_O_PATH, &snap(vec![slave(3), slave(5)]), &host()), None);
        let external = Host { externals: Some(vec![tty_key(&slave(3)).into_bytes().into()]), ..host() };
        assert_eq!(verdict(&TTY_O_PATH, &snap(vec![slave(3), path()]), &external), None);
    }
}
