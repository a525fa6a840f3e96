//! `CR_PLUGIN_DESC`, the object by which CRIU knows a plugin.

use crate::criu::symbols;
use crate::plugin::hooks;
use std::cell::UnsafeCell;
use std::ffi::{c_char, c_int, c_uint, c_void};

/// More than CRIU has (17 in 4.3); a host with still more gets this number, which it accepts.
pub(crate) const HOOKS: usize = 32;
/// CR_PLUGIN_HOOK__MAX of 3.17 to 3.19, the smallest of all supported releases.
const HOOKS_BEFORE_4_0: usize = 10;
/// CR_PLUGIN_HOOK__MAX of 4.0 and 4.1, the first with the device hooks.
const HOOKS_4_0: usize = 12;

pub(crate) const PAUSE_DEVICES: usize = 10;
pub(crate) const CHECKPOINT_DEVICES: usize = 11;

/// 0.2.0: CRIU refuses a plugin whose version is greater than its own (criu/plugin.c:verify_plugin), and 4.3 (0.3.0)
/// still takes this one.
const VERSION: c_uint = 0x200;

/// `cr_plugin_desc_t` (criu/include/criu-plugin.h) with the longest hook table of ours.
#[repr(C)]
pub(crate) struct Descriptor {
    pub name: *const c_char,
    pub init: Option<unsafe extern "C" fn(c_int) -> c_int>,
    pub exit: Option<unsafe extern "C" fn(c_int, c_int)>,
    pub version: c_uint,
    pub max_hooks: c_uint,
    pub hooks: [*const c_void; HOOKS],
}

/// Memory that CRIU and the constructor write to.
#[repr(transparent)]
pub(crate) struct Shared(UnsafeCell<Descriptor>);

// SAFETY: the constructor writes before CRIU can read, and CRIU runs plugins on one thread.
unsafe impl Sync for Shared {}

/// Looked up by CRIU with dlsym.
#[no_mangle]
pub(crate) static CR_PLUGIN_DESC: Shared = Shared(UnsafeCell::new(Descriptor {
    name: c"preflight".as_ptr(),
    init: Some(hooks::init),
    exit: Some(hooks::exit),
    version: VERSION,
    max_hooks: HOOKS_BEFORE_4_0 as c_uint,
    hooks: [std::ptr::null(); HOOKS],
}));

/// Runs inside dlopen, before CRIU reads the descriptor: one with more hooks than CRIU has fails every dump and restore
/// of the host as "Corrupted plugin".
#[used]
#[link_section = ".init_array"]
static FIT: extern "C" fn() = fit;

extern "C" fn fit() {
    let Some(ctl) = symbols::object(c"cr_plugin_ctl") else { return };
    let known = symbols::hook_count(ctl.size);
    let newer = symbols::checkpoint_hook(known, &symbols::has);
    let max = known.unwrap_or(if newer { HOOKS_4_0 } else { HOOKS_BEFORE_4_0 }).min(HOOKS);
    let desc = CR_PLUGIN_DESC.0.get();
    // SAFETY: constructors run once, before anything else can see the descriptor.
    let desc = unsafe { &mut *desc };
    desc.max_hooks = max as c_uint;
    for (number, hook) in [
        (PAUSE_DEVICES, hooks::pause_devices as unsafe extern "C" fn(c_int) -> c_int),
        (CHECKPOINT_DEVICES, hooks::checkpoint_devices),
    ] {
        if number < max {
            if let Some(slot) = desc.hooks.get_mut(number) {
                *slot = hook as *const c_void;
            }
        }
    }
}

/// The address CRIU's list of plugins has for us.
pub(crate) fn address() -> usize {
    (&raw const CR_PLUGIN_DESC) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::{offset_of, size_of};

    #[test]
    fn the_layout_is_crius() {
        assert_eq!(offset_of!(Descriptor, init), 8);
        assert_eq!(offset_of!(Descriptor, exit), 16);
        assert_eq!(offset_of!(Descriptor, version), 24);
        assert_eq!(offset_of!(Descriptor, max_hooks), 28);
        assert_eq!(offset_of!(Descriptor, hooks), 32);
        assert_eq!(size_of::<Descriptor>(), 32 + 8 * HOOKS);
    }
}
