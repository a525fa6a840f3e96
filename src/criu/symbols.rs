//! CRIU's symbols, found at run time.
//!
//! Nothing of CRIU is linked against: Rust links with `-z now`, so one name missing in one CRIU release would make
//! `dlopen`, and with it every dump of that host, fail (criu/plugin.c:cr_lib_load). CRIU is linked with `-rdynamic`, all
//! its non-static names are in the executable's dynamic symbol table.

use crate::criu::release::{Caps, Published, Release, PUBLISHED};
use once_cell::sync::OnceCell;
use std::ffi::{c_char, c_int, c_uint, c_void, CStr};

/// `print_on_level(unsigned level, const char *format, ...)` (criu/log.c).
pub(crate) type PrintOnLevel = unsafe extern "C" fn(c_uint, *const c_char, ...);
/// `external_for_each_type(char *type, int (*cb)(struct external *, void *), void *arg)` (criu/external.c).
pub(crate) type ExternalForEachType =
    unsafe extern "C" fn(*const c_char, unsafe extern "C" fn(*mut c_void, *mut c_void) -> c_int, *mut c_void) -> c_int;
/// `criu_plugin_get_options(int *argc, char ***argv)` (criu/plugin-options.c, 4.3).
pub(crate) type GetOptions = unsafe extern "C" fn(*mut c_int, *mut *mut *mut c_char) -> c_int;
/// `bool cgp_should_skip_controller(const char *name)` (criu/cgroup-props.c).
pub(crate) type SkipController = unsafe extern "C" fn(*const c_char) -> bool;
/// `struct fstype *find_fstype_by_name(char *fst)` (criu/filesystems.c).
pub(crate) type FindFstype = unsafe extern "C" fn(*mut c_char) -> *const c_void;
/// `struct fstype *decode_fstype(u32 fst)` (criu/filesystems.c).
pub(crate) type DecodeFstype = unsafe extern "C" fn(u32) -> *const c_void;
/// `unsigned log_get_loglevel(void)` (criu/log.c).
pub(crate) type GetLoglevel = unsafe extern "C" fn() -> c_uint;

/// A data object of CRIU: where it is and how big its ELF symbol says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Object {
    pub addr: usize,
    /// st_size in bytes; `None`: the loader did not tell.
    pub size: Option<usize>,
}

/// What was found. Functions are only ever called with the signatures above, which have not changed from CRIU 3.17 to 4.3.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Symbols {
    pub opts: Object,
    pub root_item: Object,
    pub cr_plugin_ctl: Object,
    pub service_sk_ino: Option<Object>,
    pub kdat: Option<Object>,
    /// `char *`: the configuration file that an RPC request names.
    pub rpc_cfg_file: Option<Object>,
    pub external_for_each_type: Option<ExternalForEachType>,
    pub skip_controller: Option<SkipController>,
    pub fstypes: Option<(FindFstype, DecodeFstype)>,
    pub get_loglevel: Option<GetLoglevel>,
    pub get_options: Option<GetOptions>,
    pub caps: Caps,
    pub release: Release,
}

/// There is no CRIU around us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoCriu;

static TABLE: OnceCell<Symbols> = OnceCell::new();

/// The table, made at the first call that finds a CRIU.
pub(crate) fn table() -> Result<&'static Symbols, NoCriu> {
    TABLE.get_or_try_init(find)
}

fn find() -> Result<Symbols, NoCriu> {
    let opts = object(c"opts").ok_or(NoCriu)?;
    let root_item = object(c"root_item").ok_or(NoCriu)?;
    let cr_plugin_ctl = object(c"cr_plugin_ctl").ok_or(NoCriu)?;
    let size = |name: &CStr| object(name).and_then(|o| o.size);
    let (caps, release) = identify(&has, &size).ok_or(NoCriu)?;
    let external_for_each_type = address(c"external_for_each_type").map(|p| {
        // SAFETY: the name is CRIU's own function of exactly this signature in every release that has it.
        unsafe { std::mem::transmute::<*mut c_void, ExternalForEachType>(p) }
    });
    let skip_controller = address(c"cgp_should_skip_controller").map(|p| {
        // SAFETY: as above.
        unsafe { std::mem::transmute::<*mut c_void, SkipController>(p) }
    });
    let find_fstype = address(c"find_fstype_by_name").map(|p| {
        // SAFETY: as above.
        unsafe { std::mem::transmute::<*mut c_void, FindFstype>(p) }
    });
    let decode_fstype = address(c"decode_fstype").map(|p| {
        // SAFETY: as above.
        unsafe { std::mem::transmute::<*mut c_void, DecodeFstype>(p) }
    });
    let get_loglevel = address(c"log_get_loglevel").map(|p| {
        // SAFETY: as above.
        unsafe { std::mem::transmute::<*mut c_void, GetLoglevel>(p) }
    });
    let get_options = address(c"criu_plugin_get_options").map(|p| {
        // SAFETY: as above.
        unsafe { std::mem::transmute::<*mut c_void, GetOptions>(p) }
    });
    Ok(Symbols {
        opts,
        root_item,
        cr_plugin_ctl,
        service_sk_ino: object(c"service_sk_ino"),
        kdat: object(c"kdat"),
        rpc_cfg_file: object(c"rpc_cfg_file"),
        external_for_each_type,
        skip_controller,
        fstypes: find_fstype.zip(decode_fstype),
        get_loglevel,
        get_options,
        caps,
        release,
    })
}

