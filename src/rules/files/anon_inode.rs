//! Kernel objects behind anonymous inodes: io_uring, userfaultfd, perf, BPF, KVM, pidfds and their like.

use crate::bytes::Bytes;
use crate::criu::{Cap, Gate, Hook, Release};
use crate::parse::nslink::{self, LinkTarget};
use crate::rules::{Ctx, Evidence, Finding, Phase, Remedy, Rule, Sink, Value, Verdict, Versions, When};
use crate::snapshot::{OpenFile, Task};

/// `read_fd_link` gets a buffer of this many bytes (criu/files.c:dump_one_file), the terminating zero included.
const LINK_BUFFER: usize = 32;

/// `struct file` flag of a pidfd that stands for one thread: PIDFD_THREAD is O_EXCL (include/uapi/linux/pidfd.h).
const PIDFD_THREAD_FLAG: u32 = libc::O_EXCL as u32;

/// What the link of an anonymous inode says after `anon_inode:`, brackets and all.
fn anon_name(file: &OpenFile) -> Option<Bytes> {
    match nslink::parse(file.link.as_ref()?) {
        LinkTarget::AnonInode(name) if file.is_anon() => Some(name),
        _ => None,
    }
}

/// The anonymous inodes CRIU has code for, exactly as it compares them (criu/include/files.h users: eventfd.c,
/// eventpoll.c, fsnotify.c, signalfd.c, timerfd.c, pidfd.c, bpfmap.c).
fn supported(ctx: &Ctx, name: &[u8]) -> bool {
    match name {
        b"[eventfd]" | b"[eventpoll]" | b"inotify" | b"[fanotify]" | b"[signalfd]" | b"[timerfd]" => true,
        b"[pidfd]" => ctx.host.has(Cap::Pidfds),
        b"bpf-map" => ctx.host.has(Cap::BpfMaps),
        _ => false,
    }
}

/// Every descriptor of an anonymous inode whose link was read.
fn anon_files<'a>(ctx: &'a Ctx) -> impl Iterator<Item = (&'a Task, &'a OpenFile, Bytes)> + 'a {
    ctx.files().filter_map(|(t, f)| Some((t, f, anon_name(f)?)))
}

/// All anonymous inodes are the same inode: the descriptor is the only identity there is.
fn finding(rule: &Rule, task: &Task, file: &OpenFile, name: Bytes) -> Finding {
    Finding::on_file(rule, task, file).key(format!("fd:{}:{}", task.pid, file.origin)).fact("object", Value::Text(name))
}

pub(crate) static FD_ANON: Rule = Rule {
    id: "fd-anon",
    summary:
        "An open kernel object without a file name, of a kind CRIU cannot save: a perf event, a KVM, a userfaultfd.",
    group: "Anonymous inodes",
    condition:
        "A kernel object without a name is open that CRIU has no code for: anything but eventfd, eventpoll, inotify, \
           fanotify, signalfd, timerfd, from 4.1 pidfd, and in builds with libbpf a BPF map. So: perf events, \
           userfaultfd, BPF programs, links and BTF, KVM, landlock rulesets, seccomp listeners, file system contexts, \
           sync files, vfio, iommufd, ...",
    message: "anonymous inode {object}",
    criu: &["Can't dump file %d of that type [%o] (anon %s)"],
    source: "criu/files.c:dump_one_file",
    versions: Versions::All,
    remedies: &[Remedy::Workload("have the program close it before the dump"), Remedy::Hook(Hook::DumpExtFile)],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for (task, file, name) in anon_files(ctx) {
            let long = long_name(file);
            if supported(ctx, &name) || *name == *b"[io_uring]" || *name == *b"[pidfd]" || long {
                continue;
            }
            sink.push(finding(rule, task, file, name));
        }
    },
};

fn long_name(file: &OpenFile) -> bool {
    file.link.as_ref().is_some_and(|l| l.len() >= LINK_BUFFER)
}

