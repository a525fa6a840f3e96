//! Plain text as Markdown, for the documents that are made.

use std::fmt::Write as _;

/// Lines of text are broken at this.
const WIDTH: usize = 118;

/// Of a heading, as GitHub makes it.
pub(super) fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase();
    kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The text behind `start`, broken into lines; those that follow are indented below it.
pub(super) fn wrapped(out: &mut String, start: &str, text: &str) {
    let indent = if start.trim_start().starts_with('*') { "  " } else { "" };
    let mut line = start.to_string();
    let mut width = start.trim_start_matches('\n').chars().count();
    let mut first = true;
    for word in text.split(' ') {
        let wide = word.chars().count();
        // A line that began so would be a list or a heading.
        let marks = word.starts_with(['-', '+', '*', '#', '>', '=']) && !word.starts_with("**");
        let numbered = word.trim_end_matches(['.', ')']).chars().all(|c| c.is_ascii_digit());
        if !first && width.saturating_add(wide) >= WIDTH && !marks && !numbered {
            let _ = writeln!(out, "{line}");
            line = indent.to_string();
            width = indent.len();
            first = true;
        }
        if !first {
            line.push(' ');
            width = width.saturating_add(1);
        }
        line.push_str(word);
        width = width.saturating_add(wide);
        first = false;
    }
    let _ = writeln!(out, "{line}");
}

/// Plain text within a table's cell.
pub(super) fn cell(text: &str) -> String {
    markdown(text).replace('|', "\\|").replace('\n', " ")
}

/// Plain text outside of code: what markdown would take for markup is escaped.
pub(super) fn markdown(text: &str) -> String {
    let mut code = false;
    let mut out = String::with_capacity(text.len());
    let mut before = ' ';
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let after = rest.peek().copied().unwrap_or(' ');
        let escaped = match c {
            '<' | '*' => true,
            // Within a word it is a letter.
            '_' => !before.is_alphanumeric() || !after.is_alphanumeric(),
            // A link, if an address or the end of the text follows, which may be that of a name.
            ']' => after == '(' || after == '[',
            _ => false,
        };
        if c == '`' {
            code = !code;
        } else if escaped && !code {
            out.push('\\');
        }
        out.push(c);
        before = c;
    }
    out
}

pub(super) fn code(text: &str) -> String {
    if text.contains('`') {
        format!("`` {text} ``")
    } else {
        format!("`{text}`")
    }
}
