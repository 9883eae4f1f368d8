//! Rules on the manifests of crates: what a registry page shows, and the shared lints.

use std::collections::BTreeSet;

/// Findings as ` what`. `files` are all files of the repository.
pub(super) fn check(name: &str, content: &str, files: &BTreeSet<&str>) -> Vec<String> {
    let Some(publish) = value(content, "package", "publish")
        .map(|value| value != "false")
        .or_else(|| value(content, "package", "name").map(|_| true))
    else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    // A crate with its own workspace, as for fuzzing, is a tool and shares nothing.
    if content.lines().any(|line| line.trim() == "[workspace]") {
        return findings;
    }
    match value(content, "package", "description") {
        Some(text) if text.trim_matches('"').len() >= 10 => {}
        _ => findings.push(" no description: say what the crate is for".to_owned()),
    }
    for field in ["license", "rust-version", "edition"] {
        if value(content, "package", field).is_none() {
            findings.push(format!(" no {field}: write `{field}.workspace = true`"));
        }
    }
    if value(content, "lints", "workspace") != Some("true") {
        findings.push(" no shared lints: write `[lints]` and `workspace = true`".to_owned());
    }
    let readme = name.replace("Cargo.toml", "README.md");
    if publish && !files.contains(readme.as_str()) {
        findings.push(" no README.md beside it: write one, or set `publish = false`".to_owned());
    }
    findings
}

/// The value of a key in a table, as written; `key.workspace = true` counts as one.
fn value<'a>(content: &'a str, table: &str, key: &str) -> Option<&'a str> {
    let mut inside = false;
    for line in content.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[') {
            inside = header.strip_suffix(']') == Some(table);
        } else if inside && let Some((name, value)) = line.split_once('=') {
            let name = name.trim();
            if name == key || name.strip_suffix(".workspace") == Some(key) {
                return Some(value.trim());
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
[package]
name = \"a\"
description = \"Reads weight files\"
edition.workspace = true
license.workspace = true
rust-version.workspace = true

[dependencies]
description = \"1\"

[lints]
workspace = true
";

    fn findings(content: &str) -> Vec<String> {
        check(
            "crates/a/Cargo.toml",
            content,
            &BTreeSet::from(["crates/a/README.md"]),
        )
    }

    #[test]
    fn a_complete_manifest_has_no_finding() {
        assert_eq!(findings(GOOD), Vec::<String>::new());
    }

    #[test]
    fn each_missing_field_is_named() {
        for field in ["description", "license", "rust-version", "edition"] {
            let lines = GOOD.lines().filter(|line| !line.starts_with(field));
            let without: String = lines.map(|line| format!("{line}\n")).collect();
            let found = findings(&without);
            assert!(
                found.len() == 1 && found[0].contains(field),
                "{field}: {found:?}"
            );
        }
    }

    #[test]
    fn only_published_crates_need_a_readme() {
        let none = BTreeSet::new();
        assert!(check("crates/a/Cargo.toml", GOOD, &none)[0].contains("README.md"));
        let private = GOOD.replace("name =", "publish = false\nname =");
        assert!(check("crates/a/Cargo.toml", &private, &none).is_empty());
    }

    #[test]
    fn the_root_and_separate_workspaces_are_left_alone() {
        assert!(findings("[workspace]\nmembers = []\n").is_empty());
        assert!(findings("[package]\nname = \"fuzz\"\n\n[workspace]\n").is_empty());
    }
}