pub(crate) static FD_ANON_LONG_NAME: Rule = Rule {
    id: "fd-anon-long-name",
    summary: "An open kernel object whose name is too long for CRIU to read.",
    group: "Anonymous inodes",
    condition:
        "The link text of an anonymous inode has 32 characters or more: CRIU's buffer is too small for it, and no \
           plugin is asked.",
    message: "anonymous inode {object}, whose name is too long for CRIU",
    criu: &["Buffer for read link of fd %d is too small"],
    source: "criu/files.c:dump_one_file, read_fd_link",
    versions: Versions::All,
    remedies: &[Remedy::Workload("have the program close it before the dump")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for (task, file, name) in anon_files(ctx).filter(|(_, f, _)| long_name(f)) {
            sink.push(finding(rule, task, file, name));
        }
    },
};

pub(crate) static FD_IO_URING: Rule = Rule {
    id: "fd-io-uring",
    summary: "An open io_uring: the kernel does not even let CRIU fetch the descriptor.",
    group: "Anonymous inodes",
    condition: "An io_uring descriptor. From kernel 6.7 it cannot be passed over a UNIX socket (io_uring/io_uring.c, \
           `unix_get_socket`), so CRIU cannot even fetch the descriptors of that task and no plugin is asked; before, it \
           is one more unsupported anonymous inode.",
    message: "io_uring",
    criu: &["send_fds failed (-22)", "Can't retrieve FDs from socket", "{before kernel 6.7} Can't dump file %d of that type [%o] (anon anon_inode:[io_uring])"],
    source: "criu/pie/parasite.c:drain_fds, criu/files.c:dump_one_file",
    versions: Versions::All,
    remedies: &[Remedy::Workload(
        "run the program without io_uring: by a switch of its own (io_method=worker for PostgreSQL, innodb_use_native_aio=0 for \
         MariaDB; UV_USE_IO_URING=0 does not stop Node.js 24), or refuse it io_uring_setup before it starts, by a seccomp profile \
         or with sysctl kernel.io_uring_disabled=2",
    )],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        // Before 6.7 the descriptor can be passed, and a plugin may take it.
        let gate = if ctx.snap.kernel.version >= (6, 7) {
            Gate::InForce
        } else {
            ctx.host.gate_hook(Hook::DumpExtFile)
        };
        for (task, file, name) in anon_files(ctx).filter(|(_, _, n)| **n == *b"[io_uring]") {
            sink.push_unless(gate, finding(rule, task, file, name));
        }
    },
};

/// A pidfd, by its fdinfo: the inode is anonymous before kernel 6.9 and of pidfs (regular type bits or none) since.
fn is_pidfd(file: &OpenFile) -> bool {
    match file.link.as_ref().map(|l| nslink::parse(l)) {
        Some(LinkTarget::PidFd(_)) => true,
        Some(LinkTarget::AnonInode(name)) => *name == *b"[pidfd]",
        _ => false,
    }
}

fn pidfds<'a>(ctx: &'a Ctx) -> impl Iterator<Item = (&'a Task, &'a OpenFile)> + 'a {
    ctx.files().filter(|(_, f)| is_pidfd(f))
}

/// The process a pidfd stands for, in our pid namespace: -1 has exited and been reaped, 0 is not visible here.
fn pidfd_target(file: &OpenFile) -> Option<i64> {
    Some(file.info.as_ref()?.pidfd.as_ref()?.pid)
}

fn pidfd_finding(rule: &Rule, task: &Task, file: &OpenFile) -> Finding {
    Finding::on_file(rule, task, file)
        .key(format!("fd:{}:{}", task.pid, file.origin))
        .fact_opt("target", pidfd_target(file).map(Value::Num))
}

