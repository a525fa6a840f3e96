//! Kernel objects behind anonymous inodes, and their mappings.

use crate::ctx::{Args, Ctx, Fail, Res};
use crate::{sys, Kind};

pub const KINDS: &[Kind] = &[
    Kind { name: "io-uring", help: "map: with its ring mapped; map,closed: the mapping alone", make: io_uring },
    Kind { name: "userfaultfd", help: "", make: userfaultfd },
    Kind { name: "perf-event", help: "a software event; map, closed", make: perf },
    Kind { name: "bpf-map", help: "", make: bpf_map },
    Kind { name: "bpf-prog", help: "", make: bpf_prog },
    Kind { name: "bpf-link", help: "a program that lets pass, attached to the network namespace", make: bpf_link },
    Kind { name: "memfd", help: "map, closed; huge: of huge pages, where none is free", make: |c, a| memory(c, a, false) },
    Kind { name: "memfd-secret", help: "map, closed", make: |c, a| memory(c, a, true) },
    Kind { name: "dmabuf", help: "a DMA buffer of the system heap; map, closed", make: dmabuf },
    Kind { name: "pidfd", help: "of=self|child|dead|outside|thread", make: pidfd },
    Kind { name: "kvm-vm", help: "the descriptor of a virtual machine", make: kvm },
    Kind { name: "landlock", help: "a ruleset", make: landlock },
    Kind { name: "fscontext", help: "fsopen of tmpfs", make: fscontext },
    Kind { name: "mqueue", help: "a POSIX message queue", make: mqueue },
    Kind {
        name: "aio",
        help: "bad=tail|head|part|none|text: the ring of an AIO context; a part unmapped or protected, all protected, overwritten",
        make: aio,
    },
];

/// Maps the object if asked, closes its descriptor if asked, reports what is left.
fn keep(cx: &mut Ctx, a: &Args, fd: i32, len: usize, off: i64) -> Res {
    if a.has("map") {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let at = sys::mmap(&cx.kind, len, prot, libc::MAP_SHARED, fd, off)?;
        cx.fact("addr", format!("{at:x}"));
        if a.has("closed") {
            sys::close(fd);
            return Ok(());
        }
    }
    cx.fd("", fd);
    Ok(())
}

fn io_uring(cx: &mut Ctx, a: &Args) -> Res {
    let mut params = [0u32; 30];
    let fd = sys::call("io_uring_setup", libc::SYS_io_uring_setup, [8, params.as_mut_ptr() as u64, 0, 0, 0])?;
    keep(cx, a, fd, 4096, 0)
}

fn userfaultfd(cx: &mut Ctx, a: &Args) -> Res {
    let fd = sys::call("userfaultfd", libc::SYS_userfaultfd, [libc::O_CLOEXEC as u64, 0, 0, 0, 0])?;
    let api: [u64; 3] = [0xaa, 0, 0];
    sys::ioctl("UFFDIO_API", fd, 0xc018_aa3f, api.as_ptr() as u64)?;
    keep(cx, a, fd, 0, 0)
}

fn perf(cx: &mut Ctx, a: &Args) -> Res {
    let mut attr = [0u64; 14];
    attr[0] = 1 | (112 << 32); // PERF_TYPE_SOFTWARE, size
    let any_cpu = u64::MAX;
    let fd = sys::call("perf_event_open", libc::SYS_perf_event_open, [attr.as_ptr() as u64, 0, any_cpu, any_cpu, 0])?;
    keep(cx, a, fd, 8192, 0)
}

fn bpf(what: &str, cmd: u64, attr: &[u64; 16]) -> Res<i32> {
    sys::call(what, libc::SYS_bpf, [cmd, attr.as_ptr() as u64, 128, 0, 0])
}

fn bpf_map(cx: &mut Ctx, a: &Args) -> Res {
    let mut attr = [0u64; 16];
    attr[0] = 2 | (4 << 32); // array, key size
    attr[1] = 8 | (1 << 32); // value size, entries
    let fd = bpf("BPF_MAP_CREATE", 0, &attr)?;
    keep(cx, a, fd, 4096, 0)
}

fn bpf_prog(cx: &mut Ctx, a: &Args) -> Res {
    let fd = load_filter()?;
    keep(cx, a, fd, 0, 0)
}

fn bpf_link(cx: &mut Ctx, a: &Args) -> Res {
    const SK_LOOKUP: u64 = 36; // enum bpf_attach_type
    let program = load(30, SK_LOOKUP, 1)?; // SK_PASS
    let netns = sys::open("/proc/self/ns/net", libc::O_RDONLY)?;
    let mut attr = [0u64; 16];
    attr[0] = program as u64 | ((netns as u64) << 32);
    attr[1] = SK_LOOKUP;
    let fd = bpf("BPF_LINK_CREATE", 28, &attr)?;
    sys::close(netns);
    sys::close(program);
    keep(cx, a, fd, 0, 0)
}

/// A socket filter that drops everything.
pub fn load_filter() -> Res<i32> {
    load(1, 0, 0)
}

/// A program of this type that returns this.
fn load(kind: u64, attach: u64, result: u64) -> Res<i32> {
    let code: [u64; 2] = [0x00b7 | (result << 32), 0x0095]; // r0 = result; exit
    let mut attr = [0u64; 16];
    attr[0] = kind | (2 << 32); // type, instructions
    attr[1] = code.as_ptr() as u64;
    attr[2] = c"GPL".as_ptr() as u64;
    attr[8] = attach << 32; // expected_attach_type, behind prog_ifindex
    bpf("BPF_PROG_LOAD", 5, &attr)
}

