//! The few operations on byte text that all the parsers share. None of them can fail otherwise than by `None`.
use crate::bytes::Bytes;

/// The lines of a /proc file. The newline after the last line opens no further one.
pub(crate) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.strip_suffix(b"\n").unwrap_or(text).split(|&b| b == b'\n').filter(|line| !line.is_empty())
}

/// The fields of a line, separated by runs of blanks and tabs.
pub(crate) fn fields(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|&b| b == b' ' || b == b'\t').filter(|field| !field.is_empty())
}

/// The bytes before the first `separator` and those after it.
pub(crate) fn split_once(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|&b| b == separator)?;
    let (head, tail) = text.split_at_checked(at)?;
    Some((head, tail.get(1..)?))
}

/// One blank-ended field off the front, without the blanks before it: (field, rest with its leading blanks).
pub(crate) fn take_field(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = trim_start(text);
    let end = text.iter().position(|&b| b == b' ' || b == b'\t').unwrap_or(text.len());
    if end == 0 {
        return None;
    }
    text.split_at_checked(end)
}

/// `text` without leading blanks and tabs.
pub(crate) fn trim_start(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    text
}

/// `text` without blanks and tabs at either end.
pub(crate) fn trim(text: &[u8]) -> &[u8] {
    let mut text = trim_start(text);
    while let [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// An integer type [`number`] can make.
pub(crate) trait Number: Sized {
    fn from_radix(text: &str, radix: u32) -> Option<Self>;
}

macro_rules! number {
    ($($t:ty)*) => {$(
        impl Number for $t {
            fn from_radix(text: &str, radix: u32) -> Option<Self> {
                <$t>::from_str_radix(text, radix).ok()
            }
        }
    )*};
}
number!(u8 u16 u32 u64 usize i32 i64);

/// A whole field as a number; `None` if it is anything else (a sign that is not a minus, an overflow, a byte too many).
pub(crate) fn number<T: Number>(field: &[u8], radix: u32) -> Option<T> {
    match field.first() {
        None | Some(b'+') => None,
        Some(_) => T::from_radix(std::str::from_utf8(field).ok()?, radix),
    }
}

/// [`number`] in base 10.
pub(crate) fn dec<T: Number>(field: &[u8]) -> Option<T> {
    number(field, 10)
}

/// [`number`] in base 16, without a `0x`.
pub(crate) fn hex<T: Number>(field: &[u8]) -> Option<T> {
    number(field, 16)
}

/// Undoes the kernel's `\ooo` (`mangle_path()` and `seq_escape()`, fs/seq_file.c). Anything else stays as it is.
pub(crate) fn unescape_octal(text: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        match rest {
            &[b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ref tail @ ..] => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = tail;
            }
            _ => {
                out.push(first);
                rest = tail;
            }
        }
    }
    Bytes(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_whole_fields() {
        assert_eq!(dec::<i64>(b"-1"), Some(-1));
        assert_eq!(hex::<u64>(b"fe00"), Some(0xfe00));
        for odd in [&b""[..], b"+1", b" 1", b"1 ", b"-1", b"0x1", b"99999999999999999999", b"\xff"] {
            assert_eq!(dec::<u64>(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn octal() {
        assert_eq!(&*unescape_octal(br"/a\040b\134\012\043"), b"/a b\\\n#");
        assert_eq!(&*unescape_octal(br"\04\400\\040"), b"\\04\\400\\ ");
    }

    #[test]
    fn fields_and_lines() {
        assert_eq!(lines(b"a\n\nb\n").collect::<Vec<_>>(), [b"a", b"b"]);
        assert_eq!(lines(b"").count(), 0);
        assert_eq!(take_field(b"  ab cd "), Some((&b"ab"[..], &b" cd "[..])));
        assert_eq!(take_field(b"  "), None);
        assert_eq!(trim(b" \ta b \t"), b"a b");
        assert_eq!(split_once(b"a::b", b':'), Some((&b"a"[..], &b":b"[..])));
    }
}
