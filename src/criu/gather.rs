//! Puts the picture of the CRIU around us together.

use crate::bytes::Bytes;
use crate::criu::{auto_fs, cmdline, externals, hugetlb, layout, runtime, safe_read as mem, siblings, symbols};
use crate::criu::{Host, Release, Runtime, Siblings, Stage};
use crate::parse::{self, cgroup::Cgroup};
use crate::scan::sys;
use std::ffi::{c_char, c_int, c_void, CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// `struct pstree_item`: `struct pid *pid` at 40; `struct pid`: `pid_t real` at 8 (criu/include/pstree.h and pid.h, the
/// same from 3.17.1 to 4.3).
const PID_IN_ITEM: usize = 40;
const REAL_IN_PID: usize = 8;

/// The facts of one command.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub host: Host,
    /// Root of the tree, in CRIU's pid namespace; `None`: not known (yet).
    pub root: Option<i32>,
    /// The plugin list, ours in it; `None`: not readable.
    pub plugins: Option<Vec<siblings::Loaded>>,
    /// Why the options are not known.
    pub options_unknown: Option<layout::Unusable>,
}

/// Looks around. `own_desc` is the address of our descriptor. `all_loaded`: the directory has been read to its end, as
/// is the case in every hook.
pub(crate) fn gather(stage: Stage, own_desc: usize, all_loaded: bool) -> Result<Facts, symbols::NoCriu> {
    let sym = symbols::table()?;
    let own_path = symbols::own_path();
    let root = root_pid(sym.root_item.addr);
    let log_level = sym.get_loglevel.map(|get| {
        // SAFETY: CRIU's function without arguments; it returns a number.
        unsafe { get() }
    });
    let known = layout::Known { stage, own_path: own_path.as_deref(), log_level, root, user: user() };
    let (read, options_unknown) = match layout::read(sym.opts, &known) {
        Ok(read) => (read, None),
        Err(why) => (layout::Read::default(), Some(why)),
    };
    let plugins = siblings::loaded(sym.cr_plugin_ctl.addr);
    let libdir = own_path.as_deref().and_then(|p| Path::new(OsStr::from_bytes(p)).parent());
    let pending = |list: &[siblings::Loaded]| !all_loaded && libdir.is_none_or(|dir| siblings::pending(dir, list));
    let siblings = Siblings {
        pending: plugins.as_deref().is_none_or(pending),
        cuda_checkpoint: siblings::cuda_checkpoint(),
        ..others(plugins.as_deref(), own_desc)
    };
    let service_sk_ino = sym.service_sk_ino.and_then(|o| mem::u32(o.addr));
    let rpc = match service_sk_ino {
        Some(ino) => ino != u32::MAX,
        None => read.tree_id == Some(0),
    };
    let mut options = read.options;
    if all_loaded {
        // Checked and cut to pieces.
        options.lsm_profile = None;
    }
    options.dump_controllers = sym.skip_controller.and_then(dump_controllers);
    let runtime = runtime::classify(&runtime::ancestors(), rpc);
    let config_file = rpc.then(|| rpc_config(sym.rpc_cfg_file)).flatten();
    let given = match rpc {
        false => cmdline::read(),
        true => config_file.as_ref().and_then(|file| cmdline::read_rpc(runtime, file.as_deref())),
    };
    if let Some(given) = given {
        given.copy_to(&mut options);
    }
    // A client that is no known runtime: the mounts that it skips nothing tells.
    options.enable_fs =
        options.enable_fs.or_else(|| sym.fstypes.and_then(|(find, decode)| auto_fs::taken(find, decode)));
    let host = Host {
        stage,
        // Its symbols say which release it could be, its options whether it is.
        release: if options_unknown.is_some() { Release::Unknown } else { sym.release },
        caps: sym.caps,
        options,
        externals: sym.external_for_each_type.and_then(listed_externals),
        inherit_ids: read.inherit_ids,
        service_sk_ino,
        siblings,
        runtime,
        hugetlb: hugetlb::known(sym.kdat),
        config_file: config_file.flatten().filter(|f| is_read(runtime, f)).map(Bytes),
    };
    Ok(Facts { host, root, plugins, options_unknown })
}

/// Whom CRIU runs as, as it has noted itself (`check_caps`, criu/cr-check.c).
fn user() -> Option<(u32, u64)> {
    let status = parse::status::parse(&sys::read_file(Path::new("/proc/thread-self/status")).ok()?);
    Some((nix::unistd::geteuid().as_raw(), status.cap_eff?))
}

