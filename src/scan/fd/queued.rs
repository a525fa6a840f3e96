//! The unread messages of the tree's UNIX sockets, and the descriptors in them: CRIU dumps those as its own
//! (`dump_scm_rights`, criu/sk-queue.c; `dump_my_file`, criu/files.c), by nearly the same rules as a process's.
//!
//! Only of a frozen tree (see [`crate::scan::fd::remote::peek`]). Only a tree with unread messages pays for it.

mod place;

use crate::criu_model::queued::{control_room, is_dumped};
use crate::parse::fdinfo;
use crate::scan::fd::remote;
use crate::scan::fd::remote::peek::{Message, Queue, ReceivedFd};
use crate::scan::fd::remote::{has_queue, Process};
use crate::scan::kernel::PseudoFsIds;
use crate::scan::passes::PassContext;
use crate::scan::proc::{owned, Buffers, Dir};
use crate::scan::{sys, UncheckedList};
use crate::snapshot::{Detail, OpenFile, Origin, Probe, Queued, SocketFacts};
use nix::sys::socket::{getsockopt, sockopt};
use place::place;
use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};

/// So many queues within queues are looked into. What lies deeper is not known: nothing about it is refused.
const DEEPEST: usize = 64;

/// A UNIX socket with unread messages.
#[derive(Clone, Copy)]
struct Waiting {
    /// SOCK_*
    kind: i32,
}

/// A descriptor that was met in a queue.
struct QueuedFd {
    /// The process, and its file behind which this belongs.
    task: usize,
    file: usize,
    found: OpenFile,
    taken: ReceivedFd,
    /// CRIU meets the open file there first.
    first: bool,
}

/// Looks at all queues: fills in what the sockets' facts say of them, and puts what lies in them behind each socket.
pub(crate) fn collect(cx: &mut PassContext) {
    let PassContext { snap, own, host, b, log, .. } = cx;
    let waiting: HashMap<u64, Waiting> = snap
        .sockets
        .iter()
        .flat_map(|t| &t.unix)
        .filter(|s| has_queue(s))
        .map(|s| (u64::from(s.ino), Waiting { kind: i32::from(s.type_) }))
        .collect();
    if waiting.is_empty() {
        return;
    }
    // Bytes that the most talkative sender has in others' queues.
    let most = snap.sockets.iter().flat_map(|t| &t.unix).filter_map(|s| s.rqlen.as_ref()).map(|q| q.wqueue).max();
    let pid = nix::unistd::getpid().as_raw();
    let proc = log.take(Dir::proc().into(), pid, None, Probe::Proc);
    let Some(me) = proc.and_then(|proc| log.take(proc.process(pid), pid, None, Probe::Process)) else { return };
    let usual = usual_room();
    let room = control_room(host);
    let mut look = QueueReader {
        me,
        pid,
        room,
        own,
        waiting,
        most: most.unwrap_or(0),
        usual,
        b,
        log,
        seen: HashSet::new(),
        met: Vec::new(),
    };
    for (t, task) in snap.tasks.iter_mut().enumerate() {
        let mut process = None;
        for (f, file) in task.files.iter_mut().enumerate() {
            let o_path = file.socket().is_some_and(|s| s.o_path);
            if !own.is_socket(file)
                || o_path
                || !look.seen.insert(file.attr.ino)
                || !look.waiting.contains_key(&file.attr.ino)
            {
                continue;
            }
            let open = || look.log.take(Process::open(task.pid), task.pid, None, Probe::PidfdOpen);
            let Some(process) = process.get_or_insert_with(open) else { continue };
            let Some(fd) = file.fd() else { continue };
            let borrowed = look.log.take(process.borrow(fd), task.pid, Some(fd), Probe::PidfdGetfd);
            let Some(socket) = borrowed else { continue };
            look.pid = task.pid;
            let at = Queued { fd, ..Queued::default() };
            if let Some(Detail::Socket(facts)) = file.detail.as_deref_mut() {
                look.queue(&socket, file.attr.ino, facts, (t, f), &at);
            }
        }
    }
    let met = std::mem::take(&mut look.met);
    if !met.is_empty() {
        place(snap, own, met, look.log);
    }
}

/// What one message may hold as a rule.
fn usual_room() -> i64 {
    let socket = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Unix,
        nix::sys::socket::SockType::Datagram,
        nix::sys::socket::SockFlag::SOCK_CLOEXEC,
        None,
    );
    let size = socket.ok().and_then(|s| getsockopt(&s, sockopt::SndBuf).ok());
    size.and_then(|n| i64::try_from(n).ok()).unwrap_or(i64::MAX)
}

struct QueueReader<'a> {
    /// /proc/PID of ourselves.
    me: Dir,
    /// The process whose queues are looked at.
    pid: i32,
    /// What CRIU has for control messages, if that is not enough for all.
    room: Option<usize>,
    own: &'a PseudoFsIds,
    waiting: HashMap<u64, Waiting>,
    most: u32,
    usual: i64,
    b: &'a mut Buffers,
    log: &'a mut UncheckedList,
    /// Sockets met so far, by inode.
    seen: HashSet<u64>,
    met: Vec<QueuedFd>,
}

