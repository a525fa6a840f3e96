//! The restore of what was dumped.

use super::Stage;
use crate::criu::Criu;
use crate::fixtures::Fixture;
use std::path::Path;

/// Restores what was dumped, asks it whether it lives, and ends it. An error is CRIU's or the tree's reason.
pub(super) fn restore(
    f: &Fixture,
    criu: &Criu,
    stage: &mut Stage,
    libdir: &Path,
    dir: &Path,
    opts: &[String],
) -> Result<(), String> {
    let tree = &mut stage.tree;
    tree.end_inside();
    let pidfile = dir.join("restored.pid");
    let mut args = vec!["-d".to_string(), "--pidfile".into(), pidfile.to_string_lossy().into_owned()];
    if let Some((_, root)) = &stage.root {
        args.extend(["--root".to_string(), root.clone()]);
    }
    args.extend(opts.iter().cloned());
    args.extend(tree.fill(f.restore_opts)?);
    let ran = criu.run("restore", dir, libdir, &args, f.run_as)?;
    if !ran.ok {
        return Err(ran.reason());
    }
    let pid = std::fs::read_to_string(&pidfile).unwrap_or_default().trim().parse().unwrap_or(0);
    tree.pid = pid;
    tree.answers(pid)
}
