//! File systems that a restore mounts anew, and whose directories it does not find then.

use crate::criu_model::mounts::Node;
use crate::rules::mounts::content::each_looked_into;
use crate::rules::mounts::table::finding;
use crate::rules::{Evidence, Phase, Remedy, Rule, Versions, When};

pub(crate) static MNT_OVERLAY: Rule = Rule {
    id: "mnt-overlay",
    summary: "An overlay file system that was mounted in the tree: the dump is made and cannot be restored.",
    group: "Dumped, but not restored",
    condition: "A file system of type overlay is mounted in a dumped mount namespace, and neither that mount nor another of the same file \
           system is the root of the tree or external. The restore mounts it anew by the options that the kernel shows, with an empty \
           directory as its root: there are no directories of layers in it, though they be on this host by the same names.",
    message: "overlay file system on {mountpoint} (mount {mnt_id}): the restore mounts it anew, from a root in which its layers are not",
    criu: &["{at the restore} Unable to mount overlay %s (id=%d): No such file or directory"],
    source: "criu/mount.c:do_simple_mount, criu/mount-v2.c:do_new_mount_v2",
    versions: Versions::All,
    remedies: &[
        Remedy::Modelled("external", "mnt[{path}]:NAME"),
        Remedy::Workload("have it mounted from outside (by the container's configuration), or unmount it, before the dump"),
    ],
    phase: Phase::Restore,
    when: When::Early,
    evidence: Evidence::Mounts,
    find: |rule, ctx, sink| {
        each_looked_into(ctx, &[b"overlay"], |model, node| {
            // The others of the same file system are bound from the first.
            let is_first = model.wholes(node).next().is_some_and(|first| first.info.mnt_id == node.info.mnt_id);
            if is_first && has_layers(node) {
                if let Some(f) = finding(rule, ctx, node) {
                    sink.push_unless(model.gate(), f);
                }
            }
        });
    },
};

/// Whether one of its layers is something else than the root, which is there at the restore, too.
fn has_layers(node: &Node) -> bool {
    let options = [&b"lowerdir"[..], b"lowerdir+", b"datadir+", b"upperdir"].into_iter();
    let mut dirs = options.flat_map(|option| node.info.super_values(option));
    dirs.any(|dir| dir.iter().any(|byte| !matches!(byte, b'/' | b'.' | b':')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::criu::Host;
    use crate::rules::testkit::*;
    use crate::rules::Verdict;

    fn judged(root: &str, lines: &str, host: &Host, dumped: bool) -> Option<Verdict> {
        let mut s = snap(vec![]);
        let ns = if dumped { 8 } else { CRIU_NS };
        s.tasks[0].ns.mnt = Some(ns);
        s.mounts.push(mount_table(ns, 100, &format!("{root}\n{lines}")));
        verdict(&MNT_OVERLAY, &s, host)
    }

    #[test]
    fn an_overlay_of_the_tree() {
        const DISK: &str = "40 39 8:1 / / rw - ext4 /dev/sda1 rw";
        const OVERLAY: &str = "40 39 0:50 / / rw - overlay overlay rw,lowerdir=/l,upperdir=/u,workdir=/w";
        let mounted = |options: &str| format!("42 40 0:51 / /o rw - overlay overlay rw,{options}");
        let unrestorable = Some(Verdict::Unrestorable);
        for options in
            ["lowerdir=/a:/b", "lowerdir=l/A::l/B", "lowerdir+=/a,datadir+=/", "lowerdir=/,upperdir=/u,workdir=/w"]
        {
            assert_eq!(judged(DISK, &mounted(options), &host(), true), unrestorable, "{options}");
            assert_eq!(judged(OVERLAY, &mounted(options), &host(), true), unrestorable, "{options}");
        }
        assert_eq!(judged(DISK, &mounted("lowerdir=/:/"), &host(), true), None, "made, of something else");
        assert_eq!(judged(DISK, &mounted("lowerdir=/a:/b"), &host(), false), None, "not dumped");
        assert_eq!(judged(DISK, &mounted("lowerdir=/a:/b"), &with_external("mnt[/o]:o"), true), None);
        assert_eq!(judged(OVERLAY, "42 40 0:52 / /o rw - tmpfs tmpfs rw", &host(), true), None, "the root's own");
        let bind = OVERLAY.replace("40 39 0:50 / /", "42 40 0:50 / /o");
        assert_eq!(judged(OVERLAY, &bind, &host(), true), None, "bound from it");
    }

    #[test]
    fn each_file_system_once() {
        let mut s = snap(vec![]);
        s.tasks[0].ns.mnt = Some(8);
        let table = "40 39 8:1 / / rw - ext4 /dev/sda1 rw\n42 40 0:51 / /o rw - overlay o rw,lowerdir=/a\n\
             43 40 0:51 / /p rw - overlay o rw,lowerdir=/a\n44 40 0:51 /sub /q rw - overlay o rw,lowerdir=/a\n\
             45 40 0:52 / /r rw - overlay o rw,lowerdir=/a";
        s.mounts.push(mount_table(8, 100, table));
        assert_eq!(found(&MNT_OVERLAY, &s, &host()).len(), 2);
    }
}
