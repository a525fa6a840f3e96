//! Sorting and grouping by an order that is asked for pair by pair, and may be denied: kcmp(2) orders what two tasks have, and
//! either may have ended. An order that breaks in the middle must not be handed to `sort_by`, which may panic then.
//!
//! n things take no more than n log n questions.

use crate::scan::Seen;
use std::cmp::Ordering;

/// Things grouped by being one and the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grouped<T> {
    /// Each group in the order of the input, groups in the order of their first members.
    pub groups: Vec<Vec<T>>,
    /// What could not be compared, with the errno. What has ended is left out without a word.
    pub denied: Vec<(T, i32)>,
}

/// Groups by equality.
pub(crate) fn group<T: Copy>(items: &[T], order: impl Fn(&T, &T) -> Seen<Ordering>) -> Grouped<T> {
    let numbered: Vec<(usize, T)> = items.iter().copied().enumerate().collect();
    let Sorted { mut groups, denied } = sort(&numbered, |(_, a), (_, b)| order(a, b));
    groups.sort_by_key(|group| group.first().map(|(nth, _)| *nth));
    let plain = |(_, item): (usize, T)| item;
    Grouped {
        groups: groups.into_iter().map(|group| group.into_iter().map(plain).collect()).collect(),
        denied: denied.into_iter().map(|((_, item), errno)| (item, errno)).collect(),
    }
}

/// Things in ascending order, those that are the same in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sorted<T> {
    /// Each group in the order of the input.
    pub groups: Vec<Vec<T>>,
    /// See [`Grouped::denied`].
    pub denied: Vec<(T, i32)>,
}

impl<T> Sorted<T> {
    /// Which group is the one sought, by how its members compare with that; log n questions. `Err`: that could not be found
    /// out, because a group on the way has no member that can be compared.
    pub(crate) fn find(&self, order: impl Fn(&T) -> Seen<Ordering>) -> Result<Option<usize>, Seen<()>> {
        let (mut low, mut high) = (0, self.groups.len());
        while low < high {
            let middle = low.midpoint(high);
            let members = self.groups.get(middle).into_iter().flatten();
            let mut failed = Seen::Gone;
            let answer = members.map(&order).find_map(|answer| match answer {
                Seen::Seen(order) => Some(order),
                other => {
                    failed = other.map(drop);
                    None
                }
            });
            match answer.ok_or(failed)? {
                Ordering::Equal => return Ok(Some(middle)),
                Ordering::Less => low = middle.saturating_add(1),
                Ordering::Greater => high = middle,
            }
        }
        Ok(None)
    }
}

/// Things that come one after another, each placed among those before it.
#[derive(Clone, Debug)]
pub(crate) struct Placed<T>(Vec<Vec<T>>);

impl<T> Default for Placed<T> {
    fn default() -> Self {
        Placed(Vec::new())
    }
}

impl<T: Copy> Placed<T> {
    /// The first of those before that is the same; log n questions. Otherwise it is the first of its kind.
    pub(crate) fn meet(&mut self, item: &T, order: impl Fn(&T, &T) -> Seen<Ordering>) -> Seen<Option<T>> {
        let groups = &mut self.0;
        let (mut low, mut high) = (0, groups.len());
        // Who is alone is not compared with anybody, and may be gone all the same.
        if groups.is_empty() {
            match order(item, item) {
                Seen::Seen(_) => {}
                other => return other.map(|_| None),
            }
        }
        while low < high {
            let middle = low.midpoint(high);
            let Some(other) = groups.get(middle).and_then(|group| group.last()) else { break };
            match order(item, other) {
                Seen::Seen(Ordering::Equal) => {
                    let Some(group) = groups.get_mut(middle) else { break };
                    group.push(*item);
                    return Seen::Seen(group.first().copied());
                }
                Seen::Seen(Ordering::Less) => high = middle,
                Seen::Seen(Ordering::Greater) => low = middle.saturating_add(1),
                // Each with itself tells which of them it is.
                failed => match (order(item, item), order(other, other)) {
                    (Seen::Seen(_), Seen::Seen(_)) => return failed.map(|_| None),
                    // That member has ended: forget it, and look again among what is left.
                    (Seen::Seen(_), _) => {
                        if let Some(group) = groups.get_mut(middle) {
                            group.pop();
                            if group.is_empty() {
                                groups.remove(middle);
                            }
                        }
                        (low, high) = (0, groups.len());
                    }
                    (item_failed, _) => return item_failed.map(|_| None),
                },
            }
        }
        groups.insert(low.min(groups.len()), vec![*item]);
        Seen::Seen(None)
    }
}

