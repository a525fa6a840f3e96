//! FIFOs that are dumped, and not restored.

use crate::rules::{Evidence, Finding, Phase, Remedy, Rule, Versions, When};

pub(crate) static FIFO_PACKET: Rule = Rule {
    id: "fifo-packet",
    summary: "A FIFO in packet mode (O_DIRECT): the dump is made and cannot be restored.",
    group: "Dumped, but not restored",
    condition: "A FIFO (a named pipe) whose open file has the flag O_DIRECT, which fcntl can set. CRIU dumps it, and opens the FIFO \
           with that flag at the restore, which the kernel refuses (EINVAL). Pipes without a name are refused at the dump \
           (pipe-packet). A restore that is handed an open file for the FIFO's path (--inherit-fd) does not open it.",
    message: "FIFO[ {path}] is in packet mode (O_DIRECT), and cannot be opened so at the restore",
    criu: &["{at the restore} Can't open fifo %#x [%s]: Invalid argument"],
    source: "criu/fifo.c:do_open_fifo",
    versions: Versions::All,
    remedies: &[Remedy::Workload("have the program clear O_DIRECT, or close the FIFO, before the dump")],
    phase: Phase::Restore,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for (task, file) in ctx.files().filter(|(_, f)| f.is_fifo()) {
            if !file.link.as_ref().is_some_and(|l| l.starts_with(b"/")) {
                continue;
            }
            let Some(flags) = file.flags.or_else(|| file.info.as_ref()?.flags) else { continue };
            // An O_PATH descriptor has no such flag.
            if flags & libc::O_DIRECT as u32 != 0 && flags & libc::O_PATH as u32 == 0 {
                sink.push(Finding::on_file(rule, task, file));
            }
        }
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::files::pipe::PIPE_PACKET;
    use crate::rules::testkit::*;
    use crate::rules::Verdict;
    use crate::snapshot::Snapshot;

    fn fifo(link: &str, flags: i32) -> Snapshot {
        let mut f = file(3, libc::S_IFIFO, 9);
        (f.link, f.flags) = (Some(link.into()), Some(flags as u32));
        snap(vec![f])
    }

    #[test]
    fn with_a_name() {
        for access in [libc::O_RDONLY, libc::O_WRONLY, libc::O_RDWR] {
            let direct = fifo("/run/q", access | libc::O_DIRECT);
            assert_eq!(verdict(&FIFO_PACKET, &direct, &host()), Some(Verdict::Unrestorable));
            assert_eq!(verdict(&PIPE_PACKET, &direct, &host()), None);
            assert_eq!(verdict(&FIFO_PACKET, &fifo("/run/q", access | libc::O_NONBLOCK), &host()), None);
        }
        assert_eq!(verdict(&FIFO_PACKET, &fifo("pipe:[9]", libc::O_DIRECT), &host()), None, "that is pipe-packet");
    }

    #[test]
    fn what_was_not_read() {
        let mut s = fifo("/run/q", libc::O_DIRECT);
        s.tasks[0].files[0].link = None;
        assert_eq!(verdict(&FIFO_PACKET, &s, &host()), None);
        s = fifo("/run/q", libc::O_DIRECT);
        s.tasks[0].files[0].flags = None;
        assert_eq!(verdict(&FIFO_PACKET, &s, &host()), None);
    }
}
