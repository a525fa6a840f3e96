//! Every refusal that CRIU's sources know about dumped processes, and its answer: `inventory.txt`, of which `docs/inventory.md` is
//! made.

use crate::report::criu_text::Pattern;

pub(super) const ROWS: &str = include_str!("inventory.txt");

/// What becomes of a refusal here.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Answer {
    Rule,
    By,
    Kernel,
    Unprovoked,
    Lost,
    Accepted,
}

pub(super) struct Row<'a> {
    #[cfg_attr(not(test), allow(dead_code))]
    pub section: &'a str,
    pub id: &'a str,
    pub answer: Answer,
    pub words: &'a str,
}

/// The rows of the text; the line that is none.
pub(super) fn rows(text: &str) -> Result<Vec<Row<'_>>, String> {
    let mut section = "";
    let mut rows = Vec::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            section = title;
        }
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut parts = line.splitn(3, '|').map(str::trim);
        let (Some(id), Some(answer), Some(words)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(format!("not ID | ANSWER | WORDS: {line}"));
        };
        let answer = match answer {
            "rule" => Answer::Rule,
            "by" => Answer::By,
            "kernel" => Answer::Kernel,
            "unprovoked" => Answer::Unprovoked,
            "lost" => Answer::Lost,
            "accepted" => Answer::Accepted,
            _ => return Err(format!("no answer named so: {line}")),
        };
        if answer != Answer::Rule && words.is_empty() {
            return Err(format!("an answer without words: {line}"));
        }
        rows.push(Row { section, id, answer, words });
    }
    Ok(rows)
}

/// What is known of a text of CRIU that no rule stands for. The words of a row quote the texts.
pub(super) fn of_no_rule(text: &str) -> Option<Row<'static>> {
    /// What is shorter stands in too many texts.
    const SHORT: usize = 8;
    let quoted = |row: &Row<'static>| {
        let texts = row.words.split('"').skip(1).step_by(2).map(Pattern::new);
        texts.filter(|p| p.fixed() >= SHORT).any(|p| p.is_in(text))
    };
    let open = |row: &Row| matches!(row.answer, Answer::Kernel | Answer::Unprovoked);
    rows(ROWS).unwrap_or_default().into_iter().find(|row| open(row) && quoted(row))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_rows_quote_is_found() {
        assert_eq!(of_no_rule("Can't infect a process").map(|row| row.id), Some("infect-failed"));
        assert_eq!(of_no_rule("Can't splice (12)").map(|row| row.id), Some("page-read-fault"));
        assert!(of_no_rule("Connected TCP socket").is_none() && of_no_rule("").is_none());
    }
}