/// A merge sort from below: of what is the same only one is compared further.
pub(crate) fn sort<T: Copy>(items: &[T], order: impl Fn(&T, &T) -> Seen<Ordering>) -> Sorted<T> {
    let mut denied = Vec::new();
    let mut runs: Vec<Vec<Vec<T>>> = items.iter().map(|item| vec![vec![*item]]).collect();
    while runs.len() > 1 {
        let mut merged = Vec::with_capacity(runs.len().div_ceil(2));
        let mut pairs = runs.into_iter();
        while let Some(left) = pairs.next() {
            merged.push(match pairs.next() {
                Some(right) => merge(left, right, &order, &mut denied),
                None => left,
            });
        }
        runs = merged;
    }
    let mut groups = runs.pop().unwrap_or_default();
    // One that is alone was compared with none, and may have ended all the same.
    if let [group] = groups.as_mut_slice() {
        if let [alone] = group.as_slice() {
            let alone = *alone;
            if fails(&alone, &order, &mut denied) {
                groups.clear();
            }
        }
    }
    Sorted { groups, denied }
}

fn merge<T: Copy>(
    left: Vec<Vec<T>>,
    right: Vec<Vec<T>>,
    order: &impl Fn(&T, &T) -> Seen<Ordering>,
    denied: &mut Vec<(T, i32)>,
) -> Vec<Vec<T>> {
    let mut out = Vec::with_capacity(left.len().saturating_add(right.len()));
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    while let (Some(a), Some(b)) = (left.peek_mut(), right.peek_mut()) {
        match compare(a, b, order, denied) {
            Some(Ordering::Less) => out.extend(left.next()),
            Some(Ordering::Greater) => out.extend(right.next()),
            Some(Ordering::Equal) => {
                a.append(b);
                right.next();
            }
            None => {
                left.next_if(Vec::is_empty);
                right.next_if(Vec::is_empty);
            }
        }
    }
    out.extend(left);
    out.extend(right);
    out
}

/// How two groups compare; members that cannot be compared are taken out. `None`: one of them is empty.
fn compare<T: Copy>(
    a: &mut Vec<T>,
    b: &mut Vec<T>,
    order: &impl Fn(&T, &T) -> Seen<Ordering>,
    denied: &mut Vec<(T, i32)>,
) -> Option<Ordering> {
    loop {
        let (x, y) = (*a.last()?, *b.last()?);
        let errno = match order(&x, &y) {
            Seen::Seen(answer) => return Some(answer),
            Seen::Gone => None,
            Seen::Denied(errno) => Some(errno),
        };
        // Each with itself tells which of them it is.
        let (first, second) = (fails(&x, order, denied), fails(&y, order, denied));
        if first {
            a.pop();
        }
        if second {
            b.pop();
        }
        if !first && !second {
            b.pop();
            denied.extend(errno.map(|errno| (y, errno)));
        }
    }
}

