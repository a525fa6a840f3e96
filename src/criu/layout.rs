//! `struct cr_options` of every release line, by offsets, believed only after verification.
//!
//! Fields before offset 160 are the same in all releases; the rest moves. The symbol's own size picks the row, then what
//! we know from elsewhere must be found at its offsets: the directory we were loaded from, CRIU's log level, its mode,
//! the target, whom CRIU runs as; lists must be rings and numbers in their range. A row that does not verify is not used
//! at all, and the CRIU is none that is known.
//!
//! Source: criu/include/cr_options.h at v3.17.1, v3.18, v4.0, v4.1.1, v4.2 (x86_64); 4.3 from the binary's accesses.

use crate::bytes::Bytes;
use crate::criu::options::{LockMethod, Options};
use crate::criu::safe_read as mem;
use crate::criu::symbols::Object;
use crate::criu::Stage;

/// Offsets in bytes of the fields that differ between releases.
#[derive(Clone, Copy, Debug)]
struct Row {
    size: usize,
    /// Heads of lists, those of no interest as well.
    lists: &'static [usize],
    libdir: usize,
    force_irmap: usize,
    manage_cgroups: usize,
    autodetect_ext_mounts: usize,
    enable_external_sharing: usize,
    enable_external_masters: usize,
    ghost_limit: usize,
    irmap_scan_paths: usize,
    lsm_supplied: usize,
    timeout: usize,
    empty_ns: usize,
    tcp_skip_in_flight: usize,
    lazy_pages: usize,
    network_lock_method: usize,
    allow_uprobes: Option<usize>,
    orphan_pts_master: usize,
    tree_id: usize,
    log_level: usize,
    file_validation_method: usize,
    mode: usize,
    /// The effective user (4 bytes), its capabilities (8), and whether it is one without privileges (4).
    user: Option<usize>,
}

/// Fields that no release has moved.
const EXT_UNIX_SK: usize = 20;
const SHELL_JOB: usize = 24;
const FILE_LOCKS: usize = 28;
const TCP_ESTABLISHED: usize = 32;
const TCP_CLOSE: usize = 36;
const EVASIVE_DEVICES: usize = 40;
const LINK_REMAP: usize = 44;
const FREEZE_CGROUP: usize = 88;
const INHERIT_FDS: usize = 112;
const EXTERNAL: usize = 128;

const V3_17: Row = Row {
    size: 472,
    lists: &[96, INHERIT_FDS, EXTERNAL, 144, 256, 304],
    libdir: 160,
    force_irmap: 208,
    manage_cgroups: 224,
    autodetect_ext_mounts: 280,
    enable_external_sharing: 284,
    enable_external_masters: 288,
    ghost_limit: 296,
    irmap_scan_paths: 304,
    lsm_supplied: 320,
    timeout: 344,
    empty_ns: 348,
    tcp_skip_in_flight: 352,
    lazy_pages: 356,
    network_lock_method: 368,
    allow_uprobes: None,
    orphan_pts_master: 388,
    tree_id: 396,
    log_level: 400,
    file_validation_method: 456,
    mode: 460,
    user: None,
};

/// 3.18, 3.19, 4.0, 4.1.
const V3_18: Row = Row {
    size: 504,
    lists: &[96, INHERIT_FDS, EXTERNAL, 144, 256, 312],
    ghost_limit: 304,
    irmap_scan_paths: 312,
    lsm_supplied: 328,
    timeout: 352,
    empty_ns: 356,
    tcp_skip_in_flight: 360,
    lazy_pages: 364,
    network_lock_method: 376,
    orphan_pts_master: 400,
    tree_id: 408,
    log_level: 412,
    file_validation_method: 464,
    mode: 468,
    user: Some(488),
    ..V3_17
};

const V4_2: Row = Row {
    size: 512,
    allow_uprobes: Some(384),
    orphan_pts_master: 404,
    tree_id: 412,
    log_level: 416,
    file_validation_method: 472,
    mode: 476,
    user: Some(496),
    ..V3_18
};

