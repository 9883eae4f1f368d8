//! The browser module: built for wasm32, then given its JavaScript side.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Result, bail};

use crate::cargo::{cargo, child};
use crate::cli::WebOptions;
use crate::process::{describe, quiet, tail};
use crate::project::Project;
use crate::setup::Part;
use crate::ui::{Stream, Ui};
use crate::wasm::{self, Toolchain};

/// The crates that must build for browsers, the last of them as a module. They are built in one
/// call wherever the module is, so that Burn is built once.
pub(crate) const CRATES: [&str; 4] = [
    "fireside-kernels",
    "fireside-model",
    "fireside-engine",
    "fireside-web",
];
/// The profile of the module that the browser tests load.
pub(crate) const PROFILE: &str = "web";

/// The module that the browser tests load and the demo page runs, as the linker leaves it.
pub(crate) fn test_module(project: &Project) -> PathBuf {
    wasm::module(project, CRATES[CRATES.len() - 1], PROFILE)
}

/// `cargo xtask web`.
pub(crate) fn command(project: &Project, options: &WebOptions) -> Result<ExitCode> {
    let ui = Ui::new(Stream::Stderr);
    ui.step("compiler", &Part::Wasm.ensure(&ui, project)?);
    let toolchain = wasm::detect(project)?;
    let log = project.log("web");
    ui.step(
        "building",
        &format!("{} for {}", options.package, wasm::TARGET),
    );
    let result = build(
        &ui,
        project,
        &toolchain,
        &[&options.package],
        &options.profile,
        &log,
    )
    .and_then(|()| {
        let module = wasm::module(project, &options.package, &options.profile);
        let folder = project.root.join(&options.out);
        bindings(&ui, project, &module, &folder, &log)?;
        ui.step("done", &project.display(&folder).to_string());
        Ok(())
    });
    if let Err(error) = result {
        ui.line(&tail(&log));
        return Err(error.context(format!("the full log is {}", log.display())));
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds library crates for wasm32 in one call, so that they share their dependencies.
pub(crate) fn build(
    ui: &Ui,
    project: &Project,
    toolchain: &Toolchain,
    packages: &[&str],
    profile: &str,
    log: &Path,
) -> Result<()> {
    let mut command = toolchain.cargo(project, "build");
    command.args(["--lib", "--profile", profile]);
    for package in packages {
        command.args(["--package", package]);
    }
    run(ui, "wasm", &mut command, log, false)
}

/// Writes the module with its glue into a folder.
pub(crate) fn bindings(
    ui: &Ui,
    project: &Project,
    module: &Path,
    folder: &Path,
    log: &Path,
) -> Result<()> {
    let mut build = cargo(project);
    build.args([
        "build",
        "--package",
        "xtask",
        "--features",
        "bindings",
        "--bin",
        "xtask-web",
    ]);
    run(ui, "bindings", &mut build, log, true)?;
    let mut generate = child(project, project.binary("xtask-web"));
    generate.arg(module).arg(folder);
    run(ui, "bindings", &mut generate, log, true)
}

fn run(ui: &Ui, name: &str, command: &mut Command, log: &Path, append: bool) -> Result<()> {
    let status = quiet(ui, name, command, log, append)?;
    if !status.success() {
        bail!("{name}: {}", describe(status));
    }
    Ok(())
}
