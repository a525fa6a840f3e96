//! What is printed, and what it adds up to.

use crate::judge::{sign_test, Sides, CHANCE};

pub enum Outcome {
    Done { sides: Box<Sides>, wrong: Vec<String> },
    Broken(String),
    Skipped(String),
}

#[derive(Default)]
pub struct Totals {
    passed: usize,
    failed: usize,
    skipped: usize,
    pairs: usize,
    alone: [usize; 2],
    with: [usize; 3],
    /// Pairs of which only the dump alone, and only the one with the plugin, was not made: of the kinds on this CRIU that agree.
    one_failed: [usize; 2],
}

impl Totals {
    pub fn add(&mut self, name: &str, outcome: Outcome) {
        match outcome {
            Outcome::Skipped(why) => {
                self.skipped += 1;
                println!("{name}: skipped: {why}");
            }
            Outcome::Broken(why) => {
                self.failed += 1;
                println!("{name}: FAILED: {why}");
            }
            Outcome::Done { sides, wrong } => {
                let Sides { alone, with, one_failed } = *sides;
                let count = if wrong.is_empty() { &mut self.passed } else { &mut self.failed };
                *count += 1;
                if wrong.is_empty() {
                    self.one_failed[0] += one_failed[0];
                    self.one_failed[1] += one_failed[1];
                }
                self.pairs += with.dumps;
                self.alone[0] += alone.made;
                self.alone[1] += alone.dumps - alone.made;
                self.with[0] += with.made;
                self.with[1] += with.dumps - with.made - with.refused;
                self.with[2] += with.refused;
                println!("{name}: {} pairs{}", with.dumps, if wrong.is_empty() { "" } else { ": FAILED" });
                println!("    alone, {}: {}", alone.dumps, alone.summary());
                println!("    with, {}: {}", with.dumps, with.summary());
                wrong.iter().for_each(|w| println!("    {w}"));
            }
        }
    }

    /// All kinds on one CRIU together: a bias that is too small to be seen in any.
    pub fn together(&mut self, version: &str) {
        let [alone, with] = std::mem::take(&mut self.one_failed);
        if alone + with == 0 {
            return;
        }
        let chance = sign_test(with, alone);
        let (count, failed) = match chance < CHANCE {
            true => (&mut self.failed, ": FAILED"),
            false => (&mut self.passed, ""),
        };
        *count += 1;
        println!(
            "{version}::together: pairs with one dump not made: alone {alone}, with {with} (p = {chance:.2e}){failed}"
        );
    }

    /// Whether there was a disagreement.
    pub fn tell(&self) -> bool {
        let ([made, failed], [ours_made, ours_failed, refused]) = (self.alone, self.with);
        println!(
            "{} pairs; alone: {made} made, {failed} failed; with: {ours_made} made, {ours_failed} failed, {refused} refused",
            self.pairs
        );
        println!("{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped);
        self.failed > 0
    }
}
