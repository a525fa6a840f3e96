//! Names of files that no rule had to know: read after judging, so that an ordinary descriptor never costs a link.

use crate::bytes::Bytes;
use crate::hash::{Map, Set};
use crate::parse::stat;
use crate::rules::{Finding, Value};
use crate::scan::proc::{owned, Buffers, Dir};
use crate::scan::Seen;
use crate::snapshot::{OpenFile, Snapshot, Task};
use std::ffi::CString;

/// Gives the findings about files with a name (`path`) that name.
pub(crate) fn fill_in(findings: &mut [Finding], snap: &Snapshot) {
    let of = |f: &Finding| f.fd.filter(|_| f.get("path").is_none() && f.queued.is_empty()).map(|fd| (f.pid, fd));
    let wanted: Set<(i32, i32)> = findings.iter().filter_map(of).collect();
    if wanted.is_empty() {
        return;
    }
    let mut named: Map<(i32, i32), &Task> = Map::default();
    for task in &snap.tasks {
        let keys = task.files.iter().filter(|f| has_name(f)).filter_map(|f| Some((task.pid, f.fd()?)));
        named.extend(keys.filter(|key| wanted.contains(key)).map(|key| (key, task)));
    }
    let mut links = Links::default();
    for f in findings {
        let Some((task, fd)) = of(f).and_then(|key| Some((*named.get(&key)?, key.1))) else { continue };
        if let Seen::Seen(link) = links.of(task, fd) {
            f.facts.push(("path".into(), Value::Text(link)));
        }
    }
}

fn has_name(file: &OpenFile) -> bool {
    matches!(file.kind(), libc::S_IFREG | libc::S_IFDIR | libc::S_IFCHR | libc::S_IFBLK)
}

/// Reads links, mostly several of one process in a row.
#[derive(Default)]
pub(crate) struct Links {
    /// The process that was asked last; held, so that its number cannot come to mean another.
    last: Option<(i32, Seen<Dir>)>,
    b: Buffers,
}

impl Links {
    /// The link text of one descriptor. [`Seen::Gone`] also when the pid belongs to another process by now.
    pub(crate) fn of(&mut self, task: &Task, fd: i32) -> Seen<Bytes> {
        if self.last.as_ref().is_none_or(|(pid, _)| *pid != task.pid) {
            self.last = Some((task.pid, process(task, &mut self.b)));
        }
        let dir = match &self.last {
            Some((_, Seen::Seen(dir))) => dir,
            Some((_, Seen::Denied(errno))) => return Seen::Denied(*errno),
            _ => return Seen::Gone,
        };
        let Ok(name) = CString::new(format!("fd/{fd}")) else { return Seen::Gone };
        dir.link(&name, &mut self.b.link).map(owned)
    }
}

fn process(task: &Task, b: &mut Buffers) -> Seen<Dir> {
    let dir = match Dir::proc() {
        Ok(proc) => proc.process(task.pid),
        Err(errno) => Seen::Denied(errno as i32),
    };
    let Seen::Seen(dir) = dir else { return dir };
    let start = dir.read(c"stat", &mut b.text).ok().and_then(stat::parse).map(|s| s.starttime);
    if start == Some(task.start_time) {
        Seen::Seen(dir)
    } else {
        Seen::Gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{registry, testkit};
    use std::os::fd::AsRawFd;

    #[test]
    fn of_a_descriptor_and_of_no_other_process() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let me = std::process::id().cast_signed();
        let text = std::fs::read("/proc/self/stat").unwrap();
        let task = Task { start_time: stat::parse(&text).unwrap().starttime, ..testkit::task(me) };
        let mut links = Links::default();
        assert_eq!(links.of(&task, file.as_raw_fd()), Seen::Seen("/dev/null".into()));
        assert_eq!(links.of(&task, 9999), Seen::Gone);
        let other = Task { start_time: task.start_time + 1, ..task.clone() };
        assert_eq!(Links::default().of(&other, file.as_raw_fd()), Seen::Gone);

        // Only what has a name and lacks it in the report.
        let mut s = testkit::snap(vec![]);
        let kinds = [(file.as_raw_fd(), libc::S_IFCHR), (9998, libc::S_IFREG), (9997, libc::S_IFSOCK)];
        s.tasks = vec![Task { files: kinds.map(|(fd, kind)| testkit::file(fd, kind, 1)).to_vec(), ..task }];
        let rule = registry::RULES.first().unwrap();
        let at = |fd| Finding { fd: Some(fd), ..Finding::on_task(rule, &s.tasks[0]) };
        let mut findings: Vec<Finding> = kinds.iter().map(|(fd, _)| at(*fd)).collect();
        findings.push(at(kinds[0].0).text("path", "known"));
        findings.push(Finding { queued: vec![1], ..at(kinds[0].0) });
        fill_in(&mut findings, &s);
        let paths: Vec<_> = findings.iter().map(|f| f.get("path").cloned()).collect();
        let text = |text: &str| Some(Value::Text(text.into()));
        assert_eq!(paths, [text("/dev/null"), None, None, text("known"), None]);
    }
}
