//! timerfd descriptors.

use crate::rules::{Evidence, Finding, Phase, Remedy, Rule, Value, Versions, When};

pub(crate) static TIMERFD_CLOCK: Rule = Rule {
    id: "timerfd-clock",
    summary: "A timer that wakes the machine from sleep (CLOCK_BOOTTIME_ALARM).",
    group: "Event files",
    condition: "A timerfd of another clock than CLOCK_REALTIME, CLOCK_MONOTONIC and CLOCK_BOOTTIME: one that wakes the machine \
           (CLOCK_REALTIME_ALARM, CLOCK_BOOTTIME_ALARM).",
    message: "timerfd of {clock}, a clock that CRIU does not know",
    criu: &["Unknown clock type %d for %#x"],
    source: "criu/include/timerfd.h:verify_timerfd",
    versions: Versions::All,
    remedies: &[Remedy::Workload(
        "have the program use CLOCK_REALTIME or CLOCK_BOOTTIME (a systemd timer: WakeSystem=no), or close it before the dump",
    )],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for (task, file) in ctx.files() {
            let Some(timer) = file.info.as_ref().and_then(|i| i.timerfd.as_ref()) else { continue };
            if [libc::CLOCK_REALTIME, libc::CLOCK_MONOTONIC, libc::CLOCK_BOOTTIME].contains(&timer.clockid) {
                continue;
            }
            let f = Finding::on_file(rule, task, file).key(format!("timerfd:{}:{}", task.pid, file.origin));
            let f = match timer.clockid {
                libc::CLOCK_REALTIME_ALARM => f.term("clock", "CLOCK_REALTIME_ALARM"),
                libc::CLOCK_BOOTTIME_ALARM => f.term("clock", "CLOCK_BOOTTIME_ALARM"),
                n => f.fact("clock", Value::Num(i64::from(n))),
            };
            sink.push(f);
        }
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::fdinfo::{FdInfo, TimerFd};
    use crate::rules::testkit::*;

    #[test]
    fn clocks_that_wake_the_machine() {
        let on = |clockid| {
            let mut f = file(3, 0, 9);
            f.info = Some(Box::new(FdInfo {
                timerfd: Some(TimerFd { clockid, ..TimerFd::default() }),
                ..FdInfo::default()
            }));
            verdict(&TIMERFD_CLOCK, &snap(vec![f]), &host())
        };
        for known in [libc::CLOCK_REALTIME, libc::CLOCK_MONOTONIC, libc::CLOCK_BOOTTIME] {
            assert_eq!(on(known), None);
        }
        for other in [libc::CLOCK_REALTIME_ALARM, libc::CLOCK_BOOTTIME_ALARM, 11] {
            assert_eq!(on(other), Some(crate::rules::Verdict::Refuse));
        }
    }
}
