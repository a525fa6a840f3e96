//! The functions of `include/criu_preflight.h`, which cbindgen makes of this file: the same check outside of CRIU.

use crate::bytes::Bytes;
use crate::check::{self, Probes};
use crate::config::Config;
pub use crate::criu::options::c_api::criu_preflight_options;
use crate::criu::options::OPTIONS;
use crate::criu::{Host, Release};
use crate::plugin::panic_guard::catch_panic;
use crate::report::{hints, json, message, probe_text, Outcome, Report};
use crate::rules::Verdict;
use crate::scan::ScanError;
use std::ffi::{c_char, c_int, c_void, CStr, CString};
use std::mem::{offset_of, size_of};

/// It may fail, or is lost silently.
pub const CRIU_PREFLIGHT_WARN: c_int = 1;
/// CRIU cannot dump it with these options.
pub const CRIU_PREFLIGHT_REFUSE: c_int = 2;
/// It could not be looked at; `text` says what and why.
pub const CRIU_PREFLIGHT_UNCHECKED: c_int = 3;
/// CRIU dumps it, and the restore of that dump fails for certain, on this host.
pub const CRIU_PREFLIGHT_UNRESTORABLE: c_int = 4;

/// One thing that CRIU cannot dump. Everything it points to is valid during the callback.
#[repr(C)]
pub struct criu_preflight_finding {
    /// sizeof(struct criu_preflight_finding) of the library.
    pub size: usize,
    /// Stable name of the rule, "tcp-connected"; "unchecked" for CRIU_PREFLIGHT_UNCHECKED.
    pub rule: *const c_char,
    /// CRIU_PREFLIGHT_WARN, _REFUSE, _UNCHECKED or _UNRESTORABLE.
    pub verdict: c_int,
    pub pid: libc::pid_t,
    /// A thread other than the leader; 0: none in particular.
    pub tid: libc::pid_t,
    /// -1: not a descriptor.
    pub fd: c_int,
    /// Start of the mapping; 0: not a mapping.
    pub addr: u64,
    /// Name of the process, escaped.
    pub comm: *const c_char,
    /// What it is, one line, escaped.
    pub text: *const c_char,
    /// What would make it pass, one line; may be empty.
    pub hint: *const c_char,
    /// All of the above and every fact as a JSON object, as in `preflight.json`.
    pub json: *const c_char,
}

/// Called for each finding, refusals first. Return nonzero to stop.
pub type criu_preflight_callback =
    Option<unsafe extern "C" fn(finding: *const criu_preflight_finding, arg: *mut c_void) -> c_int>;

/// The version of this library, "0.1.0".
#[no_mangle]
pub extern "C" fn criu_preflight_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// Looks at the running process `pid` and its descendants and tells what CRIU could not dump. Nothing is stopped and
/// nothing is changed; for the whole truth it needs root's capabilities.
///
/// `options` may be NULL (none given), `callback` may be NULL (only the answer counts); `arg` is handed through.
///
/// # Returns
/// * 0: it can be dumped.
/// * 1: it cannot.
/// * -ESRCH: there is no such process.
/// * -EINVAL: the options are not understood.
/// * -E2BIG: the options are of a later version.
/// * -EIO: /proc cannot be used.
/// * -EBUSY: a thread hangs in the kernel.
/// * -EFAULT: an internal fault.
///
/// # Safety
/// `options` must point to `options->size` readable bytes, its strings must be terminated, `externals` must hold
/// `n_externals` of them.
#[no_mangle]
pub unsafe extern "C" fn criu_preflight_check(
    pid: libc::pid_t,
    options: *const criu_preflight_options,
    callback: criu_preflight_callback,
    arg: *mut c_void,
) -> c_int {
    catch_panic("criu_preflight_check", -libc::EFAULT, || {
        // SAFETY: as the caller promises.
        let host = match unsafe { host_of(options) } {
            Ok(host) => host,
            Err(errno) => return -errno,
        };
        if pid <= 0 {
            return -libc::ESRCH;
        }
        let report = match check::early(&Probes::live(), pid, &host, &Config::default()) {
            Ok(report) => report,
            Err(ScanError::NoSuchTask) => return -libc::ESRCH,
            Err(ScanError::Stuck { .. }) => return -libc::EBUSY,
            Err(_) => return -libc::EIO,
        };
        if let Some(callback) = callback {
            // SAFETY: as the caller promises.
            unsafe { tell(&report, &host, callback, arg) };
        }
        c_int::from(report.verdict() == Outcome::Refuse)
    })
}

