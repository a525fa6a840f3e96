//! File locks: `/proc/locks` and the `lock:` lines of fdinfo.
//!
//! Layout: `lock_get_status()` in fs/locks.c, the same for both. A blocked request follows the lock it waits for, with
//! the same number and `->`. /proc/locks shows a lock only if its holder has a number in the reader's pid namespace;
//! OFD locks have the pid -1.
use crate::bytes::Bytes;
use crate::parse::text::{dec, hex, take_field, trim_start};
use crate::parse::Parsed;

/// What kind of lock, the first word.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum LockKind {
    Posix,
    Flock,
    Ofd,
    /// Also what the kernel prints for pNFS layouts.
    Lease,
    Deleg,
    Layout,
    Access,
    Other(Bytes),
}

/// The second word: for leases their state.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum LockMode {
    Advisory,
    /// Until Linux 5.15.
    Mandatory,
    /// `*NOINODE*`
    NoInode,
    /// A LOCK_MAND flock, until Linux 5.15.
    Msnfs,
    Active,
    Breaking,
    Breaker,
    Other(Bytes),
}

/// The third word.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum LockAccess {
    Read,
    Write,
    /// Also a lease that is being broken to nothing.
    Unlock,
    Other(Bytes),
}

/// The locked file, in the numbers the kernel prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct LockFile {
    pub major: u32,
    pub minor: u32,
    pub ino: u64,
}

/// One lock, or one request that waits for it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Lock {
    /// Number of the line; waiters share that of the lock they wait for.
    pub id: u64,
    /// A request that waits (`->`), not a lock that is held.
    pub blocked: bool,
    pub kind: LockKind,
    pub mode: LockMode,
    pub access: LockAccess,
    /// In the reader's pid namespace; -1 for an OFD lock, 0 or -1 where the holder has none there.
    pub pid: Option<i64>,
    /// `None` for `<none>:0`.
    pub file: Option<LockFile>,
    /// First byte; 0 for flocks and leases.
    pub start: i64,
    /// Last byte; `None` for `EOF`.
    pub end: Option<i64>,
}

/// Parses `/proc/locks`.
pub fn parse(text: &[u8]) -> Parsed<Lock> {
    crate::parse::table(text, line)
}

