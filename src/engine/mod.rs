//! From what the rules find to what is refused.
//!
//! A rule finds; the engine decides: it leaves out rules of other releases, applies the remedies that are given
//! ([`gate`]), merges the places of one resource ([`sink`]), lets findings only warn where they must ([`judge`]) and asks
//! for evidence while the tree runs ([`confirm`]). Each warning says why it is one ([`crate::finding::WarnReason`]).

pub(crate) mod confirm;
pub(crate) mod evidence;
pub(crate) mod gate;
pub mod judge;
pub(crate) mod sink;
