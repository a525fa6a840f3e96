//! The frozen look must happen also when another plugin hides our hook.
//!
//! `run_plugins` asks the plugins in load order and stops at the first answer that is not -ENOTSUP
//! (criu/include/plugin.h). A plugin loaded before us whose CHECKPOINT_DEVICES answers 0 would hide ours. CRIU reads the
//! hook's pointer out of the plugin's descriptor at every call, so the pointer of the first plugin in the chain is
//! replaced by [`first`], which looks and then hands over to the plugin. Only one pointer is replaced: a plugin that comes
//! after the first in the chain comes after the look.

use crate::criu::siblings::Loaded;
use crate::criu::{log, safe_read as mem, siblings, symbols};
use crate::plugin::descriptor::CHECKPOINT_DEVICES;
use crate::plugin::hooks;
use crate::plugin::panic_guard::catch_panic;
use std::ffi::c_int;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// The plugin's own hook.
static ORIGINAL: AtomicUsize = AtomicUsize::new(0);

struct Replaced {
    desc: usize,
    slot: usize,
    path: Option<Vec<u8>>,
}

static REPLACED: Mutex<Option<Replaced>> = Mutex::new(None);

/// Stands in for the CHECKPOINT_DEVICES hook of the first plugin in the chain.
unsafe extern "C" fn first(pid: c_int) -> c_int {
    let answer = catch_panic("CHECKPOINT_DEVICES", hooks::NOT_HANDLED, || hooks::frozen(pid));
    if answer != hooks::NOT_HANDLED {
        return answer;
    }
    match ORIGINAL.load(Ordering::Relaxed) {
        0 => hooks::NOT_HANDLED,
        original => {
            // SAFETY: the pointer that CRIU itself would have called now, read from the same slot; the plugin is loaded,
            // for CRIU is calling it.
            let original = unsafe { std::mem::transmute::<usize, unsafe extern "C" fn(c_int) -> c_int>(original) };
            // SAFETY: as CRIU calls it.
            unsafe { original(pid) }
        }
    }
}

fn stand_in() -> usize {
    first as unsafe extern "C" fn(c_int) -> c_int as usize
}

/// Gets in front of the plugins that were loaded before us. To be called when `init` is certain to succeed: after a
/// failed one CRIU unloads us without calling our `exit`. Whether our hook is certain to be called.
pub(crate) fn install(plugins: &[Loaded], own_desc: usize) -> bool {
    let hook = CHECKPOINT_DEVICES as u32;
    let before = plugins.iter().take_while(|p| p.desc != own_desc);
    let Some(head) = before.into_iter().find(|p| p.sibling.hooks.contains(&hook)) else { return true };
    let Some(slot) = head.hook_slot(hook) else { return false };
    let Some(original) = mem::word(slot).filter(|p| *p != 0 && *p != stand_in()) else { return false };
    ORIGINAL.store(original, Ordering::Relaxed);
    if mem::write(slot, &stand_in().to_ne_bytes()).is_none() {
        log::warn(&format!(
            "plugin {} was loaded first and its descriptor is read-only: if it answers CHECKPOINT_DEVICES with 0, \
             nothing is checked while the tree is frozen",
            head.sibling.name
        ));
        return false;
    }
    log::debug(&format!("in front of plugin {}", head.sibling.name));
    *REPLACED.lock().unwrap_or_else(PoisonError::into_inner) =
        Some(Replaced { desc: head.desc, slot, path: head.path.clone() });
    true
}

/// Puts the pointer back, for we are about to be unloaded.
///
/// CRIU has finished the plugins before us by then (cr_plugin_fini walks in load order), and most are gone. One that stays
/// mapped (-z nodelete, STB_GNU_UNIQUE symbols) keeps its descriptor, and a later request of the same process would find
/// our pointer in it.
pub(crate) fn restore() {
    let Some(replaced) = REPLACED.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
    let listed = || {
        symbols::table()
            .ok()
            .and_then(|t| siblings::loaded(t.cr_plugin_ctl.addr))
            .is_some_and(|list| list.iter().any(|p| p.desc == replaced.desc))
    };
    let mapped = || replaced.path.is_some() && symbols::path_of_address(replaced.desc) == replaced.path;
    if (mapped() || listed()) && mem::word(replaced.slot) == Some(stand_in()) {
        // It could be written to before; if no longer, there is nothing more to be done.
        let _ = mem::write(replaced.slot, &ORIGINAL.load(Ordering::Relaxed).to_ne_bytes());
    }
}
