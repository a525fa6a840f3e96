use super::*;
use crate::rules::testkit::{file, snap, task};
use std::cell::Cell;

/// What is in queues, as our descriptors.
const ME: i32 = 1;

fn same<'a>(compare: &'a dyn Fn(Fd, Fd) -> Seen<Ordering>) -> impl Fn(&[Fd]) -> Result<Vec<Vec<Fd>>, i32> + 'a {
    move |fds| same_as_queued(fds, ME, compare)
}

#[test]
fn the_same_files_are_found_by_order() {
    // 2,000 eventfds of one process, all of one inode; of every tenth a duplicate lies in the queue of its first descriptor.
    const FILES: i32 = 2000;
    let mut s = snap((0..FILES).map(|fd| file(fd, 0, 7)).collect());
    let queued: Vec<OpenFile> = (0..FILES).step_by(10).map(|fd| file(fd + 10_000, 0, 7)).collect();
    let met: Vec<_> = queued.iter().map(|found| ((0, 0), found.fd().unwrap(), found)).collect();
    let calls = Cell::new(0_usize);
    let compare = |a: Fd, b: Fd| {
        calls.set(calls.get() + 1);
        Seen::Seen((a.1 % 10_000).cmp(&(b.1 % 10_000)))
    };
    let found = first_references(&s, &met, ME, same(&compare)).unwrap();
    // Number 0 itself comes before its queue.
    assert_eq!(found[0], None);
    assert!(found.iter().zip(0..).skip(1).all(|(later, nth)| *later == Some(vec![(100, nth * 10)])));
    // 200 sorted, 2,000 sought among them.
    assert!(calls.get() <= 200 * 8 + 2000 * 8, "{}", calls.get());

    // In the queue of a later process they are the first of no process.
    s.tasks.push(task(101));
    s.tasks[1].files = vec![file(3, libc::S_IFSOCK, 1)];
    let met: Vec<_> = queued.iter().map(|found| ((1, 0), found.fd().unwrap(), found)).collect();
    assert!(first_references(&s, &met, ME, same(&compare)).unwrap().iter().all(Option::is_none));
    // Nothing is said where the comparison is refused; what is closed is no match.
    assert_eq!(first_references(&s, &met, ME, same(&|_, _| Seen::Denied(libc::EPERM))), Err(libc::EPERM));
    let closed = |a: Fd, b: Fd| if a.0 == b.0 && a.0 == ME { compare(a, b) } else { Seen::Gone };
    assert!(first_references(&s, &met, ME, same(&closed)).unwrap().iter().all(|later| later.as_deref() == Some(&[])));
}

#[test]
fn what_lies_twice_in_queues_is_met_once() {
    let s = snap(vec![file(3, libc::S_IFSOCK, 1)]);
    let (a, b, other) = (file(10, 0, 7), file(11, 0, 7), file(12, 0, 7));
    let met = [((0, 0), 10, &a), ((0, 0), 12, &other), ((0, 0), 11, &b)];
    let compare = |x: Fd, y: Fd| Seen::Seen((x.1 == 12).cmp(&(y.1 == 12)));
    assert_eq!(first_references(&s, &met, ME, same(&compare)), Ok(vec![Some(vec![]), Some(vec![]), None]));
}
