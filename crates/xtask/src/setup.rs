//! The parts of a machine that the checks need beside cargo, and getting them.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

use crate::packages::{self, Rights};
use crate::process::{output, which};
use crate::project::Project;
use crate::ui::Ui;
use crate::{python, vulkan, wasm};

/// Node's oldest release that the browser tests run on.
const NODE: u32 = 20;

/// Something of the machine that a step may need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// A Vulkan loader and driver.
    Vulkan,
    /// A Chromium.
    Chromium,
    /// Node and npm.
    Node,
    /// Python that can make environments.
    Python,
    /// A compiler for wasm32-unknown-unknown.
    Wasm,
}

impl Part {
    /// All of them.
    pub(crate) const ALL: [Self; 5] = [
        Self::Vulkan,
        Self::Chromium,
        Self::Node,
        Self::Python,
        Self::Wasm,
    ];

    /// A short name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Vulkan => "vulkan",
            Self::Chromium => "chromium",
            Self::Node => "node",
            Self::Python => "python",
            Self::Wasm => "wasm",
        }
    }

    /// What is there, in a few words. The error says what is missing.
    pub(crate) fn detect(self, project: &Project) -> Result<String> {
        match self {
            Self::Vulkan => vulkan::detect(),
            Self::Chromium => chromium().map(|path| path.display().to_string()),
            Self::Node => node(),
            Self::Python => python::detect(),
            Self::Wasm => wasm::detect(project).map(|toolchain| toolchain.describe()),
        }
    }

    /// Debian's packages for it.
    fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Vulkan => &vulkan::PACKAGES,
            Self::Chromium => &["chromium"],
            Self::Node => &["nodejs", "npm"],
            Self::Python => &python::PACKAGES,
            Self::Wasm => &wasm::PACKAGES,
        }
    }

    /// The one line to run where nothing may be installed.
    fn remedy(self) -> String {
        match self {
            Self::Wasm if which("rustup").is_some() => {
                format!("rustup target add {}", wasm::TARGET)
            }
            _ => packages::install_line(self.packages()),
        }
    }

    /// Detects it, and installs it where it is missing and that is allowed.
    pub(crate) fn ensure(self, ui: &Ui, project: &Project) -> Result<String> {
        let missing = match self.detect(project) {
            Ok(found) => return Ok(found),
            Err(missing) => missing,
        };
        if packages::rights() == Rights::None {
            bail!("{missing}; run: {}", self.remedy());
        }
        ui.step(
            self.name(),
            &format!("{missing}, installing {}", self.packages().join(" ")),
        );
        packages::install(ui, project, self.packages())?;
        self.detect(project)
            .with_context(|| format!("{} did not help", self.packages().join(" ")))
    }
}

/// The browser: the one that `FIRESIDE_CHROMIUM` names, else the first of the usual ones.
pub(crate) fn chromium() -> Result<PathBuf> {
    if let Some(named) = env::var_os("FIRESIDE_CHROMIUM").filter(|value| !value.is_empty()) {
        let named = PathBuf::from(named);
        if named.is_file() {
            return Ok(named);
        }
        bail!(
            "FIRESIDE_CHROMIUM names {}, which is no file",
            named.display()
        );
    }
    let names = [
        "chromium",
        "chromium-browser",
        "google-chrome",
        "google-chrome-stable",
    ];
    let mac = Path::new("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome");
    names
        .into_iter()
        .find_map(which)
        .or_else(|| mac.is_file().then(|| mac.to_path_buf()))
        .ok_or_else(|| anyhow!("no chromium"))
}

fn node() -> Result<String> {
    let version =
        output(Command::new("node").arg("--version")).ok_or_else(|| anyhow!("no node"))?;
    match major(&version) {
        Some(major) if major >= NODE => {}
        _ => bail!("node {version} is too old, {NODE} is needed"),
    }
    if npm().is_none() {
        bail!("no npm beside node {version}");
    }
    Ok(version)
}

/// The npm of the search path; on Windows it is a script.
pub(crate) fn npm() -> Option<PathBuf> {
    which("npm").or_else(|| {
        let path = env::var_os("PATH").filter(|_| cfg!(windows))?;
        env::split_paths(&path)
            .map(|folder| folder.join("npm.cmd"))
            .find(|file| file.is_file())
    })
}

fn major(version: &str) -> Option<u32> {
    version
        .trim_start_matches('v')
        .split('.')
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_the_first_number() {
        assert_eq!(major("v20.20.2"), Some(20));
        assert_eq!(major("18"), Some(18));
        assert_eq!(major("node"), None);
    }

    #[test]
    fn every_part_has_a_line_to_run() {
        for part in Part::ALL {
            let line = part.remedy();
            assert!(
                line.contains("apt-get install") || line.contains("rustup target add"),
                "{line}"
            );
        }
    }
}
