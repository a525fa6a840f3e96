//! Names of UNIX sockets that CRIU must find again in the filesystem (criu/sk-unix.c:unix_resolve_name).

use crate::bytes::Bytes;
use crate::criu::{Cap, Gate};
use crate::criu_model::unix_names::before;
use crate::rules::sockets::unix::{finding, unix_sockets};
use crate::rules::{Ctx, Evidence, Phase, Remedy, Rule, Value, Versions, When};

/// Whether CRIU asks the kernel for the file (SIOCUNIXFILE). With --unprivileged it does not find out that it can
/// (`root_only_init`, criu/kerndat.c), even as root.
pub(super) fn asks(ctx: &Ctx) -> Option<bool> {
    match (ctx.snap.kernel.siocunixfile, ctx.host.options.unprivileged) {
        (_, Some(true)) => Some(false),
        (known, _) => known,
    }
}

/// What depends on CRIU's asking.
fn asked(ctx: &Ctx) -> Gate {
    if ctx.host.options.unprivileged.is_none() {
        Gate::OPTION_UNKNOWN
    } else {
        Gate::InForce
    }
}

pub(crate) static UNIX_NAME_UNRESOLVED: Rule = Rule {
    id: "unix-name-unresolved",
    summary: "A UNIX socket bound to a relative path that CRIU cannot resolve.",
    group: "UNIX sockets",
    condition: "A socket was bound to a relative path and CRIU cannot ask the kernel for its file (SIOCUNIXFILE: Linux 4.10, \
           CAP_NET_ADMIN; with --unprivileged it never does). It then tries the name in the process's present working directory and root only, and refuses if it \
           is not there. Where those are is not looked up: a warning.",
    message: "UNIX {type} socket {name} (inode {ino}): bound to a relative path, which is searched in the process's working \
           directory and root only",
    criu: &["Can't resolve name for socket %#x", "Unable to resolve unix socket name with obsolete method. Try a linux kernel newer than 4.10"],
    source: "criu/sk-unix.c:resolve_rel_name",
    versions: Versions::All,
    remedies: &[
        Remedy::Workload("run a kernel from 4.10 on, and CRIU with CAP_NET_ADMIN"),
        Remedy::Workload("bind the socket to an absolute path"),
    ],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        if asks(ctx) != Some(false) {
            return;
        }
        for (s, u) in unix_sockets(ctx) {
            if u.path().is_some_and(|p| !p.is_empty() && !p.starts_with(b"/")) {
                sink.push(finding(rule, ctx, s, u).doubt());
            }
        }
    },
};

pub(crate) static UNIX_SIOCUNIXFILE: Rule = Rule {
    id: "unix-siocunixfile",
    summary: "A UNIX socket whose file the kernel does not open for CRIU.",
    group: "UNIX sockets",
    condition: "The kernel knows SIOCUNIXFILE but does not open the file that this socket is bound to, or that file's path is longer \
           than a page. CRIU 3.17.1 then goes back to the method for old kernels: a warning there.",
    message: "UNIX {type} socket {name} (inode {ino}): {fault?path=the path of its file is longer than a page|errno=SIOCUNIXFILE fails with error {errno}}",
    criu: &["Unable to get a socket file descriptor with SIOCUNIXFILE ioctl", "Can't read link of fd %d: File name too long"],
    source: "criu/sk-unix.c:unix_resolve_name",
    versions: Versions::Partly("3.17.1 goes another way: a warning"),
    remedies: &[
        Remedy::Workload("give CRIU {right} in the user namespace that owns the socket's network namespace"),
        Remedy::Workload("bind it in a directory with {depth} path"),
        Remedy::Workload("close the socket before the dump"),
    ],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        if asks(ctx) != Some(true) {
            return;
        }
        // CRIU 3.17.1 goes back to the method for old kernels.
        let gate = if ctx.host.has(Cap::UnixFileNeeded) { asked(ctx) } else { Gate::FACT_UNKNOWN };
        for (s, u) in unix_sockets(ctx).filter(|(_, u)| u.path().is_some()) {
            if let Some(errno) = s.fact(|f| f.unix.file.errno()) {
                let f = finding(rule, ctx, s, u);
                let f = match errno {
                    libc::ENAMETOOLONG => f.term("fault", "path").term("depth", "a shorter"),
                    n => f.term("fault", "errno").num("errno", n).term("right", "CAP_NET_ADMIN"),
                };
                sink.push_unless(gate, f);
            }
        }
    },
};

pub(crate) static UNIX_PATH_NOT_SUFFIX: Rule = Rule {
    id: "unix-path-not-suffix",
    summary: "A UNIX socket bound to a relative path, whose file was moved since or goes by another path.",
    group: "UNIX sockets",
    condition: "A socket was bound to a relative path that is not the end of where its file is now: the file was renamed or moved, \
           or the name has `..`, `//`, an inner `.` or a symbolic link in it. One leading `./` is allowed.",
    message: "UNIX {type} socket {name} (inode {ino}): its file is {file}, which does not end in that name",
    criu: &["Unable too cut %s from %s", "{3.17.1} Unable too resolve %s from %s"],
    source: "criu/sk-unix.c:unix_resolve_name, criu/util.c:cut_path_ending",
    versions: Versions::All,
    remedies: &[Remedy::Workload("bind the socket to an absolute path, or move its file back")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        if asks(ctx) == Some(false) {
            return;
        }
        for (s, u) in unix_sockets(ctx) {
            let Some(name) = u.path().filter(|p| !p.starts_with(b"/")) else { continue };
            let Some(file) = s.fact(|f| f.unix.file.is()) else { continue };
            if before(file, name).is_none() {
                let f = finding(rule, ctx, s, u).fact("file", Value::Text(Bytes(file.0.clone())));
                sink.push_unless(asked(ctx), f);
            }
        }
    },
};