const V4_3: Row = Row {
    size: 552,
    lists: &[96, INHERIT_FDS, EXTERNAL, 144, 280, 336],
    libdir: 184,
    force_irmap: 232,
    manage_cgroups: 248,
    autodetect_ext_mounts: 304,
    enable_external_sharing: 308,
    enable_external_masters: 312,
    ghost_limit: 328,
    irmap_scan_paths: 336,
    lsm_supplied: 352,
    timeout: 376,
    empty_ns: 380,
    tcp_skip_in_flight: 384,
    lazy_pages: 388,
    network_lock_method: 400,
    allow_uprobes: Some(408),
    orphan_pts_master: 428,
    tree_id: 436,
    log_level: 440,
    file_validation_method: 512,
    mode: 520,
    user: Some(536),
};

const ROWS: [Row; 4] = [V3_17, V3_18, V4_2, V4_3];

/// What is known from elsewhere and must be found in the object.
#[derive(Clone, Debug)]
pub struct Known<'a> {
    pub stage: Stage,
    /// The path the plugin was loaded by.
    pub own_path: Option<&'a [u8]>,
    /// log_get_loglevel().
    pub log_level: Option<u32>,
    /// root_item->pid->real.
    pub root: Option<i32>,
    /// The effective user of this process, and its capabilities.
    pub user: Option<(u32, u64)>,
}

/// What the options object says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Read {
    pub options: Options,
    pub inherit_ids: Option<Vec<Bytes>>,
    /// `--tree`: zero under RPC.
    pub tree_id: Option<i32>,
}

/// Why the object was not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// No release we know has an object of this size (`None`: the loader did not tell the size).
    UnknownSize(Option<usize>),
    /// This field does not say what it must.
    Mismatch(&'static str),
}

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unusable::UnknownSize(Some(n)) => {
                write!(f, "its options object has {n} bytes, as in no release known here")
            }
            Unusable::UnknownSize(None) => write!(f, "the size of its options object cannot be told"),
            Unusable::Mismatch(field) => write!(f, "its options object does not hold what it should at {field}"),
        }
    }
}

/// Reads and verifies the object.
pub fn read(opts: Object, known: &Known) -> Result<Read, Unusable> {
    let row = ROWS.iter().find(|r| Some(r.size) == opts.size).ok_or(Unusable::UnknownSize(opts.size))?;
    let at = |offset: usize| opts.addr.wrapping_add(offset);
    let bad = Unusable::Mismatch;
    verify(row, &at, known)?;

    let int = |offset, name| match mem::u32(at(offset)) {
        Some(v @ (0 | 1)) => Ok(Some(v == 1)),
        _ => Err(bad(name)),
    };
    let bool8 = |offset, name| match mem::u8(at(offset)) {
        Some(v @ (0 | 1)) => Ok(Some(v == 1)),
        _ => Err(bad(name)),
    };
    let network_lock = Some(match mem::u32(at(row.network_lock_method)) {
        Some(0) => LockMethod::Iptables,
        Some(1) => LockMethod::Nftables,
        Some(2) => LockMethod::Skip,
        _ => return Err(bad("network_lock_method")),
    });
    let validate_by_size = Some(match mem::u32(at(row.file_validation_method)) {
        Some(0) => true,
        Some(1) => false,
        _ => return Err(bad("file_validation_method")),
    });
    // It takes network namespaces only.
    let empty_ns = match mem::i32(at(row.empty_ns)) {
        Some(0 | libc::CLONE_NEWNET) => mem::u32(at(row.empty_ns)),
        _ => return Err(bad("empty_ns")),
    };
    // CG_MODE_*: nothing, or one of five bits.
    let one_mode = |v: &u32| *v < 1 << 5 && v.count_ones() <= 1;
    let manage_cgroups = mem::u32(at(row.manage_cgroups)).filter(one_mode).ok_or(bad("manage_cgroups"))?;
    let freeze_cgroup = match mem::word(at(FREEZE_CGROUP)) {
        Some(0) => Some(None),
        Some(text) => Some(Some(Bytes(mem::cstr(text, 4096).ok_or(bad("freeze_cgroup"))?))),
        None => return Err(bad("freeze_cgroup")),
    };
    let options = Options {
        // Not in the object: see `Options::enable_fs`.
        enable_fs: None,
        skip_mnt: None,
        dump_controllers: None,
        ext_unix_sk: bool8(EXT_UNIX_SK, "ext_unix_sk")?,
        shell_job: int(SHELL_JOB, "shell_job")?,
        file_locks: int(FILE_LOCKS, "handle_file_locks")?,
        tcp_established: int(TCP_ESTABLISHED, "tcp_established_ok")?,
        tcp_close: int(TCP_CLOSE, "tcp_close")?,
        skip_in_flight: int(row.tcp_skip_in_flight, "tcp_skip_in_flight")?,
        evasive_devices: int(EVASIVE_DEVICES, "evasive_devices")?,
        link_remap: int(LINK_REMAP, "link_remap_ok")?,
        force_irmap: int(row.force_irmap, "force_irmap")?,
        enable_external_sharing: int(row.enable_external_sharing, "enable_external_sharing")?,
        enable_external_masters: int(row.enable_external_masters, "enable_external_masters")?,
        autodetect_ext_mounts: bool8(row.autodetect_ext_mounts, "autodetect_ext_mounts")?,
        // A CRIU without the option behaves as one whose option is not given.
        allow_uprobes: row.allow_uprobes.map_or(Ok(Some(false)), |o| int(o, "allow_uprobes"))?,
        unprivileged: row.user.map_or(Ok(Some(false)), |o| int(o.wrapping_add(12), "unprivileged"))?,
        orphan_pts_master: bool8(row.orphan_pts_master, "orphan_pts_master")?,
        lazy_pages: bool8(row.lazy_pages, "lazy_pages")?,
        ghost_limit: mem::u64(at(row.ghost_limit)),
        network_lock,
        empty_ns,
        freeze_cgroup,
        irmap_scan_paths: Some(irmap_paths(at(row.irmap_scan_paths)).ok_or(bad("irmap_scan_paths"))?),
        timeout: mem::u32(at(row.timeout)),
        validate_by_size,
        manage_cgroups: Some(manage_cgroups),
        lsm_supplied: bool8(row.lsm_supplied, "lsm_supplied")?,
    };
    Ok(Read {
        options,
        inherit_ids: Some(inherit_ids(at(INHERIT_FDS)).ok_or(bad("inherit_fds"))?),
        tree_id: mem::i32(at(row.tree_id)),
    })
}

