//! UNIX sockets whose name a restore cannot bind again (`bind_unix_sk`, criu/sk-unix.c).

use crate::bytes::file_name;
use crate::criu_model::unix_names::{is_bound_again, is_deleted};
use crate::rules::sockets::unix::{finding, unix_sockets};
use crate::rules::sockets::unix_name::asks;
use crate::rules::{Ctx, Evidence, Finding, Phase, Remedy, Rule, Sink, Versions, When};
use crate::snapshot::Answer;

pub(crate) static UNIX_DIR_GONE: Rule = Rule {
    id: "unix-dir-gone",
    summary: "A UNIX socket bound to a relative path, whose directory was removed.",
    group: "Dumped, but not restored",
    condition: "A UNIX socket (no connected stream or seqpacket one) was bound to a relative path, and the directory in which it was is \
           no more: the restore enters that directory to bind it. (That of an absolute path it makes for the moment.)",
    message: "UNIX {type} socket {name} (inode {ino}): the directory in which it was bound, that of {file}, is not there any more",
    criu: &["{at the restore} Can't change working dir %s"],
    source: "criu/sk-unix.c:prep_unix_sk_cwd",
    versions: Versions::All,
    remedies: &[
        Remedy::Workload("close the socket before the dump, or make the directory again"),
        Remedy::Workload("bind it to an absolute path"),
    ],
    phase: Phase::Restore,
    when: When::Early,
    evidence: Evidence::Tree,
    find: |rule, ctx, sink| {
        each(rule, ctx, sink, |bound| {
            matches!(bound.dir, Answer::Errno(_)) && !bound.is_absolute
        });
    },
};

pub(crate) static UNIX_DIR_RENAMED: Rule = Rule {
    id: "unix-dir-renamed",
    summary: "A UNIX socket bound to an absolute path, whose directory has another name now.",
    group: "Dumped, but not restored",
    condition: "A UNIX socket (no connected stream or seqpacket one) was bound to an absolute path, its file is still there, and the \
           directory of that path is not: it was renamed. The restore binds the old path.",
    message: "UNIX {type} socket {name} (inode {ino}): its file is {file} now, and the directory of its name is not there any more",
    criu: &["{at the restore} Can't bind id %#x ino %d addr %s: No such file or directory"],
    source: "criu/sk-unix.c:bind_unix_sk",
    versions: Versions::All,
    remedies: &[Remedy::Workload("give the directory its old name back, or unlink the socket's file, before the dump")],
    phase: Phase::Restore,
    when: When::Early,
    evidence: Evidence::Tree,
    find: |rule, ctx, sink| {
        each(rule, ctx, sink, |bound| {
            matches!(bound.dir, Answer::Errno(_)) && bound.is_absolute && !is_deleted(bound.file)
        });
    },
};

pub(crate) static UNIX_MOUNT_OUTSIDE: Rule = Rule {
    id: "unix-mount-outside",
    summary: "A UNIX socket that was bound outside of the tree's mount namespace: socket activation of a container.",
    group: "Dumped, but not restored",
    condition: "The root process has a mount namespace of its own, and a UNIX socket (no connected stream or seqpacket one) has its file on a \
           mount that is in none of the mount namespaces of the tree: it was bound before the tree got its own, and handed down \
           (systemd's socket units, podman's socket activation). The restore looks for that mount to bind the socket again.",
    message: "UNIX {type} socket {name} (inode {ino}): it was bound on mount {mnt_id}, which is in no mount namespace of the tree",
    criu: &["{at the restore} Unable to find the %d mount"],
    source: "criu/sk-unix.c:prep_unix_sk_cwd",
    versions: Versions::All,
    remedies: &[
        Remedy::Workload("have the program close it before the dump, or bind the socket itself"),
        Remedy::Workload("start the container without socket activation, its socket in a volume"),
    ],
    phase: Phase::Restore,
    when: When::Early,
    evidence: Evidence::Mounts,
    find: |rule, ctx, sink| {
        for (f, bound) in sockets(rule, ctx) {
            if let Some(mount) = bound.outside {
                sink.push(f.fact_opt("mnt_id", i64::try_from(mount).ok().map(crate::rules::Value::Num)));
            }
        }
    },
};