fn memory(cx: &mut Ctx, a: &Args, secret: bool) -> Res {
    let fd = if secret {
        sys::call("memfd_secret", 447, [0; 5])?
    } else {
        let huge = if a.has("huge") { no_huge_page_free()? } else { 0 };
        sys::ok("memfd_create", unsafe { libc::memfd_create(c"mkres".as_ptr(), huge) })?
    };
    if !a.has("huge") {
        sys::ok("ftruncate", unsafe { libc::ftruncate(fd, 4096) })?;
    }
    keep(cx, a, fd, 4096, 0)
}

/// CRIU learns the device of huge pages from one that it maps.
fn no_huge_page_free() -> Res<libc::c_uint> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB;
    let at = unsafe { libc::mmap(std::ptr::null_mut(), 2 << 20, libc::PROT_READ, flags, -1, 0) };
    if at != libc::MAP_FAILED {
        unsafe { libc::munmap(at, 2 << 20) };
        return Err(Fail::Skip("this machine has huge pages that are free".into()));
    }
    Ok(libc::MFD_HUGETLB)
}

fn dmabuf(cx: &mut Ctx, a: &Args) -> Res {
    let heap = sys::open("/dev/dma_heap/system", libc::O_RDONLY)?;
    // struct dma_heap_allocation_data: length, the new descriptor and its flags, flags of the heap.
    let mut ask: [u64; 3] = [4096, (libc::O_RDWR as u64) << 32, 0];
    sys::ioctl("DMA_HEAP_IOCTL_ALLOC", heap, 0xc018_4800, ask.as_mut_ptr() as u64)?;
    sys::close(heap);
    keep(cx, a, ask[1] as u32 as i32, 4096, 0)
}

fn pidfd(cx: &mut Ctx, a: &Args) -> Res {
    let open =
        |pid: i32, flags: u32| sys::call("pidfd_open", libc::SYS_pidfd_open, [pid as u64, flags as u64, 0, 0, 0]);
    let me = unsafe { libc::getpid() };
    let fd = match a.get("of").unwrap_or("self") {
        "child" => {
            let pid = cx.child("child", &[], || Ok(()))?;
            open(pid, 0)?
        }
        "outside" => {
            let pid = cx.outsider("target", &[], || Ok(()))?;
            open(pid, 0)?
        }
        "dead" => {
            let pid = sys::fork()?;
            if pid == 0 {
                unsafe { libc::_exit(0) };
            }
            let fd = open(pid, 0)?;
            sys::wait(pid);
            fd
        }
        "thread" => open(me, libc::O_EXCL as u32)?,
        _ => open(me, 0)?,
    };
    cx.fd("", fd);
    Ok(())
}

fn kvm(cx: &mut Ctx, _: &Args) -> Res {
    let dev = sys::open("/dev/kvm", libc::O_RDWR)?;
    let vm = sys::ioctl("KVM_CREATE_VM", dev, 0xae01, 0)?;
    sys::close(dev);
    cx.fd("", vm);
    Ok(())
}

fn landlock(cx: &mut Ctx, _: &Args) -> Res {
    let attr: u64 = 1; // LANDLOCK_ACCESS_FS_EXECUTE
    let fd = sys::call("landlock_create_ruleset", 444, [&raw const attr as u64, 8, 0, 0, 0])?;
    cx.fd("", fd);
    Ok(())
}

fn fscontext(cx: &mut Ctx, _: &Args) -> Res {
    let fd = sys::call("fsopen", libc::SYS_fsopen, [c"tmpfs".as_ptr() as u64, 0, 0, 0, 0])?;
    cx.fd("", fd);
    Ok(())
}

fn mqueue(cx: &mut Ctx, _: &Args) -> Res {
    let name = sys::cstr(&format!("mkres-{}", unsafe { libc::getpid() }));
    let flags = (libc::O_RDWR | libc::O_CREAT) as u64;
    let fd = sys::call("mq_open", libc::SYS_mq_open, [name.as_ptr() as u64, flags, 0o600, 0, 0])?;
    sys::call("mq_unlink", libc::SYS_mq_unlink, [name.as_ptr() as u64, 0, 0, 0, 0])?;
    cx.fd("", fd);
    Ok(())
}

fn aio(cx: &mut Ctx, a: &Args) -> Res {
    let mut ring = 0usize;
    sys::call("io_setup", libc::SYS_io_setup, [200, &raw mut ring as u64, 0, 0, 0])?;
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let end = maps.lines().find_map(|l| l.split(' ').next()?.strip_prefix(&format!("{ring:08x}-")));
    let end = end.and_then(|end| usize::from_str_radix(end, 16).ok()).ok_or(Fail::Skip("no ring".into()))?;
    let (page, last) = (4096, end - 4096);
    if last == ring {
        return Err(Fail::Skip("the ring is of one page".into()));
    }
    let at = |address: usize| address as *mut libc::c_void;
    let done = match a.get("bad") {
        None => 0,
        Some("tail") => unsafe { libc::munmap(at(last), page) },
        Some("head") => unsafe { libc::munmap(at(ring), page) },
        Some("part") => unsafe { libc::mprotect(at(last), page, libc::PROT_READ) },
        Some("none") => unsafe { libc::mprotect(at(ring), end - ring, libc::PROT_NONE) },
        // The head, less the words that a program may change: id, head and tail.
        Some("text") => unsafe {
            std::ptr::write_volatile(at(ring + 16).cast::<u32>(), 0);
            0
        },
        Some(how) => return Err(Fail::Broken(format!("bad={how}?"))),
    };
    sys::ok("the ring", done)?;
    cx.fact("addr", format!("{ring:x}"));
    Ok(())
}
