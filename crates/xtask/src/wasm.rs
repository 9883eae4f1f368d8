//! A compiler for wasm32: an installed target, or Debian's compiler that builds the library itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, anyhow, bail};

use crate::cargo::cargo;
use crate::process::{output, which};
use crate::project::Project;

/// The target of browsers.
pub(crate) const TARGET: &str = "wasm32-unknown-unknown";
/// Debian's compiler for its browsers, and the sources of the standard library.
pub(crate) const PACKAGES: [&str; 2] = ["rustc-web", "rust-web-src"];
/// Where Debian puts its compiler.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// How wasm32 is compiled here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Toolchain {
    /// The target of the compiler in use is installed.
    Installed,
    /// A compiler with the library's sources builds the library as part of the workspace.
    Sources {
        /// The compiler.
        rustc: PathBuf,
        /// The linker.
        linker: PathBuf,
        /// The compiler's version.
        version: String,
    },
}

impl Toolchain {
    /// In a few words.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Installed => "installed target".to_owned(),
            Self::Sources { version, .. } => format!("build-std with rustc {version}"),
        }
    }

    /// The linker of this toolchain.
    pub(crate) fn linker(&self, project: &Project) -> Result<PathBuf> {
        match self {
            Self::Sources { linker, .. } => Ok(linker.clone()),
            Self::Installed => linker(project)
                .ok_or_else(|| anyhow!("no linker for wasm32 (rust-lld of rustup, or lld)")),
        }
    }

    /// A cargo call that compiles for wasm32 in a target folder of its own.
    pub(crate) fn cargo(&self, project: &Project, subcommand: &str) -> Command {
        let mut command = cargo(project);
        command
            .args([subcommand, "--target", TARGET, "--target-dir"])
            .arg(target_folder(project));
        if let Self::Sources { rustc, linker, .. } = self {
            command
                .args(["-Z", "build-std=std,panic_abort"])
                .env("RUSTC", rustc)
                .env("RUSTC_BOOTSTRAP", "1")
                .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker)
                // Cargo set it to the libraries of its own compiler.
                .env_remove("LD_LIBRARY_PATH");
        }
        command
    }
}

/// The target folder of wasm32 builds: another compiler may stand behind it than behind the
/// native one.
pub(crate) fn target_folder(project: &Project) -> PathBuf {
    project.target.join("web")
}

/// The module that a library crate was built into.
pub(crate) fn module(project: &Project, package: &str, profile: &str) -> PathBuf {
    let folder = if profile == "dev" { "debug" } else { profile };
    target_folder(project)
        .join(TARGET)
        .join(folder)
        .join(format!("{}.wasm", package.replace('-', "_")))
}

/// Finds a toolchain. The error says what is missing.
pub(crate) fn detect(project: &Project) -> Result<Toolchain> {
    let libraries = rustc(
        project,
        "rustc",
        &["--print", "target-libdir", "--target", TARGET],
    );
    if libraries.is_some_and(|folder| has_standard_library(Path::new(&folder))) {
        return Ok(Toolchain::Installed);
    }
    let sources = rustc(project, DEBIAN_RUSTC, &["--print", "sysroot"])
        .map(|sysroot| Path::new(&sysroot).join("lib/rustlib/src/rust/library/std"));
    if !sources.is_some_and(|folder| folder.exists()) {
        bail!("no wasm32 target and no sources to build it from");
    }
    let version = rustc(project, DEBIAN_RUSTC, &["--version"])
        .and_then(|text| text.split(' ').nth(1).map(str::to_owned))
        .unwrap_or_default();
    let linker = linker(project)
        .ok_or_else(|| anyhow!("no linker for wasm32 (rust-lld of rustup, or lld)"))?;
    Ok(Toolchain::Sources {
        rustc: DEBIAN_RUSTC.into(),
        linker,
        version,
    })
}

fn has_standard_library(folder: &Path) -> bool {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().starts_with("libstd-"))
}

/// The linker in the toolchain of the native compiler, else one of the system.
fn linker(project: &Project) -> Option<PathBuf> {
    let bundled = rustc(project, "rustc", &["--print", "target-libdir"])
        .and_then(|folder| Some(Path::new(&folder).parent()?.join("bin").join("rust-lld")));
    bundled
        .filter(|path| path.is_file())
        .or_else(|| ["rust-lld", "wasm-ld"].into_iter().find_map(which))
}

fn rustc(project: &Project, program: &str, arguments: &[&str]) -> Option<String> {
    let mut command = crate::cargo::child(project, program);
    output(command.args(arguments).env_remove("LD_LIBRARY_PATH"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_lie_under_their_profile() {
        let project = Project {
            root: "/r".into(),
            target: "/t".into(),
            logs: "/t/logs".into(),
        };
        assert_eq!(
            module(&project, "fireside-web", "smoke"),
            Path::new("/t/web/wasm32-unknown-unknown/smoke/fireside_web.wasm")
        );
        assert!(module(&project, "a", "dev").ends_with("debug/a.wasm"));
    }

    #[test]
    fn an_empty_library_folder_is_no_target() {
        let folder = std::env::temp_dir().join(format!("xtask-wasm-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        assert!(!has_standard_library(&folder));
        fs::write(folder.join("libstd-0123.rlib"), "").unwrap();
        assert!(has_standard_library(&folder));
        fs::remove_dir_all(folder).unwrap();
    }
}
