//! Whole reports over made-up rules, as their readers get them.

mod file;
mod hint_texts;
mod hostile;

use super::*;
use crate::criu::{Caps, Hook, Host, Opt, Options, Release, Runtime, Siblings, Stage};
use crate::report::lines::{lines, syslog_summary, warnings};
use crate::rules::{Ctx, Evidence, Holder, Other, Phase, Place, Remedy, Sink, Versions, When};
use crate::snapshot::{Dev, Probe};
use expect_test::{expect, Expect};
use proptest::prelude::*;

fn nothing(_: &Rule, _: &Ctx, _: &mut Sink) {}

const fn rule(id: &'static str, message: &'static str, remedies: &'static [Remedy]) -> Rule {
    Rule {
        id,
        group: "Made up",
        condition: "What `it` is <not>. More of it.",
        message,
        summary: "A thing of the tests.",
        criu: &["No way|back"],
        source: "criu/none.c:none",
        versions: Versions::All,
        remedies,
        phase: Phase::BeforePages,
        when: When::Early,
        evidence: Evidence::Object,
        find: nothing,
    }
}

static TCP: Rule = rule(
    "tcp-connected",
    "TCP {src} <- {dst} {state}[, {queue} bytes queued]",
    &[Remedy::Option(Opt::TcpEstablished), Remedy::Option(Opt::TcpClose), Remedy::Workload("close the connection")],
);
pub(super) static UNIX: Rule = rule(
    "unix-external-stream",
    "stream socket [{path} ]is connected to the outside",
    &[Remedy::External("unix[{peer}]"), Remedy::Hook(Hook::DumpUnixSk)],
);
static GHOST: Rule =
    rule("ghost-too-big", "deleted file {path} has {size} bytes", &[Remedy::Modelled("ghost-limit", "{size}")]);
pub(super) static DEVICE: Rule = rule(
    "fd-chrdev",
    "character device {dev} ({driver}) {path}",
    &[Remedy::Workload("close {path}"), Remedy::Release(Release::V4_3)],
);
pub(super) static MAPPING: Rule = rule("vma-device", "mapping {range} of a device", &[]);
pub(super) static PTS: Rule =
    rule("tty-orphan-master", "the master of {path} is outside", &[Remedy::Option(Opt::OrphanPtsMaster)]);
static SHELL: Rule = rule("tty-session", "session leader {leader} is outside", &[Remedy::Option(Opt::ShellJob)]);
static LOCK: Rule = rule(
    "netns-lock",
    "locked",
    &[Remedy::Modelled("network-lock", "nftables"), Remedy::Modelled("network-lock", "skip")],
);
static UPROBES: Rule =
    rule("vma-uprobes", "probed", &[Remedy::Option(Opt::AllowUprobes), Remedy::Release(Release::V4_2)]);
static RULES: &[&Rule] = &[&TCP, &UNIX, &GHOST, &DEVICE, &MAPPING, &PTS, &SHELL];

fn host(runtime: Runtime) -> Host {
    Host {
        stage: Stage::Dump,
        release: Release::V4_2,
        caps: Caps::default(),
        options: Options { tcp_established: Some(false), ..Options::default() },
        externals: Some(Vec::new()),
        inherit_ids: Some(Vec::new()),
        service_sk_ino: None,
        siblings: Siblings::default(),
        runtime,
        hugetlb: None,
        config_file: None,
    }
}

fn finding(rule: &Rule, pid: i32, comm: &str, fd: Option<i32>) -> Finding {
    Finding {
        rule: rule.id.into(),
        verdict: Verdict::Refuse,
        warns: None,
        pid,
        start_time: 1,
        comm: comm.into(),
        tid: None,
        fd,
        queued: Vec::new(),
        addr: None,
        facts: Vec::new(),
        key: format!("{pid}:{fd:?}"),
        also: Vec::new(),
        other: None,
        holders: Vec::new(),
        outside: None,
        link: None,
        lasts: false,
        proof: Default::default(),
        held: None,
    }
}
fn tcp(pid: i32, fd: i32) -> Finding {
    finding(&TCP, pid, "nginx", Some(fd))
        .fact("src", Value::Addr("10.0.0.2:443".parse().unwrap()))
        .fact("dst", Value::Addr("10.0.0.9:51514".parse().unwrap()))
        .term("state", "ESTABLISHED")
}
fn device() -> Finding {
    finding(&DEVICE, 4220, "worker", Some(7))
        .fact("dev", Value::Dev(Dev { major: 506, minor: 0 }))
        .term("driver", "gdrdrv")
        .text("path", "/dev/gdrdrv")
}

