//! The process that looks, and CRIU's side of it.
//!
//! CRIU's own process only asks and waits: a look that crashes, hangs or grows without bound does so in a process of its own
//! ([`process`]), with a limit of time, of memory and of stack. Whatever becomes of it, the dump goes on, with one warning.
//! What it sends is checked like anything that comes from the tree ([`wire`]).

#[cfg(feature = "fault-injection")]
mod fault;
mod heap;
mod limits;
mod process;
mod serve;
pub mod wire;

use crate::config::Config;
use crate::criu::report_place::Place;
use crate::criu::{log, syslog, workdir, Host};
use crate::scan::sys::retry;
use crate::scan::task::registers;
use nix::errno::Errno;
use nix::sys::socket::{self, MsgFlags};
pub(crate) use process::abandon;
use process::{End, Keeper};
use std::ops::ControlFlow;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};
use wire::{FromScanner, ToScanner};

/// Lines of one look: more than the report ever has.
const LINES: usize = 1000;
/// Bytes of one report.
const REPORT: usize = 64 << 20;

/// A scanner that runs.
#[derive(Debug)]
pub(crate) struct Scanner {
    keeper: Keeper,
    channel: OwnedFd,
    /// Of the report.
    place: Place,
}

/// Why a look was not taken to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    NotMade(Errno),
    TimeLimit,
    MemoryLimit,
    Panic(String),
    /// Exit status.
    Exited(i32),
    /// The number of a signal.
    Killed(i32),
    /// It sent what is no message, or too much.
    Malformed,
    Channel(Errno),
}

impl Scanner {
    /// Makes one that judges by these facts and settings.
    pub(crate) fn start(host: &Host, config: &Config, place: &Place) -> Result<Scanner, Failure> {
        let criu = nix::unistd::getpid().as_raw();
        let mut facts = Some((host.clone(), config.clone()));
        let mut serve = |channel: OwnedFd, far: Option<u64>| {
            if let Some((host, config)) = facts.take() {
                serve::serve(channel, far, criu, host, &config);
            }
        };
        let (keeper, channel) = process::start(&mut serve).map_err(Failure::NotMade)?;
        Ok(Scanner { keeper, channel, place: place.clone() })
    }

    /// Has it look at a running tree; whether the dump is refused, and the scanner for the frozen look.
    pub(crate) fn early(self, root: i32, limit: Duration) -> Result<(bool, Scanner), Failure> {
        let mut exchange = Exchange::new(self, limit);
        match exchange.run(&ToScanner::ScanPhase { frozen: false, root }) {
            Ok(Answer { refuse }) => Ok((refuse, exchange.scanner)),
            Err(failure) => Err(exchange.failed(failure)),
        }
    }

    /// Has it look at the seized tree, by what is known of CRIU now, and end.
    pub(crate) fn frozen(self, root: i32, host: &Host, limit: Duration) -> Result<bool, Failure> {
        let facts = serde_json::to_vec(host).unwrap_or_default();
        let mut exchange = Exchange::new(self, limit);
        let sent = facts.chunks(wire::PACKET.saturating_sub(1)).try_for_each(|p| exchange.send(&ToScanner::Host(p)));
        match sent.and_then(|()| exchange.run(&ToScanner::ScanPhase { frozen: true, root })) {
            Ok(Answer { refuse }) => {
                exchange.scanner.close();
                Ok(refuse)
            }
            Err(failure) => Err(exchange.failed(failure)),
        }
    }

    /// The dump is over, and there was no frozen look.
    pub(crate) fn end(self, failed: bool, limit: Duration) -> Result<(), Failure> {
        let mut exchange = Exchange::new(self, limit);
        match exchange.run(&ToScanner::End { failed }) {
            Ok(_) => {
                exchange.scanner.close();
                Ok(())
            }
            Err(failure) => Err(exchange.failed(failure)),
        }
    }

    /// Ends it without a question.
    pub(crate) fn close(self) -> End {
        drop(self.channel);
        self.keeper.reap()
    }
}

/// What a request came to.
struct Answer {
    refuse: bool,
}

/// One request being answered.
struct Exchange {
    scanner: Scanner,
    until: Instant,
    packet: Vec<u8>,
    /// Kept until the look has come to its end: of one that did not, nothing is said but that.
    lines: Vec<(log::Level, String)>,
    syslog: Option<String>,
    report: Option<workdir::Replacement>,
    reported: usize,
    /// Why the report cannot be written.
    unwritten: Option<String>,
}

impl Exchange {
    fn new(scanner: Scanner, limit: Duration) -> Exchange {
        Exchange {
            scanner,
            until: Instant::now() + limit,
            packet: vec![0; wire::PACKET],
            lines: Vec::new(),
            syslog: None,
            report: None,
            reported: 0,
            unwritten: None,
        }
    }

    fn send(&self, message: &ToScanner) -> Result<(), Failure> {
        // It reads whenever it waits for us: a full queue is that of a scanner that does not run.
        loop {
            let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
            match retry(|| socket::send(self.scanner.channel.as_raw_fd(), &message.to_packet(), flags)) {
                Ok(_) => return Ok(()),
                Err(Errno::EAGAIN) if Instant::now() < self.until => std::thread::sleep(Duration::from_millis(1)),
                Err(Errno::EAGAIN) => return Err(Failure::TimeLimit),
                Err(errno) => return Err(Failure::Channel(errno)),
            }
        }
    }

