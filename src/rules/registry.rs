//! The one table of rules. Order: as CRIU would meet them is not needed; as the documentation lists them.

use super::Rule;

/// Every rule.
pub static RULES: &[&Rule] = &[];

/// The rule with this id.
pub fn by_id(id: &str) -> Option<&'static Rule> {
    RULES.iter().copied().find(|r| r.id == id)
}
