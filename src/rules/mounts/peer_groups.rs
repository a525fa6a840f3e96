//! What propagated through peer groups has to be the same everywhere, or CRIU ends itself.

use crate::criu_model::mounts::{Model, Node};
use crate::rules::mounts::table::finding;
use crate::rules::{Evidence, Phase, Remedy, Rule, Value, Versions, When};
use std::collections::{HashMap, HashSet};

/// Where a mount stands in the file system that its parent is a mount of (`root_path_from_parent`, criu/mount.c).
fn place_in(parent: &Node, node: &Node) -> Option<Vec<u8>> {
    let above: &[u8] = &parent.info.mountpoint;
    let below = node.info.mountpoint.strip_prefix(above.strip_suffix(b"/").unwrap_or(above))?;
    let below = below.strip_prefix(b"/").unwrap_or(below);
    let root = parent.root.strip_suffix(b"/").unwrap_or(parent.root);
    Some([root, b"/".as_slice(), below].concat())
}

/// Mounts by the peer group of their parents and the place in it.
fn by_place<'m, 'a>(model: &'m Model<'a>) -> HashMap<(u32, Vec<u8>), Vec<&'m Node<'a>>> {
    let mut places: HashMap<_, Vec<&Node>> = HashMap::new();
    for node in &model.nodes {
        let Some(parent) = model.parent(node) else { continue };
        if let (Some(group), Some(place)) = (parent.info.shared, place_in(parent, node)) {
            places.entry((group, place)).or_default().push(node);
        }
    }
    places
}

pub(crate) static MNT_PROPAGATED: Rule = Rule {
    id: "mnt-propagated",
    summary: "Two mounts at one place of a peer group that are not the same, at which CRIU dies.",
    group: "Mounts",
    condition: "Two mounts of one peer group have at the same place mounts of different file systems, or of different parts of one. \
           CRIU takes them for one mount that has propagated, sees that they are not, and ends with a signal.",
    message: "mount {mnt_id} of {fstype} on {mountpoint} and mount {second} of {other_fstype} on {other_mountpoint} stand at the \
           same place of peer group {peers}",
    criu: &["BUG at criu/mount.c"],
    source: "criu/mount.c:resolve_shared_mounts",
    versions: Versions::All,
    remedies: &[Remedy::Workload("unmount one of them before the dump, or make the mounts that they are on private")],
    phase: Phase::Collecting,
    when: When::Early,
    evidence: Evidence::Mounts,
    find: |rule, ctx, sink| {
        let model = &ctx.mounts;
        if !model.validated {
            return;
        }
        for ((peers, _), mut nodes) in by_place(model) {
            // Those alike on one parent differ from the same others.
            let mut met = HashSet::new();
            nodes.retain(|n| model.identity(n).is_none_or(|id| met.insert((id, n.parent))));
            let pairs = nodes.iter().enumerate().flat_map(|(i, a)| nodes.iter().skip(i + 1).map(move |b| (*a, *b)));
            let differ = |(a, b): &(&Node, &Node)| a.parent != b.parent && !model.same_mount(a, b);
            let Some((a, b)) = pairs.into_iter().find(differ) else { continue };
            if let Some(f) = finding(rule, ctx, a) {
                let f = f
                    .num("second", b.info.mnt_id)
                    .fact("other_fstype", Value::Text(b.info.fstype.clone()))
                    .fact("other_mountpoint", Value::Text(b.info.mountpoint.clone()))
                    .fact("peers", Value::Num(peers.into()));
                sink.push_unless(model.gate(), f);
            }
        }
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testkit::*;
    use crate::rules::Verdict;

    #[test]
    fn the_same_place_of_a_peer_group() {
        let root = "40 39 0:50 / / rw - overlay overlay rw\n41 40 0:51 / /a rw shared:7 - tmpfs t rw\n\
                    42 40 0:51 /sub /b rw shared:7 - tmpfs t rw";
        let case = |lines: &str| verdict(&MNT_PROPAGATED, &in_mntns(&format!("{root}\n{lines}")), &host());
        assert_eq!(case("43 41 0:52 / /a/sub/x rw - tmpfs p rw\n44 42 0:52 / /b/x rw - tmpfs p rw"), None);
        let refuse = Some(Verdict::Refuse);
        assert_eq!(case("43 41 0:52 / /a/sub/x rw - tmpfs p rw\n44 42 0:53 / /b/x rw - tmpfs p rw"), refuse);
        assert_eq!(case("43 41 0:52 /1 /a/sub/x rw - tmpfs p rw\n44 42 0:52 /2 /b/x rw - tmpfs p rw"), refuse);
        // Another place.
        assert_eq!(case("43 41 0:52 / /a/x rw - tmpfs p rw\n44 42 0:53 / /b/x rw - tmpfs p rw"), None);
    }
}
