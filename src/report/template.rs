//! Templates of a rule's words: a sentence with facts in braces.
//!
//! ```text
//! {name}        the fact's value
//! {name?a=one text|b=another}   the text for the fact's value, which is `a` or `b`; facts may stand in the text
//! [...{name}]   dropped, with everything in it, when a fact in it is absent
//! [text]        without a fact inside it is plain text, brackets and all
//! \[ \] \{ \} \\  the character itself
//! ```
//!
//! The value of an option (`unix[{ino}]`) is a template too, but brackets mean nothing there: see [`Style`].

/// How brackets are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// `[...]` is an optional part.
    Sentence,
    /// Brackets are brackets: CRIU's own keys are full of them.
    OptionValue,
}

/// A piece of a parsed template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part<'t> {
    Text(&'t str),
    Fact(&'t str),
    /// The text for each value that the fact may have.
    Select(&'t str, Vec<(&'t str, Vec<Part<'t>>)>),
    Optional(Vec<Part<'t>>),
}

/// A rendered template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rendered {
    pub text: String,
    /// Every fact outside of optional parts was there, and has a value that the template knows. The place of an absent one is
    /// filled with `?`, that of a value without a text with the value.
    pub complete: bool,
}

/// Splits a template into its parts; the text of an `Err` says what is wrong with it.
pub(crate) fn parse(template: &str, style: Style) -> Result<Vec<Part<'_>>, String> {
    let mut parts = Vec::new();
    let mut rest = template;
    let special: &[char] = match style {
        Style::Sentence => &['\\', '{', '['],
        Style::OptionValue => &['\\', '{'],
    };
    while let Some((before, tail)) = rest.find(special).and_then(|at| rest.split_at_checked(at)) {
        push_text(&mut parts, before);
        if let Some(escaped) = tail.strip_prefix('\\') {
            let Some(c) = escaped.chars().next().filter(|c| "[]{}\\".contains(*c)) else {
                return Err(format!("nothing to escape at `{tail}`"));
            };
            let (text, after) = escaped.split_at_checked(c.len_utf8()).unwrap_or((escaped, ""));
            push_text(&mut parts, text);
            rest = after;
        } else if let Some(inner) = tail.strip_prefix('{') {
            let Some((inside, after)) = split_braces(inner) else {
                return Err(format!("`{tail}` is not closed"));
            };
            parts.push(fact(inside)?);
            rest = after;
        } else {
            let Some((inner, after)) = split_brackets(tail) else {
                return Err(format!("`{tail}` is not closed, or brackets are nested"));
            };
            let optional = parse(inner, Style::OptionValue)?;
            if optional.iter().any(|p| matches!(p, Part::Fact(_) | Part::Select(..))) {
                parts.push(Part::Optional(optional));
            } else {
                push_text(&mut parts, "[");
                parts.extend(optional);
                push_text(&mut parts, "]");
            }
            rest = after;
        }
    }
    push_text(&mut parts, rest);
    Ok(parts)
}

/// What stands in braces.
fn fact(inside: &str) -> Result<Part<'_>, String> {
    let (name, texts) = match inside.split_once('?') {
        Some((name, texts)) => (name, Some(texts)),
        None => (inside, None),
    };
    if !is_name(name) {
        return Err(format!("`{name}` is no name of a fact"));
    }
    let Some(texts) = texts else { return Ok(Part::Fact(name)) };
    let mut choices = Vec::new();
    for text in split_choices(texts) {
        let Some((value, text)) = text.split_once('=').filter(|(value, _)| is_name(value)) else {
            return Err(format!("`{text}` is for no value"));
        };
        choices.push((value, parse(text, Style::OptionValue)?));
    }
    Ok(Part::Select(name, choices))
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-')
}

fn push_text<'t>(parts: &mut Vec<Part<'t>>, text: &'t str) {
    if !text.is_empty() {
        parts.push(Part::Text(text));
    }
}

/// `inside}after` to (inside, after): braces may stand in it. `None`: not closed.
fn split_braces(tail: &str) -> Option<(&str, &str)> {
    let (mut depth, mut escaped) = (0u32, false);
    for (at, c) in tail.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '{' => depth = depth.saturating_add(1),
            '}' if depth == 0 => {
                let (inside, after) = tail.split_at_checked(at)?;
                return Some((inside, after.strip_prefix('}')?));
            }
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// Splits at each `|` that is in no braces.
fn split_choices(texts: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0u32;
    texts.split(move |c| {
        match c {
            '{' => depth = depth.saturating_add(1),
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == '|' && depth == 0
    })
}

/// `[inner]after` to (inner, after). `None`: not closed, or another bracket opens inside.
fn split_brackets(tail: &str) -> Option<(&str, &str)> {
    let inner = tail.strip_prefix('[')?;
    let mut escaped = false;
    for (at, c) in inner.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '[' => return None,
            ']' => {
                let (inside, after) = inner.split_at_checked(at)?;
                return Some((inside, after.strip_prefix(']')?));
            }
            _ => {}
        }
    }
    None
}

