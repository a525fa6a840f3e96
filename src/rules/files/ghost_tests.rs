//! Both directions of the rules for files without a name, on hand-made snapshots.

use super::path_tests::*;
use crate::criu::{Host, Options, Release};
use crate::rules::files::ghost::{
    GHOST_TOO_BIG, LINK_REMAP_LEFT, LINK_REMAP_NEEDED, RO_MOUNT_DELETED, RO_MOUNT_STACKED,
};
use crate::rules::testkit::*;
use crate::snapshot::{Link, OpenFile, PathMismatch, Snapshot};

/// A deleted file on /ro, of the same file system as / and read-only, in the namespace that is CRIU's.
fn removed(kind: u32, change: impl FnOnce(&mut OpenFile)) -> Snapshot {
    const RO: &[u8] = b"15 1 254:0 / / rw - ext4 /dev/vda rw\n\
        30 15 254:0 /x /ro ro - ext4 /dev/vda rw\n\
        31 30 0:31 / /ro/d rw - tmpfs tmpfs rw\n";
    let gone = |a: &mut crate::snapshot::FileAttr| (a.dev, a.nlink, a.mnt_id) = (DISK, 0, Some(30));
    let mut f = OpenFile { link: Some("/ro/f (deleted)".into()), ..with_attr(file(3, kind, 0x2b), gone) };
    change(&mut f);
    let mut s = at(snap(vec![f]), RO);
    s.tasks[0].ns.mnt = Some(CRIU_NS);
    s
}

#[test]
fn deleted_on_a_read_only_mount() {
    let judged = |s: &Snapshot, expected| alone(&RO_MOUNT_DELETED, s, &host(), expected);
    for kind in [libc::S_IFREG, libc::S_IFDIR, libc::S_IFIFO] {
        judged(&removed(kind, |_| {}), UNRESTORABLE);
    }
    judged(&removed(libc::S_IFREG, |f| f.attr.mnt_id = Some(15)), None);
    judged(&removed(libc::S_IFREG, |f| f.attr.nlink = 1), None);
    judged(&removed(libc::S_IFREG, |f| f.link = Some("/ro/d/f (deleted)".into())), None);
    judged(&removed(libc::S_IFREG, |f| f.link = None), None);
    alone(&GHOST_TOO_BIG, &removed(libc::S_IFREG, |f| f.attr.blocks = 1 << 20), &host(), REFUSE);
    alone(&RO_MOUNT_DELETED, &removed(libc::S_IFREG, |_| {}), &with_external("file[1e:2b]"), None);
    // Of a namespace that is dumped.
    let mut s = removed(libc::S_IFREG, |_| {});
    s.criu.ns.mnt = Some(CRIU_NS + 1);
    judged(&s, None);
    // As the program, which is dumped as any other file.
    let mut s = removed(libc::S_IFREG, |_| {});
    let file = s.tasks[0].files.remove(0);
    s.tasks[0].exe = Some(Link { text: "/ro/f (deleted)".into(), file: Some(file) });
    judged(&s, UNRESTORABLE);
}

#[test]
fn deleted_on_a_read_only_mount_of_a_stack() {
    let judged = |table: &[u8], kind, expected| {
        let mut s = at(snap(vec![file(3, kind, 0x2b)]), table);
        (s.tasks[0].ns.mnt, s.criu.ns.mnt) = (Some(CRIU_NS), Some(CRIU_NS + 1));
        let f = &mut s.tasks[0].files[0];
        f.link = Some("/mnt/f (deleted)".into());
        (f.attr.nlink, f.attr.mnt_id) = (0, Some(31));
        alone(&RO_MOUNT_STACKED, &s, &host(), expected);
    };
    const STACK: &[u8] = b"15 1 254:0 / / rw - ext4 /dev/vda rw\n\
        30 15 0:30 / /mnt rw - tmpfs tmpfs rw\n\
        31 30 0:31 / /mnt ro - tmpfs tmpfs rw\n";
    const WRITABLE: &[u8] = b"15 1 254:0 / / rw - ext4 /dev/vda rw\n\
        30 15 0:30 / /mnt ro - tmpfs tmpfs rw\n\
        31 30 0:31 / /mnt rw - tmpfs tmpfs ro\n";
    const SINGLE: &[u8] = b"15 1 254:0 / / rw - ext4 /dev/vda rw\n\
        31 15 0:31 / /mnt ro - tmpfs tmpfs rw\n";
    for kind in [libc::S_IFREG, libc::S_IFDIR, libc::S_IFIFO] {
        judged(STACK, kind, UNRESTORABLE);
        judged(WRITABLE, kind, None);
        judged(SINGLE, kind, None);
    }
}

