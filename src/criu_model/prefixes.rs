//! Whether a path lies below one of many.

/// A set of byte strings, asked whether one of them begins another. Of those that begin each other only the shortest is
/// kept: then the greatest that is not above a text is the only one that can begin it.
#[derive(Default)]
pub(crate) struct Prefixes(Vec<Vec<u8>>);

impl Prefixes {
    pub(crate) fn of(texts: impl Iterator<Item = Vec<u8>>) -> Prefixes {
        let mut all: Vec<Vec<u8>> = texts.collect();
        all.sort_unstable();
        all.dedup_by(|later, kept| later.starts_with(kept));
        Prefixes(all)
    }

    /// Directories, for [`Prefixes::shortest`] with the [`as_directory`] of a path.
    pub(crate) fn of_directories<'a>(paths: impl Iterator<Item = &'a [u8]>) -> Prefixes {
        Prefixes::of(paths.map(as_directory))
    }

    /// The shortest that the text begins with.
    pub(crate) fn shortest(&self, text: &[u8]) -> Option<&[u8]> {
        let above = self.0.partition_point(|p| p.as_slice() <= text);
        let last = self.0.get(above.checked_sub(1)?)?;
        text.starts_with(last).then_some(last)
    }

    /// Whether the path is one of the directories, or below one.
    pub(crate) fn hold(&self, path: &[u8]) -> bool {
        !self.0.is_empty() && self.shortest(&as_directory(path)).is_some()
    }
}

/// A path with one slash at its end, so that one begins another only at the end of a name.
pub(crate) fn as_directory(path: &[u8]) -> Vec<u8> {
    [path.strip_suffix(b"/").unwrap_or(path), b"/"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::criu_model::mounts::is_sub_path;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn as_one_by_one(paths in prop::collection::vec("(/[ab-]{1,2}){0,3}|/", 0..8), path in "(/[ab-]{1,2}){0,4}|/|x:a") {
            let all = || paths.iter().map(String::as_bytes);
            let path = path.as_bytes();
            prop_assert_eq!(Prefixes::of_directories(all()).hold(path), all().any(|p| is_sub_path(path, p)));
            let raw = Prefixes::of(all().map(<[u8]>::to_vec));
            let shortest = all().filter(|p| path.starts_with(p)).min_by_key(|p| p.len());
            prop_assert_eq!(raw.shortest(path), shortest);
        }
    }
}