/// Parses one line of `/proc/locks`, or what follows `lock:` in fdinfo.
pub(crate) fn line(line: &[u8]) -> Option<Lock> {
    let (id, rest) = take_field(line)?;
    let id = dec(id.strip_suffix(b":")?)?;
    let rest = trim_start(rest);
    let (blocked, rest) = match rest.strip_prefix(b"->") {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let (kind, rest) = take_field(rest)?;
    let (mode, rest) = take_field(rest)?;
    let (access, rest) = take_field(rest)?;
    let kind = match kind {
        b"POSIX" => LockKind::Posix,
        b"FLOCK" => LockKind::Flock,
        b"OFDLCK" => LockKind::Ofd,
        b"LEASE" => LockKind::Lease,
        b"DELEG" => LockKind::Deleg,
        b"LAYOUT" => LockKind::Layout,
        b"ACCESS" => LockKind::Access,
        other => LockKind::Other(other.into()),
    };
    let mode = match mode {
        b"ADVISORY" => LockMode::Advisory,
        b"MANDATORY" => LockMode::Mandatory,
        b"*NOINODE*" => LockMode::NoInode,
        b"MSNFS" => LockMode::Msnfs,
        b"ACTIVE" => LockMode::Active,
        b"BREAKING" => LockMode::Breaking,
        b"BREAKER" => LockMode::Breaker,
        other => LockMode::Other(other.into()),
    };
    let access = match access {
        b"READ" => LockAccess::Read,
        b"WRITE" => LockAccess::Write,
        b"UNLCK" => LockAccess::Unlock,
        other => LockAccess::Other(other.into()),
    };
    let (field, after) = take_field(rest)?;
    // A file key where the pid belongs: there is no pid.
    let (pid, rest) = if field.contains(&b':') { (None, rest) } else { (Some(dec(field)?), after) };
    let (field, rest) = take_field(rest)?;
    let file = if field.starts_with(b"<none>") { None } else { Some(file(field)?) };
    let (start, rest) = take_field(rest)?;
    let (end, rest) = take_field(rest)?;
    let end = if end == b"EOF" { None } else { Some(dec(end)?) };
    trim_start(rest).is_empty().then_some(())?;
    Some(Lock { id, blocked, kind, mode, access, pid, file, start: dec(start)?, end })
}

/// `fe:00:1234`: major and minor in hex, inode in decimal.
fn file(field: &[u8]) -> Option<LockFile> {
    let mut parts = field.split(|&b| b == b':');
    let file = LockFile { major: hex(parts.next()?)?, minor: hex(parts.next()?)?, ino: dec(parts.next()?)? };
    parts.next().is_none().then_some(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Printed by Linux 6.18.
    pub(crate) const PROC_LOCKS: &[u8] = b"\
1: LEASE  BREAKING  UNLCK 7452 fe:00:10010756 0 EOF
1: -> LEASE  BREAKER   WRITE 7496 <none>:0 0 EOF
2: OFDLCK ADVISORY  READ -1 fe:00:10010755 0 EOF
4: POSIX  ADVISORY  WRITE 7452 fe:00:10010754 5 14
4: -> POSIX  ADVISORY  WRITE 7494 fe:00:10010754 0 EOF
6: FLOCK  ADVISORY  READ 4046 fe:00:10010754 0 EOF
6: -> FLOCK  ADVISORY  WRITE 4089 fe:00:10010754 0 EOF
6:  -> FLOCK  ADVISORY  WRITE 7495 fe:00:10010754 0 EOF
";

    #[test]
    fn real_table() {
        let locks = parse(PROC_LOCKS);
        assert_eq!((locks.items.len(), locks.bad), (8, 0));
        let lease = &locks.items[0];
        assert_eq!(
            (&lease.kind, &lease.mode, &lease.access),
            (&LockKind::Lease, &LockMode::Breaking, &LockAccess::Unlock)
        );
        let breaker = &locks.items[1];
        assert_eq!((breaker.id, breaker.blocked, breaker.pid, breaker.file), (1, true, Some(7496), None));
        assert_eq!((&locks.items[2].kind, locks.items[2].pid), (&LockKind::Ofd, Some(-1)));
        assert_eq!(
            locks.items[3],
            Lock {
                id: 4,
                blocked: false,
                kind: LockKind::Posix,
                mode: LockMode::Advisory,
                access: LockAccess::Write,
                pid: Some(7452),
                file: Some(LockFile { major: 0xfe, minor: 0, ino: 10010754 }),
                start: 5,
                end: Some(14),
            }
        );
        assert_eq!(locks.items.iter().filter(|l| l.blocked).count(), 4);
        assert!(locks.items[7].blocked);
    }

    #[test]
    fn odd_lines_cost_themselves() {
        let locks = parse(b"1: POSIX  ADVISORY  WRITE 1 fe:00:1 0 EOF\nnonsense\n2: NEWKIND STRANGE RW 5 00:01:9 1 2\n3: POSIX  *NOINODE*  READ 3 <none>:0 0 EOF\n4: POSIX ADVISORY READ 3 fe:00:1 0 EOF tail\n");
        assert_eq!((locks.items.len(), locks.bad), (3, 2));
        assert_eq!(locks.items[1].kind, LockKind::Other("NEWKIND".into()));
        assert_eq!(locks.items[2].mode, LockMode::NoInode);
        assert_eq!(line(b"1: POSIX ADVISORY READ fe:00:1 0 EOF").unwrap().pid, None);
    }

    proptest! {
        #[test]
        fn any_bytes(raw: Vec<u8>) {
            parse(&raw);
        }

        #[test]
        fn round_trip(id: u64, pid: i32, major in 0u32..4096, minor: u32, ino: u64, start in 0i64.., end: Option<u32>) {
            let end = end.map(i64::from);
            let tail = end.map_or("EOF".into(), |e| e.to_string());
            let text = format!("{id}: OFDLCK ADVISORY  READ {pid} {major:02x}:{minor:02x}:{ino} {start} {tail}");
            let lock = line(text.as_bytes()).unwrap();
            prop_assert_eq!(
                (lock.id, lock.pid, lock.file, lock.start, lock.end),
                (id, Some(i64::from(pid)), Some(LockFile { major, minor, ino }), start, end)
            );
        }
    }
}
