//! The folders that npm builds: their packages, the npm package `fireside-llm`, and the demo page.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};

use crate::cargo::child;
use crate::process::{describe, quiet};
use crate::project::Project;
use crate::setup;
use crate::ui::Ui;

/// The npm package, relative to the workspace.
pub(crate) const PACKAGE: &str = "web";
/// The demo page, relative to the workspace.
pub(crate) const PAGE: &str = "web/demo";
/// The module with its glue inside the npm package.
const MODULE: &str = "web/src/wasm";

/// Puts a module with its glue into the npm package.
pub(crate) fn take_module(project: &Project, module: &Path) -> Result<()> {
    let own = project.root.join(MODULE);
    if own.exists() {
        fs::remove_dir_all(&own)?;
    }
    copy(module, &own)
}

/// Copies the files of a folder into another, over those of the same name.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

/// Whether a module is there from an earlier build.
pub(crate) fn has_module(project: &Project) -> bool {
    project
        .root
        .join(MODULE)
        .join("fireside_web_bg.wasm")
        .is_file()
}

/// Builds the npm package around the module, and the demo page on it.
pub(crate) fn build(ui: &Ui, project: &Project, step: &str, log: &Path) -> Result<()> {
    build_package(ui, project, step, log)?;
    build_folder(ui, project, step, PAGE, log)
}

/// Builds the npm package around the module.
pub(crate) fn build_package(ui: &Ui, project: &Project, step: &str, log: &Path) -> Result<()> {
    build_folder(ui, project, step, PACKAGE, log)
}

fn build_folder(ui: &Ui, project: &Project, step: &str, folder: &str, log: &Path) -> Result<()> {
    install(ui, project, step, folder, log)?;
    npm(ui, project, step, folder, &["run", "build"], log)
}

/// Installs the packages of a folder where their lock file has changed.
pub(crate) fn install(
    ui: &Ui,
    project: &Project,
    step: &str,
    folder: &str,
    log: &Path,
) -> Result<()> {
    let path = project.root.join(folder);
    let lock = fs::read(path.join("package-lock.json"))
        .with_context(|| format!("{folder} has no package-lock.json"))?;
    let installed = path.join("node_modules/.fireside-lock.json");
    if fs::read(&installed).is_ok_and(|seen| seen == lock) {
        return Ok(());
    }
    let arguments = ["ci", "--no-audit", "--no-fund", "--ignore-scripts"];
    npm(ui, project, step, folder, &arguments, log)?;
    fs::write(installed, lock)?;
    Ok(())
}

fn npm(
    ui: &Ui,
    project: &Project,
    step: &str,
    folder: &str,
    arguments: &[&str],
    log: &Path,
) -> Result<()> {
    let npm = setup::npm().ok_or_else(|| anyhow!("no npm"))?;
    let mut command = child(project, npm);
    command
        .current_dir(project.root.join(folder))
        .args(arguments);
    let status = quiet(ui, step, &mut command, log, true)?;
    if !status.success() {
        bail!(
            "npm {} in {folder}: {}",
            arguments.join(" "),
            describe(status)
        );
    }
    Ok(())
}