/// # Safety
/// See [`criu_preflight_check`].
unsafe fn host_of(options: *const criu_preflight_options) -> Result<Host, c_int> {
    if options.is_null() {
        return Ok(Host::dry_run(Release::NEWEST));
    }
    // SAFETY: the first field is there in every version.
    let size = unsafe { options.cast::<usize>().read_unaligned() };
    if size <= offset_of!(criu_preflight_options, ghost_limit) {
        return Err(libc::EINVAL);
    }
    let own = size_of::<criu_preflight_options>();
    for i in own..size {
        // SAFETY: within the caller's `size`.
        if unsafe { options.cast::<u8>().add(i).read() } != 0 {
            return Err(libc::E2BIG);
        }
    }
    let mut given = std::mem::MaybeUninit::<criu_preflight_options>::zeroed();
    // SAFETY: within both; what an older caller does not have stays zero, which is a valid value of every field.
    let given = unsafe {
        std::ptr::copy_nonoverlapping(options.cast::<u8>(), given.as_mut_ptr().cast::<u8>(), size.min(own));
        given.assume_init()
    };
    if given.reserved.iter().any(|byte| *byte != 0) {
        return Err(libc::EINVAL);
    }
    // SAFETY: NULL or a terminated string, as the caller promises.
    let text = |p: *const c_char| unsafe { (!p.is_null()).then(|| CStr::from_ptr(p)) };
    let release = match text(given.release).map(CStr::to_bytes) {
        None => Release::NEWEST,
        Some(name) => Release::by_name(name).ok_or(libc::EINVAL)?,
    };
    let mut host = Host::dry_run(release);
    host.caps.bpfmap = given.libbpf != 0;
    for option in OPTIONS {
        if let Some(take) = option.from_c {
            take(&given, &|p| text(p).map(|s| Bytes::from(s.to_bytes())), &mut host.options);
        }
    }
    let mut externals = Vec::new();
    if !given.externals.is_null() {
        for i in 0..given.n_externals {
            // SAFETY: `n_externals` of them are there, as the caller promises.
            let one = unsafe { given.externals.add(i).read() };
            externals.push(Bytes::from(text(one).ok_or(libc::EINVAL)?.to_bytes()));
        }
    }
    host.externals = Some(externals);
    Ok(host)
}