    fn run(&mut self, request: &ToScanner) -> Result<Answer, Failure> {
        self.send(request)?;
        loop {
            let received = process::receive(&self.scanner.channel, &mut self.packet, self.until);
            let len = received.map_err(|errno| match errno {
                Errno::ETIMEDOUT => Failure::TimeLimit,
                errno => Failure::Channel(errno),
            })?;
            let packet = std::mem::take(&mut self.packet);
            let message = packet.get(..len).ok_or(Failure::Malformed)?;
            // Nothing: it has ended.
            let message = if message.is_empty() { Err(Failure::Channel(Errno::EPIPE)) } else { Ok(message) };
            let message = message.and_then(|m| FromScanner::parse(m).map_err(|wire::Malformed| Failure::Malformed));
            let next = message.and_then(|message| self.take(message));
            self.packet = packet;
            if let ControlFlow::Break(answer) = next? {
                return Ok(answer);
            }
        }
    }

    fn take(&mut self, message: FromScanner) -> Result<ControlFlow<Answer>, Failure> {
        match message {
            FromScanner::Line(level, text) => {
                if self.lines.len() >= LINES {
                    return Err(Failure::Malformed);
                }
                self.lines.push((level, text.to_owned()));
            }
            FromScanner::Report(piece) => self.report(piece)?,
            FromScanner::ReportEnd => self.report_end()?,
            FromScanner::NoReport => self.scanner.place.remove(),
            FromScanner::Syslog(text) => self.syslog = Some(text.to_owned()),
            FromScanner::Registers(tids) => {
                let one = |tid| {
                    registers::read(tid).map_or((0, 0, 0), |r| (u32::try_from(r.size).unwrap_or(0), r.cs, r.rseq))
                };
                self.send(&ToScanner::Registers(tids.iter().map(one).collect()))?;
            }
            FromScanner::Verdict { refuse } => {
                // A refusal has its reasons in the log.
                if refuse && !self.lines.iter().any(|(level, _)| *level == log::Level::Error) {
                    return Err(Failure::Malformed);
                }
                self.emit();
                return Ok(ControlFlow::Break(Answer { refuse }));
            }
            FromScanner::Done => {
                self.emit();
                return Ok(ControlFlow::Break(Answer { refuse: false }));
            }
            FromScanner::Panic(text) => return Err(Failure::Panic(text.to_owned())),
            FromScanner::Ready | FromScanner::NotMade(_) => return Err(Failure::Malformed),
        }
        Ok(ControlFlow::Continue(()))
    }

    fn emit(&mut self) {
        for (level, text) in self.lines.drain(..) {
            log::line(level, &text);
        }
        if let Some(text) = self.syslog.take() {
            syslog::send(&text);
        }
    }

    fn report(&mut self, piece: &[u8]) -> Result<(), Failure> {
        self.reported = self.reported.saturating_add(piece.len());
        if self.reported > REPORT {
            return Err(Failure::Malformed);
        }
        if self.report.is_none() && self.unwritten.is_none() {
            match self.scanner.place.create() {
                Ok(report) => self.report = Some(report),
                Err(e) => self.unwritten = Some(e.to_string()),
            }
        }
        if let Some(Err(e)) = self.report.as_mut().map(|report| report.write(piece)) {
            self.unwritten = Some(e.to_string());
            self.report = None;
        }
        Ok(())
    }

    fn report_end(&mut self) -> Result<(), Failure> {
        let written = match (self.report.take(), self.unwritten.take()) {
            (Some(report), None) => report.commit().map_err(|e| e.to_string()),
            (_, Some(why)) => Err(why),
            (None, None) => Err("it is empty".to_owned()),
        };
        let written = written.and_then(|()| self.scanner.place.path().map_err(|e| e.to_string()));
        self.reported = 0;
        match &written {
            Ok(path) => self.send(&ToScanner::Written(Ok(path))),
            Err(why) => self.send(&ToScanner::Written(Err(why))),
        }
    }

    /// Ends a scanner that did not answer as it should, and finds out why.
    fn failed(self, failure: Failure) -> Failure {
        let Scanner { keeper, channel, .. } = self.scanner;
        drop(channel);
        match failure {
            // It has ended, and its status says more.
            Failure::Channel(_) => match keeper.reap() {
                End::Exited(heap::NO_MEMORY) => Failure::MemoryLimit,
                // It has ended because we did: that says nothing.
                End::Exited(0) => failure,
                End::Exited(status) => Failure::Exited(status),
                End::Killed(signal) => Failure::Killed(signal),
                End::Hangs => failure,
            },
            failure => {
                keeper.kill();
                failure
            }
        }
    }
}

impl Failure {
    /// What became of the look, for a warning; `setting` is the limit of time that held, as it is spelled in the settings.
    pub(crate) fn describe(&self, setting: &str, config: &Config) -> String {
        let error = |errno: &Errno| std::io::Error::from(*errno).to_string();
        match self {
            Failure::NotMade(errno) => format!("no process could be made for the look ({})", error(errno)),
            Failure::TimeLimit => format!("the look took longer than {setting} allows and was ended"),
            Failure::MemoryLimit => {
                let mib = config.memory_limit >> 20;
                format!("the look needed more memory than there was or than memory-limit ({mib} MiB) allows")
            }
            Failure::Panic(text) => format!("internal fault in the look ({text})"),
            Failure::Exited(status) => format!("the process of the look ended with status {status}"),
            Failure::Killed(signal) => format!("the process of the look was ended by signal {signal}"),
            Failure::Malformed => "the process of the look sent what is no message of its".to_owned(),
            Failure::Channel(errno) => format!("the process of the look does not answer ({})", error(errno)),
        }
    }
}