/// The names of the facts that a template refers to, in order; empty for one that does not parse.
#[cfg(test)]
pub(crate) fn names(template: &str, style: Style) -> Vec<&str> {
    let mut names = Vec::new();
    collect(&parse(template, style).unwrap_or_default(), &mut names);
    names
}

/// The names of the facts without which the template is not complete.
pub(crate) fn needed(template: &str, style: Style) -> Vec<&str> {
    let parts = parse(template, style).unwrap_or_default();
    let name = |part| match part {
        Part::Fact(name) | Part::Select(name, _) => Some(name),
        Part::Text(_) | Part::Optional(_) => None,
    };
    parts.into_iter().filter_map(name).collect()
}

/// A template as a reader knows it: facts as upper-case words, texts to choose from with ` / ` between them, optional parts in brackets.
pub(crate) fn with_names(template: &str, style: Style) -> String {
    fn put(parts: &[Part], out: &mut String) {
        for part in parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Fact(name) => out.push_str(&name.to_uppercase()),
                Part::Select(_, choices) => {
                    for (nth, (_, text)) in choices.iter().enumerate() {
                        out.push_str(if nth == 0 { "" } else { " / " });
                        put(text, out);
                    }
                }
                Part::Optional(inner) => {
                    out.push('[');
                    put(inner, out);
                    out.push(']');
                }
            }
        }
    }
    let mut out = String::new();
    put(&parse(template, style).unwrap_or_default(), &mut out);
    out
}

/// Whether filling the sentence can have made this text.
#[cfg(test)]
pub(crate) fn can_make(template: &str, text: &str) -> bool {
    fn ends(parts: &[Part], text: &str, starts: Vec<usize>) -> Vec<usize> {
        let mut at = starts;
        for part in parts {
            let mut next: Vec<usize> = match part {
                Part::Text(fixed) => {
                    let here = |at: &usize| text.get(*at..).is_some_and(|rest| rest.starts_with(fixed));
                    at.iter().filter(|at| here(at)).map(|at| at.saturating_add(fixed.len())).collect()
                }
                // A fact may be empty.
                Part::Fact(_) => match at.iter().min() {
                    Some(first) => (*first..=text.len()).filter(|end| text.is_char_boundary(*end)).collect(),
                    None => Vec::new(),
                },
                Part::Select(_, choices) => {
                    choices.iter().flat_map(|(_, parts)| ends(parts, text, at.clone())).collect()
                }
                Part::Optional(inner) => {
                    let mut with = ends(inner, text, at.clone());
                    with.extend(&at);
                    with
                }
            };
            next.sort_unstable();
            next.dedup();
            at = next;
        }
        at
    }
    ends(&parse(template, Style::Sentence).unwrap_or_default(), text, vec![0]).contains(&text.len())
}

#[cfg(test)]
fn collect<'t>(parts: &[Part<'t>], names: &mut Vec<&'t str>) {
    for part in parts {
        match part {
            Part::Text(_) => {}
            Part::Fact(name) => names.push(name),
            Part::Select(name, choices) => {
                names.push(name);
                choices.iter().for_each(|(_, text)| collect(text, names));
            }
            Part::Optional(inner) => collect(inner, names),
        }
    }
}

/// Fills in the facts. A template that does not parse is printed as it is: words never stop a report.
pub(crate) fn render(template: &str, style: Style, fact: &dyn Fn(&str) -> Option<String>) -> Rendered {
    let mut out = Rendered { text: String::with_capacity(template.len()), complete: true };
    let Ok(parts) = parse(template, style) else {
        out.text.push_str(template);
        return out;
    };
    out.complete = fill(&parts, fact, &mut out.text);
    out
}

