//! `cargo xtask web serve`: the demo page, built and served on this machine.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail};

use crate::cargo::child;
use crate::cli::ServeOptions;
use crate::process::{describe, tail};
use crate::project::Project;
use crate::setup::{self, Part};
use crate::ui::{Stream, Ui};
use crate::{npm, wasm, web};

/// Builds what the page needs and serves it until it is interrupted.
pub(crate) fn command(project: &Project, options: &ServeOptions) -> Result<ExitCode> {
    let ui = Ui::new(Stream::Stderr);
    ui.step("node", &Part::Node.ensure(&ui, project)?);
    let log = project.log("serve");
    fs::write(&log, "").with_context(|| format!("{} cannot be written", log.display()))?;
    if let Err(error) = build(&ui, project, options, &log) {
        ui.line(&tail(&log));
        return Err(error.context(format!("the full log is {}", log.display())));
    }
    let npm = setup::npm().ok_or_else(|| anyhow!("no npm"))?;
    let status = child(project, npm)
        .current_dir(project.root.join(npm::PAGE))
        .args(["run", "--silent", "serve", "--", "--port"])
        .arg(options.port.to_string())
        .status()
        .context("npm cannot be started")?;
    if !status.success() && status.code().is_some() {
        bail!(
            "the server ended ({}): is port {} in use? `--port` names another",
            describe(status),
            options.port
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn build(ui: &Ui, project: &Project, options: &ServeOptions, log: &Path) -> Result<()> {
    if options.keep_wasm {
        if !npm::has_module(project) {
            bail!("--keep-wasm, but there is no module in web/src/wasm: run without it once");
        }
    } else {
        ui.step("compiler", &Part::Wasm.ensure(ui, project)?);
        let toolchain = wasm::detect(project)?;
        ui.step("building", "the browser module");
        web::build(ui, project, &toolchain, &web::CRATES, web::PROFILE, log)?;
        let folder = wasm::target_folder(project).join("serve");
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        web::bindings(ui, project, &web::test_module(project), &folder, log)?;
        npm::take_module(project, &folder)?;
    }
    ui.step("building", "the npm package and the demo page");
    npm::build(ui, project, "page", log)
}
