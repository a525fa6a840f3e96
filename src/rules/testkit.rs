//! Hand-made snapshots and hosts for the rules' tests.
//!
//! The defaults are the plain case: one task sharing every namespace with CRIU, CRIU 4.2, every option known and not
//! given. A test changes the one thing it is about.

use crate::bytes::Bytes;
use crate::config::Config;
use crate::criu::{Caps, Host, LockMethod, Opt, Options, Release, Runtime, Siblings, Stage};
use crate::engine::judge::judge_with;
use crate::parse::diag::{InetDiag, Queues, UnixDiag};
use crate::report::fact_text;
use crate::report::template::{self, Style};
use crate::rules::{Finding, Rule, Verdict};
use crate::snapshot::{
    Cgroups, Detail, Dev, FileAttr, Kernel, MountTable, Namespaces, Observer, OpenFile, Origin, ScanPhase, Snapshot,
    SocketFacts, SocketTable, Task, Thread, UnixFacts, UnixQueueFacts,
};

/// Inode of every namespace of CRIU, and of a default task.
pub(crate) const CRIU_NS: u64 = 4026531840;

/// All namespaces with one inode.
pub(crate) fn namespaces(ino: u64) -> Namespaces {
    let ns = Some(ino);
    Namespaces { mnt: ns, net: ns, pid: ns, ipc: ns, uts: ns, user: ns, cgroup: ns, time: ns, time_for_children: ns }
}

/// A sleeping process with one thread and no descriptor, in CRIU's namespaces.
pub(crate) fn task(pid: i32) -> Task {
    Task {
        pid,
        ppid: 1,
        comm: Bytes::from("app"),
        state: 'S',
        start_time: 1000,
        pgid: pid,
        sid: pid,
        ns_pid: vec![pid],
        ns_sid: vec![pid],
        ns_pgid: vec![pid],
        threads: vec![Thread { tid: pid, state: 'S', ..Thread::default() }],
        ns: namespaces(CRIU_NS),
        elf_class: Some(2),
        ..Task::default()
    }
}

/// The root process 100 with these descriptors.
pub(crate) fn snap(files: Vec<OpenFile>) -> Snapshot {
    let mut root = task(100);
    root.fd_count = files.len();
    root.files = files;
    Snapshot {
        look: ScanPhase::Frozen,
        root: 100,
        criu: Observer { pid: 50, ns: namespaces(CRIU_NS), cap_eff: Some(u64::MAX), ..Observer::default() },
        kernel: Kernel {
            version: (6, 1),
            passcred_refused: Some(false),
            siocunixfile: Some(true),
            compat: Some(true),
            locks_in_fdinfo: Some(true),
            ..Kernel::default()
        },
        tasks: vec![root],
        mounts: Vec::new(),
        sockets: Vec::new(),
        links: Vec::new(),
        cgroups: Cgroups::default(),
        unchecked: Vec::new(),
        uptime: 2000,
        whole: true,
    }
}

/// The mounts of a namespace, read through this process.
pub(crate) fn mount_table(ns: u64, pid: i32, lines: &str) -> MountTable {
    let mounts = lines.lines().map(|l| crate::parse::mountinfo::line(l.as_bytes()).expect(l)).collect();
    MountTable { ns, pid, mounts, filled: Vec::new(), masters: Vec::new(), bad: 0 }
}

/// The root process in mount namespace 7, with these mounts; CRIU's own are there too, for `--external mnt[]`.
pub(crate) fn in_mntns(lines: &str) -> Snapshot {
    let mut s = snap(vec![]);
    s.tasks.first_mut().expect("the root").ns.mnt = Some(7);
    s.mounts.push(mount_table(7, 100, lines));
    s.mounts.push(mount_table(
        CRIU_NS,
        50,
        "21 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n22 21 8:2 / /srv rw shared:2 - xfs /dev/sda2 rw",
    ));
    s
}

/// A file of this type (`libc::S_IF*`, 0 for an anonymous inode) that is mapped, or the target of a link.
pub(crate) fn linked(kind: u32, ino: u64) -> OpenFile {
    OpenFile::linked(FileAttr { ino, mode: kind | 0o600, nlink: 1, mnt_id: Some(15), ..FileAttr::default() })
}

/// The same file with other attributes.
pub(crate) fn with_attr(mut file: OpenFile, change: impl FnOnce(&mut FileAttr)) -> OpenFile {
    change(&mut file.attr);
    file
}

/// A descriptor of such a file.
pub(crate) fn file(fd: i32, kind: u32, ino: u64) -> OpenFile {
    OpenFile { origin: Origin::Fd(fd), ..linked(kind, ino) }
}

