//! `/proc/PID/status` and `/proc/PID/task/TID/status` (`proc_pid_status()` in fs/proc/array.c).
use crate::bytes::Bytes;
use crate::parse::text::{dec, fields, hex, lines, number, split_once, trim};

/// The lines we use. `None` or an empty list: the kernel has no such line, or it was not understood (then `bad` counts
/// it).
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Status {
    /// The comm, with `\n` and `\\` undone.
    pub name: Bytes,
    /// `R`, `S`, `D`, `T`, `t`, `Z`, `X`, `I`, ...
    pub state: Option<char>,
    pub pid: Option<i32>,
    pub ppid: Option<i32>,
    /// 0: none, or a tracer without a number in the reader's pid namespace.
    pub tracer_pid: Option<i32>,
    /// Real, effective, saved, filesystem.
    pub uid: Option<[u32; 4]>,
    pub gid: Option<[u32; 4]>,
    pub fd_size: Option<u64>,
    /// How many supplementary groups.
    pub groups: Option<usize>,
    /// Length of the whole `Groups:` line in bytes, without the newline.
    pub groups_line: Option<usize>,
    /// From the reader's pid namespace inwards, also the two below. 0 where the leader has no number.
    pub ns_pid: Vec<i32>,
    pub ns_pgid: Vec<i32>,
    pub ns_sid: Vec<i32>,
    pub threads: Option<u64>,
    /// Kilobytes of address space in use, which RLIMIT_AS limits.
    pub vm_size: Option<u64>,
    /// Signal sets: bit n-1 is signal n.
    pub sig_pnd: Option<u64>,
    pub shd_pnd: Option<u64>,
    pub sig_blk: Option<u64>,
    pub cap_eff: Option<u64>,
    /// 0 none, 1 strict, 2 filter.
    pub seccomp: Option<u32>,
    /// `shstk`, `wrss` (Linux 6.6+, only if the processor has shadow stacks).
    pub x86_thread_features: Vec<Bytes>,
    /// How often it has gone to sleep by itself.
    pub switches: Option<u64>,
    /// Lines of a known key that were not understood.
    pub bad: usize,
}

/// Parses one status file. `Name` comes first and has its newlines escaped, so no comm can pose as another line.
pub fn parse(text: &[u8]) -> Status {
    let mut status = Status::default();
    for line in lines(text) {
        if read_line(&mut status, line).is_none() {
            status.bad = status.bad.saturating_add(1);
        }
    }
    status
}

fn read_line(s: &mut Status, line: &[u8]) -> Option<()> {
    let (key, raw) = split_once(line, b':')?;
    let value = trim(raw);
    match key {
        // Only the one tab is the kernel's, further blanks are the comm's.
        b"Name" => s.name = unescape_comm(raw.strip_prefix(b"\t").unwrap_or(raw)),
        b"State" => s.state = Some(value.first().filter(|b| b.is_ascii_graphic()).map(|&b| char::from(b))?),
        b"Pid" => s.pid = Some(dec(value)?),
        b"PPid" => s.ppid = Some(dec(value)?),
        b"TracerPid" => s.tracer_pid = Some(dec(value)?),
        b"Uid" => s.uid = Some(list(value)?.try_into().ok()?),
        b"Gid" => s.gid = Some(list(value)?.try_into().ok()?),
        b"FDSize" => s.fd_size = Some(dec(value)?),
        b"Groups" => {
            s.groups_line = Some(line.len());
            s.groups = Some(list::<u32>(value)?.len());
        }
        b"NSpid" => s.ns_pid = list(value)?,
        b"NSpgid" => s.ns_pgid = list(value)?,
        b"NSsid" => s.ns_sid = list(value)?,
        b"VmSize" => s.vm_size = Some(dec(trim(value.strip_suffix(b"kB")?))?),
        b"Threads" => s.threads = Some(dec(value)?),
        b"SigPnd" => s.sig_pnd = Some(hex(value)?),
        b"ShdPnd" => s.shd_pnd = Some(hex(value)?),
        b"SigBlk" => s.sig_blk = Some(hex(value)?),
        b"CapEff" => s.cap_eff = Some(hex(value)?),
        b"Seccomp" => s.seccomp = Some(dec(value)?),
        b"voluntary_ctxt_switches" => s.switches = Some(dec(value)?),
        b"x86_Thread_features" => s.x86_thread_features = fields(value).map(Bytes::from).collect(),
        _ => {}
    }
    Some(())
}

/// The lines about memory (`task_mem()` in fs/proc/task_mmu.c): of one address space the same in every process that has it.
pub(crate) fn memory(text: &[u8]) -> Vec<Bytes> {
    let about_memory = |line: &&[u8]| line.starts_with(b"Vm") || line.starts_with(b"Rss");
    lines(text).filter(about_memory).map(Bytes::from).collect()
}