/// What a CRIU is and can do, by the names it shows and the sizes of its data objects; `None`: it is none.
///
/// The running one is asked through the loader, a file (the `criu-preflight` command) through its table of symbols.
pub fn identify(has: &dyn Fn(&CStr) -> bool, size: &dyn Fn(&CStr) -> Option<usize>) -> Option<(Caps, Release)> {
    if ![c"opts", c"root_item", c"cr_plugin_ctl"].into_iter().all(has) {
        return None;
    }
    let hooks = hook_count(size(c"cr_plugin_ctl"));
    let caps = Caps {
        checkpoint_hook: checkpoint_hook(hooks, has),
        pidfd: has(c"pidfd_dump_ops"),
        shstk: has(c"kdat_has_shstk"),
        uprobes: has(c"found_uprobes_vma"),
        madv_guards: has(c"collect_madv_guards"),
        bpfmap: has(c"bpfmap_dump_ops"),
        // kdat_compatible_cr is there in every build; without 32-bit support it answers no.
        compat: has(c"mmap_ia32"),
        plugin_options: has(c"criu_plugin_get_options"),
    };
    let release = release(&caps, hooks, size(c"opts"), has);
    Some((caps, release))
}

/// CRIU's log function. Not in the table: it must work before anything else is known.
pub(crate) fn print_on_level() -> Option<PrintOnLevel> {
    static FOUND: OnceCell<Option<PrintOnLevel>> = OnceCell::new();
    *FOUND.get_or_init(|| {
        address(c"print_on_level").map(|p| {
            // SAFETY: CRIU's variadic log function, same signature in all releases.
            unsafe { std::mem::transmute::<*mut c_void, PrintOnLevel>(p) }
        })
    })
}

/// How many hooks this CRIU has (CR_PLUGIN_HOOK__MAX), from the size of `cr_plugin_ctl`: a list head and one more per
/// hook (criu/include/plugin.h). `None`: the size does not tell.
pub(crate) fn hook_count(ctl_size: Option<usize>) -> Option<usize> {
    let chains = ctl_size?.checked_sub(LIST_HEAD)?;
    (chains % LIST_HEAD == 0 && (1..=MAX_SANE_HOOKS * LIST_HEAD).contains(&chains)).then_some(chains / LIST_HEAD)
}

/// Whether this CRIU calls CHECKPOINT_DEVICES (hook 11, 4.0+). 4.0 does so in a loop of its own, later ones in a function
/// that shows.
pub(crate) fn checkpoint_hook(hooks: Option<usize>, has: &dyn Fn(&CStr) -> bool) -> bool {
    hooks.map_or_else(|| has(c"checkpoint_devices") || has(c"dont_use_freeze_cgroup"), |n| n > 11)
}

const LIST_HEAD: usize = 16;
const MAX_SANE_HOOKS: usize = 64;