/// Appends the parts; whether every fact was there.
fn fill(parts: &[Part], fact: &dyn Fn(&str) -> Option<String>, out: &mut String) -> bool {
    let mut complete = true;
    for part in parts {
        complete &= match part {
            Part::Text(text) => {
                out.push_str(text);
                true
            }
            Part::Fact(name) => match fact(name) {
                Some(value) => {
                    out.push_str(&value);
                    true
                }
                None => {
                    out.push('?');
                    false
                }
            },
            Part::Select(name, choices) => {
                let value = fact(name);
                match choices.iter().find(|(of, _)| value.as_deref() == Some(*of)) {
                    Some((_, text)) => fill(text, fact, out),
                    None => {
                        out.push_str(value.as_deref().unwrap_or("?"));
                        false
                    }
                }
            }
            Part::Optional(inner) => {
                let mut optional = String::new();
                if fill(inner, fact, &mut optional) {
                    out.push_str(&optional);
                }
                true
            }
        };
    }
    complete
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{registry, Remedy};
    use proptest::prelude::*;

    fn fact(name: &str) -> Option<String> {
        match name {
            "state" => Some("ESTABLISHED".into()),
            "ino" => Some("4711".into()),
            "path" => Some("/tmp/[x] {ino}".into()),
            _ => None,
        }
    }
    fn sentence(template: &str) -> String {
        render(template, Style::Sentence, &fact).text
    }

    #[test]
    fn fills_in_and_drops() {
        assert_eq!(sentence("TCP {state}[, inode {ino}][, queue {queue}]"), "TCP ESTABLISHED, inode 4711");
        assert_eq!(sentence("[{queue} bytes in {state}]."), ".");
        assert_eq!(
            sentence("a fact's braces are not read again: {path}"),
            "a fact's braces are not read again: /tmp/[x] {ino}"
        );
    }

    #[test]
    fn chooses_by_the_value() {
        let of =
            "{state?LISTEN=waits|ESTABLISHED=has {ino}, {path}}".replace("LISTEN", "a").replace("ESTABLISHED", "b");
        let chosen = |value: &str| {
            let fact = |name: &str| if name == "state" { Some(value.to_string()) } else { fact(name) };
            render(&of, Style::Sentence, &fact)
        };
        assert_eq!(chosen("a").text, "waits");
        assert_eq!(chosen("b").text, "has 4711, /tmp/[x] {ino}");
        assert_eq!((chosen("c").text.as_str(), chosen("c").complete), ("c", false));
        assert_eq!(sentence("x[, {queue?a=one|b=two}]"), "x");
        assert_eq!(names(&of, Style::Sentence), ["state", "ino", "path"]);
        assert_eq!(needed(&of, Style::Sentence), ["state"]);
        assert_eq!(with_names(&of, Style::Sentence), "waits / has INO, PATH");
        assert!(can_make(&of, "waits") && can_make(&of, "has 4, 5") && !can_make(&of, "a"));
    }

    #[test]
    fn brackets_can_be_text() {
        assert_eq!(sentence("anon_inode:[io_uring] of {state}"), "anon_inode:[io_uring] of ESTABLISHED");
        assert_eq!(sentence(r"external unix\[{ino}\], \{x\} \\"), r"external unix[4711], {x} \");
        assert_eq!(sentence(r"[; as unix\[{ino}\]]!"), "; as unix[4711]!");
        assert_eq!(sentence(r"[; as unix\[{nothing}\]]!"), "!");
        assert_eq!(render("unix[{ino}]", Style::OptionValue, &fact).text, "unix[4711]");
        assert_eq!(render(r"unix\[{ino}\]", Style::OptionValue, &fact).text, "unix[4711]");
    }

    #[test]
    fn says_when_a_fact_is_missing() {
        let r = render("mnt[{key}]:{ino}", Style::OptionValue, &fact);
        assert_eq!((r.text.as_str(), r.complete), ("mnt[?]:4711", false));
        assert!(render("[{key}]{ino}", Style::Sentence, &fact).complete);
    }

    #[test]
    fn refuses_what_is_not_a_template() {
        for bad in [
            "{",
            "{Name}",
            "{}",
            "{a b}",
            "{a?}",
            "{a?b}",
            "{a?B=c}",
            "{a?b={}}",
            "[{a}",
            "[{a} [{b}]]",
            "tail \\",
            "\\n",
        ] {
            assert!(parse(bad, Style::Sentence).is_err(), "{bad}");
            assert_eq!(sentence(bad), bad);
        }
    }

    #[test]
    fn tells_the_names() {
        assert_eq!(names(r"{a} [of {b} \[{c}\]] [d]", Style::Sentence), ["a", "b", "c"]);
    }

    #[test]
    fn what_a_template_can_make() {
        let can = |text| can_make("TCP {state}[, inode {ino}] of {path}", text);
        assert!(can("TCP LISTEN of /x") && can("TCP LISTEN, inode 4 of /x") && can("TCP  of "));
        assert!(!can("UDP LISTEN of /x") && !can("TCP LISTEN") && !can_make("a", "ab"));
        assert_eq!(with_names("TCP {state}[, inode {ino}]", Style::Sentence), "TCP STATE[, inode INO]");
        assert_eq!(names("unix[{ino}]", Style::OptionValue), ["ino"]);
        assert_eq!(needed("{a}[, inode {ino}] {b}", Style::Sentence), ["a", "b"]);
    }

    #[test]
    fn every_registered_template_parses() {
        for rule in registry::RULES {
            let mut templates = vec![(rule.message, Style::Sentence)];
            for lift in rule.remedies {
                match lift {
                    Remedy::External(value)
                    | Remedy::ExternalInVain(value)
                    | Remedy::Modelled(_, value)
                    | Remedy::AtRestore(_, value) => templates.push((value, Style::OptionValue)),
                    Remedy::Workload(words) => templates.push((words, Style::Sentence)),
                    Remedy::Option(_) | Remedy::OptionFor(..) | Remedy::Hook(_) | Remedy::Release(_) => {}
                }
            }
            for (template, style) in templates {
                if let Err(why) = parse(template, style) {
                    panic!("{}: {template:?}: {why}", rule.id);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_renders(template in "[\\[\\]{}\\\\a-cä]{0,16}") {
            for style in [Style::Sentence, Style::OptionValue] {
                render(&template, style, &fact);
            }
        }
    }
}
