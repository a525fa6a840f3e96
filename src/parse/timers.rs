//! `/proc/PID/timers`: POSIX timers (`show_timer()` in fs/proc/base.c; needs CONFIG_CHECKPOINT_RESTORE).
use crate::bytes::Bytes;
use crate::parse::text::{dec, hex, lines, number, split_once, trim, trim_start};
use crate::parse::Parsed;

/// One timer.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Timer {
    pub id: i32,
    pub signal: i32,
    /// sigev_value, an address or a number.
    pub value: u64,
    pub notify: Notify,
    /// `notify` names a thread (SIGEV_THREAD_ID), not the process.
    pub to_thread: bool,
    /// Whom it tells, in the reader's pid namespace.
    pub pid: i64,
    /// CLOCK_*; negative for the clock of a process or thread.
    pub clock_id: i32,
}

/// sigev_notify
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Notify {
    Signal,
    None,
    Thread,
    Other(Bytes),
}

/// Parses the file; `bad` counts timers of which a line is missing or not understood.
pub fn parse(text: &[u8]) -> Parsed<Timer> {
    let mut timers = Parsed::default();
    let mut current: Option<Raw> = None;
    for line in lines(text) {
        let Some((key, value)) = split_once(line, b':') else { continue };
        let value = trim_start(value);
        if key == b"ID" {
            if let Some(done) = current.replace(Raw { id: value, ..Raw::default() }) {
                timers.push(done.timer());
            }
        }
        match (key, current.as_mut()) {
            (b"signal", Some(raw)) => raw.signal = value,
            (b"notify", Some(raw)) => raw.notify = value,
            (b"ClockID", Some(raw)) => raw.clock_id = value,
            _ => {}
        }
    }
    if let Some(last) = current {
        timers.push(last.timer());
    }
    timers
}

/// The values of one timer as printed.
#[derive(Default)]
struct Raw<'a> {
    id: &'a [u8],
    signal: &'a [u8],
    notify: &'a [u8],
    clock_id: &'a [u8],
}

impl Raw<'_> {
    fn timer(self) -> Option<Timer> {
        let (signal, value) = split_once(self.signal, b'/')?;
        // "%px": 16 digits; older kernels print (null) for 0.
        let value = if value == b"(null)" { 0 } else { hex(value.strip_prefix(b"0x").unwrap_or(value))? };
        let (notify, target) = split_once(self.notify, b'/')?;
        let notify = match notify {
            b"signal" => Notify::Signal,
            b"none" => Notify::None,
            b"thread" => Notify::Thread,
            other => Notify::Other(other.into()),
        };
        let (to_whom, pid) = split_once(target, b'.')?;
        let to_thread = match to_whom {
            b"tid" => true,
            b"pid" => false,
            _ => return None,
        };
        Some(Timer {
            id: dec(self.id)?,
            signal: dec(signal)?,
            value,
            notify,
            to_thread,
            pid: dec(pid)?,
            clock_id: number(trim(self.clock_id), 10)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn timers() {
        // The first is from Linux 6.18.
        let timers = parse(b"ID: 0\nsignal: 10/0000000000001234\nnotify: signal/pid.7452\nClockID: 1\nID: 7\nsignal: 34/(null)\nnotify: thread/tid.0\nClockID: -6\nID: 8\nsignal: x\nnotify: signal/pid.1\nClockID: 0\nID: 9\n");
        assert_eq!((timers.items.len(), timers.bad), (2, 2));
        assert_eq!(
            timers.items[0],
            Timer {
                id: 0,
                signal: 10,
                value: 0x1234,
                notify: Notify::Signal,
                to_thread: false,
                pid: 7452,
                clock_id: 1
            }
        );
        let second = &timers.items[1];
        assert_eq!((second.value, second.to_thread, second.clock_id, &second.notify), (0, true, -6, &Notify::Thread));
        assert_eq!(parse(b"").items, []);
    }

    proptest! {
        #[test]
        fn any_bytes(raw: Vec<u8>) {
            parse(&raw);
            parse(&[b"ID: 1\nsignal: ", raw.as_slice()].concat());
        }
    }
}
