//! `/proc/PID/stat` (`do_task_stat()` in fs/proc/array.c).
use crate::bytes::Bytes;
use crate::parse::text::dec;

/// The fields we use.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Stat {
    pub pid: i32,
    /// Raw: between the first `(` and the last `)`.
    pub comm: Bytes,
    pub state: char,
    pub ppid: i32,
    /// 0, also for the session, if the leader has no number in the reader's pid namespace.
    pub pgrp: i32,
    pub session: i32,
    /// Controlling terminal in the 12+20 bit form of `new_encode_dev()`; 0 for none.
    pub tty_nr: i32,
    /// Foreground process group of that terminal; -1 for none.
    pub tpgid: i32,
    /// PF_* of include/linux/sched.h, e.g. 0x4 exiting, 0x200000 kernel thread.
    pub flags: u32,
    /// Clock ticks after boot, in the reader's time namespace.
    pub starttime: u64,
    /// Of a process stopped by a signal: that signal, until its parent has waited for the stop; 0 where the reader may not
    /// know it.
    pub exit_code: i32,
}

/// Parses the one line. `None` if it has not the form of the kernel.
pub fn parse(text: &[u8]) -> Option<Stat> {
    let open = text.iter().position(|&b| b == b'(')?;
    let close = text.iter().rposition(|&b| b == b')')?;
    let comm = text.get(open.checked_add(1)?..close)?.into();
    let pid = dec(text.get(..open)?.strip_suffix(b" ")?)?;
    let rest = text.get(close..)?.strip_prefix(b") ")?;
    let mut rest = rest.strip_suffix(b"\n").unwrap_or(rest).split(|&b| b == b' ');
    let &[state] = rest.next()? else { return None };
    Some(Stat {
        pid,
        comm,
        state: char::from(state),
        ppid: dec(rest.next()?)?,
        pgrp: dec(rest.next()?)?,
        session: dec(rest.next()?)?,
        tty_nr: dec(rest.next()?)?,
        tpgid: dec(rest.next()?)?,
        flags: dec(rest.next()?)?,
        // Field 22; between flags (9) and it are 12 others.
        starttime: dec(rest.nth(12)?)?,
        // Field 52, the last one.
        exit_code: rest.nth(29).and_then(dec).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Printed by Linux 6.18 for a child of ours that had just been given the comm.
    fn line(comm: &[u8]) -> Vec<u8> {
        let tail = b") S 7452 7449 2835 34817 -1 4194368 267 0 0 0 0 0 0 0 20 0 1 0 72573 19529728 3061 18446744073709551615 94641134714880 94641134715221 140723229593152 0 0 0 0 285216768 2 1 0 0 17 1 0 0 0 0 0 94641134726576 94641134727192 94641804423168 140723229599985 140723229600033 140723229600033 140723229601743 0\n";
        [b"7497 (", comm, tail].concat()
    }

    #[test]
    fn real_line_with_hostile_comms() {
        for comm in [&b"cat"[..], b"a) R 1 2 (", b"x\ny\tPid:\t1", b"\xff\xfe\\n:\x1b[31m", b"(deleted)", b""] {
            let stat = Stat {
                pid: 7497,
                comm: comm.into(),
                state: 'S',
                ppid: 7452,
                pgrp: 7449,
                session: 2835,
                tty_nr: 34817,
                tpgid: -1,
                flags: 4194368,
                starttime: 72573,
                exit_code: 0,
            };
            assert_eq!(parse(&line(comm)), Some(stat));
        }
    }

    #[test]
    fn the_last_field() {
        let text = [line(b"x").strip_suffix(b"0\n").unwrap(), b"21\n"].concat();
        assert_eq!(parse(&text).unwrap().exit_code, 21);
    }

    #[test]
    fn what_is_not_a_stat_line() {
        for text in [&b""[..], b"()", b")(", b"1 (a)", b"1 (a) S", b"(a) S 1 1 1 0 -1 0 0", b"1 (a) SS 1 2 3 4 5 6"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes(raw: Vec<u8>) {
            parse(&raw);
        }

        #[test]
        fn any_comm(comm in proptest::collection::vec(1u8.., 0..16)) {
            prop_assert_eq!(&*parse(&line(&comm)).unwrap().comm, comm.as_slice());
        }
    }
}
