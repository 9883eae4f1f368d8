//! Python environments of the tests: made once, and again where their requirements changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

use crate::cargo::child;
use crate::process::{describe, output, quiet, which};
use crate::project::Project;
use crate::ui::Ui;

/// Debian's packages for it: environments are one of their own.
pub(crate) const PACKAGES: [&str; 2] = ["python3", "python3-venv"];
/// Python's oldest release that the tests run on.
const OLDEST: (u32, u32) = (3, 10);
/// What an environment was made of, inside of it.
const MADE_OF: &str = "fireside-requirements.txt";

/// The version. The error says what is missing.
pub(crate) fn detect() -> Result<String> {
    let python = interpreter()?;
    let version = output(Command::new(&python).args([
        "-c",
        "import platform, venv, ensurepip; print(platform.python_version())",
    ]))
    .ok_or_else(|| anyhow!("python3 without venv"))?;
    match release(&version) {
        Some(found) if found >= OLDEST => Ok(format!("python {version}")),
        _ => bail!(
            "python {version} is too old, {}.{} is needed",
            OLDEST.0,
            OLDEST.1
        ),
    }
}

fn interpreter() -> Result<PathBuf> {
    let names = if cfg!(windows) {
        ["python", "python3"]
    } else {
        ["python3", "python"]
    };
    names
        .into_iter()
        .find_map(which)
        .ok_or_else(|| anyhow!("no python3"))
}

/// The two first numbers of a version.
fn release(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split('.').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// The interpreter of an environment with a folder's requirements, which is made where there is none
/// yet. It lies in the build folder, so that clones share it.
pub(crate) fn environment(
    ui: &Ui,
    project: &Project,
    step: &str,
    folder: &str,
    log: &Path,
) -> Result<PathBuf> {
    let requirements = project.root.join(folder).join("requirements.txt");
    let wanted = fs::read_to_string(&requirements)
        .with_context(|| format!("{} cannot be read", requirements.display()))?;
    let made_of = format!("# {}\n{wanted}", detect()?);
    let own = project.target.join("python").join(step);
    let python = if cfg!(windows) {
        own.join("Scripts").join("python.exe")
    } else {
        own.join("bin").join("python")
    };
    let works = || output(Command::new(&python).arg("--version")).is_some();
    if fs::read_to_string(own.join(MADE_OF)).is_ok_and(|seen| seen == made_of) && works() {
        return Ok(python);
    }
    if own.exists() {
        fs::remove_dir_all(&own).with_context(|| format!("{} is in the way", own.display()))?;
    }
    let mut make = child(project, interpreter()?);
    make.args(["-m", "venv"]).arg(&own);
    let mut install = child(project, &python);
    install
        .args(["-m", "pip", "install", "--quiet", "--no-input"])
        .args(["--disable-pip-version-check", "--requirement"])
        .arg(&requirements);
    for (what, command) in [("venv", &mut make), ("pip install", &mut install)] {
        let status = quiet(ui, step, command, log, true)?;
        if !status.success() {
            bail!("python's {what} for {folder}: {}", describe(status));
        }
    }
    fs::write(own.join(MADE_OF), made_of)?;
    Ok(python)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_their_numbers() {
        assert_eq!(release("3.11.7"), Some((3, 11)));
        assert!(release("3.9.2") < Some(OLDEST));
        assert!(release("3.10") >= Some(OLDEST));
        assert_eq!(release("python"), None);
    }
}
