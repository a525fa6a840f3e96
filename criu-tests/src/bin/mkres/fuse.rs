//! FUSE mounts, in a mount namespace of our own (--root).

use crate::base::only_in_own;
use crate::ctx::{Args, Ctx, Fail, Res};
use crate::{sys, task, Kind};

pub const KINDS: &[Kind] = &[Kind {
    name: "fuse",
    help: "at=DIR: a FUSE mount whose server, outside, never answers (--root); stuck: a child waits for an answer, and can be killed only; \
           stuck=request: one that could still be interrupted, for the server has answered at first; file: it answers, and a file of it is \
           open; file=no-statfs: it does not tell of the file system; file=gone: \
           then it goes",
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
    let server = cx.outsider("server", &[fd], || {
        if answers {
            answer(fd, false)?;
        } else if a.has("file") {
            let statfs = a.get("file") != Some("no-statfs");
            std::thread::spawn(move || while answer(fd, statfs).is_ok() {});
        }
        Ok(())
    })?;
    sys::close(fd);
    if a.has("stuck") {
        stuck(cx, at, answers)?;
    }
    if a.has("file") {
        cx.fd("", sys::open(&format!("{at}/file"), libc::O_RDONLY)?);
    }
    if a.get("file") == Some("gone") {
        let file = sys::cstr(&format!("{at}/file"));
        let mut stat: libc::stat = unsafe { std::mem::zeroed() };
        sys::signal(server, libc::SIGKILL)?;
        while unsafe { libc::stat(file.as_ptr(), &mut stat) } == 0 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
    Ok(())
}

/// Numbers of requests, of linux/fuse.h.
const FUSE_LOOKUP: u32 = 1;
const FUSE_FORGET: u32 = 2;
const FUSE_GETATTR: u32 = 3;
const FUSE_STATFS: u32 = 17;
const FUSE_INIT: u32 = 26;

/// Answers the next request. FUSE_INIT comes first of all, and the kernel does not wait for that; what has no answer here the kernel
/// does without: opening, flushing, closing.
fn answer(fd: i32, statfs: bool) -> Res {
    let mut request = vec![0u8; 0x21000];
    sys::ok("read a request", unsafe { libc::read(fd, request.as_mut_ptr().cast(), request.len()) })?;
    // struct fuse_in_header: length, opcode, the number of the request (two words), that of the node (two).
    let words: Vec<u32> = request[..40].chunks(4).map(|b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]])).collect();
    let (opcode, node) = (words[1], words[4]);
    let attributes = |node: u32| {
        // struct fuse_attr: numbers of the node, size, blocks, times; mode, links.
        let mut attributes = [0u32; 22];
        attributes[0] = node;
        attributes[15] = if node == 1 { libc::S_IFDIR | 0o755 } else { libc::S_IFREG | 0o644 };
        attributes[16] = 1;
        attributes
    };
    let body: Vec<u32> = match opcode {
        // struct fuse_init_out: major, minor, max_readahead, flags, two numbers of background requests, max_write.
        FUSE_INIT => [&[7, 31, 0, 0, (12 << 16) | 16, 4096][..], &[0; 10]].concat(),
        // struct fuse_entry_out: the node, and for how long all that is true.
        FUSE_LOOKUP => [&[2, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &attributes(2)].concat(),
        FUSE_GETATTR => [&[0; 4][..], &attributes(node)].concat(),
        // struct fuse_kstatfs: five counts, sizes of blocks, of names, of fragments.
        FUSE_STATFS if statfs => [&[0; 10][..], &[4096, 255, 4096], &[0; 7]].concat(),
        FUSE_FORGET => return Ok(()),
        _ => Vec::new(),
    };
    let error = if body.is_empty() { -libc::ENOSYS } else { 0 };
    let length = (16 + 4 * body.len()) as u32;
    let answer = [&[length, error as u32, words[2], words[3]][..], &body].concat();
    sys::write_all(fd, &answer.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<_>>());
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
