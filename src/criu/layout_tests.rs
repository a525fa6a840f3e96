//! The options object of each layout, made up.

use super::*;
use crate::criu::options::CriuOption;
use crate::criu::{LockMethod, Release};
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
    fn new(shape: &Shape) -> Self {
        let text = CString::new("/lib/dir/").unwrap();
        let mut made = Made { bytes: vec![0; shape.size], _texts: Vec::new() };
        made.put(shape.libdir, &(text.as_ptr() as usize).to_ne_bytes());
        made._texts.push(text);
        for list in shape.lists {
            let head = made.bytes.as_ptr() as usize + list;
            made.put(*list, &head.to_ne_bytes());
            made.put(list + 8, &head.to_ne_bytes());
        }
        if let Some(user) = shape.user {
            made.put(user + 4, &known().user.unwrap().1.to_ne_bytes());
        }
        made.put(shape.log_level, &4_u32.to_ne_bytes());
        made.put(shape.mode, &1_u32.to_ne_bytes());
        made.put(at(shape, "ghost_limit"), &(1_u64 << 20).to_ne_bytes());
        // COMPEL_TASK_DEAD.
        made.put(at(shape, "final_state"), &2_u32.to_ne_bytes());
        made
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn read(&self, known: &Known) -> Result<Read, Unusable> {
        read(Object { addr: self.bytes.as_ptr() as usize, size: Some(self.bytes.len()) }, known)
    }
}

/// Where a member is in this layout.
fn at(shape: &Shape, name: &str) -> usize {
    let mut members = OPTIONS.iter().filter_map(CriuOption::member);
    members.find(|m| m.name == name).and_then(|m| m.place(shape.layout)).unwrap()
}

#[test]
fn every_boolean_option_is_read_from_its_own_place() {
    for shape in &SHAPES {
        let places = OPTIONS.iter().filter_map(|o| Some((o.opt?, o.member()?.place(shape.layout)?)));
        for (opt, place) in places.collect::<Vec<_>>() {
            let mut made = Made::new(shape);
            made.put(place, &[1]);
            let mut options = made.read(&known()).unwrap().options;
            assert_eq!(options.flag(opt), Some(true), "{opt:?} {}", shape.size);
            // And nothing else is another.
            *options.flag_mut(opt) = Some(false);
            assert_eq!(options, Made::new(shape).read(&known()).unwrap().options, "{opt:?} {}", shape.size);
        }
    }
}

#[test]
fn every_row_reads_back_what_was_put_there() {
    for shape in &SHAPES {
        let mut made = Made::new(shape);
        let none = made.read(&known()).unwrap();
        let o = &none.options;
        assert!(OPTIONS.iter().filter_map(|option| option.opt).all(|opt| o.flag(opt) == Some(false)));
        assert_eq!((o.ghost_limit, o.network_lock, o.empty_ns), (Some(1 << 20), Some(LockMethod::Iptables), Some(0)));
        assert_eq!((&o.freeze_cgroup, &o.irmap_scan_paths), (&Some(None), &Some(Vec::new())));
        // FILE_VALIDATION_FILE_SIZE is zero.
        assert_eq!((o.validate_by_size, none.tree_id), (Some(true), Some(0)));
        // These are elsewhere.
        assert_eq!((&o.enable_fs, &o.skip_mnt, &o.dump_controllers), (&None, &None, &None));
        made.put(shape.tree_id, &77_i32.to_ne_bytes());
        made.put(at(shape, "network_lock_method"), &2_u32.to_ne_bytes());
        made.put(at(shape, "file_validation_method"), &1_u32.to_ne_bytes());
        made.put(at(shape, "ghost_limit"), &7_u64.to_ne_bytes());
        made.put(at(shape, "empty_ns"), &0x4000_0000_u32.to_ne_bytes());
        let text = CString::new("/cg").unwrap();
        made.put(at(shape, "freeze_cgroup"), &(text.as_ptr() as usize).to_ne_bytes());
        let some = made.read(&known()).unwrap();
        let o = &some.options;
        assert_eq!((o.network_lock, some.tree_id), (Some(LockMethod::Skip), Some(77)));
        assert_eq!((o.ghost_limit, o.validate_by_size, o.empty_ns), (Some(7), Some(false), Some(0x4000_0000)));
        assert_eq!(o.freeze_cgroup, Some(Some("/cg".into())));
    }
}

