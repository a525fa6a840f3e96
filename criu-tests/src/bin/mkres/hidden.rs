//! What nobody outside can see before CRIU stumbles over it.

use crate::ctx::{Args, Ctx, Res};
use crate::{sys, Kind};

pub const KINDS: &[Kind] = &[
    Kind {
        name: "landlocked",
        help: "but=DIR: from now on this process, and its children, may read no file and no directory but below DIR (Landlock)",
        make: landlocked,
    },
    Kind {
        name: "sealed",
        help: "prot=none|read (none): private memory of that protection, sealed by mseal; open: not sealed",
        make: sealed,
    },
];

fn landlocked(_: &mut Ctx, a: &Args) -> Res {
    // LANDLOCK_ACCESS_FS_READ_FILE and _READ_DIR.
    const READ: u64 = 0b1100;
    const LANDLOCK_RULE_PATH_BENEATH: u64 = 1;
    let [create, add, restrict] = [444, 445, 446];
    let handled = READ;
    let rules = sys::call("landlock_create_ruleset", create, [&raw const handled as u64, 8, 0, 0, 0])?;
    if let Some(dir) = a.get("but") {
        let dir = sys::open(dir, libc::O_PATH | libc::O_DIRECTORY)?;
        // struct landlock_path_beneath_attr is packed: 64 bits of rights, 32 of the descriptor.
        let mut beneath = [0u8; 12];
        beneath[..8].copy_from_slice(&READ.to_ne_bytes());
        beneath[8..].copy_from_slice(&dir.to_ne_bytes());
        let rule = [rules as u64, LANDLOCK_RULE_PATH_BENEATH, beneath.as_ptr() as u64, 0, 0];
        sys::call("landlock_add_rule", add, rule)?;
        sys::close(dir);
    }
    sys::ok("no_new_privs", unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
    sys::call("landlock_restrict_self", restrict, [rules as u64, 0, 0, 0, 0])?;
    sys::close(rules);
    Ok(())
}

fn sealed(cx: &mut Ctx, a: &Args) -> Res {
    const SYS_MSEAL: libc::c_long = 462;
    let prot = if a.get("prot") == Some("read") { libc::PROT_READ } else { libc::PROT_NONE };
    let at = sys::mmap("anonymous", 2 * 4096, prot, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)?;
    if !a.has("open") {
        sys::call("mseal", SYS_MSEAL, [at as u64, 2 * 4096, 0, 0, 0])?;
    }
    cx.fact("addr", format!("{at:x}"));
    Ok(())
}
