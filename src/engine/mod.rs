//! From what the rules find to what is refused.

pub mod confirm;
pub mod evidence;
pub mod judge;
