//! What the administrator decided: mode, switched-off rules, allowed resources.

use crate::rules::Finding;
use serde::{Deserialize, Serialize};

/// What a refusal does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// It stops the dump.
    #[default]
    Enforce,
    /// It is reported, CRIU goes on.
    Warn,
    /// The plugin does nothing.
    Off,
}

/// The configuration in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub mode: Mode,
    /// Look before freezing.
    pub early: bool,
    /// Rule ids that are switched off.
    pub disabled: Vec<String>,
    /// RULE:RESOURCE pairs that only warn.
    pub allowed: Vec<(String, String)>,
    /// Write `preflight.json` into the work directory.
    pub report: bool,
    /// Send the summary of a refusal to the system log.
    pub syslog: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            mode: Mode::Enforce,
            early: true,
            disabled: Vec::new(),
            allowed: Vec::new(),
            report: true,
            syslog: true,
        }
    }
}

impl Config {
    pub fn is_disabled(&self, rule: &str) -> bool {
        self.disabled.iter().any(|d| d == rule)
    }

    /// Whether the finding's resource is allowed: an `allow RULE:RESOURCE` whose RESOURCE is the text of one of its facts.
    pub fn allows(&self, finding: &Finding) -> bool {
        self.allowed.iter().any(|(rule, resource)| {
            rule == finding.rule.as_ref()
                && finding.facts.iter().any(|(_, v)| crate::report::render_value(v) == *resource)
        })
    }
}
