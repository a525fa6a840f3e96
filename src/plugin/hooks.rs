//! What CRIU calls: `init`, `exit` and the two hooks before any memory is written.

use crate::config::{Config, Mode};
use crate::criu::gather::{gather, Facts};
use crate::criu::report_place::Place;
use crate::criu::{log, settings, Release, Stage};
use crate::plugin::panic_guard::catch_panic;
use crate::plugin::{descriptor, hook_interpose};
use crate::scanner::{Failure, Scanner};
use crate::snapshot::ScanPhase;
use std::ffi::c_int;
use std::sync::{Mutex, PoisonError};

/// "Nothing to object": the next plugin is asked. Any other answer, 0 too, would hide the plugins behind us.
pub(crate) const NOT_HANDLED: c_int = -libc::ENOTSUP;
/// Negative and not -ENOTSUP: the dump ends here.
const REFUSED: c_int = -libc::ECANCELED;

/// What is remembered from `init` on. `None`: nothing is to be done in this command.
static STATE: Mutex<Option<PluginState>> = Mutex::new(None);

struct PluginState {
    stage: Stage,
    config: Config,
    /// Of the report of this dump.
    place: Place,
    root: Option<i32>,
    /// `init` could not learn the pid, the first PAUSE_DEVICES tells it.
    early_due: bool,
    /// The first CHECKPOINT_DEVICES has not come yet.
    frozen_due: bool,
    host_logged: bool,
    /// As they were at `init`.
    facts: Facts,
    /// The process that has taken the early look and waits for the frozen one.
    scanner: Option<Scanner>,
}

/// CRIU calls it right after loading us; nonzero ends the command.
///
/// # Safety
/// To be called by CRIU, on its only thread.
pub(crate) unsafe extern "C" fn init(stage: c_int) -> c_int {
    catch_panic("init", 0, || begin(stage))
}

/// CRIU calls it at the end of a dump or restore, while the tree is still frozen; never after a pre-dump.
///
/// # Safety
/// To be called by CRIU, on its only thread.
pub(crate) unsafe extern "C" fn exit(_stage: c_int, ret: c_int) {
    catch_panic("exit", (), || {
        if let Some(mut with_state) = with_state(Option::take) {
            with_state.end(ret != 0);
        }
    });
    // Also after an internal fault, when a caught panic ends the call: this pointer must go.
    let _ = std::panic::catch_unwind(hook_interpose::restore);
}

/// CRIU 4.0+ calls it for each process that it is going to seize, the root first.
///
/// # Safety
/// To be called by CRIU, on its only thread.
pub(crate) unsafe extern "C" fn pause_devices(pid: c_int) -> c_int {
    catch_panic("PAUSE_DEVICES", NOT_HANDLED, || {
        with_state(|slot| {
            let Some(with_state) = slot.as_mut().filter(|d| d.early_due) else { return NOT_HANDLED };
            with_state.early_due = false;
            with_state.root = Some(pid);
            answer(with_state.look_later(ScanPhase::Early, pid))
        })
    })
}

/// CRIU 4.0+ calls it for each live process once the whole tree is seized, the root first.
///
/// # Safety
/// To be called by CRIU, on its only thread.
pub(crate) unsafe extern "C" fn checkpoint_devices(pid: c_int) -> c_int {
    catch_panic("CHECKPOINT_DEVICES", NOT_HANDLED, || frozen(pid))
}

/// The frozen look, at the first call of a dump, whether it came to us or to the plugin we stand in front of.
pub(crate) fn frozen(pid: c_int) -> c_int {
    with_state(|slot| {
        let Some(with_state) = slot.as_mut().filter(|d| d.frozen_due) else { return NOT_HANDLED };
        with_state.frozen_due = false;
        answer(with_state.look_later(ScanPhase::Frozen, pid))
    })
}

fn answer(refused: bool) -> c_int {
    if refused {
        REFUSED
    } else {
        NOT_HANDLED
    }
}

fn with_state<T>(body: impl FnOnce(&mut Option<PluginState>) -> T) -> T {
    body(&mut STATE.lock().unwrap_or_else(PoisonError::into_inner))
}