/// Whether it cannot even be compared with itself.
fn fails<T: Copy>(item: &T, order: &impl Fn(&T, &T) -> Seen<Ordering>, denied: &mut Vec<(T, i32)>) -> bool {
    match order(item, item) {
        Seen::Seen(_) => false,
        Seen::Gone => true,
        Seen::Denied(errno) => {
            denied.push((*item, errno));
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::Cell;

    /// n log2 n.
    fn limit(n: usize) -> usize {
        n * n.next_power_of_two().ilog2() as usize
    }

    #[test]
    fn no_more_than_n_log_n_questions() {
        for (n, same) in [(1000_usize, 2), (1000, 1), (16_000, 1), (16_000, 16_000), (8191, 7)] {
            let calls = Cell::new(0);
            let items: Vec<usize> = (0..n).map(|i| (i * 7919) % n).collect();
            let sorted = sort(&items, |a, b| {
                calls.set(calls.get() + 1);
                Seen::Seen((a / same).cmp(&(b / same)))
            });
            assert_eq!(sorted.groups.len(), n.div_ceil(same));
            assert!(sorted.groups.is_sorted_by_key(|group| group[0] / same));
            assert!(calls.get() <= limit(n), "{n}: {}", calls.get());
            for sought in [0, n / 2, n - 1, n * 2] {
                calls.set(0);
                let found = sorted.find(|item| {
                    calls.set(calls.get() + 1);
                    Seen::Seen((item / same).cmp(&(sought / same)))
                });
                assert_eq!(found, Ok((sought < n).then_some(sought / same)));
                assert!(calls.get() <= n.ilog2() as usize + 1);
            }
        }
        // What is all the same is asked about once each.
        let calls = Cell::new(0);
        sort(&[7; 5000], |_, _| {
            calls.set(calls.get() + 1);
            Seen::Seen(Ordering::Equal)
        });
        assert_eq!(calls.get(), 4999);
    }

    #[test]
    fn the_living_survive_endings() {
        let items: Vec<u32> = (0..1000).map(|i| (i * 7919) % 1000).collect();
        // 500 and more end after so many questions.
        for after in [0, 1, 500, 3000, 7000] {
            let calls = Cell::new(0);
            let grouped = group(&items, |a, b| {
                calls.set(calls.get() + 1);
                let gone = |i: &u32| calls.get() > after && *i >= 500;
                if gone(a) || gone(b) {
                    Seen::Gone
                } else {
                    Seen::Seen((a / 2).cmp(&(b / 2)))
                }
            });
            let below: usize = grouped.groups.iter().flatten().filter(|i| **i < 500).count();
            assert_eq!(below, 500, "no living member is lost");
            assert!(grouped.groups.iter().all(|g| g.iter().all(|i| i / 2 == g[0] / 2)));
            assert!(calls.get() < 2 * limit(1000));
        }
    }

    #[test]
    fn one_after_another() {
        let calls = Cell::new(0);
        let mut placed = Placed::default();
        for item in (0..1000).map(|i| (i * 7919) % 1000) {
            let met = placed.meet(&item, |a: &u32, b| {
                calls.set(calls.get() + 1);
                Seen::Seen((a % 500).cmp(&(b % 500)))
            });
            assert!(matches!(met, Seen::Seen(first) if first.is_none_or(|first| first % 500 == item % 500)));
        }
        assert_eq!(placed.0.len(), 500);
        assert!(placed.0.iter().all(|group| group.len() == 2));
        assert!(calls.get() <= limit(1000));
        // 501 and all above have ended.
        let order = |a: &u32, b: &u32| match a.max(b) {
            501.. => Seen::Gone,
            _ => Seen::Seen((a % 500).cmp(&(b % 500))),
        };
        for item in 0..500 {
            assert!(matches!(placed.meet(&item, order), Seen::Seen(_)));
        }
        assert_eq!(placed.meet(&777, order), Seen::Gone);
        assert_eq!(Placed::default().meet(&777, order), Seen::Gone);
    }

    #[test]
    fn who_cannot_be_compared_is_named() {
        let order = |a: &u32, b: &u32| if a.max(b) < &5 { Seen::Seen(a.cmp(b)) } else { Seen::Denied(libc::EPERM) };
        let grouped = group(&[3, 7, 1, 9, 3], order);
        assert_eq!(grouped.groups, [vec![3, 3], vec![1]]);
        assert_eq!(grouped.denied, [(7, libc::EPERM), (9, libc::EPERM)]);
        for all in [vec![6], vec![6, 7], vec![6, 7, 8], vec![6, 7, 8, 9, 10]] {
            let grouped = group(&all, order);
            assert_eq!((grouped.groups.len(), grouped.denied.len()), (0, all.len()));
        }
        assert_eq!(group(&[], order).groups, Vec::<Vec<u32>>::new());
        // Each can be compared, but not with the other.
        let order = |a: &u32, b: &u32| if a == b { Seen::Seen(Ordering::Equal) } else { Seen::Denied(libc::EIO) };
        let grouped = group(&[1, 2], order);
        assert_eq!((grouped.groups, grouped.denied), (vec![vec![1]], vec![(2, libc::EIO)]));
    }

    #[test]
    fn a_search_takes_another_member_or_says_that_it_does_not_know() {
        let sorted = sort(&[10, 11, 20, 21, 30], |a, b| Seen::Seen((a / 10).cmp(&(b / 10))));
        let find = |gone: &[i32], sought: i32| {
            sorted.find(|item| if gone.contains(item) { Seen::Gone } else { Seen::Seen((item / 10).cmp(&sought)) })
        };
        assert_eq!(find(&[20], 2), Ok(Some(1)));
        assert_eq!(find(&[20], 1), Ok(Some(0)));
        assert_eq!(find(&[20, 21], 1), Err(Seen::Gone));
        assert_eq!(find(&[], 4), Ok(None));
    }

    proptest! {
        #[test]
        fn groups_are_those_of_a_plain_search(items in prop::collection::vec(0u8..20, 0..60)) {
            let mut expected: Vec<Vec<u8>> = Vec::new();
            for item in &items {
                match expected.iter_mut().find(|group| group[0] == *item) {
                    Some(group) => group.push(*item),
                    None => expected.push(vec![*item]),
                }
            }
            prop_assert_eq!(group(&items, |a, b| Seen::Seen(a.cmp(b))).groups, expected);
        }
    }
}
