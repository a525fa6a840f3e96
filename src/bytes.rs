//! Bytes that came from the tree: names that are text only by custom.
//!
//! A comm, a path or a socket name may hold any byte (`fs/namei.c` forbids only NUL and `/` in a component, abstract
//! socket names not even those). [`Bytes`] keeps them as they are, prints them harmlessly and stores them without loss.
use serde::{de::Error as _, Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// An owned byte string without any promise about its content.
///
/// In JSON: a string when it is valid UTF-8, otherwise `{"hex": "..."}`.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub Vec<u8>);

impl Bytes {
    /// The text for a log line or a terminal: see [`escape`].
    pub(crate) fn escaped(&self) -> String {
        escape(&self.0)
    }
}

/// Makes any bytes printable on one line: the result holds no control character (C0, DEL, C1), no character that turns
/// or breaks a line (bidirectional controls, U+2028, U+2029) and no lone backslash, so that two different inputs never
/// look the same.
///
/// `\n`, `\t`, `\r` and `\\` have their short forms, other bytes below 0x80 and bytes that are not UTF-8 are `\xNN`,
/// other characters `\u{N}`.
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' => out.push_str("\\n"),
                '\t' => out.push_str("\\t"),
                '\r' => out.push_str("\\r"),
                '\\' => out.push_str("\\\\"),
                c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
                c if c.is_control() || turns_text(c) => out.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// Characters that make a terminal show a line in another order or on another line than it was written.
fn turns_text(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

impl std::ops::Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl std::borrow::Borrow<[u8]> for Bytes {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Bytes(bytes.to_vec())
    }
}

impl<const N: usize> From<&[u8; N]> for Bytes {
    fn from(bytes: &[u8; N]) -> Self {
        Bytes(bytes.to_vec())
    }
}

impl From<&str> for Bytes {
    fn from(text: &str) -> Self {
        Bytes(text.as_bytes().to_vec())
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes(bytes)
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.escaped())
    }
}

/// Same as [`Bytes::escaped`].
impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.escaped())
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Stored<'a> {
    Text(std::borrow::Cow<'a, str>),
    Raw { hex: String },
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => Stored::Text(text.into()),
            Err(_) => Stored::Raw { hex: to_hex(&self.0) },
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Stored::deserialize(deserializer)? {
            Stored::Text(text) => Ok(Bytes(text.into_owned().into_bytes())),
            Stored::Raw { hex } => from_hex(hex.as_bytes()).map(Bytes).ok_or_else(|| D::Error::custom("odd hex text")),
        }
    }
}

/// Lower-case hex digits, two a byte.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The reverse of [`to_hex`]; `None` for an odd number of digits or anything that is no digit.
pub(crate) fn from_hex(digits: &[u8]) -> Option<Vec<u8>> {
    let nibble = |d: u8| char::from(d).to_digit(16).and_then(|n| u8::try_from(n).ok());
    let pair = |pair: &[u8]| match *pair {
        [high, low] => Some(nibble(high)? << 4 | nibble(low)?),
        _ => None,
    };
    digits.chunks(2).map(pair).collect()
}

/// The last component of a path.
pub(crate) fn file_name(path: &[u8]) -> &[u8] {
    path.rsplit(|b| *b == b'/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escapes_what_could_break_a_line_or_a_terminal() {
        for (raw, text) in [
            (&b"plain /path-1"[..], "plain /path-1"),
            (b"a\nb\tc\rd\\n", "a\\nb\\tc\\rd\\\\n"),
            (b"\x1b[31m\x00\x7f", "\\x1b[31m\\x00\\x7f"),
            (b"\xff\xc3(", "\\xff\\xc3("),
            ("\u{85}\u{9b}".as_bytes(), "\\u{85}\\u{9b}"),
            ("x\u{202e}y\u{2066}\u{2028}".as_bytes(), "x\\u{202e}y\\u{2066}\\u{2028}"),
            ("grün 漢字".as_bytes(), "grün 漢字"),
        ] {
            assert_eq!(Bytes::from(raw).escaped(), text);
        }
    }

    #[test]
    fn json_is_a_string_or_hex() {
        let json = |b: &[u8]| serde_json::to_string(&Bytes::from(b)).unwrap();
        assert_eq!(json(b"a\n\"b"), r#""a\n\"b""#);
        assert_eq!(json(b"\xff\x00"), r#"{"hex":"ff00"}"#);
        assert!(serde_json::from_str::<Bytes>(r#"{"hex":"f"}"#).is_err());
        assert!(serde_json::from_str::<Bytes>(r#"{"hex":"+f"}"#).is_err());
    }

    proptest! {
        #[test]
        fn json_keeps_every_byte(raw: Vec<u8>) {
            let bytes = Bytes(raw);
            let json = serde_json::to_vec(&bytes).unwrap();
            prop_assert_eq!(serde_json::from_slice::<Bytes>(&json).unwrap(), bytes);
        }

        #[test]
        fn escaped_text_is_one_harmless_line(raw: Vec<u8>, bidi in "[\\u{202a}-\\u{202e}\\u{2066}-\\u{2069}\\u{80}-\\u{9f}]{0,3}") {
            let text = escape(&[raw.as_slice(), bidi.as_bytes()].concat());
            prop_assert!(!text.chars().any(|c| c.is_control() || turns_text(c)), "{text:?}");
        }

        #[test]
        fn different_bytes_look_different(a in "[\\\\xn0a\\n]{0,6}", b in "[\\\\xn0a\\n]{0,6}") {
            prop_assert_eq!(a == b, escape(a.as_bytes()) == escape(b.as_bytes()));
        }
    }
}