/// # Safety
/// The callback must be one.
unsafe fn tell(
    report: &Report,
    host: &Host,
    callback: unsafe extern "C" fn(*const criu_preflight_finding, *mut c_void) -> c_int,
    arg: *mut c_void,
) {
    let document: serde_json::Value =
        json::to_vec(report, host).ok().and_then(|t| serde_json::from_slice(&t).ok()).unwrap_or_default();
    let item = |list: &str, i: usize| {
        let value = document.get(list).and_then(|l| l.get(i));
        value.map(|v| string(&v.to_string())).unwrap_or_default()
    };
    for (i, found) in report.findings.iter().enumerate() {
        let rule = report.rule_of(found);
        let (name, comm) = (string(&found.rule), string(&found.comm.escaped()));
        let text = string(&message(rule, found));
        let hint = string(&rule.map(|r| hints::cure(r, found, host).text).unwrap_or_default());
        let json = item("findings", i);
        let finding = criu_preflight_finding {
            size: size_of::<criu_preflight_finding>(),
            rule: name.as_ptr(),
            verdict: match found.verdict {
                Verdict::Warn => CRIU_PREFLIGHT_WARN,
                Verdict::Unrestorable => CRIU_PREFLIGHT_UNRESTORABLE,
                Verdict::Refuse => CRIU_PREFLIGHT_REFUSE,
            },
            pid: found.pid,
            tid: found.tid.unwrap_or(0),
            fd: found.fd.unwrap_or(-1),
            addr: found.addr.unwrap_or(0),
            comm: comm.as_ptr(),
            text: text.as_ptr(),
            hint: hint.as_ptr(),
            json: json.as_ptr(),
        };
        // SAFETY: a callback of the header's type; the finding lives over the call.
        if unsafe { callback(&raw const finding, arg) } != 0 {
            return;
        }
    }
    for (i, gap) in report.unchecked.iter().enumerate() {
        let why = match gap.errno {
            0 => "not understood".to_owned(),
            errno => std::io::Error::from_raw_os_error(errno).to_string(),
        };
        let (text, json) = (string(&format!("{}: {why}", probe_text(gap.probe))), item("unchecked", i));
        let finding = criu_preflight_finding {
            size: size_of::<criu_preflight_finding>(),
            rule: c"unchecked".as_ptr(),
            verdict: CRIU_PREFLIGHT_UNCHECKED,
            pid: gap.pid,
            tid: 0,
            fd: gap.fd.unwrap_or(-1),
            addr: 0,
            comm: c"".as_ptr(),
            text: text.as_ptr(),
            hint: c"".as_ptr(),
            json: json.as_ptr(),
        };
        // SAFETY: as above.
        if unsafe { callback(&raw const finding, arg) } != 0 {
            return;
        }
    }
}

/// Escaped text has no NUL; should some have, it ends there.
fn string(text: &str) -> CString {
    CString::new(text.split('\0').next().unwrap_or_default()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::criu::Options;

    /// The options of a caller whose struct has one byte set.
    fn with_byte(at: Option<usize>) -> Options {
        // SAFETY: all zero is a valid value of every member.
        let mut given: criu_preflight_options = unsafe { std::mem::zeroed() };
        given.size = size_of::<criu_preflight_options>();
        if let Some(at) = at {
            assert!(at < given.size);
            // SAFETY: within the struct, whose bytes from there on may have any value.
            unsafe { (&raw mut given).cast::<u8>().add(at).write(1) };
        }
        // SAFETY: the struct is as long as it says, and has no strings.
        unsafe { host_of(&raw const given) }.unwrap().options
    }

    #[test]
    fn every_byte_of_the_struct_is_one_option() {
        let none = with_byte(None);
        assert_eq!(none, Host::dry_run(Release::NEWEST).options);
        let first = offset_of!(criu_preflight_options, ext_unix_sk);
        let end = offset_of!(criu_preflight_options, reserved);
        let no_option = [offset_of!(criu_preflight_options, lazy_pages), offset_of!(criu_preflight_options, libbpf)];
        let mut flags: Vec<_> = OPTIONS.iter().filter(|o| o.from_c.is_some()).filter_map(|o| o.opt).collect();
        for at in (first..end).filter(|at| !no_option.contains(at)) {
            let mut options = with_byte(Some(at));
            let given: Vec<_> = flags.iter().copied().filter(|opt| options.flag(*opt) == Some(true)).collect();
            let [opt] = given.as_slice() else { panic!("byte {at} sets {given:?}") };
            *options.flag_mut(*opt) = Some(false);
            assert_eq!(options, none, "byte {at}");
            flags.retain(|other| other != opt);
        }
        assert_eq!(flags, [], "options of no byte");
        assert!(no_option.iter().all(|at| with_byte(Some(*at)) == none));
        assert_eq!(with_byte(Some(offset_of!(criu_preflight_options, ghost_limit))).ghost_limit, Some(1));
    }

    #[test]
    fn the_header_is_current() {
        let made = include_str!(concat!(env!("OUT_DIR"), "/criu_preflight.h"));
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/include/criu_preflight.h");
        if std::env::var_os("UPDATE_HEADER").is_some() {
            std::fs::write(path, made).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap();
        assert!(committed == made, "include/criu_preflight.h is not what src/capi.rs makes: make header");
    }
}
