//! The documents that are made from the rules: `docs/rules.md`, `docs/inventory.md` and the list of families in the README.

use crate::report::docs::sorted;
use crate::report::markdown::{anchor, wrapped};
use crate::rules::Rule;

/// Start and end of the part of the README that is made here.
const README_MARKS: (&str, &str) = ("<!-- rules: made by UPDATE_DOCS=1 -->\n", "<!-- /rules -->");

/// The list of the README: the families of rules, and how many each has.
fn readme_families(rules: &[&Rule]) -> String {
    let sorted = sorted(rules);
    let mut groups: Vec<&str> = sorted.iter().map(|r| r.group).collect();
    groups.dedup();
    let families = groups.iter().map(|group| {
        let count = sorted.iter().filter(|r| r.group == *group).count();
        // In one piece, whatever blanks are in it.
        format!("[{group}](docs/rules.md#{}) ({count})", anchor(group)).replace(' ', "\u{1}")
    });
    let mut out = format!("{} rules in {} families:\n\n", rules.len(), groups.len());
    wrapped(&mut out, "", &format!("{}.", families.collect::<Vec<_>>().join(", ")));
    out.replace('\u{1}', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{PTS, UNIX};
    use crate::report::{examples, rules_page};
    use crate::rules::registry;
    use expect_test::expect;

    #[test]
    fn the_families() {
        expect![[r#"
            2 rules in 1 families:

            [Made up](docs/rules.md#made-up) (2).
        "#]]
        .assert_eq(&readme_families(&[&UNIX, &PTS]));
    }

    #[test]
    fn a_summary_is_one_short_sentence_of_its_own() {
        for (i, rule) in registry::RULES.iter().enumerate() {
            let s = rule.summary;
            assert!(
                s.len() <= 120 && s.ends_with('.') && !s.contains(". ") && !s.contains(['`', '\n']),
                "{}: {s}",
                rule.id
            );
            assert!(registry::RULES.iter().take(i).all(|r| r.summary != s), "{}: not its own", rule.id);
        }
    }

    /// The committed documentation is what the registered rules say. `UPDATE_DOCS=1` writes it.
    #[test]
    fn docs_are_current() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let update = std::env::var_os("UPDATE_DOCS").is_some();
        let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
        let (start, end) = README_MARKS;
        let (before, rest) = readme.split_once(start).expect("the README has the mark where the list of rules starts");
        let (_, after) = rest.split_once(end).expect("the README has the mark where the list of rules ends");
        let new_readme = format!("{before}{start}{}{end}{after}", readme_families(registry::RULES));
        let pages = [
            ("docs/rules.md", rules_page::page(registry::RULES, &examples::all())),
            ("docs/inventory.md", crate::report::inventory_page::page(registry::RULES)),
            ("README.md", new_readme),
        ];
        for (name, new) in pages {
            let path = root.join(name);
            if update {
                std::fs::write(&path, &new).unwrap();
            }
            let old = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(
                old == new,
                "{name} is not what the rules say: run `UPDATE_DOCS=1 cargo test --lib docs_are_current`"
            );
        }
    }
}