impl QueueReader<'_> {
    /// Looks at the messages of one socket, a descriptor of which is ours, and at the queues of the sockets that lie there, each
    /// before what lies behind it, as CRIU does.
    fn queue(&mut self, socket: &OwnedFd, ino: u64, facts: &mut SocketFacts, place: (usize, usize), at: &Queued) {
        let (task, file) = place;
        let mut levels = vec![self.messages(socket, ino, facts, at).into_iter()];
        while let Some(level) = levels.last_mut() {
            let Some((mut found, taken)) = level.next() else {
                levels.pop();
                continue;
            };
            let inner = self.inner(&mut found, &taken);
            self.met.push(QueuedFd { task, file, found, taken, first: false });
            levels.extend(inner.map(Vec::into_iter));
        }
    }

    /// What lies in the queue of a socket that lies in a queue itself, if that was not met before.
    fn inner(&mut self, found: &mut OpenFile, taken: &ReceivedFd) -> Option<Vec<(OpenFile, ReceivedFd)>> {
        let o_path = found.flags.is_some_and(|f| f & libc::O_PATH as u32 != 0);
        if !self.own.is_socket(found)
            || o_path
            || !self.seen.insert(found.attr.ino)
            || !self.waiting.contains_key(&found.attr.ino)
        {
            return None;
        }
        let ask = remote::SocketQuery { queue: true, ..remote::SocketQuery::default() };
        let facts =
            self.noted(found.queued().map(|q| q.fd), remote::facts_of(taken.file(), remote::FdQuery::Socket(ask)));
        let mut facts = match facts.and_then(|facts| facts.detail) {
            Some(Detail::Socket(facts)) => facts,
            _ => SocketFacts::default(),
        };
        let at = found.queued().cloned().unwrap_or_default();
        let inside = match at.path.len() {
            ..DEEPEST => self.messages(taken.file(), found.attr.ino, &mut facts, &at),
            _ => Vec::new(),
        };
        found.detail = Some(Box::new(Detail::Socket(facts)));
        Some(inside)
    }

    /// Reads the messages of one socket; what lies in them.
    fn messages(
        &mut self,
        socket: &OwnedFd,
        ino: u64,
        facts: &mut SocketFacts,
        at: &Queued,
    ) -> Vec<(OpenFile, ReceivedFd)> {
        let mut inside = Vec::new();
        let Some(facts) = facts.unix.queue.as_deref_mut() else { return inside };
        // CRIU is going to get the error, not we.
        let Some(Waiting { kind }) = self.waiting.get(&ino).copied().filter(|_| facts.error == Some(false)) else {
            return inside;
        };
        // Only what can tell more than the first message is looked at.
        let room = facts.sndbuf.map_or(0, i64::from);
        let long = kind != libc::SOCK_STREAM && (room < self.usual || i64::from(self.most) > room);
        let whole = long || facts.passpidfd == Some(true);
        let mut left = if whole { u32::MAX } else { facts.scm_fds.unwrap_or(u32::MAX) };
        let mut nth = 0u32;
        let mut examined = true;
        let Some(mut queue) = self.noted(Some(at.fd), Queue::open(socket, kind, self.room)) else { return inside };
        loop {
            let message = match queue.message() {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(errno) => {
                    self.noted::<()>(Some(at.fd), Err(errno));
                    examined = false;
                    break;
                }
            };
            let Message { length, kinds, fds, cut } = message;
            facts.longest = facts.longest.max(Some(length));
            facts.control.get_or_insert_default().extend(kinds);
            examined &= !cut;
            // A stream's may be shown twice.
            if kind != libc::SOCK_STREAM {
                left = left.saturating_sub(u32::try_from(fds.len()).unwrap_or(u32::MAX));
            }
            for taken in fds {
                nth = nth.saturating_add(1);
                let path = [at.path.as_slice(), &[nth]].concat();
                let found = self.file(&taken, Queued { fd: at.fd, path, ..Queued::default() });
                match self.noted(Some(at.fd), found) {
                    Some(_) if !is_dumped(length) => {}
                    Some(found) => inside.push((found, taken)),
                    None => examined = false,
                }
            }
            if left == 0 {
                break;
            }
        }
        drop(queue);
        if let Some(kinds) = &mut facts.control {
            kinds.sort_unstable();
            kinds.dedup();
        }
        facts.examined = examined;
        inside
    }

    /// Notes what could not be seen of a queue.
    fn noted<T>(&mut self, fd: Option<i32>, result: nix::Result<T>) -> Option<T> {
        result.map_err(|errno| self.log.deny(self.pid, fd, Probe::UnreadMessage, errno as i32)).ok()
    }

    /// What statx, the link and fdinfo tell of a descriptor of ours.
    fn file(&mut self, taken: &ReceivedFd, queued: Queued) -> nix::Result<OpenFile> {
        let fd = taken.file().as_raw_fd();
        let name = |dir: &str| CString::new(format!("{dir}/{fd}")).unwrap_or_default();
        let mut file = OpenFile::linked(sys::statx(taken.file(), c"")?);
        file.link = Some(sys::readlink(&self.me, &name("fd"), &mut self.b.link).map(owned)?);
        sys::slurp(&self.me, &name("fdinfo"), &mut self.b.text, false)?;
        let info = fdinfo::parse(&self.b.text);
        file.attr.mnt_id = file.attr.mnt_id.or(info.mnt_id.and_then(|id| u64::try_from(id).ok()));
        file.flags = Some(remote::flags(taken.file())?);
        file.info = Some(Box::new(info));
        file.origin = Origin::Queued(Box::new(queued));
        Ok(file)
    }
}

#[cfg(test)]
mod tests;
