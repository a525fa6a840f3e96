//! What a CRIU binary is and can do, read from its file: the symbols that the plugin asks the loader for.

use criu_preflight::criu::{symbols, Caps, Release};
use object::{Object, ObjectSymbol};
use std::collections::HashMap;
use std::ffi::CStr;
use std::path::Path;

/// Far more than any CRIU (about 3 MiB).
const MAX: u64 = 256 << 20;

/// The release line and abilities of the CRIU at `path`. Nothing of it is run.
pub fn identify(path: &Path) -> Result<(Caps, Release), String> {
    let meta = std::fs::metadata(path).map_err(|e| e.to_string())?;
    if !meta.is_file() {
        return Err("not a regular file".into());
    }
    if meta.len() > MAX {
        return Err(format!("too big to be a CRIU ({} bytes)", meta.len()));
    }
    let data = std::fs::read(path).map_err(|e| e.to_string())?;
    let file = object::File::parse(data.as_slice()).map_err(|_| "not an ELF file".to_owned())?;
    let sizes: HashMap<&[u8], u64> = file
        .dynamic_symbols()
        .filter(|s| !s.is_undefined())
        .filter_map(|s| Some((s.name_bytes().ok()?, s.size())))
        .collect();
    let has = |name: &CStr| sizes.contains_key(name.to_bytes());
    let size = |name: &CStr| sizes.get(name.to_bytes()).and_then(|s| usize::try_from(*s).ok()).filter(|s| *s != 0);
    symbols::identify(&has, &size).ok_or_else(|| "not a CRIU: it does not show CRIU's symbols".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_criu_is_said() {
        let of = |path: &str| identify(Path::new(path)).unwrap_err();
        assert_eq!(of("/proc/self/exe"), "not a CRIU: it does not show CRIU's symbols");
        assert_eq!(of(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")), "not an ELF file");
        assert_eq!(of("/"), "not a regular file");
        assert!(of("/no/such/file").contains("No such file"));
    }
}
