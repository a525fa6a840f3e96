//! Mountpoints that a restore does not find.

use crate::rules::mounts::content::each_dumped;
use crate::rules::mounts::table::finding;
use crate::rules::{Evidence, Phase, Remedy, Rule, Versions, When};

pub(crate) static MNT_NEWLINE: Rule = Rule {
    id: "mnt-newline",
    summary: "A mount on a directory with a newline in its path: the dump is made and cannot be restored.",
    group: "Dumped, but not restored",
    condition: "A mount of a dumped mount namespace, external or not, has a newline in the path of its mountpoint. CRIU keeps the \
           kernel's escape for it (\\012) and looks for a directory of that name at the restore. Of most file systems that it \
           looks into it refuses the dump already (mnt-unreachable).",
    message: "mount {mnt_id} of {fstype} on {mountpoint}, a name with a newline, which the restore does not find",
    criu: &["{at the restore} Can't stat mountpoint %s: No such file or directory"],
    source: "criu/proc_parse.c:cure_path, criu/mount-v2.c:detect_is_dir",
    versions: Versions::All,
    remedies: &[Remedy::Workload(
        "mount it on a directory without a newline in its path, or unmount it, before the dump",
    )],
    phase: Phase::Restore,
    when: When::Early,
    evidence: Evidence::Mounts,
    find: |rule, ctx, sink| {
        each_dumped(ctx, |model, node| {
            if node.info.mountpoint.contains(&b'\n') {
                if let Some(f) = finding(rule, ctx, node) {
                    sink.push_unless(model.gate(), f);
                }
            }
        });
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::criu::Host;
    use crate::rules::testkit::*;
    use crate::rules::Verdict;

    fn judged(at: &str, host: &Host, dumped: bool) -> Option<Verdict> {
        let mut s = snap(vec![]);
        let ns = if dumped { 8 } else { CRIU_NS };
        s.tasks[0].ns.mnt = Some(ns);
        let table = format!("40 39 8:1 / / rw - ext4 /dev/sda1 rw\n42 40 0:51 / {at} rw - proc proc rw");
        s.mounts.push(mount_table(ns, 100, &table));
        verdict(&MNT_NEWLINE, &s, host)
    }

    #[test]
    fn a_newline_in_the_path() {
        let unrestorable = Some(Verdict::Unrestorable);
        assert_eq!(judged(r"/odd\012dir", &host(), true), unrestorable);
        assert_eq!(judged(r"/odd\012dir/below", &host(), true), unrestorable);
        for known in [r"/odd\040dir", r"/odd\011dir", r"/odd\134012dir", "/odd"] {
            assert_eq!(judged(known, &host(), true), None, "{known}");
        }
        assert_eq!(judged(r"/odd\012dir", &host(), false), None, "not dumped");
        let skip_unknown = Host { options: crate::criu::Options { skip_mnt: None, ..host().options }, ..host() };
        assert_eq!(judged(r"/odd\012dir", &skip_unknown, true), Some(Verdict::Warn));
    }
}
