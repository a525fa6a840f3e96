//! Whole reports over made-up rules, as their readers get them.

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
fn the_hint_names_the_place_of_the_runtime() {
    let findings = [
        tcp(1, 1),
        finding(&SHELL, 1, "a", None),
        finding(&GHOST, 1, "a", Some(3)).text("path", "/tmp/x (deleted)").num("size", 2_000_000),
        finding(&UNIX, 1, "a", Some(4)).num("peer", 4711),
        finding(&PTS, 1, "a", Some(5)).text("path", "/dev/pts/3"),
    ];
    let mut text = String::new();
    for runtime in [
        Runtime::Cli,
        Runtime::Runc,
        Runtime::Crun,
        Runtime::Containerd,
        Runtime::ContainerdCrun,
        Runtime::Crio,
        Runtime::CrioCrun,
        Runtime::PodmanCrun,
        Runtime::PodmanRunc,
        Runtime::Lxc,
        Runtime::Youki,
        Runtime::Rpc,
    ] {
        for release in [Release::V4_1, Release::V4_2] {
            let crun = format!("{runtime:?}").ends_with("Crun");
            if release == Release::V4_1 && !crun {
                continue;
            }
            let host = Host { release, ..host(runtime) };
            text.push_str(&format!("{runtime:?}{}\n", if release == Release::V4_1 { ", libcriu 4.1" } else { "" }));
            for f in &findings {
                let rule = RULES.iter().find(|r| r.id == f.rule).unwrap();
                let cure = hints::cure(rule, f, &host);
                text.push_str(&format!("  {:?}: {}\n", cure.rank, cure.text));
            }
        }
    }
    expect![[r#"
        Cli
          Option: pass --tcp-established or --tcp-close (again to the restore); or close the connection
          Option: pass --shell-job (again to the restore)
          Option: pass --ghost-limit 2000000
          Option: pass --external 'unix[4711]' (restore with --ext-unix-sk where its other end has a name and else --inherit-fd 'fd[N]:socket:[INO]'); or load a CRIU plugin that accepts it (DUMP_UNIX_SK hook)
          NoRemedy: only an RPC client of CRIU can set orphan_pts_master, its command line cannot
        Runc
          Option: pass --tcp-established to runc checkpoint (again to the restore), or write 'tcp-established' or 'tcp-close' in /etc/criu/runc.conf; or close the connection
          Option: pass --shell-job to runc checkpoint (again to the restore), or write 'shell-job' in /etc/criu/runc.conf
          Option: write 'ghost-limit 2000000' in /etc/criu/runc.conf
          Option: write 'external unix[4711]' (restore with --ext-unix-sk where its other end has a name and else --inherit-fd 'fd[N]:socket:[INO]') in /etc/criu/runc.conf; or load a CRIU plugin that accepts it (DUMP_UNIX_SK hook)
          NoRemedy: only an RPC client of CRIU can set orphan_pts_master, its command line cannot
        Crun, libcriu 4.1
          Option: pass --tcp-established to crun checkpoint (again to the restore), or write 'tcp-close' in /etc/criu/default.conf; or close the connection
          Option: pass --shell-job to crun checkpoint (again to the restore)
          Option: write 'ghost-limit 2000000' in /etc/criu/default.conf
          Option: write 'external unix[4711]' (restore with --ext-unix-sk where its other end has a name and else --inherit-fd 'fd[N]:socket:[INO]') in /etc/criu/default.conf; or load a CRIU plugin that accepts it (DUMP_UNIX_SK hook)
          NoRemedy: only an RPC client of CRIU can set orphan_pts_master, its command line cannot
        Crun
          Option: pass --tcp-established to crun checkpoint (again to the restore), or write 'tcp-established' or 'tcp-close' in /etc/criu/crun.conf; or close the connection
          Option: pass --shell-job to crun checkpoint (again to the restore), or write 'shell-job' in /etc/criu/crun.conf
          Option: write 'ghost-limit 2000000' in /etc/criu/crun.conf
          Option: write 'external unix[4711]' (restore with --ext-unix-sk where its other end has a name and else --inherit-fd 'fd[N]:socket:[INO]') in /etc/criu/crun.conf; or load a CRIU plugin that accepts it (DUMP_UNIX_SK hook)
          NoRemedy: only an RPC client of CRIU can set orphan_pts_master, its command line cannot
        Containerd
          Option: write 'tcp-established' or 'tcp-close' in /etc/criu/runc.conf; or close the connection
          Option: write 'shell-job' in /etc/criu/runc.conf
          Option: write 'ghost-limit 2000000' in /etc/criu/runc.conf
          Option: write 'external unix[4711]' (restore with --ext-unix-sk where its other end has a name and else --inherit-fd 'fd[N]:socket:[INO]') in /etc/criu/runc.conf; or load a CRIU plugin that accepts it (DUMP_UNIX_SK hook)
          NoRemedy: only an RPC client of CRIU can set orphan_pts_master, its command line cannot
        ContainerdCrun, libcriu 4.1
          Option: write 'tcp-close' in /etc/criu/default.conf; or close the connection; containerd gives crun no flags, and crun reads /etc/criu/crun.conf only with libcriu 4.2 or newer
          NoRemedy: containerd gives crun no flags, and crun reads /etc/criu/crun.conf only with libcriu 4.2 or newer
          Option: write 'ghost-limit 2000000' in /etc/criu/default.conf
          Option: write 'external unix[4711]' (restore with --ext-unix-sk where its other end has a name and else --inherit-fd 'fd[N]:socket:[INO]') in /etc/criu/default.conf; or load a CRIU plugin that accepts it (DUMP_UNIX_SK hook)
          NoRemedy: only an RPC client of CRIU can set orphan_pts_master, its command line cannot
        ContainerdCrun
          Option: write 'tcp-established' or 'tcp-close' in /etc/criu/crun.conf; or close the connection
          Option: write 'shell-job' in /etc/criu/crun.conf
          Option: write 'ghost-limit 2000000' in /etc/criu/crun.conf
          Option: write 'external unix[4711]' (restore with --ext-unix-sk where its other end has a name and else --inherit-fd 'fd[N]:socket:[INO]') in /etc/criu/crun.conf; or load a CRIU plugin that accepts it (DUMP_UNIX_SK hook)
          NoRemedy: only an RPC client of CRIU can set orphan_pts_master, its command line cannot
        Crio
          Option: write 'tcp-established' or 'tcp-close' in /etc/criu/runc.conf; or close the connection
          Option: write 'shell-job' in /etc/criu/runc.conf
          Option: write 'ghost-limit 2000000' in /etc/criu/runc.conf
          Option: write 'external unix[4711]' (restore with --ext-unix-sk where its other end has a name and else --inherit-fd 'fd[N]:socket:[INO]') in /etc/criu/runc.conf; or load a CRIU plugin that accepts it (DUMP_UNIX_SK hook)
          NoRemedy: only an RPC client of CRIU can set orphan_pts_master, its command line cannot
        CrioCrun, libcriu 4.1
          Option: write 'tcp-close' in /etc/criu/default.conf; or close the connection; CRI-O gives crun no flags, and crun reads /etc/criu/crun.conf only with libcriu 4.2 or newer
          NoRemedy: CRI-O gives crun no flags, and crun reads /etc/criu/crun.conf only with libcriu 4.2 or newer
          Option: write 'ghost-limit 2000000' in /etc/criu/default.conf
          Option: write 'external unix[4711]' (restore with --ext-unix-sk where its other end has a name and else --inherit-fd 'fd[N]:socket:[INO]') in /etc/criu/default.conf; or load a CRIU plugin that accepts it (DUMP_UNIX_SK hook)
          NoRemedy: only an RPC client of CRIU can set orphan_pts_master, its command line cannot
        CrioCrun
          Option: write 'tcp-established' or 'tcp-close' in /etc/criu/crun.conf; or close the connection
          Option: write 'shell-job' in /etc/criu/crun.conf
          Option: write 'ghost-limit 2000000' in /etc/criu/crun.conf
          Option: write 'external unix[4711]' (restore with --ext-unix-sk where its other end has a name and else --inherit-fd 'fd[N]:socket:[INO]') in /etc/criu/crun.conf; or load a CRIU plugin that accepts it (DUMP_UNIX_SK hook)
          NoRemedy: only an RPC client of CRIU can set orphan_pts_master, its command line cannot
        PodmanCrun, libcriu 4.1
          Option: pass --tcp-established to podman container checkpoint (again to the restore), or write 'tcp-close' in /etc/criu/default.conf; or close the connection
          NoRemedy: podman has no flag for --shell-job, and crun reads /etc/criu/crun.conf only with libcriu 4.2 or newer
          Option: write 'ghost-limit 2000000' in /etc/criu/default.conf
          Option: write 'external unix[4711]' (restore with --ext-unix-sk where its other end has a name and else --inherit-fd 'fd[N]:socket:[INO]') in /etc/criu/default.conf; or load a CRIU plugin that accepts it (DUMP_UNIX_SK hook)
          NoRemedy: only an RPC client of CRIU can set orphan_pts_master, its command line cannot
        PodmanCrun
          Option: pass --tcp-established to podman container checkpoint (again to the restore), or write 'tcp-established' or 'tcp-close' in /etc/criu/crun.conf (or the file of annotation org.criu.config); or close the connection
          Option: write 'shell-job' in /etc/criu/crun.conf (or the file of annotation org.criu.config)
          Option: write 'ghost-limit 2000000' in /etc/criu/crun.conf (or the file of annotation org.criu.config)
          Option: write 'external unix[4711]' (restore with --ext-unix-sk where its other end has a name and else --inherit-fd 'fd[N]:socket:[INO]') in /etc/criu/crun.conf (or the file of annotation org.criu.config); or load a CRIU plugin that accepts it (DUMP_UNIX_SK hook)
          NoRemedy: only an RPC client of CRIU can set orphan_pts_master, its command line cannot
        PodmanRunc
          Option: pass --tcp-established to podman container checkpoint (again to the restore), or write 'tcp-established' or 'tcp-close' in /etc/criu/runc.conf (or the file of annotation org.criu.config); or close the connection
          Option: write 'shell-job' in /etc/criu/runc.conf (or the file of annotation org.criu.config)
          Option: write 'ghost-limit 2000000' in /etc/criu/runc.conf (or the file of annotation org.criu.config)
          Option: write 'external unix[4711]' (restore with --ext-unix-sk where its other end has a name and else --inherit-fd 'fd[N]:socket:[INO]') in /etc/criu/runc.conf (or the file of annotation org.criu.config); or load a CRIU plugin that accepts it (DUMP_UNIX_SK hook)
          NoRemedy: only an RPC client of CRIU can set orphan_pts_master, its command line cannot
        Lxc
          Option: write 'tcp-established' or 'tcp-close' in /etc/criu/default.conf; or close the connection
          Option: write 'shell-job' in /etc/criu/default.conf
          Option: write 'ghost-limit 2000000' in /etc/criu/default.conf
          Option: write 'external unix[4711]' (restore with --ext-unix-sk where its other end has a name and else --inherit-fd 'fd[N]:socket:[INO]') in /etc/criu/default.conf; or load a CRIU plugin that accepts it (DUMP_UNIX_SK hook)
          NoRemedy: only an RPC client of CRIU can set orphan_pts_master, its command line cannot
        Youki
          Option: pass --tcp-established to youki's checkpoint command (again to the restore), or write 'tcp-close' in /etc/criu/default.conf; or close the connection
          Option: pass --shell-job to youki's checkpoint command (again to the restore)
          Option: write 'ghost-limit 2000000' in /etc/criu/default.conf
          Option: write 'external unix[4711]' (restore with --ext-unix-sk where its other end has a name and else --inherit-fd 'fd[N]:socket:[INO]') in /etc/criu/default.conf; or load a CRIU plugin that accepts it (DUMP_UNIX_SK hook)
          NoRemedy: only an RPC client of CRIU can set orphan_pts_master, its command line cannot
        Rpc
          Option: set tcp_established = true or tcp_close = true in the RPC request (again to the restore); or close the connection
          Option: set shell_job = true in the RPC request (again to the restore)
          Option: set ghost_limit = 2000000 in the RPC request
          Option: set external = unix[4711] (restore with --ext-unix-sk where its other end has a name and else --inherit-fd 'fd[N]:socket:[INO]') in the RPC request; or load a CRIU plugin that accepts it (DUMP_UNIX_SK hook)
          Option: set orphan_pts_master = true in the RPC request
    "#]].assert_eq(&text);
}

/// An annotation's file is read in place of the runtime's own, and so is runc.conf by crun where there is no crun.conf.
#[test]
fn the_hint_names_the_file_that_the_request_names() {
    let ghost = finding(&GHOST, 1, "a", Some(3)).text("path", "/x (deleted)").num("size", 2_000_000);
    let mut text = String::new();
    for (runtime, file) in [
        (Runtime::Runc, "/etc/criu/runc.conf"),
        (Runtime::Containerd, "/srv/a\nb.conf"),
        (Runtime::Crun, "/etc/criu/runc.conf"),
        (Runtime::PodmanCrun, "/etc/criu/crun.conf"),
        (Runtime::PodmanRunc, "/srv/c.conf"),
        (Runtime::Youki, "/srv/c.conf"),
    ] {
        let host = Host { config_file: Some(file.into()), ..host(runtime) };
        text.push_str(&format!("{runtime:?}: {}\n", hints::cure(&GHOST, &ghost, &host).text));
    }
    expect![[r#"
        Runc: write 'ghost-limit 2000000' in /etc/criu/runc.conf
        Containerd: write 'ghost-limit 2000000' in /srv/a\nb.conf
        Crun: write 'ghost-limit 2000000' in /etc/criu/runc.conf
        PodmanCrun: write 'ghost-limit 2000000' in /etc/criu/crun.conf (or the file of annotation org.criu.config)
        PodmanRunc: write 'ghost-limit 2000000' in /srv/c.conf
        Youki: write 'ghost-limit 2000000' in /etc/criu/default.conf
    "#]]
    .assert_eq(&text);
}

#[test]
fn a_hint_leaves_out_what_does_not_help() {
    let mut host = host(Runtime::Cli);
    host.options.tcp_established = Some(true);
    assert_eq!(
        hints::cure(&TCP, &tcp(1, 1), &host).text,
        "pass --tcp-close (again to the restore); or close the connection"
    );
    host.release = Release::V4_3;
    assert_eq!(hints::cure(&DEVICE, &device(), &host).text, "close /dev/gdrdrv");
    let lock = |release| hints::cure(&LOCK, &finding(&LOCK, 1, "a", None), &Host { release, ..host.clone() }).text;
    assert_eq!(lock(Release::V3_18), "pass --network-lock nftables or --network-lock skip");
    assert_eq!(lock(Release::V3_17), "pass --network-lock nftables", "it knows no other");
    let uprobes = |host: &Host| hints::cure(&UPROBES, &finding(&UPROBES, 1, "a", None), host).text;
    let old = Host { release: Release::V4_1, ..host.clone() };
    assert_eq!(uprobes(&old), "use CRIU 4.2 or newer", "the option is not known there");
    let new = Host { caps: Caps { uprobes: true, ..Caps::default() }, ..host.clone() };
    assert_eq!(uprobes(&new), "pass --allow-uprobes (again to the restore)");
    // The fact that the option's value needs is not known.
    assert_eq!(hints::cure(&GHOST, &finding(&GHOST, 1, "a", None), &host).text, "no workaround known");
    let odd = finding(&UNIX, 1, "a", None).text("peer", "it's 5");
    let given = Host { externals: Some(vec!["unix[it's 5]".into()]), ..host.clone() };
    assert_eq!(hints::cure(&UNIX, &odd, &given).text, "load a CRIU plugin that accepts it (DUMP_UNIX_SK hook)");
    let text = |runtime| hints::cure(&UNIX, &odd, &Host { runtime, ..host.clone() }).text;
    expect![[r#"pass --external 'unix[it'\''s 5]' (restore with --ext-unix-sk where its other end has a name and else --inherit-fd 'fd[N]:socket:[INO]'); or load a CRIU plugin that accepts it (DUMP_UNIX_SK hook)"#]]
        .assert_eq(&text(Runtime::Cli));
    expect![[r#"write 'external "unix[it's 5]"' (restore with --ext-unix-sk where its other end has a name and else --inherit-fd 'fd[N]:socket:[INO]') in /etc/criu/default.conf; or load a CRIU plugin that accepts it (DUMP_UNIX_SK hook)"#]].assert_eq(&text(Runtime::Lxc));
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
            Error (preflight): tcp-connected: and 212 more of this kind: pids 5001, 5002, 5003, 5004, 5005, 5006, 5007, 5008, 5009, 5010, 5011, 5012, 5013, 5014, 5015, 5016, 5017, 5018, 5019, 5020, 5021, 5022, 5023, 5024, 5025, 5026, 5027, 5028, 5029, 5030, 5031, 5032, 5033, 5034, 5035, 5036, 5037, 5038, 5039, 5040 and 67 more
            Error (preflight): ghost-too-big: pid 4213 (java) fd 0: deleted file /tmp/x has 2 bytes; pass --ghost-limit 2
            Error (preflight): ghost-too-big: pid 4213 (java) fd 1: deleted file /tmp/x has 2 bytes; pass --ghost-limit 2
            Error (preflight): ghost-too-big: pid 4213 (java) fd 2: deleted file /tmp/x has 2 bytes; pass --ghost-limit 2
            Error (preflight): ghost-too-big: and 37 more of this kind: pid 4213 fds 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39
            Error (preflight): tty-orphan-master: pid 4213 (java) fd 0: the master of /dev/pts/1 is outside; only an RPC client of CRIU can set orphan_pts_master, its command line cannot
            Error (preflight): tty-orphan-master: pid 4213 (java) fd 1: the master of /dev/pts/1 is outside; only an RPC client of CRIU can set orphan_pts_master, its command line cannot
            Error (preflight): tty-orphan-master: pid 4213 (java) fd 2: the master of /dev/pts/1 is outside; only an RPC client of CRIU can set orphan_pts_master, its command line cannot
            Error (preflight): tty-orphan-master: pid 4213 (java) fd 3: the master of /dev/pts/1 is outside; only an RPC client of CRIU can set orphan_pts_master, its command line cannot
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
fn names_from_the_tree_are_harmless() {
    let mut f = finding(&DEVICE, 5, "Error\n\x1b[2J", Some(1))
        .text("path", &b"/tmp/\xff\xfe Error: \n(00.1) Error (cr-dump.c:1): \x1b[31m"[..])
        .text("driver", "a\u{202e}b")
        .text("dev", "x".repeat(5000).as_str());
    f.holders = vec![Holder { pid: 1, comm: "Error\r".into(), fd: None }];
    check(
        &lines(&report(vec![f.clone()]), &host(Runtime::Cli)),
        expect![[r#"
        Error (preflight): refusing to dump pid 4211 (nginx), nothing was frozen: 1 blocker in 1 of 17 tasks: fd-chrdev x1
        Error (preflight): fd-chrdev: pid 5 (Error\n\x1b[2J) fd 1: character device xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...(5000 bytes)...xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx (a\u{202e}b) /tmp/\xff\xfe Error: \n(00.1) Error (cr-dump.c:1): \x1b[31m; held by: pid 1 (Error\r); close /tmp/\xff\xfe Error: \n(00.1) Error (cr-dump.c:1): \x1b[31m; or use CRIU 4.3 or newer
    "#]],
    );
    let mut warned = report(vec![f.doubt()]);
    warned.root.1 = "Error".into();
    warned.unchecked = vec![
        Unchecked { pid: 7, fd: Some(3), probe: Probe::FdInfo, errno: libc::EACCES },
        Unchecked { pid: 8, fd: None, probe: Probe::Sockets { net: 4 }, errno: 0 },
        Unchecked { pid: 9, fd: Some(4), probe: Probe::FdInfo, errno: libc::EACCES },
    ];
    let lines = warnings(&warned, &host(Runtime::Cli));
    assert!(lines.iter().all(|l| !l.contains("Error")));
    check(
        &lines,
        expect![[r#"
        Warn  (preflight): fd-chrdev: pid 5 (\x45rror\n\x1b[2J) fd 1: character device xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...(5000 bytes)...xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx (a\u{202e}b) /tmp/\xff\xfe \x45rror: \n(00.1) \x45rror (cr-dump.c:1): \x1b[31m; held by: pid 1 (\x45rror\r); close /tmp/\xff\xfe \x45rror: \n(00.1) \x45rror (cr-dump.c:1): \x1b[31m; or use CRIU 4.3 or newer
        Warn  (preflight): 3 things could not be looked at: fdinfo EACCES (pid 7 fd 3 and 1 more), sockets of net:[4] not understood (pid 8)
    "#]],
    );
    assert_eq!(warned.verdict(), Outcome::Warn);
    assert_eq!(crate::report::lines::lines(&warned, &host(Runtime::Cli)), Vec::<String>::new());
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
    let told = warnings(&report, &host(Runtime::Cli));
    assert!(told.len() == 1 && told[0].contains("fd-chrdev"), "{told:?}");
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

/// A finding of any bytes.
fn hostile(comm: Vec<u8>, path: Vec<u8>) -> Finding {
    let mut f = finding(&UNIX, 1, "", Some(1)).text("path", path.clone()).text("peer", path);
    f.comm = Bytes(comm.clone());
    f.holders = vec![Holder { pid: 2, comm: Bytes(comm), fd: None }];
    f
}

proptest! {
    #[test]
    fn any_name_makes_good_lines_and_good_json(
        comm in "(Error|[\\n\\\\\\x1b\\u{202e}a-e]){0,15}",
        mut path: Vec<u8>,
        times in 1_usize..80,
    ) {
        path.extend_from_slice(b"Error");
        let f = hostile(comm.into_bytes(), path.repeat(times));
        let mut report = report(vec![f.clone(), f.doubt()]);
        let host = host(Runtime::PodmanCrun);
        let errors = lines(&report, &host);
        prop_assert_eq!(errors.len(), 2);
        let warned = warnings(&report, &host);
        prop_assert!(warned.iter().all(|l| !l.contains("Error")));
        for line in errors.iter().chain(&warned).chain([&syslog_summary(&report, &host, Some(&path))]) {
            prop_assert!(line.len() <= 1000 && !line.contains(char::is_control), "{line:?}");
        }
        prop_assert!(errors[1].contains("; pass --external ") || errors[1].contains("'external "));
        report.mode = Mode::Warn;
        let json = json::to_vec(&report, &host).unwrap();
        prop_assert!(serde_json::from_slice::<serde_json::Value>(&json).is_ok());
    }
}

#[test]
fn queues_within_queues() {
    let lines = [vec![2], vec![2, 1], vec![2, 1, 7], vec![2, 1, 1, 7], vec![1; 64]].map(|queued| {
        let report = report(vec![Finding { queued, ..device() }]);
        lines(&report, &host(Runtime::Cli)).remove(1)
    });
    check(
        &lines,
        expect![[r#"
            Error (preflight): fd-chrdev: pid 4220 (worker) fd 7, descriptor 2 in its queue: character device 506:0 (gdrdrv) /dev/gdrdrv; close /dev/gdrdrv; or use CRIU 4.3 or newer
            Error (preflight): fd-chrdev: pid 4220 (worker) fd 7, descriptor 2 in its queue, descriptor 1 in the queue of that: character device 506:0 (gdrdrv) /dev/gdrdrv; close /dev/gdrdrv; or use CRIU 4.3 or newer
            Error (preflight): fd-chrdev: pid 4220 (worker) fd 7, descriptor 2 in its queue, descriptor 1 in the queue of that, descriptor 7 in the queue of that: character device 506:0 (gdrdrv) /dev/gdrdrv; close /dev/gdrdrv; or use CRIU 4.3 or newer
            Error (preflight): fd-chrdev: pid 4220 (worker) fd 7, descriptor 2 in its queue, and so on to descriptor 7, 4 queues deep: character device 506:0 (gdrdrv) /dev/gdrdrv; close /dev/gdrdrv; or use CRIU 4.3 or newer
            Error (preflight): fd-chrdev: pid 4220 (worker) fd 7, descriptor 1 in its queue, and so on to descriptor 1, 64 queues deep: character device 506:0 (gdrdrv) /dev/gdrdrv; close /dev/gdrdrv; or use CRIU 4.3 or newer
        "#]],
    );
}

#[test]
fn a_hundred_thousand_places_are_a_short_line_and_a_whole_list() {
    const PLACES: i32 = 100_000;
    let mut everywhere = device();
    everywhere.also = (8..PLACES + 7)
        .map(|nth| Place { pid: 4220 + nth / 20_000, fd: Some(nth % 20_000), ..Place::default() })
        .collect();
    // Beside many that are not the same.
    let all = std::iter::once(everywhere).chain((0..10_000).map(|fd| tcp(4213, fd))).collect();
    let (report, host) = (report(all), host(Runtime::Cli));
    check(
        &lines(&report, &host),
        expect![[r#"
            Error (preflight): refusing to dump pid 4211 (nginx), nothing was frozen: 10001 blockers in 7 of 17 tasks: tcp-connected x10000, fd-chrdev x1
            Error (preflight): tcp-connected: pid 4213 (nginx) fd 0: TCP 10.0.0.2:443 <- 10.0.0.9:51514 ESTABLISHED; pass --tcp-established or --tcp-close (again to the restore); or close the connection
            Error (preflight): tcp-connected: pid 4213 (nginx) fd 1: TCP 10.0.0.2:443 <- 10.0.0.9:51514 ESTABLISHED; pass --tcp-established or --tcp-close (again to the restore); or close the connection
            Error (preflight): tcp-connected: pid 4213 (nginx) fd 2: TCP 10.0.0.2:443 <- 10.0.0.9:51514 ESTABLISHED; pass --tcp-established or --tcp-close (again to the restore); or close the connection
            Error (preflight): tcp-connected: and 9997 more of this kind: pid 4213 fds 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42 and 9957 more
            Error (preflight): fd-chrdev: pid 4220 (worker) fd 7: character device 506:0 (gdrdrv) /dev/gdrdrv; also fd 8, fd 9, fd 10 and 99996 more; close /dev/gdrdrv; or use CRIU 4.3 or newer
        "#]],
    );
    let json: serde_json::Value = serde_json::from_slice(&json::to_vec(&report, &host).unwrap()).unwrap();
    let findings = json["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 10_001);
    let also = findings[0]["also"].as_array().unwrap();
    assert_eq!(also.len(), 99_999);
    assert_eq!((&also[99_998]["pid"], &also[99_998]["fd"]), (&4225.into(), &6.into()));
}

#[test]
fn the_file_for_programs() {
    let mut socket = finding(&UNIX, 4213, "ngi\x1bnx", Some(9)).text("path", &b"@\x00a\xff"[..]).num("peer", 4711);
    socket.holders = vec![Holder { pid: 90, comm: "dbus".into(), fd: Some(1) }];
    socket.also = vec![Place { pid: 4214, ..Place::default() }];
    let mut mapping =
        finding(&MAPPING, 4220, "worker", None).fact("range", Value::Range(0x7f00_0000, 0x7f00_1000)).doubt();
    mapping.addr = Some(0xffff_ffff_ff60_0000);
    mapping.tid = Some(4221);
    let mut report = report(vec![socket, mapping]);
    report.unchecked = vec![Unchecked { pid: 7, fd: Some(3), probe: Probe::FdInfo, errno: libc::EACCES }];
    let json = json::to_vec(&report, &host(Runtime::PodmanCrun)).unwrap();
    expect![[r#"
        {
          "schema": 1,
          "plugin": "0.1.0",
          "verdict": "refuse",
          "mode": "enforce",
          "look": "early",
          "criu": {
            "stage": "dump",
            "release": "4.2",
            "caps": {
              "checkpoint_hook": false,
              "pidfd": false,
              "shstk": false,
              "uprobes": false,
              "madv_guards": false,
              "bpfmap": false,
              "compat": false,
              "plugin_options": false
            },
            "options_known": true
          },
          "runtime": "podman-crun",
          "root": {
            "pid": 4211,
            "comm": "nginx"
          },
          "tasks": 17,
          "looked_at": {
            "threads": 0,
            "descriptors": 0,
            "mappings": 0,
            "mounts": 0,
            "sockets": 0
          },
          "findings": [
            {
              "rule": "unix-external-stream",
              "verdict": "refuse",
              "pid": 4213,
              "comm": "ngi\\x1bnx",
              "fd": 9,
              "facts": {
                "path": "@\\x00a\\xff",
                "peer": 4711
              },
              "raw_hex": {
                "path": "400061ff"
              },
              "holders": [
                {
                  "pid": 90,
                  "comm": "dbus",
                  "fd": 1
                }
              ],
              "also": [
                {
                  "pid": 4214,
                  "fd": null
                }
              ],
              "message": "stream socket @\\x00a\\xff is connected to the outside",
              "hint": "write 'external unix[4711]' (restore with --ext-unix-sk where its other end has a name and else --inherit-fd 'fd[N]:socket:[INO]') in /etc/criu/crun.conf (or the file of annotation org.criu.config); or load a CRIU plugin that accepts it (DUMP_UNIX_SK hook)"
            },
            {
              "rule": "vma-device",
              "verdict": "warn",
              "reason": "fact-unknown",
              "pid": 4220,
              "tid": 4221,
              "comm": "worker",
              "address": "0xffffffffff600000",
              "facts": {
                "range": "7f000000-7f001000"
              },
              "holders": [],
              "also": [],
              "message": "mapping 7f000000-7f001000 of a device",
              "hint": "no workaround known"
            }
          ],
          "unchecked": [
            {
              "pid": 7,
              "fd": 3,
              "what": "fdinfo",
              "errno": 13,
              "reason": "EACCES"
            }
          ],
          "log": [
            "Error (preflight): refusing to dump pid 4211 (nginx), nothing was frozen: 1 blocker in 2 of 17 tasks: unix-external-stream x1",
            "Error (preflight): unix-external-stream: pid 4213 (ngi\\x1bnx) fd 9: stream socket @\\x00a\\xff is connected to the outside; held by: pid 90 (dbus) fd 1; also pid 4214; write 'external unix[4711]' (restore with --ext-unix-sk where its other end has a name and else --inherit-fd 'fd[N]:socket:[INO]') in /etc/criu/crun.conf (or the file of annotation org.criu.config); or load a CRIU plugin that accepts it (DUMP_UNIX_SK hook)",
            "Warn  (preflight): vma-device: pid 4220 (worker) thread 4221: mapping 7f000000-7f001000 of a device; no workaround known",
            "Warn  (preflight): 1 thing could not be looked at: fdinfo EACCES (pid 7 fd 3)"
          ]
        }
    "#]].assert_eq(std::str::from_utf8(&json).unwrap());

    let schema: serde_json::Value = serde_json::from_str(include_str!("../../docs/preflight.schema.json")).unwrap();
    let mut document: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let conforms = |d: &serde_json::Value| conforms(&schema, &schema, d, "preflight.json");
    assert_eq!(conforms(&document), Vec::<String>::new());
    // The check can fail.
    document["findings"][0]["pid"] = "4213".into();
    document["findings"][1].as_object_mut().unwrap().remove("hint");
    document["runtime"] = "docker".into();
    document["more"] = 1.into();
    assert_eq!(conforms(&document).len(), 4, "{:?}", conforms(&document));
}

/// What is wrong with `value` by the words of JSON Schema that the schema uses.
fn conforms(root: &serde_json::Value, schema: &serde_json::Value, value: &serde_json::Value, at: &str) -> Vec<String> {
    use serde_json::Value as J;
    let schema = match schema["$ref"].as_str() {
        Some(path) => root.pointer(path.strip_prefix('#').unwrap()).unwrap(),
        None => schema,
    };
    let mut wrong = Vec::new();
    let has_type = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("type {other}"),
    };
    let typed = match &schema["type"] {
        J::Array(names) => names.iter().any(|n| has_type(n.as_str().unwrap())),
        name => has_type(name.as_str().unwrap()),
    };
    if !typed {
        wrong.push(format!("{at}: not {}", schema["type"]));
    }
    if schema["enum"].as_array().is_some_and(|list| !list.contains(value)) {
        wrong.push(format!("{at}: {value} is not one of {}", schema["enum"]));
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(J::as_str) {
        if value.get(name).is_none() {
            wrong.push(format!("{at}: no {name}"));
        }
    }
    for (name, member) in value.as_object().into_iter().flatten() {
        match &schema["properties"][name] {
            // A reader has to bear members that it does not know; ours are all described.
            J::Null if schema["properties"].is_object() => wrong.push(format!("{at}: {name} is not described")),
            J::Null => {}
            inner => wrong.extend(conforms(root, inner, member, &format!("{at}.{name}"))),
        }
    }
    for (i, member) in value.as_array().into_iter().flatten().enumerate() {
        wrong.extend(conforms(root, &schema["items"], member, &format!("{at}[{i}]")));
    }
    wrong
}
