//! `struct cr_options` of every release line, by offsets, believed only after verification.
//!
//! Fields before offset 160 are the same in all releases; the rest moves. The symbol's own size picks the row, then what
//! we know from elsewhere must be found at its offsets: the directory we were loaded from, CRIU's log level, its mode,
//! the target, whom CRIU runs as; lists must be rings and numbers in their range. A row that does not verify is not used
//! at all, and the CRIU is none that is known.
//!
//! Source: criu/include/cr_options.h at v3.17.1, v3.18, v4.0, v4.1.1, v4.2 (x86_64); 4.3 from the binary's accesses.

use crate::bytes::Bytes;
use crate::criu::options::{memory, Layout, Options, OPTIONS};
use crate::criu::safe_read as mem;
use crate::criu::symbols::Object;
use crate::criu::Stage;

/// What is not an option in one layout, by offsets.
#[derive(Clone, Copy, Debug)]
struct Shape {
    layout: Layout,
    /// sizeof(struct cr_options).
    size: usize,
    /// Heads of lists, those of no interest as well.
    lists: &'static [usize],
    libdir: usize,
    tree_id: usize,
    log_level: usize,
    mode: usize,
    /// The effective user (4 bytes), and its capabilities (8).
    user: Option<usize>,
    manage_cgroups: usize,
    lsm_supplied: usize,
    lazy_pages: usize,
}

/// Lists that no release has moved.
const INHERIT_FDS: usize = 112;
const EXTERNAL: usize = 128;

const V3_17: Shape = Shape {
    layout: Layout::V3_17,
    size: 472,
    lists: &[96, INHERIT_FDS, EXTERNAL, 144, 256, 304],
    libdir: 160,
    tree_id: 396,
    log_level: 400,
    mode: 460,
    user: None,
    manage_cgroups: 224,
    lsm_supplied: 320,
    lazy_pages: 356,
};

/// 3.18, 3.19, 4.0, 4.1.
const V3_18: Shape = Shape {
    layout: Layout::V3_18,
    size: 504,
    lists: &[96, INHERIT_FDS, EXTERNAL, 144, 256, 312],
    tree_id: 408,
    log_level: 412,
    mode: 468,
    user: Some(488),
    lsm_supplied: 328,
    lazy_pages: 364,
    ..V3_17
};

const V4_2: Shape =
    Shape { layout: Layout::V4_2, size: 512, tree_id: 412, log_level: 416, mode: 476, user: Some(496), ..V3_18 };

const V4_3: Shape = Shape {
    layout: Layout::V4_3,
    size: 552,
    lists: &[96, INHERIT_FDS, EXTERNAL, 144, 280, 336],
    libdir: 184,
    tree_id: 436,
    log_level: 440,
    mode: 520,
    user: Some(536),
    manage_cgroups: 248,
    lsm_supplied: 352,
    lazy_pages: 388,
};

const SHAPES: [Shape; 4] = [V3_17, V3_18, V4_2, V4_3];

/// What is known from elsewhere and must be found in the object.
#[derive(Clone, Debug)]
pub(crate) struct Known<'a> {
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
pub(crate) struct Read {
    pub options: Options,
    pub inherit_ids: Option<Vec<Bytes>>,
    /// `--tree`: zero under RPC.
    pub tree_id: Option<i32>,
}

/// Why the object was not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
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
            Unusable::UnknownSize(None) => write!(f, "the size of its options object is not known"),
            Unusable::Mismatch(field) => write!(f, "its options object does not hold what it should at {field}"),
        }
    }
}

/// Reads and verifies the object.
pub(crate) fn read(opts: Object, known: &Known) -> Result<Read, Unusable> {
    let shape = SHAPES.iter().find(|s| Some(s.size) == opts.size).ok_or(Unusable::UnknownSize(opts.size))?;
    let at = |offset: usize| opts.addr.wrapping_add(offset);
    let bad = Unusable::Mismatch;
    verify(shape, &at, known)?;
    let mut options = Options::default();
    for member in OPTIONS.iter().filter_map(|option| option.member()) {
        match member.place(shape.layout) {
            Some(offset) => (member.read)(at(offset), &mut options).ok_or(bad(member.name))?,
            None => (member.absent)(&mut options),
        }
    }
    Ok(Read {
        options,
        inherit_ids: Some(memory::inherit_ids(at(INHERIT_FDS)).ok_or(bad("inherit_fds"))?),
        tree_id: mem::i32(at(shape.tree_id)),
    })
}

/// What must hold before a single field is believed.
fn verify(shape: &Shape, at: &dyn Fn(usize) -> usize, known: &Known) -> Result<(), Unusable> {
    let bad = Unusable::Mismatch;
    // CRIU builds the path as libdir, a slash, the name (criu/plugin.c:cr_plugin_init).
    let libdir = mem::word(at(shape.libdir)).and_then(|p| mem::cstr(p, 4096)).ok_or(bad("libdir"))?;
    let rest = known.own_path.and_then(|p| p.strip_prefix(libdir.as_slice()));
    if !matches!(rest, Some([b'/', name @ ..]) if !name.is_empty() && !name.contains(&b'/')) {
        return Err(bad("libdir"));
    }
    if known.log_level.is_none() || mem::u32(at(shape.log_level)) != known.log_level {
        return Err(bad("log_level"));
    }
    // enum criu_mode: CR_DUMP 1, CR_PRE_DUMP 2.
    let mode = match known.stage {
        Stage::Dump => 1,
        Stage::PreDump => 2,
        Stage::DryRun => return Err(bad("mode")),
    };
    if mem::u32(at(shape.mode)) != Some(mode) {
        return Err(bad("mode"));
    }
    match mem::i32(at(shape.tree_id)) {
        // Under RPC the pid is only in root_item.
        Some(0) => {}
        tree if tree.is_some() && tree == known.root => {}
        _ => return Err(bad("tree_id")),
    }
    if shape.lists.iter().any(|head| mem::list(at(*head), memory::MAX_NODES).is_none()) {
        return Err(bad("one of its lists"));
    }
    if let Some(user) = shape.user {
        let (uid, caps) = (mem::u32(at(user)), mem::array(at(user.wrapping_add(4))).map(u64::from_le_bytes));
        if known.user.is_none() || uid.zip(caps) != known.user {
            return Err(bad("uid"));
        }
    }
    // CG_MODE_*: nothing, or one of five bits.
    let one_mode = |modes: u32| modes < 1 << 5 && modes.count_ones() <= 1;
    if !mem::u32(at(shape.manage_cgroups)).is_some_and(one_mode) {
        return Err(bad("manage_cgroups"));
    }
    for (flag, name) in [(shape.lsm_supplied, "lsm_supplied"), (shape.lazy_pages, "lazy_pages")] {
        memory::byte(at(flag)).ok_or(bad(name))?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
