//! The huge page mounts that CRIU has got to know (`kdat.hugetlb_dev`, criu/kerndat.c).
//!
//! CRIU maps a huge page of each size to learn on which device the kernel keeps them. If none is free then, it does not
//! know that device, and takes what lies on it for an ordinary file. What it knows may also be from its cache, so only its
//! memory tells.

use crate::criu::{safe_read as mem, symbols};

/// `HUGETLB_MAX` (criu/include/hugetlb.h): 16 KiB, 64 KiB, 512 KiB, 1 MiB, 2 MiB, 8, 16, 32, 256, 512 MiB, 1, 2, 16 GiB.
const SIZES: usize = 13;
/// Those an x86-64 kernel may have.
const SIZE_2M: usize = 4;
const SIZE_1G: usize = 10;
const UNSUPPORTED: u64 = u64::MAX;
/// More than the object has ever had.
const MAX_WORDS: usize = 512;

/// The device numbers, as stat shows them; `None`: not found.
pub(crate) fn known(kdat: Option<symbols::Object>) -> Option<Vec<u64>> {
    let kdat = kdat?;
    let count = (kdat.size? / 8).min(MAX_WORDS);
    let mut bytes = vec![0; count.checked_mul(8)?];
    mem::read(kdat.addr, &mut bytes)?;
    let words = bytes.chunks_exact(8).filter_map(|word| Some(u64::from_ne_bytes(word.try_into().ok()?)));
    find(&words.collect::<Vec<_>>())
}

/// The array has no place that is known for sure, but a look of its own: eleven sizes that x86-64 does not have.
fn find(words: &[u64]) -> Option<Vec<u64>> {
    if !cfg!(target_arch = "x86_64") {
        return None;
    }
    let is_it = |w: &&[u64]| {
        let odd = |(i, _): &(usize, &u64)| !matches!(*i, SIZE_2M | SIZE_1G);
        w.iter().enumerate().filter(odd).all(|(_, dev)| *dev == UNSUPPORTED)
    };
    let found = words.windows(SIZES).find(is_it)?;
    let dev = |i: usize| found.get(i).copied().filter(|d| !matches!(*d, 0 | UNSUPPORTED));
    Some([SIZE_2M, SIZE_1G].into_iter().filter_map(dev).collect())
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn by_its_look() {
        let no = UNSUPPORTED;
        let array = |two: u64, one: u64| [no, no, no, no, two, no, no, no, no, no, one, no, no];
        let object = |two, one| [&[1, 0, 27, no, 5][..], &array(two, one), &[0, 1, no]].concat();
        assert_eq!(find(&object(17, 0)), Some(vec![17]));
        assert_eq!(find(&object(17, 18)), Some(vec![17, 18]));
        assert_eq!(find(&object(0, 0)), Some(vec![]));
        assert_eq!(find(&object(17, no)), Some(vec![17]));
        assert_eq!(find(&[0; 100]), None);
        assert_eq!(find(&[no; 12]), None);
    }
}
