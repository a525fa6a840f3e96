//! Makes the C header from the functions of `src/capi.rs` and the struct of their options, in OUT_DIR: a build does not write into the source tree. The one in
//! `include/` is committed; a test (`capi::tests::the_header_is_current`) holds the two together, `make header` refreshes it.

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    header();
    unwinder();
}

/// Links GCC's unwinder, by which panics reach the fence, into the plugin: then it needs nothing of a host but the C
/// library. The standard library asks for `gcc_s` by name, so `-static-libgcc` changes nothing; a linker script of that name
/// in front of the shared library does. Without the archive (a compiler that is not GCC's) the shared one is linked.
fn unwinder() {
    println!("cargo:rerun-if-env-changed=CC");
    let gnu = std::env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "gnu");
    let same = std::env::var("HOST").ok() == std::env::var("TARGET").ok();
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let archive = |name: &str| {
        let out = Command::new(&compiler).arg(format!("-print-file-name={name}")).output().ok()?;
        let path = PathBuf::from(String::from_utf8(out.stdout).ok()?.trim());
        path.is_absolute().then_some(path)
    };
    let (Some(unwinder), Some(helpers)) = (archive("libgcc_eh.a"), archive("libgcc.a")) else { return };
    let Some(dir) = std::env::var_os("OUT_DIR").map(|dir| Path::new(&dir).join("unwinder")) else { return };
    let script = format!("INPUT({} {})\n", unwinder.display(), helpers.display());
    let written = std::fs::create_dir_all(&dir).and_then(|()| std::fs::write(dir.join("libgcc_s.so"), script));
    if gnu && same && written.is_ok() {
        println!("cargo:rustc-link-search=native={}", dir.display());
    }
}

fn header() {
    let sources = ["src/criu/options/c_api.rs", "src/capi.rs"];
    for source in sources {
        println!("cargo:rerun-if-changed={source}");
    }
    println!("cargo:rerun-if-changed=cbindgen.toml");
    let root = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let out = std::env::var("OUT_DIR").expect("cargo sets it");
    let root = Path::new(&root);
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml is sound");
    let builder = cbindgen::Builder::new().with_config(config);
    let bindings = sources
        .iter()
        .fold(builder, |builder, source| builder.with_src(root.join(source)))
        .generate()
        .expect("they have only what C can declare");
    let mut text = Vec::new();
    bindings.write(&mut text);
    std::fs::write(Path::new(&out).join("criu_preflight.h"), text).expect("OUT_DIR can be written to");
}
