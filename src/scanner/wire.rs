//! What the scanner process and CRIU's process say to each other: one message a packet, a letter and what belongs to it.
//!
//! The parent takes nothing on trust. What the scanner sends may be made of names from the tree, and a scanner that has gone
//! wrong may send anything: a message that is not exactly of its form is [`Malformed`], and the look counts as not taken.

use crate::criu::log::Level;
use std::fmt::Write as _;

/// No packet is longer: a piece of a report, or the answers about 2048 threads.
pub(crate) const PACKET: usize = 32 * 1024;
/// Bytes of one line of the log.
pub(crate) const LINE: usize = 4000;
/// Threads of one question.
pub(crate) const THREADS: usize = 2048;

/// A message that is not of its form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// What the scanner sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FromScanner<'a> {
    /// It runs.
    Ready,
    /// It could not be made: the errno.
    NotMade(i32),
    /// A line for CRIU's log, complete.
    Line(Level, &'a str),
    /// The next piece of the report.
    Report(&'a [u8]),
    /// The report is complete, and is to be put in its place; answered.
    ReportEnd,
    /// A report of an earlier attempt no longer holds.
    NoReport,
    /// A line for the system log.
    Syslog(&'a str),
    /// What only a tracer can read of these threads; answered.
    Registers(Threads<'a>),
    /// The look is over.
    Verdict { refuse: bool },
    /// It has panicked, with this text.
    Panic(&'a str),
    /// The last request is carried out.
    Done,
}

/// Thread ids in a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threads<'a>(&'a [u8]);

impl Threads<'_> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = i32> + '_ {
        self.0.chunks_exact(4).filter_map(|tid| Some(i32::from_ne_bytes(tid.try_into().ok()?)))
    }
}

impl<'a> FromScanner<'a> {
    pub fn parse(packet: &'a [u8]) -> Result<Self, Malformed> {
        let (kind, rest) = packet.split_first().ok_or(Malformed)?;
        let message = match (kind, rest) {
            (b'h', []) => FromScanner::Ready,
            (b'x', rest) => FromScanner::NotMade(i32::from_ne_bytes(rest.try_into().map_err(|_| Malformed)?)),
            (b'l', [level, text @ ..]) => line(*level, text)?,
            (b'r', piece) if !piece.is_empty() => FromScanner::Report(json(piece)?),
            (b'w', []) => FromScanner::ReportEnd,
            (b'd', []) => FromScanner::NoReport,
            (b's', text) => FromScanner::Syslog(printable(text)?),
            (b't', tids) if !tids.is_empty() && tids.len() % 4 == 0 && tids.len() / 4 <= THREADS => {
                FromScanner::Registers(Threads(tids))
            }
            (b'v', [refuse @ (0 | 1)]) => FromScanner::Verdict { refuse: *refuse == 1 },
            (b'p', text) => FromScanner::Panic(printable(text)?),
            (b'e', []) => FromScanner::Done,
            _ => return Err(Malformed),
        };
        Ok(message)
    }

    pub fn to_packet(self) -> Vec<u8> {
        let with = |kind: u8, rest: &[u8]| [&[kind], rest].concat();
        match self {
            FromScanner::Ready => with(b'h', &[]),
            FromScanner::NotMade(errno) => with(b'x', &errno.to_ne_bytes()),
            FromScanner::Line(level, text) => [&[b'l', level as u8], text.as_bytes()].concat(),
            FromScanner::Report(piece) => with(b'r', piece),
            FromScanner::ReportEnd => with(b'w', &[]),
            FromScanner::NoReport => with(b'd', &[]),
            FromScanner::Syslog(text) => with(b's', text.as_bytes()),
            FromScanner::Registers(tids) => with(b't', tids.0),
            FromScanner::Verdict { refuse } => with(b'v', &[u8::from(refuse)]),
            FromScanner::Panic(text) => with(b'p', text.as_bytes()),
            FromScanner::Done => with(b'e', &[]),
        }
    }
}

/// The question for these threads, [`THREADS`] at most.
pub(crate) fn registers(tids: &[i32]) -> Vec<u8> {
    std::iter::once(b't').chain(tids.iter().flat_map(|tid| tid.to_ne_bytes())).collect()
}

/// A line of the log: a word `Error` stands in refusals only, for the runtimes quote every line that has it.
fn line(level: u8, text: &[u8]) -> Result<FromScanner<'_>, Malformed> {
    let text = printable(text)?;
    let (level, prefix, may_say_error) = match level {
        1 => (Level::Error, "Error (preflight): ", true),
        2 => (Level::Warn, "Warn  (preflight): ", false),
        3 => (Level::Info, "preflight: ", false),
        4 => (Level::Debug, "preflight: ", true),
        _ => return Err(Malformed),
    };
    let fits = text.starts_with(prefix) && (may_say_error || !text.contains("Error"));
    fits.then_some(FromScanner::Line(level, text)).ok_or(Malformed)
}

/// UTF-8 without control characters, of the length of a line.
fn printable(text: &[u8]) -> Result<&str, Malformed> {
    let text = std::str::from_utf8(text).map_err(|_| Malformed)?;
    (text.len() <= LINE && !text.chars().any(char::is_control)).then_some(text).ok_or(Malformed)
}

/// A piece of JSON as it is written here: no byte but printable ASCII, line feeds, and those of UTF-8 beyond it. (A piece may
/// end within a character.)
fn json(piece: &[u8]) -> Result<&[u8], Malformed> {
    let ok = |b: &u8| *b == b'\n' || (*b >= 0x20 && *b != 0x7f);
    piece.iter().all(ok).then_some(piece).ok_or(Malformed)
}

/// Text that [`printable`] takes: cut at [`LINE`], control characters replaced.
pub(crate) fn sanitized(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if out.len().saturating_add(c.len_utf8()) > LINE {
            break;
        }
        let _ = out.write_char(if c.is_control() { '?' } else { c });
    }
    out
}

/// Bytes of the answer about one thread.
const ANSWER: usize = 20;

/// What the parent sends. Only our own process made it: what is not of its form ends the scanner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToScanner<'a> {
    /// The next piece of the facts about CRIU, JSON.
    Host(&'a [u8]),
    /// Look at the tree below this pid, frozen or not; with the facts about CRIU that came before, or those known already.
    ScanPhase { frozen: bool, root: i32 },
    /// The dump is over.
    End { failed: bool },
    /// The report is in its place: its path. Or why it is not.
    Written(Result<&'a [u8], &'a str>),
    /// Sizes of the register sets, code segments and addresses for rseq(2); 0: could not be read.
    Registers(Vec<(u32, u64, u64)>),
}

impl<'a> ToScanner<'a> {
    pub fn parse(packet: &'a [u8]) -> Option<Self> {
        let (kind, rest) = packet.split_first()?;
        Some(match (kind, rest) {
            (b'h', piece) => ToScanner::Host(piece),
            (b'l', [frozen, root @ ..]) => {
                ToScanner::ScanPhase { frozen: *frozen != 0, root: i32::from_ne_bytes(root.try_into().ok()?) }
            }
            (b'e', [failed]) => ToScanner::End { failed: *failed != 0 },
            (b'w', [1, path @ ..]) => ToScanner::Written(Ok(path)),
            (b'w', [0, why @ ..]) => ToScanner::Written(Err(std::str::from_utf8(why).ok()?)),
            (b't', answers) if answers.len() % ANSWER == 0 => {
                let one = |answer: &[u8]| {
                    let (size, rest) = answer.split_first_chunk::<4>()?;
                    let (segment, rseq) = rest.split_first_chunk::<8>()?;
                    let rseq = u64::from_ne_bytes(rseq.try_into().ok()?);
                    Some((u32::from_ne_bytes(*size), u64::from_ne_bytes(*segment), rseq))
                };
                ToScanner::Registers(answers.chunks_exact(ANSWER).map(one).collect::<Option<_>>()?)
            }
            _ => return None,
        })
    }

    pub fn to_packet(&self) -> Vec<u8> {
        match self {
            ToScanner::Host(piece) => [b"h", *piece].concat(),
            ToScanner::ScanPhase { frozen, root } => [&[b'l', u8::from(*frozen)][..], &root.to_ne_bytes()].concat(),
            ToScanner::End { failed } => vec![b'e', u8::from(*failed)],
            ToScanner::Written(Ok(path)) => [&[b'w', 1], *path].concat(),
            ToScanner::Written(Err(why)) => [&[b'w', 0], why.as_bytes()].concat(),
            ToScanner::Registers(answers) => {
                let one = |(size, segment, rseq): &(u32, u64, u64)| {
                    [&size.to_ne_bytes()[..], &segment.to_ne_bytes(), &rseq.to_ne_bytes()].concat()
                };
                std::iter::once(b't').chain(answers.iter().flat_map(one)).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages_come_back() {
        let tids = [1i32.to_ne_bytes(), 2i32.to_ne_bytes()].concat();
        for message in [
            FromScanner::Ready,
            FromScanner::NotMade(11),
            FromScanner::Line(Level::Error, "Error (preflight): x"),
            FromScanner::Line(Level::Warn, "Warn  (preflight): ü"),
            FromScanner::Line(Level::Debug, "preflight: early look"),
            FromScanner::Report(b"{\n"),
            FromScanner::ReportEnd,
            FromScanner::NoReport,
            FromScanner::Syslog("x"),
            FromScanner::Registers(Threads(&tids)),
            FromScanner::Verdict { refuse: true },
            FromScanner::Panic("index out of bounds"),
            FromScanner::Done,
        ] {
            assert_eq!(FromScanner::parse(&message.to_packet()), Ok(message));
        }
        for message in [
            ToScanner::Host(b"{}"),
            ToScanner::ScanPhase { frozen: true, root: 77 },
            ToScanner::End { failed: false },
            ToScanner::Written(Ok(b"/work/\xff")),
            ToScanner::Written(Err("no space")),
            ToScanner::Registers(vec![(216, 0x33, 0x7f00_0000), (0, 0, 0)]),
        ] {
            assert_eq!(ToScanner::parse(&message.to_packet()), Some(message));
        }
        assert_eq!(registers(&[1, 2]), FromScanner::Registers(Threads(&tids)).to_packet());
    }

    #[test]
    fn what_is_not_of_its_form_is_no_message() {
        let long = [b"l\x04preflight: ".as_slice(), &[b'x'; LINE]].concat();
        let threads = registers(&[1; THREADS + 1]);
        for packet in [
            b"".as_slice(),
            b"q",
            b"h1",
            b"x123",
            b"l\x01Warn  (preflight): x",
            b"l\x02Warn  (preflight): an Error",
            b"l\x01Error (preflight): two\nlines",
            b"l\x01Error (preflight): \xff",
            b"l\x01Error (preflight): \xc2\x9b",
            b"l\x05preflight: x",
            b"l\x01",
            b"l",
            b"r",
            b"r{\x1b",
            b"r{\0",
            b"t",
            b"t12345",
            b"v",
            b"v\x02",
            b"v\x01\x01",
            b"p\x07",
            &long,
            &threads,
        ] {
            assert_eq!(FromScanner::parse(packet), Err(Malformed), "{packet:?}");
        }
    }

    proptest! {
        #[test]
        fn no_packet_breaks_the_parser(packet: Vec<u8>) {
            let _ = ToScanner::parse(&packet);
            if let Ok(FromScanner::Line(_, text) | FromScanner::Syslog(text) | FromScanner::Panic(text)) =
                FromScanner::parse(&packet)
            {
                prop_assert!(text.len() <= LINE && !text.contains(char::is_control));
            }
        }

        #[test]
        fn sanitized_text_is_taken(text: String) {
            let clean = sanitized(&text);
            prop_assert_eq!(printable(clean.as_bytes()), Ok(clean.as_str()));
        }
    }
}
