//! The manual page and the settings file say what the code does.

use criu_preflight::config::{apply_file, Config, NAMES};

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
    let mut config = Config { report: false, early: false, syslog: false, ..Config::default() };
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