pub(crate) static PIDFD_OLD: Rule = Rule {
    id: "pidfd-old",
    summary: "A pidfd (a descriptor of a process), which CRIU saves from 4.1 on only.",
    group: "Anonymous inodes",
    condition: "A pidfd, and this CRIU does not dump them yet.",
    message: "pidfd[ of process {target}]",
    criu: &[
        "Can't dump file %d of that type [%o] (anon anon_inode:[pidfd])",
        "Can't dump file %d of that type [%o] (reg pidfd:[%lu])",
    ],
    source: "criu/files.c:dump_one_file",
    versions: Versions::Without(Cap::Pidfds),
    remedies: &[
        Remedy::Release(Release::V4_1),
        Remedy::Workload("have the program close it before the dump"),
        Remedy::Hook(Hook::DumpExtFile),
    ],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for (task, file) in pidfds(ctx) {
            sink.push(pidfd_finding(rule, task, file));
        }
    },
};

pub(crate) static PIDFD_THREAD: Rule = Rule {
    id: "pidfd-thread",
    summary: "A pidfd of a single thread.",
    group: "Anonymous inodes",
    condition: "A pidfd that was opened with PIDFD_THREAD.",
    message: "pidfd of a single thread (PIDFD_THREAD)[, thread {target}]",
    criu: &["PIDFD_THREAD flag is currently not supported"],
    source: "criu/pidfd.c:dump_one_pidfd",
    versions: Versions::With(Cap::Pidfds),
    remedies: &[Remedy::Workload("have the program close it before the dump")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for (task, file) in pidfds(ctx) {
            let flags = file.flags.or_else(|| file.info.as_ref()?.flags);
            if flags.is_some_and(|f| f & PIDFD_THREAD_FLAG != 0) {
                sink.push(pidfd_finding(rule, task, file));
            }
        }
    },
};

