//! Which file systems `--enable-fs` or the request's `enable_fs` name, by CRIU's own word: where CRIU was asked over a socket by a
//! client that is no known runtime, neither its command line nor its options tell.

use crate::bytes::Bytes;
use crate::criu::symbols::{DecodeFstype, FindFstype};
use crate::scan::sys;
use std::ffi::{c_char, CString};
use std::path::Path;

/// FSTYPE__UNSUPPORTED (images/mnt.proto).
const UNSUPPORTED: u32 = 0;
/// No list of names has a blank: only `all` lets it pass.
const NO_NAME: &[u8] = b"no such file system";

/// Of the kernel's file systems, those that CRIU takes; `all`, if it takes any. `None`: they could not be listed.
pub(crate) fn taken(find: FindFstype, decode: DecodeFstype) -> Option<Vec<Bytes>> {
    // SAFETY: CRIU's function compares the number with those of a table, and returns an entry of it.
    let unsupported = unsafe { decode(UNSUPPORTED) };
    let takes = |name: &[u8]| {
        CString::new(name).is_ok_and(|name| {
            // SAFETY: CRIU's function compares the name with those of its table and of its list, and does not write to it.
            let found = unsafe { find(name.as_ptr().cast::<c_char>().cast_mut()) };
            found != unsupported
        })
    };
    if takes(NO_NAME) {
        return Some(vec!["all".into()]);
    }
    let known = sys::read_file(Path::new("/proc/filesystems")).ok()?;
    // `nodev\tproc`
    let names = known.split(|b| *b == b'\n').filter_map(|line| line.rsplit(|b| *b == b'\t').next());
    Some(names.filter(|name| !name.is_empty() && takes(name)).map(Bytes::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::{c_void, CStr};

    static TABLE: [u8; 2] = [0, 1];

    unsafe extern "C" fn decode(code: u32) -> *const c_void {
        std::ptr::from_ref(&TABLE[code as usize]).cast()
    }
    /// proc, and tmpfs as if it had been named.
    unsafe extern "C" fn find(name: *mut c_char) -> *const c_void {
        // SAFETY: a string of `taken`.
        let name = unsafe { CStr::from_ptr(name) };
        // SAFETY: as above.
        unsafe { decode(u32::from(name == c"proc" || name == c"tmpfs")) }
    }
    unsafe extern "C" fn find_any(_: *mut c_char) -> *const c_void {
        // SAFETY: as above.
        unsafe { decode(1) }
    }

    #[test]
    fn what_criu_takes() {
        let mut names = taken(find, decode).unwrap();
        names.sort();
        assert_eq!(names, ["proc", "tmpfs"].map(Bytes::from));
        assert_eq!(taken(find_any, decode), Some(vec!["all".into()]));
    }
}