fn report(findings: Vec<Finding>) -> Report {
    Report {
        look: ScanPhase::Early,
        mode: Mode::Enforce,
        root: (4211, "nginx".into()),
        tasks: 17,
        looked_at: LookedAt::default(),
        answer: None,
        findings,
        unchecked: Vec::new(),
        written: None,
        rules: RULES,
    }
}

fn check(lines: &[String], expect: Expect) {
    for line in lines {
        assert!(line.len() <= 1000, "{} bytes: {line}", line.len());
        assert!(!line.contains(char::is_control), "{line:?}");
    }
    expect.assert_eq(&lines.iter().map(|l| format!("{l}\n")).collect::<String>());
}

#[test]
fn a_refusal() {
    let mut socket = finding(&UNIX, 4213, "nginx", Some(9)).text("path", "/run/x.sock").num("peer", 4711);
    socket.other = Some(Other::Socket(4711));
    socket.holders = (0..5).map(|i| Holder { pid: 90 + i, comm: "dbus-daemon".into(), fd: Some(i) }).collect();
    socket.also = [(4213, Some(10)), (4214, Some(9)), (4214, None), (4215, Some(1))]
        .map(|(pid, fd)| Place { pid, fd, ..Place::default() })
        .to_vec();
    let mut mapping = finding(&MAPPING, 4220, "worker", None).fact("range", Value::Range(0x7f00_0000, 0x7f00_1000));
    mapping.addr = Some(0x7f00_0000);
    mapping.tid = Some(4222);
    let mut session = finding(&SHELL, 4220, "worker", None).num("leader", 77);
    session.other = Some(Other::Process(77));
    let all = vec![device(), mapping, tcp(4213, 12).num("queue", 5), socket, session];
    let mut report = report(all);
    check(
        &lines(&report, &host(Runtime::Cli)),
        expect![[r#"
            Error (preflight): refusing to dump pid 4211 (nginx), nothing was frozen: 5 blockers in 4 of 17 tasks: tcp-connected x1, unix-external-stream x1, tty-session x1, fd-chrdev x1, vma-device x1
            Error (preflight): tcp-connected: pid 4213 (nginx) fd 12: TCP 10.0.0.2:443 <- 10.0.0.9:51514 ESTABLISHED, 5 bytes queued; pass --tcp-established or --tcp-close (again to the restore); or close the connection
            Error (preflight): unix-external-stream: pid 4213 (nginx) fd 9: stream socket /run/x.sock is connected to the outside; other end: pid 90 (dbus-daemon) fd 0, pid 91 (dbus-daemon) fd 1, pid 92 (dbus-daemon) fd 2 and 2 more; also fd 10, pid 4214 fd 9, pid 4214 and 1 more; pass --external 'unix[4711]' (restore with --ext-unix-sk where its other end has a name and else --inherit-fd 'fd[N]:socket:[INO]'); or load a CRIU plugin that accepts it (DUMP_UNIX_SK hook)
            Error (preflight): tty-session: pid 4220 (worker): session leader 77 is outside; other process: pid 77; pass --shell-job (again to the restore)
            Error (preflight): fd-chrdev: pid 4220 (worker) fd 7: character device 506:0 (gdrdrv) /dev/gdrdrv; close /dev/gdrdrv; or use CRIU 4.3 or newer
            Error (preflight): vma-device: pid 4220 (worker) thread 4222: mapping 7f000000-7f001000 of a device; no workaround known
        "#]],
    );
    report.look = ScanPhase::Frozen;
    check(
        &lines(&report, &host(Runtime::Cli)).into_iter().take(1).collect::<Vec<_>>(),
        expect![[r#"
        Error (preflight): refusing to dump pid 4211 (nginx), the tree was frozen briefly, nothing was written: 5 blockers in 4 of 17 tasks: tcp-connected x1, unix-external-stream x1, tty-session x1, fd-chrdev x1, vma-device x1
    "#]],
    );
    assert_eq!(warnings(&report, &host(Runtime::Cli)), Vec::<String>::new());
    assert_eq!(report.verdict(), Outcome::Refuse);

    let mut dry = host(Runtime::None);
    dry.stage = Stage::DryRun;
    report.findings.truncate(1);
    report.tasks = 1;
    check(
        &lines(&report, &dry),
        expect![[r#"
        Error (preflight): a dump of pid 4211 (nginx) would be refused: 1 blocker in 1 of 1 task: fd-chrdev x1
        Error (preflight): fd-chrdev: pid 4220 (worker) fd 7: character device 506:0 (gdrdrv) /dev/gdrdrv; close /dev/gdrdrv; or use CRIU 4.3 or newer
    "#]],
    );
}

#[test]
fn repeats_are_folded() {
    let mut all: Vec<Finding> = (0..215).map(|i| tcp(5000 + i / 2, 3)).collect();
    all.extend((0..40).map(|i| finding(&GHOST, 4213, "java", Some(i)).text("path", "/tmp/x").num("size", 2)));
    all.extend((0..4).map(|i| finding(&PTS, 4213, "java", Some(i)).text("path", "/dev/pts/1")));
    check(
        &lines(&report(all), &host(Runtime::Cli)),
        expect![[r#"
            Error (preflight): refusing to dump pid 4211 (nginx), nothing was frozen: 259 blockers in 109 of 17 tasks: tcp-connected x215, ghost-too-big x40, tty-orphan-master x4
            Error (preflight): tcp-connected: pid 5000 (nginx) fd 3: TCP 10.0.0.2:443 <- 10.0.0.9:51514 ESTABLISHED; pass --tcp-established or --tcp-close (again to the restore); or close the connection
            Error (preflight): tcp-connected: pid 5000 (nginx) fd 3: TCP 10.0.0.2:443 <- 10.0.0.9:51514 ESTABLISHED; pass --tcp-established or --tcp-close (again to the restore); or close the connection
            Error (preflight): tcp-connected: pid 5001 (nginx) fd 3: TCP 10.0.0.2:443 <- 10.0.0.9:51514 ESTABLISHED; pass --tcp-established or --tcp-close (again to the restore); or close the connection
            Error (preflight): tcp-connected: and 212 more of this kind: pid 5001 fd 3, pid 5002 fd 3, pid 5003 fd 3, pid 5004 fd 3, pid 5005 fd 3, pid 5006 fd 3, pid 5007 fd 3, pid 5008 fd 3, pid 5009 fd 3, pid 5010 fd 3, pid 5011 fd 3, pid 5012 fd 3, pid 5013 fd 3, pid 5014 fd 3, pid 5015 fd 3, pid 5016 fd 3, pid 5017 fd 3, pid 5018 fd 3, pid 5019 fd 3, pid 5020 fd 3, pid 5021 fd 3, pid 5022 fd 3, pid 5023 fd 3, pid 5024 fd 3, pid 5025 fd 3, pid 5026 fd 3, pid 5027 fd 3, pid 5028 fd 3, pid 5029 fd 3, pid 5030 fd 3, pid 5031 fd 3, pid 5032 fd 3, pid 5033 fd 3, pid 5034 fd 3, pid 5035 fd 3, pid 5036 fd 3, pid 5037 fd 3, pid 5038 fd 3, pid 5039 fd 3, pid 5040 fd 3 and 133 more
            Error (preflight): ghost-too-big: pid 4213 (java) fd 0: deleted file /tmp/x has 2 bytes; pass --ghost-limit 2
            Error (preflight): ghost-too-big: pid 4213 (java) fd 1: deleted file /tmp/x has 2 bytes; pass --ghost-limit 2
            Error (preflight): ghost-too-big: pid 4213 (java) fd 2: deleted file /tmp/x has 2 bytes; pass --ghost-limit 2
            Error (preflight): ghost-too-big: and 37 more of this kind: pid 4213 fds 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39
            Error (preflight): tty-orphan-master: pid 4213 (java) fd 0: the master of /dev/pts/1 is outside; no workaround known
            Error (preflight): tty-orphan-master: pid 4213 (java) fd 1: the master of /dev/pts/1 is outside; no workaround known
            Error (preflight): tty-orphan-master: pid 4213 (java) fd 2: the master of /dev/pts/1 is outside; no workaround known
            Error (preflight): tty-orphan-master: pid 4213 (java) fd 3: the master of /dev/pts/1 is outside; no workaround known
        "#]],
    );
}

#[test]
fn a_long_remedy_is_written_once_and_both_ends_are_named_once() {
    static RING: Rule = rule("fd-io-uring", "io_uring", &[Remedy::Workload(
        "run the program without the thing, by a switch of its own, or by another one, or by a third that is described at length; or \
         keep it from being made, by a profile or by a setting of the kernel, before the program starts",
    )]);
    let rings = [finding(&RING, 1, "a", Some(3)), finding(&RING, 2, "b", Some(3))];
    let mut pair = tcp(4213, 12);
    pair.other = Some(Other::Socket(9));
    pair.also =
        [(4213, 13), (4214, 13), (4215, 7)].map(|(pid, fd)| Place { pid, fd: Some(fd), ..Place::default() }).to_vec();
    pair.holders = vec![Holder { pid: 4215, comm: "redis".into(), fd: Some(7) }];
    static BOTH: &[&Rule] = &[&RING, &TCP];
    let report = Report { rules: BOTH, ..report([&[pair][..], &rings].concat()) };
    check(
        &lines(&report, &host(Runtime::Cli)),
        expect![[r#"
        Error (preflight): refusing to dump pid 4211 (nginx), nothing was frozen: 3 blockers in 5 of 17 tasks: tcp-connected x1, fd-io-uring x2
        Error (preflight): tcp-connected: pid 4213 (nginx) fd 12: TCP 10.0.0.2:443 <- 10.0.0.9:51514 ESTABLISHED; other end: pid 4215 (redis) fd 7; also fd 13, pid 4214 fd 13; pass --tcp-established or --tcp-close (again to the restore); or close the connection
        Error (preflight): fd-io-uring: pid 1 (a) fd 3: io_uring; run the program without the thing, by a switch of its own, or by another one, or by a third that is described at length; or keep it from being made, by a profile or by a setting of the kernel, before the program starts
        Error (preflight): fd-io-uring: pid 2 (b) fd 3: io_uring; remedy as above
    "#]],
    );
}

#[test]
fn many_kinds_are_capped() {
    let names: Vec<String> = (0..150).map(|i| format!("some-rule-with-a-long-name-{i}")).collect();
    let all = names.iter().map(|n| Finding { rule: n.clone().into(), ..tcp(1, 1) }).collect();
    let mut report = report(all);
    report.written = Some("/images/preflight.json".into());
    let lines = lines(&report, &host(Runtime::Cli));
    assert_eq!(lines.len(), 101);
    check(
        &[&lines[0], &lines[1], &lines[100]].map(Clone::clone),
        expect![[r#"
        Error (preflight): refusing to dump pid 4211 (nginx), nothing was frozen: 150 blockers in 1 of 17 tasks: some-rule-with-a-long-name-0 x1, some-rule-with-a-long-name-1 x1, some-rule-with-a-long-name-2 x1, some-rule-with-a-long-name-3 x1, some-rule-with-a-long-name-4 x1, some-rule-with-a-long-name-5 x1, some-rule-with-a-long-name-6 x1, some-rule-with-a-long-name-7 x1, some-rule-with-a-long-name-8 x1, some-rule-with-a-long-name-9 x1, some-rule-with-a-long-name-10 x1, some-rule-with-a-long-name-11 x1, some-rule-with-a-long-name-12 x1, some-rule-with-a-long-name-13 x1, some-rule-with-a-long-name-14 x1, some-rule-with-a-long-name-15 x1, some-rule-with-a-long-name-16 x1, some-rule-with-a-long-name-17 x1, some-rule-with-a-long-name-18 x1, some-rule-with-a-long-name-19 x1, some-rule-with-a-long-name-20 x1, some-rule-with-a-long-name-21 x1, some-rule-with-a-long-name-22 x1, some-rule-with-a-long-name-23 x1, some-rule-with-a-long-name-24 x1 and 125 more kinds
        Error (preflight): some-rule-with-a-long-name-0: pid 1 (nginx) fd 1: src 10.0.0.2:443, dst 10.0.0.9:51514, state ESTABLISHED; this version does not know the rule
        Error (preflight): and 51 more of 51 other kinds: see /images/preflight.json
    "#]],
    );
}

#[test]
fn what_could_not_be_looked_at_has_the_words_it_always_had() {
    use Probe::*;
    let all = [
        (Proc, "/proc"),
        (Process, "/proc/PID"),
        (Stat, "stat"),
        (Status, "status"),
        (Threads, "task"),
        (Children, "task/children"),
        (Descriptors, "fd"),
        (FdLink, "fd link"),
        (FdInfo, "fdinfo"),
        (OpenFile, "open file"),
        (Path, "path"),
        (UnreadMessage, "unread message"),
        (Namespaces, "ns"),
        (Limits, "limits"),
        (Maps, "maps"),
        (Smaps, "smaps"),
        (MapFiles, "map_files"),
        (Exe, "exe"),
        (Cwd, "cwd"),
        (Root, "root"),
        (Auxv, "auxv"),
        (Mountinfo, "mountinfo"),
        (UidMap, "uid_map"),
        (GidMap, "gid_map"),
        (Cgroup, "cgroup"),
        (CgroupInside, "cgroup in its cgroup namespace"),
        (CgroupTasks, "tasks"),
        (CgroupThreads, "cgroup.threads"),
        (Locks, "locks"),
        (Devices, "devices"),
        (OsRelease, "sys/kernel/osrelease"),
        (Autofs, "autofs"),
        (Kcmp, "kcmp"),
        (Registers, "registers"),
        (PidfdOpen, "pidfd_open"),
        (PidfdGetfd, "pidfd_getfd"),
        (ProcessVmReadv, "process_vm_readv"),
        (Eventfd, "eventfd"),
        (Pipe, "pipe"),
        (Socket, "socket"),
        (Sockets { net: 4026531840 }, "sockets of net:[4026531840]"),
        (Interfaces { net: 4026531840 }, "interfaces of net:[4026531840]"),
        (Routes { net: 4026531840 }, "routes of net:[4026531840]"),
    ];
    for (probe, words) in all {
        assert_eq!(crate::report::probe_text(probe), words);
    }
}

#[test]
fn mode_warn_never_says_the_word() {
    let mut report = report(vec![tcp(4213, 12), device().doubt()]);
    report.mode = Mode::Warn;
    assert_eq!(lines(&report, &host(Runtime::Cli)), Vec::<String>::new());
    check(
        &warnings(&report, &host(Runtime::Cli)),
        expect![[r#"
            Warn  (preflight): mode warn, CRIU goes on, but it will fail: pid 4211 (nginx): 1 blocker in 1 of 17 tasks: tcp-connected x1
            Warn  (preflight): tcp-connected: pid 4213 (nginx) fd 12: TCP 10.0.0.2:443 <- 10.0.0.9:51514 ESTABLISHED; pass --tcp-established or --tcp-close (again to the restore); or close the connection
            Warn  (preflight): fd-chrdev: pid 4220 (worker) fd 7: character device 506:0 (gdrdrv) /dev/gdrdrv; close /dev/gdrdrv; or use CRIU 4.3 or newer
        "#]],
    );
}

#[test]
fn what_a_dump_loses_is_in_the_report_alone() {
    static LOST: Rule = Rule { phase: Phase::Never, ..rule("lost-thing", "a thing is lost", &[]) };
    static WITH_LOST: &[&Rule] = &[&DEVICE, &LOST];
    let lost = Finding { rule: "lost-thing".into(), ..device().doubt() };
    let report = Report { rules: WITH_LOST, ..report(vec![device().doubt(), lost]) };
    let printed = warnings(&report, &host(Runtime::Cli));
    assert!(printed.len() == 1 && printed[0].contains("fd-chrdev"), "{printed:?}");
    assert!(String::from_utf8(json::to_vec(&report, &host(Runtime::Cli)).unwrap()).unwrap().contains("lost-thing"));
}

#[test]
fn what_cannot_be_restored_is_a_warning_with_a_line_of_its_own() {
    let mut report = report(vec![tcp(4213, 12).unrestorable(), device().doubt()]);
    assert_eq!((report.verdict(), lines(&report, &host(Runtime::Cli))), (Outcome::Unrestorable, Vec::new()));
    check(
        &warnings(&report, &host(Runtime::Cli)),
        expect![[r#"
            Warn  (preflight): a dump of pid 4211 (nginx) cannot be restored: 1 blocker in 1 of 17 tasks: tcp-connected x1
            Warn  (preflight): tcp-connected: pid 4213 (nginx) fd 12: TCP 10.0.0.2:443 <- 10.0.0.9:51514 ESTABLISHED; pass --tcp-established or --tcp-close (again to the restore); or close the connection
            Warn  (preflight): fd-chrdev: pid 4220 (worker) fd 7: character device 506:0 (gdrdrv) /dev/gdrdrv; close /dev/gdrdrv; or use CRIU 4.3 or newer
        "#]],
    );
    check(
        &[syslog_summary(&report, &host(Runtime::Cli), Some(b"/w/preflight.json"))],
        expect![[r#"
        a dump of pid 4211 (nginx) cannot be restored: 1 blocker in 1 of 17 tasks: tcp-connected x1; report: /w/preflight.json
    "#]],
    );
    // A refusal is what matters more.
    report.findings.push(device());
    assert_eq!(report.verdict(), Outcome::Refuse);
    assert!(syslog_summary(&report, &host(Runtime::Cli), None).starts_with("refusing to dump"));
    assert!(String::from_utf8(json::to_vec(&report, &host(Runtime::Cli)).unwrap()).unwrap().contains("unrestorable"));
}

#[test]
fn the_system_log_gets_the_summary_and_the_place() {
    let report = report(vec![tcp(4213, 12), device()]);
    let text = |path: Option<&[u8]>| syslog_summary(&report, &host(Runtime::Containerd), path);
    check(
        &[text(None), text(Some(b"/run/c\n1/preflight.json")), text(Some(&[b'a'; 4000]))],
        expect![[r#"
        refusing to dump pid 4211 (nginx), nothing was frozen: 2 blockers in 2 of 17 tasks: tcp-connected x1, fd-chrdev x1
        refusing to dump pid 4211 (nginx), nothing was frozen: 2 blockers in 2 of 17 tasks: tcp-connected x1, fd-chrdev x1; report: /run/c\n1/preflight.json
        refusing to dump pid 4211 (nginx), nothing was frozen: 2 blockers in 2 of 17 tasks: tcp-connected x1, fd-chrdev x1; report: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...(4000 bytes)...aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
    "#]],
    );
}

#[test]
fn verdicts() {
    let mut clean = report(Vec::new());
    assert_eq!(clean.verdict(), Outcome::Pass);
    clean.unchecked.push(Unchecked { pid: 1, fd: None, probe: Probe::Maps, errno: 13 });
    assert_eq!(clean.verdict(), Outcome::Warn, "what was not looked at does not pass");
}
