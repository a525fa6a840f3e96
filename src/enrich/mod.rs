//! Names and other ends of what was found, looked up after judging: only a dump that is refused pays for it.

pub mod holders;
pub mod names;
