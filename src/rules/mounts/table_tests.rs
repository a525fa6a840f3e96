//! The rules for what is in a mount table, on hand-made snapshots.

use super::table::*;
use crate::criu::{externals, Hook, Opt, Release};
use crate::rules::testkit::*;
use crate::rules::{Ctx, Value, Verdict};
use crate::snapshot::Snapshot;

const ROOT: &str = "40 39 0:50 / / rw - overlay overlay rw,lowerdir=/l\n";

fn case(line: &str) -> Snapshot {
    in_mntns(&format!("{ROOT}{line}"))
}

#[test]
fn unsupported_and_what_lifts_it() {
    for ok in ["tmpfs", "proc", "cgroup2", "mqueue", "fuse.sshfs", "autofs"] {
        assert_eq!(verdict(&MNT_UNSUPPORTED_FS, &case(&format!("41 40 0:60 / /x rw - {ok} none rw")), &host()), None);
    }
    let nfs = case("41 40 0:60 / /x rw - nfs4 srv:/ rw");
    assert_eq!(verdict(&MNT_UNSUPPORTED_FS, &nfs, &host()), Some(Verdict::Refuse));
    assert_eq!(verdict(&MNT_UNSUPPORTED_FS, &nfs, &with_external("mnt[/x]:data")), None);
    assert_eq!(verdict(&MNT_UNSUPPORTED_FS, &nfs, &with_external("dev[0/60]:d")), None);
    // A key without a value is none.
    assert!(verdict(&MNT_UNSUPPORTED_FS, &nfs, &with_external("mnt[/x]")).is_some());
    let mut enabled = host();
    enabled.options.enable_fs = Some(vec!["hugetlbfs,nfs4".into()]);
    assert_eq!(verdict(&MNT_UNSUPPORTED_FS, &nfs, &enabled), None);
    enabled.options.enable_fs = None;
    assert_eq!(verdict(&MNT_UNSUPPORTED_FS, &nfs, &enabled), Some(Verdict::Warn));
}

#[test]
fn lines_criu_cannot_read() {
    let layers = "/l".repeat(2100);
    let long = case(&format!("41 40 0:60 / /x rw - overlay overlay rw,lowerdir={layers}"));
    let refuse = Some(Verdict::Refuse);
    let of = |release| crate::criu::Host { release, ..host() };
    assert_eq!(verdict(&MNT_LINE, &long, &of(Release::V4_3)), None);
    assert_eq!(verdict(&MNT_LINE, &long, &of(Release::V4_2)), refuse);
    assert_eq!(verdict(&MNT_LINE, &long, &with_external("mnt[/x]:v")), refuse);
    let exact = |len: usize| {
        let line = "41 40 0:60 / /x rw - overlay overlay rw,lowerdir=";
        case(&format!("{line}{}", "l".repeat(len - line.len())))
    };
    assert_eq!(verdict(&MNT_LINE, &exact(LINE_MAX), &of(Release::V4_2)), None);
    assert_eq!(verdict(&MNT_LINE, &exact(LINE_MAX + 1), &of(Release::V4_2)), refuse);
    // `lines` knows a carriage return before a newline only.
    for odd in ["/ /a\rb", "/a\x0bb /x", "/ /a\x0cb"] {
        assert_eq!(verdict(&MNT_LINE, &case(&format!("41 40 0:60 {odd} rw - tmpfs t rw")), &of(Release::V4_2)), refuse);
    }
    assert_eq!(verdict(&MNT_LINE, &case("41 40 0:60 / /a\\040b\\012 rw - tmpfs t rw"), &of(Release::V4_2)), None);
    // CRIU's own table: with the root in it, or with mnt[].
    let mut own = case("");
    let mine = own.mounts.iter_mut().find(|t| t.ns == CRIU_NS).unwrap();
    mine.mounts.extend(long.mounts[0].mounts.last().cloned());
    assert_eq!(verdict(&MNT_LINE, &own, &of(Release::V4_2)), None);
    assert_eq!(verdict(&MNT_LINE, &own, &with(Opt::AutodetectExtMounts)), refuse);
    assert_eq!(verdict(&MNT_LINE, &own, &unknown(Opt::AutodetectExtMounts)), Some(Verdict::Warn));
    own.tasks[0].ns.mnt = Some(CRIU_NS);
    assert_eq!(verdict(&MNT_LINE, &own, &of(Release::V4_2)), refuse);
}