pub(crate) static LOST_UNIX_RENAMED: Rule = Rule {
    id: "lost-unix-renamed",
    summary: "A UNIX socket whose file was renamed: after the restore it has its first name again.",
    group: "Dumped, and lost",
    condition: "A UNIX socket (no connected stream or seqpacket one) was bound to an absolute path, and its file was renamed since, as \
           servers do that replace a socket in one step. The restore binds the first name; nothing listens behind the present one.",
    message: "UNIX {type} socket (inode {ino}): bound to {name}, where it will be after the restore, and not at {file}",
    criu: &[],
    source: "criu/sk-unix.c:unix_resolve_name, bind_unix_sk",
    versions: Versions::All,
    remedies: &[Remedy::Workload("rename {name} to {file} after the restore")],
    phase: Phase::Never,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| each(rule, ctx, sink, |bound| bound.is_absolute && bound.is_renamed),
};

pub(crate) static RO_MOUNT_UNIX: Rule = Rule {
    id: "ro-mount-unix",
    summary: "A UNIX socket bound to a path on a mount that is read-only by now.",
    group: "Dumped, but not restored",
    condition: "The root process is in CRIU's mount namespace, and the directory in which a UNIX socket was bound (no connected stream or \
           seqpacket one) is on a read-only mount: the restore can neither remove the old file nor bind the path again.",
    message: "UNIX {type} socket {name} (inode {ino}): it is to be bound again on {mount}, which is read-only",
    criu: &[
        "{at the restore} Can't bind id %#x ino %d addr %s: Address already in use",
        "{at the restore} ghost: Can't access %s for socket id %#x ino %u name %s",
    ],
    source: "criu/sk-unix.c:bind_unix_sk, bind_on_deleted",
    versions: Versions::All,
    remedies: &[Remedy::Workload("remount {mount} writable until the tree is restored, or close the socket before the dump")],
    phase: Phase::Restore,
    when: When::Early,
    evidence: Evidence::Tree,
    find: |rule, ctx, sink| {
        if ctx.snap.root_shares(|n| n.mnt) != Some(true) {
            return;
        }
        for (f, bound) in sockets(rule, ctx) {
            let Some(id) = bound.dir.is() else { continue };
            let table = ctx.snap.mounts.iter().find(|table| Some(table.ns) == ctx.snap.criu.ns.mnt);
            let mount = table.and_then(|t| t.mounts.iter().find(|m| u64::try_from(m.mnt_id) == Ok(*id)));
            let read_only = |m: &&crate::parse::mountinfo::MountInfo| {
                m.has_option(b"ro") || m.super_option(b"ro").is_some()
            };
            if let Some(mount) = mount.filter(read_only) {
                sink.push(f.text("mount", mount.mountpoint.clone()));
            }
        }
    },
};

/// A socket that is bound again.
struct Bound<'a> {
    dir: &'a Answer<u64>,
    /// The kernel's text for its file.
    file: &'a [u8],
    is_absolute: bool,
    /// The last component of its path is another. (A directory may be another by a symbolic link.)
    is_renamed: bool,
    /// The mount of its file, which is for certain in no table that CRIU dumps.
    outside: Option<u64>,
}

fn sockets<'c>(rule: &'c Rule, ctx: &'c Ctx) -> impl Iterator<Item = (Finding, Bound<'c>)> {
    let asks = asks(ctx) == Some(true);
    let dumped = ctx.mounts.dumped && ctx.snap.knows_mounts();
    unix_sockets(ctx).filter(move |_| asks).filter_map(move |(s, u)| {
        let facts = s.fact(|f| Some(&f.unix)).filter(|_| is_bound_again(u))?;
        let (file, name) = (facts.file.is()?, u.path()?);
        let is_renamed = !is_deleted(file) && file_name(file) != file_name(name);
        let outside = facts.file_mount.filter(|id| dumped && ctx.mounts.by_id(*id).is_none());
        let bound = Bound { dir: &facts.dir, file, is_absolute: name.starts_with(b"/"), is_renamed, outside };
        Some((finding(rule, ctx, s, u).text("file", file.clone()), bound))
    })
}