/// What must hold before a single field is believed.
fn verify(row: &Row, at: &dyn Fn(usize) -> usize, known: &Known) -> Result<(), Unusable> {
    let bad = Unusable::Mismatch;
    // CRIU builds the path as libdir, a slash, the name (criu/plugin.c:cr_plugin_init).
    let libdir = mem::word(at(row.libdir)).and_then(|p| mem::cstr(p, 4096)).ok_or(bad("libdir"))?;
    let rest = known.own_path.and_then(|p| p.strip_prefix(libdir.as_slice()));
    if !matches!(rest, Some([b'/', name @ ..]) if !name.is_empty() && !name.contains(&b'/')) {
        return Err(bad("libdir"));
    }
    if known.log_level.is_none() || mem::u32(at(row.log_level)) != known.log_level {
        return Err(bad("log_level"));
    }
    // enum criu_mode: CR_DUMP 1, CR_PRE_DUMP 2.
    let mode = match known.stage {
        Stage::Dump => 1,
        Stage::PreDump => 2,
        Stage::DryRun => return Err(bad("mode")),
    };
    if mem::u32(at(row.mode)) != Some(mode) {
        return Err(bad("mode"));
    }
    match mem::i32(at(row.tree_id)) {
        // Under RPC the pid is only in root_item.
        Some(0) => {}
        tree if tree.is_some() && tree == known.root => {}
        _ => return Err(bad("tree_id")),
    }
    if row.lists.iter().any(|head| mem::list(at(*head), MAX_NODES).is_none()) {
        return Err(bad("one of its lists"));
    }
    if let Some(user) = row.user {
        let (uid, caps) = (mem::u32(at(user)), mem::array(at(user.wrapping_add(4))).map(u64::from_le_bytes));
        if known.user.is_none() || uid.zip(caps) != known.user {
            return Err(bad("uid"));
        }
    }
    Ok(())
}

/// More than any command line can hold.
const MAX_NODES: usize = 100_000;

/// `struct inherit_fd { struct list_head; char *inh_id; int inh_fd; ... }` (criu/files.c).
fn inherit_ids(head: usize) -> Option<Vec<Bytes>> {
    mem::list(head, MAX_NODES)?
        .into_iter()
        .map(|node| mem::word(node.checked_add(16)?).and_then(|p| mem::cstr(p, 4096)).map(Bytes))
        .collect()
}