#[test]
fn one_field_that_is_wrong_makes_all_of_them_unknown() {
    for shape in &SHAPES {
        for (at, value, field) in [
            (shape.log_level, 3, "log_level"),
            (shape.mode, 3, "mode"),
            (shape.tree_id, 78, "tree_id"),
            (shape.libdir, 0, "libdir"),
            (EXTERNAL, 0, "one of its lists"),
            (INHERIT_FDS, 0, "one of its lists"),
            (shape.lists[4], 0, "one of its lists"),
            (at(shape, "irmap_scan_paths"), 0, "one of its lists"),
            (at(shape, "empty_ns"), 8, "empty_ns"),
            (shape.manage_cgroups, 3, "manage_cgroups"),
            (shape.manage_cgroups, 32, "manage_cgroups"),
            (shape.user.unwrap_or(shape.mode), 1000, if shape.user.is_some() { "uid" } else { "mode" }),
            (at(shape, "shell_job"), 2, "shell_job"),
            (at(shape, "network_lock_method"), 3, "network_lock_method"),
            (at(shape, "file_validation_method"), 2, "file_validation_method"),
            (at(shape, "orphan_pts_master"), 7, "orphan_pts_master"),
        ] {
            let mut made = Made::new(shape);
            made.put(at, &u32::to_ne_bytes(value));
            assert_eq!(made.read(&known()).err(), Some(Unusable::Mismatch(field)), "{}", shape.size);
        }
        let made = Made::new(shape);
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
            let wrong = shape.user.map(|_| Unusable::Mismatch("uid"));
            assert_eq!(made.read(&Known { user, ..known() }).err(), wrong, "{}", shape.size);
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
    for shape in &SHAPES {
        let mut made = Made::new(shape);
        // Options that are given: a field that is read in the wrong place is seen.
        for at in [
            at(shape, "handle_file_locks"),
            at(shape, "tcp_close"),
            at(shape, "link_remap_ok"),
            at(shape, "force_irmap"),
            at(shape, "tcp_skip_in_flight"),
            shape.lazy_pages,
        ] {
            made.put(at, &[1]);
        }
        made.put(at(shape, "enable_external_masters"), &[1]);
        made.put(at(shape, "orphan_pts_master"), &[1]);
        made.put(shape.manage_cgroups, &[4]);
        made.put(shape.tree_id, &77_i32.to_ne_bytes());
        let right = made.read(&known()).unwrap();
        let (mut refused, mut same) = (0, 0);
        for from in (16..shape.size).step_by(4) {
            for by in [4, 8, 16, 24] {
                for inserted in [true, false] {
                    let mut moved = Made { bytes: made.bytes.clone(), _texts: made._texts.clone() };
                    let end = shape.size - by;
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
                    for head in shape.lists {
                        let now = match (head + 8 >= from, inserted) {
                            (false, _) => *head,
                            (true, true) => head + by,
                            (true, false) => head.wrapping_sub(by),
                        };
                        if now < shape.size - 16 {
                            let address = moved.bytes.as_ptr() as usize + now;
                            moved.put(now, &address.to_ne_bytes());
                            moved.put(now + 8, &address.to_ne_bytes());
                        }
                    }
                    match moved.read(&known()) {
                        Ok(read) => {
                            assert_eq!(read, right, "{}: {by} bytes at {from}, {inserted}", shape.size);
                            same += 1;
                        }
                        Err(_) => refused += 1,
                    }
                }
            }
        }
        // What lies behind the last field of interest may move.
        assert!(refused > 600 && same < 200, "{}: {refused} {same}", shape.size);
    }
}

#[test]
fn every_release_has_a_row() {
    for row in &crate::criu::release::PUBLISHED {
        assert!(SHAPES.iter().any(|shape| shape.size == row.options_size), "{}", row.name);
    }
    let sizes: Vec<_> = ["3.17", "3.19", "4.0", "4.1", "4.2", "4.3"]
        .map(|name| Release::by_name(name.as_bytes()).and_then(Release::published).map(|row| row.options_size))
        .into();
    assert_eq!(sizes, [472, 504, 504, 504, 512, 552].map(Some));
}
