//! Sets of cgroups as CRIU numbers them at the dump (`get_cg_set`, `dump_thread_cgroup`, criu/cgroup.c).
//!
//! Threads that are in the same cgroups have one set, which is identified by the path in each hierarchy and by the length of
//! that path up to the root of the cgroup namespace. Only the root task's threads are asked what they see themselves. For all
//! others a set is searched without such lengths, and given those of the root task then, even if it is CRIU's own set.

use crate::bytes::Bytes;
use crate::criu::Host;
use crate::parse::cgroup::Cgroup;
use crate::snapshot::{Inside, Member, Places, Snapshot};
use std::collections::HashMap;

/// The number of CRIU's own set, which is not in the images.
pub(crate) const CRIU_SET: usize = 0;

/// The place in one hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Place {
    name: Bytes,
    path: Bytes,
    prefix: usize,
}

/// The set of each thread that is dumped.
#[derive(Debug)]
pub(crate) struct Sets<'a> {
    pub(crate) of: Vec<(&'a Member, usize)>,
    /// The root task's cgroup namespace begins below a hierarchy's root, and is made anew at the restore.
    pub(crate) with_namespace: bool,
}

/// The part of `outside` that is the root of the namespace in which the same cgroup is `inside`: its length in CRIU's terms.
/// `None`: one is no ending of the other.
pub(crate) fn prefix(outside: &[u8], inside: &[u8]) -> Option<usize> {
    if outside == inside {
        return Some(0);
    }
    let head = outside.strip_suffix(inside.strip_prefix(b"/")?)?;
    Some(head.strip_suffix(b"/").unwrap_or(head).len())
}

/// The lines of a text with those of the same hierarchy seen from inside.
pub(crate) fn pairs(places: &Places) -> impl Iterator<Item = (&Cgroup, &Cgroup)> {
    let inside = places.inside.as_ref().map_or(&[][..], |i: &Inside| i.lines.as_slice());
    places.lines.iter().filter_map(move |line| {
        let same = inside.iter().find(|i| i.controllers == line.controllers)?;
        Some((line, same))
    })
}

