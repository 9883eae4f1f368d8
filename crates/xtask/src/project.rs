//! Where things are: the workspace, the build folder and the logs.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

/// The folders of one checkout.
#[derive(Debug)]
pub(crate) struct Project {
    /// The root of the workspace.
    pub(crate) root: PathBuf,
    /// Cargo's target folder, absolute. Outside the checkout by default, so that later runs and
    /// other clones find Burn built.
    pub(crate) target: PathBuf,
    /// Where the output of quiet commands goes.
    pub(crate) logs: PathBuf,
}

impl Project {
    /// Finds the workspace of this crate and the build folder of the environment.
    pub(crate) fn find() -> Result<Self> {
        let own = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = own
            .ancestors()
            .nth(2)
            .context("xtask does not stand in crates/ of a workspace")?
            .to_path_buf();
        let target = target_folder(|name| env::var(name).ok().filter(|value| !value.is_empty()))?;
        let target = std::path::absolute(&target)
            .with_context(|| format!("no absolute path for {}", target.display()))?;
        let logs = target.join("xtask").join("logs");
        fs::create_dir_all(&logs)
            .with_context(|| format!("{} cannot be made: set CARGO_TARGET_DIR", logs.display()))?;
        Ok(Self { root, target, logs })
    }

    /// The log of a step.
    pub(crate) fn log(&self, step: &str) -> PathBuf {
        self.logs.join(format!("{step}.log"))
    }

    /// A binary of the native build.
    pub(crate) fn binary(&self, name: &str) -> PathBuf {
        self.target
            .join("debug")
            .join(format!("{name}{}", env::consts::EXE_SUFFIX))
    }

    /// A path as a person would write it: relative to the workspace where it lies inside.
    pub(crate) fn display<'a>(&self, path: &'a Path) -> std::path::Display<'a> {
        path.strip_prefix(&self.root).unwrap_or(path).display()
    }
}

fn target_folder(variable: impl Fn(&str) -> Option<String>) -> Result<PathBuf> {
    if let Some(target) = variable("CARGO_TARGET_DIR") {
        return Ok(PathBuf::from(target));
    }
    let cache = variable("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| {
            let home = variable("HOME").or_else(|| variable("USERPROFILE"))?;
            Some(PathBuf::from(home).join(".cache"))
        })
        .ok_or_else(|| anyhow!("no home folder: set CARGO_TARGET_DIR"))?;
    Ok(cache.join("fireside").join("target"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(variables: &[(&str, &str)]) -> PathBuf {
        target_folder(|name| {
            let found = variables.iter().find(|(key, _)| *key == name)?;
            Some(found.1.to_owned())
        })
        .unwrap()
    }

    #[test]
    fn the_build_folder_is_shared_unless_named() {
        assert_eq!(
            folder(&[("HOME", "/h")]),
            Path::new("/h/.cache/fireside/target")
        );
        assert_eq!(
            folder(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]),
            Path::new("/x/fireside/target")
        );
        assert_eq!(
            folder(&[("HOME", "/h"), ("CARGO_TARGET_DIR", "/t")]),
            Path::new("/t")
        );
    }

    #[test]
    fn a_relative_cache_folder_is_ignored() {
        assert_eq!(
            folder(&[("HOME", "/h"), ("XDG_CACHE_HOME", "x")]),
            Path::new("/h/.cache/fireside/target")
        );
    }

    #[test]
    fn without_a_home_the_error_says_what_to_set() {
        let error = target_folder(|_| None).unwrap_err().to_string();
        assert!(error.contains("CARGO_TARGET_DIR"), "{error}");
    }
}
