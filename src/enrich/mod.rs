//! What is asked about findings after judging: whether they stay as they are, names, other ends. Only a dump that is refused pays
//! for it.

pub mod holders;
pub(crate) mod names;
pub(crate) mod recheck;
