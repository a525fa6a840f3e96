//! The scanner's side: takes the looks that it is asked for, and sends what comes of them.

use crate::bytes::Bytes;
use crate::check::Probes;
use crate::config::Config;
use crate::criu::log::Level;
use crate::criu::Host;
use crate::scan::sys::retry;
use crate::scan::{self, ScanSession};
use crate::scanner::limits;
use crate::scanner::wire::{self, FromScanner, ToScanner};
use crate::session::{Output, Reporter};
use crate::snapshot::{Regs, ScanPhase};
use nix::errno::Errno;
use nix::sys::socket::{self, MsgFlags};
use std::cell::RefCell;
use std::os::fd::{AsRawFd, OwnedFd};
use std::panic::{catch_unwind, AssertUnwindSafe};

/// What the scanner exits with after a panic.
pub(crate) const PANICKED: i32 = 101;

/// Serves CRIU's process until it has no more questions. `criu`: its pid; `far`: the inode of its end of the channel.
pub(crate) fn serve(channel: OwnedFd, far: Option<u64>, criu: i32, host: Host, config: &Config) {
    limits::apply(config.memory_limit);
    // There is no stderr to print to.
    std::panic::set_hook(Box::new(|_| {}));
    let channel = Channel { fd: channel };
    let served = catch_unwind(AssertUnwindSafe(|| looks(&channel, far, criu, host, config)));
    if let Err(payload) = served {
        let text = crate::plugin::panic_guard::panic_text(payload.as_ref());
        let _ = channel.send(&FromScanner::Panic(&wire::sanitized(text)).to_packet());
        // SAFETY: ends the process. The payload is never dropped: that could panic again.
        unsafe { libc::_exit(PANICKED) };
    }
}

/// An error is the other end's: it is gone, and there is no one to report to.
fn looks(channel: &Channel, far: Option<u64>, criu: i32, mut host: Host, config: &Config) -> nix::Result<()> {
    channel.send(&FromScanner::Ready.to_packet())?;
    let registers = |tids: &[i32]| channel.registers(tids);
    let session =
        RefCell::new(ScanSession { criu, registers: &registers, channel: far, cache: scan::ScanCache::default() });
    let scan = |root: i32, phase: ScanPhase, host: &Host| scan::collect(root, phase, host, &mut session.borrow_mut());
    let probes = Probes { scan: &scan, ..Probes::live() };
    let mut reporter = Reporter::default();
    let mut facts = Vec::new();
    loop {
        let packet = channel.receive()?;
        match ToScanner::parse(&packet).ok_or(Errno::EPROTO)? {
            ToScanner::Host(piece) => facts.extend_from_slice(piece),
            ToScanner::ScanPhase { frozen, root } => {
                if !facts.is_empty() {
                    host = serde_json::from_slice(&std::mem::take(&mut facts)).map_err(|_| Errno::EPROTO)?;
                }
                #[cfg(feature = "fault-injection")]
                crate::scanner::fault::inject(frozen, &|packet| {
                    let _ = channel.send(packet);
                });
                let phase = if frozen { ScanPhase::Frozen } else { ScanPhase::Early };
                let refuse = reporter.run(&probes, phase, root, &host, config, channel);
                channel.send(&FromScanner::Verdict { refuse }.to_packet())?;
                if frozen {
                    return Ok(());
                }
            }
            ToScanner::End { failed } => {
                reporter.end(failed, config, channel);
                return channel.send(&FromScanner::Done.to_packet());
            }
            ToScanner::Written(_) | ToScanner::Registers(_) => return Err(Errno::EPROTO),
        }
    }
}

/// Our end of the channel.
struct Channel {
    fd: OwnedFd,
}

impl Channel {
    fn send(&self, packet: &[u8]) -> nix::Result<()> {
        retry(|| socket::send(self.fd.as_raw_fd(), packet, MsgFlags::MSG_NOSIGNAL)).map(drop)
    }

    fn receive(&self) -> nix::Result<Vec<u8>> {
        let mut packet = vec![0; wire::PACKET];
        let len = retry(|| socket::recv(self.fd.as_raw_fd(), &mut packet, MsgFlags::empty()))?;
        packet.truncate(len);
        if packet.is_empty() {
            return Err(Errno::EPIPE);
        }
        Ok(packet)
    }

    /// The registers of each thread, as CRIU's process reads them; none, where it does not answer.
    fn registers(&self, tids: &[i32]) -> Vec<Option<Regs>> {
        let mut all = Vec::with_capacity(tids.len());
        for some in tids.chunks(wire::THREADS) {
            let answers = self.send(&wire::registers(some)).and_then(|()| self.receive());
            let answers = answers.ok().and_then(|packet| match ToScanner::parse(&packet) {
                Some(ToScanner::Registers(answers)) => Some(answers),
                _ => None,
            });
            let regs = |(size, cs, rseq): &(u32, u64, u64)| {
                (*size > 0).then_some(Regs { size: *size as usize, cs: *cs, rseq: *rseq })
            };
            let mut answers = answers.unwrap_or_default().into_iter();
            all.extend(some.iter().map(|_| answers.next().as_ref().and_then(regs)));
        }
        all
    }
}

/// What cannot be sent has no reader: errors show in the next request.
impl Output for Channel {
    fn line(&self, level: Level, text: &str) {
        let _ = self.send(&FromScanner::Line(level, &wire::sanitized(text)).to_packet());
    }

    fn write_report(&self, json: &[u8]) -> Result<Bytes, String> {
        let sent = || {
            for piece in json.chunks(wire::PACKET.saturating_sub(1)) {
                self.send(&FromScanner::Report(piece).to_packet())?;
            }
            self.send(&FromScanner::ReportEnd.to_packet())?;
            self.receive()
        };
        let packet = sent().map_err(|errno| errno.to_string())?;
        match ToScanner::parse(&packet) {
            Some(ToScanner::Written(Ok(path))) => Ok(path.into()),
            Some(ToScanner::Written(Err(why))) => Err(why.to_owned()),
            _ => Err(Errno::EPROTO.to_string()),
        }
    }

    fn remove_report(&self) {
        let _ = self.send(&FromScanner::NoReport.to_packet());
    }

    fn syslog(&self, text: &str) {
        let _ = self.send(&FromScanner::Syslog(&wire::sanitized(text)).to_packet());
    }
}
