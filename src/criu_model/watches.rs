//! How CRIU looks for the inodes that inotify and fanotify watch (`check_open_handle`, criu/fsnotify.c).
//!
//! It opens the file handle of each watch on the mounts of its device; where that fails, or with --force-irmap where no path
//! leads to what opens, it searches a fixed list of directories and those of --irmap-scan-path (criu/irmap.c). What the
//! kernel answers to that is in the snapshot ([`Watch`]).

use crate::criu::{Host, Release};
use crate::hash::Map;
use crate::parse::mountinfo::MountInfo;
use crate::snapshot::{Dev, MountTable, Snapshot, Watch};

/// How the search for a watched inode goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WatchResolution {
    /// Opens by its handle, and the path that it shows leads to it.
    Path,
    /// Opens by its handle, but no path leads to it.
    NoPath,
    /// The same, and the places that --force-irmap makes CRIU search do not have it; with that option only.
    Lost,
    /// Opens on none of the mounts that CRIU tries; the places that it searches then do not have it either.
    Nowhere,
    /// Found in those places.
    Irmap,
    /// Could not be found out without asking a file server, or not at all.
    Unknown,
    /// Left to the frozen look: the tree would notice the query.
    Later,
}

/// What becomes of a watch.
pub(crate) fn resolution(watch: &Watch, host: &Host) -> WatchResolution {
    // Without a handle CRIU does not understand the line at all.
    let Some(handle) = watch.handle else { return WatchResolution::Nowhere };
    if handle.path {
        return WatchResolution::Path;
    }
    if handle.deferred {
        return WatchResolution::Later;
    }
    if handle.unknown {
        return WatchResolution::Unknown;
    }
    if handle.no_path && host.options.force_irmap != Some(true) {
        return WatchResolution::NoPath;
    }
    match watch.search {
        // Not made, because that had not to be known under the options of then.
        None if handle.no_path => WatchResolution::NoPath,
        None => WatchResolution::Unknown,
        Some(search) if search.found => WatchResolution::Irmap,
        Some(search) if search.deferred => WatchResolution::Later,
        Some(search) if search.partial => WatchResolution::Unknown,
        Some(_) if handle.no_path => WatchResolution::Lost,
        Some(_) => WatchResolution::Nowhere,
    }
}

/// Whether something was left to the frozen look.
pub(crate) fn is_any_left(snap: &Snapshot, host: &Host) -> bool {
    let watches = snap.tasks.iter().flat_map(|task| &task.files).filter_map(|file| file.watches());
    watches.flat_map(|facts| &facts.watches).any(|watch| resolution(watch, host) == WatchResolution::Later)
}

/// Whether CRIU searches for what did not open, or to which no path leads.
pub(crate) fn is_searched_for(watch: &Watch, host: &Host) -> bool {
    watch.handle.is_some_and(|answers| {
        let undecided = answers.path || answers.deferred || answers.unknown;
        !undecided && (!answers.no_path || host.options.force_irmap == Some(true))
    })
}

/// The mount tables that CRIU collects, the root task's first.
pub(crate) fn tables(snap: &Snapshot, root_ns: Option<u64>) -> Vec<&MountTable> {
    snap.mounts.iter().filter(|t| Some(t.ns) == root_ns || Some(t.ns) != snap.criu.ns.mnt).collect()
}

/// Mounts of each device that CRIU tries, in its order, each with its table.
pub(crate) type Mounts<'a> = Map<Dev, Vec<(&'a MountTable, &'a MountInfo)>>;

/// See [`Mounts`] and [`tables`].
pub(crate) fn tried_mounts<'a>(tables: &[&'a MountTable], host: &Host) -> Mounts<'a> {
    let mut all = Mounts::default();
    for table in tables.iter().copied() {
        for mount in table.mounts.iter().filter(|m| !host.options.skips(&m.mountpoint)) {
            all.entry(Dev { major: mount.major, minor: mount.minor }).or_default().push((table, mount));
        }
    }
    all
}

/// Where CRIU searches, with everything below (`hints`, criu/irmap.c).
const HINTS: [&str; 8] = [
    "/etc",
    "/var/spool",
    "/var/log",
    "/usr/share/dbus-1/services",
    "/usr/share/dbus-1/system-services",
    "/var/lib/polkit-1/localauthority",
    "/usr/share/polkit-1/actions",
    "/lib/udev",
];

/// It is the last of them, without what is below it.
pub(crate) const IRMAP_LAST: &[u8] = b"/";

/// Directories that CRIU searches, in its order, and whether all of them are known.
pub(crate) fn irmap_dirs(host: &Host) -> (impl Iterator<Item = &[u8]>, bool) {
    let given = host.options.irmap_scan_paths.as_deref();
    // /usr/share/dbus-1/services came with 3.18.
    let old = host.release == Release::V3_17;
    let hints = HINTS.iter().filter(move |h| !(old && h.ends_with("/services"))).map(|h| h.as_bytes());
    (given.unwrap_or_default().iter().map(|p| p.0.as_slice()).chain(hints), given.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testkit::host;
    use crate::snapshot::{HandleAnswers, SearchAnswer};

    const NONE: HandleAnswers = HandleAnswers { path: false, no_path: false, unknown: false, deferred: false };

    fn watch(handle: HandleAnswers, search: Option<SearchAnswer>) -> Watch {
        Watch { handle: Some(handle), search, ..Watch::default() }
    }

    #[test]
    fn the_first_path_decides_and_then_what_is_not_known() {
        let of = |handle| resolution(&watch(handle, None), &host());
        assert_eq!(of(HandleAnswers { path: true, unknown: true, ..NONE }), WatchResolution::Path);
        assert_eq!(of(HandleAnswers { deferred: true, unknown: true, ..NONE }), WatchResolution::Later);
        assert_eq!(of(HandleAnswers { unknown: true, no_path: true, ..NONE }), WatchResolution::Unknown);
        assert_eq!(of(HandleAnswers { no_path: true, ..NONE }), WatchResolution::NoPath);
        assert_eq!(of(NONE), WatchResolution::Unknown);
        assert_eq!(resolution(&Watch::default(), &host()), WatchResolution::Nowhere);
    }

    #[test]
    fn a_search_is_for_what_opens_nowhere_and_with_force_irmap_for_what_has_no_path() {
        let mut force = host();
        force.options.force_irmap = Some(true);
        let no_path = HandleAnswers { no_path: true, ..NONE };
        for (handle, host, searched) in [(NONE, &host(), true), (no_path, &host(), false), (no_path, &force, true)] {
            assert_eq!(is_searched_for(&watch(handle, None), host), searched);
        }
        for blind in [HandleAnswers { unknown: true, ..NONE }, HandleAnswers { deferred: true, ..NONE }] {
            assert!(!is_searched_for(&watch(blind, None), &force));
        }
        let answer = |found, partial, deferred| Some(SearchAnswer { found, partial, deferred });
        for (search, nowhere, lost) in [
            (answer(true, true, true), WatchResolution::Irmap, WatchResolution::Irmap),
            (answer(false, true, true), WatchResolution::Later, WatchResolution::Later),
            (answer(false, true, false), WatchResolution::Unknown, WatchResolution::Unknown),
            (answer(false, false, false), WatchResolution::Nowhere, WatchResolution::Lost),
            (None, WatchResolution::Unknown, WatchResolution::NoPath),
        ] {
            assert_eq!(resolution(&watch(NONE, search), &force), nowhere);
            assert_eq!(resolution(&watch(no_path, search), &force), lost);
        }
    }
}
