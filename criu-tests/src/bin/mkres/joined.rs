//! A process that came into the tree's pid namespace from outside.

use crate::ctx::{wait_with, Ctx, Fail, Res};
use crate::{report, sys};

/// The line of the report, as a process of the tree would send it.
pub fn line(root: i32, how: &str) -> String {
    match join(root, how) {
        Ok(pid) => {
            let mut cx = Ctx::new("", usize::MAX);
            cx.pids.push(("joined".into(), pid));
            report::line(&cx)
        }
        Err(e) => report::failure(&e),
    }
}

/// Its number, as the caller sees it.
fn join(root: i32, how: &str) -> Res<i32> {
    if !matches!(how, "alive" | "dead") {
        return Err(Fail::Broken(format!("--joined {how}")));
    }
    let (r, w) = sys::pipe()?;
    let middle = sys::fork()?;
    if middle == 0 {
        unsafe { libc::_exit(i32::from(enter(root, how, w).is_err())) };
    }
    sys::close(w);
    let told = sys::read_all(r);
    sys::wait(middle);
    told.parse().map_err(|_| Fail::Skip(format!("nobody could join the pid namespace of {root}")))
}

/// In a child that ends at once, so that the first process of the namespace becomes the parent.
fn enter(root: i32, how: &str, tell: i32) -> Res {
    let ns = sys::open(&format!("/proc/{root}/ns/pid"), libc::O_RDONLY)?;
    sys::ok("setns", unsafe { libc::setns(ns, libc::CLONE_NEWPID) })?;
    let pid = sys::fork()?;
    if pid == 0 {
        sys::close_all_but(&[]);
        sys::null_stdio();
        unsafe { libc::chdir(c"/".as_ptr()) };
        if how == "dead" {
            unsafe { libc::_exit(0) };
        }
        wait_with(&[]);
    }
    sys::write_all(tell, pid.to_string().as_bytes());
    Ok(())
}
