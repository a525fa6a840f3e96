//! Findings to words: log lines, JSON, hints. The only room that owns words.

use crate::rules::Value;

/// A fact as text, escaped: never a control character, whatever the tree called its things.
pub fn render_value(value: &Value) -> String {
    match value {
        Value::Text(b) => b.escaped(),
        Value::Term(t) => t.to_string(),
        Value::Num(n) => n.to_string(),
        Value::Hex(n) => format!("{n:#x}"),
        Value::Octal(n) => format!("0{n:o}"),
        Value::Dev(d) => format!("{}:{}", d.major, d.minor),
        Value::Addr(a) => a.to_string(),
        Value::Range(a, b) => format!("{a:x}-{b:x}"),
        Value::Pids(p) => p.iter().map(i32::to_string).collect::<Vec<_>>().join(", "),
    }
}
