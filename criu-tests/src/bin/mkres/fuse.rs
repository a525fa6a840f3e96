//! FUSE mounts, in a mount namespace of our own (--root).

use crate::base::only_in_own;
use crate::ctx::{Args, Ctx, Fail, Res};
use crate::{sys, task, Kind};

pub const KINDS: &[Kind] = &[Kind {
    name: "fuse",
    help: "at=DIR: a FUSE mount whose server, outside, never answers (--root); stuck: a child waits for an answer, and can be killed only; \
           stuck=request: one that could still be interrupted, for the server has answered at first",
    make: fuse,
}];

fn fuse(cx: &mut Ctx, a: &Args) -> Res {
    only_in_own(libc::CLONE_NEWNS)?;
    let at = a.need("at")?;
    std::fs::create_dir_all(at).map_err(|e| Fail::Skip(e.to_string()))?;
    let node = cx.path("device");
    let dev = libc::makedev(10, 229);
    sys::ok("mknod", unsafe { libc::mknod(sys::cstr(&node).as_ptr(), libc::S_IFCHR | 0o600, dev) })?;
    let fd = sys::open(&node, libc::O_RDWR)?;
    let data = sys::cstr(&format!("fd={fd},rootmode=40000,user_id=0,group_id=0"));
    let (target, kind) = (sys::cstr(at), c"fuse".as_ptr());
    let r = unsafe { libc::mount(c"mkres".as_ptr(), target.as_ptr(), kind, 0, data.as_ptr().cast()) };
    sys::ok("mount fuse", r)?;
    let answers = a.get("stuck") == Some("request");
    cx.outsider("server", &[fd], || if answers { agree(fd) } else { Ok(()) })?;
    sys::close(fd);
    if a.has("stuck") {
        stuck(cx, at, answers)?;
    }
    Ok(())
}

/// Answers FUSE_INIT, which the kernel sends first of all and does not wait for.
fn agree(fd: i32) -> Res {
    let mut request = vec![0u8; 0x21000];
    sys::ok("read FUSE_INIT", unsafe { libc::read(fd, request.as_mut_ptr().cast(), request.len()) })?;
    // struct fuse_out_header: length, error, the number of the request (struct fuse_in_header: length, opcode, number).
    let mut answer = [0u32; 20];
    answer[0] = size_of_val(&answer) as u32;
    for (word, bytes) in answer[2..4].iter_mut().zip(request[8..16].chunks(4)) {
        *word = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    // struct fuse_init_out: major, minor, max_readahead, flags, two numbers of background requests, max_write.
    answer[4..10].copy_from_slice(&[7, 31, 0, 0, (12 << 16) | 16, 4096]);
    sys::write_all(fd, &answer.map(u32::to_ne_bytes).concat());
    Ok(())
}

/// A child that looks for a file of the mount.
fn stuck(cx: &mut Ctx, at: &str, interruptible: bool) -> Res {
    let path = sys::cstr(&format!("{at}/file"));
    let look = move || {
        unsafe { libc::open(path.as_ptr(), libc::O_PATH) };
    };
    if !interruptible {
        return task::bare(cx, look, task::in_state('D')).map(|_| ());
    }
    let child = task::bare(cx, look, task::in_state('S'))?;
    let opens = format!("{} ", libc::SYS_openat);
    for _ in 0..400 {
        let call = std::fs::read_to_string(format!("/proc/{child}/syscall")).unwrap_or_default();
        if call.starts_with(&opens) {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    Err(Fail::Skip("the child does not wait for the server".into()))
}
