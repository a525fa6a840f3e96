//! What CRIU calls. Every hook is behind [`panic_guard::catch_panic`]; the constructor that sets the number of hooks
//! ([`descriptor`]) has nothing in it that could panic.

pub(crate) mod descriptor;
pub(crate) mod hook_interpose;
pub(crate) mod hooks;
pub mod panic_guard;