/// The release line: hooks, options and functions as they were published together. Anything else - a later release, a
/// development tree, a heavy backport, a count or size that is not known - is [`Release::Unknown`], where nothing refuses.
/// Functions of later releases may be there besides.
fn release(caps: &Caps, hooks: Option<usize>, opts_size: Option<usize>, has: &dyn Fn(&CStr) -> bool) -> Release {
    let is = |row: &&Published| {
        (Some(row.hooks), Some(row.options_size)) == (hooks, opts_size)
            && row.has.is_none_or(has)
            && !row.lacks.iter().any(|name| has(name))
    };
    let Some(row) = PUBLISHED.iter().find(is) else { return Release::Unknown };
    let release = row.release;
    let published = Caps::of(release);
    // A function that is gone has mostly got another name.
    let complete = [
        (caps.pidfd, published.pidfd),
        (caps.shstk, published.shstk),
        (caps.uprobes, published.uprobes),
        (caps.madv_guards, published.madv_guards),
        (caps.plugin_options, published.plugin_options),
    ];
    if complete.iter().all(|(has, had)| has >= had) {
        release
    } else {
        Release::Unknown
    }
}

/// Whether the global scope has a name.
pub(crate) fn has(name: &CStr) -> bool {
    address(name).is_some()
}

/// The address of a name in the global scope (the executable first), `None` when it is nowhere.
pub(crate) fn address(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: dlsym only reads the name, which is terminated.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!found.is_null()).then_some(found)
}

/// A data object with the size of its symbol.
pub(crate) fn object(name: &CStr) -> Option<Object> {
    let addr = address(name)?;
    Some(Object { addr: addr as usize, size: symbol_size(addr) })
}

/// st_size of the dynamic symbol that starts at this address.
fn symbol_size(addr: *mut c_void) -> Option<usize> {
    /// dlfcn.h; the libc crate does not have it.
    const RTLD_DL_SYMENT: c_int = 1;
    let mut info = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    let mut sym: *mut c_void = std::ptr::null_mut();
    // SAFETY: both results are written to locals of the right type; the address is only compared, never read.
    if unsafe { libc::dladdr1(addr, info.as_mut_ptr(), &mut sym, RTLD_DL_SYMENT) } == 0 || sym.is_null() {
        return None;
    }
    // SAFETY: all-zero is a valid Dl_info, and a nonzero answer means that it was filled in.
    let start = unsafe { info.assume_init() }.dli_saddr;
    // SAFETY: with RTLD_DL_SYMENT the result points to the loaded object's own ELF symbol, which lives as long as it.
    let size = unsafe { (*sym.cast::<libc::Elf64_Sym>()).st_size };
    (start == addr).then(|| usize::try_from(size).ok()).flatten().filter(|s| *s != 0)
}

/// The path this plugin was loaded by, as CRIU gave it to dlopen: `libdir/NAME.so`.
pub(crate) fn own_path() -> Option<Vec<u8>> {
    static INSIDE: u8 = 0;
    path_of_address((&raw const INSIDE) as usize)
}

/// The path of the loaded object that an address belongs to.
pub(crate) fn path_of_address(addr: usize) -> Option<Vec<u8>> {
    let mut info = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: the address is only compared with those of loaded objects; the result is a local.
    if unsafe { libc::dladdr(addr as *const c_void, info.as_mut_ptr()) } == 0 {
        return None;
    }
    // SAFETY: all-zero is a valid Dl_info, and a nonzero answer means that it was filled in.
    let name = unsafe { info.assume_init() }.dli_fname;
    if name.is_null() {
        return None;
    }
    // SAFETY: the loader's own terminated string, alive while the object is loaded.
    Some(unsafe { CStr::from_ptr(name) }.to_bytes().to_vec())
}