/// The hierarchies that `--cgroup-dump-controller` leaves, by CRIU's own word; mostly all, and it is not asked for each.
fn dump_controllers(skips: symbols::SkipController) -> Option<Option<Vec<Bytes>>> {
    let skips = |name: &CStr| {
        // SAFETY: CRIU only compares the name with those of its list.
        unsafe { skips(name.as_ptr()) }
    };
    if !skips(c"no such controller") {
        return Some(None);
    }
    let all = parse::cgroup::parse(&sys::read_file(Path::new("/proc/self/cgroup")).ok()?).items;
    let kept = |name: &Bytes| CString::new(name.0.clone()).is_ok_and(|name| !skips(&name));
    Some(Some(all.iter().map(Cgroup::name).filter(kept).collect()))
}

impl Facts {
    /// The same in a hook later on, when every plugin is loaded: only what they are is asked anew. The rest stays as it
    /// was, for CRIU is done with the request, its files and its command line before it loads the first plugin.
    /// `None`: not all was known, so all is to be asked again.
    pub(crate) fn later(&self, own_desc: usize) -> Option<Facts> {
        if self.root.is_none() || self.options_unknown.is_some() {
            return None;
        }
        let plugins = siblings::loaded(symbols::table().ok()?.cr_plugin_ctl.addr);
        let mut facts = Facts { plugins, ..self.clone() };
        let cuda_checkpoint = facts.host.siblings.cuda_checkpoint;
        facts.host.siblings = Siblings { cuda_checkpoint, ..others(facts.plugins.as_deref(), own_desc) };
        Some(facts)
    }
}

/// The plugins besides ours.
fn others(plugins: Option<&[siblings::Loaded]>, own_desc: usize) -> Siblings {
    match plugins {
        Some(list) => Siblings {
            loaded: list.iter().filter(|l| l.desc != own_desc).map(|l| l.sibling.clone()).collect(),
            ..Siblings::default()
        },
        // What they claim is not known: nothing that a plugin could accept is refused.
        None => Siblings { pending: true, ..Siblings::default() },
    }
}

/// The configuration file that the RPC request names: outer `None` not known, inner `None` it names none.
fn rpc_config(rpc_cfg_file: Option<symbols::Object>) -> Option<Option<Vec<u8>>> {
    match mem::word(rpc_cfg_file?.addr)? {
        0 => Some(None),
        text => mem::cstr(text, 4096).map(Some),
    }
}

/// Whether the file that a request names is where an option would be written. crun names runc.conf as long as there is no
/// crun.conf; where there is neither, its own is the place.
fn is_read(runtime: Runtime, file: &[u8]) -> bool {
    let stand_in = matches!(runtime, Runtime::Crun | Runtime::PodmanCrun | Runtime::ContainerdCrun | Runtime::CrioCrun)
        && file == b"/etc/criu/runc.conf";
    !file.is_empty() && (!stand_in || Path::new("/etc/criu/runc.conf").exists())
}

/// `root_item->pid->real`: set before plugins are loaded, in every way CRIU is asked.
fn root_pid(root_item: usize) -> Option<i32> {
    let item = mem::word(root_item)?;
    let pid = mem::word(item.checked_add(PID_IN_ITEM)?)?;
    mem::i32(pid.checked_add(REAL_IN_PID)?).filter(|p| *p > 0)
}

/// Every `--external KIND[...]` string by CRIU's own walk of its list.
fn listed_externals(for_each: symbols::ExternalForEachType) -> Option<Vec<Bytes>> {
    /// `struct external { struct list_head node; char *id; void *data; }` (criu/include/external.h).
    const ID_IN_EXTERNAL: usize = 16;
    unsafe extern "C" fn collect(ext: *mut c_void, arg: *mut c_void) -> c_int {
        let id = mem::word((ext as usize).wrapping_add(ID_IN_EXTERNAL)).and_then(|p| mem::cstr(p, 8192));
        // SAFETY: `arg` is the vector below, borrowed by nothing else while CRIU walks.
        let list = unsafe { &mut *arg.cast::<Vec<Option<Bytes>>>() };
        list.push(id.map(Bytes));
        0
    }
    let mut list: Vec<Option<Bytes>> = Vec::new();
    for kind in externals::KINDS {
        // SAFETY: CRIU only reads the type's name, and calls `collect` with each entry and our vector before it returns.
        unsafe { for_each(kind.name.as_ptr().cast::<c_char>(), collect, (&raw mut list).cast()) };
    }
    list.into_iter().collect()
}