fn each(rule: &Rule, ctx: &Ctx, sink: &mut Sink, is: fn(&Bound) -> bool) {
    // Of those that are bound outside nothing else comes to be looked at.
    for (f, _) in sockets(rule, ctx).filter(|(_, bound)| bound.outside.is_none() && is(bound)) {
        sink.push(f);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::criu::Opt;
    use crate::parse::diag::UnixDiag;
    use crate::rules::testkit::{host, mount_table, snap, socket_with, table, unix, verdict, with, CRIU_NS};
    use crate::rules::Verdict;
    use crate::snapshot::{Snapshot, SocketFacts, UnixFacts};

    fn bound(name: &str, file: &str, dir: Answer<u64>) -> Snapshot {
        let unix_facts = UnixFacts { file: Answer::Is(file.into()), dir, ..UnixFacts::default() };
        let mut s = snap(vec![socket_with(3, 7, SocketFacts { unix: unix_facts, ..SocketFacts::default() })]);
        let listening = UnixDiag { state: 10, name: Some(name.into()), peer: None, ..unix(7, 0) };
        s.sockets.push(crate::snapshot::SocketTable { unix: vec![listening], ..table() });
        s
    }

    #[test]
    fn a_directory_that_is_not_there() {
        let gone = || Answer::Errno(libc::ENOENT);
        let unrestorable = Some(Verdict::Unrestorable);
        for (name, file, of_gone, of_renamed) in [
            ("s", "/d/s (deleted)", unrestorable, None),
            ("/d/s", "/e/s", None, unrestorable),
            // CRIU makes the directories for the moment.
            ("/d/s", "/d/s (deleted)", None, None),
        ] {
            let s = bound(name, file, gone());
            assert_eq!(verdict(&UNIX_DIR_GONE, &s, &host()), of_gone, "{name} {file}");
            assert_eq!(verdict(&UNIX_DIR_RENAMED, &s, &host()), of_renamed, "{name} {file}");
            for answer in [Answer::Is(5), Answer::Unknown] {
                let s = bound(name, file, answer);
                assert_eq!(verdict(&UNIX_DIR_GONE, &s, &host()), None);
                assert_eq!(verdict(&UNIX_DIR_RENAMED, &s, &host()), None);
            }
            // It is found where the process is then.
            let s = bound(name, file, gone());
            assert_eq!(verdict(&UNIX_DIR_GONE, &s, &with(Opt::Unprivileged)), None);
        }
    }

    #[test]
    fn a_file_that_was_renamed() {
        for (name, file, lost) in [
            ("/run/s.1.tmp", "/run/s", true),
            ("/run/s", "/run/s", false),
            ("/var/run/s", "/run/s", false),
            ("/run/s", "/run/s (deleted)", false),
            ("s", "/run/t", false),
        ] {
            let mut s = bound(name, file, Answer::Is(5));
            let expected = lost.then_some(Verdict::Warn);
            assert_eq!(verdict(&LOST_UNIX_RENAMED, &s, &host()), expected, "{name} {file}");
            // A connected one has the name of the listening one, and is not bound.
            s.sockets[0].unix[0].state = 1;
            assert_eq!(verdict(&LOST_UNIX_RENAMED, &s, &host()), None);
        }
    }

    #[test]
    fn a_file_on_a_mount_of_elsewhere() {
        let mut s = bound("/d/s", "/d/s", Answer::Errno(libc::ENOENT));
        s.mounts.push(mount_table(7, 100, "21 1 8:1 / / rw - ext4 a rw"));
        let mut judged = |mount: Option<u64>, own: bool| {
            s.tasks[0].ns.mnt = Some(if own { 7 } else { CRIU_NS });
            let Some(crate::snapshot::Detail::Socket(facts)) = s.tasks[0].files[0].detail.as_deref_mut() else {
                panic!()
            };
            facts.unix.file_mount = mount;
            [&UNIX_MOUNT_OUTSIDE, &UNIX_DIR_RENAMED].map(|rule| verdict(rule, &s, &host()).is_some())
        };
        assert_eq!(judged(Some(30), true), [true, false]);
        assert_eq!(judged(Some(21), true), [false, true]);
        assert_eq!(judged(None, true), [false, true]);
        assert_eq!(judged(Some(30), false), [false, true], "the mounts are not dumped");
    }

    #[test]
    fn a_directory_on_a_read_only_mount() {
        let mut s = bound("/m/s", "/m/s", Answer::Is(22));
        let lines = "21 1 8:1 / / rw shared:1 - ext4 a rw\n22 21 8:1 /x /m ro shared:1 - ext4 a rw";
        assert_eq!(verdict(&RO_MOUNT_UNIX, &s, &host()), None);
        s.mounts.push(mount_table(CRIU_NS, 50, lines));
        assert_eq!(verdict(&RO_MOUNT_UNIX, &s, &host()), Some(Verdict::Unrestorable));
        s.tasks[0].ns.mnt = Some(7);
        assert_eq!(verdict(&RO_MOUNT_UNIX, &s, &host()), None);
        let mut s = bound("/m/s", "/m/s", Answer::Is(21));
        s.mounts.push(mount_table(CRIU_NS, 50, lines));
        assert_eq!(verdict(&RO_MOUNT_UNIX, &s, &host()), None);
    }
}
