//! Which descriptors of terminals share one open file: it matters only where CRIU could run out of room for them.

use crate::scan::kcmp;
use crate::scan::passes::PassContext;
use crate::snapshot::{Detail, Dev};
use std::collections::HashMap;

/// No more than that many external ones need not be distinguished (`ETTY_INDEX_MAX` - `ETTY_INDEX`, criu/tty.c).
const FEW: usize = 64;

/// Fills in [`crate::snapshot::TtyFacts::open_file`].
pub(crate) fn collect(cx: &mut PassContext) {
    let snap = &mut *cx.snap;
    let files = || snap.tasks.iter().flat_map(|t| t.files.iter().map(move |f| (t.pid, f)));
    if files().filter(|(_, f)| f.tty().is_some()).count() <= FEW {
        return;
    }
    let mut by_inode: HashMap<(Dev, u64), Vec<kcmp::Fd>> = HashMap::new();
    for (pid, file) in files().filter(|(_, f)| f.tty().is_some()) {
        by_inode.entry((file.attr.dev, file.attr.ino)).or_default().extend(file.fd().map(|fd| (pid, fd)));
    }
    let mut which: HashMap<kcmp::Fd, usize> = HashMap::new();
    for fds in by_inode.values() {
        let groups = kcmp::open_files(fds).groups.into_iter().enumerate();
        which.extend(groups.flat_map(|(nth, group)| group.into_iter().map(move |fd| (fd, nth))));
    }
    for task in &mut snap.tasks {
        for file in &mut task.files {
            let fd = file.fd();
            if let (Some(Detail::Tty(tty)), Some(fd)) = (file.detail.as_deref_mut(), fd) {
                tty.open_file = which.get(&(task.pid, fd)).copied();
            }
        }
    }
}
