//! What CRIU calls: `init`, `exit` and the two hooks before any memory is written.

use super::fence::fence;
use super::{descriptor, shadow};
use crate::config::Mode;
use crate::host::gather::{gather, Facts};
use crate::host::{log, settings, Stage};
use std::ffi::c_int;

/// "Nothing to object": the next plugin is asked. Any other answer, 0 too, would hide the plugins behind us.
pub const SILENT: c_int = -libc::ENOTSUP;

/// CRIU calls it right after loading us; nonzero ends the command.
///
/// # Safety
/// To be called by CRIU, on its only thread.
pub unsafe extern "C" fn init(stage: c_int) -> c_int {
    fence("init", 0, || begin(stage))
}

/// CRIU calls it at the end of a dump or restore, while the tree is still frozen; never after a pre-dump.
///
/// # Safety
/// To be called by CRIU, on its only thread.
pub unsafe extern "C" fn exit(_stage: c_int, _ret: c_int) {
    // Not behind the fence's silence: the pointer must go back also after an internal fault.
    shadow::step_back();
}

/// # Safety
/// To be called by CRIU, on its only thread.
pub unsafe extern "C" fn pause_devices(_pid: c_int) -> c_int {
    SILENT
}

/// # Safety
/// To be called by CRIU, on its only thread.
pub unsafe extern "C" fn checkpoint_devices(pid: c_int) -> c_int {
    fence("CHECKPOINT_DEVICES", SILENT, || frozen(pid))
}

/// The frozen look, at the first call of a dump.
pub fn frozen(pid: c_int) -> c_int {
    if let Ok(facts) = gather(Stage::Dump, descriptor::address(), true) {
        told(&facts);
        log::debug(&format!("frozen {pid}"));
    }
    SILENT
}

fn begin(stage: c_int) -> c_int {
    let stage = match stage {
        0 => Stage::Dump,
        1 => Stage::PreDump,
        _ => return 0,
    };
    let Ok(facts) = gather(stage, descriptor::address(), false) else {
        log::warn("loaded without CRIU around it: this plugin does nothing here");
        return 0;
    };
    let (config, problems) = settings::load();
    for problem in problems {
        log::warn(&problem);
    }
    told(&facts);
    if config.mode == Mode::Off {
        return 0;
    }
    if stage == Stage::Dump {
        if let Some(plugins) = &facts.plugins {
            shadow::get_in_front(plugins, descriptor::address());
        }
    }
    0
}

fn told(facts: &Facts) {
    let host = serde_json::to_string(&facts.host).unwrap_or_default();
    log::debug(&format!("root {} host {host}", facts.root.unwrap_or(0)));
    if let Some(why) = &facts.options_unknown {
        log::warn(&format!("this CRIU's options are not known: {why}"));
    }
}
