//! Where a real model lies: named in the environment, or fetched.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::cargo::{child, command};
use crate::process::{describe, quiet};
use crate::project::Project;
use crate::ui::Ui;

/// The path of a model: the one named in the environment, else what `fireside fetch` prints.
pub(crate) fn resolve(
    ui: &Ui,
    project: &Project,
    variable: &str,
    name: &str,
    log: &Path,
) -> Result<PathBuf> {
    if let Some(named) = std::env::var_os(variable).filter(|value| !value.is_empty()) {
        let named = PathBuf::from(named);
        if !named.exists() {
            bail!("{variable} names {}, which does not exist", named.display());
        }
        return Ok(named);
    }
    // Where it is built already this takes no time.
    let status = quiet(ui, "model", &mut command(project), log, true)?;
    if !status.success() {
        bail!(
            "fireside does not build ({}), see {}",
            describe(status),
            log.display()
        );
    }
    let output = child(project, project.binary("fireside"))
        .args(["fetch", name])
        .stdin(Stdio::null())
        .output()
        .context("fireside cannot be started")?;
    let said = String::from_utf8_lossy(&output.stderr);
    fs::write(log, said.as_bytes())?;
    if !output.status.success() {
        let last = said.lines().rfind(|line| !line.trim().is_empty());
        bail!(
            "fireside fetch: {}",
            last.unwrap_or(&describe(output.status))
        );
    }
    let printed = String::from_utf8_lossy(&output.stdout);
    let path = PathBuf::from(printed.trim());
    if !path.exists() {
        bail!(
            "fireside fetch printed `{}`, which does not exist",
            printed.trim()
        );
    }
    Ok(path)
}
