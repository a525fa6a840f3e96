//! CRIU's own texts, as the rules quote them: format strings of its sources, and lines of its log that came of them.

use crate::rules::Rule;

/// One of [`Rule::criu`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CriuText {
    /// When it is this text; without a text: what there is in its place.
    pub note: Option<&'static str>,
    /// A format string.
    pub text: Option<&'static str>,
}

impl CriuText {
    fn parse(quoted: &'static str) -> Self {
        let (note, text) = match quoted.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            Some((note, text)) => (Some(note), text.trim_start()),
            None => (None, quoted),
        };
        CriuText { note, text: Some(text).filter(|t| !t.is_empty()) }
    }

    /// `TEXT (note)`, the text as `show` has it.
    pub(crate) fn wording(&self, show: impl Fn(&str) -> String) -> String {
        match (self.text, self.note) {
            (Some(text), Some(note)) => format!("{} ({note})", show(text)),
            (Some(text), None) => show(text),
            (None, note) => note.unwrap_or_default().to_string(),
        }
    }
}

/// What CRIU may say when it meets what the rule is about; nothing: it says nothing.
pub(crate) fn of(rule: &Rule) -> impl Iterator<Item = CriuText> + '_ {
    rule.criu.iter().map(|quoted| CriuText::parse(quoted))
}

/// All of them in one line.
pub(crate) fn line(rule: &Rule) -> String {
    let all: Vec<String> = of(rule).map(|text| text.wording(str::to_string)).collect();
    if all.is_empty() {
        "nothing".to_string()
    } else {
        all.join(" / ")
    }
}

/// What a conversion of a format string can have become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// `%d`, `%x`, `%o`, `%p`: a number in any base. Also the conversion itself, for those who quote the sources.
    Number,
    /// `%c`
    Letter,
    /// `%s`
    Words,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece<'t> {
    Text(&'t str),
    Any(Class),
}

/// A format string as a pattern for what it prints.
#[derive(Clone, Debug)]
pub(crate) struct Pattern<'t> {
    pieces: Vec<Piece<'t>>,
}

impl<'t> Pattern<'t> {
    pub(crate) fn new(format: &'t str) -> Self {
        let mut pieces = Vec::new();
        let mut rest = format;
        while let Some((text, tail)) = rest.split_once('%') {
            if !text.is_empty() {
                pieces.push(Piece::Text(text));
            }
            // Flags, width and length come before the letter.
            let at = tail.find(|c: char| c.is_ascii_alphabetic() && !"hlzjt".contains(c));
            let Some((letter, after)) = at.and_then(|at| {
                let letter = tail.get(at..)?.chars().next()?;
                Some((letter, tail.get(at.saturating_add(1)..)?))
            }) else {
                rest = tail;
                continue;
            };
            pieces.push(Piece::Any(match letter {
                's' => Class::Words,
                'c' => Class::Letter,
                _ => Class::Number,
            }));
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest));
        }
        Pattern { pieces }
    }

    /// Bytes that are always there: how much a match is worth.
    pub(crate) fn fixed(&self) -> usize {
        let text = |p: &Piece| if let Piece::Text(text) = p { text.len() } else { 0 };
        self.pieces.iter().map(text).sum()
    }

    /// Something that this format prints.
    pub(crate) fn filled(&self) -> String {
        let fill = |p: &Piece<'t>| match p {
            Piece::Text(text) => *text,
            Piece::Any(Class::Number) => "1",
            Piece::Any(_) => "x",
        };
        self.pieces.iter().map(fill).collect()
    }

    /// The whole text is what this format prints.
    pub(crate) fn prints(&self, text: &str) -> bool {
        self.ends(text, vec![0]).contains(&text.len())
    }

    /// What this format prints stands somewhere in the text.
    pub(crate) fn is_in(&self, text: &str) -> bool {
        let starts = (0..=text.len()).filter(|at| text.is_char_boundary(*at)).collect();
        !self.ends(text, starts).is_empty()
    }

    /// Where in the text the pattern can end, begun at any of `starts`; both are ascending.
    fn ends(&self, text: &str, starts: Vec<usize>) -> Vec<usize> {
        let mut at = starts;
        for piece in &self.pieces {
            let mut next: Vec<usize> = Vec::new();
            for start in at {
                let rest = text.get(start..).unwrap_or_default();
                match piece {
                    Piece::Text(fixed) if rest.starts_with(fixed) => next.push(start.saturating_add(fixed.len())),
                    Piece::Text(_) => {}
                    Piece::Any(_) if next.last() == Some(&text.len()) => break,
                    Piece::Any(class) => {
                        // What was reached from an earlier start is there already.
                        let reached = next.last().copied();
                        let ends = class.ends(rest).map(|end| start.saturating_add(end));
                        next.extend(ends.filter(|end| reached.is_none_or(|reached| *end > reached)));
                    }
                }
            }
            at = next;
        }
        at
    }
}

