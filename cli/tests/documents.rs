//! The manual page and the settings file say what the code does, the packages have its version, and the documents' links lead
//! somewhere.

use criu_preflight::config::{apply_file, Config, ReportFile, NAMES};

fn read(path: &str) -> String {
    let path = format!("{}/../{path}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

#[test]
fn the_settings_file_names_every_setting_and_its_default() {
    let text = read("packaging/preflight.conf");
    assert!(text.lines().all(|l| l.is_empty() || l.starts_with('#')), "it sets something");
    let mut without_hash = String::new();
    for name in NAMES {
        let line = text.lines().find(|l| l.strip_prefix('#').is_some_and(|l| l.starts_with(&format!("{name} "))));
        let line = line.unwrap_or_else(|| panic!("{name} is not there"));
        if !line.contains("RULE") {
            without_hash.push_str(&line[1..]);
            without_hash.push('\n');
        }
    }
    let mut config = Config { report: ReportFile::Never, early: false, syslog: false, ..Config::default() };
    config.mode = criu_preflight::config::Mode::Off;
    assert_eq!(apply_file(&mut config, without_hash.as_bytes()), []);
    assert_eq!(config, Config::default());
}

#[test]
fn the_manual_page_names_every_setting_and_its_variable() {
    let page = read("docs/criu-preflight.7");
    for name in NAMES {
        assert!(page.contains(&format!("\n.It Cm {name} ")), "{name}");
        assert!(page.contains(&format!("CRIU_PREFLIGHT_{}", name.replace('-', "_").to_ascii_uppercase())), "{name}");
    }
}

#[test]
fn packages_have_the_version_of_the_project() {
    let version = env!("CARGO_PKG_VERSION");
    assert!(read("Cargo.toml").contains(&format!("\nversion = \"{version}\"\n")), "Cargo.toml");
    assert!(read("debian/changelog").starts_with(&format!("criu-preflight ({version}-")), "debian/changelog");
    let spec = read("packaging/criu-preflight.spec");
    assert!(spec.lines().any(|l| l.strip_prefix("Version:").is_some_and(|v| v.trim() == version)), "the spec file");
}

/// The anchors of a page: of its headings, as a page of a repository is shown, and those written out.
fn anchors(page: &str) -> Vec<String> {
    let heading = |line: &str| {
        let text = line.trim_start_matches('#').trim().to_lowercase();
        let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    let headings = page.lines().filter(|line| line.starts_with('#')).map(heading);
    let written = page.split("<a id=\"").skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned);
    headings.chain(written).collect()
}

#[test]
fn links_between_the_documents_lead_somewhere() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut links = 0;
    for dir in [root.to_owned(), root.join("docs")] {
        let pages = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
        for page in pages.filter(|path| path.extension().is_some_and(|e| e == "md")) {
            let text = std::fs::read_to_string(&page).unwrap();
            for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
                if link.contains("://") {
                    continue;
                }
                let target = if file.is_empty() { page.clone() } else { dir.join(file) };
                let there = std::fs::read_to_string(&target).unwrap_or_else(|e| panic!("{page:?}: {link}: {e}"));
                assert!(anchor.is_empty() || anchors(&there).iter().any(|a| a == anchor), "{page:?}: no {link}");
                links += 1;
            }
        }
    }
    assert!(links > 50, "{links}");
}