/// A descriptor of the socket with this inode.
pub(crate) fn socket(fd: i32, ino: u64) -> OpenFile {
    with_attr(file(fd, libc::S_IFSOCK | 0o777, ino), |a| a.dev = Dev { major: 0, minor: 8 })
}

/// The facts of a UNIX socket with unread messages.
pub(crate) fn with_queue(queue: UnixQueueFacts) -> SocketFacts {
    SocketFacts { unix: UnixFacts { queue: Some(Box::new(queue)), ..UnixFacts::default() }, ..SocketFacts::default() }
}

/// The same with getsockopt answers.
pub(crate) fn socket_with(fd: i32, ino: u64, facts: SocketFacts) -> OpenFile {
    OpenFile { detail: Some(Box::new(Detail::Socket(facts))), ..socket(fd, ino) }
}

/// The sockets of CRIU's network namespace, which is that of a default task.
pub(crate) fn table() -> SocketTable {
    SocketTable { netns: CRIU_NS, ..SocketTable::default() }
}

/// A connected stream socket without a name.
pub(crate) fn unix(ino: u32, peer: u32) -> UnixDiag {
    UnixDiag {
        type_: 1,
        state: 1,
        ino,
        cookie: 1,
        name: None,
        vfs: None,
        peer: Some(peer),
        icons: None,
        rqlen: Some(Queues { rqueue: 0, wqueue: 0 }),
        shutdown: Some(0),
        uid: Some(0),
        length: 100,
    }
}

/// An IPv4 socket of this protocol, 10.0.0.2:80 connected to 10.0.0.9:5000.
pub(crate) fn inet(inode: u32, protocol: u16, state: u8) -> InetDiag {
    InetDiag {
        family: 2,
        protocol,
        state,
        sport: 80,
        dport: 5000,
        src: [10, 0, 0, 2].into(),
        dst: [10, 0, 0, 9].into(),
        if_: 0,
        cookie: 1,
        inode,
        uid: 0,
        rqueue: 0,
        wqueue: 0,
        shutdown: Some(0),
        v6only: None,
        raw_protocol: None,
        ulp: None,
    }
}

/// A dump by CRIU 4.2 from a command line, with no option given and no other plugin.
pub(crate) fn host() -> Host {
    Host {
        stage: Stage::Dump,
        release: Release::V4_2,
        caps: caps(Release::V4_2),
        options: Options { network_lock: Some(LockMethod::Iptables), ..Options::none_given() },
        externals: Some(Vec::new()),
        inherit_ids: Some(Vec::new()),
        service_sk_ino: None,
        siblings: Siblings::default(),
        runtime: Runtime::Cli,
        hugetlb: None,
        config_file: None,
    }
}

/// What the symbols of a usual build of this release tell.
pub(crate) fn caps(release: Release) -> Caps {
    match release {
        // One that is not known has what is newest.
        Release::Unknown => Caps::of(Release::NEWEST),
        known => Caps::of(known),
    }
}

/// The same host at another release.
pub(crate) fn at_release(release: Release) -> Host {
    Host { release, caps: caps(release), ..host() }
}

/// The host with one boolean option given.
pub(crate) fn with(opt: Opt) -> Host {
    let mut h = host();
    *h.options.flag_mut(opt) = Some(true);
    h
}

/// The host with one boolean option not known.
pub(crate) fn unknown(opt: Opt) -> Host {
    let mut h = host();
    *h.options.flag_mut(opt) = None;
    h
}

/// The host with one `--external` string.
pub(crate) fn with_external(key: &str) -> Host {
    Host { externals: Some(vec![Bytes::from(key)]), ..host() }
}

/// The host with another plugin that has this hook.
pub(crate) fn with_hook(hook: crate::criu::Hook) -> Host {
    let plugin = crate::criu::Sibling { name: Bytes::from("other"), hooks: vec![hook as u32] };
    Host { siblings: Siblings { loaded: vec![plugin], ..Siblings::default() }, ..host() }
}

/// What one rule finds.
pub(crate) fn found(rule: &Rule, snap: &Snapshot, host: &Host) -> Vec<Finding> {
    judge_with(&[rule], snap, host, &Config::default())
}

/// The verdict of the only finding; `None`: nothing is found. More than one is a failed test.
pub(crate) fn verdict(rule: &Rule, snap: &Snapshot, host: &Host) -> Option<Verdict> {
    let found = found(rule, snap, host);
    assert!(found.len() <= 1, "{found:#?}");
    // Every fact that the sentence needs must be there, with a value that it has words for.
    for f in &found {
        let sentence = template::render(rule.message, Style::Sentence, &|name| fact_text(f, name));
        assert!(sentence.complete, "{}: {}: {f:#?}", rule.id, sentence.text);
    }
    found.first().map(|f| f.verdict)
}
