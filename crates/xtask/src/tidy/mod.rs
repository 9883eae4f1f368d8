//! `cargo xtask tidy`: the rules on files that no compiler checks.

mod manifest;
mod shader;
mod text;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::process::output;
use crate::project::Project;
use crate::ui::{Stream, Ui};

/// Bytes above which a file does not belong into the repository.
const FILE_BYTES: u64 = 4 * 1024 * 1024;

/// What was found.
#[derive(Debug)]
pub(crate) struct Report {
    /// Files looked at.
    pub(crate) files: usize,
    /// One line each: file, line where there is one, and what is wrong.
    pub(crate) findings: Vec<String>,
}

/// The command.
pub(crate) fn command(project: &Project) -> Result<ExitCode> {
    let ui = Ui::new(Stream::Stdout);
    let report = check(project)?;
    for finding in &report.findings {
        ui.line(finding);
    }
    ui.line(&format!(
        "{} files, {} findings",
        report.files,
        report.findings.len()
    ));
    Ok(if report.findings.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs every rule over every file of the repository.
pub(crate) fn check(project: &Project) -> Result<Report> {
    let files = files(&project.root)?;
    let names: BTreeSet<&str> = files.iter().map(String::as_str).collect();
    let mut findings = Vec::new();
    for name in &files {
        let path = project.root.join(name);
        let size = fs::metadata(&path)
            .with_context(|| format!("{name} cannot be read"))?
            .len();
        if size > FILE_BYTES {
            findings.push(format!(
                "{name}: {size} bytes, at most {FILE_BYTES} belong into git"
            ));
            continue;
        }
        if !text::is_ours(name) {
            continue;
        }
        let bytes = fs::read(&path).with_context(|| format!("{name} cannot be read"))?;
        let Ok(content) = String::from_utf8(bytes) else {
            findings.push(format!("{name}: is not UTF-8"));
            continue;
        };
        let mut found = text::check(name, &content);
        if name.ends_with(".wgsl") {
            found.extend(shader::check(&content));
        }
        if name.ends_with("Cargo.toml") {
            found.extend(manifest::check(name, &content, &names));
        }
        findings.extend(found.into_iter().map(|finding| format!("{name}:{finding}")));
    }
    Ok(Report {
        files: files.len(),
        findings,
    })
}

/// The files of the repository with `/` between folders: what git knows or would add, else,
/// without git, everything outside build folders.
fn files(root: &Path) -> Result<Vec<String>> {
    let listed = output(
        Command::new("git")
            .args([
                "ls-files",
                "--cached",
                "--others",
                "--exclude-standard",
                "--deduplicate",
            ])
            .current_dir(root),
    );
    let mut files: Vec<String> = match listed.filter(|text| !text.is_empty()) {
        Some(text) => text.lines().map(str::to_owned).collect(),
        None => {
            let mut found = Vec::new();
            walk(root, root, &mut found)?;
            found
        }
    };
    // A file that git knows may be gone from the folder.
    files.retain(|name| root.join(name).is_file());
    files.sort();
    Ok(files)
}

fn walk(root: &Path, folder: &Path, found: &mut Vec<String>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("{}", folder.display()))?;
    for entry in entries.flatten() {
        let path: PathBuf = entry.path();
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if path.is_dir() {
            if !matches!(
                &*name,
                ".git" | "target" | "node_modules" | "pkg" | "dist" | "__pycache__"
            ) {
                walk(root, &path, found)?;
            }
        } else if let Ok(relative) = path.strip_prefix(root) {
            found.push(relative.to_string_lossy().replace('\\', "/"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_without_git_is_walked_around_its_build_folders() {
        let root = std::env::temp_dir().join(format!("xtask-tidy-{}", std::process::id()));
        for file in ["src/a.rs", "target/b.rs", "web/node_modules/c.js", "d.md"] {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x\n").unwrap();
        }
        let mut found = Vec::new();
        walk(&root, &root, &mut found).unwrap();
        found.sort();
        assert_eq!(found, ["d.md", "src/a.rs"]);
        fs::remove_dir_all(root).unwrap();
    }
}
