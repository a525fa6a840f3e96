//! Pipes.

use crate::rules::{Evidence, Finding, Phase, Remedy, Rule, Value, Versions, When};
use crate::snapshot::{OpenFile, Snapshot};
use std::collections::HashSet;

/// `NR_PIPES_WITH_DATA` (criu/include/pipes.h).
const NR_PIPES_WITH_DATA: usize = 1024;

/// A pipe of pipefs, not a FIFO on some file system: only its link says so.
fn is_pipe(file: &OpenFile) -> bool {
    file.is_fifo() && file.link.as_ref().is_none_or(|l| l.starts_with(b"pipe:["))
}

/// The inodes of the pipes that autofs mounts talk through (super option `pipe_ino=`).
fn autofs_pipes(snap: &Snapshot) -> HashSet<u64> {
    let mounts = snap.mounts.iter().flat_map(|t| &t.mounts).filter(|m| *m.fstype == *b"autofs");
    mounts.filter_map(|m| std::str::from_utf8(&m.super_value(b"pipe_ino")?).ok()?.parse().ok()).collect()
}

pub(crate) static PIPE_PACKET: Rule = Rule {
    id: "pipe-packet",
    summary: "A pipe in packet mode (O_DIRECT).",
    group: "Pipes",
    condition: "A pipe whose open end is in packet mode (O_DIRECT, set by pipe2 or later by fcntl). The flag belongs to each end \
           by itself. Exempt are the pipes of autofs mounts of the dumped namespaces.",
    message: "{end} end of packetized (O_DIRECT) pipe {ino}",
    criu: &["The packetized mode for pipes is not supported yet"],
    source: "criu/pipes.c:dump_one_pipe",
    versions: Versions::All,
    remedies: &[Remedy::Workload("have the program use a pipe without O_DIRECT, or close it before the dump")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        let mut autofs = None;
        for (task, file) in ctx.files().filter(|(_, f)| is_pipe(f)) {
            let Some(flags) = file.flags.or_else(|| file.info.as_ref()?.flags) else { continue };
            if flags & libc::O_DIRECT as u32 == 0 {
                continue;
            }
            if autofs.get_or_insert_with(|| autofs_pipes(ctx.snap)).contains(&file.attr.ino) {
                continue;
            }
            let end = match flags as i32 & libc::O_ACCMODE {
                libc::O_RDONLY => "read",
                libc::O_WRONLY => "write",
                _ => "read-write",
            };
            let finding = Finding::on_file(rule, task, file)
                .key(format!("pipe:{}:{end}", file.attr.ino))
                .term("end", end)
                .fact("ino", Value::Num(file.attr.ino as i64));
            sink.push(finding);
        }
    },
};

pub(crate) static PIPE_TOO_MANY: Rule = Rule {
    id: "pipe-too-many",
    summary: "More than 1024 readable pipes in one tree.",
    group: "Pipes",
    condition: "More than 1024 different pipes (or, counted apart, FIFOs) with a readable end in the whole tree: CRIU's table of \
           pipe contents is full.",
    message: "{count} {kind} with a readable end in the tree, CRIU has room for 1024",
    criu: &["OOM storing pipe"],
    source: "criu/pipes.c:dump_one_pipe_data",
    versions: Versions::All,
    remedies: &[Remedy::Workload("dump a smaller tree, or have the programs close what they do not use")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Tree,
    find: |rule, ctx, sink| {
        for (kind, pipes) in [("pipes", true), ("FIFOs", false)] {
            let mut seen = HashSet::new();
            let mut over = None;
            for (task, file) in ctx.files().filter(|(_, f)| f.is_fifo() && is_pipe(f) == pipes) {
                let Some(flags) = file.flags.or_else(|| file.info.as_ref()?.flags) else { continue };
                if flags & libc::O_WRONLY as u32 != 0 || !seen.insert((file.attr.dev, file.attr.ino)) {
                    continue;
                }
                if seen.len() == NR_PIPES_WITH_DATA + 1 {
                    over = Some(Finding::on_file(rule, task, file).key(format!("many:{kind}")).term("kind", kind));
                }
            }
            if let Some(f) = over {
                sink.push(f.fact("count", Value::Num(seen.len() as i64)));
            }
        }
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testkit::*;
    use crate::snapshot::MountTable;

    fn pipe(fd: i32, ino: u64, flags: i32) -> OpenFile {
        let mut f = file(fd, libc::S_IFIFO, ino);
        f.flags = Some(flags as u32);
        f.link = Some(format!("pipe:[{ino}]").into_bytes().into());
        f
    }

    #[test]
    fn packet_mode_of_each_end() {
        let direct = libc::O_DIRECT;
        assert_eq!(verdict(&PIPE_PACKET, &snap(vec![pipe(3, 9, 0), pipe(4, 9, 1)]), &host()), None);
        let both = snap(vec![pipe(3, 9, direct), pipe(4, 9, direct | 1)]);
        assert_eq!(found(&PIPE_PACKET, &both, &host()).len(), 2);
        let mut fifo = pipe(3, 9, direct);
        fifo.link = Some("/tmp/fifo".into());
        assert_eq!(verdict(&PIPE_PACKET, &snap(vec![fifo]), &host()), None);
        let mut not_asked = pipe(3, 9, 0);
        not_asked.flags = None;
        assert_eq!(verdict(&PIPE_PACKET, &snap(vec![not_asked]), &host()), None);
    }

    #[test]
    fn autofs_is_exempt() {
        let line = b"40 30 0:50 / /net rw - autofs x rw,fd=5,pipe_ino=9,pgrp=1,timeout=0,minproto=5,maxproto=5,direct";
        let mut s = snap(vec![pipe(3, 9, libc::O_DIRECT)]);
        let mounts = vec![crate::parse::mountinfo::line(line).unwrap()];
        s.mounts.push(MountTable { ns: CRIU_NS, pid: 100, mounts, filled: Vec::new(), masters: Vec::new(), bad: 0 });
        assert_eq!(verdict(&PIPE_PACKET, &s, &host()), None);
        s.tasks.first_mut().unwrap().files.push(pipe(4, 10, libc::O_DIRECT));
        assert!(verdict(&PIPE_PACKET, &s, &host()).is_some());
    }

    #[test]
    fn room_for_1024() {
        let full: Vec<_> = (0..1024).flat_map(|i| [pipe(i * 2, i as u64, 0), pipe(i * 2 + 1, i as u64, 1)]).collect();
        assert_eq!(verdict(&PIPE_TOO_MANY, &snap(full.clone()), &host()), None);
        let mut over = full.clone();
        over.push(pipe(9000, 5000, 0));
        let f = found(&PIPE_TOO_MANY, &snap(over), &host());
        assert_eq!(f.first().and_then(|f| f.get("count")), Some(&Value::Num(1025)));
        // Another FIFO has a table of its own, and the write end of a pipe none.
        let mut near = full;
        near.push(pipe(9001, 5001, 1));
        let mut fifo = pipe(9002, 5002, 0);
        fifo.link = Some("/tmp/fifo".into());
        near.push(fifo);
        assert_eq!(verdict(&PIPE_TOO_MANY, &snap(near), &host()), None);
    }
}