#[test]
fn deleted_and_open_by_a_writable_mount_too() {
    for (kind, expected) in [(libc::S_IFREG, UNRESTORABLE), (libc::S_IFDIR, WARN)] {
        let mut s = removed(kind, |_| {});
        let mut other = s.tasks[0].files[0].clone();
        (other.attr.mnt_id, other.link) = (Some(15), Some("/x/f (deleted)".into()));
        s.tasks[0].files.push(other);
        alone(&RO_MOUNT_DELETED, &s, &host(), expected);
    }
}

#[test]
fn a_link_that_goes_again() {
    let s = regular(|f| f.mismatch = Some(PathMismatch::NoEntry { above: f.attr.mnt_id }));
    let given = |link_remap, leave_running| {
        let h = host();
        Host { options: Options { link_remap, leave_running, ..h.options }, ..h }
    };
    let (yes, no) = (Some(true), Some(false));
    alone(&LINK_REMAP_NEEDED, &s, &given(no, no), REFUSE);
    alone(&LINK_REMAP_NEEDED, &s, &given(no, yes), REFUSE);
    alone(&LINK_REMAP_NEEDED, &s, &given(yes, no), None);
    alone(&LINK_REMAP_NEEDED, &s, &given(None, yes), WARN);
    alone(&LINK_REMAP_LEFT, &s, &given(yes, yes), UNRESTORABLE);
    alone(&LINK_REMAP_LEFT, &s, &given(yes, None), WARN);
    alone(&LINK_REMAP_LEFT, &regular(|_| ()), &given(yes, yes), None);
    let left = found(&LINK_REMAP_NEEDED, &s, &given(no, yes));
    assert!(left[0].get("left").is_some() && left[0].get("kept").is_none(), "no hint at --link-remap");
}

#[test]
fn ghosts() {
    let ghost = |blocks, size| {
        regular(|f| {
            (f.attr.nlink, f.attr.blocks, f.attr.size, f.link) = (0, blocks, size, Some("/var/f (deleted)".into()))
        })
    };
    let (limit, over) = (2048, 2049);
    alone(&GHOST_TOO_BIG, &ghost(limit, 1 << 40), &host(), None);
    alone(&GHOST_TOO_BIG, &ghost(over, 1), &host(), REFUSE);
    alone(&GHOST_TOO_BIG, &ghost(over, 1), &with_limit(Some(over * 512)), None);
    alone(&GHOST_TOO_BIG, &ghost(over, 1), &with_limit(None), WARN);
    alone(&GHOST_TOO_BIG, &ghost(over, 1), &with_external("file[f:2b]"), None);
    // The length counted before 3.18.
    let old = at_release(Release::V3_17);
    alone(&GHOST_TOO_BIG, &ghost(over, 1), &old, None);
    alone(&GHOST_TOO_BIG, &ghost(0, (1 << 20) + 1), &old, REFUSE);
    alone(&GHOST_TOO_BIG, &ghost(0, 1 << 20), &old, None);
    // On procfs and devpts there are none.
    for mount in [16, 19] {
        let s = regular(|f| (f.attr.nlink, f.attr.blocks, f.attr.mnt_id) = (0, over, Some(mount)));
        alone(&GHOST_TOO_BIG, &s, &host(), None);
    }
    alone(&GHOST_TOO_BIG, &mapped(|f| (f.attr.nlink, f.attr.blocks) = (0, over)), &host(), REFUSE);
    let found = found(&GHOST_TOO_BIG, &mapped(|f| (f.attr.nlink, f.attr.blocks) = (0, over)), &host());
    assert_eq!((found[0].fd, found[0].addr), (None, Some(0x1000)));
}