#[test]
fn keys_name_mounts_of_the_roots_own_namespace() {
    let mut s = case("");
    s.mounts.push(mount_table(8, 101, "50 49 0:70 / / rw - tmpfs t rw\n51 50 0:71 / /x rw - ramfs r rw"));
    let f = found(&MNT_UNSUPPORTED_FS, &s, &with_external("mnt[/x]:v"));
    assert_eq!((f.len(), f[0].get("path")), (1, None));
    assert_eq!(f[0].get("key"), Some(&Value::Term("0/71".into())));
    assert_eq!(verdict(&MNT_UNSUPPORTED_FS, &s, &with_external("dev[0/71]:v")), None);
    // The same mount where the root task shares CRIU's namespace.
    let mut shared = case("41 40 0:71 / /x rw - ramfs r rw");
    shared.mounts.retain(|t| t.ns == 7);
    shared.mounts[0].ns = CRIU_NS;
    shared.tasks[0].ns.mnt = Some(CRIU_NS);
    shared.mounts.push(mount_table(8, 101, "50 49 0:70 / / rw - tmpfs t rw"));
    assert!(verdict(&MNT_UNSUPPORTED_FS, &shared, &with_external("mnt[/x]:v")).is_some());
}

#[test]
fn bound_from_another_mount() {
    let part = "41 40 8:2 /vol /data rw - xfs /dev/sda2 rw";
    let mut s = case("");
    s.mounts.push(mount_table(8, 101, "50 49 8:2 /vol / rw - xfs /dev/sda2 rw"));
    assert!(verdict(&MNT_NO_ROOT_MOUNT, &s, &host()).is_some(), "not from itself");
    // The root of the nested namespace vouches for the other, which does not for it.
    s.mounts[0].mounts.push(crate::parse::mountinfo::line(part.as_bytes()).unwrap());
    let f = found(&MNT_NO_ROOT_MOUNT, &s, &host());
    assert_eq!(f.iter().map(|f| f.get("mnt_id").cloned()).collect::<Vec<_>>(), [Some(Value::Num(50))]);
}

#[test]
fn the_first_that_fits_outside() {
    // CRIU's list begins with the last line: the last candidate is the first line that fits.
    let mut s = case("41 40 8:2 / /srv rw master:5 - xfs /dev/sda2 rw");
    s.mounts.retain(|t| t.ns != CRIU_NS);
    let table = |a: u32, b: u32| {
        let of = |id: i32, master: u32| format!("{id} 1 8:2 / /srv{id} rw master:{master} - xfs /dev/sda2 rw");
        mount_table(CRIU_NS, 50, &format!("{}\n{}", of(21, a), of(22, b)))
    };
    let mut h = with(Opt::AutodetectExtMounts);
    h.options.enable_external_masters = Some(true);
    for (outside, expect) in [(table(5, 6), None), (table(6, 5), Some(Verdict::Refuse))] {
        let s = Snapshot { mounts: [s.mounts.clone(), vec![outside]].concat(), ..s.clone() };
        assert_eq!(verdict(&MNT_EXTERNAL_MASTER, &s, &h), expect);
    }
}

#[test]
fn btrfs() {
    let line = "41 40 0:44 / /x rw - btrfs /dev/sdb rw,subvolid=5,subvol=/";
    let mut all = host();
    all.options.enable_fs = Some(vec!["all".into()]);
    assert_eq!(verdict(&MNT_UNSUPPORTED_FS, &case(line), &all), Some(Verdict::Refuse));
    // The root of the namespace, and another subvolume of the same superblock.
    let root = "40 39 0:44 /@ / rw - btrfs /dev/sdb rw,subvolid=256,subvol=/@\n\
                41 40 0:44 /@/home /home rw - btrfs /dev/sdb rw,subvolid=256,subvol=/@";
    for rule in [&MNT_UNSUPPORTED_FS, &MNT_NO_ROOT_MOUNT] {
        assert_eq!(verdict(rule, &in_mntns(root), &host()), None);
    }
}