fn list<T: crate::parse::text::Number>(value: &[u8]) -> Option<Vec<T>> {
    fields(value).map(|field| number(field, 10)).collect()
}

/// Undoes `proc_task_name(.., escape = true)`: newline and backslash are `\n` and `\\`, everything else is raw.
fn unescape_comm(text: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(&byte) = rest.next() {
        out.push(match (byte, rest.as_slice().first()) {
            (b'\\', Some(b'n')) => {
                rest.next();
                b'\n'
            }
            (b'\\', Some(b'\\')) => {
                rest.next();
                b'\\'
            }
            _ => byte,
        });
    }
    Bytes(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Printed by Linux 6.18, some lines left out; `Name:` is put in front.
    const TAIL: &[u8] = b"
Umask:	0022
State:	S (sleeping)
Tgid:	7497
Ngid:	0
Pid:	7497
PPid:	7452
TracerPid:	0
Uid:	0	1	2	4294967295
Gid:	0	0	0	0
FDSize:	256
Groups:	4 24 1000 
NStgid:	7497	3
NSpid:	7497	3
NSpgid:	7449	0
NSsid:	2835	0
Kthread:	0
VmPeak:	   19072 kB
Threads:	1
SigQ:	0/96365
SigPnd:	0000000000000000
ShdPnd:	0000000000000200
SigBlk:	0000000000000000
SigIgn:	0000000001001000
SigCgt:	0000000000000002
CapInh:	0000000000000000
CapPrm:	000001fffeffffff
CapEff:	000001fffeffffff
CapBnd:	000001fffeffffff
CapAmb:	0000000000000000
NoNewPrivs:	1
Seccomp:	2
Seccomp_filters:	3
Speculation_Store_Bypass:	vulnerable
voluntary_ctxt_switches:	0
x86_Thread_features:	shstk wrss 
x86_Thread_features_locked:	shstk 
";

    fn with_name(name: &[u8]) -> Vec<u8> {
        [b"Name:\t", name, TAIL].concat()
    }

    #[test]
    fn real_status() {
        let s = parse(&with_name(b"cat"));
        assert_eq!((&s.name, s.state, s.pid, s.ppid), (&"cat".into(), Some('S'), Some(7497), Some(7452)));
        assert_eq!(
            (s.tracer_pid, s.uid, s.gid, s.fd_size),
            (Some(0), Some([0, 1, 2, u32::MAX]), Some([0; 4]), Some(256))
        );
        assert_eq!((s.groups, s.groups_line), (Some(3), Some("Groups:\t4 24 1000 ".len())));
        assert_eq!((s.ns_pid, s.ns_pgid, s.ns_sid), (vec![7497, 3], vec![7449, 0], vec![2835, 0]));
        assert_eq!((s.threads, s.shd_pnd, s.sig_pnd, s.sig_blk), (Some(1), Some(0x200), Some(0), Some(0)));
        assert_eq!((s.cap_eff, s.seccomp), (Some(0x1fffeffffff), Some(2)));
        assert_eq!(s.x86_thread_features, ["shstk".into(), "wrss".into()]);
        assert_eq!(s.bad, 0);
    }

    /// The texts are what Linux 6.18 printed for these comms.
    #[test]
    fn hostile_comm() {
        for (printed, comm) in [
            (&b"a) R 1 2 ("[..], &b"a) R 1 2 ("[..]),
            (b"x\\ny\tPid:\t1", b"x\ny\tPid:\t1"),
            (b"\xff\xfe\\\\n:\x1b[31m", b"\xff\xfe\\n:\x1b[31m"),
            (b"(deleted)", b"(deleted)"),
            (b" blank \t", b" blank \t"),
            (b"", b""),
        ] {
            let s = parse(&with_name(printed));
            assert_eq!((&*s.name, s.pid, s.seccomp, s.bad), (comm, Some(7497), Some(2), 0));
        }
    }

    #[test]
    fn odd_lines_cost_themselves() {
        let s = parse(
            b"Name:\tx\nState:\t\nUid:\t1 2 3\nGid:\t0\t0\t0\t-1\nNSpid:\t1\tx\nPid:\t5\nnonsense\nNew_key:\t7\n",
        );
        assert_eq!((s.pid, s.uid, s.gid, s.state, s.bad), (Some(5), None, None, None, 5));
    }

    proptest! {
        #[test]
        fn any_bytes(raw: Vec<u8>) {
            parse(&raw);
        }

        #[test]
        fn comm_round_trip(comm in proptest::collection::vec(1u8.., 0..16)) {
            let printed: Vec<u8> = comm.iter().flat_map(|b| match b {
                b'\n' => vec![b'\\', b'n'],
                b'\\' => vec![b'\\', b'\\'],
                b => vec![*b],
            }).collect();
            prop_assert_eq!(&*parse(&with_name(&printed)).name, comm.as_slice());
        }
    }
}
