//! The with_state: what CRIU and C programs call. Every function here that C can call is behind [`catch_panic`].

pub mod descriptor;
pub mod hook_interpose;
pub mod hooks;
pub mod panic_guard;
