//! Files of no kind that CRIU knows.

use crate::criu::Hook;
use crate::parse::nslink::{self, LinkTarget};
use crate::rules::{Evidence, Finding, Phase, Remedy, Rule, Value, Versions, When};
use crate::snapshot::{OpenFile, Task};

/// The link of a file that no other rule nor any code of CRIU's stands for: neither a path nor a namespace, pidfd or
/// anonymous inode.
fn odd_link(file: &OpenFile) -> Option<&[u8]> {
    let link: &[u8] = file.link.as_deref()?;
    let known = matches!(
        nslink::parse(link),
        LinkTarget::Ns { .. }
            | LinkTarget::PidFd(_)
            | LinkTarget::AnonInode(_)
            | LinkTarget::Socket(_)
            | LinkTarget::Pipe(_)
    );
    (!known).then_some(link)
}

fn finding(rule: &Rule, task: &Task, file: &OpenFile, link: &[u8]) -> Finding {
    Finding::on_file(rule, task, file).fact("object", Value::Text(link.into()))
}

pub(crate) static FD_REG_NONAME: Rule = Rule {
    id: "fd-reg-noname",
    summary: "An open kernel object that looks like a regular file, of a kind CRIU does not know.",
    group: "Anonymous inodes",
    condition: "A file that is by its type a regular one but has no path, is no memfd, namespace or pidfd: an object of the kernel \
           that this CRIU does not know.",
    message: "kernel object {object}",
    criu: &["Can't dump file %d of that type [%o] (reg %s)"],
    source: "criu/files.c:dump_one_file",
    versions: Versions::All,
    remedies: &[Remedy::Workload("have the program close it before the dump"), Remedy::Hook(Hook::DumpExtFile)],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for (task, file) in ctx.files() {
            if !matches!(file.kind(), libc::S_IFREG | libc::S_IFDIR | libc::S_IFLNK)
                || ctx.snap.kernel.shmem.contains(&file.attr.dev)
            {
                continue;
            }
            let Some(link) = odd_link(file).filter(|l| !l.starts_with(b"/") && !l.is_empty()) else { continue };
            sink.push(finding(rule, task, file, link));
        }
    },
};

pub(crate) static FD_UNKNOWN: Rule = Rule {
    id: "fd-unknown",
    summary: "An open kernel object without a file type, such as a DMA buffer.",
    group: "Anonymous inodes",
    condition: "A file without a type that is no anonymous inode either: a DMA buffer, for instance.",
    message: "kernel object {object}",
    criu: &["Can't dump file %d of that type [%o] (unknown %s)"],
    source: "criu/files.c:dump_one_file",
    versions: Versions::All,
    remedies: &[Remedy::Workload("have the program close it before the dump"), Remedy::Hook(Hook::DumpExtFile)],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for (task, file) in ctx.files().filter(|(_, f)| f.kind() == 0) {
            let Some(link) = odd_link(file).filter(|l| !l.is_empty()) else { continue };
            sink.push(finding(rule, task, file, link));
        }
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testkit::*;
    use crate::rules::Verdict;
    use crate::snapshot::{Dev, Snapshot};

    fn linked(kind: u32, link: &str) -> Snapshot {
        let mut f = file(3, kind, 9);
        f.attr.dev = Dev { major: 0, minor: 14 };
        f.link = Some(link.into());
        snap(vec![f])
    }

    #[test]
    fn regular_without_a_path() {
        let odd = linked(libc::S_IFREG, "thing:[12]");
        assert_eq!(verdict(&FD_REG_NONAME, &odd, &host()), Some(Verdict::Refuse));
        assert_eq!(verdict(&FD_REG_NONAME, &odd, &with_hook(Hook::DumpExtFile)), None);
        for known in ["/etc/passwd", "/memfd:x (deleted)", "net:[4026531840]", "pidfd:[12]", "anon_inode:[pidfd]", ""] {
            assert_eq!(verdict(&FD_REG_NONAME, &linked(libc::S_IFREG, known), &host()), None, "{known}");
        }
        let mut unread = odd;
        unread.tasks.first_mut().unwrap().files.first_mut().unwrap().link = None;
        assert_eq!(verdict(&FD_REG_NONAME, &unread, &host()), None);
    }

    #[test]
    fn without_a_type() {
        let dmabuf = linked(0, "/dmabuf:");
        assert_eq!(verdict(&FD_UNKNOWN, &dmabuf, &host()), Some(Verdict::Refuse));
        assert_eq!(verdict(&FD_UNKNOWN, &dmabuf, &with_hook(Hook::DumpExtFile)), None);
        assert_eq!(verdict(&FD_REG_NONAME, &dmabuf, &host()), None);
        for known in ["anon_inode:[eventfd]", "anon_inode:[perf_event]", "pidfd:[12]"] {
            assert_eq!(verdict(&FD_UNKNOWN, &linked(0, known), &host()), None, "{known}");
        }
        assert_eq!(verdict(&FD_UNKNOWN, &linked(libc::S_IFREG, "/dmabuf:"), &host()), None);
    }
}