pub(crate) static PIDFD_OUTSIDE: Rule = Rule {
    id: "pidfd-outside",
    summary: "A pidfd of a living process that is not in the tree.",
    group: "Anonymous inodes",
    condition:
        "A pidfd of a living process that is not part of the dumped tree (or not visible in CRIU's pid namespace). A \
           pidfd of a process that has exited is accepted.",
    message: "pidfd of process {target}, which is not part of the tree",
    criu: &["pidfd pid %d is not a part of process tree.."],
    source: "criu/pidfd.c:dump_one_pidfd",
    versions: Versions::With(Cap::Pidfds),
    remedies: &[Remedy::Workload("have the program close it, or end that process, before the dump")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Outsider,
    find: |rule, ctx, sink: &mut Sink| {
        for (task, file) in pidfds(ctx) {
            let flags = file.flags.or_else(|| file.info.as_ref()?.flags);
            // The thread flag is looked at first.
            if flags.is_some_and(|f| f & PIDFD_THREAD_FLAG != 0) {
                continue;
            }
            let Some(target) = pidfd_target(file) else { continue };
            let inside = i32::try_from(target).is_ok_and(|pid| ctx.index.task(pid).is_some());
            if target == -1 || inside {
                continue;
            }
            let mut finding = pidfd_finding(rule, task, file);
            if let Ok(pid) = i32::try_from(target) {
                if pid > 0 {
                    finding.other = Some(crate::rules::Other::Process(pid));
                }
            }
            debug_assert_eq!(finding.verdict, Verdict::Refuse);
            sink.push(finding);
        }
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::criu::Release;
    use crate::parse::fdinfo::{FdInfo, PidFd};
    use crate::rules::testkit::*;
    use crate::snapshot::Snapshot;

    fn anon(link: &str) -> Snapshot {
        let mut f = file(3, 0, 12);
        f.link = Some(link.into());
        snap(vec![f])
    }

    #[test]
    fn anon_list_is_crius() {
        for ok in ["[eventfd]", "[eventpoll]", "inotify", "[fanotify]", "[signalfd]", "[timerfd]", "[pidfd]"] {
            assert_eq!(verdict(&FD_ANON, &anon(&format!("anon_inode:{ok}")), &host()), None, "{ok}");
        }
        for no in ["[userfaultfd]", "[perf_event]", "bpf-prog", "bpf-map", "kvm-vm", "[landlock-ruleset]", "eventfd"] {
            let s = anon(&format!("anon_inode:{no}"));
            assert_eq!(verdict(&FD_ANON, &s, &host()), Some(Verdict::Refuse), "{no}");
            assert_eq!(verdict(&FD_ANON, &s, &with_hook(Hook::DumpExtFile)), None, "{no}");
        }
        let mut libbpf = host();
        libbpf.caps.bpfmap = true;
        assert_eq!(verdict(&FD_ANON, &anon("anon_inode:bpf-map"), &libbpf), None);
        // A file of that name is no anonymous inode.
        let mut s = anon("anon_inode:[perf_event]");
        s.tasks.first_mut().unwrap().files.first_mut().unwrap().attr.mode = libc::S_IFREG;
        assert_eq!(verdict(&FD_ANON, &s, &host()), None);
    }

    #[test]
    fn long_names_are_beyond_a_plugin() {
        let s = anon("anon_inode:[a-name-of-more-than-32]");
        let l = anon("anon_inode:[0123456789012345678]");
        assert_eq!(s.tasks[0].files[0].link.as_ref().unwrap().len(), 35);
        assert_eq!(l.tasks[0].files[0].link.as_ref().unwrap().len(), 32);
        for s in [s, l] {
            assert!(verdict(&FD_ANON_LONG_NAME, &s, &with_hook(Hook::DumpExtFile)).is_some());
            assert_eq!(verdict(&FD_ANON, &s, &host()), None);
        }
        assert_eq!(verdict(&FD_ANON_LONG_NAME, &anon("anon_inode:[012345678901234567]"), &host()), None);
    }

    #[test]
    fn io_uring_by_kernel() {
        let mut s = anon("anon_inode:[io_uring]");
        s.kernel.version = (6, 6);
        assert!(verdict(&FD_IO_URING, &s, &host()).is_some());
        assert_eq!(verdict(&FD_IO_URING, &s, &with_hook(Hook::DumpExtFile)), None);
        s.kernel.version = (6, 7);
        assert!(verdict(&FD_IO_URING, &s, &with_hook(Hook::DumpExtFile)).is_some());
        assert_eq!(verdict(&FD_ANON, &s, &host()), None);
    }

    fn pidfd(pid: i64, flags: u32) -> Snapshot {
        let mut s = anon("pidfd:[77]");
        let f = s.tasks.first_mut().unwrap().files.first_mut().unwrap();
        f.info = Some(Box::new(FdInfo {
            flags: Some(flags),
            pidfd: Some(PidFd { pid, nspid: vec![pid] }),
            ..FdInfo::default()
        }));
        s
    }

    #[test]
    fn pidfds() {
        let old = at_release(Release::V4_0);
        assert!(verdict(&PIDFD_OLD, &pidfd(100, 2), &old).is_some());
        assert_eq!(verdict(&PIDFD_OLD, &pidfd(100, 2), &host()), None);
        for (pid, refused) in [(100, false), (-1, false), (0, true), (4711, true)] {
            assert_eq!(verdict(&PIDFD_OUTSIDE, &pidfd(pid, 2), &host()).is_some(), refused, "{pid}");
            assert_eq!(verdict(&PIDFD_OUTSIDE, &pidfd(pid, 2), &old), None);
        }
        assert!(verdict(&PIDFD_THREAD, &pidfd(100, 0o2000202), &host()).is_some());
        assert_eq!(verdict(&PIDFD_THREAD, &pidfd(100, 0o2000002), &host()), None);
        assert_eq!(verdict(&PIDFD_OUTSIDE, &pidfd(4711, 0o2000202), &host()), None);
    }
}