impl Class {
    /// Where in the text a conversion can end that begins at its start.
    fn ends(self, rest: &str) -> Box<dyn Iterator<Item = usize> + '_> {
        let ends = |fits: fn(char) -> bool| {
            rest.char_indices().take_while(move |(_, c)| fits(*c)).map(|(at, c)| at.saturating_add(c.len_utf8()))
        };
        match self {
            Class::Words => Box::new(std::iter::once(0).chain(ends(|_| true))),
            Class::Letter => Box::new(ends(|_| true).take(2)),
            Class::Number => Box::new(ends(|c| c.is_ascii_hexdigit() || "x-+%#luo".contains(c))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::registry;

    fn prints(format: &str, text: &str) -> bool {
        Pattern::new(format).prints(text)
    }

    #[test]
    fn a_format_prints_what_it_can_become_and_nothing_else() {
        let anon = "Can't dump file %d of that type [%o] (anon %s)";
        assert!(prints(anon, "Can't dump file 4 of that type [600] (anon anon_inode:[perf_event])"));
        assert!(!prints(anon, "Can't dump file 4 of that type [600] (chr 10:229)"));
        assert!(!prints(anon, "Can't dump file four of that type [600] (anon x)"));
        assert!(prints("Handle 0x%x:0x%lx cannot be opened", "Handle 0x29:0x1f04 cannot be opened"));
        assert!(prints("Unsupported mapping found %016lx-%016lx", "Unsupported mapping found 00007f00-00008000"));
        assert!(prints("err %d/%d", "err -1/1"));
        assert!(prints("state %c, err", "state S, err"));
        assert!(prints("%s isn't mount", "devpts isn't mount"));
        assert!(prints("%s of %s of %s", "a of b of c of d"));
        assert!(prints("100%", "100") && prints("ends in %", "ends in "));
    }

    /// A reader of CRIU's sources has the format, not what it prints.
    #[test]
    fn every_text_of_the_rules_prints_itself() {
        for rule in registry::RULES {
            for text in of(rule).filter_map(|t| t.text) {
                assert!(prints(text, text), "{}: {text}", rule.id);
            }
        }
    }

    #[test]
    fn a_format_is_found_within_a_text() {
        let pattern = Pattern::new("Found dangling tty with sid %d");
        assert!(pattern.is_in("criu: Found dangling tty with sid 12 pgid 12") && !pattern.is_in("Found dangling tty"));
        assert_eq!(pattern.fixed(), "Found dangling tty with sid ".len());
        // Not in the square of the length.
        let long = "1".repeat(200_000);
        assert!(!Pattern::new("%d %s %d!").is_in(&long));
        assert!(!Pattern::new("%s %s %d!").is_in(&format!("{long} {long}")));
    }

    #[test]
    fn a_note_stands_before_the_text_or_in_its_place() {
        let text = |quoted| CriuText::parse(quoted).wording(|text| format!("'{text}'"));
        assert_eq!(text("{4.3} failed: {x}"), "'failed: {x}' (4.3)");
        assert_eq!(text("failed"), "'failed'");
        assert_eq!(text("{no text}"), "no text");
    }
}
