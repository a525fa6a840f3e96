//! The second pass over the open files: what only a borrowed descriptor tells ([`crate::scan::fd::remote`]), asked when sock_diag
//! has said which sockets there are.

use crate::hash::{Map, Set};
use crate::parse::{fdinfo, stat};
use crate::scan::fd::files::{classify, flags_of, Class};
use crate::scan::fd::remote;
use crate::scan::fd::remote::{Facts, FdQuery, Process, SocketQuery};
use crate::scan::kernel::PseudoFsIds;
use crate::scan::passes::{Looks, PassContext};
use crate::scan::proc::{Buffers, Dir};
use crate::scan::{Seen, UncheckedList};
use crate::snapshot::{Detail, Index, OpenFile, Probe, ScanPhase, Socket, SocketFacts, Task};
use std::ffi::CString;

/// How many sockets of a tree are asked for options that CRIU does not save.
const MOST_WITH_OPTIONS: usize = 128;

/// Sockets asked so far, by inode: descriptors inherited by many processes are one socket.
type Known = Map<u64, Facts>;

/// Fills in the flags and details.
pub(crate) fn collect(cx: &mut PassContext) {
    let PassContext { snap, proc, own, b, log, host, .. } = cx;
    let mut with_options = if Looks::Last.have(snap.look, host) { MOST_WITH_OPTIONS } else { 0 };
    let mut met = Set::default();
    let wanted: Vec<Vec<Wanted>> = {
        let index = Index::new(snap);
        let mut of_file = |(at, f): (usize, &OpenFile)| {
            let mut want = want(f, own, &index)?;
            if let FdQuery::Socket(ask) = &mut want {
                if with_options > 0 && met.insert(f.attr.ino) {
                    ask.options = true;
                    with_options = with_options.saturating_sub(1);
                }
            }
            Some(Wanted { at, want, several: f.is_socket() && index.socket_holders(f.attr.ino).nth(1).is_some() })
        };
        snap.tasks.iter().map(|t| t.files.iter().enumerate().filter_map(&mut of_file).collect()).collect()
    };
    let mut second = FdDetailPass { look: snap.look, proc, own, known: Known::default(), b, log };
    for (task, wanted) in snap.tasks.iter_mut().zip(wanted) {
        if !wanted.is_empty() {
            second.task(task, wanted);
        }
    }
}

/// What is to be asked.
struct Wanted {
    /// Index of the descriptor in its task.
    at: usize,
    want: FdQuery,
    /// Another descriptor of the tree refers to the same socket.
    several: bool,
}

/// What to ask of a descriptor. Never of anything that might be a file of a file system (its close would be a flush).
pub(crate) fn want(file: &OpenFile, own: &PseudoFsIds, index: &Index) -> Option<FdQuery> {
    match classify(file, own) {
        Class::Socket => {
            let listed = index.socket(file.attr.ino).map(|(_, socket)| socket);
            let mut ask = SocketQuery::about(listed);
            // Who has the other end is asked only where it is not the tree.
            if let Some(Socket::Unix(s)) = listed {
                ask.peer_pid &= !s.peer.is_some_and(|peer| index.holds_socket(u64::from(peer)));
            }
            Some(FdQuery::Socket(ask))
        }
        // O_DIRECT
        Class::Pipe => Some(FdQuery::Flags),
        class @ (Class::Tty | Class::Ptmx) => Some(FdQuery::Tty { master: class == Class::Ptmx }),
        Class::Tun => Some(FdQuery::Tun),
        _ => None,
    }
}

struct FdDetailPass<'a> {
    look: ScanPhase,
    proc: &'a Dir,
    own: &'a PseudoFsIds,
    known: Known,
    b: &'a mut Buffers,
    log: &'a mut UncheckedList,
}

impl FdDetailPass<'_> {
    fn task(&mut self, task: &mut Task, wanted: Vec<Wanted>) {
        let (pid, own) = (task.pid, self.own);
        let Some(process) = self.hold(task) else { return };
        let mut refused = false;
        for Wanted { at, want, several } in wanted {
            let Some(file) = task.files.get_mut(at) else { continue };
            let Some(fd) = file.fd() else { continue };
            // The inode of a socket file that was opened with O_PATH is not that of a socket.
            let shared = (own.socket.is_some() && own.is_socket(file)).then_some(file.attr.ino);
            if matches!(want, FdQuery::Socket(_)) && own.socket.is_some() && shared.is_none() {
                let o_path = SocketFacts { o_path: true, ..SocketFacts::default() };
                file.detail = Some(Box::new(Detail::Socket(o_path)));
                continue;
            }
            // Of a socket that has answered only the flags: this descriptor may be one of O_PATH, which answers nothing.
            let known = shared.filter(|_| several).and_then(|ino| self.known.get(&ino)).cloned();
            let want = if known.is_some() { FdQuery::Socket(SocketQuery::default()) } else { want };
            if !refused {
                match remote::facts(&process, fd, want) {
                    Seen::Seen(facts) => {
                        if let Some(errno) = facts.unasked {
                            self.log.deny(pid, Some(fd), Probe::OpenFile, errno);
                        }
                        // What an O_PATH descriptor cannot tell, another of the same socket can.
                        let o_path = facts.flags & libc::O_PATH as u32 != 0;
                        if let (Some(ino), None, false) = (shared.filter(|_| several), &known, o_path) {
                            self.known.insert(ino, facts.clone());
                        }
                        put(file, known.filter(|_| !o_path).unwrap_or(facts));
                        continue;
                    }
                    Seen::Gone => continue,
                    Seen::Denied(errno) => {
                        self.log.deny(pid, None, Probe::PidfdGetfd, errno);
                        // What is refused for one descriptor is refused for all: no right, or no such call.
                        refused = matches!(errno, libc::EPERM | libc::ENOSYS);
                    }
                }
            }
            if let Some(facts) = known {
                put(file, facts);
            }
            if want == FdQuery::Flags {
                self.flags_by_fdinfo(pid, fd, file);
            }
        }
    }

    /// A pidfd of the very process that was looked at: if after the pidfd was opened the pid has the same start time as
    /// then, it was not used again in between. In the frozen look it cannot be: who traces a process is who reaps it.
    fn hold(&mut self, task: &Task) -> Option<Process> {
        let process = self.log.take(Process::open(task.pid), task.pid, None, Probe::PidfdOpen)?;
        if self.look == ScanPhase::Frozen {
            return Some(process);
        }
        let dir = self.log.take(self.proc.process(task.pid), task.pid, None, Probe::Process)?;
        let text = self.log.take(dir.read_one(c"stat", &mut self.b.text), task.pid, None, Probe::Stat)?;
        (stat::parse(text)?.starttime == task.start_time).then_some(process)
    }

    /// The slow way to the flags of a descriptor that cannot be borrowed.
    fn flags_by_fdinfo(&mut self, pid: i32, fd: i32, file: &mut OpenFile) {
        let Some(dir) = self.log.take(self.proc.process(pid), pid, None, Probe::Process) else { return };
        let Ok(name) = CString::new(format!("fdinfo/{fd}")) else { return };
        let text = self.log.take(dir.read(&name, &mut self.b.text), pid, Some(fd), Probe::FdInfo);
        let Some(text) = text else { return };
        file.flags = flags_of(&fdinfo::parse(text));
    }
}

fn put(file: &mut OpenFile, facts: Facts) {
    file.flags = Some(facts.flags);
    file.owner = facts.owner;
    file.detail = facts.detail.map(Box::new);
}
