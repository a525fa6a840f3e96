//! Random mount trees, for trees with a root directory of their own.

use super::random::Random;

const PLACES: &[&str] = &["/m", "/m/a", "/m/a/b", "/m/c", "/n", "/n/a", "/n/a/b"];
const TYPES: &[&str] = &["tmpfs", "tmpfs", "tmpfs", "tmpfs", "proc", "sysfs", "mqueue", "cgroup2", "fusectl", "ramfs"];

fn place(r: &mut Random) -> &'static str {
    r.pick(PLACES).copied().unwrap_or("/m")
}

/// Words of mkres, each sequence of which the kernel takes.
pub fn words(r: &mut Random) -> Vec<String> {
    let (mut all, mut children) = (Vec::new(), Vec::new());
    let mut open = false;
    for _ in 0..1 + r.below(8) {
        let (at, other) = (place(r), place(r));
        let tmpfs = format!("mount:fs=tmpfs,to={at}");
        match r.below(14) {
            0..=4 => all.push(format!("mount:fs={},to={at}", r.pick(TYPES).unwrap_or(&"tmpfs"))),
            5..=7 => all.push(format!("bind:from={other},to={at}")),
            8 => all.push(format!("{tmpfs} make-shared:at={at} bind:from={at},to={other}")),
            9 if r.chance(30) => all.push(format!("{tmpfs} make-slave:at={at}")),
            9 => all.push(format!("{tmpfs} umount:at={at},lazy")),
            10 if !open => {
                open = true;
                let gone = if r.chance(30) { format!(" umount:at={at},lazy") } else { String::new() };
                all.push(format!("{tmpfs} file:path={at}/f{gone}"));
            }
            11 => children.push(format!("[ newns:mnt {tmpfs} bind:from={other},to={at} ]")),
            12 => {
                all.push(tmpfs);
                children.push(format!("[ pivot:to={at} ]"));
            }
            _ if r.chance(20) => all.push(format!("part:to={at}")),
            _ => children.push(format!("[ newns:mnt umount:at=/proc,lazy {tmpfs} ]")),
        }
    }
    // A mount that is covered cannot be the root of another namespace.
    all.extend(children);
    all.iter().flat_map(|w| w.split(' ')).map(String::from).collect()
}

/// Options that concern mounts.
pub fn options(r: &mut Random) -> Vec<String> {
    let mut all = Vec::new();
    for _ in 0..r.below(3) {
        all.push(format!("--external mnt[{}]:given", place(r)));
    }
    let auto =
        ["--external mnt[]", "--external mnt[]:m", "--external mnt[]:s", "--external mnt[]:m --external mnt[]:s"];
    all.extend(r.pick(&auto).filter(|_| r.chance(20)).map(|o| o.to_string()));
    if r.chance(8) {
        all.push(format!("--skip-mnt {}", place(r)));
    }
    if r.chance(10) {
        all.push("--enable-fs ramfs".into());
    }
    all
}