#[test]
fn nothing_is_validated_in_crius_own_namespace() {
    let mut s = case("41 40 0:60 / /x rw - nfs4 srv:/ rw");
    s.tasks.first_mut().unwrap().ns.mnt = Some(CRIU_NS);
    s.mounts.remove(0);
    assert_eq!(verdict(&MNT_UNSUPPORTED_FS, &s, &host()), None);
}

#[test]
fn binds_from_outside() {
    let s = case("41 40 8:2 /vol /data rw - xfs /dev/sda2 rw");
    assert_eq!(verdict(&MNT_NO_ROOT_MOUNT, &s, &host()), Some(Verdict::Refuse));
    assert_eq!(verdict(&MNT_NO_ROOT_MOUNT, &s, &with_external("mnt[/data]:v")), None);
    assert_eq!(verdict(&MNT_NO_ROOT_MOUNT, &s, &with_hook(Hook::DumpExtMount)), None);
    assert_eq!(verdict(&MNT_NO_ROOT_MOUNT, &s, &with(Opt::AutodetectExtMounts)), None);
    // A bind of an external mount of the same superblock.
    let two = case("41 40 8:2 / /a rw - xfs /dev/sda2 rw\n42 40 8:2 /vol /b rw - xfs /dev/sda2 rw");
    assert_eq!(verdict(&MNT_NO_ROOT_MOUNT, &two, &with_external("mnt[/a]:v")), None);
    assert_eq!(verdict(&MNT_UNSUPPORTED_FS, &two, &with_external("mnt[/a]:v")), None);
    // A bind of a file system that is mounted whole.
    let inner = case("41 40 0:61 / /tmp rw - tmpfs t rw\n42 40 0:61 /d /m rw - tmpfs t rw");
    assert_eq!(verdict(&MNT_NO_ROOT_MOUNT, &inner, &host()), None);
}

#[test]
fn masters_outside() {
    let s = case("41 40 8:2 / /srv rw master:2 - tmpfs t rw");
    assert_eq!(verdict(&MNT_EXTERNAL_MASTER, &s, &host()), Some(Verdict::Refuse));
    assert_eq!(verdict(&MNT_EXTERNAL_MASTER, &s, &with_external("mnt[/srv]:v")), None);
    let inside = case("41 40 0:60 / /a rw shared:9 - tmpfs t rw\n42 40 0:60 / /b rw master:9 - tmpfs t rw");
    assert_eq!(verdict(&MNT_EXTERNAL_MASTER, &inside, &host()), None);
    // What is found by itself is external only with its own option.
    let auto = case("41 40 8:2 / /srv rw master:2 - xfs /dev/sda2 rw");
    let mut h = with(Opt::AutodetectExtMounts);
    assert!(verdict(&MNT_EXTERNAL_MASTER, &auto, &h).is_some());
    h.options.enable_external_masters = Some(true);
    assert_eq!(verdict(&MNT_EXTERNAL_MASTER, &auto, &h), None);
}

/// Whatever its propagation is: the options that are named let CRIU find it, and are all that is needed.
#[test]
fn a_volume_is_found_with_the_options_that_are_named() {
    for (propagation, rule, options) in [
        ("", &MNT_NO_ROOT_MOUNT, "--external 'mnt[]'"),
        ("shared:2 ", &MNT_NO_ROOT_MOUNT, "--external 'mnt[]:s'"),
        ("master:2 ", &MNT_EXTERNAL_MASTER, "--external 'mnt[]:m'"),
        ("shared:9 master:2 ", &MNT_EXTERNAL_MASTER, "--external 'mnt[]:m' --external 'mnt[]:s'"),
    ] {
        let s = case(&format!("41 40 8:2 /vol /data rw {propagation}- xfs /dev/sda2 rw"));
        let hint = |host: &crate::criu::Host| {
            let found = found(rule, &s, host);
            crate::report::hints::cure(rule, found.first().expect(propagation), host).text
        };
        let all = hint(&host());
        let own = "pass --external 'mnt[/data]:NAME' (restore with --external 'mnt[NAME]:PATH') or ";
        assert!(all.starts_with(&format!("{own}{options} (again to the restore); or ")), "{all}");
        let mut given = host();
        let mut so_far = Vec::new();
        for value in options.split(['\'', ' ']).filter(|word| word.starts_with("mnt[]")) {
            if !so_far.is_empty() {
                // One of two is not enough, and the other is named.
                assert!(
                    hint(&given).contains(&format!(" or --external '{value}' (again to the restore); or ")),
                    "{}",
                    hint(&given)
                );
            }
            externals::parse(&mut given, value.as_bytes()).unwrap();
            so_far.push(value);
        }
        for rule in [&MNT_NO_ROOT_MOUNT, &MNT_EXTERNAL_MASTER] {
            assert_eq!(verdict(rule, &s, &given), None, "{propagation}{options}");
        }
    }
}

