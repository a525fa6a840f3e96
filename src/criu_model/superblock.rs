//! When two mounts are of one file system to CRIU: mounts_sb_equal and what it calls (criu/mount.c, criu/filesystems.c).

use crate::parse::mountinfo::MountInfo;
use std::borrow::Cow;

pub(crate) fn type_of(info: &MountInfo) -> &[u8] {
    // "fuse.sshfs": the parser may or may not have split the subtype off already.
    info.fstype.split(|b| *b == b'.').next().unwrap_or_default()
}

/// The root without the mark of a deleted one (parse_mountinfo_ent strips it).
pub(crate) fn root_of(info: &MountInfo) -> &[u8] {
    let root: &[u8] = &info.root;
    match root.strip_suffix(b"//deleted") {
        Some(stripped) => stripped,
        None => root.strip_suffix(b" (deleted)").unwrap_or(root),
    }
}

pub(crate) fn is_cgroup(info: &MountInfo) -> bool {
    matches!(type_of(info), b"cgroup" | b"cgroup2")
}

/// What mounts_sb_equal compares at the time of search_bindmounts, when nothing is external yet.
pub(crate) type Superblock<'a> = ((u32, u32), &'a [u8], &'a [u8], Option<&'a [u8]>, Cow<'a, [u8]>);

/// `None`: it is equal to nothing (Btrfs without a subvolume in its options).
pub(crate) fn superblock(info: &MountInfo, cgroup_ns: bool) -> Option<Superblock<'_>> {
    // Whose root is taken for "/" is known by the true one (cgroup_sb_equal).
    let root = (cgroup_ns && is_cgroup(info)).then_some(&*info.root.0);
    Some(((info.major, info.minor), &info.source, type_of(info), root, compared_options(info)?))
}

pub(crate) fn sb_equal(a: &MountInfo, b: &MountInfo, cgroup_ns: bool) -> bool {
    let of = |info| superblock(info, cgroup_ns);
    of(a).is_some_and(|a| Some(a) == of(b))
}

/// The rest of mounts_sb_equal: what the type compares, or the options.
pub(crate) fn same_options(a: &MountInfo, b: &MountInfo) -> bool {
    type_of(a) == type_of(b) && compared_options(a).is_some_and(|a| Some(a) == compared_options(b))
}

fn compared_options(info: &MountInfo) -> Option<Cow<'_, [u8]>> {
    const FLAGS: &[&[u8]] = &[b"rw", b"ro", b"sync", b"dirsync"];
    let options: &[u8] = &info.super_options;
    if type_of(info) == b"btrfs" {
        let (head, tail) = without_subvol(options)?;
        // No option has a newline.
        return Some([head, b"\n", tail].concat().into());
    }
    // Flags of CRIU's (parse_sb_opt) are none of the options. Mostly they stand first.
    let is_flag = |o: &&[u8]| FLAGS.contains(o);
    if let Some((_, rest)) = options.split_at_checked(3).filter(|(flag, _)| matches!(flag, [b'r', b'w' | b'o', b','])) {
        if !rest.split(|b| *b == b',').any(|o| is_flag(&o)) {
            return Some(rest.into());
        }
    }
    let kept: Vec<&[u8]> = options.split(|b| *b == b',').filter(|o| !is_flag(o)).collect();
    Some(kept.join(b",".as_slice()).into())
}

/// btrfs_sb_equal: what stands before `subvol=` and after its value; `None` without it.
fn without_subvol(options: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = options.windows(7).position(|w| w == b"subvol=")?;
    let (head, tail) = options.split_at_checked(at)?;
    let rest = tail.iter().position(|b| *b == b',').and_then(|c| tail.get(c..)).unwrap_or_default();
    Some((head, rest))
}
