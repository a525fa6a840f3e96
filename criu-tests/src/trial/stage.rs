//! The tree of a fixture, and its dump.

use super::{broken, Outcome, Setup};
use crate::criu::{Criu, Ran};
use crate::fixtures::{As, Fixture, Versions};
use crate::mounts::Bound;
use crate::tree::{NoTree, Tree};
use std::path::Path;

/// A tree, and the mount that is its root directory, if it has one of its own.
pub(crate) struct Stage {
    pub(crate) tree: Tree,
    root: Option<(Bound, String)>,
    /// Unmounted with the tree.
    _bound: Option<Bound>,
}

impl Stage {
    /// For a restore.
    pub(crate) fn root_option(&self) -> Vec<String> {
        self.root.iter().flat_map(|(_, root)| ["--root".to_string(), root.clone()]).collect()
    }
}

pub(crate) fn make(f: &Fixture, s: &Setup, dir: &Path) -> Result<Stage, Outcome> {
    let stage = set(f.tree, s, dir)?;
    if matches!(f.run_as, As::User(_)) {
        use std::os::unix::fs::PermissionsExt;
        let _ = std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o777));
    }
    Ok(stage)
}

/// Makes the tree that `spec` describes, in a fresh `dir`.
pub(crate) fn set(spec: &str, s: &Setup, dir: &Path) -> Result<Stage, Outcome> {
    let _ = std::fs::remove_dir_all(dir);
    std::fs::create_dir_all(dir).map_err(|e| broken(format!("{}: {e}", dir.display())))?;
    let mut spec = spec.replace("{root}", &dir.join("root").to_string_lossy());
    if spec.contains("{btrfs") {
        let (at, device) = s.btrfs.mounted().map_err(Outcome::Skipped)?;
        spec = spec.replace("{btrfs}", &at.to_string_lossy()).replace("{btrfsdev}", &device);
    }
    let place = dir.join("bound");
    let bound = spec.contains("{bound}").then(|| Bound::at(&place)).transpose().map_err(broken)?;
    let spec = spec.replace("{bound}", &place.to_string_lossy());
    let mut words = spec.split_whitespace();
    let own = words.find(|w| *w == "--root").and(words.next());
    let root = own.map(|dir| Bound::at(Path::new(dir)).map(|b| (b, dir.to_string()))).transpose().map_err(broken)?;
    let tree = Tree::make(&spec, dir).map_err(|e| match e {
        NoTree::Skip(why) => Outcome::Skipped(why),
        NoTree::Broken(why) => Outcome::Failed(why),
    })?;
    Ok(Stage { tree, root, _bound: bound })
}

pub(crate) fn options(f: &Fixture, criu: &Criu, tree: &Tree) -> Result<Vec<String>, Outcome> {
    let old = Versions::UpTo("3.17").includes(&criu.version);
    let netlock = if old { "--network-lock nftables" } else { "--network-lock skip" };
    tree.fill(&f.opts.replace("{netlock}", netlock)).map_err(broken)
}

/// The process that CRIU is to dump.
pub(crate) fn dumped(f: &Fixture, tree: &Tree) -> Result<i32, Outcome> {
    tree.place(f.of)
        .map(|(pid, _)| pid)
        .ok_or_else(|| broken(format!("the fixture dumps {}, mkres made no such thing", f.of)))
}

/// What is said of a process that hangs in the kernel, if one does.
pub(super) fn hanging(f: &Fixture, tree: &Tree) -> Result<Option<String>, Outcome> {
    let Some(place) = f.hangs else { return Ok(None) };
    let (pid, _) = tree.place(place).ok_or_else(|| broken(format!("{place} shall hang, mkres made no such thing")))?;
    Ok(Some(format!("thread {pid} of process {pid} hangs in the kernel")))
}

pub(super) fn dump(f: &Fixture, criu: &Criu, tree: &Tree, libdir: &Path, dir: &Path) -> Result<Ran, Outcome> {
    let mut args = vec!["-t".to_string(), dumped(f, tree)?.to_string()];
    args.extend(options(f, criu, tree)?);
    criu.run("dump", dir, libdir, &args, f.run_as).map_err(broken)
}