/// `None`: not known, or CRIU refuses the dump before.
pub(crate) fn sets<'a>(snap: &'a Snapshot, host: &Host) -> Option<Sets<'a>> {
    let kept = host.options.dump_controllers.as_ref()?;
    let shares = snap.root_shares(|n| n.cgroup)?;
    let plain = |lines: &[Cgroup]| {
        let lines = lines.iter().filter(|l| kept.as_ref().is_none_or(|kept| kept.contains(&l.name())));
        let mut set: Vec<Place> = lines.map(|l| Place { name: l.name(), path: l.path.clone(), prefix: 0 }).collect();
        set.sort();
        set
    };
    // Of equal ones the first counts.
    let mut numbers = HashMap::from([(plain(snap.cgroups.criu.as_ref()?), CRIU_SET)]);
    let (mut next, mut of) = (CRIU_SET, Vec::new());
    let mut of_root: Vec<Place> = Vec::new();
    for member in &snap.cgroups.members {
        let places = snap.cgroups.places.get(member.places)?;
        let mut set = plain(&places.lines);
        if member.pid == snap.root && !shares {
            for place in &mut set {
                let (outside, inside) = pairs(places).find(|(outside, _)| outside.name() == place.name)?;
                place.prefix = prefix(&outside.path, &inside.path)?;
            }
        }
        let number = *numbers.entry(set.clone()).or_insert_with(|| {
            next = next.saturating_add(1);
            next
        });
        if member.tid == snap.root {
            of_root.clone_from(&set);
        }
        if member.pid != snap.root {
            numbers.remove(&set);
            for place in &mut set {
                if let Some(root) = of_root.iter().find(|root| root.name == place.name) {
                    place.prefix = root.prefix;
                }
            }
            numbers.entry(set).and_modify(|known| *known = number.min(*known)).or_insert(number);
        }
        of.push((member, number));
    }
    let with_namespace = of_root.iter().any(|place| place.prefix > 0);
    Some(Sets { of, with_namespace })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::cgroup;
    use crate::rules::testkit::{host, snap, task};

    #[test]
    fn the_prefix_as_criu_takes_it() {
        for (outside, inside, expect) in [
            ("/a/b", "/", Some(4)),
            ("/a/b", "/b", Some(2)),
            ("/a/b", "/a/b", Some(0)),
            ("/", "/", Some(0)),
            ("/a", "/..", None),
            ("/", "/..", None),
            ("/a/x", "/../x", None),
            ("/../../a", "/../a", Some(3)),
            ("/../t/a", "/", Some(7)),
            ("/..", "/a/c", None),
        ] {
            assert_eq!(prefix(outside.as_bytes(), inside.as_bytes()), expect, "{outside} {inside}");
        }
    }

    /// CRIU in `/a`; the root task in `/a`, too, as it sees itself; one more task for each of the others.
    fn numbers(root: Option<&str>, others: &[&str]) -> Option<Vec<usize>> {
        let mut s = snap(vec![]);
        let lines = |path: &str| cgroup::parse(format!("0::{path}\n3:cpu,cpuacct:/x").as_bytes()).items;
        s.cgroups.criu = Some(lines("/a"));
        let inside = root.map(|path| Inside { lines: lines(path), size: 0 });
        s.tasks[0].ns.cgroup = inside.as_ref().map_or(s.criu.ns.cgroup, |_| Some(9));
        s.cgroups.places.push(Places { lines: lines("/a"), inside });
        s.cgroups.members.push(Member { pid: 100, tid: 100, places: 0 });
        for (n, path) in others.iter().enumerate() {
            let pid = 101 + n as i32;
            s.tasks.push(task(pid));
            s.cgroups.places.push(Places { lines: lines(path), inside: None });
            s.cgroups.members.push(Member { pid, tid: pid, places: n + 1 });
        }
        let sets = sets(&s, &host())?;
        assert_eq!(sets.with_namespace, root == Some("/"));
        Some(sets.of.iter().map(|(_, number)| *number).collect())
    }

    #[test]
    fn sets_are_numbered_as_criu_does() {
        assert_eq!(numbers(None, &["/a", "/b", "/b", "/a"]), Some(vec![0, 0, 1, 1, 0]));
        // A namespace from the hierarchy's root on is none.
        assert_eq!(numbers(Some("/a"), &["/a", "/b"]), Some(vec![0, 0, 1]));
        // The first other task takes CRIU's set, which is no longer the same then; so is each set that is found.
        assert_eq!(numbers(Some("/"), &["/a", "/a", "/b", "/b"]), Some(vec![1, 0, 2, 3, 4]));
        assert_eq!(numbers(Some("/.."), &["/a"]), None);
    }

    #[test]
    fn only_what_is_dumped_counts() {
        let mut s = snap(vec![]);
        let lines = |text: &str| cgroup::parse(text.as_bytes()).items;
        s.cgroups.criu = Some(lines("0::/a\n1:cpu:/c"));
        s.cgroups.places.push(Places { lines: lines("0::/a\n1:cpu:/d"), inside: None });
        s.cgroups.members.push(Member { pid: 100, tid: 100, places: 0 });
        let number = |kept: Option<Option<Vec<Bytes>>>| {
            let mut h = host();
            h.options.dump_controllers = kept;
            sets(&s, &h).map(|s| s.of[0].1)
        };
        assert_eq!(number(Some(None)), Some(1));
        assert_eq!(number(Some(Some(vec!["".into()]))), Some(0));
        assert_eq!(number(Some(Some(vec!["cpu".into()]))), Some(1));
        assert_eq!(number(None), None);
        s.cgroups.criu = None;
        assert_eq!(sets(&s, &host()).map(|s| s.of.len()), None);
    }
}