#[test]
fn no_option_finds_the_root_of_a_namespace() {
    let mut s = case("");
    s.mounts.push(mount_table(8, 101, "50 49 8:2 /vol / rw - xfs /dev/sda2 rw"));
    let found = found(&MNT_NO_ROOT_MOUNT, &s, &host());
    assert_eq!(found.first().map(|f| f.get("auto")), Some(None));
}

#[test]
fn shape_of_the_tree() {
    let twins = case("41 40 0:60 / /x rw - tmpfs a rw\n42 40 0:61 / /x rw - tmpfs b rw");
    assert!(verdict(&MNT_SAME_POINT_CHILDREN, &twins, &host()).is_some());
    let stacked = case("41 40 0:60 / /x rw - tmpfs a rw\n42 41 0:61 / /x rw - tmpfs b rw");
    assert_eq!(verdict(&MNT_SAME_POINT_CHILDREN, &stacked, &host()), None);
    assert_eq!(verdict(&MNT_TREE, &stacked, &host()), None);
    assert!(verdict(&MNT_TREE, &case("41 99 0:60 / /x rw - tmpfs a rw"), &host()).is_some());
    let below = case("41 40 0:60 / /t rw - tracefs t rw\n42 41 0:61 / /t/x rw - tmpfs b rw");
    assert!(verdict(&MNT_TREE, &below, &host()).is_some());
}

#[test]
fn overmounts() {
    let s = in_mntns(&format!(
        "{ROOT}41 40 0:60 / /a rw - tmpfs a rw\n42 40 0:61 / /a/b rw - tmpfs b rw\n43 42 0:62 / /a/b rw - tmpfs c rw\n44 40 0:63 / /c rw - tmpfs d rw"
    ));
    let (snap, host) = (s, host());
    let ctx = Ctx::new(&snap, &host);
    let model = &ctx.mounts;
    let hidden = |id| model.is_overmounted(model.by_id(id).unwrap());
    // 42 lies under 41 (a sibling on a prefix of its path), 43 with it; 41 and 44 are seen.
    assert_eq!([41, 42, 43, 44].map(hidden), [false, true, true, false]);
    assert_eq!([42, 41].map(|id| model.leads_below(model.by_id(id).unwrap(), b"/a/b/f")), [true, false]);
}

#[test]
fn what_the_restore_takes_for_covered() {
    let s = in_mntns(&format!(
        "{ROOT}41 40 0:60 / /a rw - tmpfs a rw\n42 41 0:61 / /a rw - tmpfs b rw\n43 42 0:62 / /a/b rw - tmpfs c rw\n44 40 0:63 / /c rw - tmpfs d rw\n\
         45 44 0:64 / /c/d rw - tmpfs e rw"
    ));
    let (snap, host) = (s, host());
    let ctx = Ctx::new(&snap, &host);
    let model = &ctx.mounts;
    let node = |id| model.by_id(id).unwrap();
    // 42 is on top of 41, and 43 is on it: both are seen.
    assert_eq!([41, 42, 43, 44, 45].map(|id| model.is_overmounted(node(id))), [true, false, false, false, false]);
    // In any order.
    for order in [[43, 42, 41, 45, 44], [41, 42, 43, 44, 45]] {
        let model = crate::criu_model::mounts::Model::new(&snap, &host);
        let covered = order.map(|id| model.is_overmounted_at_restore(model.by_id(id).unwrap()));
        assert_eq!(covered, order.map(|id| id < 44));
    }
}
