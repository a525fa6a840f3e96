//! Whether tasks stood still between two looks: by the kernel's count of how often each thread has gone to sleep.
//!
//! A thread that sleeps (or is stopped, or dead) in both looks and has not gone to sleep once more in between did not run.
//! Of a task whose threads are all like that, everything the first look saw after its status was read is of one moment with
//! what it saw of other such tasks.

use crate::snapshot::{Snapshot, Task, Thread};
use std::collections::HashMap;

/// What stood still from one look to the next.
#[derive(Debug, Default)]
pub(crate) struct Still {
    /// Tasks none of whose threads ran, by pid and start time.
    tasks: std::collections::HashSet<(i32, u64)>,
    /// The same tasks were there, in the same order.
    same_tasks: bool,
    /// And none of them ran.
    all: bool,
}

impl Still {
    pub(crate) fn between(first: &Snapshot, second: &Snapshot) -> Still {
        let id = |t: &Task| (t.pid, t.start_time);
        let before: HashMap<(i32, u64), &Task> = first.tasks.iter().map(|t| (id(t), t)).collect();
        let slept = |t: &&Task| before.get(&id(t)).is_some_and(|was| sleeps_on(was, t));
        let tasks: std::collections::HashSet<_> = second.tasks.iter().filter(slept).map(id).collect();
        let same_tasks = first.tasks.iter().map(id).eq(second.tasks.iter().map(id));
        let all = same_tasks && tasks.len() == second.tasks.len();
        Still { tasks, same_tasks, all }
    }

    /// This process did not run.
    pub(crate) fn task(&self, pid: i32, start_time: u64) -> bool {
        self.tasks.contains(&(pid, start_time))
    }

    /// No task has come or gone.
    pub(crate) fn same_tasks(&self) -> bool {
        self.same_tasks
    }

    /// No task of the tree ran, and none came or went.
    pub(crate) fn tree(&self) -> bool {
        self.all
    }
}

fn sleeps_on(was: &Task, is: &Task) -> bool {
    let asleep = |t: &Thread| matches!(t.state, 'S' | 'D' | 'T' | 't' | 'Z' | 'X');
    let same = |(a, b): (&Thread, &Thread)| {
        (a.tid, a.state) == (b.tid, b.state) && asleep(a) && a.switches.is_some() && a.switches == b.switches
    };
    was.threads.len() == is.threads.len() && was.threads.iter().zip(&is.threads).all(same)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testkit;

    #[test]
    fn a_thread_that_has_gone_to_sleep_once_more_has_run() {
        let mut first = testkit::snap(Vec::new());
        first.tasks.push(testkit::task(101));
        for t in first.tasks.iter_mut().flat_map(|t| &mut t.threads) {
            t.switches = Some(7);
        }
        let between = |change: fn(&mut Snapshot)| {
            let mut second = first.clone();
            change(&mut second);
            let still = Still::between(&first, &second);
            (still.task(100, 1000), still.task(101, 1000), still.same_tasks(), still.tree())
        };
        assert_eq!(between(|_| ()), (true, true, true, true));
        assert_eq!(between(|s| s.tasks[1].threads[0].switches = Some(8)), (true, false, true, false));
        assert_eq!(between(|s| s.tasks[1].threads[0].switches = None), (true, false, true, false));
        assert_eq!(between(|s| s.tasks[0].threads[0].state = 'R'), (false, true, true, false));
        assert_eq!(between(|s| s.tasks[1].threads.push(Thread::default())), (true, false, true, false));
        // Another process with the same number.
        assert_eq!(between(|s| s.tasks[1].start_time = 1001), (true, false, false, false));
        assert_eq!(between(|s| drop(s.tasks.pop())), (true, false, false, false));
        assert_eq!(between(|s| s.tasks.swap(0, 1)), (true, true, false, false));
        assert_eq!(between(|s| s.tasks.push(testkit::task(102))), (true, true, false, false));
    }
}