/// `struct irmap_path_opt { struct list_head; struct irmap *ir; }`, the path at 16 of struct irmap (criu/irmap.c).
fn irmap_paths(head: usize) -> Option<Vec<Bytes>> {
    mem::list(head, MAX_NODES)?
        .into_iter()
        .map(|node| {
            let irmap = mem::word(node.checked_add(16)?)?;
            mem::word(irmap.checked_add(16)?).and_then(|p| mem::cstr(p, 4096)).map(Bytes)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::criu::Release;
    use std::ffi::CString;

    /// An options object as that release would have it, with what its pointers point to.
    struct Made {
        bytes: Vec<u8>,
        _texts: Vec<CString>,
    }

    const PATH: &[u8] = b"/lib/dir//preflight_plugin.so";

    fn known() -> Known<'static> {
        let user = Some((0, 0x1ff_feff_ffff));
        Known { stage: Stage::Dump, own_path: Some(PATH), log_level: Some(4), root: Some(77), user }
    }

    impl Made {
        fn new(row: &Row) -> Self {
            let text = CString::new("/lib/dir/").unwrap();
            let mut made = Made { bytes: vec![0; row.size], _texts: Vec::new() };
            made.put(row.libdir, &(text.as_ptr() as usize).to_ne_bytes());
            made._texts.push(text);
            for list in row.lists {
                let head = made.bytes.as_ptr() as usize + list;
                made.put(*list, &head.to_ne_bytes());
                made.put(list + 8, &head.to_ne_bytes());
            }
            if let Some(user) = row.user {
                made.put(user + 4, &known().user.unwrap().1.to_ne_bytes());
            }
            made.put(row.log_level, &4_u32.to_ne_bytes());
            made.put(row.mode, &1_u32.to_ne_bytes());
            made.put(row.ghost_limit, &(1_u64 << 20).to_ne_bytes());
            made
        }

        fn put(&mut self, at: usize, bytes: &[u8]) {
            self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        }

        fn read(&self, known: &Known) -> Result<Read, Unusable> {
            read(Object { addr: self.bytes.as_ptr() as usize, size: Some(self.bytes.len()) }, known)
        }
    }

    #[test]
    fn every_row_reads_back_what_was_put_there() {
        for row in &ROWS {
            let mut made = Made::new(row);
            let none = made.read(&known()).unwrap();
            assert_eq!(none.options.file_locks, Some(false));
            assert_eq!((none.options.ghost_limit, none.tree_id), (Some(1 << 20), Some(0)));
            for at in [FILE_LOCKS, row.tcp_skip_in_flight, row.lazy_pages, row.orphan_pts_master, row.force_irmap] {
                made.put(at, &[1]);
            }
            made.put(row.tree_id, &77_i32.to_ne_bytes());
            made.put(row.network_lock_method, &2_u32.to_ne_bytes());
            let some = made.read(&known()).unwrap();
            let o = &some.options;
            let set = [o.file_locks, o.skip_in_flight, o.lazy_pages, o.orphan_pts_master, o.force_irmap];
            assert_eq!(set, [Some(true); 5], "{}", row.size);
            assert_eq!([o.tcp_close, o.evasive_devices, o.shell_job, o.autodetect_ext_mounts], [Some(false); 4]);
            assert_eq!((o.network_lock, some.tree_id), (Some(LockMethod::Skip), Some(77)));
        }
    }

    #[test]
    fn one_field_that_is_wrong_makes_all_of_them_unknown() {
        for row in &ROWS {
            for (at, value, field) in [
                (row.log_level, 3, "log_level"),
                (row.mode, 3, "mode"),
                (row.tree_id, 78, "tree_id"),
                (row.libdir, 0, "libdir"),
                (EXTERNAL, 0, "one of its lists"),
                (INHERIT_FDS, 0, "one of its lists"),
                (row.lists[4], 0, "one of its lists"),
                (row.irmap_scan_paths, 0, "one of its lists"),
                (row.empty_ns, 8, "empty_ns"),
                (row.manage_cgroups, 3, "manage_cgroups"),
                (row.manage_cgroups, 32, "manage_cgroups"),
                (row.user.unwrap_or(row.mode), 1000, if row.user.is_some() { "uid" } else { "mode" }),
                (SHELL_JOB, 2, "shell_job"),
                (row.network_lock_method, 3, "network_lock_method"),
                (row.file_validation_method, 2, "file_validation_method"),
                (row.orphan_pts_master, 7, "orphan_pts_master"),
            ] {
                let mut made = Made::new(row);
                made.put(at, &u32::to_ne_bytes(value));
                assert_eq!(made.read(&known()).err(), Some(Unusable::Mismatch(field)), "{}", row.size);
            }
            let made = Made::new(row);
            for known in [
                Known { own_path: Some(b"/lib/dirt/x.so"), ..known() },
                Known { own_path: Some(b"/lib/dir/"), ..known() },
                Known { own_path: Some(b"/lib/dir//sub/x.so"), ..known() },
                Known { own_path: None, ..known() },
            ] {
                assert_eq!(made.read(&known).err(), Some(Unusable::Mismatch("libdir")));
            }
            assert_eq!(made.read(&Known { log_level: None, ..known() }).err(), Some(Unusable::Mismatch("log_level")));
            assert_eq!(made.read(&Known { stage: Stage::PreDump, ..known() }).err(), Some(Unusable::Mismatch("mode")));
            for user in [None, Some((1, known().user.unwrap().1)), Some((0, 0))] {
                let wrong = row.user.map(|_| Unusable::Mismatch("uid"));
                assert_eq!(made.read(&Known { user, ..known() }).err(), wrong, "{}", row.size);
            }
        }
        let nowhere = Object { addr: 64, size: Some(504) };
        assert_eq!(read(nowhere, &known()), Err(Unusable::Mismatch("libdir")));
        for size in [None, Some(0), Some(500), Some(553)] {
            assert_eq!(read(Object { addr: 64, size }, &known()), Err(Unusable::UnknownSize(size)));
        }
    }

    /// A release with a field more or less, and as many bytes in all. Its fields are read as they are, or not at all.
    #[test]
    fn a_layout_that_has_moved_is_not_read_as_another() {
        for row in &ROWS {
            let mut made = Made::new(row);
            // Options that are given: a field that is read in the wrong place is seen.
            for at in [FILE_LOCKS, TCP_CLOSE, LINK_REMAP, row.force_irmap, row.tcp_skip_in_flight, row.lazy_pages] {
                made.put(at, &[1]);
            }
            made.put(row.enable_external_masters, &[1]);
            made.put(row.orphan_pts_master, &[1]);
            made.put(row.manage_cgroups, &[4]);
            made.put(row.tree_id, &77_i32.to_ne_bytes());
            let right = made.read(&known()).unwrap();
            let (mut refused, mut same) = (0, 0);
            for from in (16..row.size).step_by(4) {
                for by in [4, 8, 16, 24] {
                    for inserted in [true, false] {
                        let mut moved = Made { bytes: made.bytes.clone(), _texts: made._texts.clone() };
                        let end = row.size - by;
                        if from > end {
                            continue;
                        }
                        if inserted {
                            moved.bytes.copy_within(from..end, from + by);
                            moved.bytes[from..from + by].fill(0);
                        } else {
                            moved.bytes.copy_within(from + by.., from);
                            moved.bytes[end..].fill(0);
                        }
                        // The rings are where they have moved to.
                        for head in row.lists {
                            let now = match (head + 8 >= from, inserted) {
                                (false, _) => *head,
                                (true, true) => head + by,
                                (true, false) => head.wrapping_sub(by),
                            };
                            if now < row.size - 16 {
                                let address = moved.bytes.as_ptr() as usize + now;
                                moved.put(now, &address.to_ne_bytes());
                                moved.put(now + 8, &address.to_ne_bytes());
                            }
                        }
                        match moved.read(&known()) {
                            Ok(read) => {
                                assert_eq!(read, right, "{}: {by} bytes at {from}, {inserted}", row.size);
                                same += 1;
                            }
                            Err(_) => refused += 1,
                        }
                    }
                }
            }
            // What lies behind the last field of interest may move.
            assert!(refused > 600 && same < 200, "{}: {refused} {same}", row.size);
        }
    }

    #[test]
    fn every_release_has_a_row() {
        for row in &crate::criu::release::PUBLISHED {
            assert!(ROWS.iter().any(|layout| layout.size == row.options_size), "{}", row.name);
        }
        let sizes: Vec<_> = ["3.17", "3.19", "4.0", "4.1", "4.2", "4.3"]
            .map(|name| Release::by_name(name.as_bytes()).and_then(Release::published).map(|row| row.options_size))
            .into();
        assert_eq!(sizes, [472, 504, 504, 504, 512, 552].map(Some));
    }
}