fn begin(stage: c_int) -> c_int {
    let stage = match stage {
        0 => Stage::Dump,
        1 => Stage::PreDump,
        // A restore needs nothing of ours.
        _ => return 0,
    };
    let own = descriptor::address();
    let Ok(facts) = gather(stage, own, false) else {
        log::warn("there is no CRIU around this plugin: nothing is checked");
        return 0;
    };
    // The directory has this file under two names: dlopen gave CRIU the same object twice, the first one works.
    if facts.plugins.iter().flatten().filter(|p| p.desc == own).count() > 1 {
        return 0;
    }
    let (config, problems) = settings::load();
    for problem in problems {
        log::warn(&problem);
    }
    if config.mode == Mode::Off {
        log::info("switched off by its configuration");
        with_state(|slot| *slot = None);
        return 0;
    }
    let mut new = PluginState {
        stage,
        early_due: config.early && facts.root.is_none(),
        frozen_due: stage == Stage::Dump && facts.host.caps.checkpoint_hook,
        root: facts.root,
        place: Place::of_dump(facts.host.runtime, config.report_directory.as_ref()),
        config,
        host_logged: false,
        facts,
        scanner: None,
    };
    new.log_facts();
    if let Some(root) = new.root.filter(|_| new.config.early) {
        if new.look(ScanPhase::Early, root) {
            with_state(|slot| *slot = None);
            return REFUSED;
        }
    }
    // Last of all: a plugin that fails in init is unloaded without a call of exit.
    let plugins = if new.frozen_due { new.facts.plugins.clone() } else { None };
    if plugins.is_some_and(|plugins| !hook_interpose::install(&plugins, own)) {
        // The scanner is never asked again, and CRIU must not meet it when it waits for whatever child there is.
        new.end(false);
    }
    with_state(|slot| *slot = Some(new));
    0
}

impl PluginState {
    /// A look from a hook, when every plugin is loaded.
    fn look_later(&mut self, look: ScanPhase, pid: i32) -> bool {
        let own = descriptor::address();
        self.facts = match self.facts.later(own).map_or_else(|| gather(self.stage, own, true), Ok) {
            Ok(facts) => facts,
            Err(_) => {
                self.end(false);
                return false;
            }
        };
        self.log_facts();
        let root = self.facts.root.or(self.root).unwrap_or(pid);
        self.look(look, root)
    }

    /// Has the scanner look; whether the dump is refused. A look that fails refuses nothing, and is the last one.
    fn look(&mut self, look: ScanPhase, root: i32) -> bool {
        let scanner = match self.scanner.take() {
            Some(scanner) => Ok(scanner),
            None => Scanner::start(&self.facts.host, &self.config, &self.place),
        };
        let refused = scanner.and_then(|scanner| match look {
            ScanPhase::Early => {
                let (refused, scanner) = scanner.early(root, self.config.early_limit)?;
                if self.frozen_due && !refused {
                    self.scanner = Some(scanner);
                } else {
                    scanner.close();
                }
                Ok(refused)
            }
            ScanPhase::Frozen => scanner.frozen(root, &self.facts.host, self.config.frozen_limit),
        });
        refused.unwrap_or_else(|failure| {
            self.failed(look, root, &failure);
            false
        })
    }

    fn failed(&mut self, look: ScanPhase, root: i32, failure: &Failure) {
        let (when, setting) = match look {
            ScanPhase::Early => ("before it was frozen", "early-limit"),
            ScanPhase::Frozen => ("while it was frozen", "frozen-limit"),
        };
        let why = failure.describe(setting, &self.config);
        let rest = if look == ScanPhase::Early && self.frozen_due { ", and nothing more is checked" } else { "" };
        log::warn(&format!("the tree of pid {root} was not checked {when}: {why}; the dump goes on{rest}"));
        self.frozen_due = false;
        self.early_due = false;
    }

    /// Ends the scanner, if there is one.
    fn end(&mut self, failed: bool) {
        let Some(scanner) = self.scanner.take() else { return };
        if let Err(failure) = scanner.end(failed, self.config.frozen_limit) {
            log::debug(&format!("at the end: {}", failure.describe("frozen-limit", &self.config)));
        }
    }

    /// Says once what is not known of this CRIU, and at the debug level what is.
    fn log_facts(&mut self) {
        if std::mem::replace(&mut self.host_logged, true) {
            return;
        }
        let facts = &self.facts;
        let host = serde_json::to_string(&facts.host).unwrap_or_default();
        log::debug(&format!("root {} in {host}", facts.root.unwrap_or(0)));
        if let Some(why) = &facts.options_unknown {
            log::warn(&format!("cannot read CRIU's options ({why}): findings that an option could allow are warnings"));
        }
        if facts.host.release == Release::Unknown {
            log::warn("unrecognised CRIU release: all findings are warnings");
        }
    }
}
