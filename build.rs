//! Writes `include/criu_preflight.h` from the C functions of `src/abi/c_api.rs`. The header is committed; CI fails when
//! what is committed and what this makes differ. A source tree that cannot be written to is no error: then the committed
//! one holds.

use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=src/abi/c_api.rs");
    println!("cargo:rerun-if-changed=cbindgen.toml");
    println!("cargo:rerun-if-changed=include/criu_preflight.h");
    let root = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let root = Path::new(&root);
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml is sound");
    let bindings = cbindgen::Builder::new()
        .with_config(config)
        .with_src(root.join("src/abi/c_api.rs"))
        .generate()
        .expect("src/abi/c_api.rs can be told in C");
    let mut text = Vec::new();
    bindings.write(&mut text);
    let header = root.join("include/criu_preflight.h");
    if std::fs::read(&header).is_ok_and(|old| old == text) {
        return;
    }
    let written = std::fs::create_dir_all(root.join("include")).and_then(|()| std::fs::write(&header, &text));
    if let Err(e) = written {
        println!("cargo:warning={}: {e}; the committed header stays", header.display());
    }
}
