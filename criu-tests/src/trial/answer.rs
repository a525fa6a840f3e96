//! The answer that settles it, done to the letter: a second dump with the options that the report of a refused one names.

use super::{broken, Outcome, Report};
use crate::criu::Criu;
use crate::fixtures::Fixture;
use std::collections::BTreeSet;
use std::path::Path;

/// Dumps the tree once more with what the report names. It passes if nothing was to remain, else it is refused by what was.
pub(super) fn follow(
    f: &Fixture,
    criu: &Criu,
    plugin: &Path,
    dir: &Path,
    pid: i32,
    opts: &[String],
    report: &Report,
) -> Result<(), Outcome> {
    let Some(answer) = report.answer() else { return Ok(()) };
    let mut args = vec!["-t".to_string(), pid.to_string()];
    args.extend(opts.iter().cloned());
    args.extend(answer.options.iter().cloned());
    let ran = criu.run("dump", dir, plugin, &args, f.run_as).map_err(broken)?;
    let second = Report::of(&dir.join("work/preflight.json"), &ran.log).map_err(broken)?;
    let refused: BTreeSet<&str> = second.refused_rules();
    let said: BTreeSet<&str> = answer.remain.iter().map(String::as_str).collect();
    let given = answer.options.join(" ");
    if refused != said && (answer.certain || !said.is_subset(&refused)) {
        return Err(broken(format!("with {given} {said:?} were to remain, and {refused:?} refuse")));
    }
    match ran.ok {
        false if said.is_empty() && answer.certain => {
            Err(broken(format!("with {given} nothing was to remain, and CRIU fails: {}", ran.reason())))
        }
        true if !said.is_empty() => Err(broken(format!("with {given} {said:?} were to remain, and CRIU dumps it"))),
        _ => Ok(()),
    }
}