/// The path of a library by its dlopen handle.
pub(crate) fn path_of_handle(handle: usize) -> Option<Vec<u8>> {
    /// The public start of struct link_map (link.h).
    #[repr(C)]
    struct LinkMap {
        addr: usize,
        name: usize,
    }
    let mut map: *mut LinkMap = std::ptr::null_mut();
    // SAFETY: the handle was returned by dlopen to CRIU, which has not closed it (it is in its list of plugins); the
    // result is a pointer written to a local.
    let ret = unsafe { libc::dlinfo(handle as *mut c_void, libc::RTLD_DI_LINKMAP, (&raw mut map).cast::<c_void>()) };
    if ret != 0 || map.is_null() {
        return None;
    }
    // SAFETY: the loader's link_map of a loaded library.
    let name = unsafe { (*map).name };
    crate::criu::safe_read::cstr(name, libc::PATH_MAX as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_tells_the_hooks() {
        for (size, hooks) in [(0xb0, 10), (0xd0, 12), (0xe0, 13), (0x120, 17)] {
            assert_eq!(hook_count(Some(size)), Some(hooks), "{size:#x}");
        }
        for size in [None, Some(0), Some(15), Some(16), Some(0xb1), Some(16 + 16 * 65)] {
            assert_eq!(hook_count(size), None, "{size:?}");
        }
    }

    /// The symbols of a CRIU: which of [`FUNCTIONS`], how many hooks, how big its options.
    fn identified(names: &[&CStr], hooks: Option<usize>, opts: Option<usize>) -> (Caps, Release) {
        let size = |name: &CStr| match name.to_bytes() {
            b"cr_plugin_ctl" => hooks.map(|n| LIST_HEAD * (n + 1)),
            b"opts" => opts,
            _ => None,
        };
        let objects = [c"opts", c"root_item", c"cr_plugin_ctl", c"kdat_compatible_cr"];
        identify(&|name| objects.contains(&name) || names.contains(&name), &size).unwrap()
    }

    /// Functions by which releases differ, in the order in which they came.
    const FUNCTIONS: [&CStr; 6] = [
        c"kdat_has_shstk",
        c"pidfd_dump_ops",
        c"set_compel_interrupt_only_mode",
        c"found_uprobes_vma",
        c"collect_madv_guards",
        c"criu_plugin_get_options",
    ];
    /// Each release line: its hooks, the size of its options, how many of the functions it has.
    const PUBLISHED: [(Release, usize, usize, usize); 5] = [
        (Release::V3_17, 10, 472, 0),
        (Release::V3_18, 10, 504, 0),
        (Release::V4_1, 12, 504, 3),
        (Release::V4_2, 13, 512, 5),
        (Release::V4_3, 17, 552, 6),
    ];

    #[test]
    fn a_release_is_known_only_by_a_published_combination() {
        let release = |names: &[&CStr], hooks, opts| identified(names, hooks, opts).1;
        for (published, hooks, opts, functions) in PUBLISHED {
            let names = &FUNCTIONS[..functions];
            assert_eq!(release(names, Some(hooks), Some(opts)), published);
            for hooks in (1..=MAX_SANE_HOOKS).filter(|n| *n != hooks) {
                assert_eq!(release(names, Some(hooks), Some(opts)), Release::Unknown, "{published:?}, {hooks} hooks");
            }
            // Not known.
            assert_eq!(release(names, None, Some(opts)), Release::Unknown, "{published:?}");
            assert_eq!(release(names, Some(hooks), None), Release::Unknown, "{published:?}");
            for size in (8..1024).filter(|size| *size != opts) {
                // The two before 4.0 differ in nothing else.
                let other = match size {
                    472 if hooks == 10 => Release::V3_17,
                    504 if hooks == 10 => Release::V3_18,
                    _ => Release::Unknown,
                };
                assert_eq!(release(names, Some(hooks), Some(size)), other, "{published:?}, {size} bytes");
            }
            for missing in names {
                let rest: Vec<&CStr> = names.iter().copied().filter(|name| name != missing).collect();
                assert_eq!(release(&rest, Some(hooks), Some(opts)), Release::Unknown, "{published:?}, no {missing:?}");
            }
        }
        let v4_0 = [c"kdat_has_shstk", c"dont_use_freeze_cgroup"];
        assert_eq!(release(&v4_0, Some(12), Some(504)), Release::V4_0);
        assert_eq!(release(&v4_0, Some(12), Some(512)), Release::Unknown);
        assert_eq!(release(&v4_0[..1], Some(12), Some(504)), Release::Unknown);
        // What distributions take from later releases.
        let more = [&FUNCTIONS[..3], &[c"collect_madv_guards"]].concat();
        assert_eq!(release(&more, Some(12), Some(504)), Release::V4_1);
    }

    #[test]
    fn builds_by_their_symbols() {
        // 4.0 shows no checkpoint_devices.
        let caps = |names: &[&CStr], hooks| {
            let caps = identified(names, hooks, Some(504)).0;
            (caps.checkpoint_hook, caps.compat, caps.bpfmap)
        };
        assert_eq!(caps(&[c"dont_use_freeze_cgroup", c"mmap_ia32"], Some(12)), (true, true, false));
        assert_eq!(caps(&[c"checkpoint_devices", c"bpfmap_dump_ops"], None), (true, false, true));
        assert_eq!(caps(&[c"mmap_ia32"], Some(10)), (false, true, false));
    }

    #[test]
    fn there_is_no_criu_around_a_test() {
        assert_eq!(table().err(), Some(NoCriu));
        assert!(print_on_level().is_none());
    }
}
