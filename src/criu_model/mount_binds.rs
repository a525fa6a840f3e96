//! The mounts of one superblock, and what CRIU asks about all of them for each.

use crate::criu_model::mounts::{External, Model, Node};
use crate::criu_model::prefixes::Prefixes;
use std::cell::OnceCell;
use std::collections::HashMap;

/// Each question is about the roots of some of them: made once, so that thousands of binds are not compared with each other.
pub(crate) struct Binds {
    /// Indices of those whose root is the whole file system.
    pub wholes: Vec<usize>,
    /// Roots of the external ones, of the root of the root task's namespace.
    pub external: Prefixes,
    pub tree_root: Prefixes,
    /// By peer group that they are slaves of, the roots of those that could have it from outside.
    pub masters: HashMap<Option<u32>, Prefixes>,
    /// Roots of those without a parent, and how many have each.
    tops: Prefixes,
    top: HashMap<Vec<u8>, usize>,
    /// See [`Model::of_superblock`].
    pub unreachable: OnceCell<bool>,
    pub covered: OnceCell<bool>,
    pub filled: OnceCell<bool>,
}

impl Binds {
    pub(crate) fn new(model: &Model, members: Vec<usize>) -> Binds {
        let nodes = || members.iter().filter_map(|i| Some((*i, model.nodes.get(*i)?)));
        let roots = |pick: &dyn Fn(&Node) -> bool| -> Prefixes {
            Prefixes::of_directories(nodes().filter(|(_, n)| pick(n)).map(|(_, n)| n.root))
        };
        let mut top: HashMap<Vec<u8>, usize> = HashMap::new();
        let mut masters: HashMap<Option<u32>, Vec<&[u8]>> = HashMap::new();
        for (_, node) in nodes() {
            if node.parent.is_none() {
                let number = top.entry(node.root.to_vec()).or_default();
                *number = number.saturating_add(1);
            }
            if node.external == External::Mount || model.is_tree_root_mount(node) {
                masters.entry(node.info.master).or_default().push(node.root);
            }
        }
        Binds {
            wholes: nodes().filter(|(_, n)| n.root == b"/").map(|(i, _)| i).collect(),
            external: roots(&|n| n.external != External::No),
            tree_root: roots(&|n| model.is_tree_root_mount(n)),
            masters: masters.into_iter().map(|(m, all)| (m, Prefixes::of_directories(all.into_iter()))).collect(),
            tops: Prefixes::of(top.keys().cloned()),
            top,
            unreachable: OnceCell::new(),
            covered: OnceCell::new(),
            filled: OnceCell::new(),
        }
    }

    /// Whether another is of the whole, or is without a parent and its root begins this one's.
    pub(crate) fn has_fsroot_for(&self, node: &Node) -> bool {
        let itself = usize::from(node.root == b"/");
        let top_itself = usize::from(node.parent.is_none());
        let as_top = || {
            self.tops.shortest(node.root).is_some_and(|top| top != node.root)
                || self.top.get(node.root).is_some_and(|number| *number > top_itself)
        };
        self.wholes.len() > itself || as_top()
    }
}

#[cfg(test)]
mod tests {
    use crate::criu_model::mounts::{is_sub_path, External, Model, Node};
    use crate::rules::testkit::*;
    use proptest::prelude::*;

    /// The questions as CRIU puts them, mount by mount.
    struct Slow<'m, 'a>(&'m Model<'a>);

    impl<'m, 'a> Slow<'m, 'a> {
        fn binds(&self, node: &'m Node<'a>) -> impl Iterator<Item = &'m Node<'a>> {
            // In these tables nothing but the device tells superblocks apart.
            self.0.nodes.iter().filter(|b| (b.info.major, b.info.minor) == (node.info.major, node.info.minor))
        }

        fn overmounted(&self, node: &'m Node<'a>) -> bool {
            let covered = |n: &Node| {
                self.0.parent(n).is_some_and(|parent| {
                    let beside = |t: &Node| t.info.mnt_id != n.info.mnt_id;
                    let covers = |t: &Node| is_sub_path(&n.info.mountpoint, &t.info.mountpoint);
                    self.0.children(parent).any(|t| beside(t) && covers(t))
                })
            };
            std::iter::successors(Some(node), |n| self.0.parent(n)).any(covered)
                || self.0.children(node).any(|c| c.info.mountpoint == node.info.mountpoint)
        }

        fn answers(&self, node: &'m Node<'a>) -> [bool; 6] {
            let outside = |b: &Node| b.external == External::Mount || self.0.is_tree_root_mount(b);
            let fsroot = |b: &Node| b.root == b"/" || (b.parent.is_none() && node.root.starts_with(b.root));
            [
                self.overmounted(node),
                self.binds(node).any(|b| b.external != External::No && is_sub_path(node.root, b.root)),
                self.binds(node).any(|b| self.0.is_tree_root_mount(b) && is_sub_path(node.root, b.root)),
                self.binds(node).any(|b| b.info.mnt_id != node.info.mnt_id && fsroot(b)),
                self.binds(node)
                    .any(|b| outside(b) && b.info.master == node.info.master && is_sub_path(node.root, b.root)),
                node.info.master.is_none()
                    || self
                        .0
                        .nodes
                        .iter()
                        .any(|t| t.info.mnt_id != node.info.mnt_id && t.info.shared == node.info.master),
            ]
        }
    }

    fn line() -> impl Strategy<Value = (usize, String)> {
        let path = "/|/a|/a/b|/a-|/c";
        let peers = "|shared:[12] |master:[12] |shared:1 master:2 ";
        (any::<prop::sample::Index>(), "[01]", path, path, peers).prop_map(|(parent, dev, root, point, peers)| {
            (parent.index(64), format!("0:5{dev} {root} {point} rw {peers}- tmpfs t rw"))
        })
    }

    proptest! {
        #[test]
        fn as_mount_by_mount(lines in prop::collection::vec(line(), 0..12)) {
            let mut text = "40 39 0:50 / / rw - tmpfs t rw".to_owned();
            for (i, (parent, line)) in lines.iter().enumerate() {
                // Mostly one that is there, but it may come later, or be the mount itself.
                text += &format!("\n{} {} {line}", 41 + i, 40 + parent % (lines.len() + 2));
            }
            let (snap, host) = (in_mntns(&text), with_external("mnt[/a]:v"));
            let model = Model::new(&snap, &host);
            for node in &model.nodes {
                // A loop has no end to be looked for.
                let above = std::iter::successors(Some(node), |n| model.parent(n)).take(100).count();
                if above == 100 {
                    continue;
                }
                let fast = [
                    model.is_overmounted(node),
                    model.is_external_bind(node),
                    model.is_root_bind(node),
                    model.has_fsroot(node),
                    model.master_from_outside(node),
                    model.has_master(node),
                ];
                prop_assert_eq!(fast, Slow(&model).answers(node), "{}: {}", node.info.mnt_id, text);
            }
        }
    }
}
